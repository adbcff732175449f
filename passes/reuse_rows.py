"""Keep what a row's reduction has computed for the loop that stores the row.

Needs: vector loops marked.  Keeps: results. A softmax would take each exponential twice, once to
add them up and once to store their shares, and with its gradient three times. Where reductions of a
row and its last loop have an expensive expression in common, it is stored first, in the place of a
result, which is read again while the row is in the cache.

Before:
    nest @softmax(%x: f32[640] in, %y: f32[640] out) {
      for i in 10 {
        reduce r in 64 vector {
          sum0 = sum(exp(%x[64*i + r]))
        }
        for j in 64 vector {
          store %y[64*i + j] = mul(exp(%x[64*i + j]), div(1.0, sum0))
        }
      }
    }
After:
    nest @softmax(%x: f32[640] in, %y: f32[640] inout) {
      for i in 10 {
        for j in 64 vector {
          store %y[64*i + j] = exp(%x[64*i + j])
        }
        reduce r in 64 vector {
          sum0 = sum(%y[64*i + r])
        }
        for j in 64 vector {
          store %y[64*i + j] = mul(%y[64*i + j], div(1.0, sum0))
        }
      }
    }
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TypeGuard

from braze.ir.dtypes import DType, f32, f64
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Apply,
    Buffer,
    Expr,
    Load,
    Loop,
    Nest,
    Reduce,
    Replace,
    Statement,
    Store,
)
from braze.ir.loops_text import print_expr, statement_expressions

# An expression of fewer instructions is computed again as fast as it is stored and read twice.
LEAST_COST = 8


def reuse_rows(nest: Nest, taken: Collection[str] = ()) -> Nest:
    """The nest with such expressions stored once; the same nest if there are none.

    Args:
        taken: results that lie where operands of the kernel lie.
    """
    body = _in_block(nest, nest.body, taken)
    if body is None:
        return nest
    changed = {s.buffer.name: s.buffer for s in _stores(body) if s.buffer.access == "inout"}
    buffers = tuple(changed.get(buffer.name, buffer) for buffer in nest.buffers)
    return Nest(nest.name, buffers, body, nest.comment)


def _in_block(nest: Nest, block: list[Statement], taken: Collection[str]) -> list[Statement] | None:
    for number, statement in enumerate(block):
        if isinstance(statement, Loop):
            found = _at_row(nest, block, number, taken) or _inside(nest, block, number, taken)
            if found is not None:
                return found
    return None


def _inside(
    nest: Nest, block: list[Statement], number: int, taken: Collection[str]
) -> list[Statement] | None:
    loop = block[number]
    assert isinstance(loop, Loop)
    inner = _in_block(nest, loop.body, taken)
    if inner is None:
        return None
    changed = Loop(loop.var, inner, loop.kind, loop.chunks)
    return [*block[:number], changed, *block[number + 1 :]]


def _at_row(
    nest: Nest, block: list[Statement], number: int, taken: Collection[str]
) -> list[Statement] | None:
    """The block with the row's last loop number `number` reading what was stored first."""
    loop = block[number]
    assert isinstance(loop, Loop)
    stores = [s for s in loop.body if isinstance(s, Store)]
    numbers: dict[object, int] = {}
    along = {r: _Row(r.loops[0][0], numbers) for r in block[:number] if _is_along(r, loop)}
    if loop.chunks > 1 or len(stores) != len(loop.body) or not along:
        return None
    times = _times_computed(along)
    row = _Row(loop.var, numbers)
    for count in range(len(stores), 0, -1) if times else ():
        before, behind = stores[:count], stores[count:]
        kept = before[-1].buffer
        if not _takes_more(nest, before[-1]):
            continue
        common = _common(before, row, times, kept.dtype)
        # What is stored behind it would find the result in the common part's place.
        if common is None or row.holds([s.value for s in behind], row.number(common)):
            continue
        start, rest = _stored_first(block[:number], loop, before, common, row, along)
        left: list[Statement] = [*_last_stores(before, common, row), *behind]
        if left:
            rest.append(Loop(loop.var, left, loop.kind))
        if kept.name in taken and _reads_what_is_over(rest, kept):
            continue
        return [*start, *rest, *block[number + 1 :]]
    return None


def _is_along(statement: Statement, loop: Loop) -> TypeGuard[Reduce]:
    """Does a reduction run along the row as the loop does?"""
    if not isinstance(statement, Reduce) or len(statement.loops) != 1:
        return False
    ((variable, kind),) = statement.loops
    return variable.extent == loop.var.extent and kind == loop.kind


def _takes_more(nest: Nest, store: Store) -> bool:
    """Is it the only store to its buffer, at places that are sums of strides?"""
    buffer = store.buffer
    plain = buffer.access == "out" and not store.guard and not store.accumulate
    others = [s for s in _stores(nest.body) if s.buffer.name == buffer.name]
    return plain and buffer.dtype in (f32, f64) and len(others) == 1 and store.index.is_affine


def _stores(block: list[Statement]) -> Iterator[Store]:
    for statement in block:
        if isinstance(statement, Loop):
            yield from _stores(statement.body)
        elif isinstance(statement, Store):
            yield statement
        else:
            yield from getattr(statement, "stores", ())


def _times_computed(along: Mapping[Reduce, _Row]) -> dict[int, int]:
    """How many of the reductions compute a part that is worth storing, by its number."""
    times: dict[int, int] = {}
    for reduce, row in along.items():
        for number in {row.number(e) for e in row.large(a.value for a in reduce.accumulators)}:
            times[number] = times.get(number, 0) + 1
    return times


def _common(
    stores: Sequence[Store], row: _Row, times: Mapping[int, int], dtype: DType
) -> Expr | None:
    """The part of stored values that saves most if the reductions that compute it too read it."""
    parts = (e for e in row.large(s.value for s in stores) if e.dtype is dtype)
    saved = {e: row.cost(e) * times[row.number(e)] for e in parts if row.number(e) in times}
    most = max(saved.values(), default=0)
    return max((e for e in saved if saved[e] == most), key=print_expr, default=None)


def _stored_first(
    block: list[Statement],
    loop: Loop,
    stores: list[Store],
    common: Expr,
    row: _Row,
    along: Mapping[Reduce, _Row],
) -> tuple[list[Statement], list[Statement]]:
    """Store the common part in the place of the last of these stores, before the first reduction
    that needs it: the statements up to there, and the others, which read it."""
    last = stores[-1]
    kept = replace(last.buffer, access="inout")
    start: list[Statement] = []
    rest: list[Statement] = []
    wanted = row.number(common)
    for statement in block:
        if isinstance(statement, Reduce) and statement in along:
            own = along[statement]
            if own.holds([a.value for a in statement.accumulators], wanted):
                if not start:
                    first = Loop(loop.var, [Store(kept, last.index, common)], loop.kind)
                    start, rest = [*rest, first], []
                load = Load(kept, last.index.substitute(_renaming(loop.var, own.along)))
                statement = _reduce_of_kept(statement, own, wanted, load)
        rest.append(statement)
    return start, rest


def _last_stores(stores: list[Store], common: Expr, row: _Row) -> list[Store]:
    """A row's stores with the common part read where the last of them is going to write."""
    kept, index = replace(stores[-1].buffer, access="inout"), stores[-1].index
    load, wanted = Load(kept, index), row.number(common)
    *read, last = [replace(s, value=row.replaced(s.value, wanted, load)) for s in stores]
    is_there = isinstance(last.value, Load) and last.value.buffer == kept
    return read if is_there else [*read, replace(last, buffer=kept)]


class _Row:
    """Expressions along a row.

    Those of two rows that differ in the rows' variables alone have the same number.

    Attributes:
        along: the row's variable.
    """

    def __init__(self, along: LoopVar, numbers: dict[object, int]) -> None:
        """
        Args:
            numbers: of expressions, by what they are and the numbers of their parts; rows whose
                expressions are compared have them in common.
        """
        self.along = along
        self._numbers = numbers
        self._rename = _renaming(along, LoopVar("row", along.extent))
        self._number: dict[Expr, int] = {}
        self._varies: dict[Expr, bool] = {}

    def number(self, expr: Expr) -> int:
        """The expression's number."""
        found = self._number.get(expr)
        if found is None:
            key: object
            if isinstance(expr, Apply):
                key = expr.op, expr.dtype, *map(self.number, expr.arguments)
            else:
                key = print_expr(expr.substitute(self._rename))
            found = self._numbers.setdefault(key, len(self._numbers))
            self._number[expr] = found
        return found

    def varies(self, expr: Expr) -> bool:
        """Does it change along the row?"""
        if expr not in self._varies:
            if isinstance(expr, Apply):
                self._varies[expr] = any(map(self.varies, expr.arguments))
            else:
                self._varies[expr] = self.along in expr.variables()
        return self._varies[expr]

    def costs(self, expr: Expr) -> Iterator[int]:
        """Instructions for each element. What is the same all along the row is computed once."""
        return (e.op.cost for e in expr.walk() if isinstance(e, Apply) and self.varies(e))

    def cost(self, expr: Expr) -> int:
        """Their sum."""
        return sum(self.costs(expr))

    def large(self, values: Iterable[Expr]) -> set[Expr]:
        """The parts of values that are worth storing."""
        parts = {e for value in values for e in value.walk() if isinstance(e, Apply)}
        return {e for e in parts if any(c >= LEAST_COST for c in accumulate(self.costs(e)))}

    def holds(self, values: Iterable[Expr], number: int) -> bool:
        """Is the expression of this number part of one of the values?"""
        parts = (e for value in values for e in value.walk())
        return any(isinstance(e, Apply) and self.number(e) == number for e in parts)

    def replaced(self, expr: Expr, number: int, load: Load) -> Expr:
        """An expression with the part of this number loaded."""
        memo: dict[Expr, Expr] = {}

        def visit(expr: Expr) -> Expr:
            if expr not in memo:
                if isinstance(expr, Apply) and self.number(expr) == number:
                    memo[expr] = load
                elif isinstance(expr, Apply):
                    arguments = tuple(map(visit, expr.arguments))
                    memo[expr] = Apply(expr.op, arguments, expr.dtype)
                else:
                    memo[expr] = expr
            return memo[expr]

        return visit(expr)


def _renaming(old: LoopVar, new: LoopVar) -> Replace:
    return {old: Index(((new, 1),))}.get


def _reduce_of_kept(reduce: Reduce, row: _Row, number: int, load: Load) -> Reduce:
    accumulators = [
        replace(a, value=row.replaced(a.value, number, load)) for a in reduce.accumulators
    ]
    return Reduce(reduce.loops, tuple(accumulators))


def _reads_what_is_over(block: list[Statement], kept: Buffer) -> bool:
    """Is anything read, after the parts were stored, that may lie where they were stored?

    A result may take over the memory of an operand of its size.
    """
    for statement in block:
        if isinstance(statement, Loop):
            if _reads_what_is_over(statement.body, kept):
                return True
            continue
        for expr in statement_expressions(statement):
            for e in expr.walk():
                if isinstance(e, Load) and e.buffer.name != kept.name:
                    if e.buffer.numel * e.buffer.dtype.itemsize >= kept.numel * kept.dtype.itemsize:
                        return True
    return False
