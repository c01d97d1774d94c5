"""Widths under a budget, against all widths tried one by one."""
import itertools
import tracemalloc

import cifar10
import numpy as np
import pytest
from thinet import budget

SIZES = [4, 3, 6]


def cost(widths):
  a, b, c = widths
  return 10 * a + 3 * a * b, 2 * a + b * c + c


def every(losses, limits):
  """The least sum of losses of all widths within the limits, or None."""
  fitting = [widths for widths in itertools.product(
      *(range(1, size + 1) for size in SIZES))
             if all(limit is None or found <= limit
                    for found, limit in zip(cost(widths), limits))]
  return min((sum(loss[width] for loss, width in zip(losses, widths))
              for widths in fitting), default=None)


@pytest.mark.parametrize('limits', [
    (50, None), (None, 14), (60, 20), (13, 4), (12, None), (None, 3),
    (1000, 1000)])
def test_widths_are_the_best_of_all(limits):
  for seed in range(5):
    generator = np.random.default_rng(seed)
    losses = [np.sort(generator.uniform(size=size + 1))[::-1]
              for size in SIZES]
    expected = every(losses, limits)
    if expected is None:
      with pytest.raises(ValueError, match='no network is within'):
        budget.allocate(losses, cost, limits)
      continue
    found = budget.allocate(losses, cost, limits)
    assert all(limit is None or part <= limit
               for part, limit in zip(cost(found), limits))
    assert sum(loss[width] for loss, width in zip(losses, found)) == (
        pytest.approx(expected))


def test_a_layer_that_loses_by_more_units_is_not_widened_for_it():
  """Rounding may let a loss rise with the width; it counts as level there."""
  for seed in range(5):
    generator = np.random.default_rng(seed)
    losses = [generator.uniform(size=size + 1) for size in SIZES]
    level = [np.minimum.accumulate(each) for each in losses]
    for limits in ((50, None), (None, 14), (60, 20)):
      found = budget.allocate(losses, cost, limits)
      assert sum(loss[width] for loss, width in zip(level, found)) == (
          pytest.approx(every(level, limits)))


def test_of_equally_good_widths_the_costliest_are_taken():
  losses = [np.array([9.0, 2, 1, 1, 1]), np.zeros(4), np.zeros(7)]
  for limits in ((50, None), (None, 14), (60, 20), (1000, None)):
    best = max(sum(cost(widths)) for widths in itertools.product(
        range(2, 5), range(1, 4), range(1, 7))
               if all(limit is None or found <= limit
                      for found, limit in zip(cost(widths), limits)))
    assert sum(cost(budget.allocate(losses, cost, limits))) == best


def test_losses_that_are_no_numbers_are_refused():
  for bad in (np.nan, np.inf):
    with pytest.raises(ValueError, match='losses are not finite'):
      budget.allocate([np.array([1, bad, 0, 0, 0])] + [
          np.zeros(4), np.zeros(7)], cost, (50, None))


def test_the_whole_network_is_searched_at_once():
  """Its 786,432 widths of three layers, but not all in memory; both budgets
  are nearly used up."""
  losses = [np.linspace(1, 0, width + 1) ** 3 for width in cifar10.Widths()]
  whole = cifar10.cost()
  for share in (0.5, 0.25, 0.1):
    limits = [share * each for each in whole]
    tracemalloc.start()
    widths = budget.allocate(
        losses, lambda widths: cifar10.cost(cifar10.Widths(*widths)), limits)
    assert tracemalloc.get_traced_memory()[1] < 786432 * 8
    tracemalloc.stop()
    for found, limit in zip(cifar10.cost(cifar10.Widths(*widths)), limits):
      assert 0.97 * limit < found <= limit
