"""Does a choice pay that weighs conv2's outputs by what they do further on?

  python benchmarks/metric.py --data_dir=data --checkpoint_dir=runs/seed0/scratch_64

For the criterion least_squares, the error of conv2's outputs is weighed by the
second moments of gradients at conv2's pre-activation, whole or their diagonal, over
5,120 training images: of random projections of local3's outputs, of random
projections of the logits, and of the loss of labels drawn from the network. Prints,
for each width, how many of the channels kept are those kept without weights, and
top-1 on 10,000 training images after --reconstruction=full. The test images are
never read.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir))

from support import checkpoint
import cifar10
import cifar10_eval
import cifar10_input
import thinet
import thinet_compress
from support import thinet_moments

import numpy as np
import tensorflow.compat.v1 as tf

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'checkpoint_dir'):
  tf.app.flags.declare_key_flag(_name)

IMAGES, LOCATIONS, BATCHES, MEASURED_ON = 50000, 10, 40, 10000
WIDTHS = [32, 24, 16, 8]
METRICS = ['local3', 'logits', 'loss']


def metric(name, weights):
  """float64 [64, 64]: second moments, scaled to a mean diagonal of 1."""
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(0)
    batch = tf.placeholder(tf.int64, [])
    images, _ = cifar10.inputs('train_eval', batch)
    logits = cifar10.inference(images, weights['conv1/biases'].size)
    if name == 'loss':
      labels = tf.random.categorical(logits, 1)[:, 0]
      value = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels,
                                                             logits=logits)
    else:
      output = logits if name == 'logits' else tf.nn.relu(
          session.graph.get_tensor_by_name('local3/pre_activation:0'))
      value = tf.random.normal(tf.shape(output)) * output
    slope = tf.gradients(value, session.graph.get_tensor_by_name(
        'conv2/pre_activation:0'))[0]
    slope = tf.reshape(slope, [-1, slope.shape[-1].value])
    moments = tf.matmul(slope, slope, transpose_a=True)
    session.run(tf.local_variables_initializer())
    cifar10.assign(session, {var: weights[var.op.name]
                             for var in tf.trainable_variables()})
    total = sum(session.run(moments, {batch: number}).astype(np.float64)
                for number in range(BATCHES))
  return total * len(total) / np.trace(total)


def root(matrix):
  """The symmetric square root."""
  values, vectors = np.linalg.eigh(matrix)
  return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def main(argv=None):
  del argv
  _, arrays, _ = checkpoint.read_newest(FLAGS.checkpoint_dir or
                                        'runs/seed0/scratch_64')
  weights = checkpoint.averages(arrays)
  kernel = weights['conv2/weights']
  _, digest = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
  fit, check, _, _ = thinet_moments.cached_moments(
      arrays, digest, IMAGES, LOCATIONS, 0,
      lambda moments: thinet_compress.choices(moments, arrays))
  weighed = {'none': kernel}
  for name in METRICS:
    moments = metric(name, weights)
    print('%s: eigenvalues from %.2f to %.2f' % (
        (name,) + tuple(np.linalg.eigvalsh(moments)[[0, -1]])), flush=True)
    weighed[name] = kernel @ root(moments)
    weighed[name + ', diagonal'] = kernel * np.sqrt(np.diag(moments))
  orders = {name: thinet.least_squares_order(fit, value)[0]
            for name, value in weighed.items()}
  for width in WIDTHS:
    for name, order in orders.items():
      kept = np.sort(order[len(order) - width:])
      slim = dict(weights, **{each: weights[each][..., kept] for each in (
          'conv1/weights', 'conv1/biases')})
      slim.update(thinet_compress.rebuild('full', fit, check, arrays, kept,
                                          IMAGES)[0])
      hits = cifar10_eval.eval_once(slim, MEASURED_ON, 'train_eval', 'raw')[0]
      print('%d channels, weighed by %s: %d as without, %.2f' % (
          width, name, len(set(kept) & set(orders['none'][-width:])),
          100.0 * hits / MEASURED_ON), flush=True)
  return 0


if __name__ == '__main__':
  cifar10.run(main)
