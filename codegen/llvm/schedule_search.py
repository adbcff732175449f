"""The search for the cheapest schedule of a contraction.

In: a `Contraction` and a `Target`.  Out: a `Schedule` or a `DotSchedule`; nothing here emits code.

Every lane dimension and tile that fits the registers is a candidate.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

from braze.codegen.llvm.contraction_shape import (
    ContractionShape,
    Dim,
    Dims,
    contraction_shape,
    count,
)
from braze.codegen.llvm.schedule_blocks import best_grid, finished
from braze.codegen.llvm.schedule_candidate import WAYS, Candidate
from braze.codegen.llvm.schedule_contraction import Form, Panels, Schedule
from braze.codegen.llvm.schedule_dot import DotSchedule, dot_schedule
from braze.codegen.llvm.schedule_parts import Pieces, fits_registers
from braze.codegen.llvm.schedule_symbolic import is_symbolic_shape, symbolic_schedule
from braze.ir.index import LoopVar
from braze.ir.loops import Contraction
from braze.ir.target import Target

Costed = tuple[float, Candidate]

_MAX_ROWS = 14
_FINALISTS, _NEAR = 4, 1.06  # tiles to compare in chunks, within this much of the best


@lru_cache(maxsize=512)
def schedule(contraction: Contraction, target: Target) -> Schedule | DotSchedule:
    """The cheapest schedule by the cost model; the same for equal contractions and targets.

    Raises:
        CodegenError: a symbolic contraction has none.
    """
    straight = contraction_shape(contraction)
    if is_symbolic_shape(straight):
        return symbolic_schedule(
            straight,
            lambda plain, fits: _best([pair for pair in _costed(plain, target) if fits(pair[1])]),
        )
    found = _costed(straight, target)
    dot = dot_schedule(straight, target)
    if dot is not None and dot.cost() < found[0][0]:
        return dot
    return _best(found)


def _costed(straight: ContractionShape, target: Target) -> list[Costed]:
    """The candidates for a shape and with its operands exchanged, the cheapest first."""
    found = [
        (candidate.cost(), candidate)
        for shape in (straight, straight.swapped())
        for candidate in _candidates(shape, target)
    ]
    found.sort(key=lambda pair: pair[0])  # stable: the first of equal ones
    return found


def _best(found: list[Costed]) -> Schedule:
    """The schedule of one of the cheapest candidates."""
    least = found[0][0]
    # What is nearly as cheap on one thread may be easier to cut into chunks.
    finalists: dict[tuple[int, int], Candidate] = {}
    for cost, candidate in found:
        if cost > least * _NEAR or len(finalists) == _FINALISTS:
            break
        finalists.setdefault((candidate.tile_rows, candidate.panels.vectors), candidate)
    choices = [(*best_grid(candidate), candidate) for candidate in finalists.values()]
    _, grid, candidate = min(choices, key=lambda choice: choice[0])
    return finished(candidate, grid)


# Tiles --------------------------------------------------------------------------------------------


def _candidates(shape: ContractionShape, target: Target) -> list[Candidate]:
    lanes: list[tuple[Form, Dim, Dims]] = []
    held = shape.held
    in_memory = all(guard.of_a for guard in shape.guards)
    for dim in shape.columns:
        # What is not all in memory cannot be packed, so that its lanes must be neighbours.
        if dim.var in held or not (in_memory or dim.b == 1):
            continue
        others = tuple(d for d in shape.columns if d is not dim)
        lanes.append(("broadcast", dim, (*shape.batch, *others)))
    for dim in shape.batch:
        if (dim.a, dim.b) == (1, 1) and dim.var not in held:
            others = tuple(d for d in shape.batch if d is not dim)
            lanes.append(("lanes", dim, (*others, *shape.columns)))
    if not lanes:
        one = Dim(LoopVar("lane", 1), 0, 0)
        lanes.append(("broadcast", one, (*shape.batch, *shape.columns)))
    return [
        candidate
        for form, lane, loops in lanes
        for candidate in _tiles(shape, target, form, lane, loops)
    ]


def _tiles(
    shape: ContractionShape, target: Target, form: Form, lane: Dim, loops: Dims
) -> list[Candidate]:
    width = target.vector_lanes(shape.dtype.itemsize)
    while width > 2 and lane.extent <= width // 2 and width * shape.dtype.bits > 128:
        width //= 2
    free = tuple(dim for dim in shape.rows if dim.var not in shape.held)
    rows = free or (Dim(LoopVar("row", 1), 0, 0),)
    alone = tuple(dim for dim in shape.rows if dim not in free)
    choices: list[tuple[Dim, Dims]] = [(split, ()) for split in rows]
    choices += [
        (split, (whole,))
        for split in rows
        for whole in rows
        if whole is not split and whole.extent <= 8
    ]
    found = []
    needed = -(-lane.extent // width)
    for (split, whole), vectors in product(choices, range(1, min(needed, 14) + 1)):
        others = tuple(dim for dim in rows if dim is not split and dim not in whole)
        others = tuple(dim for dim in shape.rows if dim in alone or dim in others)
        unit = count(whole)
        size = 0
        held = vectors if form == "lanes" else None
        while (size + 1) * unit <= _MAX_ROWS and size < split.extent:
            if not fits_registers((size + 1) * unit, vectors, held, target):
                break
            size += 1
        if size == 0:
            continue
        panels = Panels(lane.extent, width, vectors)
        for most in {size, min(size, max(1, WAYS // unit))}:
            pieces = Pieces(split.extent, -(-split.extent // most))
            found.append(
                Candidate(
                    shape, target, form, lane, loops, others, split, whole, pieces, panels
                )
            )  # fmt: skip
    return found
