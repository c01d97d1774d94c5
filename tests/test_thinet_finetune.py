"""Fine-tuning starts from the slim network's averages and learns."""
import json

from thinet import checkpoint
import cifar10
import cifar10_eval
import cifar10_train
import conftest
import numpy as np
import pytest
import thinet_compress
import thinet_finetune
from test_cifar10_train import assert_same, read_to


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
  _, before, _ = conftest.newest(slim)
  _, after, settings = conftest.newest(str(tmp_path / 'tuned'))
  for name in cifar10.weight_shapes():
    start = before[name + checkpoint.AVERAGE]
    assert np.array_equal(after[name], start)
    np.testing.assert_allclose(after[name + checkpoint.AVERAGE], start,
                               rtol=1e-5, atol=1e-8)
  assert (settings['criterion'], settings['reconstruction'],
          settings['fine_tuned']) == ('thinet', 'none', True)
  assert settings['parent']['parent_step'] == 30


def test_training_is_given_the_averages(tmp_path, flags, monkeypatch):
  """The arrays to start from, in weights and averages."""
  arrays = conftest.drawn(cifar10.Widths(3))
  path = checkpoint.save(str(tmp_path), arrays, {'criterion': 'l1',
                                                 'conv1_channels': 3})
  asked = []
  monkeypatch.setattr(cifar10_train, 'train',
                      lambda *given, **made: asked.append((given, made)))
  monkeypatch.setattr(thinet_finetune, 'preconditioners',
                      lambda weights: weights)
  flags(checkpoint_dir=str(tmp_path))
  thinet_finetune.finetune()
  ((schedule, widths, stream, initial, preconditioners), made), = asked
  assert (schedule.name, widths, stream) == ('finetune', cifar10.Widths(3),
                                             'finetuning')
  assert made == {'parent': {'criterion': 'l1', 'conv1_channels': 3},
                  'parent_digest': checkpoint.digest(path),
                  'criterion': 'l1', 'fine_tuned': True}
  assert initial.keys() == arrays.keys()
  for name, value in preconditioners().items():
    average = arrays[name + checkpoint.AVERAGE]
    for given in (value, initial[name], initial[name + checkpoint.AVERAGE]):
      assert np.array_equal(given, average)


def one_step(slim, folder, flags, monkeypatch, **changed):
  """name -> what a step by the changed schedule adds to the weights."""
  monkeypatch.setattr(thinet_finetune, 'SCHEDULE',
                      thinet_finetune.SCHEDULE._replace(**changed))
  flags(train_dir=str(folder), max_steps=1, learning_rate=3.5)
  assert thinet_finetune.finetune() == 0
  _, before, _ = conftest.newest(slim)
  _, after, _ = conftest.newest(folder)
  return {name: after[name] - before[name + checkpoint.AVERAGE]
          for name in cifar10.weight_shapes(cifar10.Widths(4))}


def test_convolutions_learn_faster_by_the_schedules_factor(
    tmp_path, flags, slim, monkeypatch):
  """One step from the same weights, with the factor and without."""
  moved = [one_step(slim, tmp_path / ('times%g' % factor), flags, monkeypatch,
                    convolution_rate=factor) for factor in (1.0, 12.0)]
  for name, change in moved[0].items():
    times = 12 if name.startswith('conv') else 1
    assert np.abs(change).max() > 0
    np.testing.assert_allclose(moved[1][name], times * change, rtol=0,
                               atol=1e-2 * times * np.abs(change).max())


def test_it_learns_and_the_result_is_marked(tmp_path, data_dir, slim, trained):
  _, before, _ = conftest.newest(slim)
  code, _, _ = conftest.run(
      'thinet_finetune.py', '--data_dir=' + data_dir, '--batch_size=50',
      '--checkpoint_dir=' + slim, '--train_dir=%s' % (tmp_path / 'tuned'),
      '--epochs=25')
  assert code == 0
  _, after, _ = conftest.newest(str(tmp_path / 'tuned'))
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
  """kill -9 when step 20 is logged; the preconditioners are then made again."""
  def command(folder):
    return ('thinet_finetune.py', '--data_dir=' + data_dir, '--batch_size=50',
            '--checkpoint_dir=' + slim, '--train_dir=%s' % folder,
            '--max_steps=40', '--checkpoint_frequency=10', '--log_frequency=10')
  process = conftest.start(*command(tmp_path / 'killed'))
  read_to(process, ': step 20, loss')
  process.kill()
  process.communicate()
  for folder in ('killed', 'never'):
    assert conftest.run(*command(tmp_path / folder))[0] == 0
  assert_same(tmp_path / 'killed', tmp_path / 'never')


def test_loss_not_finite_saves_nothing_bad(tmp_path, data_dir, slim):
  tuned = str(tmp_path / 'tuned')
  code, _, errors = conftest.run(
      'thinet_finetune.py', '--data_dir=' + data_dir, '--batch_size=50',
      '--checkpoint_dir=' + slim, '--train_dir=' + tuned, '--max_steps=30',
      '--learning_rate=1e6', '--checkpoint_frequency=1')
  assert code == 1 and ('not finite' in errors or 'Loss is' in errors)
  assert 'Traceback' not in errors
  for path in checkpoint.paths(tuned):
    arrays = checkpoint.read(path, cifar10.shapes_like).arrays
    assert all(np.isfinite(value).all() for value in arrays.values())
