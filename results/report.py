"""Makes the table of a sweep from its networks.

  python results/report.py runs                    # seed<n>/<network>/eval.json
  python results/report.py results/networks.csv    # or a line a network

Prints top-1 and top-5 on the test images, a row for each width of conv1 and
mode: the mean over seeds, ± the standard deviation if there are three runs or
more, and the published figures beside them; and, if networks were compressed to
budgets, a row for each budget and mode. Writes the same into table.csv and
budgets.csv, top-1 against the width and the costs into top1_by_*.png, and a
folder's networks into networks.csv, from which all can be made again.

A network whose files are damaged, or that was evaluated before its training
ended, is named and left out; the exit code is then 1.

--readme puts tables between the markers of a file: <!-- table --> and
<!-- /table -->, or rest (the other modes), budgets, or a name that
--differences prints.
"""
import argparse
import csv
import io
import json
import math
import os
import re
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, ROOT)
if __name__ == '__main__':
  for _number in (signal.SIGINT, signal.SIGPIPE):
    signal.signal(_number, signal.SIG_DFL)   # They end it without a traceback.

from thinet import files   # First: refuses other versions of Python.
import cells
import differences
import figures
import reading
import tables

TABLE = ['conv1_channels', 'criterion', 'reconstruction', 'fine_tuned', 'n',
         'top1_mean', 'top1_sd', 'top5_mean', 'top5_sd', 'published_top1',
         'published_top5']
BUDGETS = ['budget'] + TABLE[1:9] + ['multiply_adds_mean', 'parameters_mean']
PUBLISHED = os.path.join(ROOT, 'results', 'published.csv')


def read_published(path):
  """Reads published figures: (width,) + mode -> (top1, top5)."""
  published = {}
  for row in csv.DictReader(io.StringIO(reading.read_text(path), newline='')):
    how = row['reconstruction']
    mode = tables.SCRATCH if how == 'scratch' else (
        'thinet', how, row['fine_tuned'])
    width = reading.number('conv1_channels', row['conv1_channels'])
    published[(width,) + mode] = tuple(reading.number(name, row[name])
                                       for name in ('top1', 'top5'))
  return published


def chosen(networks, schedule):
  """Chooses the networks of a schedule.

  Args:
    networks: all networks.
    schedule: schedule of the parents' training; None stands for the only one,
      or for 'published' if there are several.

  Returns:
    (conv1, budgets): those in which conv1 alone is narrower, and those of a
    budget.
  """
  found = {each['schedule'] for each in networks} - {''}
  if schedule is None and len(found) > 1:
    schedule = 'published'
  found = [each for each in networks if schedule in (None, each['schedule'])]
  return ([each for each in found if each['budget'] == '' and
           reading.widths_of(each)[1:] == list(cells.OTHERS.values())],
          [each for each in found if each['budget'] != ''])


def with_parents(ours, budgets):
  """Puts the parents before the networks of budgets, as of the budget 1."""
  parents = [dict(each, budget=differences.PARENT['budget']) for each in ours
             if tables.cell(each)[:2] == (cells.CONV1_CHANNELS, 'scratch')]
  return parents + budgets if budgets else []


def draw(folder, table, networks):
  """Draws top-1 against the width and against the multiply-adds."""
  costs = {each['conv1_channels']: each['multiply_adds'] / 1e6
           for each in networks if each['multiply_adds'] != ''}
  for name, by_width, title in (
      ('conv1_channels', {row['conv1_channels']: row['conv1_channels']
                          for row in table}, 'channels of conv1'),
      ('multiply_adds', costs, 'million multiply-adds an image')):
    if len(by_width) > 1:
      write(os.path.join(folder, 'top1_by_%s.png' % name),
            figures.draw(table, by_width, title))


def all_differences(conv1, ours, with_budget):
  """The tables that --differences prints: name -> Markdown.

  Args:
    conv1: networks in which conv1 alone is narrower.
    ours: those of them that are of the usual epochs.
    with_budget: networks of a budget, of the usual epochs.
  """
  result = dict(differences.differences(ours), equal=differences.equal(conv1))
  for name, text in differences.differences(
      with_parents(ours, with_budget), 'budget').items():
    result['budgets ' + name] = text
  return result


def replace_sections(text, contents):
  """Puts tables between the markers of a text.

  Raises:
    ValueError: there is no marker, or one is not followed by its end.
  """
  parts = re.split('<!-- (/?(?:%s)) -->' % '|'.join(map(re.escape, contents)),
                   text)
  names = parts[1::4]
  ends = parts[3::4] + [''] * len(names)
  for name, end in zip(names or list(contents)[:1], ends or ['']):
    if end != '/' + name:
      raise ValueError('no section between <!-- %s --> and <!-- /%s -->' % (
          name, name))
  for index, name in enumerate(names):
    parts[4 * index + 1:4 * index + 4] = [
        '<!-- %s -->' % name, '\n%s\n' % contents[name], '<!-- /%s -->' % name]
  return ''.join(parts)


def write(path, content):
  """Writes bytes; raises FileError if it cannot."""
  try:
    files.write(path, content)
  except OSError as error:
    raise files.FileError('%s cannot be written (%s); make room there, and run '
                          'the same command again.' % (path, error.strerror))


def as_csv(columns, lines):
  """Dicts as a CSV file in bytes, with the columns as its first line."""
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, extrasaction='ignore',
                          lineterminator='\n')
  writer.writeheader()
  writer.writerows({name: reading.plain(value) for name, value in line.items()}
                   for line in lines)
  return text.getvalue().encode()


def show(text):
  """Prints a text, on terminals without ±, too."""
  try:
    text.encode(getattr(sys.stdout, 'encoding', None) or 'utf-8')
  except UnicodeEncodeError:
    text = text.replace('± ', '+-')   # As wide.
  try:
    print(text, flush=True)
  except OSError as error:
    files.close_output()
    if isinstance(error, BrokenPipeError):
      sys.exit(128 + signal.SIGPIPE)
    sys.exit('The table cannot be printed (%s); make room there, and run the '
             'same command again.' % error.strerror)


def rounded(row):
  """A row for table.csv: means and deviations with three digits."""
  return {name: tables.shown(value, 3) if name.endswith(('_mean', '_sd')) else
          value for name, value in row.items()}


def read(source, faults):
  """Reads the networks of a folder or a networks.csv; exits if it cannot."""
  if os.path.isdir(source):
    networks = reading.read_folder(source, faults)
    if not networks:
      sys.exit('\n'.join([*map(str, faults),
          'Folder %s holds no seed*/*/eval.json that can be used; run '
          './run_experiments.sh first, or name a networks.csv.' % source]))
    return networks
  if not os.path.exists(source):
    sys.exit('%s does not exist; run ./run_experiments.sh first.' % source)
  try:
    return reading.read_file(source)
  except (OSError, ValueError) as error:
    sys.exit('%s cannot be read (%s); mend that, or take the file from its '
             'backup, or make it again from the folder of the sweep.' % (
                 source, error))


def costs(latencies):
  """What figures.draw_costs draws against: measured costs, or counted ones.

  Args:
    latencies: what benchmarks/latency.py --json printed, or None. A width's
      name in it is the width; a budget's, its `least_squares, network` folder.
  """
  def counted(name, unit):
    return lambda row: (float(row[name + '_mean']) * unit
                        if name + '_mean' in row else None)

  def measured(name, unit):
    def cost(row):
      key = str(row.get('conv1_channels') or
                'least_squares_network_budget%s' % row['budget'])
      return latencies[key][name] * unit if key in latencies else None
    return cost

  if latencies is None:
    return {'million multiply-adds an image': counted('multiply_adds', 1e-6),
            'parameters, MB': counted('parameters', 4e-6)}
  return {'ms for 128 images': measured('latency_ms_batch128', 1),
          'ms for one image': measured('latency_ms_batch1', 1),
          'exported file, MB': measured('file_bytes', 1e-6)}


def read_latencies(path):
  """Reads what benchmarks/latency.py --json printed; exits if it cannot."""
  try:
    found = {key: each for key, each in json.loads(reading.read_text(
        path)).items() if re.fullmatch('[0-9]+|.*_budget[0-9.]+', key)}
    for key, each in found.items():
      for name in ('latency_ms_batch1', 'latency_ms_batch128', 'file_bytes'):
        if not 0 < each[name] < math.inf:
          raise ValueError('%s of %s is %s' % (name, key, each[name]))
    return found
  except (OSError, ValueError, KeyError, TypeError, AttributeError,
          RecursionError) as error:
    sys.exit('%s cannot be read as latencies (%s: %s); name what '
             'benchmarks/latency.py --json printed.' % (
                 path, type(error).__name__, error))


def write_files(source, networks, ours, table, budgets, latencies):
  """Writes the tables, the figures and, for a folder, networks.csv.

  Args:
    source: the folder, or a networks.csv.
    networks: all networks.
    ours: those of the table.
    table, budgets: rows of both tables.
    latencies: as for costs.
  """
  folder = source
  if os.path.isdir(source):
    write(os.path.join(folder, 'networks.csv'),
          as_csv(reading.COLUMNS, networks))
  else:
    folder = os.path.dirname(os.path.abspath(source))
  write(os.path.join(folder, 'table.csv'), as_csv(TABLE, map(rounded, table)))
  draw(folder, table, ours)
  if budgets:
    write(os.path.join(folder, 'budgets.csv'),
          as_csv(BUDGETS, map(rounded, budgets)))
    write(os.path.join(folder, 'top1_by_cost.png'),
          figures.draw_costs(table, budgets, costs(latencies)))


def fill_in(path, contents):
  """Replaces the marked sections of a file; raises FileError if it cannot.

  Args:
    path: of a Markdown file; of a link, its target changes.
    contents: name of a section -> text.
  """
  try:
    text = replace_sections(reading.read_text(path), contents)
  except (OSError, ValueError) as error:
    raise files.FileError('%s cannot take the table (%s); name a file with '
                          'both markers.' % (path, error))
  write(os.path.realpath(path), text.encode())


def flags():
  """The command line's flags."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('source', help='folder of the sweep, or a networks.csv')
  parser.add_argument('--published', default=PUBLISHED, help='CSV of published '
                      'results to add; --published= adds none')
  parser.add_argument('--schedule', help='schedule to print, if there are '
                      "several; writes no file except --readme's")
  parser.add_argument('--readme', help='file whose marked sections to replace')
  parser.add_argument('--latency', help='output of benchmarks/latency.py '
                      '--json, to draw against, not against counted costs')
  parser.add_argument('--differences', action='store_true',
                      help='print the tables of differences, too')
  return parser.parse_args()


def main():
  """Writes and prints the table; returns the exit code."""
  arguments, faults = flags(), []
  networks = read(arguments.source, faults)
  try:
    published = (read_published(arguments.published) if arguments.published
                 else {})
  except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
    sys.exit('%s cannot be read as published results (%s: %s).' % (
        arguments.published, type(error).__name__, error))
  latencies = read_latencies(arguments.latency) if arguments.latency else None
  conv1, with_budget = chosen(networks, arguments.schedule)
  ours, with_budget = tables.usual(conv1), tables.usual(with_budget)
  table = tables.rows(ours, published)
  budgets = tables.rows(with_budget, {}, 'budget')
  if not table and not budgets:
    sys.exit('\n'.join([
        *map(str, faults), '%s holds no network for this table; name another '
        'source, or one of its schedules with --schedule: %s.' % (
            arguments.source, ', '.join(sorted(
                {each['schedule'] for each in networks} - {''})))]))
  others = len(networks) - len(ours) - len(with_budget)
  if others:
    print('%d of %d networks are not in this table: their schedule or epochs '
          'are others, or other layers than conv1 are narrower.' % (
              others, len(networks)), file=sys.stderr)
  found = all_differences(conv1, ours, with_budget)
  precisions = {each['precision'] for each in ours + with_budget} - {''}
  if len(precisions) > 1:
    print('Networks of several precisions are in one table: %s.' % ', '.join(
        sorted(precisions)), file=sys.stderr)
  try:
    if not arguments.schedule:
      write_files(arguments.source, networks, ours, table, budgets, latencies)
    if arguments.readme:
      fill_in(arguments.readme, {
          'table': tables.narrow(table),
          'rest': tables.narrow(table, tables.REST),
          'budgets': tables.narrow_budgets(budgets), **found})
  except files.FileError as error:   # What was found is printed all the same.
    faults.append(error)
  for fault in faults:
    print(fault, file=sys.stderr)
  texts = ([tables.full(table)] * bool(table) +
           [tables.full_budgets(budgets)] * bool(budgets))
  if arguments.differences:
    texts += ['%s:\n%s' % (name, text) for name, text in found.items()
              if text.count('\n') > 1]   # Not without a line.
  show('\n\n'.join(texts))
  return 1 if faults else 0


if __name__ == '__main__':
  sys.exit(main())
