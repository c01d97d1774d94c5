"""Evaluation against a count in NumPy, and as a process."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys

from thinet import checkpoint
from thinet import files
import cifar10
import cifar10_eval
import cifar10_input
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorboard.backend.event_processing import event_accumulator


def drawn(width):
  return conftest.drawn(cifar10.Widths(width))


@pytest.mark.parametrize('weights', ['averaged', 'raw'])
@pytest.mark.parametrize('eval_data, examples', [('test', 100),
                                                 ('train_eval', 500)])
@pytest.mark.parametrize('batch_size', [7, 50])   # A short last batch, or none.
def test_counts_equal_numpys(flags, data_dir, weights, eval_data, examples,
                             batch_size):
  flags(data_dir=data_dir, batch_size=batch_size)
  arrays = drawn(12)
  *counts, latency = cifar10_eval.eval_once(arrays, examples, eval_data,
                                            weights)
  suffix = checkpoint.AVERAGE if weights == 'averaged' else ''
  with tf.Graph().as_default(), tf.Session() as session:
    images, labels = cifar10_input.inputs(
        eval_data, os.path.join(data_dir, cifar10_input.FOLDER), 1000,
        tf.constant(0, tf.int64))
    logits = cifar10.inference(images, cifar10.Widths(12))
    session.run(tf.local_variables_initializer())
    checkpoint.assign(session, {var: arrays[var.op.name + suffix]
                                for var in tf.trainable_variables()})
    logits, labels = session.run([logits, labels])
  ranks = (logits > logits[range(examples), labels][:, None]).sum(1)
  assert counts == [(ranks < 1).sum(), (ranks < 5).sum(), examples]
  assert latency > 0


@pytest.mark.parametrize('more, name', [
    ({}, 'eval.json'), ({'weights': 'raw'}, 'eval_test_raw.json'),
    ({'eval_data': 'train_eval'}, 'eval_train_eval.json')])
def test_report_by_hand(tmp_path, flags, capsys, more, name):
  """A compressed network that took 1.5 s gets 85 and 99 of 200 images right."""
  flags(**more)
  files.write_json(str(tmp_path / 'compress.json'),
                   {'seconds': {'moments': 1.0, 'write': 0.5}})
  path = str(tmp_path / 'model.ckpt-7')
  cifar10_eval.report(checkpoint.Checkpoint(
      path=path, arrays=dict(drawn(3), global_step=7),
      settings={'criterion': 'l1'}, digest='ab'), 'cd',
                      (85, 99, 200, 12.34567))
  tutorial, table = capsys.readouterr().out.splitlines()
  assert tutorial.endswith(
      ': precision @ 1 = 0.425, @ 5 = 0.495 (200 images, step 7)')
  assert table == (
      '%s (3 channels, l1, step 7, %s weights): top-1 42.50 %%, top-5 49.50 %%'
      % (path, more.get('weights', 'averaged')))
  result = files.read_json(tmp_path / name)
  assert len(list(tmp_path.glob('*.json'))) == 2
  assert result == {
      'top1': 42.5, 'top5': 49.5, 'examples': 200, 'global_step': 7,
      'seconds': 1.5, 'latency_ms': 12.346, 'batch_size': 128,
      'conv1_channels': 3, 'criterion': 'l1',
      'checkpoint': 'model.ckpt-7', 'checkpoint_digest': 'ab',
      'data_digest': 'cd', 'split': more.get('eval_data', 'test'),
      'weights': more.get('weights', 'averaged'),
      # conv1, conv2, local3, local4, softmax_linear.
      'conv2_channels': 64, 'local3_units': 384, 'local4_units': 192,
      'parameters': 1068298 - 1676 * 61,
      'multiply_adds': 129600 + 691200 + 884736 + 73728 + 1920}


def test_eval_json_line_and_scalars(data_dir, trained):
  code, output, _ = conftest.run('cifar10_eval.py', '--data_dir=' + data_dir,
                                 '--checkpoint_dir=' + trained)
  assert code == 0
  result = json.load(open(os.path.join(trained, 'eval.json')))
  assert result.keys() == {
      'conv1_channels', 'top1', 'top5', 'examples', 'global_step', 'split',
      'weights', 'checkpoint', 'seed', 'latency_ms', 'batch_size',
      'multiply_adds', 'seconds', 'parameters', 'conv2_channels',
      'local3_units', 'local4_units', 'checkpoint_digest', 'data_digest',
      'digest'}
  # As `cat FILES | sha256sum` prints them.
  for name, path, parts in [
      ('data_digest', os.path.join(data_dir, cifar10_input.FOLDER),
       ['/test_batch.bin']),
      ('checkpoint_digest', os.path.join(trained, 'model.ckpt-30'),
       ['.index', '.data-00000-of-00001'])]:
    content = b''.join(open(path + part, 'rb').read() for part in parts)
    assert result[name] == hashlib.sha256(content).hexdigest()
  assert (result['conv1_channels'], result['examples'], result['global_step'],
          result['split'], result['weights'], result['checkpoint'],
          result['seed']) == (12, 100, 30, 'test', 'averaged', 'model.ckpt-30',
                              0)
  assert result['multiply_adds'] == 576 * 75 * 12 + 144 * 25 * 12 * 64 + (
      2304 * 384 + 384 * 192 + 192 * 10)
  assert result['seconds'] == json.load(open(os.path.join(
      trained, 'run.json')))['seconds']
  assert 'precision @ 1 = %.3f, @ 5 = %.3f (100 images, step 30)' % (
      result['top1'] / 100, result['top5'] / 100) in output
  events = event_accumulator.EventAccumulator(trained)
  events.Reload()
  for k in ('1', '5'):
    event = events.Scalars('Precision @ ' + k)[-1]
    assert event.step == 30
    assert abs(event.value - result['top' + k] / 100) < 1e-6


@pytest.mark.parametrize('other, name', [
    (dict(eval_data='train_eval'), 'eval_train_eval'),
    (dict(weights='raw'), 'eval_test_raw'),
    (dict(eval_data='train_eval', weights='raw'), 'eval_train_eval_raw')])
def test_other_images_or_weights_leave_eval_json(tmp_path, flags, data_dir,
                                                 trained, other, name):
  folder = shutil.copytree(trained, tmp_path / 'trained')
  flags(data_dir=data_dir, checkpoint_dir=str(folder), batch_size=50)
  assert cifar10_eval.evaluate() == 0
  kept = (folder / 'eval.json').read_text()
  flags(**other)
  assert cifar10_eval.evaluate() == 0
  assert (folder / 'eval.json').read_text() == kept
  result = json.load(open(folder / (name + '.json')))
  assert (result['split'], result['weights']) == (
      other.get('eval_data', 'test'), other.get('weights', 'averaged'))
  assert not os.path.isdir(folder / name)   # One run a network.


def test_a_network_is_named_by_how_it_was_made():
  assert cifar10_eval.title(checkpoint.Checkpoint(
      'x/model.ckpt', drawn(5), {'criterion': 'thinet',
                                 'reconstruction': 'full', 'fine_tuned': True},
      '')) == ('x/model.ckpt (5 channels, thinet_full, fine-tuned, step 0, '
               'averaged weights)')


@pytest.mark.parametrize('name', ['model.ckpt-10', 'model.ckpt-10.index',
                                  'model.ckpt-10.data-00000-of-00001'])
def test_a_checkpoint_can_be_named(call, tmp_path, data_dir, trained, name):
  """Its result does not replace that of the folder's newest."""
  folder = shutil.copytree(trained, tmp_path / 'trained')
  (folder / 'eval.json').write_text('kept')
  before = set(os.listdir(folder))
  code, output, _ = call(cifar10_eval, '--data_dir=' + data_dir,
                         '--checkpoint_dir=%s' % (folder / name))
  assert code == 0 and '(100 images, step 10)' in output
  assert (folder / 'eval.json').read_text() == 'kept'
  result = files.read_json(folder / 'eval_test_model.ckpt-10.json')
  assert (result['checkpoint'], result['global_step']) == ('model.ckpt-10', 10)
  assert 'seconds' not in result   # run.json has those of 30 steps.
  assert set(os.listdir(folder)) - before == {'eval_test_model.ckpt-10.json'}


def test_a_network_of_another_program(call, tmp_path, data_dir):
  """TensorFlow's own Saver wrote it, without averages, step or settings."""
  path = str(tmp_path / 'model.ckpt')
  arrays = drawn(6)
  with tf.Graph().as_default(), tf.Session() as session:
    cifar10.inference(tf.zeros([1, 24, 24, 3]), cifar10.Widths(6))
    checkpoint.assign_network(session, arrays)
    tf.train.Saver().save(session, path)
  command = (cifar10_eval, '--data_dir=' + data_dir,
             '--checkpoint_dir=' + path)
  code, _, errors = call(*command)
  assert code == 1 and 'ExponentialMovingAverage; give --weights=raw' in errors
  assert call(*command, '--weights=raw')[0] == 0
  result = files.read_json(tmp_path / 'eval_test_raw_model.ckpt.json')
  with tf.Graph().as_default(), tf.Session() as session:
    images, labels = cifar10_input.inputs(
        'test', os.path.join(data_dir, cifar10_input.FOLDER), 100,
        tf.constant(0, tf.int64))
    logits = cifar10.inference(images, cifar10.Widths(6))
    session.run(tf.local_variables_initializer())
    tf.train.Saver().restore(session, path)
    logits, labels = session.run([logits, labels])
  assert result['top1'] == (logits.argmax(1) == labels).sum()
  assert (result['global_step'], result['conv1_channels']) == (0, 6)


def test_a_watch_ends_when_the_training_has_ended(tmp_path, flags, data_dir,
                                                  capsys, monkeypatch):
  """It is not there yet, starts, is stopped, resumed, and comes to its end."""
  folder = tmp_path / 'run'
  def save(step, **run):
    checkpoint.save(str(folder), dict(drawn(2), global_step=np.int64(step)), {},
                    step, keep=3)
    files.write_json(str(folder / 'run.json'),
                     dict(run, last_step=20, seconds=1))
  events = iter([
      lambda: None,
      folder.mkdir,
      lambda: save(10, end='2026-11-27T00:00:00+00:00'),   # Stopped.
      lambda: None,
      lambda: save(20)])
  waits = []
  def sleep(seconds):
    waits.append(seconds)
    next(events)()
  monkeypatch.setattr(cifar10_eval.time, 'sleep', sleep)
  flags(data_dir=data_dir, checkpoint_dir=str(folder), eval_interval_secs=7)
  assert cifar10_eval.evaluate() == 0
  assert waits == [7] * 5
  lines = capsys.readouterr().out.splitlines()
  assert [words for line in lines for words in (
      'does not exist', 'holds no finished', 'step 10)', 'step 20)',
      'is finished: step 20.') if words in line] == [
          'does not exist', 'holds no finished', 'step 10)', 'step 20)',
          'is finished: step 20.']


def test_a_watch_of_a_compressed_network_ends(tmp_path):
  assert not cifar10_eval.ended(str(tmp_path), 0)
  files.write_json(str(tmp_path / 'compress.json'), {'seconds': 1})
  assert cifar10_eval.ended(str(tmp_path), 0)


def test_ctrl_c_ends_a_watch_without_a_traceback(tmp_path, data_dir):
  process = conftest.start('cifar10_eval.py', '--data_dir=' + data_dir,
                           '--checkpoint_dir=%s' % tmp_path,
                           '--eval_interval_secs=60')
  process.stdout.readline()
  process.send_signal(signal.SIGINT)
  _, errors = process.communicate()
  assert process.returncode == 130
  assert errors.splitlines()[-1].startswith('cifar10_eval.py: Stopped by SIG')
  assert 'Traceback' not in errors


def test_watching_evaluates_each_new_checkpoint_once(tmp_path, data_dir):
  process = conftest.start('cifar10_eval.py', '--data_dir=' + data_dir,
                           '--checkpoint_dir=%s' % tmp_path,
                           '--eval_interval_secs=1')
  assert 'holds no finished checkpoint' in process.stdout.readline()
  checkpoint.save(str(tmp_path), drawn(8), {})
  line = process.stdout.readline()
  while 'precision' not in line:
    assert 'holds no finished checkpoint' in line
    line = process.stdout.readline()
  process.terminate()
  process.communicate()
  assert '(100 images, step 0)' in line


PLAIN_TENSORFLOW_2 = """
import sys
import numpy as np
import tensorflow as tf
assert tf.executing_eagerly()
images = np.load(sys.argv[2])
loaded = tf.saved_model.load(sys.argv[1])
model = loaded.signatures['serving_default']
found = model(tf.constant(images))
asset, = loaded.asset_paths
assert tf.io.read_file(asset.asset_path).numpy().decode() == (
    'airplane automobile bird cat deer dog frog horse ship truck '.replace(
        ' ', '\\n'))
assert model.structured_input_signature[1]['images'].dtype == tf.uint8
np.savez(sys.argv[3], **{name: value.numpy() for name, value in found.items()})
try:   # A larger image is refused; its corner is not rated.
  model(tf.zeros([1, 64, 64, 3], tf.uint8))
except tf.errors.InvalidArgumentError as error:
  assert '[1,64,64,3]' in str(error) and '[?,32,32,3]' in str(error)
else:
  raise AssertionError
try:
  loaded.signatures['standardized'](tf.zeros([1, 48, 48, 3]))
except tf.errors.InvalidArgumentError as error:
  assert '[1,48,48,3]' in str(error) and '[?,24,24,3]' in str(error)
else:
  raise AssertionError
"""

TFLITE = """
def rated(converter, images):
  # Logits of each image, and the types of all tensors.
  content = converter.convert()
  interpreter = tf.lite.Interpreter(model_content=content)
  name, = interpreter.get_signature_list()
  run = interpreter.get_signature_runner(name)
  details, = interpreter.get_input_details()
  if details['dtype'] == np.int8:
    scale, zero = details['quantization']
    images = np.clip(np.round(images / scale) + zero, -128, 127).astype(np.int8)
  outputs = [run(images=image[None]) for image in images]
  return (np.concatenate([each['logits'] for each in outputs]),
          {each['dtype'] for each in interpreter.get_tensor_details()})

lite = tf.lite.TFLiteConverter.from_saved_model
logits, _ = rated(lite(sys.argv[1], signature_keys=['serving_default']), images)
np.testing.assert_allclose(logits, found['logits'], atol=3e-5)

# By the definition: the middle, less its mean, over its standard deviation.
crops = images[:, 4:28, 4:28].astype(np.float64)
deviations = np.maximum(crops.std((1, 2, 3), keepdims=True), 1728 ** -0.5)
crops = ((crops - crops.mean((1, 2, 3), keepdims=True)) /
         deviations).astype(np.float32)
direct = loaded.signatures['standardized'](tf.constant(crops))
np.testing.assert_allclose(direct['logits'], found['logits'], atol=3e-5)
integer = lite(sys.argv[1], signature_keys=['standardized'])
integer.optimizations = [tf.lite.Optimize.DEFAULT]
integer.representative_dataset = lambda: (
    {'images': crop[None]} for crop in crops[::5])
integer.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
integer.inference_input_type = integer.inference_output_type = tf.int8
logits, types = rated(integer, crops[:100])
assert types == {np.int8, np.int32}, types
assert (logits.argmax(1) == found['labels'][:100].numpy()).mean() > 0.9
"""


@pytest.mark.parametrize('weights, suffix', [('averaged', checkpoint.AVERAGE),
                                             ('raw', '')])
def test_plain_tensorflow_2_serves_the_export(tmp_path, flags, data_dir, capsys,
                                              trained, weights, suffix):
  """It gives the evaluated weights' labels on every training image.

  So does TFLite, and with integers alone nearly. No data set is needed.
  """
  flags(data_dir=str(tmp_path / 'none'), checkpoint_dir=trained,
        weights=weights, export_dir=str(tmp_path / 'new' / 'model'))
  capsys.readouterr()
  assert cifar10_eval.evaluate() == 0
  assert os.listdir(tmp_path / 'new') == ['model']
  assert not (tmp_path / 'none').exists()
  found = capsys.readouterr().out.splitlines()
  size = sum(path.stat().st_size for path in tmp_path.glob('new/**/*')
             if path.is_file())
  outputs = 'logits float32 [n, 10], probabilities float32 [n, 10]'
  assert found[1:] == [
      '%s: SavedModel of %.2f MB' % (tmp_path / 'new' / 'model', size / 1e6),
      'signature serving_default: images uint8 [n, 32, 32, 3] -> labels int64 '
      '[n], ' + outputs,
      'signature standardized: images float32 [n, 24, 24, 3] -> ' + outputs,
      'assets/labels.txt: airplane, automobile, bird, cat, deer, dog, frog, '
      'horse, ship, truck']
  assert 'trained/model.ckpt-30 (12 channels, step 30, ' in found[0]
  flags(data_dir=data_dir, batch_size=500)
  with tf.Graph().as_default(), tf.Session() as session:
    logits = cifar10.inference(cifar10.inputs('train_eval', tf.constant(
        0, tf.int64))[0], cifar10.Widths(12))
    session.run(tf.local_variables_initializer())
    _, arrays, _ = conftest.newest(trained)
    checkpoint.assign(session, {var: arrays[var.op.name + suffix]
                                for var in tf.trainable_variables()})
    logits = session.run(logits)
  records = np.concatenate([np.fromfile(path, np.uint8) for path in
                            cifar10_input.data_files(cifar10.data_folder(),
                                                     'train_eval')])
  images = records.reshape(500, 3073)[:, 1:].reshape(500, 3, 32, 32)
  np.save(tmp_path / 'images.npy', images.transpose(0, 2, 3, 1))
  program = PLAIN_TENSORFLOW_2 + (TFLITE if weights == 'averaged' else '')
  subprocess.run([sys.executable, '-c', program,
                  str(tmp_path / 'new' / 'model'), str(tmp_path / 'images.npy'),
                  str(tmp_path / 'found.npz')], check=True)
  found = np.load(tmp_path / 'found.npz')
  assert len(set(found['labels'])) > 1
  assert np.array_equal(found['labels'], logits.argmax(1))
  np.testing.assert_allclose(found['logits'], logits, rtol=1e-4, atol=1e-5)
  raised = np.exp(logits.astype(np.float64))
  np.testing.assert_allclose(found['probabilities'],
                             raised / raised.sum(1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize('more, words', [
    ({}, 'exists; name a new folder'),
    ({'eval_interval_secs': 5},
     '--export_dir and --eval_interval_secs are two uses'),
    ({'image': 'x.png'}, '--image and --export_dir are two uses')])
def test_an_export_overwrites_nothing(tmp_path, flags, data_dir, trained, more,
                                      words):
  flags(data_dir=data_dir, checkpoint_dir=trained, export_dir=str(tmp_path),
        **more)
  with pytest.raises(cifar10_input.UserError, match=words):
    cifar10_eval.evaluate()
  assert not os.listdir(tmp_path)


def test_an_export_goes_where_tensorflow_can_load_it(tmp_path, flags, data_dir,
                                                     trained):
  """TensorFlow's loader takes a path for a pattern."""
  flags(data_dir=data_dir, checkpoint_dir=trained,
        export_dir=str(tmp_path / 'a[b]' / 'c'))
  with pytest.raises(cifar10_input.UserError, match='cannot load'):
    cifar10_eval.evaluate()
  assert not os.listdir(tmp_path)


def test_a_network_is_rated_where_it_is_made(tmp_path, data_dir):
  """Each program's --evaluate writes what cifar10_eval.py writes after it; also
  for a network that is finished already."""
  data = '--data_dir=' + data_dir
  parent, slim, tuned = (str(tmp_path / name) for name in 'abc')
  for folder, *command in [
      (parent, 'cifar10_train.py', '--train_dir=' + parent, '--max_steps=2',
       '--batch_size=50', '--conv1_channels=6'),
      (slim, 'thinet_compress.py', '--checkpoint_dir=' + parent,
       '--output_dir=' + slim, '--conv1_channels=3', '--num_images=100'),
      (tuned, 'thinet_finetune.py', '--checkpoint_dir=' + slim,
       '--train_dir=' + tuned, '--max_steps=2', '--batch_size=50')]:
    path = os.path.join(folder, 'eval.json')
    results = []
    for program in [command + [data, '--evaluate'],
                    command + [data, '--evaluate'],
                    ['cifar10_eval.py', data, '--checkpoint_dir=' + folder,
                     '--batch_size=50' if '--batch_size=50' in command else
                     '--batch_size=128']]:
      code, output, errors = conftest.run(*program)
      assert code == 0 and 'precision @ 1 = ' in output, errors
      results.append(files.read_json(path))
      del results[-1]['latency_ms']
      os.unlink(path)
    assert results[0] == results[1] == results[2]


def test_the_checkpoint_is_looked_for_before_the_data(tmp_path, flags):
  flags(data_dir=str(tmp_path / 'data'), checkpoint_dir=str(tmp_path / 'none'))
  with pytest.raises(checkpoint.CheckpointError, match='none does not exist'):
    cifar10_eval.evaluate()
  assert not os.listdir(tmp_path)


def test_a_watch_takes_a_folder(flags, trained):
  flags(checkpoint_dir=os.path.join(trained, 'model.ckpt-30'),
        eval_interval_secs=5)
  with pytest.raises(cifar10_input.UserError, match='name its folder'):
    cifar10_eval.evaluate()


def test_an_export_that_cannot_be_written_leaves_nothing(tmp_path, data_dir,
                                                         trained):
  code, _, errors = conftest.run(
      'cifar10_eval.py', '--data_dir=' + data_dir,
      '--checkpoint_dir=' + trained, '--export_dir=%s/a/b' % tmp_path,
      largest_file=1 << 20)
  assert code == 1 and 'cannot be written to' in errors.splitlines()[-1]
  assert 'Traceback' not in errors and not os.listdir(tmp_path / 'a')
