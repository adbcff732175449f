"""The machine's accelerator, whatever its kind: the GPU of `braze.cuda`, or none."""

from __future__ import annotations

from typing import Any

from braze import cuda
from braze.devices import device

__all__ = [
    "current_accelerator",
    "current_device_index",
    "device_count",
    "is_available",
    "set_device_index",
    "synchronize",
]


def is_available() -> bool:
    """Whether tensors can be on an accelerator."""
    return cuda.is_available()


def device_count() -> int:
    """The number of accelerators that tensors can be on."""
    return cuda.device_count()


def current_accelerator(check_available: bool = False) -> device | None:
    """The kind of accelerator, without an index; None if there is none.

    Args:
        check_available: accepted; a kind that is not available is not named in any case.
    """
    return device("cuda") if cuda.is_available() else None


def current_device_index() -> int:
    """The accelerator that is used where none is named.

    Raises:
        RuntimeError: there is none.
    """
    return int(cuda.current_device())


def set_device_index(device: Any) -> None:
    """Use this accelerator where none is named.

    Raises:
        RuntimeError: there is none.
    """
    cuda.set_device(device)


def synchronize(device: Any = None) -> None:
    """Wait for the accelerator.

    Raises:
        RuntimeError: there is none.
    """
    cuda.synchronize(device)
