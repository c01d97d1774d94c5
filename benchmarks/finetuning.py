"""Chooses how to fine-tune, on a held-out part of the training set.

  python benchmarks/finetuning.py --data_dir=data --output_dir=runs/holdout

Makes a data set of the first nine tenths of the training images, with the last
tenth in place of the test images; trains a parent on it (--schedule=fast, 12
epochs), compresses it to 16 channels without and with scales, fine-tunes each
with every candidate below, and prints top-1 on the held-out images. The test
images are never read. Stopped, the same command continues.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir))

import checkpoint
import cifar10
import cifar10_eval
import cifar10_input
import cifar10_train
import thinet_compress
import thinet_finetune

from absl.testing import flagsaver
import numpy as np

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'output_dir'):
  cifar10.tf.app.flags.declare_key_flag(_name)

WIDTH, PARENT_EPOCHS, EPOCHS = 16, 12, 8
CANDIDATES = {
    name: cifar10.Schedule(EPOCHS, *rest, 0.0) for name, rest in {
        'rate 0.1, constant, average 0.9999': (0.1, False, 0.0, 0.9999),
        'rate 0.05, linear, average 0.999': (0.05, True, 0.0, 0.999),
        'rate 0.1, linear, average 0.999': (0.1, True, 0.0, 0.999),
        'rate 0.2, linear, average 0.999': (0.2, True, 0.0, 0.999),
        'rate 0.02, linear, Nesterov 0.9, average 0.999': (
            0.02, True, 0.9, 0.999),
    }.items()}


def hold_out(data_dir, target):
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


def held_out_top1(folder):
  """Top-1 in percent on the held-out images."""
  _, arrays, _ = checkpoint.read_newest(folder)
  examples, _ = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), 'test'))
  return 100.0 * cifar10_eval.eval_once(arrays, examples, 'test',
                                        'averaged')[0] / examples


def main(argv=None):
  del argv
  out = FLAGS.output_dir or 'runs/holdout'
  data = hold_out(FLAGS.data_dir, os.path.join(out, 'data'))
  parent = os.path.join(out, 'parent')
  with flagsaver.flagsaver(data_dir=data, log_frequency=1000):
    with flagsaver.flagsaver(train_dir=parent, epochs=float(PARENT_EPOCHS)):
      if cifar10_train.train('fast', cifar10.CONV1_CHANNELS):
        return 1
    print('parent: %.2f' % held_out_top1(parent), flush=True)
    for mode in ('none', 'scale'):
      slim = os.path.join(out, mode)
      with flagsaver.flagsaver(checkpoint_dir=parent, output_dir=slim,
                               conv1_channels=WIDTH, reconstruction=mode):
        thinet_compress.compress()
      print('%s: %.2f' % (mode, held_out_top1(slim)), flush=True)
      for number, (name, schedule) in enumerate(CANDIDATES.items()):
        cifar10.SCHEDULES['finetune'] = schedule
        tuned = os.path.join(out, '%s_%d' % (mode, number))
        with flagsaver.flagsaver(checkpoint_dir=slim, train_dir=tuned):
          if thinet_finetune.finetune():
            return 1
        print('%s, %s: %.2f' % (mode, name, held_out_top1(tuned)), flush=True)
  return 0


if __name__ == '__main__':
  cifar10.run(main)
