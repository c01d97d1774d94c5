"""Compression of a real checkpoint, against slices and stored samples."""
import json
import os
import shutil

from support import checkpoint
import cifar10
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import thinet
import thinet_compress
from support import thinet_moments
from absl.testing import flagsaver
from cifar10_input import UserError
from test_thinet import textbook_order


def compress(flags, data_dir, parent, folder, width, **more):
  flags(data_dir=data_dir, checkpoint_dir=parent, output_dir=str(folder),
        conv1_channels=width, num_images=500, batch_size=128, **more)
  assert thinet_compress.compress() == 0
  report = json.load(open(folder / 'compress.json'))
  return report, checkpoint.read_newest(str(folder))


@pytest.fixture(scope='module')
def stored_rows(data_dir, trained):
  """Contributions [position and filter, channel] at every position of conv2, one
  channel at a time through TensorFlow's own convolution."""
  arrays = checkpoint.read_newest(trained)[1]
  with flagsaver.flagsaver(data_dir=data_dir):
    norm1 = conftest.outputs(arrays, 'norm1:0')
  kernel = arrays['conv2/weights' + cifar10.AVERAGE]
  with tf.Graph().as_default(), tf.Session() as session:
    return session.run(tf.stack(
        [tf.nn.conv2d(norm1[..., c:c + 1], kernel[:, :, c:c + 1], 1, 'SAME')
         for c in range(12)], -1)).astype(np.float64).reshape(-1, 12)


@pytest.fixture(scope='module')
def stored_order(stored_rows):
  return textbook_order(stored_rows)


def test_all_positions_equal_the_textbook_on_stored_samples(
    flags, data_dir, trained, stored_rows, stored_order):
  """144 positions an image: the moments are those of a whole convolution."""
  _, arrays, _ = checkpoint.read_newest(trained)
  flags(data_dir=data_dir, batch_size=500)
  fit, check = thinet_moments.patch_moments(arrays, 500, 144, 0)
  kernel = arrays['conv2/weights' + cifar10.AVERAGE]
  assert fit.count + check.count == 500 * 144
  gram = (thinet.contribution_gram(fit, kernel) +
          thinet.contribution_gram(check, kernel))
  np.testing.assert_allclose(gram, stored_rows.T @ stored_rows, rtol=1e-3)
  assert thinet.removal_order(gram).tolist() == stored_order


def test_moments_do_not_depend_on_the_batch_for_all_positions(flags, data_dir,
                                                              trained):
  _, arrays, _ = checkpoint.read_newest(trained)
  totals = []
  for batch_size in (500, 70):
    flags(data_dir=data_dir, batch_size=batch_size)
    fit, check = thinet_moments.patch_moments(arrays, 300, 144, 4)
    totals.append(fit.second + check.second)
  np.testing.assert_allclose(totals[0], totals[1], rtol=1e-4, atol=1e-2)


def test_sampled_patches_are_patches_at_distinct_positions():
  images = np.random.default_rng(0).normal(size=[3, 12, 12, 2])
  images = images.astype(np.float32)
  with tf.Graph().as_default(), tf.Session() as session:
    patches = session.run(thinet_moments.sampled_patches(
        tf.constant(images), 10, 0, 'positions', tf.constant(0, tf.int64)))
  padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
  for image, found in zip(padded, patches.reshape(3, 10, 50)):
    known = {image[i:i + 5, j:j + 5].tobytes(): (i, j)
             for i in range(12) for j in range(12)}
    assert len({known[patch.tobytes()] for patch in found}) == 10


@pytest.mark.parametrize('mode', ['none', 'scale'])
def test_slim_network_is_a_slice_of_its_parent(tmp_path, flags, data_dir,
                                               trained, mode):
  report, (_, arrays, settings) = compress(flags, data_dir, trained, tmp_path,
                                           5, reconstruction=mode)
  _, parent, _ = checkpoint.read_newest(trained)
  kept = report['kept']
  assert kept == sorted(report['removal_order'][7:]) and len(set(kept)) == 5
  assert sorted(report['removal_order']) == list(range(12))
  for suffix in ('', cifar10.AVERAGE):
    for name in cifar10.weight_shapes(5):
      expected = parent[name + suffix]
      if name in ('conv1/weights', 'conv1/biases'):
        expected = expected[..., kept]
      if name == 'conv2/weights':
        expected = expected[:, :, kept] * np.float32(
            report['scales'])[:, None]
      assert np.array_equal(arrays[name + suffix], expected)
  assert arrays['global_step'] == 0
  assert (settings['criterion'], settings['reconstruction']) == ('thinet', mode)
  assert set(report['scales']) == {1.0} or mode == 'scale'
  assert (report['conv1_channels'], report['parent_channels'],
          report['samples']) == (5, 12, 5000)
  assert os.path.samefile(tmp_path / (report['parent_checkpoint'] + '.index'),
                          os.path.join(trained, 'model.ckpt-30.index'))
  assert (report['multiply_adds'], report['parameters']) == cifar10.cost(5)
  if os.path.exists(os.path.join(conftest.ROOT, '.git')):
    assert len(report['git_commit'].split('-dirty')[0]) == 40
  objective = report['objective']
  assert len(objective) == 13 and objective['12'] == 0
  assert abs(objective['0'] - 1) < 1e-9
  assert 0 < report['relative_error_after'] < 1.5
  if mode == 'scale':
    assert report['relative_error_after'] < report['relative_error_before']
  else:
    assert report['relative_error_after'] == report['relative_error_before']


def test_reported_error_is_that_of_the_slim_layer(tmp_path, flags, data_dir,
                                                  trained, stored_rows):
  """Scales applied to stored contributions of all images and positions."""
  report, _ = compress(flags, data_dir, trained, tmp_path, 5,
                       reconstruction='scale')
  y = stored_rows.sum(1)
  left = y - stored_rows[:, report['kept']] @ np.array(report['scales'])
  assert abs((left ** 2).sum() / (y ** 2).sum() -
             report['relative_error_after']) < 0.03


def test_full_reconstruction_is_written_and_better(tmp_path, flags, data_dir,
                                                   trained):
  """The slim layer's own pre-activations, run by TensorFlow on all images."""
  errors = {}
  for mode in ('none', 'scale', 'full'):
    report, (_, arrays, _) = compress(flags, data_dir, trained, tmp_path / mode,
                                      5, reconstruction=mode)
    parent = checkpoint.read_newest(trained)[1]
    full, rebuilt = (conftest.outputs(weights, 'conv2/pre_activation:0')
                     for weights in (parent, arrays))
    bias = parent['conv2/biases' + cifar10.AVERAGE]
    errors[mode] = ((full - rebuilt) ** 2).sum() / ((full - bias) ** 2).sum()
    assert abs(errors[mode] - report['relative_error_after']) < 0.05
  assert errors['full'] < 0.5 * errors['scale'] < 0.5 * errors['none']


@pytest.mark.parametrize('criterion', ['thinet_kept', 'least_squares', 'l1',
                                       'random'])
def test_every_criterion_orders_all_channels(tmp_path, flags, data_dir, trained,
                                             criterion):
  report, (_, arrays, settings) = compress(
      flags, data_dir, trained, tmp_path, 5, criterion=criterion)
  assert settings['criterion'] == criterion
  assert sorted(report['removal_order']) == list(range(12))
  assert report['kept'] == sorted(report['removal_order'][7:])
  parent = checkpoint.read_newest(trained)[1]
  if criterion == 'l1':
    size = np.abs(parent['conv1/weights' + cifar10.AVERAGE]).sum((0, 1, 2))
    assert report['removal_order'] == sorted(range(12), key=size.__getitem__)
  assert np.array_equal(arrays['conv1/weights'],
                        parent['conv1/weights'][..., report['kept']])


def test_network_reconstruction_nears_the_original_layer_by_layer(
    tmp_path, flags, data_dir, trained):
  """Every refit lowers its error on what was held back; local3 and the logits
  of the undistorted images are nearer to the original's than after full."""
  names = ['local3/pre_activation:0', 'softmax_linear/pre_activation:0']
  errors = {}
  for mode in ('full', 'network'):
    report, (_, arrays, settings) = compress(
        flags, data_dir, trained, tmp_path / mode, 3, reconstruction=mode,
        criterion='least_squares')
    original = conftest.outputs(checkpoint.read_newest(trained)[1], names)
    errors[mode] = [np.square(found - wanted).sum() / np.square(wanted).sum()
                    for found, wanted in zip(conftest.outputs(arrays, names),
                                             original)]
  assert list(report['layers']) == ['conv2', 'convolutions_for_local3', 'local3',
                                    'local4', 'softmax_linear']
  assert all(layer['after'] <= layer['before']
             for layer in report['layers'].values())
  assert report['layers']['local3']['after'] < report['layers']['local3'][
      'before']
  assert all(network < full for network, full in zip(errors['network'],
                                                     errors['full']))
  assert arrays['conv1/weights'].shape == (5, 5, 3, 3)
  assert settings['reconstruction'] == 'network'


def test_network_reconstruction_needs_some_images(tmp_path, flags, data_dir,
                                                  trained):
  flags(data_dir=data_dir, checkpoint_dir=trained, output_dir=str(tmp_path),
        conv1_channels=5, num_images=19, batch_size=128,
        reconstruction='network')
  with pytest.raises(UserError, match='--num_images=19 is too few'):
    thinet_compress.compress()
  assert not (tmp_path / 'compress.json').exists()


def test_no_locations_means_all_positions(tmp_path, flags, data_dir, trained,
                                          stored_order):
  report, _ = compress(flags, data_dir, trained, tmp_path, 5,
                       locations_per_image=0)
  assert report['samples'] == 500 * 144
  assert report['locations_per_image'] == 144
  assert report['removal_order'] == stored_order


def test_stable_from_by_hand():
  samples = np.array([10, 20, 40, 80])
  orders = np.array([[0, 1, 2, 3], [0, 1, 3, 2], [1, 0, 2, 3], [0, 1, 2, 3]])
  assert thinet_compress.stable_from(samples, orders, [2, 3]) == 10
  assert thinet_compress.stable_from(samples, orders, [1, 2, 3]) == 80
  assert thinet_compress.stable_from(samples, orders, [0, 1]) is None


@pytest.mark.parametrize('mode', ['none', 'scale', 'full', 'network'])
def test_full_width_gives_back_the_same_network(tmp_path, flags, data_dir,
                                                trained, mode):
  _, (_, arrays, _) = compress(flags, data_dir, trained, tmp_path, 12,
                               reconstruction=mode)
  _, parent, _ = checkpoint.read_newest(trained)
  for name in cifar10.weight_shapes(12):
    for variable in (name, name + cifar10.AVERAGE):
      assert arrays[variable].tobytes() == parent[variable].tobytes()


def test_dead_and_duplicated_channels(tmp_path, flags, data_dir, trained,
                                      capsys):
  _, arrays, _ = checkpoint.read_newest(trained)
  for suffix in ('', cifar10.AVERAGE):
    arrays['conv1/weights' + suffix][..., 3] = 0
    arrays['conv1/biases' + suffix][3] = -1
  os.mkdir(tmp_path / 'parent')
  checkpoint.save(str(tmp_path / 'parent'), arrays, {})
  report, (_, slim, _) = compress(flags, data_dir, str(tmp_path / 'parent'),
                                  tmp_path / 'slim', 11, reconstruction='scale')
  assert report['dead'] == [3] and 3 not in report['kept']
  assert 'conv1 channels 3 are dead' in capsys.readouterr().err
  # Losing a dead channel loses nothing.
  np.testing.assert_allclose(report['scales'], 1, atol=1e-5)
  assert report['relative_error_after'] < 1e-9


def test_the_same_command_again_is_finished_another_is_refused(
    tmp_path, flags, data_dir, trained, capsys):
  compress(flags, data_dir, trained, tmp_path, 5, reconstruction='none')
  before = (tmp_path / 'compress.json').read_bytes()
  compress(flags, data_dir, trained, tmp_path, 5, reconstruction='none')
  assert 'is finished' in capsys.readouterr().out
  with pytest.raises(UserError, match='conv1_channels = 5, not 6'):
    compress(flags, data_dir, trained, tmp_path, 6)
  assert (tmp_path / 'compress.json').read_bytes() == before


def test_moved_folder_and_evaluation_as_processes(tmp_path, data_dir, trained):
  code, output, _ = conftest.run(
      'thinet_compress.py', '--data_dir=' + data_dir,
      '--checkpoint_dir=' + trained, '--output_dir=%s' % (tmp_path / 'a'),
      '--conv1_channels=5', '--num_images=300')
  assert code == 0 and 'kept 5 of 12 channels' in output
  os.rename(tmp_path / 'a', tmp_path / 'b')
  code, output, _ = conftest.run(
      'cifar10_eval.py', '--data_dir=' + data_dir,
      '--checkpoint_dir=%s' % (tmp_path / 'b'))
  assert code == 0 and '(100 images, step 0)' in output
  result = json.load(open(tmp_path / 'b' / 'eval.json'))
  assert (result['conv1_channels'], result['criterion'],
          result['reconstruction'], result['fine_tuned']) == (5, 'thinet',
                                                              'none', False)


@pytest.mark.parametrize('damage', ['none', 'cut', 'flip', 'empty', 'pickle'])
def test_cached_moments_are_the_same_or_made_again(tmp_path, flags, data_dir,
                                                   trained, damage,
                                                   monkeypatch):
  parent = tmp_path / 'parent'
  shutil.copytree(trained, parent, ignore=shutil.ignore_patterns('moments*'))
  first, _ = compress(flags, data_dir, str(parent), tmp_path / 'a', 5,
                      reconstruction='full')
  path, = parent.glob('moments-*.npz')
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
  calls = []
  accumulate = thinet_moments.patch_moments
  monkeypatch.setattr(thinet_moments, 'patch_moments',
                      lambda *args: calls.append(args) or accumulate(*args))
  again, _ = compress(flags, data_dir, str(parent), tmp_path / 'b', 5,
                      reconstruction='full')
  assert len(calls) == (0 if damage == 'none' else 1)
  for report in (first, again):
    del report['seconds']
  assert first == again
  compress(flags, data_dir, str(parent), tmp_path / 'c', 5,
           reconstruction='full', seed=3)
  assert calls[-1][3] == 3   # Another sampling has another file.
  assert len(list(parent.glob('*moments*'))) == 2
