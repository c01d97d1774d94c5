"""Training: real processes that are killed, stopped, damaged and resumed."""
import glob
import json
import os
import re
import signal

from support import checkpoint
import cifar10
import cifar10_train
import conftest
import numpy as np
import pytest
from cifar10_input import UserError
from tensorboard.backend.event_processing import event_accumulator


def train(folder, data_dir, steps=30, *more):
  return ('cifar10_train.py', '--data_dir=' + data_dir, '--train_dir=%s' % folder,
          '--conv1_channels=12', '--batch_size=50', '--checkpoint_frequency=10',
          '--log_frequency=10', '--histogram_frequency=20',
          '--max_steps=%d' % steps) + more


def assert_same(folder, other):
  """Every variable of the newest checkpoints is the same, to the bit."""
  path, arrays, settings = checkpoint.read_newest(str(folder))
  other_path, others, other_settings = checkpoint.read_newest(str(other))
  assert os.path.basename(path) == os.path.basename(other_path)
  assert settings == other_settings and arrays.keys() == others.keys()
  assert [name for name in arrays
          if arrays[name].tobytes() != others[name].tobytes()] == []


@pytest.mark.parametrize('step', [0, 10])
def test_killed_and_resumed_equals_never_stopped(tmp_path, data_dir, trained,
                                                 step):
  """kill -9 when the given step is logged; then the same command again."""
  process = conftest.start(*train(tmp_path, data_dir))
  for line in process.stdout:
    if ': step %d,' % step in line:
      break
  process.kill()
  process.communicate()
  assert not os.path.exists(tmp_path / 'model.ckpt-30.index')
  code, output, _ = conftest.run(*train(tmp_path, data_dir))
  assert code == 0
  if step:
    assert re.search(r'Continuing \S+model\.ckpt-\d+ at step \d+ of 30', output)
  assert_same(tmp_path, trained)
  code, output, _ = conftest.run(*train(tmp_path, data_dir))
  assert code == 0 and 'is finished: step 30 of 30' in output


@pytest.mark.parametrize('number, code', [(signal.SIGINT, 130),
                                          (signal.SIGTERM, 143)])
def test_signals_save_and_the_same_command_continues(tmp_path, data_dir,
                                                     number, code):
  process = conftest.start(*train(tmp_path, data_dir, 100000))
  for line in process.stdout:
    if ': step 10,' in line:
      break
  process.send_signal(number)
  output, _ = process.communicate()
  assert process.returncode == code
  assert 'saved; the same command continues' in output
  step = int(checkpoint.read_newest(str(tmp_path))[1]['global_step'])
  assert step > 10
  code, output, _ = conftest.run(*train(tmp_path, data_dir, step + 1))
  assert code == 0 and 'at step %d of %d' % (step, step + 1) in output


def test_log_line_run_json_and_events(tmp_path, data_dir):
  code, output, _ = conftest.run(*train(tmp_path, data_dir))
  assert code == 0
  lines = output.splitlines()
  assert re.fullmatch(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: step 0, loss = 4\.\d+ '
                      r'\(first step\)', lines[0])
  assert re.fullmatch(r'.*: step 10, loss = \d\.\d+ \(\d+\.\d examples/sec; '
                      r'\d\.\d+ sec/batch; \d:\d\d:\d\d left\)', lines[1])
  run = json.load(open(tmp_path / 'run.json'))
  assert run['seed'] == 0 and run['flags']['conv1_channels'] == 12
  assert run['start'] <= run['end'] and len(run['data_digest']) == 64
  assert run['versions'].keys() == {'python', 'tensorflow', 'numpy'}
  assert len(glob.glob(str(tmp_path / 'model.ckpt-*.index'))) == 3
  events = event_accumulator.EventAccumulator(str(tmp_path))
  events.Reload()
  tags = events.Tags()
  assert {'learning_rate', 'examples_per_second', 'losses/cross_entropy',
          'losses_raw/cross_entropy', 'losses/total_loss',
          'losses/local3/weight_loss'} <= set(tags['scalars'])
  assert [event.step for event in events.Scalars('learning_rate')] == [0, 10, 20]
  assert {'conv1/activations', 'conv2/weights/values',
          'conv2/weights/gradients'} <= set(tags['histograms'])
  assert [event.step for event in events.Scalars('conv1/sparsity')] == [0, 20]
  assert 'images/image/0' in tags['images']


def test_many_steps_in_a_run_change_nothing(tmp_path, flags, data_dir, trained):
  """Neither the network, to the bit, nor when something is written or saved; a
  run stopped on the way continues with another number of steps."""
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=50, max_steps=17,
        checkpoint_frequency=10, log_frequency=4, histogram_frequency=6,
        steps_per_run=3)
  assert cifar10_train.train('published', 12) == 0
  flags(max_steps=30, steps_per_run=1000)
  assert cifar10_train.train('published', 12) == 0
  assert_same(tmp_path, trained)
  assert [os.path.basename(path) for path in checkpoint.finished(str(tmp_path))
          ] == ['model.ckpt-%d' % step for step in (30, 20, 17)]
  events = event_accumulator.EventAccumulator(str(tmp_path))
  events.Reload()
  assert [event.step for event in events.Scalars('learning_rate')
          ] == list(range(0, 30, 4))
  assert [event.step for event in events.Scalars('conv1/sparsity')
          ] == list(range(0, 30, 6))


@pytest.mark.parametrize('log, histogram, save', [(100, 5000, 1000),
                                                  (7, 0, 5), (4, 6, 9)])
def test_a_run_ends_where_something_is_due(flags, log, histogram, save):
  """Against the definition, step by step."""
  flags(log_frequency=log, histogram_frequency=histogram,
        checkpoint_frequency=save, steps_per_run=30)
  def written(step):
    return step % log == 0 or histogram and step % histogram == 0
  for step in range(107):
    made = 1
    while (made < 30 and not written(step) and not written(step + made) and
           (step + made) % save and step + made < 107):
      made += 1
    assert cifar10_train.steps_in_run(step, 107) == made


@pytest.mark.parametrize('schedule, smoothing', [('published', 0.0),
                                                 ('fast', 0.1)])
def test_the_schedule_says_how_labels_are_smoothed(
    tmp_path, flags, data_dir, monkeypatch, schedule, smoothing):
  def loss(logits, labels, label_smoothing, teacher):
    assert label_smoothing == smoothing and teacher is None
    return cross_entropy(logits, labels)
  cross_entropy = cifar10.loss
  monkeypatch.setattr(cifar10, 'loss', loss)
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=50, max_steps=1)
  assert cifar10_train.train(schedule, 12) == 0


def test_other_settings_are_refused(flags, data_dir, trained):
  before = sorted(os.listdir(trained))
  base = dict(data_dir=data_dir, train_dir=trained, batch_size=50, max_steps=40)
  for change, width, words in [
      ({}, 13, 'conv1_channels = 12, not 13'),
      ({'seed': 5}, 12, 'seed = 0, not 5'),
      ({'batch_size': 40}, 12, 'batch_size = 50, not 40'),
      ({'learning_rate': 0.2}, 12, 'learning_rate = 0.1, not 0.2')]:
    flags(**dict(base, **change))
    with pytest.raises(UserError, match=words):
      cifar10_train.train('published', width)
    flags(seed=0, learning_rate=None)
  assert sorted(os.listdir(trained)) == before


def copy_steps(source, target, data_dir, flags):
  """A run of its own, stopped after 20 of 30 steps."""
  flags(data_dir=data_dir, train_dir=str(target), batch_size=50, max_steps=20,
        checkpoint_frequency=10)
  assert cifar10_train.train('published', 12) == 0


def test_damaged_checkpoints(tmp_path, data_dir, trained, flags, capsys):
  """The newest is damaged: go on from the one before. All: stop."""
  copy_steps(trained, tmp_path, data_dir, flags)
  with open(tmp_path / 'model.ckpt-20.data-00000-of-00001', 'r+b') as data:
    data.seek(1000)
    data.write(b'????')
  flags(max_steps=30)
  assert cifar10_train.train('published', 12) == 0
  captured = capsys.readouterr()
  assert 'model.ckpt-20 is damaged' in captured.err
  assert 'model.ckpt-10 at step 10 of 30' in captured.out
  assert_same(tmp_path, trained)
  for path in glob.glob(str(tmp_path / '*.index')):
    os.unlink(path)
  with pytest.raises(UserError, match='All 3 checkpoints in .* are damaged'):
    cifar10_train.train('published', 12)


def test_unfinished_first_save_starts_again(tmp_path, data_dir, trained, flags):
  """Killed between the two files of the first save, before its state file."""
  (tmp_path / 'model.ckpt-10.data-00000-of-00001').write_bytes(b'part')
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=50,
        max_steps=30, checkpoint_frequency=10)
  assert cifar10_train.train('published', 12) == 0
  assert_same(tmp_path, trained)


@pytest.mark.parametrize('steps_per_run', [1, 7])
def test_loss_not_finite_saves_nothing_bad(tmp_path, data_dir, steps_per_run):
  code, _, errors = conftest.run(*train(
      tmp_path, data_dir, 30, '--learning_rate=1e6',
      '--steps_per_run=%d' % steps_per_run))
  assert code == 1
  assert re.search(r'is (nan|inf) at step \d+ with learning rate 1e\+06|'
                   r'A weight is not finite after step \d+', errors)
  assert 'Traceback' not in errors
  for path in checkpoint.finished(str(tmp_path)):
    arrays, _ = checkpoint.read(path)
    assert all(np.isfinite(value).all() for value in arrays.values())


def test_second_run_in_the_same_folder_is_refused(tmp_path, data_dir):
  process = conftest.start(*train(tmp_path, data_dir, 100000))
  assert 'step 0' in process.stdout.readline()
  code, _, errors = conftest.run(*train(tmp_path, data_dir, 100000))
  process.kill()
  process.communicate()
  assert code == 1
  assert 'is in use by process %d' % process.pid in errors
