"""Each rewritten operation against the one it replaces, and by brute force."""
import numpy as np
import operations
import pytest
import tensorflow.compat.v1 as tf

WIDTHS = [64, 48, 32, 24, 16, 8]


def brute_force_lrn(x):
  """The definition, channel by channel, in float64."""
  y = np.empty_like(x, np.float64)
  for c in range(x.shape[-1]):
    near = x[..., max(0, c - 4):c + 5].astype(np.float64)
    y[..., c] = x[..., c] / (1 + 0.001 / 9 * (near ** 2).sum(-1)) ** 0.75
  return y


@pytest.mark.parametrize('width', WIDTHS + [1, 5])
@pytest.mark.parametrize('size', [1.0, 100.0])
def test_lrn_equals_tf_nn_lrn_in_value_and_gradient(width, size):
  generator = np.random.default_rng(width)
  x = (size * generator.normal(size=[2, 3, 3, width])).astype(np.float32)
  g = generator.normal(size=x.shape).astype(np.float32)
  with tf.Graph().as_default(), tf.Session() as session:
    source = tf.constant(x)
    both = [operations.local_response_normalization(source),
            tf.nn.lrn(source, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)]
    ours, theirs, our_gradient, their_gradient = session.run(
        both + [tf.gradients(y, source, g)[0] for y in both])
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  np.testing.assert_allclose(ours, brute_force_lrn(x), rtol=1e-5)
  np.testing.assert_allclose(our_gradient, their_gradient, rtol=1e-4,
                             atol=1e-5)


@pytest.mark.parametrize('width', [3, 8, 16])
def test_lrn_gradient_equals_finite_differences_in_float64(width):
  generator = np.random.default_rng(0)
  x = 50 * generator.normal(size=[1, 1, 2, width])
  with tf.Graph().as_default(), tf.Session() as session:
    source = tf.placeholder(tf.float64, x.shape)
    g = tf.constant(generator.normal(size=x.shape))
    y = operations.local_response_normalization(source)
    value = tf.reduce_sum(y * g)
    gradient = session.run(tf.gradients(value, source)[0], {source: x})
    np.testing.assert_allclose(session.run(y, {source: x}), brute_force_lrn(x),
                               rtol=1e-12)
    for index in np.ndindex(*x.shape):
      step = np.zeros_like(x)
      step[index] = 1e-3
      slope = (session.run(value, {source: x + step}) -
               session.run(value, {source: x - step})) / 2e-3
      assert abs(slope - gradient[index]) < 1e-7


@pytest.mark.parametrize('channels', WIDTHS + [3])
@pytest.mark.parametrize('dtype', [tf.float32, tf.float64])
def test_convolution_equals_conv2d_in_value_and_gradients(channels, dtype):
  generator = np.random.default_rng(channels)
  with tf.Graph().as_default(), tf.Session() as session:
    x = tf.constant(generator.normal(size=[7, 6, 5, channels]), dtype)
    kernel = tf.constant(generator.normal(size=[5, 5, channels, 4]), dtype)
    dy = tf.constant(generator.normal(size=[7, 6, 5, 4]), dtype)
    both = [[y] + tf.gradients(y, [x, kernel], dy)
            for y in (operations.convolution(x, kernel),
                      tf.nn.conv2d(x, kernel, 1, 'SAME'))]
    rounding = 2e-6 if dtype == tf.float32 else 1e-14
    for ours, theirs in zip(*session.run(both)):
      assert np.abs(ours - theirs).max() <= rounding * np.abs(theirs).max()


def test_convolution_gradient_by_brute_force():
  generator = np.random.default_rng(0)
  x = generator.integers(-3, 4, [2, 4, 3, 16]).astype(np.float32)
  dy = generator.integers(-3, 4, [2, 4, 3, 2]).astype(np.float32)
  padded = np.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
  expected = np.zeros([3, 3, 16, 2])
  for n, i, j, k, l in np.ndindex(2, 4, 3, 3, 3):
    expected[k, l] += np.outer(padded[n, i + k, j + l], dy[n, i, j])
  with tf.Graph().as_default(), tf.Session() as session:
    kernel = tf.zeros([3, 3, 16, 2])
    y = operations.convolution(tf.constant(x), kernel)
    np.testing.assert_array_equal(
        session.run(tf.gradients(y, kernel, tf.constant(dy))[0]), expected)
