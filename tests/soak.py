"""Kills a small sweep at random moments and compares how it ends.

  python tests/soak.py --kills=20 --output=results/soak.json

Runs the sweep once undisturbed, on drawn data. Then runs it in new folders,
sends kill -9 to the shell and its child at random moments, and repeats the same
command after each kill, until there were so many kills and the last sweep has
ended. Every table, result and weight is compared with those of the undisturbed
sweep. About a quarter of an hour on two cores.
"""
import argparse
import collections
import datetime
import glob
import json
import os
import platform
import random
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

LONGEST_WAIT = 25.0   # Seconds from a start to its kill, at most.


def sweep(data, out, log):
  """Starts the sweep as a process group of its own."""
  return subprocess.Popen(
      [os.path.join(ROOT, 'run_experiments.sh')], stdout=log, stderr=log,
      start_new_session=True,
      env=dict(os.environ, PYTHON=sys.executable, DATA_DIR=data, OUT=out,
               WIDTHS='64 8', EPOCHS='6', FINETUNE_EPOCHS='3',
               MODES='thinet_none thinet_scale', CONTROLS=''))


def running_stage(path):
  """Name of the script that was started last, according to the log."""
  starts = [line.split()[2] for line in open(path, errors='replace')
            if line.startswith('+ ')]
  return os.path.basename(starts[-1]) if starts else 'start'


def results(out):
  """(cells, weights): what must not depend on any interruption."""
  cells, weights = {}, {}
  for path in sorted(glob.glob(out + '/**/eval.json', recursive=True)):
    name = os.path.relpath(os.path.dirname(path), out)
    with open(path) as source:
      cells[name] = {key: value for key, value in json.load(source).items()
                     if key not in ('latency_ms', 'seconds')}
    _, arrays, _ = checkpoint.read_newest(os.path.dirname(path),
                                          cifar10.shapes_like)
    weights.update({(name, key): value.tobytes()
                    for key, value in arrays.items()})
  cells['table.csv'] = open(os.path.join(out, 'table.csv')).read()
  return cells, weights


def differing(one, other):
  """Number of keys whose values differ in two dicts."""
  return sum(one.get(key) != other.get(key)
             for key in one.keys() | other.keys())


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', default='results/soak.json')
  arguments = parser.parse_args()
  dice, start = random.Random(arguments.seed), time.time()
  stages = collections.Counter()
  differing_cells = differing_weights = number = 0
  with tempfile.TemporaryDirectory() as folder:
    data, path = os.path.join(folder, 'data'), os.path.join(folder, 'log')
    demo_data.write(data, images_per_file=200)
    with open(path, 'w') as log:
      if sweep(data, os.path.join(folder, 'undisturbed'), log).wait():
        sys.exit(open(path).read())
    expected = results(os.path.join(folder, 'undisturbed'))
    while sum(stages.values()) < arguments.kills:
      number += 1
      out, code = os.path.join(folder, 'sweep%d' % number), None
      while code is None:
        with open(path, 'w') as log:
          process = sweep(data, out, log)
        try:
          enough = sum(stages.values()) >= arguments.kills
          code = process.wait(None if enough else
                              dice.uniform(0, LONGEST_WAIT))
        except subprocess.TimeoutExpired:
          os.killpg(process.pid, signal.SIGKILL)
          process.wait()
          stages[running_stage(path)] += 1
          print('kill %d in %s' % (sum(stages.values()), running_stage(path)),
                flush=True)
      if code:
        sys.exit(open(path).read())
      found = results(out)
      differing_cells += differing(expected[0], found[0])
      differing_weights += differing(expected[1], found[1])
  checkpoint.write_json(arguments.output, {
      'kills': sum(stages.values()), 'stages_killed': dict(stages),
      'sweeps': number, 'cells_compared': number * len(expected[0]),
      'weights_compared': number * len(expected[1]),
      'differing_cells': differing_cells,
      'differing_weights': differing_weights,
      'seconds': round(time.time() - start), 'seed': arguments.seed,
      'date': datetime.date.today().isoformat(),
      'machine': '%s, %d cores' % (platform.processor() or platform.machine(),
                                   os.cpu_count())})
  print(open(arguments.output).read())
  return 1 if differing_cells or differing_weights else 0


if __name__ == '__main__':
  sys.exit(main())
