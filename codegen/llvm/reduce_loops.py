"""Loops that reduce: several accumulators in flight, long sums in blocks.

In: a `Reduce` statement and the emitters of the vectors (or the scalar) around it.  Out: the
accumulators' values, as `Ref`s of those emitters.

A reduction is latency-bound unless several accumulators run in turn, so the innermost loop keeps a
few ("ways"). A chain of n floating-point additions has an error that grows with n; chains longer
than `LONGEST_CHAIN` are cut into blocks whose sums are added up, in as many levels as needed
(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 4.2), which also bounds
the error of sums over several dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.invariants import compute_before
from braze.codegen.llvm.looping import Count, as_value, carried_loop, is_number
from braze.codegen.llvm.reductions import Reducer, State, pairwise
from braze.codegen.llvm.types import (
    I1,
    I32,
    I64,
    constant,
    constants,
    intrinsic,
    lane_numbers,
    splat,
)
from braze.codegen.llvm.vectorise import VectorPlan, instructions, plan_vectors
from braze.ir.index import LoopVar
from braze.ir.loops import Accumulator, LoopKind, Reduce
from braze.ir.symint import is_symbolic
from braze.ir.target import Target

LONGEST_CHAIN = 512
_BLOCK = 128
_WAYS = 4

# The states of all accumulators of one vector.
States = list[State]


@dataclass(frozen=True, slots=True)
class Level:
    """One loop of a reduction.

    blocks: lengths (in steps of the loop) of the pieces into which long sums are cut, outermost
        first.
    fresh: the loops inside start from new accumulators, which are merged after them.
    """

    var: LoopVar
    kind: LoopKind
    blocks: tuple[int, ...] = ()
    fresh: bool = False


def plan_levels(reduce: Reduce, step: int, sums_floats: bool) -> list[Level]:
    """Where to cut the chains of additions. `step`: elements in one turn of the innermost loop for
    an accumulator.
    """
    levels: list[Level] = []
    chain = 1
    for number, (var, kind) in enumerate(reversed(reduce.loops)):
        turns = max(1, var.extent // step) if number == 0 else var.extent
        if is_symbolic(var.extent):
            turns = LONGEST_CHAIN * _BLOCK  # one level of blocks
        fresh, blocks = False, list[int]()
        if sums_floats and chain * turns > LONGEST_CHAIN and kind != "unroll":
            fresh, chain = chain > 1, 1
            while turns > LONGEST_CHAIN:
                blocks.append(_BLOCK ** (len(blocks) + 1))
                turns = -(-turns // _BLOCK)
        chain *= turns
        levels.append(Level(var, kind, tuple(reversed(blocks)), fresh))
    return levels[::-1]


class ReduceEmitter:
    """Emits one `Reduce` for a group of vectors side by side (`copies`), which take part in the
    same loops.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        target: Target,
        reduce: Reduce,
        copies: Sequence[ExpressionEmitter],
    ) -> None:
        self.builder = builder
        self.target = target
        self.reduce = reduce
        self.copies = list(copies)
        self.across = reduce.loops[-1][1] == "vector"
        var = reduce.loops[-1][0]
        if self.across:
            self.plan = self._plan_across(var)
            ways = self.plan.unroll
        else:
            ways = self._ways_in_lanes(var, reduce.loops[-1][1])
            self.plan = VectorPlan(1, ways, "scalar")
        lanes = self.plan.width if self.across else self.copies[0].width
        self.found_with = _found_with(reduce.accumulators)
        own = [a for a in reduce.accumulators if a.name not in self.found_with.values()]
        self.reducers = [Reducer(builder, target, a, lanes) for a in own]
        self.lanes = lanes
        self.ways = ways
        sums = any(reducer.sums_floats for reducer in self.reducers)
        self.levels = plan_levels(reduce, self.plan.step, sums)

    def _plan_across(self, var: LoopVar) -> VectorPlan:
        plan = plan_vectors([self.reduce], var, max(1, var.extent), self.target)
        length = instructions(a for acc in self.reduce.accumulators for a in acc.value.walk())
        ways = _WAYS if length <= 40 and len(self.reduce.accumulators) <= 2 else 2
        while ways > 1 and not is_symbolic(var.extent) and plan.width * ways > var.extent:
            ways //= 2
        return VectorPlan(plan.width, ways, plan.tail)

    def _ways_in_lanes(self, var: LoopVar, kind: LoopKind) -> int:
        """Vectors side by side hide the latency as well as several accumulators for one do."""
        if kind == "unroll" or (not is_symbolic(var.extent) and var.extent < 2 * _WAYS):
            return 1
        return max(1, _WAYS // (len(self.copies) * len(self.reduce.accumulators)))

    # The whole reduction --------------------------------------------------------------------------

    def emit(self) -> None:
        """Emit the loops and define the accumulators' names in every copy."""
        for copy in self.copies:
            compute_before(copy, (a.value for a in self.reduce.accumulators))
        slots = self._initial()
        slots = self._level(0, self.copies, slots)
        for number, copy in enumerate(self.copies):
            first = copy.fork({level.var: constant(I64, 0) for level in self.levels})
            for place, reducer in enumerate(self.reducers):
                parts = [slots[number][way][place] for way in range(self.ways)]
                state = pairwise(reducer, parts)
                if self.across:
                    state = reducer.across_lanes(state)
                    if self.plan.tail == "scalar":
                        state = reducer.merge(state, slots[number][self.ways][place])
                name = reducer.accumulator.name
                copy.define(name, reducer.result(state, first))
                if name in self.found_with:
                    copy.define(self.found_with[name], state[0])

    # Slots: for each copy, the states of each way (and one of scalars for the tail, where there is
    # one).

    def _initial(self) -> list[list[States]]:
        return [[self._new(lanes) for lanes in self._slot_lanes()] for _ in self.copies]

    def _slot_lanes(self) -> list[int]:
        scalar = [1] if self.across and self.plan.tail == "scalar" else []
        return [self.lanes] * self.ways + scalar

    def _new(self, lanes: int) -> States:
        return [reducer.initial(lanes) for reducer in self.reducers]

    def _flatten(self, slots: list[list[States]]) -> list[ir.Value]:
        return [v for copy in slots for states in copy for state in states for v in state]

    def _unflatten(self, values: Sequence[ir.Value]) -> list[list[States]]:
        items = iter(values)
        return [
            [
                [[next(items) for _ in reducer.initial(1)] for reducer in self.reducers]
                for _ in self._slot_lanes()
            ]
            for _ in self.copies
        ]

    def _merge(self, left: list[list[States]], right: list[list[States]]) -> list[list[States]]:
        return [
            [
                [r.merge(a, b) for r, a, b in zip(self.reducers, x, y, strict=True)]
                for x, y in zip(one, other, strict=True)
            ]
            for one, other in zip(left, right, strict=True)
        ]

    # Loops ----------------------------------------------------------------------------------------

    def _level(
        self, depth: int, emitters: Sequence[ExpressionEmitter], slots: list[list[States]]
    ) -> list[list[States]]:
        """Everything from this loop inwards."""
        level = self.levels[depth]
        extent = level.var.extent
        if extent == 0:
            return slots
        last = depth == len(self.levels) - 1
        if level.kind == "unroll" and is_number(extent):
            for value in range(extent):
                inner = fork_all(emitters, {level.var: constant(I64, value)})
                slots = (
                    self._take(inner, slots, 0) if last else self._level(depth + 1, inner, slots)
                )
            return slots
        if last:
            return self._innermost(level, emitters, slots)
        return self._blocks(level, depth, emitters, slots, level.blocks, 0, extent)

    def _blocks(
        self,
        level: Level,
        depth: int,
        emitters: Sequence[ExpressionEmitter],
        slots: list[list[States]],
        blocks: Sequence[int],
        begin: Count,
        end: Count,
    ) -> list[list[States]]:
        """The iterations begin..end of a loop that is not the innermost, cut into blocks."""
        if blocks:
            with carried_loop(
                self.builder, begin, end, blocks[0], self._flatten(slots), "block"
            ) as loop:
                stop = self._stop(loop.index, blocks[0], end)
                part = self._blocks(
                    level, depth, emitters, self._initial(), blocks[1:], loop.index, stop
                )
                loop.update(self._flatten(self._merge(self._unflatten(loop.values), part)))
            return self._unflatten(loop.results)
        with carried_loop(
            self.builder, begin, end, 1, self._flatten(slots), level.var.name
        ) as loop:
            inner = fork_all(emitters, {level.var: loop.index})
            before = self._unflatten(loop.values)
            if level.fresh:
                after = self._merge(before, self._level(depth + 1, inner, self._initial()))
            else:
                after = self._level(depth + 1, inner, before)
            loop.update(self._flatten(after))
        return self._unflatten(loop.results)

    def _stop(self, begin: ir.Value, length: int, end: Count) -> ir.Value:
        """The end of a block that begins here."""
        limit = constant(I64, end) if isinstance(end, int) else end
        reach = self.builder.add(begin, constant(I64, length), flags=("nsw",))
        return intrinsic(self.builder, "smin", I64, [reach, limit])

    def _innermost(
        self, level: Level, emitters: Sequence[ExpressionEmitter], slots: list[list[States]]
    ) -> list[list[States]]:
        """The main loop, with all ways, then what is left over."""
        extent, step, width = level.var.extent, self.plan.step, self.plan.width
        if not is_number(extent):
            return self._open_innermost(level, emitters, slots)
        main = extent - extent % step
        if main:
            slots = self._main(level, emitters, slots, level.blocks, 0, main)
        rest = extent - main
        whole = rest - rest % width
        if whole:
            slots = self._rest(level, emitters, slots, main, main + whole)
        left = rest % width
        if left:
            slots = self._tail(level, emitters, slots, extent - left, extent)
        return slots

    def _open_innermost(
        self, level: Level, emitters: Sequence[ExpressionEmitter], slots: list[list[States]]
    ) -> list[list[States]]:
        """The same where it is not known how often the loop runs."""
        b, width = self.builder, self.plan.width
        extent = as_value(level.var.extent)

        def rounded(step: int) -> ir.Value:
            return b.sub(extent, b.urem(extent, constant(I64, step)))

        main = rounded(self.plan.step)
        slots = self._main(level, emitters, slots, level.blocks, 0, main)
        if self.ways > 1:
            whole = rounded(width)
            slots = self._rest(level, emitters, slots, main, whole)
            main = whole
        return self._tail(level, emitters, slots, main, extent) if width > 1 else slots

    def _rest(
        self,
        level: Level,
        emitters: Sequence[ExpressionEmitter],
        slots: list[list[States]],
        begin: Count,
        end: Count,
    ) -> list[list[States]]:
        """Whole vectors that are too few for all ways."""
        with carried_loop(
            self.builder, begin, end, self.plan.width, self._flatten(slots), "rest"
        ) as loop:
            inner = self._at(level, emitters, loop.index)
            loop.update(self._flatten(self._take(inner, self._unflatten(loop.values), 0)))
        return self._unflatten(loop.results)

    def _main(
        self,
        level: Level,
        emitters: Sequence[ExpressionEmitter],
        slots: list[list[States]],
        blocks: Sequence[int],
        begin: Count,
        end: Count,
    ) -> list[list[States]]:
        step = self.plan.step
        if blocks:
            length = blocks[0] * step
            with carried_loop(
                self.builder, begin, end, length, self._flatten(slots), "block"
            ) as loop:
                stop = self._stop(loop.index, length, end)
                part = self._main(level, emitters, self._initial(), blocks[1:], loop.index, stop)
                loop.update(self._flatten(self._merge(self._unflatten(loop.values), part)))
            return self._unflatten(loop.results)
        with carried_loop(
            self.builder, begin, end, step, self._flatten(slots), level.var.name
        ) as loop:
            after = self._unflatten(loop.values)
            shared = [emitter.fork() for emitter in emitters] if self.across else None
            for way in range(self.ways):
                shift = way * self.plan.width
                inner = self._at(level, emitters, loop.index, None, shared, shift)
                after = self._take(inner, after, way)
            loop.update(self._flatten(after))
        return self._unflatten(loop.results)

    def _at(
        self,
        level: Level,
        emitters: Sequence[ExpressionEmitter],
        at: ir.Value,
        mask: ir.Value | None = None,
        shared: Sequence[ExpressionEmitter] | None = None,
        shift: int = 0,
    ) -> list[ExpressionEmitter]:
        """Emitters for the point (or vector of points) of the innermost loop that begins so far
        behind."""
        if not self.across:
            return fork_all(emitters, {level.var: at}, {level.var: shift})
        common = shared or [emitter.fork() for emitter in emitters]
        return [
            lanes_over(e, level.var, at, self.plan.width, mask, c, shift)
            for e, c in zip(emitters, common, strict=True)
        ]

    def _tail(
        self,
        level: Level,
        emitters: Sequence[ExpressionEmitter],
        slots: list[list[States]],
        begin: Count,
        end: Count,
    ) -> list[list[States]]:
        """The last elements, fewer than a vector."""
        if self.plan.tail == "mask":
            at = as_value(begin)
            if is_number(begin) and is_number(end):
                count: ir.Value = constant(I64, end - begin)
            else:
                count = self.builder.sub(as_value(end), at)
            mask = first_lanes(self.builder, self.plan.width, count)
            inner = self._at(level, emitters, at, mask)
            taken = self._take(inner, slots, 0)
            for number in range(len(slots)):
                old, new = slots[number][0], taken[number][0]
                taken[number][0] = [
                    r.keep(mask, n, o) for r, n, o in zip(self.reducers, new, old, strict=True)
                ]
            return taken
        with carried_loop(self.builder, begin, end, 1, self._flatten(slots), "tail") as loop:
            inner = fork_all(emitters, {level.var: loop.index})
            after = self._take(inner, self._unflatten(loop.values), self.ways)
            loop.update(self._flatten(after))
        return self._unflatten(loop.results)

    def _take(
        self, emitters: Sequence[ExpressionEmitter], slots: list[list[States]], way: int
    ) -> list[list[States]]:
        """Take the values at the emitters' points into one way's states."""
        after = [list(copy) for copy in slots]
        for number, emitter in enumerate(emitters):
            after[number][way] = [
                reducer.take(state, emitter)
                for reducer, state in zip(self.reducers, slots[number][way], strict=True)
            ]
        return after


def _found_with(accumulators: Sequence[Accumulator]) -> dict[str, str]:
    """Where an extremum's place is looked for, its value is known: for such an accumulator, by
    name, that of the same value."""
    places = {(a.value, a.combine[3:]): a.name for a in accumulators if a.position is not None}
    values = [a for a in accumulators if a.combine in ("amax", "amin")]
    pairs = [(places.get((a.value, a.combine[1:])), a) for a in values]
    return {name: a.name for name, a in pairs if name and a.value.dtype.kind != "bool"}


# Emitters for nested code -------------------------------------------------------------------------


def fork_all(
    emitters: Sequence[ExpressionEmitter],
    variables: dict[LoopVar, ir.Value],
    shifts: dict[LoopVar, int] | None = None,
) -> list[ExpressionEmitter]:
    """Forks of vectors side by side, which share the emitter of what is the same in all of them."""
    if emitters[0].width == 1:
        return [emitter.fork(variables, shifts=shifts) for emitter in emitters]
    shared: dict[ExpressionEmitter, ExpressionEmitter] = {}
    for emitter in emitters:
        if emitter.scalar not in shared:
            shared[emitter.scalar] = emitter.scalar.fork(variables, shifts=shifts)
    return [
        emitter.fork(variables, scalar=shared[emitter.scalar], shifts=shifts)
        for emitter in emitters
    ]


def lanes_over(
    scalar: ExpressionEmitter,
    var: LoopVar,
    begin: ir.Value,
    width: int,
    mask: ir.Value | None = None,
    shared: ExpressionEmitter | None = None,
    shift: int = 0,
) -> ExpressionEmitter:
    """An emitter for `width` values of a loop variable, of which the first is a multiple of the
    width.

    Args:
        scalar: the emitter of the code around.
        shared: a fork of it to compute in what is the same for all lanes, shared between vectors.
        shift: how far behind `begin` the first one is, another multiple.
    """
    if width == 1:
        return scalar.fork({var: begin}, shifts={var: shift})
    return ExpressionEmitter(
        scalar.builder,
        scalar.target,
        width=width,
        lane_var=var,
        variables={**scalar.variables, var: begin},
        refs=scalar.refs,
        pointer=scalar.pointer,
        mask=mask,
        lane_alignment=width,
        aliasing=scalar.aliasing,
        scalar=shared or scalar.fork(),
        shifts={**scalar.shifts, var: shift},
    )


def first_lanes(builder: ir.IRBuilder, width: int, count: ir.Value) -> ir.Value:
    """The mask of the first `count` lanes."""
    if isinstance(count, ir.Constant):
        return constants(I1, [int(lane < count.constant) for lane in range(width)])
    numbers = lane_numbers(I32, width)
    limit = splat(builder, builder.trunc(count, I32), width)
    return builder.icmp_signed("<", numbers, limit)
