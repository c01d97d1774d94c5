"""The CIFAR-10 network of the TensorFlow tutorial, with layers of any width.

  images, labels = distorted_inputs()
  logits = inference(images)
  total_loss = loss(logits, labels)
  train_op = train(total_loss, global_step)

A local variable holds the data set, so run tf.local_variables_initializer(),
too. With the tutorial's widths the network has 1,068,298 parameters and takes
18,470,784 multiply-adds an image.

Different from the tutorial, on purpose: runs resume, and nothing is deleted at
the start; evaluation counts 10,000 images, not 10,112; the averages are updated
after the weights; tf.nn.lrn is a product with a band matrix, and on processors
conv2 runs by Winograd's algorithm in float32 and each batch in two towers: the
same functions within rounding.

The scripts share two more things: the common flags, and run, which turns an
error that the user can put right into one sentence.
"""
import contextlib
import math
import os
import re
import shlex
import signal
import sys
import typing
import zlib

import cifar10_input
from cifar10_input import UserError
from thinet import checkpoint
from thinet import devices
from thinet import files
from thinet import operations
from thinet import precondition
from thinet import tensorflow as tf

import numpy as np

FLAGS = tf.app.flags.FLAGS
tf.app.flags.DEFINE_string('data_dir', 'data',
                           'Folder that holds, or will hold, %s.' %
                           cifar10_input.FOLDER)
tf.app.flags.DEFINE_string('data_url', cifar10_input.DATA_URL,
                           'Where to download the archive from.')
tf.app.flags.DEFINE_integer('batch_size', 128, 'Images in a batch.',
                            lower_bound=1, upper_bound=50000)
tf.app.flags.DEFINE_string('checkpoint_dir', None,
                           'Required. Folder whose newest checkpoint is read.')
tf.app.flags.DEFINE_boolean('evaluate', False, 'At the end, rate the network '
                            'on the test images, as cifar10_eval.py does.')
tf.app.flags.DEFINE_integer('seed', 0, 'Seed of all random numbers.',
                            lower_bound=0, upper_bound=2**31 - 1)

IMAGE_SIZE = cifar10_input.IMAGE_SIZE
NUM_CLASSES = cifar10_input.NUM_CLASSES
NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN = (
    cifar10_input.NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN)
NUM_EXAMPLES_PER_EPOCH_FOR_EVAL = cifar10_input.NUM_EXAMPLES_PER_EPOCH_FOR_EVAL

CONV2_POSITIONS = (IMAGE_SIZE // 2)**2   # Outputs of each of its filters.
MOVING_AVERAGE_DECAY = 0.9999
LOSS_AVERAGE_DECAY = 0.9
NUM_EPOCHS_PER_DECAY = 350.0    # Epochs after which the learning rate decays.
LEARNING_RATE_DECAY_FACTOR = 0.1
INITIAL_LEARNING_RATE = 0.1
WEIGHT_DECAY = 0.004            # For the weights of local3 and local4.
WARMUP = 0.05                   # Share of steps in which a linear rate rises.

# Errors that the user, or the system's owner, can put right.
FAULTS = (UserError, files.FileError, OSError)

# Requests to end: a closed terminal, Ctrl-C, Ctrl-\, kill, and what batch
# systems send ahead of a limit.
STOPS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM,
         signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
SECONDS_TO_STOP = 3     # Then a script that has not ended is cut off.


class Widths(typing.NamedTuple):
  """Outputs of the layers before the last; by default the tutorial's."""
  conv1_channels: int = 64
  conv2_channels: int = 64
  local3_units: int = 384
  local4_units: int = 192


LAYERS = [name.split('_')[0] for name in Widths._fields]

for _name in Widths._fields:
  tf.app.flags.DEFINE_integer(_name, None, 'See each script.', lower_bound=1,
                              upper_bound=4096)


class Schedule(typing.NamedTuple):
  """The optimizer and the learning rate of a training."""
  name: str
  epochs: float
  learning_rate: float                 # The highest.
  linear: bool = False                 # Rises, then falls to 0; else by steps.
  momentum: float = 0.0                # Nesterov's.
  average_decay: float = MOVING_AVERAGE_DECAY
  label_smoothing: float = 0.0
  convolution_rate: float = 1.0        # Rate of conv1, conv2 over the others'.
  warmup_steps: int = 0                # Least length of a linear rate's rise.


PUBLISHED = Schedule('published', epochs=128,
                     learning_rate=INITIAL_LEARNING_RATE)
FAST = Schedule('fast', epochs=50, learning_rate=0.02, linear=True,
                momentum=0.9, average_decay=0.999, label_smoothing=0.1,
                convolution_rate=4.0)


# ------------------------------------------------------------------ the data


def _tutorial_flags():
  """FLAGS; with their defaults in a notebook, whose arguments are not ours."""
  if not FLAGS.is_parsed():
    FLAGS(sys.argv[:1])
  return FLAGS


def maybe_download_and_extract():
  """Downloads the data set to FLAGS.data_dir unless it is there.

  Raises:
    UserError: the archive cannot be fetched, or is not the official one.
  """
  _tutorial_flags()
  cifar10_input.download(FLAGS.data_dir, FLAGS.data_url)


def data_folder():
  """Path of the folder in FLAGS.data_dir, or itself, that holds the data."""
  return cifar10_input.data_folder(_tutorial_flags().data_dir)


def checked_data(eval_data):
  """Downloads the data if need be, and checks them; see cifar10_input.verify.

  Args:
    eval_data: as for cifar10_input.data_files.

  Returns:
    (number of images, digest) of these data.

  Raises:
    UserError: they cannot be fetched or used.
  """
  maybe_download_and_extract()
  return cifar10_input.verify(cifar10_input.data_files(data_folder(),
                                                       eval_data))


def shuffled_images(positions, seed, stream):
  """Gathers training images as they are, from an endless shuffled sequence.

  Args:
    positions: as for cifar10_input.shuffled_indices, and so are seed and
      stream.

  Returns:
    images: uint8 [n, 32, 32, 3].
    labels: int32 [n].
  """
  records = cifar10_input.read_cifar10(
      cifar10_input.data_files(data_folder(), 'train_eval'))
  return cifar10_input.images_and_labels(
      records, cifar10_input.shuffled_indices(
          positions, records.shape[0].value, seed, stream))


def distorted_inputs(seed=0, global_step=None, stream='training', parts=1):
  """Makes the training batch of a step; see cifar10_input.

  Args:
    seed: integer.
    global_step: int64 scalar tensor, by default the graph's global step.
    stream: name of the sequence of batches; another name has other batches.
    parts: number of parts of the batch to make side by side.

  Returns:
    images: float32 [FLAGS.batch_size, 24, 24, 3].
    labels: int32 [FLAGS.batch_size].
  """
  if global_step is None:
    global_step = tf.train.get_or_create_global_step()
  return cifar10_input.distorted_inputs(data_folder(), FLAGS.batch_size, seed,
                                        global_step, stream, parts)


def inputs(eval_data, batch_number=None):
  """Makes a batch of central crops; see cifar10_input.

  Args:
    eval_data: True or 'test' for the test images, False or 'train_eval' for the
      training images.
    batch_number: int64 scalar tensor, from 0; by default each run gives the
      next batch, for ever.

  Returns:
    images: float32 [n, 24, 24, 3], n <= FLAGS.batch_size.
    labels: int32 [n], -1 where the images have ended.
  """
  return cifar10_input.inputs(eval_data, data_folder(), FLAGS.batch_size,
                              batch_number)


# --------------------------------------------------------------- the network


def _activation_summary(x):
  """Adds summaries of a layer's activations and of their sparsity."""
  if tf.get_variable_scope().reuse is True:
    return   # The first tower's summaries are enough.
  name = x.op.name.split('/')[-1]
  tf.summary.histogram(name + '/activations', x, collections=['histograms'])
  tf.summary.scalar(name + '/sparsity', tf.nn.zero_fraction(x),
                    collections=['histograms'])


def _variable(name, shape, initializer):
  """Creates a float32 variable on the device that computes with it."""
  return tf.get_variable(name, shape, tf.float32, initializer)


def _variable_with_weight_decay(name, shape, stddev, wd):
  """Creates a truncated normal variable; adds wd * l2_loss to 'losses' if wd.

  Its initial value depends on the graph's seed and on its own name, whatever
  else the graph holds.
  """
  full_name = '%s/%s' % (tf.get_variable_scope().name, name)
  var = _variable(name, shape, tf.truncated_normal_initializer(
      stddev=stddev, seed=zlib.crc32(full_name.encode()) % 2**31))
  # Once for all towers and other graphs over the same variables.
  if wd and not any(var is each for each in tf.get_collection('decayed')):
    tf.add_to_collection('decayed', var)
    tf.add_to_collection('losses', tf.multiply(tf.nn.l2_loss(var), wd,
                                               name='weight_loss'))
  return var


def endpoints(images, widths=Widths(), precision='float32'):
  """Builds the network.

  Args:
    images: float32 [n, 24, 24, 3] from distorted_inputs or inputs.
    widths: Widths.
    precision: 'bfloat16' for operands of convolutions and matrix products of
      this type; everything else is float32. 'float32' and 'tf32' are the same
      graph: TF32 is a switch of the process, and rounds the operands of all its
      products, those of distortions and evaluations, too.

  Returns:
    Name -> float32 tensor: conv1, pool1, norm1, conv2, norm2, pool2, local3,
    local4 and softmax_linear, the logits [n, 10].
  """
  def product(operation, x, weights):
    dtype = tf.bfloat16 if precision == 'bfloat16' else tf.float32
    return tf.cast(operation(tf.cast(x, dtype), tf.cast(weights, dtype)),
                   tf.float32)

  # conv1
  with tf.variable_scope('conv1') as scope:
    kernel = _variable_with_weight_decay(
        'weights', [5, 5, 3, widths.conv1_channels], stddev=5e-2, wd=0.0)
    biases = _variable('biases', [widths.conv1_channels],
                       tf.constant_initializer(0.0))
    conv = product(operations.convolution, images, kernel)
    conv1 = tf.nn.relu(tf.nn.bias_add(conv, biases), name=scope.name)
  _activation_summary(conv1)

  # pool1
  pool1 = operations.max_pool(conv1, 'pool1')
  # norm1
  norm1 = tf.identity(operations.local_response_normalization(pool1), 'norm1')

  # conv2
  with tf.variable_scope('conv2') as scope:
    kernel = _variable_with_weight_decay(
        'weights', [5, 5, widths.conv1_channels, widths.conv2_channels],
        stddev=5e-2, wd=0.0)
    biases = _variable('biases', [widths.conv2_channels],
                       tf.constant_initializer(0.1))
    conv = product(operations.convolution, norm1, kernel)
    conv2 = tf.nn.relu(tf.nn.bias_add(conv, biases), name=scope.name)
  _activation_summary(conv2)

  # norm2
  norm2 = tf.identity(operations.local_response_normalization(conv2), 'norm2')
  # pool2
  pool2 = operations.max_pool(norm2, 'pool2')

  # local3
  with tf.variable_scope('local3') as scope:
    reshape = tf.reshape(pool2, [-1, int(np.prod(pool2.shape.as_list()[1:]))])
    weights = _variable_with_weight_decay(
        'weights', [reshape.shape[1].value, widths.local3_units], stddev=0.04,
        wd=WEIGHT_DECAY)
    biases = _variable('biases', [widths.local3_units],
                       tf.constant_initializer(0.1))
    local3 = tf.nn.relu(tf.nn.bias_add(product(tf.matmul, reshape, weights),
                                       biases), name=scope.name)
  _activation_summary(local3)

  # local4
  with tf.variable_scope('local4') as scope:
    weights = _variable_with_weight_decay(
        'weights', [widths.local3_units, widths.local4_units], stddev=0.04,
        wd=WEIGHT_DECAY)
    biases = _variable('biases', [widths.local4_units],
                       tf.constant_initializer(0.1))
    local4 = tf.nn.relu(tf.nn.bias_add(product(tf.matmul, local3, weights),
                                       biases), name=scope.name)
  _activation_summary(local4)

  # softmax_linear: the logits, since the loss takes the softmax itself.
  with tf.variable_scope('softmax_linear') as scope:
    weights = _variable_with_weight_decay(
        'weights', [widths.local4_units, NUM_CLASSES], stddev=1 / 192.0,
        wd=0.0)
    biases = _variable('biases', [NUM_CLASSES], tf.constant_initializer(0.0))
    softmax_linear = tf.nn.bias_add(product(tf.matmul, local4, weights),
                                    biases, name=scope.name)
  _activation_summary(softmax_linear)

  return {'conv1': conv1, 'pool1': pool1, 'norm1': norm1, 'conv2': conv2,
          'norm2': norm2, 'pool2': pool2, 'local3': local3, 'local4': local4,
          'softmax_linear': softmax_linear}


def inference(images, widths=Widths(), precision='float32'):
  """Builds the network; arguments as for endpoints.

  Returns:
    float32 [n, 10]: logits.
  """
  return endpoints(images, widths, precision)['softmax_linear']


def towers(batch_size):
  """Number of towers that compute a batch: two on two cores or more, else one.

  Each of two towers has half of the cores, and waits for the other only where
  the gradients meet. An operation spread over all cores would make all of them
  wait at its end. A GPU gets the whole batch.

  Args:
    batch_size: images in the batch.
  """
  alone = operations.on_gpu() or devices.cores() < 2 or batch_size < 2
  return 1 if alone else 2


def tower_inference(images, widths, precision, number):
  """Builds the network in towers, each of which computes a part of the batch.

  Args:
    images: float32 [n, 24, 24, 3], n known.
    widths, precision: as for endpoints.
    number: number of towers; it changes only the rounding of gradients.

  Returns:
    float32 [n, 10]: logits.
  """
  n = images.shape[0].value
  sizes = [n * (i + 1) // number - n * i // number for i in range(number)]
  logits = []
  for part in tf.split(images, sizes):
    with tf.variable_scope(tf.get_variable_scope(), reuse=bool(logits)):
      logits.append(inference(part, widths, precision))
  return tf.concat(logits, 0)


def weight_shapes(widths=Widths()):
  """Shape of every trainable variable at these Widths: name -> list."""
  conv1, conv2, local3, local4 = widths
  shapes = {}
  for name, kernel in [('conv1', [5, 5, 3, conv1]),
                       ('conv2', [5, 5, conv1, conv2]),
                       ('local3', [(IMAGE_SIZE // 4)**2 * conv2, local3]),
                       ('local4', [local3, local4]),
                       ('softmax_linear', [local4, NUM_CLASSES])]:
    shapes[name + '/weights'] = kernel
    shapes[name + '/biases'] = kernel[-1:]
  return shapes


def cost(widths=Widths()):
  """Counts the work and the parameters of the network.

  Args:
    widths: Widths; of integer arrays, for many networks at once.

  Returns:
    (multiply_adds, parameters): integers, the first for one image.
  """
  positions = {'conv1': IMAGE_SIZE**2, 'conv2': CONV2_POSITIONS}
  multiply_adds = parameters = 0
  for name, shape in weight_shapes(widths).items():
    size = math.prod(shape)
    parameters += size
    if name.endswith('/weights'):
      multiply_adds += size * positions.get(name.split('/')[0], 1)
  return multiply_adds, parameters


def widths_of(arrays):
  """The Widths of a network among the arrays of a checkpoint.

  A layer without biases counts as the tutorial's.
  """
  return Widths(*(
      int(np.size(arrays.get(layer + '/biases', np.empty(default))))
      for layer, default in zip(LAYERS, Widths())))


def shapes_like(arrays):
  """Shapes of all weights of a network with the widths of a checkpoint.

  Args:
    arrays: name -> array of the checkpoint.

  Returns:
    Name -> list, as from weight_shapes.
  """
  return weight_shapes(widths_of(arrays))


def given(names):
  """Those of these flags that have a value: name -> value."""
  return {name: FLAGS[name].value for name in names
          if FLAGS[name].value is not None}


def asked_widths(usual):
  """The Widths that the flags ask for; where they do not, the usual ones."""
  return usual._replace(**given(Widths._fields))


def named(widths):
  """Widths in words, as '16 channels', or 'widths 16 32 128 64'."""
  if widths[1:] == Widths()[1:]:
    return '%d channels' % widths.conv1_channels
  return 'widths %d %d %d %d' % widths


def narrowed(widths):
  """What settings say of Widths: of conv1, and of what is not the tutorial's.

  Returns:
    Name -> integer.
  """
  usual = Widths()._replace(conv1_channels=None)._asdict()
  return {name: width for name, width in widths._asdict().items()
          if width != usual[name]}


def loss(logits, labels, label_smoothing=0.0):
  """Mean cross-entropy plus weight decay.

  Args:
    logits: float32 [n, 10].
    labels: int32 [n].
    label_smoothing: share of each target that is spread evenly over the
      classes (Szegedy et al., CVPR 2016, section 7).

  Returns:
    float32 scalar.
  """
  spread = label_smoothing / NUM_CLASSES
  targets = tf.one_hot(labels, NUM_CLASSES, 1 - label_smoothing + spread,
                       spread)
  cross_entropy = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(
      labels=tf.stop_gradient(targets), logits=logits), name='cross_entropy')
  tf.add_to_collection('losses', cross_entropy)
  return tf.add_n(tf.get_collection('losses'), name='total_loss')


def hits(logits, labels):
  """Counts the images whose label is the first, or among the first five.

  Args:
    logits: float32 [n, 10].
    labels: int32 [n]; -1 is never among them.

  Returns:
    int64 [2].
  """
  # Not in_top_k: it counts every label if the logits are equal.
  first = tf.nn.top_k(logits, min(5, NUM_CLASSES)).indices
  found = tf.equal(first, labels[:, tf.newaxis])
  return tf.stack([tf.math.count_nonzero(found[:, :k]) for k in (1, 5)])


def _state(name, shape, initializer):
  """Returns the optimizer's or average's variable of this name.

  The first call makes it; another one, in the loop of steps, finds it.
  """
  with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
    return tf.get_variable(name, shape, initializer=initializer,
                           trainable=False)


def _average_losses(total_loss):
  """Adds summaries of the losses and their averages; returns the update ops."""
  scope = tf.get_default_graph().get_name_scope()
  updates = []
  for each in tf.get_collection('losses') + [total_loss]:
    name = each.op.name[len(scope) + 1 if scope else 0:]
    average = _state(name + '/avg', [], tf.zeros_initializer())
    before = average.read_value()
    value = before - (before - each) * (1 - np.float32(LOSS_AVERAGE_DECAY))
    updates.append(average.assign(value))
    tf.summary.scalar('losses_raw/' + name, each)
    tf.summary.scalar('losses/' + name, value)   # Showing it updates nothing.
  return updates


def learning_rate_at(global_step, schedule, rate, steps_per_epoch, last_step):
  """Computes the learning rate of a step.

  Args:
    global_step: integer scalar tensor.
    schedule: a Schedule.
    rate: float or float32 scalar tensor, the highest learning rate; it is not
      reached if warmup_steps are more than 5 % of a linear schedule's steps.
    steps_per_epoch: float, for the tutorial's schedule.
    last_step: number of steps in all, where a linear rate reaches 0; for linear
      schedules.

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


def train(total_loss, global_step, learning_rate=None, schedule=PUBLISHED,
          preconditioners=None):
  """Builds the train op: a step of gradient descent, then the averages.

  Args:
    total_loss: float32 scalar from loss.
    global_step: int64 variable, incremented by the step.
    learning_rate: float32 scalar, as from learning_rate_at; by default the
      tutorial's, for its number of images and FLAGS.batch_size.
    schedule: a Schedule; everything in it applies except the learning rate.
    preconditioners: name of a kernel -> matrix to multiply its gradient by, as
      in thinet.precondition; by default none.

  Returns:
    Operation that makes the step; it ends when the averages are updated.
  """
  if learning_rate is None:
    learning_rate = learning_rate_at(
        global_step, PUBLISHED, INITIAL_LEARNING_RATE,
        NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN / _tutorial_flags().batch_size, None)
  tf.summary.scalar('learning_rate', learning_rate)
  next_step = tf.identity(global_step) + 1
  steps = tf.cast(next_step, tf.float32)
  decay = tf.minimum(schedule.average_decay, (1 + steps) / (10 + steps))
  updates = _average_losses(total_loss)
  variables = tf.trainable_variables()
  for gradient, var in zip(tf.gradients(total_loss, variables,
                                        gate_gradients=True), variables):
    name = var.op.name
    for kind, value in (('values', var), ('gradients', gradient)):
      tf.summary.histogram('%s/%s' % (name, kind), value,
                           collections=['histograms'])
    gradient = precondition.direction(
        name, gradient, schedule.convolution_rate, preconditioners or {})
    # An average waits for its own weights, or it would lag a step or race with
    # the update; not for the others, whose gradients may come later.
    step = descend(var, gradient, learning_rate, schedule.momentum)
    average = _state(name + checkpoint.AVERAGE, var.shape,
                     lambda *_, first=var.initial_value, **__:
                     tf.identity(first))
    with tf.control_dependencies([step]):
      updates.append(average.assign_sub((average - var.read_value()) *
                                        (1 - decay)))
  with tf.control_dependencies(updates):
    return tf.group(global_step.assign(next_step), name='train')


def descend(var, gradient, rate, momentum):
  """Makes a step of gradient descent, Nesterov's where there is momentum.

  Args:
    var: variable.
    gradient: tensor of its shape.
    rate: float32 scalar tensor, the learning rate.
    momentum: float; 0 for plain gradient descent.

  Returns:
    Operation.
  """
  if not momentum:
    return tf.raw_ops.ResourceApplyGradientDescent(
        var=var.handle, alpha=rate, delta=gradient)
  accumulated = _state(var.op.name + '/Momentum', var.shape,
                       tf.zeros_initializer())
  return tf.raw_ops.ResourceApplyMomentum(
      var=var.handle, accum=accumulated.handle, lr=rate, grad=gradient,
      momentum=momentum, use_nesterov=True)


# ------------------------------------------------------------ for all scripts


def session_config(number=1):
  """Session settings: a GPU for what has a kernel there.

  Args:
    number: number of towers that share the processor's cores.

  Returns:
    tf.ConfigProto.
  """
  return tf.ConfigProto(
      allow_soft_placement=True,
      intra_op_parallelism_threads=devices.cores() // number)


class Stopped(BaseException):
  """A request to end, one of STOPS; `number` is the signal's, or None."""
  number = None


def on_stop(handler):
  """Has a function (number, frame) called at STOPS, but not at ignored ones."""
  for number in STOPS:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, handler)


def raise_stopped(number, frame):
  """Handler for on_stop that ends the script."""
  on_stop(signal.SIG_IGN)   # Once is enough.
  Stopped.number = number
  # TensorFlow loses exceptions that come at some moments of building a graph.
  signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + number))
  signal.alarm(SECONDS_TO_STOP)
  raise Stopped


def command():
  """This process's command line, to paste into a shell anywhere."""
  line = shlex.join([sys.executable or 'python'] + sys.argv)
  with contextlib.suppress(OSError):   # The folder may be gone.
    line = 'cd %s && %s' % (shlex.quote(os.getcwd()), line)
  return line


def _refuse(error, code):
  """Ends the script with one sentence on stderr."""
  print('%s: %s' % (os.path.basename(sys.argv[0]), error), file=sys.stderr)
  sys.exit(code)


def _parse(argv, script):
  """Reads the flags; returns argv without them, or ends the script.

  Args:
    argv: list of strings, the command line.
    script: the module whose flags these are.
  """
  here = ''
  with contextlib.suppress(OSError):   # The folder may be gone.
    here = os.getcwd()
  for argument in argv[1:] + [here]:   # TensorFlow takes no other names.
    if any('\ud800' <= letter <= '\udfff' for letter in argument):
      _refuse('Name %a is not UTF-8; rename that file or folder.' % argument, 2)
  try:
    rest = FLAGS(argv)
  except tf.app.flags.Error as error:
    _refuse('%s; see --help.' % error, 2)
  except SystemExit:   # absl has printed help, and would exit with 1.
    sys.stdout.flush()
    sys.exit(0)
  for name in FLAGS:
    if name.endswith('_dir') and re.match('[a-z0-9]+://',
                                          FLAGS[name].value or ''):
      _refuse('--%s=%s is no local folder; name one.' % (
          name, FLAGS[name].value), 2)
  # The scripts share definitions, but none takes a flag that it ignores.
  key = {flag.name for flag in FLAGS.get_key_flags_for_module(script)}
  ours = {flag.name for module, defined in FLAGS.flags_by_module_dict().items()
          if not module.startswith('absl') for flag in defined}
  for name in sorted(ours - key):
    if FLAGS[name].present:
      _refuse('Flag --%s is not for this script; see --help.' % name, 2)
  if len(rest) > 1:
    _refuse('Unexpected argument %s; flags begin with --.' % rest[1], 2)
  return rest


def _stoppable(main, argv):
  """Returns main(argv), unless one of STOPS ends the script."""
  before = {number: signal.getsignal(number) for number in STOPS}
  try:
    on_stop(raise_stopped)
    cifar10_input.check_constants()
    code = main(argv)
    sys.stdout.flush()
    if Stopped.number:   # TensorFlow lost the exception: see raise_stopped.
      raise Stopped
    return code
  except (Stopped, Exception):   # TensorFlow may turn it into another.
    number = Stopped.number
    if number is None:
      raise
    _refuse('Stopped by %s; run the same command again.' %
            signal.Signals(number).name, 128 + number)
  finally:
    signal.alarm(0)
    Stopped.number = None
    for number, handler in before.items():
      signal.signal(number, handler)


def run(main):
  """Runs a script; prints errors that the user can put right as one sentence.

  The process exits with what main returns, with 1 after an error of FAULTS,
  with 2 if a flag or argument is wrong, and with 128 + the signal if it was
  told to stop. --help and the errors of main's first checks need no TensorFlow.

  Args:
    main: function of argv that returns an exit code.
  """
  for name in ('stdout', 'stderr'):
    if getattr(sys, name) is None:   # Closed from the start.
      setattr(sys, name, open(os.devnull, 'w'))
  sys.stdout.reconfigure(errors='backslashreplace')   # Folders have any name.
  try:
    tf.app.run(lambda argv: _stoppable(main, argv), flags_parser=lambda argv:
               _parse(argv, sys.modules[main.__module__]))
  except BrokenPipeError:
    files.close_output()
    sys.exit(128 + signal.SIGPIPE)
  except FAULTS as error:
    if isinstance(error, OSError) and error.filename is None:
      error = 'Output cannot be written (%s); give it another place.' % (
          error.strerror or error)
      files.close_output()
    _refuse(error, 1)
  except Exception as error:
    # Named, since TensorFlow may not be loaded; NumPy's is a MemoryError.
    if not isinstance(error, MemoryError) and (
        type(error).__name__ != 'ResourceExhaustedError'):
      raise
    _refuse('Memory of %s is exhausted (%s); run fewer programs on it, or '
            'lower --batch_size.' % (
                operations.device() if not isinstance(error, MemoryError) else
                'this machine', (str(error) or 'out of memory'
                                 ).splitlines()[0]), 1)
