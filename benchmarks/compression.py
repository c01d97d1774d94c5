"""Times the compression of a real network to five widths.

  python benchmarks/compression.py --data_dir=data \\
      --checkpoint_dir=runs/seed0/scratch_64 [--json]

First the whole: moments of all training images at 10 positions each, then
least-squares choice and full reconstruction of 48, 32, 24, 16 and 8 channels;
TensorFlow's import is not counted. Then, on the same 500,000 stored rows of
contributions (one random filter a row, as the paper samples), the paper's loop
for each width, literally, beside ours: Gram matrix, then one removal order.

With --json: seconds_all_widths, peak_rss_gib (of the first part),
speedup_vs_textbook, same_choice, samples, machine.
"""
import datetime
import json
import os
import resource
import sys
import time

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             os.pardir), os.path.dirname(__file__)]

from support import checkpoint
import cifar10
import cifar10_input
import thinet
import thinet_compress
from support import thinet_moments
from training import processor

import numpy as np

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'checkpoint_dir', 'json'):
  cifar10.tf.app.flags.declare_key_flag(_name)

WIDTHS, IMAGES, LOCATIONS = [48, 32, 24, 16, 8], 50000, 10


def contributions(kernel, images):
  """float64 [images * 10, channels]: one random filter for each patch."""
  arrays = checkpoint.read_newest(FLAGS.checkpoint_dir)[1]
  weights = thinet.blocks(kernel)
  channels, taps, filters = weights.shape
  dice, rows = np.random.default_rng(0), []
  for patches in thinet_moments.sampled_batches(arrays, images, LOCATIONS, 0):
    patches = patches.reshape(len(patches), taps, channels)
    chosen = weights[:, :, dice.integers(filters, size=len(patches))]
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
  cifar10.maybe_download_and_extract()
  examples, _ = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
  images = min(IMAGES, examples)
  _, arrays, _ = checkpoint.read_newest(FLAGS.checkpoint_dir)
  kernel = arrays['conv2/weights' + cifar10.AVERAGE]

  start = time.time()
  fit, check = thinet_moments.patch_moments(
      arrays, images, LOCATIONS, 0,
      lambda moments: thinet_compress.choices(moments, arrays))
  moments_seconds = time.time() - start
  order, _ = thinet.least_squares_order(fit, kernel)
  for width in WIDTHS:
    kept = np.sort(order[len(order) - width:])
    thinet.full_reconstruction(fit, check, kernel, kept)
  seconds = time.time() - start
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

  rows = contributions(kernel, images)
  start = time.time()
  order = thinet.removal_order(rows.T @ rows)
  ours = time.time() - start
  start = time.time()
  removed = {width: textbook(rows, width) for width in WIDTHS}
  theirs = time.time() - start
  result = {
      'seconds_all_widths': round(seconds, 2),
      'seconds_moments': round(moments_seconds, 2),
      'peak_rss_gib': round(memory, 2),
      'speedup_vs_textbook': round(theirs / ours, 1),
      'textbook_seconds': round(theirs, 2), 'our_seconds': round(ours, 4),
      'same_choice': all(order[:len(order) - width].tolist() == removed[width]
                         for width in WIDTHS),
      'samples': len(rows), 'date': datetime.date.today().isoformat(),
      'machine': processor()}
  print(json.dumps(result) if FLAGS.json else
        '\n'.join('%s: %s' % item for item in result.items()))
  return 0


if __name__ == '__main__':
  cifar10.run(main)
