"""The log behind `braze.explain()`: what was compiled, loaded or interpreted, and why.

In: a note for each graph that needed something.  Out: an `Explanation`, which prints as a page, and
one warning when a line of the user's program is compiled again and again.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal, Protocol

from braze.ir.graph import Graph
from braze.runtime.artifact import Figures
from braze.runtime.config import config
from braze.runtime.differences import Signature, difference, nearest, place_of, signature_of

Source = Literal["compiled", "disk", "dynamic", "interpreted once", "underway"]
_SOURCES: dict[Source, str] = {
    "compiled": "compiled",
    "disk": "loaded from disk",
    "dynamic": "served by code for many sizes",
    "interpreted once": "interpreted once",
    "underway": "interpreted while it is compiled in the background",
}
_INSTANT: tuple[Source, ...] = ("interpreted once", "underway")

_EVENTS_KEPT = 1000
_GRAPHS_KEPT = 64
FIRST = "the first graph of its kind"
_SIZES = "If a size varies, pad it to a few fixed sizes."
_OPERATIONS = (
    "Its operations are other ones; each such sequence is compiled once, so this ends by itself "
    "unless the number of turns of a loop, say, goes on changing."
)


class Code(Protocol):
    """What is told of compiled code."""

    @property
    def figures(self) -> Figures: ...

    @property
    def arena_bytes(self) -> int: ...


class RecompileWarning(UserWarning):
    """A line of the program has been compiled many times."""


@dataclass(frozen=True, slots=True)
class Event:
    """One graph that was not ready to run.

    Attributes:
        number: counts from 1.
        source: what was done about it.
        name, operations: of the graph.
        first, last: the user's lines of its first and last operation; "" if unknown.
        difference: what is new compared with the nearest graph known before.
        seconds: what it took.
        figures, arena_bytes: the compiler's, unless interpreted.
        beside: how many runs were interpreted while it was compiled in the background.
        sizes: which other sizes its code serves, or why it serves none.
    """

    number: int
    source: Source
    name: str
    operations: int
    first: str
    last: str
    difference: str
    seconds: float
    figures: Figures | None = None
    arena_bytes: int = 0
    beside: int = 0
    sizes: str = ""

    def __str__(self) -> str:
        lines = " to ".join(dict.fromkeys(filter(None, (self.first, self.last)))) or "unknown lines"
        seconds = "" if self.source in _INSTANT else f" in {self.seconds:.3f} s"
        if self.beside:
            runs = "run was" if self.beside == 1 else "runs were"
            seconds += f", in the background, while {self.beside} {runs} interpreted"
        count = f"{self.operations} operation" + ("" if self.operations == 1 else "s")
        text = f"#{self.number} {_SOURCES[self.source]}{seconds}: {count}, {lines}\n"
        text += f"    new: {self.difference}"
        if self.sizes:
            text += f"\n    sizes: {self.sizes}"
        if self.figures is not None:
            text += (
                f"\n    kernels: {self.figures.kernels_before} before fusion, "
                f"{self.figures.kernels_after} after; arena: {_size(self.arena_bytes)} (at least "
                f"{_size(self.figures.lower_bound)} needed, {_size(self.figures.bytes_before)} "
                "without a plan)"
            )
        return text


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `explain` tells: totals since the start, and the events asked for, oldest first."""

    totals: dict[Source, int]
    compile_seconds: float
    recompiled: tuple[tuple[str, int], ...]
    events: tuple[Event, ...]
    left_out: int
    underway: int = 0

    def __str__(self) -> str:
        compiled = f"{self.totals['compiled']} compiled in {self.compile_seconds:.3f} s"
        dynamic = self.totals["dynamic"]
        served = f", {dynamic} served by code for many sizes" if dynamic else ""
        text = [
            f"Graphs: {compiled}, {self.totals['disk']} loaded from disk{served}, "
            f"{self.totals['interpreted once']} interpreted once."
        ]
        if self.underway:
            text.append(f"Being compiled in the background: {self.underway}.")
        text += [f"Compiled {count} times: {line}" for line, count in self.recompiled]
        if self.left_out:
            text.append(f"({self.left_out} earlier events are left out.)")
        text += map(str, self.events)
        return "\n".join(text)

    __repr__ = __str__


class RecompileLog:
    """Collects events; used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._after_fork)
        self.clear()

    def _after_fork(self) -> None:
        # Another thread of the parent may have held it.
        self._lock = threading.RLock()
        self._underway.clear()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
            self._known: dict[str, tuple[Signature, str, str]] = {}
            self._totals: dict[Source, int] = dict.fromkeys(_SOURCES, 0)
            self._seconds = 0.0
            self._compiles: Counter[str] = Counter()
            self._warned: set[str] = set()
            self._underway: set[str] = set()

    def note(
        self,
        graph: Graph,
        fingerprint: str,
        source: Source,
        seconds: float = 0.0,
        artifact: Code | None = None,
        beside: int = 0,
        sizes: str = "",
    ) -> Event:
        """Enter an event, and warn if the line is compiled too often."""
        with self._lock:
            text, advice = self._difference(graph, fingerprint)
            self._totals[source] += 1
            event = Event(
                number=sum(self._totals.values()),
                source=source,
                name=graph.name,
                operations=len(graph.nodes),
                first=place_of(graph.nodes[0].location) if graph.nodes else "",
                last=place_of(graph.nodes[-1].location) if graph.nodes else "",
                difference=text,
                seconds=seconds,
                figures=None if artifact is None else artifact.figures,
                arena_bytes=0 if artifact is None else artifact.arena_bytes,
                beside=beside,
                sizes=sizes,
            )
            self._events.append(event)
            warning = ""
            if source == "underway":
                self._underway.add(fingerprint)
            else:
                self._underway.discard(fingerprint)
            if source == "compiled":
                self._seconds += seconds
                self._compiles[event.last] += 1
                warning = self._warning(event, advice)
        if warning:
            warnings.warn(warning, RecompileWarning, stacklevel=2)
        return event

    def drop(self, fingerprint: str) -> None:
        """A graph is no longer being compiled in the background: that has failed."""
        with self._lock:
            self._underway.discard(fingerprint)

    def _difference(self, graph: Graph, fingerprint: str) -> tuple[str, str]:
        """In what the graph differs from the nearest of the others, as they were at first sight,
        and what may be done about it."""
        if fingerprint in self._known:
            self._known[fingerprint] = self._known.pop(fingerprint)
            return self._known[fingerprint][1:]
        signature = signature_of(graph, fingerprint)
        found = nearest(signature, (known for known, *_ in self._known.values()))
        text = FIRST if found is None else difference(signature, found)
        is_same = found is not None and found.ops == signature.ops
        self._known[fingerprint] = signature, text, _SIZES if is_same else _OPERATIONS
        while len(self._known) > _GRAPHS_KEPT:
            del self._known[next(iter(self._known))]
        return self._known[fingerprint][1:]

    def _warning(self, event: Event, advice: str) -> str:
        recompiles = self._compiles[event.last] - 1
        limit = config.recompile_limit
        if not limit or recompiles < limit or not event.last or event.last in self._warned:
            return ""
        self._warned.add(event.last)
        return (
            f"{event.last} has been compiled {recompiles + 1} times; new this time: "
            f"{event.difference}. {advice} braze.explain() lists every compile."
        )

    def explain(self, limit: int | None = None) -> Explanation:
        """What has happened so far.

        Args:
            limit: how many of the latest events to list; None lists all that are kept.
        """
        with self._lock:
            events = tuple(self._events)
            if limit is not None:
                events = events[max(0, len(events) - limit) :]
            repeated = [(line, n) for line, n in self._compiles.most_common(10) if n > 1 and line]
            return Explanation(
                dict(self._totals),
                self._seconds,
                tuple(repeated),
                events,
                sum(self._totals.values()) - len(events),
                len(self._underway),
            )


def _size(nbytes: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if nbytes >= unit:
            return f"{nbytes / unit:.1f} {name}"
    return f"{nbytes} B"


log = RecompileLog()


def explain(limit: int | None = None) -> Explanation:
    """What was compiled, loaded or interpreted in this process, and why: see `Explanation`."""
    return log.explain(limit)
