"""Who is alive, who has ended, and who has not come.

In: what ranks tell each other beside their data.  Out: errors of the operations that can no longer
be completed, naming the ranks that they lack.

Three ways to learn about a rank:

* The ranks of one host hold descriptors of each other's processes, by which the system tells at
  once when one ends, however it does. They tell those on other hosts.
* A rank that ends of its own accord tells all others how many operations of each group it has
  called, and whether it ended with an error.
* When an operation takes longer than its timeout, its ranks are asked how far they are. Those that
  have not called it are named with what they called last; those that do not answer within some
  seconds are stopped, or their host is gone. Every rank's communication thread answers, whatever
  its program does meanwhile.
"""

from __future__ import annotations

import os
import select
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from braze.runtime.distributed.errors import DistBackendError
from braze.runtime.distributed.mpi import library
from braze.runtime.distributed.tags import for_watching

if TYPE_CHECKING:
    from braze.runtime.distributed.progress import Progress, Work

# How long what was sent before a rank ended may still be on its way.
_LAST_WORDS = 0.5
# How long after an operation's beginning MPI's own word that it failed is believed at the latest.
_FAULT = 10.0
# How long a rank has for saying where it is.
_ANSWER = 2.0
# How many operations of a group are remembered by name.
_REMEMBERED = 64


@dataclass(frozen=True)
class Process:
    """A rank's process: host, namespace of process numbers, and number."""

    host: str
    namespace: str
    number: int

    @staticmethod
    def own() -> Process:
        try:
            with open("/proc/sys/kernel/random/boot_id") as file:
                host = f"{os.uname().nodename} {file.read().strip()}"
            namespace = os.readlink("/proc/self/ns/pid")
        except OSError:
            host, namespace = os.uname().nodename, ""
        return Process(host, namespace, os.getpid())

    def __str__(self) -> str:
        return f"process {self.number} on {self.host.split()[0]}"


@dataclass
class _Calls:
    """The operations of one group so far: how many, and what the last ones were."""

    count: int = 0
    last: OrderedDict[int, str] = field(default_factory=OrderedDict)


class Watch:
    """What a rank knows of the others.

    Attributes:
        gone: why a rank is gone that has not said goodbye in good order.
        left: for a rank that has ended, how many operations it had called, by group.
        is_broken: whether an operation has failed or a rank is gone, here or where a rank has left,
            so that MPI cannot end in order.
    """

    def __init__(self, progress: Progress, rank: int, processes: Mapping[int, Process]) -> None:
        self.progress = progress
        self.rank = rank
        self.processes = processes
        self.control: Any = None  # until `talk`
        self.gone: dict[int, str] = {}
        self.left: dict[int, Mapping[int, int]] = {}
        self._others_broken = False
        self._since: dict[int, float] = {}  # when a rank was found to be gone or to have left
        self._calls: dict[int, _Calls] = {}
        self._answers: dict[tuple[int, int, int], tuple[int, str]] = {}
        self._sending: list[Any] = []
        self._descriptors: dict[int, int] = {}
        self._poll = select.poll()
        own = processes[self.rank]
        for rank, process in processes.items():
            same = (process.host, process.namespace) == (own.host, own.namespace)
            if rank != self.rank and same and hasattr(os, "pidfd_open"):
                self._hold(rank, process)

    def _hold(self, rank: int, process: Process) -> None:
        try:
            descriptor = os.pidfd_open(process.number)
        except ProcessLookupError:
            self._lost(rank, f"rank {rank} ({process}) has ended")
        except OSError:
            pass  # no such call here: timeouts remain
        else:
            self._descriptors[descriptor] = rank
            self._poll.register(descriptor, select.POLLIN)

    @property
    def is_broken(self) -> bool:
        return bool(self.gone or self._others_broken or self.progress.failed)

    # Operations -----------------------------------------------------------------------------------

    def called(self, group: int, what: str) -> int:
        """Count an operation of a group; its number."""
        calls = self._calls.setdefault(group, _Calls())
        calls.count += 1
        calls.last[calls.count] = what
        if len(calls.last) > _REMEMBERED:
            calls.last.popitem(last=False)
        return calls.count

    def check(self, work: Work) -> None:
        """Raises: DistBackendError if an operation cannot be completed, as somebody is gone."""
        lost = [self.gone[rank] for rank in work.peers if rank in self.gone]
        if lost:
            raise DistBackendError(f"[{work.what}] cannot be completed: {'; '.join(lost)}")

    def look(self, now: float) -> None:
        """See what has happened, and fail the operations that it makes impossible."""
        for descriptor, _ in self._poll.poll(0):
            rank = self._descriptors.pop(descriptor)
            self._poll.unregister(descriptor)
            os.close(descriptor)
            self._read()  # what it said before
            if rank not in self.left:
                self._lost(rank, f"rank {rank} ({self.processes[rank]}) has ended unexpectedly")
        self._read()
        for work in list(self.progress.flying):
            reason = self._impossible(work, now) or self._late(work, now)
            if reason is not None:
                self.progress.fail(work, DistBackendError(reason))
        self._sending = [r for r in self._sending if not self._is_sent(r)]

    def has_ended(self, rank: int) -> bool:
        """Whether a rank's process is gone, as far as this host can tell. For a thread while
        another one is in MPI, with the lock."""
        ended = {self._descriptors[descriptor] for descriptor, _ in self._poll.poll(0)}
        return rank in self.gone or rank in ended

    def _lost(self, rank: int, reason: str) -> None:
        if rank not in self.gone:
            self.gone[rank] = reason
            self._since.setdefault(rank, time.monotonic())
            self._tell_all(("gone", rank, reason))

    def _impossible(self, work: Work, now: float) -> str | None:
        """Why an operation cannot be completed any more."""
        found = []
        for rank in work.peers:
            if rank in self.gone:
                found.append((rank, self.gone[rank]))
            elif rank in self.left and (
                not work.number or self.left[rank].get(work.group, 0) < work.number
            ):
                found.append((rank, f"rank {rank} has ended its program"))
        if not found or any(now - self._since[rank] < _LAST_WORDS for rank, _ in found):
            return None
        return f"[{work.what}] cannot be completed: {'; '.join(why for _, why in found)}"

    def _late(self, work: Work, now: float) -> str | None:
        """What is to be said of an operation that takes too long, once it is known."""
        if now - work.began < work.timeout and not (work.fault and now - work.began > _FAULT):
            return None
        others = [rank for rank in work.peers if rank != self.rank]
        if work.asked is None:
            work.asked = now
            for rank in others:
                self._answers.pop((rank, work.group, work.number), None)
                self._tell(rank, ("where", work.group, work.number))
        answers = {r: self._answers.get((r, work.group, work.number)) for r in others}
        if None in answers.values() and now - work.asked < _ANSWER:
            return None
        return _account(work, answers, self.processes)

    # Messages -------------------------------------------------------------------------------------

    def talk(self, control: Any) -> None:
        """From now on ranks tell each other something, by the world's communicator."""
        with self.progress.lock:
            self.control = control
            for rank, reason in self.gone.items():
                self._tell_all(("gone", rank, reason))

    def leave(self, error: str | None) -> None:
        """Tell all others that this rank ends, and with which error if with any."""
        counts = {group: calls.count for group, calls in self._calls.items()}
        self._tell_all(("left", counts, error, self.is_broken))

    def others_left(self) -> bool:
        """Whether all others have ended, or are gone."""
        return all(r == self.rank or r in self.left or r in self.gone for r in self.processes)

    def _tell_all(self, message: tuple[Any, ...]) -> None:
        for rank in self.processes:
            if rank != self.rank and rank not in self.gone:
                self._tell(rank, message)

    def _tell(self, rank: int, message: tuple[Any, ...]) -> None:
        if self.control is None:
            return
        try:
            self._sending.append(self.control.isend(message, rank, for_watching()))
        except library().Exception:
            pass  # the library has noticed that it is gone

    def _read(self) -> None:
        tag = for_watching()
        for source in self.processes if self.control is not None else ():
            # One by one: some libraries refuse to look for anybody's once a rank is gone.
            try:
                while self.control.iprobe(source=source, tag=tag):
                    self._hear(source, self.control.recv(source=source, tag=tag))
            except library().Exception:
                pass

    def _is_sent(self, request: Any) -> bool:
        try:
            return bool(request.Test())
        except library().Exception:
            return True

    def _hear(self, source: int, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "where":
            _, group, number = message
            calls = self._calls.get(group, _Calls())
            what = calls.last.get(number) or calls.last.get(calls.count, "")
            self._tell(source, ("there", group, number, calls.count, what))
        elif kind == "there":
            _, group, number, count, what = message
            self._answers[source, group, number] = count, what
        elif kind == "left":
            _, counts, error, is_broken = message
            self._others_broken = self._others_broken or is_broken
            self._since[source] = time.monotonic()
            if error is None:
                self.left[source] = counts
            else:
                self._lost(source, f"rank {source} has ended with {error}")
        else:
            _, rank, reason = message
            if rank != self.rank:
                self._lost(rank, reason)

    def close(self) -> None:
        """Let go of the others' processes."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = {}


def _account(
    work: Work,
    answers: Mapping[int, tuple[int, str] | None],
    processes: Mapping[int, Process],
) -> str:
    """Why an operation takes too long, from what its ranks say of where they are."""
    silent = [rank for rank, answer in answers.items() if answer is None]
    said = {rank: answer for rank, answer in answers.items() if answer is not None}
    parts = [
        f"rank {rank} ({processes[rank]}) does not answer: it is stopped or cannot be reached"
        for rank in silent
    ]
    if work.number:
        for rank, (count, what) in said.items():
            if count < work.number:
                last = f"its last is operation {count}, {what}" if count else "it has called none"
                parts.append(f"rank {rank} has not called it ({last})")
            elif what != work.what:
                parts.append(f"rank {rank} called {what} instead")
    elif said:
        parts.append(f"{_ranks(said)} answered, but no message of this kind came through")
    if not parts:
        parts.append("all ranks have called it, but it does not proceed")
    if work.fault:
        parts.append(work.fault)
    number = f", operation {work.number} of its group," if work.number else ""
    return f"[{work.what}]{number} was not completed within {work.timeout:g} s: {'; '.join(parts)}"


def _ranks(ranks: Iterable[int]) -> str:
    listed = sorted(ranks)
    word = "rank" if len(listed) == 1 else "ranks"
    return f"{word} {', '.join(map(str, listed))}"
