"""Refits the layers behind a compressed conv1 to the network it came from.

No labels and no loss: each layer is brought, by least squares on training
images, to what the original network computes there, from what the slim network
has in front of it. In order:

1. conv2 through its ReLU (thinet.refit), on sampled positions;
2. conv1 and conv2 together, as local3 sees them: the error is measured behind
   local3's ReLU, and minimised by preconditioned stochastic gradient descent;
3. local3, local4 and softmax_linear through their ReLUs (thinet.refit).

What each step gains stands in results/README.md.
"""
import cifar10
import cifar10_input
import thinet
from support import thinet_moments
from cifar10_input import UserError

import numpy as np
import tensorflow.compat.v1 as tf

FLAGS = tf.app.flags.FLAGS

LOCATIONS = 10            # Of conv2, in each image, for step 1.
CONV2_IMAGES = 10000      # For step 1.
CONVOLUTIONS = ['conv1', 'conv2']
PASSES = 3                # Of step 2, over the images to fit, by each rate;
RATES = 0.006, 0.002      # momentum and course are the fast schedule's.
PRECONDITIONER_IMAGES = 1250
DAMPING = 3e-2            # Of the preconditioner's factors.
FEWEST_IMAGES = 20


class _Networks:
  """The original and the slim network on the same distorted training images.

  Nine tenths of the batches are there to fit, the rest to check.
  """

  def __init__(self, original, slim, num_images, seed):
    if num_images < FEWEST_IMAGES:
      raise UserError('--num_images=%d is too few for '
                      '--reconstruction=network; give at least %d.' % (
                          num_images, FEWEST_IMAGES))
    self.batch_size = min(FLAGS.batch_size, num_images // 10)
    batches = num_images // self.batch_size
    self.fit = range(batches - max(1, batches // 10))
    self.check = range(len(self.fit), batches)
    self.slim, self.seed = dict(slim), seed
    records = cifar10_input.read_cifar10(
        cifar10_input.data_files(cifar10.data_folder(), 'train_eval'))
    self.step = tf.placeholder(tf.int64, [])
    positions = self.step % batches * self.batch_size + tf.range(
        self.batch_size, dtype=tf.int64)
    images, _ = cifar10_input.images_and_labels(
        records, cifar10_input.shuffled_indices(
            positions, records.shape[0].value, seed, 'refits'))
    self.images = images = cifar10_input.distort(
        images, cifar10_input.distortion_draws(self.batch_size, seed,
                                               'refits', self.step))
    for name, weights in (('original', original), ('slim', slim)):
      with tf.variable_scope(name):
        cifar10.inference(images, weights['conv1/biases'].size)
    self.variables = {var.op.name: var for var in tf.trainable_variables()}
    self.session = tf.Session(config=cifar10.session_config())
    self.session.run(tf.local_variables_initializer())
    self._assign('original', original)
    self._assign('slim', slim)

  def _assign(self, network, weights):
    cifar10.assign(self.session,
                   {self.variables['%s/%s' % (network, name)]: value
                    for name, value in weights.items()})

  def change(self, layer, weights, biases):
    """Gives a layer of the slim network new weights."""
    new = {layer + '/weights': weights, layer + '/biases': biases}
    new = {name: np.float32(value).reshape(self.slim[name].shape)
           for name, value in new.items()}
    self.slim.update(new)
    self._assign('slim', new)

  def tensor(self, network, name):
    return tf.get_default_graph().get_tensor_by_name('%s/%s:0' % (network,
                                                                  name))

  def fit_again(self, number):
    """The step of a batch to fit, if they are gone through without end: in each
    pass the same images, otherwise distorted."""
    passes, step = divmod(number, len(self.fit))
    return passes * (len(self.fit) + len(self.check)) + step

  def run(self, fetches, step, feeds=None):
    """The fetches at a step; feeds: placeholder -> value."""
    return self.session.run(fetches, {self.step: step, **(feeds or {})})

  def rows(self, fetches, steps):
    """The fetched matrices of all steps, one below the other."""
    found = None
    for number, step in enumerate(steps):
      parts = self.run(fetches, step)
      if found is None:
        found = [np.empty((len(part) * len(steps),) + part.shape[1:],
                          np.float32) for part in parts]
      for rows, part in zip(found, parts):
        rows[number * len(part):(number + 1) * len(part)] = part
    return found

  def limited(self, steps, images):
    """So many of the steps that they have the images, if there are."""
    return steps[:max(1, images // self.batch_size)]


def _with_ones(rows):
  return np.concatenate([rows, np.ones_like(rows[:, :1])], 1)


def _conv2_through_relu(networks):
  """Step 1. Returns what compress.json should say, and the inputs' moments."""
  kernel, biases = networks.slim['conv2/weights'], networks.slim['conv2/biases']
  inputs, patches = [thinet_moments.sampled_patches(
      networks.tensor(network, 'norm1'), LOCATIONS, networks.seed,
      'refits/conv2 positions', networks.step)
                     for network in ('slim', 'original')]
  whole = networks.variables['original/conv2/weights']
  targets = tf.nn.bias_add(
      tf.matmul(patches, tf.reshape(whole, [-1, whole.shape[-1].value])),
      networks.variables['original/conv2/biases'])
  fit = networks.rows([inputs, targets],
                      networks.limited(networks.fit, CONV2_IMAGES))
  check = networks.rows([inputs, targets],
                        networks.limited(networks.check, CONV2_IMAGES // 10))
  weights, biases, details = thinet.refit(
      fit, check, kernel.reshape(-1, kernel.shape[-1]), biases, True, 12)
  networks.change('conv2', weights, biases)
  ones = _with_ones(fit[0])
  return details, ones.T @ ones / len(ones)


def _inverse(matrix):
  mean = np.trace(matrix) / len(matrix) or 1.0
  return np.linalg.inv(matrix + DAMPING * mean * np.eye(len(matrix)))


def _preconditioner(networks, output, moments):
  """What brings gradients of conv1 and conv2 nearer to the way to the minimum.

  For each layer two matrices, between which its gradient [inputs + 1, units]
  goes: the damped inverses of the second moments of its inputs and of what local3
  says about its outputs (as in Grosse and Martens, ICML 2016, with random
  projections of local3 in place of the loss).

  Args:
    networks: _Networks.
    output: tensor, local3's.
    moments: of conv2's input patches, with a one appended.

  Returns:
    (left, right) for conv1 and for conv2: float64 arrays.
  """
  # Signs: probes whose second moments are the identity, as those of normals.
  probes = tf.cast(1 - 2 * tf.bitwise.bitwise_and(cifar10_input.random_bits(
      tf.shape(output), networks.seed, 'refits/probes', networks.step), 1),
                   tf.float32)
  felt = [tf.reshape(each, [-1, each.shape[-1].value]) for each in tf.gradients(
      tf.reduce_sum(probes * output), [
          networks.tensor('slim', layer + '/pre_activation')
          for layer in CONVOLUTIONS])]
  felt = [tf.matmul(each, each, transpose_a=True) for each in felt]
  few = networks.limited(networks.fit, PRECONDITIONER_IMAGES)
  patches = thinet_moments.sampled_patches(networks.images, LOCATIONS,
                                           networks.seed,
                                           'refits/conv1 positions',
                                           networks.step)
  patches = _with_ones(networks.rows([patches], few)[0])
  left = [patches.T @ patches / len(patches), moments]
  right = [sum(parts) / (len(few) * networks.batch_size)
           for parts in zip(*(networks.run(felt, step) for step in few))]
  return [(_inverse(inputs), _inverse(outputs))
          for inputs, outputs in zip(left, right)]


def _convolutions_for_local3(networks, moments):
  """Step 2. Returns what compress.json should say.

  Of what the RATES end at, that is taken which leaves least error on the batches
  held back; nothing, if none leaves less than there was.

  Args:
    networks: _Networks.
    moments: of conv2's input patches, with a one appended.
  """
  output = tf.nn.relu(networks.tensor('slim', 'local3/pre_activation'))
  wanted = tf.nn.relu(networks.tensor('original', 'local3/pre_activation'))
  squares = [tf.reduce_sum(tf.square(wanted - output)),
             tf.reduce_sum(tf.square(wanted))]
  half_mean = squares[0] / (2 * networks.batch_size)
  last = PASSES * len(networks.fit)
  number, rate = tf.placeholder(tf.int32, []), tf.placeholder(tf.float32, [])
  schedule = cifar10.SCHEDULES['fast']
  optimizer = tf.train.MomentumOptimizer(
      cifar10.learning_rate_at(number, schedule, rate, len(networks.fit), last),
      schedule.momentum, use_nesterov=True)
  variables = {layer: [networks.variables['slim/%s/%s' % (layer, kind)]
                       for kind in ('weights', 'biases')]
               for layer in CONVOLUTIONS}
  directions = []
  for (weights, biases), (left, right) in zip(
      variables.values(), _preconditioner(networks, output, moments)):
    gradients = tf.gradients(half_mean, [weights, biases])
    flat = tf.concat([tf.reshape(gradients[0], [-1, biases.shape[0].value]),
                      gradients[1][tf.newaxis]], 0)
    flat = np.float32(left) @ flat @ np.float32(right)
    directions += [(tf.reshape(flat[:-1], weights.shape), weights),
                   (flat[-1], biases)]
  descend = optimizer.apply_gradients(directions)
  at_rest = tf.variables_initializer(optimizer.variables())

  def error():
    return sum(np.float64(networks.run(squares, step))
               for step in networks.check)

  def give(weights):
    for layer in CONVOLUTIONS:
      networks.change(layer, weights[layer + '/weights'],
                      weights[layer + '/biases'])

  start, before = dict(networks.slim), error()
  best = before, start, None
  for highest in RATES:
    give(start)
    networks.session.run(at_rest)
    for i in range(last):
      networks.run(descend, networks.fit_again(i), {number: i, rate: highest})
    for layer, changed in networks.session.run(variables).items():
      networks.change(layer, *changed)
    best = min(best, (error(), dict(networks.slim), highest),
               key=lambda found: found[0][0])
  after, weights, highest = best
  give(weights)
  return {'before': float(before[0] / (before[1] or 1.0)),
          'after': float(after[0] / (after[1] or 1.0)), 'rate': highest}


def _dense(networks, layer, inputs, rectified):
  """Step 3, for one layer."""
  inputs = networks.tensor('slim', inputs)
  weights = networks.slim[layer + '/weights']
  fetches = [tf.reshape(inputs, [-1, len(weights)]),
             networks.tensor('original', layer + '/pre_activation')]
  weights, biases, details = thinet.refit(
      networks.rows(fetches, networks.fit),
      networks.rows(fetches, networks.check), weights,
      networks.slim[layer + '/biases'], rectified)
  networks.change(layer, weights, biases)
  return details


def refit_network(original, slim, num_images, seed):
  """Refits conv2, local3, local4 and softmax_linear of a slim network.

  Args:
    original: name -> float32 array, the weights of the original network.
    slim: the same of the slim one, with conv2 as a start.
    num_images: training images to use.
    seed: integer.

  Returns:
    (weights, layers): name -> float32 array of the slim network, and for each
    refit its relative error before and after, on images not used to fit, and
    its ridge or rate.

  Raises:
    UserError: there are too few images.
  """
  layers = {}
  with tf.Graph().as_default():
    networks = _Networks(original, slim, num_images, seed)
    with networks.session:
      layers['conv2'], moments = _conv2_through_relu(networks)
      layers['convolutions_for_local3'] = _convolutions_for_local3(networks,
                                                                   moments)
      layers['local3'] = _dense(networks, 'local3', 'pool2', True)
      layers['local4'] = _dense(networks, 'local4', 'local3/local3', True)
      layers['softmax_linear'] = _dense(networks, 'softmax_linear',
                                        'local4/local4', False)
  return networks.slim, layers
