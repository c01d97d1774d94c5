"""ThiNet as a library: it reads no flags and no data, and builds no network.

Callers pass in what it needs: tensors, arrays, and functions that make them.
The layers' names and the 5x5 kernels are those of the tutorial's network.
"""
import sys

# All programs import this before anything that pip installs.
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
  sys.exit('Python %d.%d will not do; use 3.11, 3.12 or 3.13, which TensorFlow '
           '2.21 and these programs have in common.' % sys.version_info[:2])
