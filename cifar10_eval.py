"""Evaluates a checkpoint of the CIFAR-10 network: top-1 and top-5.

Any conv1 width works: it is read from the checkpoint.

  python cifar10_eval.py --checkpoint_dir=runs/seed0/scratch_64

Prints the tutorial's line, and writes eval.json and the scalars for TensorBoard
into the checkpoint's folder.
"""
import datetime
import os
import time

import checkpoint
import cifar10
import cifar10_input
from cifar10_input import UserError

import tensorflow.compat.v1 as tf

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'checkpoint_dir'):
  tf.app.flags.declare_key_flag(_name)
tf.app.flags.DEFINE_enum('eval_data', 'test', ['test', 'train_eval'],
                         'The test images, or the training images undistorted.')
tf.app.flags.DEFINE_enum('weights', 'averaged', ['averaged', 'raw'],
                         'The moving averages, or the last weights.')
tf.app.flags.DEFINE_integer('eval_interval_secs', 0,
                            'If above 0: keep watching a running training, '
                            'and look for a new checkpoint that often.',
                            lower_bound=0)


def eval_once(arrays, examples, eval_data, weights):
  """Counts the images that a network gets right.

  Args:
    arrays: name -> array of a checkpoint, as from checkpoint.read.
    examples: number of images there are.
    eval_data: 'test' or 'train_eval'.
    weights: 'averaged' or 'raw'.

  Returns:
    (top1, top5, examples): two counts, and the number of images.
  """
  suffix = cifar10.AVERAGE if weights == 'averaged' else ''
  with tf.Graph().as_default():
    batch = tf.placeholder(tf.int64, [])
    images, labels = cifar10.inputs(eval_data, batch)
    logits = cifar10.inference(images, arrays['conv1/biases'].size)
    hits = tf.stack([tf.reduce_sum(tf.cast(
        tf.nn.in_top_k(logits, labels, k), tf.int64)) for k in (1, 5)] +
                    [tf.size(labels, out_type=tf.int64)])
    with tf.Session(config=cifar10.session_config()) as session:
      session.run(tf.local_variables_initializer())
      cifar10.assign(session, {var: arrays[var.op.name + suffix]
                               for var in tf.trainable_variables()})
      batches = -(-examples // FLAGS.batch_size)
      counts = sum(session.run(hits, {batch: number})
                   for number in range(batches))
      return tuple(int(count) for count in counts)


def report(folder, path, arrays, settings, counts):
  """Prints the tutorial's line; writes eval.json and the two scalars."""
  top1, top5, examples = counts
  step = int(arrays.get('global_step', 0))
  result = {
      'conv1_channels': int(arrays['conv1/biases'].size),
      'top1': 100.0 * top1 / examples, 'top5': 100.0 * top5 / examples,
      'examples': examples, 'global_step': step, 'split': FLAGS.eval_data,
      'weights': FLAGS.weights, 'checkpoint': os.path.basename(path)}
  for name in ('seed', 'criterion', 'reconstruction', 'fine_tuned'):
    if name in settings:
      result[name] = settings[name]
  try:
    with tf.Graph().as_default():
      writer = tf.summary.FileWriter(
          os.path.join(folder, 'eval_' + FLAGS.eval_data))
      writer.add_summary(tf.Summary(value=[
          tf.Summary.Value(tag='Precision @ 1', simple_value=top1 / examples),
          tf.Summary.Value(tag='Precision @ 5', simple_value=top5 / examples)]),
                         step)
      writer.close()
  except checkpoint.WRITE_ERRORS as error:
    raise checkpoint.not_written(folder, error)
  # Last, because it says that all is done.
  checkpoint.write_json(os.path.join(folder, 'eval.json'), result)
  print('%s: precision @ 1 = %.3f, @ 5 = %.3f (%d images, step %d)' % (
      datetime.datetime.now(), top1 / examples, top5 / examples, examples,
      step), flush=True)


def evaluate():
  """Evaluates the newest checkpoint; once, or whenever there is a new one."""
  folder = FLAGS.checkpoint_dir
  if not folder:
    raise UserError('--checkpoint_dir is missing; name the folder of a '
                    'checkpoint.')
  cifar10.maybe_download_and_extract()
  examples, _ = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), FLAGS.eval_data))
  seen = None
  while True:
    try:
      path, arrays, settings = checkpoint.read_newest(folder)
      if path != seen:
        report(folder, path, arrays, settings,
               eval_once(arrays, examples, FLAGS.eval_data, FLAGS.weights))
        seen = path
    except UserError as error:
      if not FLAGS.eval_interval_secs:
        raise
      print(error, flush=True)  # The training may not have saved yet.
    if not FLAGS.eval_interval_secs:
      return 0
    time.sleep(FLAGS.eval_interval_secs)


def main(argv=None):
  del argv
  return evaluate()


if __name__ == '__main__':
  cifar10.run(main)
