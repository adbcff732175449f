"""Collectives that are operations of graphs.

In: arrays in memory that compiled code owns.  Out: tickets, and results for tickets.

Elements are copied to memory of their own at the start, all operands of a collective one behind
the other, and from there when they are waited for. So MPI never reads or writes memory of a graph:
one that fails, or is interrupted, in between leaves nothing behind that is overwritten later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from braze.runtime.distributed.communicator import Communicator
from braze.runtime.distributed.progress import Work
from braze.runtime.storage import Storage

Array = np.ndarray[Any, np.dtype[Any]]


class Captured:
    """The environment of the graphs of a rank.

    groups: the communicators by number.
    """

    def __init__(self, groups: Mapping[int, Communicator]) -> None:
        self._groups = groups
        self._running: dict[int, tuple[Work, Array]] = {}
        self._tickets = 0

    def start(
        self, xs: Sequence[Array], *, kind: str, reduction: str, group: int, root: int
    ) -> int:
        if group not in self._groups:
            raise RuntimeError(f"[{kind}] its process group is no longer there")
        communicator = self._groups[group]
        data = _new(sum(x.size for x in xs), xs[0].dtype)
        start = 0
        for x in xs:
            data[start : start + x.size] = x.reshape(-1)
            start += x.size
        if kind == "all_reduce":
            work = communicator.all_reduce(data, reduction)
        elif kind == "broadcast":
            work = communicator.broadcast(data, root)
        elif kind == "all_gather":
            given, data = data, _new(data.size * communicator.size, data.dtype)
            work = communicator.all_gather(given, data)
        else:
            given, data = data, _new(data.size // communicator.size, data.dtype)
            work = communicator.reduce_scatter(given, data, reduction)
        self._tickets += 1
        self._running[self._tickets] = work, data
        return self._tickets

    def wait(self, ticket: int) -> Array:
        found = self._running.pop(ticket, None)
        if found is None:
            raise RuntimeError(f"[collective_wait] there is no result for ticket {ticket}")
        work, data = found
        work.wait()
        return data


def _new(size: int, dtype: np.dtype[Any]) -> Array:
    """Memory that is taken again once nobody needs it: fresh pages are expensive."""
    return np.frombuffer(np.asarray(Storage(size * dtype.itemsize)), dtype, size)
