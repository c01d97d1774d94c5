"""Refits against NumPy: a step of the descent, its choice, each layer."""
import cifar10
import cifar10_input
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from thinet import algebra
from thinet import loop
from thinet import operations
from thinet import precondition
from thinet import prune
from thinet import refit
import thinet_compress

RATE = 1e-3
KEPT = {'conv1': [0, 1], 'conv2': [0, 2, 3], 'local3': [1, 4, 5, 6],
        'local4': [0, 1, 2, 7]}


def drawn(seed=0):
  """Weights of a network of 4 channels."""
  return conftest.drawn(cifar10.Widths(4, 5, 7, 9), 0.2, seed, averages=False)


def side_by_side(original, slim, seed=1):
  return thinet_compress.networks_side_by_side(original, slim, KEPT, 200, 20,
                                               seed)


@pytest.fixture
def networks(flags, data_dir):
  """A network of 4 drawn channels and its first two, on the drawn data."""
  flags(data_dir=data_dir, batch_size=20)
  original = drawn()
  with side_by_side(original, prune.sliced(original, KEPT)) as pair:
    yield pair


def descend(networks, monkeypatch, *rates):
  """Runs one pass of step 2; returns its report."""
  monkeypatch.setattr(refit, 'PASSES', 1)
  monkeypatch.setattr(refit, 'RATES', rates)
  return refit._all_layers(networks, thinet_compress.descend)


def test_one_step_is_the_preconditioned_gradients(networks, monkeypatch):
  """Nesterov's first step goes 1 + momentum times the rate."""
  slim, networks.fit = dict(networks.weights), networks.fit[:1]
  step = networks.fit[0]
  output, wanted = (network['softmax_linear']
                    for network in (networks.slim, networks.original))
  names = list(slim)
  gradients = dict(zip(names, networks.run(tf.gradients(
      output, [networks.slim_variables[name] for name in names],
      (output - wanted) / (20 * 10)), step)))
  generator = np.random.default_rng(2)
  matrices = {name: np.float32(generator.normal(size=[size, size]))
              for name, size in (('conv1/weights', 75), ('conv2/weights', 50))}
  seen = []
  def made(inputs, run):
    seen.append({name: run(x, 0) for name, x in inputs.items()})
    return matrices
  monkeypatch.setattr(precondition, 'matrices', made)
  def error():   # On what is held back.
    left, whole = networks.run([output - wanted, wanted], 9)
    return np.square(left).sum() / np.square(whole).sum()
  before = error()
  details = descend(networks, monkeypatch, RATE)
  assert details['before'] == pytest.approx(before, rel=1e-4)
  assert details['after'] == pytest.approx(error(), rel=1e-4)
  read = networks.run({'conv1/weights': networks.images}, step)
  assert np.array_equal(seen[0]['conv1/weights'], read['conv1/weights'])
  assert seen[0]['conv2/weights'].shape == (20, 12, 12, 2)
  for name, gradient in gradients.items():
    expected = gradient.reshape(-1, gradient.shape[-1])
    if name in matrices:
      expected = matrices[name] @ expected
    expected = expected.reshape(gradient.shape) * (1.5 if 'conv' in name else 1)
    went = (slim[name] - networks.weights[name]) / (1.9 * RATE)
    np.testing.assert_allclose(went, expected, rtol=0, atol=1e-2 * np.abs(
        expected).max())
  assert details['after'] < details['before']


def test_a_descent_that_ends_higher_is_not_kept(networks, monkeypatch):
  before = {name: value.copy() for name, value in networks.weights.items()}
  details = descend(networks, monkeypatch, 1e6, 1e5)
  assert details['rate'] is None
  assert details['after'] == details['before']
  for name, value in before.items():
    assert np.array_equal(networks.weights[name], value)
    assert np.array_equal(
        networks.session.run(networks.slim_variables[name]), value)


def test_the_next_rate_starts_again_where_one_fails(networks, monkeypatch):
  """It gives what it gives alone, from the same weights and no momentum; what
  comes behind a rate that lowers the error is not tried."""
  before = dict(networks.weights)
  alone = descend(networks, monkeypatch, RATE)
  weights = dict(networks.weights)
  for rates in ((1e6, RATE), (RATE, 1e6)):
    networks.change(before)
    assert descend(networks, monkeypatch, *rates) == pytest.approx(alone,
                                                                   rel=1e-4)
    for name, expected in weights.items():
      np.testing.assert_allclose(networks.weights[name], expected, atol=1e-5)
      assert np.array_equal(networks.weights[name], networks.session.run(
          networks.slim_variables[name]))
  assert alone['rate'] == RATE and alone['after'] < alone['before']


def test_the_gpus_loop_goes_the_plain_steps(networks, monkeypatch, capsys):
  """All passes, here on the processor, and again at another rate."""
  before = dict(networks.weights)
  plain = descend(networks, monkeypatch, 1e6, RATE)
  expected = dict(networks.weights)
  networks.change(before)
  monkeypatch.setattr(operations, 'on_gpu', lambda: True)
  looped = descend(networks, monkeypatch, 1e6, RATE)
  assert looped == pytest.approx(plain, rel=1e-4)
  # What a GPU cannot gather, plain steps keep from it; the loop has its own.
  assert sum('records' in var.op.name
             for var in tf.local_variables()) == 4
  for name, value in expected.items():
    np.testing.assert_allclose(networks.weights[name], value, atol=1e-5)
  assert capsys.readouterr().out.count('Compiled the steps in') == 1


def test_what_is_compiled_is_the_same_for_all_seeds(flags, data_dir,
                                                    monkeypatch):
  """And for all networks of the same widths."""
  monkeypatch.setattr(operations, 'on_gpu', lambda: True)
  monkeypatch.setattr(loop, 'DEVICE', '/device:CPU:0')
  monkeypatch.setattr(loop.Loop, 'compile', lambda *_: True)
  flags(data_dir=data_dir, batch_size=20)

  def compiled(seed):
    original = drawn(seed)
    with side_by_side(original, prune.sliced(original, KEPT), seed) as pair:
      refit._Descent(pair, thinet_compress.descend)
      return conftest.compiled(pair.session.graph)

  one, two = compiled(1), compiled(2)
  assert len(one) > 300 and one == two


def test_each_pass_has_the_images_to_fit_otherwise_distorted(networks,
                                                             monkeypatch):
  """Nine of ten batches are for fitting."""
  steps = [networks.step_to_fit(number) for number in range(27)]
  assert steps == [*range(9), *range(10, 19), *range(20, 29)]
  monkeypatch.setattr(refit, 'PASSES', 2)
  monkeypatch.setattr(refit, 'RATES', (RATE,))
  seen, genuine = [], networks.build
  def spy(step):
    with tf.control_dependencies([tf.py_func(seen.append, [step], [])]):
      return genuine(tf.identity(step))
  with monkeypatch.context() as patch:
    patch.setattr(networks, 'build', spy)
    refit._all_layers(networks, thinet_compress.descend)
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
  hand, with TensorFlow's own pre-activations of the kept channels."""
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
    expected[part] = rows, rows.T @ outputs[..., [0, 2, 3]].reshape(-1, 3)
  found = {}

  def spy(fit, check, second, weights, biases, rectified, solves):
    found.update(fit=fit, check=check, second=second)
    assert rectified
    assert np.array_equal(weights.reshape(5, 5, 2, 3),
                          networks.weights['conv2/weights'])
    assert np.array_equal(biases, networks.weights['conv2/biases'])
    return weights + 1, biases + 2, {'said': 3}

  monkeypatch.setattr(algebra, 'refit', spy)
  before = dict(networks.weights)
  assert refit._conv2(networks) == {'said': 3}
  for part, (rows, products) in expected.items():
    inputs = np.c_[found[part][0], np.ones(len(rows))]
    np.testing.assert_allclose(inputs.T @ found[part][1], products, rtol=0,
                               atol=1e-4 * np.abs(products).max())
  rows = expected['fit'][0]
  np.testing.assert_allclose(found['second'] / len(rows), rows.T @ rows /
                             len(rows), rtol=1e-3, atol=1e-4)
  for kind, step in (('weights', 1), ('biases', 2)):
    name = 'conv2/' + kind
    assert np.array_equal(networks.weights[name], before[name] + step)


@pytest.mark.parametrize('layer, inputs, rectified', [
    ('local3', 'pool2', True), ('local4', 'local3', True),
    ('softmax_linear', 'local4', False)])
def test_a_dense_layer_is_refitted_from_the_slim_inputs(networks, layer, inputs,
                                                        rectified):
  """It fits the kept outputs of the original's, and reports errors on images
  held back."""
  tensors = [networks.slim[inputs], networks.original[layer]]
  fit, check = ([x.reshape(len(x), -1), y[:, KEPT.get(layer, slice(None))]]
                for x, y in (gathered(networks, tensors, steps)
                             for steps in (range(9), [9])))
  names = [layer + '/weights', layer + '/biases']
  before = [networks.weights[name] for name in names]
  details = refit._dense(networks, layer)
  after = [networks.weights[name] for name in names]
  ones = np.c_[fit[0], np.ones(len(fit[0]))].astype(np.float64)
  wanted, _, _ = algebra.refit(fit, check, ones.T @ ones, *before, rectified)
  np.testing.assert_allclose(after[0], wanted, atol=1e-3 * abs(wanted).max())
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


@pytest.mark.parametrize('first, refitted', [
    ('conv1', ['conv2', 'local3', 'local4', 'softmax_linear']),
    ('conv2', ['local3', 'local4', 'softmax_linear']),
    ('local4', ['softmax_linear'])])
def test_layers_behind_the_first_pruned_one_are_refitted_front_to_back(
    networks, monkeypatch, first, refitted):
  """The inputs and targets of each; a ReLU follows all except the last."""
  monkeypatch.setattr(refit, 'RATES', ())
  before = prune.CHAIN[:prune.CHAIN.index(first)]
  networks.kept = {layer: np.arange(networks.original[layer].shape[-1].value)
                   if layer in before else KEPT[layer] for layer in KEPT}
  monkeypatch.setattr(networks, 'target',
                      lambda layer, outputs=None: networks.slim[layer]
                      if outputs is None else tf.gather(outputs, KEPT[layer],
                                                        axis=-1))
  seen = {}

  def spy(fit, check, second, weights, biases, rectified, solves):
    assert second.shape == (fit[0].shape[1] + 1,) * 2
    seen[fit[0].shape[1]] = (len(fit[0]), len(check[0]), weights.shape,
                             rectified)
    return weights, biases, {}

  monkeypatch.setattr(algebra, 'refit', spy)
  weights, layers = refit.refit_network(networks,
                                        thinet_compress.descend)
  assert list(layers) == refitted + ['all']
  expected = {'conv2': (50, (1800, 200, (50, 3), True)),
              'local3': (108, (180, 20, (108, 4), True)),
              'local4': (4, (180, 20, (4, 4), True)),
              'softmax_linear': (4, (180, 20, (4, 10), False))}
  assert seen == dict(expected[layer] for layer in refitted)
  assert weights.keys() == cifar10.weight_shapes().keys()
