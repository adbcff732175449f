"""`autograd.profiler`: where the time goes.

What is measured: each graph's compilation, loading from the disk, and run, and the ranges that the
program marks with `record_function`. A compiled graph is one native call in which operations are
fused, so its operations have no times of their own: they are listed with their number and the
user's lines. With ``per_kernel=True`` the fused kernels have: graphs are compiled once more, with
code that reads the clock around each piece of each kernel. With ``per_operation=True`` graphs are
interpreted instead, one operation after the other by NumPy, and each is timed; that tells which
operations are heavy, not how long they take when compiled.

Operations run at syncs and not where they are called: a range holds the time of the graphs that ran
inside of it. Entering and leaving `profile` are syncs.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from braze import cuda, engine
from braze.autograd.profiler_events import (
    EventList,
    FunctionEvent,
    FunctionEventAvg,
    Interval,
    Piece,
    in_lanes,
)
from braze.capture import flush
from braze.ir.graph import Graph, Location, Node
from braze.sites import location_in_run

__all__ = [
    "EventList",
    "FunctionEvent",
    "FunctionEventAvg",
    "emit_nvtx",
    "load_nvprof",
    "profile",
    "record_function",
]

_WORK: dict[engine.Work, str] = {
    "compile": "compile graph",
    "load": "load graph from disk",
    "native": "run compiled graph",
    "interpret": "interpret graph",
}


class profile:
    """Profile a piece of a program.

    Args:
        enabled: False makes it do nothing.
        record_shapes: note the shapes of operands.
        per_operation: interpret the graphs and time each operation; see the module.
        per_kernel: time each kernel of compiled graphs; see the module. Kernels that run together
            get the parts of their common time that their pieces had of the threads' time, one after
            the other; `export_chrome_trace` shows the pieces as they were, thread by thread.
        with_stack: accepted; the user's lines are always noted.
        use_kineto, use_cpu, experimental_config, acc_events: accepted.
        use_cuda, use_device="cuda": with a CUDA device the same as `per_kernel`, without one a
            warning.
        with_flops, profile_memory, with_modules: not measured; a warning says so.

    Raises:
        RuntimeError: it is entered twice, another one is active, or results are asked for before
            its end.
        ValueError: both `per_operation` and `per_kernel`.

    Example:
        >>> import braze
        >>> with profile() as prof, record_function("work"):
        ...     total = braze.ones(8).exp().sum().item()
        >>> names = [average.key for average in prof.key_averages()]
        >>> "work" in names and "exp" in names
        True
    """

    def __init__(
        self,
        enabled: bool = True,
        *,
        use_cuda: bool = False,
        use_device: str | None = None,
        record_shapes: bool = False,
        with_flops: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_modules: bool = False,
        use_kineto: bool = False,
        use_cpu: bool = True,
        experimental_config: Any = None,
        acc_events: bool = False,
        per_operation: bool = False,
        per_kernel: bool = False,
    ) -> None:
        if per_operation and per_kernel:
            raise ValueError(
                "profile: per_operation interprets graphs, per_kernel times compiled ones; choose "
                "one of them"
            )
        asks_cuda = use_cuda or use_device not in (None, "cpu")
        if asks_cuda and not per_operation and cuda.is_available():
            per_kernel = True
        self.enabled = enabled
        self.record_shapes = record_shapes
        self.per_operation = per_operation
        self.per_kernel = per_kernel
        self._before: Any = None
        self._events: EventList | None = None
        self._recorder: _Recorder | None = None
        if enabled and asks_cuda and not cuda.is_available():
            warnings.warn("CUDA is not available, disabling CUDA profiling", stacklevel=2)
        for name, asked in (
            ("with_flops", with_flops),
            ("profile_memory", profile_memory),
            ("with_modules", with_modules),
        ):
            if enabled and asked:
                warnings.warn(f"profile: {name} is not measured", stacklevel=2)

    def __enter__(self) -> profile:
        if not self.enabled:
            return self
        if self._recorder is not None:
            raise RuntimeError("Profiler context manager is not reentrant")
        if isinstance(engine.observing.observer, _Recorder):
            raise RuntimeError("another profiler is active")
        flush()
        self._recorder = _Recorder(self.record_shapes, self.per_operation, self.per_kernel)
        self._before = engine.observing.observer  # the inspector's, which sees nothing meanwhile
        engine.observing.observer = self._recorder
        return self

    def __exit__(self, *error: Any) -> None:
        recorder = self._recorder
        if recorder is None:
            return
        try:
            flush()
        finally:
            engine.observing.observer = self._before
            self._events = recorder.finish()

    @property
    def function_events(self) -> EventList:
        """Everything that happened, in order."""
        if not self.enabled:
            return EventList()
        if self._events is None:
            raise RuntimeError("Profiler didn't finish running")
        return self._events

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0
    ) -> EventList:
        """Averages by name (and shapes, and line); see `EventList.table` to print them."""
        return self.function_events.key_averages(group_by_input_shape, group_by_stack_n)

    def total_average(self) -> FunctionEventAvg:
        """All events as one."""
        return self.function_events.total_average()

    def table(self, *args: Any, **kwargs: Any) -> str:
        """The events as text; see `EventList.table`."""
        return self.function_events.table(*args, **kwargs)

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the events for chrome://tracing or Perfetto, atomically."""
        self.function_events.export_chrome_trace(path)

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds of everything that was measured, nothing counted twice."""
        return self.function_events.self_cpu_time_total

    def __str__(self) -> str:
        return "<unfinished profile>" if self._events is None else str(self._events)

    __repr__ = __str__


class record_function:
    """Mark a range of the program with a name, as a context manager or a decorator."""

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name = name
        self.args = args
        self._starts: list[tuple[_Recorder | None, float]] = []

    def __enter__(self) -> record_function:
        recorder = _active()
        self._starts.append((recorder, 0.0 if recorder is None else time.perf_counter()))
        return self

    def __exit__(self, *error: Any) -> None:
        recorder, start = self._starts.pop()
        if recorder is not None:
            recorder.add("range", self.name, start, time.perf_counter())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name, self.args):
                return function(*args, **kwargs)

        return wrapped


class _Recorder:
    """Listens while a profile is active."""

    wants_inputs = False

    def __init__(self, record_shapes: bool, per_operation: bool, per_kernel: bool) -> None:
        self.per_operation = per_operation
        self.per_kernel = per_kernel
        self._record_shapes = record_shapes
        self._began = time.perf_counter()
        self._events: list[FunctionEvent] = []
        self._transfers: list[FunctionEvent] = []

    def add(
        self,
        kind: str,
        name: str,
        start: float,
        end: float,
        place: Location | None = None,
        **facts: Any,
    ) -> None:
        """Note that something happened in this thread."""
        interval = Interval(self._at(start), self._at(end))
        if place is not None:
            facts |= {"location": f"{place.file}:{place.line}", "scope": place.scope}
        self._events.append(FunctionEvent(name, kind, interval, threading.get_ident(), **facts))

    def placed(self, graph: Graph, device: str) -> None:
        """Its events are told as others."""

    def given(self, graph: Graph, inputs: Any) -> None:
        """Nobody asks for that."""

    def worked(self, work: engine.Work, graph: Graph, sites: Any, start: float, end: float) -> None:
        """A graph was compiled, loaded or run. Called by the runtime."""
        first = location_in_run(graph.nodes[0], 0, sites) if graph.nodes else None
        self.add(work, _WORK[work], start, end, first)
        if work in ("native", "interpret") and not self.per_operation:
            for position, node in enumerate(graph.nodes):
                # At the end of the run, which they are part of.
                self._operation(node, position, sites, end, end, timed=False)

    def operated(self, node: Node, position: int, sites: Any, start: float, end: float) -> None:
        """An operation was interpreted. Called by the runtime."""
        self._operation(node, position, sites, start, end)

    def timed(self, graph: Graph, sites: Any, times: Sequence[Any]) -> None:
        """The kernels of a graph have run. Called by the runtime."""
        free: dict[int, float] = {}  # where the next kernel of a wave may begin
        for kernel in times:
            wave = kernel.kernel.wave
            if wave not in free:
                free[wave] = min(t.start for t in times if t.kernel.wave == wave)
            start = free[wave]
            free[wave] = end = start + kernel.seconds
            origins = kernel.kernel.origins
            place = location_in_run(graph.nodes[origins[0]], origins[0], sites) if origins else None
            pieces = [
                Piece(self._at(chunk.start), self._at(chunk.end), chunk.thread)
                for chunk in kernel.chunks
            ]
            self.add("kernel", kernel.kernel.name, start, end, place, pieces=pieces)

    def communicated(self, what: str, start: float, end: float) -> None:
        """A collective or message is complete. Called by the runtime, in any thread."""
        interval = Interval(self._at(start), self._at(end))
        # It took no thread's time but for moments, which other events have.
        self._transfers.append(FunctionEvent(what, "communication", interval, 0, timed=False))

    def _at(self, seconds: float) -> float:
        """Microseconds since the profile began."""
        return (seconds - self._began) * 1e6

    def _operation(
        self, node: Node, position: int, sites: Any, start: float, end: float, timed: bool = True
    ) -> None:
        shapes = [list(x.type.shape) for x in node.operands] if self._record_shapes else None
        place = location_in_run(node, position, sites)
        self.add("operation", node.op.name, start, end, place, timed=timed, input_shapes=shapes)

    def finish(self) -> EventList:
        """The events in order of their beginning."""
        self._events += in_lanes(self._transfers)
        # Sorting is stable: the operations of a graph stay in their order.
        self._events.sort(key=lambda event: (event.time_range.start, -event.time_range.end))
        events = EventList(self._events)
        events.build_tree()
        return events


def _active() -> _Recorder | None:
    observer = engine.observing.observer
    return observer if isinstance(observer, _Recorder) else None


class emit_nvtx:
    """Ranges for NVIDIA's tools; needs CUDA.

    Raises:
        RuntimeError: it is enabled, for there is no CUDA.
    """

    def __init__(self, enabled: bool = True, record_shapes: bool = False) -> None:
        if enabled:
            raise RuntimeError(
                "emit_nvtx needs CUDA, which is not available; use autograd.profiler.profile"
            )

    def __enter__(self) -> emit_nvtx:
        return self

    def __exit__(self, *error: Any) -> None:
        pass


def load_nvprof(path: str | os.PathLike[str]) -> EventList:
    """Read a trace of NVIDIA's nvprof; needs CUDA.

    Raises:
        RuntimeError: there is no CUDA, and so no such traces of Braze programs.
    """
    raise RuntimeError(
        f"load_nvprof({os.fspath(path)!r}) needs CUDA, which is not available; use "
        "autograd.profiler.profile and export_chrome_trace"
    )
