"""Local response normalization, rewritten for speed on processors.

benchmarks/README.md has what it gains; tests/test_operations.py holds it to the
operation it replaces, in value and gradient.
"""
import numpy as np
import tensorflow.compat.v1 as tf

LRN_RADIUS, LRN_BIAS, LRN_ALPHA, LRN_BETA = 4, 1.0, 0.001 / 9.0, 0.75


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
