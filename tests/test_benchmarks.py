"""The benchmarks' processes: what they load, and what happens when one dies.

The competitors, which are killed, never start or print too much, are real
processes; none of them loads TensorFlow.
"""
import os
import signal
import subprocess
import sys

import conftest
import numpy as np
import pytest

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(
    __file__))), 'benchmarks')

COMPETITOR = '''
import os, signal, sys, time
sys.path.insert(0, %r)
import timing

calls = []

def slow():
  time.sleep(0.01)

def killed():
  calls.append(1)
  if len(calls) == 3:
    os.kill(os.getpid(), signal.SIGSEGV)

def failed():
  raise RuntimeError('no memory.')

def noisy():
  print('not an answer')
  os.system('echo nor this')

def absent():
  import a_library_that_is_not_here

def make():
  if sys.argv[1] == 'absent':
    absent()
  return {sys.argv[1]: globals()[sys.argv[1]]}

timing.serve(make)
''' % FOLDER


@pytest.fixture
def timing(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)
  import timing
  return timing


def test_a_competitor_that_dies_is_named_and_the_others_are_measured(
    timing, capfd):
  found = [timing.Competitor(name.capitalize(),
                             [sys.executable, '-c', COMPETITOR, name])
           for name in ('slow', 'killed', 'failed', 'absent', 'noisy')]
  seconds = timing.interleaved(found)
  again = found[0].seconds('slow', repeats=3), found[1].seconds('killed')
  for each in found:
    each.close()
  output, errors = capfd.readouterr()
  assert seconds.keys() == {'slow', 'noisy'}
  assert 0.01 <= seconds['slow'] < 1 and 0.01 <= again[0] < 1
  assert again[1] is None
  assert output == ''
  assert sorted(errors.splitlines()) == [
      'Absent is left out: its process ended with exit code 1 '
      "(ModuleNotFoundError: No module named 'a_library_that_is_not_here').",
      'Failed is left out: its process ended with exit code 1 '
      '(RuntimeError: no memory).',
      'Killed is left out: its process ended with signal 11, '
      'Segmentation fault.']


@pytest.mark.parametrize('script', ['timing', 'training', 'operations', 'gpu'])
def test_who_asks_the_processes_loads_neither_tensorflow_nor_pytorch(script):
  subprocess.run([sys.executable, '-c', (
      'import sys; import %s; loaded = {"tensorflow", "torch", "cifar10"} & '
      'sys.modules.keys(); sys.exit(str(loaded) if loaded else 0)') % script],
                 cwd=FOLDER, check=True)


def test_ratios_of_what_is_left_out_are_left_out(timing):
  import training
  assert training.operations(64) == 2 * 128 * (
      3 * 18470784 - 24 * 24 * 75 * 64)
  everything = {'float32 %d' % width: 2.0 for width in training.WIDTHS}
  everything.update({'bfloat16 %d' % width: 1.0 for width in training.WIDTHS})
  everything.update({'batch %d' % size: 1.0 for size in training.BATCH_SIZES})
  everything.update({'product': 1.0, 'input': 0.5, 'pytorch': 6.0,
                     'tutorial': 9.0, 'beside tutorial': 3.0})
  whole = training.summary(everything)
  assert whole['bfloat16_speedup_width64'] == 2
  assert whole['input_share_width64'] == 0.25
  assert whole['speedup_vs_pytorch_width64'] == 3
  assert whole['speedup_vs_literal_tutorial_width64'] == 3
  for left_out in ('product', 'pytorch', 'tutorial', 'input'):
    part = training.summary({name: value for name, value in everything.items()
                             if name != left_out})
    assert part.items() < whole.items()
  part = training.summary({name: value for name, value in everything.items()
                           if not name.startswith('bfloat16')})
  assert 'bfloat16_speedup_width64' not in part
  assert part['milliseconds_per_step'].keys() == {'float32'}
  assert training.summary({'pytorch': 6.0}) == {
      'milliseconds_per_step': {}, 'milliseconds_pytorch': 6000.0}


def test_ways_to_choose_the_widths_cost_the_same(timing):
  """Each uses its budget as well as whole channels allow, costs by hand."""
  import budget_networks
  import cifar10
  weights = conftest.drawn(cifar10.Widths(), averages=False)

  def shares(widths):
    conv1, conv2, local3, local4 = widths
    kernels = 25 * 3 * conv1, 25 * conv1 * conv2, 36 * conv2 * local3
    rest = local3 * local4 + local4 * 10
    return np.divide([kernels[0] * 576 + kernels[1] * 144 + kernels[2] + rest,
                      sum(kernels) + rest + sum(widths) + 10],
                     [18470784, 1068298])

  ways = budget_networks.choices(weights)
  equal = ways.pop('equal')
  for share, by_way in ways.items():
    assert by_way['losses'] == ['--multiply_adds=' + share,
                                '--parameters=' + share]
    for way in ('uniform', 'global_l1'):
      names, widths = zip(*(flag.split('=') for flag in by_way[way]))
      assert names == ('--conv1_channels', '--conv2_channels',
                       '--local3_units', '--local4_units')
      spent = shares([int(width) for width in widths])
      assert 0.9 * float(share) < max(spent) <= float(share), way
  uniform = np.int64([flag.split('=')[1] for flag in ways['0.25']['uniform']])
  assert np.ptp(uniform / [64, 64, 384, 192]) < 1 / 64
  spent = shares([16, 64, 384, 192])
  assert equal['conv1'] == ['--conv1_channels=16']
  assert [float(flag.split('=')[1]) for flag in equal['half']] == (
      pytest.approx(spent / [1, 2], rel=1e-5))


def test_equal_computation_by_hand(timing):
  """16 channels: 18,470,784 multiply-adds an image become 5,337,984."""
  import equal_computation
  found = equal_computation.spent(16)
  assert found == {
      'parent': 3 * 18470784 * 50000 * 128,
      'moments': 18470784 * 50000 + 500000 * 1600 * 1600,
      'layers': (18470784 + 5337984) * 160000 + 100000 * 400 * 400 +
                45000 * (2304 * 2304 + 384 * 384 + 192 * 192),
      'descent': (18470784 + 3 * 5337984) * 45000 * 6,
      'fine_tuning': 3 * 5337984 * 50000 * 20}
  # Of these epochs the last 20 are its own fine-tuning.
  assert (equal_computation.epochs(16) + 20) * 3 * 5337984 * 50000 == (
      pytest.approx(sum(found.values()), rel=2e-4))


@pytest.mark.parametrize('code', ['import sys; sys.exit(3)',
                                  'import os; os.kill(os.getpid(), 15)'])
def test_a_program_that_fails_ends_the_benchmark(timing, tmp_path, code):
  import programs
  path = tmp_path / 'program.py'
  path.write_text(code)
  with pytest.raises(SystemExit) as end:
    programs.run(str(path))
  assert end.value.code == (3 if 'exit' in code else 143)


def test_a_stopped_benchmark_waits_for_its_program(tmp_path):
  """The program is told to stop, and saves."""
  path, saved = tmp_path / 'program.py', tmp_path / 'saved'
  path.write_text(
      'import signal, sys, time\n'
      'def save(*_):\n  time.sleep(0.5); open(%r, "w"); sys.exit(143)\n'
      'signal.signal(signal.SIGTERM, save)\n'
      'print("begun", file=sys.stderr, flush=True)\n'
      'time.sleep(60)\n' % str(saved))
  process = subprocess.Popen(
      [sys.executable, '-c', 'import sys, programs; programs.run(sys.argv[1])',
       str(path)], cwd=FOLDER, stderr=subprocess.PIPE, text=True)
  assert process.stderr.readline() == 'begun\n'
  process.send_signal(signal.SIGINT)
  process.communicate()
  assert saved.exists() and process.returncode


def test_the_gpus_figures(timing, monkeypatch):
  """The best of PyTorch in the precision where it is best beside ours."""
  import gpu
  monkeypatch.setattr(gpu, 'PRECISIONS', ['float32', 'tf32', 'bfloat16'])
  assert gpu.busy([(10, 20), (0, 4), (15, 30), (16, 18), (25, 28),
                   (3, 5)]) == 25
  milliseconds = {'loop float32 64': 0.4, 'eager float32 64': 3.0,
                  'compiled float32 64': 0.6, 'loop tf32 64': 0.2,
                  'eager tf32 64': 0.4, 'loop bfloat16 64': 0.1,
                  'graphed tf32 64': 0.28,
                  'loop float32 8': 0.2, 'plain float32 8': 2.0}
  found = gpu.summary(milliseconds)
  assert found['step_ms_width64'] == 0.4 and found['step_ms_width8'] == 0.2
  assert found['speedup_vs_pytorch_best'] == pytest.approx(1.4)
  assert found['milliseconds_per_step']['loop']['float32'] == {'64': 0.4,
                                                               '8': 0.2}
  assert gpu.summary({'eager float32 64': 3.0}).keys() == {
      'milliseconds_per_step'}


@pytest.mark.parametrize('where, code, words', [
    ('/dev/full', 1, 'The result cannot be printed (No space left on device).'),
    (None, 141, '')])
def test_a_result_that_cannot_be_printed(where, code, words):
  reader, writer = os.pipe()
  os.close(reader)
  output = os.open(where, os.O_WRONLY) if where else writer
  result = subprocess.run(
      [sys.executable, '-c', 'import timing; timing.report({"a": 1}, True)'],
      cwd=FOLDER, stdout=output, stderr=subprocess.PIPE, text=True,
      env=dict(os.environ, PYTHONUNBUFFERED=''))
  assert (result.returncode, result.stderr.strip()) == (code, words)
  os.close(writer)


def test_bfloat16_is_for_processors_that_have_it(timing, monkeypatch):
  for flags, found in [('fpu avx2', False), ('avx512f', False), ('', False),
                       ('fpu avx512_bf16 avx2', True), ('amx_bf16', True)]:
    monkeypatch.setattr(timing, '_cpuinfo', lambda key, flags=flags: flags)
    assert timing.has_bfloat16() == found
