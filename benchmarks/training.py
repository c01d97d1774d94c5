"""Times a training step of this suite beside what it should be compared with.

  python benchmarks/training.py --data_dir=data [--json]

Interleaved, medians of 40 steps after 5 of warm-up: our step at several widths,
precisions and batch sizes, with its real input pipeline; the pipeline alone; a
4096x4096 float32 matrix product; the same network in PyTorch (eager, channels last,
no input pipeline; left out where torch is absent); and the tutorial written
literally (benchmarks/tutorial.py; the mean of 100 steps, one of which writes
summaries). Each has a process of its own, since TensorFlow's threads, which ours
shares out among the parts of a batch, are those of the process.

With --json: one object with the times and the ratios
  float32_fraction_of_matmul_width64, float32_fraction_of_matmul_width8: the
    operations of convolutions and matrix products alone, per second of a step,
    over those of the matrix product;
  bfloat16_speedup_width64, input_share_width64, speedup_vs_pytorch_width64,
  speedup_vs_literal_tutorial_width64.
"""
import concurrent.futures
import datetime
import functools
import importlib.util
import json
import multiprocessing
import os
import platform
import random
import sys
import tempfile
import time

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             os.pardir), os.path.dirname(__file__)]

import cifar10
import tutorial

import numpy as np
import tensorflow.compat.v1 as tf

FLAGS = cifar10.FLAGS
for _name in ('data_dir',):
  tf.app.flags.declare_key_flag(_name)
tf.app.flags.DEFINE_bool('json', False, 'Print one JSON object.')

WARM_UP, STEPS, MATRIX = 5, 40, 4096
WIDTHS = [64, 48, 32, 24, 16, 8]
BATCHES = [32, 64, 256]


def operations(width, batch_size):
  """Floating-point operations of a step's convolutions and products.

  Twice the multiply-adds, forward, gradient of the weights, and gradient of the
  inputs except of the images.
  """
  conv1 = 576 * 75 * width
  return 2 * batch_size * (3 * cifar10.cost(width)[0] - conv1)


def our_step(width, precision='float32', batch_size=128):
  """(function that runs a step, function that runs its input alone)."""
  with tf.Graph().as_default():
    FLAGS.batch_size = batch_size
    global_step = tf.train.get_or_create_global_step()
    parts = cifar10.batch_parts()
    images, labels = cifar10.distorted_inputs(0, parts=parts)
    logits = cifar10.inference(images, width, precision, parts)
    loss = cifar10.loss(logits, labels)
    train_op = cifar10.train(loss, global_step)
    session = tf.Session(config=cifar10.session_config(parts))
    session.run([tf.global_variables_initializer(),
                 tf.local_variables_initializer()])
    return (lambda: session.run([train_op, loss]),
            lambda: session.run([images.op, labels.op]))


def matrix_product():
  with tf.Graph().as_default():
    x = tf.get_variable('x', [MATRIX, MATRIX])
    product = tf.matmul(x, x).op
    session = tf.Session()
    session.run(x.initializer)
    return lambda: session.run(product)


def pytorch_step(width, batch_size=128):
  """The same network and update in PyTorch."""
  import torch
  nn, functional = torch.nn, torch.nn.functional
  class Network(nn.Module):
    def __init__(self):
      super().__init__()
      self.conv1 = nn.Conv2d(3, width, 5, padding=2)
      self.conv2 = nn.Conv2d(width, 64, 5, padding=2)
      self.local3 = nn.Linear(2304, 384)
      self.local4 = nn.Linear(384, 192)
      self.softmax_linear = nn.Linear(192, 10)

    def forward(self, x):
      def lrn(x):
        return functional.local_response_norm(x, 9, alpha=0.001, beta=0.75, k=1)
      def pool(x):
        return functional.max_pool2d(x, 3, 2, padding=1)
      x = lrn(pool(functional.relu(self.conv1(x))))
      x = pool(lrn(functional.relu(self.conv2(x)))).flatten(1)
      x = functional.relu(self.local3(x))
      return self.softmax_linear(functional.relu(self.local4(x)))

  network = Network().to(memory_format=torch.channels_last)
  averages = [p.detach().clone() for p in network.parameters()]
  optimizer = torch.optim.SGD(network.parameters(), 0.1)
  images = torch.randn(batch_size, 3, 24, 24).to(
      memory_format=torch.channels_last)
  labels = torch.randint(0, 10, [batch_size])

  def step():
    optimizer.zero_grad()
    loss = functional.cross_entropy(network(images), labels)
    for layer in (network.local3, network.local4):
      loss = loss + 0.004 * 0.5 * layer.weight.square().sum()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
      torch._foreach_lerp_(averages, list(network.parameters()), 1e-4)
    return loss.item()
  return step


def processor():
  """The processor's name, and how many cores."""
  name = platform.machine()
  if os.path.exists('/proc/cpuinfo'):
    names = [line.split(':')[1].strip() for line in open('/proc/cpuinfo')
             if line.startswith('model name')]
    name = names[0] if names else name
  return '%s, %d cores' % (name, os.cpu_count())


class Process:
  """A process that times what a function of its own makes.

  Args:
    make: called there, without arguments; gives a dict, name -> function, or the
      function alone.
  """

  def __init__(self, make):
    self._pool = concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context('spawn'), _begin,
        (make, FLAGS.data_dir))

  def close(self):
    self._pool.shutdown()

  def seconds(self, name=None, repeats=1):
    """Seconds that the named function, called so often, takes each time."""
    return self._pool.submit(_timed, name, repeats).result()


def _begin(make, data_dir):
  global _made
  FLAGS(['benchmark', '--data_dir=' + data_dir])
  _made = make()


def _timed(name, repeats):
  run = _made[name] if name else _made
  start = time.perf_counter()
  for _ in range(repeats):
    run()
  return (time.perf_counter() - start) / repeats


def interleaved(runs):
  """Medians of STEPS steps each, after those of warm-up, in turn; the order is
  another one in every round, since each leaves the caches to the next.

  Args:
    runs: key -> (Process, name).

  Returns:
    key -> seconds.
  """
  found, keys = {key: [] for key in runs}, list(runs)
  generator = random.Random(0)
  for _ in range(WARM_UP + STEPS):
    generator.shuffle(keys)
    for key in keys:
      process, name = runs[key]
      found[key].append(process.seconds(name))
  return {key: float(np.median(times[WARM_UP:]))
          for key, times in found.items()}


def our_steps():
  """What is measured of this suite: name -> function."""
  runs = {}
  for width in WIDTHS:
    for precision in ('float32', 'bfloat16'):
      runs[width, precision], runs['input'] = our_step(width, precision)
  for batch_size in BATCHES:
    runs['batch', batch_size], _ = our_step(64, 'float32', batch_size)
  return runs


def tutorial_step(folder):
  session, train_op = tutorial.session_and_step(FLAGS.data_dir, folder, 128, 64)
  return lambda: session.run(train_op)


def main(argv=None):
  del argv
  cifar10.maybe_download_and_extract()
  ours = Process(our_steps)
  names = [(width, precision) for width in WIDTHS
           for precision in ('float32', 'bfloat16')]
  names += ['input'] + [('batch', size) for size in BATCHES]
  runs = {name: (ours, name) for name in names}
  runs['matrix product'] = Process(matrix_product), None
  torch_there = importlib.util.find_spec('torch') is not None
  if torch_there:
    runs['pytorch'] = Process(functools.partial(pytorch_step, 64)), None
  else:
    print('PyTorch is not installed; its column is left out.', file=sys.stderr)
  seconds = interleaved(runs)

  # The tutorial last: its threads read ahead whenever they can.
  with tempfile.TemporaryDirectory() as folder:
    literal = Process(functools.partial(tutorial_step, folder))
    literal.seconds(repeats=2 * WARM_UP)
    totals = {'tutorial': literal.seconds(repeats=100)}
    literal.close()
  totals['ours beside it'] = ours.seconds((64, 'float32'), repeats=100)

  rate = 2 * MATRIX**3 / seconds['matrix product']
  result = {
      'float32_fraction_of_matmul_width%d' % width:
          operations(width, 128) / seconds[width, 'float32'] / rate
      for width in (64, 8)}
  result.update({
      'bfloat16_speedup_width64':
          seconds[64, 'float32'] / seconds[64, 'bfloat16'],
      'input_share_width64': seconds['input'] / seconds[64, 'float32'],
      'speedup_vs_literal_tutorial_width64':
          totals['tutorial'] / totals['ours beside it'],
      'milliseconds_per_step': {
          precision: {str(width): round(1e3 * seconds[width, precision], 2)
                      for width in WIDTHS}
          for precision in ('float32', 'bfloat16')},
      'milliseconds_by_batch_size_width64': dict(
          {str(size): round(1e3 * seconds['batch', size], 2)
           for size in BATCHES},
          **{'128': round(1e3 * seconds[64, 'float32'], 2)}),
      'milliseconds_input': round(1e3 * seconds['input'], 2),
      'milliseconds_tutorial': round(1e3 * totals['tutorial'], 2),
      'matmul_gflops': round(rate / 1e9, 1),
      'steps': STEPS, 'date': datetime.date.today().isoformat(),
      'machine': processor()})
  if torch_there:
    result['milliseconds_pytorch'] = round(1e3 * seconds['pytorch'], 2)
    result['speedup_vs_pytorch_width64'] = (
        seconds['pytorch'] / seconds[64, 'float32'])
  result = {name: round(value, 3) if isinstance(value, float) else value
            for name, value in result.items()}
  if FLAGS.json:
    print(json.dumps(result))
  else:
    for name, value in result.items():
      print('%s: %s' % (name, value))
  return 0


if __name__ == '__main__':
  cifar10.run(main)
