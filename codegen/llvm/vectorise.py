"""How wide a vector loop is, how far it is unrolled, and how its last few elements are done.

In: the statements under a vector loop, its variable and the target.  Out: a `VectorPlan`. Pure
functions of their arguments; nothing is emitted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeGuard

from braze.codegen.llvm.interleaved_stores import interleaved, stride
from braze.codegen.llvm.memory import has_masked_access
from braze.codegen.llvm.types import register_bits
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Apply,
    Buffer,
    Check,
    Expr,
    Load,
    Loop,
    Philox,
    Reduce,
    Scan,
    Statement,
    Store,
)
from braze.ir.symint import is_symbolic
from braze.ir.target import Target

# Instructions of an op, where it is not about one.
_WEIGHTS = {
    "exp": 18, "expm1": 20, "log": 24, "log1p": 30, "tanh": 24, "erf": 36, "sin": 40, "cos": 40,
    "atan": 22, "atan2": 36, "pow": 80, "remainder": 24, "div": 4, "sqrt": 4, "floor_divide": 8,
    "gcd": 200,
}  # fmt: skip
_PHILOX_WEIGHT = 80

# Functions of so many instructions wait for their own results most of the time. Where some wait for
# others, a processor's window is too short to find the next vector's; several vectors in turns are
# as good, if the registers suffice and the loop is long enough to make up for the code.
_LONG_FUNCTION = 18
_IN_TURNS = 4
_FEWEST_FOR_TURNS = 4096

# A vector loop's body is repeated until it has about this many instructions.
_UNROLL_INSTRUCTIONS = 24
_MOST_UNROLL = 4
# Column reductions read this many vectors of a row at once, if there are registers for their
# accumulators; twice as many if these are whole rows, which then are read in one run.
_MOST_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class VectorPlan:
    """The shape of a vector loop.

    width: lanes. unroll: vectors in one iteration of the main loop.
    tail: how fewer elements than `width` are done: under a mask, or one by one.
    """

    width: int
    unroll: int
    tail: Literal["mask", "scalar"]

    @property
    def step(self) -> int:
        return self.width * self.unroll


def expressions(statements: Iterable[Statement]) -> Iterator[Expr]:
    """Every distinct expression node in the statements."""
    seen: set[int] = set()
    for root in roots(statements):
        for expr in root.walk():
            if id(expr) not in seen:
                seen.add(id(expr))
                yield expr


def roots(statements: Iterable[Statement]) -> Iterator[Expr]:
    """The expressions that the statements hold themselves."""
    for statement in statements:
        if isinstance(statement, Loop):
            yield from roots(statement.body)
        elif isinstance(statement, Reduce):
            for accumulator in statement.accumulators:
                yield accumulator.value
        elif isinstance(statement, Scan):
            for carried in statement.carried:
                yield from carried.values
            yield from roots(statement.stores)
        elif isinstance(statement, (Store, Check)):
            yield statement.value


def stores(statements: Iterable[Statement]) -> Iterator[Store]:
    """Every store in the statements."""
    for statement in statements:
        if isinstance(statement, Store):
            yield statement
        elif isinstance(statement, Loop):
            yield from stores(statement.body)
        elif isinstance(statement, Scan):
            yield from statement.stores


def plan_vectors(
    statements: list[Statement], var: LoopVar, extent: int, target: Target
) -> VectorPlan:
    """The plan for a loop of `extent` iterations over `var` (`extent`: of one thread's share,
    about).
    """
    nodes = list(expressions(statements))
    width = _width(nodes, statements, target)
    if not is_symbolic(extent):  # what is not known is taken to be long
        while width > 1 and width // 2 >= extent:
            width //= 2
    unroll = _unroll(nodes, statements, target, width, extent)
    while unroll > 1 and not is_symbolic(extent) and width * unroll > extent:
        unroll //= 2
    masked = all(
        has_masked_access(target, buffer.dtype) for buffer in _varying(nodes, statements, var)
    )
    return VectorPlan(
        width, unroll, "mask" if masked and _stores_consecutively(statements, var) else "scalar"
    )


def _widths(nodes: Iterable[Expr], statements: list[Statement]) -> Iterator[tuple[int, int]]:
    """(bits of an element, instructions) of everything that is computed."""
    for expr in nodes:
        if isinstance(expr, Load):
            yield register_bits(expr.dtype), 1
        elif isinstance(expr, Philox):
            yield 64, _PHILOX_WEIGHT // 4
        elif isinstance(expr, Apply):
            bits = max(register_bits(a.dtype) for a in expr.arguments)
            yield max(bits, register_bits(expr.dtype)), _WEIGHTS.get(expr.op.name, 1)
    for store in stores(statements):
        yield register_bits(store.buffer.dtype), 1


def _width(nodes: list[Expr], statements: list[Statement], target: Target) -> int:
    """The number of lanes with the least work an element, preferring fewer registers a value."""
    work = list(_widths(nodes, statements))
    if not work:
        return target.vector_bits // 32
    widest = max(bits for bits, _ in work)
    narrowest = min(bits for bits, _ in work)
    best = target.vector_bits // widest

    def cost(width: int) -> float:
        registers = (max(1.0, width * bits / target.vector_bits) * count for bits, count in work)
        return sum(registers) / width

    width = best
    while width * 2 <= target.vector_bits // narrowest and width < 2 * (
        target.vector_bits // widest
    ):
        width *= 2
        if cost(width) < 0.87 * cost(best):
            best = width
    return best


def instructions(nodes: Iterable[Expr]) -> int:
    """About how many vector instructions the expressions take."""
    total = 0
    for expr in nodes:
        if isinstance(expr, Apply):
            total += _WEIGHTS.get(expr.op.name, 1)
        elif isinstance(expr, Philox):
            total += _PHILOX_WEIGHT // 4
        elif isinstance(expr, Load):
            total += 1
    return total


def unrolled_instructions(statements: list[Statement]) -> int:
    """The same for statements, counting what unrolled loops repeat."""
    total = 0
    for statement in statements:
        if isinstance(statement, Loop):
            repeated = statement.var.extent if statement.kind == "unroll" else 1
            total += repeated * unrolled_instructions(statement.body)
        elif isinstance(statement, Reduce):
            repeated = 1
            for var, kind in statement.loops:
                repeated *= var.extent if kind == "unroll" else 1
            total += repeated * (instructions(expressions([statement])) + 1)
        else:
            total += instructions(expressions([statement])) + 1
    return total


def _unroll(
    nodes: list[Expr], statements: list[Statement], target: Target, width: int, extent: int
) -> int:
    accumulators = 0
    for statement in statements:
        if isinstance(statement, Reduce) and any(kind != "unroll" for _, kind in statement.loops):
            accumulators = max(accumulators, len(statement.accumulators))
        if isinstance(statement, Scan):
            accumulators = max(accumulators, 2 * len(statement.carried))
        if isinstance(statement, Loop) and statement.kind != "unroll":
            accumulators = max(accumulators, 2)
    if accumulators:
        widest = max((bits for bits, _ in _widths(nodes, statements)), default=32)
        registers = max(1, width * widest // target.vector_bits)
        room = target.vector_registers // 2 // (accumulators * registers)
        is_row = not is_symbolic(extent) and extent <= 2 * _MOST_COLUMNS * width
        most = max(1, min(2 * _MOST_COLUMNS if is_row else _MOST_COLUMNS, room))
        # Long expressions need registers of their own.
        if instructions(nodes) > _UNROLL_INSTRUCTIONS:
            most = max(1, most // 4)
        return 1 << (most.bit_length() - 1)
    if _has_chains(nodes) and target.vector_registers >= 32:
        if is_symbolic(extent) or extent >= _FEWEST_FOR_TURNS:
            return _IN_TURNS
    count = max(1, unrolled_instructions(statements))
    unroll = 1
    while unroll < _MOST_UNROLL and 2 * unroll * count <= _UNROLL_INSTRUCTIONS:
        unroll *= 2
    return unroll


def weight(expr: Apply) -> int:
    """About how many instructions an operation takes."""
    return _WEIGHTS.get(expr.op.name, 1)


def _is_long(expr: Expr) -> TypeGuard[Apply]:
    return isinstance(expr, Apply) and weight(expr) >= _LONG_FUNCTION


def long_functions(value: Expr) -> list[Apply]:
    """The long functions that an expression is made of, those that others wait for first."""
    found: dict[Expr, bool] = {}

    def visit(expr: Expr) -> None:
        if expr not in found and isinstance(expr, Apply):
            for argument in expr.arguments:
                visit(argument)
            found[expr] = _is_long(expr)

    visit(value)
    return [expr for expr in found if _is_long(expr)]


def _has_chains(nodes: list[Expr]) -> bool:
    """Does a long function wait for another one?"""
    return any(len(long_functions(expr)) > 1 for expr in nodes if _is_long(expr))


def _varies(index: Index, var: LoopVar) -> bool:
    return var in index.variables()


def _varying(nodes: list[Expr], statements: list[Statement], var: LoopVar) -> Iterator[Buffer]:
    """Buffers that are read or written at places that differ between iterations."""
    for expr in nodes:
        if isinstance(expr, Load) and _varies(expr.index, var):
            yield expr.buffer
    for store in stores(statements):
        yield store.buffer


def _stores_consecutively(statements: list[Statement], var: LoopVar) -> bool:
    """True if all stores have unit stride, so that a mask costs an instruction or two each."""
    return all(
        stride(store.index, var) == 1
        for statement in statements
        if interleaved(statement, var) is None
        for store in stores([statement])
    )
