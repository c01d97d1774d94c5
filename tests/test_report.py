"""results/report.py: its tables by hand, the files it writes, what stops it."""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from unittest import mock

import differences
import made_up
import pytest
import reading
import report
import tables
from made_up import GOOD, RESULTS, process, run, started


@pytest.fixture
def sweep(tmp_path):
  return made_up.sweep(tmp_path / 'sweep')


@pytest.fixture
def budgets(tmp_path):
  return made_up.budgets(tmp_path / 'budgets')


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
    copy.write_text(re.sub(r'(<!-- ([a-z_ -]+) -->).*?(<!-- /\2 -->)', r'\1\3',
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


def test_several_precisions_are_said(tmp_path):
  path = tmp_path / 'networks.csv'
  path.write_text(','.join(reading.COLUMNS) + '\n' + GOOD +
                  GOOD.replace('0,fast', '1,fast').replace('32,', '16,'))
  assert run(path).stderr == (
      'Networks of several precisions are in one table: float16, float32.\n')


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
  section = '<!-- budgets -->%s<!-- /budgets -->'
  readme.write_text(section % 'old')
  (sweep / 'link').symlink_to(readme)
  assert run(sweep, '--readme=%s' % (sweep / 'link')).returncode == 0
  assert readme.read_text() == section % (
      '\n%s\n' % tables.narrow_budgets([]))


def test_two_sections_each_get_their_own():
  text = 'a<!-- x -->1<!-- /x -->b<!-- y z -->2<!-- /y z -->c<!-- w -->'
  assert report.replace_sections(text, {'y z': 'Y', 'x': 'X', 'v': 'V'}) == (
      'a<!-- x -->\nX\n<!-- /x -->b<!-- y z -->\nY\n<!-- /y z -->c<!-- w -->')


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
    marks = '<!-- budgets -->%s<!-- /budgets -->'
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


def test_budgets_have_their_table_without_parents(budgets):
  for path in budgets.glob('seed*/*/eval.json'):
    if reading.read_network(str(path))['conv1_channels'] == 64:
      path.write_bytes(b'')
  result = run(budgets)
  assert result.returncode == 1 and result.stdout.startswith('| budget |')
  assert result.stderr.count('scratch_64/eval.json is left out') == 3
  assert (budgets / 'budgets.csv').exists()


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
