"""Times what a user waits for at the start, and the memory of a training.

  python benchmarks/startup.py --data_dir=data [--json]

Each of five processes imports TensorFlow, then runs a script's main on a random
network of width 64: cifar10_eval to its result on the test images, and
cifar10_train to the end of its first step and, for the memory, of its 30th.
Medians, in seconds: import_seconds, evaluation_seconds (after the import),
first_step_seconds (the import included); training_peak_rss_gib.
"""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir)
sys.path.insert(0, ROOT)

from support import checkpoint
import cifar10

import numpy as np

FLAGS = cifar10.FLAGS
for _name in ('data_dir',):
  cifar10.tf.app.flags.declare_key_flag(_name)
cifar10.tf.app.flags.DEFINE_bool('json', False, 'Print one JSON object.')

REPEATS = 5

# Runs a script's main after the import, and prints its times and memory.
PROGRAM = '''
import resource, sys, time
sys.path.insert(0, sys.argv.pop(1))
start = time.time()
import cifar10_input   # Imports TensorFlow, and before that turns oneDNN on.
imported = time.time()
import importlib
module = importlib.import_module(sys.argv.pop(1))
module.FLAGS(sys.argv)
assert module.main() == 0
print(imported - start, time.time() - imported,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
'''


def measure(module, *flags):
  """Medians of (import seconds, main's seconds, peak GiB)."""
  rows = []
  for number in range(REPEATS):
    output = subprocess.run(
        [sys.executable, '-c', PROGRAM, ROOT, module] +
        [flag.replace('NUMBER', str(number)) for flag in flags],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True).stdout
    rows.append([float(word) for word in output.splitlines()[-1].split()])
  return np.median(rows, 0)


def main(argv=None):
  del argv
  cifar10.maybe_download_and_extract()
  data = '--data_dir=' + os.path.abspath(FLAGS.data_dir)
  generator = np.random.default_rng(0)
  with tempfile.TemporaryDirectory() as folder:
    checkpoint.save(folder, {
        name + suffix: generator.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in cifar10.weight_shapes(64).items()
        for suffix in ('', cifar10.AVERAGE)}, {})
    imports, evaluation, _ = measure('cifar10_eval', data,
                                     '--checkpoint_dir=' + folder)
    _, first_step, _ = measure('cifar10_train', data, '--max_steps=1',
                               '--train_dir=%s/oneNUMBER' % folder)
    _, _, memory = measure('cifar10_train', data, '--max_steps=30',
                           '--train_dir=%s/manyNUMBER' % folder)
  result = {'import_seconds': imports, 'evaluation_seconds': evaluation,
            'first_step_seconds': imports + first_step,
            'training_peak_rss_gib': memory}
  result = {name: round(float(value), 2) for name, value in result.items()}
  result['repeats'] = REPEATS
  print(json.dumps(result) if FLAGS.json else
        '\n'.join('%s: %s' % item for item in result.items()))
  return 0


if __name__ == '__main__':
  cifar10.run(main)
