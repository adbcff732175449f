"""The processes that a launcher has started, from joining to leaving.

In: MPI's world.  Out: a `World` with the communicators of all groups.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from braze.ir.collectives import Alone, use
from braze.runtime.distributed.captured import Captured
from braze.runtime.distributed.carrier import Carrier
from braze.runtime.distributed.communicator import Communicator
from braze.runtime.distributed.errors import DistBackendError
from braze.runtime.distributed.local import LocalRanks, new_arena
from braze.runtime.distributed.mpi import finalises_itself, library
from braze.runtime.distributed.progress import Progress
from braze.runtime.distributed.watch import Process, Watch
from braze.runtime.workspace import cpu_workspace

_HELLO = 2
# How long a rank stays after an error for the others to hear of it, and for the launcher to pass on
# what was printed: some end with the first ranks that fail.
_FAREWELL = 1.0


class World:
    """This process among all.

    Attributes:
        groups: the communicators of this rank by number; 0 is everybody's.
    """

    def __init__(self, timeout: float) -> None:
        """Join.

        Raises: DistBackendError if some ranks have not come in time.
        """
        comm = library().COMM_WORLD
        processes = _meet(comm, timeout)
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.progress = Progress()
        self.groups: dict[int, Communicator] = {}
        self._made = 0
        self._active = True
        self._process = os.getpid()
        atexit.register(self._at_exit)
        self.watch = Watch(self.progress, self.rank, processes)
        self.progress.watch = self.watch
        everybody = range(self.size)
        joining = Carrier(self.progress, "init_process_group", 0, everybody, timeout)
        own = joining.duplicate(comm)
        self.watch.talk(own)
        self.groups[0] = self._communicator(own, joining)
        use(Captured(self.groups))

    @property
    def is_own(self) -> bool:
        """Whether this is still the process that joined, and not a fork of it."""
        return os.getpid() == self._process

    def new_group(
        self, ranks: Sequence[int], timeout: float, parent: Communicator | None = None
    ) -> Communicator | None:
        """A group of some ranks.

        Args:
            ranks: of the world; those who call it at the same time may give others, if no rank is
                in two groups.
            parent: every rank of this group must call it, and gets None if it is no member of the
                new one; None: every rank of the world.
        """
        # Ranks may have made different groups before. What follows waits without an eye on anybody.
        callers = self.groups[0] if parent is None else parent
        number = self._made = callers.largest("new_group", self._made, timeout) + 1
        if self.rank not in ranks:
            return None
        making = Carrier(self.progress, "new_group", number, ranks, timeout)
        world = self.groups[0].comm
        members = world.Get_group().Incl(list(ranks))
        comm = making.made(lambda: world.Create_group(members, number))
        self.groups[number] = made = self._communicator(comm, making)
        return made

    def _communicator(self, comm: Any, making: Carrier) -> Communicator:
        """Called by all members, who are there."""
        processes = [self.watch.processes[rank] for rank in making.ranks]
        hosts = {(process.host, process.namespace) for process in processes}
        local = None
        if len(processes) > 1 and len(hosts) == 1 and os.path.exists("/proc/self/fd"):
            local = LocalRanks.met(comm, [process.number for process in processes], making)
        if local is not None:
            cpu_workspace.arena_from(new_arena)
        return Communicator(self.progress, comm, making.group, making.ranks, making.timeout, local)

    def leave(self, error: str | None = None, *, at_exit: bool = False) -> None:
        """End this rank's part: wait for the others, and let MPI end if everybody is there.

        Args:
            error: with which this rank ends; then nobody is waited for.
            at_exit: this is the program's end.
        """
        if not self._active or not self.is_own:
            return
        self._active = False
        use(Alone())
        atexit.unregister(self._at_exit)
        on_devices = [g.devices for g in self.groups.values() if g.devices is not None]
        if error is None:
            for devices in on_devices:
                devices.finish()
        with self.progress.lock:
            self.watch.leave(error)
        while error is None and not (self.watch.is_broken or self.watch.others_left()):
            self.progress.look()
            time.sleep(2e-3)
        if error is not None or self.watch.is_broken:
            _flush_output()
            time.sleep(_FAREWELL)
        for devices in on_devices:
            devices.close()
        self.progress.close()
        if error is None and not self.watch.is_broken:
            for group in self.groups.values():
                group.comm.Free()
            end_mpi = None if finalises_itself() else library().Finalize
        else:
            # MPI_Finalize, which mpi4py may call at the very end, would wait for who is gone.
            end_mpi = _end_at_once if finalises_itself() else None
        self.watch.close()
        if end_mpi is not None and at_exit:
            end_mpi()
        elif end_mpi is not None:
            atexit.register(end_mpi)

    def _at_exit(self) -> None:
        error: BaseException | None = getattr(sys, "last_value", None)
        text = None if error is None else f"{type(error).__name__}: {_first_line(error)}"
        self.leave(text, at_exit=True)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _end_at_once() -> None:
    _flush_output()
    os._exit(1)


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # there is none, or nobody reads it any more


def _meet(comm: Any, timeout: float) -> dict[int, Process]:
    """Wait for all ranks to come; their processes.

    Raises: DistBackendError, naming those that have not, or one that has ended before.
    """
    own = Process.own()
    rank, size = comm.Get_rank(), comm.Get_size()
    found = {rank: own}
    sending = {rank: library().REQUEST_NULL}
    for other in set(range(size)) - {rank}:
        with _naming(other):
            sending[other] = comm.isend(own, other, _HELLO)
    end = time.monotonic() + timeout
    while missing := [r for r in range(size) if r not in found or not _is_sent(sending[r], r)]:
        for source in missing:
            # One by one: some libraries refuse to look for anybody's once a rank is gone.
            with _naming(source):
                if source not in found and comm.iprobe(source=source, tag=_HELLO):
                    found[source] = comm.recv(source=source, tag=_HELLO)
        if time.monotonic() > end:
            raise DistBackendError(
                f"[init_process_group] of {size} ranks these have not come within {timeout:g} s: "
                f"{', '.join(map(str, missing))}"
            )
        time.sleep(1e-3)
    return found


def _is_sent(request: Any, to: int) -> bool:
    with _naming(to):
        return bool(request.Test())


@contextmanager
def _naming(rank: int) -> Iterator[None]:
    """Raises: DistBackendError where MPI says that a rank cannot be reached."""
    try:
        yield
    except library().Exception as error:
        raise DistBackendError(
            f"[init_process_group] rank {rank} cannot be reached: MPI says: {error}"
        ) from None
