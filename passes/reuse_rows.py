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

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

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


def _in_block(
    nest: Nest, block: list[Statement], taken: Collection[str]
) -> list[Statement] | None:
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
    places = [n for n, s in enumerate(block[:number]) if _is_along(s, loop)]
    if loop.chunks > 1 or len(stores) != len(loop.body) or not places:
        return None
    for count in range(len(stores), 0, -1):
        before, behind = stores[:count], stores[count:]
        kept = before[-1].buffer
        if not _takes_more(nest, before[-1]):
            continue
        common = _common(before, loop.var, [block[n] for n in places], kept.dtype)
        # What is stored behind it would find the result in the common part's place.
        if common is None or _holds([s.value for s in behind], print_expr(common)):
            continue
        start, rest = _stored_first(block[:number], loop, before, common, places)
        left: list[Statement] = [*_last_stores(before, common), *behind]
        if left:
            rest.append(Loop(loop.var, left, loop.kind))
        if kept.name in taken and _reads_what_is_over(rest, kept):
            continue
        return [*start, *rest, *block[number + 1 :]]
    return None


def _is_along(statement: Statement, loop: Loop) -> bool:
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


def _common(
    stores: Sequence[Store], along: LoopVar, reductions: Sequence[Statement], dtype: DType
) -> Expr | None:
    """The part of stored values that saves most if the reductions that compute it too read it."""
    times: dict[str, int] = {}
    for reduce in reductions:
        assert isinstance(reduce, Reduce)
        ((variable, _),) = reduce.loops
        parts = _Costs(variable).large(a.value for a in reduce.accumulators)
        for text in {print_expr(_renamed(expr, variable, along)) for expr in parts}:
            times[text] = times.get(text, 0) + 1
    if not times:
        return None
    costs = _Costs(along)
    parts = {e for e in costs.large(s.value for s in stores) if e.dtype is dtype}
    saved = {e: costs.of(e) * times.get(print_expr(e), 0) for e in parts}
    best = max(saved, key=lambda e: (saved[e], print_expr(e)), default=None)
    return best if best is not None and saved[best] else None


def _holds(values: Sequence[Expr], text: str) -> bool:
    """Is the expression of this text part of one of the values?"""
    parts = (e for value in values for e in value.walk())
    return any(isinstance(e, Apply) and print_expr(e) == text for e in parts)


def _stored_first(
    block: list[Statement], loop: Loop, stores: list[Store], common: Expr, places: list[int]
) -> tuple[list[Statement], list[Statement]]:
    """Store the common part in the place of the last of these stores, before the first reduction
    that needs it: the statements up to there, and the others, which read it."""
    last = stores[-1]
    kept = replace(last.buffer, access="inout")
    start: list[Statement] = []
    rest: list[Statement] = []
    for number, statement in enumerate(block):
        if number in places:
            assert isinstance(statement, Reduce)
            ((variable, _),) = statement.loops
            text = print_expr(_renamed(common, loop.var, variable))
            if _holds([a.value for a in statement.accumulators], text):
                if not start:
                    first = Loop(loop.var, [Store(kept, last.index, common)], loop.kind)
                    start, rest = [*rest, first], []
                index = last.index.substitute(_renaming(loop.var, variable))
                statement = _reduce_of_kept(statement, text, kept, index)
        rest.append(statement)
    return start, rest


def _last_stores(stores: list[Store], common: Expr) -> list[Store]:
    """A row's stores with the common part read where the last of them is going to write."""
    kept, index = replace(stores[-1].buffer, access="inout"), stores[-1].index
    text = print_expr(common)
    *read, last = [replace(s, value=_replaced(s.value, text, kept, index)) for s in stores]
    is_there = isinstance(last.value, Load) and last.value.buffer == kept
    return read if is_there else [*read, replace(last, buffer=kept)]


class _Costs:
    """Instructions that expressions take for each element along a row. What is the same all along
    it is computed once."""

    def __init__(self, along: LoopVar) -> None:
        self._along = along
        self._memo: dict[Expr, bool] = {}

    def _varies(self, expr: Expr) -> bool:
        if expr not in self._memo:
            if isinstance(expr, Apply):
                self._memo[expr] = any(map(self._varies, expr.arguments))
            else:
                self._memo[expr] = self._along in expr.variables()
        return self._memo[expr]

    def of(self, expr: Expr) -> int:
        parts = (e for e in expr.walk() if isinstance(e, Apply))
        return sum(e.op.cost for e in parts if self._varies(e))

    def large(self, values: Iterable[Expr]) -> set[Expr]:
        """The parts of values that are worth storing."""
        parts = {e for value in values for e in value.walk() if isinstance(e, Apply)}
        return {e for e in parts if self.of(e) >= LEAST_COST}


def _renaming(old: LoopVar, new: LoopVar) -> Replace:
    return {old: Index(((new, 1),))}.get


def _renamed(expr: Expr, old: LoopVar, new: LoopVar) -> Expr:
    return expr.substitute(_renaming(old, new))


def _replaced(expr: Expr, text: str, buffer: Buffer, index: Index) -> Expr:
    """An expression with a part of it, by its text, read from a buffer."""
    load = Load(buffer, index)
    memo: dict[Expr, Expr] = {}

    def visit(expr: Expr) -> Expr:
        if expr not in memo:
            if isinstance(expr, Apply) and print_expr(expr) == text:
                memo[expr] = load
            elif isinstance(expr, Apply):
                arguments = tuple(map(visit, expr.arguments))
                memo[expr] = Apply(expr.op, arguments, expr.dtype)
            else:
                memo[expr] = expr
        return memo[expr]

    return visit(expr)


def _reduce_of_kept(reduce: Reduce, text: str, buffer: Buffer, index: Index) -> Reduce:
    accumulators = [
        replace(a, value=_replaced(a.value, text, buffer, index)) for a in reduce.accumulators
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
