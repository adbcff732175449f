"""Collectives that are operations of graphs.

In: arrays in memory that compiled code owns.  Out: tickets, and results for tickets.

Elements are copied to memory of their own at the start, all operands of a collective one behind
the other, and from there when they are waited for. So MPI never reads or writes memory of a graph:
one that fails, or is interrupted, in between leaves nothing behind that is overwritten later.

Ranks of one host add up in the graph's own memory where it is the collective's until its result
dies (`in_place`). All of them write to it, if the arena is in memory that they share; if a graph
does not get to its end, the next one has another arena.

What a GPU computes is given to NCCL, in memory that the GPU's program keeps for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.collectives import DeviceArray, taken
from braze.runtime.cuda.block import Block
from braze.runtime.distributed.communicator import Communicator
from braze.runtime.distributed.exchanged import takes
from braze.runtime.distributed.local import LocalSum
from braze.runtime.distributed.progress import Work
from braze.runtime.shared_blocks import SharedBlock
from braze.runtime.storage import Storage
from braze.runtime.workspace import cpu_workspace

if TYPE_CHECKING:
    from braze.runtime.distributed.device_group import DeviceGroup

Array = np.ndarray[Any, np.dtype[Any]]


class Captured:
    """The environment of the graphs of a rank.

    groups: the communicators by number.
    """

    def __init__(self, groups: Mapping[int, Communicator]) -> None:
        self._groups = groups
        self._running: dict[int, tuple[Work, Array]] = {}
        self._in_place: set[int] = set()
        # Of GPUs, with the operand's and the result's memory.
        self._enqueued: dict[int, tuple[DeviceGroup, Work, Block, Block]] = {}
        self._tickets = 0

    def start(
        self,
        xs: Sequence[Array],
        *,
        kind: str,
        reduction: str,
        group: int,
        root: int,
        in_place: bool = False,
        is_copy: bool = False,
    ) -> int:
        communicator = self._group(kind, group)
        self._tickets += 1
        ticket = self._tickets
        if in_place and kind == "all_reduce":
            found = self._begun_in_place(communicator, xs, reduction)
            if found is not None:
                self._in_place.add(ticket)
                self._running[ticket] = found
                return ticket
        data = xs[0] if is_copy else _copied(xs)
        if kind == "all_reduce":
            work = communicator.all_reduce(data, reduction)
        elif kind == "reduce":
            work = communicator.reduce(data, root, reduction)
        elif kind == "broadcast":
            work = communicator.broadcast(data, root)
        elif kind == "all_gather":
            given, data = data, _new(data.size * communicator.size, data.dtype)
            work = communicator.all_gather(given, data)
        else:
            given, data = data, _new(data.size // communicator.size, data.dtype)
            work = communicator.reduce_scatter(given, data, reduction)
        self._running[ticket] = work, data
        return ticket

    def _group(self, kind: str, group: int) -> Communicator:
        if group not in self._groups:
            raise RuntimeError(f"[{kind}] its process group is no longer there")
        return self._groups[group]

    def _begun_in_place(
        self, communicator: Communicator, xs: Sequence[Array], reduction: str
    ) -> tuple[Work, Array] | None:
        """The sum of what lies side by side in memory, if all ranks are on this host. The array is
        the graph's memory."""
        local, data = communicator.local, _joined(xs)
        if local is None or data is None or not takes(data, reduction):
            return None
        arena = cpu_workspace.arena
        block = None
        if isinstance(arena, SharedBlock):
            begin = data.ctypes.data - arena.address
            block = arena if 0 <= begin < arena.nbytes else None
        return communicator.all_reduce(data, reduction, block), data

    def wait(self, ticket: int) -> Array:
        work, data = taken(self._running, ticket)
        work.wait()
        self._in_place.discard(ticket)
        return data

    def leave_memory(self) -> bool:
        """A graph has not got to its end: nothing may use its memory any longer. Whether other
        ranks do, since it is theirs, too."""
        is_shared = False
        for ticket in self._in_place:
            work, _ = self._running.pop(ticket, (None, None))
            if work is not None:
                with work.progress.lock:
                    if isinstance(work.request, LocalSum):
                        is_shared |= not work.request.move()
        self._in_place.clear()
        return is_shared

    # Of GPUs --------------------------------------------------------------------------------------

    def ranks(self, group: int) -> int:
        return self._group("collective_start", group).size

    def enqueue(
        self,
        given: DeviceArray,
        kept: DeviceArray,
        *,
        kind: str,
        reduction: str,
        group: int,
        root: int,
    ) -> int:
        devices = self._group(kind, group).devices
        if devices is None:
            raise RuntimeError(f"[{kind}] the backend of its process group takes no GPU's tensors")
        assert isinstance(given, Block) and isinstance(kept, Block)
        work = devices.collective(kind, given, kept, reduction, root, is_beside=True)
        self._tickets += 1
        self._enqueued[self._tickets] = devices, work, given, kept
        return self._tickets

    def order(self, ticket: int) -> DeviceArray:
        devices, work, _, kept = taken(self._enqueued, ticket)
        devices.order(work)
        return kept

    def notice(self) -> None:
        for communicator in self._groups.values():
            if communicator.devices is not None:
                communicator.progress.look()
                return


def _joined(xs: Sequence[Array]) -> Array | None:
    """Arrays that lie one behind the other as one array, to be written; None if they do not."""
    begins = [x.ctypes.data for x in xs]
    ends = [begin + x.nbytes for begin, x in zip(begins, xs, strict=True)]
    if begins[1:] != ends[:-1]:
        return None
    memory = memoryview((ctypes.c_char * (ends[-1] - begins[0])).from_address(begins[0]))
    return np.frombuffer(memory, xs[0].dtype)


def _copied(xs: Sequence[Array]) -> Array:
    data = _new(sum(x.size for x in xs), xs[0].dtype)
    start = 0
    for x in xs:
        data[start : start + x.size] = x.reshape(-1)
        start += x.size
    return data


def _new(size: int, dtype: np.dtype[Any]) -> Array:
    """Memory that is taken again once nobody needs it: fresh pages are expensive."""
    return np.frombuffer(np.asarray(Storage(size * dtype.itemsize)), dtype, size)
