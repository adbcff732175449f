"""A graph's text by lines, with what to compare each by: for showing what a pass changed.

In: a graph, and where its nodes come from.  Out: lines, and a key for each.

Numbers of values change with every node that goes, so lines are not compared as text. Two lines are
the same if they are the same operation with the same attributes and types, come from the same
captured operations, and so do their operands. Inside a fusion node, what is read from outside
counts as what it is there; so `fuse` shows as lines that moved together, and not as new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from braze.ir.graph import Graph, Node, Value
from braze.ir.printer import GraphText, print_attribute, print_location

Origins = Callable[[Sequence[Node]], Mapping[Node, Sequence[int]]]


class AlignedText:
    """The lines of a graph.

    Args:
        origins_of: for nodes, the positions of the captured nodes that each comes from.

    Attributes:
        lines: the text, without the user's lines.
        keys: what to compare each line by.
        origins: of each line the position of a captured node that it comes from, or -1.
        nodes: the node that begins in each line, or None.
    """

    def __init__(self, graph: Graph, origins_of: Origins) -> None:
        text = GraphText(graph)
        self.lines = list(text.lines)
        self.keys: list[object] = [line.strip() for line in self.lines]
        self.origins = [-1] * len(self.lines)
        self.nodes: list[Node | None] = [None] * len(self.lines)
        self._text = text
        self._origins_of = origins_of
        self._described: dict[Value, object] = {value: value.name for value in graph.inputs}
        self._enter(graph.nodes)

    def _enter(self, nodes: Sequence[Node]) -> None:
        own, described = self._origins_of(nodes), self._described
        for node in nodes:
            at = self._text.spans[node, "op", 0].line
            self.nodes[at] = node
            self.origins[at] = own[node][0] if own[node] else -1
            if node.location is not None:
                shown = f"  # {print_location(node.location)}"
                self.lines[at] = self.lines[at].removesuffix(shown)
            operands = tuple(described.get(x) for x in node.operands)
            if node.body is not None:
                for outer, inner in zip(node.operands, node.body.inputs, strict=True):
                    described[inner] = described.get(outer)
                self._enter(node.body.nodes)
                for outer, inner in zip(node.results, node.body.outputs, strict=True):
                    described[outer] = described.get(inner)
                self.keys[at] = (node.op.name, node.attributes["kind"], node.body.name)
                continue
            types = tuple(str(result.type) for result in node.results)
            name = (node.op.name, _attributes(node), tuple(own[node]))
            self.keys[at] = (*name, types, operands)
            for index, result in enumerate(node.results):
                described[result] = (*name, index)


def _attributes(node: Node) -> str:
    return ", ".join(f"{name}={print_attribute(v)}" for name, v in node.attributes.items())
