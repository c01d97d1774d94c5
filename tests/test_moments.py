"""Patches cut by hand, their moments, and the file that keeps them."""
import selectors
import subprocess
import sys

import conftest
import numpy as np
import tensorflow.compat.v1 as tf
from test_algebra import moments_of
from thinet import algebra
from thinet import moments


def patch_moments(x):
  """Cuts patches of [n, side, side, channels], at every other position."""
  padded = np.pad(np.float64(x), [(0, 0), (2, 2), (2, 2), (0, 0)])
  total, count = 0, 0
  for image in padded:
    for row in range(0, x.shape[1], 2):
      for column in range(0, x.shape[2], 2):
        patch = image[row:row + 5, column:column + 5].ravel()
        total, count = total + np.outer(patch, patch), count + 1
  return total / count


def test_moments_are_those_of_patches_cut_by_hand():
  x = np.random.default_rng(0).normal(size=[6, 12, 12, 4]).astype(np.float32)
  with tf.Graph().as_default(), tf.Session() as session:
    rows = session.run(moments.patches(tf.constant(x),
                                       moments.grid_positions(12, 2)))
  found, wanted = moments.second_moments(np.split(rows, 3)), patch_moments(x)
  assert found.count == 6 * 36 and found.second.dtype == np.float64
  np.testing.assert_allclose(found.second / found.count, wanted, rtol=0,
                             atol=1e-6 * np.abs(wanted).max())
  np.testing.assert_allclose(found.first, rows.sum(0), rtol=1e-4, atol=1e-4)


def test_sampled_patches_are_patches_at_distinct_positions():
  images = np.random.default_rng(0).normal(size=[3, 12, 12, 2])
  images = images.astype(np.float32)
  with tf.Graph().as_default(), tf.Session() as session:
    bits = np.random.default_rng(1).integers(-2**31, 2**31, [3, 144], np.int32)
    patches = session.run(moments.patches(
        tf.constant(images), moments.random_positions(tf.constant(bits), 10)))
  padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
  for image, found in zip(padded, patches.reshape(3, 10, 50)):
    known = {image[i:i + 5, j:j + 5].tobytes(): (i, j)
             for i in range(12) for j in range(12)}
    assert len({known[patch.tobytes()] for patch in found}) == 10


def test_a_file_of_moments_is_used_where_key_and_shapes_are_right(tmp_path):
  made = []
  def make():
    generator = np.random.default_rng(len(made))
    made.append(tuple(moments_of(generator.normal(size=[9 + part, 4]))
                      for part in (0, 1)))
    return made[-1]
  def same(pairs, wanted):
    return all(np.array_equal(one, other)
               for two in zip(pairs, wanted) for one, other in zip(*two))
  def read(key):
    return moments.cached(str(tmp_path), key, 4, make)
  long_key = bytes(100)
  assert same(read(long_key + b'a'), made[0]) and len(made) == 1
  path, = tmp_path.glob('*.bin')
  assert same(read(long_key + b'a'), made[0]) and len(made) == 1
  assert same(read(long_key + b'b'), made[1]) and len(made) == 2
  other, = set(tmp_path.glob('*.bin')) - {path}
  whole = path.read_bytes()
  for changed in (other.read_bytes(),   # Whole, but of another key.
                  whole[:-8], whole + bytes(8), b'',
                  *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:]
                    for at in range(0, len(whole), 7))):
    path.write_bytes(changed)
    count = len(made)
    assert same(read(long_key + b'a'), made[-1]) and len(made) == count + 1


def test_one_program_makes_the_moments_and_the_other_waits(tmp_path):
  """Two processes ask at the same time; make leaves a mark, and takes long."""
  code = """if True:
      import sys, time, pathlib
      sys.path.insert(0, %r)
      import numpy as np
      from thinet import algebra, moments
      def make():
        folder = pathlib.Path(sys.argv[1])
        (folder / sys.argv[2]).touch()
        while not (folder / 'go').exists():
          time.sleep(0.05)
        return (algebra.Moments(np.eye(3), np.ones(3), 5),) * 2
      print('asking', flush=True)
      print(moments.cached(sys.argv[1], b'key', 3, make)[1].count)
      """ % conftest.ROOT
  one, other = (subprocess.Popen(
      [sys.executable, '-c', code, str(tmp_path), 'made by %d' % number],
      stdout=subprocess.PIPE, bufsize=0) for number in (1, 2))
  for each in (one, other):   # Unbuffered, so that select sees what follows.
    assert each.stdout.readline() == b'asking\n'
  ready = selectors.DefaultSelector()
  for each in (one, other):
    ready.register(each.stdout, selectors.EVENT_READ)
  (key, _), = ready.select()   # The one that waits says so.
  assert key.fileobj.readline().startswith(b'Waiting for process ')
  (tmp_path / 'go').touch()
  for each in (one, other):
    assert each.communicate()[0].endswith(b'5\n') and each.returncode == 0
  assert len(list(tmp_path.glob('made by *'))) == 1
