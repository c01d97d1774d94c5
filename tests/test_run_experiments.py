"""The sweep as one command: interrupted anywhere, it ends with its table."""
import csv
import glob
import os
import shutil
import signal
import subprocess
import sys

import cifar10_input
import conftest
import pytest


def sweep(data_dir, out, **settings):
  return subprocess.Popen(
      [os.path.join(conftest.ROOT, 'run_experiments.sh')],
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
      start_new_session=True,
      env={**os.environ, 'PYTHON': sys.executable, 'PYTHONUNBUFFERED': '1',
           'DATA_DIR': data_dir, 'OUT': str(out), 'WIDTHS': '64 8',
           'EPOCHS': '5', 'FINETUNE_EPOCHS': '2', 'CONTROLS': '',
           'MODES': 'thinet_none thinet_scale', **settings})


def wait_for(process, words):
  lines = []
  for line in process.stdout:
    lines.append(line)
    if words in line:
      return
  raise AssertionError(''.join(lines))


def test_interrupted_by_every_signal_then_complete(tmp_path, data_dir):
  """Two cells run at a time. SIGTERM comes while both train, kill -9 to all
  processes in a compression, SIGINT in fine-tuning, kill -9 in the report. Then
  the table is that of an undisturbed serial sweep, though both trainings were
  evaluated by hand when they had hardly begun."""
  out = tmp_path / 'a b;$(touch x)'
  shutil.copytree(data_dir, tmp_path / 'd b;$(touch x)')
  data_dir = str(tmp_path / 'd b;$(touch x)')
  for number, words, code in [
      (signal.SIGTERM, 'step 0, loss', 143),
      (signal.SIGKILL, '+ %s thinet_compress.py' % sys.executable, -9),
      (signal.SIGINT, '+ %s thinet_finetune.py' % sys.executable, 130),
      (signal.SIGKILL, '+ %s results/report.py' % sys.executable, -9)]:
    process = sweep(data_dir, out, JOBS='2')
    for _ in range(2 if number == signal.SIGTERM else 1):
      wait_for(process, words)
    if number == signal.SIGKILL:
      os.killpg(process.pid, number)
    else:
      process.send_signal(number)
    process.communicate()   # Its children, too, have ended by then.
    assert process.returncode == code
    assert 'report' in words or not os.path.exists(out / 'table.csv')
    if number == signal.SIGTERM:
      for network in ('scratch_64', 'scratch_8'):
        assert conftest.run(
            'cifar10_eval.py', '--data_dir=' + data_dir,
            '--checkpoint_dir=%s' % (out / 'seed0' / network))[0] == 0
  process = sweep(data_dir, out, JOBS='2')
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
  assert ' 64 | scratch ' in output and not glob.glob(str(tmp_path / 'x'))
  undisturbed, _ = sweep(data_dir, tmp_path / 'serial').communicate()
  assert (tmp_path / 'serial' / 'table.csv').read_text() == (
      out / 'table.csv').read_text(), undisturbed
  # Nothing is left to do, so only the report runs.
  output, _ = sweep(data_dir, out).communicate()
  assert [line.split()[2] for line in output.splitlines()
          if line.startswith('+ ')] == ['results/report.py']
  # With other settings the script itself says what differs in the folder.
  process = sweep(data_dir, out, PRECISION='bfloat16')
  output, _ = process.communicate()
  assert process.returncode == 1
  assert output.splitlines()[-1] == (
      'cifar10_train.py: Folder %s was made with precision = float32, not '
      'bfloat16; name another folder, or use the same value.' % (
          out / 'seed0' / 'scratch_64'))


@pytest.fixture
def recorder(tmp_path):
  """A stand-in for Python that records how it was called and on which GPU, and
  leaves eval.json where an evaluation would."""
  path = tmp_path / 'python'
  path.write_text("""#!/usr/bin/env bash
echo "${CUDA_VISIBLE_DEVICES:-none} $*" >> "$CALLS"
sleep 0.2
[[ $1 != cifar10_eval.py ]] || {
  mkdir -p "${3#*=}"; touch "${3#*=}/eval.json"; }
[[ "$*" != *"${FAIL:-nothing}"* ]]
""")
  path.chmod(0o755)
  return lambda **settings: dict(settings, PYTHON=str(path),
                                 CALLS=str(tmp_path / 'calls'))


def test_each_gpu_runs_one_cell_at_a_time(tmp_path, recorder):
  process = sweep('data', tmp_path / 'out', **recorder(
      GPUS='5 7', SEEDS='0 1', WIDTHS='64 8', PRECISION='bfloat16'))
  output, _ = process.communicate()
  assert process.returncode == 0, output
  calls = [line.split() for line in open(tmp_path / 'calls')]
  assert [call[1] for call in calls[-1:]] == ['results/report.py']
  cells = [call for call in calls if call[1] != 'results/report.py']
  assert {call[0] for call in cells} == {'5', '7'}
  trainings = [call for call in cells if call[1] == 'cifar10_train.py']
  assert sorted(call[2:5] for call in trainings) == sorted(
      ['--seed=%s' % seed, '--train_dir=%s/seed%s/scratch_%s' % (
          tmp_path / 'out', seed, width), '--conv1_channels=%s' % width]
      for seed in '01' for width in ('64', '8'))
  assert all(('--precision=bfloat16' in call) == (
      call[1] in ('cifar10_train.py', 'thinet_finetune.py')) for call in cells)
  # Parents first, and nothing is compressed before its parent is evaluated.
  names = [' '.join(call[1:]) for call in cells]
  for seed in '01':
    parent = next(i for i, name in enumerate(names)
                  if 'cifar10_eval' in name and
                  name.endswith('seed%s/scratch_64' % seed))
    assert all(i > parent for i, name in enumerate(names)
               if 'thinet_compress' in name and '--seed=' + seed in name)


def test_a_failing_cell_ends_the_sweep_with_its_code(tmp_path, recorder):
  process = sweep('data', tmp_path / 'out', **recorder(
      JOBS='2', FAIL='train_dir=%s/seed0/scratch_8 ' % (tmp_path / 'out')))
  process.communicate()
  assert process.returncode == 1
  assert 'thinet_compress' not in open(tmp_path / 'calls').read()


def test_slurm_jobs_wait_for_their_seeds_parent(tmp_path, recorder):
  """The calls of sbatch; tests/slurm/ runs a real one."""
  (tmp_path / 'sbatch').write_text("""#!/usr/bin/env bash
count=$(wc -l < "$OUT.jobs" 2> /dev/null || echo 0)
printf '%s\\t' "$@" >> "$OUT.jobs"; echo >> "$OUT.jobs"
echo "$((100 + count));cluster"
""")
  (tmp_path / 'sbatch').chmod(0o755)
  result = subprocess.run(
      [os.path.join(conftest.ROOT, 'run_experiments.sh'), 'slurm', '--gpus=1'],
      capture_output=True, text=True, env=dict(
          os.environ, PATH='%s:%s' % (tmp_path, os.environ['PATH']),
          OUT=str(tmp_path / 'out'), SEEDS='0 4', WIDTHS='64 16 8'))
  assert result.returncode == 0, result.stderr
  jobs = [dict(word.lstrip('-').partition('=')[::2]
               for word in line.strip().split('\t'))
          for line in open(tmp_path / 'out.jobs')]
  assert all(job['gpus'] == '1' and 'requeue' in job for job in jobs)
  assert [(job['job-name'], job.get('array'), job.get('dependency'))
          for job in jobs] == [
              ('scratch-0-64', None, None), ('scratch-0', '16,8', None),
              ('slim-0', '16,8', 'afterok:100'),
              ('scratch-4-64', None, None), ('scratch-4', '16,8', None),
              ('slim-4', '16,8', 'afterok:103'),
              ('report', None, 'afterany:100:101:102:103:104:105')]
  assert jobs[3]['wrap'] == 'exec ./run_experiments.sh cell scratch 4 64'
  assert jobs[5]['wrap'] == ('exec ./run_experiments.sh cell slim 4 '
                             '$SLURM_ARRAY_TASK_ID')


def test_usage():
  result = subprocess.run(
      [os.path.join(conftest.ROOT, 'run_experiments.sh'), 'dmeo'],
      capture_output=True, text=True)
  assert result.returncode == 2 and result.stderr.startswith('usage: ')


@pytest.mark.parametrize('name, value, word', [
    ('JOBS', '0', '0'), ('JOBS', '-1', '-1'), ('JOBS', 'two', 'two'),
    ('WIDTHS', '64 65', '65'), ('WIDTHS', '64 0', '0'),
    ('WIDTHS', '64,8', '64,8'),
    ('SEEDS', '0 1.5', '1.5'), ('SEEDS', '-1', '-1'),
    ('FINETUNE_EPOCHS', '0', '0'), ('FINETUNE_EPOCHS', 'ten', 'ten'),
    ('MODES', 'thinet_none thinet_al', 'thinet_al'),
    ('MODES', 'thinet', 'thinet'),
    ('CONTROLS', 'l2_full', 'l2_full')])
def test_a_bad_setting_is_refused_at_once(tmp_path, name, value, word):
  process = sweep('data', tmp_path / 'out', **{name: value})
  output, _ = process.communicate()
  assert process.returncode == 2 and not (tmp_path / 'out').exists()
  assert output.startswith(
      'run_experiments.sh: %s has %s; give ' % (name, word))
  assert len(output.splitlines()) == 1


@pytest.mark.parametrize('settings', [
    dict(WIDTHS='64 48 8 1', SEEDS='0 17', FINETUNE_EPOCHS='0.5', JOBS='12'),
    dict(MODES='thinet_kept_scale least_squares_network', CONTROLS='')])
def test_good_settings_are_taken(tmp_path, recorder, settings):
  process = sweep('data', tmp_path / 'out', **recorder(**settings))
  output, _ = process.communicate()
  assert process.returncode == 0, output


def test_a_finished_folder_says_which_random_streams_made_it():
  """The shell's number is that of the programs."""
  with open(os.path.join(conftest.ROOT, 'run_experiments.sh')) as source:
    assert 'RANDOM_STREAMS=%d ' % cifar10_input.RANDOM_STREAMS in source.read()
