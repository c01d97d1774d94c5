"""What a real TensorBoard shows."""
import json
import os
import re
import shlex
import shutil
import socket
import struct
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
from tensorboard.backend.event_processing import event_accumulator

FLAGS = cifar10.FLAGS
EVERY_ROW = {   # A request for all rows of HParams.
    'experimentName': '', 'startIndex': 0, 'sliceSize': 100, 'colParams': [],
    'allowedStatuses': ['STATUS_UNKNOWN', 'STATUS_SUCCESS', 'STATUS_RUNNING']}


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
        # The row is in the last file of a run.
        if len(answer('plugin/hparams/session_groups', EVERY_ROW)[
            'sessionGroups']) == 3:
          break
      except (urllib.error.URLError, ConnectionError):
        pass
      time.sleep(0.2)
    yield answer
  finally:
    process.terminate()
    process.wait()


def test_a_network_is_one_run(ask, sweep):
  assert sorted(ask('runs')) == ['scratch', 'slim', 'tuned']


def test_hparams_have_a_row_for_each_network(ask, sweep):
  experiment = ask('plugin/hparams/experiment', post={'experimentName': ''})
  titles = {info['name'] for info in experiment['hparamInfos']}
  # The first five are shown.
  assert sorted(titles)[:5] == ['conv1_channels', 'criterion', 'fine_tuned',
                                'reconstruction', 'seed']
  columns = [{kind: info['name'], 'includeInResult': True}
             for kind in ('hparam', 'metric')
             for info in experiment[kind + 'Infos']]
  groups = ask('plugin/hparams/session_groups', post=dict(
      EVERY_ROW, colParams=columns))['sessionGroups']
  rows = {group['sessions'][0]['name']: (group['hparams'], {
      value['name']['tag']: value['value'] for value in group['metricValues']})
          for group in groups}
  assert rows.keys() == {'scratch', 'slim', 'tuned'}
  for name, (hparams, metrics) in rows.items():
    result = json.load(open(sweep / name / 'eval.json'))
    width = 12 if name == 'scratch' else 5
    # Whole numbers are text, so that they are shown as they are.
    assert [hparams[title].strip() for title in (
        'conv1_channels', 'seed', 'steps')] == [
            str(width), '0' if name == 'scratch' else '3',
            {'scratch': '30', 'slim': '0', 'tuned': '6'}[name]]
    assert ' 5' < '12' and len(hparams['conv1_channels']) == 10
    assert hparams['widths of all layers'].split() == [str(width), '64', '384',
                                                       '192']
    assert (hparams['criterion'], hparams.get('reconstruction'),
            hparams['fine_tuned'], hparams.get('training schedule')) == {
                'scratch': ('scratch', None, False, 'published'),
                'slim': ('thinet', 'scale', False, None),
                'tuned': ('thinet', 'scale', True, 'finetune')}[name]
    for title, expected in [
        ('work in million multiply-adds', cifar10.cost(
            cifar10.Widths(width))[0] / 1e6),
        ('size in million parameters', cifar10.cost(
            cifar10.Widths(width))[1] / 1e6),
        ('time of a batch in ms', result['latency_ms']),
        ('time to make in minutes', result['seconds'] / 60)]:
      np.testing.assert_allclose(hparams[title], expected, rtol=1e-4)
    for k in (1, 5):
      np.testing.assert_allclose(metrics['Precision @ %d' % k],
                                 result['top%d' % k] / 100, rtol=1e-4)


def test_the_charts_of_all_widths_have_the_same_tags(ask):
  layout = ask('plugin/custom_scalars/layout')
  category, = layout['category']
  found = {tag: ask('plugin/custom_scalars/scalars', run='tuned',
                    tag=tag)['tag_to_events']
           for chart in category['chart'] for tag in chart['multiline']['tag']}
  assert {tag: list(events) for tag, events in found.items()} == {
      '^%s$' % tag: [tag] for tag in (
          'Precision @ 1', 'batch/precision @ 1', 'batch/cross_entropy',
          'losses_raw/total_loss')}
  points = found['^batch/cross_entropy$']['batch/cross_entropy']
  assert [step for _, step, _ in points] == [0, 2, 4, 5]
  losses = ask('plugin/scalars/scalars', run='tuned',
               tag='losses_raw/cross_entropy')
  np.testing.assert_allclose([value for _, _, value in points],
                             [value for _, _, value in losses], rtol=1e-5)


def test_no_training_has_a_chart_of_one_point(ask):
  tags = ask('plugin/scalars/tags')
  for run in ('slim', 'tuned'):   # The other has one line of the log.
    for tag in tags[run]:
      points = ask('plugin/scalars/scalars', run=run, tag=tag)
      # The slim network's point is where the fine-tuning's curve begins.
      assert len(points) > 1 or (run, points[0][1]) == ('slim', 0)
  start, = ask('plugin/scalars/scalars', run='slim', tag='Precision @ 1')
  curve = ask('plugin/scalars/scalars', run='tuned', tag='Precision @ 1')
  assert curve[0][1:] == start[1:] and curve[-1][1] == 6


def test_a_compression_shows_filters_and_channels(ask, sweep):
  report = json.load(open(sweep / 'slim' / 'compress.json'))
  (image,) = ask('plugin/images/images', run='slim', sample=0,
                 tag='conv1_filters/image/0')
  picture = ask('plugin/images/individualImage',
                **dict(urllib.parse.parse_qsl(image['query'])))
  kernel = conftest.newest(str(sweep / 'scratch'))[1][
      'conv1/weights' + checkpoint.AVERAGE]
  with tf.Session(graph=tf.Graph()) as session:
    with session.graph.as_default():
      shown = session.run(tf.image.decode_png(picture))
  assert np.array_equal(shown, summaries.filters(
      kernel, report['kept']['conv1']))
  (table,) = ask('plugin/text/text', run='slim', tag='removed channels/conv1')
  rows = [re.findall('<td[^>]*>(.*?)</td>', row)
          for row in table['text'].split('<tr>')[2:]]
  assert len(rows) == 12
  for number, (channel, row) in enumerate(zip(
      report['removal_order']['conv1'], rows), 1):
    assert row[:2] == [str(number), str(channel)]
    assert float(row[2]) == pytest.approx(
        report['objective']['conv1'][str(12 - number)], rel=1e-3)
    kept = report['kept']['conv1']
    assert row[3] == ('' if channel not in kept else 'yes, times %.3f' %
                      report['readers']['conv1']['scales'][kept.index(channel)])


def test_every_kind_of_run_shows_its_command(ask):
  script = os.path.splitext(os.path.basename(sys.argv[0]))[0]
  for run in ('slim', 'tuned'):   # Here all are the tests' own process.
    (shown, *_) = ask('plugin/text/text', run=run, tag='command/' + script)
    assert '<code>cd ' in shown['text']
    assert os.path.basename(sys.argv[0]) in shown['text']


def test_a_shell_reads_a_shown_command_as_it_was_typed():
  """A flag a line, so that nothing is cut off; bash is the oracle."""
  words = ['--train_dir=runs/a b --c', "--data_dir=it's", '--epochs=1']
  summary = summaries.command(shlex.join(['python', 'cifar10_train.py',
                                          *words]))
  value, = summary.value
  assert value.tag == 'command/cifar10_train'
  fence, *lines, end = value.tensor.string_val[0].decode().split('\n')
  assert (fence, end, len(lines)) == ('```', '```', 4)
  assert lines[1].startswith('    ')
  printed = subprocess.run(
      ['bash', '-c', 'python() { printf "%s\\n" "$@"; }\n' + '\n'.join(lines)],
      capture_output=True, text=True, check=True).stdout
  assert printed.splitlines() == ['cifar10_train.py'] + words
  summary = summaries.command("cd '/a b' && /c/python /d/cifar10_train.py --e")
  assert summary.value[0].tag == 'command/cifar10_train'
  assert summary.value[0].tensor.string_val[0].decode() == (
      "```\ncd '/a b' && \\\n/c/python /d/cifar10_train.py \\\n    --e\n```")


def test_a_new_row_takes_the_place_of_the_old_one(tmp_path):
  for top1 in (10.0, 20.0):
    summaries.write_row(str(tmp_path), {'seed': 1}, {
        'conv1_channels': 8, 'global_step': 3, 'latency_ms': top1})
  assert [path.name for path in tmp_path.iterdir()] == [
      'events.out.tfevents.hparams']
  events = event_accumulator.EventAccumulator(str(tmp_path))
  events.Reload()
  content = events.SummaryMetadata('_hparams_/session_start_info')
  assert b'20' not in content.plugin_data.content   # A double, not text.
  assert struct.pack('<d', 20.0) in content.plugin_data.content


def test_curves_of_a_batch_in_numpy():
  logits = np.random.default_rng(0).normal(size=[20, 10]).astype(np.float32)
  labels = np.arange(20) % 10
  with tf.Graph().as_default(), tf.Session() as session:
    summaries.add_curves(tf.constant(logits), tf.constant(labels))
    found = tf.Summary.FromString(session.run(tf.summary.merge_all())).value
  probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  assert {value.tag: pytest.approx(value.simple_value, rel=1e-5)
          for value in found} == {
              'batch/cross_entropy': -np.log(
                  probabilities[range(20), labels]).mean(),
              'batch/precision @ 1': (
                  logits.argmax(1) == labels).mean()}


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
