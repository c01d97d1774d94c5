"""What each step of --reconstruction=network gives, in top-1.

  python benchmarks/steps.py --data_dir=data \\
      --checkpoint_dir=runs/seed0/least_squares_network_16

Takes the slim network apart again: the same channels without any refit and with
conv2 refitted as by --reconstruction=full, then the steps of
support/thinet_reconstruct.py one by one. Prints top-1 on the test images behind each.
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir))

from support import checkpoint
import cifar10
import cifar10_eval
import cifar10_input
import thinet_compress
from support import thinet_moments
from support import thinet_reconstruct
from cifar10_input import UserError

from absl.testing import flagsaver
import tensorflow.compat.v1 as tf

FLAGS = cifar10.FLAGS
for _name in ('data_dir', 'checkpoint_dir'):
  tf.app.flags.declare_key_flag(_name)


def top1(weights):
  """Percent of the test images."""
  examples, _ = cifar10_input.verify(
      cifar10_input.data_files(cifar10.data_folder(), 'test'))
  return 100.0 * cifar10_eval.eval_once(weights, examples, 'test',
                                        'raw')[0] / examples


def through_relu(original, slim, made):
  """The slim weights after the first step alone."""
  with tf.Graph().as_default():
    networks = thinet_reconstruct._Networks(original, slim, made['num_images'],
                                            made['seed'])
    with networks.session:
      thinet_reconstruct._conv2_through_relu(networks)
  return networks.slim


def main(argv=None):
  del argv
  folder = FLAGS.checkpoint_dir or ''
  try:
    with open(os.path.join(folder, 'compress.json')) as source:
      made = json.load(source)
  except OSError as error:
    raise UserError('--checkpoint_dir=%s holds no compress.json (%s); name a '
                    'compressed network.' % (folder, error.strerror))
  parent = os.path.join(folder, made['parent_checkpoint'])
  arrays, _ = checkpoint.read(parent)
  original = checkpoint.averages(arrays)
  final = checkpoint.averages(checkpoint.read_newest(folder)[1])
  with flagsaver.flagsaver(checkpoint_dir=os.path.dirname(parent)):
    fit, check, _, _ = thinet_moments.cached_moments(
        arrays, made['data_digest'], made['num_images'],
        made['locations_per_image'], made['seed'],
        lambda moments: thinet_compress.choices(moments, arrays))
  slim = dict(original, **{name: original[name][..., made['kept']]
                           for name in ('conv1/weights', 'conv1/biases')})
  slim['conv2/weights'] = original['conv2/weights'][:, :, made['kept']]
  full = dict(slim, **thinet_compress.rebuild(
      'full', fit, check, arrays, made['kept'], made['num_images'])[0])
  stages = {'none': slim, 'full': full,
            'conv2 through its ReLU': through_relu(original, full, made)}
  for layer, title in [('conv', 'conv1 and conv2 for local3'),
                       ('local3', 'local3'), ('local4', 'local4'),
                       ('softmax_linear', 'softmax_linear')]:
    slim = dict(slim, **{name: final[name] for name in final
                         if name.startswith(layer)})
    stages[title] = slim
  print('parent: %.2f' % top1(original))
  for title, weights in stages.items():
    print('%d channels, %s: %.2f' % (made['conv1_channels'], title,
                                     top1(weights)), flush=True)
  return 0


if __name__ == '__main__':
  cifar10.run(main)
