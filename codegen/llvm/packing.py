"""Copying a block of an operand into scratch memory, in the order the micro-kernel reads it.

In: a `Tile`.  Out: LLVM functions

    void pack(ptr from, ptr to, i64 steps, i64 count [, i64 word 0])

that write

    b: `count` neighbouring panels, [panel][step of the sum][lane], missing lanes as zeros;
    a: `count` neighbouring row tiles, [tile][step of the sum][row].

Loops are nested so that what is contiguous in the operand is read in one go: processors fetch ahead
in long runs only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import (
    Number,
    add,
    as_i64,
    counted_loop,
    element_pointer,
    multiply,
)
from braze.codegen.llvm.operands import OperandLoader
from braze.codegen.llvm.symbolic import enter_function, size_count, symbolic_scope
from braze.codegen.llvm.tile import Level, Tile
from braze.codegen.llvm.turned_stores import transposed
from braze.codegen.llvm.types import (
    I32,
    I64,
    POINTER,
    register_type,
    zero,
)
from braze.ir.target import Target

_GROUP = 8  # steps of packed rows that are copied at a time

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
        types = [POINTER, POINTER, I64, I64] + [I64] * size_count()
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), types), name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.source, self.packed, self.steps, self.count, *self.sizes = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.a = OperandLoader(self.builder, target, self.shape.a.dtype, self.dtype)
        self.b = OperandLoader(self.builder, target, self.shape.b.dtype, self.dtype)

    def pack_b(self) -> ir.Function:
        """Panels of b."""
        with self._scope():
            return self._pack_b()

    def pack_a(self) -> ir.Function:
        """Row tiles of a, whose rows are neighbours in memory."""
        with self._scope():
            return self._pack_a()

    @contextmanager
    def _scope(self) -> Iterator[None]:
        with symbolic_scope():
            if self.sizes:
                enter_function(self.builder, self.sizes.__getitem__, len(self.sizes))
            yield

    def _pack_b(self) -> ir.Function:
        levels = self._levels([dim.b for dim in self.schedule.inner])
        if self.schedule.pack_b == "copy":
            self._loops(levels, 0, 0, self._copy_panels)
        else:
            self._turn_panels(levels)
        self.builder.ret_void()
        return self.function

    def _pack_a(self) -> ir.Function:
        levels = self._levels([dim.a for dim in self.schedule.inner])
        self._loops(levels[:-1], 0, 0, lambda at, step: self._copy_rows(levels[-1], at, step))
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

    # Panels of b --------------------------------------------------------------------------------

    @property
    def _lanes(self) -> int:
        return self.tile.vectors * self.width

    def _from_b(self, offset: Number) -> ir.Value:
        return element_pointer(self.builder, self.source, offset, self.b.element)

    def _store(self, value: ir.Value, offset: Number) -> None:
        place = element_pointer(self.builder, self.packed, offset, self.item)
        self.builder.store(value, place, align=self.dtype.itemsize)

    def _panel_begin(self, panel: ir.Value) -> tuple[Number, Number]:
        """Where a panel begins in b and in packed form."""
        plan = self.schedule
        return (
            multiply(self.builder, panel, plan.panel_step),
            multiply(self.builder, panel, plan.b_panel_elements),
        )

    def _copy_panels(self, offset: Number, step: Number) -> None:
        """One step's lanes, which are neighbours in memory."""
        builder = self.builder
        packed = multiply(builder, step, self._lanes)
        with counted_loop(builder, 0, self.count, "panel") as panel:
            source, begin = self._panel_begin(panel)
            source, begin = add(builder, source, offset), add(builder, begin, packed)
            for j in range(self.tile.vectors):
                place = self._from_b(add(builder, source, j * self.width))
                last = j == self.tile.vectors - 1
                value = self.b.load(place, self.width, self.tile.lanes if last else self.width)
                self._store(value, add(builder, begin, j * self.width))

    def _turn_panels(self, levels: list[Level]) -> None:
        """The lanes lie apart: a vector's lanes are read along the steps, if those are close."""
        builder = self.builder
        full = self.tile.vectors - (self.tile.lanes < self.width)
        with counted_loop(builder, 0, self.count, "panel") as panel:
            source, begin = self._panel_begin(panel)

            def turn(vector: Number, present: int) -> None:
                lane = multiply(builder, vector, self.width)
                first = multiply(builder, lane, self.schedule.lane.b)
                _Turning(self, add(builder, source, first), add(builder, begin, lane), present).run(
                    levels
                )

            with counted_loop(builder, 0, full, "vector") as vector:
                turn(vector, self.width)
            if full < self.tile.vectors:
                turn(full, self.tile.lanes)

    # Rows of a ----------------------------------------------------------------------------------

    def _copy_rows(self, level: Level, offset: Number, step: Number) -> None:
        """Neighbouring rows of some steps at a time, so that a tile gets whole cache lines."""
        builder, extent = self.builder, self._extent(level)
        first = self._scaled(step, level)
        group = min(_GROUP, extent) if isinstance(extent, int) else _GROUP
        if isinstance(extent, int):
            whole: Number = extent // group
        else:
            whole = builder.udiv(extent, as_i64(group))
        with counted_loop(builder, 0, whole, "group") as number:
            at = add(builder, offset, multiply(builder, number, group * level.a))
            begin = add(builder, first, multiply(builder, number, group))
            self._copy_steps(level.a, group, at, begin)
        begin = multiply(builder, whole, group)
        if not (isinstance(begin, int) and begin == extent):
            with counted_loop(builder, begin, extent, "rest") as i:
                at = add(builder, offset, multiply(builder, i, level.a))
                self._copy_steps(level.a, 1, at, add(builder, first, i))

    def _copy_steps(self, stride: int, steps: int, offset: Number, step: Number) -> None:
        builder, rows = self.builder, self.tile.rows
        packed = multiply(builder, step, rows)
        with counted_loop(builder, 0, self.count, "tile") as tile:
            source = add(builder, offset, multiply(builder, tile, rows * self.schedule.split.a))
            begin = add(builder, multiply(builder, tile, self.schedule.a_tile_elements), packed)
            for i in range(steps):
                start = add(builder, source, i * stride)
                place = element_pointer(builder, self.source, start, self.a.element)
                self._store(self.a.load(place, rows), add(builder, begin, i * rows))


@dataclass(frozen=True)
class _Turning:
    """One vector of a panel's lanes, which lie apart in b.

    source, begin: where it begins in b and in packed form. present: how many lanes there are.
    """

    pack: PackEmitter
    source: Number
    begin: Number
    present: int

    def run(self, levels: list[Level]) -> None:
        if self.pack.schedule.pack_b == "transpose":
            last = levels[-1]
            self.pack._loops(levels[:-1], 0, 0, lambda at, step: self._transpose(last, at, step))
        else:
            self.pack._loops(levels, 0, 0, self._gather)

    def _from(self, offset: Number, lane: int) -> ir.Value:
        builder, stride = self.pack.builder, self.pack.schedule.lane.b
        return self.pack._from_b(add(builder, add(builder, self.source, offset), lane * stride))

    def _store(self, value: ir.Value, step: Number) -> None:
        builder = self.pack.builder
        self.pack._store(value, add(builder, self.begin, multiply(builder, step, self.pack._lanes)))

    def _gather(self, offset: Number, step: Number) -> None:
        pack = self.pack
        value: ir.Value = zero(register_type(pack.dtype, pack.width))
        for lane in range(self.present):
            item = pack.b.load(self._from(offset, lane))
            value = pack.builder.insert_element(value, item, ir.Constant(I32, lane))
        self._store(value, step)

    def _transpose(self, level: Level, offset: Number, step: Number) -> None:
        """The innermost dimension is contiguous: read vectors along it, turn squares of them."""
        builder, width = self.pack.builder, self.pack.width
        extent = self.pack._extent(level)
        first = self.pack._scaled(step, level)
        whole = extent // width if isinstance(extent, int) else builder.udiv(extent, as_i64(width))
        if not isinstance(whole, int) or whole:
            with counted_loop(builder, 0, whole, "square") as square:
                at = multiply(builder, square, width)
                self._square(add(builder, offset, at), add(builder, first, at))
        begin = multiply(builder, whole, width)
        if not (isinstance(begin, int) and begin == extent):
            with counted_loop(builder, begin, extent, "rest") as i:
                self._gather(add(builder, offset, i), add(builder, first, i))

    def _square(self, offset: Number, step: Number) -> None:
        pack, builder = self.pack, self.pack.builder
        rows: list[ir.Value] = [zero(register_type(pack.dtype, pack.width))] * pack.width
        for lane in range(self.present):
            rows[lane] = pack.b.load(self._from(offset, lane), pack.width)
        for i, value in enumerate(transposed(builder, rows)):
            self._store(value, add(builder, step, i))
