"""Fine-tunes a slim network, by the training loop of cifar10_train.

  python thinet_finetune.py --checkpoint_dir=runs/seed0/thinet_none_16 \\
      --train_dir=runs/seed0/thinet_none_16_finetuned

Starts from the averaged weights of the slim checkpoint; resumes like a training.
"""
import checkpoint
import cifar10
import cifar10_train
from cifar10_input import UserError

import tensorflow.compat.v1 as tf

FLAGS = tf.app.flags.FLAGS
tf.app.flags.adopt_module_key_flags(cifar10_train)
tf.app.flags.DEFINE_string('checkpoint_dir', None,
                           'Folder of the slim network.')


def finetune():
  """Trains all weights of the slim network."""
  if not FLAGS.checkpoint_dir:
    raise UserError('--checkpoint_dir is missing; name the folder of a slim '
                    'network.')
  _, arrays, parent = checkpoint.read_newest(FLAGS.checkpoint_dir)
  averages = {name: arrays[name + cifar10.AVERAGE]
              for name in cifar10.weight_shapes(0)}
  initial = dict(averages, **{name + cifar10.AVERAGE: value
                              for name, value in averages.items()})
  made = {name: parent[name] for name in ('criterion', 'reconstruction')
          if name in parent}
  return cifar10_train.train(arrays['conv1/biases'].size, initial,
                             parent=parent, fine_tuned=True, **made)


def main(argv=None):
  del argv
  return finetune()


if __name__ == '__main__':
  del FLAGS.conv1_channels   # The width is the checkpoint's.
  FLAGS.set_default('schedule', 'finetune')
  cifar10.run(main)
