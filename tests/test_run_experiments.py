"""The sweep as one command: interrupted anywhere, it ends with its table."""
import csv
import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import cifar10
import conftest
import pytest
import stand_in
from thinet import files

SCRIPT = os.path.join(conftest.ROOT, 'run_experiments.sh')


def sweep(data_dir, out, *arguments, before=None, **settings):
  return subprocess.Popen(
      [SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
      text=True, start_new_session=True, preexec_fn=before,
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
  """Two cells run at a time. SIGHUP comes while both train, kill -9 to all
  processes in a compression, SIGUSR1 in fine-tuning, kill -9 in the report. A
  file of each kind is damaged. Then the table is that of an undisturbed serial
  sweep beside it, though a training was evaluated by hand when it had hardly
  begun."""
  out = tmp_path / 'a b;$(touch x)'
  shutil.copytree(data_dir, tmp_path / 'd b;$(touch x)')
  data_dir = str(tmp_path / 'd b;$(touch x)')
  small = dict(MODES='thinet_scale', EPOCHS='2', FINETUNE_EPOCHS='0.5')
  serial = sweep(data_dir, tmp_path / 'serial', **small)
  for number, words, code in [
      (signal.SIGHUP, 'step 0, loss', 129),
      (signal.SIGKILL, '/thinet_compress.py --', -9),
      (signal.SIGUSR1, '/thinet_finetune.py --', 138),
      (signal.SIGKILL, '/results/report.py ', -9)]:
    process = sweep(data_dir, out, JOBS='2', **small)
    for _ in range(2 if number == signal.SIGHUP else 1):
      wait_for(process, words)
    if number == signal.SIGKILL:
      os.killpg(process.pid, number)
    else:
      process.send_signal(number)
    process.communicate()   # Its children, too, have ended by then.
    assert process.returncode == code
    assert 'report' in words or not os.path.exists(out / 'table.csv')
    if number == signal.SIGHUP:
      assert conftest.run(
          'cifar10_eval.py', '--data_dir=' + data_dir,
          '--checkpoint_dir=%s' % (out / 'seed0' / 'scratch_64'))[0] == 0
  (out / 'seed0' / 'scratch_8_finetuned' / 'run.json').write_bytes(b'')
  (out / 'seed0' / 'thinet_scale_8' / 'compress.json').write_text('{}')
  os.truncate(glob.glob('%s/seed0/thinet_scale_8_finetuned/*.data*' % out)[0],
              10000)
  (out / 'seed0' / 'scratch_64' / 'eval.json').unlink()
  process = sweep(data_dir, out, JOBS='2', **small)
  output, _ = process.communicate()
  assert process.returncode == 0, output
  rows = list(csv.DictReader(open(out / 'table.csv')))
  assert [(row['conv1_channels'], row['criterion'], row['reconstruction'],
           row['fine_tuned'], row['n']) for row in rows] == [
               ('64', 'scratch', '', 'no', '1'),
               ('64', 'scratch', '', 'yes', '1'),
               ('8', 'scratch', '', 'no', '1'),
               ('8', 'scratch', '', 'yes', '1'),
               ('8', 'thinet', 'scale', 'no', '1'),
               ('8', 'thinet', 'scale', 'yes', '1')]
  assert ' 64 | scratch ' in output and not glob.glob(str(tmp_path / 'x'))
  undisturbed, _ = serial.communicate()
  assert (tmp_path / 'serial' / 'table.csv').read_text() == (
      out / 'table.csv').read_text(), undisturbed


@pytest.fixture
def recorder(tmp_path):
  """Settings for the stand-in's programs, which record how they were called."""
  python = stand_in.interpreter(tmp_path)
  return lambda **settings: dict(settings, PYTHON=python,
                                 CALLS=str(tmp_path / 'calls'))


def calls(tmp_path):
  """The stand-in's calls: lists of the GPU, the program and its flags."""
  try:
    return [line.split() for line in open(tmp_path / 'calls')]
  except FileNotFoundError:
    return []


def ended(process):
  """(exit code, output) of a sweep."""
  output, _ = process.communicate(timeout=60)
  return process.returncode, output


def test_each_gpu_runs_one_cell_at_a_time(tmp_path, data_dir, recorder):
  code, output = ended(sweep(data_dir, tmp_path / 'out', **recorder(
      GPUS='5,7', SEEDS='0 1', WIDTHS='64 8', PRECISION='bfloat16')))
  assert code == 0, output
  found = calls(tmp_path)
  assert [call[1] for call in found[-1:]] == ['results/report.py']
  cells = [call for call in found if call[1] != 'results/report.py']
  assert {call[0] for call in cells} == {'5', '7'}
  assert set(re.findall('on GPU (\\d), ', output)) == {'5', '7'}
  trainings = [call for call in cells if call[1] == 'cifar10_train.py']
  assert sorted(call[2:5] for call in trainings) == sorted(
      ['--seed=%s' % seed, '--train_dir=%s/seed%s/scratch_%s' % (
          tmp_path / 'out', seed, width), '--conv1_channels=%s' % width]
      for seed in '01' for width in ('64', '8'))
  assert all(('--precision=bfloat16' in call) == (
      call[1] in ('cifar10_train.py', 'thinet_finetune.py')) for call in cells)
  assert all(call[-1] == '--evaluate' for call in cells)
  # Parents first.
  names = [' '.join(call[1:]) for call in cells]
  for seed in '01':
    parent = next(i for i, name in enumerate(names)
                  if 'seed%s/scratch_64 ' % seed in name)
    assert all(i > parent for i, name in enumerate(names)
               if 'thinet_compress' in name and '--seed=' + seed in name)


@pytest.mark.parametrize('gpus', ['0 1', '3,3'])
def test_two_words_are_two_cells_at_a_time(tmp_path, data_dir, recorder, gpus):
  process = sweep(data_dir, tmp_path / 'out',
                  **recorder(GPUS=gpus, WAIT='cifar10_train'))
  found = set()
  while len(found) < 2:   # Both wait at the same time.
    found.add(process.stdout.readline().partition('waiting as')[2])
    found -= {''}
  process.terminate()
  assert ended(process)[0] == 143
  assert sorted(call[0] for call in calls(tmp_path)) == (
      gpus.replace(',', ' ').split())


# ----------------------------------------------------------- what it says


def test_it_says_what_it_will_do_does_and_has_made(tmp_path, data_dir,
                                                   recorder):
  """Each line of a cell has its name, and commands can be pasted anywhere."""
  out = tmp_path / "o'u t"
  settings = recorder(JOBS='2', BUDGETS='.250', SECONDS='1000000')
  code, plan = ended(sweep(data_dir, out, 'plan', **settings))
  assert code == 0 and not out.exists() and not calls(tmp_path)
  assert [line.split() for line in plan.splitlines()[1:5]] == [
      ['seed', '0', 'scratch', '64', '2', 'networks', 'waiting'],
      ['seed', '0', 'scratch', '8', '2', 'networks', 'waiting'],
      ['seed', '0', 'slim', '8', '4', 'networks', 'waiting'],
      ['seed', '0', 'slim', 'budget0.25', '6', 'networks', 'waiting']]
  assert '2 cells at a time on the processor, %d core' % len(
      os.sched_getaffinity(0)) in plan
  code, output = ended(sweep(data_dir, out, **settings))
  assert code == 0 and output.startswith(plan)
  during, report = output[len(plan):].split('\n+ ')
  named = dict(re.fullmatch(r'\[seed 0 (\w+ \S+)\] (.*)', line).groups()[::-1]
               for line in during.splitlines())
  assert [cell for line, cell in named.items()
          if line.startswith('Cell 1 of 4, network 1 of 2: training scratch_64')
          ] == ['scratch 64']   # The time left, too, if the other was faster.
  words = [line for line in named if 'network 4 of 4' in line]
  assert words[0].startswith(
      'Cell 3 of 4, network 4 of 4: fine-tuning thinet_scale_8_finetuned (the '
      'sweep: ') and named[words[0]] == 'slim 8'
  words = [line for line in named if 'network 5 of 6' in line]
  assert words[0].startswith(
      'Cell 4 of 4, network 5 of 6: training scratch_budget0.25 (the sweep: ')
  assert re.search(r'(\d+ % done, about|at least) \d:\d\d:\d\d left\)\.$',
                   words[0])   # The other may not have made its kinds yet.
  assert named['Cell 4 of 4 is done.'] == 'slim budget0.25'
  made = report.splitlines()[-4:]
  assert re.match(r'Done in \d:\d\d:\d\d: 14 networks, 0:03:36 of', made[0])
  assert made[1:3] == ['Table: %s/%s.csv' % (out, name)
                       for name in ('table', 'budgets')]
  assert shlex.split(made[3])[1:] == [
      sys.executable, '-m', 'tensorboard.main', '--logdir=%s' % out]
  training = next(line for line in named if 'conv1_channels=8' in line)
  (out / 'seed0' / 'scratch_8' / 'eval.json').unlink()
  assert subprocess.run(training[2:], shell=True, cwd='/', env=dict(
      CALLS=settings['CALLS'])).returncode == 0
  assert files.read_json(str(out / 'seed0' / 'scratch_8' / 'eval.json'))


def states(data_dir, out, **settings):
  """What `status` says of each cell: name -> state."""
  code, output = ended(sweep(data_dir, out, 'status', **settings))
  assert code == 0, output
  return dict(re.fullmatch(r'  (.*\d) +\d networks? +(.*)', line).groups()
              for line in output.splitlines()[1:])


def test_a_python_without_the_packages_is_one_sentence(tmp_path, data_dir):
  bare = tmp_path / 'python'
  bare.write_text('#!/bin/sh\nexec %s -S "$@"\n' % shlex.quote(sys.executable))
  bare.chmod(0o755)
  code, output = ended(sweep(data_dir, tmp_path / 'out', 'plan',
                             PYTHON=str(bare)))
  assert code == 2 and re.fullmatch(
      r'run_experiments.sh: PYTHON=\S+ lacks numpy; run: \S+ -m pip install -r '
      r'requirements.txt\n', output)


def test_status_at_any_time(tmp_path, data_dir, recorder):
  out = tmp_path / 'out'
  failing = recorder(WAIT='scratch_8', FAIL='thinet_scale_8')
  process = sweep(data_dir, out, **failing)
  pids = waiting(process, 1)

  def changes():
    return {path: os.stat(path).st_mtime_ns for path in glob.glob(
        str(out / '**'), recursive=True, include_hidden=True)}
  before = changes()
  found = states(data_dir, out, **failing)
  assert files.held(str(out / '.cells' / 'scratch_0_8'))   # By flock(1).
  assert found['seed 0 scratch 64'] == 'done in 0:00:40'
  assert re.fullmatch(r'running since \d\d:\d\d:\d\d, network 1: scratch_8',
                      found['seed 0 scratch 8'])
  assert found['seed 0 slim 8'] == 'waiting'
  assert changes() == before
  process.terminate()
  assert ended(process)[0] == 143 and nothing_runs(pids)
  assert states(data_dir, out, **failing)['seed 0 scratch 8'] == (
      'stopped at 3 %')   # Of its training 5 %.
  failing.pop('WAIT')
  assert ended(sweep(data_dir, out, **failing))[0] == 1
  found = states(data_dir, out, **failing)
  assert found.pop('seed 0 slim 8').startswith('failed with exit code 1 at ')
  assert all(state.startswith('done in ') for state in found.values())


def test_a_gpu_that_tensorflow_does_not_see_is_named(tmp_path, data_dir):
  program = tmp_path / 'nvidia-smi'
  program.write_text('#!/bin/sh\necho NVIDIA L4\n')
  program.chmod(0o755)
  def plan(**changes):
    return ended(sweep(data_dir, tmp_path / 'out', 'plan', **dict(
        dict(PATH='%s:%s' % (tmp_path, os.environ['PATH']),
             CUDA_VISIBLE_DEVICES='0'), **changes)))[1]
  assert "at a time on the processor" in plan()
  assert ("TensorFlow does not see this machine's NVIDIA L4; to use it: %s -m "
          "pip install 'tensorflow[and-cuda]" % sys.executable) in plan()
  assert 'L4' not in plan(CUDA_VISIBLE_DEVICES='')
  (tmp_path / 'nvidia' / 'cudnn').mkdir(parents=True)
  words = plan(PYTHONPATH=str(tmp_path), GPUS='2 5', CUDA_VISIBLE_DEVICES='')
  assert '2 cells at a time on GPU 2 5: NVIDIA L4.' in words


def test_the_cell_of_a_budget_goes_on_with_its_widths(tmp_path, data_dir,
                                                      recorder):
  """Its commands; by hand, stopped in its last training and continued."""
  out = tmp_path / 'out'
  stand_in.run('cifar10_train.py', '--data_dir=' + data_dir, '--seed=3',
               '--evaluate', '--train_dir=%s/seed3/scratch_64' % out,
               '--schedule=published', '--epochs=5', '--precision=float32')
  settings = recorder(MODES='thinet_none', CONTROLS='l1_full')
  cell = [data_dir, out, 'cell', 'slim', '3', 'budget0.25']
  process = sweep(*cell, WAIT='scratch_budget', **settings)
  wait_for(process, 'waiting as')
  process.terminate()
  assert ended(process)[0] == 143
  first = [[flag.replace('%s/seed3/' % out, '') for flag in call[1:]]
           for call in calls(tmp_path)]
  parent = '--checkpoint_dir=scratch_64'
  common = ['--data_dir=' + data_dir, '--evaluate']
  training = ['cifar10_train.py', '--seed=3', '--train_dir=scratch_budget0.25',
              '--conv1_channels=16', '--conv2_channels=19', '--local3_units=96',
              '--local4_units=48', '--schedule=published', '--epochs=5',
              '--precision=float32', *common]
  budget = ['--multiply_adds=0.25', '--parameters=0.25']
  assert first == [
      ['thinet_compress.py', '--seed=3', '--output_dir=thinet_none_budget0.25',
       parent, *budget, '--criterion=thinet', '--reconstruction=none', *common],
      ['thinet_finetune.py', '--seed=3',
       '--checkpoint_dir=thinet_none_budget0.25',
       '--train_dir=thinet_none_budget0.25_finetuned', '--epochs=2',
       '--precision=float32', *common],
      ['thinet_compress.py', '--seed=3', '--output_dir=l1_full_budget0.25',
       parent, *budget, '--criterion=l1', '--reconstruction=full', *common],
      training]
  code, output = ended(sweep(*cell, **settings))
  assert code == 0 and [call[1] for call in calls(tmp_path)[4:]] == [
      'cifar10_train.py', 'thinet_finetune.py'], output
  assert '--checkpoint_dir=%s/seed3/scratch_budget0.25' % out in (
      calls(tmp_path)[-1])
  assert output.splitlines()[-1].startswith('A cell of its own is done')
  # Without a compression, nothing says how wide a training is to be.
  shutil.rmtree(out / 'seed3' / 'scratch_budget0.25')
  for folder in out.glob('seed3/*_budget0.25*'):
    shutil.rmtree(folder)
  code, output = ended(sweep(*cell, **dict(settings, CONTROLS='l1_full',
                                           MODES='', SKIP='thinet_compress')))
  assert code == 1 and len(calls(tmp_path)) == 7
  assert 'its programs ran, but l1_full_budget0.25 it is not made' in output
  # Where no mode is fine-tuned, nothing is.
  code, output = ended(sweep(data_dir, out, 'cell', 'scratch', '3', '8',
                             **dict(settings, MODES='')))
  assert code == 0, output
  assert [call[1] for call in calls(tmp_path)[7:]] == ['cifar10_train.py']


# ---------------------------------------------------------------------- stops


def waiting(process, number):
  """Waits until so many trainings wait; returns their process numbers."""
  pids = set()
  for line in process.stdout:
    if ' waiting as ' in line:
      pids.add(int(line.split()[-1]))
    if len(pids) == number:
      return pids
  raise AssertionError('they ended')


def nothing_runs(pids):
  return not any(os.path.exists('/proc/%d' % pid) for pid in pids)


def test_a_polite_stop_saves_and_says_how_to_go_on(tmp_path, data_dir,
                                                   recorder):
  """One signal after the other; each time by the command that it printed."""
  settings = recorder(JOBS='2', WIDTHS='64 8', MODES='thinet_none')
  bare = dict(PATH=os.environ['PATH'], CALLS=settings['CALLS'])
  process = sweep(data_dir, tmp_path / "o'u t", WAIT='scratch', **settings)
  for name in ('HUP', 'INT', 'QUIT', 'TERM', 'USR1', 'USR2', 'XCPU'):
    number = signal.Signals['SIG' + name]
    pids = waiting(process, 2)
    process.send_signal(number)
    code, output = ended(process)
    assert code == 128 + number and nothing_runs(pids)
    assert output.count('Stopped by SIGTERM and saved') == 2
    words, _, command = output.splitlines()[-1].partition('; continue with: ')
    assert words == 'run_experiments.sh: stopped by SIG%s' % name
    last = name == 'XCPU'
    process = subprocess.Popen(
        ['sh', '-c', 'exec env ' + command], cwd='/', stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
        env=bare if last else dict(bare, WAIT='scratch'))
  code, output = ended(process)
  assert code == 0, output
  assert os.listdir(tmp_path / "o'u t" / 'seed0')
  assert calls(tmp_path)[-1][1] == 'results/report.py'


def test_a_stop_reaches_a_paused_training_and_all_of_a_group(
    tmp_path, data_dir, recorder):
  process = sweep(data_dir, tmp_path / 'out',
                  **recorder(JOBS='2', WAIT='scratch'))
  pids = waiting(process, 2)
  os.kill(min(pids), signal.SIGSTOP)
  os.killpg(process.pid, signal.SIGTERM)   # As at the end of Slurm's time.
  code, output = ended(process)
  assert code == 143 and nothing_runs(pids)
  assert output.count('Stopped by SIGTERM and saved') == 2


def test_an_ignored_signal_stays_ignored(tmp_path, data_dir, recorder):
  """As under nohup."""
  process = sweep(
      data_dir, tmp_path / 'out', **recorder(WAIT='scratch'),
      before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
  pids = waiting(process, 1)
  process.send_signal(signal.SIGHUP)
  time.sleep(0.3)
  assert process.poll() is None
  process.terminate()
  assert ended(process)[0] == 143 and nothing_runs(pids)


@pytest.mark.parametrize('lines, ignored', [(0, False), (0, True), (1, False),
                                            (3, False)])
def test_a_closed_output_stops_the_sweep(tmp_path, data_dir, recorder, lines,
                                         ignored):
  """As | head -1 closes it; SIGPIPE may be ignored, as in a Python service."""
  process = subprocess.Popen(
      [SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      restore_signals=not ignored,
      env={**os.environ, **recorder(WAIT='scratch', JOBS='2', EPOCHS='5'),
           'DATA_DIR': data_dir, 'OUT': str(tmp_path / 'out')})
  for _ in range(lines):
    process.stdout.readline()
  process.stdout.close()
  error = process.stderr.read()
  assert process.wait() == 141
  assert '; continue with: ' in error.splitlines()[-1]
  trained = glob.glob('%s/seed0/*/model.ckpt-1.index' % (tmp_path / 'out'))
  assert len(trained) == len(calls(tmp_path))   # Each that began has saved.


def test_a_failing_cell_stops_the_others_and_is_named(tmp_path, data_dir,
                                                      recorder):
  code, output = ended(sweep(data_dir, tmp_path / 'out', **recorder(
      JOBS='2', WAIT='scratch_64',
      FAIL='train_dir=%s/seed0/scratch_8 ' % (tmp_path / 'out'))))
  assert code == 1
  assert 'It failed.' in output
  assert 'cell scratch 0 8 failed with exit code 1' in output.splitlines()[-1]
  assert {call[1] for call in calls(tmp_path)} == {'cifar10_train.py'}
  if len(calls(tmp_path)) == 2:   # Else scratch_64 had not begun.
    assert 'Stopped by SIGTERM and saved' in output


# ------------------------------------------------------------------- finished


@pytest.fixture(scope='module')
def finished_sweep(data_dir, tmp_path_factory):
  """The folder of a sweep that ran to its end."""
  folder = tmp_path_factory.mktemp('finished')
  code, output = ended(sweep(
      data_dir, folder / 'out', PYTHON=stand_in.interpreter(folder),
      CALLS=str(folder / 'calls')))
  assert code == 0, output
  return folder / 'out'


@pytest.fixture
def finished(finished_sweep, tmp_path, data_dir, recorder):
  """A copy of a finished sweep: its folder, and a function that runs it again.
  """
  shutil.copytree(finished_sweep, tmp_path / 'out')

  def again(*arguments, **settings):
    if os.path.exists(tmp_path / 'calls'):
      os.unlink(tmp_path / 'calls')
    code, output = ended(sweep(data_dir, tmp_path / 'out', *arguments,
                               **recorder(**settings)))
    return code, output, [call[1] for call in calls(tmp_path)]
  return tmp_path / 'out', again


def test_other_settings_are_refused_before_anything_runs(finished, data_dir):
  out, again = finished
  before = sorted(glob.glob('%s/**' % out.parent, recursive=True))
  for name, old, new in [
      ('EPOCHS', '5', '6'), ('EPOCHS', '5', '4'),
      ('SCHEDULE', 'published', 'fast'), ('PRECISION', 'float32', 'bfloat16'),
      ('FINETUNE_EPOCHS', '2', '2.5')]:
    for settings in ({}, {'WIDTHS': '64 16', 'MODES': 'l1_none'}):
      code, output, ran = again(**{name: new}, **settings)
      assert (code, ran) == (2, []) and len(output.splitlines()) == 1
      assert ' was made with %s=%s, not %s; go back ' % (name, old,
                                                         new) in output
  code, output, ran = again('demo', EPOCHS='6', SCHEDULE='published',
                            DATA_DIR=str(out.parent / 'new'))
  assert (code, ran) == (2, []) and 'EPOCHS=5, not 6' in output
  assert sorted(glob.glob('%s/**' % out.parent, recursive=True)) == before
  assert again()[2] == ['results/report.py']


def test_on_replaced_test_images_all_is_rated_again(finished, data_dir):
  out, again = finished
  other = out.parent / 'data'
  shutil.copytree(data_dir, other)
  path = other / 'cifar-10-batches-bin' / 'test_batch.bin'
  path.write_bytes(path.read_bytes()[:-3073])
  code, output, ran = again(DATA_DIR=str(other))
  assert code == 0 and len(ran) == 9, output
  assert again(DATA_DIR=str(other))[2] == ['results/report.py']


def test_a_parent_that_was_made_again_is_refused_before_anything_runs(
    finished, data_dir):
  out, again = finished
  parent = out / 'seed0' / 'scratch_64'
  for part in parent.glob('model.ckpt-*'):
    part.write_text('other weights')
  stand_in.evaluate(parent, {'data_dir': data_dir})
  for arguments, child in (([], 'scratch_64_finetuned'),
                           (['cell', 'slim', '0', '8'], 'thinet_none_8')):
    code, output, ran = again(*arguments)
    assert (code, ran) == (2, [])
    assert child + ' was made from other weights than' in output


@pytest.mark.parametrize('name, left', [
    ('scratch_8/eval.json', ['cifar10_train.py', 'thinet_finetune.py']),
    ('scratch_64/run.json', ['cifar10_train.py', 'thinet_finetune.py']),
    ('scratch_8_finetuned/run.json', ['thinet_finetune.py']),
    ('thinet_none_8/compress.json', ['thinet_compress.py',
                                     'thinet_finetune.py']),
    ('thinet_none_8_finetuned/eval.json', ['thinet_finetune.py'])])
def test_what_was_emptied_is_made_again(finished, name, left):
  out, again = finished
  (out / 'seed0' / name).write_bytes(b'')
  code, output, ran = again()
  assert code == 0, output
  assert ran == left + ['results/report.py']
  assert files.read_json(str(out / 'seed0' / name))


def test_nothing_is_believed_to_be_finished(finished):
  """A program that ends with 0 is not enough, nor is a table that was made."""
  out, again = finished
  path = out / 'seed0' / 'scratch_8' / 'eval.json'
  path.unlink()
  code, output, ran = again(SKIP='cifar10_train')
  assert code == 1 and 'results/report.py' not in ran
  assert ('cell scratch 0 8: its programs ran, but scratch_8 eval.json is '
          'missing or damaged.') in output
  code, output, ran = again('table')
  assert (code, ran) == (1, ['results/report.py'])
  assert output.splitlines()[-1] == (
      'run_experiments.sh: table: the table lacks cells: scratch 0 8.')
  (out / 'seed0' / 'scratch_64' / 'eval.json').unlink()
  code, output, ran = again('cell', 'slim', '0', '8')
  assert (code, ran) == (1, [])
  assert 'its parent is not finished: scratch_64 eval.json is' in output


# ------------------------------------------------------------------- settings


@pytest.fixture
def normalised(tmp_path):
  """Runs the sweep up to its first program; returns its settings."""
  path = tmp_path / 'printer'
  path.write_text('#!/bin/sh\nexec env -0\n')
  path.chmod(0o755)

  def run(script=SCRIPT, cwd=conftest.ROOT, **settings):
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('CDPATH', 'OUT', 'DATA_DIR')}
    result = subprocess.run([str(script), 'table'], cwd=cwd, env={
        **environment, 'PYTHON': str(path), 'OUT': 'out', **settings},
        capture_output=True, text=True)
    return dict(line.split('=', 1) for line in
                result.stdout.partition('\n')[2].split('\0') if '=' in line)
  return run


@pytest.mark.parametrize('name, value, expected', [
    ('SEEDS', '0\n1\n2', '0 1 2'), ('SEEDS', '1 01 1', '1'),
    ('SEEDS', '\t7,3 ,, 5\n', '7 3 5'), ('SEEDS', '2147483647', '2147483647'),
    ('SEEDS', '000', '0'), ('SEEDS', '', '0'), ('WIDTHS', '8 8,008', '8'),
    ('WIDTHS', '64\n\n16', '64 16'), ('EPOCHS', '010', '10'),
    ('EPOCHS', '2.50', '2.5'), ('EPOCHS', '7.0', '7'), ('EPOCHS', '.5', '0.5'),
    ('EPOCHS', ' 100 ', '100'), ('FINETUNE_EPOCHS', '00.10', '0.1'),
    ('FINETUNE_EPOCHS', '1.', '1'), ('FINETUNE_EPOCHS', '', '20'),
    ('MODES', 'thinet_none\tl1_full\nl1_full', 'thinet_none l1_full'),
    ('MODES', '', ''), ('CONTROLS', '', ''), ('CONTROLS', ' ', ''),
    ('CONTROLS', 'l1_full,thinet_none,random_none', 'l1_full random_none'),
    ('GPUS', '0,1', '0 1'), ('GPUS', '0 00', '0 0'),
    ('GPUS', 'GPU-8932f937-d72c', 'GPU-8932f937-d72c'), ('JOBS', '02', '2'),
    ('BUDGETS', '0.250 .25,00.5\n0.0625', '0.25 0.5 0.0625'),
    ('PRECISION', ' bfloat16', 'bfloat16')])
def test_settings_are_split_and_normalised(normalised, name, value, expected):
  assert normalised(**{name: value})[name] == expected


def test_a_schedule_has_its_epochs(normalised):
  for schedule in (cifar10.PUBLISHED, cifar10.FAST):
    for given in ({}, {'EPOCHS': ''}):
      assert float(normalised(SCHEDULE=schedule.name, **given)['EPOCHS']) == (
          schedule.epochs)
  assert normalised(SCHEDULE='fast', EPOCHS='3')['EPOCHS'] == '3'


@pytest.mark.parametrize('name, value, word', [
    ('JOBS', '0', '0'), ('JOBS', '-1', '-1'), ('JOBS', 'two', 'two'),
    ('JOBS', ' ', ''), ('JOBS', '1 2', '1 2'), ('JOBS', '1000', '1000'),
    ('WIDTHS', '64 65', '65'), ('WIDTHS', '64 0', '0'), ('WIDTHS', ',', ''),
    ('WIDTHS', '64;8', '64;8'), ('WIDTHS', '99999999999999999999', '9' * 20),
    ('SEEDS', '0 1.5', '1.5'), ('SEEDS', '-1', '-1'), ('SEEDS', '*', '*'),
    ('SEEDS', '2147483648', '2147483648'), ('SEEDS', '0\n$(id)', '$(id)'),
    ('SEEDS', '18446744073709551616', '18446744073709551616'),
    ('FINETUNE_EPOCHS', '0', '0'), ('FINETUNE_EPOCHS', 'ten', 'ten'),
    ('FINETUNE_EPOCHS', '1.2.3', '1.2.3'), ('FINETUNE_EPOCHS', '.', '.'),
    ('FINETUNE_EPOCHS', '0.00', '0.00'), ('FINETUNE_EPOCHS', '1 2', '1 2'),
    ('EPOCHS', 'ten', 'ten'), ('EPOCHS', '1e3', '1e3'), ('EPOCHS', '-1', '-1'),
    ('EPOCHS', '1000000', '1000000'), ('EPOCHS', ' ', ''),
    ('SCHEDULE', 'Fast', 'Fast'), ('SCHEDULE', 'fast published',
                                   'fast published'),
    ('PRECISION', 'float16', 'float16'), ('GPUS', 'all', 'all'),
    ('GPUS', '-1', '-1'), ('GPUS', '0;1', '0;1'),
    ('MODES', 'thinet_none thinet_al', 'thinet_al'),
    ('MODES', 'thinet', 'thinet'), ('MODES', '*', '*'),
    ('BUDGETS', '0.5 1', '1'), ('BUDGETS', '0.009', '0.009'),
    ('CONTROLS', 'l2_full', 'l2_full')])
def test_a_bad_setting_is_refused_at_once(tmp_path, name, value, word):
  process = sweep('data', tmp_path / 'out', **{name: value})
  output, _ = process.communicate()
  assert process.returncode == 2 and not (tmp_path / 'out').exists()
  assert output.startswith(
      "run_experiments.sh: %s has '%s'; give " % (name, word))
  assert len(output.splitlines()) == 1


def test_budgets_without_a_compression_are_refused_at_once(tmp_path):
  code, output = ended(sweep('data', tmp_path / 'out', 'plan', MODES='',
                             BUDGETS='0.5'))
  assert (code, output) == (2, (
      "run_experiments.sh: BUDGETS has '0.5', but MODES and CONTROLS are empty;"
      ' name one.\n'))


@pytest.mark.parametrize('name, value', [
    ('OUT', 'a\nb'), ('DATA_DIR', '/a\n'), ('PYTHON', 'no-such-python'),
    ('PYTHON', '/no\\nsuch'), ('PYTHON', '/')])
def test_a_bad_path_is_refused_at_once(tmp_path, name, value):
  process = sweep('data', tmp_path / 'out', **{name: value})
  output, _ = process.communicate()
  assert process.returncode == 2 and output.startswith(
      'run_experiments.sh: ' + name) and 'name ' in output


def test_any_folder_can_be_named(tmp_path):
  """Bytes that are no UTF-8, in an interpreter that prints nothing else."""
  name = os.fsdecode(b'im\xffges')
  process = sweep(name, tmp_path / 'out', 'plan', LC_ALL='C.UTF-8',
                  PYTHONIOENCODING='utf-8:strict')
  code, output = ended(process)
  assert (code, output.splitlines()[-1]) == (
      0, r'Images: %s/im\udcffges.' % os.getcwd())


@pytest.mark.parametrize('words', [['scratch', '0', '08'], ['slim', '00', '8'],
                                   ['scratch', '0'], ['both', '0', '8']])
def test_what_is_no_cell_is_refused(tmp_path, words):
  code, output = ended(sweep('data', tmp_path / 'out', 'cell', *words))
  assert code == 2 and 'is none; give one as: cell scratch 0 8' in output


def test_usage():
  for arguments in (['dmeo'], ['demo', 'demo'], ['--help'], ['*'],
                    ['plan', 'SEEDS=1'], ['demo', 'status', 'plan'],
                    ['x-slurm']):
    result = subprocess.run([SCRIPT, *arguments], capture_output=True,
                            text=True, env=dict(os.environ, SEEDS='no'))
    asked = arguments == ['--help']
    assert result.returncode == (0 if asked else 2)
    assert (result.stdout if asked else result.stderr).startswith('usage: ')


def test_an_output_that_is_closed_from_the_start_is_one_sentence(data_dir,
                                                                  tmp_path):
  result = subprocess.run(
      ['bash', '-c', 'exec "$0" status >&-', SCRIPT], stderr=subprocess.PIPE,
      text=True, env=dict(os.environ, PYTHON=sys.executable, DATA_DIR=data_dir,
                          OUT=str(tmp_path)))
  assert result.returncode == 141
  assert result.stderr.count('\n') == 1 and 'was closed' in result.stderr


# ----------------------------------------------------------- where one stands


@pytest.mark.parametrize('name', [
    '-n', '*', 'gr\u00fc\u00df, it\'s "a  b" $(touch x)'])
def test_names_mean_the_folder_where_one_stands(tmp_path, data_dir, recorder,
                                                name):
  """Through a link to the script, with a CDPATH, and any names."""
  stand = tmp_path / 'stand'
  stand.mkdir()
  shutil.copytree(data_dir, stand / (name + 'data'))
  (tmp_path / 'link').symlink_to(SCRIPT)
  settings = recorder(WIDTHS='64', EPOCHS='5')
  os.symlink(settings['PYTHON'], stand / (name + 'python'))
  result = subprocess.run(
      ['../link'], cwd=stand, capture_output=True, text=True,
      env={**os.environ, **settings, 'OUT': name, 'CDPATH': '/:%s' % tmp_path,
           'DATA_DIR': name + 'data', 'PYTHON': './%spython' % name})
  assert result.returncode == 0, result.stderr
  assert sorted(os.listdir(stand / name / 'seed0')) == [
      'scratch_64', 'scratch_64_finetuned']
  assert sorted(os.listdir(stand)) == sorted(
      [name, name + 'data', name + 'python'])
  # The link of an environment's interpreter is not resolved.
  commands = [shlex.split(line.partition('+ ')[2])
              for line in result.stdout.splitlines() if '] + ' in line]
  assert [command[:2] for command in commands] == [
      ['%s/%spython' % (stand, name), os.path.join(conftest.ROOT, program)]
      for program in ('cifar10_train.py', 'thinet_finetune.py')]


# ---------------------------------------------------------------------- Slurm


@pytest.fixture
def submit(tmp_path):
  """Submits a sweep to a stand-in for sbatch; returns its jobs as dicts."""
  (tmp_path / 'sbatch').write_text("""#!/usr/bin/env bash
count=$(grep -zc ^END "$JOBS_FILE" 2> /dev/null)
printf '%s\\0' "$@" END >> "$JOBS_FILE"
echo "$((100 + count));cluster"
""")
  (tmp_path / 'sbatch').chmod(0o755)

  def run(*arguments, **settings):
    result = subprocess.run(
        [SCRIPT, *arguments], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, 'PATH': '%s:%s' % (tmp_path, os.environ['PATH']),
             'JOBS_FILE': str(tmp_path / 'jobs'), 'PYTHON': sys.executable,
             **settings})
    assert result.returncode == 0, result.stderr
    jobs = open(tmp_path / 'jobs').read().split('END\0')[:-1]
    return [dict(word.lstrip('-').partition('=')[::2]
                 for word in job.split('\0')[:-1]) for job in jobs]
  return run


def test_slurm_jobs_wait_for_their_seeds_parent(tmp_path, submit):
  """The calls of sbatch; tests/slurm/ runs a real one."""
  jobs = submit('slurm', '--gpus=1', SEEDS='0 4', WIDTHS='64 16 8', OUT='out',
                BUDGETS='.5 .25')
  assert all(job['gpus'] == '1' and 'requeue' in job and
             job['chdir'] == str(tmp_path) for job in jobs)
  assert [(job['job-name'], job.get('array'), job.get('dependency'))
          for job in jobs] == [
              ('scratch-0-64', None, None), ('scratch-0', '16,8', None),
              ('slim-0', '16,8', 'afterok:100'),
              ('slim-0-budget0.5', None, 'afterok:100'),
              ('slim-0-budget0.25', None, 'afterok:100'),
              ('scratch-4-64', None, None), ('scratch-4', '16,8', None),
              ('slim-4', '16,8', 'afterok:105'),
              ('slim-4-budget0.5', None, 'afterok:105'),
              ('slim-4-budget0.25', None, 'afterok:105'),
              ('report', None, 'afterany:100:101:102:103:104:105:106:107:108:'
               '109')]
  assert jobs[5]['wrap'].endswith(' %s cell scratch 4 64' % SCRIPT)
  assert jobs[7]['wrap'].endswith(' %s cell slim 4 $SLURM_ARRAY_TASK_ID' %
                                  SCRIPT)
  assert jobs[9]['wrap'].endswith(' %s cell slim 4 budget0.25' % SCRIPT)
  assert jobs[10]['wrap'].endswith(' %s table' % SCRIPT)


def test_without_slurm_it_says_so(tmp_path):
  for name in ('bash', 'env', 'readlink', 'seq'):
    os.symlink(shutil.which(name), tmp_path / name)
  result = subprocess.run(
      [SCRIPT, 'slurm'], capture_output=True, text=True, cwd=tmp_path,
      env={'PATH': str(tmp_path), 'PYTHON': sys.executable})
  assert result.returncode == 2 and result.stderr == (
      'run_experiments.sh: sbatch is not there; submit from a machine that has '
      'Slurm.\n')


@pytest.mark.parametrize('settings, names', [
    (dict(WIDTHS='64'), ['scratch-0-64', 'report']),
    (dict(WIDTHS='64', BUDGETS='0.5'),
     ['scratch-0-64', 'slim-0-budget0.5', 'report']),
    (dict(WIDTHS='8', MODES='', CONTROLS=''),
     ['scratch-0-64', 'scratch-0', 'report'])])
def test_slurm_has_no_empty_jobs(submit, settings, names):
  assert [job['job-name'] for job in submit('slurm', **settings)] == names


def test_a_slurm_job_carries_its_settings(tmp_path, data_dir, recorder, submit):
  """Run with nothing from the environment, by sh, elsewhere: --export=NONE."""
  settings = recorder(
      DATA_DIR=data_dir, OUT="it's $HOME `id` \\out", WIDTHS='64 8', EPOCHS='5',
      FINETUNE_EPOCHS='2', PRECISION='bfloat16', MODES='thinet_none',
      CONTROLS='')
  for job in submit('demo', 'slurm', **settings):
    result = subprocess.run(
        ['/bin/sh', '-c', job['wrap']], cwd='/', capture_output=True, text=True,
        env={'CALLS': settings['CALLS'], 'SLURM_ARRAY_TASK_ID': '8'})
    assert result.returncode == 0, result.stderr
  found = [call[1] for call in calls(tmp_path)]
  assert found == ['tests/demo_data.py'] + [
      'cifar10_train.py', 'thinet_finetune.py'] * 2 + [
          'thinet_compress.py', 'thinet_finetune.py', 'results/report.py']
  assert calls(tmp_path)[-1][-1] == '--published='
  assert (tmp_path / settings['OUT'] / 'seed0' / 'scratch_8' /
          'eval.json').exists()
