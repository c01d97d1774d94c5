"""What lets conv1 and conv2 learn as fast along what is rare in their inputs.

Along what all patches of a layer's input have in common, their mean above all, the
loss bends most. That bounds the learning rate, and in all other directions a kernel
learns slowly. So its gradient is multiplied by the damped inverse of the patches'
second moments: the inputs' half of Grosse and Martens (ICML 2016), once and for all
from the weights that a training starts with. results/README.md says what it gains.
"""
import cifar10

import numpy as np
import tensorflow.compat.v1 as tf

BATCHES = 8
LARGEST_FACTOR = 64.0


def input_moments(weights, seed):
  """Second moments of the patches that conv1 and conv2 read.

  Args:
    weights: name -> float32 array, for the names of cifar10.weight_shapes.
    seed: integer, of the distorted training images.

  Returns:
    'conv1/weights' and 'conv2/weights' -> float64 [25 * channels, 25 * channels],
    tap by tap as in the kernel: the mean over a quarter of the positions.
  """
  # The first session decides about the threads of all: as the training wants them.
  with tf.Graph().as_default() as graph, tf.Session(
      config=cifar10.session_config(cifar10.batch_parts())) as session:
    step = tf.placeholder(tf.int64, [])
    images, _ = cifar10.distorted_inputs(seed, step, 'preconditioner')
    cifar10.inference(images, weights['conv1/biases'].size)
    moments = {}
    for layer, x in (('conv1', images),
                     ('conv2', graph.get_tensor_by_name('norm1:0'))):
      patches = tf.image.extract_patches(x, [1, 5, 5, 1], [1] * 4, [1] * 4,
                                         'SAME')[:, ::2, ::2]
      patches = tf.reshape(patches, [-1, patches.shape[-1].value])
      moments[layer + '/weights'] = tf.matmul(
          patches, patches, transpose_a=True) / patches.shape[0].value
    session.run(tf.local_variables_initializer())
    cifar10.assign(session, {var: weights[var.op.name]
                             for var in tf.trainable_variables()})
    parts = [session.run(moments, {step: number}) for number in range(BATCHES)]
  return {name: np.mean([part[name] for part in parts], 0, np.float64)
          for name in moments}


def inverse(moments):
  """(M / l + I / LARGEST_FACTOR)^-1, M the moments, l their largest eigenvalue.

  So a gradient along the eigenvector of l stays nearly as it is, and no other gets
  more than LARGEST_FACTOR times as long.

  Args:
    moments: float64 [n, n].

  Returns:
    float32 [n, n].
  """
  values, vectors = np.linalg.eigh(moments)
  factors = 1 / (np.maximum(values, 0) / (values[-1] or 1.0) +
                 1 / LARGEST_FACTOR)
  return np.float32((vectors * factors) @ vectors.T)


def of_network(weights, seed):
  """What to multiply the gradients of conv1's and conv2's kernels by.

  Args:
    weights, seed: as for input_moments.

  Returns:
    name -> float32 [25 * channels, 25 * channels].
  """
  return {name: inverse(moments)
          for name, moments in input_moments(weights, seed).items()}
