"""Stops and damages small sweeps at random, and compares how they end.

  python tests/soak.py --kills=40 --damages=20 --output=results/soak.json

Runs the sweep once undisturbed, on drawn data. Then runs it in new folders, two
cells at a time: stops it at random moments, damages files of its folder, and
repeats the same command until the sweep has ended. Every table, result and
weight is compared with those of the undisturbed sweep. About 13 minutes on two
cores.

A stop is HUP, INT, TERM or USR1 to the sweep's shell, which must end with 128 +
the signal and leave nothing running; kill -9 to all of its processes; or a
pause, STOP and CONT.
"""
import argparse
import collections
import contextlib
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

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [ROOT, os.path.dirname(os.path.realpath(__file__))]

import cifar10
import demo_data
from thinet import checkpoint
from thinet import files

POLITE = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
SIGNALS = POLITE + [signal.SIGKILL, signal.SIGSTOP]
MOST_STARTS = 5        # A stop comes when so many programs have started, at
LONGEST_WAIT = 8.0     # most, and seconds later; short waits are likelier.
LONGEST_PAUSE = 3.0    # Seconds from STOP to CONT.
LONGEST_STOP = 120.0   # Seconds that a polite stop may take.
DAMAGE_SHARE = 0.6     # Of the runs that are followed by damage.


def sweep(data, out):
  """Starts the sweep as a process group of its own, with a new log."""
  with open(out + '.log', 'w') as log:
    return subprocess.Popen(
        [os.path.join(ROOT, 'run_experiments.sh')], stdout=log, stderr=log,
        start_new_session=True,
        env=dict(os.environ, PYTHON=sys.executable, DATA_DIR=data, OUT=out,
                 JOBS='2', WIDTHS='64 8', EPOCHS='6', FINETUNE_EPOCHS='3',
                 BUDGETS='0.5', MODES='thinet_scale', CONTROLS=''))


def stages(out):
  """'start', then the programs that were started, according to the log."""
  with open(out + '.log', errors='replace') as log:
    found = [re.match(r'(\[.*\] )?\+ \S+ (\S+)', line) for line in log]
  return ['start'] + [os.path.basename(each[2]) for each in found if each]


def ended(process, out, starts, seconds):
  """Waits for programs to start, then seconds; whether the sweep ended."""
  starts += len(stages(out))
  while process.poll() is None and len(stages(out)) < starts:
    time.sleep(0.05)
  try:
    return process.wait(seconds) is not None
  except subprocess.TimeoutExpired:
    return False


def running(group):
  """Number of a group's processes, without those that have ended."""
  found = 0
  for path in glob.glob('/proc/[0-9]*/stat'):
    with contextlib.suppress(OSError), open(path) as source:
      state, _, of_group = source.read().rpartition(')')[2].split()[:3]
      found += int(of_group) == group and state not in 'ZX'
  return found


def stop(process, number, pause):
  """Sends a signal; returns the number of processes that it leaves."""
  if number in POLITE:
    process.send_signal(number)
    code = process.wait(LONGEST_STOP)
    # It dies of it if it has only begun, and may just have come to its end.
    assert code in (128 + number, -number, 0), (number, code)
    return running(process.pid)
  os.killpg(process.pid, number)
  if number == signal.SIGSTOP:
    time.sleep(pause)
    os.killpg(process.pid, signal.SIGCONT)
    return 0
  while running(process.pid) or process.poll() is None:
    time.sleep(0.01)
  return 0


def damage(out, dice):
  """Damages a file of a sweep; returns (kind, how), or () without files."""
  kinds = collections.defaultdict(list)
  for path in sorted(glob.glob(out + '/**', recursive=True,
                               include_hidden=True)):
    if os.path.isfile(path) and '/damaged/' not in path:
      # Its name without numbers and other marks of its own.
      kinds[re.sub(r'-\w+|\.out\..*|^\..*(?=\.part)', '',
                   os.path.basename(path))].append(path)
  if not kinds:
    return ()
  kind = dice.choice(sorted(kinds))
  path = dice.choice(kinds[kind])
  with open(path, 'rb') as source:
    content = bytearray(source.read()) or bytearray(9)
  at, how = dice.randrange(len(content)), dice.choice(
      ['emptied', 'cut', 'flipped', 'replaced', 'deleted'])
  if how == 'flipped':
    content[at] ^= 1 << dice.randrange(8)
  with open(path, 'wb') as target:
    target.write({'cut': content[:at], 'flipped': content, 'replaced':
                  dice.randbytes(len(content))}.get(how, b''))
  if how == 'deleted':
    os.unlink(path)
  return kind, how


def disturbed(data, out, dice, done, enough):
  """Runs a sweep to its end, with stops, and damage between the runs.

  Args:
    data, out: as for sweep.
    dice: random.Random.
    done: name -> Counter, to which what is done is added.
    enough: function of nothing, whether enough is done.
  """
  finished = False
  while not finished or not enough() and dice.random() < DAMAGE_SHARE:
    if finished or os.path.isdir(out) and dice.random() < DAMAGE_SHARE:
      what = damage(out, dice)
      done['damaged_files'].update(what[:1])
      print('damage %d:' % done['damaged_files'].total(), *what, flush=True)
    process, number = sweep(data, out), signal.SIGSTOP
    while number == signal.SIGSTOP:   # It goes on after a pause.
      finished = ended(process, out, dice.randint(0, MOST_STARTS), None
                       if enough() else LONGEST_WAIT * dice.random() ** 2)
      if finished:
        break
      number, stage = dice.choice(SIGNALS), stages(out)[-1]
      done['left_running'][''] += stop(process, number,
                                       dice.uniform(0, LONGEST_PAUSE))
      done['signals'][number.name[3:]] += 1
      done['stages_killed'][stage] += 1
      print('kill %d: %s in %s' % (done['signals'].total(), number.name, stage),
            flush=True)
    if finished and process.returncode:
      with open(out + '.log', errors='replace') as log:
        sys.exit('%s\nExit code %d in %s.' % (log.read(), process.returncode,
                                              out))


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
  for name in ('table.csv', 'budgets.csv'):
    with open(os.path.join(out, name)) as table:
      cells[name] = table.read()
  return cells, weights


def differing(one, other):
  """Number of keys whose values differ in two dicts."""
  return sum(one.get(key) != other.get(key)
             for key in one.keys() | other.keys())


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--kills', type=int, default=40)
  parser.add_argument('--damages', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', default='results/soak.json')
  arguments = parser.parse_args()
  for number in POLITE:   # What is ignored here, the sweep could not hear.
    signal.signal(number, signal.SIG_DFL)
  dice, start = random.Random(arguments.seed), time.time()
  done = {name: collections.Counter() for name in (
      'signals', 'stages_killed', 'damaged_files', 'left_running')}
  differing_cells = differing_weights = sweeps = 0

  def enough():
    return (done['signals'].total() >= arguments.kills and
            done['damaged_files'].total() >= arguments.damages)

  folder = tempfile.mkdtemp(prefix='soak-')   # It stays if something is wrong.
  data, out = os.path.join(folder, 'data'), os.path.join(folder, 'undisturbed')
  demo_data.write(data, images_per_file=200)
  disturbed(data, out, dice, done, lambda: True)
  expected = results(out)
  while not enough():
    sweeps, out = sweeps + 1, os.path.join(folder, 'sweep%d' % (sweeps + 1))
    disturbed(data, out, dice, done, enough)
    found = results(out)
    differing_cells += differing(expected[0], found[0])
    differing_weights += differing(expected[1], found[1])
  left_running = done.pop('left_running').total()
  wrong = differing_cells or differing_weights or left_running
  files.write_json(arguments.output, {
      **done, 'kills': done['signals'].total(),
      'damages': done['damaged_files'].total(), 'left_running': left_running,
      'sweeps': sweeps, 'cells_compared': sweeps * len(expected[0]),
      'weights_compared': sweeps * len(expected[1]),
      'differing_cells': differing_cells,
      'differing_weights': differing_weights,
      'seconds': round(time.time() - start), 'seed': arguments.seed,
      'date': datetime.date.today().isoformat(),
      'machine': '%s, %d cores' % (platform.processor() or platform.machine(),
                                   os.cpu_count())})
  print(open(arguments.output).read())
  if not wrong:
    shutil.rmtree(folder)
  return 1 if wrong else 0


if __name__ == '__main__':
  sys.exit(main())
