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

from support import checkpoint
import cifar10
import cifar10_input
from support import summaries
import thinet
from support import thinet_moments
from support import thinet_reconstruct
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
tf.app.flags.DEFINE_enum('reconstruction', 'none', ['none', 'scale', 'full',
                                                    'network'],
                         'What makes up for the removed channels: nothing, a '
                         'factor for each kept one, all weights of conv2, or '
                         'those of all layers behind conv1.')
tf.app.flags.DEFINE_integer('num_images', 50000,
                            'Training images to sample from.', lower_bound=1)
tf.app.flags.DEFINE_integer('locations_per_image', 10,
                            'Positions of conv2 to sample in an image; 0 for '
                            'all 144.', lower_bound=0, upper_bound=144)

ALL_POSITIONS = 144
MEASURED = ['thinet', 'thinet_kept', 'least_squares']   # Need the samples.


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


def choices(moments, arrays):
  """int64 [criteria, channels]: the orders of all criteria that measure."""
  return np.stack([choose(criterion, moments, arrays, 0)[0]
                   for criterion in MEASURED])


def stable_from(samples, orders, kept):
  """The number of samples from which on the same channels are kept.

  Args:
    samples: increasing numbers of samples.
    orders: int64 [numbers, channels], the orders of removal they lead to.
    kept: sorted indices of the kept channels.

  Returns:
    The least of the numbers such that it and all larger ones keep these
    channels; None where the largest does not.
  """
  least = None
  for number, order in zip(samples[::-1], orders[::-1]):
    if not np.array_equal(np.sort(order[len(order) - len(kept):]), kept):
      break
    least = int(number)
  return least


def rebuild(mode, fit, check, arrays, kept, num_images):
  """The weights of the slim network that are no slice of its parent's.

  Args:
    mode: value of --reconstruction.
    fit, check: thinet.Moments.
    arrays: name -> array of the parent's checkpoint; the averages are used.
    kept: sorted indices of the kept channels.
    num_images: training images to use, for network.

  Returns:
    (changed, details): name -> array, and what compress.json should say. Its
    relative errors are conv2's, for network before the refits of its layers.
  """
  kernel = arrays['conv2/weights' + cifar10.AVERAGE]
  rebuilt, shift, changed = kernel[:, :, kept], 0.0, {}
  details = {'scales': [1.0] * len(kept),
             'relative_error_before': thinet.relative_error(check, kernel, kept,
                                                            rebuilt)}
  if mode == 'scale':
    factors = thinet.scales(thinet.contribution_gram(fit, kernel), kept)
    rebuilt = kernel[:, :, kept] * factors[:, np.newaxis]
    changed['conv2/weights'] = rebuilt
    details['scales'] = factors.tolist()
  elif mode != 'none' and len(kept) < kernel.shape[2]:
    del details['scales']
    rebuilt, shift, details['ridge'] = thinet.full_reconstruction(
        fit, check, kernel, kept)
    changed['conv2/weights'] = np.float32(rebuilt)
    changed['conv2/biases'] = np.float32(
        arrays['conv2/biases' + cifar10.AVERAGE] + shift)
    if mode == 'network':
      original = checkpoint.averages(arrays)
      changed, details['layers'] = thinet_reconstruct.refit_network(
          original, dict(original, **changed, **{
              name: original[name][..., kept]
              for name in ('conv1/weights', 'conv1/biases')}),
          num_images, FLAGS.seed)
  details['relative_error_after'] = thinet.relative_error(check, kernel, kept,
                                                          rebuilt, shift)
  return changed, details


def slim(arrays, kept, changed, scales=None):
  """The arrays of the network without the other conv1 channels.

  Args:
    arrays: name -> array of the checkpoint, weights and averages.
    kept: sorted indices of the channels to keep.
    changed: name -> array, the rebuilt averaged weights.
    scales: [kept] if conv2 is a scaled slice, which its raw weights then are,
      too; else the raw weights get the rebuilt averaged ones.

  Returns:
    name -> array, with a global step of 0.
  """
  result = {'global_step': np.int64(0)}
  for name in cifar10.weight_shapes(0):
    for variable in (name, name + cifar10.AVERAGE):
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
  locations = FLAGS.locations_per_image or ALL_POSITIONS
  settings = {
      'conv1_channels': keep, 'criterion': FLAGS.criterion,
      'reconstruction': FLAGS.reconstruction, 'fine_tuned': False,
      'seed': FLAGS.seed, 'num_images': num_images,
      'locations_per_image': locations, 'data_digest': digest,
      'random_streams': cifar10_input.RANDOM_STREAMS,
      'parent': parent, 'parent_step': int(arrays.get('global_step', 0))}
  lock = checkpoint.hold(FLAGS.output_dir)
  report = os.path.join(FLAGS.output_dir, 'compress.json')
  if checkpoint.finished(FLAGS.output_dir):
    slim_path, _, made = checkpoint.read_newest(FLAGS.output_dir)
    checkpoint.require_same(FLAGS.output_dir, made, settings)
    if os.path.exists(report):
      print('%s is finished.' % slim_path)
      return 0

  fit, check, samples, orders = thinet_moments.cached_moments(
      arrays, digest, num_images, locations, FLAGS.seed,
      lambda moments: choices(moments, arrays))
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
  changed, details = rebuild(FLAGS.reconstruction, fit, check, arrays, kept,
                             num_images)
  clock.append(time.time())
  checkpoint.save(FLAGS.output_dir,
                  slim(arrays, kept, changed, details.get('scales')), settings)
  summaries.write(FLAGS.output_dir, summaries.compression(
      arrays['conv1/weights' + cifar10.AVERAGE], kept, objective,
      details.get('scales')))
  clock.append(time.time())
  multiply_adds, parameters = cifar10.cost(keep)
  parent_multiply_adds, parent_parameters = cifar10.cost(width)
  if FLAGS.criterion in MEASURED:
    least = stable_from(samples, orders[:, MEASURED.index(FLAGS.criterion)], kept)
    details['same_choice_from'] = least or fit.count
  result = dict(
      settings, **details, parent_channels=width,
      parent_checkpoint=os.path.relpath(path, FLAGS.output_dir),
      kept=kept.tolist(), removal_order=order.tolist(),
      objective={str(width - m): float(value)
                 for m, value in enumerate(objective)},
      dead=dead, dependent=dependent,
      samples=num_images * locations,
      multiply_adds=multiply_adds, parameters=parameters,
      parent_multiply_adds=parent_multiply_adds,
      parent_parameters=parent_parameters,
      seconds=dict(zip(('moments', 'choice', 'reconstruction', 'write'),
                       np.round(np.diff(clock), 3).tolist())))
  commit = checkpoint.git_commit()
  if commit:
    result['git_commit'] = commit
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
