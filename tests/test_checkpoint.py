"""Checkpoints that were cut, changed or taken from elsewhere."""
import os
import shutil
import subprocess

from thinet import checkpoint
from thinet import files
import cifar10
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from thinet.checkpoint import CheckpointError


def network(width):
  return dict(conftest.drawn(cifar10.Widths(width), seed=width),
              global_step=np.int64(7))


def test_what_is_saved_is_read_back_also_from_another_place(tmp_path):
  arrays, settings = network(5), {'seed': 3, 'parent': {'rate': 0.5}}
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
  prefix = str(tmp_path / 'model.ckpt-0')
  with pytest.raises(checkpoint.DamagedError,
                     match='is (damaged|incomplete)') as fault:
    checkpoint.read(prefix, cifar10.shapes_like)
  assert prefix in str(fault.value)


def drop_bias(arrays):
  del arrays['local3/biases']

def drop_average(arrays):
  del arrays['conv2/weights' + checkpoint.AVERAGE]

def reshape(arrays):
  arrays['conv2/weights'] = np.zeros([5, 5, 6, 64], np.float32)

def drop_all(arrays):
  arrays.clear()
  arrays['x'] = np.float32(0)

def retype(arrays):
  arrays['conv1/weights'] = arrays['conv1/weights'].astype(np.float64)

def word(arrays):
  arrays['local4/biases' + checkpoint.AVERAGE] = np.asarray(b'?')

def step_of_two(arrays):
  arrays['global_step'] = np.int64([1, 2])

def step_below(arrays):
  arrays['global_step'] = np.int64(-1)

def of_no_width(arrays):
  for name in list(arrays):
    if name.startswith('conv1/'):
      arrays[name] = arrays[name][..., :0]
    if name.startswith('conv2/weights'):
      arrays[name] = arrays[name][:, :, :0]

def step_between(arrays):
  arrays['global_step'] = np.float64(0.5)

@pytest.mark.parametrize('change, words', [
    (drop_bias, 'lacks local3/biases'),
    (drop_average, 'lacks conv2/weights/ExponentialMovingAverage'),
    (reshape, r'conv2/weights of type float32 and shape \[5, 5, 6, 64\], '
              r'expected float32 and \[5, 5, 5, 64\]'),
    (drop_all, 'lacks conv1/weights'),
    (retype, r'conv1/weights of type float64 .* expected float32'),
    (word, 'local4/biases/ExponentialMovingAverage of type .S1'),
    (of_no_width, 'conv1/weights of type float32 and shape'),
    (step_of_two, 'has global_step'), (step_below, 'has global_step'),
    (step_between, 'has global_step')])
def test_another_network_is_refused(tmp_path, change, words):
  arrays = network(5)
  change(arrays)
  checkpoint.save(str(tmp_path), arrays, {})
  with pytest.raises(CheckpointError, match=words):
    conftest.newest(tmp_path)


def test_the_newest_checkpoint_is_that_of_the_highest_step(tmp_path):
  """Ordered by number, not by letter; whatever the state file says."""
  def steps():
    return [os.path.basename(path) for path in checkpoint.paths(str(tmp_path))]
  for step in (9, 1000, 20):
    (tmp_path / ('model.ckpt-%d.index' % step)).write_text('')
  assert steps() == ['model.ckpt-1000', 'model.ckpt-20', 'model.ckpt-9']
  for name in ('model.ckpt-%s.index' % ('9' * 5000)[:200], 'model.ckpt-x.index',
               'model.ckpt-3.index.tempstate', 'xmodel.ckpt-3.index'):
    (tmp_path / name).write_text('')
  (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-8"')
  assert steps() == ['model.ckpt-1000', 'model.ckpt-20', 'model.ckpt-9']


@pytest.mark.parametrize('text', [
    'x', '[]', 'null', '3', '{"seed": [1]}', '{"seed": null}',
    '{"seed": %s}' % ('9' * 400), '{"parent": {"rate": 1e999}}',
    '{"a": NaN}', '[' * 100000, b'\xff', '{"seed": {"a": 1}}',
    '{"criterion": "\\ud800"}', '{"parent": 3}'], ids=range(14))
def test_settings_that_no_program_writes_are_refused(tmp_path, monkeypatch,
                                                     text):
  monkeypatch.setattr(checkpoint.json, 'dumps', lambda settings: (
      type('Text', (), {'encode': lambda self: text if isinstance(text, bytes)
                        else text.encode()})()))
  checkpoint.save(str(tmp_path), network(5), {})
  monkeypatch.undo()
  with pytest.raises(CheckpointError, match='settings that cannot be read'):
    conftest.newest(tmp_path)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_what_is_not_finite_is_neither_saved_nor_read(tmp_path, monkeypatch,
                                                      value):
  arrays = network(5)
  arrays['local3/biases'][7] = value
  with pytest.raises(CheckpointError, match='not finite in local3/biases; it '):
    checkpoint.save(str(tmp_path), arrays, {})
  assert not os.listdir(tmp_path)
  monkeypatch.setattr(checkpoint, 'not_finite', lambda arrays: None)
  checkpoint.save(str(tmp_path), arrays, {})
  monkeypatch.undo()
  with pytest.raises(CheckpointError, match='are not finite, in local3/biases'):
    conftest.newest(tmp_path)


def test_folders_are_names_and_no_patterns(tmp_path):
  """To TensorFlow's own functions, `a[b]` is `ab`, and `r?` is also `rx`."""
  for name in ('a[b]', 'r?', '*', 'rx', '\\'):
    os.mkdir(tmp_path / name)
    for step in range(4):
      checkpoint.save(str(tmp_path / name), dict(
          network(5), global_step=np.int64(step)), {'name': name}, step, keep=2)
  for name in ('a[b]', 'r?', '*', 'rx', '\\'):
    found = checkpoint.read_newest(str(tmp_path / name), cifar10.shapes_like)
    assert found.settings == {'name': name}
    assert found.arrays['global_step'] == 3
    assert sorted(os.listdir(tmp_path / name)) == sorted(['checkpoint'] + [
        'model.ckpt-%d.%s' % (step, part) for step in (2, 3)
        for part in ('index', 'data-00000-of-00001')])
  # For other programs.
  assert tf.train.latest_checkpoint(str(tmp_path / 'rx')) == (
      str(tmp_path / 'rx' / 'model.ckpt-3'))
  assert tf.train.get_checkpoint_state(
      str(tmp_path / 'rx')).all_model_checkpoint_paths == [
          str(tmp_path / 'rx' / ('model.ckpt-%d' % step)) for step in (2, 3)]


def test_a_checkpoint_is_on_the_disk_before_the_state_file_names_it(
    tmp_path, monkeypatch):
  happened = []
  fsync, replace = os.fsync, os.replace
  monkeypatch.setattr(os, 'fsync', lambda descriptor: (happened.append(
      os.path.basename(os.readlink('/proc/self/fd/%d' % descriptor))),
                                                       fsync(descriptor)))
  monkeypatch.setattr(os, 'replace', lambda old, new: (
      happened.append(os.path.basename(new)), replace(old, new)))
  monkeypatch.setattr(os, 'unlink', lambda path: happened.append('unlink'))
  checkpoint.save(str(tmp_path), network(5), {}, step=1)
  happened.clear()
  checkpoint.save(str(tmp_path), network(5), {}, step=2)
  named = happened.index('checkpoint')
  for name in ('model.ckpt-2.index', 'model.ckpt-2.data-00000-of-00001',
               tmp_path.name):
    assert name in happened[:named]
  assert 'unlink' not in happened[:named] and 'unlink' in happened[named:]


def test_a_checkpoint_of_a_later_step_is_not_removed(tmp_path):
  for step in (9, 1, 2):
    checkpoint.save(str(tmp_path), network(5), {}, step=step)
  assert [os.path.basename(path) for path in checkpoint.paths(str(tmp_path))
          ] == ['model.ckpt-9', 'model.ckpt-2']


def test_a_good_checkpoint_beside_a_bad_one_is_found(tmp_path, capsys):
  for step in (1, 2, 3):
    checkpoint.save(str(tmp_path), network(5), {'step': step}, step, keep=3)
    (tmp_path / ('model.ckpt-%d.index' % step)).write_bytes(b'')
  checkpoint.save(str(tmp_path), network(5), {'step': 1}, 1, keep=3)
  path, _, settings = conftest.newest(tmp_path)
  assert path.endswith('model.ckpt-1') and settings == {'step': 1}
  for line, step in zip(capsys.readouterr().err.splitlines(), (3, 2),
                        strict=True):
    assert 'model.ckpt-%d is damaged' % step in line
    assert line.endswith('; taking %s.' % path)
  os.unlink(tmp_path / 'model.ckpt-1.data-00000-of-00001')
  with pytest.raises(CheckpointError,
                     match='-3 is damaged .*with: the command that made it'):
    conftest.newest(tmp_path)
  files.write_json(str(tmp_path / 'run.json'), {'command': 'python x.py --y'})
  with pytest.raises(CheckpointError, match='again with: python x.py --y'):
    conftest.newest(tmp_path)


def test_a_checkpoint_that_a_training_removes_is_not_called_damaged(
    tmp_path, monkeypatch, capsys):
  """It saves the next one, and removes this one while it is read."""
  path = checkpoint.save(str(tmp_path), network(5), {'step': 1}, 1)
  digest = checkpoint.digest
  def digest_and_remove(name):
    found = digest(name)
    if name == path:
      checkpoint.save(str(tmp_path), network(5), {'step': 2}, 2)
    return found
  monkeypatch.setattr(checkpoint, 'digest', digest_and_remove)
  assert conftest.newest(tmp_path)[2] == {'step': 2}
  assert capsys.readouterr().err == ''


def test_damaged_checkpoints_are_moved_aside(tmp_path, capsys):
  for _ in range(2):
    checkpoint.save(str(tmp_path), network(5), {}, 2)
    (tmp_path / 'model.ckpt-2.index').write_bytes(b'bad')
    assert checkpoint.read_to_continue(str(tmp_path),
                                       cifar10.shapes_like) is None
  assert not checkpoint.paths(str(tmp_path))
  for number in '12':
    aside = tmp_path / 'damaged' / ('model.ckpt-2.' + number)
    assert (aside / 'model.ckpt-2.index').read_bytes() == b'bad'
    assert (aside / 'model.ckpt-2.data-00000-of-00001').stat().st_size > 10**6
    assert 'moved to %s' % aside in capsys.readouterr().err or number == '2'


@pytest.mark.parametrize('error, words', [
    (MemoryError(), 'Cannot allocate memory'),
    (tf.errors.UnknownError(None, None, 'x; Too many open files'), 'Too many'),
    (tf.errors.UnknownError(None, None, ''), 'Cannot allocate memory'),
    (OSError(5, 'Input/output error'), 'Input/output error')])
def test_short_of_something_nothing_is_called_damaged(tmp_path, monkeypatch,
                                                      error, words):
  checkpoint.save(str(tmp_path), network(5), {})
  def fail(name):
    raise error
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.tf, 'train', type('Train', (), {
        'NewCheckpointReader': staticmethod(fail)}), raising=False)
    with pytest.raises(CheckpointError, match='cannot be read .*' + words):
      checkpoint.read_to_continue(str(tmp_path), cifar10.shapes_like)
  assert conftest.newest(tmp_path)[0].endswith('model.ckpt-0')


def test_what_cannot_be_opened_is_not_called_damaged(tmp_path):
  checkpoint.save(str(tmp_path), network(5), {})
  os.unlink(tmp_path / 'model.ckpt-0.index')
  os.mkfifo(tmp_path / 'model.ckpt-0.index')
  for read in (checkpoint.read_newest, checkpoint.read_to_continue):
    with pytest.raises(CheckpointError, match='0 cannot be read .*regular'):
      read(str(tmp_path), cifar10.shapes_like)
  assert not os.path.exists(tmp_path / 'damaged')


def test_a_path_names_a_checkpoint_or_a_folder(tmp_path, monkeypatch):
  for step in (1, 2):
    checkpoint.save(str(tmp_path / 'x'), network(5), {'step': step}, step, 3)
  def named(name):
    return checkpoint.read_named(name, cifar10.shapes_like).settings['step']
  assert named(str(tmp_path / 'x')) == 2
  assert named(str(tmp_path / 'x' / 'model.ckpt-1')) == 1
  monkeypatch.chdir(tmp_path / 'x')
  assert named('model.ckpt-1.data-00000-of-00001') == 1
  os.mkdir('model.ckpt-1')   # The folder comes first.
  with pytest.raises(CheckpointError, match='holds no finished checkpoint, '
                                            'model.ckpt-STEP'):
    named('model.ckpt-1')
  with pytest.raises(CheckpointError, match='checkpoint model.ckpt-3 does not'):
    named('model.ckpt-3')
  for part in checkpoint.PARTS:
    os.rename('model.ckpt-1' + part, 'model.ckpt?' + part)
  with pytest.raises(CheckpointError, match='pattern; rename'):
    named('model.ckpt?')   # TensorFlow would not find it.
  os.unlink('model.ckpt-2.index')
  with pytest.raises(CheckpointError, match='index is missing; name another.'):
    named('model.ckpt-2')


def test_averages_are_asked_for_or_checked_where_they_are(tmp_path):
  arrays = network(5)
  drop_average(arrays)
  path = checkpoint.save(str(tmp_path), arrays, {})
  with pytest.raises(CheckpointError, match='lacks conv2/weights/Exp'):
    checkpoint.read(path, cifar10.shapes_like)
  assert checkpoint.read(path, cifar10.shapes_like, averaged=False)
  arrays['conv1/biases' + checkpoint.AVERAGE] = np.zeros(4, np.float32)
  path = checkpoint.save(str(tmp_path), arrays, {})
  with pytest.raises(CheckpointError, match='expected float32'):
    checkpoint.read(path, cifar10.shapes_like, averaged=False)


def test_averages_go_by_the_names_of_their_weights():
  arrays = network(5)
  found = conftest.averages(arrays)
  assert found.keys() == cifar10.weight_shapes().keys()
  for name, value in found.items():
    assert value is arrays[name + '/ExponentialMovingAverage']


def test_folders_without_checkpoint(tmp_path):
  with pytest.raises(CheckpointError, match='does not exist'):
    conftest.newest(str(tmp_path / 'none'))
  with pytest.raises(CheckpointError, match='holds no finished checkpoint'):
    conftest.newest(tmp_path)


@pytest.mark.skipif(not shutil.which('git'), reason='there is no git')
def test_a_repository_above_the_sources_is_not_theirs(tmp_path, monkeypatch):
  for command in (['init'], ['-c', 'user.name=a', '-c', 'user.email=b',
                             'commit', '--allow-empty', '--message=c']):
    subprocess.run(['git', *command], cwd=tmp_path, check=True)
  for root, digits in ((tmp_path, 40), (tmp_path / 'inner', 0)):
    root.mkdir(exist_ok=True)
    monkeypatch.setattr(checkpoint, '__file__', str(root / 'thinet' / 'x.py'))
    assert len(checkpoint.git_commit.__wrapped__() or '') == digits


def test_other_settings_are_refused_with_both_values():
  checkpoint.require_same('f', {'seed': 1}, {'seed': 1})
  with pytest.raises(CheckpointError,
                     match='f was made by a version .* other images from the '
                           'same seed; name another folder'):
    checkpoint.require_same('f', {'seed': 1}, {'seed': 1, 'random_streams': 2})
  with pytest.raises(CheckpointError, match='f holds a network that these'):
    checkpoint.require_same('f', {}, {'random_streams': 2})
  with pytest.raises(CheckpointError, match='f was made with seed = 1, not 2'):
    checkpoint.require_same('f', {'seed': 1}, {'seed': 2})
  for name, words in [('data_digest', 'other images than --data_dir has now'),
                      ('parent', 'another network, or other weights, than'),
                      ('parent_digest', 'or other weights, than --ch')]:
    with pytest.raises(CheckpointError, match=words):
      checkpoint.require_same('f', {name: 'a', 'x': 1}, {name: 'b', 'x': 1})
  with pytest.raises(CheckpointError, match='x = 1, not 2'):
    checkpoint.require_same('f', {'data_digest': 'a', 'x': 1},
                            {'data_digest': 'b', 'x': 2})
  with pytest.raises(CheckpointError, match='made with schedule = fast; name'):
    checkpoint.require_same('f', {'seed': 1, 'schedule': 'fast'}, {'seed': 1})
