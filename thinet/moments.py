"""Second moments of what layers read, in one pass, kept in files.

Rows of inputs are summed up as they come, so memory does not grow with their
number: products of some thousand rows in float32, their sums in float64.
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
BLOCK = 4096        # Rows of a product.


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
  """Moments of all rows added."""

  def __init__(self):
    self._second = self._first = self._count = 0
    self._waiting, self._number = [], 0

  def add(self, rows):
    """Adds rows: float32 [n, size]."""
    self._waiting.append(rows)
    self._number += len(rows)
    if self._number >= BLOCK:
      self._flush()

  def _flush(self):
    if self._waiting:
      rows = np.concatenate(self._waiting)
      # By symmetry, half of the product is computed.
      with np.errstate(all='ignore'):   # What is too large is infinite.
        self._second = self._second + np.float64(rows.T @ rows)
      self._first += rows.sum(0, dtype=np.float64)
      self._count += len(rows)
      self._waiting, self._number = [], 0

  def moments(self, order=slice(None)):
    """The Moments, with the columns in this order, in float64."""
    self._flush()
    return Moments(self._second[order][:, order], self._first[order],
                   self._count)


def second_moments(batches):
  """Moments of the rows of an iterable of float [n, size]."""
  sums = Sums()
  for rows in batches:
    sums.add(rows)
  return sums.moments()


def fit_and_check(batches, channels):
  """Moments of nine tenths of each batch of samples, and of the rest.

  Args:
    batches: iterable of dicts, layer -> float32 [n, taps * channels], what its
      reader reads, tap by tap.
    channels: layer -> its number of channels.

  Returns:
    Layer -> (fit, check), Moments, channel by channel.
  """
  sums = {layer: (Sums(), Sums()) for layer in channels}
  for batch in batches:
    for layer, rows in batch.items():
      fit, check = sums[layer]
      held_back = len(rows) // CHECK_SHARE
      fit.add(rows[held_back:])
      check.add(rows[:held_back].copy())   # Lets go of the batch.
  result = {}
  for layer, parts in sums.items():
    size = len(parts[0].moments().first)
    by_channel = np.arange(size).reshape(-1, channels[layer]).T.ravel()
    result[layer] = tuple(part.moments(by_channel) for part in parts)
  return result


def cached(folder, wanted, make):
  """Keeps moments in files, so that all widths and criteria share them.

  A file is the SHA-256 of key and numbers, then the numbers, float64. What is
  not exactly what was written for this key is made again. Of several programs
  that want the same moments one makes them, and the others wait.

  Args:
    folder: folder of the files; one that cannot be written to gets none.
    wanted: layer -> (key, size): bytes that change with everything that the
      moments of what its reader reads depend on, and the length of a row.
    make: function of a list of layers that returns layer -> (fit, check), two
      Moments; called with those whose file is absent or damaged.

  Returns:
    Layer -> (fit, check).
  """
  def path(layer):
    return os.path.join(folder, 'moments-%s.bin' % hashlib.sha256(
        wanted[layer][0]).hexdigest()[:16])

  found = {}

  def look():
    """Reads what is there; returns the layers whose moments are missing."""
    for layer in wanted.keys() - found.keys():
      there = _read(path(layer), *wanted[layer])
      if there:
        found[layer] = there
    return [layer for layer in wanted if layer not in found]

  if look():
    with files.alone(os.path.join(folder, 'moments.lock')):
      missing = look()   # Another program's may be there by now.
      made = make(missing) if missing else {}
      for layer, parts in made.items():
        numbers = np.concatenate([np.ravel(field) for part in parts
                                  for field in part]).astype('<f8').tobytes()
        with contextlib.suppress(OSError):   # A full disk: no cache.
          files.remove_parts(path(layer))
          files.write(path(layer),
                      _digest(wanted[layer][0], numbers) + numbers)
      found.update(made)
  return {layer: found[layer] for layer in wanted}


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
