"""What results/reading.py takes from folders and files, and what it refuses."""
import decimal
import json
import os
import re
import shutil
from unittest import mock

import made_up
import pytest
import reading
import report
import tables
from made_up import FIRST, GOOD, process, run, write
from thinet import files


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
  """test_files.py tests that files are durable; here there are thousands."""
  monkeypatch.setattr(os, 'fsync', lambda descriptor: None)


@pytest.fixture
def sweep(tmp_path):
  return made_up.sweep(tmp_path / 'sweep')


@pytest.fixture
def budgets(tmp_path):
  return made_up.budgets(tmp_path / 'budgets')


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
