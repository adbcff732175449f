"""The processes that a launcher has started, from joining to leaving.

In: MPI's world.  Out: a `World` with the communicators of all groups.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from braze.ir.collectives import Alone, use
from braze.runtime.distributed.captured import Captured
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
        self.progress = Progress()
        self.watch = Watch(self.progress, comm.Dup(), processes)
        self.progress.watch = self.watch
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.groups = {0: self._communicator(comm.Dup(), 0, range(self.size), timeout)}
        use(Captured(self.groups))
        self._made = 0
        self._active = True
        self._process = os.getpid()
        atexit.register(self._at_exit)

    @property
    def is_own(self) -> bool:
        """Whether this is still the process that joined, and not a fork of it."""
        return os.getpid() == self._process

    def new_group(self, ranks: Sequence[int], timeout: float) -> Communicator | None:
        """A group of some ranks; every rank of the world must call it, and gets None if it is no
        member."""
        self.groups[0].barrier(timeout).wait()  # what follows waits without an eye on anybody
        self._made += 1
        number = self._made
        if self.rank not in ranks:
            return None
        with self.progress.lock:
            world = self.groups[0].comm
            comm = world.Create_group(world.Get_group().Incl(list(ranks)), number)
            made = self._communicator(comm, number, ranks, timeout)
        self.groups[number] = made
        return made

    def _communicator(
        self, comm: Any, number: int, ranks: Sequence[int], timeout: float
    ) -> Communicator:
        """Called by all members, who are there."""
        processes = [self.watch.processes[rank] for rank in ranks]
        hosts = {(process.host, process.namespace) for process in processes}
        local = None
        if len(ranks) > 1 and len(hosts) == 1 and os.path.exists("/proc/self/fd"):
            local = LocalRanks.met(comm.Dup(), [process.number for process in processes])
        if local is not None:
            cpu_workspace.arena_from(new_arena)
        return Communicator(self.progress, comm, number, ranks, timeout, local)

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
                if group.local is not None:
                    group.local.comm.Free()
            self.watch.control.Free()
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

    Raises: DistBackendError, naming those that have not.
    """
    own = Process.own()
    rank, size = comm.Get_rank(), comm.Get_size()
    found = {rank: own}
    sending = [comm.isend(own, other, _HELLO) for other in range(size) if other != rank]
    end = time.monotonic() + timeout
    status = library().Status()
    while len(found) < size or not all(request.Test() for request in sending):
        if comm.iprobe(tag=_HELLO, status=status):
            source = status.Get_source()
            found[source] = comm.recv(source=source, tag=_HELLO)
        elif time.monotonic() > end:
            missing = ", ".join(str(r) for r in range(size) if r not in found)
            raise DistBackendError(
                f"[init_process_group] of {size} ranks these have not come within {timeout:g} s: "
                f"{missing}"
            )
        else:
            time.sleep(1e-3)
    return found
