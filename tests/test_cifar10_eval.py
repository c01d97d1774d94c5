"""Evaluation against a count in NumPy, and as a process."""
import json
import os

import checkpoint
import cifar10
import cifar10_eval
import cifar10_input
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorboard.backend.event_processing import event_accumulator


@pytest.mark.parametrize('weights', ['averaged', 'raw'])
@pytest.mark.parametrize('eval_data, examples', [('test', 100),
                                                 ('train_eval', 500)])
@pytest.mark.parametrize('batch_size', [7, 50])   # A short last batch, or none.
def test_counts_equal_numpys(flags, data_dir, trained, weights, eval_data,
                             examples, batch_size):
  flags(data_dir=data_dir, batch_size=batch_size)
  _, arrays, _ = checkpoint.read_newest(trained)
  counts = cifar10_eval.eval_once(arrays, examples, eval_data, weights)
  suffix = cifar10.AVERAGE if weights == 'averaged' else ''
  with tf.Graph().as_default(), tf.Session() as session:
    images, labels = cifar10_input.inputs(
        eval_data, os.path.join(data_dir, cifar10_input.FOLDER), 1000,
        tf.constant(0, tf.int64))
    logits = cifar10.inference(images, 12)
    session.run(tf.local_variables_initializer())
    cifar10.assign(session, {var: arrays[var.op.name + suffix]
                             for var in tf.trainable_variables()})
    logits, labels = session.run([logits, labels])
  ranks = (logits > logits[range(examples), labels][:, None]).sum(1)
  assert counts == ((ranks < 1).sum(), (ranks < 5).sum(), examples)


def test_eval_json_line_and_scalars(data_dir, trained):
  code, output, _ = conftest.run('cifar10_eval.py', '--data_dir=' + data_dir,
                                 '--checkpoint_dir=' + trained)
  assert code == 0
  result = json.load(open(os.path.join(trained, 'eval.json')))
  assert result.keys() == {
      'conv1_channels', 'top1', 'top5', 'examples', 'global_step', 'split',
      'weights', 'checkpoint', 'seed'}
  assert (result['conv1_channels'], result['examples'], result['global_step'],
          result['split'], result['weights'], result['checkpoint'],
          result['seed']) == (12, 100, 30, 'test', 'averaged', 'model.ckpt-30',
                              0)
  assert 'precision @ 1 = %.3f, @ 5 = %.3f (100 images, step 30)' % (
      result['top1'] / 100, result['top5'] / 100) in output
  events = event_accumulator.EventAccumulator(os.path.join(trained,
                                                           'eval_test'))
  events.Reload()
  for k in ('1', '5'):
    event = events.Scalars('Precision @ ' + k)[-1]
    assert event.step == 30
    assert abs(event.value - result['top' + k] / 100) < 1e-6


def test_watching_evaluates_each_new_checkpoint_once(tmp_path, data_dir):
  process = conftest.start('cifar10_eval.py', '--data_dir=' + data_dir,
                           '--checkpoint_dir=%s' % tmp_path,
                           '--eval_interval_secs=1')
  assert 'holds no finished checkpoint' in process.stdout.readline()
  generator = np.random.default_rng(0)
  arrays = {name + suffix: generator.normal(0, 0.05, shape).astype(np.float32)
            for name, shape in cifar10.weight_shapes(8).items()
            for suffix in ('', cifar10.AVERAGE)}
  checkpoint.save(str(tmp_path), arrays, {})
  line = process.stdout.readline()
  while 'precision' not in line:
    assert 'holds no finished checkpoint' in line
    line = process.stdout.readline()
  process.terminate()
  process.communicate()
  assert '(100 images, step 0)' in line
