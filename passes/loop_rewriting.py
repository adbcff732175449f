"""Copies of loop statements with something replaced: what the loops -> loops passes are made of."""

from __future__ import annotations

from braze.ir.index import DataIndex, Index, LoopVar
from braze.ir.loops import (
    Accumulator,
    Carried,
    Check,
    Expr,
    Loop,
    Reduce,
    Replace,
    Scan,
    Statement,
    Store,
    substitute_bounds,
)


def cut(variable: LoopVar, size: int) -> tuple[LoopVar, LoopVar, Index]:
    """A loop in pieces of a size that divides it: the variables of the loop over pieces and of that
    in one, and what the old variable is in both."""
    whole = LoopVar(f"{variable.name}_0", variable.extent // size)
    part = LoopVar(f"{variable.name}_1", size)
    return whole, part, Index.of(whole) * size + Index.of(part)


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

    def of_store(store: Store) -> Store:
        return Store(
            store.buffer,
            of_index(store.index),
            of_expr(store.value),
            substitute_bounds(store.guard, replace),
            store.accumulate,
        )

    def of_carried(carried: Carried) -> Carried:
        return Carried(
            carried.name,
            carried.combine,
            tuple(of_expr(value) for value in carried.values),
            None if carried.position is None else of_index(carried.position),
            tuple(of_expr(start) for start in carried.starts),
        )

    def visit(statement: Statement) -> Statement:
        if isinstance(statement, Loop):
            body = [visit(inner) for inner in statement.body]
            return Loop(statement.var, body, statement.kind, statement.chunks)
        if isinstance(statement, Store):
            return of_store(statement)
        if isinstance(statement, Scan):
            stores = [of_store(store) for store in statement.stores]
            return Scan(statement.loops, tuple(of_carried(c) for c in statement.carried), stores)
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
