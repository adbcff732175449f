"""Kernels that are statements under loops.

In: a `Nest` of the loop IR, where its buffers lie, and the target.  Out: an `EmittedKernel`.

A vector loop becomes a main loop of several vectors an iteration, a loop of single vectors, and a
tail (a mask, or one by one). Statements under it are emitted for the vectors of an iteration side
by side, so that a reduction over rows reads whole cache lines of every row. The outermost loop is
shared out over the chunks: chunk c takes the c-th part of its range, cut at multiples of whole
vectors, whatever number of threads there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.checks import emit_check, has_check
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.interleaved_stores import TURNS, interleaved, store_interleaved
from braze.codegen.llvm.invariants import compute_before
from braze.codegen.llvm.kernel import Aliasing, CodegenError, EmittedKernel, KernelFunction
from braze.codegen.llvm.looping import Count, as_value, carried_loop, is_number
from braze.codegen.llvm.reduce_loops import ReduceEmitter, first_lanes, fork_all, lanes_over
from braze.codegen.llvm.scan_loops import ScanEmitter
from braze.codegen.llvm.squares import SquareEmitter, loads_in_squares
from braze.codegen.llvm.streaming import Streaming
from braze.codegen.llvm.strips import StripEmitter, reduces_in_strips
from braze.codegen.llvm.types import I64, constant
from braze.codegen.llvm.vectorise import (
    VectorPlan,
    long_functions,
    plan_vectors,
    roots,
    stores,
)
from braze.ir.loops import Check, Loop, Nest, Placement, Program, Reduce, Scan, Statement, Store
from braze.ir.symint import is_symbolic
from braze.ir.target import Target


def emit_nest(
    nest: Nest,
    placements: Mapping[str, Placement],
    program: Program,
    target: Target,
    module: ir.Module,
) -> EmittedKernel:
    """Write the kernel into the module.

    Raises:
        CodegenError: a statement or expression that the loop IR does not allow.
    """
    return NestEmitter(nest, placements, program, target, module).emit()


class NestEmitter:
    """One kernel while it is written."""

    def __init__(
        self,
        nest: Nest,
        placements: Mapping[str, Placement],
        program: Program,
        target: Target,
        module: ir.Module,
    ) -> None:
        nest, rows = Streaming.with_waiting_rows(nest, target)
        self.nest = nest
        self.target = target
        self.kernel = KernelFunction(nest.name, nest.buffers, placements, program, module, rows)
        self.builder = self.kernel.builder
        self.aliasing = Aliasing(self.kernel.module, placements)
        for store in stores(nest.body):
            self.aliasing.declare_store(store.buffer, store.index)
        self.status = self.kernel.status() if has_check(nest.body) else None
        self.streaming = Streaming(nest, self.kernel, placements, target, rows)
        self.chunks = max((s.chunks for s in nest.body if isinstance(s, Loop)), default=1)

    def emit(self) -> EmittedKernel:
        root = ExpressionEmitter(
            self.builder,
            self.target,
            variables={},
            pointer=self.kernel.pointer,
            aliasing=self.aliasing,
        )
        for statement in self.nest.body:
            self._outermost(statement, root)
        self.streaming.finish()
        self.builder.ret_void()
        return EmittedKernel(self.kernel.symbol, self.kernel.module, self.chunks)

    def _outermost(self, statement: Statement, root: ExpressionEmitter) -> None:
        """What is not shared out is done by the first chunk; reductions that others read, by every
        one.
        """
        if self.chunks == 1 or isinstance(statement, Reduce):
            self._statement(statement, [root])
        elif isinstance(statement, Loop) and statement.chunks > 1:
            if statement.chunks != self.chunks:
                raise CodegenError(
                    f"[{self.nest.name}] loops of {statement.chunks} and {self.chunks} chunks"
                )
            self._shared_loop(statement, root)
        else:
            first = self.builder.icmp_signed("==", self.kernel.chunk, constant(I64, 0))
            with self.builder.if_then(first):
                self._statement(statement, [root.fork()])

    # Statements -----------------------------------------------------------------------------------

    def _statements(
        self, statements: Sequence[Statement], copies: Sequence[ExpressionEmitter]
    ) -> None:
        for statement in statements:
            self._statement(statement, copies)

    def _statement(self, statement: Statement, copies: Sequence[ExpressionEmitter]) -> None:
        """A statement, for one scalar or for vectors side by side."""
        if isinstance(statement, Store):
            # All values first: the loads of one vector need not wait for the stores of another.
            if not statement.guard:
                # In turns, or the processor sees one vector's chain of functions after the other's.
                for expr in long_functions(statement.value) if len(copies) > 1 else ():
                    for copy in copies:
                        copy.value(expr)
                for copy in copies:
                    copy.value(statement.value)
            self.streaming.fetch_ahead(statement, copies)
            if self.streaming.takes(statement, copies):
                self.streaming.store(statement, copies)
                return
            for copy in copies:
                copy.store(statement)
        elif isinstance(statement, Reduce):
            self._reduce(statement, copies)
        elif isinstance(statement, Scan):
            self._scan(statement, copies)
        elif isinstance(statement, Check):
            for copy in copies:
                emit_check(copy, statement, self._status())
        elif statement.kind == "vector":
            if len(copies) > 1 or copies[0].width > 1:
                raise CodegenError(f"[{self.nest.name}] a vector loop inside another")
            self._vector_loop(statement, copies[0], 0, statement.var.extent)
        else:
            self._plain_loop(statement, copies, 0, statement.var.extent)

    def _status(self) -> ir.Value:
        assert self.status is not None
        return self.status

    def _reduce(self, reduce: Reduce, copies: Sequence[ExpressionEmitter]) -> None:
        across = [kind for _, kind in reduce.loops if kind == "vector"]
        if across and (reduce.loops[-1][1] != "vector" or len(across) > 1 or copies[0].width > 1):
            raise CodegenError(f"[{self.nest.name}] only the innermost loop may be a vector loop")
        ReduceEmitter(self.builder, self.target, reduce, copies).emit()

    def _scan(self, scan: Scan, copies: Sequence[ExpressionEmitter]) -> None:
        across = any(kind == "vector" for _, kind in scan.loops)
        if across and (scan.loops[-1][1] != "vector" or copies[0].width > 1):
            raise CodegenError(f"[{self.nest.name}] only the innermost loop may be a vector loop")
        ScanEmitter(self.builder, self.target, scan, copies, self._statements).emit()

    # Loops ----------------------------------------------------------------------------------------

    def _plain_loop(
        self, loop: Loop, copies: Sequence[ExpressionEmitter], begin: Count, end: Count
    ) -> None:
        if is_number(begin) and is_number(end) and begin >= end:
            return
        if squares := self._squares(loop, copies):
            squares.emit(begin, end)
            return
        if store := interleaved(loop, copies[0].lane_var):
            turns = [fork_all(copies, {loop.var: constant(I64, turn)}) for turn in range(TURNS)]
            for pair in zip(*turns, strict=True):
                store_interleaved(store, pair)
            return
        if loop.kind == "unroll" and is_number(begin) and is_number(end):
            turns = [fork_all(copies, {loop.var: constant(I64, v)}) for v in range(begin, end)]
            if all(map(_takes_turns_together, loop.body)):
                self._statements(loop.body, [copy for turn in turns for copy in turn])
                return
            for turn in turns:
                self._statements(loop.body, turn)
            return
        with carried_loop(self.builder, begin, end, 1, (), loop.var.name) as frame:
            self._statements(loop.body, fork_all(copies, {loop.var: frame.index}))

    def _shared_loop(self, loop: Loop, root: ExpressionEmitter) -> None:
        """This chunk's share of a loop."""
        if loop.var.extent == 0:
            return
        if loop.kind != "vector":
            squares = self._squares(loop, [root])
            grain = squares.plan.width if squares else 1
            self._plain_loop(loop, [root], *self._share(loop.var.extent, grain))
            return
        extent = loop.var.extent
        share = extent if is_symbolic(extent) else max(1, extent // self.chunks)
        plan = plan_vectors(loop.body, loop.var, share, self.target)
        begin, end = self._share(loop.var.extent, plan.step)
        self._vectors(loop, root, plan, begin, end)

    def _squares(self, loop: Loop, copies: Sequence[ExpressionEmitter]) -> SquareEmitter | None:
        """What emits a loop in squares, if its vector loop reads across the lanes."""
        inner = loop.body[0] if len(loop.body) == 1 else None
        if not isinstance(inner, Loop):
            return None
        plan = plan_vectors(inner.body, inner.var, inner.var.extent, self.target)
        loads = loads_in_squares(loop, inner, plan, self.target)
        if not loads:
            return None

        def tail(row: ExpressionEmitter, begin: int) -> None:
            extent = inner.var.extent
            self._tail(inner, row, plan, begin, extent, extent - begin)

        return SquareEmitter(loop, inner, copies[0], plan, loads, self._statements, tail)

    def _share(self, extent: int, grain: int) -> tuple[Count, Count]:
        """Begin and end of this chunk's share: nearly equal numbers of grains (of which the last
        may be short).
        """
        grains = -(-extent // grain)
        chunk = self.kernel.chunk

        def bound(number: ir.Value) -> ir.Value:
            b = self.builder
            if is_number(grains) and grains % self.chunks == 0:
                return b.mul(number, constant(I64, grains // self.chunks * grain))
            scaled = b.mul(number, constant(I64, grains))
            return b.mul(b.udiv(scaled, constant(I64, self.chunks)), constant(I64, grain))

        begin = bound(chunk)
        end = bound(self.builder.add(chunk, constant(I64, 1)))
        if not is_number(extent) or extent % grain:
            last = self.builder.icmp_signed("<", end, constant(I64, extent))
            end = self.builder.select(last, end, constant(I64, extent))
        return begin, end

    def _vector_loop(self, loop: Loop, outer: ExpressionEmitter, begin: int, end: int) -> None:
        if begin < end:
            plan = plan_vectors(loop.body, loop.var, end - begin, self.target)
            self._vectors(loop, outer, plan, begin, end)

    def _vectors(
        self, loop: Loop, outer: ExpressionEmitter, plan: VectorPlan, begin: Count, end: Count
    ) -> None:
        """The iterations begin..end, of which the first is a multiple of the plan's step.

        In a loop that is shared out, only the last chunk's end is not such a multiple.
        """
        compute_before(outer, roots(loop.body))
        extent, step, width = loop.var.extent, plan.step, plan.width
        if not is_number(extent):
            self._open_vectors(loop, outer, plan, as_value(begin), as_value(end))
            return
        main = end if extent % step == 0 else self._rounded(begin, end, step)
        self._main_vectors(loop, outer, plan, begin, main)
        if extent % step == 0:
            return
        rest = extent % step
        if plan.unroll > 1 and rest >= width:
            whole = self._rounded(main, end, width)
            self._vector_run(loop, outer, width, 1, main, whole)
            main = whole
        if rest % width:
            self._tail(loop, outer, plan, main, end, rest % width)

    def _main_vectors(
        self, loop: Loop, outer: ExpressionEmitter, plan: VectorPlan, begin: Count, end: Count
    ) -> None:
        """Whole iterations of the main loop."""
        share = loop.var.extent // loop.chunks
        if reduces_in_strips(loop, plan, share):
            StripEmitter(loop, outer, plan, self.target, self._statements).emit(begin, end)
        else:
            self._vector_run(loop, outer, plan.width, plan.unroll, begin, end)

    def _open_vectors(
        self,
        loop: Loop,
        outer: ExpressionEmitter,
        plan: VectorPlan,
        begin: ir.Value,
        end: ir.Value,
    ) -> None:
        """The same where it is not known how many there are: whatever is left over."""
        main = as_value(self._rounded(begin, end, plan.step))
        self._vector_run(loop, outer, plan.width, plan.unroll, begin, main)
        if plan.unroll > 1:
            whole = as_value(self._rounded(main, end, plan.width))
            self._vector_run(loop, outer, plan.width, 1, main, whole)
            main = whole
        if plan.width == 1:
            return
        if plan.tail == "scalar":
            self._vector_run(loop, outer, 1, 1, main, end)
            return
        with self.builder.if_then(self.builder.icmp_signed("<", main, end)):
            count = self.builder.sub(end, main)
            self._masked(loop, outer.fork(), plan, main, count)

    def _rounded(self, begin: Count, end: Count, step: int) -> Count:
        """Where whole steps from `begin` stop, no further than `end`."""
        if is_number(begin) and is_number(end):
            return begin + (end - begin) // step * step
        b = self.builder
        count = b.sub(as_value(end), as_value(begin))
        # An empty share has begin == end, so the count is never negative.
        rest = b.urem(count, constant(I64, step))
        return b.sub(as_value(end), rest)

    def _vector_run(
        self,
        loop: Loop,
        outer: ExpressionEmitter,
        width: int,
        unroll: int,
        begin: Count,
        end: Count,
    ) -> None:
        """Whole iterations of `unroll` vectors each."""
        step = width * unroll
        if is_number(begin) and is_number(end):
            if begin >= end:
                return
            if end - begin == step:
                self._iteration(loop, outer, width, unroll, constant(I64, begin))
                return
        with carried_loop(self.builder, begin, end, step, (), loop.var.name) as frame:
            self._iteration(loop, outer, width, unroll, frame.index)

    def _iteration(
        self, loop: Loop, outer: ExpressionEmitter, width: int, unroll: int, at: ir.Value
    ) -> None:
        shared = outer.fork()
        copies = [
            lanes_over(outer, loop.var, at, width, None, shared, number * width)
            for number in range(unroll)
        ]
        self._statements(loop.body, copies)

    def _tail(
        self,
        loop: Loop,
        outer: ExpressionEmitter,
        plan: VectorPlan,
        begin: Count,
        end: Count,
        count: int,
    ) -> None:
        """The last `count` elements (a chunk other than the last has none), fewer than a vector."""
        if plan.tail == "mask" and count & (count - 1):
            if is_number(begin):
                self._masked(loop, outer, plan, as_value(begin), constant(I64, count))
                return
            some = self.builder.icmp_signed("<", as_value(begin), as_value(end))
            with self.builder.if_then(some):
                self._masked(loop, outer.fork(), plan, as_value(begin), constant(I64, count))
            return
        narrow = count & -count
        if count == narrow:
            if is_number(begin):
                self._iteration(loop, outer, count, 1, as_value(begin))
                return
            some = self.builder.icmp_signed("<", as_value(begin), as_value(end))
            with self.builder.if_then(some):
                self._iteration(loop, outer.fork(), count, 1, as_value(begin))
            return
        self._vector_run(loop, outer, 1, 1, begin, end)

    def _masked(
        self,
        loop: Loop,
        outer: ExpressionEmitter,
        plan: VectorPlan,
        begin: ir.Value,
        count: ir.Value,
    ) -> None:
        mask = first_lanes(self.builder, plan.width, count)
        self._statements(loop.body, [lanes_over(outer, loop.var, begin, plan.width, mask)])


def _takes_turns_together(statement: Statement) -> bool:
    """May the turns of an unrolled loop around it go on side by side? None reads what another one
    stores; what they all load is loaded once."""
    return isinstance(statement, Reduce) or (
        isinstance(statement, Store) and statement.buffer.access == "out"
    )
