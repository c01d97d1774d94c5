"""Many training steps as one operation, for GPUs.

A step is hundreds of operations of some microseconds each, which a session
launches one by one. XLA compiles the whole step, and the loop around it, so
that between the first step and the last nothing leaves the device. Evaluation
and moments have no loop: they are one pass, shorter than the compilation.
"""
import contextlib
import re
import time

from thinet import tensorflow as tf

DEVICE = '/device:GPU:0'   # For the loop, and all variables that it uses.
# Collections that a step fills for itself.
OF_ONE_STEP = 'losses', 'decayed', 'histograms', 'summaries'


class Loop:
  """Many steps as one operation, compiled by XLA when it runs first.

  It ends early after a loss that is not finite.

  Args:
    step: function without arguments that builds a step and returns (loss,
      operation): a float32 scalar, and what makes the step. Every variable
      that it trains is there already.

  Attributes:
    count: int32 scalar placeholder, the number of steps.
    loss: float32 scalar, that of the last step made.
    made: int32 scalar, the number of steps made.
  """

  def __init__(self, step):
    self.count = tf.placeholder(tf.int32, [])
    self.loss, self.made = compiled(step, self.count)

  def compile(self, session):
    """Compiles, and prints the seconds; returns whether XLA can.

    Signals wait until it ends.
    """
    start = time.perf_counter()
    try:
      session.run(self.made, {self.count: 0})
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError,
            tf.errors.InternalError) as error:
      # TensorFlow first says where the operations are in the code.
      reason = [line for line in error.message.splitlines() if not re.match(
          'Graph execution error|Detected at node|Node:| +File|$', line)]
      print('XLA cannot compile the steps, so they run one by one: %s' %
            (reason or [error.message])[0], flush=True)
      return False
    print('Compiled the steps in %.1f s.' % (time.perf_counter() - start),
          flush=True)
    return True


def compiled(step, count):
  """Builds the loop of a Loop; returns (loss, made)."""
  def one(made, loss):
    del loss
    loss, operation = step()
    with tf.control_dependencies([operation]):
      return made + 1, tf.identity(loss)

  def loop(count):
    return tf.while_loop(
        lambda made, loss: (made < count) & tf.math.is_finite(loss), one,
        [tf.constant(0), tf.constant(0.0)], parallel_iterations=1)

  with _empty(OF_ONE_STEP):
    steps, loss = tf.xla.experimental.compile(loop, [count])
  return loss, steps


@contextlib.contextmanager
def _empty(collections):
  """Empties these collections of the graph; in the end they are as before."""
  graph = tf.get_default_graph()
  kept = {name: graph.get_collection(name) for name in collections}
  try:
    for name in kept:
      graph.clear_collection(name)
    yield
  finally:
    for name, values in kept.items():
      graph.clear_collection(name)
      for value in values:
        graph.add_to_collection(name, value)
