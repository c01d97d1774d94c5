"""Times what makes the training step fast, beside TensorFlow's own operations.

  python benchmarks/operations.py --data_dir=data [--json]

Our convolution (Winograd's algorithm) beside tf.nn.conv2d, and our local
response normalization (a product with a band matrix) beside tf.nn.lrn: value
and gradients together, on random batches of 128 with the shapes of the network
at widths 64 and 8. Then the whole float32 step with one thing changed at a
time: each of the two replaced by TensorFlow's, and the batch computed as a
whole instead of in two halves. Milliseconds, medians of 40 after 5 of warm-up,
in turn (timing.py); steps in halves, whole steps and operations alone have a
process each, since TensorFlow's threads are those of the process. bfloat16 is
left out on processors without it. About two minutes on two idle cores; other
programs on them slow steps in halves more than whole ones.

--json prints one object with `milliseconds`, by name, and these ratios, each
also at width 8 (..._width8):
  convolution_speedup_width64: conv2's by tf.nn.conv2d over ours;
  lrn_speedup_width64: norm1's by tf.nn.lrn over ours;
  step_speedup_convolution_width64, step_speedup_lrn_width64,
  step_speedup_halves_width64: the changed step's time over our step's.
Ratios of something that was left out are left out, too.
"""
import contextlib
import os
import sys
from unittest import mock

import timing   # No TensorFlow: that is for the processes.

WIDTHS, BATCH_SIZE = (64, 8), 128


def suite(data_dir):
  """The programs' modules (cifar10, operations), with the flags set."""
  sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                  os.pardir))
  import cifar10
  from thinet import operations
  cifar10.FLAGS(['operations', '--data_dir=' + data_dir,
                 '--batch_size=%d' % BATCH_SIZE])
  cifar10.maybe_download_and_extract()
  return cifar10, operations


def step(data_dir, width, parts, replaced=None, by=None):
  """Makes a function that runs a float32 training step with its input.

  Args:
    data_dir: folder of the data set.
    width: width of conv1.
    parts: number of towers that compute the batch side by side.
    replaced: name of one of our operations, or None.
    by: function to put in its place.
  """
  cifar10, operations = suite(data_dir)
  import tensorflow.compat.v1 as tf
  change = (mock.patch.object(operations, replaced, by) if replaced else
            contextlib.nullcontext())
  with tf.Graph().as_default(), change:
    global_step = tf.train.get_or_create_global_step()
    images, labels = cifar10.distorted_inputs(0, parts=parts)
    logits = cifar10.tower_inference(images, cifar10.Widths(width), 'float32',
                                     parts)
    loss = cifar10.loss(logits, labels)
    train_op = cifar10.train(loss, global_step)
    session = tf.Session(config=cifar10.session_config(parts))
    session.run([tf.global_variables_initializer(),
                 tf.local_variables_initializer()])
  return lambda: session.run([train_op, loss])


def in_halves(data_dir):
  """Steps on two halves of the batch, side by side."""
  runs = {}
  for width in WIDTHS:
    runs['step, width %d' % width] = step(data_dir, width, 2)
    for name, ours, theirs in [
        ('tf.nn.conv2d', 'convolution', conv2d),
        ('tf.nn.lrn', 'local_response_normalization', lrn)]:
      runs['step with %s, width %d' % (name, width)] = step(
          data_dir, width, 2, ours, theirs)
  return runs


def as_a_whole(data_dir):
  """Steps on the batch as a whole."""
  return {'step on the whole batch, width %d' % width: step(data_dir, width, 1)
          for width in WIDTHS}


def alone(data_dir):
  """The operations alone."""
  _, operations = suite(data_dir)
  convolutions = {'Winograd': operations.winograd_convolution,
                  'tf.nn.conv2d': conv2d}
  norms = {'band product': operations.local_response_normalization,
           'tf.nn.lrn': lrn}
  runs = {}
  for width in WIDTHS:
    for precision in ['float32'] + ['bfloat16'] * timing.has_bfloat16():
      for layer, image, kernel in [
          ('conv1', [24, 24, 3], [5, 5, 3, width]),
          ('conv2', [12, 12, width], [5, 5, width, 64])]:
        for name, function in convolutions.items():
          runs['%s by %s, %s, width %d' % (layer, name, precision, width)] = (
              with_gradients(function, precision, image, kernel))
    # The normalization is in float32 at any precision.
    for name, function in norms.items():
      runs['norm1 by %s, width %d' % (name, width)] = with_gradients(
          function, 'float32', [12, 12, width])
  return runs


def conv2d(x, kernel):
  """TensorFlow's convolution."""
  import tensorflow.compat.v1 as tf
  return tf.nn.conv2d(x, kernel, 1, 'SAME')


def lrn(x):
  """TensorFlow's local response normalization."""
  import tensorflow.compat.v1 as tf
  return tf.nn.lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)


def with_gradients(function, precision, image, *kernel):
  """Makes a function that runs an operation and the gradients of its inputs.

  Args:
    function: function of a batch of images and, if there is one, a kernel.
    precision: 'float32' or 'bfloat16'.
    image: shape of one image.
    *kernel: shape of the kernel, or nothing.
  """
  import tensorflow.compat.v1 as tf
  with tf.Graph().as_default():
    inputs = [tf.convert_to_tensor(tf.get_variable(
        'input%d' % i, initializer=tf.cast(tf.random.normal(shape), precision)))
              for i, shape in enumerate([[BATCH_SIZE] + image, *kernel])]
    y = function(*inputs)
    slope = tf.convert_to_tensor(tf.get_variable(
        'slope', initializer=tf.cast(tf.random.normal(y.shape), precision)))
    fetches = [each.op for each in [y] + tf.gradients(y, inputs, slope)]
    session = tf.Session()
    session.run(tf.global_variables_initializer())
  return lambda: session.run(fetches)


def summary(milliseconds):
  """The ratios of the docstring, from name -> milliseconds."""
  result = {}
  for width in WIDTHS:
    for ratio, theirs, ours in [
        ('convolution_speedup', 'conv2 by tf.nn.conv2d, float32',
         'conv2 by Winograd, float32'),
        ('lrn_speedup', 'norm1 by tf.nn.lrn', 'norm1 by band product'),
        ('step_speedup_convolution', 'step with tf.nn.conv2d', 'step'),
        ('step_speedup_lrn', 'step with tf.nn.lrn', 'step'),
        ('step_speedup_halves', 'step on the whole batch', 'step')]:
      pair = ['%s, width %d' % (name, width) for name in (theirs, ours)]
      if all(name in milliseconds for name in pair):
        theirs, ours = (milliseconds[name] for name in pair)
        result['%s_width%d' % (ratio, width)] = theirs / ours
  return result


def main():
  processes = {'halves': in_halves, 'whole': as_a_whole, 'alone': alone}
  flags = timing.parsed(__doc__, processes)
  competitors = [timing.Competitor('What runs with --only=' + name, [
      sys.executable, os.path.abspath(__file__), '--data_dir=' + flags.data_dir,
      '--only=' + name]) for name in processes]
  seconds = timing.interleaved(competitors)
  for each in competitors:
    each.close()
  milliseconds = {name: round(1e3 * seconds[name], 2)
                  for name in sorted(seconds)}
  result = dict(summary(milliseconds), steps=timing.STEPS)
  timing.report(dict(result, milliseconds=milliseconds) if flags.json else
                dict(milliseconds, **result), flags.json)
  return 0 if seconds else 1


if __name__ == '__main__':
  sys.exit(main())
