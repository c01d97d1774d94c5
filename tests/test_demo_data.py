"""The drawn data are in the official format and the same for the same seed."""
import os
import signal
import subprocess
import sys
import time

import conftest
import cifar10_input
import demo_data
import numpy as np
import pytest


def test_format_and_seed(tmp_path):
  for name, seed in (('a', 0), ('b', 0), ('c', 1)):
    demo_data.write(str(tmp_path / name), images_per_file=20, seed=seed)
  def content(name, file):
    return (tmp_path / name / cifar10_input.FOLDER / file).read_bytes()
  folder = str(tmp_path / 'a' / cifar10_input.FOLDER)
  assert cifar10_input.verify(
      cifar10_input.data_files(folder, 'train_eval'))[0] == 100
  assert cifar10_input.verify(cifar10_input.data_files(folder, 'test'))[0] == 20
  names = cifar10_input.class_names(folder)
  assert names == demo_data.NAMES and len(set(names)) == 10
  files = set(os.listdir(folder)) - {'batches.meta.txt'}
  assert len(files) == 6
  assert len({content('a', file) for file in files}) == 6
  for file in files:
    assert content('a', file) == content('b', file) != content('c', file)
    labels = np.frombuffer(content('a', file), np.uint8)[::3073]
    assert np.bincount(labels).tolist() == [2] * 10


def process(folder):
  return subprocess.Popen(
      [sys.executable, os.path.join(conftest.ROOT, 'tests', 'demo_data.py'),
       str(folder)], stderr=subprocess.PIPE, text=True)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
  (tmp_path / 'file').touch()
  started = process(tmp_path / 'file' / 'x')
  _, errors = started.communicate()
  assert started.returncode == 1
  assert errors == ('Folder %s cannot be written to (Not a directory); make '
                    'room there, or name another.\n' % (
                        tmp_path / 'file' / 'x'))


@pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGINT,
                                    signal.SIGTERM, signal.SIGUSR1])
def test_stopped_it_leaves_nothing_and_no_traceback(tmp_path, number):
  started = process(tmp_path)
  while not os.listdir(tmp_path):
    time.sleep(0.001)
  started.send_signal(number)
  _, errors = started.communicate()
  assert (started.returncode, errors) == (128 + number, '')
  assert os.listdir(tmp_path) == []


def test_two_at_once_make_one(tmp_path, monkeypatch):
  """The other one is faster by the last file."""
  written = demo_data.files.write
  def slow(path, content):
    written(path, content)
    if not (tmp_path / cifar10_input.FOLDER).exists():
      with monkeypatch.context() as patch:
        patch.setattr(demo_data.files, 'write', written)
        demo_data.write(str(tmp_path), 10)
  monkeypatch.setattr(demo_data.files, 'write', slow)
  demo_data.write(str(tmp_path), 10)
  assert os.listdir(tmp_path) == [cifar10_input.FOLDER]


@pytest.mark.parametrize('name', ['test_batch.bin', cifar10_input.FOLDER])
def test_data_that_are_there_stay_as_they_are(tmp_path, name):
  (tmp_path / name).touch()
  with pytest.raises(SystemExit, match='lacks data_batch_[12].bin; move it'):
    demo_data.main([str(tmp_path)])
  assert os.listdir(tmp_path) == [name]
