"""Files that survive: written whole and durably, checked when read, locked.

A file appears under its name when all of it is on the disk; power can fail at
any moment. A JSON file ends with its own digest, so that what was cut or edited
is noticed before it is believed. The standard library alone: programs that only
look at results need no TensorFlow.
"""
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
import stat
import sys
import time

PROBES, PROBE_SECONDS = 10, 0.05   # A lock that `held` looks at is free again.


class FileError(Exception):
  """Error that the user can put right; its one sentence says how."""


def not_written(folder, error):
  """Makes the FileError for a failure to write into a folder."""
  reason = re.search(r'; (.*)', str(error))   # TensorFlow's form: path; reason
  reason = getattr(error, 'strerror', None) or (
      reason.group(1) if reason else str(error).split('\n')[0])
  return FileError('Folder %s cannot be written to (%s); make room there, or '
                   'name another, and run the same command again.' % (
                       folder, reason))


# ------------------------------------------------------------------- reading


def open_regular(path, flags=os.O_RDONLY):
  """Opens a regular file; never waits, as opening a FIFO would.

  Returns:
    The descriptor.

  Raises:
    OSError: it cannot be opened, or is no regular file.
  """
  descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
  if not stat.S_ISREG(os.fstat(descriptor).st_mode):
    os.close(descriptor)
    raise OSError(errno.EINVAL, '%s is not a regular file' %
                  os.path.basename(path))
  return descriptor


def read_bytes(path):
  """Reads a regular file as bytes; raises OSError if it cannot."""
  with open(open_regular(path), 'rb') as source:
    return source.read()


def digest(paths):
  """SHA-256 of the bytes of some files, one after the other, in hexadecimal.

  Raises:
    OSError: one cannot be read.
  """
  found = hashlib.sha256()
  for path in paths:
    with open(open_regular(path), 'rb') as source:
      for block in iter(lambda: source.read(1 << 20), b''):
        found.update(block)
  return found.hexdigest()


def size(folder):
  """Bytes of all files below a folder."""
  return sum(os.path.getsize(os.path.join(above, name))
             for above, _, names in os.walk(folder) for name in names)


# ------------------------------------------------------------------- writing


def sync(path):
  """Waits until a file's content, or a folder's names, are on the disk.

  Raises:
    OSError: they cannot be written there.
  """
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  except OSError as error:
    if error.errno != errno.EINVAL:   # Some file systems sync no folder.
      raise
  finally:
    os.close(descriptor)


def make_folder(folder):
  """Makes a folder and those above it, durably; raises OSError."""
  if not os.path.isdir(folder):
    above = os.path.dirname(os.path.abspath(folder))
    make_folder(above)
    with contextlib.suppress(FileExistsError):
      os.mkdir(folder)
    sync(above)
  os.listdir(folder)   # Raises if it is none.


def require_writable(folder):
  """Checks that a folder can be written to, or made; changes nothing.

  Raises:
    FileError: it cannot.
  """
  there = os.path.abspath(folder)
  while not os.path.lexists(there):
    there = os.path.dirname(there)
  if not os.path.isdir(there):
    raise FileError('Folder %s cannot be used (%s is not a folder); name '
                    'another.' % (folder, there))
  if not os.access(there, os.W_OK | os.X_OK):
    raise FileError('Folder %s cannot be written to; allow it, or name '
                    'another.' % folder)


@contextlib.contextmanager
def replacing(path, name=None):
  """Gives a file its name when all of it is on the disk.

  Args:
    path: the file's.
    name: in the temporary file's; by default the file's own.

  Yields:
    Path of the temporary file, to be made; it is gone if the block raises.

  Raises:
    OSError: the folder cannot be written to; the path is as it was.
  """
  folder, own = os.path.split(path)
  part = os.path.join(folder, '.%s.%s.part' % (name or own,
                                               secrets.token_hex(4)))
  try:
    yield part
    sync(part)
    os.replace(part, path)
    sync(folder or '.')
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(part)


def write(path, content):
  """Writes bytes to a file, as by replacing, which says what is raised."""
  with replacing(path) as part, open(part, 'xb') as target:
    target.write(content)


def remove_parts(path):
  """Removes temporary files of killed writers of a path; raises OSError."""
  folder, name = os.path.split(path)
  for each in os.listdir(folder or '.'):
    if each.startswith('.%s.' % name) and each.endswith('.part'):
      os.unlink(os.path.join(folder, each))


def close_output():
  """Discards what is printed from now on, as its reader is gone.

  Otherwise Python fails again when it flushes at its end.
  """
  with open(os.devnull, 'w') as nowhere:
    os.dup2(nowhere.fileno(), sys.stdout.fileno())


# ---------------------------------------------------------------------- JSON


def _closing(body):
  """The last lines of a JSON file: the digest of the text before them."""
  return ',\n "digest": "%s"\n}\n' % hashlib.sha256(body.encode()).hexdigest()


def write_json(path, value):
  """Writes a dict as JSON, a line for each key, its digest last.

  Raises:
    FileError: the folder cannot be written to.
  """
  body = '{\n' + ',\n'.join(' %s: %s' % (json.dumps(key), json.dumps(each))
                            for key, each in sorted(value.items()))
  try:
    write(path, (body + _closing(body)).encode())
  except IsADirectoryError:
    raise FileError('%s is a folder, where a file is to be written; move it '
                    'away, and run the same command again.' % path)
  except OSError as error:
    raise not_written(os.path.dirname(path) or '.', error)


def read_json(path, **how):
  """Reads a dict that write_json wrote, after a look at its digest.

  Args:
    path: the file.
    **how: as for json.loads.

  Returns:
    The dict that was written.

  Raises:
    OSError: it cannot be opened.
    ValueError: it was cut, edited, or written by another program.
  """
  text = read_bytes(path).decode()
  body = text[:-len(_closing(''))]
  if text != body + _closing(body):
    raise ValueError('it was cut, or changed after it was written')
  return json.loads(body + '}', **how)


# ---------------------------------------------------------------------- lock


def _open_lock(path):
  """Opens a lock file; never one that a link stands for; raises OSError."""
  return open(open_regular(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW), 'r+',
              errors='replace')


def _lock(lock):
  """Locks a file; waits for those who only look whether it is locked.

  Raises:
    BlockingIOError: another process holds it.
    OSError: it cannot be locked.
  """
  for last in (False,) * PROBES + (True,):
    try:
      return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      if last:
        raise
    time.sleep(PROBE_SECONDS)


def held(path):
  """Whether a process holds the lock of a file; locks it for an instant."""
  try:
    descriptor = open_regular(path)
  except OSError:
    return False
  try:
    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except OSError:   # There are no locks here.
    pass
  finally:
    os.close(descriptor)
  return False


def _sign(lock):
  """Writes into a lock file who holds it; raises OSError."""
  text = 'process %d on %s\n' % (os.getpid(), socket.gethostname())
  os.ftruncate(lock.fileno(), 0)
  os.pwrite(lock.fileno(), text.encode(), 0)   # Nothing is left to be closed.


def hold(folder):
  """Makes a folder, and locks it until this process ends.

  Where the file system has no locks, as some network file systems, it says so
  and goes on.

  Returns:
    The open lock file.

  Raises:
    FileError: another process holds it, or it cannot be used.
  """
  try:
    make_folder(folder)
    lock = _open_lock(os.path.join(folder, 'lock'))
  except OSError as error:
    raise FileError('Folder %s cannot be used (%s); mend that, or name '
                    'another.' % (folder, error.strerror))
  try:
    _lock(lock)
  except BlockingIOError:
    raise FileError('Folder %s is in use by %s; wait for it, or name another.' %
                    (folder, lock.read(200).strip() or 'another process'))
  except OSError as error:
    print('Folder %s cannot be locked (%s); let no other program write into '
          'it.' % (folder, error.strerror), file=sys.stderr)
  try:
    _sign(lock)
  except OSError as error:
    raise not_written(folder, error)
  return lock


@contextlib.contextmanager
def alone(path):
  """Waits until no other process is in a block of this lock file.

  Goes on without a lock where there are none, or the file cannot be made.
  """
  with contextlib.ExitStack() as stack:
    with contextlib.suppress(OSError):
      lock = stack.enter_context(_open_lock(path))
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        print('Waiting for %s, which makes what %s is for.' % (
            lock.read(200).strip() or 'another process', path), flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
      _sign(lock)
    yield
