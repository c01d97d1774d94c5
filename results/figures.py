"""Draws tables: accuracy against the width of conv1, the work or the size."""
import io
import os

os.environ['MPLBACKEND'] = 'agg'   # A notebook's may be unknown here.
import matplotlib
matplotlib.rcdefaults()            # Figures do not depend on who draws them.
from matplotlib import pyplot
from matplotlib import transforms

import cells
import tables

# Okabe and Ito's colours, which colour-blind people can tell apart.
TUNED_SCRATCH = 'scratch, fine-tuned'   # Dashed.
COLOURS = {'scratch': '#000000', TUNED_SCRATCH: '#000000',
           'thinet, none': '#D55E00', 'thinet, scale': '#E69F00',
           'least_squares, full': '#56B4E9',
           'least_squares, network': '#0072B2', 'thinet_kept, scale': '#CC79A7',
           'thinet, full': '#F0E442', 'thinet, network': '#009E73'}
CONTROL = '#999999'
INCHES, DOTS = (9, 4), 110    # As wide as a README shows it.
PARENT = (cells.CONV1_CHANNELS,) + tables.SCRATCH
GAP = 0.055                   # Between labels, as a share of the axis' height.


def curves(table):
  """Groups a table's rows into curves.

  Args:
    table: rows as from tables.rows.

  Returns:
    (panel, label) -> rows, widest first; panel is the value of fine_tuned, but
    what is not fine-tuned of 'scratch' is in both panels.
  """
  result = {}
  for row in table:
    label, panels = row['criterion'], [row['fine_tuned']]
    if label != 'scratch':
      label += ', ' + row['reconstruction']
    elif panels == ['no']:
      panels = ['no', 'yes']
    else:
      label = TUNED_SCRATCH
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


def _plot(axes, cost, rows, colour, style='-'):
  """Plots a curve of rows, cost(row) each; returns its cheap end."""
  rows = sorted(rows, key=cost)
  costs = [cost(row) for row in rows]
  heights = [float(row['top1_mean']) for row in rows]
  bars = [float(row['top1_sd']) if row['n'] > 2 else 0 for row in rows]
  axes.errorbar(costs, heights, bars, color=colour, marker='.', linestyle=style,
                linewidth=1.5, capsize=2)
  return costs[0], heights[0]


def _label(axes, ends, cheapest):
  """Labels curves on the left of all; ends is label -> (cost, top-1)."""
  low, high = axes.get_ylim()
  beside = transforms.offset_copy(axes.transData, axes.figure, -8,
                                  units='points')
  labels = sorted(ends, key=lambda label: (ends[label][1], label))
  gap = GAP * (high - low)
  for label, y in zip(labels, _spread(
      [ends[label][1] for label in labels], low + gap / 2, high - gap / 2,
      gap)):
    axes.annotate(label, ends[label], (cheapest, y), textcoords=beside,
                  color=COLOURS.get(label, CONTROL), fontsize=8, ha='right',
                  va='center')


def _ticks(low, high):
  """Powers of two between low and high, or, if there are few, parts of them."""
  for parts in ((1,), (1, 1.5), (1, 1.25, 1.5, 1.75)):
    ticks = [part * 2.0**power for power in range(-9, 10) for part in parts
             if low < part * 2.0**power < high]
    if len(ticks) > 1:
      break
  return ticks


def _scale(axes, costs, ticks, left=4.2, right=1.15):
  """Sets the x axis; left and right, as factors, are the labels' room."""
  axes.set_xlim(min(costs) / left, max(costs) * right)
  axes.set_xticks(ticks, ['%.3g' % tick for tick in ticks], fontsize=8)
  axes.minorticks_off()


def _png(figure):
  """A figure as a PNG file, in bytes."""
  figure.tight_layout()
  picture = io.BytesIO()
  figure.savefig(picture, format='png', dpi=DOTS)
  pyplot.close(figure)
  return picture.getvalue()


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
    ends = {}
    for (where, label), rows in curves(table).items():
      rows = [row for row in rows if row['conv1_channels'] in cost]
      if where != panel or not rows:
        continue
      colour = COLOURS.get(label, CONTROL)
      ends[label] = _plot(axes, lambda row: cost[row['conv1_channels']], rows,
                          colour, '--' if label == TUNED_SCRATCH else '-')
      shown = [row for row in rows if 'published_top1' in row]
      axes.plot([cost[row['conv1_channels']] for row in shown],
                [float(row['published_top1']) for row in shown], 'o',
                color=colour, fillstyle='none', markersize=6)
    _label(axes, ends, min(cost.values()))
    _scale(axes, cost.values(), sorted(cost.values()))
  panels[0].set_ylabel('top-1, % of the test images')
  figure.text(0.99, 0.01, 'solid black: not fine-tuned; bars: one standard '
              'deviation of three or more; rings: published, one run each',
              ha='right', fontsize=8, color=CONTROL)
  return _png(figure)


def draw_costs(table, budgets, costs):
  """Draws top-1 against some costs, side by side.

  Of networks from scratch and of fine-tuned `least_squares, network` ones: a
  solid curve where a budget was for all layers, a dashed one where conv1 alone
  is narrower, and a star for the parent. The label of a colour stands at the
  cheapest network.

  Args:
    table, budgets: rows as from tables.rows, of widths and of budgets.
    costs: title with unit -> function of a row that returns its cost, or None
      to leave it out.

  Returns:
    The picture as a PNG file, in bytes.
  """
  width, height = INCHES
  figure, panels = pyplot.subplots(1, len(costs), sharey=True,
                                   figsize=(width * len(costs) / 2, height))
  figure.suptitle('least_squares, network is fine-tuned, scratch and the '
                  'parent are not', fontsize=10)
  for axes, (title, cost) in zip(panels, costs.items()):
    axes.set_xlabel(title)
    axes.set_xscale('log', base=2)
    axes.spines[['top', 'right']].set_visible(False)
    ends = {}   # The cheapest network by label.
    for rows, style in ((table, '--'), (budgets, '-')):
      drawn = curves([row for row in rows if cost(row) is not None])
      for label in ('scratch', 'least_squares, network'):
        if ('yes', label) in drawn:
          end = _plot(axes, cost, drawn['yes', label], COLOURS[label], style)
          ends[label] = min(end, ends.get(label, end))
    for row in table:
      if tables.cell(row) == PARENT and cost(row) is not None:
        point = cost(row), float(row['top1_mean'])
        axes.plot(*point, '*', color=COLOURS['scratch'], markersize=9)
        axes.annotate('parent', point, (8, 0), textcoords='offset points',
                      fontsize=8, va='center')
    found = [cost(row) for row in table + budgets if cost(row) is not None]
    if found:
      low, high = min(found), max(found)
      _label(axes, ends, low)
      _scale(axes, found, _ticks(low, high), left=(1.6 * high / low)**0.7,
             right=1.6)
  panels[0].set_ylabel('top-1, % of the test images')
  figure.text(0.99, 0.01, 'solid: all layers; dashed: conv1 alone', ha='right',
              fontsize=8, color=CONTROL)
  return _png(figure)
