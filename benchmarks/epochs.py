"""How reconstruction and fine-tuning compare as the number of epochs falls.

  python benchmarks/epochs.py --data_dir=data --checkpoint_dir=runs/seed0 \\
      --train_dir=runs/epochs --conv1_channels=16

Takes the networks of a sweep at one width, fine-tunes each for 1, 2, 5, 10 and 20
epochs, and prints top-1 on the test images behind each, and before. Beside them
two baselines with the very same schedule: training from scratch at that width
(scratch), and the uncompressed network, fine-tuned (scratch_64). Stopped, the same
command continues; --start selects, so that several can run side by side.
"""
import os
import sys

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             os.pardir), os.path.dirname(__file__)]

import cifar10
import cifar10_train
import holdout
import thinet_finetune

from absl.testing import flagsaver
import tensorflow.compat.v1 as tf

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'checkpoint_dir', 'train_dir', 'conv1_channels',
              'precision', 'seed'):
  tf.app.flags.declare_key_flag(_name)

STARTS = ['scratch', 'thinet_none', 'thinet_scale', 'least_squares_full',
          'least_squares_network', 'scratch_64']
EPOCHS = [1, 2, 5, 10, 20]
tf.app.flags.DEFINE_multi_enum('start', STARTS, STARTS, 'From what.')


def random_weights(width):
  """name -> array: what a training from scratch starts with, averages too."""
  with tf.Graph().as_default(), tf.Session(
      config=cifar10.session_config(cifar10.batch_parts())) as session:
    tf.set_random_seed(FLAGS.seed)
    cifar10.inference(tf.zeros([1, cifar10.IMAGE_SIZE, cifar10.IMAGE_SIZE, 3]),
                      width)
    session.run(tf.global_variables_initializer())
    weights = session.run({var.op.name: var for var in tf.trainable_variables()})
  return dict(weights, **{name + cifar10.AVERAGE: value
                          for name, value in weights.items()})


def main(argv=None):
  del argv
  width = FLAGS.conv1_channels or 16
  for start in FLAGS.start:
    source = os.path.join(FLAGS.checkpoint_dir or 'runs/seed0',
                          start if start == 'scratch_64' else
                          '%s_%d' % (start, width))
    results = [] if start == 'scratch' else [holdout.top1(source)]
    for epochs in EPOCHS:
      folder = os.path.join(FLAGS.train_dir or 'runs/epochs', '%s_%d_%d' % (
          start, width, epochs))
      with flagsaver.flagsaver(checkpoint_dir=source, train_dir=folder,
                               epochs=float(epochs), log_frequency=1000):
        if (cifar10_train.train('finetune', width, random_weights(width))
            if start == 'scratch' else thinet_finetune.finetune()):
          return 1
      results.append(holdout.top1(folder))
    print('%d channels, %s: %s' % (width, start, ' '.join(
        '%.2f' % result for result in results)), flush=True)
  return 0


if __name__ == '__main__':
  cifar10.run(main)
