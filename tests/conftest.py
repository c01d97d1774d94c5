"""Shared by the tests: drawn data, a small trained network, real processes."""
import os
import signal
import sys

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, 'results'), os.path.dirname(__file__)]

os.environ['CUDA_VISIBLE_DEVICES'] = ''   # On a GPU other bits are right.

import cifar10
import cifar10_train
import demo_data
import program
from thinet import checkpoint
import tensorflow.compat.v1 as tf
from absl.testing import flagsaver

NARROW = cifar10.Widths(6, 7, 20, 12)

cifar10.FLAGS(['tests'])
# What started the tests may ignore signals, as nohup and background jobs do;
# the programs under test would, too.
for _number in cifar10.STOPS:
  if signal.getsignal(_number) == signal.SIG_IGN:
    signal.signal(_number, signal.SIG_DFL)
# The first session sets the threads of the whole process: here those of a
# training, so that it gives the same bits as in a process of its own.
tf.Session(config=cifar10.session_config(cifar10.towers(2))).close()


def compiled(graph):
  """What XLA compiles: name -> node, without numbers counted by process."""
  nodes = graph.as_graph_def().node
  for node in nodes:
    node.attr.pop('_gradient_op_type', None)
  return {node.name: node for node in nodes if '_xla_compile_id' in node.attr}


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory):
  """Drawn data: 500 training and 100 test images."""
  folder = tmp_path_factory.mktemp('data')
  demo_data.write(str(folder), images_per_file=100)
  return str(folder)


@pytest.fixture
def flags():
  """Sets flags for one test: flags(seed=3).

  Trainings in this process rate nothing and have no histograms, which takes a
  third of the time of a short one, unless a test asks for them.
  """
  with flagsaver.flagsaver(eval_frequency=0, histogram_frequency=0):
    def put(**values):
      for name, value in values.items():
        setattr(cifar10.FLAGS, name, value)
    yield put


@pytest.fixture(scope='session')
def trained(data_dir, tmp_path_factory):
  """Folder of a 12-channel network after 30 steps of 50 images."""
  folder = str(tmp_path_factory.mktemp('runs') / 'trained')
  with flagsaver.flagsaver(data_dir=data_dir, train_dir=folder, max_steps=30,
                           batch_size=50, checkpoint_frequency=10):
    assert cifar10_train.train(cifar10.PUBLISHED, cifar10.Widths(12)) == 0
  return folder


def drawn(widths, deviation=0.1, seed=0, averages=True):
  """Draws weights and, apart, their averages: name -> float32 array."""
  generator = np.random.default_rng(seed)
  return {name + suffix: np.float32(generator.normal(0, deviation, shape))
          for suffix in ['', checkpoint.AVERAGE][:1 + averages]
          for name, shape in cifar10.weight_shapes(widths).items()}


@pytest.fixture(scope='session')
def narrow(tmp_path_factory):
  """A parent with few channels in all layers; drawn, the averages apart."""
  folder = tmp_path_factory.mktemp('narrow')
  generator = np.random.default_rng(0)
  arrays = {name + suffix: generator.normal(
      0.1 if name.endswith('biases') else 0, 0.2, shape).astype(np.float32)
            for suffix in ('', checkpoint.AVERAGE)
            for name, shape in cifar10.weight_shapes(NARROW).items()}
  checkpoint.save(str(folder), arrays, {'seed': 1, **cifar10.narrowed(NARROW)})
  return str(folder)


def newest(folder):
  """Reads the newest checkpoint of a folder: (path, arrays, settings)."""
  return checkpoint.read_newest(str(folder), cifar10.shapes_like)[:3]


def averages(arrays):
  """The averaged weights among a checkpoint's arrays: name -> array."""
  return checkpoint.Checkpoint('', arrays, {}, '').averages


def outputs(arrays, names):
  """Runs an averaged network on the 500 drawn training images.

  Args:
    arrays: name -> array of a checkpoint, as from checkpoint.read.
    names: one of cifar10.endpoints, or a list of them.

  Returns:
    float32 array of the endpoint, or a list of them.
  """
  with tf.Graph().as_default(), tf.Session() as session:
    with flagsaver.flagsaver(batch_size=500):
      images, _ = cifar10.inputs('train_eval', tf.constant(0, tf.int64))
    tensors = cifar10.endpoints(images, cifar10.widths_of(arrays))
    session.run(tf.local_variables_initializer())
    checkpoint.assign(session, {var: arrays[var.op.name + checkpoint.AVERAGE]
                                for var in tf.trainable_variables()})
    return session.run(tensors[names] if isinstance(names, str) else
                       [tensors[name] for name in names])


@pytest.fixture
def call(capsys, monkeypatch):
  """Runs a script's main in this process, which saves TensorFlow's import.

  call(module, *flags) returns (exit code, output, errors).
  """
  def run_main(module, *arguments):
    monkeypatch.setattr(sys, 'argv', [module.__name__ + '.py'] +
                        [str(argument) for argument in arguments])
    capsys.readouterr()
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as end:
      cifar10.run(module.main)
    captured = capsys.readouterr()
    return end.value.code or 0, captured.out, captured.err
  return run_main


def start(script, *flags, largest_file=None, ignored=None):
  """Starts a script of the suite as a process of its own: program.Program.

  With largest_file, a write beyond that many bytes into a file fails, as on a
  full disk. A signal may be ignored from the start, as nohup does.
  """
  return program.Program(os.path.join(ROOT, script), list(flags), largest_file,
                         ignored)


def run(script, *flags, largest_file=None):
  """Runs a script to its end; returns (exit code, output, errors)."""
  process = start(script, *flags, largest_file=largest_file)
  output, errors = process.communicate()
  return process.returncode, output, errors
