"""Drop nodes whose results nobody reads.

Needs: nothing.  Keeps: inputs, order, and nodes with an effect (run-time checks).

Before:
    graph @g(%x: f32[4]) -> (f32[4]) {
      %0: f32[4] = exp(%x)
      %1: f32[4] = mul(%x, %x)
      return %1
    }
After:
    graph @g(%x: f32[4]) -> (f32[4]) {
      %0: f32[4] = mul(%x, %x)
      return %0
    }
"""

from __future__ import annotations

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Node, Value


def dce(graph: Graph) -> Graph:
    """The graph without dead nodes."""
    live = live_nodes(graph)
    if len(live) == len(graph.nodes):
        return graph
    new = Rewriter(graph)
    for node in graph.nodes:
        if node in live:
            new.keep(node)
    return new.done()


def live_nodes(graph: Graph) -> set[Node]:
    """The nodes that an output or an effect depends on."""
    needed: set[Value] = set(graph.outputs)
    live: set[Node] = set()
    for node in reversed(graph.nodes):
        if node.op.effect or any(result in needed for result in node.results):
            live.add(node)
            needed.update(node.operands)
    return live
