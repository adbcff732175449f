"""How rows, and the elements of a row, are shared out among threads.

In: the loops over rows and what is done for each.  Out: a `Layout`. Where neighbouring elements of
memory belong to one row, neighbouring threads (lanes) share a row; where they belong to
neighbouring rows, each of them has a row of its own, and further threads the rest of these rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from braze.codegen.cuda.grid import ENOUGH_THREADS, THREADS, WARP, extent, power_of_two
from braze.codegen.cuda.statements import loads_of, outer_loops, values_of
from braze.ir.index import LoopVar
from braze.ir.loops import Load, Loop, Reduce, Scan, Statement

MOST_LANES = 1024
MOST_ACROSS = 16
# A lane has at least about so many elements of a row.
SHARE = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """Which threads of a block work at which row.

    Attributes:
        lanes: threads that share a row; a power of two.
        rows: of a block.
        across: whether the rows of a block are neighbouring threads, and the lanes threadIdx.y.
    """

    lanes: int
    rows: int
    across: bool = False

    @property
    def block(self) -> tuple[int, int, int]:
        return (self.rows, self.lanes, 1) if self.across else (self.rows * self.lanes, 1, 1)

    @property
    def threads(self) -> int:
        return self.rows * self.lanes

    @property
    def reduction(self) -> str:
        """The function of the library that combines over a row's lanes; "" for one lane."""
        if self.lanes == 1:
            return ""
        if self.across:
            return f"columns_reduce<{self.rows}, {self.lanes}>"
        if self.lanes <= WARP:
            return f"lanes_reduce<{self.lanes}>"
        return f"block_reduce<{self.lanes // WARP}>"


def rows_of(statements: list[Statement]) -> Iterator[tuple[list[LoopVar], list[Load]]]:
    """The loops along a row, each with the loads in it."""
    for statement in statements:
        if isinstance(statement, (Reduce, Scan)):
            yield [v for v, _ in statement.loops], loads_of(values_of(statement))
        elif isinstance(statement, Loop):
            loops, body = outer_loops([statement])
            yield loops, loads_of(value for s in body for value in values_of(s))


def runs_across(kept: list[LoopVar], body: list[Statement]) -> bool:
    """Are neighbours in memory elements of neighbouring rows, for most loads?"""
    last = next((v for v in reversed(kept) if v.extent > 1), None)
    if last is None:
        return False
    votes = 0
    for loops, loads in rows_of(body):
        along = next((v for v in reversed(loops) if v.extent > 1), None)
        for load in loads:
            votes += abs(load.index.coefficient(last)) == 1
            votes -= along is not None and abs(load.index.coefficient(along)) == 1
    return votes > 0


def layout_of(kept: list[LoopVar], body: list[Statement]) -> Layout:
    """The layout of rows that do not depend on each other."""
    rows = extent(kept)
    length = max((extent(loops) for loops, _ in rows_of(body)), default=1)
    if runs_across(kept, body):
        lanes = 1
        while lanes < MOST_ACROSS and rows * lanes < ENOUGH_THREADS and lanes * SHARE <= length:
            lanes *= 2
        width = max(WARP, THREADS // lanes) if rows >= WARP else power_of_two(rows)
        return Layout(lanes, min(width, power_of_two(rows)), across=True)
    lanes = min(power_of_two(-(-length // SHARE)), WARP)
    if length > MOST_LANES:
        lanes = THREADS
    while (
        lanes < MOST_LANES
        and lanes * SHARE * 2 <= length
        and (rows * lanes < ENOUGH_THREADS // 2 or length > 16 * lanes * SHARE)
    ):
        lanes *= 2
    if lanes > WARP:
        return Layout(lanes, 1)
    return Layout(lanes, max(min(THREADS // lanes, power_of_two(rows)), WARP // lanes))
