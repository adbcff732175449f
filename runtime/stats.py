"""Counters of what the runtime has done: `stats`.

In: increments, `stats.native_calls += 1`.  Out: attributes, `snapshot()`, a printed table.
Threads may lose an increment to each other: the counters are for people.
"""

from __future__ import annotations

_MEANINGS = {
    "captured_ops": "operations recorded by the tracer",
    "graphs": "distinct graphs prepared",
    "cache_hits": "graphs that were prepared already",
    "disk_hits": "graphs loaded from the disk cache",
    "compiles": "graphs compiled",
    "compile_seconds": "seconds spent compiling",
    "kernels": "kernels in the graphs compiled or loaded",
    "native_calls": "calls of compiled graphs",
    "interpreted": "calls that the interpreter ran",
    "arena_bytes": "bytes of the shared arena",
}


class Stats:
    """The counters, as plain attributes. They count from the start of the process or `reset`.

    Example:
        >>> stats = Stats()
        >>> stats.compiles += 1
        >>> stats.snapshot()["compiles"]
        1
    """

    __slots__ = tuple(_MEANINGS)

    captured_ops: int
    graphs: int
    cache_hits: int
    disk_hits: int
    compiles: int
    compile_seconds: float
    kernels: int
    native_calls: int
    interpreted: int
    arena_bytes: int

    def __init__(self) -> None:
        self.arena_bytes = 0
        self.reset()

    def reset(self) -> None:
        """Start counting anew; the arena's size, which is a state and not a count, stays."""
        for name in self.__slots__:
            if name != "arena_bytes":
                setattr(self, name, 0.0 if name == "compile_seconds" else 0)

    def snapshot(self) -> dict[str, int | float]:
        """The counters by name, as they are now."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        values = {
            name: f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
            for name, value in self.snapshot().items()
        }
        widths = max(map(len, values)), max(map(len, values.values()))
        return "\n".join(
            f"{name:<{widths[0]}}  {value:>{widths[1]}}  {_MEANINGS[name]}"
            for name, value in values.items()
        )

    __repr__ = __str__


stats = Stats()
