"""Which captured operations a node, after any pass, and a kernel come from.

In: a captured graph.  Out: a copy to compile, in which each node has a location object of its own.
Passes hand locations on, so the object's identity tells where a node comes from, where two nodes of
one line are equal by value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from braze.ir.builder import Copier
from braze.ir.graph import Graph, Location, Node
from braze.ir.own_nodes import own_nodes


class Provenance:
    """Knows the nodes of a captured graph by their locations.

    Attributes:
        graph: the copy that is to be compiled.
        positions: identity of a location -> position of its node among the captured ones.
    """

    def __init__(self, graph: Graph) -> None:
        self.positions: dict[int, int] = {}
        self._kept: list[Location] = []
        self.graph = self._copy(graph, range(len(graph.nodes)))

    def derived(self, graph: Graph, positions: Sequence[int]) -> Provenance:
        """Of another graph that was made of the captured one, and is to be compiled.

        Args:
            positions: for each of its nodes that of the captured node it comes from, or -1.

        Returns: what knows the nodes of both, as positions among the captured ones.
        """
        made = Provenance.__new__(Provenance)
        made.positions, made._kept = dict(self.positions), list(self._kept)
        made.graph = made._copy(graph, positions)
        return made

    def _copy(self, graph: Graph, positions: Sequence[int]) -> Graph:
        copier = Copier(graph)
        for node, position in zip(graph.nodes, positions, strict=True):
            copy = copier.keep(node)
            if node.location is not None:
                copy.location = replace(node.location)
                self._kept.append(copy.location)
                self.positions[id(copy.location)] = position
        return copier.done()

    def position(self, location: Location | None) -> int:
        """Of the captured node that a location is of, or -1."""
        return self.positions.get(id(location), -1)

    def origins(self, node: Node) -> list[int]:
        """Positions of the captured nodes that a node, or what is fused in it, comes from."""
        inside = own_nodes(node.body.nodes if node.body is not None else [node])
        found = {self.position(part.location) for part in inside} - {-1}
        return sorted(found or {self.position(node.location)} - {-1})


def kernels_of(scheduled: Graph) -> Iterator[tuple[str, Node]]:
    """The name of each fusion node's kernel, as lowering gives it.  (Those of no points have no
    kernel.)"""
    for number, node in enumerate(scheduled.nodes, start=1):
        assert node.body is not None
        yield f"{node.body.name}_{number}", node
