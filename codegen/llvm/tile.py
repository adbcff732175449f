"""A register tile of a contraction: its rows, the loops of its sum, and what it is told.

In: a `Schedule` and a tile's size.  Out: facts for those who write its code: the micro-kernel, its
epilogue, and what packs its operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from braze.codegen.llvm.contraction_shape import Dim, count
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.ir.index import LoopVar
from braze.ir.loops import Buffer, Load, Store


@dataclass(frozen=True, slots=True)
class Level:
    """A loop of the sum: how often (None: argument `number` of the counts says), and the operands'
    strides."""

    extent: int | None
    a: int
    b: int
    number: int = 0


@dataclass(frozen=True, eq=False)
class Tile:
    """One kind of register tile.

    size: of its piece of the split dimension. lanes: how many of its last vector exist.
    """

    schedule: Schedule
    size: int
    vectors: int
    lanes: int

    @property
    def rows(self) -> int:
        return self.size * count(self.schedule.whole)

    @property
    def a_is_packed(self) -> bool:
        return self.schedule.pack_a != "none"

    @property
    def b_is_packed(self) -> bool:
        return self.schedule.pack_b != "none"

    def present(self, vector: int) -> int:
        """How many lanes of a vector exist."""
        return self.lanes if vector == self.vectors - 1 else self.schedule.width

    def row_dims(self) -> tuple[Dim, ...]:
        return (self.schedule.split, *self.schedule.whole)

    def row_indices(self, row: int) -> tuple[int, ...]:
        """The row's place in the split dimension's piece and in the whole ones."""
        indices = []
        for dim in reversed(self.schedule.whole):
            row, index = divmod(row, dim.extent)
            indices.append(index)
        return (row, *reversed(indices))

    def _a_row_source(self, row: int) -> int:
        """Elements between the tile's first row and this one in operand a as it lies in memory."""
        pairs = zip(self.row_indices(row), self.row_dims(), strict=True)
        return sum(index * dim.a for index, dim in pairs)

    def a_row(self, row: int) -> int:
        """The same in operand a as the micro-kernel reads it."""
        return row if self.a_is_packed else self._a_row_source(row)

    def levels(self) -> list[Level]:
        """The loops over a block, outermost first."""
        levels: list[Level] = []
        step = 1
        for dim in reversed(self.schedule.inner):
            a = step * self.rows if self.a_is_packed else dim.a
            b = step * self.vectors * self.schedule.width if self.b_is_packed else dim.b
            levels.append(Level(dim.extent, a, b))
            step *= dim.extent
        if levels:
            levels[-1] = replace(levels[-1], extent=self.schedule.block)
        is_open = self.schedule.open_levels
        return [
            replace(level, extent=None, number=sum(is_open[:at])) if is_open[at] else level
            for at, level in enumerate(levels[::-1])
        ]


def outer_variables(schedule: Schedule) -> list[LoopVar]:
    """The loop variables that a tile function is told the value of, in order."""
    dims = (*schedule.loops, *schedule.outer_rows, schedule.split, schedule.lane)
    return [dim.var for dim in dims]


def epilogue_buffers(stores: Sequence[Store]) -> list[Buffer]:
    """The buffers that the stores read and write, each once."""
    found: dict[str, Buffer] = {}
    for store in stores:
        found[store.buffer.name] = store.buffer
        for root in (store.value, Load(store.buffer, store.index, store.guard)):
            for expr in root.walk():
                if isinstance(expr, Load):
                    found[expr.buffer.name] = expr.buffer
    return list(found.values())
