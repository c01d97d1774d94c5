"""Times the exported networks of every conv1 width beside each other.

  python benchmarks/latency.py [--json]

Exports a network of each width (random weights: they do not change the time) by
cifar10_eval.export, loads all into one process, and runs them interleaved, round
after round, on images of 32x32 bytes, crop and standardization included. Medians
over 60 rounds, after 5 of warm-up, of 10 calls with one image and one call with
128 in each round.

At widths 64 and 8 also: what each operation takes of a batch of 128, from
TensorFlow's trace of 20 runs with one operation at a time.

With --json: one object; for each width latency_ms_batch1, latency_ms_batch128,
images_per_second (at batch 128), file_bytes (of the SavedModel), multiply_adds,
parameters; and speedup_8_over_64_batch128, speedup_8_over_64_batch1, machine; and
profile, by width the five costliest operations' milliseconds, and their sum.
"""
import collections
import datetime
import json
import os
import sys
import tempfile
import time

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             os.pardir), os.path.dirname(__file__)]

import cifar10
import cifar10_eval
from training import WIDTHS, processor

import numpy as np
import tensorflow.compat.v1 as tf

FLAGS = cifar10.FLAGS
tf.app.flags.declare_key_flag('json')

WARM_UP, ROUNDS, CALLS, TRACES = 5, 60, 10, 20


def exported(width, folder):
  """Writes a network of random weights; returns its size in bytes."""
  generator = np.random.default_rng(0)
  cifar10_eval.export({
      name + suffix: generator.normal(0, 0.05, shape).astype(np.float32)
      for name, shape in cifar10.weight_shapes(width).items()
      for suffix in ('', cifar10.AVERAGE)}, folder)
  return sum(os.path.getsize(os.path.join(where, name))
             for where, _, names in os.walk(folder) for name in names)


def loaded(folder, one_at_a_time=False):
  """A session with a SavedModel, and the names of its labels and images."""
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
  """Operation -> milliseconds, the five costliest, and the sum of all."""
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


def main(argv=None):
  del argv
  images = np.random.default_rng(0).integers(
      0, 256, [128, 32, 32, 3], dtype=np.uint8)
  with tempfile.TemporaryDirectory() as folder:
    sizes = {width: exported(width, os.path.join(folder, str(width)))
             for width in WIDTHS}
    models = {}
    for width in WIDTHS:
      session, labels, name = loaded(os.path.join(folder, str(width)))
      models[width] = session.make_callable(labels, [name])
    profiles = {width: profile(os.path.join(folder, str(width)), images)
                for width in (64, 8)}
  times = {width: ([], []) for width in WIDTHS}
  for number in range(WARM_UP + ROUNDS):
    for width, model in models.items():
      clock = [time.perf_counter()]
      for _ in range(CALLS):
        model(images[:1])
      clock.append(time.perf_counter())
      model(images)
      clock.append(time.perf_counter())
      if number >= WARM_UP:
        one, many = np.diff(clock)
        times[width][0].append(1e3 * one / CALLS)
        times[width][1].append(1e3 * many)
  result = {}
  for width in WIDTHS:
    one, many = (float(np.median(part)) for part in times[width])
    multiply_adds, parameters = cifar10.cost(width)
    result[str(width)] = {
        'latency_ms_batch1': round(one, 3),
        'latency_ms_batch128': round(many, 2),
        'images_per_second': round(128e3 / many), 'file_bytes': sizes[width],
        'multiply_adds': multiply_adds, 'parameters': parameters}
  for name in ('batch1', 'batch128'):
    ours = [result[width]['latency_ms_' + name] for width in ('64', '8')]
    result['speedup_8_over_64_' + name] = round(ours[0] / ours[1], 2)
  result.update(profile=profiles, machine=processor(), rounds=ROUNDS,
                date=datetime.date.today().isoformat())
  print(json.dumps(result) if FLAGS.json else
        '\n'.join('%s: %s' % item for item in result.items()))
  return 0


if __name__ == '__main__':
  cifar10.run(main)
