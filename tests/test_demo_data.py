"""The drawn data are in the official format and the same for the same seed."""
import os

import cifar10_input
import demo_data
import numpy as np


def test_format_and_seed(tmp_path):
  for name, seed in (('a', 0), ('b', 0), ('c', 1)):
    demo_data.write(str(tmp_path / name), images_per_file=20, seed=seed)
  def content(name, file):
    return (tmp_path / name / cifar10_input.FOLDER / file).read_bytes()
  folder = str(tmp_path / 'a' / cifar10_input.FOLDER)
  assert cifar10_input.verify(
      cifar10_input.data_files(folder, 'train_eval'))[0] == 100
  assert cifar10_input.verify(cifar10_input.data_files(folder, 'test'))[0] == 20
  files = os.listdir(folder)
  assert len(files) == 6
  assert len({content('a', file) for file in files}) == 6
  for file in files:
    assert content('a', file) == content('b', file) != content('c', file)
    labels = np.frombuffer(content('a', file), np.uint8)[::3073]
    assert np.bincount(labels).tolist() == [2] * 10
