"""Trains the CIFAR-10 network at any widths; resumes where it stopped.

  python cifar10_train.py --train_dir=runs/seed0/scratch_64 --conv1_channels=64

Step 0 has loss = 4.68, and 128 epochs reach about 85 %; on two cores they take
about an hour, with 8 channels half of it. The same command continues
an interrupted run, bit for bit as if it had never stopped, and says so when the
run is finished. At Ctrl-C, a closed terminal and other requests to end, it
saves a checkpoint first. TensorBoard and the log show top-1 of the averaged
weights on the test images along the way; it does not influence the training.

A run goes on with other settings, or after its end, as a new run:

  python cifar10_train.py --checkpoint_dir=runs/seed0/scratch_64 \\
      --train_dir=runs/longer/scratch_64 --learning_rate=0.01 --epochs=150

starts from all variables of the newest checkpoint (weights, averages, momentum,
step), with its widths; all else is as the flags say. --epochs counts from the
first step of the old run, and the learning rate is that of the step: with the
old flags and more epochs, the published schedule gives on a processor the bits
of a run that was that long from the start.
"""
import contextlib
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
from thinet import hooks
from thinet import loop
from thinet import operations
from thinet import precondition
from thinet import summaries
from thinet import tensorflow as tf

import numpy as np

EVAL_EPOCHS = 4   # So the test images take 2 % of a training's time.
GPU_EVAL_BATCH_SIZE = 2500   # A GPU takes as long for one image.

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
                            'Steps between evaluations on the test images, '
                            'which only show; 0 for none; by default %d '
                            'epochs.' %
                            EVAL_EPOCHS, lower_bound=0)
tf.app.flags.DEFINE_integer('checkpoint_frequency', 1000,
                            'Steps between checkpoints.', lower_bound=1)
tf.app.flags.DEFINE_integer('keep_checkpoints', 3,
                            'Newest checkpoints to keep.', lower_bound=1)
SCHEDULES = {each.name: each for each in (cifar10.PUBLISHED, cifar10.FAST)}


class Plan(typing.NamedTuple):
  """A training's settings, after flags and data were checked."""
  schedule: cifar10.Schedule
  widths: cifar10.Widths
  learning_rate: float         # The highest.
  examples: int                # Training images.
  test_examples: int           # Test images; 0 for no evaluation on them.
  training: hooks.Training


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
    checkpoint.require_same(folder, found, plan.training.settings)
  except checkpoint.CheckpointError as error:
    if plan.schedule.name not in SCHEDULES or (
          any(found.get(name) != plan.training.settings.get(name)
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
  made = checkpoint.made_with(folder)
  if made:   # Before what is damaged is moved aside.
    require_same(folder, made, plan)
  found = checkpoint.read_to_continue(folder, cifar10.shapes_like)
  if not found:
    return None, 0
  require_same(folder, found.settings, plan)
  step = int(found.arrays['global_step'])
  if step > plan.training.last_step:
    raise UserError('%s is at step %d, beyond the %d of this training; name '
                    'another --train_dir, or give as many --epochs or '
                    '--max_steps.' % (folder, step, plan.training.last_step))
  return found, step


def given_flags():
  """Name -> value of the flags that were given on the command line."""
  return {name: FLAGS[name].value for name in FLAGS if FLAGS[name].present}


def record_run(plan, step, seconds=0, finished=False):
  """Writes run.json.

  Args:
    plan: Plan.
    step: number of steps that the newest checkpoint has.
    seconds: time since it was written last, which is added to the one in it.
    finished: whether these are all; the file then has the time of day, `end`.
  """
  path = os.path.join(FLAGS.train_dir, 'run.json')
  run = {'start': checkpoint.now(), 'seconds': 0}
  if checkpoint.paths(FLAGS.train_dir):   # Without the file nobody knows.
    run = {}
    with contextlib.suppress(OSError, ValueError):
      run = files.read_json(path)
  run.pop('end', None)
  if isinstance(run.get('seconds'), (int, float)):
    run['seconds'] = round(run['seconds'] + seconds, 1)
  else:
    run.pop('seconds', None)
  run.update(
      command=cifar10.command(), flags=given_flags(),
      settings=plan.training.settings, seed=FLAGS.seed,
      epochs=plan.training.epochs, step=step,
      last_step=plan.training.last_step,
      data_digest=plan.training.settings['data_digest'],
      device=operations.device(),
      versions={'python': platform.python_version(),
                'tensorflow': tf.__version__, 'numpy': np.__version__})
  commit = checkpoint.git_commit()
  if commit:
    run['git_commit'] = commit
  if finished:
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
          '%s test images to evaluate on' % format(plan.test_examples, ',')
          if plan.test_examples else 'no evaluation on test images'),
      'Training: schedule %s, %s steps of %d images (%g epochs), %s, seed %d.' %
      (plan.schedule.name, format(plan.training.last_step, ','),
       FLAGS.batch_size, round(plan.training.epochs, 2), FLAGS.precision,
       FLAGS.seed),
      'Device: %s.' % operations.device(),
      'Folder: %s.' % FLAGS.train_dir]
  gpu = operations.unused_gpu()
  if gpu:
    lines.append("TensorFlow does not see this machine's %s; to use it: %s." % (
        gpu, devices.INSTALL))
  return '\n'.join(lines)


def require_record(plan):
  """Rewrites a finished run's run.json if it is damaged or has other steps."""
  path = os.path.join(FLAGS.train_dir, 'run.json')
  with contextlib.suppress(OSError, ValueError, KeyError):
    if files.read_json(path)['last_step'] == plan.training.last_step:
      return
  record_run(plan, plan.training.last_step)


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
  examples, digest = cifar10.checked_data('train_eval')
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
  return Plan(
      schedule=schedule, widths=widths, learning_rate=rate, examples=examples,
      test_examples=test_examples, training=hooks.Training(
          folder=FLAGS.train_dir, settings=settings,
          batch_size=FLAGS.batch_size, steps_per_epoch=steps_per_epoch,
          epochs=epochs, last_step=last_step,
          log_frequency=FLAGS.log_frequency,
          histogram_frequency=FLAGS.histogram_frequency,
          eval_frequency=frequency if test_examples else 0,
          checkpoint_frequency=FLAGS.checkpoint_frequency,
          keep_checkpoints=FLAGS.keep_checkpoints))


def build_step(plan, stream, preconditioners, towers):
  """Builds a step: input, network, loss and update.

  Args:
    plan, stream: as for build_model.
    preconditioners: as for cifar10.train.
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
      global_step, plan.schedule, plan.learning_rate,
      plan.training.steps_per_epoch, plan.training.last_step)
  return loss, learning_rate, cifar10.train(
      loss, global_step, learning_rate, plan.schedule, preconditioners)


def build_model(plan, stream, preconditioners):
  """Builds the graph of a training.

  Args:
    plan: Plan.
    stream: name of the batches, as for cifar10_input.distorted_inputs.
    preconditioners: name of a kernel -> float32 array, for cifar10.train.

  Returns:
    hooks.Model.
  """
  tf.set_random_seed(FLAGS.seed)
  many, on_gpu = None, operations.on_gpu()

  def looped_step():
    loss, _, train_op = build_step(plan, stream, preconditioners, 1)
    return loss, train_op

  with tf.device(loop.DEVICE if on_gpu else None):   # But see session_config.
    preconditioners = precondition.in_variables(preconditioners)
    loss, learning_rate, train_op = build_step(
        plan, stream, preconditioners, cifar10.towers(FLAGS.batch_size))
    if on_gpu:
      with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        many = loop.Loop(looped_step)
  tf.get_variable(checkpoint.SETTINGS, trainable=False,
                  initializer=json.dumps(plan.training.settings))
  return hooks.Model(
      loss=loss, learning_rate=learning_rate, train_op=train_op, loop=many,
      evaluation=build_evaluation(plan) if plan.test_examples else None)


def build_evaluation(plan):
  """Builds the averaged network on the test images, beside the training.

  Args:
    plan: Plan.

  Returns:
    hooks.Evaluation.
  """
  averages = {var.op.name: var for var in tf.global_variables()
              if var.op.name.endswith(checkpoint.AVERAGE)}
  batch = tf.placeholder(tf.int64, [])
  images, labels = cifar10_input.inputs(
      'test', cifar10.data_folder(), GPU_EVAL_BATCH_SIZE if operations.on_gpu()
      else FLAGS.batch_size, batch)
  size = images.shape[0].value
  # The network's variables are there; this one reads their averages.
  with tf.variable_scope(
      tf.get_variable_scope(), reuse=True,
      custom_getter=lambda name, **how: averages[
          name + checkpoint.AVERAGE]):
    logits = cifar10.tower_inference(images, plan.widths, 'float32',
                                     cifar10.towers(size))
  return hooks.Evaluation(batch=batch, batches=-(-plan.test_examples // size),
                          examples=plan.test_examples,
                          hits=cifar10.hits(logits, labels))


def make_steps(plan, model, found, step, initial, saved):
  """Runs the steps that are left, and saves.

  Args:
    plan: Plan.
    model: hooks.Model, in the default graph.
    found: checkpoint.Checkpoint to continue, or None.
    step: the step to begin at.
    initial: name -> array to start from without a checkpoint, or None.
    saved: function of the step, called after each checkpoint.

  Returns:
    Number of the signal that stopped the training, or None.

  Raises:
    hooks.NotFiniteError: the loss or a weight is not finite.
    CheckpointError: the checkpoint does not fit the graph.
    FileError: the folder cannot be written to.
  """
  def initialize(scaffold, session):
    if found:
      checkpoint.restore(session, found)
    elif initial:
      checkpoint.assign(session, {var: initial[var.op.name]
                                  for var in tf.global_variables()
                                  if var.op.name in initial})

  counter = hooks.StepCounter(plan.training, model.loop, step)
  saving = hooks.CheckpointHook(plan.training, counter, saved)
  logger = hooks.LoggerHook(plan.training, model, counter, saving.stop,
                            cifar10.command())
  used = [counter, logger, saving]
  if model.evaluation:
    used.append(hooks.EvaluationHook(plan.training, model.evaluation, counter,
                                     logger))
  with operations.tensor_float_32(FLAGS.precision == 'tf32'), (
      tf.train.MonitoredTrainingSession(
          scaffold=tf.train.Scaffold(init_fn=initialize,
                                     saver=tf.train.Saver()),   # Unused.
          hooks=used,
          config=cifar10.session_config(cifar10.towers(FLAGS.batch_size)),
          save_checkpoint_steps=None, save_checkpoint_secs=None,
          save_summaries_steps=None, save_summaries_secs=None,
          log_step_count_steps=None)) as session:
    cifar10.on_stop(saving.stop)
    if found:
      print('Continuing %s at step %d of %d.' % (found.path, step,
                                                 plan.training.last_step))
    while not session.should_stop():
      counter.run_steps(session, model.train_op)
  return saving.signal


def check_folders():
  """Raises UserError or FileError if --train_dir cannot be used."""
  if not FLAGS.train_dir:
    raise UserError('--train_dir is missing; name a folder for the run.')
  if FLAGS.checkpoint_dir and os.path.realpath(
      FLAGS.train_dir) == os.path.realpath(FLAGS.checkpoint_dir):
    raise UserError('--train_dir=%s is the folder of the network to start '
                    'from; name another.' % FLAGS.train_dir)
  files.require_writable(FLAGS.train_dir)
  if os.path.isdir(FLAGS.train_dir):
    files.hold(FLAGS.train_dir).close()   # Raises before a download.


def first_step(plan, initial):
  """The step that given weights are at; UserError if none is left to make."""
  step = int(initial.get('global_step', 0))
  if step >= plan.training.last_step:
    raise UserError('The network of %s is at step %d, and this training ends '
                    'at step %d; give more --epochs or --max_steps, which '
                    'count from its first step.' % (
                        FLAGS.checkpoint_dir, step, plan.training.last_step))
  return step


def made_from(parent):
  """What the checkpoints say of the network that a training starts from.

  Args:
    parent: checkpoint.Checkpoint.

  Returns:
    dict, for train.
  """
  return dict({name: parent.settings[name]
               for name in ('criterion', 'reconstruction')
               if name in parent.settings},
              parent=parent.settings, parent_digest=parent.digest)


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
  check_folders()   # Before a download.
  plan = make_plan(schedule, widths, made)
  cifar10_eval.check_evaluate()   # Before the training.
  lock = files.hold(FLAGS.train_dir)
  checkpoint.remove_parts(FLAGS.train_dir)
  found, step = resume_point(FLAGS.train_dir, plan)
  if step >= plan.training.last_step:
    print('%s is finished: step %d of %d.' % (FLAGS.train_dir, step,
                                              plan.training.last_step))
    require_record(plan)
    cifar10_eval.rate_made(FLAGS.train_dir)
    return 0
  if not found and initial:
    step = first_step(plan, initial)
  graph = tf.Graph()   # Imports TensorFlow, which is no part of the training.
  if FLAGS.precision == 'tf32' and not operations.on_gpu():
    raise UserError('--precision=tf32 needs a GPU that TensorFlow sees; leave '
                    'it out.')
  since = time.perf_counter()

  def record(step):
    nonlocal since
    before, since = since, time.perf_counter()
    record_run(plan, step, since - before, step == plan.training.last_step)

  print(header(plan), flush=True)
  if not found and initial:
    print('Starting from %s at step %d.' % (FLAGS.checkpoint_dir, step),
          flush=True)
  matrices = preconditioners()
  with graph.as_default():
    model = build_model(plan, stream, matrices)
    for var in tf.global_variables():
      if var.op.name in (initial or {}):
        checkpoint.require_fit(FLAGS.checkpoint_dir, var, initial[var.op.name])
    record(step if found else 0)
    try:
      stopped_by = make_steps(plan, model, found, step, initial, record)
    except hooks.NotFiniteError as error:
      kept = ('the last good checkpoint in %s is kept, ' % FLAGS.train_dir
              if checkpoint.paths(FLAGS.train_dir) else '')
      raise UserError('%s; %slower --learning_rate=%g.' % (
          error, kept, plan.learning_rate))
  cifar10.on_stop(cifar10.raise_stopped)
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
  made = made_from(parent)
  if 'criterion' in made or parent.settings.get('fine_tuned'):
    made['fine_tuned'] = True
  return train(SCHEDULES[FLAGS.schedule], widths, initial=parent.arrays, **made)


def main(argv=None):
  del argv
  if FLAGS.checkpoint_dir:
    return go_on()
  return train(SCHEDULES[FLAGS.schedule],
               cifar10.asked_widths(cifar10.Widths()))


if __name__ == '__main__':
  cifar10.run(main)
