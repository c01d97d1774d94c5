"""The rewritten operations against those they replace, and by brute force."""
import os

import numpy as np
from thinet import devices
from thinet import operations
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


@pytest.mark.parametrize('shape', [[3, 24, 24, 5], [2, 12, 12, 4],
                                   [2, 4, 6, 3]])
@pytest.mark.parametrize('largest', [2, 10**6])
def test_a_gpus_pooling_equals_tf_nn_max_pool2d(monkeypatch, shape, largest):
  """Whole numbers, so that sums are exact; of equal ones the first is taken."""
  monkeypatch.setattr(operations, 'on_gpu', lambda: True)
  generator = np.random.default_rng(0)
  with tf.Graph().as_default() as graph, tf.Session() as session:
    source = tf.constant(generator.integers(-largest, largest, shape),
                         tf.float32)
    y = operations.max_pool(source, 'pool')
    g = tf.constant(generator.integers(-9, 10, y.shape), tf.float32)
    gradient = tf.gradients(y, source, g)[0]
    assert 'MaxPoolGrad' not in {op.type for op in graph.get_operations()}
    other = tf.nn.max_pool2d(source, 3, 2, 'SAME')
    found = session.run([y, gradient, other,
                         tf.gradients(other, source, g)[0]])
  np.testing.assert_array_equal(found[0], found[2])
  np.testing.assert_array_equal(found[1], found[3])
  assert y.op.name == 'pool'


@pytest.mark.parametrize('width', WIDTHS)
def test_lrn_of_an_exported_network(width):
  """Batches of unknown size are normalized without a square root."""
  x = 100 * np.random.default_rng(width).normal(size=[2, 3, 3, width])
  with tf.Graph().as_default() as graph, tf.Session() as session:
    source = tf.placeholder(tf.float32, [None, 3, 3, width])
    y = session.run(operations.local_response_normalization(source),
                    {source: x})
  assert not {'Sqrt', 'Square'} & {op.type for op in graph.get_operations()}
  np.testing.assert_allclose(y, brute_force_lrn(x), rtol=1e-5)


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


def convolutions(x, kernel, g):
  """Value and gradients by x and kernel: [by Winograd, by tf.nn.conv2d]."""
  with tf.Graph().as_default(), tf.Session() as session:
    x, kernel, g = tf.constant(x), tf.constant(kernel), tf.constant(g)
    both = [operations.winograd_convolution(x, kernel),
            tf.nn.conv2d(x, kernel, 1, 'SAME')]
    return session.run([[y] + tf.gradients(y, [x, kernel], g) for y in both])


@pytest.mark.parametrize('width', WIDTHS + [1])
@pytest.mark.parametrize('dtype, tolerance', [('float32', 1e-4),
                                              ('float64', 1e-12)])
def test_convolution_equals_tf_nn_conv2d_in_value_and_gradients(
    width, dtype, tolerance):
  generator = np.random.default_rng(width)
  x, kernel, g = (generator.normal(size=shape).astype(dtype) for shape in (
      [5, 12, 12, width], [5, 5, width, 64], [5, 12, 12, 64]))
  for ours, theirs in zip(*convolutions(x, kernel, g)):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == dtype
    assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


@pytest.mark.parametrize('size', [6, 18, 24])
def test_convolution_at_other_sizes(size):
  generator = np.random.default_rng(size)
  x, kernel, g = (generator.normal(size=shape) for shape in (
      [1, size, size, 2], [5, 5, 2, 3], [1, size, size, 3]))
  for ours, theirs in zip(*convolutions(x, kernel, g)):
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_convolution_rounds_as_its_docstring_says():
  generator = np.random.default_rng(0)
  x = generator.normal(size=[8, 12, 12, 64])
  kernel = generator.normal(size=[5, 5, 64, 64])
  g = generator.normal(size=[8, 12, 12, 64])
  _, exact = convolutions(x, kernel, g)
  ours, _ = convolutions(*(np.float32(each) for each in (x, kernel, g)))
  for value, wanted in zip(ours, exact):
    error = np.sqrt(np.mean((value - wanted)**2) / np.mean(wanted**2))
    assert error < 3e-5


@pytest.mark.parametrize('batch, channels, dtype, gpus, direct', [
    (128, 64, tf.float32, [], False), (128, 8, tf.float32, [], False),
    (None, 64, tf.float32, [], True), (128, 3, tf.float32, [], True),
    (128, 64, tf.bfloat16, [], True), (128, 64, tf.float32, ['GPU'], True)])
def test_where_the_convolution_is_tensorflows_own(
    batch, channels, dtype, gpus, direct, monkeypatch):
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: gpus)
  with tf.Graph().as_default() as graph:
    x = tf.placeholder(dtype, [batch, 12, 12, channels])
    y = operations.convolution(x, tf.placeholder(dtype, [5, 5, channels, 64]))
    assert y.shape.as_list() == [batch, 12, 12, 64]
    assert direct == any(op.type == 'Conv2D' for op in graph.get_operations())


def test_the_device_has_its_name(tmp_path, monkeypatch):
  """TensorFlow's own name of a GPU, or the processor with this process's cores;
  a GPU that TensorFlow does not see is named by a driver's program."""
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: ['a'])
  monkeypatch.setattr(tf.config.experimental, 'get_device_details',
                      lambda gpu: {'device_name': 'NVIDIA H100'})
  assert operations.device() == 'NVIDIA H100'
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: [])
  program = tmp_path / 'nvidia-smi'
  program.write_text('#!/bin/sh\necho NVIDIA L4\necho NVIDIA T4\n')
  program.chmod(0o755)
  monkeypatch.setattr(devices.glob, 'glob', lambda pattern: [])
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
  assert operations.unused_gpu() == 'NVIDIA L4'
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
  assert operations.unused_gpu() is None
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '1')
  (tmp_path / 'information').write_text('Model: \t\t NVIDIA A100\nIRQ: 1\n')
  monkeypatch.setattr(devices.glob, 'glob',
                      lambda pattern: [str(tmp_path / 'information')])
  assert operations.unused_gpu() == 'NVIDIA A100'
  count = len(os.sched_getaffinity(0))
  assert operations.device() == 'processor, %d core%s' % (
      count, 's' if count > 1 else '')
  here = os.sched_getaffinity(0)
  try:
    os.sched_setaffinity(0, {min(here)})
    assert operations.device() == 'processor, 1 core'
  finally:
    os.sched_setaffinity(0, here)
