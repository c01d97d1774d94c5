"""Training: real processes that are killed, stopped, damaged and resumed."""
import glob
import json
import os
import re
import signal

from thinet import checkpoint
import cifar10
import cifar10_train
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from cifar10_input import UserError
import thinet_finetune
from tensorboard.backend.event_processing import event_accumulator


def train(folder, data_dir, steps=30, *more):
  return ('cifar10_train.py', '--data_dir=' + data_dir,
          '--train_dir=%s' % folder, '--conv1_channels=12', '--batch_size=50',
          '--checkpoint_frequency=10', '--log_frequency=10',
          '--histogram_frequency=20', '--max_steps=%d' % steps) + more


def assert_same(folder, other):
  """Every variable of the newest checkpoints is the same, to the bit."""
  path, arrays, settings = conftest.newest(folder)
  other_path, others, other_settings = conftest.newest(other)
  assert os.path.basename(path) == os.path.basename(other_path)
  assert settings == other_settings and arrays.keys() == others.keys()
  assert [name for name in arrays
          if arrays[name].tobytes() != others[name].tobytes()] == []


@pytest.mark.parametrize('step', [0, 10])
def test_killed_and_resumed_equals_never_stopped(tmp_path, data_dir, trained,
                                                 step):
  """Sends kill -9 when a step is logged; then runs the same command again."""
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
  step = int(conftest.newest(tmp_path)[1]['global_step'])
  assert step > 10
  code, output, _ = conftest.run(*train(tmp_path, data_dir, step + 1))
  assert code == 0 and 'at step %d of %d' % (step, step + 1) in output


def test_log_line_run_json_and_events(tmp_path, data_dir):
  code, output, _ = conftest.run(*train(tmp_path, data_dir))
  assert code == 0
  lines = output.splitlines()
  assert re.fullmatch(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: '
                      r'step 0, loss = 4\.\d+ \(first step\)', lines[0])
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
  assert [event.step
          for event in events.Scalars('learning_rate')] == [0, 10, 20]
  assert {'conv1/activations', 'conv2/weights/values',
          'conv2/weights/gradients'} <= set(tags['histograms'])
  assert [event.step for event in events.Scalars('conv1/sparsity')] == [0, 20]
  assert 'images/image/0' in tags['images']


def drawn(width):
  """name -> array: weights, and averages that lie 1 above them."""
  generator = np.random.default_rng(0)
  weights = {name: generator.normal(0, 0.05, shape).astype(np.float32)
             for name, shape in cifar10.weight_shapes(width).items()}
  return dict(weights, **{name + checkpoint.AVERAGE: value + 1
                          for name, value in weights.items()})


def newest(folder):
  return conftest.newest(folder)[1]


@pytest.mark.parametrize(
    'schedule, rates, momentum, smoothing, convolutions', [
        (cifar10.PUBLISHED, (0.1, 0.1), 0.0, 0.0, 1.0),
        (cifar10.FAST, (0.02, 0.02), 0.9, 0.1, 4.0),
        (thinet_finetune.SCHEDULE, (0.01 / 350, 0.01 * 2 / 350), 0.9, 0.0,
         1.5)],
    ids=['published', 'fast', 'finetune'])
def test_a_schedules_first_steps_by_hand(tmp_path, flags, data_dir, schedule,
                                         rates, momentum, smoothing,
                                         convolutions):
  """Two steps of three, from given weights: rates, Nesterov's momentum in its
  textbook form, the loss written out with TensorFlow's operations."""
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=20, max_steps=3,
        checkpoint_frequency=1, histogram_frequency=0, seed=3)
  start = drawn(2)
  matrices = {name: np.diag(np.linspace(1, 2, int(np.prod(shape[:-1]))))
              for name, shape in cifar10.weight_shapes(2).items()
              if schedule is thinet_finetune.SCHEDULE and
              name in ('conv1/weights', 'conv2/weights')}
  assert cifar10_train.train(
      schedule, 2, 'training', start,
      lambda: {name: np.float32(matrix) for name, matrix in matrices.items()}
      ) == 0
  with tf.Graph().as_default(), tf.Session() as session:
    step = tf.placeholder(tf.int64, [])
    images, labels = cifar10.distorted_inputs(3, step)
    logits = cifar10.inference(images, 2)
    variables = {var.op.name: var for var in tf.trainable_variables()}
    loss = tf.losses.softmax_cross_entropy(
        tf.one_hot(labels, 10), logits, label_smoothing=smoothing)
    loss += sum(0.004 * tf.nn.l2_loss(variables[layer + '/weights'])
                for layer in ('local3', 'local4'))
    gradients = dict(zip(variables, tf.gradients(loss,
                                                 list(variables.values()))))
    session.run(tf.local_variables_initializer())
    weights = {name: start[name].astype(np.float64) for name in variables}
    averages = {name: value + 1 for name, value in weights.items()}
    velocity = dict.fromkeys(weights, 0.0)
    for number, rate in enumerate(rates):
      checkpoint.assign(session, {variables[name]: np.float32(value)
                                  for name, value in weights.items()})
      found = session.run(gradients, {step: number})
      for name, gradient in found.items():
        gradient = gradient.astype(np.float64)
        if name.startswith('conv'):
          gradient *= convolutions
        if name in matrices:
          rows = gradient.reshape(-1, gradient.shape[-1])
          gradient = (matrices[name] @ rows).reshape(gradient.shape)
        velocity[name] = momentum * velocity[name] + gradient
        ahead = (gradient + momentum * velocity[name] if momentum else gradient)
        weights[name] = weights[name] - rate * ahead
        decay = (2 + number) / (11 + number)
        averages[name] = decay * averages[name] + (1 - decay) * weights[name]
  after = checkpoint.read(str(tmp_path / 'model.ckpt-2'),
                          cifar10.shapes_like).arrays
  for name, value in weights.items():
    went, found = value - start[name], after[name] - np.float64(start[name])
    assert np.abs(went).max() > 0
    # Weights of 0.05 round to 2e-9.
    assert (np.linalg.norm(found - went) <
            0.01 * np.linalg.norm(went) + 2e-9 * np.sqrt(went.size))
    np.testing.assert_allclose(after[name + checkpoint.AVERAGE], averages[name],
                               rtol=0, atol=1e-5)


@pytest.mark.parametrize('schedule, decay', [
    (cifar10.PUBLISHED, 0.9999), (cifar10.FAST, 0.999),
    (thinet_finetune.SCHEDULE, 0.999)],
                         ids=['published', 'fast', 'finetune'])
def test_late_averages_keep_the_schedules_share(tmp_path, flags, data_dir,
                                                schedule, decay):
  """Two steps at rate 0 multiply the distance of an average from its weight by
  the decay squared; at step 200,000 the step no longer bounds the decay."""
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=20, max_steps=2,
        histogram_frequency=0, learning_rate=0.0)
  start = dict(drawn(2), global_step=np.int64(200000))
  assert cifar10_train.train(schedule, 2, initial=start) == 0
  after = newest(tmp_path)
  assert after['global_step'] == 200002
  for name in cifar10.weight_shapes(2):
    assert np.array_equal(after[name], start[name])
    np.testing.assert_allclose(after[name + checkpoint.AVERAGE] - after[name],
                               decay ** 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize('step, rate', [(3499, 0.1), (3500, 0.01)])
def test_the_published_rate_falls_after_350_epochs(tmp_path, flags, data_dir,
                                                   step, rate):
  """500 images in batches of 50 are 10 steps an epoch."""
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=50, max_steps=1,
        histogram_frequency=0)
  start = dict(drawn(2), global_step=np.int64(step))
  assert cifar10_train.train(cifar10.PUBLISHED, 2, initial=start) == 0
  events = event_accumulator.EventAccumulator(str(tmp_path))
  events.Reload()
  shown, = events.Scalars('learning_rate')
  np.testing.assert_allclose(shown.value, rate, rtol=1e-6)


def test_the_seed_draws_the_initial_weights(tmp_path, flags, data_dir):
  found = []
  for seed in (1, 2):
    folder = tmp_path / str(seed)
    flags(data_dir=data_dir, train_dir=str(folder), batch_size=20, max_steps=1,
          histogram_frequency=0, learning_rate=0.0, seed=seed)
    assert cifar10_train.train(cifar10.PUBLISHED, 2) == 0
    found.append(newest(folder))
  for name in cifar10.weight_shapes(2):
    one, other = (arrays[name] for arrays in found)
    # Weights are drawn, biases are constant.
    assert np.array_equal(one, other) == name.endswith('biases')


@pytest.mark.parametrize('spoiled, words', [
    ('softmax_linear/biases', 'Loss is nan at step 0 with learning rate'),
    ('local3/biases' + checkpoint.AVERAGE,
     'A weight is not finite after step 0')])
def test_nothing_that_is_not_finite_is_saved(tmp_path, flags, data_dir, spoiled,
                                             words):
  """Bad weights spoil the loss; bad averages spoil nothing else."""
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=20, max_steps=1,
        histogram_frequency=0)
  start = drawn(2)
  start[spoiled].flat[0] = np.nan
  with pytest.raises(UserError, match=words):
    cifar10_train.train(cifar10.PUBLISHED, 2, initial=start)
  assert checkpoint.paths(str(tmp_path)) == []


def test_other_settings_are_refused(flags, data_dir, trained):
  before = sorted(os.listdir(trained))
  base = dict(data_dir=data_dir, train_dir=trained, batch_size=50, max_steps=40)
  for change, width, words in [
      ({}, 13, 'conv1_channels = 12, not 13'),
      ({'seed': 5}, 12, 'seed = 0, not 5'),
      ({'batch_size': 40}, 12, 'batch_size = 50, not 40'),
      ({'learning_rate': 0.2}, 12, 'learning_rate = 0.1, not 0.2')]:
    flags(**dict(base, **change))
    with pytest.raises(checkpoint.CheckpointError, match=words):
      cifar10_train.train(cifar10.PUBLISHED, width)
    flags(seed=0, learning_rate=None)
  assert sorted(os.listdir(trained)) == before


def copy_steps(source, target, data_dir, flags):
  """A run of its own, stopped after 20 of 30 steps."""
  flags(data_dir=data_dir, train_dir=str(target), batch_size=50, max_steps=20,
        checkpoint_frequency=10)
  assert cifar10_train.train(cifar10.PUBLISHED, 12) == 0


def test_damaged_checkpoints(tmp_path, data_dir, trained, flags, capsys):
  """It goes on before a damaged checkpoint, and stops if all are damaged."""
  copy_steps(trained, tmp_path, data_dir, flags)
  with open(tmp_path / 'model.ckpt-20.data-00000-of-00001', 'r+b') as data:
    data.seek(1000)
    data.write(b'????')
  flags(max_steps=30)
  assert cifar10_train.train(cifar10.PUBLISHED, 12) == 0
  captured = capsys.readouterr()
  assert 'model.ckpt-20 is damaged' in captured.err
  assert 'model.ckpt-10 at step 10 of 30' in captured.out
  assert_same(tmp_path, trained)
  for path in glob.glob(str(tmp_path / '*.index')):
    os.unlink(path)
  with pytest.raises(UserError, match='All 3 checkpoints in .* are damaged'):
    cifar10_train.train(cifar10.PUBLISHED, 12)


def test_unfinished_first_save_starts_again(tmp_path, data_dir, trained, flags):
  """A kill between the two files of the first save, before its state file."""
  (tmp_path / 'model.ckpt-10.data-00000-of-00001').write_bytes(b'part')
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=50,
        max_steps=30, checkpoint_frequency=10)
  assert cifar10_train.train(cifar10.PUBLISHED, 12) == 0
  assert_same(tmp_path, trained)


def test_loss_not_finite_saves_nothing_bad(tmp_path, data_dir):
  code, _, errors = conftest.run(*train(tmp_path, data_dir, 30,
                                        '--learning_rate=1e6'))
  assert code == 1
  assert re.search(r'is (nan|inf) at step \d+ with learning rate 1e\+06|'
                   r'A weight is not finite after step \d+', errors)
  assert 'Traceback' not in errors
  for path in checkpoint.paths(str(tmp_path)):
    arrays = checkpoint.read(path, cifar10.shapes_like).arrays
    assert all(np.isfinite(value).all() for value in arrays.values())


def test_second_run_in_the_same_folder_is_refused(tmp_path, data_dir):
  process = conftest.start(*train(tmp_path, data_dir, 100000))
  assert 'step 0' in process.stdout.readline()
  code, _, errors = conftest.run(*train(tmp_path, data_dir, 100000))
  process.kill()
  process.communicate()
  assert code == 1
  assert 'is in use by process %d' % process.pid in errors
