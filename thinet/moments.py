"""Second moments of a layer's inputs, in one pass, kept in a file.

Rows of inputs are summed up in float64 as they come, so memory does not grow
with their number.
"""
import contextlib
import hashlib
import os

from thinet import files
from thinet import tensorflow as tf
from thinet.algebra import Moments

import numpy as np

KERNEL = 5          # Side of a convolution's kernel.
CHECK_SHARE = 10    # A tenth of each batch measures the error; the rest fits.


def random_positions(bits, locations):
  """Draws distinct random positions in each image.

  Args:
    bits: int32 [n, positions], random.
    locations: number of positions to draw in each image.

  Returns:
    int32 [n, locations].
  """
  return tf.nn.top_k(bits, locations).indices


def grid_positions(side, stride):
  """Every stride-th position of every stride-th row: int32 [1, positions]."""
  grid = np.arange(side * side, dtype=np.int32).reshape(side, side)
  return grid[::stride, ::stride].reshape(1, -1)


def patches(inputs, positions):
  """Gathers what a convolution reads at some positions, zeros past the edges.

  Args:
    inputs: float32 [n, side, side, channels].
    positions: int32 [n, k], or [1, k] for the same in all images; row * side +
      column.

  Returns:
    float32 [n * k, 25 * channels], tap by tap as in the kernel.
  """
  count, (_, side, _, channels) = tf.shape(inputs)[0], inputs.shape.as_list()
  width = side + KERNEL - 1
  edge = [KERNEL // 2] * 2
  padded = tf.pad(inputs, [[0, 0], edge, edge, [0, 0]])
  taps = np.add.outer(np.arange(KERNEL) * width, np.arange(KERNEL)).ravel()
  corners = (tf.range(count)[:, tf.newaxis] * width ** 2 +
             positions // side * width + positions % side)
  pixels = tf.reshape(corners, [-1, 1]) + taps.astype(np.int32)
  rows = tf.gather(tf.reshape(padded, [-1, channels]), pixels)
  return tf.reshape(rows, [-1, taps.size * channels])


class Sums:
  """Moments of all rows added, summed up in float64."""

  def __init__(self):
    self._second = self._first = self._count = 0

  def add(self, rows):
    """Adds rows: float [n, size]."""
    rows = rows.astype(np.float64)
    self._second += rows.T @ rows
    self._first += rows.sum(0)
    self._count += len(rows)

  def moments(self, order=slice(None)):
    """The Moments, with the columns in this order."""
    return Moments(self._second[order][:, order], self._first[order],
                   self._count)


def second_moments(batches):
  """Moments of the rows of an iterable of float [n, size]."""
  sums = Sums()
  for rows in batches:
    sums.add(rows)
  return sums.moments()


def fit_and_check(batches, channels):
  """Moments of nine tenths of each batch of patches, and of the rest.

  Args:
    batches: iterable of float32 [n, taps * channels], tap by tap.
    channels: number of channels in a patch.

  Returns:
    (fit, check): Moments, channel by channel.
  """
  fit, check = Sums(), Sums()
  for rows in batches:
    held_back = len(rows) // CHECK_SHARE
    fit.add(rows[held_back:])
    check.add(rows[:held_back])
  size = KERNEL ** 2 * channels
  by_channel = np.arange(size).reshape(-1, channels).T.ravel()
  return fit.moments(by_channel), check.moments(by_channel)


def cached(folder, key, size, make):
  """Keeps moments in a file, so that all widths and criteria share them.

  The file is the SHA-256 of key and numbers, then the numbers, float64. What is
  not exactly what was written for this key is made again. Of several programs
  that want the same moments one makes them, and the others wait.

  Args:
    folder: folder of the file; one that cannot be written to gets none.
    key: bytes that change with everything the moments depend on.
    size: length of a row.
    make: function without arguments that returns (fit, check), two Moments;
      called if the file is absent or damaged.

  Returns:
    (fit, check).
  """
  name = 'moments-%s.bin' % hashlib.sha256(key).hexdigest()[:16]
  path = os.path.join(folder, name)
  found = _read(path, key, size)
  if found:
    return found
  with files.alone(os.path.join(folder, 'moments.lock')):
    found = _read(path, key, size)   # Another program's, by now.
    if found:
      return found
    found = make()
    numbers = np.concatenate([np.ravel(field) for part in found
                              for field in part]).astype('<f8').tobytes()
    with contextlib.suppress(OSError):   # A full disk: no cache.
      files.remove_parts(path)
      files.write(path, _digest(key, numbers) + numbers)
  return found


def _digest(key, numbers):
  """SHA-256 that binds numbers to what they were made from, as bytes."""
  return hashlib.sha256(hashlib.sha256(key).digest() + numbers).digest()


def _read(path, key, size):
  """Reads (fit, check) from a file of cached; None if absent or damaged."""
  lengths = [size * size, size, 1] * 2
  try:
    if os.path.getsize(path) != 32 + 8 * sum(lengths):
      return None
    content = memoryview(files.read_bytes(path))
  except OSError:
    return None
  numbers = content[32:]
  if content[:32] != _digest(key, numbers):
    return None
  fields = np.split(np.array(np.frombuffer(numbers, '<f8')),
                    np.cumsum(lengths)[:-1])
  return tuple(Moments(second.reshape(size, size), first, int(count[0]))
               for second, first, count in (fields[:3], fields[3:]))
