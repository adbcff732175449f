"""Counted loops and index decoding for LLVM functions written with llvmlite.

In: a builder and counts, which may be Python numbers or i64 values.  Out: loop bodies to fill in,
and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from braze.codegen.llvm import ir
from braze.codegen.llvm.looping import is_number
from braze.codegen.llvm.types import I64, constant
from braze.ir.symint import is_always

Number: TypeAlias = "int | ir.Value"


def as_i64(value: Number) -> ir.Value:
    """A Python number as a constant; values pass through."""
    return constant(I64, value) if isinstance(value, int) else value


def is_known(*values: Number) -> bool:
    """Whether all are numbers while code is generated."""
    return all(map(is_number, values))


@contextmanager
def counted_loop(
    builder: ir.IRBuilder, start: Number, end: Number, name: str
) -> Iterator[ir.Value]:
    """Run the body for start <= i < end, tested at the end where the first test is superfluous."""
    low, high = as_i64(start), as_i64(end)
    before = builder.block
    body = builder.append_basic_block(name)
    done = builder.append_basic_block(f"{name}_done")
    if is_number(start) and is_number(end) and start < end:
        builder.branch(body)
    else:
        builder.cbranch(builder.icmp_signed("<", low, high), body, done)
    builder.position_at_end(body)
    i = builder.phi(I64, name=name)
    i.add_incoming(low, before)
    yield i
    following = builder.add(i, as_i64(1), flags=("nuw", "nsw"))
    i.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, high), body, done)
    builder.position_at_end(done)


def add(builder: ir.IRBuilder, x: Number, y: Number) -> Number:
    """x + y, folded for Python numbers."""
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    if isinstance(x, int):
        x, y = y, x
    if isinstance(y, int) and is_always(y, 0):
        return x
    return builder.add(as_i64(x), as_i64(y), flags=("nsw",))


def multiply(builder: ir.IRBuilder, x: Number, factor: int) -> Number:
    """x * factor, folded where it is simple."""
    if isinstance(x, int):
        return x * factor
    if is_always(factor, 0):
        return 0
    if is_always(factor, 1):
        return x
    return builder.mul(x, as_i64(factor), flags=("nsw",))


def larger(builder: ir.IRBuilder, x: Number, y: Number) -> Number:
    """The larger one of two numbers."""
    return _extremum(builder, x, y, ">", max)


def smaller(builder: ir.IRBuilder, x: Number, y: Number) -> Number:
    """The smaller one of two numbers."""
    return _extremum(builder, x, y, "<", min)


def _extremum(
    builder: ir.IRBuilder, x: Number, y: Number, order: str, known: Callable[[int, int], int]
) -> Number:
    if isinstance(x, int) and isinstance(y, int) and is_known(x, y):
        return known(x, y)
    first, second = as_i64(x), as_i64(y)
    return builder.select(builder.icmp_signed(order, first, second), first, second)


def weighted_sum(builder: ir.IRBuilder, values: Sequence[Number], factors: Sequence[int]) -> Number:
    """The sum of values[i] * factors[i]."""
    total: Number = 0
    for value, factor in zip(values, factors, strict=True):
        if not is_always(factor, 0):
            total = add(builder, total, multiply(builder, value, factor))
    return total


def decode(builder: ir.IRBuilder, flat: Number, extents: Sequence[int]) -> list[Number]:
    """The row-major multi-index of a non-negative number below the extents' product."""
    indices: list[Number] = []
    for axis in range(len(extents) - 1, -1, -1):
        size = extents[axis]
        if is_always(size, 1):
            indices.append(0)
        elif all(is_always(extent, 1) for extent in extents[:axis]):
            indices.append(flat)
            flat = 0
        elif isinstance(flat, int):
            flat, rest = divmod(flat, size)
            indices.append(rest)
        else:
            indices.append(builder.urem(flat, as_i64(size)))
            flat = builder.udiv(flat, as_i64(size))
    return indices[::-1]


def share(builder: ir.IRBuilder, part: Number, parts: int, total: int) -> tuple[Number, Number]:
    """Begin and end of one of `parts` nearly equal shares of range(total)."""
    if parts == 1:
        return 0, total
    if is_known(total) and total % parts == 0:
        size = total // parts
        begin = multiply(builder, part, size)
        return begin, add(builder, begin, size)

    def bound(number: Number) -> Number:
        if isinstance(number, int):
            return number * total // parts
        return builder.udiv(as_i64(multiply(builder, number, total)), as_i64(parts))

    return bound(part), bound(add(builder, part, 1))


def element_pointer(
    builder: ir.IRBuilder, pointer: ir.Value, offset: Number, element: ir.Type
) -> ir.Value:
    """The address `offset` elements after a pointer."""
    if isinstance(offset, int) and is_always(offset, 0):
        return pointer
    return builder.gep(pointer, [as_i64(offset)], source_etype=element)
