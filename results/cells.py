"""Which networks of a sweep are finished, and which do not fit its settings.

A network is finished when its files say so and their digests agree: it was
trained to its last step, or compressed, and rated on the present test images. A
network in OUT that was made with other settings or from other weights of its
parent does not fit, as the table would mix them, no matter whether this sweep
would make it. About 0.3 s, and a second for each gigabyte of checkpoints.
"""
import functools
import itertools
import math
import os
import re
import sys
import typing

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import cifar10
import cifar10_input
from thinet import checkpoint
from thinet import files

OTHERS = cifar10.Widths()._asdict()   # Widths before compression.
CONV1_CHANNELS = OTHERS.pop('conv1_channels')
BATCH_SIZE = cifar10.FLAGS['batch_size'].default
# As in thinet_finetune.py and thinet_compress.py; a test compares them.
LEARNING_RATES = {'finetune': 0.01, **{
    each.name: each.learning_rate for each in (cifar10.PUBLISHED,
                                               cifar10.FAST)}}
NUM_IMAGES = 50000
LOCATIONS = 10

SCRATCH = 'scratch'
MODES = ['%s_%s' % mode for mode in itertools.product(
    ['thinet', 'thinet_kept', 'least_squares', 'l1', 'random'],
    ['none', 'scale', 'full', 'network'])]
BUDGET = 'budget'      # In a size; after it the share, as in budget0.25.
SIZE = '[1-9][0-9]*|%s0[.][0-9]*[1-9]' % BUDGET
# Settings of run.json and compress.json -> the sweep's settings.
VARIABLES = {'schedule': 'SCHEDULE', 'precision': 'PRECISION',
             'epochs': 'EPOCHS', 'finetune_epochs': 'FINETUNE_EPOCHS'}


class MisfitError(Exception):
  """A network was made with other settings; the one sentence says how."""


class Settings(typing.NamedTuple):
  """The settings of a sweep, checked and split by run_experiments.sh."""
  out: str
  data_dir: str
  widths: list
  seeds: list
  schedule: str
  epochs: float
  precision: str
  finetune_epochs: float
  modes: list            # Compressed and fine-tuned.
  controls: list         # Compressed alone.
  budgets: tuple = ()    # Sizes: for each seed a cell more.
  jobs: int = 1          # Cells side by side,
  gpus: tuple = ()       # or one on each of these.


class Network(typing.NamedTuple):
  """A network of the sweep; a folder."""
  seed: int
  mode: str              # 'scratch', or <criterion>_<reconstruction>.
  size: object           # Channels of conv1, or a budget as 'budget0.25'.
  fine_tuned: bool = False

  @property
  def name(self):
    return '%s_%s%s' % (self.mode, self.size,
                        '_finetuned' if self.fine_tuned else '')

  @property
  def is_training(self):
    """Whether it was trained, and has a run.json."""
    return self.mode == SCRATCH or self.fine_tuned

  @property
  def share(self):
    """The budget as a share of the parent's costs; None for a width."""
    return share(self.size)

  @property
  def parent(self):
    """The network that this one is made from, or None."""
    if self.fine_tuned:
      return self._replace(fine_tuned=False)
    return (None if self.mode == SCRATCH else
            Network(self.seed, SCRATCH, CONV1_CHANNELS))


class Cell(typing.NamedTuple):
  """What runs at a time: a network from scratch, or all of a parent's size."""
  stage: str             # 'scratch' or 'slim'.
  seed: int
  size: object           # As a network's.


class Data(typing.NamedTuple):
  """The data set; None is what is not there (yet)."""
  training: str          # SHA-256 of the training files.
  examples: int          # Training images.
  test: str              # SHA-256 of the test file.


def share(size):
  """The share of a size that is a budget, as 0.25; None for a width."""
  return (float(size[len(BUDGET):]) if str(size).startswith(BUDGET) else None)


def size_of(word):
  """A size from a word: a whole number, or a budget as it is."""
  return word if word.startswith(BUDGET) else int(word)


def from_environment(environment):
  """Makes Settings from the environment of run_experiments.sh."""
  words = {name: environment[name].split()
           for name in ('WIDTHS', 'BUDGETS', 'SEEDS', 'MODES', 'CONTROLS',
                        'GPUS')}
  return Settings(
      out=environment['OUT'], data_dir=environment['DATA_DIR'],
      widths=[int(word) for word in words['WIDTHS']],
      seeds=[int(word) for word in words['SEEDS']],
      schedule=environment['SCHEDULE'], epochs=float(environment['EPOCHS']),
      precision=environment['PRECISION'],
      finetune_epochs=float(environment['FINETUNE_EPOCHS']),
      modes=words['MODES'], controls=words['CONTROLS'],
      budgets=tuple(BUDGET + word for word in words['BUDGETS']),
      jobs=int(environment['JOBS']), gpus=tuple(words['GPUS']))


# ------------------------------------------------------------------ the plan


def plan(settings):
  """The cells of a sweep, in the order in which they run: parents first."""
  widths = [CONV1_CHANNELS] + [width for width in settings.widths
                               if width != CONV1_CHANNELS]
  cells = [Cell(SCRATCH, seed, width)
           for width in widths for seed in settings.seeds]
  if settings.modes or settings.controls:
    cells += [Cell('slim', seed, size)
              for size in widths[1:] + list(settings.budgets)
              for seed in settings.seeds]
  return cells


def networks(cell, settings):
  """The networks that a cell makes, in their order."""
  modes = settings.modes + settings.controls
  if cell.stage == SCRATCH:
    modes = [SCRATCH]
  elif share(cell.size):   # Last, because it takes their widths.
    modes.append(SCRATCH)
  # What is from scratch is fine-tuned if anything is: the fair rival.
  tuned = settings.modes and [SCRATCH, *settings.modes]
  result = []
  for mode in modes:
    result.append(Network(cell.seed, mode, cell.size))
    if mode in tuned:
      result.append(Network(cell.seed, mode, cell.size, fine_tuned=True))
  return result


# -------------------------------------------------------------- what is there


def folder(settings, network):
  """Path of a network's folder."""
  return os.path.join(settings.out, 'seed%d' % network.seed, network.name)


def found(out):
  """The networks that have a folder in OUT, each after its parent.

  Raises:
    MisfitError: OUT cannot be read.
  """
  def names(path):
    try:
      return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
      if path != out or not os.path.lexists(out):
        return []
      raise MisfitError('OUT=%s is no folder; name another.' % out)
    except OSError as error:
      raise MisfitError('Folder %s cannot be read (%s); mend that, or name '
                        'another OUT.' % (path, error.strerror))

  result = []
  for above in names(out):
    seed = re.fullmatch('seed(0|[1-9][0-9]*)', above, re.A)
    for name in names(os.path.join(out, above)) if seed else []:
      match = re.fullmatch('(%s)_(%s)(_finetuned)?' % (
          '|'.join([SCRATCH] + MODES), SIZE), name, re.A)
      if match:
        result.append(Network(int(seed[1]), match[1], size_of(match[2]),
                              bool(match[3])))
  return sorted(result, key=lambda each: (
      each.mode != SCRATCH, each.seed, 0 if each.share else -each.size,
      each.name))


@functools.cache
def read(path):
  """Reads a JSON file once; None if it is missing, cut or edited."""
  try:
    return files.read_json(path)
  except (OSError, ValueError, RecursionError):
    return None


def made(settings, network):
  """What run.json or compress.json says of a network, or None."""
  name = 'run.json' if network.is_training else 'compress.json'
  report = read(os.path.join(folder(settings, network), name))
  return report if report and isinstance(report.get('settings'), dict) else None


def rated(settings, network):
  """What eval.json says of a network, or None."""
  return read(os.path.join(folder(settings, network), 'eval.json'))


def widths(settings, network):
  """The widths of a network's layers.

  All compressions of a parent by one budget choose the same widths, so those of
  a budget are in the first compress.json that is there.

  Returns:
    name -> number; of a budget, name -> None before its first compression.
  """
  if not network.share:
    return dict(OTHERS, conv1_channels=network.size)
  reports = (made(settings, Network(network.seed, mode, network.size))
             for mode in MODES)
  first = next(filter(None, reports), {})
  return {name: first.get(name) for name in ('conv1_channels', *OTHERS)}


def read_data(data_dir):
  """Reads the data files once; data_dir holds their folder, or is it."""
  training, test = (cifar10_input.data_files(
      cifar10_input.data_folder(data_dir), part)
                    for part in ('train_eval', 'test'))

  def digest(paths):
    try:
      return files.digest(paths)
    except OSError:
      return None

  found = digest(training)
  examples = found and sum(map(
      os.path.getsize, training)) // cifar10_input.RECORD_BYTES
  return Data(found, examples, digest(test))


# ------------------------------------------------------------------- misfits


def last_step(epochs, data):
  """Number of steps of a training; None without data."""
  return data.examples and math.ceil(epochs * (data.examples / BATCH_SIZE))


def expected(settings, data, network):
  """How this sweep makes a network.

  Returns:
    name -> value, as in the settings of run.json or compress.json; `parent` is
    another such dict. None is what is not known without data.
  """
  common = {'random_streams': cifar10_input.RANDOM_STREAMS,
            'data_digest': data.training, 'seed': network.seed,
            **widths(settings, network)}
  if network.mode != SCRATCH:
    criterion, _, reconstruction = network.mode.rpartition('_')
    common.update(criterion=criterion, reconstruction=reconstruction)
  if network.parent:
    common.update(fine_tuned=network.fine_tuned,
                  parent=expected(settings, data, network.parent))
  if network.is_training:
    schedule = 'finetune' if network.fine_tuned else settings.schedule
    return dict(
        common, batch_size=BATCH_SIZE, schedule=schedule,
        learning_rate=LEARNING_RATES[schedule], precision=settings.precision)
  return dict(
      common, batch_size=BATCH_SIZE, locations_per_image=LOCATIONS,
      num_images=data.examples and min(NUM_IMAGES, data.examples),
      multiply_adds_share=network.share, parameters_share=network.share,
      parent_step=last_step(settings.epochs, data))


def differences(values, wanted):
  """Yields (name, value, wanted value) of what differs, parents included."""
  for name, value in wanted.items():
    other = values.get(name, OTHERS.get(name))   # The usual widths are unsaid.
    if isinstance(value, dict):
      yield from differences(other if isinstance(other, dict) else {}, value)
    elif value is not None and (other != value or
                                isinstance(other, bool) != isinstance(
                                    value, bool)):
      yield name, other, value


def misfits(settings, data, network):
  """Yields (name, value, wanted value) of all that does not fit the sweep."""
  report = made(settings, network)
  if report is not None:
    yield from differences(report['settings'],
                           expected(settings, data, network))
    if network.is_training:
      epochs = (settings.finetune_epochs if network.fine_tuned else
                settings.epochs)
      name = 'finetune_epochs' if network.fine_tuned else 'epochs'
      yield from differences({name: report.get('epochs')}, {name: epochs})
      yield from differences(report, {'last_step': last_step(epochs, data)})


def text(value):
  """A value for a sentence, on one line and not long."""
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  value = str(value)
  return (value if value.isprintable() else ascii(value))[:60]


def sentence(settings, network, name, value, wanted):
  """Says which setting of a network does not fit, and what to do."""
  path, value, wanted = folder(settings, network), text(value), text(wanted)
  if name == 'data_digest':
    return ('%s was made from other training images than %s has now (SHA-256 '
            '%.12s, not %.12s); bring those back, or name another OUT.' % (
                path, settings.data_dir, value, wanted))
  if name == 'random_streams':
    return ('%s was made by a version of the programs that draws other images '
            'from the same seed (random_streams=%s, not %s); go on with that '
            'version, or name another OUT.' % (path, value, wanted))
  if network.mode == SCRATCH and network.share and name in (
      'conv1_channels', *OTHERS):
    return ('%s was trained with %s=%s, but the compressions of its budget '
            'have %s; move it out of OUT, or name another OUT.' % (
                path, name, value, wanted))
  return ('%s was made with %s=%s, not %s; go back to that, move the folder '
          'out of OUT, or name another OUT.' % (path, VARIABLES.get(name, name),
                                            value, wanted))


def check_settings(settings, data):
  """Checks all networks in OUT against the settings.

  Raises:
    MisfitError: one was made with others.
  """
  for network in found(settings.out):
    misfit = next(misfits(settings, data, network), None)
    if misfit:
      raise MisfitError(sentence(settings, network, *misfit))


def check_parents(settings, networks_, finished):
  """Checks that networks were made from their parents' present weights.

  Args:
    settings: Settings.
    networks_: the networks to check.
    finished: Finished.

  Raises:
    MisfitError: one was made from others.
  """
  for network in filter(lambda each: each.parent, networks_):
    report = made(settings, network)
    _, digest = finished(network.parent)
    if report and digest and digest != report['settings'].get('parent_digest'):
      raise MisfitError(
          '%s was made from other weights than %s has now; move it out of OUT, '
          'or name another OUT.' % (folder(settings, network),
                                 folder(settings, network.parent)))


# ------------------------------------------------------------------ finished


class Finished:
  """Answers which networks are finished; each digest is computed once."""

  def __init__(self, settings, data):
    self._settings, self._data = settings, data

  @functools.cache
  def __call__(self, network):
    """Returns why a network, which fits the settings, is not finished.

    Returns:
      (reason, digest): '' and the SHA-256 of its checkpoint if it is finished;
      else some words, and None.
    """
    report = made(self._settings, network)
    result = rated(self._settings, network)
    if report is None:
      return 'it is not made, or its JSON is damaged', None
    if result is None:
      return 'eval.json is missing or damaged', None
    if (result.get('split'), result.get('weights')) != ('test', 'averaged'):
      return 'eval.json is of other images or weights', None
    if self._data.test not in (None, result.get('data_digest')):
      return 'it was rated on other test images', None
    step = result.get('global_step')
    if step != report.get('last_step', 0):
      return 'step %s of %s was rated' % (text(step), text(
          report.get('last_step', 0))), None
    digest = result.get('checkpoint_digest')
    if digest != self._digest(network, step):
      return 'the rated checkpoint is missing or another', None
    if network.parent and self(network.parent)[0]:
      return '%s is not finished' % network.parent.name, None
    return '', digest

  def _digest(self, network, step):
    prefix = os.path.join(folder(self._settings, network), 'model.ckpt-%s' %
                          text(step))
    try:
      return checkpoint.digest(prefix)
    except OSError:
      return None


def left(cell, settings, finished):
  """The networks of a cell that are not finished: a list of (name, reason).

  The parent is among them if the cell needs one that is not finished.
  """
  mine = networks(cell, settings)
  if cell.stage != SCRATCH:
    mine = [Network(cell.seed, SCRATCH, CONV1_CHANNELS)] + mine
  return [(each.name, finished(each)[0]) for each in mine if finished(each)[0]]
