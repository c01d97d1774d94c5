"""The tables of a sweep: means, deviations and differences of its networks.

A network is a dict with the columns of networks.csv (reading.COLUMNS). Every
figure is computed in decimal from the full values and rounded only when it is
shown, halves away from zero.
"""
import collections
import decimal
import statistics

CRITERIA = ['scratch', 'thinet', 'thinet_kept', 'least_squares', 'l1', 'random']
RECONSTRUCTIONS = ['', 'none', 'scale', 'full', 'network']

# A mode is (criterion, reconstruction, fine_tuned). Columns of narrow tables:
SCRATCH = ('scratch', '', 'no')
SCRATCH_TUNED = ('scratch', '', 'yes')
COMPRESSED = {'none': ('thinet', 'none', 'no'),
              'scale': ('thinet', 'scale', 'no'),
              'full': ('least_squares', 'full', 'no'),
              'network': ('least_squares', 'network', 'no')}
FINE_TUNED = {name + ', fine-tuned': mode[:2] + ('yes',)
              for name, mode in COMPRESSED.items()}
FRONT = {'scratch': SCRATCH, 'scratch, fine-tuned': SCRATCH_TUNED,
         'network': COMPRESSED['network'],
         'network, fine-tuned': FINE_TUNED['network, fine-tuned']}
REST = {name: (COMPRESSED | FINE_TUNED)[name] for name in (
    'none', 'scale', 'none, fine-tuned', 'scale, fine-tuned',
    'full, fine-tuned')}

# What the lines of a table are of: column of networks.csv -> heading.
SIZES = {'conv1_channels': 'conv1', 'budget': 'budget'}
BUDGETS = {name: FRONT[name]
           for name in ('scratch', 'network', 'network, fine-tuned')}
WIDTHS = ['conv1_channels', 'conv2_channels', 'local3_units', 'local4_units']
EPOCHS = {'published': 128, 'fast': 50}   # Of a training from scratch.
FINETUNE_EPOCHS = 20


def shown(value, digits=2):
  """A decimal number as text, rounded once; zero has no sign."""
  step = decimal.Decimal(1).scaleb(-digits)
  return str(value.quantize(step, decimal.ROUND_HALF_UP) + 0)


def grid(lines, left=()):
  """Formats a Markdown table.

  Args:
    lines: lists of text, equally long; the first holds the headings.
    left: the headings of the columns to align to the left.
  """
  sizes = [max(2, *map(len, column)) for column in zip(*lines)]
  rule = ['-' * size if heading in left else '-' * (size - 1) + ':'
          for size, heading in zip(sizes, lines[0])]
  return '\n'.join(
      '| %s |' % ' | '.join(
          text.ljust(size) if heading in left else text.rjust(size)
          for text, size, heading in zip(line, sizes, lines[0]))
      for line in [lines[0], rule] + lines[1:])


def cell(network, size='conv1_channels'):
  """The (size,) + mode of a network, or of a row."""
  return (network[size], network['criterion'], network['reconstruction'],
          network['fine_tuned'])


def order(key):
  """Where a (size,) + mode stands in a table: widest first."""
  return (-key[0], CRITERIA.index(key[1]), RECONSTRUCTIONS.index(key[2]),
          key[3])


def usual(networks):
  """Leaves out networks of other epochs than the usual.

  Args:
    networks: those of one schedule.

  Returns:
    The networks of the schedule's number of epochs, or of the most frequent if
    none has that, and those of which it is not known.
  """
  schedule = next((each['schedule'] for each in networks if each['schedule']),
                  '')
  for name in ('epochs', 'finetune_epochs'):
    counts = collections.Counter(each[name] for each in networks
                                 if each[name] != '')
    number = FINETUNE_EPOCHS if name != 'epochs' else EPOCHS.get(schedule)
    if counts and number not in counts:
      number = max(counts, key=lambda each: (counts[each], each))
    networks = [each for each in networks if each[name] in ('', number)]
  return networks


def rows(networks, published, size='conv1_channels'):
  """Summarizes networks: a row for each size and mode.

  Args:
    networks: those of one table.
    published: (size,) + mode -> (top1, top5).
    size: one of SIZES.

  Returns:
    Dicts with the columns of table.csv or budgets.csv, in its order, and the
    mean widths. The figures are Decimal, not rounded; those that are not known
    are left out.
  """
  groups = collections.defaultdict(list)
  for network in networks:
    groups[cell(network, size)].append(network)
  result = []
  for key in sorted(groups, key=order):
    row = dict(zip((size, 'criterion', 'reconstruction', 'fine_tuned'), key),
               n=len(groups[key]))
    for name in ('top1', 'top5'):
      values = [network[name] for network in groups[key]]
      row[name + '_mean'] = statistics.mean(values)
      if len(values) > 1:
        row[name + '_sd'] = statistics.stdev(values)
    for name in WIDTHS + ['multiply_adds', 'parameters']:
      values = [network[name] for network in groups[key]]
      if '' not in values:
        row[name + '_mean'] = statistics.mean(map(decimal.Decimal, values))
    if key in published:
      row['published_top1'], row['published_top5'] = published[key]
    result.append(row)
  return result


def spread(row, name):
  """A row's mean ± standard deviation; the mean alone for one or two runs."""
  text = shown(row[name + '_mean'])
  if row['n'] > 2:
    text += ' ± ' + shown(row[name + '_sd'])
  return text


def mode_of(row):
  """A row's mode in words."""
  return ', '.join(filter(None, [
      row['criterion'], row['reconstruction'],
      'fine-tuned' if row['fine_tuned'] == 'yes' else '']))


def full(table):
  """The table that is printed, a line for each width and mode."""
  lines = [['conv1', 'mode', 'n', 'top-1, %', 'published', 'top-5, %',
            'published']]
  for row in table:
    lines.append([str(row['conv1_channels']), mode_of(row), str(row['n'])])
    for accuracy in ('top1', 'top5'):
      figure = row.get('published_' + accuracy)
      lines[-1] += [spread(row, accuracy), shown(figure) if figure else '']
  return grid(lines, left=['mode'])


def by_cell(table, size='conv1_channels'):
  """Top-1 with n as text: (size,) + mode -> '85.30 ± 0.25 (8)'."""
  return {cell(row, size): '%s (%d)' % (spread(row, 'top1'), row['n'])
          for row in table}


def narrow(table, columns=FRONT):
  """Top-1 with n, a line a width; columns: heading -> mode."""
  cells = by_cell(table)
  widths = sorted({key[0] for key in cells if key[1:] in columns.values()},
                  reverse=True)
  return grid([['conv1'] + list(columns)] + [
      [str(width)] + [cells.get((width,) + column, '')
                      for column in columns.values()] for width in widths])


def costs(row):
  """A row's mean multiply-adds and parameters as a list of text."""
  return [shown(row[name] / unit, digits) + sign if name in row else ''
          for name, unit, digits, sign in (
              ('multiply_adds_mean', 1000000, 2, ' M'),
              ('parameters_mean', 1000, 0, ' k'))]


def full_budgets(table):
  """The table of budgets that is printed, a line for each budget and mode."""
  lines = [['budget', 'mean widths', 'multiply-adds', 'parameters', 'mode', 'n',
            'top-1, %', 'top-5, %']]
  for row in table:
    widths = [shown(row[name + '_mean'], 0) if name + '_mean' in row else '?'
              for name in WIDTHS]
    lines.append([str(row['budget']), '/'.join(widths), *costs(row),
                  mode_of(row), str(row['n']), spread(row, 'top1'),
                  spread(row, 'top5')])
  return grid(lines, left=['mode'])


def narrow_budgets(table):
  """Top-1 with n, a line a budget, with its costs in the first of its rows."""
  cells, prices = by_cell(table, 'budget'), {}
  for row in table:
    prices.setdefault(row['budget'], costs(row))
  return grid([['budget', 'multiply-adds', 'parameters'] + list(BUDGETS)] + [
      [str(budget)] + price + [cells.get((budget,) + mode, '')
                               for mode in BUDGETS.values()]
      for budget, price in prices.items()])
