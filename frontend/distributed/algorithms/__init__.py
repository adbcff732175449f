"""Ways to reduce gradients and parameters, with PyTorch's names."""

from braze.distributed.algorithms import ddp_comm_hooks, model_averaging

__all__ = ["ddp_comm_hooks", "model_averaging"]
