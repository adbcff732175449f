"""Build graphs, one node a call: `b.add(x, y)`, `b.sum(x, dims=(0,), keepdim=False)`.

Every declared op is a method. Operands may be Python numbers: they become `constant` nodes of the
dtype of the last tensor operand (a constant is part of the program; what varies is an input). The
same decomposition and gradient rules run against this builder and against the front end's tracer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from braze.ir.graph import Graph, Location, Node, Role, Value, types_of
from braze.ir.op import AttributeValue, Op, check_attributes, op_named
from braze.ir.types import TensorType


class Builder:
    """Appends nodes to a new graph.

    Example:
        >>> import braze.ir as ir
        >>> b = Builder("square")
        >>> x = b.input(ir.tensor_type(ir.f32, (4,)), name="x")
        >>> print(b.finish([b.mul(x, x)]))
        graph @square(%x: f32[4]) -> (f32[4]) {
          %0: f32[4] = mul(%x, %x)
          return %0
        }
    """

    def __init__(self, name: str = "graph") -> None:
        self.graph = Graph(name)
        self.location: Location | None = None

    def input(self, type: TensorType, role: Role = "data", name: str | None = None) -> Value:
        """Add a parameter to the graph."""
        value = Value(type, name=name)
        self.graph.inputs.append(value)
        self.graph.roles.append(role)
        return value

    def emit(
        self,
        op: Op,
        operands: Sequence[Value],
        attributes: dict[str, AttributeValue],
        body: Graph | None = None,
    ) -> Node:
        """Append a node; its result types come from the op's rule."""
        check_attributes(op, attributes)
        types = op.result_types(types_of(operands), attributes)
        return self.append(Node(op, operands, attributes, types, self.location, body))

    def append(self, node: Node) -> Node:
        """Append a node that was made elsewhere; its operands must be values of this graph."""
        self.graph.nodes.append(node)
        return node

    @contextmanager
    def at(self, location: Location | None) -> Iterator[None]:
        """Give the nodes made inside this source location."""
        previous, self.location = self.location, location
        try:
            yield
        finally:
            self.location = previous

    def finish(self, outputs: Sequence[Value], aliases: dict[int, int] | None = None) -> Graph:
        """Close the graph with its outputs and return it."""
        self.graph.outputs = list(outputs)
        self.graph.aliases = dict(aliases or {})
        return self.graph

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            op = op_named(name)
        except KeyError:
            raise AttributeError(f"no op is called {name!r}") from None

        def call(*operands: Value | float, **attributes: AttributeValue) -> Any:
            node = self.emit(op, self.lift(operands), attributes)
            return node.results[0] if len(node.results) == 1 else node.results

        return call

    def lift(self, operands: Sequence[Value | float]) -> list[Value]:
        """Turn the Python numbers among the operands into constants of the tensors' dtype."""
        tensors = [operand for operand in operands if isinstance(operand, Value)]
        dtype = tensors[-1].type.dtype if tensors else None
        lifted: list[Value] = []
        for operand in operands:
            if isinstance(operand, Value):
                lifted.append(operand)
            elif dtype is None:
                raise TypeError("at least one operand must be a value; use b.constant for numbers")
            else:
                lifted.append(self.constant(value=operand, dtype=dtype))
        return lifted


class Copier(Builder):
    """Copies a graph, with new values and nodes that may be given other names and locations.

    `replaced` maps the old graph's values to the new graph's.
    """

    def __init__(self, old: Graph) -> None:
        super().__init__(old.name)
        self.old = old
        self.graph.roles = list(old.roles)
        self.graph.inputs = self._inputs()
        self.replaced: dict[Value, Value] = dict(zip(old.inputs, self.graph.inputs, strict=True))

    def _inputs(self) -> list[Value]:
        return [Value(value.type, name=value.name) for value in self.old.inputs]

    def __getitem__(self, value: Value) -> Value:
        """What stands for `value` in the new graph."""
        return self.replaced[value]

    def operands(self, node: Node) -> tuple[Value, ...]:
        """The new operands of an old node."""
        replaced = self.replaced
        return tuple([replaced[operand] for operand in node.operands])

    def keep(self, node: Node) -> Node:
        """Copy a node with its operands replaced."""
        copy = Node(
            node.op,
            self.operands(node),
            node.attributes,
            types_of(node.results),
            node.location,
            node.body,
        )
        self.append(copy)
        self.replace(node, copy.results)
        return copy

    def replace(self, node: Node, results: Value | Sequence[Value]) -> None:
        """Record what the results of an old node have become. Names survive."""
        new = (results,) if isinstance(results, Value) else tuple(results)
        for before, after in zip(node.results, new, strict=True):
            self.replaced[before] = after
            if before.name and not after.name:
                after.name = before.name

    def done(self) -> Graph:
        """Close the new graph with the old one's outputs and aliases."""
        outputs = [self.replaced[value] for value in self.old.outputs]
        return self.finish(outputs, self.old.aliases)


class Rewriter(Copier):
    """Makes another graph of a graph: the frame of a pass.

    A pass walks the old nodes and calls `keep` for what stays, or emits something else and records
    it with `replace`. Inputs, and nodes whose operands stay, are in both graphs: most of a graph
    survives most passes. So what a pass has kept must not be changed.
    """

    def _inputs(self) -> list[Value]:
        return list(self.old.inputs)

    def keep(self, node: Node) -> Node:
        """The node with its operands replaced: itself, if they have stayed. At most once each."""
        replaced = self.replaced
        for operand in node.operands:
            if replaced[operand] is not operand:
                return super().keep(node)
        self.graph.nodes.append(node)
        for result in node.results:
            replaced[result] = result
        return node
