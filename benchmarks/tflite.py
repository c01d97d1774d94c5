"""Measures a network as a SavedModel and in three forms of TFLite.

  python benchmarks/tflite.py --data_dir=data \\
      --checkpoint_dir=runs/seed0/scratch_64 [--json]

Exports the network by cifar10_eval.py and converts its signature standardized,
which takes float32 [n, 24, 24, 3], to TFLite: with weights and arithmetic in
float32; with weights of 8 bits (dynamic range); and with nothing but integers
from the input to the logits, calibrated on 500 training images. All rate the
test images one at a time. Then all run in turn on one image, each on one
thread: medians over 300 rounds, after 20 of warm-up. One to two minutes on two
cores.

--json prints one object. By form (savedmodel, float, dynamic_range, integer):
file_bytes, top1 and latency_ms. Also examples, calibration_images, rounds,
checkpoint, date and machine.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir)
sys.path.insert(1, ROOT)

import cifar10_input
from thinet import files
import timing

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow import lite

tf.enable_v2_behavior()   # The converter needs it; the programs turn it off.

CALIBRATION, WARM_UP, ROUNDS = 500, 20, 300
SIGNATURE = 'standardized'


def exported(checkpoint_dir, folder):
  """Writes a network as a SavedModel; ends this process if it cannot."""
  ended = subprocess.run([
      sys.executable, os.path.join(ROOT, 'cifar10_eval.py'),
      '--checkpoint_dir=' + checkpoint_dir, '--export_dir=' + folder],
                         stdout=subprocess.PIPE)
  if ended.returncode:
    sys.exit(ended.returncode)


def images_of(eval_data, data_folder, count=None):
  """Standardized images of the data set, all or the first of them.

  Returns:
    images: float32 [n, 24, 24, 3].
    labels: uint8 [n].
  """
  paths = cifar10_input.data_files(data_folder, eval_data)
  cifar10_input.verify(paths)
  records = np.concatenate([np.fromfile(path, np.uint8) for path in paths])
  records = records.reshape(-1, cifar10_input.RECORD_BYTES)[:count]
  side = cifar10_input.RECORD_SIDE
  images = records[:, 1:].reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
  return cifar10_input.central(images).numpy(), records[:, 0]


def converted(folder, form, images):
  """Converts an exported network to TFLite.

  Args:
    folder: of the SavedModel.
    form: 'float', 'dynamic_range' or 'integer'.
    images: float32 [n, 24, 24, 3] to calibrate integers on.

  Returns:
    The file's bytes.
  """
  converter = lite.TFLiteConverter.from_saved_model(
      folder, signature_keys=[SIGNATURE])
  if form != 'float':
    converter.optimizations = [lite.Optimize.DEFAULT]
  if form == 'integer':
    converter.representative_dataset = lambda: (
        {'images': image[np.newaxis]} for image in images)
    converter.target_spec.supported_ops = [
        lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
  return converter.convert()


def quantized(images, details):
  """The images in the type of a TFLite input."""
  if details['dtype'] == np.float32:
    return images
  scale, zero = details['quantization']
  return np.clip(np.round(images / scale) + zero, -128, 127).astype(np.int8)


def lite_runner(content):
  """Loads TFLite's bytes.

  Returns:
    (run, prepared): functions from an image in its type, [1, 24, 24, 3], to its
    label, and from float32 images to that type.
  """
  interpreter = lite.Interpreter(model_content=content, num_threads=1)
  signature = interpreter.get_signature_runner(SIGNATURE)
  details, = interpreter.get_input_details()
  return (lambda image: signature(images=image)['logits'].argmax(),
          lambda images: quantized(images, details))


def saved_runner(folder):
  """Loads a SavedModel; as lite_runner."""
  config = tf.ConfigProto(intra_op_parallelism_threads=1,
                          inter_op_parallelism_threads=1,
                          use_per_session_threads=True)
  session = tf.Session(graph=tf.Graph(), config=config)
  with session.graph.as_default():
    model = tf.saved_model.load(session, ['serve'], folder)
  signature = model.signature_def[SIGNATURE]
  run = session.make_callable(signature.outputs['logits'].name,
                              [signature.inputs['images'].name])
  return lambda image: run(image).argmax(), lambda images: images


def latencies(runs, image):
  """Medians in milliseconds: form -> of running one image, in turn."""
  times = {form: [] for form in runs}
  for _ in range(WARM_UP + ROUNDS):
    for form, (run, prepared) in runs.items():
      given = prepared(image)
      start = time.perf_counter()
      run(given)
      times[form].append(1e3 * (time.perf_counter() - start))
  return {form: float(np.median(each[WARM_UP:]))
          for form, each in times.items()}


def measured(checkpoint_dir, data_folder):
  """Measures all forms of a network: the dict that --json prints."""
  images, labels = images_of('test', data_folder)
  calibration, _ = images_of('train_eval', data_folder, CALIBRATION)
  with tempfile.TemporaryDirectory() as root:
    folder = os.path.join(root, 'model')
    exported(checkpoint_dir, folder)
    sizes = {'savedmodel': files.size(folder)}
    runs = {'savedmodel': saved_runner(folder)}
    for form in ('float', 'dynamic_range', 'integer'):
      content = converted(folder, form, calibration)
      sizes[form], runs[form] = len(content), lite_runner(content)
  result = {}
  for form, (run, prepared) in runs.items():
    hits = sum(run(given[np.newaxis]) == label
               for given, label in zip(prepared(images), labels))
    result[form] = {'file_bytes': sizes[form],
                    'top1': 100.0 * float(hits) / len(labels)}
  for form, milliseconds in latencies(runs, images[:1]).items():
    result[form]['latency_ms'] = round(milliseconds, 3)
  return dict(result, examples=len(labels), rounds=ROUNDS,
              calibration_images=len(calibration), checkpoint=checkpoint_dir)


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data_dir', default='data',
                      help='folder that holds the data set')
  parser.add_argument('--checkpoint_dir', required=True,
                      help='folder of a checkpoint, or its path')
  parser.add_argument('--json', action='store_true', help='print one object')
  flags = parser.parse_args()
  try:
    timing.report(measured(flags.checkpoint_dir, cifar10_input.data_folder(
        flags.data_dir)), flags.json)
  except (cifar10_input.UserError, files.FileError) as error:
    sys.exit(str(error))


if __name__ == '__main__':
  main()
