"""Trains the CIFAR-10 network at any conv1 width; resumes where it stopped.

  python cifar10_train.py --train_dir=runs/seed0/scratch_64 --conv1_channels=64

The same command continues an interrupted run, bit for bit as if it had never
stopped, and says so when the run is finished. Ctrl-C, a lost connection and the
other polite signals save first.
"""
import contextlib
import datetime
import json
import os
import platform
import signal
import time
import typing

import cifar10
import cifar10_input
from cifar10_input import UserError
from thinet import checkpoint
from thinet import files
from thinet import summaries
from thinet import tensorflow as tf

import numpy as np

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'conv1_channels', 'seed'):
  tf.app.flags.declare_key_flag(_name)
FLAGS['conv1_channels'].help = ('Width of the first layer; by default %d.' %
                                cifar10.CONV1_CHANNELS)
tf.app.flags.DEFINE_string('train_dir', None,
                           'Required. Folder for checkpoints, events and '
                           'run.json.')
tf.app.flags.DEFINE_enum('schedule', 'published', ['published', 'fast'],
                         'Optimizer and learning rate; see README.')
tf.app.flags.DEFINE_float('epochs', None, 'Passes over the training images; by '
                          'default %g, with --schedule=fast %g.' % (
                              cifar10.PUBLISHED.epochs, cifar10.FAST.epochs),
                          upper_bound=1e6)
tf.app.flags.DEFINE_integer('max_steps', 0,
                            'If above 0, number of steps; replaces --epochs.',
                            lower_bound=0, upper_bound=10**9)
tf.app.flags.DEFINE_float('learning_rate', None, 'Highest learning rate; by '
                          'default %g, with --schedule=fast %g.' % (
                              cifar10.PUBLISHED.learning_rate,
                              cifar10.FAST.learning_rate), lower_bound=0)
tf.app.flags.register_validator(
    'epochs', lambda value: value is None or value > 0,
    'give a number above 0')
tf.app.flags.register_validator(
    'learning_rate', lambda value: value is None or np.isfinite(value),
    'give a finite number')
tf.app.flags.DEFINE_enum('precision', 'float32', ['float32', 'bfloat16'],
                         'Type of the operands of convolutions and products.')
tf.app.flags.DEFINE_integer('log_frequency', 100,
                            'Steps between log lines and scalar summaries.',
                            lower_bound=1)
tf.app.flags.DEFINE_integer('histogram_frequency', 5000,
                            'Steps between histograms; 0 for none.',
                            lower_bound=0)
tf.app.flags.DEFINE_integer('checkpoint_frequency', 1000,
                            'Steps between checkpoints.', lower_bound=1)
KEEP_CHECKPOINTS = 3
SCHEDULES = {each.name: each for each in (cifar10.PUBLISHED, cifar10.FAST)}


class Plan(typing.NamedTuple):
  """What a training does, and the settings that its checkpoints carry."""
  schedule: cifar10.Schedule
  learning_rate: float         # The highest.
  epochs: float                # Passes over the training images.
  steps_per_epoch: float
  last_step: int               # Number of steps in all.
  settings: dict


class Model(typing.NamedTuple):
  """The parts of the graph that a training runs."""
  loss: 'tf.Tensor'
  learning_rate: 'tf.Tensor'
  train_op: 'tf.Operation'


def now():
  """Local time in ISO 8601, to the second, with its offset from UTC."""
  return datetime.datetime.now().astimezone().isoformat(timespec='seconds')


class _Hook:
  """A tf.train.SessionRunHook that does nothing; see thinet/tensorflow.py."""

  def begin(self):
    pass

  def after_create_session(self, session, coord):
    pass

  def before_run(self, run_context):
    pass

  def after_run(self, run_context, run_values):
    pass

  def end(self, session):
    pass


class _LoggerHook(_Hook):
  """Prints the tutorial's line, writes summaries, requires a finite loss."""

  def __init__(self, model, step, last_step, layout, stop):
    self._model, self._layout = model, layout
    self._step, self._last_step, self._stop = step, last_step, stop
    self._writer = tf.summary.FileWriter(FLAGS.train_dir)
    self._scalars = tf.summary.merge_all()
    self._histograms = tf.summary.merge_all('histograms')
    self._start = None

  def after_create_session(self, session, coord):
    if self._step:  # TensorBoard then drops a killed run's later events.
      self._write('add_session_log',
                  tf.SessionLog(status=tf.SessionLog.START), self._step)
    else:
      self._write('add_graph', session.graph)
    self._write('add_summary', self._layout.SerializeToString(), self._step)

  def before_run(self, run_context):
    fetches = {'loss': self._model.loss}
    if self._step % FLAGS.log_frequency == 0:
      fetches['scalars'] = self._scalars
    every = FLAGS.histogram_frequency
    if every and self._step % every == 0:
      fetches['histograms'] = self._histograms
    return tf.train.SessionRunArgs(fetches)

  def after_run(self, run_context, run_values):
    results = run_values.results
    if not np.isfinite(results['loss']):
      raise UserError(
          'Loss is %s at step %d with learning rate %g; the last good '
          'checkpoint in %s is kept, lower --learning_rate.' % (
              results['loss'], self._step,
              run_context.session.run(self._model.learning_rate),
              FLAGS.train_dir))
    if 'scalars' in results:
      self._write('add_summary', results['scalars'], self._step)
      self._log(results['loss'])
    if 'histograms' in results:
      self._write('add_summary', results['histograms'], self._step)
    self._step += 1

  def _log(self, loss):
    # The first interval includes the graph's start, so it gives no rate.
    speed = 'first step'
    if self._start:
      step, start = self._start
      seconds = max(time.perf_counter() - start, 1e-9) / (self._step - step)
      left = datetime.timedelta(
          seconds=round(seconds * (self._last_step - self._step)))
      speed = '%.1f examples/sec; %.3f sec/batch; %s left' % (
          FLAGS.batch_size / seconds, seconds, left)
      self._write('add_summary', tf.Summary(value=[tf.Summary.Value(
          tag='examples_per_second',
          simple_value=FLAGS.batch_size / seconds)]), self._step)
    self._start = self._step, time.perf_counter()
    try:
      print('%s: step %d, loss = %.2f (%s)' % (
          datetime.datetime.now(), self._step, loss, speed), flush=True)
    except OSError:   # Nobody reads any more, or the log's disk is full.
      cifar10.close_output()
      self._stop(signal.SIGPIPE)

  def _write(self, method, *arguments):
    try:
      getattr(self._writer, method)(*arguments)
    except checkpoint.write_errors() as error:
      raise files.not_written(FLAGS.train_dir, error)

  def end(self, session):
    self._write('close')


class _CheckpointHook(_Hook):
  """Saves finite weights: at intervals, at the end, and when told to stop."""

  def __init__(self, settings, step, last_step):
    self._settings, self._step, self._last_step = settings, step, last_step
    self._variables = {var.op.name: var for var in tf.global_variables()
                       if var.op.name != checkpoint.SETTINGS}
    self.signal = None

  def stop(self, number, frame=None):
    """Notes a signal; the training saves and ends after the present step."""
    self.signal = self.signal or number

  def after_run(self, run_context, run_values):
    self._step += 1
    stop = self.signal is not None or self._step >= self._last_step
    if stop or self._step % FLAGS.checkpoint_frequency == 0:
      self._save(run_context.session)
    if stop:
      run_context.request_stop()

  def _save(self, session):
    arrays = session.run(self._variables)
    if checkpoint.not_finite(arrays):
      raise UserError(
          'A weight is not finite after step %d; the last good checkpoint in '
          '%s is kept, lower --learning_rate.' % (self._step - 1,
                                                  FLAGS.train_dir))
    checkpoint.save(FLAGS.train_dir, arrays, self._settings, self._step,
                    KEEP_CHECKPOINTS)


def resume_point(folder, plan):
  """Reads the newest checkpoint, which must have the plan's settings.

  Args:
    folder: the training's folder.
    plan: Plan.

  Returns:
    (checkpoint, step): checkpoint.Checkpoint or None, and its step or 0.

  Raises:
    UserError: it has more steps than the plan.
    CheckpointError: it was made with other settings.
  """
  had = checkpoint.paths(folder)
  found = checkpoint.read_to_continue(folder, cifar10.shapes_like)
  if had and not found:   # All are damaged, so another file says what they were.
    with contextlib.suppress(OSError, ValueError, KeyError):
      checkpoint.require_same(folder, files.read_json(
          os.path.join(folder, 'run.json'))['settings'], plan.settings)
  if not found:
    return None, 0
  checkpoint.require_same(folder, found.settings, plan.settings)
  step = int(found.arrays['global_step'])
  if step > plan.last_step:
    raise UserError('%s is at step %d, beyond the %d of this training; name '
                    'another --train_dir, or give as many --epochs or '
                    '--max_steps.' % (folder, step, plan.last_step))
  return found, step


def given_flags():
  """Name -> value of the flags that were given on the command line."""
  return {name: FLAGS[name].value for name in FLAGS if FLAGS[name].present}


def record_run(plan, seconds=None):
  """Writes run.json; at the end, adds the time and the seconds of this run."""
  path = os.path.join(FLAGS.train_dir, 'run.json')
  run = {'start': now(), 'seconds': 0}
  with contextlib.suppress(OSError, ValueError):
    run = files.read_json(path)
  run.update(
      command=cifar10.command(), flags=given_flags(), settings=plan.settings,
      seed=FLAGS.seed, epochs=plan.epochs, last_step=plan.last_step,
      data_digest=plan.settings['data_digest'],
      versions={'python': platform.python_version(),
                'tensorflow': tf.__version__, 'numpy': np.__version__})
  commit = checkpoint.git_commit()
  if commit:
    run['git_commit'] = commit
  if seconds is not None:
    run['seconds'] = round(run['seconds'] + seconds, 1)
    run['end'] = now()
  files.write_json(path, run)


def require_record(plan):
  """Writes a finished run's run.json again if it is damaged, or of less."""
  path = os.path.join(FLAGS.train_dir, 'run.json')
  with contextlib.suppress(OSError, ValueError, KeyError):
    if files.read_json(path)['last_step'] == plan.last_step:
      return
  record_run(plan)


def make_plan(schedule, conv1_channels, made):
  """Checks flags and data, and settles what the flags leave open.

  Args:
    schedule: cifar10.Schedule.
    conv1_channels: width of the first layer.
    made: dict, how the initial weights were made; the checkpoints carry it.

  Returns:
    Plan.

  Raises:
    UserError: a flag or the data cannot be used.
  """
  cifar10.maybe_download_and_extract()
  examples, digest = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
  if examples < FLAGS.batch_size:
    raise UserError('%s has %d training images, fewer than a batch of %d; '
                    'lower --batch_size.' % (cifar10.data_folder(), examples,
                                             FLAGS.batch_size))
  steps_per_epoch = examples / FLAGS.batch_size
  epochs = schedule.epochs if FLAGS.epochs is None else FLAGS.epochs
  last_step = FLAGS.max_steps or int(np.ceil(epochs * steps_per_epoch))
  epochs = last_step / steps_per_epoch if FLAGS.max_steps else epochs
  rate = FLAGS.learning_rate
  rate = schedule.learning_rate if rate is None else rate
  settings = dict(made, conv1_channels=conv1_channels, seed=FLAGS.seed,
                  batch_size=FLAGS.batch_size, data_digest=digest,
                  schedule=schedule.name, learning_rate=rate,
                  precision=FLAGS.precision,
                  random_streams=cifar10_input.RANDOM_STREAMS)
  if schedule.linear:
    settings['last_step'] = last_step   # The rate at every step depends on it.
  return Plan(schedule, rate, epochs, steps_per_epoch, last_step, settings)


def build_model(plan, stream, preconditioners):
  """Builds the graph of a training: input, network, loss and train op.

  Args:
    plan: Plan.
    stream: name of the batches, as for cifar10_input.distorted_inputs.
    preconditioners: as for cifar10.train.

  Returns:
    Model.
  """
  tf.set_random_seed(FLAGS.seed)
  global_step = tf.train.get_or_create_global_step()
  towers = cifar10.towers(FLAGS.batch_size)
  images, labels = cifar10.distorted_inputs(FLAGS.seed, stream=stream,
                                            parts=towers)
  conv1_channels = plan.settings['conv1_channels']
  logits = cifar10.tower_inference(images, conv1_channels, FLAGS.precision,
                                   towers)
  loss = cifar10.loss(logits, labels, plan.schedule.label_smoothing)
  summaries.add_curves(conv1_channels, logits, labels)
  learning_rate = cifar10.learning_rate_at(
      global_step, plan.schedule, plan.learning_rate, plan.steps_per_epoch,
      plan.last_step)
  train_op = cifar10.train(loss, global_step, learning_rate, plan.schedule,
                           preconditioners)
  tf.get_variable(checkpoint.SETTINGS, initializer=json.dumps(plan.settings),
                  trainable=False)
  return Model(loss, learning_rate, train_op)


def make_steps(plan, model, found, step, initial):
  """Runs the steps that are left, and saves.

  Args:
    plan: Plan.
    model: Model, in the default graph.
    found: checkpoint.Checkpoint to continue, or None.
    step: its step, or 0.
    initial: name -> array to start from without a checkpoint, or None.

  Returns:
    Number of the signal that stopped the training, or None.

  Raises:
    UserError: the loss or a weight is not finite.
    FileError: the folder cannot be written to.
  """
  def initialize(scaffold, session):
    if found:
      checkpoint.restore(session, found)
    elif initial:
      checkpoint.assign(session, {var: initial[var.op.name]
                                  for var in tf.global_variables()
                                  if var.op.name in initial})

  checkpoint_hook = _CheckpointHook(plan.settings, step, plan.last_step)
  layout = summaries.layout(plan.settings['conv1_channels'])
  with tf.train.MonitoredTrainingSession(
      scaffold=tf.train.Scaffold(init_fn=initialize,
                                 saver=tf.train.Saver()),   # Unused.
      hooks=[_LoggerHook(model, step, plan.last_step, layout,
                         checkpoint_hook.stop), checkpoint_hook],
      config=cifar10.session_config(cifar10.towers(FLAGS.batch_size)),
      save_checkpoint_steps=None, save_checkpoint_secs=None,
      save_summaries_steps=None, save_summaries_secs=None,
      log_step_count_steps=None) as session:
    cifar10.on_stop(checkpoint_hook.stop)
    if found:
      print('Continuing %s at step %d of %d.' % (found.path, step,
                                                 plan.last_step))
    while not session.should_stop():
      session.run(model.train_op)
  return checkpoint_hook.signal


def train(schedule, conv1_channels, stream='training', initial=None,
          preconditioners=dict, **made):
  """Trains to the last step, from scratch or from given weights.

  Args:
    schedule: cifar10.Schedule.
    conv1_channels: width of the first layer.
    stream: name of the batches.
    initial: name -> array for every trainable variable and its average, or
      None to start from random weights.
    preconditioners: function without arguments that returns those for
      cifar10.train; called only if steps are left.
    **made: how the initial weights were made; the checkpoints carry it.

  Returns:
    Exit code: 0, or 128 + the signal that stopped the training.

  Raises:
    UserError: a flag or the data cannot be used, or the loss or a weight is not
      finite.
    CheckpointError: the folder was made with other settings.
    FileError: the folder is in use, or cannot be written to.
  """
  if not FLAGS.train_dir:
    raise UserError('--train_dir is missing; name a folder for the run.')
  files.require_writable(FLAGS.train_dir)
  plan = make_plan(schedule, conv1_channels, made)
  lock = files.hold(FLAGS.train_dir)
  found, step = resume_point(FLAGS.train_dir, plan)
  if step >= plan.last_step:
    print('%s is finished: step %d of %d.' % (FLAGS.train_dir, step,
                                              plan.last_step))
    require_record(plan)
    return 0
  graph = tf.Graph()   # Imports TensorFlow, which is no part of the training.
  start = time.perf_counter()
  matrices = preconditioners()
  with graph.as_default():
    model = build_model(plan, stream, matrices)
    record_run(plan)
    stopped_by = make_steps(plan, model, found, step, initial)
  record_run(plan, time.perf_counter() - start)
  lock.close()
  if stopped_by:
    print('Stopped by %s and saved; the same command continues.' %
          signal.Signals(stopped_by).name)
    return 128 + stopped_by
  return 0


def main(argv=None):
  del argv
  return train(SCHEDULES[FLAGS.schedule],
               FLAGS.conv1_channels or cifar10.CONV1_CHANNELS)


if __name__ == '__main__':
  cifar10.run(main)
