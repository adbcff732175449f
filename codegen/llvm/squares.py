"""Loops of vectors that read across their lanes: squares of elements, turned over in registers.

In: a serial loop around a vector loop, and the loads that cross it (see `ir.loops_crossing`).  Out:
code at the builder's position:

    for each `width` iterations of the serial loop
      for each vector of the vector loop
        of each crossing load: a vector along the serial loop for every lane; turned over; set down
        for each of these iterations
          the statements, with vectors from there

A square of elements is read in whole cache lines, which need not stay until the next iteration.
Where they lie a power of two apart, the cache has no room for them to stay in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import element_pointer, multiply
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
                    size=constant(I64, self.plan.width),
                )
                for load in self.loads
            }

    def _row_of_squares(self, at: ir.Value, rows: int, places: dict[Load, ir.Value]) -> None:
        """`rows` iterations of the serial loop, from `at`."""
        width, extent = self.plan.width, self.inner.var.extent
        whole = extent - extent % width
        if whole:
            with carried_loop(self.builder, 0, whole, width, (), self.inner.var.name) as frame:
                self._square(at, rows, frame.index, width, places)
        if extent == whole:
            return
        if self.plan.tail == "mask":
            self._square(at, rows, constant(I64, whole), extent - whole, places)
            return
        with carried_loop(self.builder, 0, rows, 1, (), self.outer.var.name) as frame:
            self.tail(self._row_at(at, frame.index), whole)

    def _row_at(self, at: ir.Value, number: ir.Value) -> ExpressionEmitter:
        return self.around.fork({self.outer.var: self.builder.add(at, number)})

    def _square(
        self, at: ir.Value, rows: int, lane: ir.Value, lanes: int, places: dict[Load, ir.Value]
    ) -> None:
        width = self.plan.width
        for load, place in places.items():
            self._turn(load, place, at, rows, lane, lanes)
        mask = None
        if lanes < width:
            mask = first_lanes(self.builder, width, constant(I64, lanes))
        with carried_loop(self.builder, 0, rows, 1, (), self.outer.var.name) as frame:
            row = self._row_at(at, frame.index)
            copy = lanes_over(row, self.inner.var, lane, width, mask)
            for load, place in places.items():
                copy.provide(load, self._row(load, place, frame.index))
            self.statements(self.inner.body, [copy])

    def _turn(
        self, load: Load, place: ir.Value, at: ir.Value, rows: int, lane: ir.Value, lanes: int
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
            self.builder.store(value, self._at(load, place, constant(I64, number)))

    def _at(self, load: Load, place: ir.Value, row: ir.Value) -> ir.Value:
        element = element_of(register_type(load.dtype))
        offset = multiply(self.builder, row, self.plan.width)
        return element_pointer(self.builder, place, offset, element)

    def _row(self, load: Load, place: ir.Value, row: ir.Value) -> ir.Value:
        vector = register_type(load.dtype, self.plan.width)
        return self.builder.load(self._at(load, place, row), typ=vector)
