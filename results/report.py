"""Makes the table of a sweep from its networks.

  python results/report.py runs                    # seed<n>/<network>/eval.json
  python results/report.py results/networks.csv    # or a line a network

Prints top-1 and top-5 on the test images, a row for each width of conv1 and
mode: the mean over seeds, ± the standard deviation if there are three runs or
more, and the published figures beside them. Writes the same into table.csv,
top-1 against the width and the multiply-adds into top1_by_*.png, and a folder's
networks into networks.csv, from which the table can be made again.

--readme puts narrow tables between the markers of a file: <!-- table --> and
<!-- /table -->, or those that results/README.md has.
"""
import argparse
import csv
import decimal
import glob
import io
import json
import os
import re
import sys

import figures
import tables

COLUMNS = ['seed', 'schedule', 'conv1_channels', 'conv2_channels',
           'local3_units', 'local4_units', 'criterion', 'reconstruction',
           'fine_tuned', 'budget', 'top1', 'top5', 'multiply_adds',
           'parameters', 'seconds', 'precision', 'device', 'commit', 'date']
WHOLE = ['seed', 'conv1_channels', 'conv2_channels', 'local3_units',
         'local4_units', 'multiply_adds', 'parameters']
NUMBERS = ['budget', 'top1', 'top5', 'seconds']
NEEDED = ['conv1_channels', 'top1', 'top5']
WORDS = {'criterion': tables.CRITERIA, 'reconstruction': tables.RECONSTRUCTIONS,
         'fine_tuned': ['no', 'yes']}
# Widths of the other layers in the table's networks, where a network says.
OTHERS = {'conv2_channels': 64, 'local3_units': 384, 'local4_units': 192}
TABLE = ['conv1_channels', 'criterion', 'reconstruction', 'fine_tuned', 'n',
         'top1_mean', 'top1_sd', 'top5_mean', 'top5_sd', 'published_top1',
         'published_top5']
PUBLISHED = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                         'published.csv')


def network(values):
  """Checks a network's columns and converts its numbers.

  Args:
    values: column -> text; '' is a missing value.

  Returns:
    The same, with the numbers as int or Decimal.

  Raises:
    ValueError: a value does not fit its column; the text names both.
  """
  result = dict(values)
  for name in WHOLE + NUMBERS:
    if values[name] == '' and name not in NEEDED:
      continue
    pattern = '[0-9]{1,15}' if name in WHOLE else '[0-9]{1,12}([.][0-9]{1,20})?'
    if not re.fullmatch(pattern, values[name]):
      raise ValueError("%s is '%s', not a %s" % (
          name, values[name],
          'whole number' if name in WHOLE else 'number'))
    result[name] = (int if name in WHOLE else decimal.Decimal)(values[name])
  for name in set(COLUMNS) - set(WHOLE + NUMBERS):
    if values[name] not in WORDS.get(name, [values[name]]):
      raise ValueError("%s is '%s', not %s" % (
          name, values[name], ' or '.join(filter(None, WORDS[name]))))
    if not values[name].isprintable():
      raise ValueError('%s is %a, not plain text' % (name, values[name]))
  if not result['top1'] <= result['top5'] <= 100:
    raise ValueError('top1 and top5 are %s and %s, not percentages' % (
        values['top1'], values['top5']))
  if not result['conv1_channels']:
    raise ValueError("conv1_channels is '%s', not 1 or more" %
                     values['conv1_channels'])
  return result


def read_json(path):
  """Reads a JSON file; its fractions become Decimal."""
  with open(path) as source:
    return json.load(source, parse_float=decimal.Decimal)


def read_network(path):
  """Reads a network's eval.json and the run.json or compress.json beside it.

  Returns:
    As network(), or None if the file is about other images or weights than the
    table's.

  Raises:
    ValueError: a file is cut or lacks a key; the text names it.
  """
  try:
    result = read_json(path)
    if (result['split'], result['weights']) != ('test', 'averaged'):
      return None
    made = {}
    for name in ('run.json', 'compress.json'):
      beside = os.path.join(os.path.dirname(path), name)
      if not made and os.path.exists(beside):
        made = read_json(beside)
    # Its settings, its parent's, and so on up to the training from scratch.
    line = [made.get('settings', made)]
    while 'parent' in line[-1]:
      line.append(line[-1]['parent'])
    seconds = made.get('seconds', '')
    values = {name: result.get(name, made.get(name, '')) for name in COLUMNS}
    values.update(
        seed=line[-1].get('seed', result.get('seed', '')),
        schedule=line[-1].get('schedule', ''),
        criterion=result.get('criterion', 'scratch'),
        fine_tuned='yes' if result.get('fine_tuned') else 'no',
        seconds=sum(seconds.values()) if isinstance(seconds, dict) else seconds,
        precision=next((settings['precision'] for settings in line
                        if 'precision' in settings), ''),
        commit=made.get('git_commit', '')[:12], date=made.get('end', '')[:10])
    return network({name: str(value) for name, value in values.items()})
  except (OSError, ValueError, LookupError, TypeError, AttributeError,
          ArithmeticError, RecursionError) as error:
    raise ValueError('%s is left out, it or the JSON beside it cannot be read '
                     '(%s: %s); remove what is broken, and evaluate again.' % (
                         path, type(error).__name__, error))


def read_folder(folder):
  """Reads the networks of a sweep's folder; prints what cannot be read."""
  networks = []
  for path in sorted(glob.glob(os.path.join(glob.escape(folder), 'seed*', '*',
                                            'eval.json'))):
    try:
      networks.append(read_network(path))
    except ValueError as error:
      print(error, file=sys.stderr)
  return sorted(filter(None, networks), key=lambda each: (
      each['seed'] or 0, tables.order(tables.cell(each))))


def read_file(path):
  """Reads the networks of a networks.csv.

  Raises:
    ValueError: it cannot be read; the text names line and value.
  """
  with open(path, newline='', encoding='utf-8') as source:
    text = source.read()
  lines = csv.reader(io.StringIO(text), strict=True)
  networks, seen = [], {}
  try:
    if next(lines, []) != COLUMNS:
      raise ValueError('it does not begin with %s' % ','.join(COLUMNS))
    for values in lines:
      if len(values) < len(COLUMNS) or (
          not text.endswith('\n') and lines.line_num == text.count('\n') + 1):
        raise ValueError("it is cut after '%s'" % ','.join(values)[-20:])
      if len(values) > len(COLUMNS):
        raise ValueError("'%s' is one value too many" % values[len(COLUMNS)])
      networks.append(network(dict(zip(COLUMNS, values))))
      first = seen.setdefault(tuple(values), lines.line_num)
      if first != lines.line_num:
        raise ValueError("it is line %d again, '%s'" % (
            first, ','.join(values)))
  except (ValueError, csv.Error) as error:
    raise ValueError('line %d: %s' % (max(lines.line_num, 1), error))
  return networks


def read_published(path):
  """Reads published figures: (width,) + mode -> (top1, top5)."""
  published = {}
  with open(path, newline='', encoding='utf-8') as source:
    for row in csv.DictReader(source):
      how = row['reconstruction']
      mode = tables.SCRATCH if how == 'scratch' else (
          'thinet', how, row['fine_tuned'])
      published[(int(row['conv1_channels']),) + mode] = (
          decimal.Decimal(row['top1']), decimal.Decimal(row['top5']))
  return published


def chosen(networks, schedule):
  """Chooses the networks of one table.

  Args:
    networks: all networks.
    schedule: schedule of the parents' training; None stands for the only one,
      or for 'published' if there are several.

  Returns:
    The networks of that schedule in which conv1 alone is narrower.
  """
  found = {each['schedule'] for each in networks} - {''}
  if schedule is None and len(found) > 1:
    schedule = 'published'
  return [each for each in networks
          if schedule in (None, each['schedule']) and each['budget'] == '' and
          all(each[name] in ('', width) for name, width in OTHERS.items())]


def draw(folder, table, networks):
  """Draws top-1 against the width and against the multiply-adds."""
  costs = {each['conv1_channels']: each['multiply_adds'] / 1e6
           for each in networks if each['multiply_adds'] != ''}
  for name, by_width, title in (
      ('conv1_channels', {row['conv1_channels']: row['conv1_channels']
                          for row in table}, 'channels of conv1'),
      ('multiply_adds', costs, 'million multiply-adds an image')):
    if len(by_width) > 1:
      path = os.path.join(folder, 'top1_by_%s.png' % name)
      try:
        figures.draw(path, table, by_width, title)
      except OSError as error:
        not_written(path, error)


def sections(networks, table):
  """The tables that --readme can fill in: name of the markers -> Markdown."""
  groups = {schedule: chosen(networks, schedule) for schedule in sorted(
      {each['schedule'] for each in networks} - {''}, reverse=True)}
  result = {'table': tables.narrow(table),
            'lost': tables.lost_by_schedule(groups)}
  for schedule, ours in groups.items():
    summary = tables.rows(ours, {})
    result['table ' + schedule] = tables.narrow(summary)
    result['rest ' + schedule] = tables.narrow(summary, tables.REST)
    for name, text in tables.differences(ours).items():
      result['%s %s' % (name, schedule)] = text
  return result


def replace_sections(text, contents):
  """Puts tables between the markers of a text.

  Raises:
    ValueError: there is no marker, or one is not followed by its end.
  """
  parts = re.split('<!-- (/?(?:%s)) -->' % '|'.join(map(re.escape, contents)),
                   text)
  names = parts[1::4]
  if not names or parts[3::4] != ['/' + name for name in names]:
    raise ValueError('no section between <!-- table --> and <!-- /table -->')
  for index, name in enumerate(names):
    parts[4 * index + 1:4 * index + 4] = [
        '<!-- %s -->' % name, '\n%s\n' % contents[name], '<!-- /%s -->' % name]
  return ''.join(parts)


def not_written(path, error):
  """Ends the program with one sentence."""
  sys.exit('%s cannot be written (%s); make room there, and run the same '
           'command again.' % (path, error.strerror))


def write(path, text):
  """Writes a text to a temporary file, which is then renamed to the path."""
  try:
    with open(path + '.part', 'w', newline='', encoding='utf-8') as part:
      part.write(text)
    os.replace(path + '.part', path)
  except OSError as error:
    not_written(path, error)


def write_csv(path, columns, lines):
  """Writes dicts as a CSV file, with the columns as its first line."""
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, lineterminator='\n')
  writer.writeheader()
  writer.writerows(lines)
  write(path, text.getvalue())


def rounded(row):
  """A row for table.csv: means and deviations with three digits."""
  return {name: tables.shown(value, 3) if name.endswith(('_mean', '_sd')) else
          value for name, value in row.items()}


def read(source):
  """Reads the networks of a folder or a networks.csv; exits if it cannot."""
  if os.path.isdir(source):
    networks = read_folder(source)
    if not networks:
      sys.exit('Folder %s holds no seed*/*/eval.json; run ./run_experiments.sh '
               'first, or name a networks.csv.' % source)
    return networks
  if not os.path.exists(source):
    sys.exit('%s does not exist; run ./run_experiments.sh first.' % source)
  try:
    return read_file(source)
  except (OSError, ValueError) as error:
    sys.exit('%s cannot be read (%s); mend that, or take the file from its '
             'backup, or make it again from the folder of the sweep.' % (
                 source, error))


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('source', help='folder of the sweep, or a networks.csv')
  parser.add_argument('--published', default=PUBLISHED, help='CSV of published '
                      'results to add; --published= adds none')
  parser.add_argument('--schedule', help='schedule to print, if there are '
                      "several; writes no file except --readme's")
  parser.add_argument('--readme', help='file whose marked sections to replace')
  parser.add_argument('--differences', action='store_true',
                      help='print the tables of differences, too')
  arguments = parser.parse_args()
  networks = read(arguments.source)
  try:
    published = (read_published(arguments.published) if arguments.published
                 else {})
  except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as error:
    sys.exit('%s cannot be read as published results (%s: %s).' % (
        arguments.published, type(error).__name__, error))
  ours = chosen(networks, arguments.schedule)
  table = tables.rows(ours, published)
  if not table:
    sys.exit('%s holds no network of this table; leave out --schedule.' %
             arguments.source)
  if len(ours) < len(networks):
    print('%d of %d networks are not in this table: their schedule is another, '
          'or other layers than conv1 are narrower.' % (
              len(networks) - len(ours), len(networks)), file=sys.stderr)
  if not arguments.schedule:
    folder = arguments.source
    if os.path.isdir(folder):
      write_csv(os.path.join(folder, 'networks.csv'), COLUMNS, networks)
    else:
      folder = os.path.dirname(os.path.abspath(folder))
    write_csv(os.path.join(folder, 'table.csv'), TABLE, map(rounded, table))
    draw(folder, table, ours)
  if arguments.readme:
    try:
      with open(arguments.readme, encoding='utf-8') as source:
        readme = replace_sections(source.read(), sections(networks, table))
    except (OSError, ValueError) as error:
      sys.exit('%s cannot take the table (%s).' % (arguments.readme, error))
    write(arguments.readme, readme)
  print(tables.full(table))
  if arguments.differences:
    for name, text in tables.differences(ours).items():
      print('\n%s:\n%s' % (name, text))


if __name__ == '__main__':
  main()
