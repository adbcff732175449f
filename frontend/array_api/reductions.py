"""Reductions in the array API standard's signatures: `axis` may be a tuple, `keepdims` in words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from braze.functions import movement
from braze.functions import reductions as own
from braze.functions.pointwise import ne
from braze.functions.promotion import cast
from braze.ir.dtypes import DType, bool_, i64, u64
from braze.tensors import Tensor

Axis = int | Sequence[int] | None

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def _standard(function: Callable[..., Any]) -> Callable[..., Any]:
    FUNCTIONS[function.__name__.rstrip("_")] = function
    return function


def _over(
    function: Callable[..., Tensor], x: Tensor, axis: Axis, keepdims: bool, **rest: Any
) -> Tensor:
    """A reduction. Over no dimensions (an empty tuple; PyTorch takes it for all of them) each
    element is reduced by itself."""
    if axis is None or isinstance(axis, int):
        return function(x, axis, keepdim=keepdims, **rest)
    if not len(axis):
        return function(movement.unsqueeze(x, -1), -1, **rest)
    return function(x, tuple(axis), keepdim=keepdims, **rest)


def _reduction(name: str, function: Callable[..., Tensor]) -> None:
    def reduce(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return _over(function, x, axis, keepdims)

    reduce.__name__, reduce.__doc__ = name, function.__doc__
    _standard(reduce)


def _truth(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Of truth values in any dtype; PyTorch's of uint8 are not bools."""

    @functools.wraps(function)
    def reduce(x: Tensor, *args: Any, **options: Any) -> Tensor:
        return function(cast(x, bool_), *args, **options)

    return reduce


_reduction("all", _truth(own.all))
_reduction("any", _truth(own.any))
_reduction("max", own.amax)
_reduction("mean", own.mean)
_reduction("min", own.amin)


def wide_dtype(dtype: DType) -> DType:
    """The dtype in which elements are summed by default: whole numbers have 64 bits."""
    if dtype.kind == "uint":
        return u64
    return i64 if dtype.kind in ("int", "bool") else dtype


@_standard
def sum(
    x: Tensor, /, *, axis: Axis = None, dtype: DType | None = None, keepdims: bool = False
) -> Tensor:
    """The sum of the elements."""
    return _over(own.sum, x, axis, keepdims, dtype=dtype or wide_dtype(x.dtype))


@_standard
def prod(
    x: Tensor, /, *, axis: Axis = None, dtype: DType | None = None, keepdims: bool = False
) -> Tensor:
    """The product of the elements."""
    dims = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
    kind = dtype or wide_dtype(x.dtype)
    result = cast(x, kind)
    for dim in sorted((d % x.ndim for d in dims), reverse=True):
        result = own.prod(result, dim, keepdims, dtype=kind)
    return result


def _spread(name: str, function: Callable[..., Tensor]) -> None:
    def spread(
        x: Tensor, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
    ) -> Tensor:
        return _over(function, x, axis, keepdims, correction=correction)

    spread.__name__, spread.__doc__ = name, function.__doc__
    _standard(spread)


_spread("std", own.std)
_spread("var", own.var)


def _place(name: str, function: Callable[..., Tensor]) -> None:
    def place(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
        if axis is None and keepdims:
            return movement.reshape(function(x), (1,) * x.ndim)
        return function(x, axis, keepdims)

    place.__name__, place.__doc__ = name, function.__doc__
    _standard(place)


_place("argmax", own.argmax)
_place("argmin", own.argmin)


@_standard
def count_nonzero(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements are not zero."""
    return _over(own.sum, ne(x, 0), axis, keepdims)


@_standard
def diff(
    x: Tensor,
    /,
    *,
    axis: int = -1,
    n: int = 1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """The n-th differences of neighbours along a dimension."""
    parts = [part for part in (prepend, x, append) if part is not None]
    result = movement.cat(parts, axis) if len(parts) > 1 else x
    for _ in range(n):
        size = result.shape[axis]
        later = movement.narrow(result, axis, min(1, size), max(size - 1, 0))
        result = later - movement.narrow(result, axis, 0, max(size - 1, 0))
    return result
