"""Tensors whose parts are on several ranks."""

from braze.distributed.tensor import parallel

__all__ = ["parallel"]
