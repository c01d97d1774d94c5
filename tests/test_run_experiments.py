"""The sweep as one command: interrupted anywhere, it ends with its table."""
import csv
import glob
import os
import shutil
import signal
import subprocess
import sys

import conftest


def sweep(data_dir, out, **settings):
  return subprocess.Popen(
      [os.path.join(conftest.ROOT, 'run_experiments.sh')],
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
      start_new_session=True,
      env=dict(os.environ, PYTHON=sys.executable, PYTHONUNBUFFERED='1',
               DATA_DIR=data_dir, OUT=str(out), WIDTHS='64 8', EPOCHS='5',
               FINETUNE_EPOCHS='2', **settings))


def wait_for(process, words):
  lines = []
  for line in process.stdout:
    lines.append(line)
    if words in line:
      return
  raise AssertionError(''.join(lines))


def test_interrupted_by_every_signal_then_complete(tmp_path, data_dir):
  """SIGTERM in a training, kill -9 to all processes in a compression, SIGINT in
  fine-tuning, kill -9 in the report."""
  out = tmp_path / 'a b;$(touch x)'
  shutil.copytree(data_dir, tmp_path / 'd b;$(touch x)')
  data_dir = str(tmp_path / 'd b;$(touch x)')
  for number, words, code in [
      (signal.SIGTERM, 'step 0, loss', 143),
      (signal.SIGKILL, '+ %s thinet_compress.py' % sys.executable, -9),
      (signal.SIGINT, '+ %s thinet_finetune.py' % sys.executable, 130),
      (signal.SIGKILL, '+ %s results/report.py' % sys.executable, -9)]:
    process = sweep(data_dir, out)
    wait_for(process, words)
    if number == signal.SIGKILL:
      os.killpg(process.pid, number)
    else:
      process.send_signal(number)
    process.communicate()   # Its children, too, have ended by then.
    assert process.returncode == code
    assert 'report' in words or not os.path.exists(out / 'table.csv')
  process = sweep(data_dir, out)
  output, _ = process.communicate()
  assert process.returncode == 0, output
  rows = list(csv.DictReader(open(out / 'table.csv')))
  assert [(row['conv1_channels'], row['criterion'], row['reconstruction'],
           row['fine_tuned'], row['n']) for row in rows] == [
               ('64', 'scratch', '', 'no', '1'),
               ('8', 'scratch', '', 'no', '1'),
               ('8', 'thinet', 'none', 'no', '1'),
               ('8', 'thinet', 'none', 'yes', '1'),
               ('8', 'thinet', 'scale', 'no', '1'),
               ('8', 'thinet', 'scale', 'yes', '1')]
  assert '| 64 | ' in output and not glob.glob(str(tmp_path / 'x'))
  # Nothing is left to do, so only the report runs.
  output, _ = sweep(data_dir, out).communicate()
  assert [line.split()[2] for line in output.splitlines()
          if line.startswith('+ ')] == ['results/report.py']


def test_usage():
  result = subprocess.run(
      [os.path.join(conftest.ROOT, 'run_experiments.sh'), 'dmeo'],
      capture_output=True, text=True)
  assert result.returncode == 2 and result.stderr.startswith('usage: ')
