"""Training: real processes that are killed, stopped, damaged and resumed."""
import glob
import json
import os
import re
import shlex
import shutil
import signal
import time

from thinet import checkpoint
from thinet import files
from thinet import hooks
import cifar10
import cifar10_eval
import cifar10_input
import cifar10_train
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl.testing import flagsaver
from cifar10_input import UserError
import thinet_finetune
from tensorboard.backend.event_processing import event_accumulator


def train(folder, data_dir, steps=30, *more):
  return ('cifar10_train.py', '--data_dir=' + data_dir,
          '--train_dir=%s' % folder, '--conv1_channels=12', '--batch_size=50',
          '--checkpoint_frequency=10', '--log_frequency=10',
          '--histogram_frequency=20', '--max_steps=%d' % steps) + more


def read_to(process, words):
  """Reads a process's output up to the line with these words; returns it."""
  return next(line for line in process.stdout if words in line)


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
  read_to(process, ': step %d, loss' % step)
  process.kill()
  process.communicate()
  assert not os.path.exists(tmp_path / 'model.ckpt-30.index')
  code, output, _ = conftest.run(*train(tmp_path, data_dir))
  assert code == 0
  if step:
    assert re.search(r'Continuing \S+model\.ckpt-\d+ at step \d+ of 30', output)
  assert_same(tmp_path, trained)
  if step:
    code, output, _ = conftest.run(*train(tmp_path, data_dir))
    assert code == 0 and 'is finished: step 30 of 30' in output


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGHUP,
                                    signal.SIGUSR1])
def test_signals_save_and_the_same_command_continues(tmp_path, data_dir,
                                                     number):
  process = conftest.start(*train(tmp_path, data_dir, 100000))
  read_to(process, ': step 10, loss')
  process.send_signal(number)
  output, _ = process.communicate()
  assert process.returncode == 128 + number
  assert output.endswith('Stopped by %s and saved; the same command '
                         'continues.\n' % number.name)
  step = int(conftest.newest(tmp_path)[1]['global_step'])
  assert step > 10
  code, output, _ = conftest.run(*train(tmp_path, data_dir, step + 1))
  assert code == 0 and 'at step %d of %d' % (step, step + 1) in output


def test_an_ignored_signal_stays_ignored(tmp_path, data_dir):
  """As nohup asks for."""
  process = conftest.start(*train(tmp_path, data_dir, 100000),
                           ignored=signal.SIGHUP)
  read_to(process, ': step 0, loss')
  process.send_signal(signal.SIGHUP)
  assert 'step 10, loss' in process.stdout.readline()
  process.terminate()
  assert 'SIGTERM' in process.communicate()[0]


def test_a_training_whose_reader_has_gone_saves(tmp_path, data_dir):
  """As behind `| head -1`, and in a terminal that was closed."""
  process = conftest.start(*train(tmp_path, data_dir, 100000))
  read_to(process, ': step 0, loss')
  process.stdout.close()
  assert process.communicate()[1].count('Traceback') == 0
  assert process.returncode == 128 + signal.SIGPIPE
  assert int(conftest.newest(tmp_path)[1]['global_step']) >= 11


def test_a_clock_that_stands_still(tmp_path, data_dir, flags, monkeypatch):
  for name in ('time', 'perf_counter', 'monotonic'):
    monkeypatch.setattr(hooks.time, name, lambda: 5.0)
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=20, max_steps=3,
        log_frequency=1)
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(2)) == 0
  assert files.read_json(tmp_path / 'run.json')['seconds'] == 0


def test_seconds_are_those_of_the_steps_that_are_kept(tmp_path, data_dir, flags,
                                                      monkeypatch):
  """A step takes one second; the training fails in the sixteenth, and again
  when it was finished and goes on."""
  steps = []
  run_steps = hooks.StepCounter.run_steps

  def timed(counter, *arguments):
    steps.append(counter.step)
    if len(steps) in (16, 40):
      raise MemoryError
    run_steps(counter, *arguments)

  monkeypatch.setattr(hooks.StepCounter, 'run_steps', timed)
  monkeypatch.setattr(hooks.time, 'perf_counter', lambda: len(steps))
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=20, max_steps=30,
        checkpoint_frequency=10)
  with pytest.raises(MemoryError):
    cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(2))
  run = files.read_json(tmp_path / 'run.json')
  assert (run['seconds'], run['step']) == (10, 10) and 'end' not in run
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(2)) == 0
  run = files.read_json(tmp_path / 'run.json')
  assert (run['seconds'], run['step']) == (30, 30) and 'end' in run
  flags(max_steps=60)
  with pytest.raises(MemoryError):
    cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(2))
  run = files.read_json(tmp_path / 'run.json')
  assert (run['seconds'], run['step']) == (30, 30) and 'end' not in run


def test_more_steps_than_asked_for_are_not_called_finished(flags, data_dir,
                                                           trained):
  flags(data_dir=data_dir, train_dir=trained, batch_size=50, max_steps=20)
  with pytest.raises(UserError, match='is at step 30, beyond the 20 of this'):
    cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12))


def test_the_folder_is_tried_before_the_data(tmp_path, flags, monkeypatch):
  (tmp_path / 'file').touch()
  flags(data_dir=str(tmp_path / 'data'), train_dir=str(tmp_path / 'file'))
  with pytest.raises(files.FileError, match='file is not a folder'):
    cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12))
  assert os.listdir(tmp_path) == ['file']


def test_log_line_run_json_and_events(tmp_path, data_dir):
  code, output, _ = conftest.run(*train(tmp_path, data_dir, 30,
                                        '--eval_frequency=20'))
  assert code == 0
  header, lines = output.splitlines()[:5], output.splitlines()[5:]
  device = ('GPU' if tf.config.list_physical_devices('GPU') else
            'processor, %d core' % len(os.sched_getaffinity(0)))
  # Parameters as the formula of a layer, multiply-adds by hand.
  parameters = (76 * 12 + (25 * 12 + 1) * 64 + 2305 * 384 + 385 * 192 +
                193 * 10)
  multiply_adds = 576 * 75 * 12 + 144 * 25 * 12 * 64 + (
      2304 * 384 + 384 * 192 + 192 * 10)
  for line, words in zip(header, [
      'conv1 12, conv2 64, local3 384, local4 192, softmax_linear 10; '
      '%s parameters, %s multiply-adds' % (format(parameters, ','),
                                           format(multiply_adds, ',')),
      'cifar-10-batches-bin, 500 training images, 100 test images',
      'schedule published, 30 steps of 50 images (3 epochs), float32, seed 0',
      'Device: ' + device, 'Folder: %s.' % tmp_path]):
    assert words in line
  time = r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: '
  rated = time + r'step %d, precision @ 1 = 0\.\d{4}, @ 5 = 0\.\d{4} \(100 '
  assert re.match(rated % 0, lines[0])
  assert re.fullmatch(time + r'step 0, loss = 4\.\d+ \(first step\); step 0 of '
                      '30, epoch 0.0 of 3, learning rate 0.1', lines[1])
  assert re.fullmatch(time + r'step 10, loss = \d\.\d+ \(\d+\.\d '
                      r'examples/sec; \d\.\d+ sec/batch\); step 10 of 30, '
                      r'epoch 1\.0 of 3, learning rate 0\.1, \d:\d\d:\d\d left',
                      lines[2])
  assert re.match(rated % 20, lines[3]) and 'step 20, loss' in lines[4]
  assert 'step 29, loss' in lines[5] and re.match(rated % 30, lines[6])
  run = json.load(open(tmp_path / 'run.json'))
  assert run['seed'] == 0 and run['flags']['conv1_channels'] == 12
  assert run['start'] <= run['end'] and len(run['data_digest']) == 64
  assert run['versions'].keys() == {'python', 'tensorflow', 'numpy'}
  assert header[3] == 'Device: %s.' % run['device']
  assert len(glob.glob(str(tmp_path / 'model.ckpt-*.index'))) == 3
  events = event_accumulator.EventAccumulator(str(tmp_path))
  events.Reload()
  tags = events.Tags()
  assert {'learning_rate', 'examples_per_second', 'losses/cross_entropy',
          'losses_raw/cross_entropy', 'losses/total_loss',
          'losses/local3/weight_loss'} <= set(tags['scalars'])
  assert [event.step
          for event in events.Scalars('learning_rate')] == [0, 10, 20, 29]
  assert {'conv1/activations', 'conv2/weights/values',
          'conv2/weights/gradients'} <= set(tags['histograms'])
  # No chart of one point.
  assert [event.step
          for event in events.Scalars('conv1/sparsity')] == [0, 20, 29]
  # The first picture as it is in the file: some training image.
  png, = events.Images('images/stored/image/0')[:1]
  with tf.Graph().as_default(), tf.Session() as session:
    shown = session.run(tf.image.decode_png(png.encoded_image_string))
  planes = shown.transpose(2, 0, 1).tobytes()
  assert any(planes in open(path, 'rb').read() for path in
             cifar10_input.data_files(cifar10_input.data_folder(data_dir),
                                      'train_eval'))
  assert 'images/seen/image/0' in tags['images']


def test_ratings_are_an_evaluations_and_change_no_bit(tmp_path, flags, data_dir,
                                                      trained):
  """Every 7 steps, against evaluations of the checkpoints at those steps;
  stopped at step 21, which is rated again."""
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=50,
        checkpoint_frequency=7, keep_checkpoints=9, eval_frequency=7)
  for last in (21, 30):
    flags(max_steps=last)
    assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  events = event_accumulator.EventAccumulator(str(tmp_path))
  events.Reload()
  for number, k in enumerate((1, 5)):
    curve = {event.step: event.value
             for event in events.Scalars('Precision @ %d' % k)}
    assert sorted(curve) == [0, 7, 14, 21, 28, 30]
    for step in (7, 28, 30):
      arrays = checkpoint.read(str(tmp_path / ('model.ckpt-%d' % step)),
                               cifar10.shapes_like).arrays
      hits = cifar10_eval.eval_once(arrays, 100, 'test', 'averaged')[number]
      assert curve[step] == pytest.approx(hits / 100, abs=1e-6)
  flags(train_dir=str(tmp_path / 'none'), eval_frequency=0)
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  assert_same(tmp_path, tmp_path / 'none')
  assert_same(tmp_path, trained)
  events = event_accumulator.EventAccumulator(str(tmp_path / 'none'))
  events.Reload()
  assert 'Precision @ 1' not in events.Tags()['scalars']


@pytest.mark.parametrize('test_images', [0, 3])
def test_few_or_no_test_images(tmp_path, flags, data_dir, trained, capsys,
                               test_images):
  data = tmp_path / 'data' / 'cifar-10-batches-bin'
  shutil.copytree(os.path.join(data_dir, 'cifar-10-batches-bin'), data)
  os.truncate(data / 'test_batch.bin', 3073 * test_images)
  flags(data_dir=str(tmp_path / 'data'), train_dir=str(tmp_path / 'run'),
        batch_size=50, max_steps=30, eval_frequency=None)
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  assert_same(tmp_path / 'run', trained)
  output = capsys.readouterr().out
  assert ('(3 test images)' if test_images else
          'no evaluation on test images') in output
  assert bool(test_images) == ('precision' in output)


def test_as_many_checkpoints_as_asked(tmp_path, flags, data_dir):
  flags(data_dir=data_dir, batch_size=20, max_steps=6, checkpoint_frequency=1)
  for keep in (1, 5):
    folder = tmp_path / str(keep)
    flags(train_dir=str(folder), keep_checkpoints=keep)
    assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(2)) == 0
    assert sorted(int(path.stem[11:]) for path in folder.glob('*.index')) == (
        list(range(7 - keep, 7)))


def going_on(parent, folder, data_dir, *more):
  return ('cifar10_train.py', '--data_dir=' + data_dir, '--batch_size=50',
          '--checkpoint_dir=%s' % parent, '--train_dir=%s' % folder,
          '--checkpoint_frequency=10', '--log_frequency=10') + more


def test_more_steps_in_a_new_folder_equal_one_run(tmp_path, data_dir, trained):
  """Killed on its way, too; the old run is left as it is."""
  old = sorted(os.listdir(trained))
  command = going_on(trained, tmp_path / 'new', data_dir, '--max_steps=60')
  process = conftest.start(*command)
  read_to(process, ': step 50, loss')
  process.kill()
  process.communicate()
  code, output, _ = conftest.run(*command)
  assert code == 0 and re.search(r'at step (4|5)0 of 60', output)
  code, _, _ = conftest.run(*train(tmp_path / 'never', data_dir, 60))
  assert code == 0 and sorted(os.listdir(trained)) == old
  _, arrays, settings = conftest.newest(tmp_path / 'new')
  _, others, other_settings = conftest.newest(tmp_path / 'never')
  assert [name for name in arrays
          if arrays[name].tobytes() != others[name].tobytes()] == []
  path, _, parent = conftest.newest(trained)
  assert settings == dict(other_settings, parent=parent,
                          parent_digest=checkpoint.digest(path))
  events = event_accumulator.EventAccumulator(str(tmp_path / 'new'))
  assert events.Reload().Graph().node   # A new folder has its graph.
  code, _, errors = conftest.run(*going_on(
      trained, tmp_path / 'other', data_dir, '--max_steps=30'))
  assert code == 1 and ('is at step 30, and this training ends at '
                         'step 30') in errors
  assert not os.path.exists(tmp_path / 'other' / 'run.json')


def test_the_first_step_of_a_new_run_by_hand(tmp_path, flags, data_dir, call):
  """Fast after fast, one step at another rate: what the momentum and the new
  gradient add is proportional to the rate; the averages and the step go on."""
  flags(data_dir=data_dir, batch_size=20, max_steps=3,
        train_dir=str(tmp_path / 'old'))
  assert cifar10_train.train(cifar10.FAST, cifar10.Widths(2)) == 0
  old, went = newest(tmp_path / 'old'), []
  for rate in (0.001, 0.004):
    folder = tmp_path / str(rate)
    code, _, _ = call(
        cifar10_train, '--checkpoint_dir=%s' % (tmp_path / 'old'),
        '--train_dir=%s' % folder, '--data_dir=' + data_dir, '--batch_size=20',
        '--max_steps=4', '--schedule=fast', '--learning_rate=%g' % rate,
        '--histogram_frequency=0', '--eval_frequency=0')
    new = newest(folder)
    assert code == 0 and new['global_step'] == 4
    # Of 4 steps the rate falls from step 1 to 4, so that it is a third of it.
    velocity = [arrays['local4/weights/Momentum'] for arrays in (old, new)]
    gradient = velocity[1] - 0.9 * velocity[0]
    np.testing.assert_allclose(
        old['local4/weights'] - new['local4/weights'],
        rate / 3 * (gradient + 0.9 * velocity[1]), rtol=0, atol=1e-8)
    decay = 5 / 14   # (1 + step) / (10 + step) after step 4.
    average = 'local4/weights' + checkpoint.AVERAGE
    np.testing.assert_allclose(
        new[average],
        decay * old[average] + (1 - decay) * new['local4/weights'],
        rtol=0, atol=1e-7)
    went.append(velocity[1])
  assert np.array_equal(*went) and np.abs(went[0]).max() > 0


def test_another_schedule_starts_without_momentum(tmp_path, flags, data_dir,
                                                  trained, call):
  """And the width is the checkpoint's; another one is refused."""
  command = going_on(trained, tmp_path / 'new', data_dir, '--max_steps=31',
                     '--schedule=fast', '--learning_rate=0',
                     '--histogram_frequency=0')[1:]
  code, _, errors = call(cifar10_train, *command, '--conv1_channels=13')
  assert code == 1 and '--conv1_channels=13 is not the 12 of ' in errors
  assert call(cifar10_train, *command)[0] == 0
  old, new = newest(trained), newest(tmp_path / 'new')
  for name in cifar10.weight_shapes():
    assert np.array_equal(new[name], old[name])
  velocity = new['local4/weights/Momentum']
  assert np.abs(velocity).max() > 0   # The first gradient.
  code, _, errors = call(cifar10_train, *command, '--train_dir=' + trained)
  assert code == 1 and 'is the folder of the network to start from' in errors


@pytest.mark.parametrize('settings, tuned', [
    ({}, {}), ({'fine_tuned': True}, {'fine_tuned': True}),
    ({'criterion': 'l1', 'fine_tuned': False},
     {'criterion': 'l1', 'fine_tuned': True})])
def test_a_new_run_says_what_it_goes_on_from(tmp_path, flags, monkeypatch,
                                             settings, tuned):
  """A fine-tuned network stays one; training makes a compressed one one."""
  path = checkpoint.save(str(tmp_path), {
      name + suffix: np.zeros(shape, np.float32)
      for suffix in ('', checkpoint.AVERAGE)
      for name, shape in cifar10.weight_shapes().items()}, settings)
  made = []
  monkeypatch.setattr(cifar10_train, 'train',
                      lambda *given, **how: made.append(how))
  flags(checkpoint_dir=str(tmp_path), conv1_channels=None)
  cifar10_train.go_on()
  del made[0]['initial']
  assert made == [dict(tuned, parent=settings,
                       parent_digest=checkpoint.digest(path))]


def test_a_refusal_names_the_command_that_goes_on(tmp_path, data_dir, trained,
                                                  call):
  old = str(shutil.copytree(trained, tmp_path / 'old run'))
  code, _, errors = call(cifar10_train, *train(
      old, data_dir, 31, '--learning_rate=0.01', '--eval_frequency=0')[1:])
  assert code == 1
  sentence, command = errors.strip().split('new folder: ')
  assert 'made with learning_rate = 0.1, not 0.01; name another' in sentence
  python, script, *arguments = shlex.split(command)
  assert (python, script) == ('python', 'cifar10_train.py')
  assert call(cifar10_train, *arguments)[0] == 0
  _, arrays, settings = conftest.newest(old + '_on')
  assert arrays['global_step'] == 31 and settings['learning_rate'] == 0.01


def drawn(width):
  """name -> array: weights, and averages that lie 1 above them."""
  weights = conftest.drawn(cifar10.Widths(width), 0.05, averages=False)
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
        checkpoint_frequency=1, seed=3)
  start = drawn(2)
  matrices = {name: np.diag(np.linspace(1, 2, int(np.prod(shape[:-1]))))
              for name, shape in cifar10.weight_shapes(
                  cifar10.Widths(2)).items()
              if schedule is thinet_finetune.SCHEDULE and
              name in ('conv1/weights', 'conv2/weights')}
  assert cifar10_train.train(
      schedule, cifar10.Widths(2), 'training', start,
      lambda: {name: np.float32(matrix) for name, matrix in matrices.items()}
      ) == 0
  with tf.Graph().as_default(), tf.Session() as session:
    step = tf.placeholder(tf.int64, [])
    images, labels = cifar10.distorted_inputs(3, step)
    logits = cifar10.inference(images, cifar10.Widths(2))
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
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=20,
        max_steps=200002, learning_rate=0.0)
  start = dict(drawn(2), global_step=np.int64(200000))
  assert cifar10_train.train(schedule, cifar10.Widths(2), initial=start) == 0
  after = newest(tmp_path)
  assert after['global_step'] == 200002
  for name in cifar10.weight_shapes():
    assert np.array_equal(after[name], start[name])
    np.testing.assert_allclose(after[name + checkpoint.AVERAGE] - after[name],
                               decay ** 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize('step, rate', [(3499, 0.1), (3500, 0.01)])
def test_the_published_rate_falls_after_350_epochs(tmp_path, flags, data_dir,
                                                   step, rate):
  """500 images in batches of 50 are 10 steps an epoch."""
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=50,
        max_steps=step + 1)
  start = dict(drawn(2), global_step=np.int64(step))
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(2),
                             initial=start) == 0
  events = event_accumulator.EventAccumulator(str(tmp_path))
  events.Reload()
  shown, = events.Scalars('learning_rate')
  np.testing.assert_allclose(shown.value, rate, rtol=1e-6)


def test_the_seed_draws_the_initial_weights(tmp_path, flags, data_dir):
  found = []
  for seed in (1, 2):
    folder = tmp_path / str(seed)
    flags(data_dir=data_dir, train_dir=str(folder), batch_size=20, max_steps=1,
          learning_rate=0.0, seed=seed)
    assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(2)) == 0
    found.append(newest(folder))
  for name in cifar10.weight_shapes():
    one, other = (arrays[name] for arrays in found)
    # Weights are drawn, biases are constant.
    assert np.array_equal(one, other) == name.endswith('biases')


@pytest.mark.parametrize('spoiled, words', [
    ('softmax_linear/biases', 'Loss is nan at step 0; .*=0.1.$'),
    ('local3/biases' + checkpoint.AVERAGE,
     'A weight is not finite after step 0')])
def test_nothing_that_is_not_finite_is_saved(tmp_path, flags, data_dir, spoiled,
                                             words):
  """Bad weights spoil the loss; bad averages spoil nothing else."""
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=20, max_steps=1)
  start = drawn(2)
  start[spoiled].flat[0] = np.nan
  with pytest.raises(UserError, match=words):
    cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(2), initial=start)
  assert checkpoint.paths(str(tmp_path)) == []


def test_divergence_is_one_sentence_with_histograms_too(tmp_path, flags,
                                                        data_dir):
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=20, max_steps=3,
        learning_rate=1e30, histogram_frequency=1)
  with pytest.raises(UserError, match=r'^Nan in summary histogram for: \S+ at '
                     r'step 1; lower --learning_rate=1e\+30\.$'):
    cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(2))


@pytest.mark.parametrize('error, words', [
    (tf.errors.ResourceExhaustedError(None, None, 'OOM: 9 GB\nat a place'),
     r'processor, \d+ cores? is exhausted \(OOM: 9 GB\)'),
    (MemoryError('9 GB\nmore'), r'this machine is exhausted \(9 GB\)'),
    (MemoryError(), r'this machine is exhausted \(out of memory\)')])
def test_a_device_without_memory_is_one_sentence(call, monkeypatch, error,
                                                 words):
  def train(*_, **__):
    raise error
  monkeypatch.setattr(cifar10_train, 'train', train)
  code, _, errors = call(cifar10_train)
  assert code == 1 and re.search(
      'Memory of %s; run fewer programs on it, or lower --batch_size\\.\n$' %
      words, errors)


def test_other_settings_are_refused(flags, data_dir, trained):
  before = sorted(os.listdir(trained))
  base = dict(data_dir=data_dir, train_dir=trained, batch_size=50, max_steps=40)
  no_way_on = '.*, or use the same value.$'
  for change, widths, words in [
      ({}, (13,), 'conv1_channels = 12, not 13' + no_way_on),
      ({}, (12, 64, 200), 'made without local3_units = 200' + no_way_on),
      ({'seed': 5}, (12,), 'seed = 0, not 5'),
      ({'batch_size': 40}, (12,), 'batch_size = 50, not 40'),
      ({'learning_rate': 0.2}, (12,), 'learning_rate = 0.1, not 0.2')]:
    flags(**dict(base, **change))
    with pytest.raises(checkpoint.CheckpointError, match=words):
      cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(*widths))
    flags(seed=0, learning_rate=None)
  assert sorted(os.listdir(trained)) == before


@pytest.fixture(scope='module')
def stopped_run(data_dir, tmp_path_factory):
  """Folder of a run that ended after 20 of the 30 steps of `trained`."""
  folder = str(tmp_path_factory.mktemp('stopped'))
  with flagsaver.flagsaver(data_dir=data_dir, train_dir=folder, max_steps=20,
                           batch_size=50, checkpoint_frequency=10):
    assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  return folder


@pytest.fixture
def stopped(stopped_run, tmp_path, data_dir, flags):
  """A copy of that run in tmp_path, to be trained to step 30."""
  shutil.copytree(stopped_run, tmp_path, dirs_exist_ok=True)
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=50, max_steps=30,
        checkpoint_frequency=10)


def test_damaged_checkpoints(tmp_path, stopped, trained, flags, capsys):
  """It goes on before a damaged checkpoint, and makes all again if it has to.
  """
  with open(tmp_path / 'model.ckpt-20.data-00000-of-00001', 'r+b') as data:
    data.seek(1000)
    data.write(b'????')
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  captured = capsys.readouterr()
  assert 'model.ckpt-20 is damaged' in captured.err
  assert 'model.ckpt-10 at step 10 of 30' in captured.out
  assert_same(tmp_path, trained)
  for path in glob.glob(str(tmp_path / '*.index')):
    open(path, 'w').close()   # As power that failed leaves them.
  flags(seed=3)
  damaged = shutil.copytree(tmp_path, tmp_path / 'other')
  before = sorted(os.listdir(damaged))
  flags(train_dir=str(damaged))
  with pytest.raises(checkpoint.CheckpointError, match='seed = 0, not 3'):
    cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12))
  # A compression's folder, whose network is damaged, is no training's either.
  os.unlink(damaged / 'run.json')
  files.write_json(str(damaged / 'compress.json'), {
      'settings': {'criterion': 'l1',
                   'random_streams': cifar10_input.RANDOM_STREAMS}})
  with pytest.raises(checkpoint.CheckpointError, match='was made without'):
    cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12))
  os.rename(damaged / 'compress.json', damaged / 'run.json')
  assert sorted(os.listdir(damaged)) == before   # Nothing was moved aside.
  flags(seed=0, train_dir=str(tmp_path))
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  assert_same(tmp_path, trained)
  assert len(os.listdir(tmp_path / 'damaged')) == 4   # One of them before.


def test_a_state_file_that_names_a_missing_checkpoint(tmp_path, stopped,
                                                      trained):
  (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-30"')
  (tmp_path / 'run.json').write_text('{"start": [], "seconds": "odd"}')
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  assert_same(tmp_path, trained)


def test_a_checkpoint_without_a_variable_is_refused(tmp_path, stopped):
  _, arrays, settings = conftest.newest(tmp_path)
  del arrays['loss/avg' if 'loss/avg' in arrays else sorted(
      name for name in arrays if name.endswith('/avg'))[0]]
  checkpoint.save(str(tmp_path), arrays, settings, 20)
  with pytest.raises(checkpoint.CheckpointError, match='lacks .*/avg'):
    cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12))


def test_a_network_that_does_not_fit_is_refused_before_the_first_step(
    tmp_path, flags, data_dir):
  """Another program's momentum, of another shape."""
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=20, max_steps=1)
  start = dict(drawn(2), **{'conv1/weights/Momentum': np.zeros([2, 2])})
  with pytest.raises(checkpoint.CheckpointError, match='conv1/weights/Mome'):
    cifar10_train.train(cifar10.FAST, cifar10.Widths(2), initial=start)
  assert os.listdir(tmp_path) == ['lock']


def test_unfinished_first_save_starts_again(tmp_path, data_dir, trained, flags):
  """A kill between the two files of the first save, before its state file."""
  (tmp_path / 'model.ckpt-10.data-00000-of-00001').write_bytes(b'part')
  flags(data_dir=data_dir, train_dir=str(tmp_path), batch_size=50,
        max_steps=30, checkpoint_frequency=10)
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  assert_same(tmp_path, trained)


def test_what_killed_writers_left_is_removed(tmp_path, data_dir, trained,
                                             flags):
  """But not what an evaluation may be writing, within the last hour."""
  folder = shutil.copytree(trained, tmp_path / 'run')
  before = sorted(os.listdir(folder))
  for name in ('model.ckpt-30.index.tempstate17', '.run.json.abc.part',
               'model.ckpt-30.data-00000-of-00001.tempstate4711',
               '.checkpoint.x_y.part', '.eval.json.abc.part'):
    (folder / name).touch()
  for name in ('.eval_test_raw.json.abc.part', '.hparams.abc.part'):
    (folder / name).touch()
    os.utime(folder / name, (time.time() - 3700,) * 2)
  flags(data_dir=data_dir, train_dir=str(folder), batch_size=50, max_steps=30)
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  assert sorted(os.listdir(folder)) == ['.eval.json.abc.part'] + before


def test_loss_not_finite_saves_nothing_bad(tmp_path, data_dir):
  code, _, errors = conftest.run(*train(tmp_path, data_dir, 30,
                                        '--learning_rate=1e6'))
  assert code == 1
  assert re.search(r'is (nan|inf) at step \d+;.* lower --learning_rate=1e\+06|'
                   r'A weight is not finite after step \d+', errors)
  assert 'Traceback' not in errors
  for path in checkpoint.paths(str(tmp_path)):
    arrays = checkpoint.read(path, cifar10.shapes_like).arrays
    assert all(np.isfinite(value).all() for value in arrays.values())


def test_second_run_in_the_same_folder_is_refused(tmp_path, data_dir):
  process = conftest.start(*train(tmp_path, data_dir, 100000))
  read_to(process, ': step 0, loss')
  code, _, errors = conftest.run(*train(tmp_path, data_dir, 100000))
  process.kill()
  process.communicate()
  assert code == 1
  assert 'is in use by process %d' % process.pid in errors
