"""Memory that every graph of a device shares: the arena, the threads' scratch, the status.

In: how much a graph needs.  Out: addresses, valid until the next `reserve`.  A fresh block
costs more than the arithmetic on it, as the system clears its pages; one that only grows is
cleared once and stays in the caches.  Whoever uses it holds `lock`, so calls are serialised.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Protocol

from braze.ir.target import STATUS_WORDS
from braze.runtime.stats import stats
from braze.runtime.storage import Storage


class Memory(Protocol):
    """A block of memory, as long as the object lives."""

    @property
    def address(self) -> int: ...
    @property
    def nbytes(self) -> int: ...


class Workspace:
    """The shared memory of one device.

    Attributes:
        lock: held from `reserve` until the graph's call is over.
        status: what compiled code reports; its first word is zero while nothing failed. The last
            word is the caller's: where a program with host calls finds their function.
        generation: changes when an address does.
        threads: for how many threads the scratch suffices, at `scratch_bytes` each.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.status = (ctypes.c_int64 * STATUS_WORDS)()
        self.generation = 0
        self._new_arena: Callable[[int], Memory] = Storage
        self._arena: Memory = Storage(64)
        self._scratch = Storage(64)
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        # Another thread of the parent may have held the lock, in the middle of a call.
        self.lock = threading.Lock()
        if self._new_arena is not Storage:  # the parent goes on using what it shares
            self._new_arena = Storage
            self.leave_arena()

    @property
    def arena(self) -> Memory:
        """The arena."""
        return self._arena

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Where the arena, the scratch and the status lie."""
        return self._arena.address, self._scratch.address, ctypes.addressof(self.status)

    @property
    def arena_bytes(self) -> int:
        """Size of the arena."""
        return self._arena.nbytes

    def reserve(self, arena_bytes: int, scratch_bytes: int) -> None:
        """Make the arena and the scratch at least this large."""
        if arena_bytes > self._arena.nbytes:
            # The old block goes first: the peak is the larger of the two, not their sum.
            self._arena = Storage(0)
            self.generation += 1
            self._arena = self._new_arena(arena_bytes)
            stats.arena_bytes = self._arena.nbytes
        if scratch_bytes > self._scratch.nbytes:
            self._scratch = Storage(scratch_bytes)
            self.generation += 1

    def arena_from(self, new: Callable[[int], Memory]) -> None:
        """From now on the arena is what a function makes of its size."""
        with self.lock:
            if new is not self._new_arena:
                self._new_arena = new
                self.leave_arena()

    def leave_arena(self) -> None:
        """Have another arena next time: others may use this one's memory still. The caller has the
        lock."""
        self._arena = Storage(64)
        self.generation += 1
        stats.arena_bytes = 0

    def release(self) -> None:
        """Give the memory back; it grows again when needed."""
        with self.lock:
            self._scratch = Storage(64)
            self.leave_arena()


cpu_workspace = Workspace()
