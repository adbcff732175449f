"""Start several processes of one function, and fail as soon as one of them fails."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

from braze import engine

TERMINATE_SECONDS = 30.0


class ProcessException(Exception):
    """A process failed.

    Attributes:
        msg: what happened. error_index: which of the processes. error_pid: its number.
    """

    def __init__(self, msg: str, error_index: int, error_pid: int) -> None:
        super().__init__(msg)
        self.msg = msg
        self.error_index = error_index
        self.error_pid = error_pid

    def __reduce__(self) -> Any:
        return type(self), (self.msg, self.error_index, self.error_pid)


class ProcessRaisedException(ProcessException):
    """The function raised an exception, whose traceback is in the message."""


class ProcessExitedException(ProcessException):
    """A process was ended by a signal or by itself.

    Attributes:
        exit_code: negative for a signal. signal_name: of the signal, or None.
    """

    def __init__(
        self,
        msg: str,
        error_index: int,
        error_pid: int,
        exit_code: int,
        signal_name: str | None = None,
    ) -> None:
        super().__init__(msg, error_index, error_pid)
        self.exit_code = exit_code
        self.signal_name = signal_name

    def __reduce__(self) -> Any:
        place = (self.msg, self.error_index, self.error_pid)
        return type(self), (*place, self.exit_code, self.signal_name)


def _run(fn: Callable[..., Any], index: int, args: Sequence[Any], errors: Connection) -> None:
    """A process's life."""
    engine.die_with_parent(signal.SIGINT)
    try:
        fn(index, *args)
    except KeyboardInterrupt:
        pass  # the parent has one too
    except Exception:
        with suppress(BrokenPipeError):
            errors.send(traceback.format_exc())
        sys.exit(1)


class ProcessContext:
    """Processes that were started together.

    Attributes:
        processes: in the order of their indices.
        sentinels: of those that still run, with their indices.
    """

    def __init__(self, processes: Sequence[Any], errors: Sequence[Connection]) -> None:
        self.processes = list(processes)
        self.sentinels = {process.sentinel: i for i, process in enumerate(self.processes)}
        self._errors = list(errors)
        self._texts: dict[int, str] = {}

    def pids(self) -> list[int]:
        """The processes' numbers."""
        return [process.pid for process in self.processes]

    def join(self, timeout: float | None = None, grace_period: float | None = None) -> bool:
        """Wait until one has failed or all have ended.

        Args:
            timeout: seconds to wait at most.
            grace_period: seconds that the others have to end by themselves when one failed.

        Returns:
            Whether all have ended.

        Raises:
            ProcessRaisedException, ProcessExitedException: one failed; the others are ended.
        """
        if not self.sentinels:
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        failed = self._wait(deadline)
        if failed is None:
            return not self.sentinels
        self._end_all(grace_period)
        self._raise(failed)

    def _wait(self, deadline: float | None) -> int | None:
        """Wait for some process to end; the index of one that failed."""
        open_errors = {c: i for i, c in enumerate(self._errors) if not c.closed}
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = wait([*self.sentinels, *open_errors], left)
            # A long traceback does not fit into the pipe: it is read before the process can end.
            for connection in ready:
                if isinstance(connection, Connection):
                    self._read(open_errors.pop(connection))
            ended = [item for item in ready if not isinstance(item, Connection)]
            for sentinel in ended:
                index = self.sentinels.pop(sentinel)  # type: ignore[call-overload]
                self.processes[index].join()
                self._read(index)
                if self.processes[index].exitcode != 0:
                    return int(index)
            if ended or not ready:
                return None

    def _read(self, index: int) -> None:
        connection = self._errors[index]
        if not connection.closed:
            with suppress(EOFError, OSError):
                if connection.poll():
                    self._texts[index] = connection.recv()
            connection.close()

    def _end_all(self, grace_period: float | None) -> None:
        if grace_period is not None:
            self._join_all(grace_period)
        for process in self.processes:
            if process.is_alive():
                process.terminate()
        self._join_all(TERMINATE_SECONDS if grace_period is None else grace_period)
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()

    def _join_all(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))

    def _raise(self, index: int) -> NoReturn:
        process = self.processes[index]
        text = self._texts.get(index)
        if text is not None:
            raise ProcessRaisedException(
                f"\n\n-- Process {index} terminated with the following error:\n{text}",
                index,
                process.pid,
            )
        code = process.exitcode
        if code >= 0:
            raise ProcessExitedException(
                f"process {index} terminated with exit code {code}", index, process.pid, code
            )
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"<Unknown signal {-code}>"
        raise ProcessExitedException(
            f"process {index} terminated with signal {name}", index, process.pid, code, name
        )


class SpawnContext(ProcessContext):
    """The former name of `ProcessContext`."""

    def __init__(self, processes: Sequence[Any], errors: Sequence[Connection]) -> None:
        warnings.warn("SpawnContext is renamed to ProcessContext since 1.4 release.", stacklevel=2)
        super().__init__(processes, errors)


def start_processes(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """Run `fn(index, *args)` in several processes.

    Args:
        nprocs: how many. join: wait for them. daemon: whether they end with this process.
        start_method: "spawn", "fork" or "forkserver".

    Returns:
        None, or without `join` the `ProcessContext`.

    Raises:
        ProcessRaisedException, ProcessExitedException: see `ProcessContext.join`.
    """
    context = multiprocessing.get_context(start_method)
    processes, errors = [], []
    for index in range(nprocs):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(  # type: ignore[attr-defined]
            target=_run, args=(fn, index, tuple(args), theirs), daemon=daemon
        )
        process.start()
        theirs.close()
        processes.append(process)
        errors.append(ours)
    started = ProcessContext(processes, errors)
    if not join:
        return started
    while not started.join():
        pass
    return None


def spawn(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """Run `fn(index, *args)` in several fresh processes; see `start_processes`."""
    if start_method != "spawn":
        warnings.warn(
            f"This method only supports start_method=spawn (got: {start_method}).\n"
            "To use a different start_method use braze.multiprocessing.start_processes(...)",
            FutureWarning,
            stacklevel=2,
        )
    return start_processes(fn, args, nprocs, join, daemon, start_method="spawn")
