"""When each chunk of each kernel ran: what a timed program has beside its kernels.

In: the builder of `main` or of a wave's function.  Out: code that reads the processor's clock
before and after a kernel's function and stores both, with the thread, in a slot of its own. Slots
are numbered at compile time, so nothing is shared between threads and no chunk waits for another.

    times = [start, end, thread] * slots        i64 each, ticks of the clock

The clock is the pool's (`braze_ticks`), which ticks at a constant rate, the same for all cores.

The address of the times stands in word TIMES of the status block. A wave's function gets it beside
its own argument, as ``[times, argument]``: kernels need not know of it, so a timed program's
kernels are the very functions of the program itself.
"""

from __future__ import annotations

from braze.codegen.llvm import ir
from braze.codegen.llvm.pool import CLOCK
from braze.codegen.llvm.types import I64, POINTER, constant, declare
from braze.ir.target import TIMES

WORDS = 3  # of a slot


class Stopwatch:
    """Writes the timing code of one program.

    Attributes:
        slots: the kernel that each slot is of.
    """

    def __init__(self) -> None:
        self.slots: list[str] = []
        self._times: ir.Value | None = None
        self._pair: ir.Value | None = None

    def enter(self, builder: ir.IRBuilder, status: ir.Value) -> None:
        """At the beginning of `main`."""
        word = builder.gep(status, [constant(I64, TIMES)], source_etype=I64)
        self._times = builder.load(word, typ=POINTER, align=8)
        self._pair = builder.alloca(POINTER, size=constant(I64, 2))
        builder.store(self._times, self._pair, align=8)

    def claim(self, kernel: str, chunks: int) -> int:
        """Slots for a kernel's chunks: the number of the first."""
        first = len(self.slots)
        self.slots += [kernel] * chunks
        return first

    def now(self, builder: ir.IRBuilder) -> ir.Value:
        """The clock."""
        return builder.call(declare(builder.module, CLOCK, I64), [])

    def hand_over(self, builder: ir.IRBuilder, argument: ir.Value) -> ir.Value:
        """What a wave's function gets in `main`, in place of its argument."""
        assert self._pair is not None
        second = builder.gep(self._pair, [constant(I64, 1)], source_etype=POINTER)
        builder.store(argument, second, align=8)
        return self._pair

    def take_over(self, builder: ir.IRBuilder, pair: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The times and the argument, in a wave's function."""
        times = builder.load(pair, typ=POINTER, align=8)
        second = builder.gep(pair, [constant(I64, 1)], source_etype=POINTER)
        return times, builder.load(second, typ=POINTER, align=8)

    def note(
        self,
        builder: ir.IRBuilder,
        times: ir.Value,
        slot: ir.Value,
        start: ir.Value,
        thread: ir.Value,
    ) -> None:
        """Store that a chunk began at `start` and is over now."""
        end = self.now(builder)
        first = builder.mul(slot, constant(I64, WORDS))
        for word, value in enumerate((start, end, thread)):
            at = builder.add(first, constant(I64, word))
            builder.store(value, builder.gep(times, [at], source_etype=I64), align=8)

    def note_here(self, builder: ir.IRBuilder, kernel: str, start: ir.Value) -> None:
        """Store the same of what `main` itself did."""
        assert self._times is not None
        slot = constant(I64, self.claim(kernel, 1))
        self.note(builder, self._times, slot, start, constant(I64, 0))
