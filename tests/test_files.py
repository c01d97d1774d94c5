"""Files are whole or not there, what was changed is noticed, one at a time."""
import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys

import conftest
import pytest
from thinet import files
from thinet.files import FileError


def test_json_is_written_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'x.json'
  files.write_json(path, {'b': [1, 2], 'a': {'c': 'ä'}})
  assert files.read_json(path) == {'b': [1, 2], 'a': {'c': 'ä'}}
  found = json.loads(path.read_text())   # For every other program.
  text, digest = path.read_text(), found.pop('digest')
  assert found == {'b': [1, 2], 'a': {'c': 'ä'}}
  assert digest == hashlib.sha256(
      text[:text.index(',\n "digest"')].encode()).hexdigest()
  with pytest.raises(TypeError):
    files.write_json(path, {'b': object()})
  assert files.read_json(path)['b'] == [1, 2]
  (tmp_path / 'y.json').mkdir()
  with pytest.raises(FileError, match='y.json is a folder'):
    files.write_json(str(tmp_path / 'y.json'), {'a': 1})
  assert sorted(os.listdir(tmp_path)) == ['x.json', 'y.json']
  with pytest.raises(FileError, match='none cannot be written to'):
    files.write_json(str(tmp_path / 'none' / 'x.json'), {'a': 1})


def test_every_change_to_a_json_file_is_noticed(tmp_path):
  """Each bit flipped, each length cut to, and what an editor does."""
  path = tmp_path / 'x.json'
  files.write_json(path, {'top1': 1.5, 'n': 3})
  whole = path.read_bytes()
  changed = [whole[:length] for length in range(len(whole))]
  changed += [whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1:]
              for at in range(len(whole)) for bit in range(8)]
  changed += [whole.replace(b'1.5', b'2.5'), whole + b'\n', b'[]', b'null',
              whole.replace(b'\n', b'\r\n'), b'{"top1": 1.5}']
  for content in changed:
    path.write_bytes(content)
    with pytest.raises(ValueError):
      files.read_json(path)


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
  """And its name is, before write returns."""
  happened = []
  fsync, replace = os.fsync, os.replace
  def name(descriptor):
    return os.path.basename(os.readlink('/proc/self/fd/%d' % descriptor))
  monkeypatch.setattr(os, 'fsync', lambda descriptor: (
      happened.append(('sync', name(descriptor))), fsync(descriptor)))
  monkeypatch.setattr(os, 'replace', lambda old, new: (
      happened.append(('name', os.path.basename(new))), replace(old, new)))
  files.write(str(tmp_path / 'x'), b'abc')
  (first, part), *rest = happened
  assert first == 'sync' and part.startswith('.x.') and part.endswith('.part')
  assert rest == [('name', 'x'), ('sync', tmp_path.name)]
  happened.clear()
  files.make_folder(str(tmp_path / 'a' / 'b'))
  assert happened == [('sync', tmp_path.name), ('sync', 'a')]


def test_a_file_has_the_rights_that_the_umask_leaves(tmp_path):
  before = os.umask(0o007)
  try:
    files.write(str(tmp_path / 'x'), b'abc')
    files.hold(str(tmp_path)).close()
  finally:
    os.umask(before)
  for name in ('x', 'lock'):
    assert os.stat(tmp_path / name).st_mode & 0o777 == 0o660


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'fifo')
  for path in (tmp_path / 'fifo', tmp_path, '/dev/zero'):
    with pytest.raises(OSError, match='is not a regular file'):
      files.read_bytes(path)
    with pytest.raises(OSError, match='is not a regular file'):
      files.digest([path])


def test_what_killed_writers_left_is_removed(tmp_path):
  for name in ('.x.bin.abc.part', '.x.bin2.abc.part', '.y.abc.part', 'x.bin',
               '.x.bin.old'):
    (tmp_path / name).touch()
  files.remove_parts(str(tmp_path / 'x.bin'))
  assert sorted(os.listdir(tmp_path)) == ['.x.bin.old', '.x.bin2.abc.part',
                                          '.y.abc.part', 'x.bin']


def test_one_holder_at_a_time_and_the_dead_do_not_hold(tmp_path):
  code = ('import sys; sys.path.insert(0, %r); from thinet import files; '
          'lock = files.hold(%r); print("held", flush=True); input()' % (
              conftest.ROOT, str(tmp_path)))
  holder = subprocess.Popen([sys.executable, '-c', code], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
  assert holder.stdout.readline() == 'held\n'
  with pytest.raises(FileError, match='in use by process %d on %s;' % (
      holder.pid, os.uname().nodename)):
    files.hold(str(tmp_path))
  holder.kill()
  holder.communicate()
  files.hold(str(tmp_path)).close()


def test_who_only_looks_stops_no_holder(tmp_path, monkeypatch):
  """A lock that is shared for an instant is waited for."""
  files.hold(str(tmp_path)).close()
  assert not files.held(str(tmp_path / 'lock'))
  looker = open(tmp_path / 'lock')
  fcntl.flock(looker, fcntl.LOCK_SH)
  monkeypatch.setattr(files.time, 'sleep', lambda seconds: looker.close())
  with files.hold(str(tmp_path)):
    assert files.held(str(tmp_path / 'lock'))
  assert not files.held(str(tmp_path / 'none'))


@pytest.mark.parametrize('number', [errno.ENOSYS, errno.ENOLCK,
                                    errno.EOPNOTSUPP])
def test_a_file_system_without_locks_can_be_used(tmp_path, monkeypatch, capsys,
                                                 number):
  def flock(lock, how):
    raise OSError(number, os.strerror(number))
  monkeypatch.setattr(fcntl, 'flock', flock)
  files.hold(str(tmp_path / 'new')).close()
  assert 'new cannot be locked (%s); let no other program write into it' % (
      os.strerror(number)) in capsys.readouterr().err
  with files.alone(str(tmp_path / 'lock')):
    pass


def test_a_lock_file_on_a_full_disk_is_no_fault(tmp_path):
  """Nothing of it is left to be written when it is closed."""
  program = ('import resource, signal\n'
             'from thinet import files\n'
             'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
             'resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n'
             'with files.alone(%r): pass' % str(tmp_path / 'lock'))
  subprocess.run([sys.executable, '-c', program], cwd=conftest.ROOT, check=True)


def test_a_lock_that_is_no_file_is_refused(tmp_path):
  """Nor is what a link leads to overwritten."""
  (tmp_path / 'file').write_text('kept')
  os.mkfifo(tmp_path / 'fifo')
  for target, words in [('fifo', 'lock is not a regular file'),
                        ('file', 'Too many levels of symbolic links')]:
    folder = tmp_path / ('with ' + target)
    folder.mkdir()
    os.rename(tmp_path / target, folder / 'lock') if target == 'fifo' else (
        os.symlink(tmp_path / target, folder / 'lock'))
    with pytest.raises(FileError, match='cannot be used \\(%s' % words):
      files.hold(str(folder))
  with pytest.raises(FileError, match='file cannot be used'):
    files.hold(str(tmp_path / 'file'))
  assert (tmp_path / 'file').read_text() == 'kept'


def test_a_folder_is_tried_before_the_work(tmp_path, monkeypatch):
  files.require_writable(str(tmp_path / 'a' / 'b'))
  assert not os.listdir(tmp_path)
  (tmp_path / 'file').touch()
  with pytest.raises(FileError, match='a cannot be used .*file is not a fold'):
    files.require_writable(str(tmp_path / 'file' / 'a'))
  monkeypatch.setattr(os, 'access', lambda path, how: path != str(tmp_path))
  with pytest.raises(FileError, match='b cannot be written to; allow it'):
    files.require_writable(str(tmp_path / 'a' / 'b'))
