"""The tables of a sweep: means, deviations and differences of its networks.

A network is a dict with the columns of networks.csv (report.COLUMNS). Every
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
COMPRESSED = {'none': ('thinet', 'none', 'no'),
              'scale': ('thinet', 'scale', 'no'),
              'full': ('least_squares', 'full', 'no'),
              'network': ('least_squares', 'network', 'no')}
FINE_TUNED = {name + ', fine-tuned': mode[:2] + ('yes',)
              for name, mode in COMPRESSED.items()}
FRONT = {'scratch': SCRATCH,
         **{name: COMPRESSED[name] for name in ('full', 'network')},
         **{name: FINE_TUNED[name] for name in ('none, fine-tuned',
                                                'network, fine-tuned')}}
REST = {'none': COMPRESSED['none'], 'scale': COMPRESSED['scale'],
        **{name: FINE_TUNED[name] for name in ('scale, fine-tuned',
                                               'full, fine-tuned')}}
# Modes of other choices of channels -> the mode they are compared with.
CHOICES = {'%s, %s' % (criterion, reconstruction): (
    [(criterion, reconstruction, 'no')],
    ('least_squares', reconstruction, 'no'))
           for reconstruction in ('full', 'network')
           for criterion in ('l1', 'random')}

# What the lines of a table are of: column of networks.csv -> heading.
SIZES = {'conv1_channels': 'conv1', 'budget': 'budget'}
PARENT = 1   # The parent's share of its own costs, where lines are of budgets.
BUDGETS = {name: FRONT[name]
           for name in ('scratch', 'network', 'network, fine-tuned')}
# Modes of which a table says what they lose to the parent.
LOST = {'conv1_channels': {name: COMPRESSED[name]
                           for name in ('full', 'network')},
        'budget': {name: mode for name, mode in FRONT.items()
                   if mode != SCRATCH}}
WIDTHS = ['conv1_channels', 'conv2_channels', 'local3_units', 'local4_units']
EPOCHS = {'published': 128, 'fast': 50}   # Of a schedule from scratch.
FINE_TUNING_EPOCHS = 20

# Student's t, the 0.975 quantiles of 1 to 20 degrees of freedom. Above 20 the
# last one serves; it makes intervals a little too wide.
T = [decimal.Decimal(value) for value in (
    '12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262 2.228 2.201 2.179 '
    '2.160 2.145 2.131 2.120 2.110 2.101 2.093 2.086').split()]


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


def usual(network):
  """Whether a network was trained for as many epochs as its schedule has."""
  return network['epochs'] in ('', FINE_TUNING_EPOCHS if
                               network['fine_tuned'] == 'yes' else
                               EPOCHS.get(network['schedule']))


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


def narrow(table, columns=None):
  """Top-1 with n, a line a width; columns: heading -> mode, else FRONT."""
  columns, cells = columns or FRONT, by_cell(table)
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


def interval(mean, degrees, squares, inverse):
  """'mean [low, high]': the 95 % t-interval; the mean alone below 2 degrees.

  Args:
    mean: Decimal.
    degrees: degrees of freedom of the standard deviation.
    squares: sum of the squared deviations from the means.
    inverse: 1/n, or the sum of both for a difference of two means.
  """
  if degrees < 2:
    return shown(mean)
  half = T[min(degrees, len(T)) - 1] * (squares / degrees * inverse).sqrt()
  return '%s [%s, %s]' % (shown(mean), shown(mean - half), shown(mean + half))


def squares(values):
  """Sum of the squared deviations from the mean."""
  mean = statistics.mean(values)
  return sum((value - mean) ** 2 for value in values)


def paired(differences):
  """The mean of differences within parents, its 95 % interval and n."""
  one = decimal.Decimal(1)
  return '%s (%d)' % (interval(
      statistics.mean(differences), len(differences) - 1, squares(differences),
      one / len(differences)), len(differences))


def unpaired(values, others):
  """A difference of means, its 95 % interval and both n.

  This is Student's interval, which assumes the same variance in both groups.
  """
  one = decimal.Decimal(1)
  return '%s (%d:%d)' % (interval(
      statistics.mean(values) - statistics.mean(others),
      len(values) + len(others) - 2, squares(values) + squares(others),
      one / len(values) + one / len(others)), len(values), len(others))


def by_seed(networks, size):
  """(size,) + mode -> {seed: top1}."""
  result = collections.defaultdict(dict)
  for network in networks:
    if network['seed'] != '':
      result[cell(network, size)][network['seed']] = network['top1']
  return result


def losses(networks, size='conv1_channels'):
  """Yields (size, mode, seed -> points lost), for the modes of LOST."""
  found = by_seed(networks, size)
  sizes = sorted({key[0] for key in found}, reverse=True)
  largest = PARENT if size == 'budget' else max(sizes, default=0)
  parents = found[(largest,) + SCRATCH]
  for each in sizes:
    for name, mode in LOST[size].items():
      slim = found[(each,) + mode]
      both = sorted(parents.keys() & slim.keys())
      if both:
        yield each, name, {seed: parents[seed] - slim[seed] for seed in both}


def lost(networks, size='conv1_channels'):
  """Points of top-1 that the parents lose: mean and each."""
  return grid([[SIZES[size], 'mode', 'points lost', 'by parent']] + [
      [str(each), name, paired(points), ', '.join(map(shown, points))]
      for each, name, found in losses(networks, size)
      for points in [list(found.values())]],
              left=['mode', 'by parent'])


def by_width(cells):
  """A table from (width, heading) -> text."""
  headings = list(dict.fromkeys(heading for _, heading in cells))
  return grid([['conv1'] + headings] + [
      [str(width)] + [cells.get((width, heading), '') for heading in headings]
      for width in sorted({width for width, _ in cells}, reverse=True)])


def lost_by_schedule(groups):
  """The means of lost(), a line a width; groups is schedule -> networks."""
  return by_width({
      (width, '%s, %s' % (name, schedule)): paired(list(points.values()))
      for schedule, networks in groups.items()
      for width, name, points in losses(networks)})


def lost_less(groups):
  """By how much parents of the fast schedule lose less than others.

  Args:
    groups: as for lost_by_schedule.

  Returns:
    Markdown, a line a width, with cells as of compared().
  """
  fast, published = (
      {(width, name): points
       for width, name, points in losses(groups.get(schedule, []))}
      for schedule in ('fast', 'published'))
  return by_width({key: difference(published[key], fast[key])
                   for key in published if key in fast})


def mean_by_seed(found, size, modes):
  """The mean top-1 of some modes at a size, of the seeds that have all.

  Args:
    found: as from by_seed.
    size: a width or a budget.
    modes: list of modes.

  Returns:
    seed -> Decimal.
  """
  each = [found[(size,) + mode] for mode in modes]
  return {seed: statistics.mean(top1[seed] for top1 in each)
          for seed in set.intersection(*map(set, each))}


def difference(ours, theirs):
  """A cell of compared(); both are seed -> top-1."""
  both = sorted(ours.keys() & theirs.keys())
  if both:
    return paired([ours[seed] - theirs[seed] for seed in both])
  return (unpaired(list(ours.values()), list(theirs.values()))
          if ours and theirs else '')


def compared(networks, columns, size='conv1_channels'):
  """Differences of top-1 by size.

  Args:
    networks: those of one table.
    columns: heading -> (modes, the mode that their mean is compared with).
    size: one of SIZES.

  Returns:
    Markdown, without columns that are empty. A cell is paired by seed, with one
    n, where a seed has all of these modes; otherwise it is unpaired, with the n
    of both sides.
  """
  found = by_seed(networks, size)
  sizes = sorted({key[0] for key in found}, reverse=True)
  filled = [[heading] + [
      difference(mean_by_seed(found, each, modes), found[(each,) + other])
      for each in sizes] for heading, (modes, other) in columns.items()]
  filled = [column for column in filled if any(column[1:])]
  lines = list(zip([SIZES[size], *map(str, sizes)], *filled))
  return grid(lines[:1] + [line for line in lines[1:] if any(line[1:])])


def differences(networks, size='conv1_channels'):
  """The tables of differences: name -> Markdown."""
  none = FINE_TUNED['none, fine-tuned']
  return {'lost': lost(networks, size)} | {
      name: compared(networks, columns, size) for name, columns in (
          ('gained', {name: ([mode], SCRATCH) for name, mode in
                      FINE_TUNED.items()}),
          ('gained on average', {'mean of the four, fine-tuned': (
              list(FINE_TUNED.values()), SCRATCH)}),
          ('rebuilt', {name: ([mode], none) for name, mode in
                       FINE_TUNED.items() if mode != none}),
          ('choices', CHOICES))}


def at_epochs(groups, one, other):
  """Compares two modes, where one of them is of several numbers of epochs.

  Args:
    groups: epochs -> (networks of `one`, networks of `other`).
    one, other: headings of FRONT.

  Returns:
    Markdown, a line a width and number of epochs.
  """
  lines = []
  for epochs, networks in groups.items():
    found = [by_seed(each, 'conv1_channels') for each in networks]
    text = [by_cell(rows(each, {})) for each in networks]
    for width in {network['conv1_channels'] for network in networks[1]}:
      keys = [(width,) + FRONT[name] for name in (one, other)]
      tops = [seeds[key] for seeds, key in zip(found, keys)]
      if all(tops):
        lines.append([width, epochs, *(each[key] for each, key in
                                       zip(text, keys)), difference(*tops)])
  return grid([['conv1', 'epochs', one, other, 'difference']] + [
      list(map(str, line)) for line in sorted(
          lines, key=lambda line: (-line[0], line[1]))])


def epochs(networks):
  """The tables of several numbers of epochs: name -> Markdown.

  Args:
    networks: those of one schedule in which conv1 alone is narrower.

  Returns:
    shorter: what reconstruction gives after fewer epochs of fine-tuning;
    equal: fine-tuning beside more epochs of training from scratch.
  """
  groups = collections.defaultdict(list)
  for network in networks:
    if network['epochs'] != '' or network['fine_tuned'] == 'yes':
      groups[network['fine_tuned'], network['epochs'] or
             FINE_TUNING_EPOCHS].append(network)
  tuned = {number: each for (fine_tuned, number), each in groups.items()
           if fine_tuned == 'yes'}
  return {
      'shorter': at_epochs({number: (each, each) for number, each in
                            tuned.items()}, 'network, fine-tuned',
                           'none, fine-tuned'),
      'equal': at_epochs({
          number: (tuned.get(FINE_TUNING_EPOCHS, []), each)
          for (fine_tuned, number), each in groups.items()
          if fine_tuned == 'no' and not usual(each[0])},
                         'network, fine-tuned', 'scratch')}
