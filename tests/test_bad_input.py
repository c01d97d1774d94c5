"""Bad input is refused with one sentence, and nothing is written.

Each case runs the script's own main; two run as processes, which must print
only that sentence.
"""
import os
import shutil
import signal
import subprocess
import sys
import time

from thinet import checkpoint
from thinet import files
import cifar10
import cifar10_eval
import cifar10_input
import cifar10_train
import conftest
import numpy as np
import pytest
import thinet_compress
import thinet_finetune

FOLDER = cifar10_input.FOLDER


def tree(folder):
  """All files below a folder: name -> bytes."""
  return {os.path.join(where, name): open(os.path.join(where, name),
                                          'rb').read()
          for where, _, names in os.walk(folder) for name in names}


@pytest.fixture
def scripts(data_dir, trained, tmp_path):
  """A good command for each script, which the cases then spoil."""
  new = tmp_path / 'new'
  data = '--data_dir=' + data_dir
  return {
      'train': (cifar10_train, data, '--train_dir=%s' % new, '--max_steps=1',
                '--conv1_channels=8', '--batch_size=50'),
      'eval': (cifar10_eval, data, '--checkpoint_dir=' + trained),
      'compress': (thinet_compress, data, '--checkpoint_dir=' + trained,
                   '--output_dir=%s' % new, '--conv1_channels=5'),
      'finetune': (thinet_finetune, data, '--checkpoint_dir=' + trained,
                   '--train_dir=%s' % new, '--max_steps=1')}


def refused(call, command, words, tmp_path, codes=(1, 2)):
  before = tree(tmp_path)
  code, output, errors = call(*command)
  assert code in codes and output == ''
  assert errors.startswith(command[0].__name__ + '.py: ')
  assert words in errors and len(errors.splitlines()) == 1
  assert tree(tmp_path) == before
  return errors


@pytest.mark.parametrize('script, flag, words', [
    ('train', '--conv1_channels=0', 'conv1_channels=0'),
    ('train', '--conv1_channels=-3', 'conv1_channels=-3'),
    ('train', '--conv1_channels=5000', 'conv1_channels=5000'),
    ('train', '--conv1_channels=many', 'conv1_channels=many'),
    ('train', '--conv1_channels=8.5', 'conv1_channels=8.5'),
    ('train', '--conv1_channels=', 'conv1_channels='),
    ('train', '--epochs=0', 'epochs=0'),
    ('train', '--epochs=-1', 'epochs=-1'),
    ('train', '--epochs=nan', 'epochs=nan'),
    ('train', '--epochs=inf', 'epochs=inf'),
    ('train', '--epochs=x', 'epochs=x'),
    ('train', '--max_steps=-1', 'max_steps=-1'),
    ('train', '--max_steps=1e3', 'max_steps=1e3'),
    ('train', '--learning_rate=-0.1', 'learning_rate=-0.1'),
    ('train', '--learning_rate=nan', 'learning_rate=nan'),
    ('train', '--learning_rate=inf', 'learning_rate=inf'),
    ('train', '--seed=-1', 'seed=-1'),
    ('train', '--seed=4294967296', 'seed=4294967296'),
    ('train', '--batch_size=0', 'batch_size=0'),
    ('train', '--batch_size=501',
     'has 500 training images, fewer than a batch'),
    ('train', '--log_frequency=0', 'log_frequency=0'),
    ('train', '--histogram_frequency=-1', 'histogram_frequency=-1'),
    ('train', '--checkpoint_frequency=0', 'checkpoint_frequency=0'),
    ('train', '--schedule=slow', 'schedule=slow'),
    ('train', '--train_dir=', '--train_dir is missing'),
    ('train', '--train_dir=/dev/null', '/dev/null cannot be used'),
    ('train', '--train_dir=/proc/new', '/proc/new cannot be used'),
    ('train', '--data_dir=/dev/null', '/dev/null'),
    ('train', '--data_dir=/proc/new', '/proc/new'),
    ('train', '--unknown=1', "Unknown command line flag 'unknown'"),
    ('train', '--output_dir=x', '--output_dir is not for this script'),
    ('train', '--train_dir=gs://a/b', 'is no local folder; name one'),
    ('train', '--train_dir gs://a/b', 'is no local folder; name one'),
    ('eval', '--export_dir=file:///a/b', 'is no local folder; name one'),
    ('train', 'stray', 'Unexpected argument stray'),
    ('eval', '--checkpoint_dir=', '--checkpoint_dir is missing'),
    ('eval', '--checkpoint_dir=/none', '/none does not exist'),
    ('eval', '--checkpoint_dir=/dev/null',
     '/dev/null cannot be read (Not a directory)'),
    ('eval', '--eval_data=train', 'eval_data=train'),
    ('eval', '--weights=best', 'weights=best'),
    ('eval', '--image=', '--image= is empty; name one'),
    ('eval', '--export_dir=', '--export_dir= is empty; name one'),
    ('eval', '--eval_interval_secs=-1', 'eval_interval_secs=-1'),
    ('eval', '--conv1_channels=12', '--conv1_channels is not for this script'),
    ('eval', '--seed=1', '--seed is not for this script'),
    ('compress', '--conv1_channels=13', 'be kept of the 12 channels'),
    ('compress', '--local3_units=385', '385 cannot be kept of the 384 units'),
    ('compress', '--conv1_channels=0', 'conv1_channels=0'),
    ('compress', '--multiply_adds=0.5', 'are two ways to say the widths'),
    ('compress', '--parameters=1', 'parameters=1'),
    ('compress', '--reconstruction=all', 'reconstruction=all'),
    ('compress', '--num_images=0', 'num_images=0'),
    ('compress', '--locations_per_image=145', 'locations_per_image=145'),
    ('compress', '--checkpoint_dir=', '--checkpoint_dir is missing'),
    ('compress', '--output_dir=', '--output_dir is missing'),
    ('compress', '--output_dir=/dev/null', '/dev/null cannot be used'),
    ('compress', '--train_dir=x', '--train_dir is not for this script'),
    ('finetune', '--checkpoint_dir=', '--checkpoint_dir is missing'),
    ('finetune', '--train_dir=', '--train_dir is missing'),
    ('finetune', '--conv1_channels=4', '--conv1_channels is not for this'),
    ('finetune', '--parameters=0.5', '--parameters is not for this script'),
    ('finetune', '--schedule=fast', '--schedule is not for this script'),
    ('finetune', '--epochs=0', 'epochs=0'),
])
def test_flags(call, scripts, tmp_path, script, flag, words):
  refused(call, scripts[script] + tuple(flag.split()), words, tmp_path)


def put(content):
  def change(folder):
    (folder / 'data_batch_2.bin').write_bytes(content)
    (folder / 'test_batch.bin').write_bytes(content)
  return change


def remove(folder):
  os.unlink(folder / 'data_batch_2.bin')
  os.unlink(folder / 'test_batch.bin')


def make_folders(folder):
  remove(folder)
  os.mkdir(folder / 'data_batch_2.bin')
  os.mkdir(folder / 'test_batch.bin')


@pytest.mark.parametrize('script', ['train', 'eval', 'compress', 'finetune'])
@pytest.mark.parametrize('change, words', [
    (put(b''), 'has 0 bytes, expected a whole number of records of 3073'),
    (put(bytes(3000)), 'has 3000 bytes'),
    (put(bytes(3074)), 'has 3074 bytes'),
    (put(bytes(3073) + b'\x0a' + bytes(3072)),
     'label 10 in record 1, expected'),
    (remove, 'No such file or directory'),
    (make_folders, 'is not a regular file'),
])
def test_data(call, scripts, data_dir, tmp_path, script, change, words):
  shutil.copytree(os.path.join(data_dir, FOLDER), tmp_path / 'data' / FOLDER)
  change(tmp_path / 'data' / FOLDER)
  errors = refused(call, scripts[script] + (
      '--data_dir=%s' % (tmp_path / 'data'),), words, tmp_path, codes=(1,))
  assert 'test_batch.bin' in errors if script == 'eval' else (
      'data_batch_2.bin' in errors)


@pytest.mark.parametrize('script', ['train', 'compress', 'finetune'])
def test_images_to_rate_on_are_checked_first(call, scripts, data_dir, tmp_path,
                                             script):
  """Not when all else is done; without --evaluate nobody needs them."""
  shutil.copytree(os.path.join(data_dir, FOLDER), tmp_path / 'data' / FOLDER)
  (tmp_path / 'data' / FOLDER / 'test_batch.bin').write_bytes(bytes(3000))
  errors = refused(call, scripts[script] + (
      '--evaluate', '--data_dir=%s' % (tmp_path / 'data'),), 'has 3000 bytes',
                   tmp_path, codes=(1,))
  assert 'test_batch.bin' in errors


def cut(folder):
  path = folder / 'model.ckpt-30.data-00000-of-00001'
  path.write_bytes(path.read_bytes()[:5000])

def flip(folder):
  path = folder / 'model.ckpt-30.data-00000-of-00001'
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)

def empty(folder):
  (folder / 'model.ckpt-30.index').write_bytes(b'')

def lose_index(folder):
  os.unlink(folder / 'model.ckpt-30.index')

def lose_all(folder):
  for name in os.listdir(folder):
    os.unlink(folder / name)

def lose_averages(folder):
  _, arrays, settings = conftest.newest(folder)
  lose_all(folder)
  checkpoint.save(str(folder), {
      name: value for name, value in arrays.items()
      if not name.endswith(checkpoint.AVERAGE)}, settings)

def other_network(folder):
  lose_all(folder)
  checkpoint.save(str(folder), {'w': np.zeros(3, np.float32)}, {})


@pytest.mark.parametrize('script', ['eval', 'compress', 'finetune'])
@pytest.mark.parametrize('change, words', [
    (cut, 'model.ckpt-30 is damaged'), (flip, 'model.ckpt-30 is damaged'),
    (empty, 'model.ckpt-30 is damaged'),
    (lose_index, 'holds no finished checkpoint'),
    (lose_all, 'holds no finished checkpoint'),
    (lose_averages, 'ExponentialMovingAverage'),
    (other_network, 'lacks conv1/weights')])
def test_checkpoints(call, scripts, trained, tmp_path, script, change, words):
  os.makedirs(tmp_path / 'parent')
  for name in os.listdir(trained):
    if name.startswith('model.ckpt-30'):
      shutil.copy(os.path.join(trained, name), tmp_path / 'parent')
  change(tmp_path / 'parent')
  refused(call, scripts[script] + (
      '--checkpoint_dir=%s' % (tmp_path / 'parent'),), words, tmp_path,
          codes=(1,))


@pytest.mark.parametrize('script, flag', [
    ('train', 'train_dir'), ('compress', 'output_dir'),
    ('finetune', 'train_dir')])
def test_folder_of_another_network(call, scripts, trained, tmp_path, script,
                                   flag):
  parent = tmp_path / 'parent'
  shutil.copytree(trained, parent)
  os.unlink(parent / 'lock')   # The lock is all that may change.
  before = tree(parent)
  code, _, errors = call(*scripts[script], '--checkpoint_dir=%s' % parent
                         if script != 'train' else '--seed=1',
                         '--%s=%s' % (flag, parent))
  assert code == 1 and 'name another' in errors
  assert len(errors.splitlines()) == 1
  assert ('%s was made with' if script == 'train' else
          '%s is the folder of the network to ') % parent in errors
  if script == 'train':
    os.unlink(parent / 'lock')
  assert tree(parent) == before


@pytest.mark.parametrize('script, flag, code', [
    ('train', '--epochs=x', 2), ('eval', '--checkpoint_dir=', 1)])
def test_as_processes(scripts, script, flag, code):
  module, *flags = scripts[script]
  found, output, errors = conftest.run(module.__name__ + '.py', *flags, flag)
  assert (found, output) == (code, '')
  assert len(errors.splitlines()) == 1 and 'Traceback' not in errors
@pytest.mark.parametrize('number', cifar10.STOPS)
def test_a_stop_ends_a_script_without_a_traceback(call, monkeypatch, number):
  handler = signal.getsignal(number)
  monkeypatch.setattr(cifar10_eval, 'evaluate',
                      lambda: signal.raise_signal(number))
  assert call(cifar10_eval, '--eval_interval_secs=60') == (
      128 + number, '', 'cifar10_eval.py: Stopped by %s; run the same command '
      'again.\n' % number.name)
  assert signal.getsignal(number) == handler


def test_a_stop_that_tensorflow_loses_or_changes(call, monkeypatch):
  def lose():
    try:
      signal.raise_signal(signal.SIGTERM)
    except BaseException:
      pass
    return 0
  def change():
    lose()
    raise TypeError
  for evaluate in (lose, change):
    monkeypatch.setattr(cifar10_eval, 'evaluate', evaluate)
    assert call(cifar10_eval)[0] == 128 + signal.SIGTERM


def test_a_stop_in_a_compression_leaves_nothing_half_written(tmp_path, trained,
                                                             scripts):
  parent = shutil.copytree(trained, tmp_path / 'parent',
                           ignore=shutil.ignore_patterns('moments*'))
  module, *flags = scripts['compress']
  process = conftest.start(module.__name__ + '.py', *flags,
                           '--checkpoint_dir=%s' % parent)
  while not os.path.exists(tmp_path / 'new' / 'lock'):
    time.sleep(0.01)
  process.terminate()
  errors = process.communicate()[1]
  assert process.returncode == 128 + signal.SIGTERM
  assert errors.endswith('Stopped by SIGTERM; run the same command again.\n')
  # It may have come to its end in the moment of the signal.
  assert os.listdir(tmp_path / 'new') == ['lock'] or files.read_json(
      tmp_path / 'new' / 'compress.json')
  assert not list(parent.glob('*.part'))


def test_a_reader_that_has_gone_is_no_error(scripts):
  module, *flags = scripts['eval']
  process = conftest.start(module.__name__ + '.py', *flags)
  process.stdout.close()
  assert 'Traceback' not in process.communicate()[1]
  assert process.returncode == 128 + signal.SIGPIPE


def test_a_closed_output_from_the_start(scripts):
  """As the shell's >&- leaves it: Python has no sys.stdout."""
  module, *flags = scripts['eval']
  result = subprocess.run(
      ['bash', '-c', 'exec "$@" >&-', 'bash', sys.executable,
       os.path.join(conftest.ROOT, module.__name__ + '.py'), *flags],
      capture_output=True, text=True)
  assert (result.returncode, result.stderr) == (0, '')


def test_an_output_that_is_full_loses_no_result(scripts, trained):
  module, *flags = scripts['eval']
  path = os.path.join(trained, 'eval.json')
  if os.path.exists(path):
    os.unlink(path)
  with open('/dev/full', 'w') as full:
    result = subprocess.run([sys.executable, os.path.join(
        conftest.ROOT, module.__name__ + '.py'), *flags], stdout=full,
                            stderr=subprocess.PIPE, text=True)
  assert result.returncode == 1
  assert result.stderr == (
      'cifar10_eval.py: Output cannot be written (No space left on device); '
      'give it another place.\n')
  assert files.read_json(path)['conv1_channels'] == 12


@pytest.mark.parametrize('flags, words', [
    (['--reconstruction=network', '--num_images=5'], '5 training images'),
    (['--batch_size=1', '--locations_per_image=1'], 'leave no sample')])
def test_flags_are_checked_before_a_download(call, scripts, tmp_path, flags,
                                             words):
  refused(call, scripts['compress'] + tuple(flags) + (
      '--data_dir=%s' % (tmp_path / 'no data'),), words, tmp_path, codes=(1,))


def test_names_that_are_not_utf_8_are_refused(call, scripts, tmp_path):
  """TensorFlow takes no others. (Python shows their bytes as surrogates.)"""
  name = os.fsdecode(os.fsencode(tmp_path) + b'/\xff')
  for script, flag in [('train', 'train_dir'), ('eval', 'checkpoint_dir'),
                       ('compress', 'data_dir')]:
    errors = refused(call, scripts[script] + ('--%s=%s' % (flag, name),),
                     'is not UTF-8; rename', tmp_path, codes=(2,))
    assert '/\\udcff' in errors


