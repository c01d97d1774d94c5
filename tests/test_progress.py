"""Progress of long work, on a real terminal and without one."""
import os
import pty
import subprocess
import sys

import conftest

PROGRAM = """
from thinet import progress
print(sum(progress.shown(range(5), 'Long work')))
"""


def run(**streams):
  return subprocess.run([sys.executable, '-c', PROGRAM], cwd=conftest.ROOT,
                        env=dict(os.environ, TERM='xterm'), check=True,
                        stdout=subprocess.PIPE, text=True, **streams).stdout


def test_a_terminal_shows_label_and_share():
  ours, theirs = pty.openpty()
  assert run(stderr=theirs) == '10\n'
  os.close(theirs)
  shown = b''
  try:
    while True:
      shown += os.read(ours, 1 << 16)
  except OSError:   # Its end.
    os.close(ours)
  assert b'Long work' in shown and b'100%' in shown
  assert shown.rindex(b'\x1b[?25h') > shown.rindex(b'\x1b[?25l')   # The cursor.


def test_a_file_gets_nothing():
  assert run(stderr=subprocess.STDOUT) == '10\n'
