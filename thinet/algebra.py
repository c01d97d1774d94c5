"""The algebra of ThiNet, on second moments: NumPy alone.

ThiNet (Luo, Wu and Lin, ICCV 2017) prunes a layer by looking at the next one,
its reader: the reader's pre-activation is y = b + sum_c x_c, where x_c is the
contribution of input channel c. The set of removed channels T should make
sum (sum_{c in T} x_c)^2 over many samples small.

Everything is a function of the moments A = sum p p^T of the reader's inputs p,
[channels * taps], channel by channel. Samples are never stored, so memory does
not grow with their number. A kernel is the reader's weights as [..., channels,
units]; the dimensions before the channels are its taps: [5, 5, channels,
filters] for a convolution, [channels, units] for a layer that reads each
channel once.
"""
import collections

import numpy as np

RIDGE = 1e-9       # Share of the mean diagonal, far below any signal.
RIDGES = 10.0 ** np.arange(-8, 0)   # Samples held back choose.
LAYER_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
DEPENDENT = 1e-7   # Share of a contribution that the others leave unexplained.


# second: float64 [channels * taps, channels * taps], sum of p p^T; first:
# float64 [channels * taps], sum of p; count: number of samples.
Moments = collections.namedtuple('Moments', ['second', 'first', 'count'])


def blocks(kernel):
  """A kernel [..., channels, units] as float64 [channels, taps, units]."""
  return np.transpose(np.reshape(np.asarray(kernel, np.float64),
                                 (-1,) + np.shape(kernel)[-2:]), [1, 0, 2])


def contribution_gram(moments, kernel):
  """Inner products of the channels' contributions, summed over all units.

  G[c, d] = sum_o w_co^T A_cd w_do.

  Args:
    moments: Moments of the reader's inputs.
    kernel: [..., channels, units].

  Returns:
    float64 [channels, channels].

  Raises:
    ValueError: the shapes do not match.
  """
  weights = blocks(kernel)
  channels, taps, _ = weights.shape
  if moments.second.shape != (channels * taps,) * 2:
    raise ValueError('moments %s do not match a kernel %s' % (
        moments.second.shape, kernel.shape))
  second = moments.second.reshape(channels, taps, channels, taps)
  gram = np.empty([channels, channels])
  for c in range(channels):
    seen = np.tensordot(weights[c], second[c], (0, 0))  # [units, d, taps]
    gram[c] = np.einsum('odl,dlo->d', seen, weights)
  return (gram + gram.T) / 2


def _check_gram(gram):
  """The Gram matrix in float64; raises ValueError as removal_order does."""
  gram = np.asarray(gram, np.float64)
  if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
    raise ValueError('gram of shape %s is not square' % (gram.shape,))
  if not np.isfinite(gram).all():
    raise ValueError('gram is not finite')
  if not np.allclose(gram, gram.T, rtol=1e-9, atol=1e-9 * np.abs(gram).max()):
    raise ValueError('gram is not symmetric')
  return gram


def removal_order(gram):
  """Orders channels by ThiNet's greedy rule (Luo et al., ICCV 2017, Alg. 1).

  Args:
    gram: float64 [channels, channels], inner products of the channels'
      contributions to the next layer.

  Returns:
    int64 [channels]: the channel to remove first, then second, ... Keeping k
    channels means dropping the first channels - k entries. Of equal channels
    the lowest goes first.

  Raises:
    ValueError: gram is not square, not symmetric, or not finite.
  """
  gram = _check_gram(gram)
  score, order = np.diag(gram).copy(), []
  for _ in range(len(gram)):
    best = int(np.argmin(score))
    order.append(best)
    score += 2 * gram[best]
    score[best] = np.inf
  return np.array(order, np.int64)


def objective(gram, order):
  """ThiNet's objective (Section 3.2.2) at every width, relative to the whole.

  Args:
    gram: float64 [channels, channels].
    order: int64 [channels], the channels in order of removal.

  Returns:
    float64 [channels + 1]: entry m is |sum_{c in T} x_c|^2 / |y|^2 for T the
    first m channels of the order.
  """
  ordered = _check_gram(gram)[np.ix_(order, order)]
  total = ordered.sum() or 1.0
  return np.concatenate([[0.0], np.diag(ordered.cumsum(0).cumsum(1))]) / total


def scales(gram, kept):
  """ThiNet's reconstruction: one factor for each kept channel (Section 3.2.3).

  s = argmin |y - X_S s|^2, with a ridge toward 1 that matters only where the
  samples do not determine s: a dead channel gets 1.

  Args:
    gram: float64 [channels, channels].
    kept: indices of the kept channels.

  Returns:
    float64 [kept].
  """
  gram = _check_gram(gram)
  inner = gram[np.ix_(kept, kept)]
  ridge = RIDGE * (np.trace(inner) / len(kept) or 1.0)
  right = gram[kept].sum(1) + ridge
  return np.linalg.solve(inner + ridge * np.eye(len(kept)), right)


def kept_order(gram):
  """Orders channels by greedy choice of the kept set, scales refitted.

  The journal's variant (Luo et al., TPAMI 2019): the next channel to keep is
  the one that correlates most with the part of y that the kept ones, at their
  least-squares scales, leave unexplained. This is orthogonal matching pursuit
  on the contributions.

  Args:
    gram: float64 [channels, channels].

  Returns:
    (order, objective): the order of removal, as from removal_order, and float64
    [channels + 1]: |y - X_S s|^2 / |y|^2 with the first m of it removed.
  """
  gram = _check_gram(gram)
  size, target = np.diag(gram), gram.sum(1)
  total = gram.sum() or 1.0
  kept, errors = [], [1.0]
  for _ in range(len(gram)):
    left = target - gram[:, kept] @ scales(gram, kept) if kept else target
    gain = np.where(size > 0, left ** 2 / np.where(size > 0, size, 1), 0)
    gain[kept] = -1
    kept.append(int(np.argmax(gain)))
    rest = np.ones(len(gram))
    rest[kept] -= scales(gram, kept)
    errors.append(max(0.0, rest @ gram @ rest / total))
  return np.array(kept[::-1], np.int64), np.array(errors[::-1])


def centred(moments):
  """Second moments about the mean, since the bias takes up the mean."""
  return moments.second - np.outer(moments.first,
                                   moments.first) / moments.count


def least_squares_order(moments, kernel):
  """Backward elimination by the error of the full least squares.

  The next channel to remove is the one whose removal raises the error least
  when the reader's weights for the others, bias included, are fitted to y. With
  A the inputs' centred moments, V = A^-1, and W the best weights of what is
  left, removing the rows c costs tr(W_c^T V_cc^-1 W_c); a Schur complement
  downdates V and W.

  Args:
    moments: Moments of the reader's inputs.
    kernel: [..., channels, units].

  Returns:
    (order, objective): the order of removal, and float64 [channels + 1]: the
    error relative to the variance of y, with the first m of it removed.
  """
  weights = blocks(kernel)
  channels, taps, units = weights.shape
  second = centred(moments)
  flat = weights.reshape(channels * taps, units)
  total = np.sum(flat * (second @ flat)) or 1.0
  # Without it dead or dependent channels would have no inverse.
  ridge = RIDGES[0] * (np.trace(second) / len(second) or 1.0)
  try:
    np.linalg.cholesky(second + ridge * np.eye(len(second)))
    inverse = np.linalg.inv(second + ridge * np.eye(len(second)))
  except np.linalg.LinAlgError:   # Of few samples: float32 left it indefinite.
    values, vectors = np.linalg.eigh(second)
    inverse = vectors / (np.maximum(values, 0) + ridge) @ vectors.T
  flat = flat.copy()   # Always the best weights of the channels that are left.
  left, order, costs = list(range(channels)), [], [0.0]
  while left:
    # What the error grows by if a channel goes and the others are fitted again.
    own = np.arange(len(left))
    within = inverse.reshape(len(left), taps, len(left), taps)[own, :, own]
    rows = flat.reshape(len(left), taps, units)
    solved = np.linalg.solve(within, rows)
    cost = np.einsum('cto,cto->c', rows, solved)
    best = int(np.argmin(cost))
    # The others' best weights and inverse follow from the block that goes: no
    # system of their size is solved again.
    gone = slice(best * taps, (best + 1) * taps)
    keep = np.delete(np.arange(len(flat)), gone)
    across = inverse[keep, gone]
    flat = flat[keep] - across @ solved[best]
    inverse = inverse[np.ix_(keep, keep)] - across @ np.linalg.solve(
        within[best], across.T)
    order.append(left.pop(best))
    costs.append(costs[-1] + cost[best] / total)
  return np.array(order, np.int64), np.array(costs)


def full_reconstruction(fit, check, kernel, kept):
  """Refits all weights of the reader for the kept channels, and its bias.

  Least squares against y (He et al., ICCV 2017, Eq. 4), with a ridge toward the
  present weights: the one of RIDGES with the least error on samples held back.

  Args:
    fit: Moments to fit.
    check: Moments of other samples.
    kernel: [..., channels, units].
    kept: sorted indices of the kept channels.

  Returns:
    (kernel, shift, ridge): [..., kept, units], what to add to the bias,
    float64 [units], and the chosen ridge relative to the mean diagonal.
  """
  channels, taps, units = blocks(kernel).shape
  rows = (np.asarray(kept)[:, np.newaxis] * taps + np.arange(taps)).ravel()
  flat = blocks(kernel).reshape(channels * taps, units)
  # The bias takes up the means, so the weights fit what varies around them.
  second = centred(fit)
  inner = second[np.ix_(rows, rows)]
  missing = second[rows] @ flat - inner @ flat[rows]
  # In the eigenvectors' coordinates every ridge costs a division alone.
  values, vectors = np.linalg.eigh(inner)
  values, missing = np.maximum(values, 0), vectors.T @ missing
  best = None
  for ridge in RIDGES:
    step = ridge * (values.mean() or 1.0)
    weights = flat[rows] + vectors @ (missing / (values + step)[:, np.newaxis])
    shift = (flat.T @ fit.first - weights.T @ fit.first[rows]) / fit.count
    rebuilt = weights.reshape(len(kept), taps, units).swapaxes(0, 1).reshape(
        kernel.shape[:-2] + (len(kept), units))
    error = relative_error(check, kernel, kept, rebuilt, shift)
    if best is None or error < best[0]:
      best = error, rebuilt, shift, float(ridge)
  return best[1:]


def relative_error(moments, kernel, kept, rebuilt, shift=0.0):
  """The error sum |y - y_slim|^2 / sum |y|^2, y without its bias.

  Args:
    moments: Moments of the samples.
    kernel: [..., channels, units], the original.
    kept: sorted indices of the kept channels.
    rebuilt: [..., kept, units], the slim network's.
    shift: float64 [units], the slim bias minus the original.

  Returns:
    float.
  """
  left = blocks(kernel).copy()
  units = left.shape[-1]
  whole = left.reshape(-1, units)
  total = np.sum(whole * (moments.second @ whole)) or 1.0
  left[kept] -= blocks(rebuilt)
  left = left.reshape(-1, units)
  shift = np.broadcast_to(shift, units)
  error = np.sum(left * (moments.second @ left))
  error += moments.count * shift @ shift - 2 * shift @ (left.T @ moments.first)
  return float(error / total)


def left_over(outputs, targets, rectified):
  """Residuals of a layer's pre-activations against their targets.

  Args:
    outputs, targets: [n, units].
    rectified: whether a ReLU follows. Where the target is not above 0, all
      outputs up to 0 are then equally good.

  Returns:
    [n, units]: targets - outputs; if rectified, both are first raised to 0 or
    above where the target is not above 0.
  """
  if not rectified:
    return targets - outputs
  return np.where(targets > 0, targets - outputs, -np.maximum(outputs, 0))


def refit(fit, check, second, weights, biases, rectified, solves=6):
  """Fits a layer's weights and biases to targets of its pre-activations.

  Least squares with a ridge toward the present weights. Where a ReLU follows,
  min(0, the layer's own pre-activation) replaces a negative target, and each
  further solve changes only the right-hand side. Samples held back choose the
  ridge of LAYER_RIDGES and the solve, or the present weights if they do best.

  Args:
    fit: (inputs, targets): float32 [n, inputs] and [n, units].
    check: the same of other samples.
    second: float64 [inputs + 1, inputs + 1], sum of p p^T over the inputs p to
      fit, a one appended.
    weights: [inputs, units], the present ones.
    biases: [units].
    rectified: as for left_over.
    solves: number of solves for each ridge, if rectified.

  Returns:
    (weights, biases, details): float64, and a dict: error before and after,
    relative to the targets' (rectified) sum of squares, on the samples held
    back; ridge, relative to the mean diagonal.
  """
  inputs, _ = fit
  size = inputs.shape[1]
  # Once for all ridges and solves: they differ in the right-hand side alone.
  values, vectors = np.linalg.eigh(second)
  values = np.maximum(values, 0)
  mean = np.trace(second[:size, :size]) / size or 1.0

  def left(flat, samples):
    flat = flat.astype(np.float32)
    return left_over(samples[0] @ flat[:size] + flat[size], samples[1],
                     rectified)

  scale = check[1] if not rectified else np.maximum(check[1], 0)
  scale = np.sum(np.square(scale), dtype=np.float64) or 1.0

  def error(flat):
    return float(np.sum(np.square(left(flat, check)), dtype=np.float64) / scale)

  # The bias is the last row, as if its input were a one.
  present = np.concatenate([weights, biases[np.newaxis]]).astype(np.float64)
  best, before = (error(present), present, None), error(present)
  for ridge in LAYER_RIDGES:
    flat = present
    for _ in range(solves if rectified else 1):
      # Solving for the step, not for the weights, keeps the digits of float32.
      rest = left(flat, fit)
      gradient = np.concatenate([inputs.T @ rest, rest.sum(0)[np.newaxis]])
      gradient = gradient + ridge * mean * (present - flat)
      flat = flat + vectors @ ((vectors.T @ gradient) /
                               (values + ridge * mean)[:, np.newaxis])
      best = min(best, (error(flat), flat, ridge), key=lambda found: found[0])
  after, flat, ridge = best
  return flat[:size], flat[size], {'before': before, 'after': after,
                                   'ridge': ridge}


def degenerate(gram):
  """Channels that add nothing to the span of the contributions.

  Args:
    gram: float64 [channels, channels].

  Returns:
    (dead, dependent): sorted lists. Dead channels contribute nothing at all;
    a dependent one is a combination of channels of lower number.
  """
  gram = _check_gram(gram)
  size = np.diag(gram)
  dead = [int(c) for c in np.flatnonzero(size <= 1e-12 * size.max())]
  dependent, basis = [], []
  scale = np.sqrt(np.where(size > 0, size, 1.0))
  correlation = gram / np.outer(scale, scale)
  for c in range(len(gram)):
    if c in dead:
      continue
    left = 1.0
    if basis:
      across = correlation[basis, c]
      inner = correlation[np.ix_(basis, basis)]
      left -= across @ np.linalg.solve(inner, across)
    if left > DEPENDENT:
      basis.append(c)
    else:
      dependent.append(c)
  return dead, dependent
