"""Three ways to sort one row of records, as LLVM loops.

In: scratch memory and a function that makes the record of a position.  Out: where the sorted
records are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import Number, as_i64, counted_loop, element_pointer
from braze.codegen.llvm.looping import carried_loop
from braze.codegen.llvm.sort_plan import SortPlan
from braze.codegen.llvm.types import I1, I8, I64, constant, intrinsic, splat, vector, zero

MakeRecord = Callable[[ir.Value], ir.Value]
# Up to this many vectors are compared without a loop.
MOST_UNROLLED = 32
# Selection looks at so many vectors of keys before it branches.
VECTORS_AT_ONCE = 4


def rank_sort(
    builder: ir.IRBuilder, plan: SortPlan, scratch: ir.Value, record: MakeRecord
) -> ir.Value:
    """A record's place is the number of records below it."""
    type, length, lanes = plan.records.type, plan.records.length, plan.lanes
    target = element_pointer(builder, scratch, plan.second, I8)
    with counted_loop(builder, 0, length, "pack") as j:
        builder.store(record(j), element_pointer(builder, scratch, j, type), align=8)
    padded = -(-length // lanes) * lanes
    for number in range(length, padded):  # nothing is above these
        place = element_pointer(builder, scratch, number, type)
        builder.store(constant(type, -1), place, align=8)
    with counted_loop(builder, 0, length, "compare") as i:
        own = builder.load(element_pointer(builder, scratch, i, type), typ=type, align=8)
        place = _count_below(builder, scratch, own, padded, lanes)
        builder.store(own, element_pointer(builder, target, place, type), align=8)
    return target


def _count_below(
    builder: ir.IRBuilder, records: ir.Value, own: ir.Value, count: int, lanes: int
) -> ir.Value:
    type = vector(own.type, lanes)
    counter = vector(I64, lanes)
    wide = splat(builder, own, lanes)

    def more(total: ir.Value, at: ir.Value) -> ir.Value:
        place = element_pointer(builder, records, at, own.type)
        others = builder.load(place, typ=type, align=8)
        below = builder.icmp_unsigned("<", others, wide)
        return builder.sub(total, builder.sext(below, counter))

    total: ir.Value = zero(counter)
    if count // lanes <= MOST_UNROLLED:
        for at in range(0, count, lanes):
            total = more(total, as_i64(at))
    else:
        with carried_loop(builder, 0, count, lanes, [total], "below") as loop:
            loop.update([more(loop.values[0], loop.index)])
        (total,) = loop.results
    return total if lanes == 1 else intrinsic(builder, "vector.reduce.add", I64, [total], [counter])


def select_best(
    builder: ir.IRBuilder,
    plan: SortPlan,
    scratch: ir.Value,
    record: MakeRecord,
    keys: MakeRecord,
) -> ir.Value:
    """Keep the best records so far in order; a better one than the last is inserted.

    Args:
        keys: ``keys(position)`` gives a vector of ordered keys.
    """
    type, kept = plan.records.type, plan.kept
    with counted_loop(builder, 0, kept, "clear") as j:
        builder.store(constant(type, -1), element_pointer(builder, scratch, j, type), align=8)
    last = element_pointer(builder, scratch, kept - 1, type)

    def one_by_one(begin: Number, end: Number) -> None:
        with counted_loop(builder, begin, end, "select") as j:
            new = record(j)
            worst = builder.load(last, typ=type, align=8)
            with builder.if_then(builder.icmp_unsigned("<", new, worst), likely=False):
                _insert(builder, scratch, kept - 1, new)

    step = plan.lanes * VECTORS_AT_ONCE
    whole = plan.records.length // step * step
    if whole:
        with carried_loop(builder, 0, whole, step, name="scan") as loop:
            worst = plan.records.ordered_key(builder, builder.load(last, typ=type, align=8))
            starts = [
                builder.add(loop.index, as_i64(number * plan.lanes))
                for number in range(VECTORS_AT_ONCE)
            ]
            found = [_not_above(builder, keys(start), worst, plan.lanes) for start in starts]
            with builder.if_then(_any(builder, reduce(builder.or_, found)), likely=False):
                for start, some in zip(starts, found, strict=True):
                    with builder.if_then(_any(builder, some), likely=False):
                        one_by_one(start, builder.add(start, as_i64(plan.lanes)))
    if whole < plan.records.length:
        one_by_one(whole, plan.records.length)
    return scratch


def _not_above(builder: ir.IRBuilder, keys: ir.Value, worst: ir.Value, lanes: int) -> ir.Value:
    return builder.icmp_unsigned("<=", keys, splat(builder, worst, lanes))


def _any(builder: ir.IRBuilder, mask: ir.Value) -> ir.Value:
    return intrinsic(builder, "vector.reduce.or", I1, [mask], [mask.type])


def _insert(builder: ir.IRBuilder, records: ir.Value, last: int, new: ir.Value) -> None:
    """Move the records above `new` up by one, over the one at `last`, and put it below them."""
    type = new.type
    before = builder.block
    test = builder.append_basic_block("insert")
    compare = builder.append_basic_block("insert.compare")
    move = builder.append_basic_block("insert.move")
    done = builder.append_basic_block("insert.done")
    builder.branch(test)
    builder.position_at_end(test)
    hole = builder.phi(I64, name="hole")
    hole.add_incoming(as_i64(last), before)
    builder.cbranch(builder.icmp_signed(">", hole, as_i64(0)), compare, done)
    builder.position_at_end(compare)
    under = builder.sub(hole, as_i64(1))
    other = builder.load(element_pointer(builder, records, under, type), typ=type, align=8)
    builder.cbranch(builder.icmp_unsigned("<", new, other), move, done)
    builder.position_at_end(move)
    builder.store(other, element_pointer(builder, records, hole, type), align=8)
    hole.add_incoming(under, move)
    builder.branch(test)
    builder.position_at_end(done)
    builder.store(new, element_pointer(builder, records, hole, type), align=8)


def radix_sort(
    builder: ir.IRBuilder, plan: SortPlan, scratch: ir.Value, record: MakeRecord
) -> ir.Value:
    """Distribute by one digit of the key after the other, from one array to the other and back.

    All digits are counted while the records are made. A digit that all keys share moves nothing, so
    its pass is left out.
    """
    return _RadixEmitter(builder, plan, scratch).emit(record)


class _RadixEmitter:
    def __init__(self, builder: ir.IRBuilder, plan: SortPlan, scratch: ir.Value) -> None:
        self.builder = builder
        self.plan = plan
        self.type = plan.records.type
        self.counter = ir.IntType(plan.counter_bits)
        self.size = 1 << plan.digit_bits
        self.first = scratch
        self.second = element_pointer(builder, scratch, plan.second, I8)
        self.counters = element_pointer(builder, scratch, plan.counters, I8)

    def emit(self, record: MakeRecord) -> ir.Value:
        builder, plan = self.builder, self.plan
        self._clear_counters()
        with counted_loop(builder, 0, plan.records.length, "pack") as j:
            made = record(j)
            self._store(made, self.first, j)
            for number in range(plan.passes):
                place = self._place(number, made)
                count = builder.load(place, typ=self.counter)
                builder.store(builder.add(count, constant(self.counter, 1)), place)
        source, target = self.first, self.second
        for number in range(plan.passes):
            source, target = self._pass(number, source, target)
        return source

    def _clear_counters(self) -> None:
        lanes = 512 // self.plan.counter_bits
        empty = vector(self.counter, lanes)
        with counted_loop(self.builder, 0, self.plan.passes * self.size // lanes, "clear") as j:
            place = element_pointer(self.builder, self.counters, j, empty)
            self.builder.store(zero(empty), place, align=64)

    def _load(self, records: ir.Value, at: ir.Value) -> ir.Value:
        place = element_pointer(self.builder, records, at, self.type)
        return self.builder.load(place, typ=self.type, align=8)

    def _store(self, value: ir.Value, records: ir.Value, at: ir.Value) -> None:
        self.builder.store(value, element_pointer(self.builder, records, at, self.type), align=8)

    def _place(self, number: int, record: ir.Value) -> ir.Value:
        """The address of the counter for a record's digit of a pass."""
        shift = self.plan.records.position_bits + number * self.plan.digit_bits
        high = self.builder.lshr(record, ir.Constant(self.type, shift))
        low = high if self.type == I64 else self.builder.trunc(high, I64)
        digit = self.builder.and_(low, constant(I64, self.size - 1))
        table = element_pointer(self.builder, self.counters, number * self.size, self.counter)
        return element_pointer(self.builder, table, digit, self.counter)

    def _pass(self, number: int, source: ir.Value, target: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Distribute by one digit; where the records are then, and the free array."""
        builder, length = self.builder, self.plan.records.length
        any_count = builder.load(
            self._place(number, self._load(source, as_i64(0))), typ=self.counter
        )
        differs = builder.icmp_unsigned("!=", any_count, constant(self.counter, length))
        before = builder.block
        with builder.if_then(differs):
            self._starts(number)
            with counted_loop(builder, 0, length, "distribute") as j:
                record = self._load(source, j)
                place = self._place(number, record)
                at = builder.load(place, typ=self.counter)
                builder.store(builder.add(at, constant(self.counter, 1)), place)
                wide = at if self.counter == I64 else builder.zext(at, I64)
                self._store(record, target, wide)
            inside = builder.block
        here, other = builder.phi(source.type), builder.phi(source.type)
        for phi, skipped, moved in ((here, source, target), (other, target, source)):
            phi.add_incoming(skipped, before)
            phi.add_incoming(moved, inside)
        return here, other

    def _starts(self, number: int) -> None:
        """Turn a table of counts into where each digit's records begin."""
        builder = self.builder
        table = element_pointer(builder, self.counters, number * self.size, self.counter)
        start = [constant(self.counter, 0)]
        with carried_loop(builder, 0, self.size, 1, start, "starts") as loop:
            place = element_pointer(builder, table, loop.index, self.counter)
            count = builder.load(place, typ=self.counter)
            builder.store(loop.values[0], place)
            loop.update([builder.add(loop.values[0], count)])
