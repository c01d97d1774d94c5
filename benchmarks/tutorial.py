"""The yardstick: the training loop as the tutorial has it, written literally.

Images are read and distorted one by one in a parallel map, the normalization is
tf.nn.lrn, the averages are updated after the weights, and a
MonitoredTrainingSession with a logger hook writes all summaries, histograms
included, every 100 steps. It imports none of this suite's programs.
benchmarks/training.py runs it as a process (timing.py says how); this prints
the mean seconds of 100 steps:

  echo '["tutorial", 100]' | python benchmarks/tutorial.py --data_dir=data
"""
import argparse
import os
import sys
import tempfile
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')   # As our programs do.

import timing

import tensorflow.compat.v1 as tf

tf.logging.set_verbosity(tf.logging.ERROR)
tf.disable_v2_behavior()
tf.enable_resource_variables()

BATCH_SIZE, CONV1_CHANNELS = 128, 64
RECORD_BYTES = 1 + 3 * 32 * 32


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
  files = [os.path.join(data_dir, 'cifar-10-batches-bin',
                        'data_batch_%d.bin' % i) for i in range(1, 6)]
  for path in files:
    if not os.path.exists(path):
      sys.exit('%s does not exist; name another --data_dir' % path)
  records = tf.data.FixedLengthRecordDataset(files, RECORD_BYTES)
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


def make(data_dir, train_dir):
  """Makes {'tutorial': function that runs a step in a monitored session}."""
  with tf.Graph().as_default():
    global_step = tf.train.get_or_create_global_step()
    images, labels = _inputs(data_dir, BATCH_SIZE)
    tf.summary.image('images', images)
    logits = _inference(images, CONV1_CHANNELS)
    tf.add_to_collection('losses', tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=logits), name='cross_entropy'))
    loss = tf.add_n(tf.get_collection('losses'), name='total_loss')
    train_op = _train(loss, global_step)
    session = tf.train.MonitoredTrainingSession(
        checkpoint_dir=train_dir, hooks=[_LoggerHook(loss)],
        log_step_count_steps=None)
  return {'tutorial': lambda: session.run(train_op)}


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data_dir', default='data',
                      help='folder that holds cifar-10-batches-bin')
  data_dir = parser.parse_args().data_dir
  with tempfile.TemporaryDirectory() as folder:
    timing.serve(lambda: make(data_dir, folder))


if __name__ == '__main__':
  main()
