"""More reductions: statistics in pairs, reductions that overlook nans, distances."""

from __future__ import annotations

from typing import Any

from braze import return_types
from braze.functions import reductions
from braze.functions.pointwise import UNARY, require_tensors, sub, where
from braze.functions.promotion import cast, scalar
from braze.functions.reductions import Dims
from braze.ir.dtypes import DType, bool_, i64
from braze.tensors import Tensor


def std_mean(
    input: Tensor,
    dim: Dims | bool = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The standard deviation and the mean over dimensions."""
    return _with_mean(reductions.std, input, dim, unbiased, keepdim, correction)


def var_mean(
    input: Tensor,
    dim: Dims | bool = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The variance and the mean over dimensions."""
    return _with_mean(reductions.var, input, dim, unbiased, keepdim, correction)


def _with_mean(
    spread: Any, input: Tensor, dim: Any, unbiased: bool, keepdim: bool, correction: Any
) -> tuple[Tensor, Tensor]:
    dims = None if isinstance(dim, bool) else dim
    first = spread(input, dim, unbiased, keepdim, correction=correction)
    return first, reductions.mean(input, dims, keepdim)


def aminmax(
    input: Tensor, *, dim: int | None = None, keepdim: bool = False
) -> return_types.aminmax:
    """The minimum and the maximum, of everything or along a dimension."""
    low, high = (f(input, dim, keepdim) for f in (reductions.amin, reductions.amax))
    return return_types.aminmax(low, high)


def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """How many elements are not zero, over dimensions (all by default)."""
    return reductions.sum(cast(cast(input, bool_), i64), dim)


def _without_nans(input: Tensor) -> Tensor:
    return where(UNARY["isnan"](input), scalar(0.0, input.dtype), input)


def nansum(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The sum over dimensions, nans taken as zeros."""
    x = _without_nans(input) if input.dtype.is_floating_point else input
    return reductions.sum(x, dim, keepdim, dtype=dtype)


def nanmean(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The mean over dimensions of the elements that are not nan; nan where there are none.

    Raises:
        RuntimeError: the dtype is not floating-point.
    """
    if not input.dtype.is_floating_point:
        raise RuntimeError(
            f"nanmean(): expected input to have floating point dtype but got {input.dtype!r}"
        )
    present = cast(~UNARY["isnan"](input), input.dtype)
    total = nansum(input, dim, keepdim, dtype=dtype)
    return total / reductions.sum(present, dim, keepdim, dtype=dtype)


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of input - other, broadcast.

    Raises:
        RuntimeError: the common dtype is not floating-point.
    """
    require_tensors("dist", input=input, other=other)
    return reductions.norm(sub(input, other), p)
