"""The CIFAR-10 network of the TensorFlow tutorial, at any conv1 width.

  images, labels = distorted_inputs(seed)
  logits = inference(images, conv1_channels)
  total_loss = loss(logits, labels)
  train_op = train(total_loss, global_step)

At width 64: 1,068,298 parameters and 18,470,784 multiply-adds an image. Also here,
for every script: the shared flags, and how a fault becomes one sentence.
"""
import collections
import os
import sys
import zlib

import cifar10_input
from support import operations
from cifar10_input import UserError

from absl import app
import numpy as np
import tensorflow.compat.v1 as tf

tf.logging.set_verbosity(tf.logging.ERROR)
tf.disable_v2_behavior()
tf.enable_resource_variables()

FLAGS = tf.app.flags.FLAGS
tf.app.flags.DEFINE_string('data_dir', 'data',
                           'Folder that holds, or will hold, %s.' %
                           cifar10_input.FOLDER)
tf.app.flags.DEFINE_string('data_url', cifar10_input.DATA_URL,
                           'Where to download the archive from.')
tf.app.flags.DEFINE_integer('batch_size', 128, 'Images in a batch.',
                            lower_bound=1, upper_bound=50000)
tf.app.flags.DEFINE_string('checkpoint_dir', None,
                           'Folder whose newest checkpoint is read.')
tf.app.flags.DEFINE_integer('conv1_channels', None, 'Width of the first layer.',
                            lower_bound=1, upper_bound=4096)
tf.app.flags.DEFINE_integer('seed', 0, 'Of everything that is random.',
                            lower_bound=0, upper_bound=2**31 - 1)

IMAGE_SIZE = cifar10_input.IMAGE_SIZE
NUM_CLASSES = cifar10_input.NUM_CLASSES
NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN = (
    cifar10_input.NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN)
NUM_EXAMPLES_PER_EPOCH_FOR_EVAL = cifar10_input.NUM_EXAMPLES_PER_EPOCH_FOR_EVAL

CONV1_CHANNELS = 64             # Width before compression.
MOVING_AVERAGE_DECAY = 0.9999
LOSS_AVERAGE_DECAY = 0.9
NUM_EPOCHS_PER_DECAY = 350.0    # Epochs after which the learning rate decays.
LEARNING_RATE_DECAY_FACTOR = 0.1
INITIAL_LEARNING_RATE = 0.1
WEIGHT_DECAY = 0.004            # Of local3 and local4.
WARMUP = 0.05                   # Share of a linear schedule with a rising rate.

# convolution_rate: how many times as fast conv1 and conv2 learn as the rest.
# warmup_steps: the rate of a linear schedule rises no faster than over these.
# preconditioned: conv1 and conv2, by support/preconditioner.py.
Schedule = collections.namedtuple(
    'Schedule', 'epochs learning_rate linear momentum average_decay '
                'label_smoothing convolution_rate warmup_steps preconditioned')
SCHEDULES = {
    'published': Schedule(128, INITIAL_LEARNING_RATE, False, 0.0,
                          MOVING_AVERAGE_DECAY, 0.0, 1.0, 0, False),
    'fast': Schedule(50, 0.02, True, 0.9, 0.999, 0.1, 4.0, 0, False),
    'finetune': Schedule(20, 0.01, True, 0.9, 0.999, 0.0, 1.5, 350, True),
}

DISTILLATION_WEIGHT, DISTILLATION_TEMPERATURE = 0.9, 4.0
AVERAGE = '/ExponentialMovingAverage'   # Suffix of an averaged variable.


# ------------------------------------------------------------------ the data


def maybe_download_and_extract():
  """Downloads the data set to FLAGS.data_dir unless it is there."""
  cifar10_input.download(FLAGS.data_dir, FLAGS.data_url)


def data_folder():
  """The folder of the six data files below FLAGS.data_dir."""
  return os.path.join(FLAGS.data_dir, cifar10_input.FOLDER)


def distorted_inputs(seed, global_step=None, stream='training', parts=1):
  """The training batch of the global step; see cifar10_input.

  Args:
    seed: integer.
    global_step: int64 scalar tensor, by default the graph's global step.
    stream: what the batches are for.
    parts: how many parts of the batch to make side by side.

  Returns:
    images: float32 [FLAGS.batch_size, 24, 24, 3].
    labels: int32 [FLAGS.batch_size].
  """
  if global_step is None:
    global_step = tf.train.get_or_create_global_step()
  return cifar10_input.distorted_inputs(data_folder(), FLAGS.batch_size, seed,
                                        global_step, stream, parts)


def inputs(eval_data, batch_number):
  """One batch of central crops, the last one filled up; see cifar10_input.

  Args:
    eval_data: 'test' or 'train_eval'.
    batch_number: int64 scalar tensor, from 0.

  Returns:
    images: float32 [n, 24, 24, 3], n <= FLAGS.batch_size.
    labels: int32 [n], -1 where the images have ended.
  """
  return cifar10_input.inputs(eval_data, data_folder(), FLAGS.batch_size,
                              batch_number)


# --------------------------------------------------------------- the network


def _activation_summary(parts, name):
  """Summaries of a layer's activations and of their sparsity."""
  x = tf.concat(parts, 0)
  tf.summary.histogram(name + '/activations', x, collections=['histograms'])
  tf.summary.scalar(name + '/sparsity', tf.nn.zero_fraction(x),
                    collections=['histograms'])


def _variable(name, shape, initializer):
  """A float32 variable, which lives where the computation is."""
  return tf.get_variable(name, shape, tf.float32, initializer)


def _variable_with_weight_decay(name, shape, stddev, wd):
  """A truncated normal variable; adds wd * l2_loss to 'losses' if wd.

  Its initial value follows from the graph's seed and its own name, whatever else
  the graph holds.
  """
  full_name = '%s/%s' % (tf.get_variable_scope().name, name)
  var = _variable(name, shape, tf.truncated_normal_initializer(
      stddev=stddev, seed=zlib.crc32(full_name.encode()) % 2**31))
  if wd:
    tf.add_to_collection('losses', tf.multiply(tf.nn.l2_loss(var), wd,
                                               name='weight_loss'))
  return var


def _pool(x):
  return tf.nn.max_pool2d(x, 3, 2, 'SAME')


def _product(operation, x, weights, dtype):
  """A convolution or matrix product of operands of that type."""
  return operation(tf.cast(x, dtype), tf.cast(weights, dtype))


def _convolution(parts, name, channels, bias, pooled, dtype):
  """5x5 convolution with bias and ReLU; then max-pooled, if asked."""
  activations, results = [], []
  with tf.variable_scope(name):
    kernel = _variable_with_weight_decay(
        'weights', [5, 5, parts[0].shape[-1].value, channels], stddev=5e-2,
        wd=0.0)
    biases = _variable('biases', [channels], tf.constant_initializer(bias))
    for x in parts:
      products = _product(operations.convolution, x, kernel, dtype)
      activations.append(tf.nn.relu(tf.cast(products, tf.float32) + biases))
      if pooled:
        # Max commutes with a per-channel bias and with ReLU, so pooling first
        # is the same function on a quarter of the pixels.
        products = _pool(products)
      pre_activation = tf.nn.bias_add(tf.cast(products, tf.float32), biases,
                                      name='pre_activation')
      results.append(tf.nn.relu(pre_activation, name=name))
  _activation_summary(activations, name)   # Costs nothing until it is written.
  return results


def _dense(parts, name, units, stddev, wd, bias, activation, dtype):
  """Fully connected layer; without activation it gives the logits."""
  results = []
  with tf.variable_scope(name):
    weights = _variable_with_weight_decay(
        'weights', [parts[0].shape[-1].value, units], stddev=stddev, wd=wd)
    biases = _variable('biases', [units], tf.constant_initializer(bias))
    for x in parts:
      products = _product(tf.matmul, x, weights, dtype)
      y = tf.nn.bias_add(tf.cast(products, tf.float32), biases,
                         name='pre_activation')
      results.append(tf.nn.relu(y, name=name) if activation else y)
  _activation_summary(results, name)
  return results


def batch_parts():
  """In how many parts to compute a batch: two, on two cores or more.

  Each part then has half of the cores for itself, and its operations wait for
  those of the other only where the gradients meet, not, as when every operation
  is spread over all cores, at the end of each. A GPU gets the whole.
  """
  alone = operations.on_gpu() or operations.cores() < 2 or FLAGS.batch_size < 2
  return 1 if alone else 2


def inference(images, conv1_channels=CONV1_CHANNELS, precision='float32',
              parts=1):
  """Builds the network.

  Args:
    images: float32 [n, 24, 24, 3] from distorted_inputs or inputs; n may be
      unknown where parts is 1.
    conv1_channels: width of the first layer.
    precision: 'float32', or 'bfloat16' for the operands of convolutions and
      matrix products; all else is float32 in both.
    parts: how many parts of the batch to compute side by side, on the same
      weights; changes nothing but the rounding of gradients.

  Returns:
    float32 [n, 10]: logits.
  """
  dtype, sizes = tf.as_dtype(precision), 1
  if parts > 1:
    n = images.shape[0].value
    sizes = [n * (i + 1) // parts - n * i // parts for i in range(parts)]
  normalized = operations.local_response_normalization
  pool1 = _convolution(tf.split(images, sizes), 'conv1', conv1_channels, 0.0,
                       True, dtype)
  norm1 = [tf.identity(normalized(x), name='norm1') for x in pool1]
  conv2 = _convolution(norm1, 'conv2', 64, 0.1, False, dtype)
  pool2 = [tf.identity(_pool(normalized(x)), name='pool2') for x in conv2]
  flat = [tf.reshape(x, [-1, 6 * 6 * 64]) for x in pool2]
  local3 = _dense(flat, 'local3', 384, 0.04, WEIGHT_DECAY, 0.1, True, dtype)
  local4 = _dense(local3, 'local4', 192, 0.04, WEIGHT_DECAY, 0.1, True, dtype)
  logits = _dense(local4, 'softmax_linear', NUM_CLASSES, 1 / 192.0, 0.0, 0.0,
                  False, dtype)
  return tf.concat(logits, 0)


def weight_shapes(conv1_channels):
  """Name -> shape of every trainable variable at a width of conv1."""
  shapes = {}
  for name, kernel in [('conv1', [5, 5, 3, conv1_channels]),
                       ('conv2', [5, 5, conv1_channels, 64]),
                       ('local3', [2304, 384]), ('local4', [384, 192]),
                       ('softmax_linear', [192, NUM_CLASSES])]:
    shapes[name + '/weights'] = kernel
    shapes[name + '/biases'] = kernel[-1:]
  return shapes


def cost(conv1_channels):
  """(multiply-adds of one image, parameters) at a width of conv1."""
  positions = {'conv1': 24 * 24, 'conv2': 12 * 12}
  multiply_adds = parameters = 0
  for name, shape in weight_shapes(conv1_channels).items():
    size = int(np.prod(shape))
    parameters += size
    if name.endswith('/weights'):
      multiply_adds += size * positions.get(name.split('/')[0], 1)
  return multiply_adds, parameters


def constant_logits(images, weights, parts=1):
  """The logits of a network whose weights are constants: a teacher's.

  Args:
    images: float32 [n, 24, 24, 3].
    weights: name -> array, for the names of weight_shapes.
    parts: as for inference.

  Returns:
    float32 [n, 10].
  """
  with tf.Graph().as_default() as graph:   # Its losses and summaries stay there.
    source = tf.placeholder(images.dtype, images.shape, 'images')
    with tf.variable_scope('', custom_getter=lambda getter, name, *_, **__:
                           tf.constant(weights[name])):
      tf.identity(inference(source, weights['conv1/biases'].size,
                            parts=parts), name='logits')
  return tf.stop_gradient(tf.import_graph_def(
      graph.as_graph_def(), {'images:0': images}, ['logits:0'], 'teacher')[0])


def loss(logits, labels, label_smoothing=0.0, teacher=None):
  """Mean cross-entropy plus weight decay.

  Args:
    logits: float32 [n, 10].
    labels: int32 [n].
    label_smoothing: share of the targets that is spread evenly over the classes
      (Szegedy et al., CVPR 2016, section 7).
    teacher: float32 [n, 10], logits to imitate as well: the cross-entropy is
      then (1 - w) times that of the labels plus w T^2 times that of the
      teacher's probabilities, both networks' at temperature T (Hinton, Vinyals
      and Dean, 2015, section 2).

  Returns:
    float32 scalar.
  """
  def mean_cross_entropy(targets, logits):
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(
        labels=tf.stop_gradient(targets), logits=logits))
  spread = label_smoothing / NUM_CLASSES
  targets = tf.one_hot(labels, NUM_CLASSES, 1 - label_smoothing + spread, spread)
  cross_entropy = mean_cross_entropy(targets, logits)
  if teacher is not None:
    weight, temperature = DISTILLATION_WEIGHT, DISTILLATION_TEMPERATURE
    cross_entropy = ((1 - weight) * cross_entropy + weight * temperature**2 *
                     mean_cross_entropy(tf.nn.softmax(teacher / temperature),
                                        logits / temperature))
  cross_entropy = tf.identity(cross_entropy, name='cross_entropy')
  tf.add_to_collection('losses', cross_entropy)
  return tf.add_n(tf.get_collection('losses'), name='total_loss')


def _add_loss_summaries(total_loss):
  """Summaries of all losses and of their averages; returns the update op."""
  averages = tf.train.ExponentialMovingAverage(LOSS_AVERAGE_DECAY, name='avg')
  losses = tf.get_collection('losses') + [total_loss]
  update = averages.apply(losses)
  for each in losses:
    tf.summary.scalar('losses_raw/' + each.op.name, each)
    with tf.control_dependencies([update]):
      tf.summary.scalar('losses/' + each.op.name, averages.average(each))
  return update


def learning_rate_at(global_step, schedule, rate, steps_per_epoch, last_step):
  """The learning rate of a step.

  Args:
    global_step: integer scalar tensor.
    schedule: a Schedule.
    rate: its highest value.
    steps_per_epoch: float.
    last_step: the step after the last one, where a linear rate reaches 0.

  Returns:
    float32 scalar tensor.
  """
  if not schedule.linear:
    return tf.train.exponential_decay(
        rate, global_step, int(steps_per_epoch * NUM_EPOCHS_PER_DECAY),
        LEARNING_RATE_DECAY_FACTOR, staircase=True)
  step = tf.cast(global_step, tf.float32)
  warmup = max(1.0, WARMUP * last_step)
  return rate * tf.minimum((step + 1) / max(warmup, schedule.warmup_steps),
                           (last_step - step) / (last_step - warmup))


def train(total_loss, global_step, learning_rate=INITIAL_LEARNING_RATE,
          momentum=0.0, average_decay=MOVING_AVERAGE_DECAY,
          convolution_rate=1.0, preconditioners=()):
  """One step of gradient descent, then of the moving averages.

  Args:
    total_loss: float32 scalar from loss.
    global_step: int64 variable, incremented by the step.
    learning_rate: float32 scalar, as from learning_rate_at.
    momentum: Nesterov's; 0 for plain gradient descent.
    average_decay: decay of the moving averages of the weights.
    convolution_rate: of conv1 and conv2, times learning_rate.
    preconditioners: name -> matrix to multiply the gradient of that kernel by.

  Returns:
    The operation to run; it ends when the averages are updated.
  """
  tf.summary.scalar('learning_rate', learning_rate)
  optimizer = (
      tf.train.MomentumOptimizer(learning_rate, momentum, use_nesterov=True)
      if momentum else tf.train.GradientDescentOptimizer(learning_rate))
  next_step = tf.identity(global_step) + 1
  averages = tf.train.ExponentialMovingAverage(average_decay, next_step)
  updates = [_add_loss_summaries(total_loss)]
  for gradient, var in optimizer.compute_gradients(total_loss):
    name = var.op.name
    for kind, value in (('values', var), ('gradients', gradient)):
      tf.summary.histogram('%s/%s' % (name, kind), value,
                           collections=['histograms'])
    if name.startswith('conv'):
      gradient *= convolution_rate   # The update is linear in it.
    if name in preconditioners:
      rows = tf.reshape(gradient, [-1, var.shape[-1].value])
      gradient = tf.reshape(preconditioners[name] @ rows, var.shape)
    # After its weights: else the average lags a step, or races with the update.
    # But not after all weights: the others' gradients may not be there yet.
    with tf.control_dependencies([optimizer.apply_gradients([(gradient, var)])]):
      updates.append(averages.apply([var]))
  with tf.control_dependencies(updates):
    return tf.group(global_step.assign(next_step), name='train')


# ------------------------------------------------------------ for all scripts


def assign(session, values):
  """Gives variables their values, through their initializers.

  Args:
    session: an open session of the graph that holds the variables.
    values: dict, variable -> array.
  """
  session.run([var.initializer for var in values],
              {var.initial_value: value for var, value in values.items()})


def session_config(parts=1):
  """Uses a GPU where there is one, as much of its memory as needed; the parts of
  a batch share the cores."""
  return tf.ConfigProto(
      allow_soft_placement=True,
      intra_op_parallelism_threads=operations.cores() // parts,
      gpu_options=tf.GPUOptions(allow_growth=True))


def run(main):
  """absl's app.run, where what the user can put right is one sentence.

  Exit codes: 1 for a fault named by a UserError or by the system, 2 for a
  flag that is wrong.
  """
  program = os.path.basename(sys.argv[0])

  def refuse(error, code):
    print('%s: %s' % (program, error), file=sys.stderr)
    sys.exit(code)

  def parse(argv):
    try:
      rest = FLAGS(argv)
    except tf.app.flags.Error as error:
      refuse('%s; see --help.' % error, 2)
    # The scripts share definitions, but none takes a flag that it ignores.
    key = {flag.name for flag in
           FLAGS.get_key_flags_for_module(sys.modules[main.__module__])}
    ours = {flag.name for module, flags in FLAGS.flags_by_module_dict().items()
            if not module.startswith('absl') for flag in flags}
    for name in sorted(ours - key):
      if FLAGS[name].present:
        refuse('Flag --%s is not for this script; see --help.' % name, 2)
    if len(rest) > 1:
      refuse('Unexpected argument %s; flags begin with --.' % rest[1], 2)
    return rest

  def guarded(argv):
    try:
      return main(argv)
    except (UserError, OSError) as error:
      refuse(error, 1)

  app.run(guarded, flags_parser=parse)
