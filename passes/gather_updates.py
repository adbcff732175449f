"""Bring small updates together that nothing waits for: a GPU may do many of them in one launch.

Needs: scheduled fusion nodes.  Keeps: the nodes, and an order in which each comes after what it
depends on.

An update is an elementwise kernel, or a copy, all of whose results are results of the graph: an
optimizer's step of a parameter, a layer's count of batches. It moves down as far as others wait
that it can run beside, unless that keeps much memory alive. Other processes' results are waited for
behind all updates that do not need them.

Before:
    graph @g(%x: f32[4], %n: i64[], %m: i64[]) -> (i64[] = %n, f32[], i64[] = %m) {
      %0: i64[] = fusion(%n; kind="pointwise") graph @add(%0: i64[]) -> (i64[]) {
        %1: i64[] = constant(value=1, dtype=i64)
        %2: i64[] = add(%0, %1)
        return %2
      }
      %1: f32[] = fusion(%x; kind="reduce") graph @sum(%0: f32[4]) -> (f32[]) {
        %1: f32[] = sum(%0; dims=(0), keepdim=false)
        return %1
      }
      %2: i64[] = fusion(%m; kind="pointwise") graph @add(%0: i64[]) -> (i64[]) {
        %1: i64[] = constant(value=1, dtype=i64)
        %2: i64[] = add(%0, %1)
        return %2
      }
      return %0, %1, %2
    }
After:
    graph @g(%x: f32[4], %n: i64[], %m: i64[]) -> (i64[] = %n, f32[], i64[] = %m) {
      %0: f32[] = fusion(%x; kind="reduce") graph @sum(%0: f32[4]) -> (f32[]) {
        %1: f32[] = sum(%0; dims=(0), keepdim=false)
        return %1
      }
      %1: i64[] = fusion(%n; kind="pointwise") graph @add(%0: i64[]) -> (i64[]) {
        %1: i64[] = constant(value=1, dtype=i64)
        %2: i64[] = add(%0, %1)
        return %2
      }
      %2: i64[] = fusion(%m; kind="pointwise") graph @add(%0: i64[]) -> (i64[]) {
        %1: i64[] = constant(value=1, dtype=i64)
        %2: i64[] = add(%0, %1)
        return %2
      }
      return %1, %0, %2
    }
"""

from __future__ import annotations

from braze.ir.graph import Graph, Node, Value
from braze.passes.choices import Choices
from braze.passes.schedule import dependences

# An update that keeps more intermediate values alive does not wait: it is work enough for a launch.
LARGE_BYTES = 1 << 20
# What those that wait keep alive, all together.
HELD_BYTES = 1 << 24


def gather_updates(graph: Graph, choices: Choices | None = None) -> Graph:
    """The graph with its updates next to each other, as far as possible.

    Args:
        choices: takes in what is chosen by sizes, or has what was chosen for others.
    """
    choices = choices or Choices()
    before = dependences(graph)
    kept = {*graph.inputs, *graph.outputs}
    order: list[Node] = []
    waiting: dict[Node, None] = {}
    held: set[Value] = set()

    def flush() -> None:
        order.extend(waiting)
        waiting.clear()
        held.clear()

    for number, node in enumerate(graph.nodes):
        if not before[node].isdisjoint(waiting) or _waits_for_others(node):
            flush()
        own = {value for value in node.operands if value not in kept}
        is_small = sum(value.type.nbytes for value in own) <= LARGE_BYTES
        waits = is_update(node, kept) and choices.settle(("small update", number), is_small)
        if not waits:
            order.append(node)
            continue
        held |= own
        waiting[node] = None
        is_room = sum(value.type.nbytes for value in held) <= HELD_BYTES
        if not choices.settle(("room for an update", number), is_room):
            flush()
    flush()
    return Graph(graph.name, graph.inputs, graph.roles, order, graph.outputs, graph.aliases)


def _waits_for_others(node: Node) -> bool:
    return node.body is not None and any(inner.op.is_awaited for inner in node.body.nodes)


def is_update(node: Node, kept: set[Value]) -> bool:
    """Is it an elementwise kernel that cannot fail, with results that outlive the graph only?

    Args:
        kept: the graph's inputs and outputs.
    """
    return (
        node.body is not None
        and node.attributes["kind"] in ("pointwise", "copy")
        and all(result in kept for result in node.results)
        and not any(inner.op.may_fail or inner.op.effect for inner in node.body.nodes)
    )


def waves_of_updates(graph: Graph) -> list[list[Node]]:
    """The nodes in waves for a GPU: neighbouring updates that do not depend on each other are one,
    every other kernel is a wave of its own."""
    before = dependences(graph)
    kept = {*graph.inputs, *graph.outputs}
    waves: list[list[Node]] = []
    is_open = False
    for node in graph.nodes:
        joins = is_update(node, kept)
        if joins and is_open and before[node].isdisjoint(waves[-1]):
            waves[-1].append(node)
        else:
            waves.append([node])
        is_open = joins
    return waves
