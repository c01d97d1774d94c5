"""The table against figures by hand, decimal and scipy; broken files."""
import contextlib
import csv
import decimal
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types
from unittest import mock

import conftest
import differences
import figures
import matplotlib
import numpy as np
import pytest
import reading
import report
import tables
from thinet import files

RESULTS = os.path.join(conftest.ROOT, 'results')
NETWORKS = os.path.join(RESULTS, 'networks.csv')


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
  """test_files.py tests that files are durable; here there are thousands."""
  monkeypatch.setattr(os, 'fsync', lambda descriptor: None)


def write(folder, **values):
  """A network's folder; run and compress are the JSON beside eval.json.

  What they must have in common is taken from values.
  """
  os.makedirs(folder)
  made = {name: values.pop(name) for name in ('run', 'compress')
          if name in values} or {'run': {}}
  values = dict({'split': 'test', 'weights': 'averaged', 'global_step': 0,
                 'data_digest': 'tested'}, **values)
  for name, making in made.items():
    settings = making.setdefault('settings', {})
    settings.update((key, values[key]) for key in reading.SHARED
                    if key in values)
    settings.setdefault('data_digest', 'trained')
    files.write_json(str(folder / (name + '.json')), making)
  files.write_json(str(folder / 'eval.json'), values)


@pytest.fixture
def sweep(tmp_path):
  folder = tmp_path / 'sweep'
  for seed, top1 in (('seed0', 85.0), ('seed1', 86.0), ('seed2', 84.0)):
    write(folder / seed / 'a', conv1_channels=64, top1=top1, top5=99.0,
          multiply_adds=18470784, seed=int(seed[-1]))
  none = dict(conv1_channels=8, criterion='thinet', reconstruction='none')
  write(folder / 'seed0' / 'b', **none, top1=13.5, top5=60.25, fine_tuned=False,
        multiply_adds=3149184)
  write(folder / 'seed0' / 'c', **none, top1=75.0, top5=98.0, fine_tuned=True)
  write(folder / 'seed1' / 'c', **none, top1=76.0, top5=98.5, fine_tuned=True)
  # Not for the table: training images, raw weights, a file of another name.
  write(folder / 'seed0' / 'd', conv1_channels=8, top1=1.0, top5=1.0,
        split='train_eval')
  write(folder / 'seed0' / 'e', conv1_channels=8, top1=2.0, top5=2.0,
        weights='raw')
  (folder / 'seed0' / 'a' / 'eval_test_raw.json').write_text(
      (folder / 'seed0' / 'b' / 'eval.json').read_text())
  return folder


def process(*arguments):
  return subprocess.run(
      [sys.executable, os.path.join(RESULTS, 'report.py')] +
      [str(argument) for argument in arguments], capture_output=True, text=True)


def run(*arguments):
  """Runs it in this process, which saves the time of an import."""
  result = types.SimpleNamespace(returncode=0)
  with contextlib.redirect_stdout(io.StringIO()) as output, (
      contextlib.redirect_stderr(io.StringIO())) as errors, (
          mock.patch('sys.argv', ['report.py'] + list(map(str, arguments)))):
    try:
      result.returncode = report.main()
    except SystemExit as end:
      print(end, file=errors)
      result.returncode = 1
  result.stdout, result.stderr = output.getvalue(), errors.getvalue()
  return result


@contextlib.contextmanager
def full_pipe():
  """A pipe that takes no more bytes; yields its two ends."""
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  with contextlib.suppress(BlockingIOError):
    while True:
      os.write(writer, bytes(4096))
  os.set_blocking(writer, True)
  yield reader, writer
  os.close(writer)


PRINTED = """\
| conv1 | mode                     |  n |     top-1, % |\
 published |     top-5, % | published |
| ----: | ------------------------ | -: | -----------: |\
 --------: | -----------: | --------: |
|    64 | scratch                  |  3 | 85.00 ± 1.00 |\
     85.41 | 99.00 ± 0.00 |     99.21 |
|     8 | thinet, none             |  1 |        13.50 |\
     16.17 |        60.25 |     74.53 |
|     8 | thinet, none, fine-tuned |  2 |        75.50 |\
           |        98.25 |           |
"""
TABLE = """\
conv1_channels,criterion,reconstruction,fine_tuned,n,\
top1_mean,top1_sd,top5_mean,top5_sd,published_top1,published_top5
64,scratch,,no,3,85.000,1.000,99.000,0.000,85.413,99.209
8,thinet,none,no,1,13.500,,60.250,,16.169,74.525
8,thinet,none,yes,2,75.500,0.707,98.250,0.354,,
"""


def test_table_by_hand(sweep):
  published = sweep / 'published.csv'
  published.write_text('conv1_channels,reconstruction,fine_tuned,top1,top5\n'
                       '64,scratch,,85.413,99.209\n8,none,no,16.169,74.525\n')
  result = process(sweep, '--published=%s' % published)
  assert (result.returncode, result.stderr) == (0, '')
  assert result.stdout == PRINTED
  assert (sweep / 'table.csv').read_text() == TABLE
  # By default the published figures are those of the repository.
  assert ('|     8 | thinet, none, fine-tuned |  2 |        75.50 |     75.55 |'
          in run(sweep).stdout)
  assert '85.41' not in run(sweep, '--published=').stdout


def started(sweep, stdout, **environment):
  return subprocess.Popen(
      [sys.executable, os.path.join(RESULTS, 'report.py'), str(sweep)],
      stdout=stdout, stderr=subprocess.PIPE, env=dict(
          os.environ, PYTHONUNBUFFERED='', **environment))


def test_an_output_that_nobody_reads_or_that_is_full(sweep):
  """The files are there all the same."""
  reader, writer = os.pipe()
  os.close(reader)
  with open('/dev/full', 'w') as full:
    for output, code, words in (
        (writer, -signal.SIGPIPE, ''),
        (full, 1, 'The table cannot be printed (No space left on device); make '
         'room there, and run the same command again.\n')):
      process = started(sweep, output)
      _, errors = process.communicate()
      assert (process.returncode, errors.decode()) == (code, words)
      assert (sweep / 'table.csv').stat().st_size
      os.unlink(sweep / 'table.csv')
  os.close(writer)


def test_ctrl_c_ends_the_report_without_a_traceback(sweep):
  with full_pipe() as (reader, writer):
    process = started(sweep, writer)
    while not (sweep / 'top1_by_multiply_adds.png').exists():
      assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    os.close(reader)
  assert (process.returncode, errors) == (-signal.SIGINT, b'')
  assert not [name for name in os.listdir(sweep) if name.startswith('.')]


def test_terminals_without_the_sign_and_names_that_are_not_utf8(sweep):
  folder = os.fsdecode(os.fsencode(sweep) + b' a[b]?\xff')
  os.rename(sweep, folder)
  os.unlink(os.path.join(folder, 'seed0', 'b', 'eval.json'))
  expected = run(folder).stdout
  assert '± ' in expected
  for encoding, sign in (('ascii', '+-'), ('latin-1', '± '), ('utf-8', '± ')):
    process = started(folder, subprocess.PIPE, LC_ALL='C',
                      PYTHONIOENCODING=encoding)
    output, errors = process.communicate()
    assert process.returncode == 0
    assert output.decode(encoding) == expected.replace('± ', sign)
    assert b'is not evaluated yet' in errors and errors.count(b'\n') == 1


def test_a_folder_that_cannot_be_written_to_still_gives_the_table(sweep):
  (sweep / 'table.csv').mkdir()
  result = run(sweep)
  assert result.returncode == 1 and '85.00 ± 1.00' in result.stdout
  assert result.stderr == (
      '%s cannot be written (Is a directory); make room there, and run the '
      'same command again.\n' % (sweep / 'table.csv'))
  assert not [name for name in os.listdir(sweep) if name.startswith('.')]


def test_a_full_disk_leaves_the_old_files(sweep):
  process(sweep)
  before = {name: (sweep / name).read_bytes() for name in os.listdir(sweep)
            if name.startswith(('networks', 'table', 'top1'))}
  os.unlink(sweep / 'seed1' / 'a' / 'eval.json')
  result = subprocess.run(
      ['bash', '-c', 'ulimit -f 0; exec "$@"', 'bash', sys.executable,
       os.path.join(RESULTS, 'report.py'), str(sweep)], capture_output=True,
      text=True)
  assert result.returncode == 1 and '| scratch                  |  2 |' in (
      result.stdout)
  assert 'networks.csv cannot be written (File too large)' in result.stderr
  assert before == {name: (sweep / name).read_bytes() for name in before}
  assert len(before) == 4 and len(os.listdir(sweep)) == 7


def test_through_a_link_the_report_is_the_same(sweep):
  link = sweep / 'link'
  link.symlink_to(os.path.join(RESULTS, 'report.py'))
  result = subprocess.run([sys.executable, str(link), str(sweep)], cwd='/',
                          capture_output=True, text=True)
  assert (result.returncode, result.stderr) == (0, '')
  assert result.stdout == run(sweep).stdout


def test_the_report_loads_no_tensorflow():
  subprocess.run([sys.executable, '-c', (
      'import sys; import report; sys.exit("tensorflow" in sys.modules)')],
                 cwd=RESULTS, check=True)


def test_networks_csv_by_hand(tmp_path):
  """What run.json and compress.json say beside each eval.json."""
  parent = {'seed': 7, 'schedule': 'fast', 'precision': 'bfloat16',
            'data_digest': 'trained'}
  slim = {'parent': parent, 'parent_digest': 'first', 'seed': 3,
          'criterion': 'l1', 'data_digest': 'trained', 'fine_tuned': False}
  write(tmp_path / 'seed7' / 'a', conv1_channels=64, top1=85.39, top5=99.0,
        seed=7, checkpoint_digest='first', run={
            'settings': parent, 'seconds': 4903.4, 'epochs': 50.0,
            'device': 'a "GPU", 2',
            'git_commit': 'a6afb937438a410ae5341cdc4a781926c93412b7',
            'end': '2026-11-23T05:59:34+00:00'})
  modes = dict(conv1_channels=8, criterion='l1', reconstruction='full', seed=3)
  write(tmp_path / 'seed7' / 'b', top1=13.5, top5=60.25, fine_tuned=False,
        **modes, compress={'settings': slim, 'conv2_channels': 64,
                           'seconds': {'moments': 0.25, 'choice': 1.5},
                           'parameters': 974442, 'git_commit': '1' * 40})
  write(tmp_path / 'seed7' / 'c', top1=75.0, top5=98, fine_tuned=True, **modes,
        run={'settings': {'parent': slim, 'schedule': 'finetune', 'seed': 3,
                          'precision': 'float32'}, 'epochs': 5})
  write(tmp_path / 'seed8' / 'd', conv1_channels=64, top1=85.0, top5=99.5)
  assert run(tmp_path).returncode == 0
  assert (tmp_path / 'networks.csv').read_text().splitlines()[1:] == [
      ',,64,,,,scratch,,no,,85.0,99.5,,,,,,,,,',
      '7,fast,64,,,,scratch,,no,,85.39,99.0,,,4903.4,bfloat16,"a ""GPU"", 2",'
      'a6afb937438a,2026-11-23,50,',
      '7,fast,8,64,,,l1,full,no,,13.5,60.25,,974442,1.75,bfloat16,,'
      '111111111111,,50,',
      '7,fast,8,,,,l1,full,yes,,75.0,98,,,,float32,,,,50,5']


def test_a_folder_and_its_networks_csv_give_the_same(sweep, tmp_path):
  first = run(sweep, '--differences')
  assert first.returncode == 0
  (tmp_path / 'file').mkdir()
  copy = tmp_path / 'file' / 'networks.csv'
  copy.write_bytes((sweep / 'networks.csv').read_bytes())
  second = run(copy, '--differences')
  assert (second.returncode, second.stderr) == (0, '')
  assert second.stdout == first.stdout
  names = ['networks.csv', 'table.csv', 'top1_by_conv1_channels.png',
           'top1_by_multiply_adds.png']
  assert sorted(os.listdir(tmp_path / 'file')) == names
  for name in names:
    assert (tmp_path / 'file' / name).read_bytes() == (
        sweep / name).read_bytes()


@pytest.mark.parametrize('values, three, two', [
    (['85.2449'], '85.245', '85.24'),             # Rounded twice: 85.25.
    (['84.08', '84.09'], '84.085', '84.09'),      # In binary: 84.08.
    (['10', '10.2449', '10.4898'], '10.245', '10.24'),
    (['0.004', '0.0045', '0.0055'], '0.005', '0.00')])
def test_a_mean_is_rounded_once(values, three, two):
  network = dict.fromkeys(reading.COLUMNS, '')
  network.update(conv1_channels='8', criterion='scratch', fine_tuned='no',
                 top5='100')
  row, = tables.rows([reading.network(dict(network, top1=value))
                      for value in values], {})
  assert report.rounded(row)['top1_mean'] == three
  assert tables.spread(row, 'top1').split(' ± ')[0] == two


def test_a_standard_deviation_is_rounded_once():
  network = dict.fromkeys(reading.COLUMNS, '')
  network.update(conv1_channels='8', criterion='scratch', fine_tuned='no',
                 top5='100')
  row, = tables.rows([reading.network(dict(network, top1=value))
                      for value in ('10', '10.2449', '10.4898')], {})
  assert report.rounded(row)['top1_sd'] == '0.245'
  assert tables.spread(row, 'top1') == '10.24 ± 0.24'
  assert tables.shown(decimal.Decimal('-0.004')) == '0.00'


def read_csv(name):
  return list(csv.DictReader(open(os.path.join(RESULTS, name))))


@pytest.mark.parametrize('accuracy', ['top1', 'top5'])
def test_committed_table_in_decimal(accuracy):
  """Every mean and deviation of table.csv, from the lines of networks.csv."""
  groups = {}
  mode = ['conv1_channels', 'criterion', 'reconstruction', 'fine_tuned']
  for line in read_csv('networks.csv'):
    if line['schedule'] == 'published':
      groups.setdefault(tuple(line[name] for name in mode), []).append(
          decimal.Decimal(line[accuracy]))
  found = read_csv('table.csv')
  assert len(found) == len(groups) == 66
  for row in found:
    values = groups[tuple(row[name] for name in mode)]
    mean = sum(values) / len(values)
    assert int(row['n']) == len(values)
    expected = [mean]
    if len(values) > 1:
      expected.append((sum((value - mean) ** 2 for value in values) /
                       (len(values) - 1)).sqrt())
    assert [row[accuracy + '_mean'], row[accuracy + '_sd']][:len(expected)] == [
        str(value.quantize(decimal.Decimal('0.001'), decimal.ROUND_HALF_UP))
        for value in expected]


@pytest.mark.parametrize('folder, readmes, more', [
    ('', ['../README.md', 'README.md'], []),
    ('all_layers', ['README.md'], ['--published='])])
def test_committed_tables_are_those_of_networks_csv(tmp_path, folder, readmes,
                                                    more):
  """The other CSV files, the READMEs' sections, and the figures' names."""
  folder = os.path.join(RESULTS, folder)
  shutil.copy(os.path.join(folder, 'networks.csv'), tmp_path)
  for name in readmes:
    copy = tmp_path / 'README.md'
    text = open(os.path.join(folder, name), encoding='utf-8').read()
    # First something else stands between the markers.
    copy.write_text(re.sub(r'(<!-- ([a-z_ ]+) -->).*?(<!-- /\2 -->)', r'\1\3',
                           text, flags=re.S), encoding='utf-8')
    assert run(tmp_path / 'networks.csv', '--readme=%s' % copy,
               *more).returncode == 0
    if '<!-- widths -->' in text:
      subprocess.run([sys.executable, os.path.join(RESULTS, 'widths.py'),
                      os.path.join(folder, 'widths.json'),
                      '--readme=%s' % copy], check=True)
    assert copy.read_text(encoding='utf-8') == text
  for name in os.listdir(tmp_path):
    if name.endswith('.csv'):
      assert (tmp_path / name).read_text() == open(
          os.path.join(folder, name)).read()
  pictures = {name for name in os.listdir(tmp_path) if name.endswith('.png')}
  assert pictures >= {name for name in os.listdir(folder)
                      if name.startswith('top1_by_')}


def helvetica():
  """Character -> width in thousandths of the font's size."""
  path = os.path.join(matplotlib.get_data_path(), 'fonts', 'pdfcorefonts')
  widths = {}
  for name in ('Helvetica', 'Helvetica-Bold'):
    lines = open(os.path.join(path, name + '.afm'), encoding='latin-1').read()
    widths[name] = {chr(int(code)): int(width) for code, width in re.findall(
        r'^C (\d+) ; WX (\d+) ;', lines, re.M)}
    widths[name]['±'] = widths[name]['+']
  return widths


@pytest.mark.parametrize('name', ['README.md', 'results/README.md',
                                  'results/all_layers/README.md'])
def test_no_cell_of_a_marked_table_wraps(name):
  """GitHub has 830 pixels: 16 to the letter, 13 beside a cell and 1 of line."""
  widths = helvetica()

  def pixels(text, font):
    return 27 + 0.016 * sum(widths[font][letter] for letter in text)

  text = open(os.path.join(conftest.ROOT, name), encoding='utf-8').read()
  sections = re.findall(r'<!-- ([a-z_ ]+) -->\n(.*?)\n<!-- /\1 -->', text, re.S)
  assert sections
  for _, table in sections:
    cells = [[cell.strip() for cell in line.strip('|').split('|')]
             for line in table.splitlines()]
    assert 3 < len(cells) and len(cells[0]) <= 6
    assert 1 + sum(max([pixels(column[0], 'Helvetica-Bold')] +
                       [pixels(cell, 'Helvetica') for cell in column[2:]])
                   for column in zip(*cells)) <= 830


def test_narrow_table_by_hand(sweep):
  networks = reading.read_folder(str(sweep), [])
  table = tables.narrow(tables.rows(networks, {}))
  assert table.splitlines() == [
      '| conv1 |          scratch | full | network | none, fine-tuned | '
      'network, fine-tuned |',
      '| ----: | ---------------: | ---: | ------: | ---------------: | '
      '------------------: |',
      '|    64 | 85.00 ± 1.00 (3) |      |         |                  | '
      '                    |',
      '|     8 |                  |      |         |        75.50 (2) | '
      '                    |']


def check_left_out(sweep, folder, words):
  """The other networks are in the table, and the exit code is 1."""
  with mock.patch('figures.draw', lambda *_: b''):
    result = run(sweep)
  assert result.returncode == 1 and result.stderr.count('\n') == 1
  assert str(sweep / folder / 'eval.json') in result.stderr
  assert words in result.stderr and 'again' in result.stderr
  assert re.search(r'\| scratch +\|  2 \| +84.50 \|', result.stdout)
  assert ',2,84.500,' in (sweep / 'table.csv').read_text()


@pytest.mark.parametrize('name', ['eval.json', 'run.json'])
@pytest.mark.parametrize('content', [
    '', '{"conv1_chan', '[]', '3', '{"split": "test", "settings": 3}', '\0'])
def test_broken_files_are_named_and_left_out(sweep, name, content):
  (sweep / 'seed1' / 'a' / name).write_text(content)
  check_left_out(sweep, 'seed1/a', name + ' cannot be read: ')


@pytest.mark.parametrize('name', ['eval.json', 'run.json'])
@pytest.mark.parametrize('old, new', [('1', '2'), ('\n', ' '), ('}', '} ')])
def test_edited_files_are_named_and_left_out(sweep, name, old, new):
  """Each is the same JSON, or another of the same form."""
  path = sweep / 'seed1' / 'a' / name
  path.write_text(path.read_text().replace(old, new, 1))
  check_left_out(sweep, 'seed1/a', name + ' cannot be read: ')


@pytest.mark.parametrize('name', ['eval.json', 'run.json'])
@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir, lambda path: os.symlink(
    '/dev/zero', path), lambda path: os.symlink('nothing', path)])
def test_what_is_no_file_is_named_at_once(sweep, name, make):
  os.unlink(sweep / 'seed1' / 'a' / name)
  make(sweep / 'seed1' / 'a' / name)
  check_left_out(sweep, 'seed1/a', name + ' cannot be read: ')


def test_files_that_do_not_belong_together_are_left_out(sweep):
  """No run.json; eval.json of another seed; evaluated before the end; made
  from other images than its parent."""
  folder = sweep / 'seed1' / 'a'
  run_json = (folder / 'run.json').read_text()
  os.unlink(folder / 'run.json')
  check_left_out(sweep, 'seed1/a', 'no run.json')
  (folder / 'run.json').write_text((sweep / 'seed2/a/run.json').read_text())
  check_left_out(sweep, 'seed1/a', 'seed = 1, not 2')
  (folder / 'run.json').write_text(run_json)
  assert run(sweep).returncode == 0
  made = files.read_json(str(folder / 'run.json'))
  files.write_json(str(folder / 'run.json'), dict(made, last_step=30))
  check_left_out(sweep, 'seed1/a', 'evaluated at step 0 of 30')
  made['settings']['parent'] = {'data_digest': 'other'}
  files.write_json(str(folder / 'run.json'), made)
  check_left_out(sweep, 'seed1/a', 'other images than its parent')


def test_a_copy_counts_once(sweep):
  """Or networks.csv would have a line twice, and be refused."""
  shutil.copytree(sweep / 'seed1' / 'a', sweep / 'seed1' / 'a_copy')
  result = run(sweep)
  assert result.returncode == 1 and '| scratch                  |  3 |' in (
      result.stdout)
  assert result.stderr == (
      '%s is left out: %s has the same seed and mode; move one of them '
      'away.\n' % (sweep / 'seed1' / 'a_copy', sweep / 'seed1' / 'a'))
  assert run(sweep / 'networks.csv').returncode == 0


def test_a_network_that_was_made_again_counts_once(sweep):
  """Its weights are others, its seed and its mode are not."""
  write(sweep / 'seed1' / 'one', conv1_channels=8, top1=1.0, top5=99.0, seed=1)
  assert run(sweep).returncode == 0   # Of another width.
  write(sweep / 'seed1' / 'two', conv1_channels=8, top1=2.0, top5=99.0, seed=1)
  faults = []
  networks = reading.read_folder(str(sweep), faults)
  assert 'two is left out: ' in str(faults) and len(faults) == 1
  assert [each['top1'] for each in networks if each['top1'] < 3] == [1]


def test_several_precisions_are_said(tmp_path):
  path = tmp_path / 'networks.csv'
  path.write_text(','.join(reading.COLUMNS) + '\n' + GOOD +
                  GOOD.replace('0,fast', '1,fast').replace('32,', '16,'))
  assert run(path).stderr == (
      'Networks of several precisions are in one table: float16, float32.\n')


def test_folders_that_were_moved_aside_do_not_count(sweep):
  table = run(sweep).stdout
  shutil.copytree(sweep / 'seed1' / 'a', sweep / 'seed1' / 'a.old')
  shutil.copytree(sweep / 'seed1', sweep / 'seed1.bak')
  result = run(sweep)
  assert (result.returncode, result.stdout) == (0, table)
  assert result.stderr.count('no network of a sweep has such a name.\n') > 1


def test_networks_without_an_evaluation_are_named(sweep):
  os.unlink(sweep / 'seed1' / 'a' / 'eval.json')
  result = run(sweep)
  assert result.returncode == 0
  assert result.stderr == ('%s is not evaluated yet, so it is not in the '
                           'table.\n' % (sweep / 'seed1' / 'a'))
  assert re.search(r'\| scratch +\|  2 \| +84.50 \|', result.stdout)


@pytest.mark.parametrize('words, values', [
    ('evaluated on different images (SHA-256 tested... and other...)',
     dict(data_digest='other')),
    ('trained on different images (SHA-256 trained... and other...)',
     dict(run={'settings': {'data_digest': 'other'}}))])
def test_networks_of_other_images_are_refused(sweep, words, values):
  write(sweep / 'seed1' / 'z', conv1_channels=8, top1=50.0, top5=90.0, **values)
  result = run(sweep)
  assert (result.returncode, result.stdout) == (1, '')
  assert result.stderr == (
      '%s and %s were %s; give each data set a folder of its own.\n' % (
          sweep / 'seed0' / 'a', sweep / 'seed1' / 'z', words))
  assert not (sweep / 'table.csv').exists()


VALUES = [None, [], {}, [1], {'a': None}, '', 'x', '\ud800', 'a\nb', True, -1,
          0.5, 10**400, float('nan'), float('inf'), 1e300, [[[[]]]]]


@pytest.mark.parametrize('name', ['eval', 'run', 'compress'])
def test_values_of_other_types_are_left_out_or_shown(tmp_path, name):
  """Every key of every file, with a digest that is right."""
  folder = tmp_path / 'seed1' / 'a'
  write(folder, conv1_channels=8, top1=80.0, top5=99.0, multiply_adds=3,
        criterion='l1', reconstruction='full', fine_tuned=False, seed=1,
        **{'run' if name == 'eval' else name: {
            'seconds': 3, 'git_commit': 'a', 'end': 'b', 'device': 'c',
            'settings': {'parent': {
                'seed': 1, 'schedule': 'fast', 'precision': 'float32',
                'data_digest': 'trained'}}}})
  path = str(folder / (name + '.json'))
  good, shown = files.read_json(path), 0
  settings = good.get('settings', {})
  for key in [*good, *settings, *settings.get('parent', {})]:
    for value in VALUES:
      for where in ([], ['settings'], ['settings', 'parent']):
        inner = changed = json.loads(json.dumps(good))
        for step in where:
          inner = inner.get(step, {})
        inner[key] = value
        files.write_json(path, changed)
        try:
          found = reading.read_network(str(folder / 'eval.json'))
        except ValueError as error:
          assert str(folder / 'eval.json') in str(error)
          assert len(str(error).splitlines()) == 1 and len(str(error)) < 500
        else:
          shown += 1
          if found:
            assert tables.full(tables.rows([found], {})).isascii()
            assert report.as_csv(reading.COLUMNS, [found])
            reading.check_data({'a': found, 'b': found}, [])
  assert shown


GOOD = ('0,fast,8,64,384,192,scratch,,no,,81.5,98.5,3149184,974442,1.5,'
        'float32,,,,,\n')


@pytest.mark.parametrize('lines, line, value', [
    (['1' + GOOD[1:40]], 3, 'scratch,,no,,81.5,98'),
    (['1' + GOOD[1:-1]], 3, ',float32,,,,,'),
    (['1' + GOOD[1:-2] + '\n'], 3, ',float32,,,,'),
    (['1' + GOOD[1:-1] + ',more\n'], 3, "'more'"),
    (['\n', '1' + GOOD[1:]], 3, "''"),
    ([GOOD.replace('0,fast', '1,fast').replace('81.5', 'top')], 3, "'top'"),
    ([GOOD.replace('0,fast', '1,fast').replace('81.5', '')], 3, "top1 is ''"),
    ([GOOD.replace('0,fast', '1,fast').replace('81.5', 'nan')], 3, "'nan'"),
    ([GOOD.replace('0,fast', '1,fast').replace('81.5', '-1')], 3, "'-1'"),
    ([GOOD.replace('0,fast', '1,fast').replace('81.5', '99')], 3,
     '99 and 98.5'),
    ([GOOD.replace('0,fast', '1,fast').replace('98.5', '100.1')], 3, '100.1'),
    ([GOOD.replace('0,fast', '1.5,fast')], 3, "seed is '1.5'"),
    ([GOOD.replace('0,fast', '1,fast').replace('974442', '9x')], 3, "'9x'"),
    ([GOOD.replace('0,fast', '1,fast').replace(',8,', ',0,')], 3, "'0'"),
    ([GOOD.replace('0,fast', '1,fast').replace('974442', '0')], 3,
     "parameters is '0'"),
    ([GOOD.replace('0,fast', '1,fast').replace('scratch', 'taylor')], 3,
     "'taylor'"),
    ([GOOD.replace('0,fast', '1,fast').replace(',no,', ',maybe,')], 3,
     "'maybe'"),
    ([GOOD.replace('0,fast', '1,\x07')], 3, r"'\x07'"),
    (['"1' + GOOD[1:]], 3, 'end of data'),
    ([GOOD.replace('81.5', '81.25')], 3, 'seed and mode of line 2'),
    ([GOOD[:-2] + '50,\n'], 3, 'seed and mode of line 2')])   # The usual.
def test_a_broken_networks_csv_is_one_sentence(tmp_path, lines, line, value):
  path = tmp_path / 'networks.csv'
  path.write_text(','.join(reading.COLUMNS) + '\n' + GOOD)
  assert run(path).returncode == 0
  before = {name: (tmp_path / name).read_bytes()
            for name in os.listdir(tmp_path)}
  before['networks.csv'] += ''.join(lines).encode()
  path.write_bytes(before['networks.csv'])
  result = run(path)
  assert (result.returncode, result.stdout) == (1, '')
  assert result.stderr.count('\n') == 1 and 'Traceback' not in result.stderr
  assert '%s cannot be read (line %d: ' % (path, line) in result.stderr
  assert value in result.stderr and 'mend that' in result.stderr
  assert before == {name: (tmp_path / name).read_bytes()
                    for name in os.listdir(tmp_path)}


@pytest.mark.parametrize('content, words', [
    (b'', 'line 1: it does not begin with seed,'),
    (b'seed,schedule,con', 'line 1: it does not begin with seed,'),
    (b'\xff\xfe', 'codec')])
def test_a_file_that_is_no_networks_csv(tmp_path, content, words):
  (tmp_path / 'a.csv').write_bytes(content)
  result = process(tmp_path / 'a.csv')
  assert result.returncode == 1 and result.stderr.count('\n') == 1
  assert str(tmp_path / 'a.csv') in result.stderr and words in result.stderr


@pytest.mark.parametrize('other', [{'weights': 'raw'}, {'split': 'train_eval'}])
def test_a_file_of_other_weights_or_images_is_no_network(tmp_path, other):
  write(tmp_path / 'a', conv1_channels=8, top1=80.0, top5=99.0)
  write(tmp_path / 'b', **dict(other, conv1_channels=8, top1=80.0, top5=99.0))
  found = reading.read_network(str(tmp_path / 'a' / 'eval.json'))
  assert tables.cell(found) == (8, 'scratch', '', 'no')
  assert (found['top1'], found['top5']) == (80, 99)
  assert reading.read_network(str(tmp_path / 'b' / 'eval.json')) is None


@pytest.mark.parametrize('bad', [
    {'top1': 99.5}, {'top5': 100.5}, {'top1': -1.0}, {'criterion': 'best'}])
def test_figures_that_cannot_be_are_refused(tmp_path, bad):
  write(tmp_path / 'a', **dict({'conv1_channels': 8, 'top1': 80.0,
                                'top5': 99.0}, **bad))
  with pytest.raises(ValueError, match='eval.json is left out'):
    reading.read_network(str(tmp_path / 'a' / 'eval.json'))


def test_what_cannot_be_read_is_named_and_left_out(sweep):
  for name in ('seed1', 'seed0/c'):
    shutil.rmtree(sweep / name)
    os.symlink(os.path.basename(name), sweep / name)   # To itself.
  result = run(sweep)
  assert result.returncode == 1
  assert '|    64 | scratch      |  2 |' in result.stdout
  assert sorted(line.split(':')[0] for line in result.stderr.splitlines()) == [
      '%s is left out' % (sweep / name) for name in ('seed0/c', 'seed1')]


def test_few_epochs_are_a_number(tmp_path):
  write(tmp_path / 'seed0' / 'a', conv1_channels=8, top1=80.0, top5=99.0,
        run={'epochs': 1e-7})
  found, = reading.read_folder(str(tmp_path), [])
  assert found['epochs'] == decimal.Decimal('0.0000001')
  path = tmp_path / 'networks.csv'
  path.write_bytes(report.as_csv(reading.COLUMNS, [found]))
  assert reading.read_file(str(path))[0]['epochs'] == found['epochs']


def test_figures_do_not_depend_on_their_readers_settings(sweep):
  """A notebook's backend, which this environment lacks, and no LaTeX."""
  run(sweep)
  before = (sweep / 'top1_by_conv1_channels.png').read_bytes()
  (sweep / 'matplotlibrc').write_text('text.usetex: True\nfont.size: 30\n')
  process = started(sweep, subprocess.PIPE, MPLBACKEND='module://missing',
                    MATPLOTLIBRC=str(sweep / 'matplotlibrc'))
  _, errors = process.communicate()
  assert (process.returncode, errors) == (0, b'')
  assert (sweep / 'top1_by_conv1_channels.png').read_bytes() == before


def test_nothing_to_report(tmp_path):
  (tmp_path / 'a.csv').write_text(','.join(reading.COLUMNS) + '\n')
  for source in (tmp_path, tmp_path / 'none', tmp_path / 'a.csv'):
    result = run(source)
    assert result.returncode == 1 and str(source) in result.stderr
    assert result.stderr.count('\n') == 1


def test_a_table_is_of_one_schedule_and_of_conv1_alone(tmp_path):
  path = tmp_path / 'networks.csv'
  published = GOOD.replace('fast', 'published')
  text = ','.join(reading.COLUMNS) + '\n' + GOOD
  path.write_text(text)
  assert '|     8 | scratch | 1 |' in run(path).stdout.replace('  1', ' 1')
  path.write_text(text + published.replace('81.5', '82.5') +
                  published.replace('64,384', '32,384') +
                  published.replace('384,192', '192,192') +
                  published.replace('384,192', '384,96') +
                  published.replace('no,,', 'no,0.5,') +
                  GOOD.replace('no,,', 'no,0.25,'))
  (tmp_path / 'table.csv').unlink()
  fast = run(path, '--schedule=fast')
  assert '81.50' in fast.stdout and '82.50' not in fast.stdout
  assert '|   0.25 |' in fast.stdout and '|    0.5 |' not in fast.stdout
  assert os.listdir(tmp_path) == ['networks.csv']
  result = run(path)
  assert result.returncode == 0 and '5 of 7 networks' in result.stderr
  first, second = result.stdout.split('\n\n')
  assert '|  1 |    82.50 |' in first and '81.50' not in first
  assert '|    0.5 | 8/64/384/192 |        3.15 M |      974 k |' in second
  assert '|   0.25 |' not in second
  assert ',1,82.500,' in (tmp_path / 'table.csv').read_text()
  result = run(path, '--schedule=none')
  assert result.returncode == 1 and result.stderr == (
      '%s holds no network for this table; name another source, or one of its '
      'schedules with --schedule: fast, published.\n' % path)


@pytest.mark.parametrize('line, words', [
    ('8,none,no,nan,74', "top1 is 'nan'"), ('8,none,no,16,inf', "'inf'"),
    ('8,none,no,16', 'TypeError'), ('many,none,no,16,74', "'many'"),
    ('8,"none,no,16,74' + 'x' * 200000, 'field'), ('8,none,no,\xff,74', '')])
def test_published_figures_that_cannot_be_are_refused(sweep, line, words):
  path = sweep / 'published.csv'
  path.write_bytes(b'conv1_channels,reconstruction,fine_tuned,top1,top5\n' +
                   line.encode('latin-1'))
  result = run(sweep, '--published=%s' % path)
  assert (result.returncode, result.stdout) == (1, '')
  assert '%s cannot be read as published results' % path in result.stderr
  assert words in result.stderr and result.stderr.count('\n') == 1


def test_published_figures_are_complete():
  published = report.read_published(os.path.join(RESULTS, 'published.csv'))
  assert len(published) == 6 + 5 * 4
  assert [str(value) for value in published[8, 'thinet', 'scale', 'yes']] == [
      '72.785', '97.696']


def test_sections_of_a_readme_are_replaced_in_place(sweep):
  readme = sweep / 'README.md'
  text = 'before\n<!-- table -->%s<!-- /table -->\nafter\n'
  readme.write_text(text % '\nold\n')
  for _ in range(2):
    result = run(sweep, '--readme=%s' % readme)
    assert result.returncode == 0
    table = tables.narrow(tables.rows(reading.read_folder(str(sweep), []), {}))
    assert readme.read_text() == text % ('\n%s\n' % table)
  for wrong in ('<!-- /table --> <!-- table -->', '<!-- table -->', 'none',
                '<!-- table --><!-- table --><!-- /table --><!-- /table -->'):
    readme.write_text(wrong)
    result = run(sweep, '--readme=%s' % readme)
    assert result.returncode == 1 and 'no section between' in result.stderr
    assert readme.read_text() == wrong
  readme.write_text('<!-- table -->a<!-- /table --><!-- lost -->b')
  assert '<!-- lost -->' in run(sweep, '--readme=%s' % readme).stderr
  # Nothing stays of networks that are no more; a link's target changes.
  section = '<!-- table fast -->%s<!-- /table fast -->'
  readme.write_text(section % 'old')
  (sweep / 'link').symlink_to(readme)
  assert run(sweep, '--readme=%s' % (sweep / 'link')).returncode == 0
  assert readme.read_text() == section % ('\n%s\n' % tables.narrow([]))


def test_two_sections_each_get_their_own():
  text = 'a<!-- x -->1<!-- /x -->b<!-- y z -->2<!-- /y z -->c<!-- w -->'
  assert report.replace_sections(text, {'y z': 'Y', 'x': 'X', 'v': 'V'}) == (
      'a<!-- x -->\nX\n<!-- /x -->b<!-- y z -->\nY\n<!-- /y z -->c<!-- w -->')


FIRST = {'conv1_channels': 16, 'conv2_channels': 20, 'local3_units': 96,
         'local4_units': 48}
THIRD = dict(FIRST, conv1_channels=17, conv2_channels=23)


@pytest.fixture
def budgets(tmp_path):
  """A folder with a budget from three parents; the third's widths are others.

  One network was compressed by hand, to two shares.
  """
  folder = tmp_path / 'budgets'
  top1 = {0: (85, 70, 80, 79), 1: (86, 71.5, 81.5, 80), 2: (85.5, 71, 80.5, 80)}
  for seed, (parent, slim, tuned, scratch) in top1.items():
    above = folder / ('seed%d' % seed)
    settings = {'seed': seed, 'schedule': 'published',
                'data_digest': 'trained'}
    widths = THIRD if seed == 2 else FIRST
    write(above / 'scratch_64', conv1_channels=64, seed=seed, top1=parent,
          top5=99, multiply_adds=18470784, parameters=1068298,
          run={'settings': dict(settings)})
    costs = dict(multiply_adds=2400000 if seed == 2 else 2100000,
                 parameters=90000 if seed == 2 else 81000)
    mode = dict(criterion='least_squares', reconstruction='network', seed=seed)
    shares = dict(mode, **widths, parent=settings, data_digest='trained',
                  fine_tuned=False, multiply_adds_share=0.25,
                  parameters_share=0.25)
    name = 'least_squares_network_budget0.25'
    write(above / name, **widths, **mode, **costs, fine_tuned=False, top1=slim,
          top5=97, compress={'settings': dict(shares)})
    if seed == 0:
      write(above / 'by_hand', **dict(widths, local3_units=100), **mode,
            fine_tuned=False, top1=69, top5=97, compress={
                'settings': dict(shares, parameters_share=0.5)})
    write(above / (name + '_finetuned'), **widths, **mode, **costs,
          fine_tuned=True, top1=tuned, top5=98, run={'settings': {
              'parent': shares}})
    write(above / 'scratch_budget0.25', **widths, **costs, seed=seed,
          top1=scratch, top5=97.5, run={'settings': dict(settings)})
  return folder


def test_table_of_budgets_by_hand(budgets):
  with mock.patch('figures.draw', lambda *_: b''):
    result = run(budgets, '--differences', '--published=')
  assert result.returncode == 0 and '1 of 13 networks are' in result.stderr
  assert result.stdout.split('\n\n')[1] == """\
| budget | mean widths | multiply-adds | parameters |\
 mode                               |  n |     top-1, % |     top-5, % |
| -----: | ----------: | ------------: | ---------: |\
 ---------------------------------- | -: | -----------: | -----------: |
|   0.25 | 16/21/96/48 |        2.20 M |       84 k |\
 scratch                            |  3 | 79.67 ± 0.58 | 97.50 ± 0.00 |
|   0.25 | 16/21/96/48 |        2.20 M |       84 k |\
 least_squares, network             |  3 | 70.83 ± 0.76 | 97.00 ± 0.00 |
|   0.25 | 16/21/96/48 |        2.20 M |       84 k |\
 least_squares, network, fine-tuned |  3 | 80.67 ± 0.76 | 98.00 ± 0.00 |"""
  assert (budgets / 'budgets.csv').read_text() == """\
budget,criterion,reconstruction,fine_tuned,n,top1_mean,top1_sd,top5_mean,\
top5_sd,multiply_adds_mean,parameters_mean
0.25,scratch,,no,3,79.667,0.577,97.500,0.000,2200000.000,84000.000
0.25,least_squares,network,no,3,70.833,0.764,97.000,0.000,2200000.000,84000.000
0.25,least_squares,network,yes,3,80.667,0.764,98.000,0.000,2200000.000,84000.000
"""
  assert (budgets / 'table.csv').read_text().splitlines()[1:] == [
      '64,scratch,,no,3,85.500,0.500,99.000,0.000,,']
  # Lost 15, 14.5, 14.5 and 5, 4.5, 5; gained 1, 1.5, 0.5; t is 4.303.
  lost, gained = (
      text.splitlines()[3:] for text in result.stdout.split('\n\n')[2:4])
  assert [re.sub(' +', ' ', line) for line in lost] == [
      '| 0.25 | network | 14.67 [13.95, 15.38] (3) | 15.00, 14.50, 14.50 |',
      '| 0.25 | network, fine-tuned | 4.83 [4.12, 5.55] (3) | '
      '5.00, 4.50, 5.00 |']
  assert [re.sub(' +', ' ', line) for line in gained] == [
      '| 0.25 | 1.00 [-0.24, 2.24] (3) |']
  # Without the parents, nothing is said to be lost.
  networks = reading.read_folder(str(budgets), [])
  assert differences.lost([each for each in networks if each['budget'] != ''],
                          'budget').count('\n') == 1
  # The file says the same, and to a README.
  with mock.patch('figures.draw', lambda *_: b''):
    again = run(budgets / 'networks.csv', '--differences', '--published=')
    assert again.stdout == result.stdout
    marks = '<!-- budgets published -->%s<!-- /budgets published -->'
    (budgets / 'README.md').write_text(marks % '')
    assert run(budgets, '--readme=%s' % (budgets / 'README.md')).returncode == 0
  assert (budgets / 'README.md').read_text() == marks % """
| budget | multiply-adds | parameters |          scratch |          network |\
 network, fine-tuned |
| -----: | ------------: | ---------: | ---------------: | ---------------: |\
 ------------------: |
|   0.25 |        2.20 M |       84 k | 79.67 ± 0.58 (3) | 70.83 ± 0.76 (3) |\
    80.67 ± 0.76 (3) |
"""


@pytest.mark.parametrize('case', ['widths', 'budget', 'seed'])
def test_a_training_without_a_compression_of_its_budget_is_left_out(budgets,
                                                                    case):
  scratch = budgets / 'seed0' / 'scratch_budget0.25'
  if case == 'widths':
    settings = files.read_json(str(scratch / 'run.json'))['settings']
    shutil.rmtree(scratch)
    write(scratch, **dict(FIRST, local4_units=47), seed=0, top1=79, top5=97.5,
          run={'settings': dict(settings, local4_units=47)})
  elif case == 'budget':
    scratch = scratch.rename(budgets / 'seed0' / 'scratch_budget0.5')
  else:   # Only those of other parents are there.
    for folder in (budgets / 'seed0').glob('least_squares_*'):
      shutil.rmtree(folder)
  faults = []
  networks = reading.read_folder(str(budgets), faults)
  assert faults == [
      '%s is left out: no compression to its budget beside it has its widths; '
      'run the sweep again, or move it away.' % scratch]
  assert [each['seed'] for each in networks if each['criterion'] == 'scratch'
          and each['conv1_channels'] != 64] == [1, 2]


def test_budgets_have_their_table_without_parents(budgets):
  for path in budgets.glob('seed*/*/eval.json'):
    if reading.read_network(str(path))['conv1_channels'] == 64:
      path.write_bytes(b'')
  result = run(budgets)
  assert result.returncode == 1 and result.stdout.startswith('| budget |')
  assert result.stderr.count('scratch_64/eval.json is left out') == 3
  assert (budgets / 'budgets.csv').exists()


def test_a_fine_tuned_training_has_its_budget(budgets):
  scratch = budgets / 'seed0' / 'scratch_budget0.25'
  settings = files.read_json(str(scratch / 'run.json'))['settings']
  write(budgets / 'seed0' / 'scratch_budget0.25_finetuned', **FIRST, seed=0,
        top1=80, top5=97.5, fine_tuned=True, run={'settings': {
            'parent': settings, 'fine_tuned': True}})
  faults = []
  networks = reading.read_folder(str(budgets), faults)
  assert not faults
  tuned = [each for each in networks if tables.cell(each)[1:] == (
      'scratch', '', 'yes')]
  assert [(each['seed'], each['budget'], each['top1']) for each in tuned] == [
      (0, decimal.Decimal('0.25'), 80)]
  # A fine-tuned parent is compared with what is fine-tuned.
  write(budgets / 'seed0' / 'scratch_64_finetuned', conv1_channels=64, seed=0,
        top1=86, top5=99, fine_tuned=True, run={'settings': {
            'parent': settings, 'fine_tuned': True}})
  assert re.search(r'0.25 \| network and parent, fine-tuned +\| +6.00 \(1\)',
                   run(budgets, '--differences', '--published=').stdout)


def test_a_network_is_rated_at_its_widths(budgets):
  path = str(budgets / 'seed0' / 'scratch_budget0.25' / 'eval.json')
  files.write_json(path, dict(files.read_json(path), local3_units=95))
  with pytest.raises(ValueError, match='about local3_units = 95, not 96'):
    reading.read_network(path)


def row(width, criterion, reconstruction, fine_tuned, top1, n=1, **more):
  return dict(conv1_channels=width, criterion=criterion, top1_mean=top1, n=n,
              reconstruction=reconstruction, fine_tuned=fine_tuned, **more)


def test_figures_show_what_the_table_says(monkeypatch):
  """What matplotlib itself says was drawn."""
  table = [row(64, 'scratch', '', 'no', decimal.Decimal(85), 3,
               top1_sd=decimal.Decimal('0.5')),
           row(8, 'scratch', '', 'no', 80.0, 2, top1_sd=0.7,
               published_top1=decimal.Decimal(81)),
           row(8, 'thinet', 'none', 'no', 13.0),
           row(8, 'thinet', 'none', 'yes', 82.0),
           row(8, 'scratch', '', 'yes', 83.0)]   # In no curve.
  drawn = []
  monkeypatch.setattr(figures.pyplot, 'close', drawn.append)
  picture = figures.draw(table, {64: 30.0, 8: 4.0}, 'ms')
  panels = drawn[0].axes
  for axes, expected in zip(panels, [
      {'scratch': [(4, 80), (30, 85)], 'thinet, none': [(4, 13)]},
      {'scratch': [(4, 80), (30, 85)], 'thinet, none': [(4, 82)]}]):
    assert axes.get_xlabel() == 'ms'
    lines = [container.lines[0] for container in axes.containers]
    found = {text.get_text(): [tuple(point) for point in line.get_xydata()]
             for line in lines for text in axes.texts
             if text.get_color() == line.get_color()}
    assert found == expected
    bars, = axes.containers[0].lines[2]   # Of three runs, not of two.
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [
        [80, 80], [84.5, 85.5]]
    rings = [line for line in axes.lines if line.get_fillstyle() == 'none']
    assert [point.tolist() for line in rings
            for point in line.get_xydata()] == [[4, 81]]
  assert picture[:4] == b'\x89PNG'


def test_the_figure_of_costs_shows_both_tables(monkeypatch):
  """Solid for all layers, dashed for conv1 alone, and a star."""
  def costs(millions, parameters):
    return dict(multiply_adds_mean=decimal.Decimal(millions * 10**6),
                parameters_mean=decimal.Decimal(parameters))

  network = ('least_squares', 'network')
  table = [row(128, 'scratch', '', 'no', 2.0),   # Of no known cost.
           row(64, 'scratch', '', 'no', 85.0, **costs(16, 1000000)),
           row(8, 'scratch', '', 'no', 81.0, 3, top1_sd=decimal.Decimal('0.5'),
               **costs(4, 900000)),
           row(8, *network, 'no', 70.0, **costs(4, 900000)),
           row(8, *network, 'yes', 82.0, **costs(4, 900000)),
           row(8, 'thinet', 'none', 'yes', 60.0, **costs(4, 900000))]
  budgets = [row(None, 'scratch', '', 'no', 80.0, **costs(8, 500000)),
             row(None, *network, 'yes', 84.0, **costs(8, 500000)),
             row(None, *network, 'yes', 83.0, **costs(3, 250000))]
  drawn = []
  monkeypatch.setattr(figures.pyplot, 'close', drawn.append)
  assert figures.draw_costs(table, budgets, report.costs(None)
                            )[:4] == b'\x89PNG'
  assert [axes.get_xlabel() for axes in drawn[0].axes] == [
      'million multiply-adds an image', 'parameters, MB']
  black, blue = (figures.COLOURS[name]
                 for name in ('scratch', 'least_squares, network'))
  for axes, slim, wide, half, quarter in zip(drawn[0].axes, (4, 3.6), (16, 4),
                                             (8, 2), (3, 1)):
    lines = [container.lines[0] for container in axes.containers]
    assert [(line.get_color(), line.get_linestyle(),
             [tuple(point) for point in line.get_xydata().round(9)])
            for line in lines] == [
                (black, '--', [(slim, 81), (wide, 85)]),
                (blue, '--', [(slim, 82)]),
                (black, '-', [(half, 80)]),
                (blue, '-', [(quarter, 83), (half, 84)])]
    bars, = axes.containers[0].lines[2]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [
        [80.5, 81.5], [85, 85]]
    star, = (line for line in axes.lines if line.get_marker() == '*')
    assert star.get_xydata().tolist() == [[wide, 85]]
    assert {text.get_text(): tuple(np.round(text.xy, 9))
            for text in axes.texts} == {
        'parent': (wide, 85), 'least_squares, network': (quarter, 83),
        'scratch': min((slim, 81), (half, 80))}
    low, high = axes.get_xlim()   # All text is beside what is drawn.
    drawn[0].canvas.draw()
    for text in axes.texts:
      ends = axes.transData.inverted().transform(text.get_window_extent())
      assert low < ends[0, 0] and ends[1, 0] < high
      assert ends[1, 0] < quarter or ends[0, 0] > wide


@pytest.mark.parametrize('top1', [20.0, 80.0])
def test_labels_of_equal_curves_do_not_touch(monkeypatch, top1):
  """They stay inside the axes, at the bottom and at the top."""
  table = [row(8, name, 'full', 'no', top1) for name in 'abcdef']
  table += [row(8, 'g', 'full', 'no', 100.0 - top1)]
  drawn = []
  monkeypatch.setattr(figures.pyplot, 'close', drawn.append)
  figures.draw(table, {8: 4.0}, 'ms')
  axes = drawn[0].axes[0]
  low, high = axes.get_ylim()
  heights = sorted(text.xyann[1] for text in axes.texts)
  assert np.diff(heights).min() > 0.05 * (high - low)
  assert low <= heights[0] and heights[-1] <= high


def test_what_is_drawn_of_the_committed_networks(tmp_path, monkeypatch):
  """Both figures: the costs of each width, and the means of table.csv."""
  path = tmp_path / 'networks.csv'
  path.write_bytes(open(NETWORKS, 'rb').read())
  drawn = {}
  monkeypatch.setattr(figures, 'draw', lambda table, cost, name: drawn.update(
      {name: (table, cost)}) or name.encode())
  assert run(path).returncode == 0
  widths = (64, 48, 32, 24, 16, 8)
  assert {name: cost for name, (_, cost) in drawn.items()} == {
      'channels of conv1': dict(zip(widths, widths)),
      'million multiply-adds an image': dict(zip(widths, (
          18.470784, 14.093184, 9.715584, 7.526784, 5.337984, 3.149184)))}
  for name, title in (('conv1_channels', 'channels of conv1'),
                      ('multiply_adds', 'million multiply-adds an image')):
    assert (tmp_path / ('top1_by_%s.png' % name)).read_text() == title
  for table, _ in drawn.values():
    assert [report.rounded(each)['top1_mean'] for each in table] == [
        each['top1_mean'] for each in read_csv('table.csv')]


def test_the_figure_of_measured_costs(monkeypatch, tmp_path):
  """A width by its name, a budget by its network's; others are left out."""
  path = tmp_path / 'latency.json'
  path.write_text(json.dumps({
      '64': {'widths': [64], 'latency_ms_batch128': 16, 'latency_ms_batch1': 1,
             'file_bytes': 4000000},
      'least_squares_network_budget0.5': {
          'widths': [34], 'latency_ms_batch128': 8, 'latency_ms_batch1': 0.5,
          'file_bytes': 2000000}, 'machine': 'any'}))
  table = [row(64, 'scratch', '', 'no', 85.0), row(8, 'scratch', '', 'no', 81)]
  network = ('least_squares', 'network')
  budgets = [dict(row(None, *network, 'yes', 84.0), budget='0.5'),
             dict(row(None, *network, 'yes', 83.0), budget='0.25')]
  drawn = []
  monkeypatch.setattr(figures.pyplot, 'close', drawn.append)
  figures.draw_costs(table, budgets, report.costs(report.read_latencies(path)))
  found = {axes.get_xlabel(): sorted(
      tuple(map(float, point)) for line in axes.containers
      for point in line.lines[0].get_xydata()) for axes in drawn[0].axes}
  assert found == {'ms for 128 images': [(8, 84), (16, 85)],
                   'ms for one image': [(0.5, 84), (1, 85)],
                   'exported file, MB': [(2, 84), (4, 85)]}
  assert [[text.get_text() for text in axes.get_xticklabels()]
          for axes in drawn[0].axes] == [
              ['10', '12', '14'], ['0.625', '0.75', '0.875'],
              ['2.5', '3', '3.5']]


@pytest.mark.parametrize('text', [
    '', '[1]', '[' * 100000, '{"64": {}}', '{"64": 5}', *(
        '{"least_squares_network_budget0.5": {"latency_ms_batch1": 1, '
        '"latency_ms_batch128": 2, "file_bytes": %s}}' % value
        for value in ('"3"', 'NaN', 'Infinity', '0'))])
def test_latencies_that_cannot_be_read(tmp_path, text):
  path = tmp_path / 'latency.json'
  path.write_text(text)
  with pytest.raises(SystemExit) as end:
    report.read_latencies(path)
  assert str(end.value).startswith('%s cannot be read as latencies' % path)


def test_ways_to_choose_widths_are_compared_parent_by_parent(tmp_path):
  """By hand: differences 1, 2, 3 have sd 1, so half is 4.303 / 3^0.5."""
  def figures_of(top1):
    return {'top1': top1, 'top1_finetuned': 85, 'widths': [1, 1, 1, 1]}

  path, readme = tmp_path / 'widths.json', tmp_path / 'README.md'
  path.write_text(''.join(json.dumps({
      '0.5': {'losses': figures_of(80.25), 'uniform': figures_of(80.25 - above),
              'global_l1': figures_of(79)},
      'equal': {'conv1': figures_of(70 + above), 'half': figures_of(70.0)},
      'seed': above, 'date': '2026-11-29'}) + '\n' for above in (1, 2, 3)))
  readme.write_text('before\n<!-- widths -->old<!-- /widths -->\n')

  def widths(*arguments):
    return subprocess.run(
        [sys.executable, os.path.join(RESULTS, 'widths.py'),
         *map(str, arguments)],
        capture_output=True, text=True, check=False)

  result = widths(path, '--readme=%s' % readme)
  assert (result.returncode, result.stderr) == (0, '')
  same = '0.00 [0.00, 0.00] (3)'
  assert [[each.strip() for each in line.split('|')[1:-1]]
          for line in result.stdout.splitlines() if '--' not in line] == [
      ['budget', 'above', 'network', 'network, fine-tuned'],
      ['0.5', 'the same share of every width', '2.00 [-0.48, 4.48] (3)', same],
      ['0.5', 'one ranking of all channels by L1', '1.25 [1.25, 1.25] (3)',
       same],
      ['equal', 'conv1 alone', '-2.00 [-4.48, 0.48] (3)', same]]
  assert readme.read_text() == (
      'before\n<!-- widths -->\n%s<!-- /widths -->\n' % result.stdout)
  lines = path.read_text().splitlines()
  for text, words in (
      ('{', 'JSONDecodeError'), ('', 'ValueError: its lines are not of the '),
      ('{"seed": 0}', 'ValueError: its lines are not of the same'), ('[1]', ''),
      ('{"seed": 0, "0.5": {"losses": {}}}', "KeyError: 'top1'"),
      (lines[0].replace(': 79,', ': NaN,'), "ValueError: top1 is 'nan'"),
      (lines[0].replace(': 79,', ': true,'), "ValueError: top1 is 'True'"),
      (lines[0].replace(': 79,', ': 1e%s,' % ('9' * 20)), 'InvalidOperation'),
      ('\n'.join([lines[0], lines[1].replace('0.5', '0.4')]), 'its lines'),
      ('\n'.join(lines + lines[:1]), 'ValueError: a seed is there twice')):
    path.write_text(text)
    result = widths(path)
    assert result.returncode == 1 and not result.stdout
    assert '%s cannot be read (' % path in result.stderr
    assert words in result.stderr
    assert result.stderr.count('\n') == 1
