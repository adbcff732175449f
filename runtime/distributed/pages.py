"""Pages of the arena that other processes map, too.

In: where an array lies in the arena.  Out: the same memory as part of a `SharedBlock`.

The pages are taken out from under the arena, and a file's are mapped in their place, at the same
addresses and with what they held. They stay, so that this happens once for a training step. A graph
that does not get to its end leaves them to whoever still writes to them: the arena gets pages of
its own again. A process that is forked gets pages of its own, too.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from braze.runtime.libc import map_over
from braze.runtime.shared_blocks import SharedBlock, new_block
from braze.runtime.storage import HUGE_BLOCK_BYTES
from braze.runtime.workspace import Workspace

Array = np.ndarray[Any, np.dtype[Any]]
Span = tuple[int, int]  # the address of the first page, and that behind the last


class SharedPages:
    """The shared pages of one workspace's arena."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._blocks: dict[Span, SharedBlock] = {}
        self._wanted: set[Span] = set()
        workspace.before_change = self.leave
        os.register_at_fork(after_in_child=self.leave)

    def place_of(self, array: Array, *, is_quiet: bool) -> tuple[SharedBlock, int] | None:
        """The block that an array's memory is part of from now on, and the byte in it.

        None if it does not lie in the arena, or not all of its pages are shared.

        Args:
            is_quiet: nobody uses any of the pages through their blocks now, so more of them can be
                shared. Else that waits until it is so.
        """
        begin = array.ctypes.data
        first = begin & -mmap.PAGESIZE
        end = -(-(begin + array.nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE
        arena, nbytes = self._workspace.addresses[0], self._workspace.arena_bytes
        # Smaller arenas are not made of whole pages.
        if nbytes < HUGE_BLOCK_BYTES or not arena <= begin <= end <= arena + nbytes:
            return None
        if not any(a <= first and end <= b for a, b in self._blocks):
            self._wanted.add((first, end))
            if is_quiet:
                self._share()
        for (start, stop), block in self._blocks.items():
            if start <= first and end <= stop:
                return block, begin - start
        return None

    def _share(self) -> None:
        """Share all that is wanted; pages that lie side by side are one block."""
        for first, end in _joined([*self._wanted, *self._blocks]):
            if (first, end) not in self._blocks:
                block = new_block(end - first)
                ctypes.memmove(block.address, first, end - first)
                for span in [s for s in self._blocks if first <= s[0] and s[1] <= end]:
                    del self._blocks[span]
                self._blocks[first, end] = block
                map_over(first, end - first, block.fd)
        self._wanted.clear()

    def leave(self) -> None:
        """Have pages of the arena's own again; what is in them is lost."""
        while self._blocks:
            (first, end), _ = self._blocks.popitem()
            map_over(first, end - first)
        self._wanted.clear()


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans without those that meet: these are one."""
    found: list[Span] = []
    for first, end in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((first, end))
    return found
