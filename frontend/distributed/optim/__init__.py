"""Optimizers whose state the ranks share out among themselves, with PyTorch's names."""

from braze.distributed.optim.zero_redundancy_optimizer import ZeroRedundancyOptimizer

__all__ = ["ZeroRedundancyOptimizer"]
