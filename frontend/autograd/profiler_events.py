"""What a profile consists of: events, their averages by name, tables, and Chrome's trace format.

Times are in microseconds, as in PyTorch. An event without a time of its own (an operation inside a
compiled graph) has `timed` False and counts zero.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from braze import engine

# Column of a table -> attribute by which it can be sorted.
SORTABLE = ("cpu_time", "cpu_time_total", "self_cpu_time_total", "count", "key")


class Interval(NamedTuple):
    """Start and end, in microseconds since the profile began."""

    start: float
    end: float

    def elapsed_us(self) -> float:
        """The length."""
        return self.end - self.start


class Piece(NamedTuple):
    """What one thread of the pool did of a kernel: from when to when, in microseconds since the
    profile began. Thread 0 is the one that ran the graph."""

    start: float
    end: float
    thread: int


class FunctionEvent:
    """One thing that happened.

    Attributes:
        name, key: of the operation, the range, or the work on a graph.
        kind: "range", "compile", "load", "native", "interpret", "kernel", "operation", or
            "communication" with other processes.
        time_range: when.
        timed: whether its duration was measured.
        thread: number of the thread; of communication, a lane's negative number.
        location: the user's line, "file:line", or "".
        scope: the layer's path, or "".
        input_shapes: shapes of the operands, if they were asked for.
        pieces: of a kernel, what each thread did.
        cpu_parent, cpu_children: what it happened inside of, and what inside of it.
    """

    count = 1

    def __init__(
        self,
        name: str,
        kind: str,
        time_range: Interval,
        thread: int,
        *,
        timed: bool = True,
        location: str = "",
        scope: str = "",
        input_shapes: list[list[int]] | None = None,
        pieces: Sequence[Piece] = (),
    ) -> None:
        self.name = self.key = name
        self.kind = kind
        self.time_range = time_range
        self.thread = thread
        self.timed = timed
        self.location = location
        self.scope = scope
        self.input_shapes = input_shapes
        self.pieces = pieces
        self.cpu_parent: FunctionEvent | None = None
        self.cpu_children: list[FunctionEvent] = []

    @property
    def stack(self) -> list[str]:
        """The user's line, as PyTorch gives its stacks."""
        return [self.location] if self.location else []

    @property
    def cpu_time_total(self) -> float:
        """Its duration."""
        return self.time_range.elapsed_us() if self.timed else 0.0

    cpu_time = cpu_time_total

    @property
    def self_cpu_time_total(self) -> float:
        """Its duration without what happened inside."""
        return self.cpu_time_total - sum(child.cpu_time_total for child in self.cpu_children)

    def __repr__(self) -> str:
        where = f" at {self.location}" if self.location else ""
        time = f"{self.cpu_time_total:.3f}us" if self.timed else "not timed"
        return f"<FunctionEvent {self.kind} {self.name}: {time}{where}>"


class FunctionEventAvg:
    """Events of one name taken together.

    Attributes:
        count: how many.
        cpu_time_total, self_cpu_time_total: the sums.
        locations: the user's lines in the order of their first appearance.
    """

    def __init__(self, key: str | None) -> None:
        self.key = key
        self.kind = ""
        self.count = 0
        self.cpu_time_total = 0.0
        self.self_cpu_time_total = 0.0
        self.timed = False
        self.locations: dict[str, None] = {}
        self.input_shapes: list[list[int]] | None = None

    def add(self, event: FunctionEvent) -> None:
        """Take in one more."""
        self.kind = self.kind or event.kind
        self.count += 1
        self.cpu_time_total += event.cpu_time_total
        self.self_cpu_time_total += event.self_cpu_time_total
        self.timed |= event.timed
        if event.location:
            self.locations[event.location] = None

    @property
    def cpu_time(self) -> float:
        """The mean duration."""
        return self.cpu_time_total / self.count if self.count else 0.0

    @property
    def source(self) -> str:
        """The user's lines in short."""
        lines = list(self.locations)
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        return lines[0] + more if lines else ""

    def __repr__(self) -> str:
        own, mean = format_time(self.self_cpu_time_total), format_time(self.cpu_time)
        return (
            f"<FunctionEventAvg key={self.key} self_cpu_time={own} cpu_time={mean} "
            f"count={self.count}>"
        )


class EventList(list[Any]):
    """Events, or averages of events."""

    def build_tree(self) -> None:
        """Find for each timed event what it happened inside of."""
        for thread in {event.thread for event in self}:
            own = [event for event in self if event.thread == thread]
            own.sort(key=lambda event: (event.time_range.start, -event.time_range.end))
            open_events: list[FunctionEvent] = []
            for event in own:
                while open_events and open_events[-1].time_range.end < event.time_range.end:
                    open_events.pop()
                if open_events:
                    event.cpu_parent = open_events[-1]
                    open_events[-1].cpu_children.append(event)
                if event.timed:
                    open_events.append(event)

    @property
    def self_cpu_time_total(self) -> float:
        """The time of everything, nothing counted twice."""
        total: float = sum(event.self_cpu_time_total for event in self)
        return total

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0
    ) -> EventList:
        """Averages by name, and if asked for by shapes of the operands and by the user's line."""
        groups: dict[Any, FunctionEventAvg] = {}
        for event in self:
            shapes = str(event.input_shapes) if group_by_input_shape else ""
            key = (event.key, event.kind, shapes, event.location if group_by_stack_n else "")
            average = groups.get(key)
            if average is None:
                average = groups[key] = FunctionEventAvg(event.key)
                average.input_shapes = event.input_shapes if group_by_input_shape else None
            average.add(event)
        return EventList(groups.values())

    def total_average(self) -> FunctionEventAvg:
        """All events as one: their number and their time, nothing counted twice."""
        total = FunctionEventAvg(None)
        for event in self:
            total.count += event.count
            total.self_cpu_time_total += event.self_cpu_time_total
            total.timed |= event.timed
        total.cpu_time_total = total.self_cpu_time_total
        return total

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int = 75,
        max_name_column_width: int = 55,
        header: str | None = None,
        top_level_events_only: bool = False,
    ) -> str:
        """The events as text.

        Args:
            sort_by: "cpu_time", "cpu_time_total", "self_cpu_time_total", "count" (largest first) or
                "key"; in order of appearance by default.
            row_limit: leave out rows after this many; -1 shows all.

        Raises:
            ValueError: another `sort_by`.
        """
        if sort_by is not None and sort_by not in SORTABLE:
            raise ValueError(
                f"table: sort_by must be one of {', '.join(SORTABLE)}, got {sort_by!r}"
            )
        rows = [
            event
            for event in self
            if not top_level_events_only or getattr(event, "cpu_parent", None) is None
        ]
        if sort_by is not None:
            rows.sort(key=lambda row: getattr(row, sort_by), reverse=sort_by != "key")
        total = self.self_cpu_time_total
        shapes = any(row.input_shapes is not None for row in rows)
        lines = [_headings(shapes)]
        shown = rows if row_limit < 0 else rows[:row_limit]
        lines += [_row(row, total, shapes) for row in shown]
        limits = {0: max_name_column_width, len(lines[0]) - 1: max_src_column_width}
        text = _aligned(lines, limits)
        if len(rows) > len(shown):
            text += f"\n({len(rows) - len(shown)} more rows)"
        text += f"\nSelf CPU time total: {format_time(total)}\n"
        return f"{header}\n{text}" if header else text

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the events for chrome://tracing or Perfetto. The file appears when it is complete.

        Raises:
            OSError: it cannot be written.
        """
        entries = [entry for event in self for entry in _chrome(event)]
        lanes = {event.thread for event in self if event.kind == "communication"}
        entries += [_lane(lane) for lane in sorted(lanes, reverse=True)]
        text = json.dumps({"traceEvents": entries})
        with engine.replacing(Path(path)) as file:
            file.write(text.encode())

    def __str__(self) -> str:
        return self.table()


def format_time(microseconds: float) -> str:
    """A time in the unit that suits it."""
    if microseconds >= 1e6:
        return f"{microseconds / 1e6:.3f}s"
    if microseconds >= 1e3:
        return f"{microseconds / 1e3:.3f}ms"
    return f"{microseconds:.3f}us"


def _headings(shapes: bool) -> list[str]:
    columns = ["Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg"]
    return [*columns, "# of Calls", *(["Input Shapes"] if shapes else []), "Source Location"]


def _row(row: Any, total: float, shapes: bool) -> list[str]:
    times = ["-"] * 5
    if row.timed:
        times = [
            _share(row.self_cpu_time_total, total),
            format_time(row.self_cpu_time_total),
            _share(row.cpu_time_total, total),
            format_time(row.cpu_time_total),
            format_time(row.cpu_time),
        ]
    source = row.location if isinstance(row, FunctionEvent) else row.source
    given = [str(row.input_shapes or "")] if shapes else []
    return [str(row.key), *times, str(row.count), *given, source]


def _share(part: float, total: float) -> str:
    return f"{100 * part / total:.2f}%" if total else "-"


def _aligned(rows: Iterable[list[str]], limits: dict[int, int]) -> str:
    cut = [[_cut(cell, limits.get(i)) for i, cell in enumerate(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    lines = []
    for row in cut:
        cells = [
            cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def _cut(text: str, limit: int | None) -> str:
    if limit is None or len(text) <= limit:
        return text
    # The end of a path says more than its beginning, the beginning of a name more than its end.
    return f"...{text[3 - limit :]}" if "/" in text else f"{text[: limit - 3]}..."


def in_lanes(events: Iterable[FunctionEvent]) -> list[FunctionEvent]:
    """The events with numbers of lanes as their threads: those in a lane do not overlap."""
    ends: list[float] = []
    found = sorted(events, key=lambda event: event.time_range.start)
    for event in found:
        free = (i for i, end in enumerate(ends) if end <= event.time_range.start)
        lane = next(free, len(ends))
        ends[lane : lane + 1] = [event.time_range.end]
        event.thread = -1 - lane
    return found


def _lane(lane: int) -> dict[str, Any]:
    """The trace's entry that names a lane."""
    name = "communication" if lane == -1 else f"communication {-lane}"
    facts = {"pid": os.getpid(), "tid": lane, "args": {"name": name}}
    return {"name": "thread_name", "ph": "M", **facts}


def _chrome(event: FunctionEvent) -> list[dict[str, Any]]:
    """The trace's entries for an event; a kernel has one for each piece, in its thread's track."""
    facts = {"location": event.location, "scope": event.scope, "shapes": event.input_shapes}
    entry: dict[str, Any] = {
        "name": event.name,
        "cat": event.kind,
        "pid": os.getpid(),
        "tid": event.thread,
        "ts": event.time_range.start,
        "args": {name: fact for name, fact in facts.items() if fact},
    }
    if event.pieces:
        return [
            {
                **entry, "ph": "X", "ts": piece.start, "dur": piece.end - piece.start,
                "tid": piece.thread or event.thread,
            }
            for piece in event.pieces
        ]  # fmt: skip
    if event.kind == "communication":
        return [{**entry, "ph": "X", "dur": event.time_range.elapsed_us()}]
    if event.timed:
        return [{**entry, "ph": "X", "dur": event.cpu_time_total}]
    return [{**entry, "ph": "i", "s": "t"}]
