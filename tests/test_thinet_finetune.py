"""Fine-tuning starts from the slim network's averages and learns."""
import json

from support import checkpoint
import cifar10
import cifar10_eval
import conftest
import numpy as np
import pytest
import thinet_compress
import thinet_finetune
from cifar10_input import UserError
from test_cifar10_train import assert_same


@pytest.fixture
def slim(tmp_path, flags, data_dir, trained):
  flags(data_dir=data_dir, checkpoint_dir=trained, conv1_channels=4,
        output_dir=str(tmp_path / 'slim'), num_images=200, batch_size=50)
  assert thinet_compress.compress() == 0
  flags(checkpoint_dir=str(tmp_path / 'slim'), conv1_channels=None)
  return str(tmp_path / 'slim')


def test_with_rate_0_nothing_but_weight_averages_remain(tmp_path, flags, slim):
  flags(train_dir=str(tmp_path / 'tuned'), max_steps=3, learning_rate=0.0)
  assert thinet_finetune.finetune() == 0
  _, before, _ = checkpoint.read_newest(slim)
  _, after, settings = checkpoint.read_newest(str(tmp_path / 'tuned'))
  for name in cifar10.weight_shapes(4):
    start = before[name + cifar10.AVERAGE]
    assert np.array_equal(after[name], start)
    np.testing.assert_allclose(after[name + cifar10.AVERAGE], start, rtol=1e-5,
                               atol=1e-8)
  assert (settings['criterion'], settings['reconstruction'],
          settings['fine_tuned']) == ('thinet', 'none', True)
  assert settings['parent']['parent_step'] == 30


def one_step(slim, folder, flags, monkeypatch, **changed):
  """name -> what one step adds to the weights, by the schedule so changed."""
  monkeypatch.setitem(cifar10.SCHEDULES, 'finetune', cifar10.SCHEDULES[
      'finetune']._replace(**changed))
  flags(train_dir=str(folder), max_steps=1, learning_rate=3.5)
  assert thinet_finetune.finetune() == 0
  _, before, _ = checkpoint.read_newest(slim)
  _, after, _ = checkpoint.read_newest(str(folder))
  return {name: after[name] - before[name + cifar10.AVERAGE]
          for name in cifar10.weight_shapes(4)}


def test_convolutions_learn_faster_by_the_schedules_factor(
    tmp_path, flags, slim, monkeypatch):
  """After one step from the same weights, in a run with the factor and one
  without."""
  moved = [one_step(slim, tmp_path / ('times%g' % factor), flags, monkeypatch,
                    convolution_rate=factor) for factor in (1.0, 12.0)]
  for name, change in moved[0].items():
    times = 12 if name.startswith('conv') else 1
    assert np.abs(change).max() > 0
    np.testing.assert_allclose(moved[1][name], times * change, rtol=0,
                               atol=1e-2 * times * np.abs(change).max())


def test_it_learns_and_the_result_is_marked(tmp_path, data_dir, slim, trained):
  _, before, _ = checkpoint.read_newest(slim)
  code, _, _ = conftest.run(
      'thinet_finetune.py', '--data_dir=' + data_dir, '--batch_size=50',
      '--checkpoint_dir=' + slim, '--train_dir=%s' % (tmp_path / 'tuned'),
      '--epochs=25')
  assert code == 0
  _, after, _ = checkpoint.read_newest(str(tmp_path / 'tuned'))
  assert after['global_step'] == 250
  top1 = [cifar10_eval.eval_once(arrays, 500, 'train_eval', 'averaged')[0]
          for arrays in (before, after)]
  assert top1[1] > top1[0] + 25
  code, _, _ = conftest.run('cifar10_eval.py', '--data_dir=' + data_dir,
                            '--checkpoint_dir=%s' % (tmp_path / 'tuned'))
  result = json.load(open(tmp_path / 'tuned' / 'eval.json'))
  assert code == 0 and result['fine_tuned'] is True
  assert result['conv1_channels'] == 4


def test_killed_and_resumed_equals_never_stopped(tmp_path, data_dir, slim):
  """kill -9 when step 20 is logged; what preconditions is then made again."""
  def command(folder):
    return ('thinet_finetune.py', '--data_dir=' + data_dir, '--batch_size=50',
            '--checkpoint_dir=' + slim, '--train_dir=%s' % folder,
            '--max_steps=40', '--checkpoint_frequency=10', '--log_frequency=10')
  process = conftest.start(*command(tmp_path / 'killed'))
  for line in process.stdout:
    if ': step 20,' in line:
      break
  process.kill()
  process.communicate()
  for folder in ('killed', 'never'):
    assert conftest.run(*command(tmp_path / folder))[0] == 0
  assert_same(tmp_path / 'killed', tmp_path / 'never')


def probabilities(arrays):
  """float64 [500, 10]: softmax of the network's logits, in NumPy."""
  powers = np.exp(np.float64(conftest.outputs(arrays, 'logits:0')))
  return powers / powers.sum(1, keepdims=True)


def test_distillation_comes_closer_to_the_teacher(tmp_path, flags, slim,
                                                  trained):
  results = {}
  for name, teacher in (('plain', None), ('distilled', trained)):
    flags(train_dir=str(tmp_path / name), distill=teacher, max_steps=60,
          learning_rate=0.05, batch_size=50)
    assert thinet_finetune.finetune() == 0
    _, results[name], settings = checkpoint.read_newest(str(tmp_path / name))
    assert ('teacher' in settings) == bool(teacher)
  assert settings['teacher']['conv1_channels'] == 12
  assert settings['teacher']['step'] == 30
  assert results['plain'].keys() == results['distilled'].keys()
  wanted = probabilities(checkpoint.read_newest(trained)[1])
  plain, distilled = (
      -(wanted * np.log(probabilities(results[name]) / wanted)).sum(1).mean()
      for name in ('plain', 'distilled'))
  assert 0 <= distilled < 0.5 * plain
  flags(distill=None)
  with pytest.raises(UserError, match='was made with teacher'):
    thinet_finetune.finetune()


def test_loss_not_finite_saves_nothing_bad(tmp_path, data_dir, slim):
  tuned = str(tmp_path / 'tuned')
  code, _, errors = conftest.run(
      'thinet_finetune.py', '--data_dir=' + data_dir, '--batch_size=50',
      '--checkpoint_dir=' + slim, '--train_dir=' + tuned, '--max_steps=30',
      '--learning_rate=1e6', '--checkpoint_frequency=1')
  assert code == 1 and ('not finite' in errors or 'Loss is' in errors)
  assert 'Traceback' not in errors
  for path in checkpoint.finished(tuned):
    arrays, _ = checkpoint.read(path)
    assert all(np.isfinite(value).all() for value in arrays.values())
