"""Lower a scatter: copy the operand, then add, write or combine each update where the index says.
Where the result takes over the operand's memory there is nothing to copy.

Updates to one place come one after the other, in order. What is independent is the dimensions that
the index does not choose: their values never meet. Where there is work enough, one that comes
before the chosen one is cut into parts, each of which does both steps for itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from braze.ir.graph import Graph, Node, Value
from braze.ir.index import DataIndex, Index, LoopVar
from braze.ir.loops import Apply, Buffer, Expr, Load, Loop, Nest, Statement, Store
from braze.ir.op import op_named
from braze.ir.types import Shape
from braze.passes.access import Point, flat_index, loop_variables, point_of
from braze.passes.expressions import Expressions, as_i64, gather_points
from braze.passes.in_place import scatter_of
from braze.passes.lower_nest import core_of
from braze.passes.parallelise import chunks_for, work_of


def lower_scatter(
    name: str, body: Graph, buffers: Mapping[Value, Buffer], overwritten: Collection[Value] = ()
) -> Nest | None:
    """The two loops of a scatter; None if there is nothing to do.

    Args:
        buffers: for the body's inputs and its output.
        overwritten: the body's inputs whose memory the output takes over.
    """
    node = scatter_of(body)
    x, index, updates = node.operands
    if x.type.numel == 0:
        return None
    outputs = {v: replace(buffers[v], access="inout") for v in body.outputs}
    loads = {v: buffers[v] for v in body.inputs}
    expressions = Expressions(loads, _no_leaf)
    dim = node.attributes["dim"]
    assert isinstance(dim, int)

    def statements(split: Split | None) -> list[Statement]:
        found: list[Statement] = []
        for value in dict.fromkeys(body.outputs):
            out = outputs[value]
            if core_of(x)[0] not in overwritten:
                point, loops = _space("i", x.shape, split)
                copy = Store(out, flat_index(point, x.shape), expressions.at(x, point))
                found.append(_nested(copy, loops))
            if updates.type.numel == 0:
                continue
            point, loops = _space("u", updates.shape, split)
            inner, before, after = gather_points(node, point, dim)
            chosen = DataIndex(as_i64(expressions.at(index, inner)), x.shape[dim])
            place: Point = (*before, Index.of(chosen), *after)
            write = _write(node, out, flat_index(place, x.shape), expressions.at(updates, point))
            found.append(_nested(write, loops))
        return found

    whole = statements(None)
    if not whole:
        return None
    split = _split(node, dim, chunks_for(work_of(whole)))
    if split is not None:
        whole = [Loop(split.var, statements(split), chunks=split.chunks)]
    return Nest(name, (*loads.values(), *outputs.values()), whole)


@dataclass(frozen=True, slots=True)
class Split:
    """A dimension before the one that the index chooses: its values write to rows of their own.

    Attributes:
        var: runs over the dimension.
        axis: its number, in what is scattered into and in the updates.
        chunks: into how many pieces it is cut for the thread pool.
    """

    var: LoopVar
    axis: int
    chunks: int


def _split(node: Node, dim: int, wanted: int) -> Split | None:
    """How to cut a scatter into `wanted` chunks, or fewer; None if that is one.

    Dimensions after the indexed one are not cut, though they could be: parts of rows, each with
    all the indices, take longer than whole rows by more than a few cores gain.
    """
    x, _, updates = node.operands
    fit = [axis for axis in range(dim) if x.shape[axis] == updates.shape[axis]]
    axis = max(fit, key=lambda a: x.shape[a], default=None)
    if axis is None or min(x.shape[axis], wanted) < 2:
        return None
    extent = x.shape[axis]
    return Split(LoopVar("part", extent), axis, min(extent, wanted))


def _space(prefix: str, shape: Shape, split: Split | None) -> tuple[Point, list[LoopVar]]:
    """A point for each element, and the loops around it beside the one that is cut."""
    variables = list(loop_variables(prefix, shape))
    if split is None:
        return point_of(tuple(variables)), variables
    point = [*variables[: split.axis], split.var, *variables[split.axis + 1 :]]
    del variables[split.axis]
    return point_of(tuple(point)), variables


def _nested(statement: Statement, loops: list[LoopVar]) -> Statement:
    for variable in reversed(loops):
        if variable.extent != 1:
            statement = Loop(variable, [statement])
    return statement


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
