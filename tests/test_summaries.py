"""What a real TensorBoard shows."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from thinet import checkpoint
import cifar10
import cifar10_eval
import conftest
import numpy as np
import pytest
from thinet import summaries
import thinet_compress
import thinet_finetune
import tensorflow.compat.v1 as tf
from absl.testing import flagsaver

FLAGS = cifar10.FLAGS


@pytest.fixture(scope='module')
def sweep(data_dir, trained, tmp_path_factory):
  """A network, a compression with scales and its fine-tuning, evaluated."""
  folder = tmp_path_factory.mktemp('logs')
  shutil.copytree(trained, folder / 'scratch')
  with flagsaver.flagsaver(data_dir=data_dir, batch_size=50, seed=3,
                           checkpoint_dir=str(folder / 'scratch')):
    assert cifar10_eval.evaluate() == 0
    with flagsaver.flagsaver(output_dir=str(folder / 'slim'), conv1_channels=5,
                             reconstruction='scale'):
      assert thinet_compress.compress() == 0
    FLAGS.checkpoint_dir = str(folder / 'slim')
    assert cifar10_eval.evaluate() == 0
    with flagsaver.flagsaver(train_dir=str(folder / 'tuned'), max_steps=6,
                             log_frequency=2):
      assert thinet_finetune.finetune() == 0
    FLAGS.checkpoint_dir = str(folder / 'tuned')
    assert cifar10_eval.evaluate() == 0
  return folder


@pytest.fixture(scope='module')
def ask(sweep):
  """ask(path, post=None, **query): the decoded answer of a real TensorBoard."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  process = subprocess.Popen(
      [sys.executable, '-m', 'tensorboard.main', '--logdir', str(sweep),
       '--host', '127.0.0.1', '--port', str(port), '--load_fast', 'false'],
      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

  def answer(path, post=None, **query):
    request = urllib.request.Request(
        'http://127.0.0.1:%d/data/%s?%s' % (port, path,
                                            urllib.parse.urlencode(query)),
        post and json.dumps(post).encode(),
        {'Content-Type': 'application/json'})
    with urllib.request.urlopen(request, timeout=60) as reply:
      content = reply.read()
      return content if content[:4] == b'\x89PNG' else json.loads(content)

  try:
    while process.poll() is None:   # Until it serves, and has read all runs.
      try:
        if len(answer('runs')) >= 6:
          break
      except (urllib.error.URLError, ConnectionError):
        pass
      time.sleep(0.2)
    yield answer
  finally:
    process.terminate()
    process.wait()


def test_hparams_have_a_row_for_each_network(ask, sweep):
  experiment = ask('plugin/hparams/experiment', post={'experimentName': ''})
  assert {info['name'] for info in experiment['hparamInfos']} == {
      'conv1_channels', 'criterion', 'reconstruction', 'fine_tuned', 'seed'}
  columns = [{kind: info['name'], 'includeInResult': True}
             for kind in ('hparam', 'metric')
             for info in experiment[kind + 'Infos']]
  groups = ask('plugin/hparams/session_groups', post={
      'experimentName': '', 'startIndex': 0, 'sliceSize': 100,
      'allowedStatuses': ['STATUS_UNKNOWN', 'STATUS_SUCCESS', 'STATUS_RUNNING'],
      'colParams': columns})['sessionGroups']
  rows = {}
  for group in groups:
    found = {value['name']['tag']: value['value']
             for value in group['metricValues']}
    rows[group['hparams']['conv1_channels'], group['hparams']['fine_tuned'],
         group['hparams']['criterion'],
         group['hparams'].get('reconstruction')] = found
  assert rows.keys() == {(12, False, 'scratch', None),
                         (5, False, 'thinet', 'scale'),
                         (5, True, 'thinet', 'scale')}
  for (width, fine_tuned, criterion, _), found in rows.items():
    name = ('scratch' if criterion == 'scratch' else
            'tuned' if fine_tuned else 'slim')
    result = json.load(open(sweep / name / 'eval.json'))
    assert result['seed'] == (0 if name == 'scratch' else 3)
    for tag, expected in [
        ('Precision @ 1', result['top1'] / 100),
        ('Precision @ 5', result['top5'] / 100),
        ('latency_ms', result['latency_ms']), ('seconds', result['seconds']),
        ('multiply_adds', cifar10.cost(width)[0])]:
      np.testing.assert_allclose(found[tag], expected, rtol=1e-4)


def test_a_chart_lays_the_curves_of_a_width_over_each_other(ask):
  layout = ask('plugin/custom_scalars/layout')
  charts = {category['title']: [tag for chart in category['chart']
                                for tag in chart['multiline']['tag']]
            for category in layout['category']}
  assert charts == {'conv1 of %d channels' % width: [
      '^conv1_%d/cross_entropy$' % width,
      '^conv1_%d/batch_precision_1$' % width] for width in (12, 5)}
  found = ask('plugin/custom_scalars/scalars', run='tuned',
              tag='^conv1_5/cross_entropy$')
  points = found['tag_to_events']['conv1_5/cross_entropy']
  assert [step for _, step, _ in points] == [0, 2, 4]
  losses = ask('plugin/scalars/scalars', run='tuned',
               tag='losses_raw/cross_entropy')
  np.testing.assert_allclose([value for _, _, value in points],
                             [value for _, _, value in losses], rtol=1e-5)


def test_a_compression_shows_objective_scales_filters_and_command(ask, sweep):
  report = json.load(open(sweep / 'slim' / 'compress.json'))
  points = ask('plugin/scalars/scalars', run='slim', tag='objective')
  np.testing.assert_allclose(
      [value for _, _, value in points],
      [report['objective'][str(12 - step)] for _, step, _ in points], rtol=1e-5)
  assert [step for _, step, _ in points] == list(range(13))
  _, _, buckets = ask('plugin/histograms/histograms', run='slim',
                      tag='scales')[0]
  assert sum(count for _, _, count in buckets) == pytest.approx(5)
  (image,) = ask('plugin/images/images', run='slim', sample=0,
                 tag='conv1_filters/image/0')
  picture = ask('plugin/images/individualImage',
                **dict(urllib.parse.parse_qsl(image['query'])))
  kernel = conftest.newest(str(sweep / 'scratch'))[1][
      'conv1/weights' + checkpoint.AVERAGE]
  with tf.Session(graph=tf.Graph()) as session:
    with session.graph.as_default():
      shown = session.run(tf.image.decode_png(picture))
  assert np.array_equal(shown, summaries.filters(kernel, report['kept']))
  (text,) = ask('plugin/text/text', run='slim', tag='command')
  assert '<code>' in text['text']
  assert os.path.basename(sys.argv[0]) in text['text']


def test_curves_of_a_batch_in_numpy():
  logits = np.random.default_rng(0).normal(size=[20, 10]).astype(np.float32)
  labels = np.arange(20) % 10
  with tf.Graph().as_default(), tf.Session() as session:
    summaries.add_curves(12, tf.constant(logits), tf.constant(labels))
    found = tf.Summary.FromString(session.run(tf.summary.merge_all())).value
  probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  assert {value.tag: pytest.approx(value.simple_value, rel=1e-5)
          for value in found} == {
              'conv1_12/cross_entropy': -np.log(
                  probabilities[range(20), labels]).mean(),
              'conv1_12/batch_precision_1': (
                  logits.argmax(1) == labels).mean()}


def test_the_objective_goes_by_the_number_of_removed_channels():
  kernel = np.random.default_rng(0).normal(size=[5, 5, 3, 3])
  (_, first), *points = summaries.compression(np.float32(kernel), [0, 2],
                                              [0.0, 0.25, 0.5, 1.0], None)
  assert first == 0
  assert [(summary.value[0].tag, summary.value[0].simple_value, step)
          for summary, step in points] == [
              ('objective', 0.0, 0), ('objective', 0.25, 1),
              ('objective', 0.5, 2), ('objective', 1.0, 3)]


def test_removed_filters_are_dimmed_toward_white():
  kernel = np.zeros([5, 5, 3, 9], np.float32)
  kernel[0, 0, 0] = -1   # Every filter: red low in a corner, high elsewhere.
  kernel[4, 3, 0] = 3
  picture = summaries.filters(kernel, [1, 8])
  assert picture.shape == (2 * 34, 8 * 34, 3)
  def pixel(channel, row, column):   # Two pixels of border, six a weight.
    return picture[channel // 8 * 34 + 2 + 6 * row + 3,
                   channel % 8 * 34 + 2 + 6 * column + 3].tolist()
  for kept in (1, 8):
    assert pixel(kept, 0, 0) == [0, 64, 64]
    assert pixel(kept, 4, 3) == [255, 64, 64]
  assert pixel(0, 0, 0) == [204, 217, 217]     # 255 - 0.2 (255 - value).
  assert pixel(0, 4, 3) == [255, 217, 217]
  assert (picture[34:, 34:] == 255).all()      # No filter there.
  assert (picture[:2] == 255).all()
