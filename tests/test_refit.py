"""The descent of conv1 and conv2: a step against NumPy, and its choice."""
import cifar10
import cifar10_input
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from thinet import algebra
from thinet import refit
import thinet_compress

RATE = 1e-4
ROWS = np.random.default_rng(1).normal(size=[200, 51])
MOMENTS = algebra.Moments(ROWS.T @ ROWS, ROWS.sum(0), 200)


def side_by_side(original, slim):
  return thinet_compress.networks_side_by_side(original, slim, 200, 20, 1)


@pytest.fixture
def networks(flags, data_dir):
  """A network of 4 drawn channels and its first two, on the drawn data."""
  flags(data_dir=data_dir, batch_size=20)
  generator = np.random.default_rng(0)
  original = {name: np.float32(generator.normal(0, 0.1, shape))
              for name, shape in cifar10.weight_shapes(
                  cifar10.Widths(4)).items()}
  slim = dict(original)
  slim['conv1/weights'] = original['conv1/weights'][..., :2]
  slim['conv1/biases'] = original['conv1/biases'][:2]
  slim['conv2/weights'] = original['conv2/weights'][:, :, :2]
  with side_by_side(original, slim) as pair:
    yield pair


def descend(networks, monkeypatch, *rates):
  """Runs one pass of step 2; returns its report."""
  monkeypatch.setattr(refit, 'PASSES', 1)
  monkeypatch.setattr(refit, 'RATES', rates)
  return refit._convolutions_for_local3(networks, MOMENTS,
                                        thinet_compress.refit_optimizer)


def test_one_step_is_the_preconditioned_gradients(networks, monkeypatch):
  """Nesterov's first step goes 1 + momentum times the rate."""
  slim, networks.fit = dict(networks.weights), networks.fit[:1]
  step = networks.fit[0]
  output, wanted = networks.slim['local3'], networks.original['local3']
  names = [layer + kind for layer in ('conv1', 'conv2')
           for kind in ('/weights', '/biases')]
  gradients = dict(zip(names, networks.run(tf.gradients(
      output, [networks.slim_variables[name] for name in names],
      (output - wanted) / 20), step)))
  factors = refit._preconditioner(networks, MOMENTS)
  details = descend(networks, monkeypatch, RATE)
  for layer, (left, right) in zip(('conv1', 'conv2'), factors):
    def flat(arrays):
      kernel = arrays[layer + '/weights'].astype(np.float64)
      return np.vstack([kernel.reshape(-1, kernel.shape[-1]),
                        arrays[layer + '/biases']])
    went = (flat(slim) - flat(networks.weights)) / (1.9 * RATE)
    expected = left @ flat(gradients) @ right
    np.testing.assert_allclose(went, expected,
                               atol=1e-3 * np.abs(expected).max())
  damped = ROWS.T @ ROWS / 200
  damped += 0.03 * np.trace(damped) / 51 * np.eye(51)
  np.testing.assert_allclose(factors[1][0] @ damped, np.eye(51), atol=1e-9)
  assert details['after'] < details['before']


def second_moments(rows):
  return rows.T @ rows / len(rows)


def test_preconditioner_is_of_inputs_and_of_what_local3_says(networks,
                                                             monkeypatch):
  """Patches cut by hand at all positions of two batches, and what TensorFlow
  passes back through the ReLUs from local3's outputs, each with a sign."""
  monkeypatch.setattr(refit, 'LOCATIONS', 576)
  monkeypatch.setattr(refit, 'PRECONDITIONER_IMAGES', 40)
  local3, pool1 = networks.slim['local3'], networks.slim['pool1']
  bits = networks.random_bits([20, 384], 'probes', networks.step)
  felt = tf.gradients(local3, [networks.slim['conv2'].op.inputs[0], pool1],
                      tf.where(bits % 2 > 0, -tf.ones_like(local3),
                               tf.ones_like(local3)))
  images, conv2, at_pool1, pool1 = gathered(
      networks, [networks.images, *felt, pool1], range(2))
  images = np.pad(images.astype(float), [(0, 0), (2, 2), (2, 2), (0, 0)])
  patches = np.concatenate([images[:, i:i + 24, j:j + 24] for i in range(5)
                            for j in range(5)], -1).reshape(-1, 75)
  expected = [
      (second_moments(np.c_[patches, np.ones(len(patches))]),
       second_moments(np.where(pool1 > 0, at_pool1, 0).reshape(-1, 2)) * 144),
      (ROWS.T @ ROWS / 200, second_moments(conv2.reshape(-1, 64)) * 144)]
  found = refit._preconditioner(networks, MOMENTS)
  for matrices, inverses in zip(expected, found):
    for matrix, inverse in zip(matrices, inverses):
      size = len(matrix)
      damped = matrix + 0.03 * np.trace(matrix) / size * np.eye(size)
      np.testing.assert_allclose(inverse @ damped, np.eye(size), atol=2e-3)


def test_a_descent_that_ends_higher_is_not_kept(networks, monkeypatch):
  before = {name: value.copy() for name, value in networks.weights.items()}
  details = descend(networks, monkeypatch, 1e6, 1e5)
  assert details['rate'] is None
  assert details['after'] == details['before']
  for name, value in before.items():
    assert np.array_equal(networks.weights[name], value)
    assert np.array_equal(
        networks.session.run(networks.slim_variables[name]), value)


@pytest.mark.parametrize('rates', [(RATE, 1e6), (1e6, RATE), (RATE, RATE / 10),
                                   (RATE / 10, RATE)])
def test_the_rate_that_leaves_least_is_taken(networks, monkeypatch, rates):
  """The chosen rate gives what it gives alone, from a fresh start."""
  before, alone = dict(networks.weights), {}

  def from_the_start(*rates):
    networks.change(before)
    return descend(networks, monkeypatch, *rates), dict(networks.weights)

  for rate in rates:
    alone[rate] = from_the_start(rate)
  assert min(rates, key=lambda rate: alone[rate][0]['after']) == RATE
  details, weights = from_the_start(*rates)
  assert details['rate'] == RATE
  assert details['after'] < details['before']
  for name, expected in alone[RATE][1].items():
    np.testing.assert_allclose(weights[name], expected, atol=1e-6)
    np.testing.assert_allclose(
        networks.session.run(networks.slim_variables[name]), expected,
        atol=1e-6)


def test_each_pass_has_the_images_to_fit_otherwise_distorted(networks,
                                                             monkeypatch):
  """Nine of ten batches are for fitting."""
  steps = [networks.step_to_fit(number) for number in range(27)]
  assert steps == [*range(9), *range(10, 19), *range(20, 29)]
  monkeypatch.setattr(refit, 'PASSES', 2)
  monkeypatch.setattr(refit, 'RATES', (RATE,))
  seen, genuine = [], networks.run
  def spy(fetches, step, feeds=None):
    seen.extend([step] if feeds else [])
    return genuine(fetches, step, feeds)
  with monkeypatch.context() as patch:
    patch.setattr(networks, 'run', spy)
    refit._convolutions_for_local3(networks, MOMENTS,
                                   thinet_compress.refit_optimizer)
  assert seen == steps[:18]
  first, again = [networks.run(networks.images, step) for step in (3, 13)]
  assert not np.array_equal(first, again)
  monkeypatch.setattr(cifar10_input, 'distort',
                      lambda images, draws: images[:, :24, :24] / 255)
  with side_by_side(networks.weights, networks.weights) as plain:
    first, other, again = [plain.run(plain.images, step) for step in (3, 4, 13)]
  assert np.array_equal(first, again) and not np.array_equal(first, other)


def gathered(networks, tensors, steps):
  """The tensors' values at all steps, one after another."""
  return [np.concatenate(parts)
          for parts in zip(*(networks.run(tensors, step) for step in steps))]


def test_fit_and_check_are_different_images(networks):
  """Each of the 200 images once: 180 to fit, 20 to check."""
  assert [*networks.fit] == [*range(9)] and [*networks.check] == [9]
  assert networks.batch_size == 20
  for images, steps in ((60, 3), (5, 1), (1000, 9)):
    assert [*networks.first(networks.fit, images)] == [*range(steps)]


def test_conv2_is_refitted_from_the_slim_patches(networks, monkeypatch):
  """Over all positions, in any order: sums of products of slim inputs, cut by
  hand, with TensorFlow's own pre-activations."""
  monkeypatch.setattr(refit, 'LOCATIONS', 144)
  networks.fit = networks.fit[:2]
  convolution = tf.nn.conv2d(networks.original['norm1'],
                             networks.original_variables['conv2/weights'], 1,
                             'SAME')
  tensors = [networks.slim['norm1'],
             convolution + networks.original_variables['conv2/biases']]
  expected = {}
  for part, steps in (('fit', networks.fit), ('check', networks.check)):
    norm1, outputs = gathered(networks, tensors, steps)
    norm1 = np.pad(norm1, [(0, 0), (2, 2), (2, 2), (0, 0)])
    rows = np.concatenate([norm1[:, i:i + 12, j:j + 12] for i in range(5)
                           for j in range(5)], -1).reshape(-1, 50)
    rows = np.c_[rows, np.ones(len(rows))]
    expected[part] = rows, rows.T @ outputs.reshape(-1, 64)
  found = {}

  def spy(fit, check, second, weights, biases, rectified, solves):
    found.update(fit=fit, check=check, second=second)
    assert rectified
    assert np.array_equal(weights.reshape(5, 5, 2, 64),
                          networks.weights['conv2/weights'])
    assert np.array_equal(biases, networks.weights['conv2/biases'])
    return weights + 1, biases + 2, {'said': 3}

  monkeypatch.setattr(algebra, 'refit', spy)
  before = dict(networks.weights)
  details, moments = refit._conv2_through_relu(networks)
  assert details == {'said': 3}
  for part, (rows, products) in expected.items():
    inputs = np.c_[found[part][0], np.ones(len(rows))]
    np.testing.assert_allclose(inputs.T @ found[part][1], products, rtol=0,
                               atol=1e-4 * np.abs(products).max())
  rows = expected['fit'][0]
  for second in (found['second'], moments.second):
    np.testing.assert_allclose(second / len(rows), rows.T @ rows / len(rows),
                               rtol=1e-3, atol=1e-4)
  assert moments.count == len(rows)
  for kind, step in (('weights', 1), ('biases', 2)):
    name = 'conv2/' + kind
    assert np.array_equal(networks.weights[name], before[name] + step)


@pytest.mark.parametrize('layer, inputs, rectified', [
    ('local4', 'local3', True), ('softmax_linear', 'local4', False)])
def test_a_dense_layer_is_refitted_from_the_slim_inputs(networks, layer, inputs,
                                                        rectified):
  """It fits the original's outputs, and reports errors on images held back."""
  tensors = [networks.slim[inputs], networks.original[layer]]
  fit, check = (gathered(networks, tensors, steps)
                for steps in (range(9), [9]))
  names = [layer + '/weights', layer + '/biases']
  before = [networks.weights[name] for name in names]
  details = refit._dense(networks, layer, inputs, rectified)
  after = [networks.weights[name] for name in names]
  ones = np.c_[fit[0], np.ones(len(fit[0]))].astype(np.float64)
  wanted, _, _ = algebra.refit(fit, check, ones.T @ ones, *before, rectified)
  np.testing.assert_allclose(after[0], wanted, atol=1e-5)
  assert np.array_equal(after[0], networks.session.run(
      networks.slim_variables[layer + '/weights']))
  for key, (weights, biases) in (('before', before), ('after', after)):
    left, target = check[0] @ weights + biases - check[1], check[1]
    if rectified:   # All outputs below 0 are alike if the target is, too.
      left = np.where((check[1] <= 0) & (left + check[1] <= 0), 0,
                      np.where(check[1] <= 0, left + check[1], left))
      target = np.maximum(target, 0)
    np.testing.assert_allclose(details[key], np.square(left).sum() /
                               np.square(target).sum(), rtol=1e-3)
  assert details['after'] < details['before']


def test_layers_are_refitted_front_to_back(networks, flags, monkeypatch):
  """The inputs and targets of each; a ReLU follows all except the last."""
  monkeypatch.setattr(refit, 'RATES', ())
  seen = []

  def spy(fit, check, second, weights, biases, rectified, solves):
    assert second.shape == (fit[0].shape[1] + 1,) * 2
    seen.append((fit[0].shape[1], len(fit[0]), len(check[0]), weights.shape,
                 rectified))
    return weights, biases, {}

  monkeypatch.setattr(algebra, 'refit', spy)
  weights, layers = refit.refit_network(networks,
                                        thinet_compress.refit_optimizer)
  assert list(layers) == ['conv2', 'convolutions_for_local3', 'local3',
                          'local4', 'softmax_linear']
  assert seen == [(50, 1800, 200, (50, 64), True),
                  (2304, 180, 20, (2304, 384), True),
                  (384, 180, 20, (384, 192), True),
                  (192, 180, 20, (192, 10), False)]
  for name, value in weights.items():
    assert np.array_equal(value, networks.weights[name])
