"""What ranks do together before they have a group: watched, as a group's operations are.

In: calls of MPI.  Out: their results, or an error that names who is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from braze.runtime.distributed.mpi import library
from braze.runtime.distributed.progress import Progress, Work


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

    def made(self, make: Callable[[], Any]) -> Any:
        """A communicator, by a call of MPI that blocks, also for ever where a rank has ended: it is
        left alone then.  Raises: as `carry`."""
        call = _Call(make)
        self.carry(call.begin, call)
        return call.result


class _Call:
    """A request as `Progress` asks it: a call in a thread of its own, where MPI allows that."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="braze-group", daemon=True)

    def begin(self) -> _Call:
        if library().Query_thread() == library().THREAD_MULTIPLE:
            self._thread.start()
        else:
            self._run()
        return self

    def _run(self) -> None:
        try:
            self.result = self._call()
        except library().Exception as error:
            self._error = error

    def Test(self, status: Any) -> bool:
        """Raises: the call's error."""
        if self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        return True
