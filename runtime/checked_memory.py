"""The buffers of a program during one checked run: where they lie, and copies of what they hold.

In: the addresses that a run was given, and the waves as they pass.  Out: for each kernel what its
operands held before its wave, what its results hold now, and what has changed that should not.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from braze.ir.graph import Graph
from braze.ir.loops import Program
from braze.runtime.kernel_cases import Array, KernelCase

_SPOILT = 0xA5  # each byte of what is no float
Span = tuple[int, int]  # the address of the first byte, and that behind the last


class CheckedMemory:
    """See the module.

    Attributes:
        copies: by buffer, what was there when it was made; of those that are still alive.
        types: of the buffers.
    """

    def __init__(self, program: Program, scheduled: Graph, cases: Sequence[KernelCase]) -> None:
        from braze.passes.lower import buffer_names

        names = dict(buffer_names(scheduled))
        self._program = program
        self.types = {name: value.type for value, name in names.items()}
        self._inputs = {names[value]: slot for slot, value in enumerate(scheduled.inputs)}
        self._outputs = {names[value] for value in scheduled.outputs}
        replaced = {names[scheduled.inputs[source]] for source in scheduled.aliases.values()}
        self._replaced = replaced
        self._before: dict[str, Array] = {}
        # Overwriting these before their last reader is a fault of ours. Other inputs may lie
        # anywhere, also where a result is to go.
        self._ours = {n for n in self.types if n not in self._inputs} | replaced
        self._last: dict[str, int] = {}
        for case in cases:
            for name in case.operands:
                self._last[name] = max(case.wave, self._last.get(name, -1))
        self._addresses: Sequence[int] = ()
        self.copies: dict[str, Array] = {}

    def begin(self, pointers: Sequence[int], shared: Collection[int] = ()) -> None:
        """A run begins with these pointers, and the inputs hold their values.

        Args:
            shared: inputs that other processes may write to at any moment.
        """
        self._addresses = list(pointers)
        self._restless = {name for name, slot in self._inputs.items() if slot in shared}
        self.copies = {name: self.now(name).copy() for name in self._inputs if name in self._last}
        self._before = {n: self.now(n).copy() for n in self._replaced - self._restless}

    def restore(self) -> None:
        """Let the inputs that the graph overwrites be as they were."""
        for name, array in self._before.items():
            self._put(name, array)

    def forget(self) -> None:
        """The run is over."""
        self.copies, self._before, self._addresses = {}, {}, ()

    def now(self, name: str) -> Array:
        """What a buffer holds at the moment: its very memory."""
        (start, end), type = self.span(name), self.types[name]
        if start == end:
            return np.empty(type.shape, type.dtype.numpy)
        memory = memoryview((ctypes.c_char * (end - start)).from_address(start))
        found: Array = np.frombuffer(memory, dtype=type.dtype.numpy).reshape(type.shape)
        return found

    def _put(self, name: str, array: Array) -> None:
        """Write to a buffer."""
        np.copyto(self.now(name), array)

    def span(self, name: str) -> Span:
        """Where a buffer lies."""
        place = self._program.placements[name]
        if place.kind == "arena":
            base = self._addresses[self._program.inputs + self._program.outputs]
            start = base + int(place.offset)
        else:
            start = self._addresses[place.slot + self._program.inputs * (place.kind == "output")]
        return start, start + self.types[name].nbytes

    def is_disturbed(self, case: KernelCase) -> bool:
        """Whether other processes have, or may have, written to what a kernel reads."""
        restless = self._restless & set(case.operands)
        return any(self.now(name).tobytes() != self.copies[name].tobytes() for name in restless)

    def fault(self, wave: Sequence[KernelCase]) -> tuple[KernelCase, str, bool] | None:
        """What is wrong with where a wave wrote: the kernel, a sentence without a subject, and
        whether that is where it was to write.

        Called after the wave. Values that may be overwritten are forgotten.
        """
        written = list(self._written(wave))
        for name in list(self.copies):
            span = self.span(name)
            for case, result, place in written:
                if not _overlap(span, place) or result == name:
                    continue
                reader = self._reader_after(name, case, wave)
                if reader and name in self._ours:
                    return case, f"overwrites %{name} with %{result}, {reader}", True
                self.copies.pop(name, None)
        for name, copy in self.copies.items():
            if name in self._restless:
                continue
            now = self.now(name)
            if now.tobytes() != copy.tobytes():
                what = f"changed {_changes(now, copy)} of %{name}, which it does not write"
                if len(wave) > 1:
                    what += f"; or @{', @'.join(case.name for case in wave[1:])} did"
                return wave[0], what, False
        return None

    def _written(self, wave: Sequence[KernelCase]) -> Iterator[tuple[KernelCase, str, Span]]:
        for case in wave:
            for name in case.results:
                if name in case.written:
                    yield case, name, self.span(name)

    def _reader_after(self, name: str, case: KernelCase, wave: Sequence[KernelCase]) -> str:
        """Who still reads a buffer when a kernel overwrites it, or "" if nobody does."""
        for other in wave:
            if other is not case and name in other.operands:
                return f"which @{other.name} reads at the same time"
        if self._last.get(name, -1) > case.wave:
            return "which a later kernel reads"
        if name in self._outputs:
            return "which is a result"
        return ""

    def keep(self, wave: Sequence[KernelCase]) -> None:
        """Copy what a wave has made, as far as somebody needs it, and forget what nobody does."""
        for case in wave:
            for name in case.results:
                if name in case.written and self._is_alive(name, case.wave):
                    self.copies[name] = self.now(name).copy()
        for name in [n for n in self.copies if not self._is_alive(n, wave[0].wave)]:
            del self.copies[name]

    def need(self, wave: Sequence[KernelCase]) -> None:
        """Copy what a wave is about to read as far as no kernel made it: it has no elements, or
        nothing in it changed."""
        for case in wave:
            for name in case.operands:
                if name not in self.copies:
                    self.copies[name] = self.now(name).copy()

    def spoil(self, wave: Sequence[KernelCase]) -> None:
        """Fill what a wave is to write, where nothing lies that somebody reads: else memory that
        was used before may hold the right values, and hide that a kernel leaves some out."""
        taken = [self.span(name) for name in {*self.copies, *self._inputs}]
        for _, name, place in self._written([case for case in wave if not case.is_collective]):
            if place[0] < place[1] and not any(_overlap(place, span) for span in taken):
                type = self.types[name]
                array = np.empty(type.shape, type.dtype.numpy)
                if array.dtype.kind not in "iub":
                    array.fill(np.nan)
                else:
                    array.reshape(-1).view(np.uint8).fill(_SPOILT)
                self._put(name, array)

    def _is_alive(self, name: str, wave: int) -> bool:
        is_kept = name in self._outputs or name in self._inputs
        return is_kept or self._last.get(name, -1) > wave


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _changes(now: Array, before: Array) -> str:
    one, other = (np.frombuffer(array.tobytes(), np.uint8) for array in (now, before))
    wrong = (one != other).reshape(-1, now.itemsize).any(-1)
    first = ", ".join(str(int(i)) for i in np.unravel_index(int(np.argmax(wrong)), now.shape))
    return f"{int(wrong.sum())} of {now.size} elements, first [{first}],"
