"""Tensors whose parts are on several ranks."""

from braze.distributed.tensor import parallel
from braze.distributed.tensor.placements import Placement, Replicate, Shard

__all__ = ["Placement", "Replicate", "Shard", "parallel"]
