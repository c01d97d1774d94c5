"""Readers against random files: a result, or the documented error.

The normal run tries 300 inputs on each reader; FUZZ_EXAMPLES sets another
number (tests/README.md).
"""
import json
import os

from thinet import algebra
from thinet import checkpoint
from thinet import files
from thinet import moments
import cifar10
import cifar10_input
import conftest
import numpy as np
import pytest
import reading
import tables
from cifar10_input import UserError
from hypothesis import HealthCheck, given, settings, strategies as st

fuzz = settings(max_examples=int(os.environ.get('FUZZ_EXAMPLES', 300)),
                deadline=None, database=None, derandomize=True,
                suppress_health_check=list(HealthCheck))

# A change to a file: cut it somewhere, then overwrite bytes at some places.
CHANGES = st.tuples(st.floats(0, 1), st.lists(st.tuples(
    st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)),
                                              max_size=6))


def changed(content, change):
  end, patches = change
  content = bytearray(content[:round(len(content) * (0.5 + end))])
  for place, patch in patches:
    at = int(place * len(content))
    content[at:at + len(patch)] = patch
  return bytes(content)


@fuzz
@given(count=st.integers(0, 4), labels=st.binary(min_size=4, max_size=4),
       tail=st.binary(max_size=3), fill=st.integers(0, 255))
def test_record_reader(tmp_path_factory, count, labels, tail, fill):
  path = tmp_path_factory.getbasetemp() / 'records.bin'
  path.write_bytes(b''.join(bytes([labels[i] % 12, *[fill] * 3072])
                            for i in range(count)) + tail)
  good = count and not tail and all(label % 12 < 10 for label in labels[:count])
  try:
    assert cifar10_input.verify([str(path)])[0] == count and good
  except UserError as error:
    assert not good and str(path) in str(error)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """A checkpoint of a network with few weights; (folder, the two files)."""
  folder = tmp_path_factory.mktemp('small')
  patch = pytest.MonkeyPatch()
  patch.setattr(cifar10, 'weight_shapes', lambda widths: {
        'conv1/weights': [5, 5, 3, widths[0]], 'conv1/biases': [widths[0]]})
  arrays = {name + suffix: np.full(shape, 0.5, np.float32)
            for name, shape in cifar10.weight_shapes(
                cifar10.Widths(2)).items()
            for suffix in ('', checkpoint.AVERAGE)}
  checkpoint.save(str(folder), arrays, {'seed': 1})
  names = ['model.ckpt-0.index', 'model.ckpt-0.data-00000-of-00001']
  yield folder, {name: (folder / name).read_bytes() for name in names}, arrays
  patch.undo()


@fuzz
@given(index=CHANGES, data=CHANGES, which=st.sampled_from(
    ['index', 'data', 'both']))
def test_checkpoint_reader(small, index, data, which):
  folder, contents, expected = small
  (name, old), (other, older) = contents.items()
  (folder / name).write_bytes(
      old if which == 'data' else changed(old, index))
  (folder / other).write_bytes(
      older if which == 'index' else changed(older, data))
  try:
    _, arrays, found, _ = checkpoint.read(str(folder / 'model.ckpt-0'),
                                          cifar10.shapes_like)
  except checkpoint.CheckpointError as error:
    assert 'model.ckpt-0' in str(error)
  else:   # An accepted file holds what was saved.
    assert found == {'seed': 1}
    for key, value in expected.items():
      assert np.array_equal(arrays[key], value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() |
    st.integers(300, 400).map(lambda digits: 10 ** digits),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5)
TEXT = st.one_of(JSON.map(lambda value: json.dumps(value).encode()),
                 st.binary(max_size=40),
                 st.integers(1, 9).map(lambda power: b'[' * 4 ** power))


@fuzz
@given(text=TEXT)
def test_settings_reader(text):
  """What is accepted is a dict of numbers and words that TensorBoard takes."""
  try:
    found = checkpoint._settings({checkpoint.SETTINGS: np.asarray(text)})
  except (ValueError, TypeError, AttributeError, RecursionError):
    return   # read makes a CheckpointError of these.
  left = [found]
  while left:
    for value in left.pop().values():
      if isinstance(value, dict):
        left.append(value)
      else:
        assert isinstance(value, str) or abs(float(value)) < 2**53


@fuzz
@given(names=st.lists(st.one_of(
    st.from_regex(r'model\.ckpt-[0-9]{1,25}\.(index|data-00000-of-00001)',
                  fullmatch=True),
    st.text(st.characters(blacklist_characters='/\0',
                          blacklist_categories=['Cs']), min_size=1,
            max_size=60)), max_size=6), state=st.binary(max_size=200))
def test_folder_reader(monkeypatch_module, names, state):
  """Whatever names and state file it holds; also numbers of many digits."""
  monkeypatch_module.setattr(checkpoint.os, 'listdir', lambda folder: names)
  found = checkpoint.paths('f')
  steps = [int(path[len('f/model.ckpt-'):]) for path in found]
  assert steps == sorted(steps, reverse=True)
  assert {path[2:] + '.index' for path in found} <= set(names)


@pytest.fixture(scope='module')
def monkeypatch_module():
  with pytest.MonkeyPatch.context() as patch:
    yield patch


@fuzz
@given(change=CHANGES, extra=st.binary(max_size=20))
def test_moments_reader(tmp_path_factory, change, extra):
  """What is read is what was made, bit for bit, or it is made again."""
  folder = tmp_path_factory.getbasetemp() / 'moments'
  folder.mkdir(exist_ok=True)
  generator = np.random.default_rng(0)
  made = [algebra.Moments(generator.normal(size=[3, 3]),
                          generator.normal(size=3), 4 + part)
          for part in (0, 1)]
  wanted = {'x': (b'key', 3)}
  moments.cached(str(folder), wanted, lambda _: {'x': made})
  path, = folder.glob('*.bin')
  whole = path.read_bytes()
  path.write_bytes(changed(whole, change) + extra)
  again = []
  found = moments.cached(str(folder), wanted,
                         lambda _: again.append(1) or {'x': made})['x']
  assert bool(again) == (changed(whole, change) + extra != whole)
  for one, other in zip(found, made):
    assert all(map(np.array_equal, one, other))
  assert path.read_bytes() == whole


@fuzz
@given(value=st.one_of(CHANGES, TEXT))
def test_digest_reader(tmp_path_factory, value):
  """A file that write_json did not write is refused, with one exception."""
  path = tmp_path_factory.getbasetemp() / 'digest.json'
  files.write_json(str(path), {'seconds': 1.5, 'command': 'x'})
  whole = path.read_bytes()
  content = value if isinstance(value, bytes) else changed(whole, value)
  path.write_bytes(content)
  try:
    assert files.read_json(path) == {'seconds': 1.5, 'command': 'x'}
  except ValueError:
    assert content != whole
  else:
    assert content == whole


GOOD = {'conv1_channels': 8, 'top1': 1.5, 'top5': 2.5, 'split': 'test',
        'weights': 'averaged', 'global_step': 3, 'seed': 0, 'data_digest': 'a'}
MADE = {'settings': {'conv1_channels': 8, 'seed': 0, 'data_digest': 'b',
                     'schedule': 'fast', 'precision': 'float32'},
        'last_step': 3, 'seconds': 1.5, 'end': '2026-11-27', 'git_commit': 'c'}
ODD = st.dictionaries(st.sampled_from(
    sorted(GOOD) + ['criterion', 'reconstruction', 'fine_tuned']), JSON)


@fuzz
@given(result=ODD, made=st.one_of(
    st.dictionaries(st.sampled_from(sorted(MADE)), JSON),
    st.dictionaries(st.sampled_from(sorted(MADE['settings']) + ['parent']),
                    JSON).map(lambda settings: {'settings': dict(
                        MADE['settings'], **settings)})))
def test_network_reader(tmp_path_factory, result, made):
  """Files that are whole, but hold odd values; in each of the two."""
  folder = tmp_path_factory.getbasetemp() / 'odd'
  folder.mkdir(exist_ok=True)
  path = folder / 'eval.json'
  files.write_json(str(path), dict(GOOD, **result))
  files.write_json(str(folder / 'run.json'), dict(MADE, **made))
  try:
    network = reading.read_network(str(path))
  except ValueError as error:
    assert str(path) in str(error)
  else:
    if network is not None:
      assert tables.full(tables.rows([network], {}))


NETWORKS = open(os.path.join(conftest.ROOT, 'results', 'networks.csv'),
                'rb').read()[:3000].rpartition(b'\n')[0] + b'\n'


@fuzz
@given(change=CHANGES)
def test_networks_csv_reader(tmp_path_factory, change):
  path = tmp_path_factory.getbasetemp() / 'networks.csv'
  path.write_bytes(changed(NETWORKS, change))
  try:
    networks = reading.read_file(str(path))
  except ValueError:   # Of a UnicodeDecodeError, too, main makes a sentence.
    return
  if networks:
    assert tables.full(tables.rows(networks, {}))
