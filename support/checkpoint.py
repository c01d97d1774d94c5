"""What the folder of a network holds: checkpoints, JSON results, a lock.

A checkpoint describes itself: the width is that of conv1/biases, and the string
`settings` is JSON that says how the network was made. Nothing in a folder
refers to where the folder is.
"""
import fcntl
import json
import os
import re
import subprocess
import tempfile

import cifar10
from cifar10_input import UserError

import numpy as np
import tensorflow.compat.v1 as tf

SETTINGS = 'settings'   # Name of the string variable.

# What TensorFlow raises when a file cannot be written.
WRITE_ERRORS = (OSError, LookupError, RuntimeError, tf.errors.OpError)


def finished(folder):
  """Prefixes of the finished checkpoints in a folder, newest first.

  A checkpoint is finished when the folder's state file `checkpoint` lists it,
  which is written last. Where that file is lost, every one found counts.

  Raises:
    UserError: the folder does not exist.
  """
  if not os.path.isdir(folder):
    raise UserError('Folder %s does not exist; train a network into it first, '
                    'or name another.' % folder)
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


def read(path):
  """Reads and checks every array of a checkpoint of this network.

  Args:
    path: prefix of the checkpoint, as from finished.

  Returns:
    (arrays, settings): name -> NumPy array, and the dict with which the
    network was made (empty if it was made by another program).

  Raises:
    UserError: a file is damaged (every array has a checksum), or holds
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
    raise UserError('Checkpoint %s is damaged or incomplete (%s); remove its '
                    'files, or restore them.' % (
                        path, str(error).split('\n')[0]))
  biases = arrays.get('conv1/biases')
  width = biases.size if biases is not None else cifar10.CONV1_CHANNELS
  for name, shape in cifar10.weight_shapes(width).items():
    for variable in (name, name + cifar10.AVERAGE):
      if variable not in arrays:
        raise UserError('Checkpoint %s lacks %s; name a checkpoint of this '
                        'network, with its averages.' % (path, variable))
      if list(arrays[variable].shape) != shape:
        raise UserError('Checkpoint %s has %s of shape %s, expected %s; name a '
                        'checkpoint of this network.' % (
                            path, variable, list(arrays[variable].shape),
                            shape))
  return arrays, settings


def averages(arrays):
  """Name -> array: the averaged weights among the arrays of read."""
  return {name: arrays[name + cifar10.AVERAGE]
          for name in cifar10.weight_shapes(0)}


def read_newest(folder):
  """(path, arrays, settings) of the newest checkpoint, as read.

  Raises:
    UserError: there is none, or it is damaged.
  """
  paths = finished(folder)
  if not paths:
    raise UserError('Folder %s holds no finished checkpoint; train a network '
                    'into it first, or name another.' % folder)
  return (paths[0],) + read(paths[0])


def not_written(folder, error):
  """The UserError for a failure to write into a folder."""
  reason = re.search(r'; (.*)', str(error))   # TensorFlow's form: path; reason
  reason = getattr(error, 'strerror', None) or (
      reason.group(1) if reason else str(error).split('\n')[0])
  return UserError('Folder %s cannot be written to (%s); make room there, or '
                   'name another, and run the same command again.' % (
                       folder, reason))


def save(folder, arrays, settings):
  """Writes name -> array as the checkpoint of step 0, and its state file."""
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
  """Writes a dict as JSON, a line a key: a temporary file, then a rename."""
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
  """Makes a folder this process's own until it ends; returns the open lock.

  Raises:
    UserError: another process holds it, or it cannot be made.
  """
  try:
    os.makedirs(folder, exist_ok=True)
    lock = open(os.path.join(folder, 'lock'), 'a+')
  except OSError as error:
    raise UserError('Folder %s cannot be used (%s); name another.' % (
        folder, error.strerror))
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError:
    lock.seek(0)
    raise UserError('Folder %s is in use by process %s; wait for it, or name '
                    'another.' % (folder, lock.read().strip()))
  lock.truncate(0)
  lock.write('%d\n' % os.getpid())
  lock.flush()
  return lock


def require_same(folder, found, wanted):
  """Raises UserError if a folder was made with other settings than wanted."""
  if wanted.get('random_streams') != found.get('random_streams'):
    raise UserError(
        'Folder %s was made by a version of this program that draws other '
        'images from the same seed; name another folder, or go on with that '
        'version.' % folder)
  for name in sorted(wanted.keys() | found.keys()):
    if wanted.get(name) != found.get(name):
      raise UserError(
          'Folder %s was made with %s = %s, not %s; name another folder, or use '
          'the same value.' % (folder, name, found.get(name),
                               wanted.get(name)))
