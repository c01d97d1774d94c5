"""How far ThiNet's greedy choice is from the best, on a real network.

  python benchmarks/choice.py --data_dir=data \\
      --checkpoint_dir=runs/seed0/scratch_64 [--json]

The objective is ThiNet's, |sum of the removed contributions|^2, on the Gram
matrix of the sampled contributions of the whole network (10 positions in each
training image). Prints its greedy value over

  exact: the best of all sets, for 200 random subsets of 14 channels, of which 4,
    7 and 10 are kept: median and worst ratio, and how often greedy is the best;
  swap: at each width of the sweep, what a search finds that starts from the
    greedy set and from 20 random ones, and swaps a kept channel for a removed
    one while that lowers the objective.
"""
import datetime
import itertools
import json
import os
import sys

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

SUBSETS, SMALL, SMALL_KEPT = 200, 14, (4, 7, 10)
WIDTHS, STARTS = (48, 32, 24, 16, 8), 20


def value(gram, removed):
  """|sum of the removed contributions|^2, of a boolean [..., channels]."""
  removed = np.asarray(removed, np.float64)
  return np.einsum('...i,ij,...j->...', removed, gram, removed, optimize=True)


def greedy(gram, keep):
  """The greedy choice as a boolean [channels]: who is removed."""
  removed = np.zeros(len(gram), bool)
  removed[thinet.removal_order(gram)[:len(gram) - keep]] = True
  return removed


def best(gram, keep):
  """The least objective of all sets."""
  sets = list(itertools.combinations(range(len(gram)), len(gram) - keep))
  removed = np.zeros([len(sets), len(gram)], bool)
  np.put_along_axis(removed, np.array(sets), True, 1)
  return value(gram, removed).min()


def swapped(gram, removed):
  """The objective when no swap of two channels lowers it any more."""
  removed = removed.copy()
  while True:
    inside = gram @ removed
    out, back = np.flatnonzero(~removed), np.flatnonzero(removed)
    # Removing i and taking j back, at once.
    change = (2 * inside[out] + np.diag(gram)[out])[:, np.newaxis] - (
        2 * inside[back] - np.diag(gram)[back]) - 2 * gram[np.ix_(out, back)]
    i, j = np.unravel_index(np.argmin(change), change.shape)
    if change[i, j] >= -1e-9 * abs(value(gram, removed)):
      return float(value(gram, removed))
    removed[out[i]], removed[back[j]] = True, False


def main(argv=None):
  del argv
  cifar10.maybe_download_and_extract()
  examples, digest = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
  _, arrays, _ = checkpoint.read_newest(FLAGS.checkpoint_dir)
  moments = thinet_moments.cached_moments(
      arrays, digest, examples, 10, 0,
      lambda moments: thinet_compress.choices(moments, arrays))[0]
  gram = thinet.contribution_gram(
      moments, arrays['conv2/weights' + cifar10.AVERAGE])
  dice, result = np.random.default_rng(0), {'exact': {}, 'swap': {}}
  for keep in SMALL_KEPT:
    ratios = []
    for _ in range(SUBSETS):
      chosen = dice.choice(len(gram), SMALL, replace=False)
      part = gram[np.ix_(chosen, chosen)]
      ratios.append(value(part, greedy(part, keep)) / best(part, keep))
    result['exact'][str(keep)] = {
        'median_ratio': round(float(np.median(ratios)), 4),
        'worst_ratio': round(float(max(ratios)), 4),
        'greedy_is_best': round(float(np.mean(np.array(ratios) < 1 + 1e-9)), 3)}
  for keep in WIDTHS:
    start = greedy(gram, keep)
    found = [swapped(gram, start)] + [
        swapped(gram, dice.permutation(start)) for _ in range(STARTS)]
    result['swap'][str(keep)] = {
        'greedy_over_swap_from_greedy': round(float(
            value(gram, start) / found[0]), 4),
        'greedy_over_best_found': round(float(
            value(gram, start) / min(found)), 4)}
  result.update(machine=processor(), date=datetime.date.today().isoformat())
  print(json.dumps(result) if FLAGS.json else
        '\n'.join('%s: %s' % item for item in result.items()))
  return 0


if __name__ == '__main__':
  cifar10.run(main)
