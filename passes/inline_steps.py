"""Replace a recurrence of a single step by the operations of that step.

Needs: a verified graph, composites allowed.  Keeps: types, results.

A loop that runs once is none: its products are ordinary contractions then, which fuse with what is
around them and run beside each other.

Before:
    graph @g(%x: f32[1,2,3], %w: f32[3,3], %h: f32[2,3]) -> (f32[1,2,3]) {
      %0: f32[1,2,3] = rnn_sequence(%x, %w, %h; nonlinearity="tanh", reverse=false)
      return %0
    }
After:
    graph @g(%x: f32[1,2,3], %w: f32[3,3], %h: f32[2,3]) -> (f32[1,2,3]) {
      %0: f32[2,3] = reshape(%x; shape=(2,3))
      %1: f32[2,3] = contract(%h, %w; equation="bk,kh->bh")
      %2: f32[2,3] = add(%1, %0)
      %3: f32[2,3] = tanh(%2)
      %4: f32[1,2,3] = reshape(%3; shape=(1,2,3))
      return %4
    }
"""

from __future__ import annotations

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Node, Value, types_of
from braze.ir.steps import step_graph


def inline_steps(graph: Graph) -> Graph:
    """The graph without recurrences of one step."""
    if not any(_is_single(node) for node in graph.nodes):
        return graph
    uses = graph.uses()
    new = Rewriter(graph)
    for node in graph.nodes:
        if not _is_single(node):
            new.keep(node)
            continue
        wanted = [v.index for v in node.results if uses[v] or v in graph.outputs]
        if wanted:
            with new.at(node.location):
                _inline(new, node, wanted)
    return new.done()


def _is_single(node: Node) -> bool:
    if node.op.steps is None:
        return False
    stacked = node.operands[node.op.operands.index(node.op.steps.stacked[0])]
    return stacked.shape[0] == 1


def _inline(new: Rewriter, node: Node, wanted: list[int]) -> None:
    step = step_graph(node.op, types_of(node.operands), node.attributes, wanted)
    values: dict[Value, Value] = {}
    for value, part in zip(step.graph.inputs, step.parts, strict=True):
        # There is no step before the only one.
        place = part.place if part.kind in ("whole", "now") else part.start
        x = new[node.operands[place]]
        values[value] = x if x.shape == value.shape else new.reshape(x, shape=value.shape)
    for inner in step.graph.nodes:
        made = new.emit(inner.op, [values[x] for x in inner.operands], inner.attributes)
        values.update(zip(inner.results, made.results, strict=True))
    pieces: dict[int, list[Value]] = {}
    for (number, _), value in zip(step.results, step.graph.outputs, strict=True):
        pieces.setdefault(number, []).append(values[value])
    for number, parts in pieces.items():
        result = node.results[number]
        flat = [new.reshape(x, shape=(1, x.type.numel)) for x in parts] if len(parts) > 1 else parts
        whole = new.concat(*flat, dim=1) if len(flat) > 1 else flat[0]
        new.replaced[result] = new.reshape(whole, shape=result.shape)
