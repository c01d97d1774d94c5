"""Times competitors in turn, each in a process of its own.

A benchmark starts a process for each competitor and asks them in turn for a
step. So a process loads only what it measures (with PyTorch and TensorFlow in
one, PyTorch crashes on some processors), and its threads are its own. It
answers on standard output in lines of JSON: first the names of its runs, then,
for each line `["name", repeats]` on its standard input, the mean seconds of
that many calls:

  echo '["tutorial", 100]' | python benchmarks/tutorial.py --data_dir=data
  ["tutorial"]
  0.067

This module imports only the standard library and NumPy.
"""
import argparse
import datetime
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

WARM_UP, STEPS = 5, 40
NO_BFLOAT16 = ('bfloat16 is left out: this processor has no instructions for '
               'it (avx512_bf16, amx_bf16).')


def serve(make):
  """Answers the requests on standard input; the process's whole work.

  Args:
    make: function without arguments that returns a dict, name -> function that
      runs a step.
  """
  # Whatever a library or TensorFlow itself prints goes to standard error.
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  runs = make()
  print(json.dumps(list(runs)), file=answers, flush=True)
  for line in sys.stdin:
    name, repeats = json.loads(line)
    start = time.perf_counter()
    for _ in range(repeats):
      runs[name]()
    print(json.dumps((time.perf_counter() - start) / repeats), file=answers,
          flush=True)


def parsed(doc, processes, parts=()):
  """The flags of a benchmark; with --only, is one of its processes instead.

  Args:
    doc: the benchmark's docstring.
    processes: name -> function of the data folder, to serve with --only.
    parts: names of the parts that can be asked for, if there are parts.

  Returns:
    Namespace: data_dir, json; part, where there are parts.
  """
  parser = argparse.ArgumentParser(
      description=doc, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data_dir', default='data',
                      help='folder that holds, or will hold, the data set')
  parser.add_argument('--json', action='store_true', help='print one object')
  parser.add_argument('--only', choices=list(processes),
                      help='be one of the processes that are compared')
  if parts:
    parser.add_argument('--part', choices=list(parts),
                        help='measure this part alone')
  flags = parser.parse_args()
  if flags.only:
    serve(lambda: processes[flags.only](flags.data_dir))
    sys.exit(0)
  if not parts and not has_bfloat16():   # Parts are a GPU's.
    print(NO_BFLOAT16, file=sys.stderr, flush=True)
  return flags


class Competitor:
  """A process that answers as serve does.

  Attributes:
    names: what it can run; empty once the process has died.
  """

  def __init__(self, title, command):
    """Starts the process, and waits until it is ready.

    Args:
      title: its name in the message if it dies.
      command: list of strings.
    """
    self._title, self._errors = title, tempfile.TemporaryFile()
    self._process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=self._errors, text=True)
    self.names = self._answer() or []

  def seconds(self, name, repeats=1):
    """Mean seconds of the named run; None if the process died."""
    if not self.names:
      return None
    try:
      print(json.dumps([name, repeats]), file=self._process.stdin, flush=True)
    except BrokenPipeError:
      pass   # The answer that does not come says so.
    return self._answer()

  def _answer(self):
    line = self._process.stdout.readline()
    if line:
      return json.loads(line)
    self.names = []
    print('%s is left out: its process ended with %s.' % (
        self._title, self._end()), file=sys.stderr, flush=True)
    return None

  def _end(self):
    """How the process ended, and its last words."""
    code = self._process.wait()
    end = ('signal %d, %s' % (-code, signal.strsignal(-code)) if code < 0 else
           'exit code %d' % code)
    self._errors.seek(0)
    words = self._errors.read().decode(errors='replace').strip()
    if code > 0 and words:
      end += ' (%s)' % words.splitlines()[-1].rstrip('.')
    return end

  def close(self):
    """Ends the process by ending its input."""
    try:
      self._process.stdin.close()
    except BrokenPipeError:
      pass
    self._process.wait()
    self._process.stdout.close()
    self._errors.close()
    self.names = []


def interleaved(competitors, steps=STEPS):
  """Medians of some steps of each run, after WARM_UP, in turn.

  The order changes with every round, since each run finds the caches as the one
  before left them.

  Args:
    competitors: list of Competitor; their names differ.
    steps: number of them.

  Returns:
    name -> seconds, without the runs of a process that died.
  """
  owners = {name: each for each in competitors for name in each.names}
  found, names = {name: [] for name in owners}, list(owners)
  generator = random.Random(0)
  for _ in range(WARM_UP + steps):
    generator.shuffle(names)
    for name in names:
      found[name].append(owners[name].seconds(name))
  return {name: float(np.median(times[WARM_UP:]))
          for name, times in found.items() if owners[name].names}


def _cpuinfo(key):
  """The first value of a key in /proc/cpuinfo; empty where there is none."""
  if os.path.exists('/proc/cpuinfo'):
    with open('/proc/cpuinfo') as source:
      for line in source:
        if line.split(':')[0].strip() == key:
          return line.split(':', 1)[1].strip()
  return ''


def machine():
  """The processor's name and its number of cores."""
  return '%s, %d cores' % (_cpuinfo('model name') or platform.machine(),
                           os.cpu_count())


def has_bfloat16():
  """Whether the processor has instructions for bfloat16.

  Without them a step in bfloat16 takes seconds.
  """
  return bool({'avx512_bf16', 'amx_bf16'} & set(_cpuinfo('flags').split()))


def report(result, as_json):
  """Prints a dict as one JSON object, or with a line for each key.

  The date and the machine are added at its end.
  """
  result = dict(result, date=datetime.date.today().isoformat(),
                machine=machine())
  result = {name: round(value, 3) if isinstance(value, float) else value
            for name, value in result.items()}
  try:
    print(json.dumps(result) if as_json else
          '\n'.join('%s: %s' % item for item in result.items()), flush=True)
  except OSError as error:
    # What Python still holds goes nowhere, or its exit would fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE if isinstance(error, BrokenPipeError) else
             'The result cannot be printed (%s).' % error.strerror)
