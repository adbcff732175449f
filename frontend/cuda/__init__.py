"""`braze.cuda` on a machine without CUDA: it says so, and what is harmless does nothing.

What asks about the state of a GPU answers as PyTorch does without one; what needs a GPU raises.
"""

from __future__ import annotations

import importlib
from typing import Any, NoReturn

from braze.devices import check_device
from braze.devices import device as _device

__all__ = [
    "amp",
    "current_device",
    "current_stream",
    "device_count",
    "empty_cache",
    "get_device_name",
    "is_available",
    "is_bf16_supported",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "memory_allocated",
    "memory_reserved",
    "reset_peak_memory_stats",
    "seed_all",
    "set_device",
    "synchronize",
]


def __getattr__(name: str) -> Any:
    if name != "amp":
        raise AttributeError(f"module 'braze.cuda' has no attribute {name!r}")
    return importlib.import_module("braze.cuda.amp")


def is_available() -> bool:
    """Whether tensors can be on a GPU: False."""
    return False


def device_count() -> int:
    """The number of GPUs that tensors can be on: 0."""
    return 0


def is_initialized() -> bool:
    """Whether a GPU is in use: False."""
    return False


def is_bf16_supported() -> bool:
    """Whether the GPU computes in bfloat16: False, there is none."""
    return False


def manual_seed(seed: int) -> None:
    """Seed the GPU's random numbers: there are none to seed; see `braze.manual_seed`."""
    int(seed)


manual_seed_all = manual_seed


def seed_all() -> None:
    """Seed the random numbers of every GPU by chance: there are none to seed."""


def empty_cache() -> None:
    """Return unused GPU memory: there is none."""


def memory_allocated(device: Any = None) -> int:
    """Bytes of GPU memory in tensors: 0."""
    return 0


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes of GPU memory that were in tensors: 0."""
    return 0


def memory_reserved(device: Any = None) -> int:
    """Bytes of GPU memory held: 0."""
    return 0


def reset_peak_memory_stats(device: Any = None) -> None:
    """Forget the most that was in use: nothing was."""


def _no_gpu(name: str) -> NoReturn:
    raise RuntimeError(
        f"braze.cuda.{name}() needs a GPU, and this machine has none that tensors can be on; "
        "ask braze.cuda.is_available() first"
    )


def current_device() -> int:
    """The number of the GPU in use.  Raises: RuntimeError, there is none."""
    _no_gpu("current_device")


def current_stream(device: Any = None) -> Any:
    """The GPU's stream.  Raises: RuntimeError, there is none."""
    _no_gpu("current_stream")


def get_device_name(device: Any = None) -> str:
    """The GPU's name.  Raises: RuntimeError, there is none."""
    _no_gpu("get_device_name")


def set_device(device: Any) -> None:
    """Choose a GPU; a negative number chooses none.  Raises: RuntimeError, there is none."""
    if not (isinstance(device, int) and device < 0):
        check_device(_device(device))


def synchronize(device: Any = None) -> None:
    """Wait for the GPU.  Raises: RuntimeError, there is none."""
    _no_gpu("synchronize")
