"""The algebra against the textbook algorithm, brute force and NumPy."""
import itertools

import numpy as np
import pytest
from thinet import algebra


def problem(seed, channels=6, taps=25, filters=3, samples=400, mixed=True):
  """Draws patches [samples, channels, taps] and a kernel; all contributions."""
  generator = np.random.default_rng(seed)
  patches = generator.normal(size=[samples, channels, taps])
  if mixed:   # Positive and correlated, as activations are.
    patches = abs(np.einsum('nct,cd->ndt', patches, generator.normal(
        size=[channels, channels]))) * generator.uniform(0.2, 2, [channels, 1])
  kernel = generator.normal(size=[5, 5, channels, filters])
  flat = kernel.reshape(taps, channels, filters)
  # One row for each (sample, filter), as in the paper.
  rows = np.einsum('nct,tcf->nfc', patches, flat).reshape(-1, channels)
  return moments_of(patches.reshape(samples, -1)), kernel, rows


def moments_of(patches):
  return algebra.Moments(patches.T @ patches, patches.sum(0), len(patches))


def textbook_order(rows):
  """Algorithm 1 of the ICCV paper on stored samples, literally."""
  removed, left = [], list(range(rows.shape[1]))
  while left:
    best, best_value = None, np.inf
    total = rows[:, removed].sum(1)
    for j in left:
      value = ((total + rows[:, j]) ** 2).sum()
      if value < best_value:
        best, best_value = j, value
    removed.append(best)
    left.remove(best)
  return removed


@pytest.mark.parametrize('seed', range(5))
def test_gram_equals_stored_contributions(seed):
  moments, kernel, rows = problem(seed)
  np.testing.assert_allclose(algebra.contribution_gram(moments, kernel),
                             rows.T @ rows, rtol=1e-9)


@pytest.mark.parametrize('seed', range(20))
def test_order_and_objective_equal_the_textbook(seed):
  moments, kernel, rows = problem(seed, channels=9)
  gram = algebra.contribution_gram(moments, kernel)
  order = algebra.removal_order(gram)
  assert order.tolist() == textbook_order(rows)
  objective = algebra.objective(gram, order)
  assert len(objective) == 10
  for m in range(10):
    np.testing.assert_allclose(
        objective[m], (rows[:, order[:m]].sum(1) ** 2).sum() /
        (rows.sum(1) ** 2).sum(), rtol=1e-9, atol=1e-12)


def test_order_is_the_best_set_where_channels_are_independent():
  """With a diagonal Gram matrix greedy equals brute force over all sets."""
  gram = np.diag(np.random.default_rng(0).uniform(1, 9, 7))
  order = algebra.removal_order(gram)
  for m in range(1, 7):
    best = min(itertools.combinations(range(7), m),
               key=lambda removed: gram[np.ix_(removed, removed)].sum())
    assert sorted(order[:m]) == sorted(best)


def test_of_equal_channels_the_lowest_goes_first():
  assert algebra.removal_order(np.eye(4)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('gram', [np.ones([2, 3]), np.full([2, 2], np.nan),
                                  np.array([[1.0, 2.0], [3.0, 1.0]])])
def test_bad_gram_is_refused(gram):
  with pytest.raises(ValueError):
    algebra.removal_order(gram)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('kept', [[0, 2, 3], [5], [0, 1, 2, 3, 4, 5]])
def test_scales_equal_lstsq_on_stored_contributions(seed, kept):
  moments, kernel, rows = problem(seed)
  gram = algebra.contribution_gram(moments, kernel)
  scales = algebra.scales(gram, kept)
  expected = np.linalg.lstsq(rows[:, kept], rows.sum(1), rcond=None)[0]
  np.testing.assert_allclose(scales, expected, rtol=1e-5)
  for factors in (scales, np.ones(len(kept))):
    left = rows.sum(1) - rows[:, kept] @ factors
    np.testing.assert_allclose(
        algebra.relative_error(moments, kernel, kept,
                              kernel[:, :, kept] * factors[:, None]),
        (left ** 2).sum() / (rows.sum(1) ** 2).sum(), rtol=1e-5, atol=1e-9)


def test_dead_and_duplicated_channels_are_named_and_do_no_harm():
  moments, kernel, rows = problem(1)
  gram = algebra.contribution_gram(moments, kernel)
  rows = np.column_stack([rows, 0 * rows[:, 0], rows[:, 2],
                          rows[:, 0] + rows[:, 3]])
  gram = rows.T @ rows
  assert algebra.degenerate(gram) == ([6], [7, 8])
  scales = algebra.scales(gram, range(9))
  assert scales[6] == 1.0
  np.testing.assert_allclose(rows @ scales, rows.sum(1), atol=1e-4)
  kept = [2, 6, 7]
  scales = algebra.scales(gram, kept)
  assert np.isfinite(scales).all() and abs(scales).max() < 1e3
  best = np.linalg.lstsq(rows[:, kept], rows.sum(1), rcond=None)[0]
  np.testing.assert_allclose(rows[:, kept] @ scales, rows[:, kept] @ best,
                             rtol=1e-4, atol=1e-3)
  assert algebra.removal_order(gram)[0] == 6
  assert algebra.degenerate(np.eye(3)) == ([], [])


# ------------------------------------------------------- beyond the ICCV paper


def least_squares(patches, kernel, kept):
  """lstsq on the samples: (weights [kept * 25, filters], bias, error, y)."""
  samples, channels = len(patches), kernel.shape[2]
  y = patches.reshape(samples, -1) @ algebra.blocks(kernel).reshape(
      channels * 25, -1)
  x = np.column_stack([patches.reshape(samples, channels, 25)[:, kept].reshape(
      samples, -1), np.ones(samples)])
  weights = np.linalg.lstsq(x, y, rcond=None)[0]
  return weights[:-1], weights[-1], ((y - x @ weights) ** 2).sum(), y


def sampled(seed, channels, samples=600):
  generator = np.random.default_rng(seed)
  patches = abs(np.einsum('nct,cd->ndt', generator.normal(
      size=[samples, channels, 25]), generator.normal(
          size=[channels, channels])))
  return (patches.reshape(samples, -1),
          generator.normal(size=[5, 5, channels, 3]))


@pytest.mark.parametrize('seed', range(3))
def test_least_squares_order_of_few_samples_costs_nothing_at_first(seed):
  """Sums in float32 of fewer samples than inputs, about a common mean.

  While as many inputs as samples are left, the others make up for each.
  """
  generator = np.random.default_rng(seed)
  x = np.float32(generator.normal(30, 1, [25, 20 * 4]))
  kernel = generator.normal(size=[4, 20, 3])
  order, objective = algebra.least_squares_order(algebra.Moments(
      np.float64(x.T @ x), x.sum(0, dtype=np.float64), len(x)), kernel)
  assert sorted(order) == list(range(20))
  assert np.all(np.diff(objective) > -1e-6)
  assert objective[13] < 1e-3 and abs(objective[-1] - 1) < 1e-2


@pytest.mark.parametrize('seed', range(3))
def test_least_squares_order_equals_elimination_by_lstsq(seed):
  """Backward elimination that solves every subset anew on the samples."""
  patches, kernel = sampled(seed, 5)
  order, objective = algebra.least_squares_order(moments_of(patches), kernel)
  left, expected, errors = list(range(5)), [], [0.0]
  while left:
    error = {c: least_squares(patches, kernel, [d for d in left if d != c])[2]
             for c in left}
    best = min(left, key=error.get)
    expected.append(best)
    left.remove(best)
    errors.append(error[best])
  assert order.tolist() == expected
  y = least_squares(patches, kernel, [0])[3]
  np.testing.assert_allclose(
      objective, np.array(errors) / ((y - y.mean(0)) ** 2).sum(), rtol=1e-4,
      atol=1e-6)


def test_full_reconstruction_equals_lstsq():
  patches, kernel = sampled(0, 6, 3000)
  moments = moments_of(patches)
  kept = [1, 2, 5]
  rebuilt, shift, ridge = algebra.full_reconstruction(moments, moments, kernel,
                                                     kept)
  weights, bias, error, y = least_squares(patches, kernel, kept)
  assert ridge == algebra.RIDGES[0]   # The least fits its own samples best.
  np.testing.assert_allclose(algebra.blocks(rebuilt).reshape(75, 3), weights,
                             atol=1e-4)
  np.testing.assert_allclose(shift, bias, atol=1e-2)
  np.testing.assert_allclose(
      algebra.relative_error(moments, kernel, kept, rebuilt, shift),
      error / (y ** 2).sum(), rtol=1e-5)


def test_full_reconstruction_of_few_samples_leans_on_the_present_weights():
  """With fewer samples than weights, those held back choose a larger ridge."""
  patches, kernel = sampled(0, 6, 1000)
  fit, check = moments_of(patches[:60]), moments_of(patches[60:])
  kept = [0, 1, 2, 3, 4]
  rebuilt, shift, ridge = algebra.full_reconstruction(fit, check, kernel, kept)
  assert ridge > algebra.RIDGES[0]
  assert (algebra.relative_error(check, kernel, kept, rebuilt, shift) <
          algebra.relative_error(check, kernel, kept, kernel[:, :, kept]))


def test_kept_order_is_orthogonal_matching_pursuit():
  """The textbook's pursuit on stored rows: keep the column that correlates most
  with what is left of the target, fit all kept ones again by lstsq."""
  for seed in range(10):
    moments, kernel, rows = problem(seed, channels=8)
    order, objective = algebra.kept_order(
        algebra.contribution_gram(moments, kernel))
    target, kept = rows.sum(1), []
    left = target
    for count in range(1, 9):
      columns = rows / np.linalg.norm(rows, axis=0)
      kept.append(int(np.argmax(abs(columns.T @ left))))
      fitted = np.linalg.lstsq(rows[:, kept], target, rcond=None)[0]
      left = target - rows[:, kept] @ fitted
      assert kept == order[::-1][:count].tolist()
      np.testing.assert_allclose(
          objective[8 - count], left @ left / (target @ target), rtol=1e-5,
          atol=1e-12)


def layer_problem(seed, rectified, samples=300, size=7, units=4):
  """(inputs, targets) of a layer, with noise, and wrong weights and biases."""
  generator = np.random.default_rng(seed)
  inputs = abs(generator.normal(size=[2, samples, size]))
  weights = generator.normal(size=[size, units])
  targets = inputs @ weights - 0.5 + 0.1 * generator.normal(
      size=[2, samples, units])
  if rectified:   # What the ReLU cuts off follows no linear rule.
    targets = np.where(targets > 0, targets, 6 * targets)
  else:
    targets += 3
  pairs = [(x.astype(np.float32), y.astype(np.float32))
           for x, y in zip(inputs, targets)]
  return pairs, weights + generator.normal(size=weights.shape), np.zeros(units)


def refit(fit, check, *arguments):
  """algebra.refit, given the second moments of what there is to fit."""
  x = np.c_[fit[0], np.ones(len(fit[0]))].astype(np.float64)
  return algebra.refit(fit, check, x.T @ x, *arguments)


@pytest.mark.parametrize('ridges', [algebra.LAYER_RIDGES, (0.1,)])
def test_refit_without_a_relu_is_ridge_regression(monkeypatch, ridges):
  """Against lstsq on rows augmented by the ridge, for the ridge it chose."""
  monkeypatch.setattr(algebra, 'LAYER_RIDGES', ridges)
  (fit, check), weights, biases = layer_problem(0, False)
  found, shift, details = refit(fit, check, weights, biases, False)
  x = np.c_[fit[0], np.ones(len(fit[0]))].astype(np.float64)
  root = np.sqrt(details['ridge'] * np.square(x[:, :-1]).sum(0).mean())
  present = np.r_[weights, biases[np.newaxis]]
  expected = np.linalg.lstsq(np.r_[x, root * np.eye(8)],
                             np.r_[fit[1], root * present], rcond=None)[0]
  np.testing.assert_allclose(np.r_[found, shift[np.newaxis]], expected,
                             rtol=1e-3, atol=1e-4)
  for key, flat in (('before', present), ('after', expected)):
    y = np.c_[check[0], np.ones(len(check[0]))] @ flat
    np.testing.assert_allclose(details[key], np.square(y - check[1]).sum() /
                               np.square(check[1]).sum(), rtol=1e-3)


def test_refit_through_a_relu_nears_the_best_of_a_long_descent():
  """Plain gradient descent on |relu(Wx + b) - relu(y)|^2, from the same start;
  the squared loss on pre-activations, which fits what the ReLU cuts, is worse.
  """
  for seed in range(5):
    (fit, check), weights, biases = layer_problem(seed, True)
    check = fit   # So that both minimise the same error.
    x = np.c_[fit[0], np.ones(len(fit[0]))].astype(np.float64)
    target = np.maximum(fit[1], 0)

    def error(flat):
      return (np.square(np.maximum(x @ flat, 0) - target).sum() /
              np.square(target).sum())

    descended = np.r_[weights, biases[np.newaxis]]
    for _ in range(20000):
      y = x @ descended
      descended = descended - 1e-4 * x.T @ (
          (np.maximum(y, 0) - target) * (y > 0))
    found, shift, details = refit(fit, check, weights, biases, True, 200)
    found = np.r_[found, shift[np.newaxis]]
    # The reported error counts an output below 0 in full if the target is not.
    assert error(found) <= 1.001 * details['after'] < 1.25 * error(found)
    linear = np.linalg.lstsq(x, fit[1], rcond=None)[0]
    assert error(found) < 1.25 * error(descended)
    assert 20 * error(found) < error(linear) < details['before']


def test_each_solve_through_a_relu_has_new_targets_where_it_cuts_off(
    monkeypatch):
  """By lstsq on rows augmented by the ridge: the layer's own output, or 0 if
  that is lower, replaces a negative target."""
  monkeypatch.setattr(algebra, 'LAYER_RIDGES', (0.1,))
  (fit, check), weights, biases = layer_problem(0, True)
  x, other = (np.c_[part[0], np.ones(len(part[0]))].astype(np.float64)
              for part in (fit, check))
  root = np.sqrt(0.1 * np.square(x[:, :-1]).sum(0).mean())
  present = np.r_[weights, biases[np.newaxis]]
  flat, solved = present, {}
  for _ in range(6):
    targets = np.where(fit[1] > 0, fit[1], np.minimum(x @ flat, 0))
    flat = np.linalg.lstsq(np.r_[x, root * np.eye(8)],
                           np.r_[targets, root * present], rcond=None)[0]
    y = other @ flat
    left = np.where(check[1] > 0, check[1] - y, np.maximum(y, 0))
    solved[np.square(left).sum()] = flat
  found, shift, _ = refit(fit, check, weights, biases, True)
  np.testing.assert_allclose(np.r_[found, shift[np.newaxis]],
                             solved[min(solved)], rtol=1e-3, atol=1e-4)


def test_refit_keeps_weights_that_do_better_on_what_was_held_back():
  (fit, _), weights, biases = layer_problem(0, True)
  other = fit[0], (fit[0] @ weights).astype(np.float32)
  found, shift, details = refit(fit, other, weights, biases, True)
  assert np.array_equal(found, weights) and np.array_equal(shift, biases)
  assert details['before'] == details['after'] and details['ridge'] is None


def test_left_over_by_hand():
  outputs = np.array([[2.0, -1.0, 3.0, -2.0]])
  targets = np.array([[5.0, 4.0, -1.0, -9.0]])
  # Where the target is cut off, only an output above 0 is wrong, by its height.
  assert algebra.left_over(outputs, targets, True).tolist() == [[3, 5, -3, 0]]
  assert algebra.left_over(outputs, targets, False).tolist() == [[3, 5, -4, -7]]
