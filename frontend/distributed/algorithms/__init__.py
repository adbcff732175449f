"""Ways to reduce gradients, with PyTorch's names."""

from braze.distributed.algorithms import ddp_comm_hooks

__all__ = ["ddp_comm_hooks"]
