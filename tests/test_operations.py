"""The rewritten operation against the one it replaces, and by brute force."""
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
