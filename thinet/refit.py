"""Refits all layers of a slim network to the network it came from.

It uses neither labels nor a loss: least squares on training images fits each
layer's output, given the slim network's input to it, to the original's.
The steps:

1. conv2 through its ReLU (algebra.refit), on sampled positions;
2. conv1 and conv2 together, as local3 sees them: the error is measured after
   local3's ReLU, and minimised by preconditioned stochastic gradient descent;
3. local3 and local4 through their ReLUs, then softmax_linear (algebra.refit).
"""
from thinet import algebra
from thinet import checkpoint
from thinet import moments
from thinet import progress
from thinet import tensorflow as tf

import numpy as np

LOCATIONS = 10            # Positions of conv2 in each image, for step 1.
CONV2_IMAGES = 10000      # Images for step 1.
CONVOLUTIONS = ['conv1', 'conv2']
PASSES = 3                # Over the images to fit, in step 2, at each rate.
RATES = 0.006, 0.002
PRECONDITIONER_IMAGES = 1250
DAMPING = 3e-2            # Share of the mean diagonal to add.


class Pair:
  """The original and the slim network on the same batches of training images.

  Nine tenths of the batches are for fitting, the rest for checking.

  Args:
    original: name -> tensor, the endpoints of the original network.
    slim: name -> tensor, those of the slim one, on the same images.
    images: float32 [batch_size, side, side, 3], what both see.
    original_variables: name -> variable.
    slim_variables: name -> variable.
    step: int64 placeholder; both see batch number step % batches, distorted
      anew in each round.
    batches: number of batches.
    session: open session, in which the original's variables have their values.
    weights: name -> array, those that the slim network starts from.
    random_bits: function of (shape, use, number) that returns an int32 tensor.
  """

  def __init__(self, original, slim, images, original_variables,
               slim_variables, step, batches, session, weights, random_bits):
    self.original, self.slim, self.images = original, slim, images
    self.original_variables = original_variables
    self.slim_variables = slim_variables
    self.step, self.session, self.random_bits = step, session, random_bits
    self.batch_size = images.shape[0].value
    self.fit = range(batches - max(1, batches // 10))
    self.check = range(len(self.fit), batches)
    self.weights = {}
    self.change(weights)

  def change(self, weights):
    """Gives the slim network new weights: name -> array."""
    new = {name: np.float32(value).reshape(
        self.slim_variables[name].shape.as_list())
           for name, value in weights.items()}
    self.weights = {**self.weights, **new}
    checkpoint.assign(self.session, {self.slim_variables[name]: value
                                     for name, value in new.items()})

  def step_to_fit(self, number):
    """The step of batch number 0, 1, ... when the batches to fit repeat."""
    passes, step = divmod(number, len(self.fit))
    return passes * (len(self.fit) + len(self.check)) + step

  def run(self, fetches, step, feeds=None):
    """Runs fetches at a step; feeds: placeholder -> value."""
    return self.session.run(fetches, {self.step: step, **(feeds or {})})

  def rows(self, fetches, steps, label):
    """The fetched matrices, each with the rows of all steps in order."""
    found = None
    for number, step in enumerate(progress.shown(steps, label)):
      parts = self.run(fetches, step)
      if found is None:
        found = [np.empty((len(part) * len(steps),) + part.shape[1:],
                          np.float32) for part in parts]
      for rows, part in zip(found, parts):
        rows[number * len(part):(number + 1) * len(part)] = part
    return found

  def first(self, steps, images):
    """As many of the first steps as this many images fill; one at least."""
    return steps[:max(1, images // self.batch_size)]

  def random_positions(self, inputs, use):
    """Draws LOCATIONS positions in each image of [n, side, side, _]."""
    side = inputs.shape[1].value
    return moments.random_positions(self.random_bits(
        [self.batch_size, side * side], use, self.step), LOCATIONS)


def _moments_with_ones(batches):
  """Moments of the rows of float32 [n, size] arrays, a one appended to each."""
  return moments.second_moments(
      np.concatenate([rows, np.ones_like(rows[:, :1])], 1)
      for rows in batches)


def _refit(pair, layer, fetches, steps, rectified, solves=6):
  """Refits a layer of the slim network, and gives it the new weights.

  Args:
    pair: Pair.
    layer: its name.
    fetches: two tensors, float32 [n, inputs] and [n, units]: what the slim
      layer reads, and what it should give.
    steps: (to fit, to check).
    rectified, solves: as for algebra.refit.

  Returns:
    (details, inputs): what compress.json should say, and the Moments of the
    inputs, a one appended.
  """
  fit, check = (pair.rows(fetches, part, 'Outputs of ' + layer)
                for part in steps)
  inputs = _moments_with_ones(np.array_split(fit[0], -(-len(fit[0]) // 4096)))
  kernel = pair.weights[layer + '/weights']
  weights, biases, details = algebra.refit(
      fit, check, inputs.second, kernel.reshape(-1, kernel.shape[-1]),
      pair.weights[layer + '/biases'], rectified, solves)
  pair.change({layer + '/weights': weights, layer + '/biases': biases})
  return details, inputs


def _conv2_through_relu(pair):
  """Step 1: refits conv2 on sampled positions.

  Args:
    pair: Pair; its slim network gets the new weights.

  Returns:
    (details, inputs): as from _refit.
  """
  # Both networks read the same positions.
  positions = pair.random_positions(pair.slim['norm1'], 'conv2 positions')
  inputs = moments.patches(pair.slim['norm1'], positions)
  kernel = pair.original_variables['conv2/weights']
  targets = tf.nn.bias_add(
      tf.matmul(moments.patches(pair.original['norm1'], positions),
                tf.reshape(kernel, [-1, kernel.shape[-1].value])),
      pair.original_variables['conv2/biases'])
  steps = (pair.first(pair.fit, CONV2_IMAGES),
           pair.first(pair.check, CONV2_IMAGES // 10))
  return _refit(pair, 'conv2', [inputs, targets], steps, True, solves=12)


def _damped_inverse(matrix):
  mean = np.trace(matrix) / len(matrix) or 1.0
  return np.linalg.inv(matrix + DAMPING * mean * np.eye(len(matrix)))


def _preconditioner(pair, conv2_inputs):
  """Computes the matrices that precondition conv1's and conv2's gradients.

  One multiplies a layer's gradient [inputs + 1, units] from the left, one from
  the right: the damped inverses of the second moments of its inputs, and of
  local3's gradients by its outputs (as in Grosse and Martens, ICML 2016, with
  random projections of local3 in place of the loss).

  Args:
    pair: Pair.
    conv2_inputs: Moments, from _conv2_through_relu.

  Returns:
    (left, right) for conv1 and for conv2: float64 arrays.
  """
  few = pair.first(pair.fit, PRECONDITIONER_IMAGES)
  # Random signs project as well as normals: their second moments are the
  # identity.
  output = pair.slim['local3']
  signs = 1 - 2 * tf.bitwise.bitwise_and(
      pair.random_bits(tf.shape(output), 'probes', pair.step), 1)
  # After the ReLUs, which pass no gradient where their output is 0. Of conv1
  # only the pooled maxima matter.
  layers = [pair.slim['pool1'], pair.slim['conv2']]
  felt = []
  for x, gradient in zip(layers, tf.gradients(
      tf.reduce_sum(tf.cast(signs, tf.float32) * output), layers)):
    flat = tf.reshape(tf.where(x > 0, gradient, tf.zeros_like(gradient)),
                      [-1, x.shape[-1].value])
    felt.append(tf.matmul(flat, flat, transpose_a=True))
  right = [sum(parts) / (len(few) * pair.batch_size)
           for parts in zip(*(pair.run(felt, step) for step in few))]

  patches = moments.patches(
      pair.images, pair.random_positions(pair.images, 'conv1 positions'))
  conv1_inputs = _moments_with_ones(pair.run(patches, step) for step in few)
  return [(_damped_inverse(inputs.second / inputs.count),
           _damped_inverse(outputs))
          for inputs, outputs in zip([conv1_inputs, conv2_inputs], right)]


def _convolutions_for_local3(pair, conv2_inputs, optimizer):
  """Step 2: fits conv1 and conv2 together to the original's local3.

  Tries each of RATES, and keeps the weights with the least error on the batches
  held back; the present ones, if no rate improves on them.

  Args:
    pair: Pair; its slim network gets the new weights.
    conv2_inputs: Moments, from _conv2_through_relu.
    optimizer: as for refit_network.

  Returns:
    A dict for compress.json: the relative error before and after, and the rate.
  """
  left_over = pair.original['local3'] - pair.slim['local3']
  squares = [tf.reduce_sum(tf.square(left_over)),
             tf.reduce_sum(tf.square(pair.original['local3']))]
  half_mean = squares[0] / (2 * pair.batch_size)

  # Each layer's weights and biases form one matrix; the preconditioner
  # multiplies its gradient from both sides.
  number, rate = tf.placeholder(tf.int32, []), tf.placeholder(tf.float32, [])
  last = PASSES * len(pair.fit)
  directions, changing = [], {}
  for layer, (left, right) in zip(CONVOLUTIONS,
                                  _preconditioner(pair, conv2_inputs)):
    names = [layer + '/weights', layer + '/biases']
    weights, biases = [pair.slim_variables[name] for name in names]
    gradients = tf.gradients(half_mean, [weights, biases])
    flat = tf.concat([tf.reshape(gradients[0], [-1, biases.shape[0].value]),
                      gradients[1][tf.newaxis]], 0)
    flat = np.float32(left) @ flat @ np.float32(right)
    directions += [(tf.reshape(flat[:-1], weights.shape), weights),
                   (flat[-1], biases)]
    changing.update(zip(names, (weights, biases)))
  rule = optimizer(number, rate, len(pair.fit), last)
  descend = rule.apply_gradients(directions)
  at_rest = tf.variables_initializer(rule.variables())

  def error():
    return sum(np.float64(pair.run(squares, step)) for step in pair.check)

  # Every rate starts from the same weights, with no momentum.
  start, before = {name: pair.weights[name] for name in changing}, error()
  best = before, start, None
  for highest in RATES:
    pair.change(start)
    pair.session.run(at_rest)
    for i in progress.shown(range(last), 'conv1 and conv2, rate %g' % highest):
      pair.run(descend, pair.step_to_fit(i), {number: i, rate: highest})
    best = min(best, (error(), pair.session.run(changing), highest),
               key=lambda found: found[0][0])
  after, weights, highest = best
  pair.change(weights)
  return {'before': float(before[0] / (before[1] or 1.0)),
          'after': float(after[0] / (after[1] or 1.0)), 'rate': highest}


def _dense(pair, layer, inputs, rectified):
  """Step 3, for one layer. Returns what compress.json should say."""
  size = len(pair.weights[layer + '/weights'])
  fetches = [tf.reshape(pair.slim[inputs], [-1, size]), pair.original[layer]]
  details, _ = _refit(pair, layer, fetches, (pair.fit, pair.check), rectified)
  return details


def refit_network(pair, optimizer):
  """Refits conv2, local3, local4 and softmax_linear of a slim network.

  Args:
    pair: Pair; its slim network gets the new weights.
    optimizer: function of (number, rate, steps_per_epoch, last_step) that
      returns the tf.train.Optimizer of step 2: number is the step, an int32
      scalar tensor, rate the highest learning rate, a float32 scalar tensor.

  Returns:
    (weights, layers): name -> float32 array of the slim network, and name of a
    refit -> its relative error before and after, and the ridge or rate that
    this error chose.
  """
  layers = {}
  layers['conv2'], conv2_inputs = _conv2_through_relu(pair)
  layers['convolutions_for_local3'] = _convolutions_for_local3(
      pair, conv2_inputs, optimizer)
  layers['local3'] = _dense(pair, 'local3', 'pool2', True)
  layers['local4'] = _dense(pair, 'local4', 'local3', True)
  layers['softmax_linear'] = _dense(pair, 'softmax_linear', 'local4', False)
  return pair.weights, layers
