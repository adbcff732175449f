"""Which values of a graph depend on weights alone.

In: a graph, and those of its inputs that are known when it is compiled.  Out: the known values.
"""

from __future__ import annotations

from collections.abc import Collection

from braze.ir.graph import Graph, Value


def weight_values(graph: Graph, weights: Collection[Value]) -> set[Value]:
    """The weights, constants, and all that is computed from these, without effects."""
    known = set(weights)
    for node in graph.nodes:
        if not node.op.effect and all(x in known for x in node.operands):
            known.update(node.results)
    return known
