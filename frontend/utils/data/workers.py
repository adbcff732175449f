"""The processes that prepare batches ahead, seen from the one that uses them.

Each worker has a connection of its own, so none can hold another up, not even by being killed.
Tasks go to the workers in turn and batches come out in the order of the tasks, so the result does
not depend on timing.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from braze.capture import flush
from braze.utils.data.fetch import FetchPlan
from braze.utils.data.transport import DATA, END, FAILED, Inbox
from braze.utils.data.worker_process import work

JOIN_SECONDS = 5.0

Answer = tuple[int, int, str, Any]  # round, task, what it is, and the batch


class WorkerPool:
    """The worker processes of a loader; they end when the pool is no longer used."""

    def __init__(
        self,
        plan: FetchPlan,
        count: int,
        timeout: float,
        prepare: Callable[[int], Any] | None,
        context: Any,
    ) -> None:
        if context is None:
            context = multiprocessing
        self.count = count
        self.timeout = timeout
        self.connections: list[Any] = []
        self.processes: list[Any] = []
        self.close = weakref.finalize(self, _end, self.processes, self.connections, os.getpid())
        self._inboxes: list[Inbox] = []
        self._poll = select.poll()
        self._conversation: dict[int, int] = {}  # descriptor -> worker
        flush()  # so that no worker inherits operations that have not run
        is_fork = context.get_start_method() == "fork"
        for number in range(count):
            ours, theirs = context.Pipe()
            self.connections.append(ours)
            inherited = list(self.connections) if is_fork else []
            arguments = (number, count, plan, prepare, theirs, os.getpid(), inherited)
            process = context.Process(target=work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self._inboxes.append(Inbox(ours))
            self._conversation[ours.fileno()] = number
            self._poll.register(ours.fileno(), select.POLLIN)
            self._poll.register(process.sentinel, select.POLLIN)

    def begin(self, number: int, seed: int) -> None:
        """Begin another round over the data set."""
        for worker in range(self.count):
            self._tell(worker, ("begin", number, seed))

    def give(self, worker: int, number: int, task: int, indices: Any) -> None:
        """Give a worker a task of a round."""
        returned, lost = self._inboxes[worker].returned()
        self._tell(worker, ("fetch", number, task, indices, returned, lost))

    def _tell(self, worker: int, message: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died: found when waiting
            self.connections[worker].send(message)

    def answers(self, wait: bool) -> Iterator[Answer]:
        """The answers that have come.

        Args:
            wait: for the first, if there is none.

        Raises:
            RuntimeError: a worker has died, or the time is up.
        """
        began = time.monotonic()
        while True:
            ready = self._poll.poll(self._patience(began) if wait else 0)
            found = False
            for descriptor, _ in ready:
                worker = self._conversation.get(descriptor)
                if worker is None:
                    continue
                try:
                    head, data = self._inboxes[worker].receive()
                except (EOFError, OSError):
                    continue
                found = True
                yield (*head, data)
            if found or not wait:
                return
            if ready:
                self._find_dead()
            elif self.timeout and time.monotonic() - began >= self.timeout:
                raise RuntimeError(f"DataLoader timed out after {self.timeout} seconds")

    def _patience(self, began: float) -> float | None:
        """Milliseconds to wait; None for ever."""
        if not self.timeout:
            return None
        return max(0.0, began + self.timeout - time.monotonic()) * 1000

    def _find_dead(self) -> None:
        """Raise if a worker has died. Its connection ends before it does: wait for that."""
        for process in self.processes:
            process.join(0.1)
        dead = [process for process in self.processes if not process.is_alive()]
        if not dead:
            return
        self.close()
        pids = ", ".join(str(process.pid) for process in dead)
        raise RuntimeError(
            f"DataLoader worker (pid(s) {pids}) exited unexpectedly"
        ) from RuntimeError(_how_it_ended(dead[0].pid, dead[0].exitcode))


def _how_it_ended(pid: int, code: int) -> str:
    if code >= 0:
        return f"DataLoader worker (pid {pid}) exited with exit code {code}"
    name = signal.strsignal(-code) if -code in signal.valid_signals() else str(-code)
    return f"DataLoader worker (pid {pid}) is killed by signal: {name}."


def _end(processes: list[Any], connections: list[Any], owner: int) -> None:
    """Let the workers go, by force if they do not."""
    if os.getpid() != owner:
        return  # a forked copy of the pool
    for connection in connections:
        with suppress(OSError, ValueError):
            connection.send(None)
        connection.close()
    deadline = time.monotonic() + JOIN_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.terminate()
            process.join(JOIN_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


class Round:
    """One round over a data set by worker processes.

    Args:
        order: the indices of each task.
        ahead: tasks that each worker is given ahead.
        in_order: whether batches come out in the order of the tasks, or as they are ready.
    """

    def __init__(
        self,
        pool: WorkerPool,
        order: Iterator[Any],
        number: int,
        seed: int,
        ahead: int,
        in_order: bool,
    ) -> None:
        self._pool = pool
        self._order = order
        self._number = number
        self._in_order = in_order
        self._next_task = 0
        self._expected = 0  # all tasks before it are done
        self._turn = 0
        self._ended: set[int] = set()  # workers whose data set is exhausted
        self._load = [0] * pool.count  # tasks that each worker has
        self._owner: dict[int, int] = {}  # task -> worker, for tasks under way
        self._arrived: dict[int, tuple[str, Any]] = {}
        self._ahead = ahead
        pool.begin(number, seed)
        for _ in range(pool.count * ahead):
            self._give()

    def _give(self) -> None:
        """Give the next task to the next worker that has not ended."""
        self._collect(wait=False)  # so that none waits for its answer to be taken
        worker = self._next_worker()
        if worker is None:
            return
        try:
            indices = next(self._order)
        except StopIteration:
            return
        self._owner[self._next_task] = worker
        self._load[worker] += 1
        self._pool.give(worker, self._number, self._next_task, indices)
        self._next_task += 1

    def _next_worker(self) -> int | None:
        for _ in range(self._pool.count):
            worker = self._turn % self._pool.count
            self._turn += 1
            if worker in self._ended:
                continue
            # Out of order, the next in turn may be busy, and another idle.
            if self._in_order or self._load[worker] < self._ahead:
                return worker
        return None

    def _collect(self, wait: bool) -> None:
        for number, task, kind, value in self._pool.answers(wait):
            if number == self._number:
                self._arrived[task] = (kind, value)

    def _next_arrived(self) -> int | None:
        """The task whose answer comes next, once it is there; None if there are no more."""
        while self._owner:
            task = self._expected if self._in_order else next(iter(self._arrived), -1)
            if task in self._arrived:
                return task
            self._collect(wait=True)
        return None

    def next(self) -> Any:
        """The next batch.

        Raises:
            StopIteration: there are no more. RuntimeError: a worker has died, or the time is up.
            What fetching the batch raised, with the worker's traceback.
        """
        while (task := self._next_arrived()) is not None:
            kind, value = self._arrived.pop(task)
            self._load[self._owner.pop(task)] -= 1
            self._expected += 1
            if kind == END:
                self._ended.add(value)
            self._give()
            if kind == FAILED:
                value.reraise()
            if kind == DATA:
                return value
        raise StopIteration
