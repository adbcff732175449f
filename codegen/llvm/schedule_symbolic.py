"""Schedules of contractions some of whose extents or strides are symbolic.

In: a `ContractionShape` with `SymInt`s.  Out: the `Schedule` that its sample would get, with the
symbolic dimensions put back. What is laid out in registers has fixed sizes: lanes, and the rows of
a tile. So symbolic extents can be rows, cut into as many tiles as there are; the sum, in blocks of
a fixed size of which the last is shorter; or loops around all that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from braze.codegen.llvm.contraction_shape import (
    ContractionShape,
    Dim,
    Dims,
    contraction_shape,
    count,
    indices_of,
)
from braze.codegen.llvm.kernel import CodegenError
from braze.codegen.llvm.schedule_candidate import Candidate
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.schedule_parts import OpenPieces, Pieces
from braze.ir.index import LoopVar
from braze.ir.loops import Contraction
from braze.ir.symint import is_symbolic

# Terms of a block of a symbolic sum, at least: there may be far more than in the sample.
_FEWEST_TERMS = 256

Best = Callable[[ContractionShape, Callable[[Candidate], bool]], Schedule]


def is_symbolic_shape(shape: ContractionShape) -> bool:
    """Whether the schedule has to serve other sizes than the sample's: whether any number in it, or
    in an index of the epilogue, is symbolic."""
    extents = [d.extent for d in (*shape.outer, *shape.inner)]
    return is_symbolic(*extents) or has_symbolic_addresses(shape)


def has_symbolic_addresses(shape: ContractionShape) -> bool:
    """Whether a number in the operands' addresses or in the epilogue is symbolic."""
    numbers = [n for d in (*shape.outer, *shape.inner) for n in (d.a, d.b)]
    numbers += [shape.a_offset, shape.b_offset]
    bounds = [guard.bound for guard in shape.guards]
    for store in shape.stores:
        bounds += store.guard
        for index in indices_of(store):
            numbers += [index.constant, *(factor for _, factor in index.terms)]
    for bound in bounds:
        numbers += [bound.low, bound.high, bound.index.constant]
    return is_symbolic(*numbers)


def symbolic_schedule(shape: ContractionShape, best: Best) -> Schedule:
    """The schedule of a symbolic contraction.

    Args:
        best: gives the best schedule of a shape without symbols among the candidates that fit.

    Raises:
        CodegenError: no way to compute it has fixed lanes and tiles.
    """
    sampled = replace(
        shape,
        batch=_sampled(shape.batch),
        rows=_sampled(shape.rows),
        columns=_sampled(shape.columns),
        inner=_sampled(shape.inner),
        a_offset=int(shape.a_offset),
        b_offset=int(shape.b_offset),
    )
    symbolic = {d.var.name for d in (*shape.outer, *shape.inner) if is_symbolic(d.extent)}

    def fits(candidate: Candidate) -> bool:
        return not symbolic & {dim.var.name for dim in (candidate.lane, *candidate.whole)}

    try:
        plan = best(sampled, fits)
    except IndexError:
        raise CodegenError(f"[{shape.name}] every lane dimension is symbolic: {shape}") from None
    return _opened(plan, shape)


def for_other_sample(plan: Schedule, contraction: Contraction) -> Schedule:
    """The schedule of a symbolic contraction with the numbers of another sample: the same
    decisions."""
    return _opened(plan, contraction_shape(contraction))


def _sampled(dims: Dims) -> Dims:
    return tuple(
        Dim(LoopVar(dim.var.name, int(dim.extent)), int(dim.a), int(dim.b)) for dim in dims
    )


def _in_the_form_of(planned: ContractionShape, straight: ContractionShape) -> ContractionShape:
    """A shape with its operands exchanged, and its columns in panels, if the planned one has."""

    def names(shape: ContractionShape) -> tuple[list[str], list[str]]:
        return [dim.var.name for dim in shape.rows], [dim.var.name for dim in shape.columns]

    for shape in (straight, straight.swapped()):
        for form in (shape, shape.with_panels()):
            if form is not None and names(form) == names(planned):
                return form
    raise CodegenError(f"[{straight.name}] is another contraction for other sizes: {straight}")


def _opened(plan: Schedule, straight: ContractionShape) -> Schedule:
    """A sample's schedule, with the dimensions of the symbolic shape."""
    shape = _in_the_form_of(plan.shape, straight)
    own = {dim.var.name: dim for dim in (*shape.outer, *shape.inner)}

    def opened(dims: Dims) -> Dims:
        return tuple(own.get(dim.var.name, dim) for dim in dims)

    (split,) = opened((plan.split,))
    pieces: Pieces | OpenPieces = plan.pieces
    if is_symbolic(split.extent):
        pieces = OpenPieces(split.extent, plan.pieces.size)
    outer_inner, inner, block = opened(plan.outer_inner), opened(plan.inner), plan.block
    at = next((at for at, dim in enumerate(inner) if is_symbolic(dim.extent)), None)
    if at is not None:
        # What is outside of it goes around the blocks, of which it is then the first dimension.
        outer_inner, inner = outer_inner + inner[:at], inner[at:]
        block = max(block if at == 0 else 1, _FEWEST_TERMS // count(inner[1:]))
        if any(is_symbolic(dim.extent) for dim in inner[1:]):
            raise CodegenError(f"[{shape.name}] two loops of the sum are symbolic: {shape}")
    return replace(
        plan,
        shape=shape,
        lane=opened((plan.lane,))[0],
        loops=opened(plan.loops),
        outer_rows=opened(plan.outer_rows),
        split=split,
        whole=opened(plan.whole),
        pieces=pieces,
        outer_inner=outer_inner,
        inner=inner,
        block=block,
    )
