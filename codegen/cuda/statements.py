"""What emitters ask about the statements of a nest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from braze.ir.index import LoopVar
from braze.ir.loops import Check, Expr, Load, Loop, Reduce, Scan, Statement, Store


def outer_loops(statements: list[Statement]) -> tuple[list[LoopVar], list[Statement]]:
    """The perfectly nested outer loops' variables, and what stands inside."""
    variables: list[LoopVar] = []
    while len(statements) == 1 and isinstance(statements[0], Loop):
        variables.append(statements[0].var)
        statements = statements[0].body
    return variables, statements


def is_flat(statements: Iterable[Statement]) -> bool:
    """Are these stores and checks only?"""
    return all(isinstance(s, (Store, Check)) for s in statements)


def all_statements(statements: Iterable[Statement]) -> Iterator[Statement]:
    """The statements and those inside them."""
    for statement in statements:
        yield statement
        if isinstance(statement, Loop):
            yield from all_statements(statement.body)
        elif isinstance(statement, Scan):
            yield from statement.stores


def stores_of(statements: Iterable[Statement]) -> list[Store]:
    return [s for s in all_statements(statements) if isinstance(s, Store)]


def values_of(statement: Statement) -> list[Expr]:
    """The expressions of one statement, and the data in its own indices; not of those inside it."""
    if isinstance(statement, (Store, Check)):
        own = [statement.value]
        if isinstance(statement, Store):
            guard = tuple(bound.index for bound in statement.guard)
            for index in (statement.index, *guard):
                own += Load(statement.buffer, index).parts()
        return own
    if isinstance(statement, Reduce):
        return [a.value for a in statement.accumulators]
    if isinstance(statement, Scan):
        return [e for c in statement.carried for e in (*c.starts, *c.values)]
    return []


def loads_of(values: Iterable[Expr]) -> list[Load]:
    """Every load in some expressions, once."""
    found = {e: None for value in values for e in value.walk() if isinstance(e, Load)}
    return list(found)
