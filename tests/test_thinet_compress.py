"""Compression of a real checkpoint, against slices and stored samples."""
import contextlib
import datetime
import glob
import json
import os
import shutil

from thinet import checkpoint
from thinet import files
import cifar10
import cifar10_eval
import cifar10_train
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from thinet import algebra
import thinet_compress
import thinet_finetune
from thinet import moments
from thinet import prune
from thinet import refit
from absl.testing import flagsaver
from cifar10_input import UserError
from test_algebra import moments_of, textbook_order


def compress(flags, data_dir, parent, folder, width, **more):
  flags(data_dir=data_dir, checkpoint_dir=parent, output_dir=str(folder),
        conv1_channels=width, num_images=500, batch_size=128, **more)
  assert thinet_compress.compress() == 0
  report = json.load(open(folder / 'compress.json'))
  return report, conftest.newest(folder)


CHANNELS, KEPT = 4, [0, 3]
NARROW = conftest.NARROW


def averages_of(folder):
  return conftest.averages(conftest.newest(folder)[1])


def parent_of(weights):
  """A checkpoint with these averages."""
  return checkpoint.Checkpoint('', {name + checkpoint.AVERAGE: value
                                    for name, value in weights.items()}, {}, '')


@pytest.fixture
def drawn():
  """Weights and, drawn apart, their averages; samples to fit and to check."""
  generator = np.random.default_rng(0)
  arrays = conftest.drawn(cifar10.Widths(CHANNELS), seed=1)
  mix = generator.normal(size=[CHANNELS, CHANNELS])
  fit, check = (abs(np.einsum('nct,cd->ndt', generator.normal(
      size=[samples, CHANNELS, 25]), mix)) for samples in (1500, 500))
  return arrays, fit, check


def contributions(patches, kernel):
  """[samples, filters, channels], from [samples, channels, 25]."""
  return np.einsum('nct,tcf->nfc', patches,
                   kernel.reshape(25, CHANNELS, 64).astype(float))


def rebuild(mode, arrays, fit, check):
  """(changed, details) where conv1 alone is pruned."""
  changed, details = prune.rebuild_all(
      mode, {'conv1': tuple(
          moments_of(each.reshape(len(each), -1)) for each in (fit, check))},
      conftest.averages(arrays), {'conv1': KEPT})
  return changed, details['conv1']


def sample_of(num_images, locations, seed, batch_size):
  return thinet_compress.Sample(num_images, locations, batch_size, seed, 'data')


def sampled(arrays, *sample):
  """(fit, check): moments of the averaged network's patches."""
  return thinet_compress.make_moments(
      conftest.averages(arrays), sample_of(*sample), ['conv1'])['conv1']


def test_scales_are_fitted_to_the_average_and_checked_on_the_rest(drawn):
  """The scales by lstsq on the stored contributions."""
  arrays, fit, check = drawn
  kernel = arrays['conv2/weights' + checkpoint.AVERAGE]
  rows = contributions(fit, kernel).reshape(-1, CHANNELS)
  scales = np.linalg.lstsq(rows[:, KEPT], rows.sum(1), rcond=None)[0]
  rows = contributions(check, kernel).reshape(-1, CHANNELS)
  for mode, factors in (('none', np.ones(2)), ('scale', scales)):
    changed, details = rebuild(mode, arrays, fit, check)
    np.testing.assert_allclose(details['scales'], factors, rtol=1e-6)
    for key, present in (('before', np.ones(2)), ('after', factors)):
      left = rows.sum(1) - rows[:, KEPT] @ present
      np.testing.assert_allclose(details['relative_error_' + key],
                                 (left ** 2).sum() / (rows.sum(1) ** 2).sum(),
                                 rtol=1e-6)
    assert changed == {}   # They are slices; see test_prune.


def ridge_regression(arrays, fit, check):
  """For each ridge (weights [50, 64], bias, error on check), by lstsq on rows
  that the ridge adds, toward the average of the kept channels' weights."""
  kernel = arrays['conv2/weights' + checkpoint.AVERAGE]
  present = kernel.transpose(2, 0, 1, 3)[KEPT].reshape(50, 64)
  bias = arrays['conv2/biases' + checkpoint.AVERAGE]
  x, other = (each[:, KEPT].reshape(len(each), 50) for each in (fit, check))
  y, wanted = (contributions(each, kernel).sum(2) for each in (fit, check))
  centred, found = x - x.mean(0), {}
  for ridge in 10.0 ** np.arange(-8, 0):
    root = np.sqrt(ridge * (centred ** 2).sum(0).mean())
    weights = np.linalg.lstsq(
        np.r_[centred, root * np.eye(50)],
        np.r_[y - y.mean(0), root * present], rcond=None)[0]
    shift = y.mean(0) - x.mean(0) @ weights
    error = (np.square(other @ weights + shift - wanted).sum() /
             np.square(wanted).sum())
    found[ridge] = weights, bias + shift, error
  return found


def test_full_is_ridge_regression_by_the_ridge_that_does_best(drawn):
  arrays, fit, check = drawn
  changed, details = rebuild('full', arrays, fit, check)
  found = ridge_regression(arrays, fit, check)
  best = min(found, key=lambda ridge: found[ridge][2])
  assert best > 1e-8   # Few samples need more than the least ridge.
  assert details['ridge'] == pytest.approx(best)
  weights, bias, error = found[best]
  np.testing.assert_allclose(
      changed['conv2/weights'].transpose(2, 0, 1, 3).reshape(50, 64), weights,
      atol=1e-5)
  np.testing.assert_allclose(changed['conv2/biases'], bias, atol=1e-5)
  np.testing.assert_allclose(details['relative_error_after'], error, rtol=1e-5)
  assert 'scales' not in details and error < details['relative_error_before']


def test_network_starts_from_the_averages_and_what_full_gives(drawn,
                                                              monkeypatch):
  arrays, fit, check = drawn
  asked = []
  monkeypatch.setattr(
      thinet_compress, 'networks_side_by_side',
      lambda *given: asked.append(given) or contextlib.nullcontext('pair'))
  monkeypatch.setattr(
      refit, 'refit_network', lambda pair, descend:
      pair == 'pair' and ({'refitted': 1}, {'layers': 2}))
  changed, details = rebuild('network', arrays, fit, check)
  assert thinet_compress.refitted(
      conftest.averages(arrays), changed, {'conv1': KEPT},
      sample_of(40, 10, 0, 128)) == ({'refitted': 1}, {'layers': 2})
  (original, start, kept, num_images, batch_size, seed), = asked
  assert kept == {'conv1': KEPT}
  assert (num_images, batch_size, seed) == (40, 4, 0)
  assert original.keys() == start.keys() == cifar10.weight_shapes().keys()
  weights, bias, _ = ridge_regression(arrays, fit, check)[details['ridge']]
  for name, value in original.items():
    average = arrays[name + checkpoint.AVERAGE]
    assert np.array_equal(value, average)
    expected = {
        'conv1/weights': lambda: average[..., KEPT],
        'conv1/biases': lambda: average[KEPT],
        'conv2/weights': lambda: weights.reshape(2, 5, 5, 64).transpose(
            1, 2, 0, 3),
        'conv2/biases': lambda: bias}.get(name, lambda: average)()
    np.testing.assert_allclose(start[name], expected, rtol=0, atol=1e-5)


def test_the_parent_is_taken_by_its_averages(drawn, flags, tmp_path):
  checkpoint.save(str(tmp_path), drawn[0], {'seed': 5})
  flags(checkpoint_dir=str(tmp_path), output_dir='x', conv1_channels=2)
  parent = thinet_compress.parent_network()
  assert parent.path == str(tmp_path / 'model.ckpt-0')
  assert parent.settings == {'seed': 5}
  assert parent.averages.keys() == cifar10.weight_shapes().keys()
  for name, value in parent.averages.items():
    assert np.array_equal(value, drawn[0][name + checkpoint.AVERAGE])
    assert np.array_equal(parent.arrays[name], drawn[0][name])


def test_choices_are_made_from_the_averages(drawn):
  """The textbook's order on stored samples, and the filters' L1 norms."""
  arrays, fit, _ = drawn
  rows = contributions(
      fit, arrays['conv2/weights' + checkpoint.AVERAGE]).reshape(-1, CHANNELS)
  size = abs(arrays['conv1/weights' + checkpoint.AVERAGE]).sum((0, 1, 2))
  expected = {'thinet': textbook_order(rows), 'l1': np.argsort(size).tolist()}
  assert expected['l1'] != np.argsort(
      abs(arrays['conv1/weights']).sum((0, 1, 2))).tolist()
  found = {'conv1': (moments_of(fit.reshape(len(fit), -1)), None)}
  for criterion, wanted in expected.items():
    choice = prune.choose_all(criterion, found, conftest.averages(arrays),
                              {'conv1': 3}, 0)['conv1']
    assert choice.order.tolist() == wanted
    assert choice.kept.tolist() == sorted(wanted[1:])
    np.testing.assert_allclose(
        choice.objective, [(rows[:, wanted[:m]].sum(1) ** 2).sum() /
                           (rows.sum(1) ** 2).sum() for m in range(5)],
        atol=1e-9)


def test_what_a_reader_loses_itself_does_not_count(drawn):
  """local3 and local4 together: local3 by the units that local4 keeps."""
  arrays, _, _ = drawn
  generator, found = np.random.default_rng(1), {}
  for layer, size in (('local3', 384), ('local4', 192)):
    rows = abs(generator.normal(size=[500, size]))
    found[layer] = moments_of(rows), None
  choices = prune.choose_all('thinet', found, conftest.averages(arrays),
                             {'local3': 100, 'local4': 20}, 0)
  assert list(choices) == ['local3', 'local4']
  kernel = arrays['local4/weights' + checkpoint.AVERAGE]
  kept = choices['local4'].kept
  assert len(kept) == 20 and len(choices['local3'].kept) == 100
  for units, same in ((kept, True), (np.arange(192), False)):
    order = algebra.removal_order(algebra.contribution_gram(
        found['local3'][0], kernel[:, units]))
    assert np.array_equal(choices['local3'].order, order) == same


def test_moments_are_those_of_the_averaged_networks_patches(flags, data_dir,
                                                            drawn):
  """All positions of all images; a tenth of each batch is held back."""
  arrays, _, _ = drawn
  flags(data_dir=data_dir)
  fit, check = sampled(arrays, 500, 144, 0, 150)
  # 144 times 150, 150, 150 and 50.
  assert check.count == 3 * 2160 + 720
  assert fit.count + check.count == 144 * 500
  norm1 = np.pad(conftest.outputs(arrays, 'norm1'),
                 [(0, 0), (2, 2), (2, 2), (0, 0)]).astype(float)
  patches = np.stack([norm1[:, i:i + 12, j:j + 12] for i in range(5)
                      for j in range(5)], -1).reshape(-1, 25 * CHANNELS)
  expected = moments_of(patches)   # Channel by channel.
  for name, tolerance in (('second', 1e-4), ('first', 1e-5)):
    wanted = getattr(expected, name)
    np.testing.assert_allclose(getattr(fit, name) + getattr(check, name),
                               wanted, rtol=0, atol=tolerance * wanted.max())
    np.testing.assert_allclose(9 * getattr(check, name), getattr(fit, name),
                               rtol=0, atol=0.2 * wanted.max())


@pytest.fixture(scope='module')
def stored_rows(data_dir, trained):
  """Contributions [position and filter, channel] at every position of conv2, by
  TensorFlow's own convolution of one channel at a time."""
  arrays = conftest.newest(trained)[1]
  with flagsaver.flagsaver(data_dir=data_dir):
    norm1 = conftest.outputs(arrays, 'norm1')
  kernel = arrays['conv2/weights' + checkpoint.AVERAGE]
  with tf.Graph().as_default(), tf.Session() as session:
    return session.run(tf.stack(   # A column after the other in memory.
        [tf.nn.conv2d(norm1[..., c:c + 1], kernel[:, :, c:c + 1], 1, 'SAME')
         for c in range(12)])).astype(np.float64).reshape(12, -1).T


@pytest.fixture(scope='module')
def stored_order(stored_rows):
  return textbook_order(stored_rows)


def test_all_positions_equal_the_textbook_on_stored_samples(
    flags, data_dir, trained, stored_rows, stored_order):
  """144 positions an image: the moments are those of a whole convolution."""
  _, arrays, _ = conftest.newest(trained)
  flags(data_dir=data_dir)
  fit, check = sampled(arrays, 500, 144, 0, 500)
  kernel = arrays['conv2/weights' + checkpoint.AVERAGE]
  assert fit.count + check.count == 500 * 144
  gram = (algebra.contribution_gram(fit, kernel) +
          algebra.contribution_gram(check, kernel))
  np.testing.assert_allclose(gram, stored_rows.T @ stored_rows, rtol=1e-3)
  assert algebra.removal_order(gram).tolist() == stored_order


def test_moments_do_not_depend_on_the_batch_for_all_positions(flags, data_dir,
                                                              trained):
  _, arrays, _ = conftest.newest(trained)
  totals = []
  for batch_size in (500, 70):
    flags(data_dir=data_dir)
    fit, check = sampled(arrays, 300, 144, 4, batch_size)
    totals.append(fit.second + check.second)
  np.testing.assert_allclose(totals[0], totals[1], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize('mode', ['none', 'scale'])
def test_slim_network_is_a_slice_of_its_parent(tmp_path, flags, data_dir,
                                               trained, mode):
  report, (_, arrays, settings) = compress(flags, data_dir, trained, tmp_path,
                                           5, reconstruction=mode)
  _, parent, _ = conftest.newest(trained)
  kept, order = report['kept']['conv1'], report['removal_order']['conv1']
  assert kept == sorted(order[7:]) and len(set(kept)) == 5
  assert sorted(order) == list(range(12))
  reader = report['readers']['conv1']
  for suffix in ('', checkpoint.AVERAGE):
    for name in cifar10.weight_shapes():
      expected = parent[name + suffix]
      if name in ('conv1/weights', 'conv1/biases'):
        expected = expected[..., kept]
      if name == 'conv2/weights':
        expected = expected[:, :, kept] * np.float32(
            reader['scales'])[:, None]
      assert np.array_equal(arrays[name + suffix], expected)
  assert arrays['global_step'] == 0
  assert (settings['criterion'], settings['reconstruction']) == ('thinet', mode)
  assert set(reader['scales']) == {1.0} or mode == 'scale'
  assert (report['conv1_channels'], report['parent_widths'],
          report['samples']) == (5, cifar10.Widths(12)._asdict(),
                                 {'conv1': 5000})
  assert os.path.samefile(tmp_path / (report['parent_checkpoint'] + '.index'),
                          os.path.join(trained, 'model.ckpt-30.index'))
  assert (report['multiply_adds'], report['parameters']) == cifar10.cost(
      cifar10.Widths(5))
  if os.path.exists(os.path.join(conftest.ROOT, '.git')):
    assert len(report['git_commit'].split('-dirty')[0]) == 40
  assert datetime.datetime.fromisoformat(report['end']).tzinfo
  objective = report['objective']['conv1']
  assert len(objective) == 13 and objective['12'] == 0
  assert abs(objective['0'] - 1) < 1e-9
  assert 0 < reader['relative_error_after'] < 1.5
  if mode == 'scale':
    assert reader['relative_error_after'] < reader['relative_error_before']
  else:
    assert reader['relative_error_after'] == reader['relative_error_before']


def test_what_killed_writers_left_is_removed(tmp_path, flags, data_dir,
                                             trained):
  for name in ('model.ckpt-0.index.tempstate17', '.compress.json.abc.part'):
    (tmp_path / name).touch()
  compress(flags, data_dir, trained, tmp_path, 5)
  assert not [name for name in os.listdir(tmp_path)
              if name.endswith(('17', '.part'))]


def test_reported_error_is_that_of_the_slim_layer(tmp_path, flags, data_dir,
                                                  trained, stored_rows):
  """Applies scales to stored contributions of all images and positions."""
  report, _ = compress(flags, data_dir, trained, tmp_path, 5,
                       reconstruction='scale')
  y = stored_rows.sum(1)
  reader = report['readers']['conv1']
  left = y - stored_rows[:, report['kept']['conv1']] @ np.array(
      reader['scales'])
  assert abs((left ** 2).sum() / (y ** 2).sum() -
             reader['relative_error_after']) < 0.03


def conv2_outputs(arrays):
  """conv2's pre-activations by TensorFlow's convolution."""
  norm1 = conftest.outputs(arrays, 'norm1')
  with tf.Graph().as_default(), tf.Session() as session:
    return session.run(tf.nn.conv2d(
        norm1, arrays['conv2/weights' + checkpoint.AVERAGE], 1, 'SAME') +
                       arrays['conv2/biases' + checkpoint.AVERAGE])


def test_full_reconstruction_is_written_and_better(tmp_path, flags, data_dir,
                                                   trained):
  """The slim layer's own pre-activations, run by TensorFlow on all images."""
  errors = {}
  for mode in ('none', 'scale', 'full'):
    report, (_, arrays, _) = compress(flags, data_dir, trained, tmp_path / mode,
                                      5, reconstruction=mode)
    parent = conftest.newest(trained)[1]
    full, rebuilt = map(conv2_outputs, (parent, arrays))
    bias = parent['conv2/biases' + checkpoint.AVERAGE]
    errors[mode] = ((full - rebuilt) ** 2).sum() / ((full - bias) ** 2).sum()
    assert abs(errors[mode] - report['readers']['conv1'][
        'relative_error_after']) < 0.05
  assert errors['full'] < 0.5 * errors['scale'] < 0.5 * errors['none']


@pytest.mark.parametrize('criterion', ['thinet_kept', 'least_squares', 'l1',
                                       'random'])
def test_every_criterion_orders_all_channels(tmp_path, flags, data_dir, trained,
                                             criterion):
  report, (_, arrays, settings) = compress(
      flags, data_dir, trained, tmp_path, 5, criterion=criterion)
  assert settings['criterion'] == criterion
  order, kept = report['removal_order']['conv1'], report['kept']['conv1']
  assert sorted(order) == list(range(12)) and kept == sorted(order[7:])
  parent = conftest.newest(trained)[1]
  if criterion == 'l1':
    size = np.abs(parent['conv1/weights' + checkpoint.AVERAGE]).sum((0, 1, 2))
    assert order == sorted(range(12), key=size.__getitem__)
  assert np.array_equal(arrays['conv1/weights'],
                        parent['conv1/weights'][..., kept])


def test_network_reconstruction_nears_the_original_layer_by_layer(
    tmp_path, flags, data_dir, trained):
  """Every refit lowers its error on what was held back; the logits of the
  undistorted images are nearer to the original's than after full."""
  errors = {}
  for mode in ('full', 'network'):
    report, (_, arrays, settings) = compress(
        flags, data_dir, trained, tmp_path / mode, 3, reconstruction=mode,
        criterion='least_squares')
    original = conftest.outputs(conftest.newest(trained)[1], 'softmax_linear')
    errors[mode] = np.square(conftest.outputs(arrays, 'softmax_linear') -
                             original).sum()
  assert list(report['refits']) == ['conv2', 'local3', 'local4',
                                    'softmax_linear', 'all']
  assert all(layer['after'] <= layer['before']
             for layer in report['refits'].values())
  assert report['refits']['all']['after'] < report['refits']['all']['before']
  assert errors['network'] < errors['full']
  assert arrays['conv1/weights'].shape == (5, 5, 3, 3)
  assert settings['reconstruction'] == 'network'


@pytest.mark.parametrize('widths, refits', [
    ({'conv2_channels': 3, 'local4_units': 4},
     ['local3', 'local4', 'softmax_linear']),
    ({'local3_units': 10}, ['local4', 'softmax_linear'])])
def test_network_reconstruction_refits_what_is_behind_a_pruned_layer(
    tmp_path, flags, data_dir, narrow, widths, refits):
  report, (_, arrays, settings) = compress(
      flags, data_dir, narrow, tmp_path, None, reconstruction='network',
      **widths)
  assert list(report['refits']) == refits + ['all']
  assert all(layer['after'] <= layer['before']
             for layer in report['refits'].values())
  assert cifar10.widths_of(arrays) == NARROW._replace(**widths)
  assert all(settings[name] == report[name] == width
             for name, width in NARROW._replace(**widths)._asdict().items())


def test_a_budget_gives_all_modes_of_a_parent_the_same_widths(
    tmp_path, flags, data_dir, narrow, capsys):
  """Within it and near it; the same command again is finished, one with another
  budget is refused; the slim network can be fine-tuned."""
  widths = []
  for criterion, reconstruction in (('thinet', 'scale'), ('l1', 'full')):
    folder = tmp_path / criterion
    report, (_, arrays, settings) = compress(
        flags, data_dir, narrow, folder, None, criterion=criterion,
        reconstruction=reconstruction, multiply_adds=0.5, parameters=0.4)
    widths.append(cifar10.widths_of(arrays))
    assert report['kept'].keys() == set(cifar10.LAYERS)
  assert widths[0] == widths[1] < NARROW
  assert (settings['multiply_adds_share'], settings['parameters_share']) == (
      0.5, 0.4)
  for found, whole, share in zip(cifar10.cost(widths[0]), cifar10.cost(NARROW),
                                 (0.5, 0.4)):
    assert 0.8 * share < found / whole <= share
  assert [report[name] for name in cifar10.Widths._fields] == [*widths[0]]
  assert report['sensitivities'].keys() == set(cifar10.LAYERS)
  capsys.readouterr()
  assert thinet_compress.compress() == 0
  assert 'is finished' in capsys.readouterr().out
  flags(parameters=0.3)
  with pytest.raises(checkpoint.CheckpointError,
                     match='made with parameters_share = 0.4, not 0.3'):
    thinet_compress.compress()
  flags(checkpoint_dir=str(folder), train_dir=str(tmp_path / 'tuned'),
        max_steps=1, batch_size=50)
  assert thinet_finetune.finetune() == 0
  assert cifar10.widths_of(conftest.newest(tmp_path / 'tuned')[1]) == widths[0]


def test_a_loss_is_what_a_layer_alone_does_to_the_logits(tmp_path, flags,
                                                         data_dir, narrow):
  """local3's, by NumPy on the logits of networks that the script writes; and
  between two of them, where the share of the reader's error goes straight."""
  flags(data_dir=data_dir, checkpoint_dir=narrow, num_images=500,
        batch_size=128, output_dir=str(tmp_path))
  sample, weights = thinet_compress.planned_sample(), averages_of(narrow)
  found = thinet_compress.sampled_moments(weights, sample, ['local3'])
  losses, sensitivities = thinet_compress.layer_losses(
      parent_of(weights), found, sample)
  _, errors = algebra.least_squares_order(found['local3'][0],
                                          weights['local4/weights'])
  loss, errors = losses['local3'], errors[::-1]   # By the units kept.
  flags(batch_size=500)   # All images of the drawn data.
  target = conftest.outputs(conftest.newest(narrow)[1], 'softmax_linear')
  ratios = {}
  for error in (0.03, 0.1, 0.3):
    width = len(errors) - 2 - int(np.argmin(abs(errors[-2:0:-1] - error)))
    _, (_, slim, _) = compress(
        flags, data_dir, narrow, tmp_path / str(width), None,
        local3_units=width, criterion='least_squares', reconstruction='full')
    flags(batch_size=500)
    expected = np.square(conftest.outputs(slim, 'softmax_linear') -
                         target).sum() / np.square(target).sum()
    np.testing.assert_allclose(loss[width], expected, rtol=1e-2)
    ratios[width] = loss[width] / errors[width]
  assert sensitivities['local3'] == pytest.approx(
      {str(width): ratio for width, ratio in ratios.items()})
  low, middle, high = sorted(ratios)
  assert high - middle > 1
  for width in range(middle, high):
    part = (width - middle) / (high - middle)
    assert loss[width] == pytest.approx(errors[width] * (
        ratios[middle] + part * (ratios[high] - ratios[middle])))
  for width, nearest in ((low - 1, low), (high + 1, high)):
    assert loss[width] == pytest.approx(errors[width] * ratios[nearest])


def test_sensitivities_are_not_taken_where_the_error_is_rounding(
    tmp_path, flags, data_dir, narrow):
  """local4's units are two, again and again: without the others nothing is
  lost, and what that does to the logits is no multiple of it."""
  flags(data_dir=data_dir, checkpoint_dir=narrow, num_images=500,
        output_dir=str(tmp_path))
  sample, weights = thinet_compress.planned_sample(), averages_of(narrow)

  def order_and_errors():
    found = thinet_compress.make_moments(weights, sample, ['local4'])
    return found, *algebra.least_squares_order(
        found['local4'][0], weights['softmax_linear/weights'])

  _, order, _ = order_and_errors()
  for name in ('local4/weights', 'local4/biases'):
    weights[name] = np.take(weights[name], np.resize(order[-2:], 12), axis=-1)
  found, _, errors = order_and_errors()
  assert errors[10] < 1e-6 and errors[11] > 0.1
  _, sensitivities = thinet_compress.layer_losses(
      parent_of(weights), found, sample)
  assert sensitivities['local4'].keys() == {'1'}


def test_losses_from_few_images_are_no_less_than_none(tmp_path, flags, data_dir,
                                                      narrow, capsys):
  """Though the moments, in float32, are those of fewer samples than inputs."""
  flags(data_dir=data_dir, checkpoint_dir=narrow, num_images=20, batch_size=20,
        output_dir=str(tmp_path))
  sample, weights = thinet_compress.planned_sample(), averages_of(narrow)
  found = thinet_compress.sampled_moments(weights, sample, cifar10.LAYERS)
  losses, _ = thinet_compress.layer_losses(
      parent_of(weights), found, sample)
  for loss in losses.values():   # By the number of channels kept.
    assert loss[-1] == 0 and np.all(np.diff(loss) <= 0)
  thinet_compress.warn_of_few(found)
  assert [line for line in capsys.readouterr().err.splitlines()
          if line.startswith('The')] == [
              'The widths say little: %s has %d inputs, and there are 18 '
              'samples to fit it to; give a larger --num_images.' % each
              for each in (('local3', 252), ('local4', 20))]


def test_losses_are_made_once_for_all_budgets(tmp_path, flags, data_dir, narrow,
                                              monkeypatch):
  """And again if their file is damaged or another's, or with another sample."""
  calls, found, make = [], [], thinet_compress.layer_losses

  def once(*args):
    calls.append(args)
    if not found:
      found.append(make(*args))
    return found[0]
  monkeypatch.setattr(thinet_compress, 'layer_losses', once)

  def widths(name, **more):
    report, _ = compress(flags, data_dir, parent, tmp_path / name, None, **more)
    return [report[width] for width in cifar10.Widths._fields]

  parent = str(tmp_path / 'parent')
  shutil.copytree(narrow, parent, ignore=shutil.ignore_patterns('losses-*'))
  made = widths('made', parameters=0.4)
  assert widths('half', parameters=0.5) > made and len(calls) == 1
  path, = glob.glob(os.path.join(parent, 'losses-*.json'))
  part = os.path.join(parent, '.%s.1.part' % os.path.basename(path))
  open(part, 'w').close()   # A writer was killed.
  for damage in (lambda: open(path, 'w').close(),
                 lambda: files.write_json(path, dict(files.read_json(path),
                                                     key='0'))):
    damage()
    before = len(calls)
    shutil.rmtree(tmp_path / 'made')
    assert widths('made', parameters=0.4) == made and len(calls) == before + 1
    assert not os.path.exists(part)
  widths('other', parameters=0.4, seed=2)
  assert len(calls) == before + 2


def test_a_layer_of_one_unit_stays_as_it_is(tmp_path, flags, data_dir, narrow):
  """It cannot be narrower; the others are, under a budget."""
  _, arrays, settings = conftest.newest(narrow)
  for name in arrays:
    if name.startswith('local4'):
      arrays[name] = arrays[name][..., :1]
    elif name.startswith('softmax_linear/weights'):
      arrays[name] = arrays[name][:1]
  (tmp_path / 'parent').mkdir()
  checkpoint.save(str(tmp_path / 'parent'), arrays,
                  dict(settings, local4_units=1))
  report, _ = compress(flags, data_dir, str(tmp_path / 'parent'),
                       tmp_path / 'slim', None, parameters=0.5)
  assert report['local4_units'] == 1 and report['local3_units'] < (
      NARROW.local3_units)


def test_a_budget_that_nothing_meets_is_refused_before_all_else(
    tmp_path, flags, narrow):
  """The narrowest network, one unit a layer, by hand: 576 75 + 144 25 + 36 + 1
  + 10 multiply-adds, of 576 75 6 + 144 25 42 + 252 20 + 240 + 120."""
  least = (43200 + 3600 + 47) / (259200 + 151200 + 5040 + 240 + 120)
  flags(data_dir='none', checkpoint_dir=narrow, output_dir=str(tmp_path),
        multiply_adds=least - 1e-6)
  with pytest.raises(UserError, match='--multiply_adds=%g is less than .* need'
                     's, %.3g of' % (least - 1e-6, least)):
    thinet_compress.parent_network()
  flags(multiply_adds=least + 1e-6)
  thinet_compress.parent_network()
  flags(multiply_adds=None)
  with pytest.raises(UserError, match='No width and no budget is given'):
    thinet_compress.parent_network()


@pytest.mark.parametrize('factor, code', [(0, 0), (1e15, 1)])
def test_a_budget_for_a_network_without_sense(tmp_path, flags, data_dir, narrow,
                                              capsys, factor, code):
  """All its weights zero: the widest of equally good ones; too large: refused
  in one sentence."""
  _, arrays, settings = conftest.newest(narrow)
  (tmp_path / 'parent').mkdir()
  checkpoint.save(str(tmp_path / 'parent'), {
      name: value * np.float32(factor) for name, value in arrays.items()},
                  settings)
  flags(data_dir=data_dir, checkpoint_dir=str(tmp_path / 'parent'),
        output_dir=str(tmp_path / 'slim'), num_images=500, batch_size=128,
        parameters=0.5)
  if code:
    with pytest.raises(UserError, match='cannot be compressed .*; train again'):
      thinet_compress.compress()
  else:
    assert thinet_compress.compress() == 0
    widths = cifar10.widths_of(conftest.newest(tmp_path / 'slim')[1])
    assert 0.95 * 0.5 < cifar10.cost(widths)[1] / cifar10.cost(NARROW)[1] <= 0.5


def test_a_stop_closes_what_makes_the_moments(monkeypatch):
  """Its session must not end with the process, which would hang."""
  closed = []

  def batches(*_):
    try:
      yield {}
    finally:
      closed.append(True)

  def fit_and_check(found, sizes):
    next(found)
    raise KeyboardInterrupt
  monkeypatch.setattr(thinet_compress, 'sampled_batches', batches)
  monkeypatch.setattr(thinet_compress.moments, 'fit_and_check', fit_and_check)
  with pytest.raises(KeyboardInterrupt) as stop:   # Keeps the frames.
    thinet_compress.make_moments({}, None, [])
  assert closed and stop


def test_weights_that_are_too_large_are_one_sentence(tmp_path, flags, data_dir,
                                                     trained, monkeypatch):
  def refitted(*_):
    raise np.linalg.LinAlgError('Eigenvalues did not converge')
  monkeypatch.setattr(thinet_compress, 'refitted', refitted)
  flags(data_dir=data_dir, checkpoint_dir=trained, output_dir=str(tmp_path),
        conv1_channels=3, reconstruction='network')
  with pytest.raises(UserError, match='cannot be compressed .*too large'):
    thinet_compress.compress()
  assert os.listdir(tmp_path) == ['lock']


def test_network_reconstruction_needs_some_images(tmp_path, flags, data_dir,
                                                  trained):
  flags(data_dir=data_dir, checkpoint_dir=trained, output_dir=str(tmp_path),
        conv1_channels=5, num_images=19, batch_size=128,
        reconstruction='network')
  with pytest.raises(UserError, match='19 training images are too few'):
    thinet_compress.compress()
  assert not (tmp_path / 'compress.json').exists()


def test_an_error_is_never_that_of_no_samples(tmp_path, flags, data_dir,
                                              trained):
  """A tenth of a batch of one image at nine positions is no sample."""
  flags(data_dir=data_dir, checkpoint_dir=trained, output_dir=str(tmp_path),
        conv1_channels=5, batch_size=1, locations_per_image=9)
  with pytest.raises(UserError, match='leave no sample of a batch to check on'):
    thinet_compress.compress()
  assert not os.listdir(tmp_path)


def test_no_locations_means_all_positions(tmp_path, flags, data_dir, trained,
                                          stored_rows, stored_order):
  """From nine tenths of them, an order as good as the textbook's from all."""
  report, _ = compress(flags, data_dir, trained, tmp_path, 5,
                       locations_per_image=0)
  assert report['samples'] == {'conv1': 500 * 144}
  assert report['settings']['locations_per_image'] == 144
  ours, textbooks = (
      [(stored_rows[:, order[:count]].sum(1) ** 2).sum()
       for count in range(1, 13)]
      for order in (report['removal_order']['conv1'], stored_order))
  np.testing.assert_allclose(ours, textbooks, rtol=0.02)


@pytest.mark.parametrize('mode', ['none', 'scale', 'full', 'network'])
def test_full_width_gives_back_the_same_network(tmp_path, flags, data_dir,
                                                trained, mode):
  _, (_, arrays, _) = compress(flags, data_dir, trained, tmp_path, 12,
                               reconstruction=mode)
  _, parent, _ = conftest.newest(trained)
  for name in cifar10.weight_shapes():
    for variable in (name, name + checkpoint.AVERAGE):
      assert arrays[variable].tobytes() == parent[variable].tobytes()


def test_dead_and_duplicated_channels(tmp_path, flags, data_dir, trained,
                                      capsys):
  _, arrays, _ = conftest.newest(trained)
  for suffix in ('', checkpoint.AVERAGE):
    arrays['conv1/weights' + suffix][..., 3] = 0
    arrays['conv1/biases' + suffix][3] = -1
  os.mkdir(tmp_path / 'parent')
  checkpoint.save(str(tmp_path / 'parent'), arrays, {})
  report, (_, slim, _) = compress(flags, data_dir, str(tmp_path / 'parent'),
                                  tmp_path / 'slim', 11, reconstruction='scale')
  assert report['dead'] == {'conv1': [3]} and 3 not in report['kept']['conv1']
  assert 'of 12 channels of conv1 these are dead: 3.' in (
      capsys.readouterr().err)
  # Losing a dead channel loses nothing.
  reader = report['readers']['conv1']
  np.testing.assert_allclose(reader['scales'], 1, atol=1e-5)
  assert reader['relative_error_after'] < 1e-9


def test_the_same_command_again_is_finished_another_is_refused(
    tmp_path, flags, data_dir, trained, capsys):
  compress(flags, data_dir, trained, tmp_path, 5, reconstruction='none')
  before = (tmp_path / 'compress.json').read_bytes()
  compress(flags, data_dir, trained, tmp_path, 5, reconstruction='none')
  assert 'is finished' in capsys.readouterr().out
  with pytest.raises(checkpoint.CheckpointError,
                     match='conv1_channels = 5, not 6'):
    compress(flags, data_dir, trained, tmp_path, 6)
  with pytest.raises(checkpoint.CheckpointError,
                     match='batch_size = 128, not 100'):   # Other positions.
    flags(batch_size=100)
    thinet_compress.compress()
  flags(batch_size=128)
  (tmp_path / 'model.ckpt-0.index').write_bytes(b'')
  with pytest.raises(checkpoint.CheckpointError,
                     match='conv1_channels = 5, not 6'):
    compress(flags, data_dir, trained, tmp_path, 6, reconstruction='none')
  assert (tmp_path / 'compress.json').read_bytes() == before
  assert not os.path.exists(tmp_path / 'damaged')


@pytest.mark.parametrize('name, change', [
    ('compress.json', lambda content: content.replace(b'"l1"', b'"l2"')),
    ('compress.json', lambda content: b''),
    ('model.ckpt-0.index', lambda content: b''),
    ('model.ckpt-0.data-00000-of-00001',
     lambda content: bytes([content[0] ^ 1]) + content[1:])])
def test_what_was_changed_is_made_again(tmp_path, flags, data_dir, trained,
                                        name, change):
  first = compress(flags, data_dir, trained, tmp_path, 5, criterion='l1',
                   reconstruction='scale')
  (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
  again = compress(flags, data_dir, trained, tmp_path, 5, criterion='l1',
                   reconstruction='scale')
  for report, _ in (first, again):
    for key in ('seconds', 'digest', 'end'):
      del report[key]
  assert again[0] == first[0]
  assert all(np.array_equal(again[1][1][key], value)
             for key, value in first[1][1].items())
  assert os.path.exists(tmp_path / 'damaged') == name.startswith('model')


def test_a_report_without_the_settings_is_made_again(tmp_path, flags, data_dir,
                                                     trained):
  first, _ = compress(flags, data_dir, trained, tmp_path, 5, criterion='l1')
  report = files.read_json(str(tmp_path / 'compress.json'))
  del report['settings']
  files.write_json(str(tmp_path / 'compress.json'), report)
  again, _ = compress(flags, data_dir, trained, tmp_path, 5, criterion='l1')
  assert again['settings'] == first['settings']


def test_a_parent_with_other_weights_is_another_parent(tmp_path, flags,
                                                       data_dir, trained):
  parent = shutil.copytree(trained, tmp_path / 'parent')
  compress(flags, data_dir, str(parent), tmp_path / 'slim', 5)
  path, arrays, settings = conftest.newest(parent)
  arrays['local4/biases'] += np.float32(1e-3)
  checkpoint.save(str(parent), arrays, settings, 30)
  with pytest.raises(checkpoint.CheckpointError, match='or other weights, tha'):
    compress(flags, data_dir, str(parent), tmp_path / 'slim', 5)


def test_paths_are_names_and_no_patterns(tmp_path, flags, data_dir, trained):
  """The whole way, in folders that TensorFlow would take for patterns."""
  parent, slim, tuned = (tmp_path / name for name in ('p[1]*', 's?', 't[\\]'))
  for folder in (parent, tmp_path / 'p1', tmp_path / 'p1x'):
    shutil.copytree(trained, folder)
  data = shutil.copytree(data_dir, tmp_path / 'd[?]*')
  flags(data_dir=str(data), train_dir=str(parent), max_steps=31, batch_size=50)
  # Goes on from 30.
  assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  for folder in ('p1', 'p1x'):
    assert sorted(os.listdir(tmp_path / folder)) == sorted(os.listdir(trained))
  compress(flags, str(data), str(parent), slim, 5)
  flags(checkpoint_dir=str(slim), train_dir=str(tuned), max_steps=2)
  assert thinet_finetune.finetune() == 0
  flags(checkpoint_dir=str(tuned))
  assert cifar10_eval.evaluate() == 0
  assert files.read_json(tuned / 'eval.json')['global_step'] == 2


def test_moved_folder_and_evaluation_as_processes(tmp_path, data_dir, trained):
  code, output, _ = conftest.run(
      'thinet_compress.py', '--data_dir=' + data_dir,
      '--checkpoint_dir=' + trained, '--output_dir=%s' % (tmp_path / 'a'),
      '--conv1_channels=5', '--num_images=300')
  assert code == 0 and 'conv1 keeps 5 of 12' in output
  os.rename(tmp_path / 'a', tmp_path / 'b')
  code, output, _ = conftest.run(
      'cifar10_eval.py', '--data_dir=' + data_dir,
      '--checkpoint_dir=%s' % (tmp_path / 'b'))
  assert code == 0 and '(100 images, step 0)' in output
  result = json.load(open(tmp_path / 'b' / 'eval.json'))
  assert (result['conv1_channels'], result['criterion'],
          result['reconstruction'], result['fine_tuned']) == (5, 'thinet',
                                                              'none', False)


def test_the_key_holds_all_that_the_moments_depend_on(drawn, flags,
                                                      monkeypatch):
  """Any other images, positions, weights or random streams: another key."""
  keys = []
  monkeypatch.setattr(moments, 'cached',
                      lambda folder, wanted, make: keys.extend(
                          key for key, _ in wanted.values()))
  weights, sample = conftest.averages(drawn[0]), sample_of(40, 10, 0, 128)
  def ask(weights, sample, layers=('local3',)):
    thinet_compress.sampled_moments(weights, sample, layers)
  for other in [sample] + [sample._replace(**{name: 7})
                           for name in sample._fields]:
    ask(weights, other)
  for layer in ('conv1', 'conv2', 'local3'):   # All that local3 is made of.
    for kind in ('/weights', '/biases'):
      ask(dict(weights, **{layer + kind: weights[layer + kind] + 1}), sample)
  ask(weights, sample, ['conv1', 'conv2', 'local4'])
  monkeypatch.setattr(thinet_compress.cifar10_input, 'RANDOM_STREAMS', 99)
  ask(weights, sample)
  assert len(set(keys)) == len(keys) == 1 + 5 + 6 + 3 + 1


@pytest.mark.parametrize('damage', ['none', 'cut', 'flip', 'empty', 'pickle'])
def test_cached_moments_are_the_same_or_made_again(tmp_path, flags, data_dir,
                                                   trained, damage,
                                                   monkeypatch):
  parent = tmp_path / 'parent'
  shutil.copytree(trained, parent, ignore=shutil.ignore_patterns('moments*'))
  first, _ = compress(flags, data_dir, str(parent), tmp_path / 'a', 5,
                      reconstruction='full')
  path, = parent.glob('moments-*.bin')
  content = bytearray(path.read_bytes())
  if damage == 'cut':
    path.write_bytes(content[:-100])
  elif damage == 'flip':
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
  elif damage == 'empty':
    path.write_bytes(b'')
  elif damage == 'pickle':
    np.save(open(path, 'wb'), np.array([print], dtype=object))
  calls, genuine = [], moments.fit_and_check
  monkeypatch.setattr(moments, 'fit_and_check',
                      lambda *args: calls.append(args) or genuine(*args))
  again, _ = compress(flags, data_dir, str(parent), tmp_path / 'b', 5,
                      reconstruction='full')
  made = 0 if damage == 'none' else 1
  assert len(calls) == made
  for report in (first, again):
    for key in ('seconds', 'digest', 'command', 'end'):
      del report[key]
  assert first == again
  compress(flags, data_dir, str(parent), tmp_path / 'c', 5,
           reconstruction='full', seed=3)
  assert len(calls) == made + 1   # Another sampling has another file.
  assert len(list(parent.glob('*moments-*'))) == 2
