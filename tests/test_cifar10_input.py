"""cifar10_input against NumPy, TensorFlow's operations and hostile files."""
import gzip
import hashlib
import io
import os
import shutil
import signal
import socket
import tarfile
import time
import tracemalloc

import cifar10
import cifar10_input
import conftest
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from thinet import refit
import thinet_compress
import thinet_finetune
from cifar10_input import UserError

REAL = os.path.join(os.path.dirname(__file__), '..', '..', 'shared', 'data',
                    cifar10_input.FOLDER)


def evaluate(build):
  """Runs what build() returns in a graph of its own."""
  with tf.Graph().as_default(), tf.Session() as session:
    fetches = build()
    session.run(tf.local_variables_initializer())
    return session.run(fetches)


def records_of(data_dir, eval_data):
  names = (['test_batch.bin'] if eval_data == 'test' else
           ['data_batch_%d.bin' % number for number in (1, 2, 3, 4, 5)])
  return np.concatenate([np.fromfile(os.path.join(
      data_dir, 'cifar-10-batches-bin', name), np.uint8)
                         for name in names]).reshape(-1, 3073)


def folder_of(data_dir):
  return os.path.join(data_dir, cifar10_input.FOLDER)


# --------------------------------------------------------------------- files


def test_verify_counts_and_hashes(data_dir):
  paths = cifar10_input.data_files(folder_of(data_dir), 'train_eval')
  records, digest = cifar10_input.verify(paths)
  assert records == 500
  assert digest == hashlib.sha256(
      b''.join(open(path, 'rb').read() for path in paths)).hexdigest()


@pytest.mark.skipif(not os.path.isdir(REAL), reason='CIFAR-10 is not there')
def test_verify_accepts_the_real_data():
  assert cifar10_input.verify(
      cifar10_input.data_files(REAL, 'train_eval'))[0] == 50000
  assert cifar10_input.verify(
      cifar10_input.data_files(REAL, 'test'))[0] == 10000


@pytest.mark.parametrize('content, words', [
    (b'', 'has 0 bytes'),
    (bytes(3072), 'has 3072 bytes'),
    (bytes(3074), 'has 3074 bytes'),
    (bytes(3073) + b'\x0a' + bytes(3072), 'has label 10 in record 1'),
    (bytes(3073 * 1000) + b'\xff' + bytes(3072), 'label 255 in record 1000'),
    (None, 'cannot be read (No such file'),
    ('folder', 'cannot be read (data_batch_1.bin is not a regular file'),
    ('fifo', 'cannot be read (data_batch_1.bin is not a regular file'),
    ('device', 'cannot be read (data_batch_1.bin is not a regular file'),
    ('huge', 'has %d bytes' % 2**43),
])
def test_verify_names_file_and_fault(tmp_path, content, words):
  path = tmp_path / 'data_batch_1.bin'
  if content == 'folder':
    path.mkdir()
  elif content == 'fifo':
    os.mkfifo(path)
  elif content == 'device':
    path.symlink_to('/dev/zero')
  elif content == 'huge':
    with open(path, 'wb') as hole:
      hole.truncate(2**43)   # More than any memory.
  elif content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError) as fault:
    cifar10_input.verify([str(path)])
  assert str(path) in str(fault.value) and words in str(fault.value)


def test_verify_needs_the_memory_of_a_part_of_a_file(tmp_path):
  path = tmp_path / 'data_batch_1.bin'
  with open(path, 'wb') as hole:
    hole.truncate(3073 * 40000)
  tracemalloc.start()
  try:
    assert cifar10_input.verify([str(path)])[0] == 40000
    assert tracemalloc.get_traced_memory()[1] < 3073 * 10000
  finally:
    tracemalloc.stop()


def test_verify_names_a_file_that_may_not_be_read(tmp_path):
  path = tmp_path / 'data_batch_1.bin'
  path.write_bytes(bytes(3073))
  path.chmod(0)
  user = os.geteuid()
  try:
    if user == 0:   # Root may read everything; another user may not.
      os.seteuid(65534)
    with pytest.raises(UserError, match='cannot be read .Permission denied'):
      cifar10_input.verify([str(path)])
  finally:
    os.seteuid(user)


# ------------------------------------------------------- names of the classes


def test_classes_without_a_list_have_their_usual_names(tmp_path, monkeypatch):
  usual = cifar10_input.class_names(str(tmp_path / 'none'))
  assert ' '.join(usual) == ('airplane automobile bird cat deer dog frog horse '
                             'ship truck')
  monkeypatch.setattr(cifar10_input, 'NUM_CLASSES', 2)
  assert cifar10_input.class_names(str(tmp_path)) == ['0', '1']


@pytest.mark.parametrize('content, words', [
    (b'cat\ndog\n', 'has 2 names of classes, expected 10'),
    (b'\xff\n' * 10, 'cannot be read'), (b'', 'has 0 names')])
def test_a_list_of_classes_that_does_not_do(tmp_path, content, words):
  (tmp_path / 'batches.meta.txt').write_bytes(content)
  with pytest.raises(UserError, match=words) as fault:
    cifar10_input.class_names(str(tmp_path))
  assert 'batches.meta.txt' in str(fault.value)


# ------------------------------------------------------------------ download


def archive_of(path, members):
  """Writes a .tar.gz of (name, bytes), and returns its URL."""
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in members:
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))
  return 'file://%s' % path


def good_members():
  names = cifar10_input.TRAIN_FILES + cifar10_input.TEST_FILES
  return [(cifar10_input.FOLDER + '/' + name, bytes([i]) + bytes(3072))
          for i, name in enumerate(names)]


@pytest.fixture
def official(monkeypatch):
  """Makes the download take any archive for the official one."""
  def accept(url):
    content = open(url[len('file://'):], 'rb').read()
    monkeypatch.setattr(cifar10_input, 'ARCHIVE_BYTES', len(content))
    monkeypatch.setattr(cifar10_input, 'ARCHIVE_SHA256',
                        hashlib.sha256(content).hexdigest())
    return url
  return accept


def test_download_writes_only_the_data_files(tmp_path, official):
  url = official(archive_of(tmp_path / 'a.tgz', [
      ('../escaped', b'x'), ('/tmp/absolute-escaped', b'x'),
      (cifar10_input.FOLDER + '/../../up', b'x')] + good_members() +
                            [(cifar10_input.FOLDER + '/readme.html', b'x'),
                             (cifar10_input.FOLDER + '/batches.meta.txt',
                              b'a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n'),
                             ('other/data_batch_1.bin', b'x')]))
  cifar10_input.download(str(tmp_path / 'data'), url)
  assert os.listdir(tmp_path / 'data') == [cifar10_input.FOLDER]
  assert sorted(os.listdir(tmp_path / 'data' / cifar10_input.FOLDER)) == sorted(
      cifar10_input.TRAIN_FILES + cifar10_input.TEST_FILES +
      ['batches.meta.txt'])
  assert cifar10_input.class_names(folder_of(tmp_path / 'data')) == [
      *'abcdefghij']
  assert sorted(os.listdir(tmp_path)) == ['a.tgz', 'data']
  assert cifar10_input.verify(cifar10_input.data_files(
      folder_of(tmp_path / 'data'), 'train_eval'))[0] == 5


def test_download_leaves_present_data_alone(tmp_path):
  os.makedirs(tmp_path / cifar10_input.FOLDER)
  cifar10_input.download(str(tmp_path), 'file:///nowhere')
  assert os.listdir(tmp_path) == [cifar10_input.FOLDER]


@pytest.mark.parametrize('name', [
    'cifar-10-batches-bin', 'cifar-10-batches-bin/', 'link', 'copy', '.'])
def test_the_data_folder_itself_can_be_named(tmp_path, data_dir, flags, name,
                                             monkeypatch):
  """Nothing is downloaded, and the scripts read its files."""
  there = tmp_path / 'cifar-10-batches-bin'
  shutil.copytree(folder_of(data_dir), there)
  (tmp_path / 'link').symlink_to(there)
  shutil.copytree(there, tmp_path / 'copy')
  monkeypatch.chdir(there)
  os.unlink(tmp_path / 'copy' / 'data_batch_1.bin')   # Damaged, but there.
  given = name if name == '.' else os.path.join(str(tmp_path), name)
  flags(data_dir=given, data_url='file:///nowhere')
  cifar10.maybe_download_and_extract()
  assert cifar10.data_folder() == given
  assert len(os.listdir(there)) == len(os.listdir(folder_of(data_dir)))


def test_a_folder_of_the_data_in_the_one_named_is_preferred(tmp_path, data_dir):
  inside = folder_of(str(tmp_path))
  assert cifar10_input.data_folder(str(tmp_path)) == inside
  shutil.copytree(folder_of(data_dir), inside)
  (tmp_path / 'test_batch.bin').touch()
  assert cifar10_input.data_folder(str(tmp_path)) == inside


def test_download_into_the_data_folder_itself(tmp_path, official, monkeypatch):
  """The folder that is named has the files, not another one in it."""
  url = official(archive_of(tmp_path / 'a.tgz', good_members()))
  monkeypatch.chdir(tmp_path)
  for name in ('one/' + cifar10_input.FOLDER, cifar10_input.FOLDER,
               'two/%s/' % cifar10_input.FOLDER):
    cifar10_input.download(name, url)
    assert len(os.listdir(name)) == 6
    assert cifar10_input.data_folder(name) == name
  assert os.listdir('one') == os.listdir('two') == [cifar10_input.FOLDER]


def test_download_leaves_nothing_where_the_disk_is_full(tmp_path, official,
                                                        monkeypatch):
  url = official(archive_of(tmp_path / 'a.tgz', good_members()))
  def full(source, target):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(shutil, 'copyfileobj', full)
  with pytest.raises(UserError, match='data cannot be written to .No space'):
    cifar10_input.download(str(tmp_path / 'data'), url)
  assert os.listdir(tmp_path / 'data') == []


@pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGINT,
                                    signal.SIGTERM, signal.SIGUSR1])
def test_a_stopped_download_leaves_nothing(tmp_path, number):
  """The server never sends what it promised."""
  with socket.create_server(('127.0.0.1', 0)) as server:
    process = conftest.start(
        'cifar10_train.py', '--train_dir=%s' % (tmp_path / 'run'),
        '--data_dir=%s' % (tmp_path / 'data'),
        '--data_url=http://127.0.0.1:%d/a.tgz' % server.getsockname()[1])
    client, _ = server.accept()
    with client:
      client.recv(4096)
      client.sendall(b'HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n1234')
      while not list(tmp_path.glob('data/.download-*/archive.part')):
        time.sleep(0.01)
      process.send_signal(number)
      _, errors = process.communicate()
  assert process.returncode == 128 + number and 'Traceback' not in errors
  assert os.listdir(tmp_path / 'data') == []


def check_refused(tmp_path, url, words):
  with pytest.raises(UserError, match=words) as fault:
    cifar10_input.download(str(tmp_path / 'data'), url)
  assert '--data_url' in str(fault.value)
  assert os.listdir(tmp_path / 'data') == []


def test_download_refuses_other_bytes(tmp_path, official, monkeypatch):
  url = official(archive_of(tmp_path / 'a.tgz', good_members()))
  content = bytearray((tmp_path / 'a.tgz').read_bytes())
  content[100] ^= 1
  (tmp_path / 'a.tgz').write_bytes(content)
  check_refused(tmp_path, url, 'SHA-256')
  (tmp_path / 'a.tgz').write_bytes(content[:-1])
  check_refused(tmp_path, url, 'expected %d' % len(content))
  (tmp_path / 'a.tgz').write_bytes(content + b'x')
  check_refused(tmp_path, url, 'more than %d bytes' % len(content))
  check_refused(tmp_path, 'file://%s/none' % tmp_path, 'No such file')
  check_refused(tmp_path, 'nonsense', 'unknown url type')


def test_download_of_a_gzip_bomb_unpacks_nothing(tmp_path, monkeypatch):
  bomb = tmp_path / 'bomb.tgz'
  with gzip.open(bomb, 'wb') as target:
    for _ in range(200):
      target.write(bytes(2**20))
  monkeypatch.setattr(tarfile, 'open', None)   # Nothing may open the archive.
  check_refused(tmp_path, 'file://%s' % bomb, 'expected 170052171')


def test_download_expects_the_official_archive(tmp_path, monkeypatch):
  """Its address, size and digest."""
  asked = []
  def refuse(url, timeout):
    asked.append(url)
    raise OSError('no network')
  with monkeypatch.context() as patch:
    patch.setattr(cifar10_input.urllib.request, 'urlopen', refuse)
    check_refused(tmp_path, cifar10.FLAGS['data_url'].default, 'no network')
  assert asked == ['https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz']
  path = tmp_path / 'a.tgz'
  for size, words in [
      (170052170, 'gave 170052170 bytes, expected 170052171'),
      (170052171, 'expected c4a38c50a1bc5f3a1c5537f2155ab9d6'
                  '8f9f25eb1ed8d9ddda3db29a59bca1dd')]:
    with open(path, 'wb') as zeros:
      zeros.truncate(size)
    check_refused(tmp_path, 'file://%s' % path, words)


# --------------------------------------------------------------------- graph


def test_training_set_is_one_uint8_local_variable(data_dir):
  with tf.Graph().as_default() as graph:
    cifar10_input.distorted_inputs(folder_of(data_dir), 128, 0,
                                   tf.constant(0, tf.int64))
    variable, = [var for var in tf.local_variables()
                 if var.dtype.base_dtype == tf.uint8]
    assert variable.shape.as_list() == [500, 3073]
    assert not tf.global_variables()
    assert graph.as_graph_def().ByteSize() < 2 * 10**5
  found = evaluate(lambda: cifar10_input.read_cifar10(cifar10_input.data_files(
      folder_of(data_dir), 'train_eval')).value())
  records = records_of(data_dir, 'train_eval')
  assert np.array_equal(found[:, 0], records[:, 0])
  assert np.array_equal(
      found[:, 1:].reshape(-1, 32, 32, 3),
      records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def test_names_are_never_patterns_or_addresses(tmp_path, data_dir, monkeypatch):
  """TensorFlow reads the very file, though others fit its name."""
  monkeypatch.chdir(tmp_path)
  expected = records_of(data_dir, 'test')[:, 0]
  for number, name in enumerate(['a[b]?*', 'ab', 'a[b]xy', 'a\\b', ' ü%s ',
                                 'file:', 'ram:', os.fsdecode(b'\xff')]):
    content = bytearray(open(folder_of(data_dir) + '/test_batch.bin',
                             'rb').read())
    content[0] = number
    os.makedirs(name)
    open(os.path.join(name, 'test_batch.bin'), 'wb').write(content)
  for number, name in enumerate(['a[b]?*', 'ab', 'a[b]xy', 'a\\b', ' ü%s ',
                                 'file:', 'ram:', os.fsdecode(b'\xff')]):
    found = evaluate(lambda: cifar10_input.read_cifar10(
        [name + '//test_batch.bin']).value())
    assert found[0, 0] == number and np.array_equal(found[1:, 0], expected[1:])


def orders_of(examples, seed, epochs, stream='training'):
  """int64 [epochs, examples]: the order of the images in each epoch."""
  return evaluate(lambda: tf.stack([
      cifar10_input.random_order(examples, seed, stream, epoch)
      for epoch in epochs]))


def together_again(one, two, batch):
  """Number of pairs that share a batch in both orders."""
  batches = np.empty(len(two), int)
  batches[two] = np.arange(len(two)) // batch
  again = batches[one[:len(one) // batch * batch]].reshape(-1, batch)
  again.sort(1)
  return sum(np.sum(again[:, gap:] == again[:, :-gap])
             for gap in range(1, batch))


def position_correlation(one, two):
  return np.corrcoef(np.argsort(one), np.argsort(two))[0, 1]


def chi_square(one, bins=10):
  """Chi-square of the images' places in the files and in the order."""
  counts, _, _ = np.histogram2d(np.arange(len(one)), one, bins)
  return np.sum((counts - counts.mean()) ** 2) / counts.mean()


@pytest.mark.parametrize('examples, batch, drawn', [
    (100, 10, 1000), (500, 50, 500), (1000, 128, 500), (5000, 128, 100),
    (50000, 128, 30)])
def test_orders_are_as_random_as_numpys_permutations(examples, batch, drawn):
  """Each statistic is within 5 standard deviations of its mean over NumPy's
  permutations, and its mean over all orders within 5 standard errors."""
  generator = np.random.default_rng(0)
  def statistics(pairs):
    return np.array([[together_again(one, two, batch),
                      position_correlation(one, two), chi_square(one)]
                     for one, two in pairs])
  expected = statistics([(generator.permutation(examples),
                          generator.permutation(examples))
                         for _ in range(drawn)])
  epochs, seeds = [0, 1, 2, 3, 7, 8, 64, 65], [0, 1, 2, 7, 8]
  orders = {seed: orders_of(examples, seed, epochs) for seed in seeds}
  assert all(np.array_equal(np.sort(order), np.arange(examples))
             for found in orders.values() for order in found)
  pairs = [pair for found in orders.values() for pair in zip(found, found[1:])]
  pairs += [pair for one, two in zip(seeds, seeds[1:])
            for pair in zip(orders[one], orders[two])]
  pairs += list(zip(orders[0], orders_of(examples, 0, epochs, 'finetuning')))
  found = statistics(pairs)
  z = (found - expected.mean(0)) / expected.std(0)
  assert abs(z).max() < 5
  # NumPy's own means are uncertain, too; the pairs share orders, two each.
  assert (abs(z.mean(0)) < 5 * np.sqrt(1 / drawn + 2 / len(pairs))).all()


def test_sequence_is_the_orders_one_after_the_other():
  """Also across the end of an epoch, after a jump back, and epochs later."""
  orders = {epoch: order for epoch, order in enumerate(
      orders_of(500, 7, range(9)))}
  with tf.Graph().as_default(), tf.Session() as session:
    start = tf.placeholder(tf.int64, [])
    indices = cifar10_input.shuffled_indices(
        start + tf.range(120, dtype=tf.int64), 500, 7, 'training')
    session.run(tf.local_variables_initializer())
    for first in (0, 120, 400, 480, 500, 40, 3999, 1000, 999):
      expected = [orders[p // 500][p % 500] for p in range(first, first + 120)]
      assert np.array_equal(session.run(indices, {start: first}), expected)


def test_every_use_seed_and_number_has_bits_of_its_own():
  uses = ['training/order', 'training/distortions', 'finetuning/order',
          'moments/positions', 'refits/probes']
  with tf.Graph().as_default(), tf.Session() as session:
    drawn = session.run([cifar10_input.random_bits([2000], seed, use, number)
                         for seed in (0, 1, 2) for use in uses
                         for number in (0, 1, 2)])
  drawn = np.array(drawn)
  assert drawn.dtype == np.int32
  assert len(np.unique(drawn)) > 0.9999 * drawn.size
  correlation = np.corrcoef(drawn.astype(float))
  assert abs(correlation[np.triu_indices(len(drawn), 1)]).max() < 0.12
  # Every bit is set in half of the numbers.
  bits = np.unpackbits(drawn.view(np.uint8)).reshape(-1, 32).mean(0)
  assert abs(bits - 0.5).max() < 0.01


def test_programs_draw_each_random_thing_under_a_name_of_its_own(
    data_dir, narrow, flags, tmp_path, monkeypatch):
  """All draws of a compression and of a fine-tuning of one seed."""
  drawn, genuine = [], cifar10_input.random_bits
  def spy(shape, seed, use, number):
    drawn.append(use)
    return genuine(shape, seed, use, number)
  monkeypatch.setattr(cifar10_input, 'random_bits', spy)
  monkeypatch.setattr(refit, 'PASSES', 1)
  flags(data_dir=data_dir, checkpoint_dir=narrow, batch_size=50,
        output_dir=str(tmp_path / 'slim'), conv1_channels=3, num_images=200,
        criterion='least_squares', reconstruction='network', seed=9)
  assert thinet_compress.compress() == 0
  compression = list(drawn)
  drawn.clear()
  flags(checkpoint_dir=str(tmp_path / 'slim'), max_steps=1,
        train_dir=str(tmp_path / 'tuned'))
  assert thinet_finetune.finetune() == 0
  assert not set(compression) & set(drawn)
  # The orders of two epochs at a time; the descent has the refits' batches.
  for uses, twice in ((compression, {'refits/distortions'}), (drawn, set())):
    assert {use for use in uses if uses.count(use) > 1} == twice | {
        use for use in uses if use.endswith('/order')}
  assert len(set(compression)) == 5 and len(set(drawn)) == 4


def test_compiled_for_a_gpu_the_same_numbers_are_drawn():
  """XLA, which compiles for GPUs, keeps the bits, but not the floats."""
  def build(step):
    return [cifar10_input.random_order(1000, 3, 'training', step),
            cifar10_input.distortion_draws(64, 3, 'training', step)]
  plain, compiled = evaluate(lambda: (
      build(tf.constant(7, tf.int64)),
      tf.xla.experimental.compile(build, [tf.constant(7, tf.int64)])))
  for one, two in zip(plain, compiled):
    assert np.array_equal(one, two)


def test_batch_is_a_function_of_seed_and_step(data_dir):
  def batch(seed, step, parts=1):
    return evaluate(lambda: cifar10_input.distorted_inputs(
        folder_of(data_dir), 129, seed, tf.constant(step, tf.int64),
        parts=parts))
  images, labels = batch(1, 3)
  again, labels_again = batch(1, 3)
  parts, labels_parts = batch(1, 3, parts=2)
  assert images.shape == (129, 24, 24, 3) and labels.dtype == np.int32
  assert images.tobytes() == again.tobytes()
  assert labels.tobytes() == labels_again.tobytes() == labels_parts.tobytes()
  np.testing.assert_allclose(parts, images, rtol=0, atol=1e-5)
  assert not np.array_equal(batch(2, 3)[1], labels)
  assert not np.array_equal(batch(1, 4)[1], labels)


def test_batch_is_cut_from_the_orders_and_distorted_by_its_draws(data_dir):
  """Step 3 of 129 images ends in the next epoch; a stream of its own name."""
  records = records_of(data_dir, 'train_eval')
  indices = np.concatenate(orders_of(500, 4, [0, 1], 'other'))[387:516]
  raw = records[indices, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  expected = evaluate(lambda: cifar10_input.distort(
      tf.constant(raw), cifar10_input.distortion_draws(129, 4, 'other', 3)))
  images, labels = evaluate(lambda: cifar10_input.distorted_inputs(
      folder_of(data_dir), 129, 4, tf.constant(3, tf.int64), 'other'))
  assert np.array_equal(labels, records[indices, 0])
  np.testing.assert_allclose(images, expected, atol=1e-5)


def test_draws_are_24_bits_of_their_own_for_every_seed_stream_and_step():
  uses = [(4, 'other', 3), (5, 'other', 3), (4, 'training', 3), (4, 'other', 2)]
  drawn = np.array(evaluate(lambda: [
      cifar10_input.distortion_draws(1000, *use) for use in uses]))
  whole = drawn * 2.0**24
  assert drawn.shape == (4, 5, 1000) and (whole == whole.astype(int)).all()
  assert abs((whole % 2).mean() - 0.5) < 0.02
  assert 0 <= drawn.min() < 0.001 and 0.999 < drawn.max() < 1
  correlation = np.corrcoef(drawn.reshape(20, -1))
  assert abs(correlation[np.triu_indices(20, 1)]).max() < 0.17


def test_distortions_equal_the_tutorials_operations_image_by_image(data_dir):
  """Each image goes through tf.image, with the numbers that the batch drew."""
  raw = records_of(data_dir, 'train_eval')[:16, 1:].reshape(
      -1, 3, 32, 32).transpose(0, 2, 3, 1)
  seed, step = 5, 11
  draws = evaluate(lambda: cifar10_input.distortion_draws(
      16, seed, 'training', tf.constant(step, tf.int64)))
  def one(image, draw):
    row, column = (int(u * 9) for u in draw[:2])
    crop = image[row:row + 24, column:column + 24]
    crop = crop[:, ::-1] if draw[2] < 0.5 else crop
    crop = tf.cast(tf.constant(np.ascontiguousarray(crop)), tf.float32)
    crop = tf.image.adjust_brightness(crop, (2 * draw[3] - 1) * 63)
    crop = tf.image.adjust_contrast(crop, 0.2 + 1.6 * draw[4])
    return tf.image.per_image_standardization(crop)
  ours, theirs = evaluate(lambda: (
      cifar10_input.distort(tf.constant(raw), cifar10_input.distortion_draws(
          16, seed, 'training', tf.constant(step, tf.int64))),
      tf.stack([one(image, draw) for image, draw in zip(raw, draws.T)])))
  np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize('standardized', [False, True])
def test_distortions_of_given_draws_in_numpy(monkeypatch, standardized):
  """Offsets 0 to 8, brightness -63 to 63, contrast 0.2 to 1.8; also without the
  standardization, which undoes the brightness."""
  if not standardized:
    monkeypatch.setattr(tf.image, 'per_image_standardization', tf.identity)
  raw = np.random.default_rng(0).integers(0, 256, [3, 32, 32, 3], np.uint8)
  last = np.nextafter(np.float32(1), np.float32(0))   # Draws stay below 1.
  draws = np.array([[0.0, 0.5, last], [last, 0.25, 0.0], [0.5, 0.49, last],
                    [0.0, 0.75, last], [last, 0.5, 0.0]], np.float32)
  found = evaluate(lambda: cifar10_input.distort(tf.constant(raw),
                                                 tf.constant(draws)))
  for image, got, (row, column, mirrored, brightness, contrast) in zip(
      raw, found, [(0, 8, False, -63.0, 1.8), (4, 2, True, 31.5, 1.0),
                   (8, 0, False, 63.0, 0.2)]):
    crop = image[row:row + 24, column:column + 24].astype(float)
    crop = (crop[:, ::-1] if mirrored else crop) + brightness
    mean = crop.mean((0, 1))
    expected = (crop - mean) * contrast + mean
    if standardized:
      expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 if standardized
                               else 1e-2)


def test_crops_flips_and_contrast_have_the_tutorials_distribution():
  """The draws are read off the pixels of one image distorted 4,500 times.

  Standardization hides gain and offset, so each crop is matched with all 81
  windows and their mirror images by correlation; the contrast f then follows
  from the gain k: k^2 = f^2 / (f^2 v + b), v and b the variances within and
  between the window's channels.
  """
  generator = np.random.default_rng(0)
  image = np.clip(generator.normal([60, 120, 190], 20, [32, 32, 3]), 0,
                  255).astype(np.uint8)
  crops = evaluate(lambda: cifar10_input.distort(
      tf.constant(np.broadcast_to(image, (4500, 32, 32, 3))),
      cifar10_input.distortion_draws(4500, 0, 'training',
                                     tf.constant(0, tf.int64))))
  windows = np.array([image[i:i + 24, j:j + 24][:, ::1 - 2 * flip]
                      for i in range(9) for j in range(9) for flip in (0, 1)],
                     float)
  def deviations(pictures):
    return (pictures - pictures.mean((1, 2), keepdims=True)).reshape(
        len(pictures), -1)
  x, w = deviations(crops.astype(float)), deviations(windows)
  correlation = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (
      w / np.linalg.norm(w, axis=1, keepdims=True)).T
  match = correlation.argmax(1)
  assert correlation.max(1).min() > 0.99999
  rows, columns, flips = match // 18, match // 2 % 9, match % 2
  for offsets in (rows, columns):
    assert (abs(np.bincount(offsets, minlength=9) - 500) < 90).all()
  assert abs(flips.mean() - 0.5) < 0.03
  assert abs(np.corrcoef([rows, columns, flips])[np.triu_indices(3, 1)]
             ).max() < 0.06
  gain = np.linalg.norm(x, axis=1) / np.linalg.norm(w[match], axis=1)
  within = (w ** 2).mean(1)[match]
  between = windows.mean((1, 2)).var(1)[match]
  contrast = np.sqrt(gain ** 2 * between / (1 - gain ** 2 * within))
  assert 0.2 - 1e-3 < contrast.min() < 0.21
  assert 1.79 < contrast.max() < 1.8 + 1e-3
  assert (abs(np.histogram(contrast, 8, (0.2, 1.8))[0] - 562) < 100).all()


@pytest.mark.parametrize('eval_data', ['test', 'train_eval'])
def test_inputs_are_the_central_crops_and_the_last_batch_is_filled(
    data_dir, eval_data):
  records = records_of(data_dir, eval_data)
  last, left = divmod(len(records), 64)
  images, labels = evaluate(lambda: cifar10_input.inputs(
      eval_data, folder_of(data_dir), 64, tf.constant(last, tf.int64)))
  expected = records[[last * 64 + min(i, left - 1) for i in range(64)]]
  assert np.array_equal(labels[:left], expected[:left, 0])
  assert (labels[left:] == -1).all() and len(labels) == 64
  crops = expected[:, 1:].reshape(-1, 3, 32, 32)[:, :, 4:28, 4:28].astype(float)
  flat = crops.reshape(len(crops), -1)
  crops = (crops - flat.mean(1)[:, None, None, None]) / np.maximum(
      flat.std(1), 1 / np.sqrt(1728))[:, None, None, None]
  np.testing.assert_allclose(images, crops.transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize('old, new', [(True, 'test'), (False, 'train_eval')])
def test_inputs_take_the_tutorials_booleans(data_dir, old, new):
  one, other = (evaluate(lambda: cifar10_input.inputs(
      eval_data, folder_of(data_dir), 64, tf.constant(0, tf.int64)))
                for eval_data in (old, new))
  assert np.array_equal(one[0], other[0])
  assert np.array_equal(one[1], records_of(data_dir, new)[:64, 0])


@pytest.mark.parametrize('eval_data', ['Test', 'train', None, 2])
def test_inputs_of_something_else_are_refused(data_dir, eval_data):
  with tf.Graph().as_default(), pytest.raises(ValueError, match="give 'test'"):
    cifar10_input.inputs(eval_data, folder_of(data_dir), 64)


def test_inputs_without_a_number_go_round(data_dir):
  """Two batches hold the 100 test images."""
  expected = records_of(data_dir, 'test')[:, 0]
  with tf.Graph().as_default(), tf.Session() as session:
    _, labels = cifar10_input.inputs(True, folder_of(data_dir), 64)
    session.run(tf.local_variables_initializer())
    found = [session.run(labels) for _ in range(4)]
  for number, batch in enumerate(found):
    wanted = expected[64 * (number % 2):64 * (number % 2) + 64]
    assert np.array_equal(batch[:len(wanted)], wanted)
    assert (batch[len(wanted):] == -1).all()


def test_inputs_are_never_more_than_the_images(data_dir):
  images, labels = evaluate(lambda: cifar10_input.inputs(
      'test', folder_of(data_dir), 5000, tf.constant(0, tf.int64)))
  assert np.array_equal(labels, records_of(data_dir, 'test')[:, 0])
  assert images.shape == (100, 24, 24, 3)
