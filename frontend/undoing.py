"""What is done after a run that failed: the program is as it was before the line that failed.

Operations are captured long before they run, so by the time an index turns out to be out of range,
later lines may have replaced values in place. Each replacement is noted in the pending trace, with
numbers and weak references only, so that nobody's lifetime changes; after a failure those from the
failing operation on are taken back.

In: a failed trace. Out: its tensors with the values and places on the tape that they had.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from braze.handle import STALE, Handle

if TYPE_CHECKING:
    from braze.autograd.tape import TapeNode
    from braze.capture import Pending
    from braze.tensors import Tensor


class Replacement(NamedTuple):
    """A tensor's value that was replaced in place.

    Attributes:
        slot: of the new value in its trace. old: of the old value, -1 if it was none of the trace.
        tensor: whose value it is.
        node, index, requires_grad: its place on the tape before.
    """

    slot: int
    old: int
    tensor: weakref.ref[Tensor]
    node: weakref.ref[TapeNode] | None
    index: int
    requires_grad: bool


def note_replacement(tensor: Tensor, old: Handle, new: Handle) -> None:
    """Remember what a tensor was before its value is replaced.

    Args:
        old, new: the values; the new one is still to be computed.
    """
    pending = new.pending
    if pending is None or new.storage is not None:
        return
    node = tensor._node
    pending.replaced.append(
        Replacement(
            new.slot,
            old.slot if old.pending is pending else -1,
            weakref.ref(tensor),
            None if node is None else weakref.ref(node),
            tensor._index,
            tensor._requires_grad,
        )
    )


def take_back(pending: Pending, first: int) -> list[Handle]:
    """Undo the replacements by operations from slot `first` on.

    Returns:
        The values that tensors have again and that are still to be computed.
    """
    handles: list[Any] = pending.handles
    found: list[Handle] = []
    for entry in reversed(pending.replaced):
        if entry.slot < first:
            break
        tensor, new = entry.tensor(), handles[entry.slot]
        old = handles[entry.old] if entry.old >= 0 else new.home
        if tensor is None or tensor._handle is not new or old is None:
            continue
        if old.storage is None:
            old.home = new.home
            found.append(old)
        new.home = None
        old.flags &= ~STALE
        tensor._handle = old
        tensor._writes -= 1
        node = None if entry.node is None else entry.node()
        if entry.node is None or node is not None:
            tensor._node, tensor._index = node, entry.index
            tensor._requires_grad = entry.requires_grad
    return [handle for handle in found if handle.slot < first]
