"""Makes networks under the same budgets by several choices of their widths.

  python benchmarks/budget_networks.py --data_dir=data \\
      --checkpoint_dir=runs/seed0/scratch_64 --output_dir=runs/widths/seed0

What budget.py compares after least squares is here compared at the end: each
network is refitted by `network` and fine-tuned as in the sweep, with channels
by the least-squares criterion, and rated on the test images; they choose
nothing. For half, a quarter and a tenth of both costs: losses, uniform and
global_l1 of budget.py. Then conv1, with 16 of its channels, and half, all
layers under conv1's multiply-adds and half of its parameters. About half an
hour for a parent on two cores; the same command goes on where it was
interrupted.

Prints one JSON object: by budget (equal: the last two) and way, widths, shares
of both costs, and top1 in %, without and with fine-tuning; seed, date and
machine.
"""
import os
import sys

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir))

import cifar10
from cifar10_input import UserError
from thinet import checkpoint
from thinet import files
from thinet import tensorflow as tf
import programs
import thinet_compress
import timing
import ways

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'checkpoint_dir', 'output_dir'):
  tf.app.flags.declare_key_flag(_name)
FLAGS['output_dir'].help = 'Folder for the networks, a folder each.'

CONV1 = 16


def flags_of(widths):
  """The flags of thinet_compress.py for these Widths."""
  return ['--%s=%d' % item for item in widths._asdict().items()]


def within(multiply_adds, parameters):
  """The flags of thinet_compress.py for a budget."""
  return ['--multiply_adds=%.6g' % multiply_adds,
          '--parameters=%.6g' % parameters]


def choices(weights):
  """Budget -> way -> flags of thinet_compress.py for a parent's weights."""
  whole = cifar10.widths_of(weights)
  result = {str(share): {
      'losses': within(share, share),
      'uniform': flags_of(ways.uniform(whole, share)),
      'global_l1': flags_of(cifar10.Widths(
          *map(len, ways.global_l1(weights, share).values())))}
            for share in ways.BUDGETS}
  multiply_adds, parameters = ways.shares(
      whole._replace(conv1_channels=CONV1), whole)
  result['equal'] = {'conv1': ['--conv1_channels=%d' % CONV1],
                     'half': within(multiply_adds, parameters / 2)}
  return result


def network(name, flags, seed):
  """Makes a network and fine-tunes it; returns its figures."""
  slim = os.path.join(FLAGS.output_dir, name)
  tuned = slim + '_finetuned'
  common = ['--data_dir=' + FLAGS.data_dir, '--seed=%d' % seed]
  result = {
      'top1': programs.made(
          'thinet_compress.py', slim, '--output_dir=' + slim, *common,
          '--checkpoint_dir=' + FLAGS.checkpoint_dir, *flags,
          '--criterion=least_squares', '--reconstruction=network'),
      'top1_finetuned': programs.made(
          'thinet_finetune.py', tuned, '--train_dir=' + tuned, *common,
          '--checkpoint_dir=' + slim)}
  report = files.read_json(os.path.join(slim, 'compress.json'))
  for cost in thinet_compress.COSTS:
    result[cost] = round(report[cost] / report['parent_' + cost], 4)
  return dict(result, widths=[report[name] for name in cifar10.Widths._fields])


def main(argv=None):
  del argv
  for name in ('checkpoint_dir', 'output_dir'):
    if not FLAGS[name].value:
      raise UserError('--%s is missing; name a folder.' % name)
  parent = checkpoint.read_newest(FLAGS.checkpoint_dir, cifar10.shapes_like)
  widths = cifar10.widths_of(parent.arrays)
  if widths != cifar10.Widths():
    raise UserError('--checkpoint_dir=%s has %s, not the 64 channels that the '
                    'budgets are of; name another.' % (
                        FLAGS.checkpoint_dir, cifar10.named(widths)))
  seed = parent.settings.get('seed', 0)
  result = {
      share: {way: network('%s_%s' % (way, share), flags, seed)
              for way, flags in by_way.items()}
      for share, by_way in choices(parent.averages).items()}
  timing.report(dict(result, seed=seed), True)
  return 0


if __name__ == '__main__':
  cifar10.run(main)
