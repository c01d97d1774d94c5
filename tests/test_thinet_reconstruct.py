"""The descent against numpy.linalg.lstsq."""
import numpy as np
import pytest
import thinet_reconstruct


@pytest.mark.parametrize('exact', [True, False])
@pytest.mark.parametrize('seed', range(5))
def test_conjugate_gradients_reach_the_least_squares(seed, exact):
  """With the inverse of the whole matrix, or of its diagonal alone."""
  generator = np.random.default_rng(seed)
  rows = generator.normal(size=[50, 10]) * generator.uniform(0.3, 3, 10)
  targets = generator.normal(size=50)
  inner = rows.T @ rows
  inverse = np.linalg.inv(inner if exact else np.diag(np.diag(inner)))
  def whole(parts):
    return np.concatenate([part.ravel() for part in parts])
  def parts_of(vector):
    return [vector[:4].reshape(2, 2), vector[4:]]
  found = thinet_reconstruct.conjugate_gradients(
      parts_of(generator.normal(size=10)),
      lambda parts, _: parts_of(rows.T @ (rows @ whole(parts) - targets)),
      lambda parts, _: np.sum((rows @ whole(parts) - targets) ** 2),
      lambda gradient: parts_of(inverse @ whole(gradient)), 60)
  best = np.linalg.lstsq(rows, targets, rcond=None)[0]
  np.testing.assert_allclose(whole(found), best, atol=1e-6)


def test_conjugate_gradients_stay_where_nothing_is_better():
  start = [np.ones([2, 3]), np.zeros(1)]
  for slope in (0.0, 1.0):   # At a minimum; and where the slope misleads.
    found = thinet_reconstruct.conjugate_gradients(
        start, lambda parts, _: [slope * part for part in start],
        lambda parts, _: sum(np.abs(x - y).sum() for x, y in zip(parts, start)),
        lambda gradient: gradient, 5)
    assert all(np.array_equal(x, y) for x, y in zip(found, start))
