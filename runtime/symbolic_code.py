"""Machine code that serves many sizes, of one dimension or two, and its instance for one choice.

In: what compiling a family of graphs left.  Out: an `Artifact`, or for a GPU a `CudaCode`, for a
graph of the family: the same machine code, with the words that it is given for its sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from braze.ir.arena import ArenaLayout
from braze.ir.graph import Graph
from braze.ir.polynomials import Interpolation, Point
from braze.runtime.artifact import Artifact, Slot, slots_of

if TYPE_CHECKING:
    from braze.runtime.cuda.code import CudaCode
    from braze.runtime.sized_texts import Fit, Text

Code = TypeVar("Code", Artifact, "CudaCode")


@dataclass(frozen=True, eq=False, slots=True)
class SymbolicCode(Generic[Code]):
    """Code for the sizes from `lowest` to `highest`, of every dimension.

    Attributes:
        fit: the family's graphs; of code from the disk, their outlines.
        artifact: for the sizes that it was planned for. Its numbers may be symbolic.
        layout: the arena's.
        disk_key: of the disk's entry that it was read from; "" if it was compiled here.
    """

    fit: Fit
    artifact: Code
    layout: ArenaLayout
    lowest: Point
    highest: Point
    disk_key: str = ""

    def serves(self, sizes: Point) -> bool:
        """Whether the code is known to be right for some sizes."""
        return are_within(sizes, self.lowest, self.highest)

    def sizes_of(self, outline: Text) -> Point | None:
        """The sizes of a graph of this outline, if the code serves it."""
        sizes = (self.fit.outline or self.fit).sizes_of(outline)
        return sizes if sizes is not None and self.serves(sizes) else None

    def described(self) -> Code:
        """The artifact, with shapes that are functions of the sizes, for its `at`."""
        from braze.ir.parser import parse_graph  # which loading a package does without

        own = [[size] for size in self.lowest]
        for dim in self.fit.free:
            first = max(2, self.lowest[dim])
            own[dim] = [first, first + 1, first + 2]
        near = Interpolation(own)
        slots = [slots_of(parse_graph(self.fit.text_at(sizes))) for sizes in near.points]
        inputs, outputs = (
            tuple(_slot(near, own) for own in zip(*sides, strict=True))
            for sides in zip(*slots, strict=True)
        )
        return replace(self.artifact, inputs=inputs, outputs=outputs)

    def instance(self, graph: Graph, sizes: Point) -> Code:
        """The artifact of the family's graph of some sizes."""
        inputs, outputs = slots_of(graph)
        own = replace(self.artifact, inputs=inputs, outputs=outputs)
        return own.at(self.layout, sizes, graph.name)


def are_within(sizes: Point, lowest: Point, highest: Point) -> bool:
    """Whether every size is in its dimension's range."""
    return all(a <= size <= b for a, size, b in zip(lowest, sizes, highest, strict=True))


def _slot(near: Interpolation, own: Sequence[Slot]) -> Slot:
    shapes = zip(*(slot.shape for slot in own), strict=True)
    return replace(own[0], shape=tuple(_extent(near, extents) for extents in shapes))


def _extent(near: Interpolation, extents: Sequence[int]) -> int:
    found = near.through(extents)
    if found is None:
        raise ValueError(f"[package] the extents {list(extents)} are no polynomial of the size")
    return found.symbol(near.points[0])
