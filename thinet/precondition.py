"""Multiplies gradients by the inverse second moments of their kernel's inputs.

The loss bends most along what all patches of a layer's input have in common,
above all along their mean. That bounds the learning rate, and in all other
directions a kernel learns slowly. So its gradient is multiplied by the damped
inverse of the patches' second moments: the inputs' half of Grosse and Martens
(ICML 2016), computed once from the weights that a training starts with.
"""
from thinet import moments
from thinet import tensorflow as tf

import numpy as np

LARGEST_FACTOR = 64.0
BATCHES = 8     # Of images that the moments are taken from.
STRIDE = 2      # Between positions: a quarter of them are read.


def inverse(matrix):
  """(M / l + I / LARGEST_FACTOR)^-1, l the largest eigenvalue of M.

  A gradient along the eigenvector of l stays nearly as it is, and none gets
  more than LARGEST_FACTOR times as long.

  Args:
    matrix: float64 [n, n], M: the mean of p p^T over patches p.

  Returns:
    float32 [n, n].
  """
  values, vectors = np.linalg.eigh(matrix)
  factors = 1 / (np.maximum(values, 0) / (values[-1] or 1.0) +
                 1 / LARGEST_FACTOR)
  return np.float32((vectors * factors) @ vectors.T)


def matrices(inputs, run):
  """Computes the matrices to multiply convolutions' gradients by.

  Args:
    inputs: name of a kernel -> float32 [n, side, side, channels], what it
      reads.
    run: function of (tensor, number) that returns the tensor's value on batch
      0, 1, ... of the images.

  Returns:
    Name -> float32 [25 * channels, 25 * channels].
  """
  result = {}
  for name, x in inputs.items():
    rows = moments.patches(x, moments.grid_positions(x.shape[1].value, STRIDE))
    found = moments.second_moments(run(rows, number)
                                   for number in range(BATCHES))
    result[name] = inverse(found.second / found.count)
  return result


def in_variables(matrices):
  """Holds matrices in local variables, and so outside of compiled code.

  Constants of up to 10 MB would also be in each graph that TensorBoard shows.

  Args:
    matrices: name -> float32 array.

  Returns:
    Name -> float32 variable in LOCAL_VARIABLES, of the matrix's shape.
  """
  def variable(matrix):
    value = tf.py_func(lambda: matrix, [], tf.float32)
    value.set_shape(matrix.shape)
    return tf.Variable(value, trainable=False, name='preconditioner',
                       collections=[tf.GraphKeys.LOCAL_VARIABLES])

  return {name: variable(matrix) for name, matrix in matrices.items()}


def direction(name, gradient, convolution_rate, matrices):
  """Scales and preconditions a variable's gradient.

  Args:
    name: of the variable.
    gradient: float32 [..., units].
    convolution_rate: factor for conv1 and conv2.
    matrices: name of a kernel -> float32 [inputs, inputs], from in_variables;
      inputs is the product of the gradient's dimensions except the last.

  Returns:
    A tensor of the gradient's shape.
  """
  if name.startswith('conv'):
    gradient *= convolution_rate   # The update is linear in it.
  if name in matrices:
    rows = tf.reshape(gradient, [-1, gradient.shape[-1].value])
    gradient = tf.reshape(matrices[name] @ rows, gradient.shape)
  return gradient
