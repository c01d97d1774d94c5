"""Compares ways to choose the widths of all layers under a budget.

  python benchmarks/budget.py --data_dir=data \\
      --checkpoint_dir=runs/seed0/scratch_64 [--json]

For half, a quarter and a tenth of the multiply-adds and of the parameters:

losses: the least sum of the layers' losses (thinet_compress.py's own way).
front_to_back: the same widths, one layer compressed after the other, each with
  its choice and reconstruction by what the network before feeds to its reader.
uniform: the same share of each layer's width.
search: as in NetAdapt (Yang et al., ECCV 2018): again and again, of four
  networks, each with one layer so much narrower that the larger of both shares
  falls by STEP, the one with the best top-1 after full reconstruction; a
  smaller budget goes on from the widths of the larger.
global_l1: all channels ranked together by their own and their reader's weights'
  L1 norms, relative to the layer's mean (Torch-Pruning's global magnitude
  pruning); its channels, too, are those that the ranking keeps.

Each gives a network by full reconstruction of all readers, on moments of the
first 40,000 training images in random order; the others, held out from the
compression, rate it. Except in global_l1 and front_to_back, the least-squares
criterion chooses each layer's channels as if that layer alone were narrower.
About ten minutes on two cores, most of them for the search.

--json prints one object: by budget and way, top1 on the images held out,
widths, shares of both costs and seconds; parent_top1, date and machine.
"""
import os
import sys
import time

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir))

import cifar10
import cifar10_input
from thinet import algebra
from thinet import checkpoint
from thinet import prune
from thinet import tensorflow as tf
import thinet_compress
import timing
import ways

import numpy as np

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'checkpoint_dir'):
  tf.app.flags.declare_key_flag(_name)
tf.app.flags.DEFINE_bool('json', False, 'Print one JSON object.')

SAMPLED, LOCATIONS = 0.8, 10
STEP, SEARCH_IMAGES = 0.05, 2000


class Compression:
  """A parent, its moments, and the images that they do not see."""

  def __init__(self, parent, sample, examples):
    self.parent, self.sample, self.examples = parent, sample, examples
    self.found = thinet_compress.make_moments(parent.averages, sample,
                                              cifar10.LAYERS)
    self.whole = cifar10.widths_of(parent.averages)
    self.orders = {layer: algebra.least_squares_order(
        fit, prune.reader_kernel(parent.averages, layer, {}))[0]
                   for layer, (fit, _) in self.found.items()}
    self.searched = self.whole   # The last widths that the search came to.

  def shares(self, widths):
    """The network's multiply-adds and parameters as shares of the parent's."""
    return ways.shares(widths, self.whole)

  def rebuilt(self, widths=None, kept=None):
    """The network of these widths, or of these channels: name -> array."""
    if kept is None:
      kept = {layer: np.sort(order[len(order) - width:])
              for (layer, order), width in zip(self.orders.items(), widths)}
    changed, _ = prune.rebuild_all('full', self.found, self.parent.averages,
                                   kept)
    return {**prune.sliced(self.parent.averages, kept), **changed}

  def top1(self, weights, images=None):
    """Top-1 in % on images that the moments do not see; by default on all."""
    first = self.sample.num_images
    last = self.examples if images is None else min(self.examples,
                                                    first + images)
    with tf.Graph().as_default(), tf.Session(
        config=cifar10.session_config()) as session:
      positions = tf.placeholder(tf.int64, [None])
      pictures, labels = cifar10.shuffled_images(
          positions, self.sample.seed, 'moments')
      hits = cifar10.hits(cifar10.inference(
          cifar10_input.central(pictures), cifar10.widths_of(weights)), labels)
      session.run(tf.local_variables_initializer())
      checkpoint.assign_network(session, weights)
      return 100 / (last - first) * sum(
          int(session.run(hits, {positions: range(
              start, min(start + 1000, last))})[0])
          for start in range(first, last, 1000))


def front_to_back(compression, widths):
  """Compresses one layer after the other; returns name -> array."""
  weights = compression.parent.averages
  for layer, width in zip(cifar10.LAYERS, widths):
    found = thinet_compress.make_moments(weights, compression.sample, [layer])
    choice = prune.choose_all('least_squares', found, weights, {layer: width},
                              0)[layer]
    changed, _ = prune.rebuild_all('full', found, weights, {layer: choice.kept})
    weights = {**prune.sliced(weights, {layer: choice.kept}), **changed}
  return weights


def search(compression, share):
  """NetAdapt's greedy search, on from where it ended before."""
  widths = compression.searched
  while max(compression.shares(widths)) > share:
    present = compression.shares(widths)
    worst = int(np.argmax(present))
    wanted = max(present[worst] - STEP, share)
    candidates = []
    for name, width in widths._asdict().items():
      narrower = (widths._replace(**{name: number})
                  for number in range(width - 1, 0, -1))
      fits = next((each for each in narrower
                   if compression.shares(each)[worst] <= wanted), None)
      if fits:
        candidates.append(fits)
    widths = max(candidates, key=lambda each: compression.top1(
        compression.rebuilt(each), SEARCH_IMAGES))
  compression.searched = widths
  return widths


def compared(compression, share):
  """Way -> figures under a budget."""
  result = {}

  def rate(name, weights, seconds):
    widths = cifar10.widths_of(weights)
    shares = compression.shares(widths)
    result[name] = {
        'top1': round(compression.top1(weights), 2), 'widths': [*widths],
        'multiply_adds': round(shares[0], 4),
        'parameters': round(shares[1], 4), 'seconds': round(seconds, 1)}

  for name, way in (
      ('losses', lambda: thinet_compress.widths_for(
          thinet_compress.layer_losses(compression.parent, compression.found,
                                       compression.sample)[0],
          dict.fromkeys(thinet_compress.COSTS, share))),
      ('uniform', lambda: ways.uniform(compression.whole, share)),
      ('global_l1', lambda: ways.global_l1(
          compression.parent.averages, share)),
      ('search', lambda: search(compression, share))):
    clock = time.time()
    chosen = way()
    seconds = time.time() - clock
    rate(name, compression.rebuilt(**{
        'kept' if isinstance(chosen, dict) else 'widths': chosen}), seconds)
  clock = time.time()
  weights = front_to_back(compression,
                          cifar10.Widths(*result['losses']['widths']))
  rate('front_to_back', weights, time.time() - clock)
  return result


def main(argv=None):
  del argv
  if not FLAGS.checkpoint_dir:
    raise cifar10_input.UserError(
        '--checkpoint_dir is missing; name the folder of a trained network.')
  examples, digest = cifar10.checked_data('train_eval')
  parent = checkpoint.read_newest(FLAGS.checkpoint_dir, cifar10.shapes_like)
  compression = Compression(parent, thinet_compress.Sample(
      int(SAMPLED * examples), LOCATIONS, FLAGS.batch_size, 0, digest),
                            examples)
  timing.report({
      **{str(share): compared(compression, share) for share in ways.BUDGETS},
      'parent_top1': round(compression.top1(parent.averages), 2)}, FLAGS.json)
  return 0


if __name__ == '__main__':
  cifar10.run(main)
