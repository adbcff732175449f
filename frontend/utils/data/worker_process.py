"""The life of a worker process: it fetches the batches that it is told to, until it is let go.

Messages to it:  ("begin", round, seed), then ("fetch", round, task, indices, returned, lost) ...,
and None to end.  Answers:  (round, task, kind) with a batch, a worker's number or an exception.
"""

from __future__ import annotations

import os
import random
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from braze import engine
from braze.random import manual_seed
from braze.utils.data.fetch import FetchPlan
from braze.utils.data.transport import DATA, END, FAILED, Outbox
from braze.wrapped_errors import ExceptionWrapper

POLL_SECONDS = 2.0  # how often to look for the parent, where the system does not tell


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


class _Messages:
    """What the worker was told and has not done yet."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[Any] = deque()
        parent = parent_process()
        self._parent: int = (parent.pid if parent is not None else None) or os.getppid()
        self._orphaned: int | None = None
        with suppress(AttributeError, OSError):
            # Readable once the parent has ended. The connection alone would not tell: other
            # processes forked by the parent may hold its other end too.
            self._orphaned = os.pidfd_open(self._parent)

    def next(self) -> Any:
        """The next message; None to end, at once when it has come."""
        while not self._waiting or self._connection.poll():
            if not self._waiting and not self._wait():
                return None
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                return None
            if message is None:
                return None
            if message[0] == "begin":
                self._waiting.clear()  # nobody waits for the last round any more
            self._waiting.append(message)
        return self._waiting.popleft()

    def _wait(self) -> bool:
        """Wait for a message; False if the parent has ended."""
        sources: list[Any] = [self._connection]
        if self._orphaned is not None:
            sources.append(self._orphaned)
        while True:
            ready = wait(sources, None if self._orphaned is not None else POLL_SECONDS)
            if self._connection in ready:
                return True
            if ready or not _is_running(self._parent):
                return False


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def seed_all(base: int, number: int) -> None:
    """Seed Braze, `random` and NumPy: the first two with base + number, NumPy with words derived
    from both, as PyTorch does."""
    manual_seed(base + number)
    random.seed(base + number)
    entropy = [number, base & 0xFFFFFFFF, base >> 32, 0]
    np.random.seed(np.random.SeedSequence(entropy).generate_state(4))


def work(
    number: int,
    count: int,
    plan: FetchPlan,
    prepare: Callable[[int], Any] | None,
    connection: Connection,
    receiver: int,
    inherited: list[Connection],
) -> None:
    """A worker's whole life.

    Args:
        receiver: the process that batches are for.
        inherited: connections of other processes, which a fork copied.
    """
    with suppress(KeyboardInterrupt, BrokenPipeError, ConnectionResetError):  # the user's process
        _end_by_interrupts_in_destructors()
        for other in inherited:
            other.close()
        # Small graphs that may never come back: not worth a compiler, nor threads, in every worker.
        engine.config.tier = "interpret"
        engine.set_num_threads(1)
        _serve(number, count, plan, prepare, connection, Outbox(connection, receiver))


def _end_by_interrupts_in_destructors() -> None:
    """Python reports and forgets what a destructor raises: the worker would go on, noisily."""
    report = sys.unraisablehook

    def end(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            sys.stdout.flush()
            os._exit(0)
        report(unraisable)

    sys.unraisablehook = end


def _serve(
    number: int,
    count: int,
    plan: FetchPlan,
    prepare: Callable[[int], Any] | None,
    connection: Connection,
    outbox: Outbox,
) -> None:
    messages = _Messages(connection)
    fetch: Callable[[Any], Any] | None = None
    failure: ExceptionWrapper | None = None
    where = f"in DataLoader worker process {number}"
    prepared = False
    while (message := messages.next()) is not None:
        if message[0] == "begin":
            base = message[2]
            _Here.info = WorkerInfo(number, count, base + number, plan.dataset)
            seed_all(base, number)
            try:
                failure = None
                if not prepared and prepare is not None:
                    prepare(number)
                prepared = True
                fetch = plan.start()
            except Exception:
                failure = ExceptionWrapper(where=where).for_another_process()
            continue
        _, this_round, task, indices, returned, lost = message
        outbox.recycle(returned, lost)
        if failure is not None:
            outbox.send((this_round, task, FAILED), failure)
            continue
        assert fetch is not None
        try:
            outbox.send((this_round, task, DATA), fetch(indices))
        except StopIteration:
            outbox.send((this_round, task, END), number)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception:
            wrapped = ExceptionWrapper(where=where).for_another_process()
            outbox.send((this_round, task, FAILED), wrapped)
