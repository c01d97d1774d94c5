"""Makes the table of a sweep from its eval.json files.

  python results/report.py runs --published=results/published.csv

Reads seed<n>/<network>/eval.json. Prints Markdown, a row for each width and a
column for each mode, and writes the same as table.csv into the folder; --readme
puts it between the markers <!-- table --> and <!-- /table --> of a file, too.
Cells are top-1 / top-5 in percent on the test images, the mean over seeds; "± sd
(n)" where there are several seeds. Draws top-1 against the width of conv1, the
multiply-adds and the measured latency, the mean over a width's evaluations
(top1_by_*.png).
"""
import argparse
import collections
import csv
import glob
import io
import json
import os
import re
import statistics
import sys

import figures

COLUMNS = ['conv1_channels', 'criterion', 'reconstruction', 'fine_tuned', 'n',
           'top1_mean', 'top1_sd', 'top5_mean', 'top5_sd', 'published_top1',
           'published_top5']
RECONSTRUCTIONS = ['', 'none', 'scale', 'full', 'network']
# What an evaluation says of the cost of a width: axis title, and unit.
COSTS = {'multiply_adds': ('million multiply-adds an image', 1e6),
         'latency_ms': ('milliseconds a batch', 1)}
CRITERIA = ['scratch', 'thinet', 'thinet_kept', 'least_squares', 'l1', 'random']


def evaluations(folder):
  """The paths of a sweep's results: seed<n>/<network>/eval.json."""
  return sorted(glob.glob(os.path.join(glob.escape(folder), 'seed*', '*',
                                       'eval.json')))


def read_cell(path):
  """The mode and the results of one eval.json.

  Returns:
    ((width, criterion, reconstruction, fine_tuned), top1, top5, costs), or None
    where the file is of other images or weights than the table's, or of a
    network that was distilled. The costs are a dict of those of COSTS that the
    file has.

  Raises:
    ValueError: the file is cut or lacks a key; the text names it.
  """
  try:
    with open(path) as source:
      result = json.load(source)
    if ((result['split'], result['weights']) != ('test', 'averaged') or
        result.get('distilled')):
      return None
    mode = (int(result['conv1_channels']), result.get('criterion', 'scratch'),
            result.get('reconstruction', ''),
            'yes' if result.get('fine_tuned') else 'no')
    if mode[1] not in CRITERIA or mode[2] not in RECONSTRUCTIONS:
      raise ValueError('no such mode as %s, %s' % mode[1:3])
    top1, top5 = float(result['top1']), float(result['top5'])
    if not 0 <= top1 <= top5 <= 100:
      raise ValueError('%s and %s are no percentages' % (top1, top5))
    costs = {name: float(result[name]) for name in COSTS if name in result}
    if not all(0 < value < float('inf') for value in costs.values()):
      raise ValueError('%s are no costs' % costs)
    return mode, top1, top5, costs
  except (OSError, ValueError, LookupError, TypeError, AttributeError,
          OverflowError, RecursionError) as error:
    raise ValueError('%s is left out, it cannot be read (%s: %s); evaluate '
                     'again.' % (path, type(error).__name__, error))


def read_published(path):
  """(width, criterion, reconstruction, fine_tuned) -> (top1, top5)."""
  published = {}
  with open(path, newline='') as source:
    for row in csv.DictReader(source):
      mode = row['reconstruction']
      key = (('scratch', '', 'no') if mode == 'scratch' else
             ('thinet', mode, row['fine_tuned']))
      published[(int(row['conv1_channels']),) + key] = (
          float(row['top1']), float(row['top5']))
  return published


def rows(cells, published):
  """The table's rows as dicts, from the cells of read_cell."""
  groups = collections.defaultdict(list)
  for mode, top1, top5, _ in cells:
    groups[mode].append((top1, top5))
  result = []
  for mode in sorted(groups, key=lambda mode: (
      -mode[0], CRITERIA.index(mode[1]), RECONSTRUCTIONS.index(mode[2]),
      mode[3])):
    row = dict(zip(COLUMNS, mode), n=len(groups[mode]))
    for name, values in zip(('top1', 'top5'), zip(*groups[mode])):
      row[name + '_mean'] = round(statistics.mean(values), 3)
      if len(values) > 1:
        row[name + '_sd'] = round(statistics.stdev(values), 3)
    if mode in published:
      row['published_top1'], row['published_top5'] = published[mode]
    result.append(row)
  return result


def draw(folder, table, cells):
  """Draws top-1 against the width and against each cost that was measured."""
  costs = {'conv1_channels': {row['conv1_channels']: row['conv1_channels']
                              for row in table}}
  for name, (_, unit) in COSTS.items():
    found = collections.defaultdict(list)
    for mode, _, _, values in cells:
      if name in values:
        found[mode[0]].append(values[name] / unit)
    costs[name] = {width: statistics.mean(values)
                   for width, values in found.items()}
  for name, by_width in costs.items():
    if len(by_width) > 1:
      path = os.path.join(folder, 'top1_by_%s.png' % name)
      try:
        figures.draw(path, table, by_width,
                     COSTS.get(name, ('channels of conv1',))[0])
      except OSError as error:
        not_written(path, error)


def markdown(table):
  """The table as Markdown: widths down, modes across."""

  def heading(row):
    if row['criterion'] == 'scratch':
      return 'scratch'
    return '%s, %s%s' % (row['criterion'], row['reconstruction'],
                         ', fine-tuned' if row['fine_tuned'] == 'yes' else '')

  def cell(row):
    text = '%.2f / %.2f' % (row['top1_mean'], row['top5_mean'])
    if row['n'] > 1:
      text = '%.2f ± %.2f / %.2f ± %.2f (%d)' % (
          row['top1_mean'], row['top1_sd'], row['top5_mean'], row['top5_sd'],
          row['n'])
    if 'published_top1' in row:
      text += '<br>*%.2f / %.2f*' % (row['published_top1'],
                                     row['published_top5'])
    return text

  headings = list(dict.fromkeys(heading(row) for row in sorted(
      table, key=lambda row: (CRITERIA.index(row['criterion']),
                              RECONSTRUCTIONS.index(row['reconstruction']),
                              row['fine_tuned']))))
  cells = {(row['conv1_channels'], heading(row)): cell(row) for row in table}
  lines = [['conv1'] + headings, ['---:'] * (len(headings) + 1)]
  for width in sorted({width for width, _ in cells}, reverse=True):
    lines.append([str(width)] + [cells.get((width, name), '')
                                 for name in headings])
  return '\n'.join('| %s |' % ' | '.join(line) for line in lines)


def replace_section(text, table):
  """The text with a table between its two markers.

  Raises:
    ValueError: the markers are not there once each, in order.
  """
  parts = re.split(r'(<!-- /?table -->)', text)
  if parts[1::2] != ['<!-- table -->', '<!-- /table -->']:
    raise ValueError('no section between <!-- table --> and <!-- /table -->')
  parts[2] = '\n%s\n' % table
  return ''.join(parts)


def not_written(path, error):
  """Ends the program with one sentence."""
  sys.exit('%s cannot be written (%s); make room there, and run the same '
           'command again.' % (path, error.strerror))


def write(path, text):
  """Writes a file: a temporary file beside it, then a rename."""
  try:
    with open(path + '.part', 'w', newline='') as part:
      part.write(text)
    os.replace(path + '.part', path)
  except OSError as error:
    not_written(path, error)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('folder', help='folder of the sweep')
  parser.add_argument('--published', help='CSV of published results to add')
  parser.add_argument('--readme', help='file whose marked section to replace')
  arguments = parser.parse_args()
  if not os.path.isdir(arguments.folder):
    sys.exit('Folder %s does not exist; run ./run_experiments.sh first.' %
             arguments.folder)
  cells = []
  for path in evaluations(arguments.folder):
    try:
      cells.append(read_cell(path))
    except ValueError as error:
      print(error, file=sys.stderr)
  try:
    published = (read_published(arguments.published) if arguments.published
                 else {})
  except (OSError, ValueError, KeyError, TypeError) as error:
    sys.exit('%s cannot be read as published results (%s: %s).' % (
        arguments.published, type(error).__name__, error))
  cells = list(filter(None, cells))
  table = rows(cells, published)
  if not table:
    sys.exit('Folder %s holds no eval.json; run ./run_experiments.sh first.' %
             arguments.folder)
  text = io.StringIO()
  writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
  writer.writeheader()
  writer.writerows(table)
  write(os.path.join(arguments.folder, 'table.csv'), text.getvalue())
  draw(arguments.folder, table, cells)
  if arguments.readme:
    try:
      with open(arguments.readme) as source:
        readme = replace_section(source.read(), markdown(table))
    except (OSError, ValueError) as error:
      sys.exit('%s cannot take the table (%s).' % (arguments.readme, error))
    write(arguments.readme, readme)
  print(markdown(table))


if __name__ == '__main__':
  main()
