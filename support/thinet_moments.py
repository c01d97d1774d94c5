"""Second moments of what conv2 reads, over sampled positions.

One pass over the training images, in memory that does not depend on their
number; kept in a file beside the network, so that it is made once.
"""
import hashlib
import os
import tempfile
import zipfile
import zlib

import cifar10
import cifar10_input
import thinet

import numpy as np
import tensorflow.compat.v1 as tf

FLAGS = tf.app.flags.FLAGS

CHECK_SHARE = 10    # A tenth of each batch measures the error; the rest fits.


def sampled_patches(inputs, locations, seed, use, batch_number):
  """Patches of a convolution's input around distinct random positions.

  Args:
    inputs: float32 [n, side, side, channels], as norm1.
    locations: positions in each image.
    seed: integer.
    use: what the positions are for.
    batch_number: int64 scalar; (seed, use, batch_number) determines the
      positions.

  Returns:
    float32 [n * locations, 25 * channels], tap by tap.
  """
  count, (_, side, _, channels) = tf.shape(inputs)[0], inputs.shape.as_list()
  padded = tf.pad(inputs, [[0, 0], [2, 2], [2, 2], [0, 0]])
  _, positions = tf.nn.top_k(cifar10_input.random_bits(
      [count, side * side], seed, use, batch_number), locations)
  taps = np.add.outer(np.arange(5) * (side + 4), np.arange(5)).ravel()
  corners = (tf.range(count)[:, tf.newaxis] * (side + 4) ** 2 +
             positions // side * (side + 4) + positions % side)
  pixels = tf.reshape(corners, [-1, 1]) + taps.astype(np.int32)
  patches = tf.gather(tf.reshape(padded, [-1, channels]), pixels)
  return tf.reshape(patches, [-1, taps.size * channels])


def sampled_batches(arrays, num_images, locations, seed):
  """Yields sampled patches of conv2's input, a batch of images at a time.

  Args:
    arrays: name -> array of the checkpoint; its averaged weights are used.
    num_images: training images to sample from.
    locations: positions in each image.
    seed: integer.

  Yields:
    float32 [n * locations, 25 * channels], tap by tap.
  """
  batch_size = FLAGS.batch_size
  with tf.Graph().as_default():
    records = cifar10_input.read_cifar10(
        cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
    batch = tf.placeholder(tf.int64, [])
    positions = tf.range(batch * batch_size,
                         tf.minimum((batch + 1) * batch_size, num_images))
    images, _ = cifar10_input.images_and_labels(
        records, cifar10_input.shuffled_indices(
            positions, records.shape[0].value, seed, 'moments'))
    cifar10.inference(cifar10_input.central(images),
                      arrays['conv1/biases'].size)
    patches = sampled_patches(
        tf.get_default_graph().get_tensor_by_name('norm1:0'), locations, seed,
        'moments/positions', batch)
    with tf.Session(config=cifar10.session_config()) as session:
      session.run(tf.local_variables_initializer())
      cifar10.assign(session, {var: arrays[var.op.name + cifar10.AVERAGE]
                               for var in tf.trainable_variables()})
      for number in range(-(-num_images // batch_size)):
        yield session.run(patches, {batch: number})


def patch_moments(arrays, num_images, locations, seed, observe=None):
  """Accumulates the patch moments of conv2's input in one pass.

  Args:
    arrays, num_images, locations, seed: as for sampled_batches.
    observe: called with the thinet.Moments to fit so far, after 1, 2, 4, ...
      batches.

  Returns:
    (fit, check): thinet.Moments, channel by channel, of nine tenths of the
    samples and of the rest.
  """
  channels = arrays['conv1/biases'].size
  size = 25 * channels
  second, first, count = np.zeros([2, size, size]), np.zeros([2, size]), [0, 0]
  by_channel = np.arange(size).reshape(25, channels).T.ravel()

  def moments(part):
    return thinet.Moments(second[part][np.ix_(by_channel, by_channel)],
                          first[part][by_channel], count[part])

  for number, sample in enumerate(
      sampled_batches(arrays, num_images, locations, seed), 1):
    sample = sample.astype(np.float64)
    held_back = len(sample) // CHECK_SHARE
    for part, rows in enumerate((sample[held_back:], sample[:held_back])):
      second[part] += rows.T @ rows
      first[part] += rows.sum(0)
      count[part] += len(rows)
    if observe and number & (number - 1) == 0:
      observe(moments(0))
  return moments(0), moments(1)


def cached_moments(arrays, digest, num_images, locations, seed, choices):
  """patch_moments, kept in a file beside the parent's checkpoint.

  The file's name is a digest of all that the moments depend on, so every width,
  criterion and reconstruction shares it; a damaged one is made again.

  Args:
    arrays, num_images, locations, seed: as for sampled_batches.
    digest: of the data.
    choices: from thinet.Moments to int64 [criteria, channels], the orders that
      they lead to.

  Returns:
    (fit, check, samples, orders): two thinet.Moments; int64 [k], numbers of
    samples, and int64 [k, criteria, channels], the orders so many lead to.
  """
  key = hashlib.sha256(repr((digest, num_images, locations, seed,
                             FLAGS.batch_size,
                             cifar10_input.RANDOM_STREAMS)).encode())
  for name in ('conv1/weights', 'conv1/biases', 'conv2/weights'):
    key.update(arrays[name + cifar10.AVERAGE].tobytes())
  path = os.path.join(FLAGS.checkpoint_dir,
                      'moments-%s.npz' % key.hexdigest()[:16])
  channels = arrays['conv1/biases'].size
  size = 25 * channels
  try:
    with np.load(path, allow_pickle=False) as found:
      second, first, count, samples, orders = (
          found[name] for name in thinet.Moments._fields + ('samples', 'orders'))
    if (second.shape, first.shape, count.shape) == (
        (2, size, size), (2, size), (2,)) and (
            orders.shape == samples.shape + (orders.shape[1], channels)):
      return tuple(thinet.Moments(second[part], first[part], int(count[part]))
                   for part in (0, 1)) + (samples, orders)
  except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError,
          zipfile.BadZipFile, zlib.error):
    pass   # Absent or damaged.
  samples, orders = [], []

  def observe(moments):
    samples.append(moments.count)
    orders.append(choices(moments))

  fit, check = patch_moments(arrays, num_images, locations, seed, observe)
  samples, orders = np.array(samples), np.array(orders)
  try:
    with tempfile.NamedTemporaryFile(dir=FLAGS.checkpoint_dir,
                                     prefix='.moments-', delete=False) as part:
      try:
        np.savez(part, samples=samples, orders=orders,
                 **{name: np.stack([getattr(fit, name), getattr(check, name)])
                    for name in thinet.Moments._fields})
        os.replace(part.name, path)
      except OSError:
        os.unlink(part.name)
  except OSError:
    pass   # A parent that cannot be written to, or a full disk: no cache.
  return fit, check, samples, orders
