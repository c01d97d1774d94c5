"""Compresses conv1 of a trained network to fewer channels by ThiNet.

  python thinet_compress.py --checkpoint_dir=runs/seed0/scratch_64 \\
      --output_dir=runs/seed0/thinet_none_16 --conv1_channels=16

Samples what each conv1 channel contributes to conv2, chooses the channels to
keep (thinet.py), and writes a physically slim checkpoint, which the other
scripts read with no further flags, and compress.json, which says what was done.
"""
import hashlib
import os
import sys
import tempfile
import time
import zipfile
import zlib

import checkpoint
import cifar10
import cifar10_input
import thinet
from cifar10_input import UserError

import numpy as np
import tensorflow.compat.v1 as tf

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'checkpoint_dir',
              'conv1_channels', 'seed'):
  tf.app.flags.declare_key_flag(_name)
tf.app.flags.DEFINE_string('output_dir', None, 'Folder for the slim network.')
tf.app.flags.DEFINE_enum('criterion', 'thinet',
                         ['thinet', 'thinet_kept', 'least_squares', 'l1',
                          'random'], 'Which channels to keep; see README.')
tf.app.flags.DEFINE_enum('reconstruction', 'none', ['none', 'scale', 'full'],
                         'What makes up for the removed channels: nothing, a '
                         'factor for each kept one, or all weights of conv2.')
tf.app.flags.DEFINE_integer('num_images', 50000,
                            'Training images to sample from.', lower_bound=1)
tf.app.flags.DEFINE_integer('locations_per_image', 10,
                            'Positions of conv2 to sample in an image.',
                            lower_bound=1, upper_bound=144)

CHECK_SHARE = 10    # A tenth of each batch measures the error; the rest fits.


def sampled_patches(norm1, locations, seed, batch_number):
  """Patches of conv2's input around distinct random positions.

  Args:
    norm1: float32 [n, 12, 12, channels].
    locations: positions in each image.
    seed: integer.
    batch_number: int64 scalar; (seed, batch_number) determines the positions.

  Returns:
    float32 [n * locations, 25 * channels], tap by tap.
  """
  count, side, channels = tf.shape(norm1)[0], 12, norm1.shape[-1].value
  padded = tf.pad(norm1, [[0, 0], [2, 2], [2, 2], [0, 0]])
  _, positions = tf.nn.top_k(tf.random.stateless_uniform(
      [count, side * side],
      seed=tf.stack([tf.constant(seed, tf.int64), batch_number])), locations)
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
            positions, records.shape[0].value, seed))
    cifar10.inference(cifar10_input.central(images),
                      arrays['conv1/biases'].size)
    patches = sampled_patches(
        tf.get_default_graph().get_tensor_by_name('norm1:0'), locations, seed,
        batch)
    with tf.Session(config=cifar10.session_config()) as session:
      session.run(tf.local_variables_initializer())
      cifar10.assign(session, {var: arrays[var.op.name + cifar10.AVERAGE]
                               for var in tf.trainable_variables()})
      for number in range(-(-num_images // batch_size)):
        yield session.run(patches, {batch: number})


def patch_moments(arrays, num_images, locations, seed):
  """Accumulates the patch moments of conv2's input in one pass.

  Args:
    arrays, num_images, locations, seed: as for sampled_batches.

  Returns:
    (fit, check): thinet.Moments, channel by channel, of nine tenths of the
    samples and of the rest.
  """
  channels = arrays['conv1/biases'].size
  size = 25 * channels
  second, first, count = np.zeros([2, size, size]), np.zeros([2, size]), [0, 0]
  for sample in sampled_batches(arrays, num_images, locations, seed):
    sample = sample.astype(np.float64)
    held_back = len(sample) // CHECK_SHARE
    for part, rows in enumerate((sample[held_back:], sample[:held_back])):
      second[part] += rows.T @ rows
      first[part] += rows.sum(0)
      count[part] += len(rows)
  by_channel = np.arange(size).reshape(25, channels).T.ravel()
  return tuple(thinet.Moments(second[part][np.ix_(by_channel, by_channel)],
                              first[part][by_channel], count[part])
               for part in (0, 1))


def cached_moments(arrays, digest, num_images, locations, seed):
  """patch_moments, kept in a file beside the parent's checkpoint.

  The file's name is a digest of all that the moments depend on, so every width,
  criterion and reconstruction shares it; a damaged one is made again.
  """
  key = hashlib.sha256(repr((digest, num_images, locations, seed,
                             FLAGS.batch_size)).encode())
  for name in ('conv1/weights', 'conv1/biases'):
    key.update(arrays[name + cifar10.AVERAGE].tobytes())
  path = os.path.join(FLAGS.checkpoint_dir,
                      'moments-%s.npz' % key.hexdigest()[:16])
  size = 25 * arrays['conv1/biases'].size
  try:
    with np.load(path, allow_pickle=False) as found:
      second, first, count = (found[name] for name in
                              thinet.Moments._fields)
    if (second.shape, first.shape, count.shape) == (
        (2, size, size), (2, size), (2,)):
      return tuple(thinet.Moments(second[part], first[part], int(count[part]))
                   for part in (0, 1))
  except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError,
          zipfile.BadZipFile, zlib.error):
    pass   # Absent or damaged.
  fit, check = patch_moments(arrays, num_images, locations, seed)
  try:
    with tempfile.NamedTemporaryFile(dir=FLAGS.checkpoint_dir,
                                     prefix='.moments-', delete=False) as part:
      try:
        np.savez(part, **{name: np.stack([getattr(fit, name),
                                          getattr(check, name)])
                          for name in thinet.Moments._fields})
        os.replace(part.name, path)
      except OSError:
        os.unlink(part.name)
  except OSError:
    pass   # A parent that cannot be written to, or a full disk: no cache.
  return fit, check


def choose(criterion, moments, arrays, seed):
  """Orders the channels for removal.

  Args:
    criterion: value of --criterion.
    moments: thinet.Moments.
    arrays: name -> array of the checkpoint.
    seed: integer, of the random choice.

  Returns:
    (order, objective): int64 [channels], and float64 [channels + 1], what the
    criterion minimises with the first m of the order removed (for the controls,
    what ThiNet minimises).
  """
  kernel = arrays['conv2/weights' + cifar10.AVERAGE]
  if criterion == 'least_squares':
    return thinet.least_squares_order(moments, kernel)
  gram = thinet.contribution_gram(moments, kernel)
  if criterion == 'thinet_kept':
    return thinet.kept_order(gram)
  if criterion == 'thinet':
    order = thinet.removal_order(gram)
  elif criterion == 'l1':
    filters = arrays['conv1/weights' + cifar10.AVERAGE]
    order = np.argsort(np.abs(filters).sum((0, 1, 2)), kind='stable')
  else:
    order = np.random.default_rng(seed).permutation(len(gram))
  return order, thinet.objective(gram, order)


def rebuild(mode, fit, check, kernel, kept):
  """conv2's weights for the kept channels.

  Args:
    mode: value of --reconstruction.
    fit, check: thinet.Moments.
    kernel: [5, 5, channels, 64], conv2's averaged weights.
    kept: sorted indices of the kept channels.

  Returns:
    (kernel, shift, details): [5, 5, kept, 64], what to add to conv2's bias, and
    what compress.json should say about it.
  """
  if mode == 'none' or len(kept) == kernel.shape[2]:
    return kernel[:, :, kept], 0.0, {'scales': [1.0] * len(kept)}
  if mode == 'scale':
    factors = thinet.scales(thinet.contribution_gram(fit, kernel), kept)
    return (kernel[:, :, kept] * factors[:, np.newaxis], 0.0,
            {'scales': factors.tolist()})
  rebuilt, shift, ridge = thinet.full_reconstruction(fit, check, kernel, kept)
  return rebuilt, shift, {'ridge': ridge}


def slim(arrays, kept, kernel, shift, scales=None):
  """The arrays of the network without the other conv1 channels.

  Args:
    arrays: name -> array of the checkpoint, weights and averages.
    kept: sorted indices of the channels to keep.
    kernel: [5, 5, kept, 64], conv2's rebuilt averaged weights.
    shift: what to add to conv2's bias.
    scales: [kept] if the kernel is a scaled slice, which raw weights then are,
      too; else the raw conv2 gets the averaged weights.

  Returns:
    name -> array, with a global step of 0.
  """
  result = {'global_step': np.int64(0)}
  for name in cifar10.weight_shapes(0):
    for variable in (name, name + cifar10.AVERAGE):
      value = arrays[variable]
      if name.startswith('conv1/'):
        value = value[..., kept]
      elif name == 'conv2/weights' and scales is not None:
        value = value[:, :, kept] * np.float32(scales)[:, np.newaxis]
      elif name == 'conv2/weights':
        value = np.float32(kernel)
      elif name == 'conv2/biases' and scales is None:
        value = np.float32(arrays[name + cifar10.AVERAGE] + shift)
      result[variable] = value
  return result


def parent_network():
  """Reads and checks the flags and the network to compress.

  Returns:
    (path, arrays, settings) of the checkpoint.

  Raises:
    UserError: a flag or the checkpoint does not do.
  """
  for name in ('checkpoint_dir', 'output_dir', 'conv1_channels'):
    if not FLAGS[name].value:
      raise UserError('--%s is missing; see --help.' % name)
  path, arrays, settings = checkpoint.read_newest(FLAGS.checkpoint_dir)
  width = arrays['conv1/biases'].size
  if not 0 < FLAGS.conv1_channels <= width:
    raise UserError('--conv1_channels=%d cannot be kept of the %d channels in '
                    '%s; give 1 to %d.' % (FLAGS.conv1_channels, width, path,
                                           width))
  if not all(np.isfinite(value).all() for value in arrays.values()
             if value.dtype.kind == 'f'):
    raise UserError('Checkpoint %s holds weights that are not finite; train '
                    'again.' % path)
  return path, arrays, settings


def compress():
  """Chooses, rebuilds, and writes the slim network and compress.json."""
  clock = [time.time()]
  path, arrays, parent = parent_network()
  cifar10.maybe_download_and_extract()
  examples, digest = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
  width, keep = arrays['conv1/biases'].size, FLAGS.conv1_channels
  num_images = min(FLAGS.num_images, examples)
  settings = {
      'conv1_channels': keep, 'criterion': FLAGS.criterion,
      'reconstruction': FLAGS.reconstruction, 'fine_tuned': False,
      'seed': FLAGS.seed, 'num_images': num_images,
      'locations_per_image': FLAGS.locations_per_image, 'data_digest': digest,
      'parent': parent, 'parent_step': int(arrays.get('global_step', 0))}
  lock = checkpoint.hold(FLAGS.output_dir)
  report = os.path.join(FLAGS.output_dir, 'compress.json')
  if os.path.exists(report):
    slim_path, _, made = checkpoint.read_newest(FLAGS.output_dir)
    checkpoint.require_same(FLAGS.output_dir, made, settings)
    print('%s is finished.' % slim_path)
    return 0

  fit, check = cached_moments(arrays, digest, num_images,
                              FLAGS.locations_per_image, FLAGS.seed)
  kernel = arrays['conv2/weights' + cifar10.AVERAGE]
  clock.append(time.time())
  dead, dependent = thinet.degenerate(thinet.contribution_gram(fit, kernel))
  for kind, channels in (('dead', dead), ('linearly dependent', dependent)):
    if channels:
      print('%s: conv1 channels %s are %s.' % (
          path, ', '.join(map(str, channels)), kind), file=sys.stderr)
  order, objective = choose(FLAGS.criterion, fit, arrays, FLAGS.seed)
  kept = np.sort(order[width - keep:])
  clock.append(time.time())
  rebuilt, shift, details = rebuild(FLAGS.reconstruction, fit, check, kernel,
                                    kept)
  clock.append(time.time())
  checkpoint.save(FLAGS.output_dir,
                  slim(arrays, kept, rebuilt, shift, details.get('scales')),
                  settings)
  clock.append(time.time())
  multiply_adds, parameters = cifar10.cost(keep)
  parent_multiply_adds, parent_parameters = cifar10.cost(width)
  result = dict(
      settings, **details, parent_channels=width,
      parent_checkpoint=os.path.relpath(path, FLAGS.output_dir),
      kept=kept.tolist(), removal_order=order.tolist(),
      objective={str(width - m): float(value)
                 for m, value in enumerate(objective)},
      dead=dead, dependent=dependent,
      relative_error_before=thinet.relative_error(check, kernel, kept,
                                                  kernel[:, :, kept]),
      relative_error_after=thinet.relative_error(check, kernel, kept, rebuilt,
                                                 shift),
      samples=num_images * FLAGS.locations_per_image,
      multiply_adds=multiply_adds, parameters=parameters,
      parent_multiply_adds=parent_multiply_adds,
      parent_parameters=parent_parameters,
      seconds=dict(zip(('moments', 'choice', 'reconstruction', 'write'),
                       np.round(np.diff(clock), 3).tolist())))
  checkpoint.write_json(report, result)
  print('%s: kept %d of %d channels; relative error %.4f, rebuilt %.4f' % (
      FLAGS.output_dir, keep, width, result['relative_error_before'],
      result['relative_error_after']))
  lock.close()
  return 0


def main(argv=None):
  del argv
  return compress()


if __name__ == '__main__':
  cifar10.run(main)
