"""Scripts as processes of their own, forked where TensorFlow is imported.

A real process, with its own pid, signals, limits and exit code; but what takes
seconds in each, the import of TensorFlow, is done once, in a process that forks
them. (The sweep's tests start theirs with the interpreter.)
"""
import io
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
import threading

FORKS = multiprocessing.get_context('forkserver')
FORKS.set_forkserver_preload(['pytest', 'thinet.summaries',
                              'tensorflow.compat.v1'])


def _become(script, flags, largest_file, ignored, pipes):
  """In the new process: runs the script as `python script flags`."""
  for number, path in enumerate(pipes, 1):
    os.dup2(os.open(path, os.O_WRONLY), number)
  sys.stdout = io.TextIOWrapper(open(1, 'wb', 0, closefd=False),
                                write_through=True)
  if ignored:
    signal.signal(ignored, signal.SIG_IGN)
  if largest_file:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file,) * 2)
  sys.argv = [script] + flags
  runpy.run_path(script, run_name='__main__')


class Program:
  """A running script, with what the tests need of subprocess.Popen.

  Attributes:
    stdout: text file, its output.
    pid: its process number.
    returncode: None, or after communicate its exit code, or -signal.
  """

  def __init__(self, script, flags, largest_file=None, ignored=None):
    """Starts it.

    Args:
      script: path.
      flags: list of strings.
      largest_file: bytes beyond which a write into a file fails, or None.
      ignored: number of a signal that it ignores from the start, or None.
    """
    self.returncode = None
    with tempfile.TemporaryDirectory() as folder:
      pipes = [os.path.join(folder, name) for name in ('out', 'err')]
      for path in pipes:
        os.mkfifo(path)
      self._process = FORKS.Process(
          target=_become, args=(script, flags, largest_file, ignored, pipes),
          daemon=True)
      self._process.start()
      self.stdout, self._stderr = map(open, pipes)   # When it has opened them.
    self.pid = self._process.pid

  def send_signal(self, number):
    os.kill(self.pid, number)

  def terminate(self):
    self.send_signal(signal.SIGTERM)

  def kill(self):
    self.send_signal(signal.SIGKILL)

  def communicate(self):
    """Waits for its end; returns the rest of its (output, errors)."""
    errors = []
    reader = threading.Thread(target=lambda: errors.append(self._stderr.read()))
    reader.start()
    output = '' if self.stdout.closed else self.stdout.read()
    reader.join()
    self._process.join()
    self.returncode = self._process.exitcode
    return output, errors[0]
