"""Runs our programs for benchmarks that make networks."""
import os
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir)
sys.path.insert(1, ROOT)

from thinet import files


def run(program, *flags):
  """Runs one of our programs, its output on standard error.

  Exits as the program does if that is not well.
  """
  process = subprocess.Popen(
      [sys.executable, os.path.join(ROOT, program), *flags], stdout=sys.stderr)
  try:
    code = process.wait()
  except BaseException:   # Told to stop; a training then saves.
    process.terminate()
    process.wait()
    raise
  if code:
    sys.exit(code if code > 0 else 128 - code)


def made(program, folder, *flags):
  """Has a program make and rate a network, if need be; returns its top-1."""
  run(program, '--evaluate', *flags)
  return round(files.read_json(os.path.join(folder, 'eval.json'))['top1'], 2)
