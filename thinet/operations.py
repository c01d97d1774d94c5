"""Normalization and convolution rewritten for processors, pooling for GPUs.

Each is the same function as the TensorFlow operation that it replaces, in value
and gradient; benchmarks/README.md has the speeds.
"""
import contextlib

from thinet import devices
from thinet import tensorflow as tf

import numpy as np

LRN_RADIUS, LRN_BIAS, LRN_ALPHA, LRN_BETA = 4, 1.0, 0.001 / 9.0, 0.75

TILE, KERNEL = 6, 5      # Winograd's F(6x6, 5x5).
# Polynomials are evaluated at these points and at infinity; pairs of
# reciprocals and of opposite signs keep rounding errors low.
POINTS = [0.0] + [sign * x for x in (0.4, 0.8, 1.25, 2.5) for sign in (1, -1)]
FEWEST_CHANNELS = 8      # With fewer, tf.nn.conv2d is faster.


def on_gpu():
  """Whether TensorFlow sees a GPU."""
  return bool(tf.config.list_physical_devices('GPU'))


@contextlib.contextmanager
def tensor_float_32(enabled):
  """Switches TF32 for products on GPUs; after the block it is off."""
  tf.config.experimental.enable_tensor_float_32_execution(enabled)
  try:
    yield
  finally:
    tf.config.experimental.enable_tensor_float_32_execution(False)


def device():
  """Name of what TensorFlow computes on: the first GPU's, or the processor's.

  Returns:
    Text such as 'NVIDIA H100 80GB HBM3' or 'processor, 2 cores'.
  """
  gpus = tf.config.list_physical_devices('GPU')
  if gpus:
    details = tf.config.experimental.get_device_details(gpus[0])
    return details.get('device_name', 'GPU')
  return devices.processor()


def unused_gpu():
  """Name of a GPU in this machine that TensorFlow does not see, or None.

  None, too, if CUDA_VISIBLE_DEVICES hides all of them on purpose.
  """
  return None if on_gpu() else devices.gpu()


def local_response_normalization(x):
  """tf.nn.lrn(x, 4, 1.0, 0.001 / 9, 0.75), several times faster on processors.

  The sum over neighbouring channels is a product with a band matrix, and the
  gradient is written out (tf.nn.lrn's is a scalar loop):
  y = x N^-b with N = 1 + a W x^2, dx = g N^-b - 2 a b x W(g y / N), and
  N^-0.75 = rsqrt(N) sqrt(rsqrt(N)).

  Args:
    x: float [n, height, width, channels].

  Returns:
    The same shape and dtype.
  """
  return tf.custom_gradient(_normalization_and_gradient)(x)


def _normalization_and_gradient(x):
  """What tf.custom_gradient takes: y and the function of dy."""
  channels = x.shape[-1].value
  offsets = np.subtract.outer(np.arange(channels), np.arange(channels))
  band = (np.abs(offsets) <= LRN_RADIUS).astype(x.dtype.as_numpy_dtype)
  flat = tf.reshape(x, [-1, channels])
  norm = tf.nn.bias_add(tf.matmul(flat * flat, LRN_ALPHA * band),
                        tf.fill([channels], tf.constant(LRN_BIAS, x.dtype)))
  root = tf.rsqrt(norm)
  # An exported network can be converted to integers, which have no sqrt.
  scale = root * (tf.sqrt(root) if x.shape.is_fully_defined() else
                  root * tf.rsqrt(root))

  def gradient(dy):
    direct = tf.reshape(dy, [-1, channels]) * scale
    across = tf.matmul(direct * flat / norm, 2 * LRN_ALPHA * LRN_BETA * band)
    return tf.reshape(direct - flat * across, tf.shape(x))

  return tf.reshape(flat * scale, tf.shape(x)), gradient


def convolution(x, kernel):
  """tf.nn.conv2d(x, kernel, 1, 'SAME'), by Winograd's algorithm where it pays.

  Batches of unknown size (an exported network's), bfloat16 (too coarse for the
  transforms), few channels, and GPUs (cuDNN has its own) keep tf.nn.conv2d.

  Args:
    x: float [n, size, size, channels].
    kernel: float [5, 5, channels, filters].

  Returns:
    [n, size, size, filters], of the same dtype.
  """
  known = x.shape.is_fully_defined() and x.shape[1].value % TILE == 0
  if (known and x.dtype != tf.bfloat16 and
      x.shape[-1].value >= FEWEST_CHANNELS and not on_gpu()):
    return winograd_convolution(x, kernel)
  return tf.nn.conv2d(x, kernel, 1, 'SAME')


def max_pool(x, name):
  """tf.nn.max_pool2d(x, 3, 2, 'SAME'); on a GPU its gradient is written out.

  There TensorFlow's gradient adds the windows' shares in any order, so that no
  two runs have the same bits; XLA's deterministic one goes through the windows
  one by one.

  Args:
    x: float [n, height, width, channels], height and width even.
    name: name of the operation.

  Returns:
    [n, height / 2, width / 2, channels], of the same dtype.
  """
  if on_gpu():
    return tf.identity(tf.custom_gradient(_maximum_and_gradient)(x), name)
  return tf.nn.max_pool2d(x, 3, 2, 'SAME', name=name)


def _maximum_and_gradient(x):
  """What tf.custom_gradient takes: y and the function of dy."""
  y = tf.nn.max_pool2d(x, 3, 2, 'SAME')
  height, width, channels = x.shape.as_list()[1:]

  def parts(x, axis):
    """What the windows see along an axis: even, odd and next even pixels."""
    even, odd = tf.unstack(x, axis=axis + 1)
    after = even[(slice(None),) * axis + (slice(1, None),)]
    outside = [[0, int(number == axis)] for number in range(len(after.shape))]
    return even, odd, tf.pad(after, outside, constant_values=x.dtype.min)

  def whole(even, odd, after, axis):
    """The reverse for gradients: adds what two windows give to one pixel."""
    after = after[(slice(None),) * axis + (slice(-1),)]
    outside = [[int(number == axis), 0] for number in range(len(after.shape))]
    return tf.stack([even + tf.pad(after, outside), odd], axis + 1)

  def gradient(dy):
    taken, shares = tf.zeros_like(y, tf.bool), []
    halves = tf.reshape(x, [-1, height // 2, 2, width // 2, 2, channels])
    for row in parts(halves, 1):
      shares.append([])
      for pixel in parts(row, 2):   # The first of equal ones gets all.
        largest = tf.equal(pixel, y) & ~taken
        taken |= largest
        shares[-1].append(tf.where(largest, dy, tf.zeros_like(dy)))
    rows = [whole(*row, axis=2) for row in shares]
    return tf.reshape(whole(*rows, axis=1), tf.shape(x))

  return y, gradient


def _winograd_matrices(size):
  """The transforms along one side of the images, all tiles at once.

  Multiplying polynomials of degrees KERNEL - 1 and TILE - 1 by their values at
  TILE + KERNEL - 1 points becomes, transposed, correlation (Winograd, 1980;
  Lavin and Gray, CVPR 2016, section 4.1).

  Args:
    size: side of the images, a multiple of TILE.

  Returns:
    (inputs, kernel, outputs): float64 [points * tiles, size], [points, KERNEL]
    and [size, points * tiles]. For x of length size and a kernel k,
    outputs (inputs x * repeat(kernel k, tiles)) is their correlation, 'SAME'.
  """
  def powers(count):
    return np.array([[point**i for i in range(count)] for point in POINTS] +
                    [[0.0] * (count - 1) + [1.0]])
  points, tiles = TILE + KERNEL - 1, size // TILE
  kernel, tile = powers(KERNEL), np.linalg.inv(powers(points)).T
  inputs = np.zeros([points, tiles, size + KERNEL - 1])
  outputs = np.zeros([tiles, TILE, points, tiles])
  for number in range(tiles):
    inputs[:, number, number * TILE:number * TILE + points] = tile
    outputs[number, :, :, number] = powers(TILE).T
  inputs = inputs[:, :, KERNEL // 2:KERNEL // 2 + size]   # Without the padding.
  return (inputs.reshape(-1, size), kernel, outputs.reshape(size, -1))


def winograd_convolution(x, kernel):
  """tf.nn.conv2d(x, kernel, 1, 'SAME') with 9 times fewer multiplications.

  Lavin and Gray's fast convolution F(6x6, 5x5), as matrix products alone, so
  that its gradients are products, too. The images are the last dimension before
  the channels, so that only the two transpositions copy anything. In float32 it
  rounds to about 2e-5 of the values, 25 times as coarsely as tf.nn.conv2d.

  Args:
    x: float [n, size, size, channels], size a multiple of 6.
    kernel: float [5, 5, channels, filters].

  Returns:
    [n, size, size, filters], of the same dtype.
  """
  n, size, _, channels = x.shape.as_list()
  filters, points, tiles = (kernel.shape[-1].value, TILE + KERNEL - 1,
                            size // TILE)
  to_inputs, to_kernel, to_outputs = (
      matrix.astype(x.dtype.as_numpy_dtype)
      for matrix in _winograd_matrices(size))

  def along_both(matrix, y, sides):
    """Multiplies by the matrix along dimensions 0 and 1, of these lengths."""
    y = tf.matmul(matrix, tf.reshape(y, [sides[0], -1]))
    return tf.matmul(matrix, tf.reshape(y, [len(matrix), sides[1], -1]))

  x = along_both(to_inputs, tf.transpose(x, [1, 2, 0, 3]), [size, size])
  kernel = along_both(to_kernel, kernel, [KERNEL, KERNEL])
  products = tf.matmul(
      tf.reshape(x, [points, tiles, points, tiles * n, channels]),
      tf.reshape(kernel, [points, 1, points, channels, filters]))
  sides = [points * tiles, points * tiles]
  y = along_both(to_outputs, products, sides)
  return tf.transpose(tf.reshape(y, [size, size, n, filters]), [2, 0, 1, 3])
