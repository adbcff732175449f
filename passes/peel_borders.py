"""Give the few first and last iterations of a loop, where windows reach over an edge, loops of their
own.

Needs: a loop's variable and body.  Keeps: results; iterations stay in order.

Inside, no lane has a condition of its own: a window of stride 2 reads whole vectors, of which every
other element is used, where a condition for each lane would have each fetched alone.

Before:
    nest @pool(%x: f32[8] in, %y: f32[4] out) {
      for i in 4 {
        reduce r in 3 {
          amax0 = amax(where(inside(0 <= 2*i + r - 1 < 8), %x[2*i + r - 1 if 0 <= 2*i + r - 1 < 8], -inf))
        }
        store %y[i] = amax0
      }
    }
After:
    nest @pool(%x: f32[8] in, %y: f32[4] out) {
      for i_0 in 1 {
        reduce r in 3 {
          amax0 = amax(where(inside(0 <= r - 1 < 8), %x[r - 1 if 0 <= r - 1 < 8], -inf))
        }
        store %y[0] = amax0
      }
      for i_1 in 3 {
        reduce r in 3 {
          amax0 = amax(%x[2*i_1 + r + 1])
        }
        store %y[i_1 + 1] = amax0
      }
    }
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable, Iterator

from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Accumulator,
    Apply,
    Bound,
    Expr,
    InBounds,
    Load,
    Loop,
    Nest,
    Reduce,
    Statement,
    Store,
)
from braze.ir.loops_text import statement_expressions
from braze.passes.loop_rewriting import substitute_statements

# A border of more iterations than this, or more than a fourth of all, is not worth its code.
WIDEST_BORDER = 4


def peel_borders(nest: Nest) -> Nest:
    """The nest with its innermost perfectly nested loop cut."""

    def visit(body: list[Statement]) -> list[Statement]:
        loop = body[0]
        if len(body) > 1 or not isinstance(loop, Loop):
            return body
        inner = visit(loop.body)
        if inner is not loop.body or isinstance(loop.body[0], Loop):
            return [Loop(loop.var, inner, loop.kind, loop.chunks)]
        return peeled(loop)

    return Nest(nest.name, nest.buffers, visit(nest.body), nest.comment)


def peeled(loop: Loop) -> list[Statement]:
    """The loop in up to three parts, of which the longest keeps its kind; the loop itself if it has
    no border, or a wide one.
    """
    begin, end = interior(loop.var, _bounds(loop.body))
    extent = loop.var.extent
    if (begin, end) == (0, extent) or not has_narrow_border(loop.var, begin, end):
        return [loop]
    parts: list[Statement] = []
    for low, high in ((0, begin), (begin, end), (end, extent)):
        if low < high:
            variable = LoopVar(f"{loop.var.name}_{len(parts)}", high - low)
            moved = {loop.var: Index.of(variable) + low}
            body = _settled(substitute_statements(loop.body, moved.get))
            parts.append(Loop(variable, body, loop.kind if low == begin else "serial"))
    return parts


def has_narrow_border(variable: LoopVar, begin: int, end: int) -> bool:
    """Are there few iterations outside of begin..end?"""
    border = variable.extent - (end - begin)
    return border <= min(WIDEST_BORDER, variable.extent // 4)


def interior(variable: LoopVar, bounds: Iterable[Bound]) -> tuple[int, int]:
    """The values of a variable at which all bounds that depend on it hold, whatever the others are:
    from the first to behind the last one."""
    begin, end = 0, variable.extent
    for bound in bounds:
        step = bound.index.coefficient(variable)
        if not bound.index.is_affine:
            if variable in bound.index.variables():
                return 0, 0
            continue
        if step == 0:
            continue
        low, high = (bound.index - Index.of(variable) * step).span
        # low + step * v >= bound.low and high + step * v < bound.high
        first, last = bound.low - low, bound.high - 1 - high
        if step < 0:
            first, last, step = -last, -first, -step
        begin, end = max(begin, -(-first // step)), min(end, last // step + 1)
    return (begin, end) if begin < end else (0, 0)


def _bounds(statements: list[Statement]) -> Iterator[Bound]:
    """The conditions for touching memory."""
    for statement in statements:
        if isinstance(statement, Loop):
            yield from _bounds(statement.body)
            continue
        if isinstance(statement, Store):
            yield from statement.guard
        for expr in statement_expressions(statement):
            for part in expr.walk():
                if isinstance(part, Load):
                    yield from part.guard


def _settled(statements: list[Statement]) -> list[Statement]:
    """Without choices by conditions that always hold, or never."""
    memo: dict[Expr, Expr] = {}

    def of(expr: Expr) -> Expr:
        for part in expr.walk():
            new = part
            if isinstance(part, Apply):
                arguments = tuple(memo[a] for a in part.arguments)
                if arguments != part.arguments:
                    new = Apply(part.op, arguments, part.dtype)
                if part.op.name == "where" and _is_known(arguments[0]):
                    new = arguments[2 if _never(arguments[0]) else 1]
            memo[part] = new
        return memo[expr]

    def visit(statement: Statement) -> Statement:
        if isinstance(statement, Loop):
            body = [visit(inner) for inner in statement.body]
            return Loop(statement.var, body, statement.kind, statement.chunks)
        if isinstance(statement, Store):
            guard, value = statement.guard, of(statement.value)
            return Store(statement.buffer, statement.index, value, guard, statement.accumulate)
        if isinstance(statement, Reduce):
            accumulators = (
                Accumulator(a.name, a.combine, of(a.value), a.position)
                for a in statement.accumulators
            )
            return Reduce(statement.loops, tuple(accumulators))
        return statement

    return [visit(statement) for statement in statements]


def _is_known(condition: Expr) -> bool:
    return isinstance(condition, InBounds) and (not condition.bounds or _never(condition))


def _never(condition: Expr) -> bool:
    bounds = condition.bounds if isinstance(condition, InBounds) else ()
    spans = ((bound, bound.index.span) for bound in bounds)
    return any(high < bound.low or low >= bound.high for bound, (low, high) in spans)
