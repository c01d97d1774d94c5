"""TensorFlow's import: when it happens, in which state, and what it prints.

A stand-in for TensorFlow prints, fails or crashes at its import. Every test
starts processes.
"""
import os
import signal
import subprocess
import sys

import conftest
import pytest

SCRIPTS = {   # Name -> (required flags, some that it has).
    'cifar10_train': (['train_dir'], ['conv1_channels', 'schedule']),
    'cifar10_eval': (['checkpoint_dir'], ['export_dir']),
    'thinet_compress': (['checkpoint_dir', 'output_dir'],
                        ['criterion', 'conv1_channels', 'multiply_adds']),
    'thinet_finetune': (['checkpoint_dir', 'train_dir'], ['epochs'])}


@pytest.fixture
def python(tmp_path):
  """python(at_import, *arguments, **environment): runs Python with a TensorFlow
  whose import executes at_import, after a line on file descriptor 2."""
  def run(at_import, *arguments, **environment):
    folder = tmp_path / 'tensorflow' / 'compat' / 'v1'
    os.makedirs(folder, exist_ok=True)
    (tmp_path / 'tensorflow' / '__init__.py').write_text(
        'import os, sys\nos.write(2, b"noise\\n")\n' + at_import)
    (folder.parent / '__init__.py').write_text('')
    (folder / '__init__.py').write_text('\n'.join([
        'import contextlib, os, types',
        'logging = types.SimpleNamespace(ERROR=40, set_verbosity=lambda level:',
        '                                print("verbosity", level))',
        'Graph = "a graph"',
        'def disable_v2_behavior():',
        '  with contextlib.suppress(OSError): os.write(2, b"no GPU\\n")',
        '  print("v1")',
        'def enable_resource_variables(): print("resources")',
        'config = types.SimpleNamespace(experimental=types.SimpleNamespace(',
        '    enable_tensor_float_32_execution=lambda on: print("TF32", on)))']))
    environment = {**os.environ, 'PYTHONPATH': '%s:%s' % (
        tmp_path, conftest.ROOT), **environment}
    if 'TF_CPP_MIN_LOG_LEVEL' not in environment or (
        environment['TF_CPP_MIN_LOG_LEVEL'] == ''):
      environment.pop('TF_CPP_MIN_LOG_LEVEL', None)
    return subprocess.run([sys.executable, *arguments], env=environment,
                          capture_output=True, text=True)
  return run


SET_UP = 'verbosity 40\nv1\nresources\nTF32 False\n'
USE = 'from thinet import tensorflow as tf; print("first"); print(tf.Graph)'


@pytest.mark.parametrize('level, noise', [
    ('', ''), ('3', ''), ('2', ''), ('1', 'noise\n'), ('0', 'noise\n')])
def test_start_up_messages_are_shown_if_asked_for(python, level, noise):
  """What comes after the import is always shown."""
  result = python('', '-c', USE, TF_CPP_MIN_LOG_LEVEL=level)
  assert (result.returncode, result.stderr) == (0, noise + 'no GPU\n')
  assert result.stdout == 'first\n' + SET_UP + 'a graph\n'


def test_they_are_shown_if_the_import_fails(python):
  result = python('raise ImportError("a library is missing")', '-c', USE)
  assert result.returncode == 1 and result.stdout == 'first\n'
  assert result.stderr.startswith('noise\n')
  assert result.stderr.endswith('ImportError: a library is missing\n')


@pytest.mark.parametrize('before', ['', 'faulthandler.enable(); '])
def test_a_crash_in_the_import_says_where(python, before):
  result = python('os.abort()', '-c', 'import faulthandler; ' + before + USE)
  assert result.returncode == -signal.SIGABRT
  assert result.stderr.startswith('Fatal Python error: Aborted')
  assert os.path.join('tensorflow', '__init__.py') in result.stderr


@pytest.mark.parametrize('before, after', [
    ('from thinet import tensorflow', 'import tensorflow'),
    ('import importlib.util; from thinet import tensorflow; '
     'importlib.util.find_spec("tensorflow")', 'import tensorflow.compat.v1'),
    ('import tensorflow; from thinet import tensorflow', 'tensorflow.Graph')])
def test_whoever_imports_tensorflow_gets_it_in_one_state(python, before, after):
  result = python('', '-c', before + '; ' + after)
  assert (result.returncode, result.stdout) == (0, SET_UP), result.stderr


def test_keras_waits_and_settings_come_before_the_import(python):
  result = python(
      'print(sys.modules["keras"], os.environ["TF_ENABLE_ONEDNN_OPTS"])', '-c',
      USE + '; import os, sys; print("keras" in sys.modules, '
      'os.environ["TF_FORCE_GPU_ALLOW_GROWTH"])', TF_ENABLE_ONEDNN_OPTS='7')
  assert result.stdout == ('first\nNone 7\n' + SET_UP +
                           'a graph\nFalse true\n')


def test_a_closed_standard_error_is_no_error(python):
  result = python('', '-c', 'import os; os.close(2); %s; os.fstat(2)' % USE)
  assert result.stdout == 'first\n' + SET_UP + 'a graph\n'
  assert result.returncode == 1   # It is closed again, as fstat finds.


def test_without_a_temporary_file_the_messages_are_shown(python):
  result = python('', '-c', 'import tempfile; '
                  'tempfile.tempdir = "/proc/none"; ' + USE)
  assert (result.returncode, result.stderr) == (0, 'noise\nno GPU\n')


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_and_wrong_flags_need_no_tensorflow(python, script):
  required, others = SCRIPTS[script]
  path = os.path.join(conftest.ROOT, script + '.py')
  result = python('sys.exit("imported")', path, '--help')
  assert (result.returncode, result.stderr) == (0, '')
  for name in required:
    assert '\n  --%s: Required. ' % name in result.stdout
  for name in others:
    assert '\n  --%s: ' % name in result.stdout
  assert result.stdout.count(': Required. ') == len(required)
  assert "\n    (default: '128')\n" in result.stdout
  assert 'pdb_post_mortem' not in result.stdout   # One of absl's own.
  for flags, code in [(['--batch_sise=5'], 2), ([], 1)]:
    result = python('sys.exit("imported")', path, *flags)
    assert (result.returncode, result.stdout) == (code, '')
    assert result.stderr.startswith(script + '.py: ')
    assert len(result.stderr.splitlines()) == 1


def test_a_width_is_explained_where_it_is_given(python):
  for script, words in [
      ('cifar10_train', 'Width of conv1; by default 64.'),
      ('thinet_compress', 'Channels of conv1 to keep; by default all.')]:
    result = python('', os.path.join(conftest.ROOT, script + '.py'), '--help')
    assert '\n  --conv1_channels: %s\n' % words in result.stdout


@pytest.mark.parametrize('flag', ['--helpshort', '--helpfull'])
def test_other_forms_of_help(python, flag):
  result = python('sys.exit("imported")', os.path.join(
      conftest.ROOT, 'cifar10_eval.py'), flag)
  assert (result.returncode, result.stderr) == (0, '')
  assert '\n  --checkpoint_dir: Required. ' in result.stdout
  assert ('pdb_post_mortem' in result.stdout) == (flag == '--helpfull')


def test_help_without_a_reader():
  reader, writer = os.pipe()
  os.close(reader)
  result = subprocess.run(
      [sys.executable, os.path.join(conftest.ROOT, 'cifar10_eval.py'),
       '--help'], stdout=writer, stderr=subprocess.PIPE, text=True)
  os.close(writer)
  assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, '')


@pytest.mark.parametrize('script, version, refused', [
    (script, (3, 14), True) for script in (
        'cifar10_train.py', 'cifar10_eval.py', 'thinet_compress.py',
        'thinet_finetune.py', 'tests/demo_data.py', 'results/report.py')] + [
            ('cifar10_train.py', (3, 10), True),
            ('cifar10_train.py', (3, 11), False),
            ('cifar10_train.py', (3, 13), False)])
def test_other_versions_of_python_are_refused(script, version, refused):
  """Before anything that pip installs is imported."""
  code = ('import runpy, sys; sys.version_info = %r + (0,); '
          'sys.modules.update(dict.fromkeys(["numpy", "absl", "matplotlib"])); '
          'runpy.run_path(%r, run_name="__main__")' % (
              version, os.path.join(conftest.ROOT, script)))
  result = subprocess.run([sys.executable, '-c', code], capture_output=True,
                          text=True, cwd=conftest.ROOT)
  assert result.returncode == 1
  assert (result.stderr == 'Python %d.%d will not do; use 3.11, 3.12 or 3.13, '
          'which TensorFlow 2.21 and these programs have in common.\n' % version
         ) == refused
  assert refused or 'ModuleNotFoundError' in result.stderr
