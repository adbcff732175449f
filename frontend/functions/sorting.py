"""Order along a dimension, with PyTorch's signatures: sort, topk, and the statistics made of them.

nan counts as the largest. Sorting is always stable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from braze import return_types
from braze.capture import call_of
from braze.casting import casting
from braze.functions.creation import tensor
from braze.functions.movement import expand, movedim, narrow, reshape, squeeze
from braze.functions.pointwise import UNARY, where
from braze.functions.promotion import cast, scalar
from braze.functions.tables import places_in
from braze.ir.dtypes import bool_, f32, f64, i64
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor, apply

_SORT, _TOPK, _ALONG = op_named("sort"), op_named("topk"), op_named("take_along")
_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _along(name: str, input: Tensor, dim: int) -> tuple[Tensor, int]:
    """The input with at least one dimension, and the dimension as a non-negative number."""
    d = normalise_dimension(name, dim, input.ndim)
    return (reshape(input, (1,)) if input.ndim == 0 else input), d


def _shaped_as(input: Tensor, *results: Tensor) -> tuple[Tensor, ...]:
    """0-d results for a 0-d input."""
    return tuple(reshape(x, ()) for x in results) if input.ndim == 0 else results


def sort(
    input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False
) -> return_types.sort:
    """The elements in ascending (or descending) order along a dimension, and where they were.

    Args:
        stable: equal elements stay in order, which is so in any case.

    Returns:
        A named tuple (values, indices); the indices are int64.

    Raises:
        IndexError: the dimension is out of range.

    Example:
        >>> import braze
        >>> braze.sort(braze.tensor([3, 1, 2]), descending=True).indices.tolist()
        [0, 2, 1]
    """
    x, d = _along("sort", input, dim)
    call = call_of(_SORT, dim=d, descending=bool(descending))
    return return_types.sort(*_shaped_as(input, *apply(call, x)))


def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False
) -> Tensor:
    """The indices (int64) that sort the tensor along a dimension."""
    return sort(input, dim, descending, stable=stable).indices


def msort(input: Tensor) -> Tensor:
    """The elements in ascending order along the first dimension."""
    return sort(input, 0).values


def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> return_types.topk:
    """The k largest (or smallest) elements along a dimension, best first, and where they were.

    Args:
        sorted: the results are in order, which is so in any case.

    Raises:
        RuntimeError: k is negative or larger than the dimension, or the dtype is bool.
    """
    if input.dtype is bool_:
        raise RuntimeError("topk does not support bool dtypes on CPU")
    x, d = _along("topk", input, dim)
    if not 0 <= k <= x.shape[d]:
        raise RuntimeError(
            f"selected index k out of range: topk() of k = {k} in dimension {d} of a tensor of "
            f"size {list(input.shape)}"
        )
    values, indices = apply(call_of(_TOPK, dim=d, k=int(k), largest=bool(largest)), x)
    if k == 1:
        values, indices = _shaped_as(input, values, indices)
    return return_types.topk(values, indices)


def kthvalue(
    input: Tensor, k: int, dim: int = -1, keepdim: bool = False
) -> return_types.kthvalue:
    """The k-th smallest element along a dimension (k counts from 1), and where it was.

    Raises:
        RuntimeError: k is out of range.
    """
    x, d = _along("kthvalue", input, dim)
    if not 1 <= k <= x.shape[d]:
        raise RuntimeError(
            f"kthvalue(): selected number k out of range for dimension {d}: k = {k} of a tensor of "
            f"size {list(input.shape)}"
        )
    values, indices = topk(x, k, d, largest=False)
    found = (_reduced(narrow(part, d, k - 1, 1), d, keepdim) for part in (values, indices))
    return return_types.kthvalue(*_shaped_as(input, *found))


def _reduced(part: Tensor, dim: int, keepdim: bool) -> Tensor:
    return part if keepdim else squeeze(part, dim)


def _not_empty(name: str, x: Tensor, dim: int) -> None:
    if x.shape[dim] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {dim} to have non-zero size.")


def _pick(values: Tensor, dim: int, place: Tensor) -> Tensor:
    """One element of each row; `place` has size 1 at `dim`."""
    return apply(call_of(_ALONG, dim=dim), values, place)  # type: ignore[no-any-return]


def _numbers(values: Tensor, dim: int) -> Tensor:
    """How many elements of sorted rows are not nan, with size 1 at `dim`."""
    return cast(values == values, i64).sum(dim, keepdim=True)  # type: ignore[no-any-return]


def _median(name: str, kind: Callable[..., Any], skips_nan: bool, doc: str) -> Callable[..., Any]:
    def function(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            flat = reshape(input, (-1,))
            if flat.numel() == 0:
                return tensor(float("nan"), dtype=input.dtype)
            return function(flat, 0).values
        x, d = _along(name, input, dim)
        _not_empty(name, x, d)
        size = x.shape[d]
        if not x.dtype.is_floating_point:
            values, indices = kthvalue(x, (size + 1) // 2, d, keepdim=True)
        else:
            ordered, order = sort(x, d)
            count = _numbers(ordered, d)
            if skips_nan:
                place = (count - 1).clamp(min=0) // 2
            else:  # the first nan, where there is one
                place = where(count < size, count, (size - 1) // 2)
            values, indices = _pick(ordered, d, place), _pick(order, d, place)
        found = (_reduced(part, d, keepdim) for part in (values, indices))
        return kind(*_shaped_as(input, *found))

    function.__name__ = name
    function.__doc__ = doc
    return function


median = _median(
    "median",
    return_types.median,
    False,
    """The median, the lower one of two, of all elements; or along a dimension, and where it was.

    A nan anywhere makes the result nan.

    Raises:
        IndexError: the dimension is out of range or empty.
    """,
)
nanmedian = _median(
    "nanmedian",
    return_types.nanmedian,
    True,
    """As `median`, of the elements that are not nan; nan where there are none.""",
)


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> return_types.mode:
    """The most frequent element along a dimension, the smallest of several; where it last was.

    Raises:
        IndexError: the dimension is out of range or empty.
    """
    x, d = _along("mode", input, dim)
    _not_empty("mode", x, d)
    values, order = sort(movedim(x, d, -1), -1)
    first = places_in(values, values, False)
    ramp = apply(call_of(op_named("iota"), shape=(x.shape[d],), dim=0, dtype=i64))
    # How often the element occurs up to here: largest at the end of the longest run. No nan equals
    # another.
    run = where(values == values, ramp - first, 0)
    place = run.argmax(-1, keepdim=True)
    last = values.ndim - 1
    found = (movedim(_pick(part, last, place), -1, d) for part in (values, order))
    return return_types.mode(*_shaped_as(input, *(_reduced(part, d, keepdim) for part in found)))


# Quantiles ----------------------------------------------------------------------------------------


@casting("f32")
def quantile(
    input: Tensor,
    q: float | Sequence[float] | Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """Quantiles of all elements or along a dimension; nan where a nan is among them.

    Args:
        q: numbers in [0, 1]. Several of them make the result's first dimension.
        interpolation: what lies between two elements: "linear", "lower", "higher", "midpoint" or
            "nearest".

    Raises:
        RuntimeError: the input is empty or not floating-point, q is out of range (a tensor's values
            are read for that) or of another dtype, or the interpolation is unknown.
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation)


@casting("f32")
def nanquantile(
    input: Tensor,
    q: float | Sequence[float] | Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """As `quantile`, of the elements that are not nan; nan where there are none."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation)


def _quantile(
    name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str
) -> Tensor:
    _check_quantile(name, input, interpolation)
    points = _points(name, input, q)
    shape = [1] * input.ndim
    if dim is None:
        rows = reshape(input, (-1,))
    else:
        x, d = _along(name, input, dim)
        rows = movedim(x, d, -1)
        shape = [1 if axis == d else size for axis, size in enumerate(input.shape)]
        if not keepdim and input.ndim:
            del shape[d]
    if dim is None and not keepdim:
        shape = []
    ordered = sort(rows, -1).values
    last, size = ordered.ndim - 1, ordered.shape[-1]
    count = _numbers(ordered, last)
    rank = reshape(points, (-1,)) * cast(count - 1, input.dtype)
    if name == "quantile":  # the last element is nan if any is
        rank = where(count < size, float(size - 1), rank)
    found = _interpolated(ordered, rank.clamp(min=0.0), last, interpolation)
    if points.ndim == 0:
        return reshape(found, shape)
    return reshape(movedim(found, -1, 0), (points.shape[0], *shape))


def _check_quantile(name: str, input: Tensor, interpolation: str) -> None:
    if input.numel() == 0:
        raise RuntimeError(
            f"{name}() input tensor must be non-empty, given size {list(input.shape)}"
        )
    if input.dtype not in (f32, f64):
        raise RuntimeError(
            f"{name}() input tensor must be either float or double dtype, given {input.dtype!r}"
        )
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(
            f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, "
            f"but got {interpolation}"
        )


def _points(name: str, input: Tensor, q: Any) -> Tensor:
    """q as a tensor of 0 or 1 dimensions."""
    if isinstance(q, (int, float)):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q}")
        return scalar(float(q), input.dtype)
    points = q if isinstance(q, Tensor) else tensor(q, dtype=input.dtype)
    if points.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor, given {points.ndim}D")
    if points.dtype is not input.dtype:
        raise RuntimeError(
            f"{name}() q tensor must be same dtype as the input tensor: {points.dtype!r} and "
            f"{input.dtype!r}"
        )
    if bool(where(points >= 0, points <= 1, False).logical_not().any()):
        raise RuntimeError(f"{name}() q values must be in the range [0, 1]")
    return points


def _interpolated(ordered: Tensor, rank: Tensor, last: int, interpolation: str) -> Tensor:
    """The elements of sorted rows at fractional ranks: [..., size] and [..., Q] to [..., Q]."""
    shape = (*ordered.shape[:-1], rank.shape[-1])
    if interpolation == "nearest":
        rank = UNARY["round"](rank)
    below, above = UNARY["floor"](rank), UNARY["ceil"](rank)

    def at(place: Tensor) -> Tensor:
        return _pick(ordered, last, expand(cast(place, i64), shape))

    if interpolation in ("lower", "nearest"):
        return at(below)
    if interpolation == "higher":
        return at(above)
    low = at(below)
    weight = 0.5 if interpolation == "midpoint" else rank - below
    # Infinity less itself is nan, so a whole rank takes its element as it is.
    gap = where(above == below, 0.0, at(above) - low)
    return low + weight * gap


METHODS = {
    function.__name__: function
    for function in (
        *(sort, argsort, msort, topk, kthvalue, median, nanmedian, mode, quantile, nanquantile),
    )
}
