"""Times a training step of this suite beside its competitors.

  python benchmarks/training.py --data_dir=data [--json]

At width 64, batches of 128, unless said otherwise: our step with its real input
pipeline, at several widths, precisions and batch sizes; the pipeline alone; a
4096x4096 float32 matrix product; the same network in PyTorch (eager, channels
last, no input pipeline; `pip install torch`, or it is left out); and the
tutorial written literally (tutorial.py; the mean of 100 steps, one of which
writes summaries). All are medians of 40 steps after 5 of warm-up, in turn, each
competitor in a process of its own (timing.py); one that dies is named and left
out. bfloat16 is left out on processors without it. About two minutes on two
cores.

--json prints one object with the times and these ratios:
  float32_fraction_of_matmul_width64, float32_fraction_of_matmul_width8: the
    operations of convolutions and matrix products alone, per second of a step,
    over those of the matrix product;
  bfloat16_speedup_width64: float32 over bfloat16;
  input_share_width64: the pipeline's time over the step's;
  speedup_vs_pytorch_width64, speedup_vs_literal_tutorial_width64.
Ratios of something that was left out are left out, too.
"""
import os
import sys

import timing   # No TensorFlow, no PyTorch: those are for the processes.

MATRIX, BATCH_SIZE = 4096, 128
WIDTHS, BATCH_SIZES = [64, 48, 32, 24, 16, 8], [32, 64, 256]
TUTORIAL_WARM_UP, TUTORIAL_STEPS = 10, 100


def operations(width):
  """Floating-point operations of a step's convolutions and products.

  Twice the multiply-adds: forward, for the gradients of the weights, and for
  those of all inputs except the images.
  """
  conv1 = 24 * 24 * 75 * width
  rest = 12 * 12 * 25 * width * 64 + 2304 * 384 + 384 * 192 + 192 * 10
  return 2 * BATCH_SIZE * (2 * conv1 + 3 * rest)


# ---------------------------------------------- the processes: what each makes


def our_step(data_dir, width, precision, batch_size):
  """Makes (function that runs a step, function that runs its input alone)."""
  sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                  os.pardir))
  import cifar10
  import tensorflow.compat.v1 as tf
  cifar10.FLAGS(['training', '--data_dir=' + data_dir,
                 '--batch_size=%d' % batch_size])
  cifar10.maybe_download_and_extract()
  with tf.Graph().as_default():
    global_step = tf.train.get_or_create_global_step()
    towers = cifar10.towers(batch_size)
    images, labels = cifar10.distorted_inputs(0, parts=towers)
    logits = cifar10.tower_inference(images, cifar10.Widths(width), precision,
                                     towers)
    loss = cifar10.loss(logits, labels)
    train_op = cifar10.train(loss, global_step)
    session = tf.Session(config=cifar10.session_config(towers))
    session.run([tf.global_variables_initializer(),
                 tf.local_variables_initializer()])
  return (lambda: session.run([train_op, loss]),
          lambda: session.run([images.op, labels.op]))


def ours(data_dir):
  """This suite's steps, and the input pipeline."""
  runs = {}
  for precision in ['float32'] + ['bfloat16'] * timing.has_bfloat16():
    for width in WIDTHS:
      runs['%s %d' % (precision, width)], runs['input'] = our_step(
          data_dir, width, precision, BATCH_SIZE)
  for size in BATCH_SIZES:
    runs['batch %d' % size], _ = our_step(data_dir, 64, 'float32', size)
  return runs


def product(data_dir):
  """The matrix product."""
  del data_dir
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')   # As our programs do.
  import tensorflow.compat.v1 as tf
  with tf.Graph().as_default():
    x = tf.get_variable('x', [MATRIX, MATRIX], use_resource=True)
    result = tf.matmul(x, x).op
    session = tf.Session()
    session.run(x.initializer)
  return {'product': lambda: session.run(result)}


def pytorch(data_dir):
  """The same network and update in PyTorch."""
  del data_dir
  import pytorch_network
  import torch
  network = pytorch_network.Network().to(memory_format=torch.channels_last)
  averages = [p.detach().clone() for p in network.parameters()]
  optimizer = torch.optim.SGD(network.parameters(), 0.1)
  images = torch.randn(BATCH_SIZE, 3, 24, 24).to(
      memory_format=torch.channels_last)
  labels = torch.randint(0, 10, [BATCH_SIZE])

  def step():
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(network(images),
                                             labels) + network.decay()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
      torch._foreach_lerp_(averages, list(network.parameters()), 1e-4)
    return loss.item()
  return {'pytorch': step}


# --------------------------------------------------- the parent: asks in turn


def measure(data_dir):
  """Name -> seconds a step, without the competitors that died.

  'tutorial' and 'beside tutorial', our step right after it, are means.
  """
  def start(title, *command):
    folder = os.path.dirname(os.path.abspath(__file__))
    return timing.Competitor(title, [
        sys.executable, os.path.join(folder, command[0]),
        '--data_dir=' + data_dir, *command[1:]])
  suite = start('Our step', 'training.py', '--only=ours')
  others = [start('The matrix product', 'training.py', '--only=product'),
            start('PyTorch', 'training.py', '--only=pytorch')]
  seconds = timing.interleaved([suite] + others)
  for each in others:
    each.close()
  # The tutorial last: its threads read ahead whenever they can.
  literal = start('The tutorial', 'tutorial.py')
  literal.seconds('tutorial', TUTORIAL_WARM_UP)
  seconds['tutorial'] = literal.seconds('tutorial', TUTORIAL_STEPS)
  literal.close()
  seconds['beside tutorial'] = suite.seconds('float32 64', TUTORIAL_STEPS)
  suite.close()
  return {name: value for name, value in seconds.items() if value}


def summary(seconds):
  """The ratios and times of the docstring, from name -> seconds."""
  def milliseconds(name):
    return round(1e3 * seconds[name], 2)
  ours_64, result = seconds.get('float32 64'), {}
  if 'product' in seconds:
    rate = 2 * MATRIX**3 / seconds['product']
    result['matmul_gflops'] = rate / 1e9
    result.update({
        'float32_fraction_of_matmul_width%d' % width:
            operations(width) / seconds['float32 %d' % width] / rate
        for width in (64, 8) if ours_64})
  for ratio, over, under in [
      ('bfloat16_speedup_width64', 'float32 64', 'bfloat16 64'),
      ('input_share_width64', 'input', 'float32 64'),
      ('speedup_vs_pytorch_width64', 'pytorch', 'float32 64'),
      ('speedup_vs_literal_tutorial_width64', 'tutorial', 'beside tutorial')]:
    if over in seconds and under in seconds:
      result[ratio] = seconds[over] / seconds[under]
  result['milliseconds_per_step'] = {
      precision: {str(width): milliseconds('%s %d' % (precision, width))
                  for width in WIDTHS}
      for precision in ('float32', 'bfloat16')
      if '%s 64' % precision in seconds}
  if ours_64:
    result['milliseconds_by_batch_size_width64'] = dict(
        {str(size): milliseconds('batch %d' % size) for size in BATCH_SIZES},
        **{str(BATCH_SIZE): milliseconds('float32 64')})
  for name in ('input', 'pytorch', 'tutorial'):
    if name in seconds:
      result['milliseconds_' + name] = milliseconds(name)
  return result


def main():
  processes = {'ours': ours, 'product': product, 'pytorch': pytorch}
  flags = timing.parsed(__doc__, processes)
  seconds = measure(flags.data_dir)
  timing.report(dict(summary(seconds), steps=timing.STEPS), flags.json)
  return 0 if 'float32 64' in seconds else 1


if __name__ == '__main__':
  sys.exit(main())
