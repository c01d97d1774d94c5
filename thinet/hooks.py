"""What happens between the steps of a training, as hooks of its session.

Log lines, summaries, ratings and checkpoints. Clock comes first of the hooks.
"""
import datetime
import signal
import time
import typing

from thinet import checkpoint
from thinet import files
from thinet import summaries
from thinet import tensorflow as tf

import numpy as np

LONGEST_RUN = 1000   # Steps of a GPU's loop, so that a stop saves within 2 s.


class NotFiniteError(Exception):
  """The loss or a weight is not finite; the text says at which step."""


class Run(typing.NamedTuple):
  """A training, and how often it shows, rates and saves; 0 stands for never."""
  folder: str
  settings: dict               # The checkpoints carry them.
  batch_size: int
  steps_per_epoch: float
  epochs: float                # Passes over the training images.
  last_step: int               # Number of steps in all.
  log_frequency: int           # Steps between log lines and scalars.
  histogram_frequency: int     # Steps between histograms.
  eval_frequency: int          # Steps between ratings.
  checkpoint_frequency: int    # Steps between checkpoints.
  keep_checkpoints: int        # Newest checkpoints to keep.

  def due(self, step, frequency):
    """Whether this step shows what it shows so often; the last one does."""
    return frequency and (step % frequency == 0 or step == self.last_step - 1)

  def unseen(self, step):
    """Number of steps from this one on that end before one that shows, saves or
    rates anything; 1 if this one does."""
    shown = self.log_frequency, self.histogram_frequency
    if any(self.due(step, each) for each in shown):
      return 1
    ends = shown + (self.checkpoint_frequency, self.eval_frequency)
    return min([LONGEST_RUN, self.last_step - 1 - step] +
               [each - step % each for each in ends if each])


class Model(typing.NamedTuple):
  """The parts of the graph that a training runs."""
  loss: 'tf.Tensor'            # float32 scalar.
  learning_rate: 'tf.Tensor'   # float32 scalar.
  train_op: 'tf.Operation'
  loop: 'loop.Loop'            # None on a processor.
  rating: 'Rating'             # None without test images.


class Rating(typing.NamedTuple):
  """The averaged network on the test images, a batch at a time."""
  batch: 'tf.Tensor'             # int64 placeholder: number of the batch.
  batches: int
  examples: int                  # Test images.
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


class Clock(_Hook):
  """The next step, and the number of steps that the present run makes.

  The first of the hooks: in the after_run of the others, `step` has moved on.
  Where there is a loop, it is compiled before the first step.
  """

  def __init__(self, run, loop, step):
    self._run, self._loop = run, loop
    self.step, self.count = step, 1

  def after_create_session(self, session, coord):
    if self._loop and not self._loop.compile(session):
      self._loop = None

  def make(self, session, train_op):
    """Makes as many steps as can be made at once."""
    self.count = self._run.unseen(self.step) if self._loop else 1
    if self.count > 1:
      session.run(self._loop.made, {self._loop.count: self.count})
    else:
      session.run(train_op)

  def after_run(self, run_context, run_values):
    self.step += self.count


class LoggerHook(_Hook):
  """Prints the tutorial's line, writes summaries, requires a finite loss."""

  def __init__(self, run, model, clock, stop, command):
    self._run, self._model, self._clock = run, model, clock
    self._stop, self._command = stop, command
    self._writer = tf.summary.FileWriter(
        run.folder, filename_suffix='.training-%d' % clock.step)
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
    self.show(summaries.command(self._command), step)

  def before_run(self, run_context):
    step = self._clock.step
    if self._clock.count > 1:
      return tf.train.SessionRunArgs({'loss': self._model.loop.loss,
                                      'made': self._model.loop.made})
    fetches = {'loss': self._model.loss}
    if self._run.due(step, self._run.log_frequency):
      fetches['scalars'] = self._scalars
      fetches['learning_rate'] = self._model.learning_rate
    if self._run.due(step, self._run.histogram_frequency):
      fetches['histograms'] = self._histograms
    return tf.train.SessionRunArgs(fetches)

  def after_run(self, run_context, run_values):
    results = run_values.results
    step = self._clock.step - self._clock.count
    if not np.isfinite(results['loss']):
      raise NotFiniteError('Loss is %s at step %d with learning rate %g' % (
          results['loss'], step + results.get('made', 1) - 1,
          run_context.session.run(self._model.learning_rate)))
    if 'scalars' in results:
      self.show(results['scalars'], step)
      self._log(step, results['loss'], results['learning_rate'])
    if 'histograms' in results:
      self.show(results['histograms'], step)

  def _log(self, step, loss, rate):
    # The first interval includes the graph's start, so it gives no rate.
    run, speed, left = self._run, 'first step', ''
    if self._start:
      before, start = self._start
      seconds = max(time.perf_counter() - start, 1e-9) / (step - before)
      speed = '%.1f examples/sec; %.3f sec/batch' % (run.batch_size / seconds,
                                                     seconds)
      left = ', %s left' % datetime.timedelta(
          seconds=round(seconds * (run.last_step - step)))
      self.show(tf.Summary(value=[tf.Summary.Value(
          tag='examples_per_second',
          simple_value=run.batch_size / seconds)]), step)
    self._start = step, time.perf_counter()
    self.say('step %d, loss = %.2f (%s); step %d of %d, epoch %.1f of %g, '
             'learning rate %.3g%s' % (
                 step, loss, speed, step, run.last_step,
                 step / run.steps_per_epoch, run.epochs, rate, left))

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
      raise files.not_written(self._run.folder, error)

  def end(self, session):
    self._write('close')


class RatingHook(_Hook):
  """Rates the averaged weights on the test images; changes nothing.

  At the start, every eval_frequency steps, and at the end.
  """

  def __init__(self, run, rating, clock, logger):
    self._run, self._rating = run, rating
    self._clock, self._logger = clock, logger

  def after_create_session(self, session, coord):
    if self._clock.step % self._run.eval_frequency == 0:
      self._rate(session)

  def after_run(self, run_context, run_values):
    last = self._clock.step == self._run.last_step
    if last or (self._clock.step % self._run.eval_frequency == 0 and
                not run_context.stop_requested):
      self._rate(run_context.session)

  def _rate(self, session):
    start = time.perf_counter()
    hits = sum(session.run(self._rating.hits, {self._rating.batch: number})
               for number in range(self._rating.batches))
    shares = hits / self._rating.examples
    self._logger.show(summaries.precision(*shares), self._clock.step)
    self._logger.say('step %d, precision @ 1 = %.4f, @ 5 = %.4f (%d test '
                     'images)' % (self._clock.step, *shares,
                                  self._rating.examples))
    self._logger.pause(time.perf_counter() - start)


class CheckpointHook(_Hook):
  """Saves finite weights: at intervals, at the end, and when told to stop."""

  def __init__(self, run, clock):
    self._run, self._clock = run, clock
    self._variables = {var.op.name: var for var in tf.global_variables()
                       if var.op.name != checkpoint.SETTINGS}
    self.signal = None

  def stop(self, number, frame=None):
    """Notes a signal; the training saves and ends after the present step."""
    self.signal = self.signal or number

  def after_run(self, run_context, run_values):
    step = self._clock.step
    stop = self.signal is not None or step >= self._run.last_step
    if stop or step % self._run.checkpoint_frequency == 0:
      self._save(run_context.session)
    if stop:
      run_context.request_stop()

  def _save(self, session):
    arrays = session.run(self._variables)
    if checkpoint.not_finite(arrays):
      raise NotFiniteError('A weight is not finite after step %d' %
                           (self._clock.step - 1))
    checkpoint.save(self._run.folder, arrays, self._run.settings,
                    self._clock.step, self._run.keep_checkpoints)
