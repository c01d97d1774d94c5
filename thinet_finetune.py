"""Fine-tunes a slim network, by the training loop of cifar10_train.

  python thinet_finetune.py --checkpoint_dir=runs/seed0/thinet_none_16 \\
      --train_dir=runs/seed0/thinet_none_16_finetuned

Starts from the averaged weights of the slim checkpoint; resumes as trainings do.
--distill=runs/seed0/scratch_64 also imitates the averaged network there.
"""
from support import checkpoint
import cifar10
import cifar10_train
from cifar10_input import UserError

import tensorflow.compat.v1 as tf

FLAGS = tf.app.flags.FLAGS
for _name in ('data_dir', 'data_url', 'batch_size', 'checkpoint_dir', 'seed',
              'train_dir', 'epochs', 'max_steps', 'learning_rate', 'log_frequency',
              'histogram_frequency', 'checkpoint_frequency', 'steps_per_run',
              'precision'):
  tf.app.flags.declare_key_flag(_name)
tf.app.flags.DEFINE_string('distill', None, 'Folder of a network, as a rule '
                           'the original one, whose outputs to imitate.')


def finetune():
  """Trains all weights of the slim network."""
  if not FLAGS.checkpoint_dir:
    raise UserError('--checkpoint_dir is missing; name the folder of a slim '
                    'network.')
  _, arrays, parent = checkpoint.read_newest(FLAGS.checkpoint_dir)
  averages = checkpoint.averages(arrays)
  initial = dict(averages, **{name + cifar10.AVERAGE: value
                              for name, value in averages.items()})
  made = {name: parent[name] for name in ('criterion', 'reconstruction')
          if name in parent}
  teacher_weights = None
  if FLAGS.distill:
    _, teacher, settings = checkpoint.read_newest(FLAGS.distill)
    teacher_weights = checkpoint.averages(teacher)
    made['teacher'] = dict(settings, step=int(teacher.get('global_step', 0)))
  return cifar10_train.train('finetune', arrays['conv1/biases'].size, initial,
                             teacher_weights, 'finetuning', parent=parent,
                             fine_tuned=True, **made)


def main(argv=None):
  del argv
  return finetune()


if __name__ == '__main__':
  cifar10.run(main)
