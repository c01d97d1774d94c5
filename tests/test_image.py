"""One picture, from the file to the names: against Pillow and the data set."""
import os
import struct
import zlib

from thinet import checkpoint
import cifar10
import cifar10_eval
import cifar10_input
import conftest
import demo_data
import numpy as np
from PIL import Image
import pytest
import tensorflow.compat.v1 as tf

UserError = cifar10_input.UserError


@pytest.fixture
def picture():
  """A photo of 301 x 203: large smooth spots of all colours."""
  noise = np.random.default_rng(0).integers(0, 256, (12, 18, 3), np.uint8)
  return Image.fromarray(noise).resize((301, 203), Image.BICUBIC)


def holes():
  """Transparency: every other square of 20 pixels."""
  y, x = np.mgrid[:203, :301] // 20
  return Image.fromarray(((y + x) % 2 * 255).astype(np.uint8))


def with_holes(picture):
  picture = picture.copy()
  picture.putalpha(holes())
  return picture


def sixteen_bits(picture):
  return Image.fromarray(np.asarray(picture.convert('L')).astype('<u2') * 257)


@pytest.mark.parametrize('name, change, how', [
    ('a.png', lambda picture: picture, {}),
    ('tall.png', lambda picture: picture.transpose(Image.ROTATE_90), {}),
    ('grey.png', lambda picture: picture.convert('L'), {}),
    ('bits.png', lambda picture: picture.convert('1'), {}),
    ('palette.png', lambda picture: picture.convert('P'), {}),
    ('holes.png', with_holes, {}),
    ('grey_holes.png', lambda picture: with_holes(picture).convert('LA'), {}),
    ('key.png', lambda picture: picture.quantize(16), {'transparency': 3}),
    ('16.png', sixteen_bits, {}),
    ('a.jpg', lambda picture: picture, {}),
    ('progressive.jpg', lambda picture: picture, {'progressive': True}),
    ('grey.jpg', lambda picture: picture.convert('L'), {}),
    ('cmyk.jpg', lambda picture: picture.convert('CMYK'), {})])
def test_pictures_are_read_as_by_pillow(tmp_path, picture, name, change, how):
  path = str(tmp_path / name)
  change(picture).save(path, **how)
  there = Image.open(path)
  if name == '16.png':   # Pillow would clip what is above 255.
    there = picture.convert('L')
  if there.mode in ('P', 'LA', 'RGBA'):
    white = Image.new('RGBA', there.size, (255,) * 4)
    there = Image.alpha_composite(white, there.convert('RGBA'))
  there = there.convert('RGB')
  side = min(there.size)
  left, top = ((length - side) // 2 for length in there.size)
  expected = there.crop((left, top, left + side, top + side)).resize(
      (32, 32), Image.BILINEAR)
  np.testing.assert_allclose(cifar10_eval.read_image(path).astype(int),
                             np.asarray(expected).astype(int), atol=1)


def test_one_pixel_fills_the_image(tmp_path):
  Image.new('RGB', (1, 1), (10, 20, 30)).save(tmp_path / 'one.png')
  found = cifar10_eval.read_image(str(tmp_path / 'one.png'))
  assert found.shape == (32, 32, 3) and (found == [10, 20, 30]).all()


def test_an_image_of_the_data_set_is_rated_as_in_it(
    call, tmp_path, data_dir, trained, flags):
  """Same pixels, same logits within rounding, the classes in order."""
  record = np.fromfile(os.path.join(data_dir, cifar10_input.FOLDER,
                                    'test_batch.bin'), np.uint8)[7 * 3073:][
                                        :3073]
  pixels = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
  path = str(tmp_path / 'seven.png')
  Image.fromarray(pixels).save(path)
  assert np.array_equal(cifar10_eval.read_image(path), pixels)

  flags(data_dir=data_dir, batch_size=100)
  _, arrays, _ = conftest.newest(trained)
  with tf.Graph().as_default(), tf.Session() as session:
    images, labels = cifar10.inputs('test', tf.constant(0, tf.int64))
    logits = cifar10.inference(images, cifar10.Widths(12))
    session.run(tf.local_variables_initializer())
    checkpoint.assign(session, {var: arrays[var.op.name + checkpoint.AVERAGE]
                                for var in tf.trainable_variables()})
    logits, labels = session.run([logits[7], labels[7]])
  assert labels == record[0]
  found = cifar10_eval.probabilities(arrays, 'averaged', pixels)
  raised = np.exp(logits.astype(np.float64))
  expected = raised / raised.sum()
  np.testing.assert_allclose(found, expected, rtol=1e-4)

  code, output, _ = call(cifar10_eval, '--data_dir=' + data_dir,
                         '--checkpoint_dir=' + trained, '--image=' + path)
  heading, *lines = output.splitlines()
  assert code == 0 and heading == (
      '%s, by %s/model.ckpt-30 (12 channels, step 30, averaged weights):' % (
          path, trained))
  assert [line.split()[0] for line in lines] == [
      demo_data.NAMES[label] for label in np.argsort(-expected)]
  assert [line.split()[1] for line in lines] == [
      '%.2f' % (100 * each) for each in sorted(expected, reverse=True)]
  assert len({len(line) for line in lines}) == 1   # Aligned.


def test_a_picture_needs_no_data_set(call, tmp_path, trained):
  Image.new('RGB', (40, 30)).save(tmp_path / 'a.png')
  code, output, _ = call(cifar10_eval, '--data_dir=%s' % (tmp_path / 'none'),
                         '--checkpoint_dir=' + trained,
                         '--image=%s' % (tmp_path / 'a.png'))
  assert code == 0 and 'automobile ' in output
  assert os.listdir(tmp_path) == ['a.png']


def png(width, height):
  """The beginning of a PNG that claims this size."""
  header = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  return (b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + header +
          struct.pack('>I', zlib.crc32(header)))


def jpeg_of_65500(picture, path):
  picture.save(path)
  content = bytearray(path.read_bytes())
  place = content.index(b'\xff\xc0') + 5   # Of height and width in the frame.
  content[place:place + 4] = struct.pack('>HH', 65500, 65500)
  return bytes(content)


@pytest.mark.parametrize('name, content, words', [
    ('bomb.png', lambda *_: png(100000, 90000),
     'has 100000 x 90000 pixels, more than 67108864 in all'),
    ('bomb.jpg', jpeg_of_65500, 'has 65500 x 65500 pixels, more than'),
    ('none.png', lambda *_: png(0, 5), 'is damaged'),
    ('sign.png', lambda *_: png(3, 3)[:8], 'is damaged'),
    ('cut.png', lambda *_: png(3, 3), 'is damaged'),
    ('a.gif', lambda *_: b'GIF89a' + bytes(50), 'is neither PNG nor JPEG'),
    ('empty.png', lambda *_: b'', 'is neither PNG nor JPEG')])
def test_pictures_that_do_not_do(tmp_path, picture, name, content, words):
  path = tmp_path / name
  path.write_bytes(content(picture, path))
  with pytest.raises(UserError, match=words) as fault:
    cifar10_eval.read_image(str(path))
  assert str(path) in str(fault.value) and '\n' not in str(fault.value)


@pytest.mark.parametrize('name', ['a.png', 'a.jpg'])
def test_half_a_picture_is_damaged(tmp_path, picture, name):
  path = tmp_path / name
  picture.save(path)
  path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
  with pytest.raises(UserError, match='is damaged'):
    cifar10_eval.read_image(str(path))


def test_files_that_cannot_be_pictures(tmp_path):
  with open(tmp_path / 'large.png', 'wb') as large:
    large.truncate(2**28 + 1)
  os.mkfifo(tmp_path / 'pipe.png')
  for name, words in [('large.png', 'has 268435457 bytes, more than'),
                      ('pipe.png', 'regular'), ('none.png', 'No such file'),
                      ('', 'regular')]:
    with pytest.raises(UserError, match=words):
      cifar10_eval.read_image(str(tmp_path / name))
