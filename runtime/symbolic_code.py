"""Machine code that serves many sizes of one dimension, and its instance for one of them.

In: what compiling a family of graphs left.  Out: an `Artifact` for a graph of the family: the same
objects, with the words that they are given for its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from braze.ir.arena import ArenaLayout
from braze.ir.graph import Graph
from braze.ir.symint import SymInt, through, value_at
from braze.runtime.artifact import Artifact, Slot, slots_of

if TYPE_CHECKING:
    from braze.runtime.families import Fit


@dataclass(frozen=True, eq=False, slots=True)
class SymbolicCode:
    """Code for the sizes from `lowest` to `highest`.

    Attributes:
        fit: the family's graphs.
        artifact: for the size that it was planned for. Its numbers may be symbolic.
        layout: the arena's.
    """

    fit: Fit
    artifact: Artifact
    layout: ArenaLayout
    lowest: int
    highest: int

    def serves(self, size: int) -> bool:
        """Whether the code is known to be right for a size."""
        return self.lowest <= size <= self.highest

    def described(self) -> Artifact:
        """The artifact, with shapes that are functions of the size, for `instance_of`."""
        from braze.ir.parser import parse_graph  # which loading a package does without

        graphs = [parse_graph(self.fit.text_at(size)) for size in self._three()]
        slots = [slots_of(graph) for graph in graphs]
        inputs, outputs = (
            tuple(self._slot(own) for own in zip(*sides, strict=True))
            for sides in zip(*slots, strict=True)
        )
        return replace(self.artifact, inputs=inputs, outputs=outputs)

    def _three(self) -> list[int]:
        first = max(2, self.lowest)
        return [first, first + 1, first + 2]

    def _slot(self, own: Sequence[Slot]) -> Slot:
        shapes = zip(*(slot.shape for slot in own), strict=True)
        return replace(own[0], shape=tuple(self._extent(list(sizes)) for sizes in shapes))

    def _extent(self, sizes: list[int]) -> int:
        if len(set(sizes)) == 1:
            return sizes[0]
        found = through(list(zip(self._three(), sizes, strict=True)))
        if found is None:
            raise ValueError(f"[package] the extents {sizes} are no polynomial of the size")
        n = SymInt.word(0, self._three()[0])
        square, factor, summand = found
        return n * n * square + n * factor + summand

    def instance(self, graph: Graph, size: int) -> Artifact:
        """The artifact of the family's graph of a size."""
        inputs, outputs = slots_of(graph)
        own = replace(self.artifact, name=graph.name, inputs=inputs, outputs=outputs)
        return instance_of(own, self.layout, size)


def instance_of(artifact: Artifact, layout: ArenaLayout, size: int) -> Artifact:
    """An artifact in which every number is the one that its function has for a size."""
    offsets, arena_bytes = layout.offsets([size])
    words = size, *offsets

    def sized(slots: Sequence[Slot]) -> tuple[Slot, ...]:
        return tuple(
            replace(slot, shape=tuple(value_at(extent, words) for extent in slot.shape))
            for slot in slots
        )

    return replace(
        artifact,
        inputs=sized(artifact.inputs),
        outputs=sized(artifact.outputs),
        arena_bytes=arena_bytes,
        scratch_bytes=value_at(artifact.scratch_bytes, words),
        failures=tuple(
            replace(site, low=value_at(site.low, words), high=value_at(site.high, words))
            for site in artifact.failures
        ),
        words=words,
    )
