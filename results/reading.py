"""Reads the networks of a sweep: from its folder, or from a networks.csv.

A network is a dict with COLUMNS, its numbers as int or Decimal; '' is what is
not known.
"""
import csv
import decimal
import io
import os
import re
import sys

import cells
import tables

from thinet import files

COLUMNS = ['seed', 'schedule', 'conv1_channels', 'conv2_channels',
           'local3_units', 'local4_units', 'criterion', 'reconstruction',
           'fine_tuned', 'budget', 'top1', 'top5', 'multiply_adds',
           'parameters', 'seconds', 'precision', 'device', 'commit', 'date',
           'epochs', 'finetune_epochs']
WHOLE = ['seed', 'conv1_channels', 'conv2_channels', 'local3_units',
         'local4_units', 'multiply_adds', 'parameters']
NUMBERS = ['budget', 'top1', 'top5', 'seconds', 'epochs', 'finetune_epochs']
NEEDED = ['conv1_channels', 'top1', 'top5']
WORDS = {'criterion': tables.CRITERIA, 'reconstruction': tables.RECONSTRUCTIONS,
         'fine_tuned': ['no', 'yes']}
# Folders of networks; not `scratch_8.old` or `seed0.bak/scratch_8`.
NETWORK = r'seed\d+/\w+?(_budget0\.\d+(_finetuned)?)?'
# What eval.json and the settings in run.json or compress.json both say.
SHARED = ['seed', 'criterion', 'reconstruction', 'fine_tuned', *tables.WIDTHS]


def plain(value):
  """A value as text; never 1E-7."""
  return (format(value, 'f') if isinstance(value, decimal.Decimal) else
          str(value))


def number(name, text):
  """Converts a column's text to int or Decimal; raises ValueError."""
  pattern = '[0-9]{1,15}' if name in WHOLE else '[0-9]{1,12}([.][0-9]{1,20})?'
  if not re.fullmatch(pattern, text):
    raise ValueError('%s is %.60a, not a %s' % (
        name, text, 'whole number' if name in WHOLE else 'number'))
  return (int if name in WHOLE else decimal.Decimal)(text)


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
    if values[name] != '' or name in NEEDED:
      result[name] = number(name, values[name])
  for name in set(COLUMNS) - set(WHOLE + NUMBERS):
    if values[name] not in WORDS.get(name, [values[name]]):
      raise ValueError('%s is %.60a, not %s' % (
          name, values[name], ' or '.join(filter(None, WORDS[name]))))
    if not values[name].isprintable():
      raise ValueError('%s is %.60a, not plain text' % (name, values[name]))
  if not result['top1'] <= result['top5'] <= 100:
    raise ValueError('top1 and top5 are %s and %s, not percentages' % (
        values['top1'], values['top5']))
  for name in set(WHOLE) - {'seed'}:
    if result[name] == 0:
      raise ValueError("%s is '%s', not 1 or more" % (name, values[name]))
  return result


def read_json(path):
  """Reads a JSON file of the programs; its fractions become Decimal.

  Raises:
    ValueError: it cannot be read, or was cut or edited; the text names it.
  """
  try:
    return files.read_json(path, parse_float=decimal.Decimal)
  except (OSError, ValueError, ArithmeticError, RecursionError) as error:
    raise ValueError('%s cannot be read: %s' % (
        os.path.basename(path), getattr(error, 'strerror', None) or error))


def read_making(folder):
  """Reads how a network was made, from its run.json or compress.json."""
  for name in ('run.json', 'compress.json'):
    if os.path.lexists(os.path.join(folder, name)):
      return read_json(os.path.join(folder, name))
  raise ValueError('it has no run.json and no compress.json')


def check_same(result, made):
  """Raises ValueError unless eval.json rates the network that was made."""
  settings = made['settings']
  for name in SHARED:
    usual = cells.OTHERS.get(name)
    if result.get(name, usual) != settings.get(name, usual):
      raise ValueError('eval.json is about %s = %.60a, not %.60a' % (
          name, result.get(name, usual), settings.get(name, usual)))
  # A compression makes no step.
  if result['global_step'] != made.get('last_step', 0):
    raise ValueError('it was evaluated at step %.60a of %.60a' % (
        result['global_step'], made.get('last_step', 0)))


def budget_of(line):
  """The share of both costs that a network was compressed to, or ''.

  Args:
    line: its settings, its parent's, and so on up to the training from scratch.
  """
  slim = [each for each in line if each.get('fine_tuned') is False]
  shares = [each.get(name, '') for each in slim
            for name in ('multiply_adds_share', 'parameters_share')]
  # Twice compressed, it has more than one share.
  return shares[0] if len(shares) == 2 and shares[0] == shares[1] else ''


def described(result, made):
  """A network by its eval.json and its run.json or compress.json.

  Returns:
    As read_network, which says what is raised, too.
  """
  # Its settings, its parent's, and so on up to the training from scratch.
  line = [made['settings']]
  while 'parent' in line[-1]:
    line.append(line[-1]['parent'])
  for each in line:
    if each['data_digest'] != line[-1]['data_digest']:
      raise ValueError('it was made from other images than its parent')
  seconds = made.get('seconds', '')
  epochs = plain(made.get('epochs', '')).removesuffix('.0')   # Whole or not.
  slim = [each for each in line if 'fine_tuned' in each]
  root = (slim[-1].get('parent_digest') if slim else
          result.get('checkpoint_digest'))
  tuned = bool(result.get('fine_tuned'))
  values = {name: result.get(name, made.get(name, '')) for name in COLUMNS}
  values.update(
      seed=line[-1].get('seed', ''), schedule=line[-1].get('schedule', ''),
      criterion=result.get('criterion', 'scratch'), budget=budget_of(line),
      fine_tuned='yes' if tuned else 'no',
      seconds=sum(seconds.values()) if isinstance(seconds, dict) else seconds,
      precision=next((settings['precision'] for settings in line
                      if 'precision' in settings), ''),
      commit=made.get('git_commit', '')[:12], date=made.get('end', '')[:10],
      epochs='' if tuned else epochs, finetune_epochs=epochs if tuned else '')
  return dict(
      network({name: plain(value) for name, value in values.items()}),
      data=(str(result['data_digest']), str(line[-1]['data_digest'])),
      root=str(root or ''))


def read_network(path):
  """Reads a network's eval.json and the run.json or compress.json beside it.

  Args:
    path: path of the eval.json.

  Returns:
    As network(), and 'data': the digests of the test and the training images;
    'root': the digest of the training from scratch. None if eval.json is about
    other images or weights than the table's.

  Raises:
    ValueError: a file is damaged or lacks a key, or they do not fit each other;
      the text names the path.
  """
  try:
    result = read_json(path)
    if (result['split'], result['weights']) != ('test', 'averaged'):
      return None
    made = read_making(os.path.dirname(path))
    check_same(result, made)
    return described(result, made)
  except (ValueError, LookupError, TypeError, AttributeError,
          ArithmeticError) as error:
    raise ValueError(
        '%s is left out (%s%s); run the sweep again, or the commands that made '
        'and evaluated it.' % (path, '' if type(error) is ValueError else
                               type(error).__name__ + ': ', error))


def check_data(networks, faults):
  """Exits if networks were trained or evaluated on different images.

  Args:
    networks: folder -> network, as from read_network.
    faults: list of sentences, said before that.
  """
  seen = {}
  for folder, each in networks.items():
    seen.setdefault(each['data'], folder)
  if len(seen) > 1:
    (data, one), (other_data, other), *_ = seen.items()
    training = data[0] == other_data[0]
    sys.exit('\n'.join([
        *map(str, faults),
        '%s and %s were %s on different images (SHA-256 %.12s... and '
        '%.12s...); give each data set a folder of its own.' % (
            one, other, 'trained' if training else 'evaluated',
            data[training], other_data[training])]))


def widths_of(network_):
  """The widths of a network's layers; those it does not say are the usual."""
  return [network_[name] or cells.OTHERS[name] for name in tables.WIDTHS]


def find_epochs(networks):
  """Gives the networks the epochs of the training that they come from."""
  epochs = {each['root']: each['epochs'] for each in networks.values()
            if each['root'] and each['epochs'] != ''}
  for each in networks.values():
    each['epochs'] = epochs.get(each['root'], each['epochs'])


def same(network_):
  """What no two networks of a table share; None if the seed is unknown.

  Epochs that are unknown are the usual.
  """
  if network_['seed'] == '':
    return None
  epochs, tuned = network_['epochs'], network_['finetune_epochs']
  if epochs == '':
    epochs = tables.EPOCHS.get(network_['schedule'])
  if tuned == '' and network_['fine_tuned'] == 'yes':
    tuned = tables.FINETUNE_EPOCHS
  return (*widths_of(network_), epochs, tuned, *(network_[name] for name in (
      'seed', 'schedule', 'criterion', 'reconstruction', 'fine_tuned',
      'budget')))


def leave_out_second(networks, faults):
  """Removes networks of which there is another of the same seed and mode.

  Args:
    networks: folder -> network.
    faults: list, to which a sentence is added for each of these.
  """
  seen = {}
  for folder, each in list(networks.items()):
    first = seen.setdefault(same(each), folder)
    if same(each) and first != folder:
      del networks[folder]
      faults.append('%s is left out: %s has the same seed and mode; move one '
                    'of them away.' % (folder, first))


def find_budgets(networks, faults):
  """Gives trainings from scratch the budgets whose widths they have.

  Args:
    networks: folder -> network. One that is named after a budget but has not
      the widths of a compression beside it is removed.
    faults: list, to which a sentence is added for each of these.
  """
  for folder, each in list(networks.items()):
    above, name = os.path.split(folder)
    match = re.fullmatch(r'scratch_budget(0\.\d+)(?:_finetuned)?', name)
    if match:
      budget = decimal.Decimal(match[1])
      if any(os.path.dirname(other) == above and slim['budget'] == budget and
             widths_of(slim) == widths_of(each)
             for other, slim in networks.items()):
        each['budget'] = budget
      else:
        del networks[folder]
        faults.append('%s is left out: no compression to its budget beside it '
                      'has its widths; run the sweep again, or move it away.' %
                      folder)


def entries(folder, faults):
  """Names in a folder, sorted; none if it is no folder, or cannot be read.

  Args:
    folder: its path.
    faults: list, to which a sentence is added if it cannot be read.
  """
  try:
    return sorted(os.listdir(folder))
  except (FileNotFoundError, NotADirectoryError):
    return []
  except OSError as error:
    faults.append('%s is left out: it cannot be read (%s); mend its '
                  'permissions, or move it away.' % (folder, error.strerror))
    return []


def read_folder(folder, faults):
  """Reads the networks of a sweep's folder.

  Args:
    folder: its path.
    faults: list, to which a sentence is added for each network that is left
      out.

  Returns:
    List of networks. Exits if they are of different data.
  """
  networks = {}
  for each in [os.path.join(folder, seed, name)
               for seed in entries(folder, faults) if seed.startswith('seed')
               for name in entries(os.path.join(folder, seed), faults)]:
    try:
      names = entries(each, faults)
      if not re.fullmatch(NETWORK, os.path.relpath(each, folder)):
        if 'eval.json' in names:
          print('%s is not in the table: no network of a sweep has such a name.'
                % each, file=sys.stderr)
      elif 'eval.json' in names:
        found = read_network(os.path.join(each, 'eval.json'))
        if found:
          networks[each] = found
      elif {'run.json', 'compress.json'} & set(names):
        print('%s is not evaluated yet, so it is not in the table.' % each,
              file=sys.stderr)
    except ValueError as error:
      faults.append(error)
  check_data(networks, faults)
  find_budgets(networks, faults)
  find_epochs(networks)
  leave_out_second(networks, faults)
  return sorted(networks.values(), key=lambda each: (
      each['seed'] or 0, tables.order(tables.cell(each))))


def read_text(path):
  """The text of a regular file; raises OSError or ValueError."""
  return files.read_bytes(path).decode()


def read_file(path):
  """Reads the networks of a networks.csv.

  Raises:
    ValueError: it cannot be read; the text names line and value.
  """
  text = read_text(path)
  lines = csv.reader(io.StringIO(text, newline=''), strict=True)
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
      first = seen.setdefault(same(networks[-1]), lines.line_num)
      if same(networks[-1]) and first != lines.line_num:
        raise ValueError("it has the seed and mode of line %d, '%s'" % (
            first, ','.join(values)))
  except (ValueError, csv.Error) as error:
    raise ValueError('line %d: %s' % (max(lines.line_num, 1), error))
  return networks
