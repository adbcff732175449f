"""Loops that carry values from point to point.

In: a `Scan` statement and the emitters of the vectors (or the scalar) around it.  Out: its loops,
and the carried values' last ones, as `Ref`s of those emitters.

Where the vectors stand side by side around the scan, each lane runs a scan of its own. Where the
scan itself is in lanes, a vector's running values are found in log2(lanes) steps, each of which
combines every lane with one further to the left (Hillis and Steele, "Data parallel algorithms",
1986). What is carried is kept in all lanes, so that a vector waits for the one before it for a
single combination. In a linear recurrence the lanes go one by one: the products of its factors,
which the steps would need, overflow where the recurrence does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from braze.codegen.llvm import ir
from braze.codegen.llvm.addressing import fits_int32
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.looping import carried_loop
from braze.codegen.llvm.operations import CONTRACT, Context, extremum
from braze.codegen.llvm.reduce_loops import first_lanes, fork_all, lanes_over
from braze.codegen.llvm.types import (
    I32,
    I64,
    bits_of,
    constant,
    constants,
    lanes_of,
    like,
    poison,
    register_type,
    splat,
    vector,
)
from braze.codegen.llvm.vectorise import VectorPlan, plan_vectors
from braze.ir.loops import Carried, Scan, Store
from braze.ir.target import Target

# A carried value, and for lastmax and lastmin where it was found after the value itself.
State = list[ir.Value]
StoreAll = Callable[[Sequence[Store], Sequence[ExpressionEmitter]], None]


class Carrier:
    """The arithmetic of one carried value, on scalars or vectors."""

    def __init__(self, builder: ir.IRBuilder, target: Target, carried: Carried) -> None:
        self.builder = builder
        self.target = target
        self.carried = carried
        self.combine = carried.combine
        self.dtype = carried.values[0].dtype
        self.largest = self.combine in ("amax", "lastmax")
        self.has_position = carried.position is not None
        if carried.position is not None:
            # A start comes from the same range as the positions.
            self.position_type = I32 if fits_int32(carried.position) else I64

    def nothing(self, lanes: int) -> State:
        """The combination of no values."""
        type = register_type(self.dtype, lanes)
        if self.combine in ("sum", "linear", "prod"):
            return [constant(type, int(self.combine == "prod"))]
        worst = constant(type, self._worst())
        if not self.has_position:
            return [worst]
        return [worst, constant(vector(self.position_type, lanes), 0)]

    def _worst(self) -> float | int:
        bits = self.dtype.bits
        if self.dtype.is_floating_point:
            return -inf if self.largest else inf
        if self.dtype.kind == "uint":
            return 0 if self.largest else (1 << bits) - 1
        return -(1 << (bits - 1)) if self.largest else (1 << (bits - 1)) - 1

    def start(self, emitter: ExpressionEmitter, lanes: int) -> State:
        """The state before the first point."""
        starts = self.carried.starts
        if not starts:
            return self.nothing(lanes)
        state = [splat(self.builder, emitter.value(start), lanes) for start in starts]
        if self.has_position and self.position_type is I32:
            state[1] = self.builder.trunc(state[1], like(state[1].type, I32))
        return state

    def take(self, state: State, emitter: ExpressionEmitter) -> State:
        """The state after the values at the emitter's point."""
        if self.combine == "linear":
            b = self.builder
            factor, value = (emitter.value(v) for v in self.carried.values)
            return [b.fadd(b.fmul(factor, state[0], flags=CONTRACT), value, flags=CONTRACT)]
        return self.merge(state, self.alone(emitter))

    def alone(self, emitter: ExpressionEmitter) -> State:
        """The state of what is at the emitter's point, without what was before."""
        value = emitter.value(self.carried.values[0])
        if self.carried.position is None:
            return [value]
        index = self.carried.position
        if emitter.width > 1:
            return [value, emitter.indices.vector(index, self.position_type)]
        place = emitter.indices.scalar(index)
        return [value, place if self.position_type is I64 else self.builder.trunc(place, I32)]

    def merge(self, earlier: State, later: State) -> State:
        """The state of two parts together."""
        b, x, y = self.builder, earlier[0], later[0]
        floating = self.dtype.is_floating_point
        if self.has_position:
            second = self._is_later(x, y)
            return [b.select(second, n, o) for o, n in zip(earlier, later, strict=True)]
        if self.combine == "sum":
            return [b.fadd(x, y) if floating else b.add(x, y)]
        if self.combine == "prod":
            return [b.fmul(x, y) if floating else b.mul(x, y)]
        return [extremum(Context(b, self.target, self.dtype, self.dtype), x, y, self.largest)]

    def _is_later(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """y is no worse than x, or a nan; nothing but a nan comes after a nan."""
        b = self.builder
        if self.dtype.is_floating_point:
            better = b.fcmp_ordered(">=" if self.largest else "<=", y, x)
            return b.or_(better, b.fcmp_unordered("uno", y, y))
        compare = b.icmp_unsigned if self.dtype.kind == "uint" else b.icmp_signed
        return compare(">=" if self.largest else "<=", y, x)

    def running(self, state: State) -> State:
        """From the states of the lanes to those of each lane with all before it."""
        lanes = lanes_of(state[0].type)
        nothing = self.nothing(lanes)
        step = 1
        while step < lanes:
            order = [k if k < step else lanes + k - step for k in range(lanes)]
            moved = [
                self.builder.shuffle_vector(none, value, constants(I32, order))
                for none, value in zip(nothing, state, strict=True)
            ]
            state = self.merge(moved, state)
            step *= 2
        return state

    def one_by_one(
        self, state: State, emitter: ExpressionEmitter, last: int
    ) -> tuple[State, State]:
        """The running values of a linear recurrence's lanes, and lane `last`'s in all of them."""
        b, lanes = self.builder, emitter.width
        factors, values = (
            splat(b, emitter.value(value), lanes) for value in self.carried.values
        )
        held = b.extract_element(state[0], constant(I32, 0))
        made: ir.Value = poison(values.type)
        for lane in range(last + 1):
            number = constant(I32, lane)
            product = b.fmul(b.extract_element(factors, number), held, flags=CONTRACT)
            held = b.fadd(product, b.extract_element(values, number), flags=CONTRACT)
            made = b.insert_element(made, held, number)
        return [made], [splat(b, held, lanes)]

    def lane(self, state: State, number: int) -> State:
        """One lane's state as scalars."""
        if lanes_of(state[0].type) == 1:
            return state
        return [self.builder.extract_element(value, constant(I32, number)) for value in state]

    def everywhere(self, state: State, number: int) -> State:
        """One lane's state in all lanes."""
        lanes = lanes_of(state[0].type)
        if lanes == 1:
            return state
        order = constants(I32, [number] * lanes)
        return [self.builder.shuffle_vector(v, poison(v.type), order) for v in state]

    def result(self, state: State) -> ir.Value:
        """The carried value in its register type."""
        value = state[-1]
        if self.has_position and bits_of(value.type) < 64:
            return self.builder.sext(value, like(value.type, I64))
        return value


class ScanEmitter:
    """Emits one `Scan` for vectors side by side (`copies`), or in lanes of its own for a scalar.

    Args:
        store_all: emits stores for the emitters of a point.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        target: Target,
        scan: Scan,
        copies: Sequence[ExpressionEmitter],
        store_all: StoreAll,
    ) -> None:
        self.builder = builder
        self.scan = scan
        self.copies = list(copies)
        self.store_all = store_all
        self.carriers = [Carrier(builder, target, carried) for carried in scan.carried]
        var, kind = scan.loops[-1]
        self.plan = VectorPlan(1, 1, "scalar")
        if kind == "vector":
            plan = plan_vectors([scan], var, max(1, var.extent), target)
            self.plan = VectorPlan(plan.width, 1, plan.tail)
        self.lanes = self.plan.width if self.plan.width > 1 else self.copies[0].width

    def emit(self) -> None:
        """Emit the loops and give every copy the names."""
        states = [[c.start(copy, self.lanes) for c in self.carriers] for copy in self.copies]
        states = self._level(0, self.copies, states)
        for copy, finals in zip(self.copies, states, strict=True):
            for carrier, state in zip(self.carriers, finals, strict=True):
                final = carrier.lane(state, 0) if self.plan.width > 1 else state
                copy.define(carrier.carried.name, carrier.result(final))

    def _flatten(self, states: list[list[State]]) -> list[ir.Value]:
        return [value for copy in states for state in copy for value in state]

    def _unflatten(self, values: Sequence[ir.Value]) -> list[list[State]]:
        items = iter(values)
        return [
            [[next(items) for _ in range(1 + c.has_position)] for c in self.carriers]
            for _ in self.copies
        ]

    def _level(
        self, depth: int, emitters: Sequence[ExpressionEmitter], states: list[list[State]]
    ) -> list[list[State]]:
        """Everything from this loop inwards."""
        var, _ = self.scan.loops[depth]
        is_last = depth == len(self.scan.loops) - 1
        if var.extent == 0:
            return states
        if is_last and self.plan.width > 1:
            return [self._in_lanes(emitters[0], states[0])]
        start = self._flatten(states)
        with carried_loop(self.builder, 0, var.extent, 1, start, var.name) as loop:
            inner = fork_all(emitters, {var: loop.index})
            before = self._unflatten(loop.values)
            after = self._point(inner, before) if is_last else self._level(depth + 1, inner, before)
            loop.update(self._flatten(after))
        return self._unflatten(loop.results)

    def _point(
        self, emitters: Sequence[ExpressionEmitter], states: list[list[State]]
    ) -> list[list[State]]:
        """One point: take in its values, then store."""
        after = []
        for emitter, before in zip(emitters, states, strict=True):
            new = [c.take(state, emitter) for c, state in zip(self.carriers, before, strict=True)]
            self._name(emitter, new)
            after.append(new)
        self.store_all(self.scan.stores, emitters)
        return after

    def _name(self, emitter: ExpressionEmitter, states: Sequence[State]) -> None:
        for carrier, state in zip(self.carriers, states, strict=True):
            emitter.define(carrier.carried.name, carrier.result(state))

    # In lanes -------------------------------------------------------------------------------------

    def _in_lanes(self, outer: ExpressionEmitter, states: list[State]) -> list[State]:
        """The innermost loop, vector by vector, then what is left over."""
        var, width = self.scan.loops[-1][0], self.plan.width
        left = var.extent % width
        main = var.extent - left
        if main:
            start = self._flatten([states])
            with carried_loop(self.builder, 0, main, width, start, var.name) as loop:
                emitter = lanes_over(outer, var, loop.index, width)
                (before,) = self._unflatten(loop.values)
                loop.update(self._flatten([self._vector(emitter, before, width - 1)]))
            (states,) = self._unflatten(loop.results)
        if not left:
            return states
        if self.plan.tail == "mask":
            mask = first_lanes(self.builder, width, constant(I64, left))
            emitter = lanes_over(outer, var, constant(I64, main), width, mask)
            return self._vector(emitter, states, left - 1)
        single = [c.lane(state, 0) for c, state in zip(self.carriers, states, strict=True)]
        start = self._flatten([single])
        with carried_loop(self.builder, main, var.extent, 1, start, "tail") as loop:
            inner = fork_all([outer], {var: loop.index})
            loop.update(self._flatten(self._point(inner, self._unflatten(loop.values))))
        (single,) = self._unflatten(loop.results)
        return [[splat(self.builder, value, width) for value in state] for state in single]

    def _vector(self, emitter: ExpressionEmitter, states: list[State], last: int) -> list[State]:
        """A vector of points, of which number `last` is the last one that counts."""
        values: list[State] = []
        after: list[State] = []
        for carrier, state in zip(self.carriers, states, strict=True):
            if carrier.combine == "linear":
                running, end = carrier.one_by_one(state, emitter, last)
                values.append(running)
                after.append(end)
                continue
            within = carrier.running(self._spread(carrier.alone(emitter)))
            values.append(carrier.merge(state, within))
            after.append(carrier.merge(state, carrier.everywhere(within, last)))
        self._name(emitter, values)
        self.store_all(self.scan.stores, [emitter])
        return after

    def _spread(self, state: State) -> State:
        return [splat(self.builder, value, self.plan.width) for value in state]
