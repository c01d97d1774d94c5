"""Says what a sweep will do, is doing, and has made.

  python results/status.py plan             # before it does anything
  python results/status.py left             # a line a cell: slim 0 8
  python results/status.py left slim 0 8    # a line a network of this cell
  python results/status.py cell slim 0 8 l1_full_8   # as this network begins
  python results/status.py widths slim 0 budget0.25  # as flags, if chosen
  python results/status.py status           # at any time
  python results/status.py made 112         # at its end, after 112 seconds

run_experiments.sh asks this; the settings are its environment. Exits 2, with
one sentence, if a network in OUT does not fit them.
"""
import datetime
import errno
import glob
import importlib.util
import os
import shlex
import signal
import sys

for _name in ('numpy', 'six', 'tensorflow', 'tensorboard', 'matplotlib'):
  if not importlib.util.find_spec(_name):   # The modules below need some.
    print('run_experiments.sh: PYTHON=%s lacks %s; run: %s -m pip install -r '
          'requirements.txt' % (sys.executable, _name, sys.executable),
          file=sys.stderr)
    sys.exit(2)

import cells
import pace

from thinet import devices
from thinet import files


def name(cell):
  """What its lines begin with, as 'seed 0 slim 8'."""
  return 'seed %d %s %s' % (cell.seed, cell.stage, cell.size)


def duration(seconds):
  """As 0:01:30."""
  return str(datetime.timedelta(seconds=round(seconds)))


def clock(stamp):
  """Local time of a time stamp; with the day if that is not today."""
  then = datetime.datetime.fromtimestamp(stamp)
  today = then.date() == datetime.date.today()
  return then.strftime('%H:%M:%S' if today else '%Y-%m-%d %H:%M')


def left_in_words(sweep):
  """As '35 % done, about 0:10:30 left'; '' if nothing is known, or left."""
  found = sweep.time_left() if any(map(sweep.left, sweep.plan)) else None
  if not found:
    return ''
  seconds, percent, complete = found
  return ('%d %% done, about %s left' % (percent, duration(seconds))
          if complete else 'at least %s left' % duration(seconds))


def state(sweep, cell):
  """A cell's state: done, running, failed, stopped or waiting."""
  mine, left = cells.networks(cell, sweep.settings), sweep.left(cell)
  if not left:
    seconds = [sweep.seconds(each) for each in mine]
    return 'done' + ('' if None in seconds else ' in ' + duration(sum(seconds)))
  times = [sweep.estimate(each) for each in mine]
  if None in times:   # Then each network counts as much.
    times = [1] * len(mine)
  percent = 100 * sum(time * sweep.progress(each)
                      for time, each in zip(times, mine)) / sum(times)
  if cell in sweep.running:
    words = 'running since ' + clock(sweep.running[cell])
    if percent:   # Else nothing of it is saved yet.
      words += ', %d %%' % percent
    if len(mine) > 1:
      words += ', network %d: %s' % (mine.index(left[0]) + 1, left[0].name)
    return words
  try:
    note = files.read_bytes(sweep.note(cell)).decode(errors='replace').strip()
  except OSError:
    note = ''
  if note.startswith('failed'):
    return '%s at %s, %d %%' % (note, clock(pace.mtime(sweep.note(cell))),
                                percent)
  begun = any(cells.made(sweep.settings, each) for each in mine)
  words = 'stopped at %d %%' % percent if begun else 'waiting'
  for each in left:   # What was rated already is damaged, or out of date.
    if os.path.lexists(os.path.join(sweep.folder(each), 'eval.json')):
      return '%s; %s: %s' % (words, each.name, sweep.reason(each))
  return words


def listed(sweep):
  """A line for each cell: its name, how many networks, and its state."""
  rows = []
  for cell in sweep.plan:
    count = len(cells.networks(cell, sweep.settings))
    rows.append((name(cell), '%d network%s' % (count, 's' * (count != 1)),
                 state(sweep, cell)))
  widths = [max(len(row[i]) for row in rows) for i in range(2)]
  return ['  %-*s  %-*s  %s' % (widths[0], row[0], widths[1], row[1], row[2])
          for row in rows]


def counted(sweep):
  """How many cells are done, in words."""
  done = sum(1 for cell in sweep.plan if not sweep.left(cell))
  return '%s: %d of %d cells done' % (sweep.settings.out, done, len(sweep.plan))


# -------------------------------------------------------------------- answers


def place(settings):
  """Where the cells run, in a sentence or two."""
  gpus = settings.gpus
  if gpus:
    os.environ['CUDA_VISIBLE_DEVICES'] = gpus[0]   # As their programs see it.
  number = len(gpus) or settings.jobs
  words = '%d cell%s at a time on ' % (number, '' if number == 1 else 's')
  gpu = devices.gpu()
  if gpu and devices.has_cuda():
    return words + (
        'GPU %s: %s.' % (' '.join(gpus), gpu) if gpus else gpu + '.')
  words += 'the ' + devices.processor() + '.'
  if gpu:
    words += ("\nTensorFlow does not see this machine's %s; to use it: %s -m "
              '%s' % (gpu, shlex.quote(sys.executable), devices.INSTALL))
  elif gpus:
    words += '\nGPUS has %s, but no GPU is in this machine.' % ' '.join(gpus)
  return words


def say_plan(sweep, *arguments):
  """What the sweep will do."""
  settings = sweep.settings
  made = 'From scratch: %g epochs, schedule %s, %s.' % (
      settings.epochs, settings.schedule, settings.precision)
  slim = ', '.join(settings.modes)
  if slim:
    made += '\nCompressed, then fine-tuned %g epochs: %s.' % (
        settings.finetune_epochs, slim)
  if settings.controls:
    made += '\nCompressed alone: %s.' % ', '.join(settings.controls)
  where = 'As Slurm jobs.' if arguments else place(settings)
  return [counted(sweep) + '.', *listed(sweep), made, where,
          'Images: %s.' % settings.data_dir]


def say_status(sweep):
  """What the sweep is doing."""
  left = left_in_words(sweep)
  return [counted(sweep) + (', ' + left if left else '') + '.', *listed(sweep)]


def cell_of(words):
  """The cell of a stage, a seed and a size."""
  return cells.Cell(words[0], int(words[1]), cells.size_of(words[2]))


def say_cell(sweep, stage, seed, size, network=''):
  """What a cell begins with, or that it is done, and the time left."""
  this = cell_of([stage, seed, size])
  mine = cells.networks(this, sweep.settings)
  words = ('Cell %d of %d' % (sweep.plan.index(this) + 1, len(sweep.plan))
           if this in sweep.plan else 'A cell of its own')
  if sweep.settings.gpus:
    words += ' on GPU ' + os.environ.get('CUDA_VISIBLE_DEVICES', '')
  if not network:
    words += ' is done'
  for number, each in enumerate(mine, 1):
    if each.name == network:
      words += (', network %d of %d' % (number, len(mine))
                if len(mine) > 1 else '')
      words += ': %s %s' % (
          'training' if each.mode == cells.SCRATCH else
          'fine-tuning' if each.fine_tuned else 'compression', each.name)
  left = left_in_words(sweep)
  return [words + (' (the sweep: %s).' % left if left else '.')]


def say_made(sweep, seconds=''):
  """What the sweep has made."""
  out = sweep.settings.out
  names = ['table.csv'] + ['budgets.csv'] * bool(sweep.settings.budgets)
  took = sum(sweep.seconds(each) or 0 for each in sweep.networks)
  figures = sorted(glob.glob(os.path.join(glob.escape(out), '*.png')))
  return ['%s%d networks, %s of computing.' % (
      'Done in %s: ' % duration(int(seconds)) if seconds else '',
      len(sweep.networks), duration(took)),
          *('Table: ' + os.path.join(out, name) for name in names),
          *('Figure: ' + path for path in figures),
          'Curves: ' + shlex.join([sys.executable, '-m', 'tensorboard.main',
                                   '--logdir=' + out])]


def say_left(sweep, *cell):
  """The cells that are not done, or the networks of one, with a reason."""
  if cell:
    return sweep.reasons(cell_of(cell))
  return ['%s %d %s' % each for each in sweep.plan if sweep.reasons(each)]


def say_widths(sweep, *cell):
  """The widths that a cell's compressions have, as flags; before them none."""
  last = cells.networks(cell_of(cell), sweep.settings)[-1]
  widths = cells.widths(sweep.settings, last)
  return [' '.join('--%s=%d' % width for width in widths.items()
                   if None not in widths.values())]


ANSWERS = {'plan': say_plan, 'left': say_left, 'cell': say_cell,
           'status': say_status, 'made': say_made, 'widths': say_widths}


def show(lines):
  """Prints lines; returns the exit code: 141 if nobody reads."""
  if sys.stdout is None:   # Closed from the start.
    return 141
  if sys.stdout.errors == 'strict':   # Folders have any name.
    sys.stdout.reconfigure(errors='backslashreplace')
  try:
    print('\n'.join(lines), flush=True)
  except OSError as error:
    files.close_output()
    if error.errno == errno.EPIPE:
      return 141
    print('run_experiments.sh: Output cannot be written (%s); give it another '
          'place.' % error.strerror, file=sys.stderr)
    return 1
  return 0


def read_sweep(cell=None):
  """Reads the sweep of the environment, if its settings fit.

  Args:
    cell: Cell whose parents alone to check, or None for all.

  Returns:
    (cells.Settings, cells.Finished); None, after a sentence, if something does
    not fit.
  """
  try:
    settings = cells.from_environment(os.environ)
  except KeyError as error:
    print('status.py: %s is not set; run ./run_experiments.sh, which asks this '
          'itself.' % error, file=sys.stderr)
    return None
  try:
    known = any(cells.made(settings, each) or cells.rated(settings, each)
                for each in cells.found(settings.out))
    data = (cells.read_data(settings.data_dir) if known else
            cells.Data(None, None, None))
    finished = cells.Finished(settings, data)
    cells.check_settings(settings, data)
    cells.check_parents(settings, cells.networks(cell, settings) if cell else
                        cells.found(settings.out), finished)
  except cells.MisfitError as error:
    print('run_experiments.sh: %s' % error, file=sys.stderr)
    return None
  return settings, finished


def main(arguments):
  what, *words = arguments or ['']
  about_a_cell = what in ('cell', 'widths') or what == 'left' and words
  if what not in ANSWERS or about_a_cell and len(words) < 3:
    print(__doc__, file=sys.stderr)
    return 2
  found = read_sweep(cell_of(words) if about_a_cell else None)
  if not found:
    return 2
  return show(ANSWERS[what](pace.Sweep(*found), *words))


if __name__ == '__main__':
  if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)   # Its caller says so.
  sys.exit(main(sys.argv[1:]))
