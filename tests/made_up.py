"""Made-up sweeps, without a network in them, and the report of a sweep.

They are what the programs leave in a folder; the figures are easy to reckon
with by hand.
"""
import contextlib
import io
import os
import subprocess
import sys
import types
from unittest import mock

import conftest
import reading
import report
from thinet import files

RESULTS = os.path.join(conftest.ROOT, 'results')
# A line of networks.csv.
GOOD = ('0,fast,8,64,384,192,scratch,,no,,81.5,98.5,3149184,974442,1.5,'
        'float32,,,,,\n')
FIRST = {'conv1_channels': 16, 'conv2_channels': 20, 'local3_units': 96,
         'local4_units': 48}
THIRD = dict(FIRST, conv1_channels=17, conv2_channels=23)


def write(folder, **values):
  """A network's folder; run and compress are the JSON beside eval.json.

  What they must have in common is taken from values.
  """
  os.makedirs(folder)
  made = {name: values.pop(name) for name in ('run', 'compress')
          if name in values} or {'run': {}}
  values = dict({'split': 'test', 'weights': 'averaged', 'global_step': 0,
                 'data_digest': 'tested'}, **values)
  for name, making in made.items():
    settings = making.setdefault('settings', {})
    settings.update((key, values[key]) for key in reading.SHARED
                    if key in values)
    settings.setdefault('data_digest', 'trained')
    files.write_json(str(folder / (name + '.json')), making)
  files.write_json(str(folder / 'eval.json'), values)


def sweep(folder):
  """Fills a new folder with three parents, and modes of two; returns it."""
  for seed, top1 in (('seed0', 85.0), ('seed1', 86.0), ('seed2', 84.0)):
    write(folder / seed / 'a', conv1_channels=64, top1=top1, top5=99.0,
          multiply_adds=18470784, seed=int(seed[-1]))
  none = dict(conv1_channels=8, criterion='thinet', reconstruction='none')
  write(folder / 'seed0' / 'b', **none, top1=13.5, top5=60.25, fine_tuned=False,
        multiply_adds=3149184)
  write(folder / 'seed0' / 'c', **none, top1=75.0, top5=98.0, fine_tuned=True)
  write(folder / 'seed1' / 'c', **none, top1=76.0, top5=98.5, fine_tuned=True)
  # Not for the table: training images, raw weights, a file of another name.
  write(folder / 'seed0' / 'd', conv1_channels=8, top1=1.0, top5=1.0,
        split='train_eval')
  write(folder / 'seed0' / 'e', conv1_channels=8, top1=2.0, top5=2.0,
        weights='raw')
  (folder / 'seed0' / 'a' / 'eval_test_raw.json').write_text(
      (folder / 'seed0' / 'b' / 'eval.json').read_text())
  return folder


def budgets(folder):
  """Fills a new folder with a budget from three parents; returns it.

  The third's widths are others. One network was compressed by hand, to two
  shares.
  """
  top1 = {0: (85, 70, 80, 79), 1: (86, 71.5, 81.5, 80), 2: (85.5, 71, 80.5, 80)}
  for seed, (parent, slim, tuned, scratch) in top1.items():
    above = folder / ('seed%d' % seed)
    settings = {'seed': seed, 'schedule': 'published',
                'data_digest': 'trained'}
    widths = THIRD if seed == 2 else FIRST
    write(above / 'scratch_64', conv1_channels=64, seed=seed, top1=parent,
          top5=99, multiply_adds=18470784, parameters=1068298,
          run={'settings': dict(settings)})
    costs = dict(multiply_adds=2400000 if seed == 2 else 2100000,
                 parameters=90000 if seed == 2 else 81000)
    mode = dict(criterion='least_squares', reconstruction='network', seed=seed)
    shares = dict(mode, **widths, parent=settings, data_digest='trained',
                  fine_tuned=False, multiply_adds_share=0.25,
                  parameters_share=0.25)
    name = 'least_squares_network_budget0.25'
    write(above / name, **widths, **mode, **costs, fine_tuned=False, top1=slim,
          top5=97, compress={'settings': dict(shares)})
    if seed == 0:
      write(above / 'by_hand', **dict(widths, local3_units=100), **mode,
            fine_tuned=False, top1=69, top5=97, compress={
                'settings': dict(shares, parameters_share=0.5)})
    write(above / (name + '_finetuned'), **widths, **mode, **costs,
          fine_tuned=True, top1=tuned, top5=98, run={'settings': {
              'parent': shares}})
    write(above / 'scratch_budget0.25', **widths, **costs, seed=seed,
          top1=scratch, top5=97.5, run={'settings': dict(settings)})
  return folder


def process(*arguments):
  """Runs results/report.py as a process of its own, to its end."""
  return subprocess.run(
      [sys.executable, os.path.join(RESULTS, 'report.py')] +
      [str(argument) for argument in arguments], capture_output=True, text=True)


def run(*arguments):
  """Runs it in this process, which saves its imports; returns as process."""
  result = types.SimpleNamespace(returncode=0)
  with contextlib.redirect_stdout(io.StringIO()) as output, (
      contextlib.redirect_stderr(io.StringIO())) as errors, (
          mock.patch('sys.argv', ['report.py'] + list(map(str, arguments)))):
    try:
      result.returncode = report.main()
    except SystemExit as end:
      print(end, file=errors)
      result.returncode = 1
  result.stdout, result.stderr = output.getvalue(), errors.getvalue()
  return result


def started(sweep, stdout, **environment):
  """Starts results/report.py on a folder; returns the Popen."""
  return subprocess.Popen(
      [sys.executable, os.path.join(RESULTS, 'report.py'), str(sweep)],
      stdout=stdout, stderr=subprocess.PIPE, env=dict(
          os.environ, PYTHONUNBUFFERED='', **environment))
