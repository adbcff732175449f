"""The graph IR: typed SSA values, nodes and graphs.

A `Graph` is a list of nodes in execution order over values. A value is a graph input or one result
of one node, has one type, and never changes. Values and nodes are compared by identity.

Inputs have a role. `data`, `param` and `buffer` are tensors that the caller owns, `scalar` is a 0-d
value that may change from call to call without a recompile, `const` is a tensor baked into the
program. `Graph.aliases` maps an output to the input whose memory it overwrites: in-place state.

A node may hold a nested graph (`body`): the fusion groups that the `fuse` pass makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from braze.ir.types import Shape, TensorType

if TYPE_CHECKING:
    from braze.ir.dtypes import DType
    from braze.ir.op import AttributeValue, Op

Role = Literal["data", "param", "buffer", "scalar", "const"]
ROLES: tuple[Role, ...] = ("data", "param", "buffer", "scalar", "const")


@dataclass(frozen=True, slots=True)
class Location:
    """Where the user wrote an operation: file, line, and the path of the module it ran in."""

    file: str
    line: int
    scope: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f" in {self.scope}" if self.scope else "")


class Value:
    """A typed SSA value: a graph input (`node` is None) or result `index` of `node`."""

    __slots__ = ("index", "name", "node", "type")

    def __init__(
        self, type: TensorType, node: Node | None = None, index: int = 0, name: str | None = None
    ) -> None:
        self.type = type
        self.node = node
        self.index = index
        self.name = name

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    def __repr__(self) -> str:
        if self.node is None:
            return f"<input {self.name or '?'}: {self.type}>"
        return f"<{self.node.op.name}#{self.index}: {self.type}>"


class Node:
    """One operation: operands and attributes in, `results` out."""

    __slots__ = ("attributes", "body", "location", "op", "operands", "results")

    def __init__(
        self,
        op: Op,
        operands: Sequence[Value],
        attributes: dict[str, AttributeValue],
        result_types: Sequence[TensorType],
        location: Location | None = None,
        body: Graph | None = None,
    ) -> None:
        self.op = op
        self.operands = tuple(operands)
        self.attributes = attributes
        self.location = location
        self.body = body
        self.results = tuple(Value(t, self, i) for i, t in enumerate(result_types))

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    def __repr__(self) -> str:
        types = ", ".join(str(v.type) for v in self.results)
        return f"<node {self.op.name} -> {types}>"


@dataclass(eq=False, slots=True)
class Graph:
    """A typed program over tensors.

    Attributes:
        name: for dumps.
        inputs: the parameters, in order.
        roles: the role of each input, in the same order.
        nodes: the operations, each after the ones it reads.
        outputs: the values handed back, in order.
        aliases: output index -> index of the input whose storage it is written to.
    """

    name: str
    inputs: list[Value] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    aliases: dict[int, int] = field(default_factory=dict)

    def values(self) -> Iterator[Value]:
        """Every value: the inputs, then the results of each node."""
        yield from self.inputs
        for node in self.nodes:
            yield from node.results

    def uses(self) -> dict[Value, list[Node]]:
        """For each value, the nodes that read it (a node once per operand position)."""
        uses: dict[Value, list[Node]] = {value: [] for value in self.values()}
        for node in self.nodes:
            for operand in node.operands:
                uses[operand].append(node)
        return uses

    def input_role(self, value: Value) -> Role:
        """The role of one of the inputs."""
        return self.roles[self.inputs.index(value)]

    def located(self, locations: Sequence[Location | None]) -> Graph:
        """The same program, its nodes at other lines: one for each, in order."""
        known = {value: Value(value.type, name=value.name) for value in self.inputs}
        nodes = []
        for node, location in zip(self.nodes, locations, strict=True):
            operands = [known[value] for value in node.operands]
            types = types_of(node.results)
            copy = Node(node.op, operands, node.attributes, types, location, node.body)
            for old, new in zip(node.results, copy.results, strict=True):
                new.name = old.name
                known[old] = new
            nodes.append(copy)
        inputs, outputs = ([known[v] for v in values] for values in (self.inputs, self.outputs))
        return Graph(self.name, inputs, list(self.roles), nodes, outputs, dict(self.aliases))

    def __str__(self) -> str:
        from braze.ir.printer import print_graph

        return print_graph(self)


def types_of(values: Iterable[Value]) -> tuple[TensorType, ...]:
    """The types of several values."""
    return tuple(value.type for value in values)
