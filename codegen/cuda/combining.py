"""How accumulators start, take in values, and are combined over threads.

In: an `Accumulator` of the loop IR.  Out: C. What argmax and argmin keep is a value and its place.
"""

from __future__ import annotations

from dataclasses import dataclass

from braze.codegen.cuda.expressions import Expressions
from braze.codegen.cuda.kernel import KernelWriter
from braze.codegen.cuda.text import bare, identifier
from braze.codegen.cuda.types import infinity, literal, placed, placed_types, register_type
from braze.ir.dtypes import DType
from braze.ir.loops import Accumulator

_FUNCTORS = {
    "sum": "Sum",
    "prod": "Product",
    "amax": "Larger",
    "amin": "Smaller",
    "any": "Any",
    "all": "All",
    "argmax": "FirstLargest",
    "argmin": "FirstSmallest",
}
# Behind every place.
NOWHERE = {"int": "0x7fffffff", "long long": "0x7fffffffffffffffLL"}


def start_of(combine: str, dtype: DType) -> str:
    """What combining no values gives."""
    if combine in ("sum", "any"):
        return literal(0, dtype)
    if combine in ("prod", "all"):
        return literal(1, dtype)
    return infinity(dtype, -1 if combine in ("amax", "argmax", "lastmax") else 1)


@dataclass(slots=True)
class Running:
    """An accumulator in a thread's registers: `name` is the variable."""

    accumulator: Accumulator
    name: str

    @property
    def is_placed(self) -> bool:
        return self.accumulator.position is not None

    @property
    def functor(self) -> str:
        return _FUNCTORS[self.accumulator.combine] + "()"

    @property
    def functor_part(self) -> str:
        """The part of the library that has the functor."""
        return "Placed" if self.is_placed else _FUNCTORS[self.accumulator.combine]

    @property
    def type(self) -> str:
        if self.is_placed:
            return f"Placed<{', '.join(self.placed_types)}>"
        return register_type(self.accumulator.value.dtype)

    @property
    def placed_types(self) -> tuple[str, str]:
        assert self.accumulator.position is not None
        _, last = self.accumulator.position.span
        return placed_types(self.accumulator.value.dtype, last + 1)

    @property
    def result(self) -> str:
        """The C expression of what a `Ref` reads."""
        return f"(long long){self.name}.place" if self.is_placed else self.name


def declare(made: KernelWriter, accumulator: Accumulator) -> Running:
    """An accumulator that has taken in nothing."""
    name = made.writer.fresh(identifier(accumulator.name.rstrip("0123456789")))
    running = Running(accumulator, name)
    start = start_of(accumulator.combine, accumulator.value.dtype)
    if running.is_placed:
        made.use("Placed")
        start = placed(start, NOWHERE[running.placed_types[1]], running.placed_types)
    made.writer.line(f"{running.type} {name} = {bare(start)};")
    return running


def take(made: KernelWriter, running: Running, emitter: Expressions) -> None:
    """Take in the value at the emitter's point."""
    accumulator, name = running.accumulator, running.name
    value = bare(emitter.value(accumulator.value))
    if running.is_placed:
        assert accumulator.position is not None
        place = emitter.index(accumulator.position)
        made.use("Placed")
        value = placed(value, place, running.placed_types)
    combine = accumulator.combine
    if accumulator.value.dtype.is_floating_point and combine in ("sum", "prod"):
        made.writer.line(f"{name} {'+' if combine == 'sum' else '*'}= {value};")
        return
    if combine in ("amax", "amin"):
        made.use("larger")
        function = "larger" if combine == "amax" else "smaller"
        if accumulator.value.dtype.kind != "bool":
            made.writer.line(f"{name} = {function}({name}, {value});")
            return
    made.use(running.functor_part)
    made.writer.line(f"{name} = {running.functor}({name}, {value});")


def share(made: KernelWriter, running: Running, call: str) -> None:
    """Combine over threads.

    Args:
        call: a function of the library with its numbers of threads, such as ``lanes_reduce<8>``.
    """
    made.use(call.partition("<")[0])
    made.use(running.functor_part)
    if running.is_placed:
        made.use("shuffle_placed")
    made.writer.line(f"{running.name} = {call}({running.name}, {running.functor});")
