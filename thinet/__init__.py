"""ThiNet as a library: it reads no flags and no data, and builds no network.

Callers pass in what it needs: tensors, arrays, and functions that make them.
The layers' names and the 5x5 kernels are those of the tutorial's network.
"""
