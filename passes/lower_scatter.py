"""Lower a scatter: copy the operand, then add, write or combine each update where the index says.

Updates to one place come one after the other, in order. What is independent is the dimensions that
the index does not choose: their values never meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from braze.ir.graph import Graph, Node, Value
from braze.ir.index import DataIndex, Index
from braze.ir.loops import Apply, Buffer, Expr, Load, Loop, Nest, Statement, Store
from braze.ir.op import op_named
from braze.passes.access import Point, flat_index, loop_variables, point_of
from braze.passes.expressions import Expressions, as_i64, gather_points


def lower_scatter(
    name: str, body: Graph, buffers: Mapping[Value, Buffer], in_place: bool = False
) -> Nest | None:
    """The two loops of a scatter; None if there is nothing to do.

    Args:
        buffers: for the body's inputs and its output.
        in_place: the output is in the memory of the operand, so that nothing has to be copied.
    """
    (node,) = (n for n in body.nodes if n.op.category == "scatter")
    x, index, updates = node.operands
    if x.type.numel == 0:
        return None
    outputs = {v: replace(buffers[v], access="inout") for v in body.outputs}
    loads = {v: buffers[v] for v in body.inputs}
    expressions = Expressions(loads, _no_leaf)
    dim = node.attributes["dim"]
    assert isinstance(dim, int)
    statements: list[Statement] = []
    for value in dict.fromkeys(body.outputs):
        out = outputs[value]
        variables = loop_variables("i", x.shape)
        point = point_of(variables)
        copy: Statement = Store(out, flat_index(point, x.shape), expressions.at(x, point))
        for variable in reversed(variables):
            if variable.extent != 1:
                copy = Loop(variable, [copy])
        if not in_place:
            statements.append(copy)
        if updates.type.numel == 0:
            continue
        variables = loop_variables("u", updates.shape)
        point = point_of(variables)
        inner, before, after = gather_points(node, point, dim)
        chosen = DataIndex(as_i64(expressions.at(index, inner)), x.shape[dim])
        place: Point = (*before, Index.of(chosen), *after)
        write = _write(node, out, flat_index(place, x.shape), expressions.at(updates, point))
        for variable in reversed(variables):
            if variable.extent != 1:
                write = Loop(variable, [write])
        statements.append(write)
    if not statements:
        return None
    return Nest(name, (*loads.values(), *outputs.values()), statements)


def _write(node: Node, out: Buffer, place: Index, update: Expr) -> Statement:
    """The store of one update: what the operation's name says becomes of the old element."""
    if node.op.name.endswith("_add"):
        return Store(out, place, update, accumulate=True)
    combine = node.attributes.get("combine")
    if combine is None:
        return Store(out, place, update)
    arguments = (Load(out, place), update)
    return Store(out, place, Apply(op_named(_COMBINE[str(combine)]), arguments, out.dtype))


_COMBINE = {"prod": "mul", "amax": "maximum", "amin": "minimum"}


def _no_leaf(node: Node, point: Point) -> Expr:
    raise AssertionError(f"internal error: {node.op.name} inside a scatter")
