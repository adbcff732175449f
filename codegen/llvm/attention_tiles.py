"""What attention kernels are made of: register tiles of products, and turned copies of rows.

In: pointers and strides.  Out: LLVM code at the builder's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.attention_plan import AttentionPlan
from braze.codegen.llvm.control import (
    Number,
    add,
    as_i64,
    counted_loop,
    element_pointer,
    multiply,
)
from braze.codegen.llvm.looping import carried_loop
from braze.codegen.llvm.operands import multiply_add
from braze.codegen.llvm.turned_stores import transposed
from braze.codegen.llvm.types import register_type, splat, zero

# Multiply-adds in a straight line.
_UNROLLED_PRODUCTS = 48

Tile = list[list[ir.Value]]


class Tiles:
    """Emits pieces of a kernel of one plan."""

    def __init__(self, builder: ir.IRBuilder, plan: AttentionPlan) -> None:
        self.builder = builder
        self.plan = plan
        self.item = register_type(plan.dtype)
        self.vector = register_type(plan.dtype, plan.lanes)
        self.align = plan.dtype.itemsize

    def at(self, pointer: ir.Value, *offsets: Number) -> ir.Value:
        """The address so many elements after a pointer."""
        for offset in offsets:
            pointer = element_pointer(self.builder, pointer, offset, self.item)
        return pointer

    def load(self, pointer: ir.Value, offset: Number = 0) -> ir.Value:
        return self.builder.load(self.at(pointer, offset), typ=self.vector, align=self.align)

    def store(self, value: ir.Value, pointer: ir.Value, offset: Number = 0) -> None:
        self.builder.store(value, self.at(pointer, offset), align=self.align)

    def load_item(self, pointer: ir.Value, offset: Number = 0) -> ir.Value:
        return self.builder.load(self.at(pointer, offset), typ=self.item, align=self.align)

    def store_item(self, value: ir.Value, pointer: ir.Value, offset: Number = 0) -> None:
        self.builder.store(value, self.at(pointer, offset), align=self.align)

    def times(self, a: Number, factor: int) -> Number:
        return multiply(self.builder, a, factor)

    # Products -------------------------------------------------------------------------------------

    def product(
        self,
        a: ir.Value,
        row_stride: int,
        step_stride: int,
        b: ir.Value,
        b_stride: int,
        steps: Number,
        rows: int,
        vectors: int,
        start: Tile | None = None,
    ) -> Tile:
        """start + the sum over steps of scalars of a, one a row, times vectors of b."""
        nothing = zero(self.vector)
        tile = start or [[nothing] * vectors for _ in range(rows)]
        if isinstance(steps, int):
            if steps == 0:
                return tile
            once = max(_UNROLLED_PRODUCTS // (rows * vectors), 1)
            once = next(n for n in range(min(once, steps), 0, -1) if steps % n == 0)
        else:
            once = 1
        flat = [value for row in tile for value in row]
        with carried_loop(self.builder, 0, steps, once, flat, "product") as loop:
            values = loop.values
            for step in range(once):
                place = add(self.builder, loop.index, step)
                left = self.at(a, self.times(place, step_stride))
                right = self.at(b, self.times(place, b_stride))
                line = [self.load(right, j * self.plan.lanes) for j in range(vectors)]
                for i in range(rows):
                    scalar = self.load_item(left, i * row_stride)
                    wide = splat(self.builder, scalar, self.plan.lanes)
                    for j in range(vectors):
                        number = i * vectors + j
                        total = values[number]
                        values[number] = multiply_add(
                            self.builder, wide, line[j], total, self.plan.dtype
                        )
            loop.update(values)
        return [loop.results[i * vectors : (i + 1) * vectors] for i in range(rows)]

    def pieces(self, extent: int, rows: int) -> Iterator[tuple[ir.Value, int]]:
        """Code for the first row of each piece of `rows` rows and of the rest, which is shorter."""
        whole = extent // rows
        if whole:
            with counted_loop(self.builder, 0, whole, "piece") as i:
                yield as_i64(self.times(i, rows)), rows
        if extent % rows:
            yield as_i64(whole * rows), extent % rows

    def load_tile(self, pointer: ir.Value, stride: int, rows: int, vectors: int) -> Tile:
        lanes = self.plan.lanes
        return [
            [self.load(pointer, i * stride + j * lanes) for j in range(vectors)]
            for i in range(rows)
        ]

    def store_tile(self, tile: Tile, pointer: ir.Value, stride: int) -> None:
        for i, row in enumerate(tile):
            for j, value in enumerate(row):
                self.store(value, pointer, i * stride + j * self.plan.lanes)

    # Rows and lanes -------------------------------------------------------------------------------

    def each_vector(self, count: int, body: Callable[[ir.Value, int], None]) -> None:
        """`body(row, vector)` for all vectors of `count` rows of lanes."""
        if count:
            with counted_loop(self.builder, 0, count, "lanes") as row:
                for j in range(self.plan.vectors):
                    body(row, j)

    def fill(self, pointer: ir.Value, count: int) -> None:
        """Zeros in `count` rows of lanes."""
        block, lanes = self.plan.block, self.plan.lanes

        def clear(row: ir.Value, j: int) -> None:
            self.store(zero(self.vector), pointer, add(self.builder, self.times(row, block),
                                                       j * lanes))  # fmt: skip

        self.each_vector(count, clear)

    def scale(self, pointer: ir.Value, count: int, factors: Sequence[ir.Value]) -> None:
        """Multiply rows of lanes by a factor for each lane."""
        block, lanes = self.plan.block, self.plan.lanes

        def multiply_one(row: ir.Value, j: int) -> None:
            place = self.at(pointer, self.times(row, block), j * lanes)
            self.store(self.builder.fmul(self.load(place), factors[j]), place)

        self.each_vector(count, multiply_one)

    def turn_in(
        self,
        source: ir.Value,
        strides: tuple[int, int],
        present: ir.Value,
        width: Number,
        target: ir.Value,
        factor: ir.Value | None = None,
    ) -> None:
        """Copy rows, one for each lane, so that a column's elements lie side by side.

        Args:
            strides: from row to row, and from column to column, in `source`.
            present: how many rows there are; the last one stands for those after it.
            factor: of all elements.
        """
        builder, lanes, block = self.builder, self.plan.lanes, self.plan.block
        across, along = strides
        last = builder.sub(present, as_i64(1))
        with counted_loop(builder, 0, self.plan.vectors, "turned") as j:
            first_lane = self.times(j, lanes)
            begins = []
            for lane in range(lanes):
                number = as_i64(add(builder, first_lane, lane))
                inside = builder.icmp_signed("<", number, last)
                number = builder.select(inside, number, last)
                begins.append(self.at(source, self.times(number, across)))
            whole: Number = 0
            if along == 1:
                if isinstance(width, int):
                    whole = width // lanes
                else:
                    whole = builder.udiv(width, as_i64(lanes))
            if whole != 0:
                with counted_loop(builder, 0, whole, "square") as square:
                    first = self.times(square, lanes)
                    rows = [self.load(begin, first) for begin in begins]
                    place = self.at(target, self.times(first, block), first_lane)
                    for i, value in enumerate(transposed(builder, rows)):
                        self.store(self._scaled(value, factor), place, i * block)
            rest = self.times(whole, lanes)
            if not isinstance(width, int) or width != rest:
                with counted_loop(builder, rest, width, "column") as column:
                    place = self.at(target, self.times(column, block), first_lane)
                    shift = self.times(column, along)
                    for lane, begin in enumerate(begins):
                        item = self.load_item(begin, shift)
                        self.store_item(self._scaled(item, factor), place, lane)

    def _scaled(self, value: ir.Value, factor: ir.Value | None) -> ir.Value:
        if factor is None:
            return value
        if isinstance(value.type, ir.VectorType):
            factor = splat(self.builder, factor, self.plan.lanes)
        return self.builder.fmul(value, factor)

    def turn_out(self, source: ir.Value, width: int, target: ir.Value) -> None:
        """The other way round, into rows of `width` that follow each other; all of them."""
        builder, lanes, block = self.builder, self.plan.lanes, self.plan.block
        whole = width // lanes
        with counted_loop(builder, 0, self.plan.vectors, "turned_back") as j:
            first_lane = self.times(j, lanes)
            begin = self.at(target, self.times(first_lane, width))
            if whole:
                with counted_loop(builder, 0, whole, "square_back") as square:
                    first = self.times(square, lanes)
                    place = self.at(source, self.times(first, block), first_lane)
                    rows = [self.load(place, i * block) for i in range(lanes)]
                    for i, value in enumerate(transposed(builder, rows)):
                        self.store(value, self.at(begin, first), i * width)
            if width > whole * lanes:
                with counted_loop(builder, whole * lanes, width, "column_back") as column:
                    place = self.at(source, self.times(column, block), first_lane)
                    for i in range(lanes):
                        self.store_item(self.load_item(place, i), self.at(begin, column), i * width)

    def copy_rows(
        self,
        source: ir.Value,
        strides: tuple[int, int],
        present: ir.Value,
        width: int,
        target: ir.Value,
        pitch: int,
        factor: ir.Value | None = None,
    ) -> None:
        """Copy rows into rows of `pitch` elements; what is missing is zero, whole rows too."""
        builder, lanes = self.builder, self.plan.lanes
        across, along = strides
        whole = width // lanes if along == 1 else 0
        nothing = zero(self.vector)
        assert pitch % lanes == 0
        with counted_loop(builder, 0, self.plan.block, "row") as row:
            to = self.at(target, self.times(row, pitch))
            is_present = builder.icmp_signed("<", row, present)
            with builder.if_else(is_present) as (there, missing):
                with there:
                    begin = self.at(source, self.times(row, across))
                    for first in range(whole * lanes, pitch, lanes):
                        self.store(nothing, to, first)
                    if whole:
                        with counted_loop(builder, 0, whole, "vector") as i:
                            place = self.times(i, lanes)
                            value = self._scaled(self.load(begin, place), factor)
                            self.store(value, to, place)
                    if width > whole * lanes:
                        with counted_loop(builder, whole * lanes, width, "item") as i:
                            item = self.load_item(begin, self.times(i, along))
                            self.store_item(self._scaled(item, factor), to, i)
                with missing:
                    for first in range(0, pitch, lanes):
                        self.store(nothing, to, first)
