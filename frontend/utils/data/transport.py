"""Batches on their way from a worker to the process that uses them, through shared memory.

A batch is pickled without the elements of its tensors and arrays. These are copied to a *slot*, a
shared block of the worker's, and the tensors that arrive lie there: nothing is copied again. Once
they are gone the slot's number goes back to the worker with its next task, to be filled anew, so
that in the long run no memory is mapped or cleared.

    worker                                    user
    Outbox.send(head, batch)   ---------->    Inbox.receive() -> head, batch
    Outbox.recycle(numbers)    <----------    Inbox.returned()
"""

from __future__ import annotations

import io
import os
import pickle
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler, recv_handle, send_handle
from typing import Any

import numpy as np

from braze import engine
from braze.copying import retype
from braze.handle import BUFFER, PARAM, concrete
from braze.ir.dtypes import dtype_named
from braze.ir.types import tensor_type
from braze.sharing import check_sendable
from braze.tensors import Tensor, wrap
from braze.wrapped_errors import ExceptionWrapper

ALIGNMENT = 64
# A pickle of more bytes goes through the slot, so that no message fills the connection's buffer.
LARGEST_MESSAGE = 16 << 10

# What an answer is: the last member of its head.
DATA, END, FAILED = "data", "end", "failed"

Span = tuple[int, int]  # where a buffer lies in its slot: offset and bytes


class _BatchPickler(ForkingPickler):
    """Leaves the elements of tensors (as protocol 5 those of arrays) to the buffers."""

    def __init__(self, file: io.BytesIO, buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(file, 5, True, buffers.append)

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, Tensor) or obj.is_sparse:
            return NotImplemented
        check_sendable(obj)
        array = np.ascontiguousarray(obj._numpy())
        handle = obj._handle
        described = (handle.type.dtype.name, tuple(handle.type.shape), handle.flags)
        elements = pickle.PickleBuffer(array.reshape(-1).view(np.uint8).data)
        made = (_arrived, (type(obj), elements, described, obj.requires_grad))
        return (*made, dict(obj.__dict__)) if obj.__dict__ else made


def _arrived(
    kind: type[Tensor],
    elements: Any,
    described: tuple[str, tuple[int, ...], int],
    requires_grad: bool,
) -> Tensor:
    dtype, shape, flags = described
    storage = engine.Storage.from_numpy(elements)
    handle = concrete(tensor_type(dtype_named(dtype), shape), storage, flags & (PARAM | BUFFER))
    tensor = retype(wrap(handle, None, 0), kind)
    tensor._requires_grad = requires_grad
    return tensor


def _aligned(nbytes: int) -> int:
    return nbytes + ALIGNMENT - 1 & -ALIGNMENT


def _placed(sizes: Sequence[int]) -> tuple[list[Span], int]:
    """Where buffers lie one after the other, and how much they need."""
    spans, end = [], 0
    for size in sizes:
        spans.append((end, size))
        end += _aligned(size)
    return spans, end


class Outbox:
    """A worker's side.

    Attributes:
        slots: their memory by number. free: the numbers of those that nobody uses.
    """

    def __init__(self, connection: Connection, receiver: int) -> None:
        self._connection = connection
        self._receiver = receiver
        self.slots: dict[int, np.ndarray] = {}
        self.free: list[int] = []
        self._made = 0

    def recycle(self, returned: Sequence[int], lost: Sequence[int]) -> None:
        """Take slots back; those that are lost are somebody else's for good."""
        self.free.extend(returned)
        for number in lost:
            self.slots.pop(number, None)

    def send(self, head: Any, data: Any) -> None:
        """Send a batch.

        Raises:
            Whatever pickling it raises; nothing is sent then.
        """
        buffers: list[pickle.PickleBuffer] = []
        file = io.BytesIO()
        _BatchPickler(file, buffers).dump(data)
        parts: list[Any] = [buffer.raw() for buffer in buffers]
        pickled = file.getvalue()
        inline: bytes | None = pickled
        if len(pickled) > LARGEST_MESSAGE:
            parts.append(memoryview(pickled))
            inline = None
        spans, total = _placed([part.nbytes for part in parts])
        number, block, dropped = self._slot(total)
        if number >= 0:
            memory = self.slots[number]
            for (start, size), part in zip(spans, parts, strict=True):
                memory[start : start + size] = np.frombuffer(part, np.uint8)
        size = 0 if block is None else block.nbytes
        self._connection.send((head, inline, number, spans, size, dropped))
        if block is not None:
            send_handle(self._connection, block.fd, self._receiver)

    def _slot(self, nbytes: int) -> tuple[int, engine.SharedBlock | None, list[int]]:
        """A free slot of at least so many bytes: its number, its block if it is a new one, and the
        numbers of slots that are given up because they are too small."""
        if not nbytes:
            return -1, None, []
        for place, number in enumerate(self.free):
            if len(self.slots[number]) >= nbytes:
                del self.free[place]
                return number, None, []
        block = engine.new_block(nbytes + nbytes // 8)  # the next may be a little larger
        dropped, self.free = self.free, []
        for number in dropped:
            del self.slots[number]
        self._made += 1
        self.slots[self._made] = np.asarray(block)
        return self._made, block, dropped


class _Lease:
    """A slot in use: it goes back when nothing lies in it any more."""

    __slots__ = ("__weakref__", "_block", "_number", "given_back")

    def __init__(self, block: engine.SharedBlock, number: int, given_back: list[int]) -> None:
        self._block = block
        self._number = number
        self.given_back = given_back

    def __del__(self) -> None:
        self.given_back.append(self._number)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._block.__array_interface__


class Inbox:
    """The side of the process that uses a worker's batches."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._blocks: dict[int, engine.SharedBlock] = {}
        self._returned: list[int] = []
        self._lost: list[int] = []
        self._leases: weakref.WeakSet[_Lease] = weakref.WeakSet()
        _INBOXES.add(self)

    def receive(self) -> tuple[Any, Any]:
        """The next batch, with its head, which says so if it cannot be unpickled here.

        Raises:
            EOFError, OSError: the worker has ended.
        """
        head, inline, number, spans, size, dropped = self._connection.recv()
        for old in dropped:
            self._blocks.pop(old, None)
        if size:
            self._blocks[number] = engine.block_from_file(recv_handle(self._connection), size)
        buffers: list[Any] = []
        if number >= 0:
            lease = _Lease(self._blocks[number], number, self._returned)
            self._leases.add(lease)
            memory = np.asarray(lease)
            buffers = [memory[start : start + length] for start, length in spans]
        if inline is None:
            inline = buffers.pop()
        try:
            return head, pickle.loads(inline, buffers=buffers)
        except Exception:
            where = "where a batch from a DataLoader worker process was unpickled"
            return (*head[:-1], FAILED), ExceptionWrapper(where=where)

    def returned(self) -> tuple[list[int], list[int]]:
        """The slots that the worker gets back, and those that it has lost, since the last call."""
        returned: list[int] = []
        while self._returned:  # others are added meanwhile, by whatever thread
            returned.append(self._returned.pop())
        lost: list[int] = []
        while self._lost:
            lost.append(self._lost.pop())
            self._blocks.pop(lost[-1], None)
        return returned, lost

    def give_up_leases(self) -> None:
        """What is in use now is used by a forked process too, which says nothing when it is done:
        no such slot is filled again."""
        for lease in list(self._leases):
            lease.given_back = self._lost


_INBOXES: weakref.WeakSet[Inbox] = weakref.WeakSet()


def _forked() -> None:
    for inbox in list(_INBOXES):
        inbox.give_up_leases()


os.register_at_fork(after_in_parent=_forked)
