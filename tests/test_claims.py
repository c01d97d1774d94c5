"""The figures in the documents' sentences follow from the committed files.

Recomputed by NumPy and SciPy from the lines of the files. The documents' marked
tables are test_report.py's.
"""
import csv
import decimal
import json
import os

import conftest
import numpy as np
import pytest
import scipy.stats

WIDTHS = [48, 32, 24, 16, 8]
SCRATCH, TUNED_SCRATCH = ('scratch', '', 'no'), ('scratch', '', 'yes')
NETWORK = ('least_squares', 'network', 'no')
FOUR = [('thinet', 'none', 'yes'), ('thinet', 'scale', 'yes'),
        ('least_squares', 'full', 'yes'), ('least_squares', 'network', 'yes')]


def all_lines(path):
  """The lines of results/<path>, as dicts."""
  with open(os.path.join(conftest.ROOT, 'results', path)) as source:
    return list(csv.DictReader(source))


def lines_of(path, epochs='20'):
  """Those of the usual epochs from scratch, and of some of fine-tuning."""
  return [line for line in all_lines(path)
          if line['epochs'] in ('', '128') and
          line['finetune_epochs'] in ('', epochs)]


def loaded(path):
  with open(os.path.join(conftest.ROOT, 'results', path)) as source:
    return json.load(source)


def top1(mode, width, path='networks.csv', epochs='20'):
  """{seed: top-1} of a mode; width is that of conv1, or a budget as text."""
  size = 'budget' if isinstance(width, str) else 'conv1_channels'
  return {line['seed']: float(line['top1']) for line in lines_of(path, epochs)
          if line['schedule'] == 'published' and line[size] == str(width) and
          (isinstance(width, str) or not line['budget']) and
          (line['criterion'], line['reconstruction'],
           line['fine_tuned']) == mode}


def mean_top1(modes, widths):
  """{seed: mean over modes and widths}, for the seeds that have all."""
  groups = [top1(mode, width) for mode in modes for width in widths]
  return {seed: np.mean([group[seed] for group in groups])
          for seed in set.intersection(*map(set, groups))}


def less(ours, theirs):
  """Differences within seeds."""
  return np.array([ours[seed] - theirs[seed]
                   for seed in sorted(ours.keys() & theirs.keys())])


def lost(mode, width, path='networks.csv'):
  """Points that each parent loses."""
  return less(top1(SCRATCH, 64, path), top1(mode, width, path))


def rounded(digits, *values):
  """As a reader rounds: halves away from zero."""
  return tuple(str(decimal.Decimal('%.9f' % value).quantize(
      decimal.Decimal(1).scaleb(-digits), decimal.ROUND_HALF_UP))
               for value in values)


def with_interval(digits, differences):
  """Mean, low and high end of the 95 % t-interval."""
  ends = scipy.stats.ttest_1samp(differences, 0).confidence_interval()
  return rounded(digits, np.mean(differences), ends.low, ends.high)


def apart(digits, ours, theirs):
  """Mean difference of networks of other parents, versions and machines."""
  ours, theirs = list(ours.values()), list(theirs.values())
  ends = scipy.stats.ttest_ind(ours, theirs).confidence_interval()
  return rounded(digits, np.mean(ours) - np.mean(theirs), ends.low, ends.high)


def above(digits, modes, others, widths=WIDTHS):
  """Modes above others, means over the widths."""
  differences = less(*(mean_top1(each, widths) for each in (modes, others)))
  assert len(differences) == 3
  return with_interval(digits, differences)


def judged(figures):
  """Figures of a difference, and what is said of it if the interval has 0."""
  _, low, high = map(float, figures)
  return figures + (': no difference seen' if low <= 0 <= high else '',)


def placed(figures):
  """Figures of a difference without a sign before the mean, and where it is."""
  mean, low, high = figures
  if mean[0] != '-':
    return mean, low, high, 'above'
  return (mean[1:], *(str(-decimal.Decimal(end)) for end in (high, low)),
          'below')


def first_lines():
  latency = loaded('latency.json')
  slim = [latency['least_squares_network_budget' + budget]
          for budget in ('0.5', '0.1')]
  assert round(latency['64']['file_bytes'] / slim[1]['file_bytes']) == 9
  return rounded(1, *(each['speedup_batch128'] for each in slim),
                 *(lost(FOUR[-1], budget, 'all_layers/networks.csv').mean()
                   for budget in ('0.5', '0.1')))


def without_labels():
  points = [lost(NETWORK, width) for width in WIDTHS]
  assert {len(each) for each in points} == {3}
  return rounded(1, *map(np.mean, points))


def all_layers():
  points = [[lost(mode, budget, 'all_layers/networks.csv').mean()
             for budget in ('0.5', '0.25', '0.1')]
            for mode in (NETWORK, FOUR[-1])]
  return rounded(1, *points[0], *points[1])


def deployed():
  """The lines of the table of latencies."""
  latency = loaded('latency.json')
  return tuple(
      '%s | %.2f | %s | %s | %s | %s' % (
          ' '.join(map(str, each['widths'])), each['multiply_adds'] / 1e6,
          format(each['parameters'], ','),
          *rounded(2, each['file_bytes'] / 1e6, each['latency_ms_batch1']),
          *rounded(1, each['latency_ms_batch128']))
      for each in (latency[name] for name in (
          '64', '8', 'least_squares_network_budget0.25',
          'least_squares_network_budget0.1')))


def one_version():
  lines = all_lines('networks.csv')
  (_, *how), = {(line['commit'], line['precision'], line['device'])
                for line in lines}
  assert how == ['float32', 'processor, 1 core']
  dates = [line['date'] for line in lines]
  return len(lines), min(dates), max(dates)


def tenth_below_tuned_scratch():
  groups = (top1(TUNED_SCRATCH, '0.1'),
            top1(FOUR[-1], '0.1', 'all_layers/networks.csv'))
  assert [len(each) for each in groups] == [3, 3]
  return judged(apart(1, *groups))


def beside_published(is_mode):
  """(our top-1 of three seeds, the published) for lines of published.csv."""
  pairs = []
  for line in all_lines('published.csv'):
    mode = SCRATCH if line['reconstruction'] == 'scratch' else (
        'thinet', line['reconstruction'], line['fine_tuned'])
    ours = list(top1(mode, int(line['conv1_channels'])).values())
    if is_mode(line) and len(ours) == 3:
      pairs.append((ours, float(line['top1'])))
  return pairs


def half(ours):
  """Of the 95 % range of one more run than these three."""
  return scipy.stats.t.ppf(0.975, 2) * np.std(ours, ddof=1) * (1 + 1 / 3)**0.5


def published_without_fine_tuning():
  """The largest difference from scratch, one outside, ranges of compressed."""
  scratch = beside_published(lambda line: line['reconstruction'] == 'scratch')
  slim = beside_published(lambda line: line['fine_tuned'] == 'no')
  assert (len(scratch), len(slim)) == (1 + len(WIDTHS), 2 * len(WIDTHS))
  (ours, theirs), = [pair for pair in scratch + slim
                     if abs(pair[1] - np.mean(pair[0])) > half(pair[0])]
  assert [(ours, theirs)] == beside_published(lambda line: [
      line[name] for name in ('conv1_channels', 'reconstruction', 'fine_tuned')
      ] == ['24', 'scale', 'no'])
  most = max(abs(np.mean(ours) - theirs) for ours, theirs in scratch)
  ranges = [half(ours) for ours, _ in slim]
  return (rounded(2, np.ceil(100 * most) / 100) +
          rounded(1, np.mean(ours) - theirs) +
          rounded(0, min(ranges), max(ranges)))


def tuned_above_published():
  pairs = beside_published(lambda line: line['fine_tuned'] == 'yes')
  gaps = [np.mean(ours) - theirs for ours, theirs in pairs]
  assert len(gaps) == 10
  inside = sum(gap <= half(ours) for gap, (ours, _) in zip(gaps, pairs))
  return (*rounded(1, min(gaps), max(gaps)),
          ('none', 'one', 'two', 'three', 'four')[inside])


def exported():
  latency = loaded('latency.json')
  slim = [latency['least_squares_network_budget' + budget]
          for budget in ('0.5', '0.25', '0.1')]
  return (rounded(1, *(each['speedup_batch128'] for each in slim)) +
          rounded(1, *(each['speedup_batch1'] for each in slim)) +
          rounded(2, *(each['file_bytes'] / 1e6
                       for each in slim + [latency['64']])))


def fixed_beforehand():
  found = above(1, FOUR, [TUNED_SCRATCH])
  return placed(found) + judged(found)[-1:]


def not_fixed():
  found = above(1, FOUR[-1:], FOUR[:1])
  return (placed(found) + judged(found)[-1:] +
          tuned_for('1', 1) + above(1, [TUNED_SCRATCH], [SCRATCH]))


def other_channels():
  return sum((above(1, [NETWORK], [(criterion,) + NETWORK[1:]], [width])
              for width in (16, 8) for criterion in ('l1', 'random')), ())


def tuned_for(epochs, digits=2):
  """network above none at 16 and 8 channels."""
  found = [less(*(top1(mode, width, epochs=epochs)
                  for mode in (FOUR[-1], FOUR[0]))) for width in (16, 8)]
  assert [len(each) for each in found] == [3, 3]
  return sum((with_interval(digits, each) for each in found), ())


def few_epochs():
  """After 1, what network lost by it, and after 5."""
  fallen = [less(top1(NETWORK, width), top1(FOUR[-1], width, epochs='1'))
            for width in (16, 8)]
  return tuned_for('1') + rounded(2, *map(np.mean, fallen)) + tuned_for('5')


def network_below_scratch():
  assert all(judged(above(9, [SCRATCH], [NETWORK], [width]))[-1]
             for width in WIDTHS[:-1])
  slim, whole = (top1(mode, '0.1', 'all_layers/networks.csv')
                 for mode in (NETWORK, SCRATCH))
  return (above(1, [SCRATCH], [NETWORK], WIDTHS[-1:]) +
          with_interval(1, less(whole, slim)))


# The cells of a section's tables, row by row, from the first after the label;
# rows are those of the document.


def ways(rows):
  found = loaded('all_layers/budget.json')
  lines = [()] + [rounded(2, *(found[budget][way]['top1']
                               for budget in ('0.5', '0.25', '0.1')))
                  for way in ('losses', 'uniform', 'global_l1', 'search',
                              'front_to_back')]
  return lines + [()] * (len(rows) - len(lines))   # Those of results/widths.py.


def training_steps(rows):
  machines = dict(zip(rows[4][1:], loaded('training.json')))
  for name, machine in machines.items():
    assert name in machine['machine']
  result = []
  for label, *_ in rows[1:4]:
    name, precision = label.split(', ')
    times = machines[name]['milliseconds_per_step'][precision]
    result.append(rounded(1, *(times[width] for width in rows[0][1:])))
  names = {"rate of convolutions and products over a matrix product's, width "
           '64': 'float32_fraction_of_matmul_width64',
           'the same, width 8': 'float32_fraction_of_matmul_width8',
           "the input's share of a step, width 64": 'input_share_width64',
           'times as fast as PyTorch 2.13 eager': 'speedup_vs_pytorch_width64',
           'times as fast as the literal tutorial':
               'speedup_vs_literal_tutorial_width64'}
  for label, *_ in rows[5:]:
    result.append(rounded(2, *(each[names[label]]
                               for each in machines.values())))
  return [()] + result[:3] + [()] + result[3:]


def single_operations(rows):
  times = loaded('operations.json')['milliseconds']
  return [()] + [rounded(1, *(
      times.get('%s, float32, width %s' % (label, width)) or
      times['%s, width %s' % (label, width)] for width in rows[0][1:]))
                   for label, *_ in rows[1:]]


def compressions(rows):
  found = loaded('compression.json')
  assert found['same_choice']
  figures = {
      'moments of all four readers from 50,000 images': '%.1f s, %.2f GiB' % (
          found['seconds_moments'], found['peak_rss_gib']),
      'after them, choice and full at five widths of conv1':
          '%.1f s' % found['seconds_all_widths'],
      'after them, all widths under a budget': '%.1f s' % found[
          'seconds_budget'],
      "times as fast as the paper's loop (%.0f s), with the same choice" %
      found['textbook_seconds']: format(round(found['speedup_vs_textbook']),
                                        ',')}
  return [()] + [(figures[label],) for label, *_ in rows[1:]]


def forms(rows):
  found = loaded('tflite.json')
  forms = [found[name.lower()] for name in rows[0][1:]]
  return [(), rounded(2, *(form['top1'] for form in forms)),
          rounded(2, *(form['file_bytes'] / 1e6 for form in forms)),
          rounded(2, *(form['latency_ms'] for form in forms))]


README, RESULTS, LAYERS, BENCHMARKS = (
    'README.md', 'results/README.md', 'results/all_layers/README.md',
    'benchmarks/README.md')


@pytest.mark.parametrize('document, sentence, figures', [
    (README, 'is %s times as fast on 128 images, one with a tenth %s times, in '
     'a file a ninth of the size. Compressed without labels (`network`) and '
     'fine-tuned, the two end %s and %s points of top-1 below the parent',
     first_lines),
    (README, 'Networks with a tenth, from scratch and fine-tuned as '
     'long, end %s points [%s, %s] higher (unpaired, other processors)%s.',
     tenth_below_tuned_scratch),
    (README, '`network` loses %s, %s, %s, %s and %s points to its parent at '
     '48, 32, 24, 16 and 8 channels.', without_labels),
    (README, "Fine-tuned, the four default `MODES` end %s points [%s, %s] %s "
     'networks from scratch that were fine-tuned as long (three seeds, paired; '
     'mean of the five widths)%s.', fixed_beforehand),
    (README, '`least_squares_network` ends %s [%s, %s] %s `thinet_none`, both '
     'fine-tuned%s; after one epoch, not 20, %s [%s, %s] at 16 channels and %s '
     '[%s, %s] at 8. Fine-tuning gives networks from scratch %s [%s, %s] on '
     'average.', not_fixed),
    (README, 'With channels chosen by L1 or at random it ends %s [%s, %s] and '
     '%s [%s, %s] lower at 16 channels, %s [%s, %s] and %s [%s, %s] at 8.',
     other_channels),
    (README, 'At 48 to 16 channels no difference from scratch is seen; at '
     '8 it ends %s [%s, %s] below, at a budget of 0.1 %s [%s, %s].',
     network_below_scratch),
    (README, 'at budgets of 0.5, 0.25 and 0.1 `network` loses %s, %s and %s '
     'points; fine-tuned, %s, %s and %s.', all_layers),
    (README, "published single runs (rings; not the paper's) end %s to %s "
     'points below our means, %s of ten within the 95 %% range of one more run '
     'of ours.', tuned_above_published),
    (README, '| %s | | %s | | %s | | %s |', deployed),
    (README, 'A training step at 64 channels is %s (Xeon) and %s (EPYC) times '
     "as fast as PyTorch's eager one", lambda: rounded(1, *(
         each['speedup_vs_pytorch_width64']
         for each in loaded('training.json')))),
    (RESULTS, '%d networks of one version, in float32, each on one AMD EPYC '
     'core, %s to %s.', one_version),
    (RESULTS, 'Each published figure from scratch is at most %s points from '
     'our mean of three, and inside the 95 %% range of one more run of ours. '
     'So are those without fine-tuning, but for `scale` at 24 channels, %s '
     'points below; their ranges are ±%s to ±%s points',
     published_without_fine_tuning),
    (RESULTS, 'Fine-tuned for one epoch, not 20, `network` ends %s [%s, %s] '
     'points above `none` at 16 channels and %s [%s, %s] at 8, but %s and %s '
     'below where it began; for five, %s [%s, %s] and %s [%s, %s].',
     few_epochs),
    (RESULTS, '`thinet_kept` with `scale` ends %s [%s, %s] above `thinet` with '
     'it (mean of the five widths):', lambda: above(
         2, [('thinet_kept', 'scale', 'no')], [('thinet', 'scale', 'no')])),
    (RESULTS, 'At a budget of 0.1, networks from scratch gain %s [%s, %s] by '
     'fine-tuning.', lambda: above(2, [TUNED_SCRATCH], [SCRATCH], ['0.1'])),
    (LAYERS, 'the compressed ones end %s points [%s, %s] below them (three of '
     'each, unpaired, equal variances; other processors and versions, too)%s.',
     tenth_below_tuned_scratch),
    (LAYERS, "are %s, %s and %s times as fast as the parent on 128 images and "
     "%s, %s and %s times on one, in files of %s, %s and %s MB, not %s.",
     exported),
])
def test_a_sentence_says_what_the_files_say(document, sentence, figures):
  with open(os.path.join(conftest.ROOT, document), encoding='utf-8') as source:
    text = ' '.join(source.read().split())
  assert sentence % tuple(figures()) in text


@pytest.mark.parametrize('document, section, figures', [
    (LAYERS, 'Ways to choose the widths', ways),
    (BENCHMARKS, 'A training step', training_steps),
    (BENCHMARKS, 'Operations', single_operations),
    (BENCHMARKS, 'Compression', compressions),
    (BENCHMARKS, 'TFLite', forms),
])
def test_a_table_says_what_the_files_say(document, section, figures):
  with open(os.path.join(conftest.ROOT, document), encoding='utf-8') as source:
    lines = source.read().partition('\n## %s\n' % section)[2].partition(
        '\n## ')[0].splitlines()
  rows = [[cell.strip().replace('`', '') for cell in line.split('|')[1:-1]]
          for line in lines if line.startswith('|') and '---' not in line]
  expected = figures(rows)
  assert len(rows) == len(expected)
  for (_, *cells), wanted in zip(rows, expected):
    assert tuple(cells[:len(wanted)]) == wanted
