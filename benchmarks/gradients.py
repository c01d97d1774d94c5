"""Times ways to compute a convolution and its gradients.

  python benchmarks/gradients.py

In one process, interleaved, medians of 12 runs after 3 of warm-up, on random
batches of 128 with the shapes of conv1 and conv2 at widths 64 and 8, in float32, then
in bfloat16 (slow on processors that lack it): the convolution, the gradient of its
inputs and, in several ways, that of its kernel, which each cost as many operations;
then all three together, by TensorFlow's convolution and by Winograd's algorithm.
"""
import itertools
import os
import sys
import time

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             os.pardir), os.path.dirname(__file__)]

import cifar10
from support import operations
import training

import numpy as np
import tensorflow.compat.v1 as tf

BATCH, SIZE, PAD = 128, 5, 2
SHAPES = {   # Side, channels, filters.
    'conv2, width 64': (12, 64, 64), 'conv2, width 8': (12, 8, 64),
    'conv1, width 64': (24, 3, 64), 'conv1, width 8': (24, 3, 8)}
WARM_UP, RUNS = 3, 12


def shifted(x):
  """[size, size] slices [n, side, side, channels] of the padded input."""
  side = x.shape[1].value
  padded = tf.pad(x, [[0, 0], [PAD, PAD], [PAD, PAD], [0, 0]])
  return [[padded[:, i:i + side, j:j + side] for j in range(SIZE)]
          for i in range(SIZE)]


def product(x, dy):
  return tf.matmul(tf.reshape(x, [-1, x.shape[-1].value]),
                   tf.reshape(dy, [-1, dy.shape[-1].value]), transpose_a=True)


def by_convolution(x, kernel, dy):
  """x[n, i + k, j + l, c] dy[n, i, j, d] summed over n, i and j is a convolution
  of x with dy as the kernel, where the images are the channels to sum over."""
  result = tf.nn.conv2d(tf.transpose(x, [3, 1, 2, 0]),
                        tf.transpose(dy, [1, 2, 0, 3]), 1,
                        [[0, 0], [PAD, PAD], [PAD, PAD], [0, 0]])
  return tf.reshape(tf.transpose(result, [1, 2, 0, 3]), kernel.shape)


def ways(x, kernel, dy):
  """Name -> tensor; those that begin with 'kernel' are the same gradient."""
  one = [1, 1, 1, 1]
  return {
      'the convolution': tf.nn.conv2d(x, kernel, 1, 'SAME'),
      'inputs: conv2d_backprop_input': tf.nn.conv2d_backprop_input(
          x.shape, kernel, dy, one, 'SAME'),
      'kernel: conv2d_backprop_filter': tf.nn.conv2d_backprop_filter(
          x, kernel.shape, dy, one, 'SAME'),
      'kernel: a convolution': by_convolution(x, kernel, dy),
      'kernel: patches, one product': tf.reshape(product(
          tf.image.extract_patches(x, [1, SIZE, SIZE, 1], one, one, 'SAME'),
          dy), kernel.shape),
      'kernel: 25 products': tf.stack([tf.stack([product(part, dy)
                                                 for part in row])
                                       for row in shifted(x)]),
      'kernel: 5 products': tf.reshape(tf.stack([
          product(tf.concat(row, 3), dy) for row in shifted(x)]),
                                       kernel.shape)}


def main(argv=None):
  del argv
  print('%s, medians of %d, ms' % (training.processor(), RUNS))
  for dtype, (title, (side, channels, filters)) in itertools.product(
      (tf.float32, tf.bfloat16), SHAPES.items()):
    generator = np.random.default_rng(0)
    with tf.Graph().as_default(), tf.Session() as session:
      x, kernel, dy = (
          tf.get_variable(name, initializer=generator.normal(size=shape).astype(
              dtype.as_numpy_dtype)) for name, shape in [
                  ('x', [BATCH, side, side, channels]),
                  ('kernel', [SIZE, SIZE, channels, filters]),
                  ('dy', [BATCH, side, side, filters])])
      x, kernel, dy = (tf.convert_to_tensor(var) for var in (x, kernel, dy))
      found = ways(x, kernel, dy)
      runs = {name: tensor.op for name, tensor in found.items()}
      for name, y in (
          ('all three: conv2d', tf.nn.conv2d(x, kernel, 1, 'SAME')),
          ('all three: Winograd', operations.winograd_convolution(x, kernel))):
        runs[name] = [each.op for each in
                      [y] + tf.gradients(y, [x, kernel], dy)]
      session.run(tf.global_variables_initializer())
      values = session.run({name: tf.cast(tensor, tf.float32)
                            for name, tensor in found.items()
                            if name.startswith('kernel')})
      first = values['kernel: conv2d_backprop_filter']
      assert dtype == tf.bfloat16 or all(   # Whose rounding differs by processor.
          np.abs(value - first).max() < 1e-4 * np.abs(first).max()
          for value in values.values())
      seconds = {name: [] for name in runs}
      for number in range(WARM_UP + RUNS):
        for name, operation in runs.items():
          start = time.perf_counter()
          session.run(operation)
          if number >= WARM_UP:
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
      print('%s, %s: %6.2f  %s' % (dtype.name, title, 1e3 * np.median(times),
                                   name))
  return 0


if __name__ == '__main__':
  cifar10.run(main)
