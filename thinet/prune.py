"""Which channels of a chain of layers go, and the network without them.

Each layer's outputs, its channels, are read by the next layer of the chain, its
reader. In every reader the channels are the innermost index of what it reads,
so that its weights are a kernel [taps, channels, units]:

| channels of | reader | taps |
|---|---|---|
| conv1 | conv2, patches of norm1 | 25 |
| conv2 | local3, pool2 as a row | 36 |
| local3 | local4 | 1 |
| local4 | softmax_linear | 1 |

A network is a dict, name -> array, with <layer>/weights and <layer>/biases.
"""
import typing

from thinet import algebra

import numpy as np

CHAIN = ['conv1', 'conv2', 'local3', 'local4', 'softmax_linear']
READERS = dict(zip(CHAIN, CHAIN[1:]))


class Choice(typing.NamedTuple):
  """Which channels of a layer go."""
  order: np.ndarray        # int64 [channels], in the order of removal.
  objective: np.ndarray    # float64 [channels + 1], by number of removed ones.
  kept: np.ndarray         # Sorted indices.


def reader_kernel(weights, layer, kept):
  """What the reader of a layer does with its channels.

  Args:
    weights: name -> array.
    layer: one of CHAIN.
    kept: layer -> sorted indices of its channels that stay; all, where absent.

  Returns:
    float32 [taps, channels, units]: the units are those that the reader keeps.
  """
  reader = READERS[layer]
  kernel = weights[reader + '/weights']
  kernel = kernel.reshape(-1, weights[layer + '/biases'].size, kernel.shape[-1])
  return kernel[..., kept[reader]] if reader in kept else kernel


def choose(criterion, fit, kernel, filters, generator):
  """Orders the channels of a layer for removal.

  Args:
    criterion: 'thinet', 'thinet_kept', 'least_squares', 'l1' or 'random'.
    fit: algebra.Moments of what the layer's reader reads.
    kernel: [taps, channels, units], the reader's.
    filters: [..., channels], the layer's own weights.
    generator: numpy.random.Generator of the random choice.

  Returns:
    (order, objective): int64 [channels], and float64 [channels + 1]: entry m is
    the criterion's objective with the first m of the order removed (for the
    controls, ThiNet's objective).
  """
  if criterion == 'least_squares':
    return algebra.least_squares_order(fit, kernel)
  gram = algebra.contribution_gram(fit, kernel)
  if criterion == 'thinet_kept':
    return algebra.kept_order(gram)
  if criterion == 'thinet':
    order = algebra.removal_order(gram)
  elif criterion == 'l1':
    order = np.argsort(np.abs(filters).sum(tuple(range(filters.ndim - 1))),
                       kind='stable')
  elif criterion == 'random':
    order = generator.permutation(len(gram))
  else:
    raise ValueError('no criterion is called %r' % criterion)
  return order, algebra.objective(gram, order)


def choose_all(criterion, found, weights, widths, seed):
  """Chooses the channels of some layers, the last layer first.

  Args:
    criterion: as for choose.
    found: layer -> (fit, check), algebra.Moments of what its reader reads.
    weights: name -> array.
    widths: layer -> number of channels to keep.
    seed: integer, of the random choice.

  Returns:
    Layer -> Choice, front to back.

  Raises:
    ValueError: the moments do not fit the weights.
  """
  generator, result, kept = np.random.default_rng(seed), {}, {}
  for layer in filter(found.__contains__, reversed(CHAIN)):
    order, objective = choose(
        criterion, found[layer][0], reader_kernel(weights, layer, kept),
        weights[layer + '/weights'], generator)
    kept[layer] = np.sort(order[len(order) - widths[layer]:])
    result[layer] = Choice(order, objective, kept[layer])
  return dict(reversed(result.items()))


def sliced(weights, kept):
  """The network of the kept channels alone.

  Args:
    weights: name -> array.
    kept: layer -> sorted indices of its channels that stay; all, where absent.

  Returns:
    Name -> array.
  """
  result, before = {}, None
  for layer in CHAIN:
    kernel, biases = weights[layer + '/weights'], weights[layer + '/biases']
    if before in kept:
      inner = reader_kernel(weights, before, {})[:, kept[before]]
      kernel = inner.reshape(kernel.shape[:2] + inner.shape[1:]
                             if kernel.ndim == 4 else [-1, inner.shape[2]])
    if layer in kept:
      kernel, biases = kernel[..., kept[layer]], biases[kept[layer]]
    result[layer + '/weights'], result[layer + '/biases'] = kernel, biases
    before = layer
  return result


def slim(arrays, kept, changed, scales, average):
  """Makes the arrays of the slim network.

  Args:
    arrays: name -> array of the checkpoint, weights and averages.
    kept: layer -> sorted indices of the channels to keep.
    changed: name -> array, the rebuilt averaged weights; the raw ones become
      the same.
    scales: layer -> float [kept], where its reader is a scaled slice; then the
      reader's raw weights become one, too.
    average: suffix of an averaged variable's name.

  Returns:
    Name -> array, with a global step of 0.
  """
  result = {'global_step': np.int64(0)}
  names = [layer + kind for layer in CHAIN for kind in ('/weights', '/biases')]
  for suffix in ('', average):
    network = sliced({name: arrays[name + suffix]
                      for name in names}, kept)
    for layer, factors in scales.items():
      name = READERS[layer] + '/weights'
      kernel = network[name]
      network[name] = (kernel.reshape(-1, len(factors), kernel.shape[-1]) *
                       np.float32(factors)[:, np.newaxis]).reshape(kernel.shape)
    result.update({name + suffix: changed.get(name, value)
                   for name, value in network.items()})
  return result


def rebuild(mode, fit, check, kernel, kept):
  """Computes what the reader of a pruned layer does with the kept channels.

  Args:
    mode: 'none', 'scale', 'full' or 'network', which begins as 'full' does.
    fit, check: algebra.Moments of what the reader reads.
    kernel: [taps, channels, units], the reader's.
    kept: sorted indices of the kept channels.

  Returns:
    (kernel, shift, details): [taps, kept, units]; what to add to the bias,
    [units]; and a dict for compress.json. Its relative errors are the reader's
    on the samples held back, which also choose the ridge of `full`.
  """
  rebuilt, shift, details = kernel[:, kept], np.zeros(kernel.shape[-1]), {
      'scales': [1.0] * len(kept)}
  before = algebra.relative_error(check, kernel, kept, rebuilt)
  if mode == 'scale':
    factors = algebra.scales(algebra.contribution_gram(fit, kernel), kept)
    rebuilt = rebuilt * factors[:, np.newaxis]
    details['scales'] = factors.tolist()
  elif mode in ('full', 'network'):
    if len(kept) < kernel.shape[1]:
      rebuilt, shift, ridge = algebra.full_reconstruction(fit, check, kernel,
                                                          kept)
      details = {'ridge': ridge}
  elif mode != 'none':
    raise ValueError('no reconstruction is called %r' % mode)
  return rebuilt, shift, dict(
      details, relative_error_before=before,
      relative_error_after=algebra.relative_error(check, kernel, kept, rebuilt,
                                                  shift))


def rebuild_all(mode, found, weights, kept):
  """Rebuilds the readers of all pruned layers, each by itself.

  Args:
    mode: as for rebuild.
    found: layer -> (fit, check), algebra.Moments of what its reader reads.
    weights: name -> array.
    kept: layer -> sorted indices of the kept channels.

  Returns:
    (changed, details): name -> float32 array, the weights that were refitted;
    and layer -> dict, from rebuild.
  """
  start, changed, details = sliced(weights, kept), {}, {}
  for layer, (fit, check) in found.items():
    kernel, shift, details[layer] = rebuild(
        mode, fit, check, reader_kernel(weights, layer, kept), kept[layer])
    if 'scales' not in details[layer]:
      kernels, biases = [READERS[layer] + kind
                         for kind in ('/weights', '/biases')]
      changed[kernels] = np.float32(kernel).reshape(start[kernels].shape)
      changed[biases] = np.float32(start[biases] + shift)
  return changed, details
