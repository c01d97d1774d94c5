"""Differences of a sweep's networks: means, 95 % intervals, and n.

A network is as in tables.py. All intervals are Student's: of differences within
seeds, or of two means with the same variance.
"""
import collections
import decimal
import statistics

from cells import CONV1_CHANNELS
import tables
from tables import COMPRESSED, FINE_TUNED, SCRATCH, SCRATCH_TUNED

FOUR = list(FINE_TUNED.values())

# The parent's size: its width, or its share of its own costs.
PARENT = {'conv1_channels': CONV1_CHANNELS, 'budget': 1}
# Modes of which a table says what they lose to the parent.
LOST = {name: (COMPRESSED | FINE_TUNED)[name]
        for name in ('full', 'network', 'network, fine-tuned')}

# Student's t, the 0.975 quantiles of 1 to 20 degrees of freedom. Above 20 the
# last one serves; it makes intervals a little too wide.
T = [decimal.Decimal(value) for value in (
    '12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262 2.228 2.201 2.179 '
    '2.160 2.145 2.131 2.120 2.110 2.101 2.093 2.086').split()]


def interval(mean, degrees, squares, inverse):
  """'mean [low, high]': the 95 % t-interval; the mean alone below 2 degrees.

  Args:
    mean: Decimal.
    degrees: degrees of freedom of the standard deviation.
    squares: sum of the squared deviations from the means.
    inverse: 1/n, or the sum of both for a difference of two means.
  """
  if degrees < 2:
    return tables.shown(mean)
  half = T[min(degrees, len(T)) - 1] * (squares / degrees * inverse).sqrt()
  return '%s [%s, %s]' % tuple(map(tables.shown, (mean, mean - half,
                                                  mean + half)))


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
      result[tables.cell(network, size)][network['seed']] = network['top1']
  return result


def losses(networks, size='conv1_channels'):
  """Yields (size, mode, points lost by each parent), for the modes of LOST.

  Fine-tuned networks are compared with fine-tuned parents, too.
  """
  found = by_seed(networks, size)
  for each in sorted({key[0] for key in found} - {PARENT[size]}, reverse=True):
    for name, mode in LOST.items():
      slim = found[(each,) + mode]
      parents = {name: SCRATCH}
      if mode in FOUR:
        parents[name.replace(',', ' and parent,')] = SCRATCH_TUNED
      for words, parent in parents.items():
        whole = found[(PARENT[size],) + parent]
        both = sorted(whole.keys() & slim.keys())
        if both:
          yield each, words, [whole[seed] - slim[seed] for seed in both]


def lost(networks, size='conv1_channels'):
  """Points of top-1 that the parents lose: mean and each."""
  lines = [[tables.SIZES[size], 'mode', 'points lost', 'by parent']] + [
      [str(each), name, paired(points), ', '.join(map(tables.shown, points))]
      for each, name, points in losses(networks, size)]
  return tables.grid(lines, left=['mode', 'by parent'])


def mean_by_seed(groups):
  """The mean top-1 of each seed that is in all groups.

  Args:
    groups: list of seed -> top-1.

  Returns:
    seed -> Decimal.
  """
  return {seed: statistics.mean(top1[seed] for top1 in groups)
          for seed in set.intersection(*map(set, groups))}


def difference(ours, theirs):
  """A difference of means in words; both are seed -> top-1.

  It is paired by seed, with one n, if one side has all seeds of the other;
  otherwise it is unpaired, with the n of both.
  """
  both = sorted(ours.keys() & theirs.keys())
  if both and len(both) == min(len(ours), len(theirs)):
    return paired([ours[seed] - theirs[seed] for seed in both])
  return (unpaired(list(ours.values()), list(theirs.values()))
          if ours and theirs else '')


def compared(columns, name='conv1'):
  """A table of differences.

  Args:
    columns: heading -> {size: (ours, theirs)}, as for difference().
    name: heading of the sizes.

  Returns:
    Markdown, a line a size. The last line compares the means over all sizes of
    its column, by the seeds that have them all. Columns without a difference
    are left out.
  """
  columns = {heading: {size: pair for size, pair in column.items() if all(pair)}
             for heading, column in columns.items()}
  columns = {heading: column for heading, column in columns.items() if column}
  sizes = sorted(set().union(*columns.values()), reverse=True)
  lines = [[str(size)] + [
      difference(*column[size]) if size in column else ''
      for column in columns.values()] for size in sizes]
  if len(sizes) > 1:
    lines.append(['mean'] + [
        difference(*map(mean_by_seed, zip(*column.values())))
        for column in columns.values()])
  return tables.grid([[name] + list(columns)] + lines)


def between(networks, columns, size='conv1_channels'):
  """Differences of modes: see compared().

  Args:
    networks: those of one table.
    columns: heading -> (modes, the mode that their mean is compared with).
    size: one of SIZES.
  """
  found = by_seed(networks, size)
  sizes = {key[0] for key in found}
  return compared({
      heading: {each: (mean_by_seed([found[(each,) + mode] for mode in modes]),
                       found[(each,) + other]) for each in sizes}
      for heading, (modes, other) in columns.items()}, tables.SIZES[size])


def differences(networks, size='conv1_channels'):
  """The tables of differences: name -> Markdown.

  Args:
    networks: those of one table.
    size: one of SIZES.

  Returns:
    lost: points lost to the parent. gained: fine-tuned networks above training
    from scratch, each mode; gained as long: above networks from scratch that
    were fine-tuned, too. fine-tuned: the mean of the four modes above both;
    what networks from scratch gain by it; network above none after it.
    rebuilt: what reconstruction gives after fine-tuning, with the same choice
    of channels. choices, and choices none, fine-tuned: the choice of channels
    by least squares above others, with the same reconstruction; choices scale:
    the journal's ThiNet above the conference's.
  """
  columns_of = {
      'gained': {name: ([mode], SCRATCH) for name, mode in FINE_TUNED.items()},
      'gained as long': {name: ([mode], SCRATCH_TUNED)
                         for name, mode in FINE_TUNED.items()},
      'fine-tuned': {'above scratch': (FOUR, SCRATCH),
                     'above scratch, tuned': (FOUR, SCRATCH_TUNED),
                     'gained by scratch': ([SCRATCH_TUNED], SCRATCH),
                     'network above none': (
                         [FINE_TUNED['network, fine-tuned']],
                         FINE_TUNED['none, fine-tuned'])},
      'rebuilt': {
          name: ([FINE_TUNED[name + ', fine-tuned']], (
              COMPRESSED[name][0], 'none', 'yes'))
          for name in ('scale', 'full', 'network')}}
  columns_of['choices'] = {
      '%s, %s' % (criterion, how): (
          [('least_squares', how, 'no')], (criterion, how, 'no'))
      for how in ('full', 'network')
      for criterion in ('thinet', 'l1', 'random')}
  columns_of['choices none, fine-tuned'] = {
      criterion: ([('least_squares', 'none', 'yes')], (
          criterion, 'none', 'yes'))
      for criterion in ('thinet', 'l1', 'random')}
  columns_of['choices scale'] = {'thinet_kept': (
      [('thinet_kept', 'scale', 'no')], COMPRESSED['scale'])}
  return {'lost': lost(networks, size)} | {
      name: between(networks, columns, size)
      for name, columns in columns_of.items()}


def equal(networks):
  """Fine-tuning above training from scratch with as much computation.

  The latter is longer, and then fine-tuned, too.

  Args:
    networks: those of one schedule in which conv1 alone is narrower.

  Returns:
    Markdown; see compared().
  """
  ours = by_seed(tables.usual(networks), 'conv1_channels')
  longer = by_seed([each for each in networks if each['epochs'] != '' and
                    each['epochs'] > max(tables.EPOCHS.values())],
                   'conv1_channels')
  return compared({
      name: {key[0]: (mean_by_seed([ours[key[:1] + mode] for mode in modes]),
                      longer[key])
             for key in list(longer) if key[1:] == SCRATCH_TUNED}
      for name, modes in (
          ('network, fine-tuned', [FINE_TUNED['network, fine-tuned']]),
          ('mean of the four', FOUR))})
