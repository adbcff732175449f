"""Distinct elements, with PyTorch's signatures.

These are sync points: the sizes of the results depend on values. The results themselves are
computed by compiled operations.
"""

from __future__ import annotations

import math
from typing import Any

from braze.functions.creation import arange, zeros
from braze.functions.movement import cat, expand, movedim, narrow, reshape
from braze.functions.pointwise import ne
from braze.functions.promotion import scalar
from braze.functions.sorting import sort
from braze.functions.tables import places_in, rows_at, sums_at
from braze.ir.dtypes import bool_, i64
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements, ascending; or the distinct slices along a dimension. A sync point.

    Args:
        sorted: the result is in order, which is so in any case.
        return_inverse: also give, for each element (or slice), its number among the distinct ones.
        return_counts: also give how often each occurs.

    Returns:
        The distinct elements, or a tuple with the inverse and the counts (int64) asked for.
    """
    if dim is None:
        values, order = sort(reshape(input, (-1,)), 0)
        found = _distinct(values, order, return_inverse, return_counts, input.shape)
        return found[0] if len(found) == 1 else found
    rows, d = _slices("unique", input, dim)
    order = _row_order(_flat_rows(rows))
    found = _distinct(rows_at(rows, order), order, return_inverse, return_counts, (rows.shape[0],))
    distinct = movedim(found[0], 0, d)
    return distinct if len(found) == 1 else (distinct, *found[1:])


def unique_consecutive(
    input: Tensor,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The elements (or slices along a dimension) without those equal to their predecessor.

    A sync point. See `unique` for the arguments and results.
    """
    if dim is None:
        flat = reshape(input, (-1,))
        found = _distinct(flat, None, return_inverse, return_counts, input.shape)
        return found[0] if len(found) == 1 else found
    rows, d = _slices("unique_consecutive", input, dim)
    found = _distinct(rows, None, return_inverse, return_counts, (rows.shape[0],))
    distinct = movedim(found[0], 0, d)
    return distinct if len(found) == 1 else (distinct, *found[1:])


def _slices(name: str, input: Tensor, dim: int) -> tuple[Tensor, int]:
    """The slices along a dimension as the first dimension, and the dimension's number."""
    d = normalise_dimension(name, dim, input.ndim)
    x = reshape(input, (1,)) if input.ndim == 0 else input
    if 0 in (size for axis, size in enumerate(x.shape) if axis != d):
        raise RuntimeError(
            "There are 0 sized dimensions, and they aren't selected, so unique cannot be applied: "
            f"{name}() of size {list(input.shape)} along {d}"
        )
    return movedim(x, d, 0), d


def _flat_rows(slices: Tensor) -> Tensor:
    """Slices [n, ...] as rows [n, m]."""
    return reshape(slices, (slices.shape[0], math.prod(slices.shape[1:])))


def _row_order(rows: Tensor) -> Tensor:
    """The positions of rows [n, m] in lexicographic order, stable.

    The elements become their ranks in their columns. The ranks of neighbouring columns are then
    joined, and become ranks again, until one column is left.
    """
    count = rows.shape[0]
    ranks = rows.t()
    while True:
        ordered, order = sort(ranks, -1)
        if ranks.shape[0] == 1:
            return reshape(order, (count,))
        ranks = places_in(ordered, ranks, False)
        if ranks.shape[0] % 2:
            ranks = cat([ranks, zeros((1, count), dtype=i64)])
        pairs = reshape(ranks, (ranks.shape[0] // 2, 2, count))
        ranks = pairs.select(1, 0) * count + pairs.select(1, 1)


def _distinct(
    items: Tensor, order: Tensor | None, inverse: bool, counts: bool, shape: tuple[int, ...]
) -> tuple[Tensor, ...]:
    """The first of each run of equal items, the run that each belongs to, the runs' lengths.

    Args:
        items: elements [n], or slices [n, ...].
        order: where the items were before they were sorted (None: in this order).
        shape: of the inverse.
    """
    n = items.shape[0]
    if n == 0:
        chosen = zip(
            (items, zeros(shape, dtype=i64), zeros(0, dtype=i64)),
            (True, inverse, counts),
            strict=True,
        )
        return tuple(result for result, is_wanted in chosen if is_wanted)
    differs = ne(narrow(items, 0, 1, n - 1), narrow(items, 0, 0, n - 1))
    if items.ndim > 1:
        differs = _flat_rows(differs).any(1)
    first = cat([expand(scalar(True, bool_), (1,)), differs])
    # Where runs begin: the positions of True, in order.
    places = sort(first, 0, descending=True).indices
    total = int(first.sum())
    starts = narrow(places, 0, 0, total)
    results = [rows_at(items, starts)]
    if inverse:
        run = places_in(starts, arange(n), True) - 1
        if order is not None:
            run = sums_at(order, run, n)
        results.append(reshape(run, shape))
    if counts:
        ends = cat([narrow(starts, 0, 1, total - 1), expand(scalar(n, i64), (1,))])
        results.append(ends - starts)
    return tuple(results)


METHODS = {function.__name__: function for function in (unique, unique_consecutive)}
