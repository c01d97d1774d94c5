"""Chooses how to fine-tune, on a held-out part of the training set.

  python benchmarks/finetuning.py --data_dir=data --output_dir=runs/holdout \\
      --conv1_channels=16

Makes the data set of holdout.py, trains a parent on it (--schedule=fast, 25
epochs), compresses it in each mode below, fine-tunes the result with every
candidate, and prints top-1 on the held-out images. The test images are never
read. Stopped, the same command continues; --candidate and --mode select, so that
several can run side by side. --seed is that of the fine-tuning alone.
"""
import os
import sys

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             os.pardir), os.path.dirname(__file__)]

import cifar10
import cifar10_train
import holdout
import thinet_compress
import thinet_finetune

from absl.testing import flagsaver

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'output_dir', 'conv1_channels', 'epochs',
              'precision', 'seed'):
  cifar10.tf.app.flags.declare_key_flag(_name)

PARENT_EPOCHS = 25.0
MODES = ['thinet_none', 'thinet_scale', 'least_squares_network']
FINETUNE = cifar10.SCHEDULES['finetune']
CANDIDATES = {   # Schedule, and whether with --distill.
    'plain0.1': (FINETUNE._replace(learning_rate=0.1, momentum=0.0,
                                   convolution_rate=1.0, preconditioned=False),
                 False)}
for _kind, _factors in (('convolutions', (1, 4, 12, 30)),
                        ('preconditioned', (0.5, 1.5, 4, 12))):
  for _times in _factors:   # rate0.01_smoothing0 is preconditioned1.5.
    CANDIDATES['%s%g' % (_kind, _times)] = (
        FINETUNE._replace(convolution_rate=_times,
                          preconditioned=_kind == 'preconditioned'), False)
for _rate in (0.005, 0.01, 0.02, 0.04):
  for _smoothing in (0.0, 0.1):
    CANDIDATES['rate%g_smoothing%g' % (_rate, _smoothing)] = (
        FINETUNE._replace(learning_rate=_rate, label_smoothing=_smoothing),
        False)
  CANDIDATES['rate%g_distill' % _rate] = (
      FINETUNE._replace(learning_rate=_rate), True)
cifar10.tf.app.flags.DEFINE_multi_enum('candidate', list(CANDIDATES),
                                       list(CANDIDATES), 'What to try.')
cifar10.tf.app.flags.DEFINE_multi_enum('mode', MODES, MODES, 'From what.')


def finetune(slim, parent, name):
  """Fine-tunes by a candidate; returns the exit code."""
  cifar10.SCHEDULES['finetune'], distill = CANDIDATES[name]
  tuned = '%s_%s_seed%d' % (slim, name, FLAGS.seed)
  with flagsaver.flagsaver(checkpoint_dir=slim, train_dir=tuned,
                           distill=parent if distill else None):
    code = thinet_finetune.finetune()
  if code == 0:
    print('%s: %.2f' % (tuned, holdout.top1(tuned)), flush=True)
  return code


def main(argv=None):
  del argv
  out = FLAGS.output_dir or 'runs/holdout'
  data = holdout.write(FLAGS.data_dir, os.path.join(out, 'data'))
  parent = os.path.join(out, 'parent')
  width = FLAGS.conv1_channels or 16
  with flagsaver.flagsaver(data_dir=data, log_frequency=1000):
    with flagsaver.flagsaver(train_dir=parent, epochs=PARENT_EPOCHS, seed=0):
      if cifar10_train.train('fast', cifar10.CONV1_CHANNELS):
        return 1
    print('parent: %.2f' % holdout.top1(parent), flush=True)
    for mode in FLAGS.mode:
      slim = os.path.join(out, '%s_%d' % (mode, width))
      criterion, reconstruction = mode.rsplit('_', 1)
      with flagsaver.flagsaver(
          checkpoint_dir=parent, output_dir=slim, conv1_channels=width, seed=0,
          criterion=criterion, reconstruction=reconstruction):
        thinet_compress.compress()
      print('%s: %.2f' % (slim, holdout.top1(slim)), flush=True)
      for name in FLAGS.candidate:
        if finetune(slim, parent, name):
          return 1
  return 0


if __name__ == '__main__':
  cifar10.run(main)
