"""The files in a network's folder: checkpoints, JSON results, a lock.

A checkpoint describes itself: a layer's width is the size of its biases, and
the string variable `settings` is JSON that says how the network was made.
Nothing in a folder depends on the folder's path.
"""
import fcntl
import json
import os
import re
import subprocess
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

SETTINGS = 'settings'   # Name of the variable with the JSON.
AVERAGE = '/ExponentialMovingAverage'   # Suffix of an averaged variable.

# What TensorFlow raises when a file cannot be written.
WRITE_ERRORS = (OSError, LookupError, RuntimeError, tf.errors.OpError)


class CheckpointError(Exception):
  """Error that the user can put right; its one sentence says how."""


def finished(folder):
  """Prefixes of the finished checkpoints in a folder, newest first.

  A checkpoint is finished when the folder's state file `checkpoint`, which is
  written last, lists it. Without that file, every checkpoint found counts.

  Raises:
    CheckpointError: the folder does not exist.
  """
  if not os.path.isdir(folder):
    raise CheckpointError('Folder %s does not exist; train a network into it '
                          'first, or name another.' % folder)
  steps = set()
  try:
    with open(os.path.join(folder, 'checkpoint')) as state:
      steps.update(re.findall(r'model\.ckpt-(\d+)"', state.read()))
  except (OSError, UnicodeDecodeError):
    pass
  if not steps:
    for name in os.listdir(folder):
      steps.update(re.findall(r'^model\.ckpt-(\d+)\.index$', name))
  return [os.path.join(folder, 'model.ckpt-' + step)
          for step in sorted(steps, key=int, reverse=True)]


def read(path, shapes_like):
  """Reads and checks every array of a checkpoint.

  Args:
    path: prefix of the checkpoint, as from finished.
    shapes_like: function of the arrays that returns name -> list, the shapes of
      all weights of a network with the arrays' widths.

  Returns:
    (arrays, settings): name -> NumPy array, and the dict that says how the
    network was made (empty if another program made it).

  Raises:
    CheckpointError: a file is damaged (every array has a checksum), or it holds
      another network.
  """
  try:
    reader = tf.train.load_checkpoint(path)
    arrays = {name: np.asarray(reader.get_tensor(name))
              for name in reader.get_variable_to_shape_map()}
    settings = json.loads(arrays.pop(SETTINGS, np.asarray(b'{}')).item())
    if not isinstance(settings, dict):
      raise ValueError('settings are no dict')
  except (tf.errors.OpError, ValueError, RuntimeError, TypeError, LookupError,
          MemoryError) as error:
    raise CheckpointError('Checkpoint %s is damaged or incomplete (%s); remove '
                          'its files, or restore them.' % (
                              path, str(error).split('\n')[0]))
  for name, shape in shapes_like(arrays).items():
    for variable in (name, name + AVERAGE):
      if variable not in arrays:
        raise CheckpointError('Checkpoint %s lacks %s; name a checkpoint of '
                              'this network, with its averages.' % (path,
                                                                    variable))
      if list(arrays[variable].shape) != shape:
        raise CheckpointError('Checkpoint %s has %s of shape %s, expected %s; '
                              'name a checkpoint of this network.' % (
                                  path, variable, list(arrays[variable].shape),
                                  shape))
  return arrays, settings


def averages(arrays):
  """The averaged weights among the arrays from read: name -> array."""
  return {name[:-len(AVERAGE)]: value for name, value in arrays.items()
          if name.endswith(AVERAGE)}


def read_newest(folder, shapes_like):
  """Reads the newest checkpoint of a folder.

  Returns:
    (path, arrays, settings), the last two as from read.

  Raises:
    CheckpointError: there is none, or it is damaged.
  """
  paths = finished(folder)
  if not paths:
    raise CheckpointError('Folder %s holds no finished checkpoint; train a '
                          'network into it first, or name another.' % folder)
  return (paths[0],) + read(paths[0], shapes_like)


def assign(session, values):
  """Gives variables their values, through their initializers.

  Args:
    session: an open session of the graph that holds the variables.
    values: dict, variable -> array.
  """
  session.run([var.initializer for var in values],
              {var.initial_value: value for var, value in values.items()})


def not_written(folder, error):
  """Makes the CheckpointError for a failure to write into a folder."""
  reason = re.search(r'; (.*)', str(error))   # TensorFlow's form: path; reason
  reason = getattr(error, 'strerror', None) or (
      reason.group(1) if reason else str(error).split('\n')[0])
  return CheckpointError('Folder %s cannot be written to (%s); make room '
                         'there, or name another, and run the same command '
                         'again.' % (folder, reason))


def save(folder, arrays, settings):
  """Writes name -> array as the checkpoint of step 0, and its state file.

  Raises:
    CheckpointError: the folder cannot be written to.
  """
  arrays = dict(arrays, **{SETTINGS: np.asarray(json.dumps(settings).encode())})
  names = sorted(arrays)
  path = os.path.join(folder, 'model.ckpt-0')
  try:
    with tf.Graph().as_default(), tf.Session() as session:
      session.run(tf.raw_ops.SaveV2(
          prefix=path, tensor_names=names, shape_and_slices=[''] * len(names),
          tensors=[tf.constant(arrays[name]) for name in names]))
    tf.train.update_checkpoint_state(folder, os.path.basename(path))
  except WRITE_ERRORS as error:
    raise not_written(folder, error)


def write_json(path, value):
  """Writes a dict as JSON, a line for each key.

  The text goes to a temporary file, which is then renamed.

  Raises:
    CheckpointError: the folder cannot be written to.
  """
  folder, name = os.path.dirname(path) or '.', None
  try:
    handle, name = tempfile.mkstemp(prefix='.', suffix='.part', dir=folder)
    with os.fdopen(handle, 'w') as part:
      part.write('{\n%s\n}\n' % ',\n'.join(
          ' %s: %s' % (json.dumps(key), json.dumps(value[key]))
          for key in sorted(value)))
      part.flush()
      os.fsync(part.fileno())
    os.chmod(name, 0o644)
    os.replace(name, path)
    name = None
  except OSError as error:
    raise not_written(folder, error)
  finally:
    if name:
      os.unlink(name)


def git_commit():
  """Commit of these sources, '-dirty' if changed; None outside a checkout."""
  try:
    return subprocess.run(
        ['git', 'describe', '--always', '--dirty', '--abbrev=40'],
        cwd=os.path.dirname(os.path.abspath(__file__)), check=True,
        capture_output=True, text=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None


def hold(folder):
  """Locks a folder until this process ends; returns the open lock file.

  Raises:
    CheckpointError: another process holds it, or it cannot be made.
  """
  try:
    os.makedirs(folder, exist_ok=True)
    lock = open(os.path.join(folder, 'lock'), 'a+')
  except OSError as error:
    raise CheckpointError('Folder %s cannot be used (%s); name another.' % (
        folder, error.strerror))
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError:
    lock.seek(0)
    raise CheckpointError('Folder %s is in use by process %s; wait for it, or '
                          'name another.' % (folder, lock.read().strip()))
  lock.truncate(0)
  lock.write('%d\n' % os.getpid())
  lock.flush()
  return lock


def require_same(folder, found, wanted):
  """Raises CheckpointError if a folder's settings differ from those wanted."""
  if wanted.get('random_streams') != found.get('random_streams'):
    raise CheckpointError(
        'Folder %s was made by a version of this program that draws other '
        'images from the same seed; name another folder, or go on with that '
        'version.' % folder)
  for name in sorted(wanted.keys() | found.keys()):
    if wanted.get(name) != found.get(name):
      raise CheckpointError(
          'Folder %s was made with %s = %s, not %s; name another folder, or '
          'use the same value.' % (folder, name, found.get(name),
                                   wanted.get(name)))
