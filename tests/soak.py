"""Stops and damages small sweeps at random, and compares how they end.

  python tests/soak.py --kills=40 --damages=20 --output=results/soak.json

Runs the sweep once undisturbed, on drawn data. Then runs it in new folders, two
cells at a time: stops it at random moments, damages files of its folder, and
repeats the same command until the sweep has ended. Every table, result and
weight is compared with those of the undisturbed sweep. About 20 minutes on two
cores.

A stop is HUP, INT, TERM or USR1 to the sweep's shell, which must end with 128 +
the signal and leave nothing running; kill -9 to all of its processes; or a
pause, STOP and CONT. A damaged file is emptied, cut, deleted, replaced, or has
one bit flipped.
"""
import argparse
import collections
import datetime
import glob
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.dirname(os.path.abspath(__file__))]

import cifar10
import demo_data
from thinet import checkpoint
from thinet import files

POLITE = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
SIGNALS = POLITE + [signal.SIGKILL, signal.SIGSTOP]
MOST_STARTS = 5        # Programs that start before the next stop, at most,
LONGEST_WAIT = 8.0     # then seconds to the stop; short waits are likelier.
LONGEST_PAUSE = 3.0    # Seconds from STOP to CONT.
LONGEST_STOP = 120.0   # Seconds that a polite stop may take.
DAMAGE_SHARE = 0.6     # Of the stops that are followed by damage.


class Sweep:
  """A sweep in a new folder, run by the same command again and again."""

  def __init__(self, folder, data, name):
    self.out = os.path.join(folder, name)
    self._data, self._log = data, os.path.join(folder, name + '.log')
    self.process = None

  def start(self):
    """Starts it as a process group of its own, with a new log."""
    with open(self._log, 'w') as log:
      self.process = subprocess.Popen(
          [os.path.join(ROOT, 'run_experiments.sh')], stdout=log, stderr=log,
          start_new_session=True,
          env=dict(os.environ, PYTHON=sys.executable, DATA_DIR=self._data,
                   OUT=self.out, JOBS='2', WIDTHS='64 8', EPOCHS='6',
                   FINETUNE_EPOCHS='3', MODES='thinet_none thinet_scale',
                   CONTROLS=''))

  def programs(self):
    """Names of the scripts that were started, according to the log."""
    with open(self._log, errors='replace') as log:
      return [os.path.basename(line.split()[2]) for line in log
              if re.match(r'\+ \S+ \S', line)]

  def ends_before(self, starts, seconds):
    """Waits for programs to start, then seconds; whether the sweep ended."""
    while self.process.poll() is None and len(self.programs()) < starts:
      time.sleep(0.05)
    try:
      return self.process.wait(seconds) is not None
    except subprocess.TimeoutExpired:
      return False

  def stop(self, number, pause):
    """Sends a signal; returns the number of processes that it leaves."""
    group = self.process.pid
    if number in POLITE:
      os.kill(group, number)
      code = self.process.wait(LONGEST_STOP)
      # It dies of it if it has only begun, and may just have come to its end.
      if code not in (128 + number, -number, 0):
        self.fail('exit code %d after %s' % (code, number.name))
      return len(running(group))
    os.killpg(group, number)
    if number == signal.SIGSTOP:
      time.sleep(pause)
      os.killpg(group, signal.SIGCONT)
    else:
      self.process.wait()
      while running(group):
        time.sleep(0.01)
    return 0

  def fail(self, words):
    """Ends the soak with the log; the folder stays."""
    with open(self._log, errors='replace') as log:
      sys.exit('%s\n%s in %s' % (log.read(), words, self.out))


def running(group):
  """Process numbers of a group, without those that have ended."""
  found = []
  for path in glob.glob('/proc/[0-9]*/stat'):
    try:
      with open(path) as source:
        state, _, its_group = source.read().rpartition(')')[2].split()[:3]
    except OSError:   # It has just ended.
      continue
    if int(its_group) == group and state not in 'ZX':
      found.append(path.split('/')[2])
  return found


def kind_of(path):
  """A file's kind: its name without numbers and other marks of its own."""
  name = os.path.basename(path)
  if '.tfevents.' in name:
    return 'events'
  return 'part' if name.endswith('.part') else re.sub(r'-\w+', '', name)


def damage(out, dice):
  """Damages a file of a sweep; returns its kind and how, or None."""
  kinds = collections.defaultdict(list)
  for path in sorted(glob.glob(glob.escape(out) + '/**', recursive=True,
                               include_hidden=True)):
    if os.path.isfile(path) and '/damaged/' not in path:
      kinds[kind_of(path)].append(path)
  if not kinds:
    return None
  kind = dice.choice(sorted(kinds))
  path = dice.choice(kinds[kind])
  with open(path, 'rb') as source:
    content = bytearray(source.read())
  how = dice.choice(['emptied', 'cut', 'flipped', 'replaced', 'deleted']
                    if content else ['replaced', 'deleted'])
  if how == 'deleted':
    os.unlink(path)
    return kind, how
  if how == 'flipped':
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
  with open(path, 'wb') as target:
    target.write({'emptied': b'', 'flipped': content,
                  'cut': content[:dice.randrange(len(content) or 1)],
                  'replaced': dice.randbytes(len(content) or 9)}[how])
  return kind, how


def results(out):
  """(cells, weights): what must not depend on any interruption."""
  cells, weights = {}, {}
  for path in sorted(glob.glob(out + '/*/*/eval.json')):
    name = os.path.relpath(os.path.dirname(path), out)
    cells[name] = {key: value for key, value in files.read_json(path).items()
                   if key not in ('latency_ms', 'seconds')}
    found = checkpoint.read_newest(os.path.dirname(path), cifar10.shapes_like)
    weights.update({(name, key): value.tobytes()
                    for key, value in found.arrays.items()})
  with open(os.path.join(out, 'table.csv')) as table:
    cells['table.csv'] = table.read()
  return cells, weights


def differing(one, other):
  """Number of keys whose values differ in two dicts."""
  return sum(one.get(key) != other.get(key)
             for key in one.keys() | other.keys())


class Soak:
  """What was done to the sweeps, and how many more kills and damages to do."""

  def __init__(self, seed, kills, damages):
    self._dice, self._kills, self._damages = random.Random(seed), kills, damages
    self.stages, self.signals = collections.Counter(), collections.Counter()
    self.damaged, self.left_running = collections.Counter(), 0

  def enough(self):
    return (self.signals.total() >= self._kills and
            self.damaged.total() >= self._damages)

  def run(self, sweep):
    """Runs a sweep to its end, with stops, and damage between the runs."""
    while True:
      sweep.start()
      ended = self._stop_once(sweep)
      if ended and sweep.process.wait():
        sweep.fail('exit code %d' % sweep.process.returncode)
      if ended and (self.enough() or self._dice.random() < 0.5):
        return
      if ended or self._dice.random() < DAMAGE_SHARE:
        done = damage(sweep.out, self._dice)
        if done:
          self.damaged[done[0]] += 1
          print('damage %d: %s %s' % (self.damaged.total(), *done), flush=True)

  def _stop_once(self, sweep):
    """Lets a sweep run until a stop that ends it, or to its end.

    Returns:
      Whether it came to its end by itself.
    """
    dice, number = self._dice, signal.SIGSTOP
    while number == signal.SIGSTOP:   # It goes on after a pause.
      if sweep.ends_before(
          len(sweep.programs()) + dice.randrange(MOST_STARTS + 1),
          None if self.enough() else LONGEST_WAIT * dice.random() ** 2):
        return True
      number, stage = dice.choice(SIGNALS), (['start'] + sweep.programs())[-1]
      self.left_running += sweep.stop(number, dice.uniform(0, LONGEST_PAUSE))
      self.signals[number.name[3:]] += 1
      self.stages[stage] += 1
      print('kill %d: %s in %s' % (self.signals.total(), number.name, stage),
            flush=True)
    return False


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--kills', type=int, default=40)
  parser.add_argument('--damages', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', default='results/soak.json')
  arguments = parser.parse_args()
  for number in POLITE:   # What is ignored here, the sweep could not hear.
    signal.signal(number, signal.SIG_DFL)
  start, sweeps, differing_cells, differing_weights = time.time(), 0, 0, 0
  soak = Soak(arguments.seed, arguments.kills, arguments.damages)
  folder = tempfile.mkdtemp(prefix='soak-')
  data = os.path.join(folder, 'data')
  demo_data.write(data, images_per_file=200)
  undisturbed = Sweep(folder, data, 'undisturbed')
  undisturbed.start()
  if undisturbed.process.wait():
    undisturbed.fail('exit code %d' % undisturbed.process.returncode)
  expected = results(undisturbed.out)
  while not soak.enough():
    sweeps += 1
    sweep = Sweep(folder, data, 'sweep%d' % sweeps)
    soak.run(sweep)
    found = results(sweep.out)
    differing_cells += differing(expected[0], found[0])
    differing_weights += differing(expected[1], found[1])
    shutil.rmtree(sweep.out)
  shutil.rmtree(folder)
  result = {
      'kills': soak.signals.total(), 'signals': dict(soak.signals),
      'stages_killed': dict(soak.stages), 'damages': soak.damaged.total(),
      'damaged_files': dict(soak.damaged), 'left_running': soak.left_running,
      'sweeps': sweeps, 'cells_compared': sweeps * len(expected[0]),
      'weights_compared': sweeps * len(expected[1]),
      'differing_cells': differing_cells,
      'differing_weights': differing_weights,
      'seconds': round(time.time() - start), 'seed': arguments.seed,
      'date': datetime.date.today().isoformat(),
      'machine': '%s, %d cores' % (platform.processor() or platform.machine(),
                                   os.cpu_count())}
  files.write_json(arguments.output, result)
  for item in sorted(result.items()):
    print('%s: %s' % item)
  return 1 if differing_cells or differing_weights or soak.left_running else 0


if __name__ == '__main__':
  sys.exit(main())
