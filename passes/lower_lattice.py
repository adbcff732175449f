"""Lower the steps of a lattice: a kernel that reads at each step what it stored at the last one.

Sequences are independent and shared out among threads; steps follow each other; the states of one
step are independent, and stand in the lanes of vectors. So the loops are scheduled here, and the
passes over loops, which do not know what a store feeds, leave them alone.

Before:
    graph @g(%x: f32[50,8,9], %m: bool[8,9]) -> (f32[50,8,9]) {
      %0: f32[50,8,9] = fusion(%x, %m; kind="lattice") graph @lattice_logsum(%0: f32[50,8,9], %1: bool[8,9]) -> (f32[50,8,9]) {
        %2: f32[50,8,9] = lattice_logsum(%0, %1)
        return %2
      }
      return %0
    }
After: a nest of loops over sequences (in chunks), steps and states (vector) around one store.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf

from braze.ir.graph import Graph, Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Apply,
    Bound,
    Buffer,
    Const,
    Expr,
    InBounds,
    Load,
    Loop,
    Nest,
    Statement,
    Store,
)
from braze.ir.op import op_named
from braze.ir.ops.lattice import STEPS
from braze.passes.access import Bounds, Point, flat_index
from braze.passes.expressions import Expressions
from braze.passes.parallelise import chunks_for, work_of


def lower_lattice(name: str, body: Graph, buffers: Mapping[Value, Buffer]) -> Nest | None:
    """The loops of a lattice; None if it has no points."""
    (node,) = (n for n in body.nodes if n.op.category == "lattice")
    value = node.result
    steps, rows, states = value.shape
    if not value.type.numel:
        return None
    out = replace(buffers[value], access="inout")
    t, n, s = LoopVar("t", steps), LoopVar("n", rows), LoopVar("s", states)
    point: Point = tuple(Index.of(v) if v.extent != 1 else Index() for v in (t, n, s))
    expressions = Expressions({v: buffers[v] for v in body.inputs}, _no_leaf)
    rule = _sum if node.op.name == "lattice_sum" else _logsum
    place = flat_index(point, value.shape)
    states_loop = Loop(s, [Store(out, place, rule(node, expressions, out, point))], "vector")
    inner: list[Statement] = [Loop(t, [states_loop])]
    chunks = min(chunks_for(work_of(inner, rows)), rows)
    inputs = (buffers[v] for v in dict.fromkeys(body.inputs))
    return Nest(name, (*inputs, out), [Loop(n, inner, chunks=chunks)])


def _last(out: Buffer, node: Node, point: Point, by: int) -> tuple[Load, Bounds]:
    """What the last step stored `by` states before, and where that is."""
    t, n, s = point
    steps, _, states = node.result.shape
    bounds = (Bound(t - 1, 0, steps), Bound(s - by, 0, states))
    guard = tuple(bound for bound in bounds if not bound.is_always_true)
    return Load(out, flat_index((t - 1, n, s - by), node.result.shape), guard), guard


def _sum(node: Node, expressions: Expressions, out: Buffer, point: Point) -> Expr:
    x, *factors = node.operands
    total = expressions.at(x, point)
    for by, factor in zip(STEPS, factors, strict=True):
        before, _ = _last(out, node, point, by)
        term = _apply("mul", expressions.at(factor, point), before)
        total = _apply("add", total, term)
    return total


def _logsum(node: Node, expressions: Expressions, out: Buffer, point: Point) -> Expr:
    x, skips = node.operands
    t, n, s = point
    nothing, zero = Const(-inf, out.dtype), Const(0.0, out.dtype)
    first = _choice((Bound(s, 0, 2),), zero, nothing)
    terms: list[Expr] = []
    for by in STEPS:
        before, guard = _last(out, node, point, by)
        terms.append(_choice(guard, before, nothing))
    started = (Bound(t, 1, node.result.shape[0]),)
    terms[0] = _choice(started, terms[0], first)
    terms[2] = _apply("where", expressions.at(skips, (n, s)), terms[2], nothing)
    top = _apply("maximum", _apply("maximum", terms[0], terms[1]), terms[2])
    is_nothing = Apply(op_named("eq"), (top, nothing), expressions.at(skips, (n, s)).dtype)
    top = _apply("where", is_nothing, zero, top)
    sizes = [_apply("exp", _apply("sub", term, top)) for term in terms]
    total = _apply("add", _apply("add", sizes[0], sizes[1]), sizes[2])
    logarithm = _apply("add", _apply("log", total), top)
    return _apply("add", expressions.at(x, point), logarithm)


def _choice(guard: Bounds, inside: Expr, outside: Expr) -> Expr:
    """One value where all bounds hold, else the other."""
    needed = tuple(bound for bound in guard if not bound.is_always_true)
    return _apply("where", InBounds(needed), inside, outside) if needed else inside


def _apply(name: str, *arguments: Expr) -> Expr:
    return Apply(op_named(name), arguments, arguments[-1].dtype)


def _no_leaf(node: Node, point: Point) -> Expr:
    raise AssertionError(f"internal error: {node.op.name} inside a lattice")
