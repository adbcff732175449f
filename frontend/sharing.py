"""Memory that others see too: NumPy arrays and DLPack consumers next to captured operations.

An operation that is captured reads its operands later than the line that calls it, and an in-place
operation writes later. Nobody notices, unless the memory is also somebody else's: a NumPy array
that a tensor was made from, or that `numpy()` gave away. The handle of such a value is *exposed*,
and then

* an operation that reads it gets a copy made at once (a small value) or runs at once (a large one),
  so that what is written to the array afterwards does not reach back;
* an in-place operation on it runs at once, so that the array shows the result on the next line.

A value stays exposed while the other side can reach the memory, and no longer: for arrays that
NumPy owns, reference counts tell.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from braze import engine
from braze.handle import EXPOSED, Handle, concrete

# Copying so much takes some tens of microseconds, about what running a graph by itself costs.
SNAPSHOT_BYTES = 1 << 20

# For each storage that was given away: the array that all arrays given away are views of. It lives
# exactly as long as one of them does.
_ROOTS: weakref.WeakKeyDictionary[engine.Storage, weakref.ref[np.ndarray]] = (
    weakref.WeakKeyDictionary()
)


def array_of(handle: Handle) -> np.ndarray:
    """An array on a value's memory for others to keep; exposes the value.

    Args:
        handle: of a value that is in memory, and that no pending operation reads.
    """
    storage = handle.storage
    assert isinstance(storage, engine.Storage)
    reference = _ROOTS.get(storage)
    root = reference() if reference is not None else None
    if root is None:
        root = np.asarray(storage)
        _ROOTS[storage] = weakref.ref(root)
    handle.flags |= EXPOSED
    return np.ndarray(handle.type.shape, handle.type.dtype.numpy, root)


def move_to_shared_memory(handle: Handle, named: bool = False) -> None:
    """Give a value memory that other processes can share.

    Args:
        handle: of a value that is in memory.
        named: whether the memory is a file with a name; see `braze.multiprocessing`.
    """
    storage = handle.storage
    assert isinstance(storage, engine.Storage)
    make = engine.shared_files().new_file_block if named else engine.new_block
    block = make(storage.nbytes)
    np.asarray(block)[:] = np.asarray(storage)
    handle.storage = storage_on(block)
    handle.flags |= EXPOSED


def storage_on(block: engine.SharedBlock) -> engine.Storage:
    """The memory of a shared block for tensors."""
    return engine.Storage.from_numpy(np.asarray(block))


def block_of(handle: Handle) -> engine.SharedBlock | None:
    """The shared block that a value lies in, if it does."""
    storage = handle.storage
    return engine.block_under(storage.owner) if isinstance(storage, engine.Storage) else None


def check_sendable(tensor: Any) -> None:
    """Raises: RuntimeError for a tensor that has a history, which stays in its process."""
    if tensor.requires_grad and not tensor.is_leaf:
        raise RuntimeError(
            "Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd "
            "does not support crossing process boundaries.  If you just want to transfer the data, "
            "call detach() on the tensor before serializing (e.g., putting it on the queue)."
        )


def is_exposed(handle: Handle) -> bool:
    """Whether an exposed value still is: somebody can reach its memory by another way."""
    storage = handle.storage
    if not isinstance(storage, engine.Storage):
        return True
    reference = _ROOTS.get(storage)
    if (reference is not None and reference() is not None) or storage.is_reachable:
        return True
    handle.flags &= ~EXPOSED
    return False


def snapshot(handle: Handle) -> Handle | None:
    """A copy of a value's elements as they are now; None where that is too much to copy, or for the
    GPU to do."""
    storage = handle.storage
    if not isinstance(storage, engine.Storage) or storage.nbytes > SNAPSHOT_BYTES:
        return None
    if handle.type.device != "cpu":
        return None
    copied = engine.Storage(storage.nbytes)
    np.asarray(copied)[:] = np.asarray(storage)
    return concrete(handle.type, copied, handle.flags & ~EXPOSED)
