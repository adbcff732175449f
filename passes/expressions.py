"""Scalar expressions for the elements of a body's values: where movements become index arithmetic.

`Expressions.at(value, point)` is the expression of one element. Equal requests give the same
object, so what is shared is evaluated once. What cannot be computed from its operands at a point (a
reduction's result, a contraction's sum, random bits) comes from `leaf`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from braze.ir.dtypes import DType, i64
from braze.ir.graph import Node, Value
from braze.ir.index import DataIndex, Index
from braze.ir.loops import (
    Apply,
    Bound,
    Buffer,
    Check,
    Const,
    Expr,
    InBounds,
    IndexValue,
    Load,
    Loop,
    Reduce,
    Scan,
    Statement,
    Store,
)
from braze.ir.op import op_named
from braze.passes.access import (
    Bounds,
    Point,
    Source,
    broadcast_point,
    fill_value,
    flat_index,
    source_index,
)

Leaf = Callable[[Node, Point], Expr]


class Expressions:
    """Expressions of one kernel.

    Args:
        buffers: the values that lie in memory.
        leaf: ``leaf(node, point)`` for the results that are not computed pointwise.
    """

    def __init__(self, buffers: Mapping[Value, Buffer], leaf: Leaf) -> None:
        self.buffers = buffers
        self.leaf = leaf
        self._memo: dict[tuple[Value, Point, Bounds], Expr] = {}

    def at(self, value: Value, point: Point, guard: Bounds = ()) -> Expr:
        """The element of `value` at `point`; memory is not read where the guard fails."""
        key = (value, point, guard)
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self._make(value, point, guard)
        return found

    def at_flat(self, value: Value, flat: Index, guard: Bounds) -> Expr:
        """The element of a value in memory with row-major number `flat`."""
        return Load(self.buffers[value], flat, guard)

    def _make(self, value: Value, point: Point, guard: Bounds) -> Expr:
        if value in self.buffers:
            return Load(self.buffers[value], flat_index(point, value.shape), guard)
        node = value.node
        if node is None:
            raise AssertionError(f"internal error: {value} has no buffer")
        if node.op.is_pointwise:
            arguments = tuple(
                self.at(x, broadcast_point(point, x.shape), guard) for x in node.operands
            )
            return Apply(node.op, arguments, value.dtype)
        if node.op.is_movement:
            return self._moved(node, point, guard)
        if node.op.category == "gather":
            return self._gathered(node, point, guard)
        if node.op.category == "creation" and not node.operands:
            return self._created(node, point)
        return self.leaf(node, point)

    def _moved(self, node: Node, point: Point, guard: Bounds) -> Expr:
        sources = source_index(node, point)
        fill = fill_value(node)
        if fill is None:
            (*others, last) = sources
            result = self._from(node, last, guard if not others else (*guard, *last.bounds))
        elif not sources[0].bounds:
            return self._from(node, sources[0], guard)
        else:
            others = sources
            result = constant(fill, node.result.dtype)
        for source in reversed(others):
            inside = self._from(node, source, (*guard, *source.bounds))
            if isinstance(inside, Load) and fill == 0 and not np.signbit(fill):
                return inside
            arguments = (InBounds(source.bounds), inside, result)
            result = Apply(op_named("where"), arguments, node.result.dtype)
        return result

    def _from(self, node: Node, source: Source, guard: Bounds) -> Expr:
        return self.at(node.operands[source.operand], source.index, tuple(dict.fromkeys(guard)))

    def _gathered(self, node: Node, point: Point, guard: Bounds) -> Expr:
        x, index = node.operands
        dim = node.attributes["dim"]
        assert isinstance(dim, int)
        inner, before, after = gather_points(node, point, dim)
        place = Index.of(DataIndex(as_i64(self.at(index, inner, guard)), x.shape[dim]))
        return self.at(x, (*before, place, *after), guard)

    def _created(self, node: Node, point: Point) -> Expr:
        dtype = node.result.dtype
        if "value" in node.attributes:
            return constant(node.attributes["value"], dtype)
        dim = node.attributes["dim"]
        assert isinstance(dim, int)
        return converted(IndexValue(point[dim]), dtype)


def gather_points(node: Node, point: Point, dim: int) -> tuple[Point, Point, Point]:
    """Of a gather's or scatter's index operand: its point, and the other operand's before and after
    `dim`."""
    x, index = node.operands[:2]
    x, index = node.operands[:2]
    if index.type.rank == x.type.rank == len(point):
        return point, point[:dim], point[dim + 1 :]
    span = dim + index.type.rank
    return point[dim:span], point[:dim], point[span:]


def constant(number: object, dtype: DType) -> Const:
    """A number as an element of a dtype."""
    return Const(np.asarray(number).astype(dtype.numpy).item(), dtype)


def as_i64(value: Expr) -> Expr:
    return converted(value, i64)


def converted(value: Expr, dtype: DType) -> Expr:
    """The value cast to a dtype, if it is of another."""
    return value if value.dtype is dtype else Apply(op_named("cast"), (value,), dtype)




# Walking over statements --------------------------------------------------------------------------


def statement_indices(statements: list[Statement]) -> Iterator[Index]:
    """Every index in the statements, those in expressions and guards included."""
    seen: set[int] = set()

    def of_expr(expr: Expr) -> Iterator[Index]:
        for part in expr.walk():
            if id(part) not in seen:
                seen.add(id(part))
                yield from part.indices()

    def of_guard(guard: tuple[Bound, ...]) -> Iterator[Index]:
        for bound in guard:
            yield bound.index

    for statement in statements:
        if isinstance(statement, Loop):
            yield from statement_indices(statement.body)
        elif isinstance(statement, Store):
            yield statement.index
            for atom, _ in statement.index.terms:
                if isinstance(atom, DataIndex):
                    yield from of_expr(atom.value)
            yield from of_guard(statement.guard)
            yield from of_expr(statement.value)
        elif isinstance(statement, Reduce):
            for accumulator in statement.accumulators:
                yield from of_expr(accumulator.value)
                if accumulator.position is not None:
                    yield accumulator.position
        elif isinstance(statement, Scan):
            for carried in statement.carried:
                for value in (*carried.values, *carried.starts):
                    yield from of_expr(value)
                if carried.position is not None:
                    yield carried.position
            yield from statement_indices([*statement.stores])
        else:
            assert isinstance(statement, Check)
            yield from of_expr(statement.value)
