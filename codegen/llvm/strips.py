"""Reductions of columns that are wider than registers: rows are read in long runs.

In: a vector loop that begins with a `Reduce` over rows.  Out: code at the builder's position:

    for each strip of the vector loop
      for each block of rows
        for each four rows, for each vector of the strip
          what is summed up so far, from memory; the four rows' values; back to memory
        for each vector of the strip: the block's sum to that of all blocks
      for each vector of the strip
        the statements behind the reduction

Accumulators in registers read a few vectors of every row, then the next few of every row: of what
lies apart by a row no processor fetches much ahead. What a strip has summed up so far stays in the
first-level cache instead, and four rows at a time make up for reading it again and again. Blocks
keep chains of additions short, as in `reduce_loops`; a reduction that is short enough is one block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import element_pointer, smaller
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.looping import Count, as_value, carried_loop, is_number
from braze.codegen.llvm.reduce_loops import LONGEST_CHAIN, lanes_over
from braze.codegen.llvm.reductions import Reducer, State, pairwise
from braze.codegen.llvm.types import I64, bits_of, constant
from braze.codegen.llvm.vectorise import VectorPlan, expressions, instructions
from braze.ir.index import LoopVar
from braze.ir.loops import Load, Loop, Reduce, Statement, Store
from braze.ir.target import Target

_ROWS = 4
# Of the first-level cache for what is summed up.
_PART = 3
# Rows of a block, at most, and where several follow each other.
_LONGEST = _ROWS * LONGEST_CHAIN
_BLOCK = 512
# Below so many rows, and so many bytes of them, registers are as good.
_FEWEST_ROWS = 16
_FEWEST_BYTES = 64 << 10
# Longer expressions are not bound by memory.
_MOST_INSTRUCTIONS = 24
_COMBINES = ("sum", "prod", "amax", "amin")

# (statements, the emitters of vectors side by side) -> their code
Emit = Callable[[Sequence[Statement], Sequence[ExpressionEmitter]], None]


def reduces_in_strips(loop: Loop, plan: VectorPlan, extent: int) -> bool:
    """Whether strips are better than accumulators in registers.

    Args:
        loop: the vector loop.
        plan: how it would be done otherwise.
        extent: of one thread's share.
    """
    reduce, *rest = loop.body
    if not isinstance(reduce, Reduce) or not all(isinstance(s, Store) for s in rest):
        return False
    extents = [var.extent for var, _ in reduce.loops]
    if any(kind != "serial" for _, kind in reduce.loops) or not all(map(is_number, extents)):
        return False
    if not is_number(loop.var.extent) or extent <= plan.step or extents[-1] < _ROWS:
        return False
    if any(a.combine not in _COMBINES or a.dtype.kind == "bool" for a in reduce.accumulators):
        return False
    nodes = list(expressions([reduce]))
    rows = {var for var, _ in reduce.loops}
    loads = [expr for expr in nodes if isinstance(expr, Load)]
    row_bytes = sum(
        load.dtype.itemsize
        for load in loads
        if loop.var in load.index.variables() and rows & load.index.variables()
    )
    count = prod(extents)
    return (
        _FEWEST_ROWS <= count
        and (count <= _LONGEST or prod(extents[:-1]) * -(-extents[-1] // _BLOCK) <= LONGEST_CHAIN)
        and count * extent * row_bytes >= _FEWEST_BYTES
        and instructions(nodes) <= _MOST_INSTRUCTIONS
        and len(reduce.accumulators) <= 2
    )


@dataclass(frozen=True, eq=False)
class StripEmitter:
    """Writes such a loop.

    outer: the emitter around it. plan: of the vector loop. statements: write what is behind the
        reduction.
    """

    loop: Loop
    outer: ExpressionEmitter
    plan: VectorPlan
    target: Target
    statements: Emit

    @property
    def builder(self) -> ir.IRBuilder:
        return self.outer.builder

    @property
    def reduce(self) -> Reduce:
        reduce = self.loop.body[0]
        assert isinstance(reduce, Reduce)
        return reduce

    def emit(self, begin: Count, end: Count) -> None:
        """The iterations begin..end, a whole number of the plan's steps."""
        builder, plan = self.builder, self.plan
        reducers = [
            Reducer(builder, self.target, accumulator, plan.width)
            for accumulator in self.reduce.accumulators
        ]
        types = [reducer.initial(plan.width)[0].type for reducer in reducers]
        vector_bytes = sum(bits_of(type) * plan.width // 8 for type in types)
        blocks = 1 if prod(var.extent for var, _ in self.reduce.loops) <= _LONGEST else 2
        each = blocks * vector_bytes * plan.unroll
        strip = max(1, self.target.l1_bytes // _PART // each) * plan.step

        def memory() -> list[ir.Value]:
            size = constant(I64, strip // plan.width)
            return [builder.alloca(type, size=size, name="strip") for type in types]

        with builder.goto_entry_block():
            sums = memory()
            totals = memory() if blocks > 1 else sums
        part = _Part(self, reducers, types, sums, totals)
        with carried_loop(builder, begin, end, strip, (), "strip") as frame:
            left = builder.sub(as_value(end), frame.index)
            count = as_value(smaller(builder, left, strip))
            part.clear(totals, count)
            part.rows(0, self.outer.fork(), frame.index, count)
            part.finish(frame.index, count)


@dataclass(frozen=True, eq=False)
class _Part:
    """The loops over one strip.

    sums: memory for each accumulator, for a block. totals: for all blocks, the same if there is
        one.
    """

    whole: StripEmitter
    reducers: Sequence[Reducer]
    types: Sequence[ir.Type]
    sums: Sequence[ir.Value]
    totals: Sequence[ir.Value]

    @property
    def builder(self) -> ir.IRBuilder:
        return self.whole.builder

    def _places(self, memory: Sequence[ir.Value], at: ir.Value) -> list[ir.Value]:
        """Where the vector is that begins so far into the strip."""
        builder = self.builder
        index = builder.udiv(at, constant(I64, self.whole.plan.width))
        pairs = zip(memory, self.types, strict=True)
        return [element_pointer(builder, start, index, type) for start, type in pairs]

    def _get(self, memory: Sequence[ir.Value], at: ir.Value) -> list[State]:
        pairs = zip(self._places(memory, at), self.types, strict=True)
        return [[self.builder.load(place, typ=type)] for place, type in pairs]

    def _put(self, states: Sequence[State], memory: Sequence[ir.Value], at: ir.Value) -> None:
        for (value,), place in zip(states, self._places(memory, at), strict=True):
            self.builder.store(value, place)

    def clear(self, memory: Sequence[ir.Value], count: ir.Value) -> None:
        """Before anything is summed up."""
        width = self.whole.plan.width
        with carried_loop(self.builder, 0, count, width, (), "clear") as frame:
            self._put([reducer.initial(width) for reducer in self.reducers], memory, frame.index)

    def rows(self, depth: int, outer: ExpressionEmitter, first: ir.Value, count: ir.Value) -> None:
        """All rows of this loop of the reduction and those in it."""
        builder, (var, _) = self.builder, self.whole.reduce.loops[depth]
        if depth + 1 < len(self.whole.reduce.loops):
            with carried_loop(builder, 0, var.extent, 1, (), var.name) as frame:
                self.rows(depth + 1, outer.fork({var: frame.index}), first, count)
            return
        whole = var.extent - var.extent % _ROWS
        rest = {var: constant(I64, whole)} if var.extent > whole else {}
        if self.sums is self.totals:
            self._whole_rows(var, 0, whole, outer, first, count)
            self._take(var.extent - whole, rest, outer, first, count)
            return
        with carried_loop(builder, 0, whole, _BLOCK, (), "block") as frame:
            self.clear(self.sums, count)
            size = smaller(builder, builder.sub(constant(I64, whole), frame.index), _BLOCK)
            end = builder.add(frame.index, as_value(size))
            self._whole_rows(var, frame.index, end, outer, first, count)
            self._add_up(count)
        if rest:
            self.clear(self.sums, count)
            self._take(var.extent - whole, rest, outer, first, count)
            self._add_up(count)

    def _whole_rows(
        self,
        var: LoopVar,
        begin: Count,
        end: Count,
        outer: ExpressionEmitter,
        first: ir.Value,
        count: ir.Value,
    ) -> None:
        with carried_loop(self.builder, begin, end, _ROWS, (), var.name) as frame:
            self._take(_ROWS, {var: frame.index}, outer, first, count)

    def _take(
        self,
        rows: int,
        at: Mapping[LoopVar, ir.Value],
        outer: ExpressionEmitter,
        first: ir.Value,
        count: ir.Value,
    ) -> None:
        """Some rows from here on, taken in by every vector of the strip."""
        if not at:
            return
        builder, plan, lanes = self.builder, self.whole.plan, self.whole.loop.var
        (var,) = at
        emitters = [outer.fork(at, shifts={var: number}) for number in range(rows)]
        with carried_loop(builder, 0, count, plan.width, (), "vector") as frame:
            place = builder.add(first, frame.index)
            copies = [lanes_over(emitter.fork(), lanes, place, plan.width) for emitter in emitters]
            taken = []
            states = self._get(self.sums, frame.index)
            for reducer, state in zip(self.reducers, states, strict=True):
                values = [[copy.value(reducer.accumulator.value)] for copy in copies]
                taken.append(reducer.merge(state, pairwise(reducer, values)))
            self._put(taken, self.sums, frame.index)

    def _add_up(self, count: ir.Value) -> None:
        """The block's sums go to those of all blocks."""
        width = self.whole.plan.width
        with carried_loop(self.builder, 0, count, width, (), "total") as frame:
            pairs = (self._get(memory, frame.index) for memory in (self.totals, self.sums))
            merged = [
                reducer.merge(total, part)
                for reducer, total, part in zip(self.reducers, *pairs, strict=True)
            ]
            self._put(merged, self.totals, frame.index)

    def finish(self, first: ir.Value, count: ir.Value) -> None:
        """What is done with the results."""
        builder, whole, plan = self.builder, self.whole, self.whole.plan
        var = whole.loop.var
        with carried_loop(builder, 0, count, plan.step, (), "finish") as frame:
            place, shared = builder.add(first, frame.index), whole.outer.fork()
            copies = []
            for shift in range(0, plan.step, plan.width):
                copy = lanes_over(whole.outer, var, place, plan.width, None, shared, shift)
                at = builder.add(frame.index, constant(I64, shift))
                states = self._get(self.totals, at)
                for reducer, (value,) in zip(self.reducers, states, strict=True):
                    copy.define(reducer.accumulator.name, value)
                copies.append(copy)
            whole.statements(whole.loop.body[1:], copies)
