"""Elementwise kernels: threads step over the elements, each computing some neighbours at a time.

In: perfectly nested loops around stores and checks.  Out: one launch. A thread loads all that it
needs before it stores anything, so a result may lie where an operand of the same element does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from braze.codegen.cuda.grid import (
    ENOUGH_THREADS,
    THREADS,
    WARP,
    blocks_for,
    each_of_grid,
    extent,
    is_multiple,
    power_of_two,
    spread,
)
from braze.codegen.cuda.interning import Interner
from braze.codegen.cuda.lanes import Flat, emit_lanes
from braze.codegen.cuda.packs import WIDTHS, fits
from braze.codegen.cuda.transposed import crossing_of, emit_transposed
from braze.ir.index import Index, LoopVar
from braze.ir.symint import is_symbolic

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit


def emit_pointwise(
    loops: list[LoopVar], body: Sequence[Flat], unit: Unit, suffix: str = ""
) -> None:
    """A launch that runs stores and checks at every point of the loops."""
    size = extent(loops)
    if size == 0 or not body:
        return
    crossing = crossing_of(loops, body)
    if crossing is not None:
        emit_transposed(loops, body, crossing, unit, suffix)
        return
    width = unit.decide(lambda: _width(loops, body, unit, size))
    count = size // width
    threads = unit.decide(lambda: min(THREADS, max(WARP, power_of_two(count))))
    blocks = blocks_for(count, threads)
    made = unit.writer(threads)
    point = LoopVar("i", count)
    lane = LoopVar("l", width)
    statements = _statements(loops, body, point, lane)
    head = each_of_grid(count, made)
    if not is_symbolic(count) and blocks * threads >= count:  # each thread has one turn
        head = ""
        made.writer.line("const int i = blockIdx.x * blockDim.x + threadIdx.x;")
        if blocks * threads > count:
            head = f"if (i < {count})"
    if head:
        with made.writer.block(head):
            emit_lanes(made, made.expressions({point: "i"}), statements, lane)
    else:
        emit_lanes(made, made.expressions({point: "i"}), statements, lane)
    unit.launch(made, (blocks, 1, 1), (threads, 1, 1), suffix=suffix)


def _statements(
    loops: list[LoopVar], body: Sequence[Flat], point: LoopVar, lane: LoopVar
) -> list[Flat]:
    """The body at a thread's point and lane, in place of the loops' variables."""
    flat = Index.of(point) * lane.extent + Index.of(lane)
    rewriting = Interner().rewriting(spread(flat, loops))
    return [rewriting.flat(statement) for statement in body]


def _width(loops: list[LoopVar], body: Sequence[Flat], unit: Unit, size: int) -> int:
    """How many neighbours a thread computes."""
    last = loops[-1].extent if loops else 1
    made = unit.writer(THREADS)
    for width in WIDTHS:
        if not is_multiple(last, width) or size // width < ENOUGH_THREADS // 8:
            continue
        point, lane = LoopVar("i", size // width), LoopVar("l", width)
        if fits(_statements(loops, body, point, lane), lane, width, made.alignment):
            return width
    return 1
