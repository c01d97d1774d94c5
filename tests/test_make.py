"""results/make.sh, with the stand-in's programs."""
import os
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
