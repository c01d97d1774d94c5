"""Trains the CIFAR-10 network at any widths; resumes where it stopped.

  python cifar10_train.py --train_dir=runs/seed0/scratch_64 --conv1_channels=64

The same command continues an interrupted run, bit for bit as if it had never
stopped, and says so when the run is finished. Ctrl-C, a lost connection and the
other polite signals save first. TensorBoard and the log show top-1 of the
averaged weights on the test images along the way; it decides nothing.

A run goes on with other settings, or after its end, as a new run:

  python cifar10_train.py --checkpoint_dir=runs/seed0/scratch_64 \\
      --train_dir=runs/longer/scratch_64 --learning_rate=0.01 --epochs=150

starts from all variables of the newest checkpoint (weights, averages, momentum,
step), with its widths; all else is as the flags say. --epochs counts from the
first step of the old run, and the learning rate is that of the step: with the
old flags and more epochs, the published schedule gives the bits of a run that
was that long from the start.
"""
import contextlib
import datetime
import json
import os
import platform
import shlex
import signal
import time
import typing

import cifar10
import cifar10_eval
import cifar10_input
from cifar10_input import UserError
from thinet import checkpoint
from thinet import devices
from thinet import files
from thinet import loop
from thinet import operations
from thinet import summaries
from thinet import tensorflow as tf

import numpy as np

EVAL_EPOCHS = 4   # So the test images take 2 % of a training's time.
LONGEST_RUN = 1000   # Steps of a GPU's loop, so that a stop saves within 2 s.

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'checkpoint_dir',
              'evaluate', 'seed') + cifar10.Widths._fields:
  tf.app.flags.declare_key_flag(_name)
FLAGS['checkpoint_dir'].help = ('Folder of a network to go on from, in a new '
                                '--train_dir.')
for _name, _width in cifar10.Widths()._asdict().items():
  FLAGS[_name].help = 'Width of %s; by default %d.' % (_name.split('_')[0],
                                                       _width)
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
tf.app.flags.DEFINE_enum('precision', 'float32', ['float32', 'tf32',
                                                  'bfloat16'],
                         'Type of the operands of convolutions and products; '
                         'tf32 on GPUs.')
tf.app.flags.DEFINE_integer('log_frequency', 100,
                            'Steps between log lines and scalar summaries.',
                            lower_bound=1)
tf.app.flags.DEFINE_integer('histogram_frequency', 5000,
                            'Steps between histograms; 0 for none.',
                            lower_bound=0)
tf.app.flags.DEFINE_integer('eval_frequency', None,
                            'Steps between ratings on the test images, which '
                            'only show; 0 for none; by default %d epochs.' %
                            EVAL_EPOCHS, lower_bound=0)
tf.app.flags.DEFINE_integer('checkpoint_frequency', 1000,
                            'Steps between checkpoints.', lower_bound=1)
tf.app.flags.DEFINE_integer('keep_checkpoints', 3,
                            'Newest checkpoints to keep.', lower_bound=1)
SCHEDULES = {each.name: each for each in (cifar10.PUBLISHED, cifar10.FAST)}


class Plan(typing.NamedTuple):
  """What a training does, and the settings that its checkpoints carry."""
  schedule: cifar10.Schedule
  widths: cifar10.Widths
  learning_rate: float         # The highest.
  epochs: float                # Passes over the training images.
  steps_per_epoch: float
  last_step: int               # Number of steps in all.
  settings: dict
  examples: int                # Training images.
  test_examples: int           # Test images, 0 if there are none to rate on.
  eval_frequency: int          # Steps between ratings; 0 for none.

  def due(self, step, frequency):
    """Whether this step shows what it shows so often; the last one does."""
    return frequency and (step % frequency == 0 or step == self.last_step - 1)

  def unseen(self, step):
    """Number of steps from this one on that end before one that shows, saves or
    rates anything; 1 if this one does."""
    shown = [each for each in (FLAGS.log_frequency, FLAGS.histogram_frequency)
             if each]
    if any(self.due(step, each) for each in shown):
      return 1
    ends = shown + [FLAGS.checkpoint_frequency]
    if self.test_examples:
      ends.append(self.eval_frequency)
    return min([LONGEST_RUN, self.last_step - 1 - step] +
               [each - step % each for each in ends])


class Model(typing.NamedTuple):
  """The parts of the graph that a training runs."""
  loss: 'tf.Tensor'
  learning_rate: 'tf.Tensor'
  train_op: 'tf.Operation'
  loop: loop.Loop              # None on a processor.
  rating: 'Rating'             # None without test images.


class Rating(typing.NamedTuple):
  """The averaged network on the test images, a batch at a time."""
  batch: 'tf.Tensor'             # int64 placeholder: number of the batch.
  batches: int
  hits: 'tf.Tensor'              # int64 [2]: images right at 1 and at 5.


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


class _Clock(_Hook):
  """The next step, and the number of steps that the present run makes.

  The first of the hooks: in the after_run of the others, `step` has moved on.
  Where there is a loop, it is compiled before the first step.
  """

  def __init__(self, plan, loop, step):
    self._plan, self._loop = plan, loop
    self.step, self.count = step, 1

  def after_create_session(self, session, coord):
    if self._loop and not self._loop.compile(session):
      self._loop = None

  def run(self, session, train_op):
    """Makes as many steps as can be made at once."""
    self.count = self._plan.unseen(self.step) if self._loop else 1
    if self.count > 1:
      session.run(self._loop.made, {self._loop.count: self.count})
    else:
      session.run(train_op)

  def after_run(self, run_context, run_values):
    self.step += self.count


class _LoggerHook(_Hook):
  """Prints the tutorial's line, writes summaries, requires a finite loss."""

  def __init__(self, plan, model, clock, stop):
    self._plan, self._model = plan, model
    self._clock, self._stop = clock, stop
    self._writer = tf.summary.FileWriter(
        FLAGS.train_dir, filename_suffix='.training-%d' % clock.step)
    self._scalars = tf.summary.merge_all()
    self._histograms = tf.summary.merge_all('histograms')
    self._start = None

  def after_create_session(self, session, coord):
    step = self._clock.step
    if step:  # TensorBoard then drops a killed run's later events.
      self._write('add_session_log',
                  tf.SessionLog(status=tf.SessionLog.START), step)
    else:
      self._write('add_graph', session.graph)
    self.show(summaries.layout(), step)
    self.show(summaries.command(cifar10.command()), step)

  def before_run(self, run_context):
    step = self._clock.step
    if self._clock.count > 1:
      return tf.train.SessionRunArgs({'loss': self._model.loop.loss,
                                      'made': self._model.loop.made})
    fetches = {'loss': self._model.loss}
    if self._plan.due(step, FLAGS.log_frequency):
      fetches['scalars'] = self._scalars
      fetches['learning_rate'] = self._model.learning_rate
    if self._plan.due(step, FLAGS.histogram_frequency):
      fetches['histograms'] = self._histograms
    return tf.train.SessionRunArgs(fetches)

  def after_run(self, run_context, run_values):
    results = run_values.results
    step = self._clock.step - self._clock.count
    if not np.isfinite(results['loss']):
      raise UserError(
          'Loss is %s at step %d with learning rate %g; the last good '
          'checkpoint in %s is kept, lower --learning_rate.' % (
              results['loss'], step + results.get('made', 1) - 1,
              run_context.session.run(self._model.learning_rate),
              FLAGS.train_dir))
    if 'scalars' in results:
      self.show(results['scalars'], step)
      self._log(step, results['loss'], results['learning_rate'])
    if 'histograms' in results:
      self.show(results['histograms'], step)

  def _log(self, step, loss, rate):
    # The first interval includes the graph's start, so it gives no rate.
    plan, speed, left = self._plan, 'first step', ''
    if self._start:
      before, start = self._start
      seconds = max(time.perf_counter() - start, 1e-9) / (step - before)
      speed = '%.1f examples/sec; %.3f sec/batch' % (FLAGS.batch_size / seconds,
                                                     seconds)
      left = ', %s left' % datetime.timedelta(
          seconds=round(seconds * (plan.last_step - step)))
      self.show(tf.Summary(value=[tf.Summary.Value(
          tag='examples_per_second',
          simple_value=FLAGS.batch_size / seconds)]), step)
    self._start = step, time.perf_counter()
    self.say('step %d, loss = %.2f (%s); step %d of %d, epoch %.1f of %g, '
             'learning rate %.3g%s' % (
                 step, loss, speed, step, plan.last_step,
                 step / plan.steps_per_epoch, plan.epochs, rate, left))

  def say(self, words):
    """Prints a line that begins with the time."""
    try:
      print('%s: %s' % (datetime.datetime.now(), words), flush=True)
    except OSError:   # Nobody reads any more, or the log's disk is full.
      files.close_output()
      self._stop(signal.SIGPIPE)

  def show(self, summary, step):
    """Writes a tf.Summary, or the bytes of one, for TensorBoard."""
    self._write('add_summary', summary, step)

  def pause(self, seconds):
    """Leaves seconds without steps out of the time that a step takes."""
    if self._start:
      step, start = self._start
      self._start = step, start + seconds

  def _write(self, method, *arguments):
    try:
      getattr(self._writer, method)(*arguments)
    except checkpoint.write_errors() as error:
      raise files.not_written(FLAGS.train_dir, error)

  def end(self, session):
    self._write('close')


class _RatingHook(_Hook):
  """Rates the averaged weights on the test images; changes nothing.

  At the start, every plan.eval_frequency steps, and at the end.
  """

  def __init__(self, plan, rating, clock, logger):
    self._plan, self._rating = plan, rating
    self._clock, self._logger = clock, logger

  def after_create_session(self, session, coord):
    if self._clock.step % self._plan.eval_frequency == 0:
      self._rate(session)

  def after_run(self, run_context, run_values):
    last = self._clock.step == self._plan.last_step
    if last or (self._clock.step % self._plan.eval_frequency == 0 and
                not run_context.stop_requested):
      self._rate(run_context.session)

  def _rate(self, session):
    start = time.perf_counter()
    hits = sum(session.run(self._rating.hits, {self._rating.batch: number})
               for number in range(self._rating.batches))
    shares = hits / self._plan.test_examples
    self._logger.show(summaries.precision(*shares), self._clock.step)
    self._logger.say('step %d, precision @ 1 = %.4f, @ 5 = %.4f (%d test '
                     'images)' % (self._clock.step, *shares,
                                  self._plan.test_examples))
    self._logger.pause(time.perf_counter() - start)


class _CheckpointHook(_Hook):
  """Saves finite weights: at intervals, at the end, and when told to stop."""

  def __init__(self, settings, clock, last_step):
    self._settings, self._clock, self._last_step = settings, clock, last_step
    self._variables = {var.op.name: var for var in tf.global_variables()
                       if var.op.name != checkpoint.SETTINGS}
    self.signal = None

  def stop(self, number, frame=None):
    """Notes a signal; the training saves and ends after the present step."""
    self.signal = self.signal or number

  def after_run(self, run_context, run_values):
    step = self._clock.step
    stop = self.signal is not None or step >= self._last_step
    if stop or step % FLAGS.checkpoint_frequency == 0:
      self._save(run_context.session)
    if stop:
      run_context.request_stop()

  def _save(self, session):
    arrays = session.run(self._variables)
    if checkpoint.not_finite(arrays):
      raise UserError(
          'A weight is not finite after step %d; the last good checkpoint in '
          '%s is kept, lower --learning_rate.' % (self._clock.step - 1,
                                                  FLAGS.train_dir))
    checkpoint.save(FLAGS.train_dir, arrays, self._settings, self._clock.step,
                    FLAGS.keep_checkpoints)


def way_on(folder):
  """The command that goes on from a folder's network with the flags given."""
  flags = dict(given_flags(), checkpoint_dir=folder,
               train_dir=os.path.normpath(folder) + '_on')
  return shlex.join(['python', 'cifar10_train.py'] + [
      '--%s=%s' % flag for flag in sorted(flags.items())])


def require_same(folder, found, plan):
  """Raises CheckpointError unless the settings found are the plan's.

  Where a new run could go on from the network, the text has the command.
  """
  try:
    checkpoint.require_same(folder, found, plan.settings)
  except checkpoint.CheckpointError as error:
    if plan.schedule.name not in SCHEDULES or (
          any(found.get(name) != plan.settings.get(name)
            for name in cifar10.Widths._fields)):
      raise
    raise checkpoint.CheckpointError(
        '%s; or go on from its network in a new folder: %s' % (
            str(error).rstrip('.'), way_on(folder)))


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
  if had and not found:   # All are damaged; another file says what they were.
    with contextlib.suppress(OSError, ValueError, KeyError):
      require_same(folder, files.read_json(
          os.path.join(folder, 'run.json'))['settings'], plan)
  if not found:
    return None, 0
  require_same(folder, found.settings, plan)
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
  run = {'start': checkpoint.now(), 'seconds': 0}
  if checkpoint.paths(FLAGS.train_dir):   # Then the file knows; or nobody does.
    run = {}
  with contextlib.suppress(OSError, ValueError):
    run = files.read_json(path)
  if not isinstance(run.get('seconds', 0), (int, float)):
    del run['seconds']
  run.update(
      command=cifar10.command(), flags=given_flags(), settings=plan.settings,
      seed=FLAGS.seed, epochs=plan.epochs, last_step=plan.last_step,
      data_digest=plan.settings['data_digest'], device=operations.device(),
      versions={'python': platform.python_version(),
                'tensorflow': tf.__version__, 'numpy': np.__version__})
  commit = checkpoint.git_commit()
  if commit:
    run['git_commit'] = commit
  if seconds is not None:
    if 'seconds' in run:
      run['seconds'] = round(run['seconds'] + seconds, 1)
    run['end'] = checkpoint.now()
  files.write_json(path, run)


def count_test_images():
  """Number of test images; 0 if they cannot be used, as training needs none."""
  try:
    return cifar10_input.verify(
        cifar10_input.data_files(cifar10.data_folder(), 'test'))[0]
  except UserError:
    return 0


def header(plan):
  """What a training is, in lines to print before its first step."""
  multiply_adds, parameters = cifar10.cost(plan.widths)
  widths = ', '.join('%s %d' % (name.split('/')[0], shape[0])
                     for name, shape in cifar10.weight_shapes(
                         plan.widths).items()
                     if name.endswith('/biases'))
  lines = [
      'Network: %s; %s parameters, %s multiply-adds an image.' % (
          widths, format(parameters, ','), format(multiply_adds, ',')),
      'Data: %s, %s training images, %s.' % (
          cifar10.data_folder(), format(plan.examples, ','),
          '%s test images to rate on' % format(plan.test_examples, ',')
          if plan.test_examples else 'no rating on test images'),
      'Training: schedule %s, %s steps of %d images (%g epochs), %s, seed %d.' %
      (plan.schedule.name, format(plan.last_step, ','), FLAGS.batch_size,
       round(plan.epochs, 2), FLAGS.precision, FLAGS.seed),
      'Device: %s.' % operations.device(),
      'Folder: %s.' % FLAGS.train_dir]
  gpu = operations.unused_gpu()
  if gpu:
    lines.append("TensorFlow does not see this machine's %s; to use it: %s." % (
        gpu, devices.INSTALL))
  return '\n'.join(lines)


def require_record(plan):
  """Writes a finished run's run.json again if it is damaged, or of less."""
  path = os.path.join(FLAGS.train_dir, 'run.json')
  with contextlib.suppress(OSError, ValueError, KeyError):
    if files.read_json(path)['last_step'] == plan.last_step:
      return
  record_run(plan)


def make_plan(schedule, widths, made):
  """Checks flags and data, and settles what the flags leave open.

  Args:
    schedule: cifar10.Schedule.
    widths: cifar10.Widths.
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
  frequency = FLAGS.eval_frequency
  if frequency is None:
    frequency = int(np.ceil(EVAL_EPOCHS * steps_per_epoch))
  test_examples = count_test_images() if frequency else 0
  last_step = FLAGS.max_steps or int(np.ceil(epochs * steps_per_epoch))
  epochs = last_step / steps_per_epoch if FLAGS.max_steps else epochs
  rate = FLAGS.learning_rate
  rate = schedule.learning_rate if rate is None else rate
  settings = dict(made, **cifar10.narrowed(widths), seed=FLAGS.seed,
                  batch_size=FLAGS.batch_size, data_digest=digest,
                  schedule=schedule.name, learning_rate=rate,
                  precision=FLAGS.precision,
                  random_streams=cifar10_input.RANDOM_STREAMS)
  if schedule.linear:
    settings['last_step'] = last_step   # The rate at every step depends on it.
  return Plan(schedule, widths, rate, epochs, steps_per_epoch, last_step,
              settings, examples, test_examples, frequency)


def build_step(plan, stream, preconditioners, towers):
  """Builds a step: input, network, loss and update.

  Args:
    plan, stream, preconditioners: as for build_model.
    towers: number of towers.

  Returns:
    (loss, learning_rate, train_op).
  """
  global_step = tf.train.get_or_create_global_step()
  images, labels = cifar10.distorted_inputs(FLAGS.seed, stream=stream,
                                            parts=towers)
  logits = cifar10.tower_inference(images, plan.widths, FLAGS.precision, towers)
  loss = cifar10.loss(logits, labels, plan.schedule.label_smoothing)
  summaries.add_curves(logits, labels)
  learning_rate = cifar10.learning_rate_at(
      global_step, plan.schedule, plan.learning_rate, plan.steps_per_epoch,
      plan.last_step)
  return loss, learning_rate, cifar10.train(
      loss, global_step, learning_rate, plan.schedule, preconditioners)


def build_model(plan, stream, preconditioners):
  """Builds the graph of a training.

  Args:
    plan: Plan.
    stream: name of the batches, as for cifar10_input.distorted_inputs.
    preconditioners: as for cifar10.train.

  Returns:
    Model.
  """
  tf.set_random_seed(FLAGS.seed)
  towers, many = cifar10.towers(FLAGS.batch_size), None
  on_gpu = operations.on_gpu()
  with tf.device(loop.DEVICE if on_gpu else None):   # Or what can be there.
    step = build_step(plan, stream, preconditioners, towers)
    if on_gpu:
      with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        many = loop.Loop(lambda: build_step(plan, stream, preconditioners,
                                            1)[::2])
  tf.get_variable(checkpoint.SETTINGS, initializer=json.dumps(plan.settings),
                  trainable=False)
  return Model(*step, many, build_rating(plan) if plan.test_examples else None)


def build_rating(plan):
  """Builds the averaged network on the test images, beside the training.

  Args:
    plan: Plan.

  Returns:
    Rating.
  """
  averages = {var.op.name: var for var in tf.global_variables()
              if var.op.name.endswith(checkpoint.AVERAGE)}
  batch = tf.placeholder(tf.int64, [])
  images, labels = cifar10.inputs('test', batch)
  size = images.shape[0].value
  # The network's variables are there; this one reads their averages.
  with tf.variable_scope(
      tf.get_variable_scope(), reuse=True,
      custom_getter=lambda name, **how: averages[
          name + checkpoint.AVERAGE]):
    logits = cifar10.tower_inference(images, plan.widths, 'float32',
                                     cifar10.towers(size))
  hits = tf.stack([tf.reduce_sum(tf.cast(tf.nn.in_top_k(logits, labels, k),
                                         tf.int64)) for k in (1, 5)])
  return Rating(batch, -(-plan.test_examples // size), hits)


def make_steps(plan, model, found, step, initial):
  """Runs the steps that are left, and saves.

  Args:
    plan: Plan.
    model: Model, in the default graph.
    found: checkpoint.Checkpoint to continue, or None.
    step: the step to begin at.
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

  clock = _Clock(plan, model.loop, step)
  checkpoint_hook = _CheckpointHook(plan.settings, clock, plan.last_step)
  logger = _LoggerHook(plan, model, clock, checkpoint_hook.stop)
  hooks = [clock, logger, checkpoint_hook]
  if model.rating:
    hooks.append(_RatingHook(plan, model.rating, clock, logger))
  tf.config.experimental.enable_tensor_float_32_execution(   # Compiled in, too.
      FLAGS.precision == 'tf32')
  with tf.train.MonitoredTrainingSession(
      scaffold=tf.train.Scaffold(init_fn=initialize,
                                 saver=tf.train.Saver()),   # Unused.
      hooks=hooks,
      config=cifar10.session_config(cifar10.towers(FLAGS.batch_size)),
      save_checkpoint_steps=None, save_checkpoint_secs=None,
      save_summaries_steps=None, save_summaries_secs=None,
      log_step_count_steps=None) as session:
    cifar10.on_stop(checkpoint_hook.stop)
    if found:
      print('Continuing %s at step %d of %d.' % (found.path, step,
                                                 plan.last_step))
    while not session.should_stop():
      clock.run(session, model.train_op)
  tf.config.experimental.enable_tensor_float_32_execution(False)
  return checkpoint_hook.signal


def train(schedule, widths, stream='training', initial=None,
          preconditioners=dict, **made):
  """Trains to the last step, from scratch or from given weights.

  Args:
    schedule: cifar10.Schedule.
    widths: cifar10.Widths.
    stream: name of the batches.
    initial: name -> array for every trainable variable and its average, and
      what else should not start as usual, as the step; None to start from
      random weights.
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
  if FLAGS.checkpoint_dir and os.path.realpath(
      FLAGS.train_dir) == os.path.realpath(FLAGS.checkpoint_dir):
    raise UserError('--train_dir=%s is the folder of the network to start '
                    'from; name another.' % FLAGS.train_dir)
  files.require_writable(FLAGS.train_dir)
  if os.path.isdir(FLAGS.train_dir):
    files.hold(FLAGS.train_dir).close()   # Before a download, and again after.
  plan = make_plan(schedule, widths, made)
  cifar10_eval.check_evaluate()   # Not only when all is trained.
  lock = files.hold(FLAGS.train_dir)
  found, step = resume_point(FLAGS.train_dir, plan)
  if step >= plan.last_step:
    print('%s is finished: step %d of %d.' % (FLAGS.train_dir, step,
                                              plan.last_step))
    require_record(plan)
    cifar10_eval.rate_made(FLAGS.train_dir)
    return 0
  if not found and initial:
    step = int(initial.get('global_step', 0))
    if step >= plan.last_step:
      raise UserError('The network of %s is at step %d, and this training ends '
                      'at step %d; give more --epochs or --max_steps, which '
                      'count from its first step.' % (
                          FLAGS.checkpoint_dir, step, plan.last_step))
  graph = tf.Graph()   # Imports TensorFlow, which is no part of the training.
  if FLAGS.precision == 'tf32' and not operations.on_gpu():
    raise UserError('--precision=tf32 needs a GPU that TensorFlow sees; leave '
                    'it out.')
  start = time.perf_counter()
  print(header(plan), flush=True)
  if not found and initial:
    print('Starting from %s at step %d.' % (FLAGS.checkpoint_dir, step),
          flush=True)
  matrices = preconditioners()
  with graph.as_default():
    model = build_model(plan, stream, matrices)
    record_run(plan)
    stopped_by = make_steps(plan, model, found, step, initial)
  cifar10.on_stop(cifar10.raise_stopped)
  record_run(plan, time.perf_counter() - start)
  lock.close()
  if stopped_by:
    print('Stopped by %s and saved; the same command continues.' %
          signal.Signals(stopped_by).name)
    return 128 + stopped_by
  cifar10_eval.rate_made(FLAGS.train_dir)
  return 0


def go_on():
  """Trains from the newest checkpoint in --checkpoint_dir, in a new folder.

  Returns, Raises: as train; CheckpointError, if there is no such checkpoint.
  """
  parent = checkpoint.read_newest(FLAGS.checkpoint_dir, cifar10.shapes_like)
  widths = cifar10.widths_of(parent.arrays)
  for name, width in widths._asdict().items():
    if FLAGS[name].value not in (None, width):
      raise UserError('--%s=%d is not the %d of %s; leave it out.' % (
          name, FLAGS[name].value, width, parent.path))
  made = {name: parent.settings[name] for name in ('criterion',
                                                   'reconstruction')
          if name in parent.settings}
  if made:
    made['fine_tuned'] = True
  return train(SCHEDULES[FLAGS.schedule], widths, initial=parent.arrays,
               parent=parent.settings, parent_digest=parent.digest, **made)


def main(argv=None):
  del argv
  if FLAGS.checkpoint_dir:
    return go_on()
  return train(SCHEDULES[FLAGS.schedule],
               cifar10.asked_widths(cifar10.Widths()))


if __name__ == '__main__':
  cifar10.run(main)
