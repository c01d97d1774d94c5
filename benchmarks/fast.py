"""Chooses --schedule=fast, on a held-out part of the training set.

  python benchmarks/fast.py --data_dir=data --train_dir=runs/holdout \\
      --conv1_channels=16 --epochs=25

Makes the data set of holdout.py, trains every candidate below from scratch on
its nine tenths, and prints top-1 on the held-out images. The test images are
never read. Stopped, the same command continues; --candidate trains some of them,
so that several can run side by side.
"""
import os
import sys

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             os.pardir), os.path.dirname(__file__)]

import cifar10
import cifar10_train
import holdout

from absl.testing import flagsaver

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'train_dir', 'conv1_channels', 'epochs', 'precision',
              'seed'):
  cifar10.tf.app.flags.declare_key_flag(_name)

FAST = cifar10.SCHEDULES['fast']
CANDIDATES = {
    'rate%g_convolutions%g_smoothing%g' % (rate, factor, smoothing):
        FAST._replace(learning_rate=rate, convolution_rate=factor,
                      label_smoothing=smoothing)
    for rate in (0.01, 0.02, 0.04, 0.08) for factor in (1.0, 4.0, 12.0)
    for smoothing in (0.0, 0.1)}
cifar10.tf.app.flags.DEFINE_multi_enum(
    'candidate', list(CANDIDATES), list(CANDIDATES), 'What to train.')


def main(argv=None):
  del argv
  out = FLAGS.train_dir or 'runs/holdout'
  data = holdout.write(FLAGS.data_dir, os.path.join(out, 'data'))
  width = FLAGS.conv1_channels or cifar10.CONV1_CHANNELS
  for name in FLAGS.candidate:
    cifar10.SCHEDULES['fast'] = CANDIDATES[name]
    folder = os.path.join(out, 'fast', '%s_width%d_seed%d' % (
        name, width, FLAGS.seed))
    with flagsaver.flagsaver(data_dir=data, train_dir=folder,
                             log_frequency=1000):
      if cifar10_train.train('fast', width):
        return 1
      print('%s: %.2f' % (folder, holdout.top1(folder)), flush=True)
  return 0


if __name__ == '__main__':
  cifar10.run(main)
