"""The yardstick: the training loop as the tutorial has it, written literally.

Images are read and distorted one by one in a parallel map, the normalization is
tf.nn.lrn, the average races with nothing but follows the weights, and a
MonitoredTrainingSession with a logger hook writes all summaries, histograms
included, every 100 steps. benchmarks/training.py runs it; nothing else does.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir))

import cifar10  # For what it sets up: graphs, variables as resources.
import cifar10_input

import tensorflow.compat.v1 as tf


def _example(record):
  record = tf.decode_raw(record, tf.uint8)
  label = tf.cast(record[0], tf.int32)
  image = tf.transpose(tf.reshape(record[1:], [3, 32, 32]), [1, 2, 0])
  image = tf.random_crop(tf.cast(image, tf.float32), [24, 24, 3])
  image = tf.image.random_flip_left_right(image)
  image = tf.image.random_brightness(image, max_delta=63)
  image = tf.image.random_contrast(image, lower=0.2, upper=1.8)
  return tf.image.per_image_standardization(image), label


def _inputs(data_dir, batch_size):
  files = cifar10_input.data_files(
      os.path.join(data_dir, cifar10_input.FOLDER), 'train_eval')
  records = tf.data.FixedLengthRecordDataset(files,
                                             cifar10_input.RECORD_BYTES)
  records = records.repeat().map(_example, num_parallel_calls=16)
  records = records.shuffle(20000).batch(batch_size, drop_remainder=True)
  return tf.data.make_one_shot_iterator(records.prefetch(1)).get_next()


def _variable(name, shape, stddev, wd=0.0, constant=None):
  with tf.device('/cpu:0'):
    var = tf.get_variable(
        name, shape, initializer=tf.constant_initializer(constant)
        if constant is not None else
        tf.truncated_normal_initializer(stddev=stddev))
  if wd:
    tf.add_to_collection('losses', wd * tf.nn.l2_loss(var))
  return var


def _summarized(x):
  tf.summary.histogram(x.op.name + '/activations', x)
  tf.summary.scalar(x.op.name + '/sparsity', tf.nn.zero_fraction(x))
  return x


def _inference(images, conv1_channels):
  def lrn(x):
    return tf.nn.lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)
  def pool(x):
    return tf.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], 'SAME')
  def layer(x, scope, shape, stddev, bias, wd=0.0, activation=tf.nn.relu):
    with tf.variable_scope(scope):
      weights = _variable('weights', shape, stddev, wd)
      biases = _variable('biases', shape[-1:], None, constant=bias)
      product = (tf.matmul(x, weights) if len(shape) == 2 else
                 tf.nn.conv2d(x, weights, [1, 1, 1, 1], 'SAME'))
      return _summarized(activation(tf.nn.bias_add(product, biases)))
  x = layer(images, 'conv1', [5, 5, 3, conv1_channels], 5e-2, 0.0)
  x = layer(lrn(pool(x)), 'conv2', [5, 5, conv1_channels, 64], 5e-2, 0.1)
  x = tf.reshape(pool(lrn(x)), [-1, 2304])
  x = layer(x, 'local3', [2304, 384], 0.04, 0.1, 0.004)
  x = layer(x, 'local4', [384, 192], 0.04, 0.1, 0.004)
  return layer(x, 'softmax_linear', [192, 10], 1 / 192.0, 0.0,
               activation=tf.identity)


def _train(total_loss, global_step):
  losses = tf.get_collection('losses') + [total_loss]
  loss_averages = tf.train.ExponentialMovingAverage(0.9, name='avg')
  loss_averages_op = loss_averages.apply(losses)
  for each in losses:
    tf.summary.scalar(each.op.name + '_raw', each)
    tf.summary.scalar(each.op.name, loss_averages.average(each))
  rate = tf.train.exponential_decay(0.1, global_step, 136718, 0.1, True)
  tf.summary.scalar('learning_rate', rate)
  with tf.control_dependencies([loss_averages_op]):
    optimizer = tf.train.GradientDescentOptimizer(rate)
    gradients = optimizer.compute_gradients(total_loss)
  apply_op = optimizer.apply_gradients(gradients, global_step)
  for gradient, var in gradients:
    tf.summary.histogram(var.op.name, var)
    tf.summary.histogram(var.op.name + '/gradients', gradient)
  averages = tf.train.ExponentialMovingAverage(0.9999, global_step)
  with tf.control_dependencies([apply_op]):
    return averages.apply(tf.trainable_variables())


class _LoggerHook(tf.train.SessionRunHook):

  def __init__(self, loss):
    self._loss, self._step, self._start = loss, -1, time.time()

  def before_run(self, run_context):
    self._step += 1
    return tf.train.SessionRunArgs(self._loss)

  def after_run(self, run_context, run_values):
    if self._step % 10 == 0:
      now = time.time()
      self._line = '%.3f sec/batch' % ((now - self._start) / 10)
      self._start = now


def session_and_step(data_dir, train_dir, batch_size, conv1_channels):
  """A monitored session and the operation to run in it for one step."""
  with tf.Graph().as_default():
    global_step = tf.train.get_or_create_global_step()
    images, labels = _inputs(data_dir, batch_size)
    tf.summary.image('images', images)
    logits = _inference(images, conv1_channels)
    tf.add_to_collection('losses', tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=logits), name='cross_entropy'))
    loss = tf.add_n(tf.get_collection('losses'), name='total_loss')
    train_op = _train(loss, global_step)
    return tf.train.MonitoredTrainingSession(
        checkpoint_dir=train_dir, hooks=[_LoggerHook(loss)],
        log_step_count_steps=None), train_op
