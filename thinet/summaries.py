"""What TensorBoard shows of a sweep, besides the curves of each training.

  tensorboard --logdir runs

HPARAMS: a row for each evaluated network, with its settings, accuracy and cost.
CUSTOM SCALARS: for each conv1 width, the curves of training from scratch and of
all fine-tunings, one over the other. Each compression also shows the filters of
conv1, with the removed ones dimmed, the objective, the scales and the command.
"""
import hashlib
import json
import os
import shlex
import sys

from thinet import checkpoint
from thinet import files
from thinet import tensorflow as tf

import numpy as np
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import summary_v2 as hparams_summary

HPARAMS = ['conv1_channels', 'criterion', 'reconstruction', 'fine_tuned',
           'seed']
METRICS = {'Precision @ 1': 'top-1', 'Precision @ 5': 'top-5',
           'multiply_adds': 'multiply-adds of an image',
           'latency_ms': 'milliseconds of a batch',
           'seconds': 'seconds to make it'}
CURVES = {'cross_entropy': 'cross-entropy of a batch',
          'batch_precision_1': 'precision @ 1 of a batch'}
ZOOM, DIMMED = 6, 0.2    # Pixels a weight; strength of a removed filter.


def write(folder, summaries):
  """Writes (summary, step) pairs into a new event file of a folder.

  Raises:
    FileError: the folder cannot be written to.
  """
  try:
    with tf.Graph().as_default():   # FileWriter asks for a graph of its own.
      writer = tf.summary.FileWriter(folder)
      for summary, step in summaries:
        if not isinstance(summary, bytes):
          summary = summary.SerializeToString()
        writer.add_summary(summary, step)
      writer.close()
  except checkpoint.write_errors() as error:
    raise files.not_written(folder, error)


def scalars(values, step):
  """Makes (summary, step) pairs from tag -> number."""
  return [(tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value)]),
           step) for tag, value in values.items()]


def add_curves(conv1_channels, logits, labels):
  """Adds the scalars of CURVES to the graph, under tags that name the width.

  Args:
    conv1_channels: width of the first layer.
    logits: float32 [n, 10].
    labels: int32 [n].
  """
  values = [tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=labels, logits=logits)), tf.reduce_mean(tf.cast(
          tf.nn.in_top_k(logits, labels, 1), tf.float32))]
  for name, value in zip(CURVES, values):
    tf.summary.scalar('conv1_%d/%s' % (conv1_channels, name), value)


def layout(conv1_channels):
  """The charts of a width; TensorBoard merges those of all runs."""
  charts = [layout_pb2.Chart(title=title, multiline=(
      layout_pb2.MultilineChartContent(
          tag=['^conv1_%d/%s$' % (conv1_channels, name)])))
            for name, title in CURVES.items()]
  return custom_scalar.pb(layout_pb2.Layout(category=[layout_pb2.Category(
      title='conv1 of %d channels' % conv1_channels, chart=charts)]))


def row(folder, settings, result, metrics):
  """The HParams row of a network and the table's heading.

  Args:
    folder: the network's folder.
    settings: dict, its checkpoint's settings.
    result: dict, the content of its eval.json.
    metrics: name -> number, for names in METRICS.

  Returns:
    List of (summary, step) pairs; the step is the checkpoint's.
  """
  values = {name: result[name] for name in HPARAMS if name in result}
  values.setdefault('criterion', 'scratch')
  values.setdefault('fine_tuned', False)
  # The name does not depend on the folder's path: equal networks share it.
  name = '%s-%s' % (os.path.basename(os.path.abspath(folder)), hashlib.sha256(
      json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8])
  heading = hparams_summary.hparams_config_pb(
      hparams=[hparams_summary.HParam(name) for name in HPARAMS],
      metrics=[hparams_summary.Metric(tag, display_name=title)
               for tag, title in METRICS.items()])
  step = result['global_step']
  return [(heading, step), (hparams_summary.hparams_pb(values, trial_id=name),
                            step)] + scalars(metrics, step)


def filters(kernel, kept):
  """Draws conv1's filters, eight in a row, with the removed ones dimmed.

  Args:
    kernel: float32 [5, 5, 3, channels].
    kept: indices of the channels that stay.

  Returns:
    uint8 [height, width, 3]; each filter's range is stretched to 0..255.
  """
  channels = kernel.shape[-1]
  low = kernel.min((0, 1, 2))
  tiles = (kernel - low) / np.maximum(kernel.max((0, 1, 2)) - low, 1e-12)
  strength = np.full(channels, DIMMED)
  strength[kept] = 1.0
  tiles = 255 * (1 - strength * (1 - tiles))   # Dims toward white.
  tiles = np.transpose(tiles, [3, 0, 1, 2]).repeat(ZOOM, 1).repeat(ZOOM, 2)
  tiles = np.pad(tiles, [(0, -channels % 8), (2, 2), (2, 2), (0, 0)],
                 constant_values=255)
  _, side, _, _ = tiles.shape
  tiles = tiles.reshape(-1, 8, side, side, 3).transpose(0, 2, 1, 3, 4)
  return np.round(tiles.reshape(-1, 8 * side, 3)).astype(np.uint8)


def compression(kernel, kept, objective, scales):
  """Shows a compression: its filters, command, scales and objective.

  Args:
    kernel: float32 [5, 5, 3, channels], the parent's conv1.
    kept: indices of the channels that stay.
    objective: float64 [channels + 1], by number of removed channels.
    scales: [kept], or None where the reconstruction has none.

  Returns:
    List of (summary, step) pairs; the objective's step is the number of removed
    channels.
  """
  command = ' '.join(map(shlex.quote, [os.path.basename(sys.argv[0])] +
                         sys.argv[1:]))
  with tf.Graph().as_default(), tf.Session() as session:
    parts = [tf.summary.image('conv1_filters',
                              filters(kernel, kept)[np.newaxis]),
             tf.summary.text('command', tf.constant('    ' + command))]
    if scales is not None:
      parts.append(tf.summary.histogram('scales', scales))
    merged = session.run(tf.summary.merge(parts))
  result = [(merged, 0)]
  for removed, value in enumerate(objective):
    result += scalars({'objective': value}, removed)
  return result
