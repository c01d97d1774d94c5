"""Draws a small data set in CIFAR-10's binary format: ten kinds of shape.

  python tests/demo_data.py data/demo

A few thousand images of 32x32, about 20 MB. Place, size, colours, slant of the
light and noise are random, so that the class shows only in the shape; all
shapes are their own mirror images, so that flips do not change the class.
"""
import os
import secrets
import shutil
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from thinet import files

import numpy as np

FOLDER = 'cifar-10-batches-bin'
FILES = ['data_batch_%d.bin' % i for i in range(1, 6)] + ['test_batch.bin']
NAMES = ['disc', 'ring', 'square', 'frame', 'triangle', 'plus', 'cross',
         'rows', 'columns', 'checks']


def draw(label, generator):
  """Draws one image.

  Args:
    label: class, index into NAMES.
    generator: NumPy random generator.

  Returns:
    uint8 [3, 32, 32].
  """
  size = generator.uniform(6, 11)
  y, x = np.mgrid[:32, :32] - generator.uniform(10, 21, 2)[:, None, None]
  u, v = x / size, y / size
  radius, box = np.hypot(u, v), np.maximum(abs(u), abs(v))
  period = generator.uniform(1.5, 2.5)
  waves = [np.sin(np.pi * w / period + generator.uniform(0, 6)) > 0
           for w in (x, y)]
  shape = [radius < 1, (radius < 1) & (radius > 0.6), box < 0.9,
           (box < 0.9) & (box > 0.55), (v < 0.8) & (abs(u) < (v + 1) / 1.8),
           (box < 1) & (np.minimum(abs(u), abs(v)) < 0.25),
           (box < 0.9) & (abs(abs(u) - abs(v)) < 0.3),
           (box < 1) & waves[1], (box < 1) & waves[0],
           (box < 1) & (waves[0] ^ waves[1])][label]
  back, front = generator.uniform(40, 215, (2, 3))
  front += np.where(front > back, 1, -1) * 25      # Never the same colour.
  light = np.tensordot(generator.uniform(-1, 1, (3, 2)) * 1.5,
                       np.stack([x, y]), 1)
  image = np.where(shape, front[:, None, None], back[:, None, None]) + light
  image += generator.normal(0, generator.uniform(10, 45), image.shape)
  return np.clip(image, 0, 255).astype(np.uint8)


def write(folder, images_per_file=1000, seed=0):
  """Writes the data files, with the classes in turn; they appear together.

  Args:
    folder: folder in which cifar-10-batches-bin is made.
    images_per_file: records in each file.
    seed: integer; the same seed gives the same bytes.

  Raises:
    OSError: the folder cannot be written to.
  """
  # Named before it is made, so that a signal at any moment leaves nothing.
  part = os.path.join(folder, '.demo-' + secrets.token_hex(8))
  generator = np.random.default_rng(seed)
  try:
    files.make_folder(part)
    for name in FILES:
      records = [bytes([i % 10]) + draw(i % 10, generator).tobytes()
                 for i in range(images_per_file)]
      files.write(os.path.join(part, name), b''.join(records))
    files.write(os.path.join(part, 'batches.meta.txt'),
                ''.join(name + '\n' for name in NAMES).encode())
    try:
      os.rename(part, os.path.join(folder, FOLDER))
    except OSError:
      if not os.path.isdir(os.path.join(folder, FOLDER)):
        raise   # Else another process was faster.
    files.sync(folder)
  finally:
    shutil.rmtree(part, ignore_errors=True)


def main(arguments):
  if len(arguments) != 1 or arguments[0].startswith('-'):
    sys.exit('usage: python tests/demo_data.py FOLDER')
  folder, = arguments
  for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: sys.exit(128 + number))
  try:
    inside = os.path.join(folder, FOLDER)
    place = inside if os.path.lexists(inside) else folder
    lacks = [name for name in FILES
             if not os.path.lexists(os.path.join(place, name))]
    if place == folder and lacks == FILES:
      write(folder)
    elif lacks:
      sys.exit('Folder %s lacks %s; move it away, or name another.' % (
          place, lacks[0]))
  except OSError as error:
    sys.exit('Folder %s cannot be written to (%s); make room there, or name '
             'another.' % (folder, error.strerror))
  except KeyboardInterrupt:
    sys.exit(128 + signal.SIGINT)


if __name__ == '__main__':
  main(sys.argv[1:])
