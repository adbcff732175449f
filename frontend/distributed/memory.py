"""The memory of tensors, for MPI to read and write.

In: tensors.  Out: C-contiguous arrays on their memory, without a copy wherever their elements lie
in order. All of these are sync points, so that operations reach MPI in the order of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braze.capture import flush
from braze.distributed.groups import ProcessGroup, member
from braze.handle import concrete, replace_in_place
from braze.tensors import Tensor
from braze.views import check_writable, memory_of, root_of

Array = np.ndarray[Any, np.dtype[Any]]


def takes(name: str, group: Any, *tensors: Any) -> ProcessGroup | None:
    """The group that is to carry some tensors; None where this process is no member.

    Raises:
        TypeError: one is no tensor.
        ValueError: one is sparse, or where the group's backend does not reach.
    """
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"[{name}] expected a tensor, given {type(tensor).__name__}")
    found = member(group)
    if found is None:
        return None
    place = "cpu" if found._devices is None else "cuda"
    for tensor in tensors:
        given = tensor._current().type.device.partition(":")[0]
        if tensor.is_sparse:
            raise ValueError(f"[{name}] expected a dense tensor, given a sparse one")
        if given != place:
            where = "tensors on the CPU" if place == "cpu" else "tensors on a GPU"
            raise RuntimeError(
                f"No backend type associated with device type {given}: [{name}] the "
                f"{found._backend} backend takes {where}, given one on {tensor.device}"
            )
    return found


def check_alike(name: str, tensors: Sequence[Tensor]) -> None:
    """Raises: TypeError, ValueError if tensors have not one dtype and one number of elements."""
    first = tensors[0]._current().type
    for tensor in tensors[1:]:
        other = tensor._current().type
        if other.dtype is not first.dtype:
            raise TypeError(f"[{name}] tensors must have one dtype, given {first} and {other}")
        if other.numel != first.numel:
            raise ValueError(f"[{name}] tensors must have one size, given {first} and {other}")


def to_read(tensor: Tensor) -> Array:
    """The elements of a tensor, to be read only."""
    flush()
    return np.ascontiguousarray(tensor.detach()._numpy())


class Target:
    """A tensor that is to be written.

    Attributes:
        array: for MPI to write to; it has the elements as they are.
        finish: what puts the elements where they belong, or None where they are there already.
    """

    def __init__(self, tensor: Tensor) -> None:
        flush()
        root = root_of(tensor)
        memory = memory_of(tensor)
        self.finish: Callable[[], None] | None = None
        if memory.flags.c_contiguous:
            self.array: Array = memory
        else:
            check_writable(tensor.detach())
            self.array = np.ascontiguousarray(memory)
            self.finish = lambda: np.copyto(memory, self.array)
        written(root)


def written(root: Tensor) -> None:
    """The memory of a tensor is written to from elsewhere: what the tape has kept is no longer what
    it was."""
    old = root._handle
    storage: Any = old.storage
    new = concrete(old.type, storage, old.flags)
    replace_in_place(old, new)
    new.home = None
    root._handle = new
    root._writes = getattr(root, "_writes", 0) + 1


def spread(array: Array, targets: Sequence[Target]) -> Callable[[], None]:
    """What puts the equal parts of an array into several tensors."""

    def copy() -> None:
        for part, target in zip(array.reshape(len(targets), -1), targets, strict=True):
            np.copyto(target.array.reshape(-1), part)
            if target.finish is not None:
                target.finish()

    return copy
