"""TensorFlow as all programs use it: version 1, quiet, loaded when it is used.

  from thinet import tensorflow as tf

The import takes seconds, so it waits for the first use of anything except
tf.app, which is absl's: a mistyped flag is found without it. A later `import
tensorflow` of other code does the same.

TensorFlow's start-up messages are shown if its import fails, and always with
TF_CPP_MIN_LOG_LEVEL=0 or 1. Errors after the start are shown where there is a
GPU; elsewhere they would say that there is none.
"""
import contextlib
import faulthandler
import glob
import importlib
import os
import sys
import tempfile

from absl import app   # With tf.app.flags.

_NAME = 'tensorflow'


def __getattr__(name):
  """tf.<name>; called for what this module does not hold."""
  if name.startswith('__') and name != '__version__':
    raise AttributeError(name)   # Asked by Python's own modules of any module.
  return getattr(importlib.import_module(_NAME + '.compat.v1'), name)


class _Finder:
  """Finds TensorFlow as the other finders do, and has _load execute it."""

  @classmethod
  def find_spec(cls, name, path=None, target=None):
    if name != _NAME:
      return None
    others = [each for each in sys.meta_path if each is not cls]
    spec = next(filter(None, (each.find_spec(name, path, target)
                              for each in others)), None)
    if spec:
      execute = spec.loader.exec_module
      spec.loader.exec_module = lambda module: _load(execute, module)
    return spec


def _load(execute, module):
  """Executes TensorFlow's module with settings that it reads at its import."""
  # By itself it uses oneDNN's kernels only on processors with VNNI, but they
  # are faster on older ones, too.
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL',
                        '2' if glob.glob('/dev/nvidia*') else '3')
  loud = os.environ['TF_CPP_MIN_LOG_LEVEL'] in ('0', '1')
  with _without_keras(), contextlib.nullcontext() if loud else _quiet():
    execute(module)
    importlib.import_module(_NAME + '.compat.v1')
  _set_up()   # It looks for GPUs, whose errors are no start-up messages.


def _set_up():
  """Turns version 1's behavior on; a GPU's memory is taken as needed."""
  os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
  v1 = importlib.import_module(_NAME + '.compat.v1')
  v1.logging.set_verbosity(v1.logging.ERROR)
  v1.disable_v2_behavior()
  v1.enable_resource_variables()
  v1.config.experimental.enable_tensor_float_32_execution(False)   # Not asked.


@contextlib.contextmanager
def _without_keras():
  """Nothing here uses Keras, which takes a quarter of TensorFlow's import."""
  absent = 'keras' not in sys.modules
  if absent:
    sys.modules['keras'] = None
  try:
    yield
  finally:
    if absent:
      del sys.modules['keras']   # Whoever wants it can import it now.


@contextlib.contextmanager
def _quiet():
  """Turns file descriptor 2 away; an exception shows what was written to it.

  TensorFlow's C++ code writes there at its import whatever the log level is.
  """
  try:
    heard, kept = tempfile.TemporaryFile(), os.dup(2)
  except OSError:   # No place for the file, or no standard error.
    yield
    return
  # A crash leaves no exception; pytest and notebooks report theirs themselves.
  reports = sys.stderr is sys.__stderr__ is not None
  enabled = faulthandler.is_enabled()
  if reports:
    faulthandler.enable(kept)
  os.dup2(heard.fileno(), 2)
  try:
    yield
  except Exception:
    heard.seek(0)
    os.write(kept, heard.read())
    raise
  finally:
    os.dup2(kept, 2)
    if reports:
      faulthandler.enable() if enabled else faulthandler.disable()
    os.close(kept)
    heard.close()


if _NAME in sys.modules:
  _set_up()
else:
  sys.meta_path.insert(0, _Finder)
