"""What this machine computes with; found in no time, without TensorFlow."""
import ctypes
import glob
import importlib.util
import os
import subprocess

INSTALL = "pip install 'tensorflow[and-cuda]>=2.20,<2.22'"


def cores():
  """Number of processor cores that this process may use."""
  return (len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
          else os.cpu_count() or 1)


def processor():
  """Text such as 'processor, 2 cores'."""
  return 'processor, %d core%s' % (cores(), '' if cores() == 1 else 's')


def gpu():
  """Name of a GPU in this machine, whether TensorFlow can use it or not.

  Returns:
    Text such as 'NVIDIA H100 80GB HBM3'; None if there is none, or
    CUDA_VISIBLE_DEVICES hides all of them on purpose.
  """
  if os.environ.get('CUDA_VISIBLE_DEVICES', '0') in ('', '-1'):
    return None
  for path in glob.glob('/proc/driver/nvidia/gpus/*/information'):
    with open(path) as source:
      for line in source:
        if line.startswith('Model:'):
          return line.partition(':')[2].strip()
  try:   # Where the driver has no such files.
    listed = subprocess.run(['nvidia-smi', '--query-gpu=name',
                             '--format=csv,noheader'], timeout=10, check=True,
                            capture_output=True, text=True).stdout
  except (OSError, ValueError, subprocess.SubprocessError):
    return None
  return next(iter(listed.splitlines()), None)


def has_cuda():
  """Whether cuDNN is there, without which TensorFlow sees no GPU."""
  try:
    if importlib.util.find_spec('nvidia.cudnn'):
      return True
  except ModuleNotFoundError:   # Nothing of NVIDIA's comes from pip.
    pass
  try:
    ctypes.CDLL('libcudnn.so.9')
  except OSError:
    return False
  return True
