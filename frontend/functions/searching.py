"""Search in sorted sequences, and counting, with PyTorch's signatures.

`bincount` is a sync point: the size of its result depends on values.
"""

from __future__ import annotations

from braze import return_types
from braze.capture import call_of
from braze.functions.creation import arange, ones, zeros
from braze.functions.indexing import check_values
from braze.functions.movement import expand, narrow, reshape
from braze.functions.pointwise import bitwise_and, bitwise_or, where
from braze.functions.promotion import cast, result_type, scalar
from braze.functions.sorting import sort
from braze.functions.tables import places_in, rows_at, sums_at
from braze.ir.dtypes import bool_, f32, f64, i32, i64
from braze.ir.op import op_named
from braze.tensors import Tensor, apply

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
    found = places_in(cast(sorted_sequence, dtype), values, right or side == "right")
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
        place = places_in(ordered, x, False).clamp(max=tests.numel() - 1)
        found = rows_at(ordered, place) == x
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
    return sums_at(numbers, amounts, size)


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` equal parts of [min, max], in the input's dtype.

    Elements outside are not counted. If the limits are equal, the least and the largest element
    take their place.

    Raises:
        RuntimeError: the input is not floating-point, bins is not positive, or max < min; or, at
            the next sync, the least or the largest element is not finite and shall be a limit.
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
        infinite = bitwise_or(low - low != 0, high - high != 0)  # or nan
        check_values("histc", infinite, "range of the elements is not finite")
        same = low == high
        low, high = where(same, low - 1, low), where(same, high + 1, high)
    else:
        low, high = scalar(min, dtype), scalar(max, dtype)
    inside = bitwise_and(x >= low, x <= high)
    part = (where(inside, x, low) - low) / (high - low) * bins
    place = where(inside, cast(part, i64).clamp(max=bins - 1), bins)
    counts = sums_at(place, expand(scalar(1, i64), place.shape), bins + 1)
    return cast(narrow(counts, 0, 0, bins), input.dtype)


def histogram(
    input: Tensor,
    bins: int | Tensor,
    *,
    range: tuple[float, float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> return_types.histogram:
    """How many elements, or what weight, lies in each bin, and the edges of the bins.

    Args:
        bins: the number of bins of equal width, or an ascending tensor of their edges. A bin holds
            its left edge; the last one holds its right edge too.
        range: the outermost edges; by default the least and the largest element.
        weight: what each element counts, of the input's shape and dtype.
        density: divide by the widths and by the total, so that the integral is 1.

    Returns:
        A named tuple (hist, bin_edges), both of the input's dtype.

    Raises:
        RuntimeError: the dtypes differ or are not floating-point, the weight has another shape,
            or bins or range are not right.
    """
    dtype = input.dtype
    if not dtype.is_floating_point:
        raise RuntimeError(f"histogram(): needs a floating-point input, given {dtype!r}")
    if weight is not None and (weight.shape != input.shape or weight.dtype is not dtype):
        raise RuntimeError(
            "histogram(): if weight tensor is provided it should have the same shape and dtype as "
            f"the input tensor, given {weight.dtype!r}{list(weight.shape)} and "
            f"{dtype!r}{list(input.shape)}"
        )
    x = reshape(input.detach(), (-1,))
    edges = _edges(x, bins, range)
    count = edges.numel() - 1
    place = places_in(edges, x, True) - 1
    place = where(x == narrow(edges, 0, count, 1), count - 1, place)
    # What lies outside is put into a bin of its own behind the others.
    place = where(bitwise_and(place >= 0, place < count), place, count)
    amounts = ones(x.shape, dtype=dtype) if weight is None else reshape(weight.detach(), (-1,))
    hist = narrow(sums_at(place, amounts, count + 1), 0, 0, count)
    if density:
        widths = narrow(edges, 0, 1, count) - narrow(edges, 0, 0, count)
        hist = hist / hist.sum() / widths
    return return_types.histogram(hist, edges)


def _edges(x: Tensor, bins: int | Tensor, range: tuple[float, float] | None) -> Tensor:
    """The edges of a histogram's bins, in x's dtype."""
    if isinstance(bins, Tensor):
        if bins.ndim != 1 or bins.numel() < 2 or bins.dtype is not x.dtype:
            raise RuntimeError(
                "histogram(): bins tensor should have one dimension, two or more elements and the "
                f"input's dtype, given {bins.dtype!r}{list(bins.shape)}"
            )
        return bins
    if bins <= 0:
        raise RuntimeError(f"histogram(): bins must be > 0, but got {bins}")
    if range is not None and not range[0] <= range[1]:
        raise RuntimeError(f"histogram(): min should not exceed max, but got {range}")
    if range is not None or x.numel() == 0:
        low, high = (scalar(float(limit), x.dtype) for limit in range or (0.0, 1.0))
    else:
        low, high = x.amin(), x.amax()
    same = low == high
    low, high = where(same, low - 0.5, low), where(same, high + 0.5, high)
    ramp = arange(bins + 1, dtype=x.dtype)
    return where(ramp == float(bins), high, low + ramp * ((high - low) / bins))


METHODS = {function.__name__: function for function in (bincount, histc, histogram)}
