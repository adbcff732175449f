"""How accumulators start, take in values, and merge.

In: an `Accumulator` of the loop IR.  Out: a `Reducer` that emits its arithmetic on scalars or
vectors. An accumulator's state is one value, or for argmax and argmin two: the best value and where
it was found first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from braze.codegen.llvm import ir
from braze.codegen.llvm.addressing import fits_int32
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.operations import CONTRACT, Context, extremum
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
    zero,
)
from braze.ir.dtypes import DType, i32
from braze.ir.index import Index
from braze.ir.loops import Accumulator
from braze.ir.target import Target

State = list[ir.Value]


class Reducer:
    """Emits one accumulator's arithmetic at the builder's position.

    Args:
        lanes: of the vectors in which it accumulates.
    """

    def __init__(
        self, builder: ir.IRBuilder, target: Target, accumulator: Accumulator, lanes: int
    ) -> None:
        self.builder = builder
        self.target = target
        self.accumulator = accumulator
        self.combine = accumulator.combine
        self.lanes = lanes
        # Truth values are accumulated as integers of a width that fills one register: LLVM keeps
        # vectors of single bits badly across iterations.
        self.logical = accumulator.value.dtype.kind == "bool"
        self.dtype: DType = i32 if self.logical and self.has_position else accumulator.value.dtype
        self.position = accumulator.position
        if self.position is not None:
            self.position_type = I32 if fits_int32(self.position) else I64

    @property
    def has_position(self) -> bool:
        return self.combine in ("argmax", "argmin")

    @property
    def sums_floats(self) -> bool:
        """True if the order of the additions matters for accuracy."""
        return self.combine == "sum" and self.dtype.is_floating_point

    def _mask_type(self, lanes: int) -> ir.Type:
        bits = max(8, min(64, self.target.vector_bits // self.lanes))
        return vector(ir.IntType(bits), lanes)

    @property
    def _largest(self) -> bool:
        return self.combine in ("amax", "argmax")

    # States ---------------------------------------------------------------------------------------

    def initial(self, lanes: int) -> State:
        """The state before any value."""
        if self.logical and not self.has_position:
            everything = self.combine in ("all", "amin")
            return [constant(self._mask_type(lanes), -1 if everything else 0)]
        type = register_type(self.dtype, lanes)
        if self.combine in ("sum", "prod"):
            return [constant(type, 0 if self.combine == "sum" else 1)]
        start = constant(type, self._worst())
        if not self.has_position:
            return [start]
        return [start, constant(vector(self.position_type, lanes), self._nowhere())]

    def _worst(self) -> float | int:
        if self.dtype.is_floating_point:
            return -inf if self._largest else inf
        if self.dtype.kind == "uint":
            return 0 if self._largest else (1 << self.dtype.bits) - 1
        return -(1 << (self.dtype.bits - 1)) if self._largest else (1 << (self.dtype.bits - 1)) - 1

    def _nowhere(self) -> int:
        """Beyond every position: nothing was better than the start."""
        return (1 << (self.position_type.width - 1)) - 1

    def take(self, state: State, emitter: ExpressionEmitter) -> State:
        """The state after the value at the emitter's point, which comes after all those before."""
        b = self.builder
        value = emitter.value(self.accumulator.value)
        if self.logical and not self.has_position:
            wide = b.sext(value, self._mask_type(lanes_of(value.type)))
            return self.merge(state, [wide])
        if self.logical:
            value = b.zext(value, like(value.type, I32))
        if not self.has_position:
            return self.merge(state, [value])
        assert self.position is not None
        better = self._is_better(value, state[0])
        where = self._position(emitter, self.position)
        return [b.select(better, value, state[0]), b.select(better, where, state[1])]

    def _position(self, emitter: ExpressionEmitter, index: Index) -> ir.Value:
        if emitter.width > 1:
            return emitter.indices.vector(index, self.position_type)
        value = emitter.indices.scalar(index)
        return value if self.position_type is I64 else self.builder.trunc(value, I32)

    def _is_better(self, value: ir.Value, best: ir.Value) -> ir.Value:
        """The value displaces an earlier one: it is beyond it, or the first nan."""
        b = self.builder
        order = ">" if self._largest else "<"
        if self.dtype.is_floating_point:
            beyond = b.fcmp_unordered(order, value, best)
            return b.and_(beyond, b.fcmp_ordered("ord", best, best))
        compare = b.icmp_unsigned if self.dtype.kind == "uint" else b.icmp_signed
        return compare(order, value, best)

    def merge(self, left: State, right: State) -> State:
        """The state of two parts together."""
        b = self.builder
        if self.has_position:
            return self._merge_positions(left, right)
        x, y = left[0], right[0]
        if self.logical:
            return [b.and_(x, y) if self.combine in ("all", "amin") else b.or_(x, y)]
        floating = self.dtype.is_floating_point
        if self.combine == "sum":
            return [b.fadd(x, y, flags=CONTRACT) if floating else b.add(x, y)]
        if self.combine == "prod":
            return [b.fmul(x, y) if floating else b.mul(x, y)]
        context = Context(b, self.target, self.dtype, self.dtype)
        return [extremum(context, x, y, self._largest)]

    def _merge_positions(self, left: State, right: State) -> State:
        b = self.builder
        (x, i), (y, j) = left, right
        beyond = self._is_better(y, x)
        earlier = b.icmp_signed("<", j, i)
        if self.dtype.is_floating_point:
            nans = b.and_(b.fcmp_unordered("uno", x, x), b.fcmp_unordered("uno", y, y))
            tied = b.or_(b.fcmp_ordered("==", x, y), nans)
        else:
            tied = b.icmp_unsigned("==", x, y)
        second = b.or_(beyond, b.and_(tied, earlier))
        return [b.select(second, y, x), b.select(second, j, i)]

    def keep(self, mask: ir.Value, new: State, old: State) -> State:
        """The new state in the lanes of the mask, else the old one."""
        return [self.builder.select(mask, n, o) for n, o in zip(new, old, strict=True)]

    # Results --------------------------------------------------------------------------------------

    def across_lanes(self, state: State) -> State:
        """The scalar state of all lanes together, by halving."""
        lanes = lanes_of(state[0].type)
        while lanes > 1:
            half = lanes // 2
            low, high = ([self._half(value, start, half) for value in state] for start in (0, half))
            state = self.merge(low, high)
            lanes = half
        return state

    def _half(self, value: ir.Value, start: int, count: int) -> ir.Value:
        if count == 1:
            return self.builder.extract_element(value, constant(I32, start))
        order = constants(I32, [start + lane for lane in range(count)])
        return self.builder.shuffle_vector(value, poison(value.type), order)

    def result(self, state: State, first: ExpressionEmitter) -> ir.Value:
        """The accumulator's value in its register type. `first` stands at the first point of the
        reduction.
        """
        b = self.builder
        if self.logical and not self.has_position:
            return b.icmp_unsigned("!=", state[0], zero(state[0].type))
        if not self.has_position:
            return state[0]
        assert self.position is not None
        where = state[1]
        start = self._position(first, self.position)
        nowhere = b.icmp_signed("==", where, constant(where.type, self._nowhere()))
        where = b.select(nowhere, splat(b, start, lanes_of(where.type)), where)
        return where if bits_of(where.type) == 64 else b.sext(where, like(where.type, I64))


def pairwise(reducer: Reducer, states: Sequence[State]) -> State:
    """Merge several states of one accumulator, neighbours first."""
    items = list(states)
    while len(items) > 1:
        items = [
            reducer.merge(items[i], items[i + 1]) if i + 1 < len(items) else items[i]
            for i in range(0, len(items), 2)
        ]
    return items[0]
