"""Worker processes that prepare batches ahead.

Each worker has a queue of its own for tasks (number, indices); all answer on one queue. Batches
come out in the order of the tasks, which go to the workers in turn, so the result does not depend
on timing. A batch travels as NumPy arrays.
"""

from __future__ import annotations

import multiprocessing
import queue
import random
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from braze import engine
from braze.capture import flush
from braze.random import manual_seed
from braze.tensors import Tensor, from_array
from braze.utils.data.fetch import FetchPlan

POLL_SECONDS = 2.0  # how often a wait looks whether the workers are alive
JOIN_SECONDS = 5.0

# What an answer is.
DATA, END, FAILED = "data", "end", "failed"


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker process knows of itself: its number, their number, its seed and data set."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


class _Here:
    """This process's part."""

    info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a worker process: its number and the like, by which a data set can take its share. Else
    None.
    """
    return _Here.info


class _Array:
    """A tensor on its way between processes."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def _mapped(data: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """The same structure with everything of a type converted."""
    if isinstance(data, kind):
        return convert(data)
    if isinstance(data, dict):
        return type(data)((key, _mapped(item, kind, convert)) for key, item in data.items())
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(_mapped(item, kind, convert) for item in data))
    if isinstance(data, (tuple, list)):
        return type(data)(_mapped(item, kind, convert) for item in data)
    return data


def pack(data: Any) -> Any:
    """A batch with its tensors as arrays."""
    return _mapped(data, Tensor, lambda tensor: _Array(tensor._numpy()))


def unpack(data: Any) -> Any:
    """What `pack` packed."""
    return _mapped(data, _Array, lambda packed: from_array(packed.array))


@dataclass(frozen=True)
class _Failure:
    """An exception in a worker, as the main process raises it again."""

    kind: type[BaseException]
    text: str

    def reraise(self) -> None:
        try:
            error = self.kind(self.text)
        except Exception:  # an exception whose constructor takes something else
            error = RuntimeError(self.text)
        raise error


def _failure(number: int) -> _Failure:
    error = traceback.format_exc()
    kind = sys.exc_info()[0] or RuntimeError
    return _Failure(
        kind if kind.__module__ in ("builtins", "braze.ir.errors") else RuntimeError,
        f"Caught {kind.__name__} in DataLoader worker process {number}.\nOriginal {error}",
    )


def _work(
    number: int,
    count: int,
    plan: FetchPlan,
    prepare: Callable[[int], Any] | None,
    tasks: Any,
    answers: Any,
) -> None:
    """A worker's life: ("begin", round, seed), then (round, task, indices) ..., and None to end."""
    # Small graphs that may never come back: not worth a compiler in every worker.
    engine.config.tier = "interpret"
    fetch: Callable[[Any], Any] | None = None
    failure: _Failure | None = None
    started = False
    while (message := tasks.get()) is not None:
        if message[0] == "begin":
            _, seed = message[1:]
            _Here.info = WorkerInfo(number, count, seed + number, plan.dataset)
            _seed_all(seed + number)
            try:
                failure = None
                if not started and prepare is not None:
                    prepare(number)
                started = True
                fetch = plan.start()
            except Exception:
                failure = _failure(number)
            continue
        this_round, task, indices = message
        if failure is not None:
            answers.put((this_round, task, FAILED, failure))
            continue
        assert fetch is not None
        try:
            answer = (this_round, task, DATA, pack(fetch(indices)))
        except StopIteration:
            answer = (this_round, task, END, number)
        except Exception:
            answer = (this_round, task, FAILED, _failure(number))
        answers.put(answer)


def _seed_all(seed: int) -> None:
    manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % (1 << 32))


class WorkerPool:
    """The worker processes of a loader; they end when the pool is no longer used."""

    def __init__(
        self,
        plan: FetchPlan,
        count: int,
        ahead: int,
        timeout: float,
        prepare: Callable[[int], Any] | None,
        context: Any,
    ) -> None:
        if context is None or isinstance(context, str):
            context = multiprocessing.get_context(context or "fork")
        self.count = count
        self.ahead = ahead
        self.timeout = timeout
        self.rounds = 0
        flush()  # so that no worker inherits operations that have not run
        self.answers: Any = context.Queue()
        self.tasks: list[Any] = [context.SimpleQueue() for _ in range(count)]
        self.processes: list[Any] = []
        for number, tasks in enumerate(self.tasks):
            arguments = (number, count, plan, prepare, tasks, self.answers)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            self.processes.append(process)
        self.close = weakref.finalize(self, _end, self.processes, self.tasks, self.answers)

    def run(self, order: Iterator[Any], seed: int, close: bool) -> WorkerIterator:
        """Begin another round over the data set; `close` ends the workers with it."""
        self.rounds += 1
        for tasks in self.tasks:
            tasks.put(("begin", self.rounds, seed))
        return WorkerIterator(self, order, self.rounds, close)

    def next_answer(self) -> tuple[int, int, str, Any]:
        """Wait for any worker.

        Raises:
            RuntimeError: a worker died, or the time is up.
        """
        waited_since = time.monotonic()
        patience = min(POLL_SECONDS, self.timeout or POLL_SECONDS)
        while True:
            try:
                answer: tuple[int, int, str, Any] = self.answers.get(timeout=patience)
                return answer
            except queue.Empty:
                dead = [p for p in self.processes if not p.is_alive()]
                if dead:
                    self.close()
                    raise RuntimeError(
                        f"DataLoader worker (pid {dead[0].pid}) exited unexpectedly, exit code "
                        f"{dead[0].exitcode}"
                    ) from None
                if self.timeout and time.monotonic() - waited_since >= self.timeout:
                    raise RuntimeError(
                        f"DataLoader timed out after {self.timeout} seconds"
                    ) from None


def _end(processes: list[Any], tasks: list[Any], answers: Any) -> None:
    """Let the workers go, by force if they do not."""
    for process, queue_ in zip(processes, tasks, strict=True):
        if process.is_alive():
            queue_.put(None)
    # A worker cannot end while it has answers that nobody takes.
    deadline = time.monotonic() + JOIN_SECONDS
    for process in processes:
        while process.is_alive() and time.monotonic() < deadline:
            try:
                answers.get(timeout=0.01)
            except (queue.Empty, EOFError, OSError):
                process.join(0.01)
        if process.is_alive():
            process.terminate()
        process.join(JOIN_SECONDS)
    answers.close()


class WorkerIterator:
    """One round over a data set by worker processes, in the order of the tasks."""

    def __init__(self, pool: WorkerPool, order: Iterator[Any], number: int, close: bool) -> None:
        self._pool = pool
        self._order = order
        self._round = number
        self._close = close
        self._next_task = 0
        self._expected = 0
        self._turn = 0
        self._ended: set[int] = set()  # workers whose data set is exhausted
        self._owner: dict[int, int] = {}  # task -> worker, for tasks under way
        self._arrived: dict[int, tuple[str, Any]] = {}
        for _ in range(pool.count * pool.ahead):
            self._give()

    def __iter__(self) -> WorkerIterator:
        return self

    def _give(self) -> None:
        """Give the next task to the next worker that has not ended."""
        pool = self._pool
        if len(self._ended) == pool.count:
            return
        try:
            indices = next(self._order)
        except StopIteration:
            return
        while self._turn % pool.count in self._ended:
            self._turn += 1
        worker = self._turn % pool.count
        self._turn += 1
        self._owner[self._next_task] = worker
        pool.tasks[worker].put((self._round, self._next_task, indices))
        self._next_task += 1

    def __next__(self) -> Any:
        flush()  # an iteration ends here
        if self._round != self._pool.rounds:
            raise RuntimeError("the loader was iterated anew, which took this iterator's workers")
        while self._expected < self._next_task:
            while self._expected not in self._arrived:
                number, task, kind, value = self._pool.next_answer()
                if number == self._round:
                    self._arrived[task] = (kind, value)
            kind, value = self._arrived.pop(self._expected)
            self._owner.pop(self._expected)
            self._expected += 1
            if kind == END:
                self._ended.add(value)
                self._give()
                continue
            self._give()
            if kind == FAILED:
                value.reraise()
            return unpack(value)
        if self._close:
            self._pool.close()
        raise StopIteration
