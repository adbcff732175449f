"""The queue before a model: requests that wait become one call, in a worker thread.

In: arrays that are checked, and a function that runs the model.  Out: each request's results.
All but `_computed` runs on the event loop, so nothing is locked. A worker that becomes free takes
the oldest request and those others that may be computed with it; while all workers are busy,
requests gather, so that batches grow with the load.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from braze.runtime.serving.rows import Rows

log = logging.getLogger("braze.serving")

Arrays = list[np.ndarray]


@dataclass(eq=False, slots=True)
class _Job:
    """A request that waits; `done` is cancelled where nobody waits for it any more."""

    arrays: Arrays
    rows: int
    key: bytes
    done: asyncio.Future[Arrays]
    begun: float = field(default_factory=time.monotonic)


class Batcher:
    """Runs requests, several as one where `rows` is given.

    Args:
        call: runs the model, in a worker thread.
        rows: how requests are put together, or None.
        most_rows: of requests that are put together.
        delay: seconds for which a request waits for others while a worker is free.
        workers: threads.
        seen: told the number of requests, of rows, and the seconds of each call that succeeds.
    """

    def __init__(
        self,
        call: Callable[[Arrays], Arrays],
        rows: Rows | None,
        *,
        most_rows: int,
        delay: float,
        workers: int,
        seen: Callable[[int, int, float], None],
    ) -> None:
        self._call = call
        self._rows = rows
        self._most_rows = most_rows
        self._delay = delay
        self._workers = workers
        self._seen = seen
        self._queue: deque[_Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.running = 0

    @property
    def waiting(self) -> int:
        """Requests that no worker has taken."""
        return len(self._queue)

    async def start(self) -> None:
        """Take requests from now on, in the running event loop."""
        self._free = asyncio.Semaphore(self._workers)
        self._arrived = asyncio.Event()
        self._threads = ThreadPoolExecutor(self._workers, "braze-worker")
        self._dispatcher = asyncio.create_task(self._dispatch())

    async def stop(self) -> None:
        """Take no more requests; those that run are not waited for."""
        self._dispatcher.cancel()
        await asyncio.gather(self._dispatcher, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, arrays: Arrays, rows: int) -> Arrays:
        """A request's results; cancelled, it is not computed unless it has begun.

        Raises: what the model raises for this request.
        """
        key = b"" if self._rows is None else self._rows.key(arrays)
        job = _Job(arrays, rows, key, asyncio.get_running_loop().create_future())
        self._queue.append(job)
        self._arrived.set()
        try:
            return await job.done
        finally:
            if job.done.cancelled() and job in self._queue:
                self._queue.remove(job)

    async def _dispatch(self) -> None:
        while True:
            await self._free.acquire()
            await self._some()
            if self._rows is not None:
                # What has arrived by now is read before a batch is closed.
                await asyncio.sleep(0)
                await self._enough()
            jobs = self._taken()
            if not jobs:  # given up while others were waited for
                self._free.release()
                continue
            self.running += len(jobs)
            task = asyncio.create_task(self._run(jobs))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _some(self) -> None:
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()

    async def _enough(self) -> None:
        """Wait until a batch is full, or its oldest request has waited for long enough."""
        while self._queue and sum(job.rows for job in self._queue) < self._most_rows:
            left = self._queue[0].begun + self._delay - time.monotonic()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _taken(self) -> list[_Job]:
        """The oldest request, and all that fit with it."""
        if not self._queue:
            return []
        first = self._queue.popleft()
        if self._rows is None:
            return [first]
        jobs, left, rest = [first], self._most_rows - first.rows, []
        for job in self._queue:
            if job.rows <= left and job.key == first.key:
                jobs.append(job)
                left -= job.rows
            else:
                rest.append(job)
        self._queue = deque(rest)
        return jobs

    async def _run(self, jobs: list[_Job]) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, self._computed, jobs)
            for job, result in zip(jobs, found, strict=True):
                if job.done.done():
                    continue
                if isinstance(result, Exception):
                    job.done.set_exception(result)
                else:
                    job.done.set_result(result)
        finally:
            self.running -= len(jobs)
            self._free.release()
            for job in jobs:
                job.done.cancel()  # nothing, unless the worker was stopped

    def _computed(self, jobs: Sequence[_Job]) -> list[Arrays | Exception]:
        """The results of each request, or its error."""
        if len(jobs) > 1 and self._rows is not None:
            try:
                joined = self._rows.joined([job.arrays for job in jobs])
                results = self._timed(joined, len(jobs), sum(job.rows for job in jobs))
                return [*self._rows.cut(results, [job.rows for job in jobs])]
            except Exception as error:
                # One request's fault must not be another's: each is computed alone.
                reason = str(error).partition("\n")[0]
                log.warning(
                    "a call for %d requests failed, each is alone now: %s", len(jobs), reason
                )
        found: list[Arrays | Exception] = []
        for job in jobs:
            try:
                found.append(self._timed(job.arrays, 1, job.rows))
            except Exception as error:
                found.append(error)
        return found

    def _timed(self, arrays: Arrays, requests: int, rows: int) -> Arrays:
        begin = time.perf_counter()
        results = self._call(arrays)
        self._seen(requests, rows, time.perf_counter() - begin)
        return results
