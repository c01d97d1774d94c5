"""The CIFAR-10 data set: download, verify, load, distort, crop, standardize.

The data set is six binary files in one folder: data_batch_1..5.bin for training
and test_batch.bin. Each is a sequence of 3,073-byte records: one label byte,
then 3,072 bytes of the image as [3, 32, 32]. Any number of records will do.

A batch is a pure function of its arguments: no queue, no thread, and no state
except a cache (`inputs` without a batch's number counts its runs). So a run
that is stopped and resumed sees the same batches as one that never stopped.
"""
import contextlib
import hashlib
import os
import secrets
import shutil
import sys
import tarfile
import zlib

from thinet import files
from thinet import tensorflow as tf

import numpy as np
from six.moves import http_client
from six.moves import urllib

IMAGE_SIZE = 24              # Side of the crop that the network sees.
NUM_CLASSES = 10
NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN = 50000
NUM_EXAMPLES_PER_EPOCH_FOR_EVAL = 10000

RECORD_SIDE = 32             # Side of a stored image.
RECORD_BYTES = 1 + 3 * RECORD_SIDE * RECORD_SIDE
BLOCK_BYTES = 1000 * RECORD_BYTES   # Verified at a time.

FOLDER = 'cifar-10-batches-bin'
TRAIN_FILES = ['data_batch_%d.bin' % i for i in range(1, 6)]
TEST_FILES = ['test_batch.bin']
NAMES_FILE = 'batches.meta.txt'   # The names of the classes, a line each.
CLASS_NAMES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog',
               'horse', 'ship', 'truck']

DATA_URL = 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz'
ARCHIVE_BYTES = 170052171
ARCHIVE_SHA256 = (
    'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd')
FETCH_AGAIN = ('fetch it again, or move its folder away and run the same '
               'command, which fetches all six')

RANDOM_STREAMS = 2           # Goes up when the same seed gives other batches.
MAX_BRIGHTNESS_DELTA = 63
CONTRAST_RANGE = (0.2, 1.8)


class UserError(Exception):
  """Error that the user can put right; its one sentence says how."""


def check_constants():
  """Raises UserError unless the programs can work with the constants above.

  Pools halve the images twice. Their sides must stay whole, so that networks
  for images of two sizes differ in local3's shape and none is read for another.
  """
  if IMAGE_SIZE not in range(8, RECORD_SIDE + 1, 4):
    raise UserError('IMAGE_SIZE in cifar10_input.py is %s; make it a multiple '
                    'of 4 from 8 to %d.' % (IMAGE_SIZE, RECORD_SIDE))
  if NUM_CLASSES not in range(2, 257):
    raise UserError('NUM_CLASSES in cifar10_input.py is %s; make it a whole '
                    'number from 2 to 256.' % NUM_CLASSES)


# ----------------------------------------------------------------- the files


def data_folder(data_dir):
  """Path of the folder that holds, or will hold, the six data files.

  Args:
    data_dir: the folder that has cifar-10-batches-bin, or that folder itself.
  """
  inside = os.path.join(data_dir, FOLDER)
  itself = os.path.basename(os.path.normpath(data_dir)) == FOLDER or any(
      os.path.lexists(os.path.join(data_dir, name))
      for name in TRAIN_FILES + TEST_FILES)
  if itself and not os.path.lexists(inside):
    return data_dir or '.'
  return inside


def data_files(data_dir, eval_data):
  """Paths of the training files, or of the test file.

  Args:
    data_dir: folder that holds the six files.
    eval_data: 'test' or True for the test images, 'train_eval' or False for the
      training images.

  Returns:
    List of paths.

  Raises:
    ValueError: eval_data is something else.
  """
  if eval_data not in ('test', 'train_eval', True, False):
    raise ValueError("eval_data is %r; give 'test' or 'train_eval', or as in "
                     'the tutorial True or False.' % (eval_data,))
  names = TEST_FILES if eval_data in ('test', True) else TRAIN_FILES
  return [os.path.join(data_dir, name) for name in names]


def class_names(data_dir):
  """The names of the classes: the data set's, or without its list CIFAR-10's.

  Args:
    data_dir: folder of the data files; it need not be there.

  Returns:
    List of NUM_CLASSES strings; numbers if neither list has as many.

  Raises:
    UserError: the list cannot be read, or has not a name for each class.
  """
  path = os.path.join(data_dir, NAMES_FILE)
  if not os.path.lexists(path):
    return (CLASS_NAMES if len(CLASS_NAMES) == NUM_CLASSES else
            [str(number) for number in range(NUM_CLASSES)])
  try:
    names = files.read_bytes(path).decode().splitlines()
  except (OSError, ValueError) as error:
    raise UserError('Names of the classes in %s cannot be read (%s); mend it, '
                    'or remove it for the usual names.' % (path, error))
  names = [name.strip() for name in names if name.strip()]
  if len(names) != NUM_CLASSES:
    raise UserError('%s has %d names of classes, expected %d; mend it, or '
                    'remove it for the usual names.' % (path, len(names),
                                                        NUM_CLASSES))
  return names


def verify(paths):
  """Reads the files once and checks every record.

  Args:
    paths: the files to check, as from data_files.

  Returns:
    (records, digest): the number of records in all files, and the SHA-256 of
    their concatenated bytes in hexadecimal.

  Raises:
    UserError: a file is missing, unreadable, empty, not a whole number of
      records, or has a label above 9.
  """
  digest, records = hashlib.sha256(), 0
  for path in paths:
    try:
      with open(files.open_regular(path), 'rb') as source:
        records += _verify(path, source, digest)
    except OSError as error:
      raise UserError(
          'Data file %s cannot be read (%s); put the six CIFAR-10 files there, '
          'or name another folder with --data_dir.' % (path, error.strerror))
  return records, digest.hexdigest()


def _verify(path, source, digest):
  """Checks an open data file; updates the digest, returns its records."""
  size = os.fstat(source.fileno()).st_size
  if not size or size % RECORD_BYTES:
    raise UserError(
        'Data file %s has %d bytes, expected a whole number of records of %d '
        'bytes, one or more; %s.' % (path, size, RECORD_BYTES, FETCH_AGAIN))
  records = 0
  for block in iter(lambda: source.read(BLOCK_BYTES), b''):
    labels = np.frombuffer(block, np.uint8)[::RECORD_BYTES]
    if labels.max() >= NUM_CLASSES:
      bad = int(np.argmax(labels >= NUM_CLASSES))
      raise UserError('Data file %s has label %d in record %d, expected 0 to '
                      '%d; %s.' % (path, labels[bad], records + bad,
                                   NUM_CLASSES - 1, FETCH_AGAIN))
    digest.update(block)
    records += labels.size
  return records


def download(data_dir, url):
  """Makes sure that the data folder is there.

  Does nothing if it exists. Otherwise downloads the archive into a temporary
  folder beside it and checks it; then the data files appear together, by one
  rename.

  Args:
    data_dir: as for data_folder; made if need be.
    url: address of the archive; file:// works, too.

  Raises:
    UserError: the archive cannot be fetched, or is not the official one.
  """
  folder = data_folder(data_dir)
  if os.path.lexists(folder):
    return
  above = os.path.dirname(os.path.normpath(folder)) or '.'
  remedy = ('Try again, name a mirror with --data_url, name a folder that has '
            '%s with --data_dir, or run ./run_experiments.sh demo, which makes '
            'its own data.' % FOLDER)
  # Named before it is made, so that a signal at any moment leaves nothing.
  scratch = os.path.join(above, '.download-' + secrets.token_hex(8))
  try:
    try:
      files.make_folder(scratch)
    except OSError as error:
      raise UserError('Folder %s cannot be made or written to (%s); name '
                      'another with --data_dir.' % (above, error.strerror))
    archive = os.path.join(scratch, 'archive.part')
    try:
      _fetch(url, archive)
    except (OSError, ValueError, http_client.HTTPException) as error:
      raise UserError('Download of %s failed: %s. %s' % (url, error, remedy))
    _check_archive(url, archive, remedy)
    try:
      _extract(archive, os.path.join(scratch, FOLDER))
      os.rename(os.path.join(scratch, FOLDER), folder)
      files.sync(above)
    except OSError as error:
      if not os.path.isdir(folder):  # Else another process was faster.
        raise UserError('Folder %s cannot be written to (%s); make room there, '
                        'or name another with --data_dir.' % (
                            above, error.strerror))
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


def _fetch(url, path):
  """Downloads at most ARCHIVE_BYTES + 1 bytes to path, and shows progress."""
  with contextlib.closing(urllib.request.urlopen(url, timeout=60)) as source:
    with open(path, 'wb') as part:
      done = 0
      while done <= ARCHIVE_BYTES:
        block = source.read(min(1 << 20, ARCHIVE_BYTES + 1 - done))
        if not block:
          break
        part.write(block)
        done += len(block)
        sys.stderr.write('\r>> Downloading %s %5.1f%%' % (
            os.path.basename(url), 100.0 * done / ARCHIVE_BYTES))
      sys.stderr.write('\n')


def _check_archive(url, path, remedy):
  """Raises UserError unless the file is the official archive."""
  size = os.path.getsize(path)
  if size != ARCHIVE_BYTES:
    raise UserError('%s gave %s%d bytes, expected %d. %s' % (
        url, 'more than ' if size > ARCHIVE_BYTES else '',
        min(size, ARCHIVE_BYTES), ARCHIVE_BYTES, remedy))
  with open(path, 'rb') as archive:
    digest = hashlib.file_digest(archive, 'sha256').hexdigest()
  if digest != ARCHIVE_SHA256:
    raise UserError('%s gave an archive with SHA-256 %s, expected %s. %s' % (
        url, digest, ARCHIVE_SHA256, remedy))


def _extract(archive, folder):
  """Writes the six data files and the classes' names to a new folder."""
  os.mkdir(folder)
  wanted = TRAIN_FILES + TEST_FILES + [NAMES_FILE]
  with tarfile.open(archive, 'r|gz') as members:
    for member in members:
      above, name = os.path.split(member.name)
      if above == FOLDER and name in wanted:
        with open(os.path.join(folder, name), 'wb') as target:
          shutil.copyfileobj(members.extractfile(member), target)
          target.flush()
          os.fsync(target.fileno())
  files.sync(folder)


# ----------------------------------------------------------------- the graph


def local_variable(name, initializer, dtype=None):
  """Creates a variable that no checkpoint holds, outside of all loops.

  Variable scopes never share it; otherwise the training and the test images
  would be one variable.

  Args:
    name: its name.
    initializer: function without arguments that returns its first value.
    dtype: its type, where the value does not say it.
  """
  with tf.init_scope():
    return tf.Variable(initializer, name=name, dtype=dtype, trainable=False,
                       use_resource=True,
                       collections=[tf.GraphKeys.LOCAL_VARIABLES])


def seed_variable(seed):
  """Holds a seed in a variable: what XLA compiles is then that of all seeds.

  Returns:
    int32 scalar tensor. The variable is int64, as int32 ones are never on GPUs.
  """
  return tf.cast(local_variable('seed', lambda: tf.constant(seed, tf.int64)),
                 tf.int32)


def read_cifar10(filenames):
  """Creates a local variable that holds the records of some files.

  The graph fills it from the files when local variables are initialized: a
  constant would put 150 MB into every graph file. The channels of a pixel lie
  side by side in it, which spares every batch a transposition.

  Args:
    filenames: data files, checked by verify.

  Returns:
    uint8 variable [records, 3073] in LOCAL_VARIABLES: each row a label, then an
    image [32, 32, 3].
  """
  sizes = [os.path.getsize(name) // RECORD_BYTES for name in filenames]

  def load():
    parts = []
    for name, size in zip(filenames, sizes):
      content = tf.read_file(os.fsencode(os.path.abspath(name)))
      part = tf.reshape(tf.decode_raw(content, tf.uint8), [size, RECORD_BYTES])
      planes = tf.reshape(part[:, 1:], [size, 3, -1])
      pixels = tf.reshape(tf.transpose(planes, [0, 2, 1]), [size, -1])
      parts.append(tf.concat([part[:, :1], pixels], axis=1))
    return tf.concat(parts, axis=0)

  return local_variable('records', load, tf.uint8)


def images_and_labels(records, indices):
  """Gathers records as uint8 images [n, 32, 32, 3] and int32 labels [n]."""
  batch = tf.gather(records, indices)
  images = tf.reshape(batch[:, 1:], [-1, RECORD_SIDE, RECORD_SIDE, 3])
  return images, tf.cast(batch[:, 0], tf.int32)


def random_bits(shape, seed, use, number):
  """Draws random integers; (seed, use, number) determines every bit.

  Each use has a key of its own, so no two uses share their numbers. Integers of
  the full range are the same with and without XLA; floats are not.

  Args:
    shape: list of integers or int32 tensor [dimensions].
    seed: integer, 0 <= seed < 2**31, or int32 scalar tensor.
    use: name of the numbers' purpose, such as 'training/order'.
    number: integer scalar tensor below 2**31: the step, batch or epoch.

  Returns:
    int32 of that shape, uniform over all of int32.
  """
  key = [seed, np.uint32(zlib.crc32(use.encode())).astype(np.int32)]
  return tf.random.stateless_uniform(
      shape, tf.random.experimental.stateless_fold_in(
          tf.stack(key), tf.cast(number, tf.int32), alg='philox'),
      minval=None, maxval=None, dtype=tf.int32, alg='philox')


def random_order(examples, seed, stream, epoch):
  """Draws a permutation of the images, determined by (seed, stream, epoch).

  Args:
    examples: number of images.
    seed: as for random_bits.
    stream: as for shuffled_indices.
    epoch: integer scalar tensor.

  Returns:
    int64 [examples].
  """
  bits = random_bits([examples], seed, stream + '/order', epoch)
  return tf.cast(tf.argsort(bits, stable=True), tf.int64)


def shuffled_indices(positions, examples, seed, stream):
  """Finds the images at some positions of an endless shuffled sequence.

  Positions e * examples ... (e + 1) * examples - 1 are a permutation of the
  images, another one for every epoch e. Local variables keep the permutations
  of two epochs, which are made anew only when the first position enters another
  epoch; every other step costs only a gather.

  Args:
    positions: int64 [n], increasing, 0 or above, in two epochs at most.
    examples: number of images.
    seed: as for random_bits; another seed gives other permutations.
    stream: name of the sequence; another one has other permutations.

  Returns:
    int64 [n], each 0 <= index < examples.
  """
  kept = local_variable('epoch', lambda: tf.constant(-1, tf.int64))
  orders = local_variable('orders',
                          lambda: tf.zeros([2 * examples], tf.int64))
  epoch = positions[0] // examples

  def shuffle():
    made = tf.concat([random_order(examples, seed, stream, number)
                      for number in (epoch, epoch + 1)], 0)
    return tf.group(orders.assign(made), kept.assign(epoch))

  there = tf.cond(tf.equal(kept, epoch), tf.no_op, shuffle)
  with tf.control_dependencies([there]):
    return tf.gather(orders, positions - epoch * examples)


def distortion_draws(count, seed, stream, step):
  """Draws the random numbers for a batch's distortions.

  Args:
    count: images in the batch.
    seed: as for random_bits.
    stream: as for shuffled_indices.
    step: integer scalar tensor; (seed, stream, step) determines the numbers.

  Returns:
    float32 [5, count], multiples of 2**-24, 0 <= draw < 1: row and column of
    the crop, flip, brightness, contrast.
  """
  bits = random_bits([5, count], seed, stream + '/distortions', step)
  return tf.cast(tf.bitwise.bitwise_and(bits, 2**24 - 1), tf.float32) * 2.0**-24


def distort(images, draws):
  """Applies the tutorial's distortions, in its order, to a whole batch.

  Random crop, left-right flip, brightness, contrast and standardization. As in
  the tutorial, nothing is clipped, so the standardization undoes the brightness
  up to rounding.

  Args:
    images: uint8 [n, 32, 32, 3].
    draws: float32 [5, n], as from distortion_draws.

  Returns:
    float32 [n, 24, 24, 3], mean 0 and variance 1 for each image.
  """
  size, count = IMAGE_SIZE, tf.shape(images)[0]
  offsets = tf.cast(draws[:2] * (RECORD_SIDE - size + 1), tf.int32)
  rows = offsets[0][:, tf.newaxis] + tf.range(size)
  columns = offsets[1][:, tf.newaxis] + tf.range(size)
  flip = (draws[2] < 0.5)[:, tf.newaxis]
  columns = tf.where(tf.broadcast_to(flip, tf.shape(columns)),
                     tf.reverse(columns, [1]), columns)

  # One gather of pixels crops and flips.
  pixels = (tf.range(count)[:, tf.newaxis] * RECORD_SIDE + rows) * RECORD_SIDE
  pixels = pixels[:, :, tf.newaxis] + columns[:, tf.newaxis, :]
  crops = tf.cast(tf.gather(tf.reshape(images, [-1, 3]), pixels), tf.float32)

  brightness = ((2 * draws[3] - 1) * MAX_BRIGHTNESS_DELTA)[:, tf.newaxis]
  low, high = CONTRAST_RANGE
  contrast = (low + (high - low) * draws[4])[:, tf.newaxis]
  # Brightness shifts only the channels' means, and contrast stretches around
  # them. Products with a matrix of zeros and ones average a channel over its
  # pixels, and spread a value over them, faster than reductions and
  # broadcasting.
  spread = np.tile(np.eye(3, dtype=np.float32), size * size)
  crops = tf.reshape(crops, [-1, spread.shape[1]])
  means = tf.matmul(crops, spread.T / size**2)
  crops = crops * contrast + tf.matmul(means * (1 - contrast) + brightness,
                                       spread)
  return tf.image.per_image_standardization(
      tf.reshape(crops, [-1, size, size, 3]))


def distorted_inputs(data_dir, batch_size, seed, global_step,
                     stream='training', parts=1):
  """Makes the batch of a step, a pure function of (seed, stream, global_step).

  Args:
    data_dir: folder of the six files, checked by verify.
    batch_size: images in a batch, no more than there are.
    seed: integer.
    global_step: int64 scalar tensor.
    stream: name of the sequence of batches; another name has another order and
      other distortions.
    parts: number of parts of the batch to make side by side; changes at
      most the rounding of the images.

  Returns:
    images: float32 [batch_size, 24, 24, 3].
    labels: int32 [batch_size].
  """
  records = read_cifar10(data_files(data_dir, 'train_eval'))
  seed = seed_variable(seed)
  step = tf.cast(global_step, tf.int64)
  indices = shuffled_indices(
      step * batch_size + tf.range(batch_size, dtype=tf.int64),
      records.shape[0].value, seed, stream)
  draws = distortion_draws(batch_size, seed, stream, step)
  made, stored = [], []
  for number in range(parts):
    start, end = (batch_size * i // parts for i in (number, number + 1))
    images, labels = images_and_labels(records, indices[start:end])
    stored.append(images)
    made.append((distort(images, draws[:, start:end]), labels))
  images, labels = (tf.concat(each, 0) for each in zip(*made))
  images.set_shape([batch_size, None, None, None])
  # The same images before the distortions, and as the network sees them.
  tf.summary.image('images/stored', tf.concat(stored, 0),
                   collections=['histograms'])
  tf.summary.image('images/seen', images, collections=['histograms'])
  return images, labels


def inputs(eval_data, data_dir, batch_size, batch_number=None):
  """Makes a batch of the images in file order; the last one is filled up.

  Args:
    eval_data: as for data_files; the training images are not distorted.
    data_dir: folder of the six files, checked by verify.
    batch_size: images in a batch; n is this, or the number of images if lower.
    batch_number: int64 scalar tensor, from 0; by default each run gives the
      next batch, and the first again after the last.

  Returns:
    images: float32 [n, 24, 24, 3]; central crops, standardized.
    labels: int32 [n], -1 where the images have ended and the last is repeated.
  """
  records = read_cifar10(data_files(data_dir, eval_data))
  examples = records.shape[0].value
  batch_size = min(batch_size, examples)
  if batch_number is None:
    runs = local_variable('runs', lambda: tf.constant(0, tf.int64))
    batch_number = (runs.assign_add(1) - 1) % -(-examples // batch_size)
  indices = batch_number * batch_size + tf.range(batch_size, dtype=tf.int64)
  images, labels = images_and_labels(records,
                                     tf.minimum(indices, examples - 1))
  return central(images), tf.where(indices < examples, labels,
                                   -tf.ones_like(labels))


def central(images):
  """Crops the centres of images and standardizes them.

  Args:
    images: uint8 [n, 32, 32, 3].

  Returns:
    float32 [n, 24, 24, 3], mean 0 and variance 1 for each image.
  """
  low = (RECORD_SIDE - IMAGE_SIZE) // 2
  crops = images[:, low:low + IMAGE_SIZE, low:low + IMAGE_SIZE, :]
  return tf.image.per_image_standardization(tf.cast(crops, tf.float32))
