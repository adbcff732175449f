"""More reductions: statistics in pairs, reductions that overlook nans, distances."""

from __future__ import annotations

from typing import Any

from braze import return_types
from braze.functions import reductions
from braze.functions.complex_numbers import complex as make_complex
from braze.functions.complex_numbers import conj, imag, real
from braze.functions.pointwise import UNARY, require_tensors, sub, where
from braze.functions.promotion import cast, get_default_dtype, scalar
from braze.functions.reductions import Dims
from braze.ir.dtypes import DType, bool_, i64
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor


def std_mean(
    input: Tensor,
    dim: Dims | bool = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The standard deviation and the mean over dimensions."""
    return _with_mean(reductions.std, input, dim, unbiased, keepdim, correction)


def var_mean(
    input: Tensor,
    dim: Dims | bool = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
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
        RuntimeError: the common dtype is neither floating-point nor complex.
    """
    require_tensors("dist", input=input, other=other)
    return reductions.norm(sub(input, other), p)


def native_norm(
    input: Tensor,
    p: float | None = 2,
    dim: Dims = None,
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Tensor:
    """The p-norm, as `norm`."""
    return reductions.norm(input, 2 if p is None else p, dim, keepdim, dtype=dtype)


def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The norm over all dimensions but one, which are kept; over all for dim = -1."""
    if dim == -1:
        return reductions.norm(v, pow)
    kept = normalise_dimension("norm_except_dim", dim, v.ndim)
    return reductions.norm(v, pow, [d for d in range(v.ndim) if d != kept], True)


# Covariances --------------------------------------------------------------------------------------


def _frequencies(word: str, weights: Tensor, count: int, whole: bool) -> Tensor:
    if weights.ndim > 1:
        raise RuntimeError(
            f"cov(): expected {word} to have one or fewer dimensions but got {word} with "
            f"{weights.ndim} dimensions"
        )
    if weights.dtype.is_floating_point == whole or weights.dtype is bool_:
        kind = "integral" if whole else "floating point"
        raise RuntimeError(
            f"cov(): expected {word} to have {kind} dtype but got {word} with {weights.dtype!r}"
        )
    if weights.numel() != count:
        raise RuntimeError(
            f"cov(): expected {word} to have the same numel as there are observations in the input "
            f"but got {weights.numel()} != {count}"
        )
    return weights.reshape(-1)  # type: ignore[no-any-return]


def cov(
    input: Tensor,
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """The covariances of the rows, which are variables; columns are observations.

    Args:
        correction: subtracted from the number of observations.
        fweights: how often each observation occurred, integers.
        aweights: the weight of each observation, floating-point.

    Raises:
        RuntimeError: more than two dimensions, bools, or weights that do not fit.
    """
    if input.ndim > 2:
        raise RuntimeError(
            "cov(): expected input to have two or fewer dimensions but got an input with "
            f"{input.ndim} dimensions"
        )
    if input.dtype is bool_:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = input if input.dtype.is_differentiable else cast(input, get_default_dtype())
    x = x.reshape(1, -1) if input.ndim < 2 else x
    count = x.shape[1]
    weights: Tensor | None = None
    if fweights is not None:
        weights = cast(_frequencies("fweights", fweights, count, True), x.dtype)
    if aweights is not None:
        given = cast(_frequencies("aweights", aweights, count, False), x.dtype)
        weights = given if weights is None else weights * given
    if weights is None:
        total: Any = float(count)
        mean = reductions.mean(x, 1, True)
    else:
        total = reductions.sum(weights)
        mean = reductions.sum(x * weights, 1, True) / total
    freedom = total - correction
    if weights is not None and aweights is not None and correction:
        freedom = total - reductions.sum(weights * cast(aweights, x.dtype)) / total * correction
    centred = x - mean
    scaled = centred if weights is None else centred * weights
    if not isinstance(freedom, Tensor):
        freedom = scalar(max(freedom, 0.0), x.dtype)
    else:
        freedom = cast(real(freedom).clamp(min=0), x.dtype)
    return (scaled @ conj(centred.transpose(0, 1)) / freedom).squeeze()  # type: ignore[no-any-return]


def corrcoef(input: Tensor) -> Tensor:
    """Pearson's correlations of the rows, limited to -1 .. 1 (both parts of complex ones).

    Raises:
        RuntimeError: more than two dimensions.
    """
    if input.ndim > 2:
        raise RuntimeError(
            "corrcoef(): expected input to have two or fewer dimensions but got an input with "
            f"{input.ndim} dimensions"
        )
    c = cov(input)
    if c.ndim == 0:
        return c / c
    deviation = real(c.diagonal()).sqrt()
    found = c / deviation.unsqueeze(1) / deviation
    if found.dtype.is_complex:
        return make_complex(real(found).clamp(-1, 1), imag(found).clamp(-1, 1))
    return found.clamp(-1, 1)  # type: ignore[no-any-return]
