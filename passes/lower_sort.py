"""Lower a sort or topk to the loop IR's `Sort`: its rows, its keys, and where the results go.

What lies between the operand and memory (movements, elementwise operations) becomes part of the
key's expression.

Before:
    graph @g(%x: f32[8,10]) -> (f32[8,3], i64[8,3]) {
      %0, %1: f32[8,3], i64[8,3] = fusion(%x; kind="sort") graph @topk(%0: f32[8,10]) -> (f32[8,3], i64[8,3]) {
        %1, %2: f32[8,3], i64[8,3] = topk(%0; dim=1, k=3, largest=true)
        return %1, %2
      }
      return %0, %1
    }
After:
    sort @topk_1(%x: f32[80] in, %0: f32[24] out, %1: i64[24] out) {
      for i0 in 8 {
        order j in 10 descending {
          by %x[10*i0 + j]
        }
        first k in 3 {
          store %0[3*i0 + k] = key
          store %1[3*i0 + k] = position
        }
      }
    }
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from braze.ir.dtypes import i64
from braze.ir.graph import Graph, Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Buffer, Expr, Ref, Sort, Store
from braze.passes.access import Point, flat_index
from braze.passes.expressions import Expressions
from braze.passes.parallelise import chunks_for

# One core orders about this many keys in a microsecond, or looks at this many to find the best few.
KEYS_PER_MICROSECOND = 120.0
LOOKED_AT_PER_MICROSECOND = 1000.0
# As many as that are a few.
MOST_FEW = 64


def lower_sort(
    name: str, body: Graph, outputs: Sequence[Value], buffers: Mapping[Value, Buffer]
) -> Sort | None:
    """The kernel of a sort; None if its results are empty.

    Args:
        outputs: the results that are wanted.
        buffers: for the body's inputs and outputs.
    """
    (node,) = (n for n in body.nodes if n.op.category == "sort")
    (x,) = node.operands
    values, indices = node.results
    if values.type.numel == 0:
        return None
    dim = node.attributes["dim"]
    assert isinstance(dim, int)
    rows = [LoopVar(f"i{axis}", size) for axis, size in enumerate(x.shape) if axis != dim]
    along, rank = LoopVar("j", x.shape[dim]), LoopVar("k", values.shape[dim])
    expressions = Expressions({v: buffers[v] for v in body.inputs}, _no_leaf)
    names = {values: Ref("key", x.dtype), indices: Ref("position", i64)}
    place = flat_index(_point(rows, rank, dim), values.shape)
    used = [*dict.fromkeys([*body.inputs, *outputs])]
    keys = math.prod(x.shape)
    is_few = rank.extent <= MOST_FEW and rank.extent < along.extent // 4
    speed = LOOKED_AT_PER_MICROSECOND if is_few else KEYS_PER_MICROSECOND
    return Sort(
        name=name,
        buffers=tuple(buffers[value] for value in used),
        rows=tuple(variable for variable in rows if variable.extent != 1),
        along=along,
        key=expressions.at(x, _point(rows, along, dim)),
        descending=bool(node.attributes.get("descending", node.attributes.get("largest"))),
        rank=rank,
        stores=[Store(buffers[value], place, names[value]) for value in outputs],
        chunks=min(chunks_for(keys / speed), keys // along.extent),
    )


def _point(rows: Sequence[LoopVar], inner: LoopVar, dim: int) -> Point:
    """The point of a row's variables, of which 1-sized ones are left out, and the inner one."""
    variables = [*rows[:dim], inner, *rows[dim:]]
    return tuple(Index.of(v) if v is inner or v.extent != 1 else Index() for v in variables)


def _no_leaf(node: Node, point: Point) -> Expr:
    raise AssertionError(f"internal error: {node.op.name} inside a sort")
