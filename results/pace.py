"""How far a sweep is, and how long it still takes, as its folder shows it.

That a cell runs is known from its locks; how far it is, from its finished
networks and the newest checkpoint. The time left is measured: by the networks
of the sweep that are finished, and the trainings that have saved a checkpoint.
Only reads, and disturbs nobody.
"""
import collections
import functools
import heapq
import os
import statistics
import time

import cells

import cifar10
from thinet import files

# The constant part of a training step's time (reading, updating), in multiply-
# adds of an image; measured on two AVX2 cores.
BESIDE = 3.14e6
NOTES = '.cells'       # run_experiments.sh holds the lock of a file for a cell.


def mtime(path):
  """Time stamp of the last change of a file, or 0."""
  try:
    return os.path.getmtime(path)
  except OSError:
    return 0


class Sweep:
  """A sweep as its folder shows it.

  Attributes:
    settings: cells.Settings.
    plan: list of cells.Cell.
    networks: list of all networks.
    running: Cell -> time stamp of its start, of those that run.
  """

  def __init__(self, settings, finished):
    self.settings, self._finished = settings, finished
    self.plan = cells.plan(settings)
    self.networks = [each for cell in self.plan
                     for each in cells.networks(cell, settings)]

  @functools.cached_property
  def running(self):
    found = {cell: self._running_since(cell) for cell in self.plan}
    return {cell: since for cell, since in found.items() if since}

  @functools.cached_property
  def _known(self):
    """Kind -> list of (multiply-adds, seconds for a unit of work)."""
    known = collections.defaultdict(list)
    for network in self.networks:
      seconds, progress = self.seconds(network), self.progress(network)
      if seconds and progress:
        known[self._kind(network)].append(
            (self._cost(network), seconds / (progress * self._work(network))))
    return known

  def reason(self, network):
    """Why a network is not finished; '' if it is."""
    return self._finished(network)[0]

  def finished(self, network):
    return not self.reason(network)

  def left(self, cell):
    """The networks of a cell that are not finished."""
    return [each for each in cells.networks(cell, self.settings)
            if not self.finished(each)]

  def reasons(self, cell):
    """What a cell lacks, a line a network; its parent counts."""
    return ['%s %s' % each for each in cells.left(cell, self.settings,
                                                  self._finished)]

  def folder(self, network):
    return cells.folder(self.settings, network)

  def _since(self, network):
    """When the network's last program started; 0 if none did."""
    return mtime(os.path.join(self.folder(network), 'lock'))

  def note(self, cell):
    """Path of the file that the sweep holds while the cell runs."""
    return os.path.join(self.settings.out, NOTES, '%s_%d_%s' % cell)

  def _running_since(self, cell):
    """When a cell started that runs, as a time stamp; else 0."""
    if files.held(self.note(cell)):
      return mtime(self.note(cell))
    for network in self.left(cell):
      if files.held(os.path.join(self.folder(network), 'lock')):
        return self._since(network)   # It was started by hand.
    return 0

  def progress(self, network):
    """How much of a network is made, 0 to 1; of a training, what is saved."""
    if self.finished(network):
      return 1.0
    report = cells.made(self.settings, network) or {}
    step, last_step = report.get('step'), report.get('last_step')
    if not isinstance(step, int) or not isinstance(last_step, int):
      return 0.0
    return min(1.0, max(0, step) / max(1, last_step))

  def seconds(self, network):
    """Seconds that the progress took, or None if nobody knows."""
    report = cells.made(self.settings, network)
    seconds = report and report.get('seconds')
    if isinstance(seconds, dict):
      seconds = sum(seconds.values())
    return seconds if isinstance(seconds, (int, float)) else None

  def _kind(self, network):
    """Networks of a kind take times that can be compared."""
    return ('training' if network.is_training else
            (network.mode.rpartition('_')[2], network.share is None))

  def _cost(self, network):
    """A network's multiply-adds; its budget while its widths are not chosen."""
    widths = cells.widths(self.settings, network)
    if None not in widths.values():
      return cifar10.cost(cifar10.Widths(**widths))[0]
    return network.share * cifar10.cost()[0]

  def _work(self, network):
    """What the time of a network is proportional to, within its kind."""
    if not network.is_training:
      return 1.0
    return (self._cost(network) + BESIDE) * (
        self.settings.finetune_epochs if network.fine_tuned else
        self.settings.epochs)

  def estimate(self, network):
    """Seconds that a network takes in all, or None if no such is known."""
    known = self._known.get(self._kind(network))
    if not known:
      return None
    mine = self._cost(network)
    nearest = min(abs(cost - mine) for cost, _ in known)
    rates = [rate for cost, rate in known if abs(cost - mine) == nearest]
    return self._work(network) * sum(rates) / len(rates)

  @functools.cached_property
  def _starting(self):
    """Seconds of a network beside its own: its program's start, its rating.

    Where a network was made in one go, from the start of its cell, or the end
    of the one before, to its rating; 0 if that is not known.
    """
    known = []
    for cell in self.plan:
      before = mtime(self.note(cell)) or time.time()
      for network in cells.networks(cell, self.settings):
        rated = self._rated(network)
        beside = rated - before - (self.seconds(network) or 0)
        if beside > 0 and self.finished(network):
          known.append(beside)
        before = max(before, rated)
    # Not the mean: a network that was rated again, days later, is among them.
    return statistics.median(known) if known else 0.0

  def _rated(self, network):
    """When the network was rated; 0 if it was not."""
    return mtime(os.path.join(self.folder(network), 'eval.json'))

  def _idle_since(self, cell):
    """When a running cell last gave a sign of what `progress` knows."""
    networks = cells.networks(cell, self.settings)
    current = self.left(cell)[0]
    saved = mtime(os.path.join(self.folder(current), 'run.json'))
    return max(self.running[cell], self._since(current), saved,
               *map(self._rated, networks))

  def _seconds_left(self, cell):
    """Seconds that a cell still takes; what is not known counts nothing."""
    total = 0.0
    for number, network in enumerate(self.left(cell)):
      seconds = (self.estimate(network) or 0) * (1 - self.progress(network))
      if number == 0 and cell in self.running:
        seconds -= max(0, time.time() - self._idle_since(cell))
      else:
        seconds += self._starting
      total += max(0.0, seconds)
    return total

  def time_left(self):
    """Estimates how long the sweep still takes.

    As it runs: a stage after the other, cells in turn on what is free.

    Returns:
      (seconds, percent done, whether nothing of it is unknown), or None if
      nothing is known.
    """
    if not self._known:
      return None
    places = max(len(self.settings.gpus) or self.settings.jobs,
                 len(self.running))
    free, work = [0.0] * places, 0.0
    for stage in (cells.SCRATCH, 'slim'):
      for cell in self.plan:
        if cell.stage == stage and self.left(cell):
          seconds = self._seconds_left(cell)
          heapq.heapreplace(free, free[0] + seconds)
          work += seconds
      free = [max(free)] * places
    total = sum(self.estimate(each) or 0 for each in self.networks)
    known = all(self.estimate(each) for each in self.networks
                if not self.finished(each))
    return free[0], 100 * max(0.0, 1 - work / total), known
