"""Refits a slim network to the network it came from, without a label.

Training images go through both networks, and the slim one is fitted to what the
original gives. The steps:

1. each layer after a pruned one, front to back: least squares fits its
   pre-activations to the original's, through the ReLU that follows, given what
   the slim network feeds to it (algebra.refit; of conv2, on sampled positions);
2. all layers together: gradient descent on the squared error of the logits,
   with the preconditioners of fine-tuning (thinet/precondition.py).
"""
from thinet import algebra
from thinet import checkpoint
from thinet import loop
from thinet import moments
from thinet import operations
from thinet import precondition
from thinet import progress
from thinet import prune
from thinet import tensorflow as tf

import numpy as np

LOCATIONS = 10            # Positions of conv2 in each image, for step 1.
CONV2_IMAGES = 10000      # Images for step 1 of conv2.
PASSES = 6                # Over the images to fit, in step 2.
RATES = 0.004, 0.001      # The second if the first does not lower the error.
CONVOLUTION_RATE = 1.5    # Rate of conv1 and conv2 over the others'.


class Pair:
  """The original and the slim network on the same batches of training images.

  Nine tenths of the batches are for fitting, the rest for checking.

  Args:
    build: function of an int64 scalar tensor, a step, that returns (images,
      original, slim): float32 [batch_size, side, side, 3], and what the two
      networks make of them, name -> endpoint. Both see batch number step %
      batches, distorted anew in each round. Their variables, which all calls
      share, have the names of scopes 'original' and 'slim'.
    kept: layer -> indices of the original's outputs that the slim one has; all,
      where absent.
    batches: number of batches.
    session: session in the graph of the networks.
    original_weights: name -> array.
    weights: name -> array, those that the slim network starts from.
    random_bits: function of (shape, use, number) that returns an int32 tensor.
  """

  def __init__(self, build, kept, batches, session, original_weights, weights,
               random_bits):
    self.build, self.kept = build, kept
    self.session, self.random_bits = session, random_bits
    self.step = tf.placeholder(tf.int64, [])
    self.images, self.original, self.slim = build(self.step)
    self.batch_size = self.images.shape[0].value
    self.fit = range(batches - max(1, batches // 10))
    self.check = range(len(self.fit), batches)
    self.original_variables, self.slim_variables = (
        {var.op.name[len(scope):]: var for var in tf.trainable_variables(scope)}
        for scope in ('original/', 'slim/'))
    session.run(tf.local_variables_initializer())
    checkpoint.assign(session, {self.original_variables[name]: value
                                for name, value in original_weights.items()})
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

  def target(self, layer, outputs=None):
    """What the slim layer should give: the kept outputs of the original's.

    Args:
      layer: name of the layer.
      outputs: tensor [..., units of the original]; by default its endpoint.
    """
    if outputs is None:
      outputs = self.original[layer]
    if layer not in self.kept:
      return outputs
    return tf.gather(outputs, self.kept[layer], axis=-1)

  def step_to_fit(self, number):
    """The step of batch number 0, 1, ... when the batches to fit repeat."""
    return number + number // len(self.fit) * len(self.check)

  def run(self, fetches, step):
    """Runs fetches at a step."""
    return self.session.run(fetches, {self.step: step})

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
    """The first steps that this many images fill; at least one."""
    return steps[:max(1, images // self.batch_size)]

  def random_positions(self, inputs, use):
    """Draws LOCATIONS positions in each image of [n, side, side, _]."""
    side = inputs.shape[1].value
    return moments.random_positions(self.random_bits(
        [self.batch_size, side * side], use, self.step), LOCATIONS)


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
    A dict for compress.json.
  """
  fit, check = (pair.rows(fetches, part, 'Outputs of ' + layer)
                for part in steps)
  inputs = moments.second_moments(
      np.concatenate([rows, np.ones_like(rows[:, :1])], 1)
      for rows in np.array_split(fit[0], -(-len(fit[0]) // moments.BLOCK)))
  kernel = pair.weights[layer + '/weights']
  weights, biases, details = algebra.refit(
      fit, check, inputs.second, kernel.reshape(-1, kernel.shape[-1]),
      pair.weights[layer + '/biases'], rectified, solves)
  pair.change({layer + '/weights': weights, layer + '/biases': biases})
  return details


def _conv2(pair):
  """Step 1 for conv2, on sampled positions; returns as _refit."""
  # Both networks read the same positions.
  positions = pair.random_positions(pair.slim['norm1'], 'conv2 positions')
  kernel, biases = (pair.target('conv2', pair.original_variables[name])
                    for name in ('conv2/weights', 'conv2/biases'))
  targets = tf.nn.bias_add(
      tf.matmul(moments.patches(pair.original['norm1'], positions),
                tf.reshape(kernel, [-1, kernel.shape[-1].value])), biases)
  steps = (pair.first(pair.fit, CONV2_IMAGES),
           pair.first(pair.check, CONV2_IMAGES // 10))
  return _refit(pair, 'conv2', [
      moments.patches(pair.slim['norm1'], positions), targets], steps, True,
                solves=12)


def _dense(pair, layer):
  """Step 1 for a dense layer; returns as _refit."""
  inputs = {'local3': 'pool2', 'local4': 'local3', 'softmax_linear': 'local4'}
  size = len(pair.weights[layer + '/weights'])
  fetches = [tf.reshape(pair.slim[inputs[layer]], [-1, size]),
             pair.target(layer)]
  return _refit(pair, layer, fetches, (pair.fit, pair.check),
                layer != 'softmax_linear')


class _Descent:
  """Step 2: gradient descent of all layers for the original's logits.

  Args:
    pair: Pair.
    descend: as for refit_network.
  """

  def __init__(self, pair, descend):
    self._pair, self._descend = pair, descend
    there = tf.local_variables()
    self._matrices = precondition.in_variables(precondition.matrices(
        {'conv1/weights': pair.images, 'conv2/weights': pair.slim['norm1']},
        lambda rows, number: pair.run(rows, pair.step_to_fit(number))))
    self._last = PASSES * len(pair.fit)
    self._number = tf.Variable(0, trainable=False, dtype=tf.int64)
    self._rate = tf.Variable(0.0, trainable=False)
    self._plain = self._step()[1]
    self._loop = loop.Loop(self._step) if operations.on_gpu() else None
    # The descent's own variables (number, rate, momentum), then the images,
    # orders, seeds and matrices of its graphs.
    self._at_first = tf.variables_initializer(
        [var for var in tf.global_variables() if not var.trainable])
    pair.session.run([self._at_first, tf.variables_initializer(
        [var for var in tf.local_variables() if var not in there])])
    if self._loop and not self._loop.compile(pair.session):
      self._loop = None

  def _step(self):
    """Builds a step; returns (loss, operation)."""
    pair, number = self._pair, self._number.read_value()
    _, original, slim = pair.build(pair.step_to_fit(number))
    loss = _squares(original, slim)[0] / (
        2 * pair.batch_size * slim['softmax_linear'].shape[1].value)
    gradients = [
        (var, precondition.direction(name, gradient, CONVOLUTION_RATE,
                                     self._matrices))
        for (name, var), gradient in zip(
            pair.slim_variables.items(),
            tf.gradients(loss, list(pair.slim_variables.values())))]
    updates = self._descend(gradients, number, self._rate, self._last)
    with tf.control_dependencies([updates]):
      return loss, self._number.assign_add(1).op

  def run(self, rate):
    """Descends from the present weights; rate is the highest learning rate."""
    session, many = self._pair.session, self._loop
    count = len(self._pair.fit) if many else 1   # Of steps at a time.
    made = [many.made, {many.count: count}] if many else [self._plain]
    session.run(self._at_first)
    checkpoint.assign(session, {self._rate: np.float32(rate)})
    for _ in progress.shown(range(0, self._last, count),
                            'All layers, rate %g' % rate):
      session.run(*made)


def _squares(original, slim):
  """Sums of squares of the logits' error and of the original's logits."""
  target, logits = original['softmax_linear'], slim['softmax_linear']
  return [tf.reduce_sum(tf.square(logits - target)),
          tf.reduce_sum(tf.square(target))]


def _all_layers(pair, descend):
  """Step 2: fits all layers together to the original's logits.

  Keeps the present weights, if no rate lowers the error on the batches held
  back.

  Args:
    pair: Pair; its slim network gets the new weights.
    descend: as for refit_network.

  Returns:
    A dict for compress.json: the relative error before and after, and the rate.
  """
  squares = _squares(pair.original, pair.slim)

  def error():
    left, whole = sum(np.float64(pair.run(squares, step))
                      for step in pair.check)
    return float(left / (whole or 1.0))

  descent = _Descent(pair, descend)
  start = dict(pair.weights)
  before = error()
  for rate in RATES:
    pair.change(start)
    descent.run(rate)
    after = error()
    if after < before:   # Not if it is not a number.
      pair.change(pair.session.run(pair.slim_variables))
      return {'before': before, 'after': after, 'rate': rate}
  pair.change(start)
  return {'before': before, 'after': before, 'rate': None}


def refit_network(pair, descend):
  """Refits the slim network; see above.

  Args:
    pair: Pair; its slim network gets the new weights.
    descend: function of (gradients, number, rate, last_step) that returns the
      operation of a descent's step: gradients is a list of (variable, tensor),
      number the step, an int64 scalar tensor, rate the highest learning rate, a
      float32 scalar tensor.

  Returns:
    (weights, layers): name -> float32 array of the slim network, and name of a
    refit -> its relative error before and after, and the ridge or rate that
    this error chose.
  """
  layers, changed = {}, False
  for layer in prune.CHAIN:
    if changed:
      layers[layer] = (_conv2(pair) if layer == 'conv2' else
                       _dense(pair, layer))
    kept = pair.kept.get(layer)
    changed = changed or (kept is not None and
                          len(kept) < pair.original[layer].shape[-1].value)
  layers['all'] = _all_layers(pair, descend)
  return pair.weights, layers
