"""Compresses a trained network to fewer channels and units by ThiNet.

  python thinet_compress.py --checkpoint_dir=runs/seed0/scratch_64 \\
      --output_dir=runs/seed0/thinet_none_16 --conv1_channels=16

  python thinet_compress.py --checkpoint_dir=runs/seed0/scratch_64 \\
      --output_dir=runs/seed0/quarter --criterion=least_squares \\
      --reconstruction=network --multiply_adds=0.25 --parameters=0.25

The first names widths; a layer whose flag is left out stays as it is. The
second names a budget, and all layers get the widths that lose least under it
(thinet/budget.py). On two cores the first takes half a minute, or a second
once the moments are cached; `network` takes some minutes.

Samples the contribution of each channel to the layer that reads it, its reader,
on central crops of the training images in the network as it is; chooses the
channels to keep (thinet/algebra.py), the last layer first, so that a channel
gets no credit for units that its reader loses; and writes a physically slim
checkpoint, which the other scripts read without further flags, and
compress.json, which says what was done.
"""
import contextlib
import hashlib
import os
import sys
import time
import typing

import cifar10
import cifar10_eval
import cifar10_input
from cifar10_input import UserError
from thinet import algebra
from thinet import budget
from thinet import checkpoint
from thinet import files
from thinet import loop
from thinet import moments
from thinet import operations
from thinet import progress
from thinet import prune
from thinet import refit
from thinet import summaries
from thinet import tensorflow as tf

import numpy as np

COSTS = ['multiply_adds', 'parameters']   # A budget's; as from cifar10.cost.

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'checkpoint_dir',
              'evaluate', 'seed') + cifar10.Widths._fields:
  tf.app.flags.declare_key_flag(_name)
FLAGS['checkpoint_dir'].help = 'Required. Folder of the network to compress.'
for _name in cifar10.Widths._fields:
  _layer, _outputs = _name.split('_')
  FLAGS[_name].help = '%s of %s to keep; by default all.' % (
      _outputs.capitalize(), _layer)
for _name in COSTS:
  tf.app.flags.DEFINE_float(_name, None, 'In place of widths: the most %s, as '
                            "a share of the parent's; above 0 and below 1." %
                            _name.replace('_', '-'))
  tf.app.flags.register_validator(
      _name, lambda value: value is None or 0 < value < 1,
      'give a share above 0 and below 1')
tf.app.flags.DEFINE_string('output_dir', None,
                           'Required. Folder for the slim network.')
tf.app.flags.DEFINE_enum('criterion', 'thinet',
                         ['thinet', 'thinet_kept', 'least_squares', 'l1',
                          'random'], 'Which channels to keep; see README.')
tf.app.flags.DEFINE_enum('reconstruction', 'none', ['none', 'scale', 'full',
                                                    'network'],
                         'What makes up for the removed channels: nothing, a '
                         'factor for each kept one, all weights of their '
                         'reader, or those of all layers.')
tf.app.flags.DEFINE_integer('num_images', 50000,
                            'Training images to sample from, at most.',
                            lower_bound=1)
tf.app.flags.DEFINE_integer('locations_per_image', 10,
                            'Positions of conv2 to sample in an image; 0 for '
                            'all %d.' % cifar10.CONV2_POSITIONS, lower_bound=0,
                            upper_bound=cifar10.CONV2_POSITIONS)

FEWEST_REFIT_IMAGES = 20
SHOWN = 8                # Dead channels to name; compress.json has all.
SENSITIVITY_IMAGES = 2000
SENSITIVITY_ERRORS = 0.03, 0.1, 0.3
LEAST_ERROR = 0.003      # Sensitivities at smaller ones are rounding.
MOMENTS = 1              # Raise it if the program finds other moments,
LOSSES = 2               # or other losses of the same network.


class Sample(typing.NamedTuple):
  """The training images and positions that the moments are taken from."""
  num_images: int
  locations: int           # In each image.
  batch_size: int
  seed: int
  digest: str              # SHA-256 of the training files.


def sampled_batches(weights, sample, layers):
  """Yields what readers read, a batch of central crops at a time.

  Args:
    weights: name -> array, the network's.
    sample: Sample.
    layers: those whose readers are asked for.

  Yields:
    Layer -> float32 [samples, taps * channels], tap by tap: of conv2, the
    patches at each image's positions; of a dense layer, a row for each image.
  """
  with tf.Graph().as_default():
    batch = tf.placeholder(tf.int64, [])
    images, _ = cifar10.shuffled_images(
        tf.range(batch * sample.batch_size, tf.minimum(
            (batch + 1) * sample.batch_size, sample.num_images)),
        sample.seed, 'moments')
    network = cifar10.endpoints(cifar10_input.central(images),
                                cifar10.widths_of(weights))
    bits = cifar10_input.random_bits(
        [tf.shape(images)[0], cifar10.CONV2_POSITIONS], sample.seed,
        'moments/positions', batch)
    rows = {'conv2': network['pool2'], 'local3': network['local3'],
            'local4': network['local4']}
    rows = {layer: tf.reshape(x, [-1, np.prod(x.shape.as_list()[1:])])
            for layer, x in rows.items()}
    rows['conv1'] = moments.patches(
        network['norm1'], moments.random_positions(bits, sample.locations))
    fetches = {layer: rows[layer] for layer in layers}
    with tf.Session(config=cifar10.session_config()) as session:
      session.run(tf.local_variables_initializer())
      checkpoint.assign_network(session, weights)
      batches = range(-(-sample.num_images // sample.batch_size))
      for number in progress.shown(batches, 'Moments of ' + ', '.join(
          'what %s reads' % prune.READERS[layer] for layer in layers)):
        yield session.run(fetches, {batch: number})


def make_moments(weights, sample, layers):
  """Moments of what readers read: as for sampled_moments, without a file."""
  # Closed at once if it is stopped: its session cannot end with the process.
  with contextlib.closing(sampled_batches(weights, sample, layers)) as batches:
    return moments.fit_and_check(batches, {
        layer: weights[layer + '/biases'].size for layer in layers})


def sampled_moments(weights, sample, layers):
  """Moments of what readers read, made once for all widths.

  Args:
    weights: name -> array, the network's.
    sample: Sample.
    layers: those whose readers are asked for.

  Returns:
    Layer -> (fit, check), algebra.Moments.
  """
  wanted = {}
  for number, layer in enumerate(cifar10.LAYERS, 1):
    if layer in layers:
      kernel = prune.reader_kernel(weights, layer, {})
      wanted[layer] = (
          repr((MOMENTS, layer, sample,
                cifar10_input.RANDOM_STREAMS)).encode() +
          b''.join(weights[name + kind].tobytes()
                   for name in cifar10.LAYERS[:number]
                   for kind in ('/weights', '/biases')),
          kernel.shape[0] * kernel.shape[1])
  return moments.cached(FLAGS.checkpoint_dir, wanted,
                        lambda missing: make_moments(weights, sample, missing))


@contextlib.contextmanager
def networks_side_by_side(original, slim_weights, kept, num_images, batch_size,
                          seed):
  """Builds both networks on the same distorted training images.

  Args:
    original: name -> array, the weights of the original network.
    slim_weights: name -> array, those that the slim network starts from.
    kept: layer -> indices of the original's outputs that the slim one has.
    num_images: training images to use.
    batch_size: images in a batch.
    seed: integer.

  Yields:
    refit.Pair, in a graph of its own.
  """
  batches = num_images // batch_size
  with tf.Graph().as_default(), tf.Session(
      config=cifar10.session_config()) as session, tf.device(
          loop.DEVICE if operations.on_gpu() else None):

    def build(step):
      # Each graph has its own records; the loop's must be on its device.
      key = cifar10_input.seed_variable(seed)
      images, _ = cifar10.shuffled_images(
          step % batches * batch_size + tf.range(batch_size, dtype=tf.int64),
          key, 'refits')
      images = cifar10_input.distort(images, cifar10_input.distortion_draws(
          batch_size, key, 'refits', step))
      networks = []
      for scope, weights in (('original', original), ('slim', slim_weights)):
        with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
          networks.append(cifar10.endpoints(images,
                                            cifar10.widths_of(weights)))
      return images, *networks

    yield refit.Pair(
        build, kept, batches, session, original, slim_weights,
        lambda shape, use, number: cifar10_input.random_bits(
            shape, seed, 'refits/' + use, number))


def descend(gradients, number, rate, last_step):
  """A step by the fast schedule's rule, for refit.refit_network."""
  rate = cifar10.learning_rate_at(number, cifar10.FAST, rate, None, last_step)
  return tf.group(*(cifar10.descend(var, gradient, rate, cifar10.FAST.momentum)
                    for var, gradient in gradients))


def refitted(weights, changed, kept, sample):
  """Refits the slim network; returns as refit.refit_network.

  Args:
    weights: name -> array, the parent's averages.
    changed: name -> array, the weights that were refitted.
    kept: layer -> sorted indices of the kept channels.
    sample: Sample; as many images are taken.
  """
  with networks_side_by_side(
      weights, {**prune.sliced(weights, kept), **changed}, kept,
      sample.num_images, min(sample.batch_size, sample.num_images // 10),
      sample.seed) as pair:
    return refit.refit_network(pair, descend)


def parent_network():
  """Reads and checks the flags and the network to compress.

  Returns:
    checkpoint.Checkpoint.

  Raises:
    UserError: a flag is missing or out of range.
    CheckpointError: there is no checkpoint, or it cannot be used.
  """
  for name in ('checkpoint_dir', 'output_dir'):
    if not FLAGS[name].value:
      raise UserError('--%s is missing; see --help.' % name)
  widths, shares = map(cifar10.given, (cifar10.Widths._fields, COSTS))
  if not widths and not shares:
    raise UserError('No width and no budget is given; give --conv1_channels, '
                    'say, or --multiply_adds; see --help.')
  if widths and shares:
    raise UserError('--%s and --%s are two ways to say the widths; leave out '
                    'one.' % (*list(widths)[:1], *list(shares)[:1]))
  if os.path.realpath(FLAGS.output_dir) == os.path.realpath(
      FLAGS.checkpoint_dir):
    raise UserError('--output_dir=%s is the folder of the network to compress; '
                    'name another.' % FLAGS.output_dir)
  found = checkpoint.read_newest(FLAGS.checkpoint_dir, cifar10.shapes_like)
  for name, width in cifar10.widths_of(found.arrays)._asdict().items():
    if (FLAGS[name].value or 0) > width:
      raise UserError('--%s=%d cannot be kept of the %d %s in %s; give 1 to '
                      '%d.' % (name, FLAGS[name].value, width,
                               name.split('_')[1], found.path, width))
  check_budget(found)
  return found


def check_budget(found):
  """Raises UserError if the narrowest network costs more than the budget."""
  for name, least, whole in zip(
      COSTS, cifar10.cost(cifar10.Widths(1, 1, 1, 1)),
      cifar10.cost(cifar10.widths_of(found.arrays))):
    share = FLAGS[name].value
    if share and share * whole < least:
      raise UserError('--%s=%g is less than a network with one unit in each '
                      'layer needs, %.3g of those in %s; give more.' % (
                          name, share, least / whole, found.path))


def asked_layers():
  """The layers to prune: those whose width is asked for, or all."""
  asked = cifar10.given(cifar10.Widths._fields)
  return [layer for layer, name in zip(cifar10.LAYERS, cifar10.Widths._fields)
          if name in asked or not asked]


def check_sample(num_images):
  """Raises UserError if there are too few images for what the flags ask."""
  if FLAGS.reconstruction == 'network' and num_images < FEWEST_REFIT_IMAGES:
    raise UserError('%d training images are too few for --reconstruction='
                    'network, which needs %d; give a higher --num_images, or '
                    'a larger data set.' % (num_images, FEWEST_REFIT_IMAGES))
  locations, also = FLAGS.locations_per_image or cifar10.CONV2_POSITIONS, ''
  if asked_layers() == ['conv1']:
    also = ' and --locations_per_image=%d' % FLAGS.locations_per_image
  else:
    locations = 1   # Dense layers read an image once.
  if min(FLAGS.batch_size, num_images) * locations < moments.CHECK_SHARE:
    raise UserError('--batch_size=%d, --num_images=%d%s leave no sample of a '
                    'batch to check on; give more.' % (FLAGS.batch_size,
                                                       num_images, also))


def planned_sample():
  """Makes the Sample from the flags and the data.

  Raises:
    UserError: the data cannot be read, or there are too few images.
  """
  check_sample(FLAGS.num_images)   # Before a download.
  examples, digest = cifar10.checked_data('train_eval')
  num_images = min(FLAGS.num_images, examples)
  check_sample(num_images)
  return Sample(num_images, FLAGS.locations_per_image or
                cifar10.CONV2_POSITIONS, FLAGS.batch_size, FLAGS.seed, digest)


def warn_of_degenerate(path, layer, fit, kernel):
  """Prints which channels add nothing; returns them as algebra.degenerate."""
  found = algebra.degenerate(algebra.contribution_gram(fit, kernel))
  outputs = dict(zip(cifar10.LAYERS, (
      name.split('_')[1] for name in cifar10.Widths._fields)))[layer]
  for kind, channels in zip(('dead', 'linearly dependent'), found):
    if channels:
      print('%s: of %d %s of %s these are %s: %s%s.' % (
          path, kernel.shape[1], outputs, layer, kind,
          ', '.join(map(str, channels[:SHOWN])),
          ' and %d more' % (len(channels) - SHOWN)
          if len(channels) > SHOWN else ''), file=sys.stderr)
  return found


def costs(widths, parent_widths):
  """Multiply-adds and parameters for compress.json, before and after."""
  return {prefix + name: cost
          for prefix, each in (('', widths), ('parent_', parent_widths))
          for name, cost in zip(COSTS, cifar10.cost(each))}


# ------------------------------------------------------------------ a budget


def first_images(sample):
  """Crops of the first of the sampled images: float32 [n, 24, 24, 3]."""
  with tf.Graph().as_default(), tf.Session(
      config=cifar10.session_config()) as session:
    images, _ = cifar10.shuffled_images(
        tf.range(min(SENSITIVITY_IMAGES, sample.num_images), dtype=tf.int64),
        sample.seed, 'moments')
    images = cifar10_input.central(images)
    session.run(tf.local_variables_initializer())
    return session.run(images)


def logits(weights, images):
  """A network's logits on images, as from first_images: float64 [n, 10]."""
  with tf.Graph().as_default(), tf.Session(
      config=cifar10.session_config()) as session:
    batch = tf.placeholder(tf.float32, images.shape)
    result = cifar10.inference(batch, cifar10.widths_of(weights))
    checkpoint.assign_network(session, weights)
    return np.float64(session.run(result, {batch: images}))


def layer_losses(parent, found, sample):
  """Estimates what the network loses if one layer is narrower.

  A layer's loss is the relative error of its reader after least squares, at
  every width (algebra.least_squares_order), times the layer's sensitivity: the
  relative error of the logits over that of the reader, where the layer alone is
  narrower. That is measured where the reader's is nearest to each of
  SENSITIVITY_ERRORS, and interpolated between these widths: it grows with the
  error, and not as fast in all layers.

  Args:
    parent: checkpoint.Checkpoint.
    found: layer -> (fit, check), algebra.Moments of what its reader reads.
    sample: Sample.

  Returns:
    (losses, sensitivities): layer -> float64 [width + 1], by the number of
    channels kept; and layer -> number of channels, as text -> float.
  """
  images = first_images(sample)
  target = logits(parent.averages, images)
  losses, sensitivities = {}, {}
  for layer in progress.shown(list(found), 'Losses of narrower layers'):
    fit, check = found[layer]
    kernel = prune.reader_kernel(parent.averages, layer, {})
    order, errors = algebra.least_squares_order(fit, kernel)
    if len(order) == 1:   # It cannot be narrower.
      losses[layer], sensitivities[layer] = np.array([np.inf, 0.0]), {}
      continue
    nearest = sorted({1 + int(np.argmin(np.abs(errors[1:-1] - error)))
                      for error in SENSITIVITY_ERRORS})
    measured = {}
    for removed in [number for number in nearest
                    if errors[number] >= LEAST_ERROR] or nearest[-1:]:
      kept = {layer: np.sort(order[removed:])}
      changed, _ = prune.rebuild_all('full', {layer: (fit, check)},
                                     parent.averages, kept)
      narrow = logits({**prune.sliced(parent.averages, kept), **changed},
                      images)
      error = np.sum(np.square(narrow - target)) / (np.sum(np.square(target)) or
                                                    1.0)
      measured[removed] = float(error / (errors[removed] or 1.0))
    losses[layer] = (errors * np.interp(range(len(errors)), *zip(
        *measured.items())))[::-1]
    sensitivities[layer] = {str(len(order) - removed): value
                            for removed, value in measured.items()}
  return losses, sensitivities


def cached_losses(parent, found, sample):
  """As layer_losses; made once for all budgets and modes of a parent.

  They are in a file beside the parent, named after all that they depend on;
  what is not exactly what was written for this key is made again. Of several
  programs that want them one makes them, and the others wait.
  """
  key = hashlib.sha256(repr((
      LOSSES, parent.digest, sample, cifar10_input.RANDOM_STREAMS,
      SENSITIVITY_IMAGES, SENSITIVITY_ERRORS)).encode()).hexdigest()
  path = os.path.join(FLAGS.checkpoint_dir, 'losses-%s.json' % key[:16])
  with files.alone(os.path.join(FLAGS.checkpoint_dir, 'losses.lock')):
    with contextlib.suppress(OSError, ValueError, KeyError):
      there = files.read_json(path)
      if there['key'] == key:
        return ({layer: np.array(losses)
                 for layer, losses in there['losses'].items()},
                there['sensitivities'])
    losses, sensitivities = layer_losses(parent, found, sample)
    with contextlib.suppress(OSError, files.FileError):   # Or no cache.
      files.remove_parts(path)
      files.write_json(path, {
          'key': key, 'sensitivities': sensitivities,
          'losses': {layer: each.tolist() for layer, each in losses.items()}})
  return losses, sensitivities


def warn_of_few(found):
  """Prints for which layers there are fewer samples than inputs.

  Args:
    found: as for layer_losses.
  """
  for layer, (fit, _) in found.items():
    if fit.count < len(fit.second):
      print('The widths say little: %s has %d inputs, and there are %d samples '
            'to fit it to; give a larger --num_images.' % (
                prune.READERS[layer], len(fit.second), fit.count),
            file=sys.stderr)


def widths_for(losses, shares):
  """The widths under a budget.

  Args:
    losses: as from layer_losses, of all layers.
    shares: name of COSTS -> share of the parent's cost, one or both.

  Returns:
    cifar10.Widths.

  Raises:
    ValueError: the losses are not finite, or nothing is within the budget.
  """
  losses = [losses[layer] for layer in cifar10.LAYERS]
  whole = cifar10.cost(cifar10.Widths(*(len(each) - 1 for each in losses)))
  return cifar10.Widths(*budget.allocate(
      losses, lambda widths: cifar10.cost(cifar10.Widths(*widths)),
      [shares.get(name) and shares[name] * cost
       for name, cost in zip(COSTS, whole)]))


# -------------------------------------------------------------- the script


def settings_of(parent, sample, widths):
  """What marks the slim checkpoint: how it was made, and from what.

  Args:
    parent: checkpoint.Checkpoint.
    sample: Sample.
    widths: cifar10.Widths of the slim network.
  """
  return {
      **cifar10.narrowed(widths),
      **{name + '_share': share
         for name, share in cifar10.given(COSTS).items()},
      'criterion': FLAGS.criterion,
      'reconstruction': FLAGS.reconstruction, 'fine_tuned': False,
      'seed': FLAGS.seed, 'batch_size': sample.batch_size,
      'num_images': sample.num_images,
      'locations_per_image': sample.locations, 'data_digest': sample.digest,
      'random_streams': cifar10_input.RANDOM_STREAMS,
      'parent': parent.settings, 'parent_digest': parent.digest,
      'parent_step': int(parent.arrays.get('global_step', 0))}


def finished(parent, sample, report):
  """Whether the folder holds this network already, and its report.

  Raises:
    CheckpointError: it holds another one.
  """
  def require_same(made):
    if cifar10.given(COSTS):   # The widths follow from all else.
      widths = cifar10.Widths(**{name: made[name]
                                 for name in cifar10.Widths._fields
                                 if name in made})
    else:
      widths = cifar10.asked_widths(cifar10.widths_of(parent.arrays))
    checkpoint.require_same(FLAGS.output_dir, made,
                            settings_of(parent, sample, widths))

  made = checkpoint.made_with(FLAGS.output_dir)
  if made:   # Before what is damaged is moved aside.
    require_same(made)
  found = checkpoint.read_to_continue(FLAGS.output_dir, cifar10.shapes_like)
  if not found:
    return False
  require_same(found.settings)
  try:
    said = files.read_json(report)
    if (said.get('settings'), said.get('checkpoint_digest')) != (
        found.settings, found.digest):
      return False
  except (OSError, ValueError):   # Made again.
    return False
  print('%s is finished.' % found.path)
  return True


def write(parent, settings, choices, kept, changed, details):
  """Writes the slim checkpoint and what TensorBoard shows of it.

  Returns:
    Prefix of the checkpoint.
  """
  scales = {layer: each['scales'] for layer, each in details.items()
            if 'scales' in each}
  path = checkpoint.save(FLAGS.output_dir, prune.slim(
      parent.arrays, kept, changed, scales, checkpoint.AVERAGE), settings)
  summaries.write(FLAGS.output_dir, summaries.compression(
      cifar10.command(), parent.averages['conv1/weights'], {
          layer: (choice.kept, choice.order, choice.objective,
                  scales.get(layer)) for layer, choice in choices.items()}),
                  'compression')
  return path


def require_finite(parent, what, arrays):
  """Raises UserError if arrays, as those of huge weights, are not finite."""
  if not all(np.isfinite(each).all() for each in arrays):
    raise UserError('Checkpoint %s cannot be compressed (%s are not finite); '
                    'train again.' % (parent.path, what))


def described(choices, found, degenerate, clock):
  """What compress.json says of the choice, the samples and the time.

  Args:
    choices: layer -> prune.Choice.
    found: as for layer_losses.
    degenerate: layer -> as from warn_of_degenerate.
    clock: seconds at the start and after each part of the work.
  """
  return {
      'kept': {layer: choice.kept.tolist()
               for layer, choice in choices.items()},
      'removal_order': {layer: choice.order.tolist()
                        for layer, choice in choices.items()},
      'objective': {
          layer: {str(len(choice.order) - m): float(value)
                  for m, value in enumerate(choice.objective)}
          for layer, choice in choices.items()},
      'dead': {layer: dead for layer, (dead, _) in degenerate.items()},
      'dependent': {layer: each for layer, (_, each) in degenerate.items()},
      'samples': {layer: int(fit.count + check.count)
                  for layer, (fit, check) in found.items()},
      'seconds': dict(zip(('moments', 'budget', 'choice', 'reconstruction',
                           'write'), np.round(np.diff(clock), 3).tolist())),
      'end': checkpoint.now()}


def settled_widths(parent, found, sample):
  """Settles the widths: those of the flags, or the best within the budget.

  Args:
    parent: checkpoint.Checkpoint.
    found: layer -> (fit, check), algebra.Moments of what its reader reads.
    sample: Sample.

  Returns:
    (widths, sensitivities): cifar10.Widths; and as from layer_losses, or None
    without a budget.

  Raises:
    UserError: moments or losses are not finite.
  """
  require_finite(parent, 'moments', [part.second for parts in found.values()
                                     for part in parts])
  shares = cifar10.given(COSTS)
  if not shares:
    return cifar10.asked_widths(cifar10.widths_of(parent.averages)), None
  warn_of_few(found)
  losses, sensitivities = cached_losses(parent, found, sample)
  require_finite(parent, 'losses', [each[1:] for each in losses.values()])
  return widths_for(losses, shares), sensitivities


def say_costs(widths, spent):
  """Prints the widths and their costs, from costs."""
  print('%s: %s; %s.' % (FLAGS.output_dir, cifar10.named(widths), ', '.join(
      '%s %s (%.4g of %s)' % (
          format(spent[name], ','), name.replace('_', '-'),
          spent[name] / spent['parent_' + name],
          format(spent['parent_' + name], ',')) for name in COSTS)),
        flush=True)


def say_errors(choices, details, refits):
  """Prints the relative errors of readers and logits."""
  for layer, each in details.items():
    choice = choices[layer]
    print('%s: %s keeps %d of %d; relative error of %s %.4f, rebuilt %.4f' % (
        FLAGS.output_dir, layer, len(choice.kept), len(choice.order),
        prune.READERS[layer], each['relative_error_before'],
        each['relative_error_after']))
  if refits:
    print('%s: all layers refitted; relative error of the logits %.4f, then '
          '%.4f' % (FLAGS.output_dir, refits['all']['before'],
                    refits['all']['after']))


def compress():
  """Chooses channels, rebuilds weights, writes network and compress.json."""
  checkpoint.git_commit()   # Before the sources can change.
  parent = parent_network()
  files.require_writable(FLAGS.output_dir)
  sample = planned_sample()
  cifar10_eval.check_evaluate()
  lock = files.hold(FLAGS.output_dir)
  checkpoint.remove_parts(FLAGS.output_dir)
  report = os.path.join(FLAGS.output_dir, 'compress.json')
  if finished(parent, sample, report):
    cifar10_eval.rate_made(FLAGS.output_dir)
    return 0

  clock = [time.perf_counter()]
  found = sampled_moments(parent.averages, sample, asked_layers())
  clock.append(time.perf_counter())

  widths, sensitivities = settled_widths(parent, found, sample)
  parent_widths = cifar10.widths_of(parent.averages)
  spent = costs(widths, parent_widths)
  say_costs(widths, spent)
  clock.append(time.perf_counter())

  degenerate = {layer: warn_of_degenerate(
      parent.path, layer, fit, prune.reader_kernel(parent.averages, layer, {}))
                for layer, (fit, _) in found.items()}
  choices = prune.choose_all(FLAGS.criterion, found, parent.averages,
                             dict(zip(cifar10.LAYERS, widths)), FLAGS.seed)
  kept = {layer: choice.kept for layer, choice in choices.items()}
  clock.append(time.perf_counter())

  changed, details = prune.rebuild_all(FLAGS.reconstruction, found,
                                       parent.averages, kept)
  refits = {}
  if FLAGS.reconstruction == 'network' and changed:
    try:
      changed, refits = refitted(parent.averages, changed, kept, sample)
    except np.linalg.LinAlgError:
      raise UserError('Checkpoint %s cannot be compressed (outputs of its '
                      'layers are too large); train again.' % parent.path)
  clock.append(time.perf_counter())

  # The report comes last, because it says that the network is complete.
  settings = settings_of(parent, sample, widths)
  path = write(parent, settings, choices, kept, changed, details)
  clock.append(time.perf_counter())
  result = dict(
      spent, settings=settings, seed=FLAGS.seed, **widths._asdict(),
      parent_widths=parent_widths._asdict(),
      command=cifar10.command(), device=operations.device(),
      checkpoint_digest=checkpoint.digest(path),
      parent_checkpoint=os.path.relpath(parent.path, FLAGS.output_dir),
      readers=details, **described(choices, found, degenerate, clock))
  for name, value in (('sensitivities', sensitivities), ('refits', refits),
                      ('git_commit', checkpoint.git_commit())):
    if value:
      result[name] = value
  files.write_json(report, result)
  say_errors(choices, details, refits)
  lock.close()
  cifar10_eval.rate_made(FLAGS.output_dir)
  return 0


def main(argv=None):
  del argv
  return compress()


if __name__ == '__main__':
  cifar10.run(main)
