"""Operations under way, and the thread that keeps them going.

In: MPI's requests.  Out: `Work`, which is done, or failed with an error that names who is missing.

MPI moves data only while somebody calls it. Whoever waits does that; a thread does it for those
who compute meanwhile: every call of MPI releases Python's lock, and the thread sleeps between two
looks, so compiled code hardly notices it. One lock is around all calls, so that MPI need not allow
several threads at a time, and operations begin in the order in which they are called.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from braze.runtime.distributed.errors import DistBackendError
from braze.runtime.distributed.mpi import library
from braze.runtime.observing import observing

if TYPE_CHECKING:
    from braze.runtime.distributed.watch import Watch

# Seconds between two looks at what is under way: at first, and at most.
_SHORT_NAP = 20e-6
_LONG_NAP = 1e-3
# ... of the thread while somebody else looks, and while nothing is under way.
_HELPED_NAP = 5e-3
_IDLE = 0.05
# How often one looks without sleeping before the first nap.
_SPINS = 20
# How often, in seconds, it is asked who is alive.
_WATCH_EVERY = 0.02


class Work:
    """An operation under way.

    Attributes:
        what: the operation, for messages.
        group: the number of its group.
        number: which operation of the group it is, from 1, once it has begun; 0 for messages,
            which are not counted.
        peers: the ranks that it needs.
        started: when, as the profiler counts.
        began, timeout: when, by the monotonic clock, and how many seconds it may take.
        asked: when the others were asked where they are, if it took longer.
        error: why it failed.
    """

    def __init__(
        self,
        progress: Progress,
        what: str,
        group: int,
        number: int,
        peers: Sequence[int],
        timeout: float,
    ) -> None:
        self.progress = progress
        self.what = what
        self.group = group
        self.number = number
        self.peers = tuple(peers)
        self.began = time.monotonic()
        self.started = time.perf_counter()
        self.timeout = timeout
        self.asked: float | None = None
        self.error: DistBackendError | None = None
        self.done = False
        self.source: int | None = None  # whom a message came from
        self.request: Any = None
        self.fault = ""  # what MPI or NCCL says against it
        self.kept: tuple[Any, ...] = ()  # memory that MPI reads or writes meanwhile
        self.finish: Callable[[], None] | None = None  # what is to be done with the data then
        self.abandon: Callable[[], None] | None = None  # what ends it where it will not by itself
        self.precede: Callable[[], None] | None = None  # of a GPU's: what comes next waits for it

    def wait(self, timeout: float | None = None) -> None:
        """Until it is done.

        Args:
            timeout: seconds from now, if others than those it was given.

        Raises: DistBackendError if a rank that it needs is gone, or time is over.
        """
        if timeout is not None:
            self.timeout = time.monotonic() - self.began + timeout
        self.progress.wait(self)
        if self.error is not None:
            raise self.error.with_traceback(None)

    def then(self, finish: Callable[[], None] | None) -> None:
        """Have something done with the data once they are there: at once if they are."""
        if finish is None:
            return
        with self.progress.lock:
            before = self.finish
            if self.done and self.error is None:
                finish()
            elif before is None:
                self.finish = finish
            else:
                self.finish = lambda: (before(), finish())[0]


class Progress:
    """What is under way in this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.flying: list[Work] = []
        self.failed: list[Work] = []  # MPI may still write to their memory, so it is never freed
        self.watch: Watch | None = None
        self._wake = threading.Event()
        self._helpers = 0
        self._looked = 0.0
        self._over = False
        self._thread = threading.Thread(target=self._run, name="braze-communication", daemon=True)
        self._thread.start()

    def begin(self, work: Work, start: Callable[[], Any], kept: tuple[Any, ...] = ()) -> Work:
        """Start an operation.

        Args:
            start: calls MPI; gives the request.
            kept: the memory that it reads or writes.

        Raises: DistBackendError if a rank that it needs is gone.
        """
        with self.lock:
            assert self.watch is not None
            self.watch.check(work)
            if work.number:
                work.number = self.watch.called(work.group, work.what)
            work.kept = kept
            try:
                work.request = start()
            except library().Exception as error:
                work.fault = f"MPI says: {error}"
            self.flying.append(work)
            self._poll([work])
        self._wake.set()
        return work

    def wait(self, work: Work) -> None:
        """Help all that is under way along until one is done."""
        if work.done:
            return
        self._helpers += 1
        try:
            nap, spins = _SHORT_NAP, _SPINS
            while not work.done:
                moved = self.look()
                if work.done:
                    break
                if moved:
                    nap = _SHORT_NAP
                elif spins:
                    spins -= 1
                else:
                    time.sleep(nap)
                    nap = min(nap * 1.5, _LONG_NAP)
        finally:
            self._helpers -= 1

    def look(self) -> bool:
        """Call MPI once for everything under way; whether something got on."""
        with self.lock:
            moved = self._poll(list(self.flying))
            now = time.monotonic()
            if self.watch is not None and now - self._looked >= _WATCH_EVERY:
                self._looked = now
                self.watch.look(now)
            return moved

    def fail(self, work: Work, error: DistBackendError) -> None:
        """Give up an operation; its memory stays, since MPI does not know."""
        self.flying.remove(work)
        self.failed.append(work)
        work.error = error
        work.done = True
        if work.abandon is not None:
            work.abandon()

    def close(self) -> None:
        """End the thread."""
        self._over = True
        self._wake.set()
        self._thread.join()

    def _poll(self, works: Sequence[Work]) -> bool:
        moved = False
        for work in works:
            try:
                complete = self._is_complete(work)
            except DistBackendError as error:
                self.fail(work, error)
                moved = True
                continue
            if complete:
                self.flying.remove(work)
                request, work.request = work.request, None
                finish, work.finish, work.kept = work.finish, None, ()
                if finish is not None:
                    finish()
                work.done = moved = True
                if observing.observer is not None:
                    start, end = work.started, time.perf_counter()
                    timed = getattr(request, "span", None)  # a GPU has a clock of its own
                    if timed is not None:
                        start, end = timed() or (start, end)
                    observing.observer.communicated(work.what, start, end)
            elif getattr(work.request, "is_moving", False):
                moved = True
        return moved

    def _is_complete(self, work: Work) -> bool:
        status = library().Status()
        try:
            complete = work.request is not None and bool(work.request.Test(status))
        except (library().Exception, OSError) as error:
            # Some libraries notice that a rank has failed. The watch will say which one.
            work.fault = str(error) if isinstance(error, OSError) else f"MPI says: {error}"
            work.request = None
            return False
        if complete and work.source is not None:
            work.source = status.Get_source()
        return complete

    def _run(self) -> None:
        nap = _SHORT_NAP
        while not self._over:
            if not self.flying:
                self._wake.wait(_IDLE)
                self._wake.clear()
                nap = _SHORT_NAP
            if self._over:
                return
            moved = self.look()
            if self._helpers:
                time.sleep(_HELPED_NAP)
            elif self.flying:
                nap = _SHORT_NAP if moved else min(nap * 1.5, _LONG_NAP)
                time.sleep(nap)
