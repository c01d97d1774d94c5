"""The GPU's loop of steps, compiled by XLA: here on the processor."""
import os
import re
import signal

import cifar10
import cifar10_train
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import thinet_finetune
from cifar10_input import UserError
from thinet import checkpoint
from thinet import hooks
from thinet import loop
from thinet import operations
from tensorboard.backend.event_processing import event_accumulator

WIDTHS = cifar10.Widths(4, 4, 16, 8)


@pytest.fixture
def as_on_gpu(flags, data_dir, monkeypatch):
  """Has trainings make the loop, for the processor; ten steps an epoch."""
  monkeypatch.setattr(operations, 'on_gpu', lambda: True)
  monkeypatch.setattr(loop, 'DEVICE', '/device:CPU:0')
  flags(data_dir=data_dir, batch_size=50, max_steps=23, log_frequency=7,
        checkpoint_frequency=9)


def model_of(schedule, preconditioners=None):
  plan = cifar10_train.make_plan(schedule, WIDTHS, {})
  return cifar10_train.build_model(plan, 'training', preconditioners or {})


def matrices():
  """Symmetric positive definite, one for each convolution."""
  result = {}
  for name, size in (('conv1/weights', 75), ('conv2/weights', 100)):
    rows = np.random.default_rng(size).normal(size=[size, 2 * size])
    result[name] = np.float32(rows @ rows.T / size)
  return result


@pytest.mark.parametrize('schedule, preconditioners', [
    (cifar10.PUBLISHED, None),
    (thinet_finetune.SCHEDULE._replace(warmup_steps=0), matrices())])
def test_the_loop_gives_the_plain_steps_weights(as_on_gpu, schedule,
                                                preconditioners):
  """Step for step over an epoch's end, and many steps as one by one."""
  def run(steps):
    """Weights, averages and the losses' averages behind each of the runs."""
    checkpoint.assign(session, {var: start[name]
                                for name, var in variables.items()})
    found = []
    for count in steps:
      if count:
        made = session.run(model.loop.made, {model.loop.count: count})
        assert made == count
      else:
        session.run(model.train_op)
      found.append(session.run(variables))
    return found

  with tf.Graph().as_default(), tf.Session() as session:
    model = model_of(schedule, preconditioners)
    variables = {var.op.name: var for var in tf.global_variables()
                 if var.dtype.base_dtype != tf.string}
    session.run([tf.global_variables_initializer(),
                 tf.local_variables_initializer()])
    start = session.run(variables)
    plain, single = run([0] * 13), run([1] * 13)
    together = run([7, 1, 5])
  assert len(variables) == (35 if schedule.momentum else 25)
  for step, (one, other) in enumerate(zip(plain, single)):
    for name, value in one.items():
      np.testing.assert_allclose(other[name], value, rtol=1e-5, atol=2e-6,
                                 err_msg='%s after step %d' % (name, step))
  assert plain[-1]['global_step'] == 13
  assert not np.allclose(plain[-1]['local3/weights'],
                         plain[-2]['local3/weights'], rtol=1e-5, atol=2e-6)
  for number, step in enumerate((6, 7, 12)):
    for name, value in single[step].items():
      assert together[number][name].tobytes() == value.tobytes(), (name, step)


def test_all_of_the_loop_is_on_the_device(as_on_gpu, monkeypatch):
  """TensorFlow places one operation there; a count goes in, a count comes out.

  The device is a second one of the processor.
  """
  monkeypatch.setattr(loop, 'DEVICE', '/device:CPU:1')
  ran = tf.RunMetadata()
  with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(
      device_count={'CPU': 2}, allow_soft_placement=True)) as session:
    model = model_of(cifar10.FAST)
    session.run([tf.global_variables_initializer(),
                 tf.local_variables_initializer()])
    session.run(model.loop.made, {model.loop.count: 2},
                tf.RunOptions(output_partition_graphs=True), ran)
    # One variable that has no place on a GPU would keep all on the processor.
    assert tf.int32 not in {var.dtype.base_dtype for var in
                            tf.global_variables() + tf.local_variables()}
  placed = [(op.device[-5:], op.op) for part in ran.partition_graphs
            for op in part.node]
  assert sorted({name for device, name in placed if device == 'CPU:1'}) == [
      'Identity', 'VarHandleOp', 'XlaLaunch', '_Recv', '_Send']
  assert sorted(name for device, name in placed if device == 'CPU:0') == [
      '_Arg', '_Recv', '_Retval', '_Send']
  assert [name for _, name in placed].count('XlaLaunch') == 1


def test_what_is_compiled_is_the_same_for_all_seeds(as_on_gpu, flags):
  """And for all fine-tunings of a width, so that a cache has the code."""
  def compiled(seed):
    flags(seed=seed)
    preconditioners = {name: matrix * seed
                       for name, matrix in matrices().items()}
    with tf.Graph().as_default() as graph:
      model_of(thinet_finetune.SCHEDULE, preconditioners)
    assert max(node.ByteSize() for node in graph.as_graph_def().node) < min(
        matrix.nbytes for matrix in preconditioners.values())
    return conftest.compiled(graph)

  one, two = compiled(1), compiled(2)
  assert len(one) > 300 and one == two


def stopped_at(step):
  """hooks.Training.in_one_loop, which sends a signal at a step."""
  in_one_loop = hooks.Training.in_one_loop
  def stop_and_count(training, present):
    if present == step:
      os.kill(os.getpid(), signal.SIGTERM)
    return in_one_loop(training, present)
  return stop_and_count


def test_a_training_with_the_loop(as_on_gpu, flags, tmp_path, capsys,
                                  monkeypatch):
  """Log, events and weights are those without it.

  A stop and what is logged change no bit.
  """
  def train(name, code=0, log_frequency=7):
    flags(train_dir=str(tmp_path / name), eval_frequency=11,
          log_frequency=log_frequency)
    assert cifar10_train.train(cifar10.PUBLISHED, WIDTHS) == code
    return [re.sub(r'.*?: |\(.*?\)|, [0-9:]* left', '', line)
            for line in capsys.readouterr().out.splitlines() if 'loss' in line]

  monkeypatch.setattr(cifar10_train, 'GPU_EVAL_BATCH_SIZE', 70)
  lines = train('loop')
  with pytest.MonkeyPatch.context() as patch:   # Saved within 9 to 13.
    patch.setattr(hooks, 'LONGEST_LOOP', 2)
    patch.setattr(hooks.Training, 'in_one_loop', stopped_at(9))
    train('resumed', 128 + signal.SIGTERM)
  assert int(conftest.newest(tmp_path / 'resumed')[1]['global_step']) == 11
  train('resumed', log_frequency=2)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(operations, 'on_gpu', lambda: False)
    assert train('plain') == lines
  assert [line.split(',')[0] for line in lines] == [
      'step %d' % step for step in (0, 7, 14, 21, 22)]
  looped, resumed, plain = (conftest.newest(tmp_path / name)[1:]
                            for name in ('loop', 'resumed', 'plain'))
  assert looped[1] == resumed[1] == plain[1]
  for name, value in looped[0].items():
    assert resumed[0][name].tobytes() == value.tobytes(), name
    np.testing.assert_allclose(value, plain[0][name], rtol=1e-5, atol=2e-6)
  steps = []
  for name in ('loop', 'plain'):
    events = event_accumulator.EventAccumulator(str(tmp_path / name))
    events.Reload()
    steps.append({tag: [each.step for each in events.Scalars(tag)]
                  for tag in events.Tags()['scalars']})
  assert steps[0] == steps[1]


def test_a_loss_that_is_not_finite_ends_the_loop(as_on_gpu, flags, tmp_path,
                                                 capsys):
  """The sentence names the step; the lines before it are there."""
  flags(train_dir=str(tmp_path), learning_rate=1e4)
  with pytest.raises(UserError) as loop_error:
    cifar10_train.train(cifar10.PUBLISHED, WIDTHS)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(operations, 'on_gpu', lambda: False)
    flags(train_dir=str(tmp_path / 'plain'))
    assert capsys.readouterr().out.count('loss = ') == 1   # Of step 0.
    with pytest.raises(UserError) as plain_error:
      cifar10_train.train(cifar10.PUBLISHED, WIDTHS)
    assert capsys.readouterr().out.count('loss = ') == 1
  step, other = (re.search(r'at step (\d+);', str(error.value))[1]
                 for error in (loop_error, plain_error))
  assert step == other and int(step) in range(2, 7)   # Within a run.


def test_steps_that_xla_cannot_compile_run_one_by_one(as_on_gpu, flags,
                                                      tmp_path, monkeypatch,
                                                      capsys):
  def compiled(step, count):
    made = tf.xla.experimental.compile(
        lambda count: tf.py_func(lambda x: x, [count], tf.int32), [count])[0]
    return tf.constant(0.0), made
  monkeypatch.setattr(loop, 'compiled', compiled)
  flags(train_dir=str(tmp_path))
  assert cifar10_train.train(cifar10.PUBLISHED, WIDTHS) == 0
  assert re.search(r'XLA cannot compile the steps, so they run one by one: '
                   r'.*unsupported operations .*PyFunc',
                   capsys.readouterr().out)
  assert int(conftest.newest(tmp_path)[1]['global_step']) == 23


@pytest.mark.parametrize('step', range(25))
def test_runs_end_where_something_is_due(step):
  """Each seventh step and the last show; saved and rated is between steps."""
  training = hooks.Training(
      '', {}, 50, 10, 2.5, last_step=25, log_frequency=7, eval_frequency=5,
      histogram_frequency=0, checkpoint_frequency=9, keep_checkpoints=3)
  shown, between = {0, 7, 14, 21, 24}, {9, 18, 5, 10, 15, 20, 25}
  assert training.in_one_loop(step) == min(
      end for end in shown | between if end > step) - step


@pytest.mark.parametrize('precision', ['float32', 'tf32'])
def test_tf32_is_for_the_steps_alone(as_on_gpu, flags, tmp_path, monkeypatch,
                                     precision):
  """Also when they are compiled; what follows rates in float32."""
  enabled, seen = (
      tf.config.experimental.tensor_float_32_execution_enabled, [])
  monkeypatch.setattr(hooks.StepCounter, 'after_create_session',
                      lambda *_: seen.append(enabled()))
  monkeypatch.setattr(hooks.StepCounter, 'after_run', lambda clock, *_: (
      seen.append(enabled()), setattr(clock, 'step', clock.step + 1)))
  monkeypatch.setattr(hooks.Training, 'in_one_loop', lambda training, step: 1)
  flags(train_dir=str(tmp_path), precision=precision, max_steps=2)
  assert cifar10_train.train(cifar10.PUBLISHED, WIDTHS) == 0
  assert seen == [precision == 'tf32'] * 3 and not enabled()


def test_tf32_without_a_gpu_is_refused(call, data_dir, tmp_path):
  code, _, errors = call(cifar10_train, '--data_dir=' + data_dir,
                         '--precision=tf32', '--train_dir=%s' % tmp_path)
  assert code == 1 and '--precision=tf32 needs a GPU' in errors
  assert not any(name.endswith('.index') for name in os.listdir(tmp_path))
