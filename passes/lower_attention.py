"""Lower attention: its operands become places with strides.

Needs: a fusion body with one such operation and movements above it that fold into strides.

Before:
    graph @g(%x: f32[6,2,4], %k: f32[2,6,4]) -> (f32[2,6,4]) {
      %0: f32[2,6,4] = fusion(%x, %k; kind="attention") graph @attention(%0: f32[6,2,4], %1: f32[2,6,4]) -> (f32[2,6,4]) {
        %2: f32[2,6,4] = permute(%0; dims=(1, 0, 2))
        %3, %4: f32[2,6,4], f32[2,6] = attention(%2, %1, %1; scale=0.5, causal=true)
        return %3
      }
      return %0
    }
After:
    attention @attention_1(%x: f32[48] in, %k: f32[48] in, %0: f32[48] out) {
      chunks 1
      %0: f32[2,6,4], (f32[2,6]) = attention(
        %x: f32[2,6,4] from 0 by (4, 8, 1),
        %k: f32[2,6,4] from 0 by (24, 4, 1),
        %k: f32[2,6,4] from 0 by (24, 4, 1);
        scale=0.5, causal=true)
    }
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Mapping

from braze.ir.graph import Graph, Value
from braze.ir.loops import Buffer, HostArray
from braze.ir.loops_attention import Attention, StridedArray
from braze.ir.ops.attention import QUERIES
from braze.passes.attention_operands import place_of
from braze.passes.parallelise import chunks_for

# One core makes and uses this many scores of one column in a microsecond.
PRODUCTS_PER_MICROSECOND = 40_000.0
# A chunk has at least as many queries.
FEWEST_QUERIES = 16


def lower_attention(
    name: str, body: Graph, buffers: Mapping[Value, Buffer]
) -> Attention | None:
    """The kernel of a fusion body; None if its results are empty."""
    (node,) = (n for n in body.nodes if n.op.is_attention)
    results = tuple(HostArray(buffers.get(value), value.type) for value in node.results)
    if not any(result.buffer is not None and result.type.numel for result in results):
        return None
    operands = []
    for value in node.operands:
        stop = value
        while stop not in buffers:
            assert stop.node is not None and stop.node.op.is_movement
            (stop,) = stop.node.operands
        strides, offset = place_of(value, stop)
        operands.append(StridedArray(buffers[stop], value.type, strides, offset))
    used = [array.buffer for array in operands]
    used += [array.buffer for array in results if array.buffer is not None]
    shapes = dict(zip(node.op.operands, (x.type.shape for x in operands), strict=True))
    *lead, queries, width = shapes["query"]
    keys, columns = shapes["value"][-2:]
    heads = math.prod(lead)
    if "back" in shapes:
        parts = node.attributes["parts"]
        assert isinstance(parts, int)
        tasks, products = heads * parts, 3 * width + 2 * columns
    else:
        tasks, products = heads * -(-queries // FEWEST_QUERIES), width + columns
    work = heads * queries * keys * (products + QUERIES) / PRODUCTS_PER_MICROSECOND
    return Attention(
        name,
        tuple(dict.fromkeys(used)),
        node.op,
        node.attributes,
        tuple(operands),
        results,
        max(1, min(chunks_for(work), tasks)),
    )
