"""Merge nodes that compute the same thing: equal op, operands and attributes.

Needs: nothing.  Keeps: types, the first of the equal nodes, effects (one of several equal checks).

Before:
    graph @g(%x: f32[4]) -> (f32[4]) {
      %0: f32[4] = exp(%x)
      %1: f32[4] = exp(%x)
      %2: f32[4] = mul(%0, %1)
      return %2
    }
After:
    graph @g(%x: f32[4]) -> (f32[4]) {
      %0: f32[4] = exp(%x)
      %1: f32[4] = mul(%0, %0)
      return %1
    }
"""

from __future__ import annotations

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Value


def cse(graph: Graph) -> Graph:
    """The graph without repeated computations. Equal random draws are one draw."""
    new = Rewriter(graph)
    seen: dict[tuple[object, ...], tuple[Value, ...]] = {}
    merged = False
    for node in graph.nodes:
        operands = new.operands(node)
        # The repr tells 0.0 from -0.0 and 1 from True, and makes nan equal to itself.
        attributes = tuple((k, repr(v)) for k, v in sorted(node.attributes.items()))
        key = (node.op.name, operands, attributes, None if node.body is None else id(node))
        if key in seen:
            new.replace(node, seen[key])
            merged = True
        else:
            seen[key] = new.keep(node).results
    return new.done() if merged else graph
