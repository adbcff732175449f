"""Sorts as LLVM kernels.

In: a `Sort`, where its buffers lie, and a `Target`.  Out: an `EmittedKernel`.

    for each row in the chunk's share
      pack the row's keys and positions into records, in the thread's scratch memory
      sort them (see `sort_plan`)
      for each rank
        unpack key and position, run the stores
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from llvmlite import ir

from braze.codegen.llvm.control import as_i64, counted_loop, decode, element_pointer, share
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.kernel import EmittedKernel, KernelFunction
from braze.codegen.llvm.reduce_loops import lanes_over
from braze.codegen.llvm.sort_algorithms import MakeRecord, radix_sort, rank_sort, select_best
from braze.codegen.llvm.sort_plan import sort_plan
from braze.codegen.llvm.types import I8
from braze.ir.loops import Placement, Program, Sort
from braze.ir.target import Target


def emit_sort(
    kernel: Sort,
    placements: Mapping[str, Placement],
    program: Program,
    target: Target,
    scratch_stride: int | None = None,
) -> EmittedKernel:
    """The kernel of one sort.

    Args:
        scratch_stride: bytes between the scratch memories of two threads, the same for all kernels
            of a program. None: what this kernel needs.
    """
    plan = sort_plan(kernel, target)
    frame = KernelFunction(kernel.name, kernel.buffers, placements, program, target)
    rows = math.prod(var.extent for var in kernel.rows)
    if rows and kernel.rank.extent:
        _SortEmitter(frame, kernel, target, scratch_stride or plan.scratch_bytes).emit(rows)
    frame.builder.ret_void()
    return EmittedKernel(frame.symbol, frame.text(), kernel.chunks, plan.scratch_bytes)


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
        begin, end = share(self.builder, self.frame.chunk, self.kernel.chunks, rows)
        with counted_loop(self.builder, begin, end, "row") as row:
            extents = [var.extent for var in self.kernel.rows]
            values = decode(self.builder, row, extents)
            variables = dict(zip(self.kernel.rows, map(as_i64, values), strict=True))
            root = ExpressionEmitter(
                self.builder, self.target, variables=variables, pointer=self.frame.pointer
            )
            self._stores(root, self._sorted(root))

    def _sorted(self, root: ExpressionEmitter) -> ir.Value:
        """Where the row's records are, in order."""
        record, plan = self._record_maker(root), self.plan
        if plan.method == "ranks":
            return rank_sort(self.builder, plan, self.scratch, record)
        if plan.method == "radix":
            return radix_sort(self.builder, plan, self.scratch, record)
        return select_best(self.builder, plan, self.scratch, record, self._keys_maker(root))

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

    def _stores(self, root: ExpressionEmitter, ordered: ir.Value) -> None:
        records = self.plan.records
        with counted_loop(self.builder, 0, self.kernel.rank.extent, "rank") as rank:
            place = element_pointer(self.builder, ordered, rank, records.type)
            record = self.builder.load(place, typ=records.type, align=8)
            refs = {
                "key": records.key(self.builder, record, self.target),
                "position": records.position(self.builder, record),
            }
            inner = root.fork({self.kernel.rank: rank}, refs)
            for store in self.kernel.stores:
                inner.store(store)
