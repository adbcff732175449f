"""The search for the cheapest schedule of a contraction.

In: a `Contraction` and a `Target`.  Out: a schedule of one of the four forms; nothing here emits
code.

Every lane dimension and tile that fits the registers is a candidate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product

from braze.codegen.llvm.contraction_shape import (
    ContractionShape,
    Dim,
    Dims,
    contraction_shape,
    count,
)
from braze.codegen.llvm.schedule_blocks import Grid, best_grid, finished
from braze.codegen.llvm.schedule_candidate import WAYS, Candidate
from braze.codegen.llvm.schedule_contraction import Form, Panels, Schedule
from braze.codegen.llvm.schedule_dot import DotSchedule, dot_schedule
from braze.codegen.llvm.schedule_parts import Pieces, fits_registers, parallel_cost
from braze.codegen.llvm.schedule_symbolic import is_symbolic_shape, symbolic_schedule
from braze.codegen.llvm.schedule_winograd import (
    WinogradSchedule,
    symbolic_winograd,
    winograd_schedule,
)
from braze.codegen.llvm.schedule_winograd_gradient import (
    WinogradGradientSchedule,
    winograd_gradient_schedule,
)
from braze.ir.index import LoopVar
from braze.ir.loops import Contraction
from braze.ir.target import Target

Costed = tuple[float, Candidate]
AnySchedule = Schedule | DotSchedule | WinogradSchedule | WinogradGradientSchedule

# Of contractions without symbolic numbers.
WINOGRAD_FORMS = (winograd_schedule, winograd_gradient_schedule)

_MAX_ROWS = 14
_FINALISTS, _NEAR = 4, 1.06  # tiles to compare in chunks, within this much of the best


@lru_cache(maxsize=512)
def schedule(contraction: Contraction, target: Target) -> AnySchedule:
    """The cheapest schedule by the cost model; the same for equal contractions and targets.

    Raises:
        CodegenError: a symbolic contraction has none.
    """
    straight = contraction_shape(contraction)
    if is_symbolic_shape(straight):
        return _symbolic(contraction, straight, target)
    found = _costed(straight, target)
    return _other_form(contraction, straight, target, found[0][0]) or _best(found)


def _symbolic(
    contraction: Contraction, straight: ContractionShape, target: Target
) -> Schedule | WinogradSchedule:
    found: list[Costed] = []

    def best(plain: ContractionShape, fits: Callable[[Candidate], bool]) -> Schedule:
        found.extend(pair for pair in _costed(plain, target) if fits(pair[1]))
        return _best(found)

    plan = symbolic_schedule(straight, best)
    winograd = symbolic_winograd(contraction, target)
    if winograd is not None and winograd.is_better_than(found[0][0]):
        return winograd
    return plan


def _other_form(
    contraction: Contraction, straight: ContractionShape, target: Target, cycles: float
) -> DotSchedule | WinogradSchedule | WinogradGradientSchedule | None:
    """A schedule without tiles of the sum that costs less than so many cycles."""
    if not is_symbolic_shape(straight):
        for winograd in (form(contraction, target) for form in WINOGRAD_FORMS):
            if winograd is not None and winograd.is_better_than(cycles):
                return winograd
    dot = dot_schedule(straight, target)
    return dot if dot is not None and dot.cost() < cycles else None


def _costed(straight: ContractionShape, target: Target) -> list[Costed]:
    """The candidates for a shape and with its operands exchanged, the cheapest first."""
    shapes = (straight, straight.swapped())
    in_panels = [panelled for shape in shapes if (panelled := shape.with_panels()) is not None]
    found = [
        (candidate.cost(), candidate)
        for shape in in_panels
        for candidate in _candidates(shape, target)
    ] or [
        (candidate.cost(), candidate)
        for shape in shapes
        for candidate in _candidates(shape, target)
    ]
    found.sort(key=lambda pair: pair[0])  # stable: the first of equal ones
    return found


def weighed(contraction: Contraction, target: Target) -> float:
    """What a contraction costs in the end, to be compared with the same one in another layout."""
    straight = contraction_shape(contraction)
    found = _costed(straight, target)
    other = _other_form(contraction, straight, target, found[0][0])
    if other is None:
        return _cheapest(found)[0]
    begin = other.begin_cycles() if isinstance(other, DotSchedule) else 0.0
    return parallel_cost(other.cost() + begin, other.chunks)


def _best(found: list[Costed]) -> Schedule:
    """The schedule of one of the cheapest candidates."""
    _, grid, candidate = _cheapest(found)
    return finished(candidate, grid)


def _cheapest(found: list[Costed]) -> tuple[float, Grid, Candidate]:
    """The cheapest in chunks."""
    least = found[0][0]
    # What is nearly as cheap on one thread may be easier to cut into chunks.
    finalists: dict[tuple[int, int], Candidate] = {}
    for cost, candidate in found:
        if cost > least * _NEAR or len(finalists) == _FINALISTS:
            break
        finalists.setdefault((candidate.tile_rows, candidate.panels.vectors), candidate)
    choices = [(*best_grid(candidate), candidate) for candidate in finalists.values()]
    return min(choices, key=lambda choice: choice[0])


# Tiles --------------------------------------------------------------------------------------------


def _candidates(shape: ContractionShape, target: Target) -> list[Candidate]:
    lanes: list[tuple[Form, Dim, Dims]] = []
    held = shape.held
    in_memory = all(guard.of_a for guard in shape.guards)
    in_panels = tuple(dim for dim in shape.columns if dim.panel)
    for dim in in_panels or shape.columns:
        # What is not all in memory cannot be packed, so that its lanes must be neighbours.
        if dim.var in held or not (in_memory or dim.b == 1):
            continue
        others = tuple(d for d in shape.columns if d is not dim)
        lanes.append(("broadcast", dim, (*shape.batch, *others)))
    for dim in shape.batch:
        if (dim.a, dim.b) == (1, 1) and dim.var not in held and not in_panels:
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
    widths = range(1, min(needed, 14) + 1)
    if lane.panel:
        widths = range(lane.panel // width, lane.panel // width + (lane.panel % width == 0))
    for (split, whole), vectors in product(choices, widths):
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
