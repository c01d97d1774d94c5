"""Trains a slim network from scratch with all the computation of its rival.

  python benchmarks/equal_computation.py --data_dir=data --seed=0 \\
      --conv1_channels=16 --output_dir=runs/seed0/equal_16

The rival is least_squares_network, fine-tuned, of that width of conv1: its
parent was trained, compressed and fine-tuned. As many multiply-adds are spent
here on the slim network alone: a training by the published schedule, then the
rival's fine-tuning, so that both end with it. Both are rated on the test
images, which choose nothing. One to two hours on two cores; the same command
goes on where it was interrupted. Past 350 and 700 epochs the published schedule
divides the learning rate by 10, which its rival's parent never reaches. Beside
the rival, results/report.py --differences compares the two.

A training counts the multiply-adds of the network three times for an image:
forward, and for the gradients of inputs and of weights. Of the compression the
passes of both networks count, and the products of rows with themselves, which
are second moments.

Prints one JSON object: seed, conv1_channels, epochs of the training, top1 in %
after it, top1_finetuned, the rival's multiply_adds in units of 10^12 by part,
date and machine.
"""
import os
import sys

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir))

import cifar10
from cifar10_input import UserError
from thinet import refit
from thinet import tensorflow as tf
import programs
import thinet_compress
import thinet_finetune
import timing

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'seed', 'conv1_channels', 'output_dir'):
  tf.app.flags.declare_key_flag(_name)
FLAGS['output_dir'].help = ('Folder for the network; the fine-tuned one is in '
                            'another, with _finetuned at its end.')


def spent(width):
  """The rival's multiply-adds by part: name -> number."""
  images, fit = 50000, 45000
  whole, slim = (cifar10.cost(cifar10.Widths(each))[0]
                 for each in (cifar10.Widths().conv1_channels, width))
  samples = images * thinet_compress.FLAGS['locations_per_image'].default
  # Least squares of conv2, then of the layers after it: (rows, inputs).
  solved = [(refit.CONV2_IMAGES * refit.LOCATIONS, 25 * width), (fit, 2304),
            (fit, 384), (fit, 192)]
  return {
      'parent': 3 * whole * images * cifar10.PUBLISHED.epochs,
      'moments': whole * images + samples * (25 * 64) ** 2,
      'layers': (whole + slim) * (refit.CONV2_IMAGES + 3 * images) +
                sum(rows * inputs ** 2 for rows, inputs in solved),
      'descent': (whole + 3 * slim) * fit * refit.PASSES,
      'fine_tuning': 3 * slim * images * thinet_finetune.SCHEDULE.epochs}


def epochs(width):
  """Epochs of the slim network's training that cost as much, without the last.

  Those are of the fine-tuning.
  """
  slim, _ = cifar10.cost(cifar10.Widths(width))
  return round(sum(spent(width).values()) / (3 * slim * 50000) -
               thinet_finetune.SCHEDULE.epochs, 1)


def main(argv=None):
  del argv
  width, folder = FLAGS.conv1_channels, FLAGS.output_dir
  if not width or not folder:
    raise UserError('--conv1_channels or --output_dir is missing; give both.')
  tuned = folder + '_finetuned'
  common = ['--data_dir=' + FLAGS.data_dir, '--seed=%d' % FLAGS.seed]
  top1 = programs.made(
      'cifar10_train.py', folder, '--train_dir=' + folder, *common,
      '--conv1_channels=%d' % width, '--epochs=%g' % epochs(width))
  top1_finetuned = programs.made(
      'thinet_finetune.py', tuned, '--train_dir=' + tuned, *common,
      '--checkpoint_dir=' + folder)
  timing.report({
      'seed': FLAGS.seed, 'conv1_channels': width, 'epochs': epochs(width),
      'top1': top1, 'top1_finetuned': top1_finetuned,
      'multiply_adds': {name: round(number / 1e12, 2)
                        for name, number in spent(width).items()}}, True)
  return 0


if __name__ == '__main__':
  cifar10.run(main)
