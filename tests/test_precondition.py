"""The preconditioner against patches cut by hand, and a step of fine-tuning."""
from thinet import checkpoint
from thinet import precondition
import cifar10
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import thinet_finetune
from test_moments import patch_moments
from test_thinet_finetune import one_step, slim


def test_fine_tuning_preconditions_by_its_networks_inputs(flags, data_dir,
                                                          monkeypatch):
  """Distorted images, and norm1 with the weights that training starts from."""
  monkeypatch.setattr(precondition, 'BATCHES', 2)
  monkeypatch.setattr(precondition, 'inverse', lambda matrix: matrix)
  flags(data_dir=data_dir, batch_size=6, seed=3)
  weights = conftest.drawn(cifar10.Widths(12), 0.05, averages=False)
  found = thinet_finetune.preconditioners(weights)
  with tf.Graph().as_default(), tf.Session() as session:
    step = tf.placeholder(tf.int64, [])
    images, _ = cifar10.distorted_inputs(3, step, 'preconditioner')
    norm1 = cifar10.endpoints(images, cifar10.Widths(12))['norm1']
    session.run(tf.local_variables_initializer())
    checkpoint.assign_network(session, weights)
    inputs = map(np.concatenate, zip(*(
        session.run([images, norm1], {step: number}) for number in range(2))))
  assert found.keys() == {'conv1/weights', 'conv2/weights'}
  for name, x in zip(['conv1/weights', 'conv2/weights'], inputs):
    wanted = patch_moments(x)
    np.testing.assert_allclose(found[name], wanted, rtol=0,
                               atol=1e-5 * np.abs(wanted).max())


def test_inverse_solves_the_damped_system():
  rows = np.random.default_rng(0).normal(size=[50, 20]) * np.arange(1, 21)
  rows[:, 7] = 0    # A dead input.
  moments = rows.T @ rows
  largest = np.linalg.norm(moments, 2)
  got = precondition.inverse(moments)
  np.testing.assert_allclose(got @ (moments / largest + np.eye(20) / 64),
                             np.eye(20), atol=1e-4)
  assert got[7, 7] == pytest.approx(64)
  np.testing.assert_allclose(precondition.inverse(np.zeros([3, 3])),
                             64 * np.eye(3))


def test_a_step_goes_along_the_preconditioned_gradients(tmp_path, flags, slim,
                                                        monkeypatch):
  """Against a step without them, whose changes the test multiplies."""
  _, before, _ = conftest.newest(slim)
  matrices = thinet_finetune.preconditioners(conftest.averages(before))
  changes = []
  for made in ({}, matrices):
    monkeypatch.setattr(thinet_finetune, 'preconditioners', lambda _: made)
    changes.append(one_step(slim, tmp_path / str(len(made)), flags,
                            monkeypatch))
  for name, change in changes[0].items():
    if name in matrices:
      rows = len(matrices[name])
      change = (matrices[name] @ change.reshape(rows, -1)).reshape(change.shape)
    assert np.abs(change).max() > 0
    np.testing.assert_allclose(changes[1][name], change, rtol=0,
                               atol=1e-3 * np.abs(change).max())
