"""Blocks of the sum and chunks of the result, for a register tile that has been chosen.

In: a `Candidate`.  Out: a `Schedule`.

A chunk packs its own panels of b, so chunks next to each other in the rows pack the same twice;
chunks along the panels read the same rows of a.
"""

from __future__ import annotations

from dataclasses import replace

from braze.codegen.llvm.contraction_shape import Dims, count
from braze.codegen.llvm.schedule_candidate import (
    L2_BYTES_PER_CYCLE,
    MEMORY_BYTES_PER_CYCLE,
    TILE_OVERHEAD,
    Candidate,
    reach,
)
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.schedule_parts import (
    CHUNK_CYCLES,
    MAX_CHUNKS,
    MOST_TERMS,
    even_shares,
    parallel_cost,
)
from braze.ir.symint import is_symbolic
from braze.ir.target import Target

_L3_BYTES_PER_CYCLE = 16.0
_SHARED_CACHE_BYTES = 8 << 20  # what a core may hope to find in the last-level cache
_SUMS_BYTES_PER_CYCLE = 40.0
# Bytes of a row of b in one go, below which memory is no longer read at its full speed.
_SHORT_RUN = 800


Grid = tuple[int, int, int]


def finished(candidate: Candidate, grid: Grid) -> Schedule:
    """A candidate's schedule with its blocks, and chunks along loops, row tiles and panels."""
    outer_inner, inner, block = _blocks(candidate, -(-candidate.panels.count // grid[2]))
    plan = Schedule(
        candidate.shape, candidate.form, candidate.lane, candidate.loops, candidate.outer_rows,
        candidate.split, candidate.whole, candidate.pieces, candidate.panels,
        outer_inner, inner, block, candidate.pack_a_kind(), candidate.pack_b_kind(), grid,
    )  # fmt: skip
    return replace(plan, panels_outermost=_keeps_rows(plan, candidate.target))


def _keeps_rows(plan: Schedule, target: Target) -> bool:
    """Whether weights in panels come from memory, for a few row tiles that stay in the caches."""
    if not plan.lane.panel or plan.pack_a != "none" or plan.pack_b != "none" or plan.shape.guards:
        return False
    if is_symbolic(plan.chunk_tiles, plan.steps, plan.blocks, plan.loop_count):
        return False
    rows = plan.chunk_tiles * plan.tile_rows * plan.steps * plan.item_bytes
    panels = plan.panels.extent * plan.steps * plan.blocks * plan.item_bytes
    near = rows <= target.l2_bytes // 4
    return near and plan.chunk_tiles > 1 and panels > target.l2_bytes // 2


def _limit(candidate: Candidate, panels: int) -> int:
    """Terms of a block that are allowed."""
    if candidate.form == "lanes":
        return MOST_TERMS
    if candidate.tiles == 1 and candidate.pack_b_kind() == "none" and not candidate.streams_b:
        return MOST_TERMS
    return candidate.most_steps(panels)


def _blocks(candidate: Candidate, panels: int) -> tuple[Dims, Dims, int]:
    """(inner dims around the blocks, those of a block, steps of a block's first dim)."""
    inner = candidate.shape.inner
    if not inner:
        return (), (), 1
    limit = _limit(candidate, panels)
    if candidate.steps <= limit + limit // 2:
        return (), inner, inner[0].extent
    at = 0
    while count(inner[at + 1 :]) > limit:
        at += 1
    size = max(1, min(inner[at].extent, limit // count(inner[at + 1 :])))
    return inner[:at], inner[at:], _even_block(inner[at].extent, size)


def _even_block(extent: int, size: int) -> int:
    """At most `size` steps: a divisor of the extent if there is one near, else blocks of nearly
    equal sizes.
    """
    for divisor in range(size, size * 7 // 8, -1):
        if extent % divisor == 0:
            return divisor
    return -(-extent // -(-extent // size))


def best_grid(candidate: Candidate) -> tuple[float, Grid]:
    """(cost, chunks along loops, row tiles and panels), to be compared with other candidates':
    even shares first, little packing done twice.
    """
    loops = count(candidate.loops)
    tiles = candidate.tiles
    panels = candidate.panels.count
    compute = candidate.compute_cycles() + candidate.arrival_cycles() + candidate.store_cycles()
    pack_a = candidate.pack_a_cycles() * loops
    pack_b = candidate.pack_b_cycles() * loops
    wanted = min(MAX_CHUNKS, max(1.0, (compute + pack_a + pack_b) / CHUNK_CYCLES))
    if candidate.form == "lanes" and tiles >= wanted:
        panels = 1  # neighbouring panels share cache lines
    near = _a_bytes(candidate, 1) + candidate.b_bytes <= _SHARED_CACHE_BYTES
    speed = _L3_BYTES_PER_CYCLE if near else MEMORY_BYTES_PER_CYCLE
    # Of panels, the first time is counted where they arrive; their few rows stay near.
    counted = int(candidate.lane.panel > 0)
    stay = counted and _a_bytes(candidate, 1) <= candidate.target.l2_bytes // 2
    a_speed = L2_BYTES_PER_CYCLE if stay else speed
    row_shares = {
        rows: (_uneven(tiles, rows), pack_b * rows, _a_bytes(candidate, rows) * rows * loops)
        for rows in even_shares(tiles, wanted)
    }
    b_bytes = candidate.b_bytes * loops
    best: tuple[float, Grid] = (float("inf"), (1, 1, 1))
    for batch in even_shares(loops, wanted):
        for columns in even_shares(panels, wanted / batch):
            waste = _uneven(loops, batch) * _uneven(panels, columns)
            around = _traffic(candidate, columns) * loops + pack_a * columns
            # With the columns in the lanes' place, chunks along them read a's elements apart.
            times = 1 if candidate.form == "lanes" else columns
            most = max(1, int(wanted / (batch * columns)))
            for rows, (uneven, packing, a_bytes) in row_shares.items():
                if rows > most:
                    break
                work = compute * waste * uneven + packing + around
                work += a_bytes * times / a_speed
                work += b_bytes * (rows - counted) / speed
                cost = parallel_cost(work, batch * rows * columns)
                best = min(best, (cost, (batch, rows, columns)))
    return best


def _uneven(size: int, parts: int) -> float:
    """How much larger than the mean the largest part is."""
    return -(-size // parts) * parts / size


def _traffic(candidate: Candidate, columns: int) -> float:
    """Cycles for one point of `loops` that depend on how wide a chunk is: partial sums, and packed
    panels that the second-level cache cannot hold.
    """
    if candidate.form == "lanes":
        return 0.0
    panels = -(-candidate.panels.count // columns)
    lanes = panels * candidate.panels.lanes
    item = candidate.item_bytes
    limit = _limit(candidate, panels)
    block = limit if candidate.steps > limit + limit // 2 else candidate.steps
    blocks = -(-candidate.steps // block)
    tiles = candidate.tiles * candidate.panels.count
    results = tiles * candidate.tile_rows * candidate.panels.lanes
    cycles = 2 * item * results * (blocks - 1) / _SUMS_BYTES_PER_CYCLE
    cycles += TILE_OVERHEAD * tiles * (blocks - 1)
    if candidate.pack_b_kind() != "none" or candidate.lane.panel:
        held = lanes * min(block, candidate.steps) * item
        if held > candidate.target.l2_bytes // 2:
            again = candidate.b_bytes / _L3_BYTES_PER_CYCLE
            if candidate.lane.panel:  # the first time is counted, and hidden behind products
                hidden = candidate.compute_cycles() / (candidate.tiles * count(candidate.loops))
                cycles += (candidate.tiles - 1) * max(0.0, again - hidden)
            else:
                cycles += candidate.tiles * again
    elif candidate.streams_b:
        run = lanes * item
        cycles += candidate.b_bytes / MEMORY_BYTES_PER_CYCLE * (_SHORT_RUN / run) ** 2
        if candidate.tile_rows * run > candidate.target.l1_bytes:
            cycles += 2 * item * results * (blocks - 1) / _L3_BYTES_PER_CYCLE
    return cycles


def _a_bytes(candidate: Candidate, rows: int) -> int:
    """What one of so many shares of the rows reads of operand a for one point of `loops`."""
    shape = candidate.shape
    elements = reach(shape.inner) + (reach(shape.rows) - 1) // rows
    elements = min(elements, candidate.steps * count(shape.rows) // rows + 1)
    return elements * shape.a.dtype.itemsize
