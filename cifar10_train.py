"""Trains the CIFAR-10 network at any conv1 width; resumes where it stopped.

  python cifar10_train.py --train_dir=runs/scratch_64 --conv1_channels=64

The same command continues an interrupted run, bit for bit as if it had never
stopped, and says so when the run is finished. Ctrl-C and SIGTERM save first.
"""
import datetime
import json
import os
import platform
import signal
import sys
import time

from support import checkpoint
import cifar10
import cifar10_input
from cifar10_input import UserError
from support import operations
from support import preconditioner
from support import summaries

import numpy as np
import tensorflow.compat.v1 as tf

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'conv1_channels', 'seed'):
  tf.app.flags.declare_key_flag(_name)
tf.app.flags.DEFINE_string('train_dir', None,
                           'Folder for checkpoints, events and run.json.')
tf.app.flags.DEFINE_enum('schedule', 'published', ['published', 'fast'],
                         'Optimizer and learning rate; see README.')
tf.app.flags.DEFINE_float('epochs', None, 'Passes over the training images; '
                          'by default as the schedule says.', upper_bound=1e6)
tf.app.flags.DEFINE_integer('max_steps', 0,
                            'If above 0: steps, in place of --epochs.',
                            lower_bound=0, upper_bound=10**9)
tf.app.flags.DEFINE_float('learning_rate', None, 'Highest learning rate; by '
                          'default as the schedule says.', lower_bound=0)
tf.app.flags.register_validator(
    'epochs', lambda value: value is None or value > 0,
    'give a number above 0')
tf.app.flags.register_validator(
    'learning_rate', lambda value: value is None or np.isfinite(value),
    'give a finite number')
tf.app.flags.DEFINE_enum('precision', 'float32', ['float32', 'bfloat16'],
                         'Of the operands of convolutions and matrix products.')
tf.app.flags.DEFINE_integer('log_frequency', 100,
                            'Steps between log lines and scalar summaries.',
                            lower_bound=1)
tf.app.flags.DEFINE_integer('histogram_frequency', 5000,
                            'Steps between histograms; 0 for none.',
                            lower_bound=0)
tf.app.flags.DEFINE_integer('checkpoint_frequency', 1000,
                            'Steps between checkpoints.', lower_bound=1)
tf.app.flags.DEFINE_integer('steps_per_run', None, 'Steps that TensorFlow makes '
                            'before Python has a look, if nothing is due; by '
                            'default 1, on a GPU 100. Changes nothing else.',
                            lower_bound=1)

KEEP_CHECKPOINTS = 3


def now():
  return datetime.datetime.now().astimezone().isoformat(timespec='seconds')


def steps_in_run(step, last_step):
  """How many steps to make at once from this one on.

  One where something is to be written of it; else --steps_per_run, unless before
  that something is to be written, or saved.
  """
  written = [every for every in (FLAGS.log_frequency, FLAGS.histogram_frequency)
             if every]
  if any(step % every == 0 for every in written):
    return 1
  return min([FLAGS.steps_per_run, last_step - step] + [
      every - step % every for every in written + [FLAGS.checkpoint_frequency]])


def repeated(train_op, loss, count):
  """The graph's training step, count times over, as one operation.

  A copy of the step is the body of a loop, on the same variables.

  Args:
    train_op: the operation that makes one step.
    loss: float32 scalar tensor of that step.
    count: int32 scalar tensor.

  Returns:
    float32 scalar: the loss of the last of these steps, when it is made.
  """
  step = tf.graph_util.extract_sub_graph(
      tf.get_default_graph().as_graph_def(), [train_op.name, loss.op.name])
  names = {node.name for node in step.node}
  variables = {var.handle.name: var.handle
               for var in tf.global_variables() + tf.local_variables()
               if var.handle.op.name in names}

  def body(number, _):
    made, value = tf.import_graph_def(step, variables,
                                      [train_op.name, loss.name])
    with tf.control_dependencies([made]):
      return number + 1, tf.identity(value)

  return tf.while_loop(lambda number, _: number < count, body, [0, 0.0],
                       parallel_iterations=1)[1]


class _LoggerHook(tf.train.SessionRunHook):
  """Prints the tutorial's line, writes summaries, stops at a bad loss."""

  def __init__(self, loss, last_loss, count, learning_rate, step, last_step,
               layout):
    self._loss, self._last_loss, self._count = loss, last_loss, count
    self._learning_rate, self._layout = learning_rate, layout
    self._step, self._last_step = step, last_step
    self._writer = tf.summary.FileWriter(FLAGS.train_dir)
    self._scalars = tf.summary.merge_all()
    self._histograms = tf.summary.merge_all('histograms')
    self._start = None

  def after_create_session(self, session, coord):
    if self._step:  # TensorBoard then drops what the killed run had beyond.
      self._write('add_session_log',
                  tf.SessionLog(status=tf.SessionLog.START), self._step)
    else:
      self._write('add_graph', session.graph)
    self._write('add_summary', self._layout.SerializeToString(), self._step)

  def before_run(self, run_context):
    steps = run_context.original_args.feed_dict[self._count]
    fetches = {'loss': self._loss if steps == 1 else self._last_loss}
    if self._step % FLAGS.log_frequency == 0:
      fetches['scalars'] = self._scalars
    every = FLAGS.histogram_frequency
    if every and self._step % every == 0:
      fetches['histograms'] = self._histograms
    return tf.train.SessionRunArgs(fetches)

  def after_run(self, run_context, run_values):
    results = run_values.results
    steps = run_context.original_args.feed_dict[self._count]
    if not np.isfinite(results['loss']):
      raise UserError(
          'Loss is %s at step %d with learning rate %g; the last good '
          'checkpoint in %s is kept, lower --learning_rate.' % (
              results['loss'], self._step + steps - 1,
              run_context.session.run(self._learning_rate), FLAGS.train_dir))
    if 'scalars' in results:
      self._write('add_summary', results['scalars'], self._step)
      self._log(results['loss'])
    if 'histograms' in results:
      self._write('add_summary', results['histograms'], self._step)
    self._step += steps

  def _log(self, loss):
    # The first interval has the graph's start in it, so it gives no rate.
    speed = 'first step'
    if self._start:
      step, start = self._start
      seconds = (time.time() - start) / (self._step - step)
      left = datetime.timedelta(
          seconds=round(seconds * (self._last_step - self._step)))
      speed = '%.1f examples/sec; %.3f sec/batch; %s left' % (
          FLAGS.batch_size / seconds, seconds, left)
      self._write('add_summary', tf.Summary(value=[tf.Summary.Value(
          tag='examples_per_second',
          simple_value=FLAGS.batch_size / seconds)]), self._step)
    self._start = self._step, time.time()
    print('%s: step %d, loss = %.2f (%s)' % (
        datetime.datetime.now(), self._step, loss, speed), flush=True)

  def _write(self, method, *arguments):
    try:
      getattr(self._writer, method)(*arguments)
    except checkpoint.WRITE_ERRORS as error:
      raise checkpoint.not_written(FLAGS.train_dir, error)

  def end(self, session):
    self._write('close')


class _CheckpointHook(tf.train.SessionRunHook):
  """Saves finite weights: at a cadence, at the end, and when told to stop."""

  def __init__(self, saver, count, step, last_step):
    self._saver, self._count = saver, count
    self._step, self._last_step = step, last_step
    self._finite = tf.reduce_all(tf.stack(
        [tf.reduce_all(tf.is_finite(var)) for var in tf.global_variables()
         if var.dtype.base_dtype.is_floating]))
    self.signal = None

  def begin(self):
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, self._told_to_stop)

  def _told_to_stop(self, number, frame):
    self.signal = number

  def after_run(self, run_context, run_values):
    self._step += run_context.original_args.feed_dict[self._count]
    stop = self.signal is not None or self._step >= self._last_step
    if stop or self._step % FLAGS.checkpoint_frequency == 0:
      self._save(run_context.session)
    if stop:
      run_context.request_stop()

  def _save(self, session):
    if not session.run(self._finite):
      raise UserError(
          'A weight is not finite after step %d; the last good checkpoint in '
          '%s is kept, lower --learning_rate.' % (self._step - 1,
                                                  FLAGS.train_dir))
    try:
      self._saver.save(session, os.path.join(FLAGS.train_dir, 'model.ckpt'),
                       self._step, write_meta_graph=False)
    except checkpoint.WRITE_ERRORS as error:
      raise checkpoint.not_written(FLAGS.train_dir, error)


def resume_point(folder, settings):
  """The newest readable checkpoint made with the same settings.

  Returns:
    (path, step), or (None, 0) where no checkpoint was finished yet.

  Raises:
    UserError: all checkpoints are damaged, or made with other settings.
  """
  paths = checkpoint.finished(folder)
  for path in paths:
    try:
      arrays, found = checkpoint.read(path)
    except UserError as error:
      print(error, file=sys.stderr)
      continue
    checkpoint.require_same(folder, found, settings)
    return path, int(arrays['global_step'])
  if paths:
    raise UserError('All %d checkpoints in %s are damaged; restore one, or '
                    'name another --train_dir.' % (len(paths), folder))
  return None, 0


def given_flags():
  """Name -> value of the flags that were given on the command line."""
  return {name: FLAGS[name].value for name in FLAGS if FLAGS[name].present}


def record_run(settings, seconds=None):
  """Writes run.json: at the start, and with the end and seconds at the end."""
  path = os.path.join(FLAGS.train_dir, 'run.json')
  try:
    with open(path) as old:
      run = json.load(old)
    run['start'], run['seconds']
  except (OSError, ValueError, KeyError, TypeError):
    run = {'start': now(), 'seconds': 0}
  run.update(
      flags=given_flags(), settings=settings, seed=FLAGS.seed,
      data_digest=settings['data_digest'],
      versions={'python': platform.python_version(),
                'tensorflow': tf.__version__, 'numpy': np.__version__})
  commit = checkpoint.git_commit()
  if commit:
    run['git_commit'] = commit
  if seconds is not None:
    run['seconds'] = round(run['seconds'] + seconds, 1)
    run['end'] = now()
  checkpoint.write_json(path, run)


def train(schedule, conv1_channels, initial=None, teacher_weights=None,
          stream='training', **made):
  """Trains to the last step, from scratch or from given weights.

  Args:
    schedule: key of cifar10.SCHEDULES.
    conv1_channels: width of the first layer.
    initial: name -> array for every trainable variable and its average, or
      None to start from random weights.
    teacher_weights: name -> array, of a network to imitate; or None.
    stream: what the batches are for; as for cifar10_input.distorted_inputs.
    **made: how the initial weights were made; goes with the checkpoint.

  Returns:
    Exit code: 0, or 128 + the signal that stopped it.
  """
  start = time.time()
  if not FLAGS.train_dir:
    raise UserError('--train_dir is missing; name a folder for the run.')
  cifar10.maybe_download_and_extract()
  examples, digest = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
  if examples < FLAGS.batch_size:
    raise UserError('%s has %d training images, fewer than a batch of %d; '
                    'lower --batch_size.' % (cifar10.data_folder(), examples,
                                             FLAGS.batch_size))
  if FLAGS.steps_per_run is None:   # Few milliseconds a step make Python slow.
    FLAGS.steps_per_run = 100 if operations.on_gpu() else 1
  steps_per_epoch = examples / FLAGS.batch_size
  plan = cifar10.SCHEDULES[schedule]
  epochs = plan.epochs if FLAGS.epochs is None else FLAGS.epochs
  last_step = FLAGS.max_steps or int(np.ceil(epochs * steps_per_epoch))
  rate = FLAGS.learning_rate
  rate = plan.learning_rate if rate is None else rate
  settings = dict(made, conv1_channels=conv1_channels, seed=FLAGS.seed,
                  batch_size=FLAGS.batch_size, data_digest=digest,
                  schedule=schedule, learning_rate=rate,
                  precision=FLAGS.precision,
                  random_streams=cifar10_input.RANDOM_STREAMS)
  if plan.linear:
    settings['last_step'] = last_step   # The rate at every step depends on it.
  lock = checkpoint.hold(FLAGS.train_dir)
  path, step = resume_point(FLAGS.train_dir, settings)
  if step >= last_step:
    print('%s is finished: step %d of %d.' % (FLAGS.train_dir, step, last_step))
    return 0

  matrices = (preconditioner.of_network(initial, FLAGS.seed)
              if plan.preconditioned else ())
  with tf.Graph().as_default():
    tf.set_random_seed(FLAGS.seed)
    global_step = tf.train.get_or_create_global_step()
    parts = cifar10.batch_parts()
    images, labels = cifar10.distorted_inputs(FLAGS.seed, stream=stream,
                                              parts=parts)
    logits = cifar10.inference(images, conv1_channels, FLAGS.precision, parts)
    teacher = (cifar10.constant_logits(images, teacher_weights, parts)
               if teacher_weights else None)
    loss = cifar10.loss(logits, labels, plan.label_smoothing, teacher)
    summaries.add_curves(conv1_channels, logits, labels)
    learning_rate = cifar10.learning_rate_at(
        global_step, plan, rate, steps_per_epoch, last_step)
    train_op = cifar10.train(loss, global_step, learning_rate,
                             plan.momentum, plan.average_decay,
                             plan.convolution_rate, matrices)
    tf.get_variable(checkpoint.SETTINGS, initializer=json.dumps(settings),
                    trainable=False)

    saver = tf.train.Saver(max_to_keep=KEEP_CHECKPOINTS,
                           save_relative_paths=True)

    def initialize(scaffold, session):
      if path:
        saver.restore(session, path)
        saver.recover_last_checkpoints(
            checkpoint.finished(FLAGS.train_dir)[::-1])
      elif initial:
        cifar10.assign(session, {var: initial[var.op.name]
                                 for var in tf.global_variables()
                                 if var.op.name in initial})

    count = tf.placeholder(tf.int32, [])   # Steps of a run; the hooks read it.
    last_loss = (repeated(train_op, loss, count) if FLAGS.steps_per_run > 1
                 else loss)
    checkpoint_hook = _CheckpointHook(saver, count, step, last_step)
    hooks = [_LoggerHook(loss, last_loss, count, learning_rate, step, last_step,
                         summaries.layout(conv1_channels)), checkpoint_hook]
    record_run(settings)
    scaffold = tf.train.Scaffold(init_fn=initialize, saver=saver)
    with tf.train.MonitoredTrainingSession(
        scaffold=scaffold, hooks=hooks, config=cifar10.session_config(parts),
        save_checkpoint_steps=None, save_checkpoint_secs=None,
        save_summaries_steps=None, save_summaries_secs=None,
        log_step_count_steps=None) as session:
      if path:
        print('Continuing %s at step %d of %d.' % (path, step, last_step))
      while not session.should_stop():
        steps = steps_in_run(step, last_step)
        session.run(train_op if steps == 1 else last_loss, {count: steps})
        step += steps
  record_run(settings, time.time() - start)
  lock.close()
  if checkpoint_hook.signal:
    print('Stopped by signal %d and saved; the same command continues.' %
          checkpoint_hook.signal)
    return 128 + checkpoint_hook.signal
  return 0


def main(argv=None):
  del argv
  return train(FLAGS.schedule, FLAGS.conv1_channels or cifar10.CONV1_CHANNELS)


if __name__ == '__main__':
  cifar10.run(main)
