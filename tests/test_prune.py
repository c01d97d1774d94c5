"""Every layer's reader against TensorFlow, stored samples and lstsq."""
import cifar10
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from test_algebra import moments_of, textbook_order
from thinet import checkpoint
from thinet import prune

WIDTHS = cifar10.Widths(6, 5, 7, 4)
INPUTS = {'conv1': 'norm1', 'conv2': 'pool2', 'local3': 'local3',
          'local4': 'local4'}   # What the reader of a layer reads.


def run(weights, names):
  """Endpoints of a network on 60 drawn images: a list of arrays."""
  images = np.random.default_rng(1).normal(size=[60, 24, 24, 3])
  with tf.Graph().as_default(), tf.Session() as session:
    tensors = cifar10.endpoints(tf.constant(images, tf.float32),
                                cifar10.widths_of(weights))
    checkpoint.assign_network(session, weights)
    return session.run([tensors[name] for name in names])


@pytest.fixture(scope='module')
def network():
  """Drawn weights whose units are all alive on some image."""
  generator = np.random.default_rng(0)
  return {name: np.float32(generator.normal(
      0.1 if name.endswith('biases') else 0, shape[0] ** -0.5 if
      len(shape) == 2 else 0.2, shape))
          for name, shape in cifar10.weight_shapes(WIDTHS).items()}


def samples(network, layer):
  """What the reader of a layer reads: float64 [n, taps, channels]."""
  x, = run(network, [INPUTS[layer]])
  if layer == 'conv1':
    padded = np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)])
    x = np.stack([padded[:, i:i + 12, j:j + 12] for i in range(5)
                  for j in range(5)], 3).reshape(-1, 25, x.shape[-1])[::7]
  return np.float64(x.reshape(len(x), -1, x.shape[-1]))


@pytest.fixture(params=prune.CHAIN[:-1])
def layer(request):
  return request.param


def test_names_are_those_of_the_network():
  assert prune.CHAIN[:-1] == cifar10.LAYERS
  assert cifar10.weight_shapes().keys() == {
      name + kind for name in prune.CHAIN for kind in ('/weights', '/biases')}


def test_contributions_add_up_to_the_readers_output(network, layer):
  """All of them, and the bias, by TensorFlow's own operation."""
  reader = prune.READERS[layer]
  kernel = prune.reader_kernel(network, layer, {})
  y = np.einsum('ntc,tcu->nu', samples(network, layer), kernel)
  y += network[reader + '/biases']
  if reader != 'softmax_linear':
    y = np.maximum(y, 0)
  expected, = run(network, [reader])
  expected = expected.reshape(-1, expected.shape[-1])
  np.testing.assert_allclose(y, expected[::7] if layer == 'conv1' else expected,
                             rtol=1e-4, atol=1e-4)


def test_choice_and_rebuilding_are_those_of_stored_samples(network, layer):
  """Textbook greedy, scales and full weights by lstsq, for units kept alone."""
  reader = prune.READERS[layer]
  x, kept_units = samples(network, layer), {}
  if reader != 'softmax_linear':
    kept_units[reader] = [0, 2, 3]
  kernel = prune.reader_kernel(network, layer, kept_units)
  assert kernel.shape[-1] == (3 if kept_units else 10)
  rows = np.einsum('ntc,tcu->nuc', x, kernel).reshape(-1, x.shape[-1])
  # The moments' columns go channel by channel.
  moments = moments_of(x.swapaxes(1, 2).reshape(len(x), -1))
  order, objective = prune.choose('thinet', moments, kernel, None, None)
  assert order.tolist() == textbook_order(rows)
  np.testing.assert_allclose(objective, [
      (rows[:, order[:m]].sum(1) ** 2).sum() / (rows.sum(1) ** 2).sum()
      for m in range(len(order) + 1)], atol=1e-9)
  kept = np.sort(order[2:])
  for mode in ('none', 'scale', 'full'):
    rebuilt, shift, details = prune.rebuild(mode, moments, moments, kernel,
                                            kept)
    if mode == 'full':
      flat = x[..., kept].reshape(len(x), -1)
      y = rows.sum(1).reshape(len(x), -1)
      best = np.linalg.lstsq(np.c_[flat, np.ones(len(flat))], y, rcond=None)[0]
      left = np.c_[flat, np.ones(len(flat))] @ best - y
    else:
      factors = np.ones(len(kept)) if mode == 'none' else np.linalg.lstsq(
          rows[:, kept], rows.sum(1), rcond=None)[0]
      left = rows.sum(1) - rows[:, kept] @ factors
      np.testing.assert_allclose(details['scales'], factors, rtol=1e-5)
    error = np.square(left).sum() / np.square(rows.sum(1)).sum()
    np.testing.assert_allclose(details['relative_error_after'], error,
                               rtol=1e-2, atol=1e-6)
    ours = np.einsum('ntc,tcu->nu', x[..., kept], rebuilt) + shift
    np.testing.assert_allclose(
        np.square(ours - rows.sum(1).reshape(len(x), -1)).sum() /
        np.square(rows.sum(1)).sum(), error, rtol=1e-2, atol=1e-6)


def test_what_has_no_such_name_is_refused(network):
  moments = moments_of(samples(network, 'local3').reshape(len(
      samples(network, 'local3')), -1))
  kernel = prune.reader_kernel(network, 'local3', {})
  with pytest.raises(ValueError, match="no criterion is called 'thinett'"):
    prune.choose('thinett', moments, kernel, None, np.random.default_rng(0))
  with pytest.raises(ValueError, match="no reconstruction is called 'ful'"):
    prune.rebuild('ful', moments, moments, kernel, [0])


def test_removing_the_last_units_is_zeroing_them(network):
  """In each layer alone and in all: every endpoint that is left is the same."""
  for layers in [[name] for name in prune.CHAIN[:-1]] + [prune.CHAIN[:-1]]:
    kept = {name: np.arange(3) for name in layers}
    zeroed = {name: value.copy() for name, value in network.items()}
    for name in layers:
      for kind in ('/weights', '/biases'):
        zeroed[name + kind][..., 3:] = 0
    names = [*INPUTS.values(), 'softmax_linear']
    slim = prune.sliced(network, kept)
    assert [list(value.shape) for value in slim.values()] == list(
        cifar10.weight_shapes(cifar10.widths_of(slim)).values())
    for found, wanted in zip(run(slim, names), run(zeroed, names)):
      np.testing.assert_allclose(found, wanted[..., :found.shape[-1]],
                                 rtol=1e-4, atol=1e-4)


def test_slices_are_of_any_channels(network):
  """By the indices of each layer, in NumPy's own terms."""
  kept = {'conv1': [0, 5], 'conv2': [1, 2, 4], 'local3': [6], 'local4': [0, 3]}
  found = prune.sliced(network, kept)
  for name, expected in {
      'conv1/weights': network['conv1/weights'][:, :, :, [0, 5]],
      'conv2/weights': network['conv2/weights'][:, :, [0, 5]][..., [1, 2, 4]],
      'conv2/biases': network['conv2/biases'][[1, 2, 4]],
      'local3/weights': network['local3/weights'].reshape(
          6, 6, 5, 7)[:, :, [1, 2, 4]][..., [6]].reshape(108, 1),
      'local4/weights': network['local4/weights'][[6]][:, [0, 3]],
      'softmax_linear/weights': network['softmax_linear/weights'][[0, 3]],
      'softmax_linear/biases': network['softmax_linear/biases']}.items():
    assert np.array_equal(found[name], expected)


def test_keeping_all_changes_nothing(network, layer):
  x = samples(network, layer)
  moments = moments_of(x.swapaxes(1, 2).reshape(len(x), -1))
  kernel = prune.reader_kernel(network, layer, {})
  everything = np.arange(x.shape[-1])
  for mode in ('none', 'full', 'network'):
    rebuilt, shift, _ = prune.rebuild(mode, moments, moments, kernel,
                                      everything)
    assert np.array_equal(rebuilt, kernel) and not shift.any()
  for name, value in prune.sliced(network, {layer: everything}).items():
    assert np.array_equal(value, network[name])


def test_slim_arrays_are_raw_and_averaged(network):
  """Scaled slices are scaled in both; what was rebuilt is the same in both."""
  arrays = {**network, **{name + '/avg': value + 1
                          for name, value in network.items()}}
  biases = np.zeros(7, np.float32)
  found = prune.slim(arrays, {'conv2': [1, 3]}, {'local3/biases': biases},
                     {'conv2': [2.0, 0.5]}, '/avg')
  assert found['global_step'] == 0 and len(found) == 21
  for suffix in ('', '/avg'):
    assert np.array_equal(found['local3/biases' + suffix], biases)
    for name, expected in (
        ('conv2/biases', arrays['conv2/biases' + suffix][[1, 3]]),
        ('local4/weights', arrays['local4/weights' + suffix]),
        ('local3/weights', (arrays['local3/weights' + suffix].reshape(
            36, 5, 7)[:, [1, 3]] * np.float32([[2], [0.5]])).reshape(72, 7))):
      assert np.array_equal(found[name + suffix], expected)
