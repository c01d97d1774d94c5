"""Stands in for the programs where a test is about the sweep around them.

  python tests/stand_in.py cifar10_train.py --train_dir=... --seed=0 ...

Writes in no time what the real program writes into a network's folder, without
a network in it; runs results/status.py itself; and appends a line for each call
to the file $CALLS: the GPU, the program and its flags. A call that contains
$FAIL exits with 1, one that contains $SKIP with 0 and without having done
anything. A training or fine-tuning that contains $WAIT prints lines until it is
told to stop, or nobody reads them, and saves then.
"""
import math
import os
import runpy
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from thinet import files

FILES = ['data_batch_%d.bin' % i for i in range(1, 6)], ['test_batch.bin']
PARTS = ['.index', '.data-00000-of-00001']
RATES = {'published': 0.1, 'fast': 0.02, 'finetune': 0.01}
WIDTHS = {'conv1_channels': 64, 'conv2_channels': 64, 'local3_units': 384,
          'local4_units': 192}


def interpreter(folder):
  """Writes a program that runs these instead of python's; returns its path."""
  path = folder / 'python'
  path.write_text('#!/bin/sh\nexec %s %s "$@"\n' % (
      sys.executable, os.path.abspath(__file__)))
  path.chmod(0o755)
  return str(path)


def data(flags, names):
  """(digest, number of images) of data files."""
  paths = [os.path.join(flags['data_dir'], 'cifar-10-batches-bin', name)
           for name in names]
  return files.digest(paths), sum(map(os.path.getsize, paths)) // 3073


def save(folder, step, content):
  for part in PARTS:
    with open(os.path.join(folder, 'model.ckpt-%d%s' % (step, part)),
              'w') as target:
      target.write(repr(content))


def newest(folder):
  """(step, digest) of a folder's newest checkpoint."""
  step = max(int(name[len('model.ckpt-'):-len('.index')])
             for name in os.listdir(folder) if name.endswith('.index'))
  prefix = os.path.join(folder, 'model.ckpt-%d' % step)
  return step, files.digest([prefix + part for part in PARTS])


def contains(name):
  """Whether this call contains the words in an environment variable."""
  return os.environ.get(name, 'no such words') in ' '.join(sys.argv)


def wait():
  """Waits for the end of a training; returns its exit code."""
  try:
    while not signal.sigtimedwait([signal.SIGTERM], 0.1):
      print('waiting as', os.getpid(), flush=True)
    print('Stopped by SIGTERM and saved; the same command continues.',
          flush=True)
    return 143
  except BrokenPipeError:
    return 141


def train(flags, schedule, settings):
  """Writes run.json, perhaps waits, and writes the last checkpoint."""
  folder = flags['train_dir']
  digest, examples = data(flags, FILES[0])
  epochs = float(flags.get('epochs', 20))
  last_step = math.ceil(epochs * (examples / 128))
  settings.update(
      seed=int(flags['seed']), batch_size=128, data_digest=digest,
      schedule=schedule, learning_rate=RATES[schedule],
      precision=flags.get('precision', 'float32'), random_streams=2)
  if schedule != 'published':
    settings['last_step'] = last_step
  lock = files.hold(folder)

  def made(step):
    if step:
      save(folder, step, settings)
    files.write_json(os.path.join(folder, 'run.json'), {
        'settings': settings, 'epochs': epochs, 'step': step,
        'last_step': last_step, 'seconds': 20.0})
  made(0)
  if contains('WAIT'):
    code = wait()
    made(1)
    os._exit(code)
  made(last_step)
  lock.close()


def narrowed(widths):
  """What settings say of widths: of conv1, and of what is not the usual."""
  return {name: width for name, width in widths.items()
          if name == 'conv1_channels' or width != WIDTHS[name]}


def scratch(flags):
  train(flags, flags['schedule'], narrowed(
      {name: int(flags.get(name, width)) for name, width in WIDTHS.items()}))


def chosen(flags):
  """(widths, settings) of a compression; by a budget, the seed changes one."""
  if 'multiply_adds' not in flags:
    widths = dict(WIDTHS, conv1_channels=int(flags['conv1_channels']))
    return widths, {}
  share = float(flags['multiply_adds'])
  widths = {name: round(width * share) for name, width in WIDTHS.items()}
  widths['conv2_channels'] += int(flags['seed'])
  return widths, {'multiply_adds_share': share,
                  'parameters_share': float(flags['parameters'])}


def compress(flags):
  parent = files.read_json(os.path.join(flags['checkpoint_dir'], 'run.json'))
  step, digest = newest(flags['checkpoint_dir'])
  training, examples = data(flags, FILES[0])
  widths, shares = chosen(flags)
  settings = {
      **narrowed(widths), **shares, 'criterion': flags['criterion'],
      'reconstruction': flags['reconstruction'], 'seed': int(flags['seed']),
      'fine_tuned': False, 'batch_size': 128,
      'num_images': min(50000, examples),
      'locations_per_image': 10, 'data_digest': training, 'random_streams': 2,
      'parent': parent['settings'], 'parent_step': step,
      'parent_digest': digest}
  os.makedirs(flags['output_dir'], exist_ok=True)
  save(flags['output_dir'], 0, settings)
  files.write_json(os.path.join(flags['output_dir'], 'compress.json'), {
      **widths, 'settings': settings, 'seconds': {'moments': 3.0, 'write': 1}})


def finetune(flags):
  """Of a compressed network, or of one from scratch."""
  folder = flags['checkpoint_dir']
  made = os.path.join(folder, 'compress.json')
  if os.path.exists(made):
    slim = files.read_json(made)['settings']
    modes = {name: slim[name] for name in ('criterion', 'reconstruction')}
  else:
    slim = files.read_json(os.path.join(folder, 'run.json'))['settings']
    modes = {}
  train(flags, 'finetune', {
      **narrowed({name: slim.get(name, width)
                  for name, width in WIDTHS.items()}), 'fine_tuned': True,
      **modes, 'parent': slim, 'parent_digest': newest(folder)[1]})


def evaluate(folder, flags):
  step, digest = newest(folder)
  files.write_json(os.path.join(folder, 'eval.json'), {
      'split': 'test', 'weights': 'averaged', 'global_step': step,
      'data_digest': data(flags, FILES[1])[0], 'checkpoint_digest': digest,
      'checkpoint': 'model.ckpt-%d' % step})


PROGRAMS = {'cifar10_train.py': scratch, 'thinet_compress.py': compress,
            'thinet_finetune.py': finetune}


def run(program, *arguments):
  """Does what a program does with these flags."""
  flags = {name: value for argument in arguments
           for name, _, value in [argument[2:].partition('=')]}
  if program in PROGRAMS:
    PROGRAMS[program](flags)
  if 'evaluate' in flags:
    evaluate(flags.get('train_dir') or flags['output_dir'], flags)


def main():
  if not os.path.exists(sys.argv[1]):
    sys.exit("can't open file %r" % sys.argv[1])   # As python says.
  program = os.path.relpath(os.path.realpath(sys.argv[1]), ROOT)
  if program == 'results/status.py':
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.join(ROOT, 'results'))
    runpy.run_path(program, run_name='__main__')
  with open(os.environ['CALLS'], 'a') as calls:
    calls.write(' '.join([os.environ.get('CUDA_VISIBLE_DEVICES') or 'none'] +
                         [program] + sys.argv[2:]) + '\n')
  if contains('FAIL'):
    sys.exit('It failed.')
  if not contains('SKIP'):
    run(program, *sys.argv[2:])


if __name__ == '__main__':
  signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
  main()
