"""What ranks do together before they have a group: watched, as a group's operations are.

In: calls of MPI.  Out: their results, or an error that names who is missing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from braze.runtime.distributed.mpi import library
from braze.runtime.distributed.progress import Progress, Work

# How long it is asked again and again whether a communicator is made.
_BRISK = 0.05
# How often it is looked who has ended, and how long MPI has then to say so itself.
_LOOK = 0.05
_GRACE = 5.0


class Carrier:
    """The making of a group.

    Args:
        what: for messages.
        group: its number. ranks: of its members in the world.
        timeout: seconds that each step may take.
    """

    def __init__(
        self, progress: Progress, what: str, group: int, ranks: Sequence[int], timeout: float
    ) -> None:
        self.progress = progress
        self.what = what
        self.group = group
        self.ranks = tuple(ranks)
        self.timeout = timeout

    def carry(self, start: Callable[[], Any], *kept: Any) -> None:
        """Wait until a request is complete.

        Args:
            kept: the memory that it reads or writes.

        Raises: DistBackendError if a rank is gone, or time is over.
        """
        work = Work(self.progress, self.what, self.group, 0, self.ranks, self.timeout)
        self.progress.begin(work, start, kept).wait()

    def duplicate(self, comm: Any) -> Any:
        """Another communicator of the same ranks.  Raises: as `carry`."""
        copies: list[Any] = []

        def begin() -> Any:
            copy, request = comm.Idup()
            copies.append(copy)
            # Briskly: Open MPI may crash if it learns of a rank's end meanwhile.
            end = time.monotonic() + _BRISK
            while not request.Test() and time.monotonic() < end:
                time.sleep(0)
            return request

        self.carry(begin, copies)
        return copies[0]

    def made(self, make: Callable[[], Any]) -> Any:
        """A communicator, by a call that blocks. Everybody is there; but if a rank of this host
        ends meanwhile, MPI may never return: then this process ends, too, and says why."""
        made: list[Any] = []

        def call() -> Any:
            with self._guarded():
                made.append(make())
            return library().REQUEST_NULL

        self.carry(call, made)
        return made[0]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        over = threading.Event()
        guard = threading.Thread(target=self._guard, args=(over,), daemon=True)
        guard.start()
        try:
            yield
        finally:
            over.set()
            guard.join()

    def _guard(self, over: threading.Event) -> None:
        watch = self.progress.watch
        assert watch is not None
        lost: float | None = None
        while not over.wait(_LOOK):
            gone = [rank for rank in self.ranks if watch.has_ended(rank)]
            now = time.monotonic()
            lost = None if not gone else now if lost is None else lost
            if lost is not None and now - lost > _GRACE:
                said = "; ".join(f"rank {r} ({watch.processes[r]}) has ended" for r in gone)
                os.write(2, f"braze: [{self.what}] cannot be completed: {said}\n".encode())
                os._exit(1)
