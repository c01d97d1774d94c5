"""Checkpoints: the networks in a run's folder.

A checkpoint describes itself: a layer's width is the size of its biases, and
the string variable `settings` is JSON that says how the network was made.
Nothing in a folder depends on the folder's path.

TensorFlow takes a path for a pattern when it reads, so that a folder `a[b]` is
not found and `run?` is also `runs`. Here every path is a name: networks are
written by SaveV2, which takes it as it is, and read from inside their folder.
"""
import contextlib
import datetime
import functools
import itertools
import json
import os
import re
import subprocess
import sys
import time
import typing

from thinet import files
from thinet import tensorflow as tf

import numpy as np

SETTINGS = 'settings'   # Name of the variable with the JSON.
AVERAGE = '/ExponentialMovingAverage'   # Suffix of an averaged variable.
PARTS = ['.index', '.data-00000-of-00001']   # Suffixes of its files.


class CheckpointError(files.FileError):
  """There is no usable checkpoint."""


class DamagedError(CheckpointError):
  """A checkpoint whose files or numbers are not as any program writes them."""


class Checkpoint(typing.NamedTuple):
  """A checkpoint that was read and checked."""
  path: str        # Prefix of its files.
  arrays: dict     # Name -> NumPy array.
  settings: dict   # How the network was made; empty if another program did.
  digest: str      # SHA-256 of its files.

  @property
  def averages(self):
    """The averaged weights: name -> array."""
    return {name[:-len(AVERAGE)]: value for name, value in self.arrays.items()
            if name.endswith(AVERAGE)}


@contextlib.contextmanager
def writing(folder):
  """Raises FileError for what TensorFlow raises if it cannot write there."""
  try:
    yield
  except (OSError, LookupError, RuntimeError, tf.errors.OpError) as error:
    raise files.not_written(folder, error)


def paths(folder):
  """Prefixes of the checkpoints in a folder, newest first.

  Raises:
    CheckpointError: the folder does not exist, or cannot be read.
  """
  try:
    names = os.listdir(folder)
  except FileNotFoundError:
    raise CheckpointError('Folder %s does not exist; train a network into it '
                          'first, or name another.' % folder)
  except OSError as error:
    raise CheckpointError('Folder %s cannot be read (%s); name another.' %
                          (folder, error.strerror))
  found = filter(None, (re.fullmatch(r'(model\.ckpt-(\d{1,18}))\.index', name)
                        for name in names))
  return [os.path.join(folder, match[1]) for match in
          sorted(found, key=lambda match: int(match[2]), reverse=True)]


def digest(path):
  """SHA-256 of a checkpoint's files; raises OSError."""
  return files.digest([path + part for part in PARTS])


def _settings(arrays):
  """Takes the settings out of the arrays.

  Raises:
    ValueError: they are no JSON, or hold what no program of ours writes.
  """
  settings = json.loads(arrays.pop(SETTINGS, np.asarray(b'{}')).item())
  left = [settings]
  while left:
    each = left.pop()
    if not isinstance(each, dict):
      raise ValueError('settings are %.40r, no dict' % (each,))
    for name, value in each.items():
      if name == 'parent':
        left.append(value)
      elif isinstance(value, str):
        value.encode()   # Raises where it is half of a character.
      elif not (isinstance(value, (int, float)) and abs(value) < 2**53):
        raise ValueError('setting %s is %.40r' % (name, value))
  return settings


def _check(path, arrays, shapes_like, averaged):
  """Raises CheckpointError unless the arrays are a whole network, and
  DamagedError unless they are finite."""
  for name, shape in shapes_like(arrays).items():
    average = name + AVERAGE
    for variable in [name] + [average] * (averaged or average in arrays):
      if variable not in arrays:
        raise CheckpointError('Checkpoint %s lacks %s; name a checkpoint of '
                              'this network, with its averages.' % (path,
                                                                    variable))
      found = arrays[variable]
      if (list(found.shape), found.dtype) != (shape, np.float32) or (
          not found.size):
        raise CheckpointError(
            'Checkpoint %s has %s of type %s and shape %s, expected float32 '
            'and %s; name a checkpoint of this network.' % (
                path, variable, found.dtype, list(found.shape), shape))
  step = arrays.get('global_step', np.int64(0))
  if step.shape or step.dtype.kind not in 'iu' or not 0 <= step < 10**18:
    raise CheckpointError('Checkpoint %s has global_step %.40r; name a '
                          'checkpoint of this network.' % (path, step))
  name = not_finite(arrays)
  if name:
    raise DamagedError('Checkpoint %s holds numbers that are not finite, in '
                       '%s' % (path, name))


def _unreadable(path, reason):
  """Makes the error for a checkpoint that may be good."""
  return CheckpointError('Checkpoint %s cannot be read (%s); mend that, or '
                         'name another.' % (path, reason))


def not_finite(arrays):
  """Name of an array with a number that is not finite, or None."""
  return next((name for name, value in sorted(arrays.items())
               if value.dtype.kind == 'f' and not np.isfinite(value).all()),
              None)


def read(path, shapes_like, averaged=True):
  """Reads and checks every array of a checkpoint.

  Args:
    path: prefix of the checkpoint, as from paths.
    shapes_like: function of the arrays that returns name -> list, the shapes of
      all weights of a network with the arrays' widths.
    averaged: whether each weight must have its average, too.

  Returns:
    Checkpoint.

  Raises:
    DamagedError: a file is missing or damaged (every array has a checksum), or
      a number is not finite.
    CheckpointError: a file cannot be opened, or it holds another network.
  """
  try:
    found = digest(path)
  except FileNotFoundError as error:
    raise DamagedError('Checkpoint %s is incomplete, %s is missing' % (
        path, os.path.basename(error.filename)))
  except OSError as error:
    raise _unreadable(path, error.strerror)
  folder, name = os.path.split(path)
  failures = tf.errors.OpError   # Loads TensorFlow, outside of what it handles.
  try:
    with contextlib.chdir(folder or '.'):
      reader = tf.train.NewCheckpointReader(name)
      arrays = {key: np.asarray(reader.get_tensor(key))
                for key in reader.get_variable_to_shape_map()}
  except (OSError, MemoryError) as error:
    raise _unreadable(path, str(error) or 'Cannot allocate memory')
  except (failures, ValueError, RuntimeError, TypeError,
          LookupError) as error:
    reason = str(error).split('\n')[0]
    # Short of memory or descriptors, TensorFlow says so, or nothing.
    if re.search('^$|Bad address|Cannot allocate|Too many open|bad_alloc',
                 reason):
      raise _unreadable(path, reason or 'Cannot allocate memory')
    raise DamagedError('Checkpoint %s is damaged (%s)' % (path, reason))
  try:
    settings = _settings(arrays)
  except (ValueError, TypeError, AttributeError, RecursionError) as error:
    raise CheckpointError('Checkpoint %s has settings that cannot be read '
                          '(%s); name another.' % (path, error))
  _check(path, arrays, shapes_like, averaged)
  return Checkpoint(path, arrays, settings, found)


def read_newest(folder, shapes_like, averaged=True):
  """Reads the newest checkpoint of a folder that is not damaged.

  Says on standard error which ones are.

  Args:
    folder: the folder.
    shapes_like, averaged: as for read.

  Returns:
    Checkpoint.

  Raises:
    CheckpointError: there is none. If all are damaged, the text has the command
      that made them.
  """
  damages = []
  for path in paths(folder):
    try:
      found = read(path, shapes_like, averaged)
    except DamagedError as damage:
      if path not in paths(folder):   # A training has removed it meanwhile.
        return read_newest(folder, shapes_like, averaged)
      damages.append(damage)
      continue
    for damage in damages:
      print('%s; taking %s.' % (damage, path), file=sys.stderr)
    return found
  if damages:
    command = making(folder).get('command', 'the command that made it.')
    raise CheckpointError('%s; make it again with: %s' % (damages[0], command))
  raise CheckpointError('Folder %s holds no finished checkpoint, '
                        'model.ckpt-STEP; train a network into it first, or '
                        'name another.' % folder)


def prefix(name):
  """The prefix of the checkpoint that a path names; None if it names none.

  Args:
    name: the prefix, as runs/x/model.ckpt-3000, or one of the two files. A
      folder of the same name comes first.
  """
  path = name
  for part in PARTS:
    path = path.removesuffix(part)
  there = any(os.path.lexists(path + part) for part in PARTS)
  return path if there and not os.path.isdir(name) else None


def read_named(name, shapes_like):
  """Reads the checkpoint that a path names, or the newest of a folder.

  Args:
    name: the folder, or as for prefix.
    shapes_like: as for read; averages may be missing.

  Returns:
    Checkpoint.

  Raises:
    CheckpointError: there is none, or it cannot be used.
  """
  path = prefix(name)
  if not path:
    if not os.path.lexists(name):
      raise CheckpointError('Folder or checkpoint %s does not exist; train a '
                            'network first, or name another.' % name)
    return read_newest(name, shapes_like, averaged=False)
  if set('*?[]\\') & set(os.path.basename(path)):
    raise CheckpointError('Checkpoint %s has one of *?[]\\ in its name, which '
                          'TensorFlow takes for a pattern; rename its files.' %
                          path)
  try:
    return read(path, shapes_like, averaged=False)
  except DamagedError as damage:
    raise CheckpointError('%s; name another.' % damage)


def making(folder):
  """What run.json or compress.json says of a network's making, or {}."""
  for name in ('run.json', 'compress.json'):
    with contextlib.suppress(OSError, ValueError):
      return files.read_json(os.path.join(folder, name))
  return {}


def made_with(folder):
  """The settings that a network was made with, as its JSON says.

  They are known even if all its checkpoints are damaged.

  Returns:
    Name -> value; empty if the folder has no JSON, or no checkpoint.
  """
  return making(folder).get('settings', {}) if paths(folder) else {}


def move_aside(path):
  """Moves a checkpoint's files into `damaged`; returns where they are.

  Raises:
    FileError: the folder cannot be written to.
  """
  folder, name = os.path.split(path)
  above = os.path.join(folder, 'damaged')
  try:
    os.makedirs(above, exist_ok=True)
    for number in itertools.count(1):
      aside = os.path.join(above, '%s.%d' % (name, number))
      with contextlib.suppress(FileExistsError):
        os.mkdir(aside)
        break
    for part in PARTS:
      with contextlib.suppress(FileNotFoundError):
        os.rename(path + part, os.path.join(aside, name + part))
    files.sync(folder)
  except OSError as error:
    raise files.not_written(folder, error)
  return aside


def read_to_continue(folder, shapes_like):
  """Reads a folder's newest checkpoint, and moves damaged ones aside.

  The program that made them can make them again.

  Returns:
    Checkpoint, or None if there is none that is not damaged.

  Raises:
    CheckpointError: one cannot be opened, or is of another network.
    FileError: one cannot be moved.
  """
  for path in paths(folder):
    try:
      return read(path, shapes_like)
    except DamagedError as damage:
      print('%s; moved to %s, to be made again.' % (damage, move_aside(path)),
            file=sys.stderr)
  return None


def assign(session, values):
  """Gives variables their values, through their initializers.

  Args:
    session: an open session of the graph that holds the variables.
    values: dict, variable -> array.
  """
  session.run([var.initializer for var in values],
              {var.initial_value: value for var, value in values.items()})


def assign_network(session, arrays, suffix=''):
  """Gives the graph's trainable variables the arrays of name + suffix."""
  assign(session, {var: arrays[var.op.name + suffix]
                   for var in tf.trainable_variables()})


def restore(session, checkpoint):
  """Gives all variables of the graph the values of a checkpoint.

  Raises:
    CheckpointError: it lacks one, or has another shape.
  """
  values = {}
  for var in tf.global_variables():
    name = var.op.name
    value = (np.asarray(json.dumps(checkpoint.settings)) if name == SETTINGS
             else checkpoint.arrays.get(name))
    require_fit(checkpoint.path, var, value)
    values[var] = value
  assign(session, values)


def require_fit(path, var, value):
  """Raises CheckpointError unless a checkpoint's array is a variable's value.

  Args:
    path: of the checkpoint, or its folder.
    var: variable.
    value: array, or None if there is none.
  """
  name = var.op.name
  if value is None or value.shape != tuple(var.shape.as_list()) or (
      name != SETTINGS and value.dtype != var.dtype.as_numpy_dtype):
    raise CheckpointError('Checkpoint %s lacks %s, or has another shape or '
                          'type of it; name another folder.' % (path, name))


def save(folder, arrays, settings, step=0, keep=1):
  """Writes a checkpoint durably, then the state file, then removes old ones.

  Args:
    folder: an existing folder.
    arrays: name -> array, finite.
    settings: dict, how the network was made.
    step: training step, part of the checkpoint's name.
    keep: number of checkpoints to keep in the folder.

  Returns:
    Prefix of the checkpoint.

  Raises:
    CheckpointError: a number is not finite.
    FileError: the folder cannot be written to.
  """
  name = not_finite(arrays)
  if name:
    raise CheckpointError('The network for %s has a number that is not finite '
                          'in %s; it was not saved.' % (folder, name))
  arrays = dict(arrays, **{SETTINGS: np.asarray(json.dumps(settings).encode())})
  names = sorted(arrays)
  path = os.path.join(folder, 'model.ckpt-%d' % step)
  with writing(folder):
    with tf.Graph().as_default(), tf.Session() as session:
      session.run(tf.raw_ops.SaveV2(
          prefix=path, tensor_names=names, shape_and_slices=[''] * len(names),
          tensors=[tf.constant(arrays[name]) for name in names]))
    for part in PARTS:
      files.sync(path + part)
    files.sync(folder)
    found = paths(folder)
    older = found[found.index(path) + 1:]
    files.write(os.path.join(folder, 'checkpoint'), ''.join(
        '%s: "%s"\n' % (key, os.path.basename(each)) for key, each in
        [('model_checkpoint_path', path)] + [
            ('all_model_checkpoint_paths', each)
            for each in older[:keep - 1][::-1] + [path]]).encode())
    for old in older[keep - 1:]:
      for part in PARTS:
        with contextlib.suppress(FileNotFoundError):
          os.unlink(old + part)
  return path


def remove_parts(folder):
  """Removes temporary files of killed writers of a network.

  The caller holds the folder's lock. Others may be writing an evaluation in it;
  of such files only those of an hour ago are removed.
  """
  ours = (r'model\.ckpt-\d+\..*\.tempstate\d+|'
          r'\.(checkpoint|run\.json|compress\.json)\..*\.part')
  evaluation = r'\.(hparams|eval.*\.json)\..*\.part'
  with contextlib.suppress(OSError):   # They can stay.
    for each in os.listdir(folder):
      path = os.path.join(folder, each)
      if re.fullmatch(ours, each) or (
          re.fullmatch(evaluation, each) and
          time.time() - os.path.getmtime(path) > 3600):
        os.unlink(path)


def now():
  """Local time in ISO 8601, to the second, with its offset from UTC."""
  return datetime.datetime.now().astimezone().isoformat(timespec='seconds')


@functools.cache   # As it was at the first call.
def git_commit():
  """Commit of these sources, '-dirty' if changed; None outside a checkout."""
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  if not os.path.lexists(os.path.join(root, '.git')):   # One above is not ours.
    return None
  try:
    return subprocess.run(
        ['git', 'describe', '--always', '--dirty', '--abbrev=40'], cwd=root,
        check=True, capture_output=True, text=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None


def require_same(folder, found, wanted):
  """Raises CheckpointError if a folder's settings differ from those wanted."""
  if not found:
    raise CheckpointError('Folder %s holds a network that these programs did '
                          'not make; name another.' % folder)
  if wanted.get('random_streams') != found.get('random_streams'):
    raise CheckpointError(
        'Folder %s was made by a version of this program that draws other '
        'images from the same seed; name another folder, or go on with that '
        'version.' % folder)
  sources = {'data_digest': 'other images than --data_dir has now'}
  sources.update(dict.fromkeys(
      ['parent', 'parent_step', 'parent_digest'],
      'another network, or other weights, than --checkpoint_dir has now'))
  for name in sorted(wanted.keys() | found.keys(),
                     key=lambda name: (name in sources, name)):
    if wanted.get(name) == found.get(name):
      continue
    if name in sources:
      raise CheckpointError(
          'Folder %s was made from %s; name another folder, or restore what it '
          'was made from.' % (folder, sources[name]))
    how = 'with %s = %s' % (name, found.get(name))
    if name not in found:
      how = 'without %s = %s' % (name, wanted[name])
    elif name in wanted:
      how += ', not %s' % wanted[name]
    raise CheckpointError('Folder %s was made %s; name another folder, or use '
                          'the same value.' % (folder, how))
