"""Replace composite operations by primitives, until none is left.

Needs: a verified graph.  Keeps: types, names of results, source lines, order.

Before:
    graph @g(%x: f32[4], %y: f32[4]) -> (f32[4]) {
      %0: f32[4] = square(%x)  # train.py:3
      return %0
    }
After:
    graph @g(%x: f32[4], %y: f32[4]) -> (f32[4]) {
      %0: f32[4] = mul(%x, %x)  # train.py:3
      return %0
    }
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Value
from braze.ir.op import AttributeValue, Op, op_named


def decompose(graph: Graph) -> Graph:
    """The same graph in primitives only."""
    if all(node.op.is_primitive for node in graph.nodes):
        return graph
    new = _Expander(graph)
    for node in graph.nodes:
        with new.at(node.location):
            if node.op.is_primitive:
                new.keep(node)
            else:
                new.replace(node, new.unfold_call(node.op, new.operands(node), node.attributes))
    return new.done()


class _Expander(Rewriter):
    """A rewriter on which a composite operation emits its primitives at once."""

    def unfold_call(
        self, op: Op, operands: Sequence[Value], attributes: dict[str, AttributeValue]
    ) -> Value | tuple[Value, ...]:
        assert op.decompose is not None
        result: Value | tuple[Value, ...] = op.decompose(self, *operands, **attributes)
        return result

    def __getattr__(self, name: str) -> Callable[..., Any]:
        emit = super().__getattr__(name)
        op = op_named(name)
        if op.is_primitive:
            return emit
        return lambda *operands, **attributes: self.unfold_call(op, self.lift(operands), attributes)
