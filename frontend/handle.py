"""Handles: the values that tensors and the tape hold, pending in a trace or present in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from braze.ir.dtypes import from_numpy
from braze.ir.types import TensorType, tensor_type

if TYPE_CHECKING:
    from braze.capture import Pending, State
    from braze.engine import Storage
    from braze.sites import Site
    from braze.tensors import Tensor

STALE = 1  # overwritten in place since: whoever saved it must not read it
PARAM = 2
BUFFER = 4
NUMBER = 8
EXPOSED = 16  # others may see and change the memory; see `braze.sharing`
FOLLOWED = 64  # overwritten through `data`: whoever saved it reads `successor`, as in PyTorch
INFERENCE = 32  # made in `inference_mode`: never to be kept for a backward pass


class Handle:
    """One SSA value as the front end sees it. In steady state one is made for each operation, so it
    is small.

    Attributes:
        type: dtype, shape, device.
        pending: the trace in which `slot` is meant, if it is still the current one.
        slot: number of the value in that trace.
        storage: its memory (row-major), or None while it is only pending. For a Python number used
            as an operand (flag NUMBER): the number.
        home: for an in-place result, the handle whose memory it must be written to at the next
            sync.
        flags: STALE, PARAM, BUFFER, NUMBER, EXPOSED, INFERENCE, FOLLOWED.
        state: the trace's state in the trie once this value was appended.
        successor: set with FOLLOWED: the value it was overwritten by.
        site: for an operation's first result, the user's code that called it; None for inputs.
    """

    __slots__ = (
        "flags",
        "home",
        "pending",
        "site",
        "slot",
        "state",
        "storage",
        "successor",
        "type",
    )

    type: TensorType
    pending: Pending | None
    slot: int
    storage: Storage | float | None
    home: Handle | None
    flags: int
    state: State
    successor: Handle
    site: Site | None

    def __init__(
        self,
        type: TensorType,
        pending: Pending | None,
        slot: int,
        state: State | None = None,
        site: Site | None = None,
    ) -> None:
        self.type = type
        self.pending = pending
        self.slot = slot
        self.storage = self.home = None
        self.flags = 0
        self.state = state  # type: ignore[assignment]
        self.site = site


class SparseOperand(NotImplementedError):
    """A sparse tensor came where one value in memory is needed.

    `braze.tensors.apply` catches it and looks for a sparse form of the operation, so that dense
    operations pay nothing for there being sparse tensors.
    """


class SparseHandle(Handle):
    """What a sparse COO tensor holds in place of one value: it has a type, but no storage.

    Attributes:
        indices: the places, i64[sparse dimensions, entries].
        values: what is there, [entries, dense dimensions...]; the tape knows it.
        coalesced: whether the places are distinct and in lexicographic order.
    """

    __slots__ = ("coalesced", "indices", "values")

    def __init__(self, type: TensorType, indices: Tensor, values: Tensor, coalesced: bool) -> None:
        self.type = type
        self.pending = None
        self.slot = -1
        self.home = None
        self.flags = 0
        self.site = None
        self.indices = indices
        self.values = values
        self.coalesced = coalesced

    @property
    def storage(self) -> None:  # type: ignore[override]
        """There is none.

        Raises:
            SparseOperand: always.
        """
        raise SparseOperand(
            f"there is no sparse form of this: it needs the elements of a sparse COO tensor "
            f"({self.type}) in memory; use Tensor.to_dense() first"
        )


def concrete(type: TensorType, storage: Storage, flags: int = 0) -> Handle:
    """A handle for a value that is in memory already."""
    handle = Handle(type, None, -1)
    handle.storage = storage
    handle.flags = flags
    return handle


def number(type: TensorType, value: float | int | bool) -> Handle:
    """A Python number as an operand: a 0-d input of the graph that may differ in every call."""
    handle = Handle(type, None, -1)
    handle.storage = value
    handle.flags = NUMBER
    return handle


def replace_in_place(old: Handle, new: Handle, silent: bool = False) -> None:
    """Let a freshly captured value take over the memory of `old`, which becomes stale.

    Args:
        silent: whoever saved `old` reads `new` instead.
    """
    new.home = old if old.storage is not None else old.home
    new.flags = old.flags & (PARAM | BUFFER | EXPOSED | INFERENCE)
    old.flags |= STALE
    old.home = None
    if silent:
        old.flags |= FOLLOWED
        old.successor = new


def type_of_array(array: np.ndarray) -> TensorType:
    """The tensor type of a NumPy array."""
    return tensor_type(from_numpy(array.dtype), array.shape)
