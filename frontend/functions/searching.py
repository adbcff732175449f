"""Search, counting and distinct elements, with PyTorch's signatures.

`unique`, `unique_consecutive` and `bincount` are sync points: the sizes of their results depend on
values. The results themselves are computed by compiled operations.
"""

from __future__ import annotations

import math
from typing import Any

from braze.capture import call_of
from braze.functions.creation import arange, zeros
from braze.functions.movement import cat, expand, movedim, narrow, reshape
from braze.functions.pointwise import bitwise_and, ne, where
from braze.functions.promotion import cast, result_type, scalar
from braze.functions.sorting import sort
from braze.ir.dtypes import bool_, f32, f64, i32, i64
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor, apply

_SEARCH = op_named("searchsorted")
_TAKE, _INDEX_ADD = call_of(op_named("take"), dim=0), call_of(op_named("index_add"), dim=0)


def _places(sequence: Tensor, values: Tensor, right: bool) -> Tensor:
    return apply(call_of(_SEARCH, right=right), sequence, values)  # type: ignore[no-any-return]


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """The rows that an index in range names."""
    return apply(_TAKE, table, index)  # type: ignore[no-any-return]


# Search -------------------------------------------------------------------------------------------


def searchsorted(
    sorted_sequence: Tensor,
    input: Tensor | float,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where each value would have to be inserted to keep a sequence ascending.

    Args:
        sorted_sequence: of one dimension, or with the leading dimensions of the values; ascending
            in its last dimension.
        out_int32: the result is int32 instead of int64.
        right: behind equal elements (side="right") instead of before them.
        sorter: indices that sort the sequence, where it is not sorted itself.

    Raises:
        RuntimeError: the shapes do not fit, or `side` contradicts `right`.
    """
    if side not in (None, "left", "right"):
        raise RuntimeError(f"searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError(
            "searchsorted(): side and right can't be set to opposites, got side of left while "
            "right was True"
        )
    if sorted_sequence.ndim == 0:
        raise RuntimeError(
            "searchsorted(): boundaries tensor should have positive dimension, but got 0 dimension"
        )
    if sorter is not None:
        if sorter.shape != sorted_sequence.shape:
            raise RuntimeError(
                "searchsorted(): boundary and sorter must have the same size, but got boundary "
                f"tensor {list(sorted_sequence.shape)} and got sorter tensor {list(sorter.shape)}"
            )
        along = call_of(op_named("take_along"), dim=sorter.ndim - 1)
        sorted_sequence = apply(along, sorted_sequence, sorter)
    dtype = result_type(sorted_sequence, input)
    values = cast(input, dtype) if isinstance(input, Tensor) else scalar(input, dtype)
    if sorted_sequence.ndim > 1 and sorted_sequence.shape[:-1] != values.shape[:-1]:
        raise RuntimeError(
            "searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions "
            "of boundaries tensor and input value tensor must match, but we got boundaries tensor "
            f"{list(sorted_sequence.shape)} and input value tensor {list(values.shape)}"
        )
    found = _places(cast(sorted_sequence, dtype), values, right or side == "right")
    return cast(found, i32) if out_int32 else found


def bucketize(
    input: Tensor | float, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The number of the bucket, between ascending boundaries, that each value belongs to.

    Args:
        right: a value equal to a boundary belongs above it.

    Raises:
        RuntimeError: the boundaries do not have one dimension.
    """
    if boundaries.ndim != 1:
        raise RuntimeError(
            f"bucketize(): boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})"
        )
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def isin(
    elements: Tensor | float,
    test_elements: Tensor | float,
    *,
    assume_unique: bool = False,
    invert: bool = False,
) -> Tensor:
    """Whether each element is one of the test elements, as bool. nan equals nothing.

    Args:
        assume_unique: accepted; nothing depends on it.
        invert: whether it is none of them instead.

    Raises:
        TypeError: both are numbers.
    """
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor):
        raise TypeError("isin(): one of elements and test_elements must be a Tensor")
    dtype = result_type(elements, test_elements)
    x, tests = (
        cast(given, dtype) if isinstance(given, Tensor) else scalar(given, dtype)
        for given in (elements, test_elements)
    )
    if tests.numel() == 0:
        found = zeros(x.shape, dtype=bool_)
    else:
        ordered = sort(reshape(tests, (-1,))).values
        place = _places(ordered, x, False).clamp(max=tests.numel() - 1)
        found = _rows(ordered, place) == x
    return ~found if invert else found


# Counting -----------------------------------------------------------------------------------------


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each number 0, 1, ... occurs, or the sum of its weights. A sync point.

    Returns:
        int64 counts; sums of float32 weights are float32, of any others float64.

    Raises:
        RuntimeError: the input is not of one dimension, not of integers, or has negative ones; the
            weights have another size; minlength is negative.
    """
    if input.ndim != 1 or not input.dtype.is_integer:
        raise RuntimeError(
            "bincount only supports 1-d non-negative integral inputs, given "
            f"{input.dtype!r}{list(input.shape)}"
        )
    if minlength < 0:
        raise RuntimeError(f"minlength should be >= 0, given {minlength}")
    if weights is not None and weights.shape != input.shape:
        raise RuntimeError(
            "weights should be 1-d and have the same length as input, given "
            f"{list(weights.shape)} and {list(input.shape)}"
        )
    numbers = cast(input, i64)
    size = minlength
    if input.numel():
        lowest, highest = numbers.amin(), numbers.amax()
        if int(lowest) < 0:
            raise RuntimeError(
                f"bincount only supports 1-d non-negative integral inputs, given {int(lowest)}"
            )
        size = max(size, int(highest) + 1)
    dtype = i64 if weights is None else f32 if weights.dtype is f32 else f64
    if input.numel() == 0:
        return zeros(size, dtype=dtype)
    amounts = expand(scalar(1, i64), numbers.shape) if weights is None else cast(weights, dtype)
    return _sums(numbers, amounts, size)


def _sums(places: Tensor, amounts: Tensor, size: int) -> Tensor:
    """The sum of the amounts at each of `size` places, all in range."""
    empty = zeros(size, dtype=amounts.dtype)
    return apply(_INDEX_ADD, empty, places, amounts)  # type: ignore[no-any-return]


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` equal parts of [min, max], in the input's dtype.

    Elements outside are not counted. If the limits are equal, the least and the largest element
    take their place.

    Raises:
        RuntimeError: the input is not floating-point, bins is not positive, or max < min.
    """
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"histc(): needs a floating-point input, given {input.dtype!r}")
    if bins <= 0:
        raise RuntimeError(f"histc(): bins must be > 0, but got {bins}")
    if max < min:
        raise RuntimeError(f"histc(): max must be larger than min, given min = {min}, max = {max}")
    if input.numel() == 0:
        return zeros(bins, dtype=input.dtype)
    dtype = f64 if input.dtype is f64 else f32
    x = reshape(cast(input.detach(), dtype), (-1,))
    if min == max:
        low, high = x.amin(), x.amax()
        same = low == high
        low, high = where(same, low - 1, low), where(same, high + 1, high)
    else:
        low, high = scalar(min, dtype), scalar(max, dtype)
    inside = bitwise_and(x >= low, x <= high)
    part = (where(inside, x, low) - low) / (high - low) * bins
    place = where(inside, cast(part, i64).clamp(max=bins - 1), bins)
    counts = _sums(place, expand(scalar(1, i64), place.shape), bins + 1)
    return cast(narrow(counts, 0, 0, bins), input.dtype)


# Distinct elements --------------------------------------------------------------------------------


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
    found = _distinct(_rows(rows, order), order, return_inverse, return_counts, (rows.shape[0],))
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
        ranks = _places(ordered, ranks, False)
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
    results = [_rows(items, starts)]
    if inverse:
        run = _places(starts, arange(n), True) - 1
        if order is not None:
            run = _sums(order, run, n)
        results.append(reshape(run, shape))
    if counts:
        ends = cat([narrow(starts, 0, 1, total - 1), expand(scalar(n, i64), (1,))])
        results.append(ends - starts)
    return tuple(results)


METHODS = {
    function.__name__: function for function in (bincount, histc, unique, unique_consecutive)
}
