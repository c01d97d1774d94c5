"""A data set on which to choose settings, and the accuracy there.

For the benchmarks that choose: the first nine tenths of the training images, and
the last tenth in place of the test images.
"""
import os

from support import checkpoint
import cifar10
import cifar10_eval
import cifar10_input

import numpy as np


def write(data_dir, target):
  """Writes the data set of the first nine tenths, the rest as test images.

  Returns:
    target, for --data_dir. It is written once.
  """
  if os.path.isdir(os.path.join(target, cifar10_input.FOLDER)):
    return target
  folder = os.path.join(data_dir, cifar10_input.FOLDER)
  paths = cifar10_input.data_files(folder, 'train_eval')
  cifar10_input.verify(paths)
  records = np.concatenate([np.fromfile(path, np.uint8) for path in paths])
  records = records.reshape(-1, cifar10_input.RECORD_BYTES)
  used = len(records) * 9 // 10
  part = os.path.join(target, cifar10_input.FOLDER + '.part')
  os.makedirs(part, exist_ok=True)
  names = cifar10_input.TRAIN_FILES + cifar10_input.TEST_FILES
  for name, chunk in zip(names, np.array_split(records[:used], 5) +
                         [records[used:]]):
    chunk.tofile(os.path.join(part, name))
  os.rename(part, os.path.join(target, cifar10_input.FOLDER))
  return target


def top1(folder):
  """Percent of the images for testing in FLAGS.data_dir."""
  _, arrays, _ = checkpoint.read_newest(folder)
  examples, _ = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), 'test'))
  return 100.0 * cifar10_eval.eval_once(arrays, examples, 'test',
                                        'averaged')[0] / examples
