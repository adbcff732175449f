"""Packing an operand whose taps lie side by side, as a convolution's weight does that is stored
[out, in, taps...]: squares of it are turned over in registers.

In: a `Tile` of a schedule with `taps`.  Out: an LLVM function

    void pack(ptr from, ptr to, i64 count)

that writes all of the sum's steps of `count` neighbouring panels, block after block:
[block][panel][step of the sum][lane], missing lanes as zeros. What all taps are in is read at once,
where packing one block after another would come to each cache line again for each tap.
"""

from __future__ import annotations

from itertools import product

from braze.codegen.llvm import ir
from braze.codegen.llvm.contraction_shape import Dim, count
from braze.codegen.llvm.control import Number, add, as_i64, counted_loop, element_pointer, multiply
from braze.codegen.llvm.operands import OperandLoader
from braze.codegen.llvm.tile import Tile
from braze.codegen.llvm.turned_stores import transposed
from braze.codegen.llvm.types import I64, POINTER, register_type, zero
from braze.ir.target import Target


class TapPackEmitter:
    """Writes the packing function of one kind of panel."""

    def __init__(self, module: ir.Module, tile: Tile, target: Target, name: str) -> None:
        self.tile = tile
        self.schedule = tile.schedule
        self.width = tile.schedule.width
        self.dtype = tile.schedule.shape.dtype
        types = [POINTER, POINTER, I64]
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), types), name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.source, self.packed, self.count = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.loader = OperandLoader(self.builder, target, self.schedule.shape.b.dtype, self.dtype)
        taps = self.schedule.taps
        # The taps' elements from the first one in memory on, and the places of their steps.
        self.first = sum((dim.extent - 1) * dim.b for dim in taps if dim.b < 0)
        self.places: dict[int, int] = {}
        for indices in product(*(range(dim.extent) for dim in taps)):
            pairs = list(zip(indices, taps, strict=True))
            offset = sum(index * dim.b for index, dim in pairs) - self.first
            self.places[offset] = sum(self._constant_place(dim, index) for index, dim in pairs)

    def emit(self) -> ir.Function:
        """The function."""
        builder, plan, tile = self.builder, self.schedule, self.tile
        full = tile.vectors - (tile.lanes < self.width)
        with counted_loop(builder, 0, self.count, "panel") as panel:
            source = multiply(builder, panel, plan.panel_step)
            packed = multiply(builder, panel, plan.b_panel_elements)
            if full:
                with counted_loop(builder, 0, full, "vector") as vector:
                    self._vector(source, packed, vector, self.width)
            if full < tile.vectors:
                self._vector(source, packed, full, tile.lanes)
        builder.ret_void()
        return self.function

    def _vector(self, source: Number, packed: Number, vector: Number, lanes: int) -> None:
        lane = multiply(self.builder, vector, self.width)
        source = add(self.builder, source, multiply(self.builder, lane, self.schedule.lane.b))
        others = [dim for dim in self.schedule.all_inner if dim not in self.schedule.taps]
        self._loops(others, source, add(self.builder, packed, lane), lanes)

    def _loops(self, dims: list[Dim], source: Number, packed: Number, lanes: int) -> None:
        """Loops over what else is summed over."""
        if not dims:
            self._squares(source, packed, lanes)
            return
        dim, *rest = dims
        with counted_loop(self.builder, 0, dim.extent, dim.var.name) as index:
            at = add(self.builder, source, multiply(self.builder, index, dim.b))
            to = add(self.builder, packed, self._place(dim, index))
            self._loops(rest, at, to, lanes)

    def _squares(self, source: Number, packed: Number, lanes: int) -> None:
        """All taps of some lanes."""
        builder, width = self.builder, self.width
        span = max(self.places) + 1
        for begin in range(0, span, width):
            wanted = [offset for offset in self.places if begin <= offset < begin + width]
            if not wanted:
                continue
            # Lanes that do not exist are zeros, so that what is multiplied by them is not nan.
            rows: list[ir.Value] = [zero(register_type(self.dtype, width))] * width
            at = add(builder, source, self.first + begin)
            first = element_pointer(builder, self.source, at, self.loader.element)
            for lane in range(lanes):
                offset = lane * self.schedule.lane.b
                place = element_pointer(builder, first, offset, self.loader.element)
                rows[lane] = self.loader.load(place, width, min(width, span - begin))
            columns = transposed(builder, rows)
            item = register_type(self.dtype)
            start = element_pointer(builder, self.packed, packed, item)
            for offset in sorted(wanted):
                place = element_pointer(builder, start, self.places[offset], item)
                builder.store(columns[offset - begin], place, align=self.dtype.itemsize)

    # Where a step is in packed form ---------------------------------------------------------------

    def _factors(self, dim: Dim) -> tuple[int, int]:
        """(elements from a block to the next one along a dimension, from a step to the next)."""
        plan = self.schedule
        if dim in plan.outer_inner:
            at = plan.outer_inner.index(dim)
            return count(plan.outer_inner[at + 1 :]) * plan.ranges * plan.block_elements, 0
        step = self.tile.vectors * self.width * count(plan.inner[plan.inner.index(dim) + 1 :])
        return plan.block_elements, step

    def _constant_place(self, dim: Dim, index: int) -> int:
        block, step = self._factors(dim)
        plan = self.schedule
        if dim in plan.outer_inner:
            return index * block
        if dim is not plan.inner[0]:
            return index * step
        return index // plan.block * block + index % plan.block * step

    def _place(self, dim: Dim, index: ir.Value) -> Number:
        block, step = self._factors(dim)
        plan, builder = self.schedule, self.builder
        if dim in plan.outer_inner:
            return multiply(builder, index, block)
        if dim is not plan.inner[0] or plan.block == dim.extent:
            return multiply(builder, index, step)
        size = as_i64(plan.block)
        number, left = builder.udiv(index, size), builder.urem(index, size)
        return add(builder, multiply(builder, number, block), multiply(builder, left, step))
