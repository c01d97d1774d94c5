"""Compresses conv1 of a trained network to fewer channels by ThiNet.

  python thinet_compress.py --checkpoint_dir=runs/seed0/scratch_64 \\
      --output_dir=runs/seed0/thinet_none_16 --conv1_channels=16

Samples the contribution of each conv1 channel to conv2, on central crops of the
training images in the network as it is; chooses the channels to keep
(thinet/algebra.py); and writes a physically slim checkpoint, which the other
scripts read without further flags, and compress.json, which says what was done.
"""
import contextlib
import os
import sys
import time
import typing

import cifar10
import cifar10_eval
import cifar10_input
from cifar10_input import UserError
from thinet import algebra
from thinet import checkpoint
from thinet import files
from thinet import moments
from thinet import operations
from thinet import progress
from thinet import refit
from thinet import summaries
from thinet import tensorflow as tf

import numpy as np

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'checkpoint_dir',
              'conv1_channels', 'evaluate', 'seed'):
  tf.app.flags.declare_key_flag(_name)
FLAGS['conv1_channels'].help = 'Required. Channels of the first layer to keep.'
tf.app.flags.DEFINE_string('output_dir', None,
                           'Required. Folder for the slim network.')
tf.app.flags.DEFINE_enum('criterion', 'thinet',
                         ['thinet', 'thinet_kept', 'least_squares', 'l1',
                          'random'], 'Which channels to keep; see README.')
tf.app.flags.DEFINE_enum('reconstruction', 'none', ['none', 'scale', 'full',
                                                    'network'],
                         'What makes up for the removed channels: nothing, a '
                         'factor for each kept one, all weights of conv2, or '
                         'those of all layers.')
tf.app.flags.DEFINE_integer('num_images', 50000,
                            'Training images to sample from, at most.',
                            lower_bound=1)
tf.app.flags.DEFINE_integer('locations_per_image', 10,
                            'Positions of conv2 to sample in an image; 0 for '
                            'all %d.' % cifar10.CONV2_POSITIONS, lower_bound=0,
                            upper_bound=cifar10.CONV2_POSITIONS)

FEWEST_REFIT_IMAGES = 20
PATCH = 25               # Taps of conv2's kernel.


class Parent(typing.NamedTuple):
  """The network to compress."""
  path: str                # Prefix of its checkpoint.
  arrays: dict             # Name -> array, all that the checkpoint holds.
  settings: dict
  digest: str              # SHA-256 of its files.
  averages: dict           # Name -> array, the averaged weights.


class Sample(typing.NamedTuple):
  """The training images and positions that the moments are taken from."""
  num_images: int
  locations: int           # In each image.
  batch_size: int
  seed: int
  digest: str              # SHA-256 of the training files.


def choose(criterion, fit, weights, seed):
  """Orders the channels for removal.

  Args:
    criterion: value of --criterion.
    fit: algebra.Moments.
    weights: name -> array, the parent's averages.
    seed: integer, seed of the random choice.

  Returns:
    (order, objective): int64 [channels], and float64 [channels + 1]: entry m is
    the criterion's objective with the first m of the order removed (for the
    controls, ThiNet's objective).
  """
  kernel = weights['conv2/weights']
  if criterion == 'least_squares':
    return algebra.least_squares_order(fit, kernel)
  gram = algebra.contribution_gram(fit, kernel)
  if criterion == 'thinet_kept':
    return algebra.kept_order(gram)
  if criterion == 'thinet':
    order = algebra.removal_order(gram)
  elif criterion == 'l1':
    order = np.argsort(np.abs(weights['conv1/weights']).sum((0, 1, 2)),
                       kind='stable')
  else:
    order = np.random.default_rng(seed).permutation(len(gram))
  return order, algebra.objective(gram, order)


def sampled_batches(weights, sample):
  """Yields patches of conv2's input, a batch of central crops at a time.

  Args:
    weights: name -> array, the network's.
    sample: Sample.

  Yields:
    float32 [n * locations, 25 * channels], tap by tap.
  """
  with tf.Graph().as_default():
    records = cifar10_input.read_cifar10(
        cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
    batch = tf.placeholder(tf.int64, [])
    indices = cifar10_input.shuffled_indices(
        tf.range(batch * sample.batch_size, tf.minimum(
            (batch + 1) * sample.batch_size, sample.num_images)),
        records.shape[0].value, sample.seed, 'moments')
    images, _ = cifar10_input.images_and_labels(records, indices)
    norm1 = cifar10.endpoints(cifar10_input.central(images),
                              weights['conv1/biases'].size)['norm1']
    bits = cifar10_input.random_bits(
        [tf.shape(indices)[0], cifar10.CONV2_POSITIONS], sample.seed,
        'moments/positions', batch)
    patches = moments.patches(
        norm1, moments.random_positions(bits, sample.locations))
    with tf.Session(config=cifar10.session_config()) as session:
      session.run(tf.local_variables_initializer())
      checkpoint.assign(session, {var: weights[var.op.name]
                                  for var in tf.trainable_variables()})
      batches = range(-(-sample.num_images // sample.batch_size))
      for number in progress.shown(batches, "Moments of conv2's input"):
        yield session.run(patches, {batch: number})


def sampled_moments(weights, sample):
  """Moments of conv2's input, made once for all widths.

  Args:
    weights: name -> array, the network's.
    sample: Sample.

  Returns:
    (fit, check): algebra.Moments.
  """
  channels = weights['conv1/biases'].size
  key = repr((sample, cifar10_input.RANDOM_STREAMS)).encode() + b''.join(
      weights[name].tobytes()
      for name in ('conv1/weights', 'conv1/biases'))
  return moments.cached(
      FLAGS.checkpoint_dir, key, PATCH * channels,
      lambda: moments.fit_and_check(sampled_batches(weights, sample), channels))


@contextlib.contextmanager
def networks_side_by_side(original, slim_weights, num_images, batch_size, seed):
  """Builds both networks on the same distorted training images.

  Args:
    original: name -> array, the weights of the original network.
    slim_weights: name -> array, those that the slim network starts from.
    num_images: training images to use.
    batch_size: images in a batch.
    seed: integer.

  Yields:
    refit.Pair, in a graph of its own.
  """
  batches = num_images // batch_size
  with tf.Graph().as_default(), tf.Session(
      config=cifar10.session_config()) as session:
    records = cifar10_input.read_cifar10(
        cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
    step = tf.placeholder(tf.int64, [])
    positions = step % batches * batch_size + tf.range(batch_size,
                                                       dtype=tf.int64)
    images, _ = cifar10_input.images_and_labels(
        records, cifar10_input.shuffled_indices(
            positions, records.shape[0].value, seed, 'refits'))
    images = cifar10_input.distort(images, cifar10_input.distortion_draws(
        batch_size, seed, 'refits', step))
    networks, variables = [], []
    for scope, weights in (('original', original), ('slim', slim_weights)):
      with tf.variable_scope(scope):
        networks.append(cifar10.endpoints(images,
                                          weights['conv1/biases'].size))
      variables.append({var.op.name[len(scope) + 1:]: var for var in
                        tf.trainable_variables(scope + '/')})
    session.run(tf.local_variables_initializer())
    checkpoint.assign(session, {var: original[name]
                                for name, var in variables[0].items()})
    yield refit.Pair(
        original=networks[0], slim=networks[1], images=images,
        original_variables=variables[0], slim_variables=variables[1],
        step=step, batches=batches, session=session, weights=slim_weights,
        random_bits=lambda shape, use, number: cifar10_input.random_bits(
            shape, seed, 'refits/' + use, number))


def refit_optimizer(number, rate, steps_per_epoch, last_step):
  """The fast schedule's optimizer, for refit.refit_network."""
  return tf.train.MomentumOptimizer(
      cifar10.learning_rate_at(number, cifar10.FAST, rate, steps_per_epoch,
                               last_step),
      cifar10.FAST.momentum, use_nesterov=True)


def rebuild(mode, fit, check, weights, kept, sample):
  """Computes the slim network's weights that are not slices of its parent's.

  Args:
    mode: value of --reconstruction.
    fit, check: algebra.Moments.
    weights: name -> array, the parent's averages.
    kept: sorted indices of the kept channels.
    sample: Sample; `network` takes as many images.

  Returns:
    (changed, details): name -> array, and a dict for compress.json. Its
    relative errors are conv2's on the samples held back, which also choose the
    ridge of `full`; for `network` they precede the refits of its layers.
  """
  kernel = weights['conv2/weights']
  rebuilt, shift, changed = kernel[:, :, kept], 0.0, {}
  details = {'scales': [1.0] * len(kept),
             'relative_error_before': algebra.relative_error(
                 check, kernel, kept, rebuilt)}
  if mode == 'scale':
    factors = algebra.scales(algebra.contribution_gram(fit, kernel), kept)
    rebuilt = kernel[:, :, kept] * factors[:, np.newaxis]
    changed['conv2/weights'] = rebuilt
    details['scales'] = factors.tolist()
  elif mode != 'none' and len(kept) < kernel.shape[2]:
    del details['scales']
    rebuilt, shift, details['ridge'] = algebra.full_reconstruction(
        fit, check, kernel, kept)
    changed['conv2/weights'] = np.float32(rebuilt)
    changed['conv2/biases'] = np.float32(weights['conv2/biases'] + shift)
    if mode == 'network':
      start = dict(weights, **changed, **{
          name: weights[name][..., kept]
          for name in ('conv1/weights', 'conv1/biases')})
      with networks_side_by_side(
          weights, start, sample.num_images,
          min(sample.batch_size, sample.num_images // 10), sample.seed) as pair:
        changed, details['layers'] = refit.refit_network(pair, refit_optimizer)
  details['relative_error_after'] = algebra.relative_error(
      check, kernel, kept, rebuilt, shift)
  return changed, details


def slim(arrays, kept, changed, scales=None):
  """Makes the arrays of the slim network.

  Args:
    arrays: name -> array of the checkpoint, weights and averages.
    kept: sorted indices of the channels to keep.
    changed: name -> array, the rebuilt averaged weights.
    scales: float [kept] if conv2 is a scaled slice; then its raw weights become
      one, too. None: the raw weights become the rebuilt averaged ones.

  Returns:
    name -> array, with a global step of 0.
  """
  result = {'global_step': np.int64(0)}
  for name in cifar10.weight_shapes(0):   # The names, at any width.
    for variable in (name, name + checkpoint.AVERAGE):
      value = arrays[variable]
      if name == 'conv2/weights' and scales is not None:
        value = value[:, :, kept] * np.float32(scales)[:, np.newaxis]
      elif name in changed:
        value = changed[name]
      elif name.startswith('conv1/'):
        value = value[..., kept]
      result[variable] = value
  return result


def parent_network():
  """Reads and checks the flags and the network to compress.

  Returns:
    Parent.

  Raises:
    UserError: a flag is missing or out of range.
    CheckpointError: there is no checkpoint, or it cannot be used.
  """
  for name in ('checkpoint_dir', 'output_dir', 'conv1_channels'):
    if not FLAGS[name].value:
      raise UserError('--%s is missing; see --help.' % name)
  if os.path.realpath(FLAGS.output_dir) == os.path.realpath(
      FLAGS.checkpoint_dir):
    raise UserError('--output_dir=%s is the folder of the network to compress; '
                    'name another.' % FLAGS.output_dir)
  found = checkpoint.read_newest(FLAGS.checkpoint_dir, cifar10.shapes_like)
  width = found.arrays['conv1/biases'].size
  if not 0 < FLAGS.conv1_channels <= width:
    raise UserError('--conv1_channels=%d cannot be kept of the %d channels in '
                    '%s; give 1 to %d.' % (FLAGS.conv1_channels, width,
                                           found.path, width))
  return Parent(*found, checkpoint.averages(found.arrays))


def check_sample(num_images):
  """Raises UserError if there are too few images for what the flags ask."""
  if FLAGS.reconstruction == 'network' and num_images < FEWEST_REFIT_IMAGES:
    raise UserError('--num_images=%d is too few for --reconstruction=network; '
                    'give at least %d.' % (num_images, FEWEST_REFIT_IMAGES))
  locations = FLAGS.locations_per_image or cifar10.CONV2_POSITIONS
  if min(FLAGS.batch_size, num_images) * locations < moments.CHECK_SHARE:
    raise UserError('--batch_size=%d, --num_images=%d and '
                    '--locations_per_image=%d leave no sample of a batch to '
                    'check on; give more.' % (FLAGS.batch_size, num_images,
                                              FLAGS.locations_per_image))


def planned_sample():
  """Makes the Sample from the flags and the data.

  Raises:
    UserError: the data cannot be read, or there are too few images.
  """
  check_sample(FLAGS.num_images)   # Before a download.
  cifar10.maybe_download_and_extract()
  examples, digest = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
  num_images = min(FLAGS.num_images, examples)
  check_sample(num_images)
  return Sample(num_images, FLAGS.locations_per_image or
                cifar10.CONV2_POSITIONS, FLAGS.batch_size, FLAGS.seed, digest)


def warn_of_degenerate(path, fit, kernel):
  """Prints which channels add nothing; returns them as algebra.degenerate."""
  dead, dependent = algebra.degenerate(algebra.contribution_gram(fit, kernel))
  for kind, channels in (('dead', dead), ('linearly dependent', dependent)):
    if channels:
      print('%s: conv1 channels %s are %s.' % (
          path, ', '.join(map(str, channels)), kind), file=sys.stderr)
  return dead, dependent


def write(parent, settings, kept, order, objective, changed, scales):
  """Writes the slim checkpoint and what TensorBoard shows of it.

  Returns:
    Prefix of the checkpoint.
  """
  path = checkpoint.save(FLAGS.output_dir, slim(parent.arrays, kept, changed,
                                                scales), settings)
  summaries.write(FLAGS.output_dir, summaries.compression(
      cifar10.command(), parent.averages['conv1/weights'], kept, order,
      objective, scales), 'compression')
  return path


def costs(keep, width):
  """Multiply-adds and parameters for compress.json, before and after."""
  multiply_adds, parameters = cifar10.cost(keep)
  parent_multiply_adds, parent_parameters = cifar10.cost(width)
  return {'multiply_adds': multiply_adds, 'parameters': parameters,
          'parent_multiply_adds': parent_multiply_adds,
          'parent_parameters': parent_parameters}


def settings_of(parent, sample):
  """What marks the slim checkpoint: how it was made, and from what."""
  return {
      'conv1_channels': FLAGS.conv1_channels, 'criterion': FLAGS.criterion,
      'reconstruction': FLAGS.reconstruction, 'fine_tuned': False,
      'seed': FLAGS.seed, 'batch_size': sample.batch_size,
      'num_images': sample.num_images,
      'locations_per_image': sample.locations, 'data_digest': sample.digest,
      'random_streams': cifar10_input.RANDOM_STREAMS,
      'parent': parent.settings, 'parent_digest': parent.digest,
      'parent_step': int(parent.arrays.get('global_step', 0))}


def finished(settings, report):
  """Whether the folder holds this network already, and its report.

  Raises:
    CheckpointError: it holds another one.
  """
  found = checkpoint.read_to_continue(FLAGS.output_dir, cifar10.shapes_like)
  if not found:
    return False
  checkpoint.require_same(FLAGS.output_dir, found.settings, settings)
  try:
    if files.read_json(report).get('checkpoint_digest') != found.digest:
      return False
  except (OSError, ValueError):   # Made again.
    return False
  print('%s is finished.' % found.path)
  return True


def compress():
  """Chooses channels, rebuilds weights, writes network and compress.json."""
  parent = parent_network()
  clock = [time.perf_counter()]
  files.require_writable(FLAGS.output_dir)
  sample = planned_sample()
  width, keep = parent.averages['conv1/biases'].size, FLAGS.conv1_channels
  settings = settings_of(parent, sample)
  lock = files.hold(FLAGS.output_dir)
  report = os.path.join(FLAGS.output_dir, 'compress.json')
  if finished(settings, report):
    cifar10_eval.rate_made(FLAGS.output_dir)
    return 0

  fit, check = sampled_moments(parent.averages, sample)
  clock.append(time.perf_counter())

  dead, dependent = warn_of_degenerate(parent.path, fit,
                                       parent.averages['conv2/weights'])
  try:
    order, objective = choose(FLAGS.criterion, fit, parent.averages, FLAGS.seed)
  except ValueError as error:   # The products of huge weights are infinite.
    raise UserError('Checkpoint %s cannot be compressed (%s); train again.' % (
        parent.path, error))
  kept = np.sort(order[width - keep:])
  clock.append(time.perf_counter())

  changed, details = rebuild(FLAGS.reconstruction, fit, check, parent.averages,
                             kept, sample)
  clock.append(time.perf_counter())

  # The report comes last, because it says that the network is complete.
  path = write(parent, settings, kept, order, objective, changed,
               details.get('scales'))
  clock.append(time.perf_counter())
  result = dict(
      settings, **details, **costs(keep, width), parent_channels=width,
      command=cifar10.command(), device=operations.device(),
      checkpoint_digest=checkpoint.digest(path),
      parent_checkpoint=os.path.relpath(parent.path, FLAGS.output_dir),
      kept=kept.tolist(), removal_order=order.tolist(),
      objective={str(width - m): float(value)
                 for m, value in enumerate(objective)},
      dead=dead, dependent=dependent,
      samples=sample.num_images * sample.locations,
      seconds=dict(zip(('moments', 'choice', 'reconstruction', 'write'),
                       np.round(np.diff(clock), 3).tolist())))
  commit = checkpoint.git_commit()
  if commit:
    result['git_commit'] = commit
  files.write_json(report, result)
  print('%s: kept %d of %d channels; relative error %.4f, rebuilt %.4f' % (
      FLAGS.output_dir, keep, width, result['relative_error_before'],
      result['relative_error_after']))
  lock.close()
  cifar10_eval.rate_made(FLAGS.output_dir)
  return 0


def main(argv=None):
  del argv
  return compress()


if __name__ == '__main__':
  cifar10.run(main)
