"""Compresses conv1 of a trained network to fewer channels by ThiNet.

  python thinet_compress.py --checkpoint_dir=runs/seed0/scratch_64 \\
      --output_dir=runs/seed0/thinet_none_16 --conv1_channels=16

Samples what each conv1 channel contributes to conv2, chooses the channels to
keep (thinet.py), and writes a physically slim checkpoint, which the other
scripts read with no further flags, and compress.json, which says what was done.
"""
import os
import sys
import time

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
tf.app.flags.DEFINE_enum('reconstruction', 'none', ['none', 'scale'],
                         'What makes up for the removed channels.')
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


def patch_moments(arrays, num_images, locations, seed):
  """Accumulates the patch moments of conv2's input in one pass.

  Args:
    arrays: name -> array of the checkpoint; its averaged weights are used.
    num_images: training images to sample from.
    locations: positions in each image.
    seed: integer.

  Returns:
    (fit, check): float64 [channels * 25, channels * 25] each, channel by
    channel: the moments of nine tenths of the samples, and of the rest.
  """
  channels, batch_size = arrays['conv1/biases'].size, FLAGS.batch_size
  size = 25 * channels
  with tf.Graph().as_default():
    records = cifar10_input.read_cifar10(
        cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
    batch = tf.placeholder(tf.int64, [])
    positions = tf.range(batch * batch_size,
                         tf.minimum((batch + 1) * batch_size, num_images))
    images, _ = cifar10_input.images_and_labels(
        records, cifar10_input.shuffled_indices(
            positions, records.shape[0].value, seed))
    cifar10.inference(cifar10_input.central(images), channels)
    patches = sampled_patches(
        tf.get_default_graph().get_tensor_by_name('norm1:0'), locations, seed,
        batch)
    fit, check = np.zeros([size, size]), np.zeros([size, size])
    with tf.Session(config=cifar10.session_config()) as session:
      session.run(tf.local_variables_initializer())
      cifar10.assign(session, {var: arrays[var.op.name + cifar10.AVERAGE]
                               for var in tf.trainable_variables()})
      for number in range(-(-num_images // batch_size)):
        sample = session.run(patches, {batch: number}).astype(np.float64)
        held_back = len(sample) // CHECK_SHARE
        for part, rows in ((fit, sample[held_back:]),
                           (check, sample[:held_back])):
          part += rows.T @ rows
  by_channel = np.arange(size).reshape(25, channels).T.ravel()
  return tuple(part[np.ix_(by_channel, by_channel)] for part in (fit, check))


def slim(arrays, kept, factors):
  """The arrays of the network without the other conv1 channels.

  Args:
    arrays: name -> array of the checkpoint, weights and averages.
    kept: sorted indices of the channels to keep.
    factors: float [kept], multiplied into conv2's weights.

  Returns:
    name -> array, with a global step of 0.
  """
  result = {'global_step': np.int64(0)}
  for name in cifar10.weight_shapes(0):
    for variable in (name, name + cifar10.AVERAGE):
      value = arrays[variable]
      if name.startswith('conv1/'):
        value = value[..., kept]
      elif name == 'conv2/weights':
        value = value[:, :, kept] * np.float32(factors)[:, np.newaxis]
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
      'conv1_channels': keep, 'criterion': 'thinet',
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

  fit, check = patch_moments(arrays, num_images, FLAGS.locations_per_image,
                             FLAGS.seed)
  kernel = arrays['conv2/weights' + cifar10.AVERAGE]
  gram, check_gram = (thinet.contribution_gram(moments, kernel)
                      for moments in (fit, check))
  clock.append(time.time())
  for kind, channels in zip(('dead', 'linearly dependent'),
                            thinet.degenerate(gram)):
    if channels:
      print('%s: conv1 channels %s are %s.' % (
          path, ', '.join(map(str, channels)), kind), file=sys.stderr)
  order = thinet.removal_order(gram)
  kept = np.sort(order[width - keep:])
  objective = thinet.objective(gram, order)
  factors = np.ones(keep)
  if FLAGS.reconstruction == 'scale' and keep < width:
    factors = thinet.scales(gram, kept)
  clock.append(time.time())

  checkpoint.save(FLAGS.output_dir, slim(arrays, kept, factors),
                          settings)
  clock.append(time.time())
  multiply_adds, parameters = cifar10.cost(keep)
  parent_multiply_adds, parent_parameters = cifar10.cost(width)
  dead, dependent = thinet.degenerate(gram)
  result = dict(
      settings, parent_channels=width, parent_checkpoint=path,
      kept=kept.tolist(), removal_order=order.tolist(),
      objective={str(width - m): float(value)
                 for m, value in enumerate(objective)},
      scales=factors.tolist(), dead=dead, dependent=dependent,
      relative_error_before=thinet.relative_error(check_gram, kept),
      relative_error_after=thinet.relative_error(check_gram, kept, factors),
      samples=num_images * FLAGS.locations_per_image,
      multiply_adds=multiply_adds, parameters=parameters,
      parent_multiply_adds=parent_multiply_adds,
      parent_parameters=parent_parameters,
      seconds=dict(zip(('moments', 'choice', 'write'),
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
