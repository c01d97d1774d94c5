"""The preconditioner against patches cut by hand, and a step of fine-tuning."""
from support import checkpoint
from support import preconditioner
import cifar10
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from test_thinet_finetune import one_step, slim


def patch_moments(x):
  """Of float [n, side, side, channels], around every other position, one by one."""
  padded = np.pad(np.float64(x), [(0, 0), (2, 2), (2, 2), (0, 0)])
  total, count = 0, 0
  for image in padded:
    for row in range(0, x.shape[1], 2):
      for column in range(0, x.shape[2], 2):
        patch = image[row:row + 5, column:column + 5].ravel()
        total, count = total + np.outer(patch, patch), count + 1
  return total / count


def test_input_moments_are_those_of_patches_cut_by_hand(flags, data_dir, trained,
                                                        monkeypatch):
  monkeypatch.setattr(preconditioner, 'BATCHES', 2)
  flags(data_dir=data_dir, batch_size=6)
  weights = checkpoint.averages(checkpoint.read_newest(trained)[1])
  moments = preconditioner.input_moments(weights, 3)
  with tf.Graph().as_default() as graph, tf.Session() as session:
    step = tf.placeholder(tf.int64, [])
    images, _ = cifar10.distorted_inputs(3, step, 'preconditioner')
    cifar10.inference(images, 12)
    session.run(tf.local_variables_initializer())
    cifar10.assign(session, {var: weights[var.op.name]
                             for var in tf.trainable_variables()})
    images, norm1 = map(np.concatenate, zip(*(
        session.run([images, graph.get_tensor_by_name('norm1:0')], {step: number})
        for number in range(2))))
  for name, x in (('conv1/weights', images), ('conv2/weights', norm1)):
    wanted = patch_moments(x)
    np.testing.assert_allclose(moments[name], wanted, rtol=0,
                               atol=1e-5 * np.abs(wanted).max())


def test_inverse_solves_the_damped_system():
  rows = np.random.default_rng(0).normal(size=[50, 20]) * np.arange(1, 21)
  rows[:, 7] = 0    # A dead input.
  moments = rows.T @ rows
  largest = np.linalg.norm(moments, 2)
  got = preconditioner.inverse(moments)
  np.testing.assert_allclose(got @ (moments / largest + np.eye(20) / 64),
                             np.eye(20), atol=1e-4)
  assert got[7, 7] == pytest.approx(64)
  np.testing.assert_allclose(preconditioner.inverse(np.zeros([3, 3])),
                             64 * np.eye(3))


def test_a_step_goes_along_the_preconditioned_gradients(tmp_path, flags, slim,
                                                        monkeypatch):
  """Against a step without, whose changes are multiplied by the matrices here."""
  _, before, _ = checkpoint.read_newest(slim)
  matrices = preconditioner.of_network(checkpoint.averages(before), 0)
  changes = [one_step(slim, tmp_path / str(use), flags, monkeypatch,
                      preconditioned=use) for use in (False, True)]
  for name, change in changes[0].items():
    if name in matrices:
      rows = len(matrices[name])
      change = (matrices[name] @ change.reshape(rows, -1)).reshape(change.shape)
    assert np.abs(change).max() > 0
    np.testing.assert_allclose(changes[1][name], change, rtol=0,
                               atol=1e-3 * np.abs(change).max())
