"""Checkpoints that all ranks write and read together, each its own part, with PyTorch's names."""

from braze.distributed.checkpoint.pieces import Shard
from braze.distributed.checkpoint.reading import load
from braze.distributed.checkpoint.writing import save

__all__ = ["Shard", "load", "save"]
