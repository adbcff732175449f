"""Optimizers of ranks that train together, with PyTorch's names."""

from braze.distributed.optim.post_localSGD_optimizer import PostLocalSGDOptimizer
from braze.distributed.optim.zero_redundancy_optimizer import ZeroRedundancyOptimizer

__all__ = ["PostLocalSGDOptimizer", "ZeroRedundancyOptimizer"]
