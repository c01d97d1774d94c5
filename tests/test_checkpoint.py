"""Checkpoints that were cut, changed or taken from elsewhere; the lock."""
import json
import os
import shutil
import subprocess
import sys

from thinet import checkpoint
import cifar10
import conftest
import numpy as np
import pytest
from thinet.checkpoint import CheckpointError


def network(width):
  generator = np.random.default_rng(width)
  arrays = {name + suffix: generator.normal(size=shape).astype(np.float32)
            for name, shape in cifar10.weight_shapes(width).items()
            for suffix in ('', checkpoint.AVERAGE)}
  return dict(arrays, global_step=np.int64(7))


def test_what_is_saved_is_read_back_also_from_another_place(tmp_path):
  arrays, settings = network(5), {'seed': 3, 'parent': {'kept': [1, 2]}}
  os.mkdir(tmp_path / 'here')
  checkpoint.save(str(tmp_path / 'here'), arrays, settings)
  shutil.move(tmp_path / 'here', tmp_path / 'there')
  path, found, how = conftest.newest(str(tmp_path / 'there'))
  assert path == str(tmp_path / 'there' / 'model.ckpt-0') and how == settings
  assert found.keys() == arrays.keys()
  for name, value in arrays.items():
    assert found[name].dtype == value.dtype
    assert found[name].tobytes() == value.tobytes()


@pytest.mark.parametrize('part', ['index', 'data-00000-of-00001'])
@pytest.mark.parametrize('damage', ['cut', 'flip', 'empty', 'missing'])
def test_damage_is_noticed_and_named(tmp_path, part, damage):
  checkpoint.save(str(tmp_path), network(5), {})
  path = tmp_path / ('model.ckpt-0.' + part)
  content = bytearray(path.read_bytes())
  if damage == 'flip':
    content[len(content) // 3] ^= 16
  path.write_bytes({'cut': content[:len(content) // 2], 'flip': content,
                    'empty': b'', 'missing': b''}[damage])
  if damage == 'missing':
    path.unlink()
  with pytest.raises(CheckpointError, match='damaged or incomplete') as fault:
    conftest.newest(tmp_path)
  assert str(tmp_path / 'model.ckpt-0') in str(fault.value)


def drop_bias(arrays):
  del arrays['local3/biases']

def drop_average(arrays):
  del arrays['conv2/weights' + checkpoint.AVERAGE]

def reshape(arrays):
  arrays['conv2/weights'] = np.zeros([5, 5, 6, 64], np.float32)

def drop_all(arrays):
  arrays.clear()
  arrays['x'] = np.float32(0)

@pytest.mark.parametrize('change, words', [
    (drop_bias, 'lacks local3/biases'),
    (drop_average, 'lacks conv2/weights/ExponentialMovingAverage'),
    (reshape, r'conv2/weights of shape \[5, 5, 6, 64\], expected '
              r'\[5, 5, 5, 64\]'),
    (drop_all, 'lacks conv1/weights')])
def test_another_network_is_refused(tmp_path, change, words):
  arrays = network(5)
  change(arrays)
  checkpoint.save(str(tmp_path), arrays, {})
  with pytest.raises(CheckpointError, match=words):
    conftest.newest(tmp_path)


def test_the_newest_checkpoint_is_that_of_the_highest_step(tmp_path):
  """Ordered by number, not by letter; from the state file, if there is one."""
  def steps():
    return [os.path.basename(path)
            for path in checkpoint.finished(str(tmp_path))]
  for step in (9, 1000, 20):
    (tmp_path / ('model.ckpt-%d.index' % step)).write_text('')
  assert steps() == ['model.ckpt-1000', 'model.ckpt-20', 'model.ckpt-9']
  (tmp_path / 'checkpoint').write_text(
      'model_checkpoint_path: "model.ckpt-20"\n'
      'all_model_checkpoint_paths: "model.ckpt-9"\n'
      'all_model_checkpoint_paths: "model.ckpt-20"\n')
  assert steps() == ['model.ckpt-20', 'model.ckpt-9']


def test_averages_go_by_the_names_of_their_weights():
  arrays = network(5)
  found = checkpoint.averages(arrays)
  assert found.keys() == cifar10.weight_shapes(5).keys()
  for name, value in found.items():
    assert value is arrays[name + '/ExponentialMovingAverage']


def test_folders_without_checkpoint(tmp_path):
  with pytest.raises(CheckpointError, match='does not exist'):
    conftest.newest(str(tmp_path / 'none'))
  with pytest.raises(CheckpointError, match='holds no finished checkpoint'):
    conftest.newest(tmp_path)


def test_json_is_written_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'x.json'
  checkpoint.write_json(str(path), {'b': [1, 2], 'a': {'c': 'ä'}})
  assert json.loads(path.read_text()) == {'b': [1, 2], 'a': {'c': 'ä'}}
  with pytest.raises(TypeError):
    checkpoint.write_json(str(path), {'b': object()})
  assert json.loads(path.read_text())['b'] == [1, 2]
  assert os.listdir(tmp_path) == ['x.json']


def test_one_holder_at_a_time_and_the_dead_do_not_hold(tmp_path):
  code = ('import sys; sys.path.insert(0, %r); from thinet import checkpoint; '
          'lock = checkpoint.hold(%r); print("held", flush=True); input()' % (
              conftest.ROOT, str(tmp_path)))
  holder = subprocess.Popen([sys.executable, '-c', code], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
  assert holder.stdout.readline() == 'held\n'
  with pytest.raises(CheckpointError,
                     match='in use by process %d;' % holder.pid):
    checkpoint.hold(str(tmp_path))
  holder.kill()
  holder.communicate()
  checkpoint.hold(str(tmp_path)).close()
  (tmp_path / 'file').write_text('')
  with pytest.raises(CheckpointError, match='cannot be used'):
    checkpoint.hold(str(tmp_path / 'file'))


def test_other_settings_are_refused_with_both_values():
  checkpoint.require_same('f', {'seed': 1}, {'seed': 1})
  with pytest.raises(CheckpointError,
                     match='f was made by a version .* other images from the '
                           'same seed; name another folder'):
    checkpoint.require_same('f', {'seed': 1}, {'seed': 1, 'random_streams': 2})
  with pytest.raises(CheckpointError, match='f was made with seed = 1, not 2'):
    checkpoint.require_same('f', {'seed': 1}, {'seed': 2})
  with pytest.raises(CheckpointError, match='schedule = fast, not None'):
    checkpoint.require_same('f', {'seed': 1, 'schedule': 'fast'}, {'seed': 1})
