"""Readers against random files: a result, or the documented error.

The normal run tries 300 inputs on each reader; FUZZ_EXAMPLES sets another
number (tests/README.md).
"""
import json
import os

from thinet import checkpoint
import cifar10
import cifar10_input
import numpy as np
import pytest
import report
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
  patch.setattr(cifar10, 'weight_shapes', lambda width: {
      'conv1/weights': [5, 5, 3, width], 'conv1/biases': [width]})
  arrays = {name + suffix: np.full(shape, 0.5, np.float32)
            for name, shape in cifar10.weight_shapes(2).items()
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
    arrays, found = checkpoint.read(str(folder / 'model.ckpt-0'),
                                    cifar10.shapes_like)
  except checkpoint.CheckpointError as error:
    assert 'model.ckpt-0' in str(error)
  else:   # An accepted file holds what was saved.
    assert found == {'seed': 1}
    for key, value in expected.items():
      assert np.array_equal(arrays[key], value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5)
GOOD = {'conv1_channels': 8, 'top1': 1.5, 'top5': 2.5, 'split': 'test',
        'weights': 'averaged'}


@fuzz
@given(value=st.one_of(
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(
            sorted(GOOD) + ['criterion', 'reconstruction', 'fine_tuned']),
        JSON).map(lambda value: json.dumps(dict(GOOD, **value)).encode()),
    CHANGES.map(lambda change: changed(json.dumps(GOOD).encode(), change)),
    st.binary(max_size=40)))
def test_json_reader(tmp_path_factory, value):
  path = tmp_path_factory.getbasetemp() / 'eval.json'
  path.write_bytes(value)
  try:
    network = report.read_network(str(path))
  except ValueError as error:
    assert str(path) in str(error)
  else:
    if network is not None:
      assert tables.full(tables.rows([network], {}))
