"""Rows that wait in the first-level cache for what is still to be done with them.

A softmax stores a row's exponentials in the place of its result, adds them up, and overwrites them
with their shares (`braze.passes.reuse_rows`). Where a kernel goes through more memory than caches
hold, that place is fetched from memory only to be overwritten, and what is stored there at last
cannot be sent past the caches.  So the row waits in memory of the kernel's own instead, and only
the last loop writes to the result.

In:  a nest, and a result of it.

    for i in 4096 {
      for j in 512 vector { store %y[512*i + j] = exp(%x[512*i + j]) }
      reduce r in 512 vector { sum0 = sum(%y[512*i + r]) }
      for j in 512 vector { store %y[512*i + j] = mul(%y[512*i + j], div(1.0, sum0)) }
    }

Out: the nest that has `%y_row`, of 512 elements, in the place of `%y` everywhere but in the last
store; or None if the row is used in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from braze.ir.index import Index, LoopVar
from braze.ir.loops import Apply, Buffer, Expr, Load, Loop, Nest, Reduce, Statement, Store
from braze.ir.symint import is_symbolic


def with_waiting_row(nest: Nest, result: Buffer, most: int) -> tuple[Nest, Buffer] | None:
    """The nest, and the row's buffer, which is to be found in none of the program's memory.

    Args:
        most: bytes that a row may take.
    """
    if len(nest.body) != 1:
        return None
    (rows,) = nest.body
    if not isinstance(rows, Loop) or rows.kind != "serial" or is_symbolic(result.numel):
        return None
    numbers = [n for n, s in enumerate(rows.body) if _touches(s, result)]
    if not numbers:
        return None
    first, last = rows.body[numbers[0]], rows.body[numbers[-1]]
    if not (_fills(first, result) and _reads(last, result) and isinstance(last, Loop)):
        return None
    extent = last.var.extent
    row = Buffer(f"{result.name}_row", result.dtype, extent, "inout")
    if is_symbolic(extent) or extent * result.dtype.itemsize > most:
        return None
    final = [s for s in last.body if isinstance(s, Store) and s.buffer.name == result.name]
    if len(final) != 1 or last.body[-1] is not final[0]:
        return None
    begin = _begin(final[0].index, last.var)
    moved = _Moved(result, row, begin)
    body = list(rows.body)
    for number in numbers:
        statement = moved.statement(body[number], number == numbers[-1])
        if statement is None:
            return None
        body[number] = statement
    written = replace(result, access="out")
    buffers = tuple(written if b.name == result.name else b for b in nest.buffers)
    changed = Loop(rows.var, body, rows.kind, rows.chunks)
    return replace(nest, buffers=buffers, body=[changed]), row


def _begin(index: Index, along: LoopVar) -> Index:
    """Where the row begins, if the index steps along it by one."""
    return index + Index.of(along) * -1


def _fills(statement: Statement, result: Buffer) -> bool:
    return isinstance(statement, Loop) and not _reads(statement, result)


def _touches(statement: Statement, result: Buffer) -> bool:
    written = any(s.buffer.name == result.name for s in _stores(statement))
    return written or _reads(statement, result)


def _reads(statement: Statement, result: Buffer) -> bool:
    return any(
        isinstance(e, Load) and e.buffer.name == result.name
        for value in _values(statement)
        for e in value.walk()
    )


def _stores(statement: Statement) -> Iterator[Store]:
    if isinstance(statement, Loop):
        for inner in statement.body:
            yield from _stores(inner)
    elif isinstance(statement, Store):
        yield statement
    else:
        yield from getattr(statement, "stores", ())


def _values(statement: Statement) -> Iterator[Expr]:
    """All expressions of statements that can be changed; of others, those they store."""
    if isinstance(statement, Loop):
        for inner in statement.body:
            yield from _values(inner)
    elif isinstance(statement, Reduce):
        yield from (a.value for a in statement.accumulators)
    else:
        yield from (store.value for store in _stores(statement))


class _Moved:
    """Statements that use a row instead of the result."""

    def __init__(self, result: Buffer, row: Buffer, begin: Index) -> None:
        self._result, self._row, self._begin = result, row, begin

    def statement(self, statement: Statement, is_last: bool) -> Statement | None:
        """None where it uses the result in another way than element by element of the row."""
        extent = self._row.numel
        if isinstance(statement, Reduce) and len(statement.loops) == 1:
            ((var, _),) = statement.loops
            values = [self._value(a.value, var) for a in statement.accumulators]
            if var.extent != extent or None in values:
                return None
            changed = tuple(
                replace(a, value=value)
                for a, value in zip(statement.accumulators, values, strict=True)
                if value is not None
            )
            return replace(statement, accumulators=changed)
        if not isinstance(statement, Loop) or statement.kind != "vector":
            return None
        if statement.var.extent != extent:
            return None
        body = [self._store(inner, statement.var, is_last) for inner in statement.body]
        if None in body:
            return None
        return replace(statement, body=[inner for inner in body if inner is not None])

    def _store(self, store: Statement, var: LoopVar, is_last: bool) -> Store | None:
        if not isinstance(store, Store) or store.guard or store.accumulate:
            return None
        value = self._value(store.value, var)
        if value is None:
            return None
        if store.buffer.name != self._result.name:
            return replace(store, value=value)
        if _begin(store.index, var) != self._begin:
            return None
        if is_last:
            return replace(store, buffer=replace(store.buffer, access="out"), value=value)
        return Store(self._row, Index.of(var), value)

    def _value(self, expr: Expr, var: LoopVar) -> Expr | None:
        visit = self._visitor(var)
        changed = visit(expr)
        left = (e for e in changed.walk() if isinstance(e, Load))
        return None if any(e.buffer.name == self._result.name for e in left) else changed

    def _visitor(self, var: LoopVar) -> Callable[[Expr], Expr]:
        memo: dict[Expr, Expr] = {}

        def visit(expr: Expr) -> Expr:
            if expr not in memo:
                memo[expr] = expr
                if isinstance(expr, Apply):
                    memo[expr] = Apply(expr.op, tuple(map(visit, expr.arguments)), expr.dtype)
                elif isinstance(expr, Load) and expr.buffer.name == self._result.name:
                    if not expr.guard and _begin(expr.index, var) == self._begin:
                        memo[expr] = Load(self._row, Index.of(var))
            return memo[expr]

        return visit
