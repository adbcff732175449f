"""Reductions whose groups data decide: of rows with one index, of neighbours, of bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from braze import return_types
from braze.capture import call_of
from braze.functions.creation import arange, full, ones, zeros
from braze.functions.movement import clone, expand, narrow, reshape, stack
from braze.functions.pointwise import bitwise_and, div, eq, floor_divide, remainder, where
from braze.functions.promotion import cast
from braze.functions.reductions import sum
from braze.functions.scans import cumsum
from braze.functions.scattering import checked_rows, scatter_reduce
from braze.functions.searching import bin_edges, bins_of, searchsorted
from braze.functions.tables import sums_at
from braze.ir.dtypes import bool_, i64
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor, apply


def index_reduce(
    input: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
) -> Tensor:
    """`input` with source[i] combined into row index[i] (of dimension `dim`).

    Args:
        reduce: "prod", "mean", "amax" or "amin".
        include_self: whether the rows of `input` that are written to take part.

    Raises:
        RuntimeError: shapes or dtypes do not fit, or another reduction. IndexError: the index is
            not a vector of the right length; or, at the next sync, is out of range.
    """
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(
            "index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got "
            f"{reduce}."
        )
    x, d, places, rows = checked_rows("index_reduce", input, dim, index, source)
    if not rows.numel():
        return clone(input)
    column = [-1 if axis == d else 1 for axis in range(x.ndim)]
    spread = expand(reshape(places, column), rows.shape)
    result = scatter_reduce(x, d, spread, rows, reduce, include_self=include_self)
    return reshape(result, input.shape)


_STARTS = {"sum": 0.0, "mean": math.nan, "prod": 1.0, "max": -math.inf, "min": math.inf}
_LONG = {"amax": "max", "amin": "min"}


def segment_reduce(
    data: Tensor,
    reduce: str,
    *,
    lengths: Tensor | None = None,
    indices: Tensor | None = None,
    offsets: Tensor | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: float | None = None,
) -> Tensor:
    """Reduce neighbouring elements of dimension `axis`, segment by segment.

    Args:
        reduce: "sum", "mean", "prod", "max" or "min".
        lengths: of the segments, [..., segments] with the dimensions of `data` before `axis`.
        offsets: in place of `lengths`, where the segments start, and the end of the last.
        unsafe: do not check that the lengths sum to the size of the dimension, which is a sync
            point.
        initial: takes part in each segment, and is the result of an empty one; without it that is
            0, nan, 1 or an infinity.

    Raises:
        RuntimeError: neither lengths nor offsets, another reduction, a dtype that is not
            floating-point, or lengths that do not fit.
    """
    kind = _LONG.get(reduce, reduce)
    if kind not in _STARTS:
        raise RuntimeError(
            f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}"
        )
    if indices is not None:
        raise RuntimeError("segment_reduce(): indices based reduction is not supported yet.")
    if not data.dtype.is_floating_point:
        raise NotImplementedError(f'"segment_reduce" not implemented for {data.dtype!r}')
    if offsets is not None:
        last = offsets.ndim - 1
        count = offsets.shape[last] - 1
        lengths = narrow(offsets, last, 1, count) - narrow(offsets, last, 0, count)
    elif lengths is None:
        raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined.")
    d = normalise_dimension("segment_reduce", axis, data.ndim)
    if lengths.ndim != d + 1 or tuple(lengths.shape[:d]) != tuple(data.shape[:d]):
        raise RuntimeError(
            f"segment_reduce(): lengths of shape {list(lengths.shape)} do not fit data of shape "
            f"{list(data.shape)} along dimension {d}"
        )
    if not unsafe and bool((sum(lengths, d) != data.shape[d]).any()):
        raise RuntimeError(
            "segment_reduce(): Expected all rows of lengths along axis to sum to "
            "data.size(lengths.dim()-1) when !unsafe."
        )
    return _segments(data, kind, cast(lengths, i64), d, initial)


def _segments(data: Tensor, kind: str, lengths: Tensor, dim: int, initial: float | None) -> Tensor:
    """The reduction, by a scatter of each element to its segment."""
    batch, tail = tuple(data.shape[:dim]), tuple(data.shape[dim + 1 :])
    size, count = data.shape[dim], lengths.shape[dim]
    ends = cumsum(lengths, dim)
    ramp = expand(arange(size, dtype=i64), (*batch, size))
    own = searchsorted(ends, clone(ramp), right=True)
    spread = expand(reshape(own, (*batch, size, *(1,) * len(tail))), data.shape)
    neutral = {"sum": 0.0, "mean": 0.0, "prod": 1.0}.get(kind, _STARTS[kind])
    start = neutral if initial is None else float(initial)
    shape = (*batch, count, *tail)
    table = full(shape, start, dtype=data.dtype)
    how = {"max": "amax", "min": "amin", "mean": "sum"}.get(kind, kind)
    total = scatter_reduce(table, dim, spread, data, how) if data.numel() else table
    if kind != "mean":
        return total
    wide = cast(reshape(lengths, (*batch, count, *(1,) * len(tail))), data.dtype)
    if initial is None:
        return div(total, wide)
    return where(eq(wide, 0), start, div(total, wide))


def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """As `nonzero`, with a size that is given: [size, rank]. What there is more is left out, what
    there is less is filled. No sync point.

    Raises:
        RuntimeError: the size is negative.
    """
    if size < 0:
        raise RuntimeError(f"nonzero_static: 'size' must be an non-negative integer, given {size}")
    shape = tuple(input.shape)
    if not shape or not input.numel() or not size:
        return full((size, len(shape)), fill_value, dtype=i64)
    hits = reshape(cast(input, bool_), (-1,))
    rank = cumsum(cast(hits, i64), 0) - 1
    # What does not count is written to a place of its own behind the others.
    place = where(bitwise_and(hits, rank < size), rank, size)
    flat = arange(hits.numel(), dtype=i64)
    empty = full((size + 1,), -1, dtype=i64)
    found = narrow(apply(call_of(op_named("index_put"), dim=0), empty, place, flat), 0, 0, size)
    missing = found < 0
    columns = []
    for n in reversed(shape):
        columns.append(where(missing, fill_value, remainder(found, n)))
        found = floor_divide(found, n)
    return stack(columns[::-1], 1)


def histogramdd(
    input: Tensor,
    bins: int | Sequence[int] | Sequence[Tensor],
    *,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> return_types.histogramdd:
    """How many points, or what weight, lies in each cell of a grid, and the edges of its bins.

    Args:
        input: points, [..., dimensions].
        bins: for each dimension the number of bins of equal width, or a tensor of their edges; or
            one number for all. A bin holds its left edge; the last one holds its right edge too.
        range: the outermost edges, two numbers for each dimension; by default the least and the
            largest coordinate.
        weight: what each point counts, of the input's dtype and its shape without the last
            dimension.
        density: divide by the cells' volumes and by the total.

    Raises:
        RuntimeError: dtypes or shapes do not fit, or bins or range are not right.
    """
    dtype = input.dtype
    if not dtype.is_floating_point:
        raise RuntimeError(f"histogramdd(): needs a floating-point input, given {dtype!r}")
    if input.ndim < 2:
        raise RuntimeError("histogramdd(): input tensor should have at least 2 dimensions")
    rank = input.shape[-1]
    chosen: list[Any] = [bins] * rank if isinstance(bins, int) else list(bins)
    if len(chosen) != rank:
        raise RuntimeError(
            f"histogramdd(): expected {rank} sequences of bin edges for a {rank}-dimensional "
            f"histogram but got {len(chosen)}"
        )
    if range is not None and len(range) != 2 * rank:
        raise RuntimeError(
            f"histogramdd(): for a {rank}-dimensional histogram range should have {2 * rank} "
            f"elements, but got {len(range)}"
        )
    if weight is not None and (
        tuple(weight.shape) != tuple(input.shape[:-1]) or weight.dtype is not dtype
    ):
        raise RuntimeError(
            "histogramdd(): if weight tensor is provided it should have the same shape as the "
            "input without its last dimension, and its dtype, given "
            f"{weight.dtype!r}{list(weight.shape)}"
        )
    points = reshape(input.detach(), (-1, rank))
    edges, place, inside, counts = [], zeros(points.shape[0], dtype=i64), None, []
    for d, own in enumerate(chosen):
        x = points.select(1, d)
        limits = None if range is None else (float(range[2 * d]), float(range[2 * d + 1]))
        edge = bin_edges(x, own, limits)
        count = edge.numel() - 1
        found = bins_of(edge, x)
        valid = found < count
        inside = valid if inside is None else bitwise_and(inside, valid)
        place = place * count + found
        edges.append(edge)
        counts.append(count)
    cells = math.prod(counts)
    place = place if inside is None else where(inside, place, cells)
    amounts = ones(place.shape, dtype=dtype) if weight is None else reshape(weight.detach(), (-1,))
    hist = reshape(narrow(sums_at(place, amounts, cells + 1), 0, 0, cells), tuple(counts))
    if density:
        hist = hist / hist.sum()
        for d, (edge, count) in enumerate(zip(edges, counts, strict=True)):
            widths = narrow(edge, 0, 1, count) - narrow(edge, 0, 0, count)
            hist = hist / reshape(widths, [-1 if axis == d else 1 for axis, _ in enumerate(counts)])
    return return_types.histogramdd(hist, tuple(edges))


METHODS = {"index_reduce": index_reduce, "nonzero_static": nonzero_static}
