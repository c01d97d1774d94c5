"""Times a training step with one thing changed at a time: what each gains.

  python benchmarks/variants.py --data_dir=data

Interleaved, medians of 40 steps after 5 of warm-up, float32 at widths 64 and 8 with
the real input pipeline; a process for those that compute a batch in two parts, one
for the whole.
"""
import contextlib
import functools
import os
import sys
from unittest import mock

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             os.pardir), os.path.dirname(__file__)]

import cifar10
from support import operations
import training

import tensorflow.compat.v1 as tf

FLAGS = cifar10.FLAGS
tf.app.flags.declare_key_flag('data_dir')

WIDTHS = (64, 8)
OUR_CONVOLUTION = cifar10._convolution


def convolution_of_tensorflow(x, kernel):
  return tf.nn.conv2d(x, kernel, 1, 'SAME')


def lrn_of_tensorflow(x):
  return tf.nn.lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)


def pool_last(parts, name, channels, bias, pooled, dtype):
  parts = OUR_CONVOLUTION(parts, name, channels, bias, False, dtype)
  return [cifar10._pool(y) for y in parts] if pooled else parts


class FusedAverage(tf.train.ExponentialMovingAverage):
  """The averages of weights by one subtraction and one fused update each."""

  def apply(self, variables):
    if not isinstance(variables[0], tf.Variable):
      return super().apply(variables)
    updates = []
    for var in variables:
      average = tf.get_variable(var.op.name + cifar10.AVERAGE, var.shape,
                                initializer=tf.zeros_initializer())
      updates.append(tf.raw_ops.ResourceApplyGradientDescent(
          var=average.handle, alpha=1e-4, delta=average - var))
    return tf.group(*updates)


def patch(owner, name, value):
  return lambda: mock.patch.object(owner, name, value)


VARIANTS = {
    'ours': contextlib.nullcontext,
    'tf.nn.conv2d': patch(operations, 'convolution', convolution_of_tensorflow),
    'tf.nn.lrn': patch(operations, 'local_response_normalization',
                       lrn_of_tensorflow),
    'no normalization at all': patch(operations, 'local_response_normalization',
                                     tf.identity),
    'conv1 pooled after bias and ReLU': patch(cifar10, '_convolution',
                                              pool_last),
    'fused update of the averages': patch(
        tf.train, 'ExponentialMovingAverage', FusedAverage),
}
WHOLE = {
    'the batch as a whole': contextlib.nullcontext,
    'as a whole, operations one after another': patch(
        cifar10, 'session_config', lambda parts: tf.ConfigProto(
            inter_op_parallelism_threads=1, use_per_session_threads=True)),
}


def steps(parts):
  """(width, variant) -> function that runs a step, in one or in two parts."""
  runs = {}
  for width in WIDTHS:
    for name, change in (VARIANTS if parts > 1 else WHOLE).items():
      with change(), mock.patch.object(cifar10, 'batch_parts', lambda: parts):
        runs[width, name], _ = training.our_step(width)
  return runs


def main(argv=None):
  del argv
  cifar10.maybe_download_and_extract()
  runs = {}
  for parts, names in ((2, VARIANTS), (1, WHOLE)):
    process = training.Process(functools.partial(steps, parts))
    runs.update({(width, name): (process, (width, name))
                 for width in WIDTHS for name in names})
  seconds = training.interleaved(runs)
  print('%s, %d steps' % (training.processor(), training.STEPS))
  for width, name in sorted(runs, key=lambda key: -key[0]):
    print('width %2d: %6.2f ms  %s' % (width, 1e3 * seconds[width, name], name))
  return 0


if __name__ == '__main__':
  cifar10.run(main)
