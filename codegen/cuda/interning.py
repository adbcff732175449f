"""Expressions rewritten to other loop variables, so that equal ones are one object.

In: expressions and indices.  Out: the same with variables replaced. What two stages of a row's work
compute from the same element is then the same object, which code for the later stage can find.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from braze.ir.index import DataIndex, FloorDiv, Index, LoopVar, Mod
from braze.ir.loops import (
    Accumulator,
    Apply,
    Bound,
    Carried,
    Check,
    Const,
    Expr,
    InBounds,
    IndexValue,
    Load,
    Philox,
    Reduce,
    Ref,
    Scan,
    Store,
)

Replacements = Mapping[LoopVar, Index]


class Interner:
    """Keeps one object for each expression."""

    def __init__(self) -> None:
        self._table: dict[Hashable, Expr] = {}

    def rewriting(self, replacements: Replacements) -> Rewriting:
        return Rewriting(self, replacements)

    def one(self, key: Hashable, made: Expr) -> Expr:
        """The object of this key, which is `made` if there has been none."""
        return self._table.setdefault(key, made)


class Rewriting:
    """Replaces loop variables by indices."""

    def __init__(self, interner: Interner, replacements: Replacements) -> None:
        self._interner = interner
        self._replacements = replacements
        self._memo: dict[Expr, Expr] = {}

    def expr(self, root: Expr) -> Expr:
        if root not in self._memo:
            for expr in root.walk():
                if expr not in self._memo:
                    self._memo[expr] = self._interner.one(*self._made(expr))
        return self._memo[root]

    def _made(self, expr: Expr) -> tuple[Hashable, Expr]:
        if isinstance(expr, Const):
            return ("const", repr(expr.value), expr.dtype), expr
        if isinstance(expr, Ref):
            return ("ref", expr.name), expr
        if isinstance(expr, IndexValue):
            index = self.index(expr.index)
            return ("index", index), IndexValue(index)
        if isinstance(expr, InBounds):
            bounds = self.bounds(expr.bounds)
            return ("inside", bounds), InBounds(bounds)
        if isinstance(expr, Load):
            place, guard = self.index(expr.index), self.bounds(expr.guard)
            return ("load", expr.buffer.name, place, guard), Load(expr.buffer, place, guard)
        if isinstance(expr, Philox):
            counter, seed = self._memo[expr.counter], self._memo[expr.seed]
            return ("philox", expr.word, counter, seed), Philox(expr.word, counter, seed)
        assert isinstance(expr, Apply)
        arguments = tuple(self._memo[argument] for argument in expr.arguments)
        return ("apply", expr.op.name, expr.dtype, arguments), Apply(expr.op, arguments, expr.dtype)

    def index(self, index: Index) -> Index:
        total = Index((), index.constant)
        for atom, factor in index.terms:
            if isinstance(atom, LoopVar):
                part = self._replacements.get(atom, Index.of(atom))
            elif isinstance(atom, DataIndex):
                part = Index.of(DataIndex(self.expr(atom.value), atom.extent))
            elif isinstance(atom, FloorDiv):
                part = self.index(atom.inner) // atom.divisor
            else:
                assert isinstance(atom, Mod)
                part = self.index(atom.inner) % atom.divisor
            total = total + part * factor
        return total

    def bounds(self, bounds: tuple[Bound, ...]) -> tuple[Bound, ...]:
        """The bounds but for those that always hold."""
        made = (Bound(self.index(bound.index), bound.low, bound.high) for bound in bounds)
        return tuple(dict.fromkeys(bound for bound in made if not bound.is_always_true))

    def store(self, store: Store) -> Store:
        return Store(
            store.buffer,
            self.index(store.index),
            self.expr(store.value),
            self.bounds(store.guard),
            store.accumulate,
        )

    def flat(self, statement: Store | Check) -> Store | Check:
        if isinstance(statement, Store):
            return self.store(statement)
        value = self.expr(statement.value)
        return Check(value, statement.low, statement.high, statement.code)

    def reduce(self, reduce: Reduce) -> tuple[Accumulator, ...]:
        return tuple(
            Accumulator(
                a.name,
                a.combine,
                self.expr(a.value),
                None if a.position is None else self.index(a.position),
            )
            for a in reduce.accumulators
        )

    def carried(self, scan: Scan) -> tuple[Carried, ...]:
        return tuple(
            Carried(
                c.name,
                c.combine,
                tuple(map(self.expr, c.values)),
                None if c.position is None else self.index(c.position),
                tuple(map(self.expr, c.starts)),
            )
            for c in scan.carried
        )
