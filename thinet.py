"""The algebra of ThiNet, on second moments: NumPy alone.

ThiNet (Luo, Wu and Lin, ICCV 2017) prunes a layer by looking at the next one:
the pre-activation of conv2 at one position is y = b + sum_c x_c, where x_c is
what input channel c contributes. The set of removed channels T should make
sum (sum_{c in T} x_c)^2 over many samples small.

Everything is a function of the patch moments A = sum p p^T, where p is the
[channels * 25] patch of conv2's input around a sampled position, channel by
channel. Samples are never stored, so memory does not grow with their number.
"""
import numpy as np

RIDGE = 1e-9       # Of the mean diagonal: far below any signal.
DEPENDENT = 1e-7   # Share of a contribution that the others leave unexplained.


def blocks(kernel):
  """conv2's kernel [5, 5, channels, filters] as [channels, 25, filters]."""
  height, width, channels, filters = kernel.shape
  return np.transpose(np.reshape(
      np.asarray(kernel, np.float64), [height * width, channels, filters]),
                      [1, 0, 2])


def contribution_gram(moments, kernel):
  """Inner products of the channels' contributions, summed over all filters.

  G[c, d] = sum_o w_co^T A_cd w_do.

  Args:
    moments: float64 [channels * 25, channels * 25], A.
    kernel: [5, 5, channels, filters], conv2's.

  Returns:
    float64 [channels, channels].

  Raises:
    ValueError: the shapes do not match.
  """
  weights = blocks(kernel)
  channels, taps, _ = weights.shape
  if moments.shape != (channels * taps,) * 2:
    raise ValueError('moments %s do not match a kernel %s' % (
        moments.shape, kernel.shape))
  moments = moments.reshape(channels, taps, channels, taps)
  gram = np.empty([channels, channels])
  for c in range(channels):
    seen = np.tensordot(weights[c], moments[c], (0, 0))  # [filters, d, taps]
    gram[c] = np.einsum('odl,dlo->d', seen, weights)
  return (gram + gram.T) / 2


def _check_gram(gram):
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
  """What ThiNet minimises, at every width, relative to the whole sum.

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

  s = argmin |y - X_S s|^2, with a ridge toward 1 that is too small to matter
  but where the samples do not determine s: a dead channel gets 1.

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


def relative_error(gram, kept, factors=None):
  """|y - X_S s|^2 / |y|^2 for the kept channels S and their factors.

  Args:
    gram: float64 [channels, channels].
    kept: indices of the kept channels.
    factors: float64 [kept], by default ones.

  Returns:
    float.
  """
  left = np.ones(len(gram))
  left[kept] -= 1.0 if factors is None else factors
  return float(left @ gram @ left / (gram.sum() or 1.0))


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
