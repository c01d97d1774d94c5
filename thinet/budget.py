"""Widths of all layers under a budget of multiply-adds and parameters.

A layer's loss is what the network loses if that layer alone is narrower. The
losses of several layers are taken to add up, so that the best widths are those
with the least sum among all that the budget admits.
"""
import numpy as np


def allocate(losses, cost, limits):
  """Chooses the widths with the least sum of losses under a budget.

  Looks at all widths of all layers except the widest, whose units all cost the
  same: it gets as many as fit.

  Args:
    losses: a list for each layer: float [width + 1], the loss at every number
      of units kept.
    cost: function of a list of integer arrays, the layers' widths, that returns
      a tuple of arrays, the network's costs; linear in each width.
    limits: the most of each cost, a number or None.

  Returns:
    List of integers, the widths; of equally good ones, those that cost most.

  Raises:
    ValueError: a limit is below the cost of a unit in each layer, or a loss is
      not finite.
  """
  if not all(np.isfinite(each[1:]).all() for each in losses):
    raise ValueError('losses are not finite')
  # More units are never worse: what does not help can be left unused.
  losses = [np.minimum.accumulate(each) for each in losses]
  last = int(np.argmax([len(each) for each in losses]))
  axes = [[0] if number == last else range(1, len(each))
          for number, each in enumerate(losses)]
  first = next((number for number in range(len(axes)) if number != last), last)
  best = None
  for width in axes[first]:   # All at once need gigabytes for wide layers.
    found = _best(losses, cost, limits, last,
                  axes[:first] + [[width]] + axes[first + 1:])
    if found and (best is None or found[:2] < best[:2]):
      best = found
  if best is None:
    raise ValueError('no network is within %s' % (limits,))
  return list(best[2])


def _best(losses, cost, limits, last, axes):
  """The best of the networks with these widths of all layers except the last.

  Args:
    losses, cost, limits: as for allocate; a loss does not rise with the width.
    last: number of the layer that gets as many units as fit.
    axes: a sequence for each layer, its widths; [0] for that layer.

  Returns:
    (loss, -cost, widths): the least of them; None if no network fits.
  """
  widths = list(np.meshgrid(*axes, indexing='ij'))
  without = cost(widths)
  widths[last] = widths[last] + 1
  with_one = cost(widths)
  fitting = np.full(widths[last].shape, len(losses[last]) - 1)
  for limit, fixed, more in zip(limits, without, with_one):
    if limit is not None:
      spare, unit = limit - fixed, more - fixed
      fits = np.where(unit > 0, spare // np.maximum(unit, 1),
                      np.where(spare < 0, 0, fitting))   # Or it costs nothing.
      fitting = np.minimum(fitting, fits).astype(int)
  if not (fitting > 0).any():
    return None
  widths[last] = np.maximum(fitting, 0)
  total = sum(loss[width] for loss, width in zip(losses, widths))
  total = np.where(fitting > 0, total, np.inf)
  spent = np.broadcast_to(sum(cost(widths)), total.shape)
  best = np.argmax(np.where(total == total.min(), spent, -1))
  return total.flat[best], -spent.flat[best], tuple(
      int(np.broadcast_to(width, total.shape).flat[best]) for width in widths)
