"""Elementwise kernels that read in another order than they store: through tiles in shared memory.

In: loops around stores whose neighbours lie along one loop, with loads whose neighbours lie along
another.  Out: one launch. A block computes a tile of both loops. It brings what lies the other way
into shared memory first, with neighbouring threads at neighbouring elements, and then goes over the
tile with neighbouring threads at neighbouring results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from braze.codegen.cuda.grid import extent, int_type, is_multiple, quotient, spread
from braze.codegen.cuda.interning import Interner
from braze.codegen.cuda.lanes import emit_flat
from braze.codegen.cuda.statements import loads_of, values_of
from braze.codegen.cuda.text import bare
from braze.codegen.cuda.types import register_type
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Check, Load, Store
from braze.ir.symint import is_symbolic

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit

SIDE = 32
LINES = 8
# Loops shorter than this leave most of a tile empty.
SHORTEST = 16
# Tiles of at most so many loads fit into shared memory.
MOST_TILES = 4


@dataclass(frozen=True, slots=True)
class Crossing:
    """Loads that lie across the results.

    Attributes:
        along: the loop along which results are neighbours.
        across: the loop along which `loads` find theirs.
    """

    along: LoopVar
    across: LoopVar
    loads: tuple[Load, ...]


def crossing_of(loops: Sequence[LoopVar], body: Sequence[Store | Check]) -> Crossing | None:
    """The loads that lie across the results of loops, if there are any that pay."""
    stores = [s for s in body if isinstance(s, Store)]
    if len(stores) != len(body) or any(s.accumulate or s.is_scatter for s in stores):
        return None
    along = _neighbours([s.index for s in stores], loops)
    if along is None:
        return None
    loads = loads_of(value for s in body for value in values_of(s))
    found: dict[LoopVar, list[Load]] = {}
    for load in loads:
        for other in loops:
            if other is not along and _crosses(load.index, other, along):
                found.setdefault(other, []).append(load)
    across = max(found, key=lambda v: len(found[v]), default=None)
    if across is None or not 0 < len(found[across]) <= MOST_TILES:
        return None
    return Crossing(along, across, tuple(found[across]))


def _neighbours(indices: Sequence[Index], loops: Sequence[LoopVar]) -> LoopVar | None:
    """The loop along which all indices go up by one."""
    for variable in loops:
        if _is_long(variable.extent) and all(i.coefficient(variable) == 1 for i in indices):
            return variable
    return None


def _crosses(index: Index, across: LoopVar, along: LoopVar) -> bool:
    hidden = {
        v
        for atom, _ in index.terms
        if not isinstance(atom, LoopVar)
        for v in Index.of(atom).variables()
    }
    if not _is_long(across.extent) or {across, along} & hidden:
        return False
    return index.coefficient(across) == 1 and _is_long(abs(index.coefficient(along)))


def _is_long(size: int) -> bool:
    """Is a loop long enough? What depends on sizes that calls choose mostly is."""
    return size >= SHORTEST or is_symbolic(size)


def emit_transposed(
    loops: list[LoopVar],
    body: Sequence[Store | Check],
    crossing: Crossing,
    unit: Unit,
    suffix: str = "",
) -> None:
    """A launch that runs stores at every point of the loops."""
    along, across = crossing.along, crossing.across
    rest = [v for v in loops if v is not along and v is not across]
    tiles = [quotient(v.extent, SIDE) for v in (along, across)]
    made = unit.writer(SIDE * LINES)
    made.has_barriers = True
    w = made.writer
    other = LoopVar("rest", extent(rest))
    replacements = {**spread(Index.of(other), rest)}
    rewriting = Interner().rewriting(replacements)
    statements = [rewriting.flat(statement) for statement in body]
    loads = [rewriting.expr(load) for load in crossing.loads]
    first, second, both = map(made.number, (*tiles, tiles[0] * tiles[1]))
    w.line(f"const int first_along = blockIdx.x % {first} * {SIDE};")
    w.line(f"const int first_across = blockIdx.x / {first} % {second} * {SIDE};")
    type = int_type(other.extent)
    w.line(f"const {type} rest = blockIdx.x / {both};")
    for number, load in enumerate(loads):
        item = register_type(load.dtype)
        w.line(f"__shared__ {item} tile{number}[{SIDE}][{SIDE + 1}];")
    outside = made.expressions({other: "rest"})
    inside = " && ".join(
        f"{name} < {made.number(v.extent)}"
        for name, v in (("along", along), ("across", across))
        if not is_multiple(v.extent, SIDE)
    )
    turns = SIDE // LINES
    with w.unrolled("s", turns):
        w.line(f"const int line = threadIdx.y + {LINES} * s;")
        w.line("const int along = first_along + line, across = first_across + threadIdx.x;")
        with w.block(f"if ({inside})" if inside else ""):
            emitter = outside.fork({along: "along", across: "across"})
            emitter.plan(loads)
            for number, load in enumerate(loads):
                w.line(f"tile{number}[line][threadIdx.x] = {bare(emitter.value(load))};")
    w.line("__syncthreads();")
    with w.unrolled("s", turns):
        w.line(f"const int line = threadIdx.y + {LINES} * s;")
        w.line("const int along = first_along + threadIdx.x, across = first_across + line;")
        with w.block(f"if ({inside})" if inside else ""):
            emitter = outside.fork({along: "along", across: "across"})
            for number, load in enumerate(loads):
                emitter.provide(load, f"tile{number}[threadIdx.x][line]")
            emit_flat(made, emitter, statements)
    blocks = tiles[0] * tiles[1] * other.extent
    unit.launch(made, (blocks, 1, 1), (SIDE, LINES, 1), suffix=suffix)
