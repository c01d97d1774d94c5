"""Shows how far long work has come, where standard error is a terminal."""
import sys


def shown(items, label):
  """Yields the items; shows a bar, and when it will be full, as they are used.

  By Rich, which every TensorFlow of requirements.txt brings along with Keras.
  The bar goes away at the end. Without a terminal nothing is shown.

  Args:
    items: sequence.
    label: text before the bar.
  """
  if not sys.stderr.isatty():
    yield from items
    return
  from rich import console   # Only here: a tenth of a second.
  from rich import progress
  yield from progress.track(items, label, transient=True,
                            console=console.Console(stderr=True))
