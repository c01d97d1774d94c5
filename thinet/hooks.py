"""Session hooks of a training: log lines, summaries, evaluations, checkpoints.

They run in the order of their list, which is: StepCounter; LoggerHook, so that
a loss that is not finite stops the training before it is saved; CheckpointHook;
EvaluationHook, which a signal makes skip its evaluation, except at the last
step.
"""
import datetime
import re
import signal
import time
import typing

from thinet import checkpoint
from thinet import files
from thinet import summaries
from thinet import tensorflow as tf

import numpy as np

LONGEST_LOOP = 1000   # Steps of a GPU's loop; a stop is to save within 2 s.


class NotFiniteError(Exception):
  """The loss or a weight is not finite; the text says at which step."""


class Training(typing.NamedTuple):
  """A training, and how often it logs, evaluates and saves.

  histogram_frequency and eval_frequency may be 0, for never.
  """
  folder: str
  settings: dict               # The checkpoints carry them.
  batch_size: int
  steps_per_epoch: float
  epochs: float                # Passes over the training images.
  last_step: int               # Number of steps in all.
  log_frequency: int           # Steps between log lines and scalars.
  histogram_frequency: int     # Steps between histograms.
  eval_frequency: int          # Steps between evaluations.
  checkpoint_frequency: int    # Steps between checkpoints.
  keep_checkpoints: int        # Newest checkpoints to keep.

  def logs(self, step, frequency):
    """Whether a step logs at this frequency; the last does, but not at 0."""
    return bool(frequency) and (step % frequency == 0 or
                                step == self.last_step - 1)

  def in_one_loop(self, step):
    """Number of steps that can run in one loop from this one on.

    Up to the next that logs, or through the next after which there is a
    checkpoint or an evaluation.
    """
    ends = (self.log_frequency, self.histogram_frequency,
            self.checkpoint_frequency, self.eval_frequency)
    return min([LONGEST_LOOP, max(self.last_step - 1 - step, 1)] +
               [each - step % each for each in ends if each])


class Model(typing.NamedTuple):
  """The parts of the graph that a training runs."""
  loss: 'tf.Tensor'            # float32 scalar.
  learning_rate: 'tf.Tensor'   # float32 scalar.
  train_op: 'tf.Operation'
  loop: 'loop.Loop'            # None on a processor.
  evaluation: 'Evaluation'     # None without test images or evaluations.


class Evaluation(typing.NamedTuple):
  """The averaged network on the test images, a batch at a time."""
  batch: 'tf.Tensor'           # int64 placeholder: number of the batch.
  batches: int
  examples: int                # Test images.
  hits: 'tf.Tensor'            # int64 [2]: images right at 1 and at 5.


class _Hook:
  """The methods of tf.train.SessionRunHook, without importing TensorFlow."""

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


def require_finite(loss, step):
  """Raises NotFiniteError if a step's loss is not finite."""
  if not np.isfinite(loss):
    raise NotFiniteError('Loss is %s at step %d' % (loss, step))


class StepCounter(_Hook):
  """Counts the steps; where there is a loop, compiles it before the first.

  Args:
    training: Training.
    loop: loop.Loop, or None.
    step: the step to begin at.

  Attributes:
    loop: the loop that makes the steps, or None.
    step: the next step; in the after_run of the other hooks it has moved on.
    count: number of steps that the present call of session.run makes.
  """

  def __init__(self, training, loop, step):
    self._training, self.loop = training, loop
    self.step, self.count = step, 1

  def after_create_session(self, session, coord):
    if self.loop and not self.loop.compile(session):
      self.loop = None

  def run_steps(self, session, train_op):
    """Runs as many steps as can run at once.

    Raises:
      NotFiniteError: what a histogram shows is not finite.
    """
    try:
      if self.loop:
        self.count = self._training.in_one_loop(self.step)
        session.run(self.loop.made, {self.loop.count: self.count})
      else:
        session.run(train_op)
    except tf.errors.InvalidArgumentError as error:
      words = re.search(r'\w+ in (summary )?histogram( for: \S+)?',
                        error.message, re.IGNORECASE)
      if not words:
        raise
      raise NotFiniteError('%s at step %d' % (words[0], self.step))

  def after_run(self, run_context, run_values):
    self.step += self.count


class LoggerHook(_Hook):
  """Prints the tutorial's line, writes summaries, requires a finite loss.

  Args:
    training: Training.
    model: Model, in the default graph.
    counter: StepCounter.
    stop: function of a signal's number, called if nobody reads the output.
    command: the command line, for TensorBoard's Text.

  Raises, in its methods:
    NotFiniteError: the loss is not finite.
    FileError: the folder cannot be written to.
  """

  def __init__(self, training, model, counter, stop, command):
    self._training, self._model, self._counter = training, model, counter
    self._stop, self._command = stop, command
    self._writer = tf.summary.FileWriter(
        training.folder, filename_suffix='.training-%d' % counter.step)
    self._scalars = tf.summary.merge_all()
    self._histograms = tf.summary.merge_all('histograms')
    self._start = None

  def after_create_session(self, session, coord):
    step = self._counter.step
    if checkpoint.paths(self._training.folder):
      # It goes on; TensorBoard then drops a killed run's later events.
      self._write(self._writer.add_session_log,
                  tf.SessionLog(status=tf.SessionLog.START), step)
    else:
      self._write(self._writer.add_graph, session.graph)
    self.show(summaries.layout(), step)
    self.show(summaries.command(self._command), step)

  def before_run(self, run_context):
    step, loop = self._counter.step, self._counter.loop
    fetches = {'loss': self._model.loss}
    if self._training.logs(step, self._training.log_frequency):
      fetches['scalars'] = self._scalars
      fetches['learning_rate'] = self._model.learning_rate
    if self._training.logs(step, self._training.histogram_frequency):
      fetches['histograms'] = self._histograms
    if not loop:
      return tf.train.SessionRunArgs(fetches)
    if len(fetches) > 1:   # Nothing inside of a loop can be fetched.
      self._show(step, run_context.session.run(fetches))
    return tf.train.SessionRunArgs({'loss': loop.loss, 'made': loop.made})

  def after_run(self, run_context, run_values):
    results = run_values.results
    step = self._counter.step - self._counter.count
    if self._counter.loop:
      require_finite(results['loss'], step + results['made'] - 1)
    else:
      self._show(step, results)

  def _show(self, step, results):
    require_finite(results['loss'], step)
    if 'scalars' in results:
      self.show(results['scalars'], step)
      self._log(step, results['loss'], results['learning_rate'])
    if 'histograms' in results:
      self.show(results['histograms'], step)

  def _log(self, step, loss, learning_rate):
    # The first interval includes the graph's start, so it gives no rate.
    training, speed, left = self._training, 'first step', ''
    if self._start:
      before, start = self._start
      seconds = max(time.perf_counter() - start, 1e-9) / (step - before)
      speed = '%.1f examples/sec; %.3f sec/batch' % (
          training.batch_size / seconds, seconds)
      left = ', %s left' % datetime.timedelta(
          seconds=round(seconds * (training.last_step - step)))
      self.show(tf.Summary(value=[tf.Summary.Value(
          tag='examples_per_second',
          simple_value=training.batch_size / seconds)]), step)
    self._start = step, time.perf_counter()
    self.say('step %d, loss = %.2f (%s); step %d of %d, epoch %.1f of %g, '
             'learning rate %.3g%s' % (
                 step, loss, speed, step, training.last_step,
                 step / training.steps_per_epoch, training.epochs,
                 learning_rate, left))

  def say(self, words):
    """Prints a line that begins with the time."""
    try:
      print('%s: %s' % (datetime.datetime.now(), words), flush=True)
    except OSError:   # Nobody reads any more, or the log's disk is full.
      files.close_output()
      self._stop(signal.SIGPIPE)

  def show(self, summary, step):
    """Writes a tf.Summary, or the bytes of one, for TensorBoard."""
    self._write(self._writer.add_summary, summary, step)

  def pause(self, seconds):
    """Leaves these seconds out of the measured time of a step."""
    if self._start:
      step, start = self._start
      self._start = step, start + seconds

  def _write(self, method, *arguments):
    with checkpoint.writing(self._training.folder):
      method(*arguments)

  def end(self, session):
    self._write(self._writer.close)


class EvaluationHook(_Hook):
  """Evaluates the averaged weights on the test images; changes nothing.

  Every eval_frequency steps, counted from step 0, and at the end.

  Args:
    training: Training.
    evaluation: Evaluation.
    counter: StepCounter.
    logger: LoggerHook, which shows the precisions.
  """

  def __init__(self, training, evaluation, counter, logger):
    self._training, self._evaluation = training, evaluation
    self._counter, self._logger = counter, logger

  def after_create_session(self, session, coord):
    if self._counter.step % self._training.eval_frequency == 0:
      self._evaluate(session)

  def after_run(self, run_context, run_values):
    last = self._counter.step == self._training.last_step
    if last or (self._counter.step % self._training.eval_frequency == 0 and
                not run_context.stop_requested):
      self._evaluate(run_context.session)

  def _evaluate(self, session):
    start = time.perf_counter()
    found, step = self._evaluation, self._counter.step
    shares = sum(session.run(found.hits, {found.batch: number})
                 for number in range(found.batches)) / found.examples
    self._logger.show(summaries.precision(*shares), step)
    self._logger.say('step %d, precision @ 1 = %.4f, @ 5 = %.4f (%d test '
                     'images)' % (step, *shares, found.examples))
    self._logger.pause(time.perf_counter() - start)


class CheckpointHook(_Hook):
  """Saves finite weights: at intervals, at the end, and when told to stop.

  Args:
    training: Training; the variables saved are the default graph's.
    counter: StepCounter.
    saved: function of the step, called after each checkpoint.

  Attributes:
    signal: number of the signal that stopped the training, or None.

  Raises, in its methods:
    NotFiniteError: a weight is not finite; it is not saved.
    FileError: the folder cannot be written to.
  """

  def __init__(self, training, counter, saved):
    self._training, self._counter, self._saved = training, counter, saved
    self._variables = {var.op.name: var for var in tf.global_variables()
                       if var.op.name != checkpoint.SETTINGS}
    self.signal = None

  def stop(self, number, frame=None):
    """Notes a signal; the training saves and ends after the present step."""
    self.signal = self.signal or number

  def after_run(self, run_context, run_values):
    step = self._counter.step
    stop = self.signal is not None or step >= self._training.last_step
    if stop or step % self._training.checkpoint_frequency == 0:
      self._save(run_context.session)
    if stop:
      run_context.request_stop()

  def _save(self, session):
    arrays = session.run(self._variables)
    if checkpoint.not_finite(arrays):
      raise NotFiniteError('A weight is not finite after step %d' %
                           (self._counter.step - 1))
    checkpoint.save(self._training.folder, arrays, self._training.settings,
                    self._counter.step, self._training.keep_checkpoints)
    self._saved(self._counter.step)
