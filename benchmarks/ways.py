"""Ways to choose the widths of all layers under a budget, as controls.

Shared by budget.py and budget_networks.py, which say more about them.
"""
import cifar10
from thinet import prune

import numpy as np

BUDGETS = [0.5, 0.25, 0.1]   # Shares of both of the parent's costs.


def shares(widths, whole):
  """Multiply-adds and parameters of widths as shares of those of others."""
  return np.divide(cifar10.cost(widths), cifar10.cost(whole))


def uniform(whole, share):
  """Widths that all are the same share of the whole, as large as fits."""
  factors = np.arange(1, 0, -1e-4)
  return next(widths for widths in (
      cifar10.Widths(*(max(1, int(factor * width))
                       for width in whole))
      for factor in factors) if max(shares(widths, whole)) <= share)


def global_l1(weights, share):
  """The channels that a ranking of all layers' together keeps, by layer."""
  whole, ranked = cifar10.widths_of(weights), []
  for layer in cifar10.LAYERS:
    own = np.abs(weights[layer + '/weights'])
    read = np.abs(prune.reader_kernel(weights, layer, {}))
    norms = own.sum(tuple(range(own.ndim - 1))) + read.sum((0, 2))
    ranked += [(norm / norms.mean(), layer, channel)
               for channel, norm in enumerate(norms)]
  kept = {layer: set(range(width))
          for layer, width in zip(cifar10.LAYERS, whole)}
  for _, layer, channel in sorted(ranked):
    if len(kept[layer]) > 1:
      kept[layer].remove(channel)
    if max(shares(cifar10.Widths(*map(len, kept.values())), whole)) <= share:
      break
  return {layer: np.array(sorted(channels)) for layer, channels in kept.items()}
