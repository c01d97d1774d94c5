"""Modules import only what lies below them, and only scripts read flags.

And mutations.py, which takes too long to be run each time, fits the programs.
"""
import ast
import glob
import os
import re

import conftest
import pytest

# A module may import the modules on the lines above its own.
FLOORS = [
    ['thinet', 'thinet.algebra', 'thinet.budget', 'thinet.devices',
     'thinet.files', 'thinet.progress', 'thinet.tensorflow'],
    ['thinet.checkpoint', 'thinet.moments', 'thinet.operations', 'thinet.prune',
     'cifar10_input'],
    ['thinet.loop', 'thinet.precondition', 'thinet.summaries'],
    ['thinet.hooks', 'thinet.refit', 'cifar10'],
    ['cifar10_eval'],
    ['cifar10_train', 'thinet_compress'],
    ['thinet_finetune'],
]
SCRIPTS = sum(FLOORS[-3:], [])
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules():
  """Name -> path of every module of the programs."""
  paths = [path for folder in ('', 'thinet')
           for path in glob.glob(os.path.join(conftest.ROOT, folder, '*.py'))]
  return {
      os.path.relpath(path, conftest.ROOT)[:-3].replace(os.sep, '.').replace(
          '.__init__', ''): path for path in paths}


def names_in(path):
  """(modules that a file imports anywhere, names that it uses)."""
  imported, used = set(), set()
  for node in ast.walk(ast.parse(open(path).read())):
    if isinstance(node, ast.Import):
      imported.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, '%s: name the module in full' % path
      imported.add(node.module)
      imported.update('%s.%s' % (node.module, alias.name)
                      for alias in node.names)
    elif isinstance(node, ast.Name):
      used.add(node.id)
    elif isinstance(node, ast.Attribute):
      used.add(node.attr)
  return imported, used


def test_every_module_has_its_floor():
  assert modules().keys() == FLOOR.keys()


@pytest.mark.parametrize('name', FLOOR)
def test_a_module_knows_only_what_lies_below_it(name):
  imported, _ = names_in(modules()[name])
  for other in imported & FLOOR.keys() - {'thinet'}:
    assert FLOOR[other] < FLOOR[name]
    assert not (name.startswith('thinet.') and '.' not in other)


@pytest.mark.parametrize('name', FLOOR)
def test_flags_are_read_by_scripts_and_by_the_tutorials_forms(name):
  """cifar10 reads them for its tutorial forms, such as distorted_inputs()."""
  _, used = names_in(modules()[name])
  assert 'FLAGS' not in used or name in SCRIPTS + ['cifar10']


@pytest.mark.parametrize('name', FLOOR)
def test_one_module_imports_tensorflow(name):
  """The others have it from there: late, quiet, version 1."""
  imported, _ = names_in(modules()[name])
  assert not any(each.split('.')[0] == 'tensorflow' for each in imported)


def test_no_benchmark_imports_another():
  """They share four modules, which are none."""
  paths = glob.glob(os.path.join(conftest.ROOT, 'benchmarks', '*.py'))
  names = ({os.path.basename(path)[:-3] for path in paths} -
           {'timing', 'programs', 'pytorch_network', 'ways'})
  assert len(names) > 3
  for path in paths:
    assert not names & names_in(path)[0]


def test_each_mutation_has_its_line_and_its_test():
  """The line is there once; the test, too, by its name; README counts them.

  No file or test is named twice, of which the second alone would count.
  """
  folder = os.path.join(conftest.ROOT, 'tests')
  tree = ast.parse(open(os.path.join(folder, 'mutations.py')).read())
  mutations, = (eval(compile(ast.Expression(node.value), '', 'eval'))
                for node in tree.body if isinstance(node, ast.Assign) and
                node.targets[0].id == 'MUTATIONS')
  for each in ast.walk(tree):
    if isinstance(each, ast.Dict):
      names = list(map(ast.literal_eval, each.keys))
      assert len(names) == len(set(names))
  number = sum(len(pairs) for by_test in mutations.values()
               for pairs in by_test.values())
  assert '| %d mistakes in' % number in open(
      os.path.join(folder, 'README.md')).read()
  for path, by_test in mutations.items():
    text = open(os.path.join(conftest.ROOT, path)).read()
    for test, pairs in by_test.items():
      file, name = re.fullmatch(r'(\w+\.py)::(\w+)(?:\[.*\])?', test).groups()
      assert '\ndef %s(' % name in open(os.path.join(folder, file)).read(), test
      for original, _ in pairs:
        assert text.count(original) == 1, (path, original)
