"""The descent of conv1 and conv2: one step against NumPy, and what bounds it."""
import cifar10
import cifar10_input
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from support import thinet_reconstruct

RATE = 1e-4
ROWS = np.random.default_rng(1).normal(size=[200, 51])
MOMENTS = ROWS.T @ ROWS / 200


@pytest.fixture
def networks(flags, data_dir):
  """A network of 4 drawn channels and its first two, on the drawn data."""
  flags(data_dir=data_dir, batch_size=20)
  generator = np.random.default_rng(0)
  original = {name: np.float32(generator.normal(0, 0.1, shape))
              for name, shape in cifar10.weight_shapes(4).items()}
  slim = dict(original)
  slim['conv1/weights'] = original['conv1/weights'][..., :2]
  slim['conv1/biases'] = original['conv1/biases'][:2]
  slim['conv2/weights'] = original['conv2/weights'][:, :, :2]
  with tf.Graph().as_default():
    found = thinet_reconstruct._Networks(original, slim, 200, 1)
    with found.session:
      yield found


def descend(networks, monkeypatch, *rates):
  """What step 2 says of one pass."""
  monkeypatch.setattr(thinet_reconstruct, 'PASSES', 1)
  monkeypatch.setattr(thinet_reconstruct, 'RATES', rates)
  return thinet_reconstruct._convolutions_for_local3(networks, MOMENTS)


def test_one_step_is_the_preconditioned_gradients(networks, monkeypatch):
  """Nesterov's first step goes 1 + momentum times the rate."""
  slim, networks.fit = dict(networks.slim), networks.fit[:1]
  step = networks.fit[0]
  output, wanted = [tf.nn.relu(networks.tensor(network, 'local3/pre_activation'))
                    for network in ('slim', 'original')]
  names = [layer + kind for layer in ('conv1', 'conv2')
           for kind in ('/weights', '/biases')]
  gradients = dict(zip(names, networks.run(tf.gradients(
      output, [networks.variables['slim/' + name] for name in names],
      (output - wanted) / 20), step)))
  factors = thinet_reconstruct._preconditioner(networks, output, MOMENTS)
  details = descend(networks, monkeypatch, RATE)
  for layer, (left, right) in zip(('conv1', 'conv2'), factors):
    def flat(arrays):
      kernel = arrays[layer + '/weights'].astype(np.float64)
      return np.vstack([kernel.reshape(-1, kernel.shape[-1]),
                        arrays[layer + '/biases']])
    went = (flat(slim) - flat(networks.slim)) / (1.9 * RATE)
    expected = left @ flat(gradients) @ right
    np.testing.assert_allclose(went, expected,
                               atol=1e-3 * np.abs(expected).max())
  damped = MOMENTS + 0.03 * np.trace(MOMENTS) / 51 * np.eye(51)
  np.testing.assert_allclose(factors[1][0] @ damped, np.eye(51), atol=1e-9)
  assert details['after'] < details['before']


def test_a_descent_that_ends_higher_is_not_kept(networks, monkeypatch):
  before = {name: value.copy() for name, value in networks.slim.items()}
  details = descend(networks, monkeypatch, 1e6, 1e5)
  assert details['rate'] is None
  assert details['after'] == details['before']
  for name, value in before.items():
    assert np.array_equal(networks.slim[name], value)
    assert np.array_equal(
        networks.session.run(networks.variables['slim/' + name]), value)


@pytest.mark.parametrize('rates', [(RATE, 1e6), (1e6, RATE), (RATE, RATE / 10),
                                   (RATE / 10, RATE)])
def test_the_rate_that_leaves_least_is_taken(networks, monkeypatch, rates):
  """As if it alone had been tried, from a fresh start."""
  before, alone = dict(networks.slim), {}

  def from_the_start(*rates):
    for layer in ('conv1', 'conv2'):
      networks.change(layer, before[layer + '/weights'],
                      before[layer + '/biases'])
    return descend(networks, monkeypatch, *rates), dict(networks.slim)

  for rate in rates:
    alone[rate] = from_the_start(rate)
  assert min(rates, key=lambda rate: alone[rate][0]['after']) == RATE
  details, weights = from_the_start(*rates)
  assert details['rate'] == RATE
  assert details['after'] < details['before']
  for name, expected in alone[RATE][1].items():
    np.testing.assert_allclose(weights[name], expected, atol=1e-6)
    np.testing.assert_allclose(
        networks.session.run(networks.variables['slim/' + name]), expected,
        atol=1e-6)


def test_each_pass_has_the_images_to_fit_otherwise_distorted(networks,
                                                             monkeypatch):
  """Nine of ten batches are there to fit."""
  steps = [networks.fit_again(number) for number in range(27)]
  assert steps == [*range(9), *range(10, 19), *range(20, 29)]
  first, again = [networks.run(networks.images, step) for step in (3, 13)]
  assert not np.array_equal(first, again)
  monkeypatch.setattr(cifar10_input, 'distort',
                      lambda images, draws: images[:, :24, :24] / 255)
  with tf.Graph().as_default():
    plain = thinet_reconstruct._Networks(networks.slim, networks.slim, 200, 1)
    with plain.session:
      first, other, again = [plain.run(plain.images, step)
                             for step in (3, 4, 13)]
  assert np.array_equal(first, again) and not np.array_equal(first, other)
