"""Evaluates a checkpoint of the CIFAR-10 network: top-1 and top-5.

Any widths work: they are read from the checkpoint.

  python cifar10_eval.py --checkpoint_dir=runs/seed0/scratch_64
  ...: precision @ 1 = 0.852, @ 5 = 0.993 (10000 images, step 50000)

About 3 s on two Intel Xeon cores. Prints the tutorial's line, then the network
with top-1 and top-5 in %, two digits each, and writes eval.json and
TensorBoard's scalars into the checkpoint's folder. For the training images or
the raw weights the file is eval_train_eval.json, eval_test_raw.json or
eval_train_eval_raw.json.

--checkpoint_dir is a folder, whose newest checkpoint is taken, or one
checkpoint, as runs/seed0/scratch_64/model.ckpt-3000; its result is
eval_test_model.ckpt-3000.json. Networks of other programs need the tutorial's
names, and --weights=raw if they have no averages.

Two other uses of a network need no data set:

  python cifar10_eval.py --checkpoint_dir=runs/seed0/scratch_64 --image=cat.png
  python cifar10_eval.py --checkpoint_dir=runs/seed0/scratch_64 \\
      --export_dir=exported/64

The first prints the probabilities of the ten classes for one picture. The
second writes a SavedModel, for TensorFlow 2, its servers and converters:

  import tensorflow as tf
  model = tf.saved_model.load('exported/64').signatures['serving_default']
  model(tf.constant(images))   # uint8 [n, 32, 32, 3] -> labels and others
  lite = tf.lite.TFLiteConverter.from_saved_model(
      'exported/64', signature_keys=['serving_default'])
  open('64.tflite', 'wb').write(lite.convert())
"""
import contextlib
import datetime
import os
import struct
import tempfile
import time

import cifar10
import cifar10_input
from cifar10_input import UserError
from thinet import checkpoint
from thinet import files
from thinet import progress
from thinet import summaries
from thinet import tensorflow as tf

import numpy as np

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'checkpoint_dir'):
  tf.app.flags.declare_key_flag(_name)
FLAGS['checkpoint_dir'].help = ('Required. A checkpoint, or a folder whose '
                                'newest one is read.')
tf.app.flags.DEFINE_enum('eval_data', 'test', ['test', 'train_eval'],
                         'The test images, or the training images undistorted.')
tf.app.flags.DEFINE_enum('weights', 'averaged', ['averaged', 'raw'],
                         'The moving averages, or the last weights.')
tf.app.flags.DEFINE_string('image', None, 'PNG or JPEG to classify; its middle '
                           'square is resized. Rates no data set.')
tf.app.flags.DEFINE_string('export_dir', None, 'New folder for the network as '
                           'a SavedModel. Rates no data set.')
tf.app.flags.DEFINE_integer('eval_interval_secs', 0,
                            'If above 0, look for a new checkpoint at this '
                            'interval, until the training has ended.',
                            lower_bound=0, upper_bound=10**6)

MAX_PIXELS = 2**26           # Of a picture; a larger one may be a trap.
MAX_IMAGE_BYTES = 2**28
PNG, JPEG = b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff'   # How files begin.


# --------------------------------------------------------------- the network


def read(name):
  """Reads the checkpoint, or the newest of the folder, that a path names.

  Returns:
    checkpoint.Checkpoint; it has the weights that FLAGS.weights asks for.

  Raises:
    UserError: it has no averages, but they are asked for.
    CheckpointError: there is none, or it is of another network.
  """
  found = checkpoint.read_named(name, cifar10.shapes_like)
  for variable in cifar10.shapes_like(found.arrays):
    average = variable + suffix(FLAGS.weights)
    if average not in found.arrays:
      raise UserError('Checkpoint %s lacks %s; give --weights=raw, or name a '
                      'checkpoint with averages.' % (found.path, average))
  return found


def suffix(weights):
  """Suffix of the names of 'averaged' or 'raw' weights in a checkpoint."""
  return checkpoint.AVERAGE if weights == 'averaged' else ''


def assign(session, arrays, weights):
  """Gives the graph's network the 'averaged' or 'raw' weights."""
  checkpoint.assign_network(session, arrays, suffix(weights))


def step_of(found):
  """Training step of a checkpoint; 0 if it has none."""
  return int(found.arrays.get('global_step', 0))


def title(found):
  """Names a network: its checkpoint, and in brackets what it is."""
  settings = found.settings
  mode = '_'.join(str(settings[name])
                  for name in ('criterion', 'reconstruction')
                  if name in settings)
  words = [cifar10.named(cifar10.widths_of(found.arrays)), mode,
           'fine-tuned' if settings.get('fine_tuned') else '',
           'step %d' % step_of(found), FLAGS.weights + ' weights']
  return '%s (%s)' % (found.path, ', '.join(filter(None, words)))


# ---------------------------------------------------------------- a data set


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
    logits = cifar10.tower_inference(images, cifar10.widths_of(arrays),
                                     'float32', towers)
    hits = tf.concat([cifar10.hits(logits, labels),
                      [tf.math.count_nonzero(labels >= 0)]], 0)
    with tf.Session(config=cifar10.session_config(towers)) as session:
      session.run(tf.local_variables_initializer())
      assign(session, arrays, weights)
      counts, clock = 0, [time.perf_counter()]
      batches = range(-(-examples // FLAGS.batch_size))
      for number in progress.shown(batches, 'Evaluation'):
        counts += session.run(hits, {batch: number})
        clock.append(time.perf_counter())
      return tuple(int(count) for count in counts) + (
          1e3 * float(np.median(np.diff(clock))),)


def described(found, data_digest, counts, made):
  """What eval.json says of a network.

  Args:
    found, data_digest, counts: as for report.
    made: dict, what the file beside it says of how it was made.

  Returns:
    dict.
  """
  top1, top5, examples, latency = counts
  widths = cifar10.widths_of(found.arrays)
  multiply_adds, parameters = cifar10.cost(widths)
  result = {
      **widths._asdict(), 'top1': 100.0 * top1 / examples,
      'top5': 100.0 * top5 / examples, 'examples': examples,
      'global_step': step_of(found), 'split': FLAGS.eval_data,
      'weights': FLAGS.weights, 'checkpoint': os.path.basename(found.path),
      'checkpoint_digest': found.digest, 'data_digest': data_digest,
      'latency_ms': round(latency, 3),
      'batch_size': FLAGS.batch_size, 'multiply_adds': multiply_adds,
      'parameters': parameters}
  for key in ('seed', 'criterion', 'reconstruction', 'fine_tuned'):
    if key in found.settings:
      result[key] = found.settings[key]
  with contextlib.suppress(KeyError, TypeError, ValueError):
    seconds = made['seconds']
    if made.get('step', step_of(found)) == step_of(found):   # Not an older one.
      result['seconds'] = float(sum(seconds.values())
                                if isinstance(seconds, dict) else seconds)
  return result


def report(found, data_digest, counts, named=False):
  """Prints the tutorial's line; writes the JSON and what TensorBoard shows.

  Args:
    found: checkpoint.Checkpoint; the results go into its folder.
    data_digest: SHA-256 of the images' files.
    counts: as from eval_once.
    named: whether the checkpoint was named, rather than its folder; the result
      then goes into a file of its own.

  Raises:
    FileError: the folder cannot be written to.
  """
  top1, top5, examples, _ = counts
  folder, name = os.path.split(found.path)
  step, made = step_of(found), checkpoint.making(folder)
  result = described(found, data_digest, counts, made)
  kind = 'eval_' + FLAGS.eval_data + (
      '_raw' if FLAGS.weights == 'raw' else '')
  usual = kind == 'eval_test' and not named
  try:
    # A training that goes on draws its curve itself.
    if usual and made.get('last_step', step) == step:
      summaries.write(folder, [
          (summaries.precision(top1 / examples, top5 / examples), step),
          (summaries.command(cifar10.command()), step)], 'evaluation')
      summaries.write_row(folder, found.settings, result)
    # Last, because eval.json says that everything is written.
    files.write_json(os.path.join(folder, '%s.json' % (
        'eval' if usual else kind + ('_' + name if named else ''))), result)
  finally:   # The result is shown even if it cannot be written.
    print('%s: precision @ 1 = %.3f, @ 5 = %.3f (%d images, step %d)' % (
        datetime.datetime.now(), top1 / examples, top5 / examples, examples,
        step))
    print('%s: top-1 %.2f %%, top-5 %.2f %%' % (
        title(found), 100.0 * top1 / examples, 100.0 * top5 / examples),
          flush=True)


def rate(found, named=False):
  """Evaluates a checkpoint on the data as they are now, and reports.

  Args:
    found: checkpoint.Checkpoint.
    named: as for report.
  """
  examples, data_digest = cifar10.checked_data(FLAGS.eval_data)
  report(found, data_digest, eval_once(found.arrays, examples, FLAGS.eval_data,
                                       FLAGS.weights), named)


def check_evaluate():
  """Raises UserError if --evaluate asks for what the data do not allow."""
  if FLAGS.evaluate:
    cifar10.checked_data(FLAGS.eval_data)


def rate_made(folder):
  """Evaluates the network of a folder if --evaluate asks for it."""
  if FLAGS.evaluate:
    rate(checkpoint.read_newest(folder, cifar10.shapes_like))


def ended(folder, step):
  """Whether a folder's network has been made, as its JSON says.

  A training that has stopped may go on, so it has ended at its last step only.

  Args:
    folder: of a training or a compression.
    step: that of its newest checkpoint.
  """
  made = checkpoint.making(folder)
  return bool(made) and step >= made.get('last_step', 0)


def watch(folder):
  """Evaluates each new checkpoint of a folder until its training has ended."""
  # What is wrong with the data is said at once.
  cifar10.checked_data(FLAGS.eval_data)
  seen = said = None
  while True:
    try:
      found = read(folder)
      if found.digest != seen:
        rate(found)
        seen = found.digest
      if ended(folder, step_of(found)):
        print('%s is finished: step %d.' % (folder, step_of(found)))
        return
    except (UserError, files.FileError) as error:
      if str(error) != said:   # The training may not have saved yet.
        print(error, flush=True)
      said = str(error)
    time.sleep(FLAGS.eval_interval_secs)


# --------------------------------------------------------------- one picture


def read_image(path):
  """Reads a picture as an image of the data set.

  The middle square is resized, antialiased; what is transparent becomes white.
  The orientation in EXIF is ignored.

  Args:
    path: PNG or JPEG of any size and kind up to MAX_PIXELS.

  Returns:
    uint8 [32, 32, 3].

  Raises:
    UserError: it cannot be read, is damaged, too large or of another kind.
  """
  try:
    size = os.path.getsize(path)
    if size > MAX_IMAGE_BYTES:
      raise UserError('Image %s has %d bytes, more than %d; make it smaller.' %
                      (path, size, MAX_IMAGE_BYTES))
    content = files.read_bytes(path)
  except OSError as error:
    raise UserError('Image %s cannot be read (%s); name another.' % (
        path, error.strerror))
  if not content.startswith((PNG, JPEG)):
    raise UserError('Image %s is neither PNG nor JPEG; convert it.' % path)
  with tf.Graph().as_default(), tf.Session() as session:
    source = tf.placeholder(tf.string, [])
    try:
      height, width = (
          struct.unpack('>II', content[16:24].ljust(8, b'\0'))[::-1]
          if content.startswith(PNG) else session.run(
              tf.image.extract_jpeg_shape(source, tf.int64),
              {source: content})[:2].tolist())
      if width * height > MAX_PIXELS:
        raise UserError('Image %s has %d x %d pixels, more than %d in all; '
                        'make it smaller.' % (path, width, height, MAX_PIXELS))
      if content.startswith(PNG):
        # Not always 4: to 1, 2 and 4 bits it adds an alpha of 1, 3 and 15.
        alpha = content[25:26] in (b'\4', b'\6') or b'tRNS' in content
        pixels = tf.image.decode_png(source, channels=4 if alpha else 3)
      else:
        pixels = tf.image.decode_jpeg(source, channels=3,
                                      dct_method='INTEGER_ACCURATE')
      return session.run(as_record(pixels), {source: content})
    except tf.errors.OpError:
      raise UserError('Image %s is damaged, or of a kind that TensorFlow '
                      'cannot read; name another.' % path)


def as_record(pixels):
  """Makes a picture an image of the data set; see read_image.

  Args:
    pixels: uint8 [height, width, 3], or with alpha [height, width, 4].

  Returns:
    uint8 [32, 32, 3].
  """
  height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
  side = tf.minimum(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  square = tf.cast(pixels[top:top + side, left:left + side], tf.float32)
  if square.shape[-1].value == 4:
    alpha = square[..., 3:] / 255
    square = square[..., :3] * alpha + 255 * (1 - alpha)
  size = [cifar10_input.RECORD_SIDE] * 2
  resized = tf.compat.v2.image.resize(square, size, antialias=True)
  return tf.saturate_cast(tf.round(resized), tf.uint8)


def probabilities(arrays, weights, image):
  """Runs a network on one image.

  Args:
    arrays: name -> array of a checkpoint, as from checkpoint.read.
    weights: 'averaged' or 'raw'.
    image: uint8 [32, 32, 3].

  Returns:
    float32 [10].
  """
  with tf.Graph().as_default(), tf.Session(
      config=cifar10.session_config()) as session:
    logits = cifar10.inference(cifar10_input.central(image[np.newaxis]),
                               cifar10.widths_of(arrays))
    assign(session, arrays, weights)
    return session.run(tf.nn.softmax(logits)[0])


def classify(path, found):
  """Prints the classes of a picture, the likeliest first."""
  names = cifar10_input.class_names(cifar10.data_folder())
  rated = probabilities(found.arrays, FLAGS.weights, read_image(path))
  print('%s, by %s:' % (path, title(found)))
  for label in np.argsort(-rated, kind='stable'):
    print('%-*s %6.2f %%' % (max(map(len, names)), names[label],
                             100 * rated[label]))


# ---------------------------------------------------------------- the export


def export(arrays, weights, folder, names):
  """Writes a network as a SavedModel, for serving.

  Signature serving_default: images, uint8 [n, 32, 32, 3], in; logits and
  probabilities, float32 [n, 10], and labels, int64 [n], out. The crop and the
  standardization are inside. Signature standardized begins after them, with
  images, float32 [n, 24, 24, 3], and has no labels: all of it can be converted
  to integers.
  assets/labels.txt has the names of the classes, a line each.

  Args:
    arrays: name -> array of a checkpoint, as from checkpoint.read.
    weights: 'averaged' or 'raw'.
    folder: new folder; it appears when it is complete.
    names: list of strings, the classes.

  Returns:
    Name -> SignatureDef.

  Raises:
    FileError: the folder cannot be written.
  """
  above = os.path.dirname(os.path.abspath(folder))
  with checkpoint.writing(folder), contextlib.ExitStack() as undo:
    os.makedirs(above, exist_ok=True)
    part = undo.enter_context(tempfile.TemporaryDirectory(
        prefix='.export-', dir=above, ignore_cleanup_errors=True))
    model, list_of_names = (os.path.join(part, name)
                            for name in ('model', 'labels.txt'))
    files.write(list_of_names, ''.join(name + '\n' for name in names).encode())
    with tf.Graph().as_default(), tf.Session() as session:
      signatures = serving_signatures(cifar10.widths_of(arrays))
      assign(session, arrays, weights)
      tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS,
                           tf.constant(list_of_names))
      builder = tf.saved_model.Builder(model)
      builder.add_meta_graph_and_variables(
          session, [tf.saved_model.tag_constants.SERVING], signatures,
          tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS))
      builder.save()
    for above_it, _, found in os.walk(model):
      for name in found:
        files.sync(os.path.join(above_it, name))
    os.rename(model, folder)
    files.sync(above)
  return signatures


def serving_signatures(widths):
  """Builds the network between the tensors that export describes.

  Returns:
    Name -> SignatureDef.
  """
  side, size = cifar10_input.RECORD_SIDE, cifar10.IMAGE_SIZE
  images = tf.placeholder(tf.uint8, [None, side, side, 3], name='images')
  # A server does not hold callers to a tensor's shape.
  crops = tf.identity(cifar10_input.central(
      tf.ensure_shape(images, images.shape)), name='standardized')
  logits = cifar10.inference(tf.ensure_shape(crops, [None, size, size, 3]),
                             widths)
  outputs = {'logits': logits, 'probabilities': tf.nn.softmax(logits)}
  signature = tf.saved_model.predict_signature_def
  return {'serving_default': signature({'images': images}, dict(
      outputs, labels=tf.argmax(logits, axis=1))),
          'standardized': signature({'images': crops}, outputs)}


def describe_export(folder, signatures, names):
  """Prints what export wrote."""
  def tensors(infos):
    return ', '.join('%s %s [%s]' % (
        name, tf.as_dtype(info.dtype).name, ', '.join(
            'n' if dim.size < 0 else str(dim.size)
            for dim in info.tensor_shape.dim))
                     for name, info in sorted(infos.items()))

  print('%s: SavedModel of %.2f MB' % (folder, files.size(folder) / 1e6))
  for name, signature in signatures.items():
    print('signature %s: %s -> %s' % (name, tensors(signature.inputs),
                                      tensors(signature.outputs)))
  print('assets/labels.txt: %s' % ', '.join(names))


# -------------------------------------------------------------- the script


def check_flags():
  """Raises UserError if the flags do not go together or cannot be used."""
  if not FLAGS.checkpoint_dir:
    raise UserError('--checkpoint_dir is missing; name a checkpoint, or the '
                    'folder of one.')
  for name in ('image', 'export_dir'):
    if FLAGS[name].value == '':
      raise UserError('--%s= is empty; name one, or leave it out.' % name)
  uses = ['--' + name for name in ('image', 'export_dir', 'eval_interval_secs')
          if FLAGS[name].value]
  if len(uses) > 1:
    raise UserError('%s and %s are two uses of a network; leave out one.' %
                    tuple(uses[:2]))
  if FLAGS.eval_interval_secs and checkpoint.prefix(FLAGS.checkpoint_dir):
    raise UserError('--checkpoint_dir=%s is one checkpoint; name its folder, '
                    'or leave out --eval_interval_secs.' % FLAGS.checkpoint_dir)
  if FLAGS.export_dir:
    if os.path.lexists(FLAGS.export_dir):
      raise UserError('--export_dir=%s exists; name a new folder.' %
                      FLAGS.export_dir)
    if set('*?[]\\') & set(os.path.abspath(FLAGS.export_dir)):
      raise UserError('--export_dir=%s has one of *?[]\\ in its path, from '
                      'which TensorFlow cannot load; name another folder.' %
                      FLAGS.export_dir)
    files.require_writable(os.path.dirname(FLAGS.export_dir) or '.')


def evaluate():
  """Evaluates, exports or uses a network, as the flags say."""
  check_flags()
  if FLAGS.eval_interval_secs:
    watch(FLAGS.checkpoint_dir)
    return 0
  found = read(FLAGS.checkpoint_dir)
  if FLAGS.image:
    classify(FLAGS.image, found)
  elif FLAGS.export_dir:
    names = cifar10_input.class_names(cifar10.data_folder())
    signatures = export(found.arrays, FLAGS.weights, FLAGS.export_dir, names)
    print(title(found))
    describe_export(FLAGS.export_dir, signatures, names)
  else:
    rate(found, bool(checkpoint.prefix(FLAGS.checkpoint_dir)))
  return 0


def main(argv=None):
  del argv
  return evaluate()


if __name__ == '__main__':
  cifar10.run(main)
