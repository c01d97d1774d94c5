"""Patches cut by hand, their moments, and the file that keeps them."""
import selectors
import subprocess
import sys
import weakref

import conftest
import numpy as np
import tensorflow.compat.v1 as tf
from test_algebra import moments_of
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


def test_sums_of_blocks_are_those_of_all_rows(monkeypatch):
  """In float32 and blocks: near the sums in float64; of two readers at once."""
  monkeypatch.setattr(moments, 'BLOCK', 64)
  generator = np.random.default_rng(0)
  batches = [{'a': abs(generator.normal(size=[30, 6])).astype(np.float32),
              'b': generator.normal(size=[10, 3]).astype(np.float32)}
             for _ in range(9)]
  found = moments.fit_and_check(batches, {'a': 2, 'b': 3})
  for reader, held_back, columns in (('a', 3, [0, 2, 4, 1, 3, 5]),
                                     ('b', 1, [0, 1, 2])):
    parts = [np.concatenate([each[reader][rows] for each in batches])
             for rows in (np.s_[held_back:], np.s_[:held_back])]
    for part, rows in zip(found[reader], parts):
      expected = moments_of(np.float64(rows[:, columns]))
      assert part.count == len(rows) and part.second.dtype == np.float64
      np.testing.assert_allclose(part.first, expected.first, rtol=1e-6)
      np.testing.assert_allclose(part.second, expected.second, rtol=0,
                                 atol=1e-6 * np.abs(expected.second).max())


def test_rows_that_are_summed_up_are_let_go(monkeypatch):
  monkeypatch.setattr(moments, 'BLOCK', 64)
  made = []
  def batches():
    for _ in range(20):
      rows = np.ones([30, 2], np.float32)
      made.append(weakref.ref(rows))
      yield rows
      del rows   # Two wait, and one is in the hands of who adds them.
      assert sum(each() is not None for each in made) <= 3
  assert moments.second_moments(batches()).count == 600


def test_a_file_of_moments_is_used_where_key_and_shapes_are_right(tmp_path):
  made = []
  def make(readers):
    generator = np.random.default_rng(len(made))
    made.append({reader: tuple(moments_of(generator.normal(size=[9 + part, 4]))
                               for part in (0, 1)) for reader in readers})
    return made[-1]
  def same(pairs, wanted):
    return all(np.array_equal(one, other)
               for two in zip(pairs, wanted) for one, other in zip(*two))
  def read(key):
    return moments.cached(str(tmp_path), {'x': (key, 4)}, make)['x']
  long_key = bytes(100)
  assert same(read(long_key + b'a'), made[0]['x']) and len(made) == 1
  path, = tmp_path.glob('*.bin')
  assert same(read(long_key + b'a'), made[0]['x']) and len(made) == 1
  assert same(read(long_key + b'b'), made[1]['x']) and len(made) == 2
  other, = set(tmp_path.glob('*.bin')) - {path}
  whole = path.read_bytes()
  for changed in (other.read_bytes(),   # Whole, but of another key.
                  whole[:-8], whole + bytes(8), b'',
                  *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:]
                    for at in range(0, len(whole), 7))):
    path.write_bytes(changed)
    count = len(made)
    assert same(read(long_key + b'a'), made[-1]['x'])
    assert len(made) == count + 1
  # Of several, in their order, those that are missing are made at once.
  wanted = {name: (long_key + name.encode(), 4) for name in 'cab'}
  found = moments.cached(str(tmp_path), wanted, make)
  assert list(made[-1]) == ['c'] and list(found) == list(wanted)
  assert same(found['b'], made[1]['x']) and same(found['c'], made[-1]['c'])


def test_one_program_makes_the_moments_and_the_other_waits(tmp_path):
  """Two processes ask at the same time; make leaves a mark, and takes long."""
  code = """if True:
      import sys, time, pathlib
      sys.path.insert(0, %r)
      import numpy as np
      from thinet import algebra, moments
      def make(readers):
        folder = pathlib.Path(sys.argv[1])
        (folder / sys.argv[2]).touch()
        while not (folder / 'go').exists():
          time.sleep(0.05)
        return {'x': (algebra.Moments(np.eye(3), np.ones(3), 5),) * 2}
      print('asking', flush=True)
      print(moments.cached(sys.argv[1], {'x': (b'key', 3)},
                           make)['x'][1].count)
      """ % conftest.ROOT
  programs = [subprocess.Popen(   # Unbuffered, so that select sees each line.
      [sys.executable, '-c', code, str(tmp_path), 'made by %d' % number],
      stdout=subprocess.PIPE, bufsize=0) for number in (1, 2)]
  ready = selectors.DefaultSelector()
  for each in programs:
    assert each.stdout.readline() == b'asking\n'
    ready.register(each.stdout, selectors.EVENT_READ)
  said = ready.select(60)
  (tmp_path / 'go').touch()   # Without which they would never end.
  (key, _), = said            # The one that waits says so.
  assert key.fileobj.readline().startswith(b'Waiting for ')
  for each in programs:
    assert each.communicate()[0].endswith(b'5\n') and each.returncode == 0
  assert len(list(tmp_path.glob('made by *'))) == 1
