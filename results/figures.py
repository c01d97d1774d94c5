"""Draws a table: accuracy against the width of conv1 or the multiply-adds."""
import io

import matplotlib
matplotlib.use('Agg')
from matplotlib import pyplot

# Okabe and Ito's colours, which colour-blind people can tell apart.
COLOURS = {'scratch': '#000000', 'thinet, none': '#D55E00',
           'thinet, scale': '#E69F00', 'least_squares, full': '#56B4E9',
           'least_squares, network': '#0072B2', 'thinet_kept, scale': '#CC79A7',
           'thinet, full': '#F0E442', 'thinet, network': '#009E73'}
CONTROL = '#999999'
INCHES, DOTS = (9, 4), 110    # As wide as a README shows it.
GAP = 0.055                   # Between labels, as a share of the axis' height.


def curves(table):
  """Groups a table's rows into curves.

  Args:
    table: rows as from tables.rows.

  Returns:
    (panel, label) -> rows, widest first; panel is the value of fine_tuned, and
    'scratch' is in both panels.
  """
  result = {}
  for row in table:
    label, panels = row['criterion'], [row['fine_tuned']]
    if label == 'scratch':
      panels = ['no', 'yes']
    else:
      label += ', ' + row['reconstruction']
    for panel in panels:
      result.setdefault((panel, label), []).append(row)
  return result


def _spread(heights, low, high, gap):
  """Moves ascending heights apart by a gap, between low and high."""
  placed = []
  for height in heights:
    placed.append(max([low, height] + [below + gap for below in placed[-1:]]))
  return [min(height, high - gap * behind)
          for behind, height in zip(range(len(placed))[::-1], placed)]


def draw(table, cost, name):
  """Draws top-1 against a cost, without and with fine-tuning beside each other.

  Lines are our figures, with a bar of one standard deviation where there are
  three seeds or more; rings are the published ones. The label of a curve stands
  at its cheap end.

  Args:
    table: rows as from tables.rows.
    cost: width -> number; rows of other widths are left out.
    name: label of the cost, with its unit.

  Returns:
    The picture as a PNG file, in bytes.
  """
  figure, panels = pyplot.subplots(1, 2, figsize=INCHES, sharex=True)
  for axes, panel, title in zip(panels, ['no', 'yes'], [
      'without fine-tuning', 'with fine-tuning']):
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(name)
    axes.set_xscale('log', base=2)
    axes.spines[['top', 'right']].set_visible(False)
    ends = []
    for (where, label), rows in curves(table).items():
      rows = [row for row in rows if row['conv1_channels'] in cost]
      if where != panel or not rows:
        continue
      colour = COLOURS.get(label, CONTROL)
      rows = sorted(rows, key=lambda row: cost[row['conv1_channels']])
      costs = [cost[row['conv1_channels']] for row in rows]
      heights = [float(row['top1_mean']) for row in rows]
      bars = [float(row['top1_sd']) if row['n'] > 2 else 0 for row in rows]
      axes.errorbar(costs, heights, bars, color=colour, marker='.',
                    linewidth=1.5, capsize=2)
      shown = [row for row in rows if 'published_top1' in row]
      axes.plot([cost[row['conv1_channels']] for row in shown],
                [float(row['published_top1']) for row in shown], 'o',
                color=colour, fillstyle='none', markersize=6)
      ends.append((heights[0], costs[0], label, colour))
    low, high = axes.get_ylim()
    ends.sort()
    for (height, x, label, colour), y in zip(ends, _spread(
        [end[0] for end in ends], low, high, GAP * (high - low))):
      axes.annotate(label, (x, height), (min(cost.values()) * 0.85, y),
                    color=colour, fontsize=8, ha='right', va='center')
    axes.set_xlim(min(cost.values()) / 4.2, max(cost.values()) * 1.15)
    ticks = sorted(cost.values())
    axes.set_xticks(ticks, ['%.3g' % tick for tick in ticks], fontsize=8)
    axes.minorticks_off()
  panels[0].set_ylabel('top-1, % of the test images')
  figure.text(0.99, 0.01, 'rings: published', ha='right', fontsize=8,
              color=CONTROL)
  figure.tight_layout()
  picture = io.BytesIO()
  figure.savefig(picture, format='png', dpi=DOTS)
  pyplot.close(figure)
  return picture.getvalue()
