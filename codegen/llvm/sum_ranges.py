"""Which terms of a sum count for the results of one tile.

In: a `Schedule` whose contraction has guards, and where a tile and a block are.  Out: for each
dimension of the block where its terms begin and how many there are, as LLVM values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.contraction_shape import Guard
from braze.codegen.llvm.control import Number, add, as_i64, larger, multiply, smaller, weighted_sum
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.ir.index import LoopVar


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one dimension of a block: the first term, counted from the block's, and how many."""

    begin: Number
    count: Number


def terms_of(
    builder: ir.IRBuilder,
    plan: Schedule,
    outer: Mapping[LoopVar, Number],
    around: Mapping[LoopVar, Number],
    begin: Number,
    steps: Number,
) -> list[Terms]:
    """The terms of each dimension of a block; none of its first one where a dimension around the
    block is outside of its guard.

    Args:
        outer: where the tile is. around: where the block is in `plan.outer_inner`.
        begin, steps: the block's part of its first dimension.
    """
    found: list[Terms] = []
    for number, dim in enumerate(plan.inner):
        first, size = (begin, steps) if number == 0 else (0, dim.extent)
        low: Number = first
        high = add(builder, first, size)
        guards = [guard for guard in plan.shape.guards if guard.inner == dim.var]
        for guard in guards:
            least, most = _range(builder, guard, outer)
            low, high = larger(builder, low, least), smaller(builder, high, most)
        if not guards:
            found.append(Terms(0, size))
            continue
        count = larger(builder, _difference(builder, high, low), 0)
        found.append(Terms(_difference(builder, low, first), count))
    if found:
        found[0] = Terms(found[0].begin, _if_inside(builder, plan, outer, around, found[0].count))
    return found


def _if_inside(
    builder: ir.IRBuilder,
    plan: Schedule,
    outer: Mapping[LoopVar, Number],
    around: Mapping[LoopVar, Number],
    count: Number,
) -> Number:
    """`count`, or 0 where the block is outside of a guard."""
    for guard in plan.shape.guards:
        if guard.inner in around:
            at = as_i64(around[guard.inner])
            low, high = (as_i64(end) for end in _range(builder, guard, outer))
            inside = builder.and_(
                builder.icmp_signed("<=", low, at), builder.icmp_signed("<", at, high)
            )
            count = builder.select(inside, as_i64(count), as_i64(0))
    return count


def _range(
    builder: ir.IRBuilder, guard: Guard, outer: Mapping[LoopVar, Number]
) -> tuple[Number, Number]:
    """The values of a guard's inner dimension for which it holds: begin and end, neither negative.

    low <= start + by * x < high is ceil((low - start) / by) <= x < ceil((high - start) / by), and
    for a negative `by` floor((start - high) / -by) < x <= floor((start - low) / -by).
    """
    index, bound = guard.bound.index, guard.bound
    by = index.coefficient(guard.inner)
    places = [outer[var] for var in guard.outer]
    factors = [index.coefficient(var) for var in guard.outer]
    sign = -1 if by > 0 else 1
    start = weighted_sum(builder, places, [sign * factor for factor in factors])
    ends = (bound.low, bound.high) if by > 0 else (bound.high, bound.low)
    # Rounded up, or down and one more.
    more = abs(by) - 1 if by > 0 else abs(by)
    least, most = (
        _over(builder, add(builder, start, sign * (index.constant - end) + more), abs(by))
        for end in ends
    )
    return least, most


def _over(builder: ir.IRBuilder, x: Number, divisor: int) -> Number:
    """x / divisor without its fraction, or 0 for a negative number."""
    x = larger(builder, x, 0)
    if isinstance(x, int):
        return x // divisor
    return x if divisor == 1 else builder.udiv(x, as_i64(divisor))


def _difference(builder: ir.IRBuilder, x: Number, y: Number) -> Number:
    return add(builder, x, multiply(builder, y, -1))
