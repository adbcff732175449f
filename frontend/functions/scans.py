"""Running sums, products and extrema along a dimension, and what is made of them and of
differences, with PyTorch's signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.capture import call_of
from braze.functions.creation import zeros
from braze.functions.movement import cat, clone, reshape, select, slice_dimension, unsqueeze
from braze.functions.pointwise import add, div, mul, ne, sub
from braze.functions.promotion import cast, get_default_dtype
from braze.functions.reductions import Extremum, sum
from braze.ir.dtypes import DType, bool_, i64
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor, apply


def _along(name: str, input: Tensor, dim: int, **attributes: Any) -> Any:
    """The scan of a tensor; a single number is a row of one."""
    d = normalise_dimension(name, dim, input.ndim)
    call = call_of(op_named(name), dim=d, **attributes)
    if input.ndim:
        return apply(call, input)
    result = apply(call, reshape(input, 1))
    if isinstance(result, Tensor):
        return reshape(result, ())
    return tuple(reshape(part, ()) for part in result)


def _running(name: str, verb: str) -> Callable[..., Tensor]:
    def function(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
        if dtype is None:
            dtype = input.dtype if input.dtype.is_differentiable else i64
        if dtype is bool_:
            raise RuntimeError(f"[{name}] is not implemented for a result of dtype {dtype!r}")
        return _along(name, cast(input, dtype), dim, reverse=False)  # type: ignore[no-any-return]

    function.__name__ = name
    function.__doc__ = f"""{op_named(name).doc} Integers are {verb} in int64.

    Args:
        dtype: what the elements are cast to before, and the result's dtype.

    Raises:
        DimensionError: `dim` is out of range.
    """
    return function


cumsum, cumprod = _running("cumsum", "added up"), _running("cumprod", "multiplied")


def _in_place(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
        if dtype is not None and dtype is not self.dtype:
            raise RuntimeError(
                f"Bad in-place call: input tensor dtype {self.dtype!r} and output tensor dtype "
                f"{dtype!r} should match"
            )
        return self._replace(function(self, dim, dtype=self.dtype))

    method.__name__ = f"{name}_"
    method.__doc__ = f"In-place `{name}`, in the tensor's own dtype."
    return method


def _extremum(name: str) -> Callable[..., Extremum]:
    def function(input: Tensor, dim: int) -> Extremum:
        return Extremum(*_along(name, input, dim, reverse=False))

    function.__name__ = name
    function.__doc__ = f"{op_named(name).doc} Gives `(values, indices)`."
    return function


cummax, cummin = _extremum("cummax"), _extremum("cummin")


def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """log(sum(exp(input))) of the elements up to each one along `dim`, without overflow.

    Raises:
        DTypeError: the dtype is not floating point.
        DimensionError: `dim` is out of range.
    """
    return _along("logcumsumexp", input, dim)  # type: ignore[no-any-return]


# Differences --------------------------------------------------------------------------------------


def _neighbours(input: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """All elements along `dim` but the last, and all but the first."""
    size = input._handle.type.shape[dim]
    last = max(size - 1, 0)
    left = slice_dimension(input, dim, 0, last, 1)
    return left, slice_dimension(input, dim, size - last, size, 1)


def diff(
    input: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """The n-th difference input[i + 1] - input[i] along `dim`; for bools whether the two differ.

    Args:
        prepend, append: what stands before and behind the input; of its shape but along `dim`.

    Raises:
        RuntimeError: the input has no dimension, `n` is negative, or a shape does not fit.
        DimensionError: `dim` is out of range.
    """
    if input.ndim == 0:
        raise RuntimeError("[diff] expects input to be at least one-dimensional")
    d = normalise_dimension("diff", dim, input.ndim)
    if n < 0:
        raise RuntimeError(f"[diff] order must be non-negative but got {n}")
    shape = input._handle.type.shape
    for other in (prepend, append):
        if other is None:
            continue
        found = other._handle.type.shape
        if len(found) != len(shape) or any(
            a != b for axis, (a, b) in enumerate(zip(shape, found, strict=True)) if axis != d
        ):
            raise RuntimeError(
                f"[diff] a tensor to prepend or append must match the input except along dimension "
                f"{d}: input {input._handle.type}, given {other._handle.type}"
            )
    if n == 0:
        return clone(input)
    parts = [part for part in (prepend, input, append) if part is not None]
    result = cat(parts, d) if len(parts) > 1 else input
    for _ in range(min(n, result._handle.type.shape[d])):
        left, right = _neighbours(result, d)
        result = ne(right, left) if result.dtype is bool_ else sub(right, left)
    return result


# The trapezoidal rule -----------------------------------------------------------------------------


def _spacing(name: str, y: Tensor, x: Tensor, dim: int) -> Tensor:
    """The distances between sample points, to be broadcast along `dim` of y."""
    rank, size = y.ndim, y._handle.type.shape[dim]
    if x.ndim == 1:
        if x._handle.type.shape[0] != size:
            raise RuntimeError(
                f"[{name}] there must be one `x` value for each sample point: y {y._handle.type} "
                f"along {dim}, x {x._handle.type}"
            )
        x = reshape(x, [size if axis == dim else 1 for axis in range(rank)])
    while x.ndim < rank:
        x = unsqueeze(x, 0)
    if x._handle.type.shape[dim - rank] != size:
        raise RuntimeError(
            f"[{name}] y {y._handle.type} and x {x._handle.type} differ along dimension {dim}"
        )
    left, right = _neighbours(x, x.ndim - rank + dim)
    return sub(right, left)


def _prepared(
    name: str, y: Tensor, x: Tensor | None, dx: float | None, dim: int
) -> tuple[int, Tensor | float]:
    """The dimension, and the spacing: a number or a tensor."""
    if x is not None and dx is not None:
        raise TypeError(f"[{name}] takes either `x` or `dx`, given both")
    if y.ndim == 0:
        raise IndexError(f"[{name}] dimension specified as {dim} but tensor has no dimensions")
    d = normalise_dimension(name, dim, y.ndim)
    if y.dtype is bool_ or (x is not None and x.dtype is bool_):
        raise RuntimeError(f"[{name}] received a bool input for `x` or `y`, cast it first")
    if x is None or y._handle.type.shape[d] == 0:
        return d, 1.0 if dx is None else float(dx)
    return d, _spacing(name, y, x, d)


def trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1
) -> Tensor:
    """The integral of y along `dim` by the trapezoidal rule.

    Args:
        x: where the samples were taken, of one dimension or broadcast with y.
        dx: the distance between samples (default 1).

    Raises:
        TypeError: both `x` and `dx` are given.
        IndexError: `dim` is out of range.
        RuntimeError: a dtype is bool, or `x` does not fit.
    """
    d, spacing = _prepared("trapezoid", y, x, dx, dim)
    shape = y._handle.type.shape
    if shape[d] == 0:
        dtype = y.dtype if y.dtype.is_differentiable else get_default_dtype()
        return zeros([size for axis, size in enumerate(shape) if axis != d], dtype=dtype)
    if isinstance(spacing, Tensor):
        areas = mul(add(*_neighbours(y, d)), spacing)
        return div(sum(areas, d + areas.ndim - y.ndim), 2.0)
    ends = add(select(y, d, 0), select(y, d, shape[d] - 1))
    return mul(sub(sum(y, d), mul(ends, 0.5)), spacing)


def cumulative_trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1
) -> Tensor:
    """The integrals of y along `dim` up to the second, third, ... sample by the trapezoidal rule.

    The arguments and errors are those of `trapezoid`; the result is one shorter along `dim`.
    """
    d, spacing = _prepared("cumulative_trapezoid", y, x, dx, dim)
    if y._handle.type.shape[d] == 0:
        return clone(y)
    half = div(spacing, 2.0) if isinstance(spacing, Tensor) else spacing / 2
    areas = mul(add(*_neighbours(y, d)), half)
    return cumsum(areas, d + areas.ndim - y.ndim)


trapz = trapezoid

METHODS: dict[str, Callable[..., Any]] = {
    "cumsum": cumsum,
    "cumprod": cumprod,
    "cummax": cummax,
    "cummin": cummin,
    "logcumsumexp": logcumsumexp,
    "diff": diff,
    "cumsum_": _in_place("cumsum", cumsum),
    "cumprod_": _in_place("cumprod", cumprod),
}
