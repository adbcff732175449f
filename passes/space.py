"""The iteration space of a kernel: dimensions, some of which are reduced.

Values in a group are *aligned* with its space: the element number of a `full` value is the
row-major number of the point; that of a `kept` value is the number of the point among the
dimensions that are not reduced. So two values of different shapes are aligned with one space as
long as only reshapes lie between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from braze.ir.graph import Node
from braze.ir.op import Op
from braze.ir.types import Shape

# Neighbouring dimensions that are both kept, or both reduced, as one: its size, and which it is.
SpaceKey: TypeAlias = tuple[tuple[int, bool], ...]


@dataclass(frozen=True)
class Space:
    """Sizes of the dimensions, and which of them are reduced."""

    dims: Shape
    reduced: tuple[bool, ...]

    @cached_property
    def full(self) -> int:
        """How many points there are."""
        return math.prod(self.dims)

    @cached_property
    def kept_shape(self) -> Shape:
        pairs = zip(self.dims, self.reduced, strict=True)
        return tuple(size for size, reduced in pairs if not reduced)

    @cached_property
    def kept(self) -> int:
        """How many points there are after the reduction."""
        return math.prod(self.kept_shape)

    @property
    def is_reduced(self) -> bool:
        return any(self.reduced)

    @cached_property
    def key(self) -> SpaceKey:
        """Equal for spaces that differ only in how their dimensions are cut."""
        merged: list[tuple[int, bool]] = []
        for size, reduced in zip(self.dims, self.reduced, strict=True):
            if size == 1:
                continue
            if merged and merged[-1][1] == reduced:
                merged[-1] = (merged[-1][0] * size, reduced)
            else:
                merged.append((size, reduced))
        return tuple(merged)


def across_rows(key: SpaceKey) -> SpaceKey | None:
    """The space of the other reduction, for one of rows along them or of all rows to one."""
    return tuple((size, not reduced) for size, reduced in key) if len(key) == 2 else None


def map_space(shape: Shape) -> Space:
    """The space of an elementwise kernel."""
    return Space(shape, (False,) * len(shape))


def space_of(node: Node) -> Space:
    """The space that one node iterates over."""
    if node.op.is_reduce:
        dims = node.attributes["dims"]
        assert isinstance(dims, tuple)
        shape = node.operands[0].shape
        return Space(shape, tuple(axis in dims for axis in range(len(shape))))
    shape = node.results[0].shape if node.results else node.operands[0].shape
    return map_space(shape)


def gives_position(op: Op) -> bool:
    """Does a reduction give where the extremum is, and not its value?"""
    return op.is_reduce and op.name.startswith("arg")
