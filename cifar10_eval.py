"""Evaluates a checkpoint of the CIFAR-10 network: top-1 and top-5.

Any conv1 width works: it is read from the checkpoint.

  python cifar10_eval.py --checkpoint_dir=runs/seed0/scratch_64

Prints the tutorial's line, and writes eval.json and TensorBoard's scalars into
the checkpoint's folder. For the training images or the raw weights the file is
eval_train_eval.json, eval_test_raw.json or eval_train_eval_raw.json.
--export_dir also writes the network as a SavedModel, for TensorFlow 2 and its
servers:

  model = tf.saved_model.load(EXPORT_DIR).signatures['serving_default']
  model(tf.constant(uint8_images))['labels']
"""
import contextlib
import datetime
import os
import shutil
import tempfile
import time

import cifar10
import cifar10_input
from cifar10_input import UserError
from thinet import checkpoint
from thinet import files
from thinet import progress
from thinet import summaries

import numpy as np
import tensorflow.compat.v1 as tf

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'checkpoint_dir'):
  tf.app.flags.declare_key_flag(_name)
tf.app.flags.DEFINE_enum('eval_data', 'test', ['test', 'train_eval'],
                         'The test images, or the training images undistorted.')
tf.app.flags.DEFINE_enum('weights', 'averaged', ['averaged', 'raw'],
                         'The moving averages, or the last weights.')
tf.app.flags.DEFINE_string('export_dir', None,
                           'New folder for the network as a SavedModel.')
tf.app.flags.DEFINE_integer('eval_interval_secs', 0,
                            'If above 0, watch a running training, and look '
                            'for a new checkpoint at this interval.',
                            lower_bound=0)


def eval_once(arrays, examples, eval_data, weights):
  """Counts the images that a network classifies correctly.

  Args:
    arrays: name -> array of a checkpoint, as from checkpoint.read.
    examples: number of images in the data.
    eval_data: 'test' or 'train_eval'.
    weights: 'averaged' or 'raw'.

  Returns:
    (top1, top5, examples, latency): two counts, the number of images, and the
    median of the batches' times in milliseconds.
  """
  with tf.Graph().as_default():
    batch = tf.placeholder(tf.int64, [])
    images, labels = cifar10.inputs(eval_data, batch)
    towers = cifar10.towers(images.shape[0].value)
    logits = cifar10.tower_inference(images, arrays['conv1/biases'].size,
                                     'float32', towers)
    hits = tf.stack([tf.reduce_sum(tf.cast(
        tf.nn.in_top_k(logits, labels, k), tf.int64)) for k in (1, 5)] +
                    [tf.math.count_nonzero(labels >= 0)])
    with tf.Session(config=cifar10.session_config(towers)) as session:
      session.run(tf.local_variables_initializer())
      checkpoint.assign(session, {var: arrays[var.op.name + suffix(weights)]
                                  for var in tf.trainable_variables()})
      counts, clock = 0, [time.perf_counter()]
      batches = range(-(-examples // FLAGS.batch_size))
      for number in progress.shown(batches, 'Evaluation'):
        counts += session.run(hits, {batch: number})
        clock.append(time.perf_counter())
      return tuple(int(count) for count in counts) + (
          1e3 * float(np.median(np.diff(clock))),)


def suffix(weights):
  """Suffix of the names of 'averaged' or 'raw' weights in a checkpoint."""
  return checkpoint.AVERAGE if weights == 'averaged' else ''


def export(arrays, weights, folder):
  """Writes a network as a SavedModel, for serving.

  Signature serving_default: images, uint8 [n, 32, 32, 3], in; logits and
  probabilities, float32 [n, 10], and labels, int64 [n], out. The crop and the
  standardization are inside.

  Args:
    arrays: name -> array of a checkpoint, as from checkpoint.read.
    weights: 'averaged' or 'raw'.
    folder: new folder; it appears when it is complete.

  Raises:
    FileError: the folder cannot be written.
  """
  part = None
  try:
    above = os.path.dirname(os.path.abspath(folder))
    os.makedirs(above, exist_ok=True)
    part = tempfile.mkdtemp(prefix='.export-', dir=above)
    model = os.path.join(part, 'model')
    with tf.Graph().as_default(), tf.Session() as session:
      side = cifar10_input.RECORD_SIDE
      images = tf.placeholder(tf.uint8, [None, side, side, 3], name='images')
      # A server does not hold callers to a placeholder's shape.
      checked = tf.ensure_shape(images, images.shape)
      logits = cifar10.inference(cifar10_input.central(checked),
                                 arrays['conv1/biases'].size)
      checkpoint.assign(session, {var: arrays[var.op.name + suffix(weights)]
                                  for var in tf.trainable_variables()})
      tf.saved_model.simple_save(
          session, model, {'images': images},
          {'logits': logits, 'probabilities': tf.nn.softmax(logits),
           'labels': tf.argmax(logits, axis=1)})
    for above_it, _, names in os.walk(model):
      for name in names:
        files.sync(os.path.join(above_it, name))
    os.rename(model, folder)
    files.sync(above)
  except checkpoint.WRITE_ERRORS as error:
    raise files.not_written(folder, error)
  finally:
    if part:
      shutil.rmtree(part, ignore_errors=True)


def making(folder):
  """What run.json or compress.json says of a network's making, or {}."""
  for name in ('run.json', 'compress.json'):
    with contextlib.suppress(OSError, ValueError):
      return files.read_json(os.path.join(folder, name))
  return {}


def report(folder, found, data_digest, counts):
  """Prints the tutorial's line; writes the JSON and what TensorBoard shows.

  Args:
    folder: the network's.
    found: checkpoint.Checkpoint.
    data_digest: SHA-256 of the images' files.
    counts: as from eval_once.

  Raises:
    FileError: the folder cannot be written to.
  """
  top1, top5, examples, latency = counts
  arrays, settings = found.arrays, found.settings
  width, step = arrays['conv1/biases'].size, int(arrays.get('global_step', 0))
  # First, so that it is seen even if nothing can be written.
  print('%s: precision @ 1 = %.3f, @ 5 = %.3f (%d images, step %d)' % (
      datetime.datetime.now(), top1 / examples, top5 / examples, examples,
      step), flush=True)
  multiply_adds, parameters = cifar10.cost(width)
  result = {
      'conv1_channels': int(width), 'top1': 100.0 * top1 / examples,
      'top5': 100.0 * top5 / examples, 'examples': examples,
      'global_step': step, 'split': FLAGS.eval_data, 'weights': FLAGS.weights,
      'checkpoint': os.path.basename(found.path),
      'checkpoint_digest': found.digest, 'data_digest': data_digest,
      'latency_ms': round(latency, 3),
      'batch_size': FLAGS.batch_size, 'multiply_adds': multiply_adds,
      'parameters': parameters}
  for layer, kind in (('conv2', 'channels'), ('local3', 'units'),
                      ('local4', 'units')):
    result['%s_%s' % (layer, kind)] = int(arrays[layer + '/biases'].size)
  for name in ('seed', 'criterion', 'reconstruction', 'fine_tuned'):
    if name in settings:
      result[name] = settings[name]
  made = making(folder)
  seconds = made.get('seconds')
  if seconds is not None:
    result['seconds'] = float(sum(seconds.values())
                              if isinstance(seconds, dict) else seconds)
  kind = 'eval_' + FLAGS.eval_data + (
      '_raw' if FLAGS.weights == 'raw' else '')
  usual = kind == 'eval_test'
  # A training that goes on draws its curve itself.
  if usual and made.get('last_step', step) == step:
    summaries.write(folder, [
        (summaries.precision(top1 / examples, top5 / examples), step),
        (summaries.command(cifar10.command()), step)], 'evaluation')
    summaries.write_row(folder, settings, result)
  # Last, because eval.json says that everything is written.
  files.write_json(
      os.path.join(folder, ('eval' if usual else kind) + '.json'), result)


def evaluate():
  """Evaluates the newest checkpoint, once or whenever there is a new one."""
  folder = FLAGS.checkpoint_dir
  if not folder:
    raise UserError('--checkpoint_dir is missing; name the folder of a '
                    'checkpoint.')
  if FLAGS.export_dir:
    if FLAGS.eval_interval_secs:
      raise UserError('--export_dir=%s is for one checkpoint; leave out '
                      '--eval_interval_secs.' % FLAGS.export_dir)
    if os.path.lexists(FLAGS.export_dir):
      raise UserError('--export_dir=%s exists; name a new folder.' %
                      FLAGS.export_dir)
    if set('*?[]\\') & set(os.path.abspath(FLAGS.export_dir)):
      raise UserError('--export_dir=%s has one of *?[]\\ in its path, from '
                      'which TensorFlow cannot load; name another folder.' %
                      FLAGS.export_dir)
    files.require_writable(os.path.dirname(FLAGS.export_dir) or '.')
  watch = FLAGS.eval_interval_secs
  found = None if watch else checkpoint.read_newest(folder,
                                                    cifar10.shapes_like)
  cifar10.maybe_download_and_extract()
  examples, data_digest = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), FLAGS.eval_data))

  def rate():
    report(folder, found, data_digest, eval_once(
        found.arrays, examples, FLAGS.eval_data, FLAGS.weights))

  if not watch:
    if FLAGS.export_dir:
      export(found.arrays, FLAGS.weights, FLAGS.export_dir)
    rate()
    return 0
  seen = None
  while True:
    try:
      found = checkpoint.read_newest(folder, cifar10.shapes_like)
      if found.digest != seen:
        rate()
        seen = found.digest
    except (UserError, files.FileError) as error:
      print(error, flush=True)   # The training may not have saved yet.
    time.sleep(watch)


def main(argv=None):
  del argv
  return evaluate()


if __name__ == '__main__':
  cifar10.run(main)
