"""How long each kernel of a compiled graph takes: code with stopwatches in it, and their readings.

In: a graph.  Out: a `TimedExecutable`, whose runs leave the times of their kernels.

Such code is compiled for profiling only, beside the graph's own, of which it is a copy that reads
the processor's clock around each chunk of each kernel (`braze.codegen.llvm.stopwatch`). That costs
some twenty nanoseconds a chunk, and entering a wave through one more function.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph
from braze.ir.loops import Kernel, Program
from braze.ir.loops_cost import Cost, kernel_cost
from braze.ir.target import TIMES, Target
from braze.runtime.artifact import Artifact
from braze.runtime.cpu import host_target
from braze.runtime.executable import Executable, Input
from braze.runtime.pool import get_pool, pool_code
from braze.runtime.provenance import Provenance, kernels_of
from braze.runtime.recorder import Keeper
from braze.runtime.storage import Storage

_WORDS = 3  # of a slot: start, end, thread
_CALIBRATION_SECONDS = 0.02
_WARM_UPS = 1


class Chunk(NamedTuple):
    """A piece of a kernel that one thread ran. Times are those of `time.perf_counter`."""

    start: float
    end: float
    thread: int


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """What is known of a kernel before it runs.

    Attributes:
        name: unique in its graph.
        wave: number of the parallel region that runs it.
        kind: what the fusion made of it ("contract", "reduce", "pointwise", ...).
        origins: positions of the captured operations that it computes.
        cost: its bytes and floating-point operations.
    """

    name: str
    wave: int
    kind: str
    origins: tuple[int, ...]
    cost: Cost


@dataclass(frozen=True, slots=True)
class KernelTime:
    """A kernel in one run.

    Attributes:
        kernel: which one.
        start, end: when its first chunk began and its last one ended.
        busy: the time of all chunks, on all threads, added up.
        seconds: of its wave's time, the part that is the kernel's: all of it, or where several
            kernels run together, as much as its chunks had of the threads' time.
        chunks: the pieces.
    """

    kernel: KernelFacts
    start: float
    end: float
    busy: float
    seconds: float
    chunks: tuple[Chunk, ...]


class TimedExecutable(Executable):
    """Machine code that times its kernels. Runs in places of their own are not supported.

    Attributes:
        kernels: in the order in which they run.
    """

    def __init__(
        self, artifact: Artifact, slots: Sequence[str], kernels: Sequence[KernelFacts]
    ) -> None:
        super().__init__(artifact)
        self.kernels = {kernel.name: kernel for kernel in kernels}
        self._slots = slots
        self._times = np.zeros((max(1, len(slots)), _WORDS), np.int64)
        self._clock = clock()
        self._latest: np.ndarray[Any, np.dtype[np.int64]] | None = None

    def _run_at(self, call: Any, *args: Any) -> None:
        # The caller holds the workspace's lock, whose status block this is.
        self._times.fill(0)
        call.workspace.status[TIMES] = self._times.ctypes.data
        # Anew, since the system adjusts its clock to others all the time.
        self._clock = self._clock.now()
        super()._run_at(call, *args)
        self._latest = self._times.copy()

    def times(self) -> list[KernelTime]:
        """Of the latest run, by waves; a kernel of no chunks is left out."""
        if self._latest is None:
            return []
        found: dict[str, list[Chunk]] = {}
        for name, (start, end, thread) in zip(self._slots, self._latest.tolist(), strict=False):
            chunk = Chunk(self._clock.seconds(start), self._clock.seconds(end), thread)
            found.setdefault(name, []).append(chunk)
        waves: dict[int, list[str]] = {}
        for name in found:
            waves.setdefault(self.kernels[name].wave, []).append(name)
        return [
            time
            for number in sorted(waves)
            for time in self._wave({name: found[name] for name in waves[number]})
        ]

    def _wave(self, found: dict[str, list[Chunk]]) -> list[KernelTime]:
        """The kernels that ran together."""
        busy = {name: sum(c.end - c.start for c in chunks) for name, chunks in found.items()}
        first = min(c.start for chunks in found.values() for c in chunks)
        last = max(c.end for chunks in found.values() for c in chunks)
        total = sum(busy.values()) or 1.0
        return [
            KernelTime(
                kernel=self.kernels[name],
                start=min(c.start for c in chunks),
                end=max(c.end for c in chunks),
                busy=busy[name],
                seconds=(last - first) * busy[name] / total,
                chunks=tuple(chunks),
            )
            for name, chunks in found.items()
        ]


def timed_executable(
    graph: Graph,
    target: Target | None = None,
    change: Callable[[Program], Program] | None = None,
) -> TimedExecutable:
    """Compile a graph with stopwatches, for its own sizes.

    Args:
        change: what is done to the loops before code is generated for them.

    Raises: CompileError and what the passes raise; ValueError on a processor without a known clock.
    """
    from braze.runtime.compiler import compile_timed
    from braze.runtime.kept_objects import pool_object

    record = Keeper(graph, fingerprint(graph))
    artifact, program, slots, origin = compile_timed(graph, target or host_target(), record, change)
    get_pool(compile=pool_object)
    kernels = kernel_facts(program.waves, record.scheduled, origin)
    return TimedExecutable(artifact, slots, kernels)


def kernel_facts(
    waves: Iterable[Iterable[Kernel]], scheduled: Graph, origin: Provenance
) -> list[KernelFacts]:
    """What is known of a program's kernels.

    Args:
        waves: kernels that run together.
        scheduled: the graph that they were lowered from. origin: where its nodes come from.
    """
    nodes = dict(kernels_of(scheduled))
    return [
        KernelFacts(
            kernel.name,
            wave,
            str(nodes[kernel.name].attributes["kind"]),
            tuple(origin.origins(nodes[kernel.name])),
            kernel_cost(kernel),
        )
        for wave, together in enumerate(waves)
        for kernel in together
    ]


def measure(
    executable: TimedExecutable,
    graph: Graph,
    inputs: Sequence[Input],
    rounds: int,
    seconds: float = 0.0,
) -> list[KernelTime]:
    """The times of the quickest of several runs, on copies of the inputs.

    Args:
        inputs: a storage for each input of the graph, a Python number for those of role "scalar".
        rounds: how many runs at least.
        seconds: for how long at least.
    """
    copies = [_copy(item) if isinstance(item, Storage) else item for item in inputs]
    outputs: list[Storage] = []
    for position, value in enumerate(graph.outputs):
        source = graph.aliases.get(position)
        own = Storage(value.type.nbytes) if source is None else copies[source]
        assert isinstance(own, Storage)
        outputs.append(own)
    for _ in range(_WARM_UPS):
        executable.run(copies, outputs)
    best: list[KernelTime] = []
    number, until = 0, time.perf_counter() + seconds
    while number < rounds or time.perf_counter() < until:
        number += 1
        executable.run(copies, outputs)
        found = executable.times()
        if not best or duration(found) < duration(best):
            best = found
    return best


def _copy(storage: Storage) -> Storage:
    copy = Storage(storage.nbytes)
    ctypes.memmove(copy.address, storage.address, storage.nbytes)
    return copy


def duration(times: Sequence[KernelTime]) -> float:
    """From the beginning of a run's first kernel to the end of its last."""
    if not times:
        return 0.0
    return max(time.end for time in times) - min(time.start for time in times)


# The clock ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clock:
    """Turns ticks of the processor's clock into seconds of `time.perf_counter`."""

    ticks: int
    at: int  # nanoseconds
    rate: float  # ticks in a nanosecond

    def seconds(self, ticks: int) -> float:
        return (self.at + (ticks - self.ticks) / self.rate) / 1e9

    def now(self) -> Clock:
        """The same, compared with Python's clock at this moment."""
        return Clock(*pool_code().clocks(3), self.rate)


@functools.cache
def clock() -> Clock:
    """The clock of this machine, its rate measured over some milliseconds."""
    code = pool_code()
    first, first_at = code.clocks(20)
    time.sleep(_CALIBRATION_SECONDS)
    last, last_at = code.clocks(20)
    return Clock(last, last_at, (last - first) / (last_at - first_at))
