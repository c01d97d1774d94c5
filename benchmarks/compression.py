"""Times the compression of a real network, of conv1 and of all layers.

  python benchmarks/compression.py --data_dir=data \\
      --checkpoint_dir=runs/seed0/scratch_64 [--json]

First the whole: moments of what all four readers read, of all training images,
at 10 positions of conv2 each; then least-squares choice and full reconstruction
of conv1 at 48, 32, 24, 16 and 8 channels; then the widths of all layers under a
budget, a quarter of multiply-adds and parameters. TensorFlow's import is not
counted. Then, on 500,000 stored rows of contributions to conv2 (one random
filter a row, as the paper samples), the paper's loop for each width, literally,
beside ours: Gram matrix, then one removal order. Four minutes on two cores,
most of them for the paper's loop.

--json prints one object. Of the first part: seconds_moments, seconds_all_widths
(of conv1, after them), seconds_budget and peak_rss_gib. Of the second:
textbook_seconds, our_seconds, their ratio speedup_vs_textbook, and same_choice,
whether both remove the same channels in the same order. Also samples, date and
machine.
"""
import os
import resource
import sys
import time

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir))

import cifar10
import cifar10_input
from thinet import algebra
from thinet import checkpoint
from thinet import prune
import thinet_compress
import timing

import numpy as np

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'checkpoint_dir'):
  cifar10.tf.app.flags.declare_key_flag(_name)
cifar10.tf.app.flags.DEFINE_bool('json', False, 'Print one JSON object.')

WIDTHS, SHARE, IMAGES, LOCATIONS = [48, 32, 24, 16, 8], 0.25, 50000, 10


def compress(parent, sample):
  """Compresses conv1 to all WIDTHS, and chooses all widths under the budget.

  Writes nothing.

  Args:
    parent: checkpoint.Checkpoint.
    sample: thinet_compress.Sample.

  Returns:
    Seconds of the moments, of all WIDTHS and of the budget.
  """
  clock = [time.time()]
  found = thinet_compress.make_moments(parent.averages, sample, cifar10.LAYERS)
  clock.append(time.time())
  fit, check = found['conv1']
  kernel = prune.reader_kernel(parent.averages, 'conv1', {})
  order, _ = algebra.least_squares_order(fit, kernel)
  for width in WIDTHS:
    kept = np.sort(order[len(order) - width:])
    algebra.full_reconstruction(fit, check, kernel, kept)
  clock.append(time.time())
  thinet_compress.widths_for(
      thinet_compress.layer_losses(parent, found, sample)[0],
      dict.fromkeys(thinet_compress.COSTS, SHARE))
  clock.append(time.time())
  return np.diff(clock)


def contributions(weights, sample):
  """Contributions to a random filter a patch: float64 [patches, channels]."""
  blocks = algebra.blocks(weights['conv2/weights'])
  channels, taps, filters = blocks.shape
  dice, rows = np.random.default_rng(0), []
  for batch in thinet_compress.sampled_batches(weights, sample, ['conv1']):
    patches = batch['conv1']
    patches = patches.reshape(len(patches), taps, channels)
    chosen = blocks[:, :, dice.integers(filters, size=len(patches))]
    rows.append(np.einsum('ntc,ctn->nc', patches, chosen, optimize=True))
  return np.concatenate(rows)


def textbook(rows, keep):
  """Algorithm 1 of the ICCV paper: the set of removed channels."""
  removed, left = [], list(range(rows.shape[1]))
  while len(left) > keep:
    values = [(rows[:, removed + [j]].sum(1) ** 2).sum() for j in left]
    removed.append(left.pop(int(np.argmin(values))))
  return removed


def main(argv=None):
  del argv
  if not FLAGS.checkpoint_dir:
    raise cifar10_input.UserError(
        '--checkpoint_dir is missing; name the folder of a trained network.')
  examples, digest = cifar10.checked_data('train_eval')
  sample = thinet_compress.Sample(min(IMAGES, examples), LOCATIONS,
                                  FLAGS.batch_size, 0, digest)
  parent = checkpoint.read_newest(FLAGS.checkpoint_dir, cifar10.shapes_like)
  seconds = compress(parent, sample)
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

  rows = contributions(parent.averages, sample)
  start = time.time()
  order = algebra.removal_order(rows.T @ rows)
  ours = time.time() - start
  start = time.time()
  removed = {width: textbook(rows, width) for width in WIDTHS}
  theirs = time.time() - start
  timing.report({
      'seconds_moments': round(seconds[0], 2),
      'seconds_all_widths': round(seconds[1], 2),
      'seconds_budget': round(seconds[2], 2),
      'peak_rss_gib': round(memory, 2),
      'speedup_vs_textbook': round(theirs / ours, 1),
      'textbook_seconds': round(theirs, 2), 'our_seconds': round(ours, 4),
      'same_choice': all(order[:len(order) - width].tolist() == removed[width]
                         for width in WIDTHS),
      'samples': len(rows)}, FLAGS.json)
  return 0


if __name__ == '__main__':
  cifar10.run(main)
