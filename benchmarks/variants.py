"""Times a training step with one thing changed at a time: what each gains.

  python benchmarks/variants.py --data_dir=data

In one process, interleaved, medians of 40 steps after 5 of warm-up, float32 at
widths 64 and 8 with the real input pipeline.
"""
import contextlib
import os
import sys
import time
from unittest import mock

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             os.pardir), os.path.dirname(__file__)]

import cifar10
import operations
import training

import numpy as np
import tensorflow.compat.v1 as tf

FLAGS = cifar10.FLAGS
tf.app.flags.declare_key_flag('data_dir')

OUR_CONVOLUTION = cifar10._convolution


def convolution_of_tensorflow(x, kernel):
  return tf.nn.conv2d(x, kernel, 1, 'SAME')


def lrn_of_tensorflow(x):
  return tf.nn.lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)


def pool_last(x, name, channels, bias, pooled):
  y = OUR_CONVOLUTION(x, name, channels, bias, False)
  return cifar10._pool(y) if pooled else y


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
    'operations one after another': patch(
        cifar10, 'session_config', lambda: tf.ConfigProto(
            inter_op_parallelism_threads=1, use_per_session_threads=True)),
}


def main(argv=None):
  del argv
  cifar10.maybe_download_and_extract()
  runs = {}
  for width in (64, 8):
    for name, change in VARIANTS.items():
      with change():
        runs[width, name], _ = training.our_step(width)
  seconds = {key: [] for key in runs}
  for number in range(training.WARM_UP + training.STEPS):
    for key, run in runs.items():
      start = time.perf_counter()
      run()
      if number >= training.WARM_UP:
        seconds[key].append(time.perf_counter() - start)
  print('%s, %d steps' % (training.processor(), training.STEPS))
  for (width, name), times in seconds.items():
    print('width %2d: %6.2f ms  %s' % (width, 1e3 * np.median(times), name))
  return 0


if __name__ == '__main__':
  cifar10.run(main)
