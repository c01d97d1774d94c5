"""A full disk: a clear error, nothing lost, and the same command finishes."""
import json
import os

from thinet import checkpoint
import conftest
from test_cifar10_train import assert_same, train


def full(command, folder, largest_file):
  code, output, errors = conftest.run(*command, largest_file=largest_file)
  assert code == 1
  last = errors.splitlines()[-1]
  assert 'Folder %s cannot be written to (File too large)' % folder in last
  return output


def test_training(tmp_path, data_dir, trained):
  for largest_file in (100,      # run.json fails.
                       20000,    # The events fail, then the checkpoint.
                       10**6):   # The checkpoint fails.
    full(train(tmp_path, data_dir), tmp_path, largest_file)
    assert checkpoint.paths(str(tmp_path)) == []
  code, _, _ = conftest.run(*train(tmp_path, data_dir))
  assert code == 0
  assert_same(tmp_path, trained)


def test_earlier_checkpoints_are_kept(tmp_path, data_dir, trained):
  assert conftest.run(*train(tmp_path, data_dir, 20))[0] == 0
  full(train(tmp_path, data_dir), tmp_path, 10**6)
  assert int(conftest.newest(tmp_path)[1]['global_step']) == 20
  assert conftest.run(*train(tmp_path, data_dir))[0] == 0
  assert_same(tmp_path, trained)


def test_compression_and_evaluation(tmp_path, data_dir, trained):
  slim = tmp_path / 'slim'
  compress = ('thinet_compress.py', '--data_dir=' + data_dir,
              '--checkpoint_dir=' + trained, '--output_dir=%s' % slim,
              '--conv1_channels=5', '--num_images=200')
  for largest_file in (10**6, 10**3):
    full(compress, slim, largest_file)
    assert not os.path.exists(slim / 'compress.json')
  assert conftest.run(*compress)[0] == 0
  evaluate = ('cifar10_eval.py', '--data_dir=' + data_dir,
              '--checkpoint_dir=%s' % slim)
  for largest_file in (10, 150):
    output = full(evaluate, slim, largest_file)
    assert 'precision @ 1' in output   # The result is seen, if not kept.
    assert not os.path.exists(slim / 'eval.json')
  assert conftest.run(*evaluate)[0] == 0
  assert json.load(open(slim / 'eval.json'))['conv1_channels'] == 5
