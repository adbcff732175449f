"""Loops of vectors that read across their lanes: squares of elements, turned over in registers.

In: a serial loop around a vector loop, and the loads that cross it (see `ir.loops_crossing`).  Out:
code at the builder's position:

    for each `width` iterations of the serial loop
      for each strip of vectors of the vector loop
        for each of its vectors, of each crossing load
          a vector along the serial loop for every lane; turned over; set down
        for each of these iterations, for each vector
          the statements, with vectors from there

A square of elements is read in whole cache lines, which need not stay until the next iteration.
Where they lie a power of two apart, the cache has no room for them to stay in. All else is read and
written in runs as long as a strip: single lines on as many pages as there are rows and operands
would be more than a processor has translations at hand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import add, element_pointer, multiply, smaller
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.looping import Count, as_value, carried_loop, is_number
from braze.codegen.llvm.memory import has_masked_access
from braze.codegen.llvm.reduce_loops import first_lanes, lanes_over
from braze.codegen.llvm.turned_stores import transposed
from braze.codegen.llvm.types import I64, bits_of, constant, element_of, poison, register_type
from braze.codegen.llvm.vectorise import VectorPlan
from braze.ir.loops import Load, Loop, Statement
from braze.ir.loops_crossing import crossing_loads
from braze.ir.target import Target

# Vectors of a strip.
_STRIP = 16

# (statements, the emitter of a vector) -> their code
Emit = Callable[[Sequence[Statement], Sequence[ExpressionEmitter]], None]
# (the emitter of an iteration of the serial loop, first element) -> the vector loop from there on
Tail = Callable[[ExpressionEmitter, int], None]


def loads_in_squares(outer: Loop, inner: Loop, plan: VectorPlan, target: Target) -> list[Load]:
    """The crossing loads of which a square fits registers as wide as a vector."""
    if plan.width == 1:
        return []
    return [
        load
        for load in crossing_loads(outer, inner)
        if bits_of(register_type(load.dtype)) * plan.width <= target.vector_bits
        and (has_masked_access(target, load.dtype) or outer.var.extent % plan.width == 0)
    ]


@dataclass(frozen=True, eq=False)
class SquareEmitter:
    """Writes the loops of one kernel that read in squares.

    outer, inner: the serial loop and the vector loop in it. around: the emitter outside of both.
    plan: of the vector loop. loads: those that cross it. tail: does what is left of a vector loop
        where no mask can.
    """

    outer: Loop
    inner: Loop
    around: ExpressionEmitter
    plan: VectorPlan
    loads: Sequence[Load]
    statements: Emit
    tail: Tail

    @property
    def builder(self) -> ir.IRBuilder:
        return self.around.builder

    def emit(self, begin: Count, end: Count) -> None:
        """The iterations of the serial loop from `begin`, a multiple of the width, to `end`: all
        of whole squares, or those that end the loop."""
        width, extent = self.plan.width, self.outer.var.extent
        places = self._places()
        rest = extent % width
        whole: Count = extent - rest
        if not is_number(end) or end != extent:
            limit, stop = constant(I64, extent - rest), as_value(end)
            below = self.builder.icmp_signed("<", stop, limit)
            whole = self.builder.select(below, stop, limit)
        if not (is_number(begin) and is_number(whole) and begin >= whole):
            with carried_loop(self.builder, begin, whole, width, (), "square") as frame:
                self._row_of_squares(frame.index, width, places)
        if not rest:
            return
        if is_number(end):
            self._row_of_squares(as_value(whole), rest, places)
            return
        is_last = self.builder.icmp_signed("==", as_value(end), constant(I64, extent))
        with self.builder.if_then(is_last):
            self._row_of_squares(constant(I64, extent - rest), rest, places)

    def _places(self) -> dict[Load, ir.Value]:
        """Memory for a square of each load, its rows the vectors that the statements read."""
        with self.builder.goto_entry_block():
            return {
                load: self.builder.alloca(
                    register_type(load.dtype, self.plan.width),
                    size=constant(I64, self.plan.width * self._strip),
                )
                for load in self.loads
            }

    def _row_of_squares(self, at: ir.Value, rows: int, places: dict[Load, ir.Value]) -> None:
        """`rows` iterations of the serial loop, from `at`."""
        width, extent = self.plan.width, self.inner.var.extent
        vectors, rest = divmod(extent, width)
        whole = extent - rest
        if vectors:
            with carried_loop(self.builder, 0, vectors, self._strip, (), "strip") as strip:
                number: Count = self._strip
                if vectors % self._strip:
                    left = self.builder.sub(constant(I64, vectors), strip.index)
                    number = as_value(smaller(self.builder, left, self._strip))
                first = as_value(multiply(self.builder, strip.index, width))
                self._squares(at, rows, first, width, number, places)
        if not rest:
            return
        if self.plan.tail == "mask":
            self._squares(at, rows, constant(I64, whole), rest, 1, places)
            return
        with carried_loop(self.builder, 0, rows, 1, (), self.outer.var.name) as frame:
            self.tail(self._row_at(at, frame.index), whole)

    def _row_at(self, at: ir.Value, number: ir.Value) -> ExpressionEmitter:
        return self.around.fork({self.outer.var: self.builder.add(at, number)})

    @property
    def _strip(self) -> int:
        return max(1, min(_STRIP, self.inner.var.extent // self.plan.width))

    def _squares(
        self,
        at: ir.Value,
        rows: int,
        first: ir.Value,
        lanes: int,
        number: Count,
        places: dict[Load, ir.Value],
    ) -> None:
        """`number` squares side by side, of so many lanes each, from lane `first` on."""
        builder, width = self.builder, self.plan.width
        with self._each(number) as vector:
            lane = builder.add(first, as_value(multiply(builder, vector, width)))
            for load, place in places.items():
                self._turn(load, place, at, rows, lane, lanes, vector)
        mask = None
        if lanes < width:
            mask = first_lanes(builder, width, constant(I64, lanes))
        with carried_loop(builder, 0, rows, 1, (), self.outer.var.name) as frame:
            row = self._row_at(at, frame.index)
            with self._each(number) as vector:
                lane = builder.add(first, as_value(multiply(builder, vector, width)))
                copy = lanes_over(row, self.inner.var, lane, width, mask)
                for load, place in places.items():
                    copy.provide(load, self._row(load, place, frame.index, vector))
                self.statements(self.inner.body, [copy])

    @contextmanager
    def _each(self, number: Count) -> Iterator[Count]:
        """A loop, or none for one."""
        if is_number(number) and number == 1:
            yield 0
            return
        with carried_loop(self.builder, as_value(0), as_value(number), 1, (), "vector") as frame:
            yield frame.index

    def _turn(
        self,
        load: Load,
        place: ir.Value,
        at: ir.Value,
        rows: int,
        lane: ir.Value,
        lanes: int,
        vector: Count,
    ) -> None:
        """Read a square of one load, and set it down turned over."""
        width = self.plan.width
        mask = None
        if rows < width:
            mask = first_lanes(self.builder, width, constant(I64, rows))
        variable = self.inner.var
        first = self.around.fork({variable: lane})
        if any(variable in bound.index.variables() for bound in load.guard):
            read: list[ir.Value] = []
            for number in range(lanes):
                column = first.fork(shifts={variable: number})
                read.append(lanes_over(column, self.outer.var, at, width, mask).value(load))
        else:
            column = lanes_over(first, self.outer.var, at, width, mask)
            read = column.loads(load, lanes, load.index.coefficient(variable))
        read += [poison(read[0].type)] * (width - lanes)
        for number, value in enumerate(transposed(self.builder, read)[:rows]):
            self.builder.store(value, self._at(load, place, number, vector))

    def _at(self, load: Load, place: ir.Value, row: Count, vector: Count) -> ir.Value:
        element = element_of(register_type(load.dtype))
        number = add(self.builder, multiply(self.builder, row, self._strip), vector)
        offset = multiply(self.builder, number, self.plan.width)
        return element_pointer(self.builder, place, offset, element)

    def _row(self, load: Load, place: ir.Value, row: Count, vector: Count) -> ir.Value:
        kind = register_type(load.dtype, self.plan.width)
        return self.builder.load(self._at(load, place, row, vector), typ=kind)
