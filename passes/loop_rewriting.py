"""Copies of loop statements with something replaced: what the loops -> loops passes are made of."""

from __future__ import annotations

from braze.ir.index import DataIndex, Index
from braze.ir.loops import (
    Accumulator,
    Check,
    Expr,
    Loop,
    Reduce,
    Replace,
    Statement,
    Store,
    substitute_bounds,
)


def substitute_statements(statements: list[Statement], replace: Replace) -> list[Statement]:
    """The statements with loop variables replaced in every expression; sharing is kept."""
    memo: dict[int, Expr] = {}
    keep: list[Expr] = []

    def of_expr(expr: Expr) -> Expr:
        # `memo` goes by identity, so what it knows must stay alive.
        keep.append(expr)
        return expr.substitute(replace, memo)

    def of_index(index: Index) -> Index:
        return substitute_index(index, replace, memo, keep)

    def visit(statement: Statement) -> Statement:
        if isinstance(statement, Loop):
            body = [visit(inner) for inner in statement.body]
            return Loop(statement.var, body, statement.kind, statement.chunks)
        if isinstance(statement, Store):
            return Store(
                statement.buffer,
                of_index(statement.index),
                of_expr(statement.value),
                substitute_bounds(statement.guard, replace),
                statement.accumulate,
            )
        if isinstance(statement, Reduce):
            accumulators = tuple(
                Accumulator(
                    a.name,
                    a.combine,
                    of_expr(a.value),
                    None if a.position is None else of_index(a.position),
                )
                for a in statement.accumulators
            )
            return Reduce(statement.loops, accumulators)
        return Check(of_expr(statement.value), statement.low, statement.high, statement.code)

    return [visit(statement) for statement in statements]


def substitute_index(
    index: Index, replace: Replace, memo: dict[int, Expr], keep: list[Expr]
) -> Index:
    """An index with loop variables replaced, where indices read from data share their
    expressions."""
    if not any(isinstance(atom, DataIndex) for atom, _ in index.terms):
        return index.substitute(replace)
    total = Index((), index.constant)
    for atom, c in index.terms:
        if isinstance(atom, DataIndex):
            keep.append(atom.value)
            part = Index.of(DataIndex(atom.value.substitute(replace, memo), atom.extent))
        else:
            part = Index.of(atom).substitute(replace)
        total = total + part * c
    return total
