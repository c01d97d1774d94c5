"""Final accuracy with bfloat16 operands beside float32, on a short schedule.

  python benchmarks/precision.py --data_dir=data --train_dir=runs/precision \\
      --conv1_channels=16 --epochs=6

Trains by --schedule=fast with both precisions from each of eight seeds, and
prints top-1 on the test images, and mean and standard error of the pairs'
differences. Processors without bfloat16 take many times as long for it, so it is
emulated: every operand and result of the convolutions and matrix products, and
every gradient that passes there, is rounded to bfloat16, and the sums are
float32, as in processors that have it. What that leaves of the difference between
the two precisions, in one step's gradients, is printed first. Stopped, the same
command continues; --trained_seed selects seeds, so that several can run side by
side.
"""
import os
import sys
from unittest import mock

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             os.pardir), os.path.dirname(__file__)]

import cifar10
import cifar10_train
import holdout
import operations

from absl.testing import flagsaver
import numpy as np
import tensorflow.compat.v1 as tf

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'train_dir', 'conv1_channels', 'epochs'):
  tf.app.flags.declare_key_flag(_name)
SEEDS = [str(seed) for seed in range(8)]
tf.app.flags.DEFINE_multi_enum('trained_seed', SEEDS, SEEDS, 'Which to train.')

INFERENCE = cifar10.inference
NORMALIZATION = operations.local_response_normalization


def rounded(x):
  """The tensor, and the gradient that passes, rounded to bfloat16."""
  return tf.cast(tf.cast(x, tf.bfloat16), tf.float32)


def emulated(images, conv1_channels, precision='bfloat16'):
  """cifar10.inference(images, conv1_channels, 'bfloat16') by rounding."""
  if precision == 'float32':
    return INFERENCE(images, conv1_channels)
  plain = {}

  def patch(owner, name):
    plain[name] = getattr(owner, name)
    return mock.patch.object(owner, name, lambda *tensors, **names: rounded(
        plain[name](*map(rounded, tensors), **names)))

  def normalization(x):   # Is float32 in both.
    with mock.patch.object(tf, 'matmul', plain['matmul']):
      with mock.patch.object(tf.nn, 'bias_add', plain['bias_add']):
        return NORMALIZATION(x)

  with patch(operations, 'convolution'), patch(tf, 'matmul'), patch(
      tf.nn, 'bias_add'), mock.patch.object(
          operations, 'local_response_normalization', normalization):
    return INFERENCE(images, conv1_channels)


def gradients(inference, width, precision):
  """Of all weights, for random images and weights, as one vector."""
  generator = np.random.default_rng(0)
  with tf.Graph().as_default(), tf.Session() as session:
    images = tf.constant(generator.normal(size=[32, 24, 24, 3]), tf.float32)
    loss = cifar10.loss(inference(images, width, precision), tf.range(32) % 10)
    weights = tf.trainable_variables()
    result = tf.gradients(loss, weights)
    cifar10.assign(session, {
        var: generator.normal(0, 0.03, var.shape.as_list())
        for var in weights})
    return np.concatenate([each.ravel() for each in session.run(result)])


def main(argv=None):
  del argv
  width = FLAGS.conv1_channels or cifar10.CONV1_CHANNELS
  single, half, ours = (gradients(*arguments) for arguments in (
      (INFERENCE, width, 'float32'), (INFERENCE, width, 'bfloat16'),
      (emulated, width, 'bfloat16')))
  print('gradients: bfloat16 differs from float32 by %.4f of their size, the '
        'emulation from bfloat16 by %.4f' % tuple(
            np.linalg.norm(one - half) / np.linalg.norm(single)
            for one in (single, ours)), flush=True)
  differences = []
  for seed in map(int, FLAGS.trained_seed):
    top1 = []
    for precision in ('float32', 'bfloat16'):
      folder = os.path.join(FLAGS.train_dir or 'runs/precision', '%s_seed%d' % (
          precision, seed))
      with flagsaver.flagsaver(train_dir=folder, precision=precision, seed=seed,
                               log_frequency=1000):
        with mock.patch.object(cifar10, 'inference', emulated):
          if cifar10_train.train('fast', width):
            return 1
      top1.append(holdout.top1(folder))
    differences.append(top1[1] - top1[0])
    print('seed %d: float32 %.2f, bfloat16 %.2f' % (seed, *top1), flush=True)
  print('bfloat16 - float32: %.3f, standard error %.3f, n = %d' % (
      np.mean(differences), np.std(differences, ddof=1) / len(differences)**0.5,
      len(differences)))
  return 0


if __name__ == '__main__':
  cifar10.run(main)
