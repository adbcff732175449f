"""Sorts as LLVM kernels.

In: a `Sort`, where its buffers lie, and a `Target`.  Out: an `EmittedKernel`.

    for each row in the chunk's share
      pack the row's keys and positions into records, in the thread's scratch memory
      sort them (see `sort_plan`)
      for each rank
        unpack key and position, run the stores

or, for a few rows at a time: pack all, sort each, store all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import (
    Number,
    as_i64,
    counted_loop,
    decode,
    element_pointer,
    multiply,
    share,
)
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.kernel import EmittedKernel, KernelFunction
from braze.codegen.llvm.reduce_loops import lanes_over
from braze.codegen.llvm.sort_algorithms import MakeRecord, radix_sort, rank_sort, select_best
from braze.codegen.llvm.sort_plan import sort_plan
from braze.codegen.llvm.types import I8, constant, vector
from braze.ir.loops import Placement, Program, Sort
from braze.ir.target import Target


def emit_sort(
    kernel: Sort,
    placements: Mapping[str, Placement],
    program: Program,
    target: Target,
    scratch_stride: int,
    module: ir.Module,
) -> EmittedKernel:
    """The kernel of one sort.

    Args:
        scratch_stride: bytes between the scratch memories of two threads, the same for all kernels
            of a program.
        module: to write into.
    """
    plan = sort_plan(kernel, target)
    frame = KernelFunction(kernel.name, kernel.buffers, placements, program, module)
    rows = math.prod(var.extent for var in kernel.rows)
    if rows and kernel.rank.extent:
        _SortEmitter(frame, kernel, target, scratch_stride).emit(rows)
    frame.builder.ret_void()
    return EmittedKernel(frame.symbol, frame.module, kernel.chunks, plan.scratch_bytes)


class _SortEmitter:
    def __init__(
        self, frame: KernelFunction, kernel: Sort, target: Target, scratch_stride: int
    ) -> None:
        self.frame = frame
        self.kernel = kernel
        self.target = target
        self.builder = frame.builder
        self.plan = sort_plan(kernel, target)
        for buffer in kernel.buffers:
            frame.pointer(buffer)
        bytes_before = self.builder.mul(frame.thread, as_i64(scratch_stride))
        self.scratch = element_pointer(self.builder, frame.scratch(), bytes_before, I8)

    def emit(self, rows: int) -> None:
        if self.plan.columns > 1:
            self._bands(rows)
            return
        begin, end = share(self.builder, self.frame.chunk, self.kernel.chunks, rows)
        with counted_loop(self.builder, begin, end, "row") as row:
            root = self._root(decode(self.builder, row, [v.extent for v in self.kernel.rows]))
            ordered = self._sorted(self._record_maker(root), self._keys_maker(root))
            with counted_loop(self.builder, 0, self.kernel.rank.extent, "rank") as rank:
                self._store(root, ordered, rank)

    def _root(self, row: Sequence[Number]) -> ExpressionEmitter:
        variables = dict(zip(self.kernel.rows, map(as_i64, row), strict=True))
        return ExpressionEmitter(
            self.builder, self.target, variables=variables, pointer=self.frame.pointer
        )

    def _sorted(self, record: MakeRecord, keys: MakeRecord) -> ir.Value:
        """Where a row's records are, in order."""
        plan = self.plan
        if plan.method == "ranks":
            return rank_sort(self.builder, plan, self.scratch, record)
        if plan.method == "radix":
            return radix_sort(self.builder, plan, self.scratch, record)
        return select_best(self.builder, plan, self.scratch, record, keys)

    def _record_maker(self, root: ExpressionEmitter) -> MakeRecord:
        def record(position: ir.Value) -> ir.Value:
            inner = root.fork({self.kernel.along: position})
            key = inner.value(self.kernel.key)
            return self.plan.records.pack(self.builder, key, position, self.target)

        return record

    def _keys_maker(self, root: ExpressionEmitter) -> Callable[[ir.Value], ir.Value]:
        """The ordered keys, in a vector, at a position and those after it."""

        def keys(position: ir.Value) -> ir.Value:
            along, lanes = self.kernel.along, self.plan.lanes
            inner = lanes_over(root, along, position, lanes, None)
            value = inner.value(self.kernel.key)
            return self.plan.records.ordered(self.builder, value, self.target)[0]

        return keys

    def _store(self, root: ExpressionEmitter, ordered: ir.Value, rank: ir.Value) -> None:
        """The stores for one rank of sorted records."""
        records = self.plan.records
        place = element_pointer(self.builder, ordered, rank, records.type)
        record = self.builder.load(place, typ=records.type, align=8)
        refs = {
            "key": records.key(self.builder, record, self.target),
            "position": records.position(self.builder, record),
        }
        inner = root.fork({self.kernel.rank: rank}, refs)
        for store in self.kernel.stores:
            inner.store(store)

    # Several rows at a time -----------------------------------------------------------------------

    def _bands(self, rows: int) -> None:
        """Bands of rows that differ in the last of their variables only: all are packed, each is
        sorted, all are stored."""
        builder, plan = self.builder, self.plan
        size = self.kernel.rows[-1].extent
        across = -(-size // plan.columns)
        extents = [*(var.extent for var in self.kernel.rows[:-1]), across]
        begin, end = share(builder, self.frame.chunk, self.kernel.chunks, rows // size * across)
        with counted_loop(builder, begin, end, "band") as band:
            *outer, number = decode(builder, band, extents)
            first = as_i64(multiply(builder, number, plan.columns))
            left = builder.sub(as_i64(size), first)
            whole = builder.icmp_signed("<", as_i64(plan.columns), left)
            columns = builder.select(whole, as_i64(plan.columns), left)
            with counted_loop(builder, 0, plan.records.length, "pack_all") as j:
                with counted_loop(builder, 0, columns, "pack_column") as column:
                    root = self._root([*outer, builder.add(first, column)])
                    packed = element_pointer(builder, self._packed(column), j, plan.records.type)
                    builder.store(self._record_maker(root)(j), packed, align=8)
            with counted_loop(builder, 0, columns, "sort_column") as column:
                self._sort_packed(self._packed(column))
            with counted_loop(builder, 0, self.kernel.rank.extent, "store_all") as rank:
                with counted_loop(builder, 0, columns, "store_column") as column:
                    root = self._root([*outer, builder.add(first, column)])
                    self._store(root, self._packed(column), rank)

    def _packed(self, column: ir.Value) -> ir.Value:
        """Where the records of a band's row are."""
        offset = self.builder.mul(column, as_i64(self.plan.pitch))
        start = element_pointer(self.builder, self.scratch, self.plan.packed, I8)
        return element_pointer(self.builder, start, offset, I8)

    def _sort_packed(self, packed: ir.Value) -> None:
        """Put packed records in order, the first of them where they were."""
        builder, records = self.builder, self.plan.records
        wide = vector(records.type, self.plan.lanes)
        shift = records.position_bits

        def record(position: ir.Value) -> ir.Value:
            place = element_pointer(builder, packed, position, records.type)
            return builder.load(place, typ=records.type, align=8)

        def keys(position: ir.Value) -> ir.Value:
            place = element_pointer(builder, packed, position, records.type)
            high = builder.lshr(builder.load(place, typ=wide, align=8), constant(wide, shift))
            return builder.trunc(high, vector(ir.IntType(records.key_bits), self.plan.lanes))

        ordered = self._sorted(record, keys)
        with counted_loop(builder, 0, self.kernel.rank.extent, "keep") as rank:
            source = element_pointer(builder, ordered, rank, records.type)
            target = element_pointer(builder, packed, rank, records.type)
            builder.store(builder.load(source, typ=records.type, align=8), target, align=8)
