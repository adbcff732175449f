"""Keep what a row's reduction has computed for the loop that stores the row.

Needs: vector loops marked.  Keeps: results. A softmax would take each exponential twice, once to
add them up and once to store their shares. Where a row's reduction and its last loop have an
expensive expression in common, it is stored first, in the place of the result, which is read again
while the row is in the cache.

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

from collections.abc import Iterator
from dataclasses import replace

from braze.ir.dtypes import f32, f64
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Accumulator,
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


def reuse_rows(nest: Nest) -> Nest:
    """The nest with such expressions stored once; the same nest if there are none."""
    body = _in_block(nest, nest.body)
    if body is None:
        return nest
    changed = {s.buffer.name: s.buffer for s in _stores(body) if s.buffer.access == "inout"}
    buffers = tuple(changed.get(buffer.name, buffer) for buffer in nest.buffers)
    return Nest(nest.name, buffers, body, nest.comment)


def _in_block(nest: Nest, block: list[Statement]) -> list[Statement] | None:
    for number, statement in enumerate(block):
        if isinstance(statement, Loop):
            found = _at_row(nest, block, number) or _inside(nest, block, number)
            if found is not None:
                return found
    return None


def _inside(nest: Nest, block: list[Statement], number: int) -> list[Statement] | None:
    loop = block[number]
    assert isinstance(loop, Loop)
    inner = _in_block(nest, loop.body)
    if inner is None:
        return None
    changed = Loop(loop.var, inner, loop.kind, loop.chunks)
    return [*block[:number], changed, *block[number + 1 :]]


def _at_row(nest: Nest, block: list[Statement], number: int) -> list[Statement] | None:
    """The block with the row's last loop number `number` reading what was stored first."""
    loop = block[number]
    assert isinstance(loop, Loop)
    store = loop.body[0]
    if len(loop.body) != 1 or not isinstance(store, Store) or loop.chunks > 1:
        return None
    if not _takes_more(nest, store):
        return None
    for place, reduce in enumerate(block[:number]):
        if isinstance(reduce, Reduce) and len(reduce.loops) == 1:
            ((variable, kind),) = reduce.loops
            common = _common(store.value, loop.var, reduce, variable)
            if common is None or variable.extent != loop.var.extent or kind != loop.kind:
                continue
            kept = replace(store.buffer, access="inout")
            index = store.index.substitute(_renaming(loop.var, variable))
            last = Store(kept, store.index, _replaced(store.value, common, kept, store.index))
            text = print_expr(_renamed(common, loop.var, variable))
            changed: list[Statement] = [
                Loop(loop.var, [Store(kept, store.index, common)], loop.kind),
                _reduce_of_kept(reduce, text, kept, index),
                *block[place + 1 : number],
                Loop(loop.var, [last], loop.kind),
            ]
            if _reads_what_is_over(changed[1:], kept):
                continue
            return [*block[:place], *changed, *block[number + 1 :]]
    return None


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


def _common(value: Expr, along: LoopVar, reduce: Reduce, variable: LoopVar) -> Expr | None:
    """The most expensive part of a stored value that the reduction computes too."""
    known = {
        print_expr(expr) for a in reduce.accumulators for expr in a.value.walk() if _is_large(expr)
    }
    found = [
        expr
        for expr in value.walk()
        if _is_large(expr)
        and expr.dtype is value.dtype
        and along in expr.variables()
        and print_expr(_renamed(expr, along, variable)) in known
    ]
    return max(found, key=_cost, default=None)


def _is_large(expr: Expr) -> bool:
    return isinstance(expr, Apply) and _cost(expr) >= LEAST_COST


def _cost(expr: Expr) -> int:
    return sum(e.op.cost for e in expr.walk() if isinstance(e, Apply))


def _renaming(old: LoopVar, new: LoopVar) -> Replace:
    return {old: Index(((new, 1),))}.get


def _renamed(expr: Expr, old: LoopVar, new: LoopVar) -> Expr:
    return expr.substitute(_renaming(old, new))


def _replaced(expr: Expr, part: Expr, buffer: Buffer, index: Index) -> Expr:
    """An expression with a part of it, by its text, read from a buffer."""
    text, load = print_expr(part), Load(buffer, index)
    memo: dict[Expr, Expr] = {}

    def visit(expr: Expr) -> Expr:
        if expr not in memo:
            if _is_large(expr) and print_expr(expr) == text:
                memo[expr] = load
            elif isinstance(expr, Apply):
                arguments = tuple(map(visit, expr.arguments))
                memo[expr] = Apply(expr.op, arguments, expr.dtype)
            else:
                memo[expr] = expr
        return memo[expr]

    return visit(expr)


def _reduce_of_kept(reduce: Reduce, text: str, buffer: Buffer, index: Index) -> Reduce:
    parts = [e for a in reduce.accumulators for e in a.value.walk() if _is_large(e)]
    part = next(e for e in parts if print_expr(e) == text)
    accumulators = [
        Accumulator(a.name, a.combine, _replaced(a.value, part, buffer, index), a.position)
        for a in reduce.accumulators
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
