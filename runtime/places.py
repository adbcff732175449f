"""Places: threads and memory of their own, for graphs that run beside each other.

In: a number of threads.  Out: a `Place`; what a thread runs inside `with place:` uses its pool and
its workspace, so that several threads compute at once.  Outside, all share one of each, and take
turns.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType

from braze.runtime.pool import Pool, get_num_threads, new_pool
from braze.runtime.workspace import Workspace


class Place:
    """`threads` threads and a workspace.

    One thread of the program at a time may be in a place; the next one waits.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.workspace = Workspace()
        self._pool: Pool | None = None
        self._turn = threading.RLock()
        _PLACES.add(self)

    def pool(self) -> Pool:
        """The running pool."""
        if self._pool is None:
            self._pool = new_pool(self.threads)
        if not self._pool.running:
            self._pool.start()
        return self._pool

    def __enter__(self) -> Place:
        self._turn.acquire()
        _CURRENT.stack = (*_CURRENT.stack, _CURRENT.place)
        _CURRENT.place = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        *stack, _CURRENT.place = _CURRENT.stack
        _CURRENT.stack = tuple(stack)
        self._turn.release()

    def _after_fork(self) -> None:
        self._pool = None  # its threads are the parent's
        self._turn = threading.RLock()


class _Current(threading.local):
    place: Place | None = None
    stack: tuple[Place | None, ...] = ()


_CURRENT = _Current()
_PLACES: weakref.WeakSet[Place] = weakref.WeakSet()
_SHARES: dict[tuple[int, int], list[Place]] = {}


def current_place() -> Place | None:
    """Where the calling thread computes; None where all do."""
    return _CURRENT.place


def shares(count: int) -> list[Place]:
    """`count` places that divide the threads of `get_num_threads()` among them; at least one
    each."""
    threads = get_num_threads()
    key = (threads, count)
    known = _SHARES.get(key)
    if known is None:
        sizes = [threads // count + (i < threads % count) for i in range(count)]
        known = _SHARES.setdefault(key, [Place(max(1, size)) for size in sizes])
    return known


def _after_fork() -> None:
    for place in list(_PLACES):
        place._after_fork()


os.register_at_fork(after_in_child=_after_fork)
