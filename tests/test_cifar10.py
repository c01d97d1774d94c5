"""The network against counts by hand and TensorFlow's own operations."""
import os
import subprocess
import sys

import cifar10
import cifar10_input
import cifar10_train
import conftest
import numpy as np
from thinet import checkpoint
from thinet import devices
from thinet import files
from thinet import operations
import pytest
import tensorflow.compat.v1 as tf
import thinet_finetune

WIDTHS = [64, 48, 32, 24, 16, 8]


def test_widths_in_words_settings_flags_and_arrays(flags):
  """Settings hold conv1's, and the others that are not the tutorial's."""
  usual, slim = cifar10.Widths(), cifar10.Widths(16, 64, 100, 192)
  assert cifar10.named(usual) == '64 channels'
  assert cifar10.named(slim) == 'widths 16 64 100 192'
  assert cifar10.narrowed(usual) == {'conv1_channels': 64}
  assert cifar10.narrowed(slim) == {'conv1_channels': 16, 'local3_units': 100}
  flags(local3_units=100)
  assert cifar10.asked_widths(cifar10.Widths(16)) == slim
  arrays = {name: np.zeros(shape)
            for name, shape in cifar10.weight_shapes(slim).items()}
  assert cifar10.widths_of(arrays) == slim
  del arrays['local3/biases']
  assert cifar10.widths_of(arrays) == slim._replace(local3_units=384)


@pytest.mark.parametrize('width', WIDTHS)
def test_parameters_and_multiply_adds(width):
  with tf.Graph().as_default():
    logits = cifar10.inference(tf.zeros([3, 24, 24, 3]), cifar10.Widths(width))
    assert logits.shape.as_list() == [3, 10]
    shapes = {var.op.name: var.shape.as_list()
              for var in tf.trainable_variables()}
  assert shapes == cifar10.weight_shapes(cifar10.Widths(width))
  parameters = sum(int(np.prod(shape)) for shape in shapes.values())
  assert parameters == 1068298 - 1676 * (64 - width)
  multiply_adds = (576 * 75 * width + 144 * 25 * width * 64 + 2304 * 384 +
                   384 * 192 + 192 * 10)
  assert cifar10.cost(cifar10.Widths(width)) == (multiply_adds, parameters)
  if width == 64:
    assert multiply_adds == 18470784


def test_initial_weights_and_their_decay_are_the_tutorials():
  """The drawn weights have the tutorial's bounds, two standard deviations, and
  spread, 0.8796 of one; the loss has every term."""
  with tf.Graph().as_default(), tf.Session() as session:
    logits = cifar10.inference(tf.random_normal([128, 24, 24, 3]))
    labels = tf.range(128) % 10
    loss = cifar10.loss(logits, labels)
    session.run(tf.global_variables_initializer())
    weights, terms, found, logits, labels = session.run([
        {var.op.name: var for var in tf.trainable_variables()},
        tf.get_collection('losses'), loss, logits, labels])
  for layer, stddev, bias in [
      ('conv1', 0.05, 0.0), ('conv2', 0.05, 0.1), ('local3', 0.04, 0.1),
      ('local4', 0.04, 0.1), ('softmax_linear', 1 / 192, 0.0)]:
    drawn = weights[layer + '/weights'].astype(np.float64)
    assert 1.98 * stddev < np.abs(drawn).max() <= 2.0001 * stddev
    assert abs(drawn.std() / (0.8796 * stddev) - 1) < 0.05
    assert (weights[layer + '/biases'] == np.float32(bias)).all()
  # Each layer has random numbers of its own.
  correlation = np.corrcoef([value.ravel()[:1500] for name, value in
                             weights.items() if name.endswith('/weights')])
  assert abs(correlation[np.triu_indices(5, 1)]).max() < 0.15
  decay = [0.004 / 2 * np.square(weights[layer + '/weights'], dtype=float).sum()
           for layer in ('local3', 'local4')]
  probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  entropy = -np.log(probabilities[np.arange(128), labels]).mean()
  np.testing.assert_allclose(terms, decay + [entropy], rtol=1e-5)
  np.testing.assert_allclose(found, sum(decay) + entropy, rtol=1e-5)
  assert abs(sum(decay) - 2.374) < 0.01 and abs(found - 4.68) < 0.02


@pytest.mark.parametrize('build', [
    lambda: cifar10.distorted_inputs(0),
    lambda: cifar10.inputs('train_eval', tf.constant(0, tf.int64))])
def test_a_batch_has_128_images(data_dir, flags, build):
  flags(data_dir=data_dir)
  with tf.Graph().as_default():
    images, labels = build()
    assert images.shape.as_list() == [128, 24, 24, 3]
    assert labels.shape.as_list() == [128]


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy_and_its_gradient_in_numpy(smoothing):
  logits = 5 * np.random.default_rng(0).normal(size=[6, 10])
  labels = np.array([0, 9, 3, 3, 1, 7])
  softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  targets = (1 - smoothing) * np.eye(10)[labels] + smoothing / 10
  with tf.Graph().as_default(), tf.Session() as session:
    source = tf.constant(logits, tf.float32)
    loss = cifar10.loss(source, tf.constant(labels), smoothing)
    found, gradient = session.run([loss, tf.gradients(loss, source)[0]])
  np.testing.assert_allclose(
      found, -(targets * np.log(softmax)).sum(1).mean(), rtol=1e-5)
  np.testing.assert_allclose(gradient, (softmax - targets) / 6, rtol=1e-4,
                             atol=1e-6)


def test_a_notebook_of_2017_trains_and_evaluates(flags, data_dir):
  """The tutorial's calls, with its arguments."""
  flags(data_dir=data_dir, batch_size=16)
  with tf.Graph().as_default():
    global_step = tf.train.get_or_create_global_step()
    images, labels = cifar10.distorted_inputs()
    logits = cifar10.inference(images)
    loss = cifar10.loss(logits, labels)
    train_op = cifar10.train(loss, global_step)
    with tf.train.MonitoredTrainingSession() as session:
      losses = [session.run([loss, train_op])[0] for _ in range(3)]
      assert session.run(global_step) == 3
  assert abs(losses[0] - 4.68) < 0.05 and np.isfinite(losses).all()
  with tf.Graph().as_default(), tf.Session() as session:
    images, labels = cifar10.inputs(eval_data=True)
    hits = tf.nn.in_top_k(cifar10.inference(images), labels, 1)
    session.run([tf.global_variables_initializer(),
                 tf.local_variables_initializer()])
    assert session.run(hits).shape == (16,)


@pytest.mark.parametrize('reuse', [False, tf.AUTO_REUSE])
def test_training_and_test_images_in_one_graph(flags, data_dir, reuse):
  """Also in a scope that reuses variables; weight decay is added once."""
  flags(data_dir=data_dir, batch_size=16)
  with tf.Graph().as_default(), tf.Session() as session:
    with tf.variable_scope('model', reuse=reuse):
      images, labels = cifar10.distorted_inputs()
      cifar10.inference(images)
      tests, test_labels = cifar10.inputs(True)
    with tf.variable_scope('model', reuse=True):
      cifar10.inference(tests)
    assert len(tf.get_collection('losses')) == 2
    assert len(tf.trainable_variables()) == 10
    session.run([tf.global_variables_initializer(),
                 tf.local_variables_initializer()])
    found, test_labels = session.run([labels, test_labels])
  expected = np.fromfile(data_dir + '/cifar-10-batches-bin/test_batch.bin',
                         np.uint8).reshape(-1, 3073)[:16, 0]
  assert np.array_equal(test_labels, expected)
  assert not np.array_equal(found, expected)


def test_a_notebook_has_flags_graphs_and_no_start_up_messages():
  """Its arguments are not ours; it may import TensorFlow after cifar10."""
  code = """
import sys
sys.path.insert(0, %r)
sys.argv = ['kernel', '-f', 'x']
import cifar10
print(cifar10.data_folder())
import tensorflow.compat.v1 as tf
with tf.Graph().as_default():
  step = tf.train.get_or_create_global_step()
  print(cifar10.inference(tf.placeholder(tf.float32, [1, 24, 24, 3])).shape)
print(tf.executing_eagerly(), tf.resource_variables_enabled())
""" % conftest.ROOT
  result = subprocess.run([sys.executable, '-c', code], capture_output=True,
                          text=True)
  assert result.stdout == ('data/cifar-10-batches-bin\n(1, 10)\nFalse True\n'
                          ), result.stderr
  assert 'InitializeLog' not in result.stderr


@pytest.fixture
def changed(tmp_path):
  """changed(constants, script, *flags): runs a script with cifar10_input's
  constants changed, as conftest.run."""
  def run(constants, script, *flags):
    path = tmp_path / 'changed.py'
    path.write_text('import cifar10_input, runpy, sys\n'
                    'vars(cifar10_input).update(%r)\n'
                    'sys.argv.pop(0)\n'
                    'runpy.run_path(sys.argv[0], run_name="__main__")\n' %
                    constants)
    return conftest.run(str(path), os.path.join(conftest.ROOT, script), *flags)
  return run


def test_other_constants_work_in_every_script(changed, data_dir, tmp_path,
                                              trained):
  """Whole images of two classes."""
  constants = {'IMAGE_SIZE': 32, 'NUM_CLASSES': 2}
  for path in (os.path.join(data_dir, cifar10_input.FOLDER, name)
               for name in cifar10_input.TRAIN_FILES +
               cifar10_input.TEST_FILES):
    records = np.fromfile(path, np.uint8).reshape(-1, 3073)
    records[:, 0] %= 2
    os.makedirs(tmp_path / cifar10_input.FOLDER, exist_ok=True)
    records.tofile(tmp_path / cifar10_input.FOLDER / os.path.basename(path))
  network, slim, tuned = (str(tmp_path / name) for name in 'abc')
  for script, *flags in [
      ('cifar10_train', '--train_dir=' + network, '--conv1_channels=8',
       '--max_steps=2'),
      ('thinet_compress', '--checkpoint_dir=' + network, '--output_dir=' + slim,
       '--conv1_channels=5', '--locations_per_image=256',
       '--reconstruction=full'),
      ('thinet_finetune', '--checkpoint_dir=' + slim, '--train_dir=' + tuned,
       '--max_steps=2', '--evaluate'),
      ('cifar10_eval', '--checkpoint_dir=' + tuned,
       '--export_dir=%s' % (tmp_path / 'exported'))]:
    code, _, errors = changed(constants, script + '.py', '--batch_size=50',
                              '--data_dir=%s' % tmp_path, *flags)
    assert (code, errors) == (0, ''), script
  result = files.read_json(os.path.join(tuned, 'eval.json'))
  # By hand: 32 * 32 and 16 * 16 positions, 8 * 8 * 64 inputs of local3.
  assert result['multiply_adds'] == (
      1024 * 75 * 5 + 256 * 25 * 5 * 64 + 4096 * 384 + 384 * 192 + 192 * 2)
  assert result['parameters'] == (76 * 5 + 25 * 5 * 64 + 64 + 4097 * 384 +
                                  385 * 192 + 193 * 2)
  with tf.Session(graph=tf.Graph()) as session:
    model = tf.saved_model.load(session, ['serve'], str(tmp_path / 'exported'))
    outputs = model.signature_def['serving_default'].outputs
    assert session.graph.get_tensor_by_name(
        outputs['logits'].name).shape.as_list() == [None, 2]
  # A network for images of another size is not read.
  code, _, errors = changed({'IMAGE_SIZE': 32}, 'cifar10_eval.py',
                            '--checkpoint_dir=' + trained)
  assert code == 1 and len(errors.splitlines()) == 1
  assert 'shape [2304, 384], expected float32 and [4096, 384]' in errors


@pytest.mark.parametrize('name, value', [
    ('IMAGE_SIZE', 4), ('IMAGE_SIZE', 22), ('IMAGE_SIZE', 36),
    ('NUM_CLASSES', 1), ('NUM_CLASSES', 257)])
def test_constants_that_cannot_work_are_refused(call, monkeypatch, name, value):
  monkeypatch.setattr(cifar10_input, name, value)
  code, output, errors = call(cifar10_train)
  assert (code, output) == (1, '') and len(errors.splitlines()) == 1
  assert '%s in cifar10_input.py is %d; make it a ' % (name, value) in errors


# Where the batch size is known, conv2 rounds more coarsely, so a unit close to
# a kink (of a ReLU or a maximum) may pass its gradient on or not.
@pytest.mark.parametrize('batch, tolerance', [(None, 1e-4), (5, 0.3)])
@pytest.mark.parametrize('width', [16, 64])
def test_network_and_gradients_equal_the_tutorials_operations(
    width, batch, tolerance):
  """The whole network in TensorFlow's own operations."""
  generator = np.random.default_rng(0)
  with tf.Graph().as_default(), tf.Session() as session:
    images = tf.placeholder(tf.float32, [batch, 24, 24, 3])
    logits = cifar10.inference(images, cifar10.Widths(width))
    weights = {var.op.name: var for var in tf.trainable_variables()}
    def lrn(x):
      return tf.nn.lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)
    def layer(x, name, op):
      return op(x, weights[name + '/weights']) + weights[name + '/biases']
    def convolution(x, kernel):
      return tf.nn.conv2d(x, kernel, strides=[1, 1, 1, 1], padding='SAME')
    def pool(x):
      return tf.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], 'SAME')
    x = lrn(pool(tf.nn.relu(layer(images, 'conv1', convolution))))
    x = pool(lrn(tf.nn.relu(layer(x, 'conv2', convolution))))
    x = tf.reshape(x, [5, -1])
    x = tf.nn.relu(layer(x, 'local3', tf.matmul))
    x = tf.nn.relu(layer(x, 'local4', tf.matmul))
    theirs = layer(x, 'softmax_linear', tf.matmul)
    direction = tf.constant(generator.normal(size=[5, 10]), tf.float32)
    both = [[y] + tf.gradients(y, list(weights.values()), direction)
            for y in (logits, theirs)]
    checkpoint.assign(session, {   # Biases that matter.
        var: generator.normal(0, 0.05, var.shape.as_list())
        for var in weights.values()})
    both = session.run(both, {images: generator.normal(size=[5, 24, 24, 3])})
    for number, (ours, other) in enumerate(zip(*both)):
      error = np.abs(ours - other).max() / np.abs(other).max()
      assert error < (tolerance if number else 1e-4)   # The logits come first.


@pytest.mark.parametrize('precision, tolerance', [('float32', 1e-5),
                                                  ('bfloat16', 0.1)])
def test_towers_are_the_batch(precision, tolerance):
  """Logits, loss and gradients agree on a batch that does not split evenly."""
  x = np.float32(np.random.default_rng(0).normal(size=[7, 24, 24, 3]))
  weights = conftest.drawn(cifar10.Widths(8), 0.05, seed=1, averages=False)
  found = []
  for towers in (1, 2):
    with tf.Graph().as_default(), tf.Session() as session:
      logits = cifar10.tower_inference(tf.constant(x), cifar10.Widths(8),
                                       precision, towers)
      loss = cifar10.loss(logits, tf.range(7))
      assert len(tf.trainable_variables()) == 10
      assert len(tf.get_collection('histograms')) == 10
      assert (precision == 'bfloat16') == any(
          tensor.dtype == tf.bfloat16 for op in session.graph.get_operations()
          for tensor in op.outputs)
      checkpoint.assign_network(session, weights)
      found.append(session.run([logits, loss] + tf.gradients(
          loss, tf.trainable_variables())))
  for number, (whole, halves) in enumerate(zip(*found)):
    # After logits and loss come gradients, which a unit close to a kink may
    # pass on or not.
    assert (np.linalg.norm(halves - whole) <
            max(tolerance, 0.02 * (number > 1)) * np.linalg.norm(whole))


@pytest.mark.parametrize('cores, gpu, batch_size, towers, threads', [
    (1, False, 128, 1, 1), (2, False, 128, 2, 1), (5, False, 128, 2, 2),
    (2, False, 1, 1, 2), (8, True, 128, 1, 8)])
def test_towers_share_the_cores(monkeypatch, cores, gpu, batch_size, towers,
                                threads):
  monkeypatch.setattr(devices, 'cores', lambda: cores)
  monkeypatch.setattr(operations, 'on_gpu', lambda: gpu)
  assert cifar10.towers(batch_size) == towers
  config = cifar10.session_config(towers)
  assert config.intra_op_parallelism_threads == threads


def test_of_equal_logits_the_first_labels_count():
  """A network without sense is as good as chance, not right everywhere."""
  labels = np.arange(-1, 10, dtype=np.int32)
  with tf.Graph().as_default(), tf.Session() as session:
    for logits in (np.zeros([11, 10]), np.ones([11, 10])):
      assert session.run(cifar10.hits(tf.constant(logits, tf.float32),
                                      tf.constant(labels))).tolist() == [1, 5]


def test_any_batch_size():
  with tf.Graph().as_default(), tf.Session() as session:
    images = tf.placeholder(tf.float32, [None, 24, 24, 3])
    logits = cifar10.inference(images, cifar10.Widths(8))
    session.run(tf.global_variables_initializer())
    x = np.random.default_rng(0).normal(size=[7, 24, 24, 3])
    whole = session.run(logits, {images: x})
    for i in range(7):
      np.testing.assert_allclose(session.run(logits, {images: x[i:i + 1]}),
                                 whole[i:i + 1], atol=1e-5)


def test_removing_the_last_filters_equals_zeroing_them():
  """The normalization sees the same neighbours, so only rounding differs."""
  images = np.random.default_rng(0).normal(size=[4, 24, 24, 3])
  full = conftest.drawn(cifar10.Widths(24), 0.05, seed=1, averages=False)
  slim = dict(full)
  full['conv1/weights'][..., 16:] = 0
  full['conv1/biases'][16:] = 0
  for name in ('conv1/weights', 'conv1/biases'):
    slim[name] = full[name][..., :16]
  slim['conv2/weights'] = full['conv2/weights'][:, :, :16]
  results = []
  for width, values in ((24, full), (16, slim)):
    with tf.Graph().as_default(), tf.Session() as session:
      logits = cifar10.inference(tf.constant(images, tf.float32),
                                 cifar10.Widths(width))
      checkpoint.assign_network(session, values)
      results.append(session.run(logits))
  np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('momentum, name, rate', [
    (0.0, 'local3/weights', 0.1), (0.9, 'local3/weights', 0.1),
    (0.0, 'conv1/weights', 0.3), (0.9, 'conv2/biases', 0.3)])
def test_averages_follow_the_updated_weights(momentum, name, rate):
  """The update by hand; the convolutions' rate is three times the others'."""
  with tf.Graph().as_default(), tf.Session() as session:
    step = tf.train.get_or_create_global_step()
    weight = tf.get_variable(name, initializer=[4.0])
    tf.add_to_collection('losses', tf.reduce_sum(tf.square(weight) / 2,
                                                 name='term'))
    loss = tf.add_n(tf.get_collection('losses'), name='total')
    train_op = cifar10.train(loss, step, 0.1, cifar10.PUBLISHED._replace(
        momentum=momentum, convolution_rate=3.0))
    average = [var for var in tf.global_variables()
               if var.op.name == name + checkpoint.AVERAGE][0]
    scalars = tf.summary.merge_all()
    session.run(tf.global_variables_initializer())
    w, velocity, mean, mean_loss = 4.0, 0.0, 4.0, 0.0
    for number in range(1, 6):
      before = session.run(scalars)   # Changes nothing.
      summary, _ = session.run([scalars, train_op])
      assert summary == before
      shown = {value.tag: value.simple_value
               for value in tf.Summary.FromString(summary).value}
      assert shown['learning_rate'] == np.float32(0.1)
      # Before the step; the average of the losses starts at 0.
      mean_loss = 0.9 * mean_loss + 0.1 * w ** 2 / 2
      for tag, value in (('losses_raw', w ** 2 / 2), ('losses', mean_loss)):
        for which in ('/term', '/total'):
          np.testing.assert_allclose(shown[tag + which], value, rtol=1e-5,
                                     atol=1e-6)
      gradient = w
      velocity = momentum * velocity + gradient
      w -= rate * (gradient + momentum * velocity if momentum else gradient)
      decay = min(0.9999, (1 + number) / (10 + number))
      mean = decay * mean + (1 - decay) * w
      np.testing.assert_allclose(session.run(weight), [w], rtol=1e-6, atol=1e-6)
      np.testing.assert_allclose(session.run(average), [mean], rtol=1e-6,
                                 atol=1e-6)
    assert session.run(step) == 5


def test_learning_rates_by_hand():
  schedules = {each.name: each for each in (
      cifar10.PUBLISHED, cifar10.FAST, thinet_finetune.SCHEDULE)}
  def rate(name, step, last_step):
    with tf.Graph().as_default(), tf.Session() as session:
      return session.run(cifar10.learning_rate_at(
          tf.constant(step, tf.int64), schedules[name], 0.1, 390.625,
          last_step))
  assert rate('published', 0, 50000) == np.float32(0.1)
  assert rate('published', 136717, 50000) == np.float32(0.1)
  np.testing.assert_allclose(rate('published', 136718, 50000), 0.01, rtol=1e-6)
  np.testing.assert_allclose(rate('fast', 0, 1000), 0.1 / 50, rtol=1e-6)
  np.testing.assert_allclose(rate('fast', 49, 1000), 0.1, rtol=1e-6)
  np.testing.assert_allclose(rate('fast', 525, 1000), 0.05, rtol=1e-6)
  np.testing.assert_allclose(rate('fast', 999, 1000), 0.1 / 950, rtol=1e-5)
  np.testing.assert_allclose(rate('finetune', 389, 8000), 0.0975, rtol=1e-6)
  np.testing.assert_allclose(rate('finetune', 34, 160), 0.01, rtol=1e-6)
  np.testing.assert_allclose(rate('finetune', 121, 160), 0.1 * 39 / 152,
                             rtol=1e-6)


@pytest.mark.parametrize('step, rate', [(136717, 0.1), (136718, 0.01)])
def test_without_a_rate_it_is_the_tutorials(step, rate):
  """350 epochs of 50,000 images in batches of 128 are 136,718.75 steps."""
  with tf.Graph().as_default(), tf.Session() as session:
    global_step = tf.train.get_or_create_global_step()
    tf.add_to_collection('losses', tf.reduce_sum(tf.get_variable(
        'local3/weights', initializer=[4.0]), name='term'))
    cifar10.train(tf.add_n(tf.get_collection('losses'), name='total'),
                  global_step)
    scalars = tf.summary.merge_all()
    session.run(tf.global_variables_initializer())
    session.run(global_step.assign(step))
    shown = {value.tag: value.simple_value for value in
             tf.Summary.FromString(session.run(scalars)).value}
  np.testing.assert_allclose(shown['learning_rate'], rate, rtol=1e-6)


def test_bfloat16_is_float32_within_its_rounding():
  """Variables stay float32; with 8 bits, pooling may pick another pixel."""
  generator = np.random.default_rng(0)
  x = generator.normal(size=[16, 24, 24, 3]).astype(np.float32)
  results = {}
  for precision in ('float32', 'bfloat16'):
    with tf.Graph().as_default(), tf.Session() as session:
      logits = cifar10.inference(tf.constant(x), cifar10.Widths(16), precision)
      assert logits.dtype == tf.float32
      values = np.random.default_rng(1)
      for var in tf.trainable_variables():
        assert var.dtype.base_dtype == tf.float32
      checkpoint.assign(session, {
          var: values.normal(0, 0.03, var.shape.as_list())
          for var in tf.trainable_variables()})
      loss = cifar10.loss(logits, tf.range(16) % 10)
      gradients = tf.gradients(loss, tf.trainable_variables())
      results[precision] = session.run([logits] + gradients)
  one, other = (values[0] for values in results.values())
  assert one.tobytes() != other.tobytes()
  for one, other in zip(*results.values()):
    assert (np.linalg.norm(one - other) < 0.25 * np.linalg.norm(one))
