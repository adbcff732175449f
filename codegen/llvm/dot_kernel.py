"""The kernel of a `DotSchedule`: tiles of scalar products.

In: a `KernelFunction` and a `DotSchedule`.  Out: the function's body, and one function for each
size of tile,

    void dot(ptr a, ptr b, ptr epilogue buffers..., i64 outer variables...)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import (
    Number,
    add,
    as_i64,
    counted_loop,
    decode,
    element_pointer,
    multiply,
    share,
    weighted_sum,
)
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.kernel import KernelFunction
from braze.codegen.llvm.looping import CarriedLoop, carried_loop
from braze.codegen.llvm.operands import OperandLoader, multiply_add
from braze.codegen.llvm.pieces import by_size, piece_begin
from braze.codegen.llvm.schedule_dot import DotSchedule
from braze.codegen.llvm.schedule_parts import MOST_TERMS
from braze.codegen.llvm.tile import epilogue_buffers
from braze.codegen.llvm.types import (
    I32,
    I64,
    POINTER,
    SECOND_LEVEL,
    constants,
    memory_type,
    poison,
    prefetch,
    register_type,
    zero,
)
from braze.ir.target import Target

# The partial sums of a block, and the sums of earlier blocks.
_Sums = tuple[list[ir.Value], list[ir.Value]]


class DotKernelEmitter:
    """Writes the kernel: a loop over the chunk's tiles."""

    def __init__(self, frame: KernelFunction, plan: DotSchedule, target: Target) -> None:
        self.frame = frame
        self.plan = plan
        self.builder = frame.builder
        self.tiles = {
            (i, j): _TileEmitter(frame, plan, target, rows, columns).emit()
            for i, rows in enumerate(plan.rows.sizes)
            for j, columns in enumerate(plan.columns.sizes)
        }

    def emit(self) -> None:
        plan, builder = self.plan, self.builder
        epilogue = [self.frame.pointer(buffer) for buffer in epilogue_buffers(plan.shape.stores)]
        pieces = [plan.rows.count, plan.columns.count]
        if plan.columns_outside:
            pieces.reverse()
        extents = [*(dim.extent for dim in plan.loops), *pieces]
        bounds = share(builder, self.frame.chunk, plan.chunks, plan.tiles)
        with counted_loop(builder, *bounds, "tile") as tile:
            *loops, row_piece, column_piece = decode(builder, tile, extents)
            if plan.columns_outside:
                row_piece, column_piece = column_piece, row_piece
            row = piece_begin(builder, plan.rows, row_piece)
            column = piece_begin(builder, plan.columns, column_piece)
            places = [*loops, row, column]
            dims = (*plan.loops, plan.row, plan.column)
            shape = plan.shape
            a = add(builder, weighted_sum(builder, places, [d.a for d in dims]), shape.a_offset)
            b = add(builder, weighted_sum(builder, places, [d.b for d in dims]), shape.b_offset)
            arguments = [
                element_pointer(
                    builder, self.frame.pointer(shape.a), a, memory_type(shape.a.dtype)
                ),
                element_pointer(
                    builder, self.frame.pointer(shape.b), b, memory_type(shape.b.dtype)
                ),
                *epilogue,
                *(as_i64(place) for place in places),
            ]

            def call(i: int, j: int, arguments: list[ir.Value] = arguments) -> None:
                builder.call(self.tiles[i, j], arguments)

            by_size(
                builder,
                plan.rows,
                row_piece,
                lambda i: by_size(builder, plan.columns, column_piece, lambda j: call(i, j)),
            )
        builder.ret_void()


class _TileEmitter:
    """Writes the function for one size of tile."""

    def __init__(
        self, frame: KernelFunction, plan: DotSchedule, target: Target, rows: int, columns: int
    ) -> None:
        self.plan = plan
        self.target = target
        self.rows, self.columns = rows, columns
        self.dtype = plan.shape.dtype
        self.vector = register_type(self.dtype, plan.width)
        buffers = epilogue_buffers(plan.shape.stores)
        variables = [dim.var for dim in (*plan.loops, plan.row, plan.column)]
        types = [POINTER] * (2 + len(buffers)) + [I64] * len(variables)
        signature = ir.FunctionType(ir.VoidType(), types)
        self.function = ir.Function(frame.module, signature, f"{frame.symbol}_dot_{rows}x{columns}")
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.function.attributes.add("nounwind")
        arguments = iter(self.function.args)
        self.a, self.b = next(arguments), next(arguments)
        self.pointers = {buffer.name: next(arguments) for buffer in buffers}
        self.variables = {variable: next(arguments) for variable in variables}
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        shape = plan.shape
        self.a_loader = OperandLoader(self.builder, target, shape.a.dtype, self.dtype)
        self.b_loader = OperandLoader(self.builder, target, shape.b.dtype, self.dtype)

    def emit(self) -> ir.Function:
        builder = self.builder
        results = self.rows * self.columns
        nothing: list[ir.Value] = [zero(self.vector)] * (results * self.plan.sets)
        sums, totals = self._loops(0, self.a, self.b, (nothing, nothing))
        totals = self._committed(sums, totals)
        self._epilogue([self._total(totals, i) for i in range(results)])
        builder.ret_void()
        return self.function

    # The sums -----------------------------------------------------------------------------------

    def _loops(self, level: int, a: ir.Value, b: ir.Value, state: _Sums) -> _Sums:
        """The sums after all terms of the dimensions from this one on."""
        dim = self.plan.inner[level]
        if level == len(self.plan.inner) - 1:
            return self._in_blocks(dim.extent, a, b, state)
        with self._carried(dim.extent, state, "outer") as (loop, inside):
            a_type, b_type = self._types()
            a_far, b_far = (multiply(self.builder, loop.index, step) for step in (dim.a, dim.b))
            a_next = element_pointer(self.builder, a, a_far, a_type)
            b_next = element_pointer(self.builder, b, b_far, b_type)
            sums, totals = self._loops(level + 1, a_next, b_next, inside)
            loop.update([*sums, *totals])
        return self._apart(loop.results)

    @contextmanager
    def _carried(self, times: int, state: _Sums, name: str) -> Iterator[tuple[CarriedLoop, _Sums]]:
        """A loop that carries all sums, and these within it."""
        with carried_loop(self.builder, 0, times, 1, [*state[0], *state[1]], name) as loop:
            yield loop, self._apart(loop.values)

    def _apart(self, values: list[ir.Value]) -> _Sums:
        half = len(values) // 2
        return values[:half], values[half:]

    def _types(self) -> tuple[ir.Type, ir.Type]:
        return self.a_loader.element, self.b_loader.element

    def _in_blocks(self, extent: int, a: ir.Value, b: ir.Value, state: _Sums) -> _Sums:
        """The innermost dimension, in partial sums of at most `MOST_TERMS` terms a lane."""
        block = MOST_TERMS * self.plan.width * self.plan.sets
        whole = extent // block
        a_type, b_type = self._types()
        if whole:
            with self._carried(whole, state, "block") as (loop, (sums, totals)):
                at = multiply(self.builder, loop.index, block)
                a_block = element_pointer(self.builder, a, at, a_type)
                b_block = element_pointer(self.builder, b, at, b_type)
                sums = self._contiguous(block, a_block, b_block, sums)
                nothing = [zero(self.vector)] * len(sums)
                loop.update([*nothing, *self._committed(sums, totals)])
            state = self._apart(loop.results)
        if extent % block:
            a_rest = element_pointer(self.builder, a, whole * block, a_type)
            b_rest = element_pointer(self.builder, b, whole * block, b_type)
            state = self._contiguous(extent % block, a_rest, b_rest, state[0]), state[1]
        return state

    def _committed(self, sums: list[ir.Value], totals: list[ir.Value]) -> list[ir.Value]:
        """The totals with the partial sums."""
        plus = self.builder.fadd if self.dtype.is_floating_point else self.builder.add
        return [plus(total, partial) for total, partial in zip(totals, sums, strict=True)]

    def _contiguous(
        self, extent: int, a: ir.Value, b: ir.Value, sums: list[ir.Value]
    ) -> list[ir.Value]:
        """Whole vectors, `sets` of them in turn; then what is left, the last one masked."""
        width = self.plan.width
        stride = width * self.plan.sets
        rounds = extent // stride
        if rounds:
            with carried_loop(self.builder, 0, rounds, 1, sums, "inner") as loop:
                at = multiply(self.builder, loop.index, stride)
                inside = list(loop.values)
                for number in range(self.plan.sets):
                    start = add(self.builder, at, number * width)
                    self._products(inside, number, a, b, start, width)
                loop.update(inside)
            sums = loop.results
        left = extent - rounds * stride
        if left:
            sums = list(sums)
            for number in range(-(-left // width)):
                present = min(width, left - number * width)
                self._products(sums, number, a, b, rounds * stride + number * width, present)
        return sums

    def _products(
        self,
        sums: list[ir.Value],
        number: int,
        a: ir.Value,
        b: ir.Value,
        offset: Number,
        present: int,
    ) -> None:
        """Add one vector's products to set `number` of the accumulators."""
        builder, width = self.builder, self.plan.width

        def vector_of(base: ir.Value, at: int, loader: OperandLoader, ahead: int) -> ir.Value:
            start = add(builder, offset, at)
            place = element_pointer(builder, base, start, loader.element)
            if ahead:
                later = element_pointer(builder, place, ahead, loader.element)
                prefetch(builder, later, SECOND_LEVEL)
            return loader.load(place, width, present)

        ahead_a, ahead_b = self.plan.fetched_ahead

        def a_vector(row: int) -> ir.Value:
            return vector_of(a, row * self.plan.row.a, self.a_loader, ahead_a)

        def b_vector(column: int) -> ir.Value:
            return vector_of(b, column * self.plan.column.b, self.b_loader, ahead_b)

        def accumulate(row: int, column: int, x: ir.Value, y: ir.Value) -> None:
            at = (row * self.columns + column) * self.plan.sets + number
            sums[at] = multiply_add(builder, x, y, sums[at], self.dtype)

        # The operand with fewer vectors stays in registers while the other one streams.
        if self.rows <= self.columns:
            held = [a_vector(row) for row in range(self.rows)]
            for column in range(self.columns):
                value = b_vector(column)
                for row in range(self.rows):
                    accumulate(row, column, held[row], value)
        else:
            held = [b_vector(column) for column in range(self.columns)]
            for row in range(self.rows):
                value = a_vector(row)
                for column in range(self.columns):
                    accumulate(row, column, value, held[column])

    def _total(self, totals: list[ir.Value], result: int) -> ir.Value:
        """One result: its accumulators added up, then halves of the vector."""
        sets = self.plan.sets
        parts = totals[result * sets : (result + 1) * sets]
        plus = self.builder.fadd if self.dtype.is_floating_point else self.builder.add
        while len(parts) > 1:
            parts = [
                plus(parts[i], parts[i + 1]) if i + 1 < len(parts) else parts[i]
                for i in range(0, len(parts), 2)
            ]
        (value,) = parts
        lanes = self.plan.width
        while lanes > 1:
            lanes //= 2
            low = constants(I32, list(range(lanes)))
            high = constants(I32, list(range(lanes, 2 * lanes)))
            if lanes == 1:
                return plus(
                    self.builder.extract_element(value, ir.Constant(I32, 0)),
                    self.builder.extract_element(value, ir.Constant(I32, 1)),
                )
            nothing = poison(value.type)
            value = plus(
                self.builder.shuffle_vector(value, nothing, low),
                self.builder.shuffle_vector(value, nothing, high),
            )
        return value

    def _epilogue(self, results: list[ir.Value]) -> None:
        builder, plan = self.builder, self.plan
        for number, value in enumerate(results):
            r, c = divmod(number, self.columns)
            variables = dict(self.variables)
            variables[plan.row.var] = as_i64(add(builder, variables[plan.row.var], r))
            variables[plan.column.var] = as_i64(add(builder, variables[plan.column.var], c))
            emitter = ExpressionEmitter(
                builder,
                self.target,
                variables=variables,
                refs={"acc": value},
                pointer=lambda buffer: self.pointers[buffer.name],
            )
            for store in plan.shape.stores:
                emitter.store(store)
