"""Replace complex values by their real and imaginary parts, so that all later passes know real
dtypes only.

A complex input is memory in which the two parts of a number follow each other: it becomes a real
input with a last dimension of size 2; so does a complex output. In between the parts are values of
their own, which vectorise like any others.

Needs: a verified graph, composites allowed.  Keeps: the meaning of the bytes of inputs and outputs,
source lines, order.  Operations on real values stay as they are.

Before:
    graph @g(%x: c64[4]) -> (c64[4]) {
      %0: c64[4] = mul(%x, %x)  # train.py:3
      return %0
    }
After:
    graph @g(%x: f32[4,2]) -> (f32[4,2]) {
      %0: f32[4] = select(%x; dim=1, index=0)
      %1: f32[4] = select(%x; dim=1, index=1)
      %2: f32[4] = mul(%0, %0)  # train.py:3
      %3: f32[4] = mul(%1, %1)  # train.py:3
      %4: f32[4] = sub(%2, %3)  # train.py:3
      %5: f32[4] = mul(%0, %1)  # train.py:3
      %6: f32[4] = mul(%1, %0)  # train.py:3
      %7: f32[4] = add(%5, %6)  # train.py:3
      %8: f32[4,2] = stack(%4, %7; dim=1)
      return %8
    }
"""

from __future__ import annotations

from typing import Any

from braze.ir.graph import Graph, Node, Value
from braze.ir.parts import Pair, PartsBuilder, needs_parts
from braze.ir.types import TensorType, tensor_type


def split_complex(graph: Graph) -> Graph:
    """The same graph in real values only."""
    if not any(value.dtype.is_complex for value in graph.values()):
        return graph
    return _Splitter(graph).run()


class _Splitter(PartsBuilder):
    """Copies a graph; what stands for a complex value is a pair."""

    def __init__(self, old: Graph) -> None:
        super().__init__(old.name)
        self.old = old
        self.replaced: dict[Value, Any] = {}

    def run(self) -> Graph:
        inputs = [
            self.input(_in_memory(value.type), role, value.name)
            for value, role in zip(self.old.inputs, self.old.roles, strict=True)
        ]
        for value, new in zip(self.old.inputs, inputs, strict=True):
            self.replaced[value] = self.unpaired(new) if value.dtype.is_complex else new
        for node in self.old.nodes:
            with self.at(node.location):
                self._node(node)
        outputs = [self.replaced[value] for value in self.old.outputs]
        stored = [self.paired(x) if isinstance(x, Pair) else x for x in outputs]
        return self.finish(stored, self.old.aliases)

    def _node(self, node: Node) -> None:
        operands = [self.replaced[x] for x in node.operands]
        if node.op.category == "complex" or needs_parts(node.op, operands, node.attributes):
            made = getattr(self, node.op.name)(*operands, **node.attributes)
            results = made if isinstance(made, tuple) else (made,)
        else:
            types = tuple(x.type for x in node.results)
            copy = Node(node.op, operands, node.attributes, types, node.location, node.body)
            results = self.append(copy).results
        for before, after in zip(node.results, results, strict=True):
            self.replaced[before] = after
            if before.name and isinstance(after, Value) and not after.name:
                after.name = before.name


def _in_memory(type: TensorType) -> TensorType:
    """The real type of a value's memory."""
    if not type.dtype.is_complex:
        return type
    return tensor_type(type.dtype.to_real(), (*type.shape, 2), type.device)
