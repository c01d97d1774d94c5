"""How far a sweep is and how long it takes, against arithmetic by hand."""
import fcntl
import os

import cells
import pace
import pytest
import status
from thinet import files

NOW = 1.8e9
PARENT = cells.Network(0, 'scratch', 64)
NARROW = cells.Network(0, 'scratch', 8)
SLIM = cells.Network(0, 'thinet_none', 8)
PARENT_TUNED, NARROW_TUNED, TUNED = (
    each._replace(fine_tuned=True) for each in (PARENT, NARROW, SLIM))
# Million multiply-adds, and 3.14 for what does not depend on the widths.
WIDE, THIN = 18.470784 + 3.14, 3.149184 + 3.14


class Folder:
  """A sweep of three cells and six networks, of which nothing is made."""

  def __init__(self, out, monkeypatch):
    monkeypatch.setattr(pace.time, 'time', lambda: NOW)
    self.settings = cells.Settings(
        out=str(out), data_dir='data', widths=[64, 8], seeds=[0],
        schedule='published', epochs=5.0, precision='float32',
        finetune_epochs=2.0, modes=['thinet_none'], controls=[])
    self.finished = set()

  def put(self, network, name, age, **content):
    """Writes a file that was changed so many seconds ago; returns its path."""
    path = os.path.join(cells.folder(self.settings, network), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    files.write_json(path, {'settings': {}, **content})
    os.utime(path, (NOW - age,) * 2)
    return path

  def make(self, network, seconds):
    """Leaves a finished network of so many seconds."""
    name = 'compress.json' if network == SLIM else 'run.json'
    self.put(network, name, 500, seconds=seconds, last_step=20)
    self.finished.add(network)

  def sweep(self, **changes):
    cells.read.cache_clear()
    return pace.Sweep(
        self.settings._replace(**changes),
        lambda each: ('' if each in self.finished else 'not made', None))


@pytest.fixture
def folder(tmp_path, monkeypatch):
  return Folder(tmp_path, monkeypatch)


def test_nothing_is_said_before_anything_is_known(folder):
  assert folder.sweep().time_left() is None
  folder.put(PARENT, 'run.json', 100, seconds=0, last_step=20)   # It began.
  assert folder.sweep().time_left() is None
  assert status.left_in_words(folder.sweep()) == ''


def test_time_is_scaled_by_width_and_epochs(folder):
  folder.make(PARENT, 5 * WIDE)   # 5 epochs, a second for each million.
  narrow, tuned, parent_tuned = 5 * THIN, 2 * THIN, 2 * WIDE
  assert folder.sweep().estimate(NARROW) == pytest.approx(narrow)
  assert folder.sweep().estimate(TUNED) == pytest.approx(tuned)
  seconds, _, complete = folder.sweep().time_left()
  assert (seconds, complete) == (
      pytest.approx(parent_tuned + narrow + 2 * tuned), False)
  assert status.left_in_words(folder.sweep()).startswith('at least 0:01:40 ')
  # What was measured at the width itself is better, and more of it still.
  folder.make(NARROW, 300)
  assert folder.sweep().estimate(TUNED) == pytest.approx(120)
  folder.make(SLIM, {'moments': 5, 'write': 3})
  folder.make(TUNED, 150)
  assert folder.sweep().estimate(NARROW) == pytest.approx((300 + 375) / 2)
  folder.make(PARENT_TUNED, 1)
  folder.make(NARROW_TUNED, 1)
  assert folder.sweep().seconds(SLIM) == 8
  assert status.left_in_words(folder.sweep()) == ''


def test_a_budget_takes_the_time_of_its_widths(folder):
  """Before they are chosen, its share of the parent's multiply-adds."""
  folder.make(PARENT, 5 * WIDE)
  scratch, slim, wide = (cells.Network(0, mode, size) for mode, size in (
      ('scratch', 'budget0.25'), ('thinet_none', 'budget0.25'),
      ('thinet_none', 8)))
  assert folder.sweep().estimate(scratch) == pytest.approx(
      5 * (18.470784 / 4 + 3.14))
  folder.put(slim, 'compress.json', 500, seconds=9, conv1_channels=16,
             conv2_channels=16, local3_units=96, local4_units=48)
  # 576 x 75 x 16 + 144 x 25 x 16 x 16 + 36 x 16 x 96 + 96 x 48 + 48 x 10.
  for network, epochs in ((scratch, 5), (slim._replace(fine_tuned=True), 2)):
    assert folder.sweep().estimate(network) == pytest.approx(
        epochs * (1.673184 + 3.14))
  # A compression of all layers takes longer than one of conv1.
  folder.finished.add(slim)
  sweep = folder.sweep(budgets=('budget0.25',))
  assert (sweep.estimate(slim), sweep.estimate(wide)) == (9, None)
  assert status.name(sweep.plan[-1]) == 'seed 0 slim budget0.25'


def test_a_stage_waits_for_the_one_before_and_cells_share_what_is_free(folder):
  folder.make(PARENT, 790)
  # Two more parents, of 790 s, and the tunings of all three, of 316; three
  # trainings of 230 with tunings of 92, and those of the compressions.
  first, second = 790 * 2 / 5, 790 * 7 / 5
  tuned = first * THIN / WIDE
  narrow = second * THIN / WIDE
  alone = first + 2 * second + 3 * narrow + 3 * tuned
  for changes, seconds in [
      (dict(), alone), (dict(gpus=('3',), jobs=4), alone),
      (dict(jobs=2), second + 2 * narrow + 2 * tuned),
      (dict(gpus=('3', '5', '7')), first + 3 * narrow + tuned)]:
    sweep = folder.sweep(seeds=[0, 1, 2], **changes)
    assert sweep.time_left()[0] == pytest.approx(seconds)


def test_what_a_program_needs_beside_its_work_is_measured(folder):
  """The parent's cell took 100 s, of which its training 93."""
  folder.make(PARENT, 93)
  folder.put(PARENT, 'eval.json', 200)
  sweep = folder.sweep()
  note = sweep.note(sweep.plan[0])
  os.makedirs(os.path.dirname(note))
  open(note, 'w').close()
  os.utime(note, (NOW - 300,) * 2)
  assert folder.sweep()._seconds_left(sweep.plan[1]) == pytest.approx(
      93 * 7 / 5 * THIN / WIDE + 2 * 7)
  # In a cell, a network begins where the one before ends.
  folder.make(SLIM, {'write': 4})
  folder.put(SLIM, 'eval.json', 150)
  open(sweep.note(sweep.plan[2]), 'w').close()
  os.utime(sweep.note(sweep.plan[2]), (NOW - 165,) * 2)
  folder.make(TUNED, 50)
  folder.put(TUNED, 'eval.json', 91)
  assert folder.sweep()._starting == pytest.approx((7 + 11 + 9) / 3)
  # A network that was rated again, long after, is not the usual one.
  folder.put(PARENT, 'eval.json', 0)
  assert folder.sweep()._starting == pytest.approx(11)
  # One that was resumed says nothing: its cell's last start is not its own.
  folder.make(NARROW, 400)
  folder.put(NARROW, 'eval.json', 10)
  os.rename(note, sweep.note(sweep.plan[1]))
  assert folder.sweep()._starting == pytest.approx((11 + 9) / 2)


def test_a_running_training_is_known_by_its_newest_checkpoint(folder):
  """It began 100 s ago, and its checkpoint of half of the steps is 10 s old."""
  folder.put(PARENT, 'run.json', 10, seconds=90, step=10, last_step=20)
  with open(folder.put(PARENT, 'lock', 100)) as lock:
    assert not folder.sweep().running
    fcntl.flock(lock, fcntl.LOCK_EX)
    sweep = folder.sweep()
    parent = sweep.plan[0]
    assert sweep.running == {parent: NOW - 100}
    assert sweep.progress(PARENT) == 0.5 and sweep.seconds(PARENT) == 90
    assert sweep.estimate(PARENT) == pytest.approx(180)
    tuning = 180 * 2 / 5
    assert sweep._seconds_left(parent) == pytest.approx(90 - 10 + tuning)
    assert status.state(sweep, parent).startswith('running since ')
    assert status.state(sweep, parent).endswith(   # 90 of 252 s.
        ', 35 %, network 1: scratch_64')
    # The clock was set back since: nothing is known of the time until now.
    folder.put(PARENT, 'run.json', -9, seconds=90, step=10, last_step=20)
    assert folder.sweep()._seconds_left(parent) == pytest.approx(90 + tuning)
  # It was stopped since, and nobody works on it.
  folder.put(PARENT, 'run.json', 9, seconds=91, step=10, last_step=20)
  sweep = folder.sweep()
  assert sweep.seconds(PARENT) == 91 and not sweep.running
  assert sweep._seconds_left(parent) == pytest.approx(91 * 9 / 5)
  assert status.state(sweep, parent) == 'stopped at 35 %'


def test_a_cell_is_done_running_failed_or_waiting(folder):
  folder.make(SLIM, {'write': 3})
  states = [status.state(folder.sweep(), cell) for cell in folder.sweep().plan]
  assert states == ['waiting', 'waiting', 'stopped at 50 %']
  folder.make(PARENT, 60)
  folder.make(PARENT_TUNED, 24)
  states = [status.state(folder.sweep(), cell) for cell in folder.sweep().plan]
  # 3 s of 3 + 24 * THIN / WIDE.
  assert states == ['done in 0:01:24', 'waiting', 'stopped at 30 %']
  folder.put(NARROW, 'run.json', 9, seconds=0, last_step=20)
  sweep = folder.sweep()
  assert status.state(sweep, sweep.plan[1]) == 'stopped at 0 %'
  folder.put(NARROW, 'eval.json', 9)   # It was rated once.
  assert status.state(folder.sweep(), sweep.plan[1]) == (
      'stopped at 0 %; scratch_8: not made')
  sweep = folder.sweep()
  os.makedirs(os.path.dirname(sweep.note(sweep.plan[2])))
  with open(sweep.note(sweep.plan[2]), 'w') as note:
    note.write('failed with exit code 3\n')
    note.flush()
    state = status.state(folder.sweep(), sweep.plan[2])
    assert state.startswith('failed with exit code 3 at ')
    fcntl.flock(note, fcntl.LOCK_EX)   # It runs again.
    state = status.state(folder.sweep(), sweep.plan[2])
  assert state.startswith('running since ')
  assert state.endswith(', 30 %, network 2: thinet_none_8_finetuned')
