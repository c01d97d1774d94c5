"""The CIFAR-10 network of the TensorFlow tutorial, at any conv1 width.

  images, labels = distorted_inputs(seed)
  logits = inference(images, conv1_channels)
  total_loss = loss(logits, labels)
  train_op = train(total_loss, global_step)

At width 64: 1,068,298 parameters and 18,470,784 multiply-adds an image. Also
here, because every script needs them: the shared flags, what a checkpoint of
this network must hold, and how a fault becomes one sentence.
"""
import json
import os
import re
import sys
import tempfile

import cifar10_input
from cifar10_input import UserError

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
tf.enable_resource_variables()
tf.logging.set_verbosity(tf.logging.ERROR)

FLAGS = tf.app.flags.FLAGS
tf.app.flags.DEFINE_string('data_dir', 'data',
                           'Folder that holds, or will hold, %s.' %
                           cifar10_input.FOLDER)
tf.app.flags.DEFINE_string('data_url', cifar10_input.DATA_URL,
                           'Where to download the archive from.')
tf.app.flags.DEFINE_integer('batch_size', 128, 'Images in a batch.',
                            lower_bound=1, upper_bound=50000)

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

LRN_RADIUS, LRN_BIAS, LRN_ALPHA, LRN_BETA = 4, 1.0, 0.001 / 9.0, 0.75

AVERAGE = '/ExponentialMovingAverage'   # Suffix of an averaged variable.
SETTINGS = 'settings'                   # JSON with which a network was made.


# ------------------------------------------------------------------ the data


def maybe_download_and_extract():
  """Downloads the data set to FLAGS.data_dir unless it is there."""
  cifar10_input.download(FLAGS.data_dir, FLAGS.data_url)


def data_folder():
  """The folder of the six data files below FLAGS.data_dir."""
  return os.path.join(FLAGS.data_dir, cifar10_input.FOLDER)


def distorted_inputs(seed, global_step=None):
  """The training batch of the global step; see cifar10_input.

  Args:
    seed: integer.
    global_step: int64 scalar tensor, by default the graph's global step.

  Returns:
    images: float32 [FLAGS.batch_size, 24, 24, 3].
    labels: int32 [FLAGS.batch_size].
  """
  if global_step is None:
    global_step = tf.train.get_or_create_global_step()
  return cifar10_input.distorted_inputs(data_folder(), FLAGS.batch_size, seed,
                                        global_step)


def inputs(eval_data, batch_number):
  """One batch of central crops, the last one short; see cifar10_input.

  Args:
    eval_data: 'test' or 'train_eval'.
    batch_number: int64 scalar tensor, from 0.

  Returns:
    images: float32 [n, 24, 24, 3], n <= FLAGS.batch_size.
    labels: int32 [n].
  """
  return cifar10_input.inputs(eval_data, data_folder(), FLAGS.batch_size,
                              batch_number)


# --------------------------------------------------------------- the network


@tf.custom_gradient
def local_response_normalization(x):
  """tf.nn.lrn(x, 4, 1.0, 0.001 / 9, 0.75), several times faster on processors.

  The sum over neighbouring channels is a product with a band matrix, and the
  gradient is written out (tf.nn.lrn's is a scalar loop):
  y = x N^-b with N = 1 + a W x^2, dx = g N^-b - 2 a b x W(g y / N), and
  N^-0.75 = rsqrt(N) sqrt(rsqrt(N)). benchmarks/README.md has what it gains.

  Args:
    x: float [n, height, width, channels].

  Returns:
    The same shape and dtype, and the gradient function.
  """
  channels = x.shape[-1].value
  offsets = np.subtract.outer(np.arange(channels), np.arange(channels))
  band = (np.abs(offsets) <= LRN_RADIUS).astype(x.dtype.as_numpy_dtype)
  flat = tf.reshape(x, [-1, channels])
  norm = tf.nn.bias_add(tf.matmul(tf.square(flat), LRN_ALPHA * band),
                        tf.fill([channels], tf.constant(LRN_BIAS, x.dtype)))
  root = tf.rsqrt(norm)
  scale = root * tf.sqrt(root)

  def gradient(dy):
    direct = tf.reshape(dy, [-1, channels]) * scale
    across = tf.matmul(direct * flat / norm, 2 * LRN_ALPHA * LRN_BETA * band)
    return tf.reshape(direct - flat * across, tf.shape(x))

  return tf.reshape(flat * scale, tf.shape(x)), gradient


def _activation_summary(x, name):
  """Summaries of a layer's activations and of their sparsity."""
  tf.summary.histogram(name + '/activations', x, collections=['histograms'])
  tf.summary.scalar(name + '/sparsity', tf.nn.zero_fraction(x),
                    collections=['histograms'])


def _variable(name, shape, initializer):
  """A float32 variable, which lives where the computation is."""
  return tf.get_variable(name, shape, tf.float32, initializer)


def _variable_with_weight_decay(name, shape, stddev, wd):
  """A truncated normal variable; adds wd * l2_loss to 'losses' if wd."""
  var = _variable(name, shape, tf.truncated_normal_initializer(stddev=stddev))
  if wd:
    tf.add_to_collection('losses', tf.multiply(tf.nn.l2_loss(var), wd,
                                               name='weight_loss'))
  return var


def _pool(x):
  return tf.nn.max_pool2d(x, 3, 2, 'SAME')


def _convolution(x, name, channels, bias):
  """5x5 convolution, stride 1, with bias and ReLU."""
  with tf.variable_scope(name):
    kernel = _variable_with_weight_decay(
        'weights', [5, 5, x.shape[-1].value, channels], stddev=5e-2, wd=0.0)
    biases = _variable('biases', [channels], tf.constant_initializer(bias))
    pre_activation = tf.nn.bias_add(
        tf.nn.conv2d(x, kernel, 1, 'SAME'), biases, name='pre_activation')
    activation = tf.nn.relu(pre_activation, name=name)
  _activation_summary(activation, name)
  return activation


def _dense(x, name, units, stddev, wd, bias, activation):
  """Fully connected layer; without activation it gives the logits."""
  with tf.variable_scope(name):
    weights = _variable_with_weight_decay(
        'weights', [x.shape[-1].value, units], stddev=stddev, wd=wd)
    biases = _variable('biases', [units], tf.constant_initializer(bias))
    y = tf.nn.bias_add(tf.matmul(x, weights), biases, name='pre_activation')
    if activation:
      y = tf.nn.relu(y, name=name)
  _activation_summary(y, name)
  return y


def inference(images, conv1_channels=CONV1_CHANNELS):
  """Builds the network.

  Args:
    images: float32 [n, 24, 24, 3] from distorted_inputs or inputs; n may be
      unknown.
    conv1_channels: width of the first layer.

  Returns:
    float32 [n, 10]: logits.
  """
  conv1 = _convolution(images, 'conv1', conv1_channels, bias=0.0)
  norm1 = local_response_normalization(_pool(conv1))
  norm1 = tf.identity(norm1, name='norm1')
  conv2 = _convolution(norm1, 'conv2', 64, bias=0.1)
  norm2 = local_response_normalization(conv2)
  pool2 = tf.identity(_pool(norm2), name='pool2')
  flat = tf.reshape(pool2, [-1, 6 * 6 * 64])
  local3 = _dense(flat, 'local3', 384, 0.04, WEIGHT_DECAY, 0.1, True)
  local4 = _dense(local3, 'local4', 192, 0.04, WEIGHT_DECAY, 0.1, True)
  return _dense(local4, 'softmax_linear', NUM_CLASSES, 1 / 192.0, 0.0, 0.0,
                False)


def loss(logits, labels):
  """Mean cross-entropy plus weight decay.

  Args:
    logits: float32 [n, 10].
    labels: int32 [n].

  Returns:
    float32 scalar.
  """
  cross_entropy = tf.reduce_mean(
      tf.nn.sparse_softmax_cross_entropy_with_logits(
          labels=labels, logits=logits), name='cross_entropy')
  tf.add_to_collection('losses', cross_entropy)
  return tf.add_n(tf.get_collection('losses'), name='total_loss')


def _add_loss_summaries(total_loss):
  """Summaries of all losses and of their averages; returns the update op."""
  averages = tf.train.ExponentialMovingAverage(LOSS_AVERAGE_DECAY, name='avg')
  losses = tf.get_collection('losses') + [total_loss]
  update = averages.apply(losses)
  for each in losses:
    tf.summary.scalar(each.op.name + '_raw', each)
    with tf.control_dependencies([update]):
      tf.summary.scalar(each.op.name, averages.average(each))
  return update


def learning_rate_decay(initial_rate, global_step, steps_per_epoch):
  """The tutorial's staircase: a tenth of the rate after every 350 epochs."""
  return tf.train.exponential_decay(
      initial_rate, global_step, int(steps_per_epoch * NUM_EPOCHS_PER_DECAY),
      LEARNING_RATE_DECAY_FACTOR, staircase=True)


def train(total_loss, global_step, learning_rate=None,
          average_decay=MOVING_AVERAGE_DECAY):
  """One step of gradient descent, then of the moving averages.

  Args:
    total_loss: float32 scalar from loss.
    global_step: int64 variable, incremented by the step.
    learning_rate: float32 scalar tensor; by default the tutorial's schedule on
      the full data set.
    average_decay: decay of the moving averages of the weights.

  Returns:
    The operation to run; it ends when the averages are updated.
  """
  if learning_rate is None:
    learning_rate = learning_rate_decay(
        INITIAL_LEARNING_RATE, global_step,
        NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN / FLAGS.batch_size)
  tf.summary.scalar('learning_rate', learning_rate)
  optimizer = tf.train.GradientDescentOptimizer(learning_rate)
  gradients = optimizer.compute_gradients(total_loss)
  apply_gradients = optimizer.apply_gradients(gradients, global_step)
  for gradient, var in gradients:
    tf.summary.histogram(var.op.name, var, collections=['histograms'])
    tf.summary.histogram(var.op.name + '/gradients', gradient,
                         collections=['histograms'])
  averages = tf.train.ExponentialMovingAverage(average_decay, global_step)
  # After the weights: else the average lags a step, or races with the update.
  with tf.control_dependencies([apply_gradients]):
    update_averages = averages.apply(tf.trainable_variables())
  with tf.control_dependencies([update_averages,
                                _add_loss_summaries(total_loss)]):
    return tf.no_op(name='train')


# ---------------------------------------------------------- what is on disk


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


def checkpoints(folder):
  """Prefixes of the finished checkpoints in a folder, newest first.

  A checkpoint is finished when the folder's state file `checkpoint` lists it,
  which is written last. Where that file is lost, every one found counts.

  Raises:
    UserError: the folder does not exist.
  """
  if not os.path.isdir(folder):
    raise UserError('Folder %s does not exist; train a network into it first, '
                    'or name another.' % folder)
  steps = set()
  try:
    with open(os.path.join(folder, 'checkpoint')) as state:
      steps.update(re.findall(r'model\.ckpt-(\d+)"', state.read()))
  except (OSError, UnicodeDecodeError):
    pass
  if not steps:
    for name in os.listdir(folder):
      steps.update(re.findall(r'^model\.ckpt-(\d+)\.index$', name))
  return [os.path.join(folder, 'model.ckpt-' + step)
          for step in sorted(steps, key=int, reverse=True)]


def read_checkpoint(path):
  """Reads and checks every array of a checkpoint of this network.

  Args:
    path: prefix of the checkpoint, as from checkpoints.

  Returns:
    (arrays, settings): name -> NumPy array, and the dict with which the
    network was made (empty if it was made by another program).

  Raises:
    UserError: a file is damaged (every array has a checksum), or holds
      another network.
  """
  try:
    reader = tf.train.load_checkpoint(path)
    arrays = {name: np.asarray(reader.get_tensor(name))
              for name in reader.get_variable_to_shape_map()}
    settings = json.loads(arrays.pop(SETTINGS, np.asarray(b'{}')).item())
    if not isinstance(settings, dict):
      raise ValueError('settings are no dict')
  except (tf.errors.OpError, ValueError, RuntimeError, TypeError) as error:
    raise UserError('Checkpoint %s is damaged or incomplete (%s); remove its '
                    'files, or restore them.' % (
                        path, str(error).split('\n')[0]))
  biases = arrays.get('conv1/biases')
  width = biases.size if biases is not None else CONV1_CHANNELS
  for name, shape in weight_shapes(width).items():
    for variable in (name, name + AVERAGE):
      if variable not in arrays:
        raise UserError('Checkpoint %s lacks %s; name a checkpoint of this '
                        'network, with its averages.' % (path, variable))
      if list(arrays[variable].shape) != shape:
        raise UserError('Checkpoint %s has %s of shape %s, expected %s; name a '
                        'checkpoint of this network.' % (
                            path, variable, list(arrays[variable].shape),
                            shape))
  return arrays, settings


def newest_checkpoint(folder):
  """(path, arrays, settings) of the newest checkpoint, as read_checkpoint.

  Raises:
    UserError: there is none, or it is damaged.
  """
  paths = checkpoints(folder)
  if not paths:
    raise UserError('Folder %s holds no finished checkpoint; train a network '
                    'into it first, or name another.' % folder)
  return (paths[0],) + read_checkpoint(paths[0])


def assign(session, values):
  """Gives variables their values, through their initializers.

  Args:
    session: an open session of the graph that holds the variables.
    values: dict, variable -> array.
  """
  session.run([var.initializer for var in values],
              {var.initial_value: value for var, value in values.items()})


def write_json(path, value):
  """Writes a dict as JSON: a temporary file beside it, then a rename."""
  handle, name = tempfile.mkstemp(prefix='.', suffix='.part',
                                  dir=os.path.dirname(path) or '.')
  try:
    with os.fdopen(handle, 'w') as part:
      json.dump(value, part, indent=1, sort_keys=True)
      part.write('\n')
      part.flush()
      os.fsync(part.fileno())
    os.chmod(name, 0o644)
    os.replace(name, path)
  except BaseException:
    os.unlink(name)
    raise


def session_config():
  """Uses a GPU where there is one, as much of its memory as needed."""
  return tf.ConfigProto(allow_soft_placement=True,
                        gpu_options=tf.GPUOptions(allow_growth=True))


def run(main):
  """tf.app.run, where what the user can put right is one sentence, exit 1."""

  def guarded(argv):
    if len(argv) > 1:
      print('%s: unexpected argument %s; flags begin with --' % (
          os.path.basename(argv[0]), argv[1]), file=sys.stderr)
      return 2
    try:
      return main(argv)
    except (UserError, OSError) as error:
      print('%s: %s' % (os.path.basename(argv[0]), error), file=sys.stderr)
      return 1

  tf.app.run(guarded)
