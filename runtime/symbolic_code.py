"""Machine code that serves many sizes of one dimension, and its instance for one of them.

In: what compiling a family of graphs left.  Out: an `Artifact` for a graph of the family: the same
objects, with the words that they are given for its size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from braze.ir.arena import ArenaLayout
from braze.ir.graph import Graph
from braze.ir.symint import value_at
from braze.runtime.artifact import Artifact, slots_of

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

    def instance(self, graph: Graph, size: int) -> Artifact:
        """The artifact of the family's graph of a size."""
        offsets, arena_bytes = self.layout.offsets([size])
        words = size, *offsets
        inputs, outputs = slots_of(graph)
        artifact = self.artifact
        return replace(
            artifact,
            name=graph.name,
            inputs=inputs,
            outputs=outputs,
            arena_bytes=arena_bytes,
            scratch_bytes=value_at(artifact.scratch_bytes, words),
            failures=tuple(
                replace(site, low=value_at(site.low, words), high=value_at(site.high, words))
                for site in artifact.failures
            ),
            words=words,
        )
