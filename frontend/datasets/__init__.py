"""Data sets as NumPy arrays: the digits that come with the package, and IDX files from a folder."""

from braze.datasets.mnist import load_idx, load_mnist, read_idx

__all__ = ["load_idx", "load_mnist", "read_idx"]
