"""Final accuracy with bfloat16 operands beside float32, on a short schedule.

  python benchmarks/precision.py --data_dir=data --train_dir=runs/precision \\
      --conv1_channels=16 --epochs=4

Trains by --schedule=fast with both precisions from each of 24 seeds, and prints
top-1 on the test images, and mean and standard error of the pairs' differences.
For processors with AVX512_BF16 or AMX, or GPUs; others take many times as long
for bfloat16. Stopped, the same command continues; --trained_seed selects seeds,
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
import numpy as np

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'train_dir', 'conv1_channels', 'epochs'):
  cifar10.tf.app.flags.declare_key_flag(_name)
SEEDS = [str(seed) for seed in range(24)]
cifar10.tf.app.flags.DEFINE_multi_enum('trained_seed', SEEDS, SEEDS,
                                       'Which to train.')


def main(argv=None):
  del argv
  width = FLAGS.conv1_channels or cifar10.CONV1_CHANNELS
  differences = []
  for seed in map(int, FLAGS.trained_seed):
    top1 = []
    for precision in ('float32', 'bfloat16'):
      folder = os.path.join(FLAGS.train_dir or 'runs/precision', '%s_seed%d' % (
          precision, seed))
      with flagsaver.flagsaver(train_dir=folder, precision=precision, seed=seed,
                               log_frequency=1000):
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
