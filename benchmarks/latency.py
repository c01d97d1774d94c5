"""Times exported networks beside each other: every conv1 width, and others.

  python benchmarks/latency.py [--json]
      [--checkpoint_dirs=runs/seed0/least_squares_network_budget0.25,...]

Exports a network of each conv1 width, and of the widths of each network in
--checkpoint_dirs (all with random weights: they do not change the time) by
cifar10_eval.export, loads all into one process, and runs them in turn, round
after round, on images of 32x32 bytes, crop and standardization included.
Medians over 60 rounds, after 5 of warm-up, of 10 calls with one image and one
call with 128 in each round.

At widths 64 and 8 it also gives the time of each operation on a batch of 128,
from TensorFlow's traces of 20 runs with one operation at a time. About a minute
on two cores.

--json prints one object. By width, or name of the folder: latency_ms_batch1,
latency_ms_batch128, images_per_second (at batch 128), file_bytes (of the
SavedModel), widths, multiply_adds and parameters, and the ratios of width 64's
latencies to these: speedup_batch1, speedup_batch128. By width in profile: the
milliseconds of the five costliest operations, and the sum of all. Also rounds,
date and machine.
"""
import collections
import os
import sys
import tempfile
import time

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir))

import cifar10
import cifar10_eval
import cifar10_input
from thinet import checkpoint
from thinet import files
from thinet import tensorflow as tf
import timing

import numpy as np

FLAGS = cifar10.FLAGS
tf.app.flags.DEFINE_bool('json', False, 'Print one JSON object.')
tf.app.flags.DEFINE_list('checkpoint_dirs', [],
                         'Folders of networks whose widths to time, too.')

WIDTHS = [64, 48, 32, 24, 16, 8]
WARM_UP, ROUNDS, CALLS, TRACES = 5, 60, 10, 20


def exported(widths, folder):
  """Writes a network of random weights; returns its size in bytes."""
  generator = np.random.default_rng(0)
  cifar10_eval.export({
      name + suffix: generator.normal(0, 0.05, shape).astype(np.float32)
      for name, shape in cifar10.weight_shapes(widths).items()
      for suffix in ('', checkpoint.AVERAGE)}, 'averaged', folder,
                      cifar10_input.CLASS_NAMES)
  return files.size(folder)


def loaded(folder, one_at_a_time=False):
  """Loads a SavedModel: (session, name of its labels, name of its images)."""
  config = cifar10.session_config()
  if one_at_a_time:
    config.inter_op_parallelism_threads = 1
    config.use_per_session_threads = True
  session = tf.Session(graph=tf.Graph(), config=config)
  with session.graph.as_default():
    model = tf.saved_model.load(session, ['serve'], folder)
  signature = model.signature_def['serving_default']
  return (session, signature.outputs['labels'].name,
          signature.inputs['images'].name)


def profile(folder, images):
  """The five costliest operations -> milliseconds, and the sum of all."""
  session, labels, name = loaded(folder, one_at_a_time=True)
  options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
  found = collections.Counter()
  for number in range(WARM_UP + TRACES):
    trace = tf.RunMetadata()
    session.run(labels, {name: images}, options, trace)
    if number >= WARM_UP:
      for device in trace.step_stats.dev_stats:
        for node in device.node_stats:
          found[node.node_name] += (node.op_end_rel_micros -
                                    node.op_start_rel_micros) / 1e3 / TRACES
  return {operation: round(milliseconds, 2) for operation, milliseconds in
          found.most_common(5) + [('sum', sum(found.values()))]}


def latencies(models, images):
  """Times all models in turn, round after round.

  Args:
    models: name -> function of a batch of images.
    images: uint8 [128, 32, 32, 3].

  Returns:
    name -> [milliseconds of one image, milliseconds of all].
  """
  times = {name: [] for name in models}
  for _ in range(WARM_UP + ROUNDS):
    for name, model in models.items():
      clock = [time.perf_counter()]
      for _ in range(CALLS):
        model(images[:1])
      clock.append(time.perf_counter())
      model(images)
      clock.append(time.perf_counter())
      times[name].append(1e3 * np.diff(clock) / (CALLS, 1))
  return {name: np.median(rounds[WARM_UP:], 0).tolist()
          for name, rounds in times.items()}


def main(argv=None):
  del argv
  networks = {str(width): cifar10.Widths(width) for width in WIDTHS}
  for folder in FLAGS.checkpoint_dirs:
    name = os.path.basename(os.path.normpath(folder))
    if name in networks:
      raise cifar10_input.UserError('--checkpoint_dirs=%s: two networks are '
                                    'called %s; rename one folder.' % (
                                        ','.join(FLAGS.checkpoint_dirs), name))
    networks[name] = cifar10.widths_of(
        checkpoint.read_newest(folder, cifar10.shapes_like).arrays)
  images = np.random.default_rng(0).integers(
      0, 256, [128, 32, 32, 3], dtype=np.uint8)
  sizes, models, result = {}, {}, {}
  with tempfile.TemporaryDirectory() as root:
    folders = {name: os.path.join(root, name) for name in networks}
    for name, folder in folders.items():
      sizes[name] = exported(networks[name], folder)
      session, labels, images_name = loaded(folder)
      models[name] = session.make_callable(labels, [images_name])
    profiles = {name: profile(folders[name], images) for name in ('64', '8')}
  found = latencies(models, images)
  for name, (one, many) in found.items():
    multiply_adds, parameters = cifar10.cost(networks[name])
    result[name] = {
        'latency_ms_batch1': round(one, 3),
        'latency_ms_batch128': round(many, 2),
        'images_per_second': round(128e3 / many), 'file_bytes': sizes[name],
        'speedup_batch1': round(found['64'][0] / one, 2),
        'speedup_batch128': round(found['64'][1] / many, 2),
        'widths': [*networks[name]], 'multiply_adds': multiply_adds,
        'parameters': parameters}
  timing.report(dict(result, profile=profiles, rounds=ROUNDS), FLAGS.json)
  return 0


if __name__ == '__main__':
  cifar10.run(main)
