"""Copying a block of an operand into scratch memory, in the order the micro-kernel reads it.

In: a `Tile`.  Out: LLVM functions `void pack(ptr from, ptr to, i64 steps, i64 rows)` that write

    b: one panel, [step of the sum][lane], missing lanes as zeros (`rows` is ignored);
    a: a chunk's rows, [step of the sum][row].
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from braze.codegen.llvm.control import (
    Number,
    add,
    as_i64,
    counted_loop,
    element_pointer,
    multiply,
)
from braze.codegen.llvm.microkernel import Level, Tile
from braze.codegen.llvm.operands import OperandLoader
from braze.codegen.llvm.turned_stores import transposed
from braze.codegen.llvm.types import (
    I32,
    I64,
    POINTER,
    register_type,
    zero,
)
from braze.ir.target import Target

# (offset in the operand, step of the sum) -> code that packs one step
Body = Callable[[Number, Number], None]


class PackEmitter:
    """Writes the packing functions of one tile."""

    def __init__(self, module: ir.Module, tile: Tile, target: Target, name: str) -> None:
        self.tile = tile
        self.schedule = tile.schedule
        self.shape = tile.schedule.shape
        self.dtype = self.shape.dtype
        self.width = tile.schedule.width
        self.item = register_type(self.dtype)
        types = [POINTER, POINTER, I64, I64]
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), types), name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.source, self.packed, self.steps, self.rows = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.a = OperandLoader(self.builder, target, self.shape.a.dtype, self.dtype)
        self.b = OperandLoader(self.builder, target, self.shape.b.dtype, self.dtype)

    def pack_b(self) -> ir.Function:
        """A panel of b."""
        levels = self._levels([dim.b for dim in self.schedule.inner])
        if self.schedule.pack_b == "transpose":
            self._loops(levels[:-1], 0, 0, lambda at, step: self._transpose(levels[-1], at, step))
        elif self.schedule.pack_b == "copy":
            self._loops(levels, 0, 0, self._copy_b)
        else:
            self._loops(levels, 0, 0, self._gather_b)
        self.builder.ret_void()
        return self.function

    def pack_a(self) -> ir.Function:
        """The rows of a chunk; one more argument says how many."""
        levels = self._levels([dim.a for dim in self.schedule.inner])
        self._loops(levels, 0, 0, self._copy_rows)
        self.builder.ret_void()
        return self.function

    # Loops over the steps -----------------------------------------------------------------------

    def _levels(self, strides: list[int]) -> list[Level]:
        dims = self.schedule.inner
        levels = [Level(dim.extent, stride, 0) for dim, stride in zip(dims, strides, strict=True)]
        first = None if self.schedule.uneven else self.schedule.block
        if not levels:  # one term, or none
            return [Level(first, 0, 0)]
        return [Level(first, levels[0].a, 0), *levels[1:]]

    def _extent(self, level: Level) -> Number:
        return self.steps if level.extent is None else level.extent

    def _loops(self, levels: list[Level], offset: Number, step: Number, body: Body) -> None:
        if not levels:
            body(offset, step)
            return
        level, *rest = levels
        builder = self.builder
        with counted_loop(builder, 0, self._extent(level), "step") as i:
            place = add(builder, offset, multiply(builder, i, level.a))
            number = add(builder, self._scaled(step, level), i)
            self._loops(rest, place, number, body)

    def _scaled(self, step: Number, level: Level) -> Number:
        if isinstance(step, int) and step == 0:
            return 0
        # Only the first level may have a run-time extent, and before it no step has been counted.
        assert level.extent is not None
        return multiply(self.builder, step, level.extent)

    def _place(self, step: Number, across: int, lane: int) -> ir.Value:
        offset = add(self.builder, multiply(self.builder, step, across), lane)
        return element_pointer(self.builder, self.packed, offset, self.item)

    # Panels of b --------------------------------------------------------------------------------

    @property
    def _lanes(self) -> int:
        return self.tile.vectors * self.width

    def _present(self, vector: int) -> int:
        return self.tile.lanes if vector == self.tile.vectors - 1 else self.width

    def _b_place(self, offset: Number) -> ir.Value:
        return element_pointer(self.builder, self.source, offset, self.b.element)

    def _store(self, value: ir.Value, place: ir.Value) -> None:
        self.builder.store(value, place, align=self.dtype.itemsize)

    def _copy_b(self, offset: Number, step: Number) -> None:
        for j in range(self.tile.vectors):
            place = self._b_place(add(self.builder, offset, j * self.width))
            value = self.b.load(place, self.width, self._present(j))
            self._store(value, self._place(step, self._lanes, j * self.width))

    def _gather_b(self, offset: Number, step: Number) -> None:
        for j in range(self.tile.vectors):
            value: ir.Value = zero(register_type(self.dtype, self.width))
            for lane in range(self._present(j)):
                stride = self.schedule.lane.b
                place = self._b_place(add(self.builder, offset, (j * self.width + lane) * stride))
                item = ir.Constant(I32, lane)
                value = self.builder.insert_element(value, self.b.load(place), item)
            self._store(value, self._place(step, self._lanes, j * self.width))

    def _transpose(self, level: Level, offset: Number, step: Number) -> None:
        """The innermost dimension is contiguous: read vectors along it, turn squares of them."""
        builder, width = self.builder, self.width
        extent = self._extent(level)
        first = self._scaled(step, level)
        whole = extent // width if isinstance(extent, int) else builder.udiv(extent, as_i64(width))
        if not isinstance(whole, int) or whole:
            with counted_loop(builder, 0, whole, "square") as square:
                at = multiply(builder, square, width)
                self._squares(add(builder, offset, at), add(builder, first, at))
        begin = multiply(builder, whole, width)
        if not (isinstance(begin, int) and begin == extent):
            with counted_loop(builder, begin, extent, "rest") as i:
                self._gather_b(add(builder, offset, i), add(builder, first, i))

    def _squares(self, offset: Number, step: Number) -> None:
        builder, width = self.builder, self.width
        nothing = zero(register_type(self.dtype, width))
        for j in range(self.tile.vectors):
            rows: list[ir.Value] = [nothing] * width
            for lane in range(self._present(j)):
                column = (j * width + lane) * self.schedule.lane.b
                place = self._b_place(add(builder, offset, column))
                rows[lane] = self.b.load(place, width)
            for i, value in enumerate(transposed(builder, rows)):
                place = self._place(add(builder, step, i), self._lanes, j * width)
                self._store(value, place)

    # Rows of a ----------------------------------------------------------------------------------

    def _copy_rows(self, offset: Number, step: Number) -> None:
        """One step's rows, which are neighbours in memory."""
        builder, width = self.builder, self.width
        whole = builder.udiv(self.rows, as_i64(width))

        def copy(row: ir.Value, lanes: int) -> None:
            start = add(builder, offset, row)
            place = element_pointer(builder, self.source, start, self.a.element)
            at = add(builder, multiply(builder, step, self.schedule.a_row_elements), row)
            packed = element_pointer(builder, self.packed, at, self.item)
            self._store(self.a.load(place, lanes), packed)

        with counted_loop(builder, 0, whole, "vector") as i:
            copy(as_i64(multiply(builder, i, width)), width)
        with counted_loop(builder, builder.mul(whole, as_i64(width)), self.rows, "row") as i:
            copy(i, 1)
