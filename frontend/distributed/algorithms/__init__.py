"""Ways to reduce gradients and parameters, with PyTorch's names."""

import importlib
from typing import Any

from braze.distributed.algorithms.join import Join, Joinable, JoinHook

# Loaded when first used: whoever can join needs `join` alone.
_MODULES = ("ddp_comm_hooks", "model_averaging")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"braze.distributed.algorithms.{name}")
    raise AttributeError(f"module 'braze.distributed.algorithms' has no attribute {name!r}")


__all__ = ["Join", "JoinHook", "Joinable"]
