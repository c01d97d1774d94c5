"""What TensorBoard shows: one run for each network.

  tensorboard --logdir runs

TIME SERIES: top-1 and top-5 on the test images over the training, the losses,
the learning rate, images, histograms; for a compression the filters of conv1,
with the removed ones dimmed. CUSTOM SCALARS: what belongs in one chart. TEXT:
the commands, and the channels of a compression in the order of removal.
HPARAMS: a row for each evaluated network, with its settings, accuracy and cost.
"""
import hashlib
import json
import os
import shlex
import time

from thinet import checkpoint
from thinet import files
from thinet import tensorflow as tf

import numpy as np
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.text import summary_v2 as text_summary

PRECISION = 'Precision @ %d'          # On the test images.
CURVES = 'batch/cross_entropy', 'batch/precision @ 1'
CHARTS = {'precision @ 1 on the test images and on batches':
              [PRECISION % 1, CURVES[1]],
          'cross-entropy and total loss of a batch':
              [CURVES[0], 'losses_raw/total_loss']}

# Columns of the HParams table, which sorts them by title and at first shows
# five: title -> key in eval.json or the settings. It gives every number five
# digits, as 16.000, so whole ones are text, with blanks in front for the order.
COLUMNS = {
    'conv1_channels': 'conv1_channels', 'criterion': 'criterion',
    'fine_tuned': 'fine_tuned', 'reconstruction': 'reconstruction',
    'seed': 'seed', 'steps': 'global_step', 'training precision': 'precision',
    'training rate': 'learning_rate', 'training schedule': 'schedule'}
WIDTHS = 'widths of all layers'   # A column of these, side by side.
LAYERS = ['conv1_channels', 'conv2_channels', 'local3_units', 'local4_units']
# Those that are costs: title -> (key in eval.json, factor).
COSTS = {'size in million parameters': ('parameters', 1e-6),
         'time of a batch in ms': ('latency_ms', 1.0),
         'time to make in minutes': ('seconds', 1 / 60),
         'work in million multiply-adds': ('multiply_adds', 1e-6)}
ROW = 'events.out.tfevents.hparams'   # File of the row, after other events.
ZOOM, DIMMED = 6, 0.2    # Pixels a weight; strength of a removed filter.


def write(folder, summaries, program):
  """Writes (summary, step) pairs into a new event file of a folder.

  Args:
    folder: the network's folder.
    summaries: list of pairs.
    program: last part of the file's name; without it, files begun in the same
      second share a name.

  Raises:
    FileError: the folder cannot be written to.
  """
  with checkpoint.writing(folder):
    with tf.Graph().as_default():   # FileWriter asks for a graph of its own.
      writer = tf.summary.FileWriter(folder, filename_suffix='.' + program)
      for summary, step in summaries:
        writer.add_summary(summary, step)
      writer.close()


def text(tag, markdown):
  """Makes a tf.Summary for the text tab."""
  return tf.Summary.FromString(
      text_summary.text_pb(tag, markdown).SerializeToString())


def command(line):
  """Shows a command line, a flag on each line, so that none is cut off.

  Args:
    line: text to paste into a shell: `cd FOLDER &&`, or nothing; then python,
      the script and its flags.

  Returns:
    tf.Summary, with a tag that names the script.
  """
  words, lines = shlex.split(line), []
  if words[0] == 'cd':
    lines, words = [shlex.join(words[:2]) + ' &&'], words[3:]
  python, script, *flags = words
  lines += [shlex.join([python, script])] + ['    ' + shlex.quote(flag)
                                             for flag in flags]
  return text('command/' + os.path.splitext(os.path.basename(script))[0],
              '```\n%s\n```' % ' \\\n'.join(lines))


def precision(top1, top5):
  """Makes a tf.Summary of top-1 and top-5 on the test images, 0 to 1."""
  return tf.Summary(value=[
      tf.Summary.Value(tag=PRECISION % k, simple_value=share)
      for k, share in ((1, top1), (5, top5))])


def add_curves(logits, labels):
  """Adds the scalars of CURVES to the graph.

  Args:
    logits: float32 [n, 10].
    labels: int32 [n].
  """
  values = [tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=labels, logits=logits)), tf.reduce_mean(tf.cast(tf.equal(
          tf.argmax(logits, 1), tf.cast(labels, tf.int64)), tf.float32))]
  for tag, value in zip(CURVES, values):
    # Not tf.summary.scalar, which takes no blanks and no @.
    tf.add_to_collection(tf.GraphKeys.SUMMARIES,
                         tf.raw_ops.ScalarSummary(tags=tag, values=value))


def layout():
  """The custom charts; TensorBoard merges those of all runs."""
  charts = [layout_pb2.Chart(title=title, multiline=(
      layout_pb2.MultilineChartContent(tag=['^%s$' % tag for tag in tags])))
            for title, tags in CHARTS.items()]
  return custom_scalar.pb(layout_pb2.Layout(category=[
      layout_pb2.Category(title='training', chart=charts)]))


def write_row(folder, settings, result):
  """Writes a network's row for HParams, in place of an earlier one.

  Args:
    folder: the network's folder.
    settings: dict, its checkpoint's settings.
    result: dict, the content of its eval.json.

  Raises:
    FileError: the folder cannot be written to.
  """
  known = {'criterion': 'scratch', 'fine_tuned': False, **settings, **result}
  values = {title: known[name] for title, name in COLUMNS.items()
            if name in known}
  if all(name in known for name in LAYERS):
    values[WIDTHS] = ' '.join('%4d' % known[name] for name in LAYERS)
  for title, value in values.items():
    if isinstance(value, int) and not isinstance(value, bool):
      values[title] = '%10d' % value
  values.update({title: known[name] * factor
                 for title, (name, factor) in COSTS.items() if name in known})
  # Short, as the table cuts long names; by width, as it sorts them; and the
  # same wherever the folder lies.
  name = '%4d-' % known['conv1_channels'] + hashlib.sha256(json.dumps(
      [os.path.basename(os.path.abspath(folder)), settings],
      sort_keys=True).encode()).hexdigest()[:8]
  heading = hparams_summary.hparams_config_pb(
      hparams=[hparams_summary.HParam(each)
               for each in [*COLUMNS, *COSTS, WIDTHS]],
      metrics=[hparams_summary.Metric(PRECISION % 1, display_name='top-1'),
               hparams_summary.Metric(PRECISION % 5, display_name='top-5')])
  row = hparams_summary.hparams_pb(values, trial_id=name)
  # Not named as events, which TensorBoard would read.
  with checkpoint.writing(folder), files.replacing(
      os.path.join(folder, ROW), 'hparams') as part:
    with tf.io.TFRecordWriter(part) as writer:
      for event in [tf.Event(file_version='brain.Event:2')] + [
          tf.Event(summary=tf.Summary.FromString(each.SerializeToString()))
          for each in (heading, row)]:
        event.wall_time = time.time()
        writer.write(event.SerializeToString())


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


def channels(kept, order, objective, scales):
  """Lists a compression's channels, in the order of their removal.

  Args:
    kept: indices of the channels that stay.
    order: [channels], the channel to remove first, then second, ...
    objective: float64 [channels + 1], by number of removed channels.
    scales: [kept], or None where the reconstruction has none.

  Returns:
    Markdown, a table: number of removed channels, the channel that goes then,
    or would go, the objective without it and those above, and whether it was
    kept, with its scale.
  """
  factors = dict(zip(kept, scales or []))
  lines = ['removed | channel | objective | kept', '---:|---:|---:|---']
  for number, channel in enumerate(order, 1):
    lines.append('%d | %d | %.4g | %s' % (
        number, channel, objective[number], '' if channel not in kept else
        'yes, times %.3f' % factors[channel] if factors else 'yes'))
  return '\n'.join(lines)


def compression(line, kernel, layers):
  """Shows a compression: its command, filters and channels.

  Args:
    line: its command line.
    kernel: float32 [5, 5, 3, channels], the parent's conv1.
    layers: name of a pruned layer -> (kept, order, objective, scales), as for
      channels.

  Returns:
    List of (summary, step) pairs.
  """
  shown = [(command(line), 0)]
  for layer, (kept, order, objective, scales) in layers.items():
    shown.append((text('removed channels/' + layer, channels(
        list(kept), order, objective, scales)), 0))
  if 'conv1' in layers:
    with tf.Graph().as_default(), tf.Session() as session:
      picture = filters(kernel, layers['conv1'][0])
      shown.append((session.run(tf.summary.image(
          'conv1_filters', picture[np.newaxis])), 0))
  return shown
