"""When each chunk of each kernel ran: what a timed program has beside its kernels.

In: the builder of `main` or of a wave's function.  Out: code that reads the processor's clock
before and after a kernel's function and stores both, with the thread, in a slot of its own. Slots
are numbered at compile time, so nothing is shared between threads and no chunk waits for another.

    times = [start, end, thread] * slots        i64 each, ticks of the clock

The clock is the time stamp counter on x86-64 (``rdtsc``, by `llvm.readcyclecounter`). On aarch64
that intrinsic reads a counter that is closed to programs; CNTVCT_EL0 is not. Both tick at a
constant rate, the same for all cores.

The address of the times stands in word TIMES of the status block. A wave's function gets it beside
its own argument, as ``[times, argument]``: kernels need not know of it, so a timed program's
kernels are the very functions of the program itself.
"""

from __future__ import annotations

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import I64, POINTER, constant, declare
from braze.ir.target import TIMES

WORDS = 3  # of a slot
# The intrinsic, and the register that it is to read.
_CLOCKS = {
    "x86_64": ("llvm.readcyclecounter", ""),
    "aarch64": ("llvm.read_volatile_register.i64", "cntvct_el0"),
}


class Stopwatch:
    """Writes the timing code of one program.

    Attributes:
        slots: the kernel that each slot is of.

    Raises:
        ValueError: an architecture whose clock is not known.
    """

    def __init__(self, architecture: str) -> None:
        self.slots: list[str] = []
        self._clock = clock_of(architecture)
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
        name, register = self._clock
        arguments: list[ir.Value] = []
        if register:
            node = builder.module.add_metadata([register])
            arguments = [ir.Value(ir.Type("metadata"), node.ref)]
        function = declare(builder.module, name, I64, *(a.type for a in arguments))
        return builder.call(function, arguments)

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


def clock_of(architecture: str) -> tuple[str, str]:
    """The clock's intrinsic and its register, or "".  Raises: ValueError: it is not known."""
    if architecture not in _CLOCKS:
        raise ValueError(f"[stopwatch] no clock is known for {architecture}")
    return _CLOCKS[architecture]


def clock_module(architecture: str) -> str:
    """LLVM IR of ``i64 braze_clock()``, which reads the clock."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(I64, []), "braze_clock")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    builder.ret(Stopwatch(architecture).now(builder))
    return str(module)
