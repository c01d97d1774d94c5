"""Fine-tunes a network with the training loop of cifar10_train.

  python thinet_finetune.py --checkpoint_dir=runs/seed0/thinet_none_16 \\
      --train_dir=runs/seed0/thinet_none_16_finetuned

Starts from the averaged weights of a checkpoint, of a compressed network or one
from scratch; the same command continues an interrupted run. The gradients of
conv1 and conv2 are preconditioned (thinet/precondition.py). 20 epochs, some
minutes on two cores, bring 16 channels from 35 to 84 % and 8 from 18 to 81 %.
"""
import cifar10
import cifar10_train
from cifar10_input import UserError
from thinet import checkpoint
from thinet import precondition
from thinet import tensorflow as tf

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'checkpoint_dir', 'seed',
              'evaluate', 'train_dir', 'epochs', 'max_steps', 'learning_rate',
              'log_frequency', 'histogram_frequency', 'eval_frequency',
              'checkpoint_frequency', 'keep_checkpoints', 'precision'):
  tf.app.flags.declare_key_flag(_name)
FLAGS['checkpoint_dir'].help = 'Required. Folder of the network.'

SCHEDULE = cifar10.Schedule(
    'finetune', epochs=20, learning_rate=0.01, linear=True, momentum=0.9,
    average_decay=0.999, convolution_rate=1.5, warmup_steps=350)
FLAGS['epochs'].help = ('Passes over the training images; by default %g.' %
                        SCHEDULE.epochs)
FLAGS['learning_rate'].help = ('Highest learning rate; by default %g.' %
                               SCHEDULE.learning_rate)


def preconditioners(weights):
  """Computes the matrices that precondition conv1's and conv2's gradients.

  Args:
    weights: name -> float32 array, for the names of cifar10.weight_shapes.

  Returns:
    name -> float32 [25 * channels, 25 * channels], of a layer's input channels.
  """
  with tf.Graph().as_default():
    step = tf.placeholder(tf.int64, [])
    images, _ = cifar10.distorted_inputs(FLAGS.seed, step, 'preconditioner')
    norm1 = cifar10.endpoints(images, cifar10.widths_of(weights))['norm1']
    # The first session sets the threads of the whole process, so it is opened
    # as training needs them.
    with tf.Session(config=cifar10.session_config(
        cifar10.towers(FLAGS.batch_size))) as session:
      session.run(tf.local_variables_initializer())
      checkpoint.assign_network(session, weights)
      return precondition.matrices(
          {'conv1/weights': images, 'conv2/weights': norm1},
          lambda rows, number: session.run(rows, {step: number}))


def finetune():
  """Trains all weights of the network.

  Returns, Raises: as cifar10_train.train; CheckpointError, if --checkpoint_dir
  holds no network.
  """
  if not FLAGS.checkpoint_dir:
    raise UserError('--checkpoint_dir is missing; name the folder of a '
                    'network.')
  parent = checkpoint.read_newest(FLAGS.checkpoint_dir, cifar10.shapes_like)
  averages = parent.averages
  initial = dict(averages, **{name + checkpoint.AVERAGE: value
                              for name, value in averages.items()})
  return cifar10_train.train(
      SCHEDULE, cifar10.widths_of(averages), 'finetuning', initial,
      lambda: preconditioners(averages), fine_tuned=True,
      **cifar10_train.made_from(parent))


def main(argv=None):
  del argv
  return finetune()


if __name__ == '__main__':
  cifar10.run(main)
