"""TensorFlow operations rewritten for speed on processors; the same functions.

benchmarks/README.md has what each gains, tests/test_operations.py holds each to
the operation it replaces, in value and gradient.
"""
import numpy as np
import tensorflow.compat.v1 as tf

LRN_RADIUS, LRN_BIAS, LRN_ALPHA, LRN_BETA = 4, 1.0, 0.001 / 9.0, 0.75
CONVOLUTION_CHANNELS = 16   # From which on its own gradient is faster.


@tf.custom_gradient
def local_response_normalization(x):
  """tf.nn.lrn(x, 4, 1.0, 0.001 / 9, 0.75), several times faster on processors.

  The sum over neighbouring channels is a product with a band matrix, and the
  gradient is written out (tf.nn.lrn's is a scalar loop):
  y = x N^-b with N = 1 + a W x^2, dx = g N^-b - 2 a b x W(g y / N), and
  N^-0.75 = rsqrt(N) sqrt(rsqrt(N)).

  Args:
    x: float [n, height, width, channels].

  Returns:
    The same shape and dtype, and the gradient function.
  """
  channels = x.shape[-1].value
  offsets = np.subtract.outer(np.arange(channels), np.arange(channels))
  band = (np.abs(offsets) <= LRN_RADIUS).astype(x.dtype.as_numpy_dtype)
  flat = tf.reshape(x, [-1, channels])
  norm = tf.nn.bias_add(tf.matmul(tf.square(flat), LRN_ALPHA * band),
                        tf.fill([channels], tf.constant(LRN_BIAS, x.dtype)))
  root = tf.rsqrt(norm)
  scale = root * tf.sqrt(root)

  def gradient(dy):
    direct = tf.reshape(dy, [-1, channels]) * scale
    across = tf.matmul(direct * flat / norm, 2 * LRN_ALPHA * LRN_BETA * band)
    return tf.reshape(direct - flat * across, tf.shape(x))

  return tf.reshape(flat * scale, tf.shape(x)), gradient


@tf.custom_gradient
def convolution(x, kernel):
  """tf.nn.conv2d(x, kernel, 1, 'SAME'), with a faster gradient of the kernel.

  That gradient sums x[n, i + k, j + l, c] dy[n, i, j, d] over n, i and j: a
  convolution again, of x with dy as the kernel, where the images are the
  channels to sum over. From 16 channels on, processors do that faster than the
  operation that is made for the gradient.

  Args:
    x: float [n, height, width, channels]; height and width are known.
    kernel: float [size, size, channels, filters], size odd.

  Returns:
    float [n, height, width, filters], and the gradient function.
  """
  def gradient(dy):
    dx = tf.nn.conv2d_backprop_input(tf.shape(x), kernel, dy, [1, 1, 1, 1],
                                     'SAME')
    if x.shape[-1].value < CONVOLUTION_CHANNELS:
      return dx, tf.nn.conv2d_backprop_filter(x, kernel.shape, dy, [1, 1, 1, 1],
                                              'SAME')
    pad = [kernel.shape[0].value // 2] * 2
    dkernel = tf.nn.conv2d(tf.transpose(x, [3, 1, 2, 0]),
                           tf.transpose(dy, [1, 2, 0, 3]), 1,
                           [[0, 0], pad, pad, [0, 0]])
    return dx, tf.transpose(dkernel, [1, 2, 0, 3])

  return tf.nn.conv2d(x, kernel, 1, 'SAME'), gradient
