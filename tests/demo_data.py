"""Draws a small data set in CIFAR-10's binary format: ten kinds of shape.

  python tests/demo_data.py data/demo

A few thousand images of 32x32, about 20 MB. Place, size, colours, slant of the
light and noise are random, so that the class shows only in the shape; all
shapes are their own mirror images, so that flips do not change the class.
"""
import os
import sys

import numpy as np

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
  """Writes the six files, with the classes in turn.

  Args:
    folder: folder in which cifar-10-batches-bin is made.
    images_per_file: records in each file.
    seed: integer; the same seed gives the same bytes.
  """
  folder = os.path.join(folder, 'cifar-10-batches-bin')
  part = folder + '.part'
  os.makedirs(part, exist_ok=True)
  generator = np.random.default_rng(seed)
  for name in FILES:
    records = [bytes([i % 10]) + draw(i % 10, generator).tobytes()
               for i in range(images_per_file)]
    with open(os.path.join(part, name), 'wb') as target:
      target.write(b''.join(records))
  os.rename(part, folder)


if __name__ == '__main__':
  if len(sys.argv) != 2:
    sys.exit('usage: python tests/demo_data.py FOLDER')
  if not os.path.exists(os.path.join(sys.argv[1], 'cifar-10-batches-bin')):
    write(sys.argv[1])
