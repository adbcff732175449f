"""Counted loops that carry values, for functions written with llvmlite.

In: bounds, a step and the carried values' initial ones.  Out: inside the `with`, the loop variable
and the values; after it, their final values. The body sets the new ones with `Loop.update`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import I64, constant
from braze.ir.symint import SymInt

Count: TypeAlias = int | ir.Value


def is_number(count: Count) -> TypeGuard[int]:
    """Whether a count is known while code is generated."""
    return isinstance(count, int) and not isinstance(count, SymInt)


def as_value(count: Count) -> ir.Value:
    """A Python number as an i64 constant; values pass through."""
    return constant(I64, count) if isinstance(count, int) else count


@dataclass
class CarriedLoop:
    """A loop while it is written (`index`, `values`) and afterwards (`results`)."""

    index: ir.Value
    values: list[ir.Value]
    results: list[ir.Value] = field(default_factory=list)

    def update(self, values: Sequence[ir.Value]) -> None:
        """Set the carried values for the next iteration."""
        self.values = list(values)


@contextmanager
def carried_loop(
    builder: ir.IRBuilder,
    begin: Count,
    end: Count,
    step: int,
    initial: Sequence[ir.Value] = (),
    name: str = "loop",
) -> Iterator[CarriedLoop]:
    """Run the body for begin, begin + step, ... below end. With numbers for both, at least once."""
    known = False
    if is_number(begin) and is_number(end):
        known = True
        if begin >= end:
            raise ValueError(f"[codegen] loop {name} never runs: {begin} to {end}")
    low, high = as_value(begin), as_value(end)
    before = builder.block
    body = builder.append_basic_block(name)
    done = builder.append_basic_block(f"{name}.done")
    if known:
        builder.branch(body)
    else:
        builder.cbranch(builder.icmp_signed("<", low, high), body, done)
    builder.position_at_end(body)
    index = builder.phi(I64, name=name)
    index.add_incoming(low, before)
    phis = [builder.phi(value.type) for value in initial]
    for phi, value in zip(phis, initial, strict=True):
        phi.add_incoming(value, before)
    loop = CarriedLoop(index, list(phis))
    yield loop
    following = builder.add(index, constant(I64, step), flags=("nsw",))
    last = builder.block
    index.add_incoming(following, last)
    for phi, value in zip(phis, loop.values, strict=True):
        phi.add_incoming(value, last)
    builder.cbranch(builder.icmp_signed("<", following, high), body, done)
    builder.position_at_end(done)
    if known:
        loop.results = loop.values
        return
    for value, new in zip(initial, loop.values, strict=True):
        merged = builder.phi(value.type)
        merged.add_incoming(value, before)
        merged.add_incoming(new, last)
        loop.results.append(merged)
