"""results/make.sh, with the stand-in's programs."""
import os
import shutil
import signal
import subprocess

import conftest
import pytest
import stand_in

SCRIPT = os.path.join(conftest.ROOT, 'results', 'make.sh')


@pytest.fixture
def make(tmp_path, data_dir):
  """Starts it with some seeds; the programs' calls are in the file calls."""
  stand_in.interpreter(tmp_path)
  return lambda *seeds, **settings: subprocess.Popen(
      [SCRIPT, *seeds], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
      text=True, start_new_session=True, cwd=tmp_path, env={
          **os.environ, 'PYTHON': './python', 'CALLS': str(tmp_path / 'calls'),
          'RUNS': 'made', 'DATA_DIR': data_dir, **settings})


def test_all_that_is_made_and_where(tmp_path, monkeypatch):
  """The sweep and the programs only say how they were called."""
  tree = tmp_path / 'tree'
  (tree / 'results').mkdir(parents=True)
  shutil.copy(SCRIPT, tree / 'results')
  calls = tmp_path / 'calls'
  for path, words in (
      (tree / 'run_experiments.sh', 'sweep "$SEEDS" "$WIDTHS" "$BUDGETS" '
       '"$SCHEDULE" "$MODES" "$CONTROLS" "$OUT"'),
      (tmp_path / 'python', '"$CUDA_VISIBLE_DEVICES" "$@"')):
    path.write_text(   # A line each.
        '#!/bin/sh\nprintf "%%s;" %s | tr "\\n" " " >> %s\necho >> %s\n' % (
            words, calls, calls))
    path.chmod(0o755)
  monkeypatch.setenv('WIDTHS', '64')   # Of no effect.
  monkeypatch.setenv('BUDGETS', '0.3')
  (tmp_path / 'link').symlink_to(tree / 'results' / 'make.sh')
  subprocess.run(
      ['./link', '0', '2'], check=True, cwd=tmp_path,
      env=dict(os.environ, PYTHON='./python', RUNS='made', GPUS=' 5,6',
               DATA_DIR='images', CDPATH='/'))
  lines = [line.split(';')[:-1] for line in calls.read_text().splitlines()]
  out, network = '%s/made/published' % tmp_path, 'least_squares_network'

  def tuned(seed, slim, to, *more):
    folder = '%s/seed%d/%s' % (out, seed, slim)
    return ['5', 'thinet_finetune.py', '--data_dir=%s/images' % tmp_path,
            '--seed=%d' % seed, '--evaluate', '--checkpoint_dir=' + folder,
            '--train_dir=%s_%s' % (folder, to), *more]

  grid = ('thinet_none thinet_scale least_squares_none least_squares_full '
          'random_none least_squares_network')
  controls = ('thinet_full thinet_network l1_full l1_network random_full '
              'random_network thinet_kept_scale')
  widths = [48, 32, 24, 16, 8]
  expected = [['sweep', '0 2', '', '', '', grid, controls, out]]
  for seed in (0, 2):
    expected += [
        tuned(seed, '%s_%d' % (mode, width), 'finetuned_%d' % epochs,
              '--epochs=%d' % epochs)
        for mode in ('least_squares_none', network) for width in widths
        for epochs in (1, 5)]
  expected += [['sweep', '0 2', '64', '0.5 0.25 0.1', '', network, '', out]]
  expected += [[
      '5', 'benchmarks/equal_computation.py',
      '--data_dir=%s/images' % tmp_path, '--seed=%d' % seed,
      '--conv1_channels=%d' % width,
      '--output_dir=%s/seed%d/equal_%d' % (out, seed, width)]
               for seed in (0, 2) for width in (16, 8)]
  expected += [['sweep', '0 2', '64 16 8', '', 'fast',
                'least_squares_full ' + network, '',
                '%s/made/fast' % tmp_path]]
  assert [[' '.join(word.split()) for word in line]
          for line in lines[:-1]] == expected
  assert lines[-1] == ['', 'results/report.py', out, '--differences']


@pytest.mark.parametrize('seeds', [[], ['0,1'], ['0 1'], ['00'], ['-1'],
                                   ['0', 'one']])
def test_what_is_no_seed_is_refused_at_once(make, tmp_path, seeds):
  process = make(*seeds)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 2 and len(output.splitlines()) == 1
  assert (repr(seeds[-1]) in output) if seeds else ('usage' in output)
  assert sorted(os.listdir(tmp_path)) == ['python']


def test_a_stop_reaches_the_training_and_settings_do_not(make, tmp_path):
  """A sweep's settings in the environment change no recipe."""
  process = make('3', WAIT='scratch_64', PRECISION='tf32', EPOCHS='1',
                 WIDTHS='64', SCHEDULE='fast')
  for line in process.stdout:
    if 'waiting as' in line:
      trained = int(line.split()[-1])
      break
  os.kill(process.pid, signal.SIGTERM)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 143
  assert output.endswith('stopped; the same command goes on.\n')
  with pytest.raises(ProcessLookupError):
    os.kill(trained, 0)
  call, = [line for line in open(tmp_path / 'calls') if 'cifar10_train' in line]
  assert {'--seed=3', '--precision=float32', '--epochs=128',
          '--schedule=published',
          '--train_dir=%s/made/published/seed3/scratch_64' % tmp_path
          } <= set(call.split())
