"""Widths of all layers under a budget of multiply-adds and parameters.

A layer's loss is what the network loses if that layer alone is narrower. The
losses of several layers are taken to add up, so that the best widths are those
with the least sum among all that the budget admits.
"""
import numpy as np


def allocate(losses, cost, limits):
  """Chooses the widths with the least sum of losses under a budget.

  Looks at all widths of all layers but one. Each unit of that one costs the
  same, so it gets as many as fit.

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
  widths = list(np.meshgrid(*(
      [0] if number == last else np.arange(1, len(each))
      for number, each in enumerate(losses)), indexing='ij'))
  none = cost(widths)
  widths[last] = widths[last] + 1
  one = cost(widths)
  fitting = np.full(widths[last].shape, len(losses[last]) - 1)
  for limit, fixed, more in zip(limits, none, one):
    if limit is not None:
      spare, each = limit - fixed, more - fixed
      fits = np.where(each > 0, spare // np.maximum(each, 1),
                      np.where(spare < 0, 0, fitting))   # Or it costs nothing.
      fitting = np.minimum(fitting, fits).astype(int)
  widths[last] = np.maximum(fitting, 0)
  total = sum(loss[width] for loss, width in zip(losses, widths))
  total = np.where(fitting > 0, total, np.inf)
  if not (fitting > 0).any():
    raise ValueError('no network is within %s' % (limits,))
  spent = sum(cost(widths))
  best = np.argmax(np.where(total == total.min(), spent, -1))
  return [int(np.broadcast_to(width, total.shape).flat[best])
          for width in widths]
