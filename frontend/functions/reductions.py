"""Reductions, with PyTorch's signatures: sums, extrema, statistics, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np

from braze.capture import call_of
from braze.casting import casting
from braze.functions.creation import zeros
from braze.functions.movement import clone
from braze.functions.pointwise import maximum, minimum
from braze.functions.promotion import cast, get_default_dtype
from braze.functions.settled import settled
from braze.ir.dtypes import DType, bool_, i64, u8
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor, apply

Dims = int | Sequence[int] | None


class Extremum(NamedTuple):
    """What `max` and `min` along a dimension give."""

    values: Tensor
    indices: Tensor


def normalise_dims(name: str, dim: Dims, rank: int) -> tuple[int, ...]:
    """Non-negative, sorted dimensions; None and () mean all.

    Raises:
        DimensionError: one is out of range.
        RuntimeError: one is named twice.
    """
    if dim is None or (not isinstance(dim, (int, np.integer)) and len(dim) == 0):
        return tuple(range(rank))
    given = (int(dim),) if isinstance(dim, (int, np.integer)) else tuple(map(index, dim))
    dims = sorted(normalise_dimension(name, d, rank) for d in given)
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"[{name}] a dimension appears multiple times in {list(given)}")
    return tuple(d for d in dims if d < rank)


def _reduce(name: str, input: Tensor, dim: Dims, keepdim: bool, **attributes: Any) -> Tensor:
    dims = normalise_dims(name, dim, input.ndim)
    call = call_of(op_named(name), dims=dims, keepdim=keepdim, **attributes)
    return apply(call, input)  # type: ignore[no-any-return]


def _widened(input: Tensor, dtype: DType | None) -> Tensor:
    """Sums and products of integers and bools are computed in int64."""
    if dtype is None:
        dtype = input.dtype if input.dtype.is_differentiable else i64
    return cast(input, dtype)


@settled
def sum(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """Sum over dimensions (all by default). Integers are summed in int64."""
    return _reduce("sum", _widened(input, dtype), dim, keepdim)


@casting("f32")
def prod(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """Product over dimensions (all by default). Integers are multiplied in int64."""
    return _reduce("prod", _widened(input, dtype), dim, keepdim)


@settled
def mean(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """Mean over dimensions (all by default).

    Raises:
        RuntimeError: the dtype is not floating point.
    """
    input = input if dtype is None else cast(input, dtype)
    if not input.dtype.is_differentiable:
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or "
            "complex dtype. "
            f"Got: {input.dtype!r}"
        )
    return _reduce("mean", input, dim, keepdim)


def _parts(input: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts."""
    return apply(call_of(op_named("real")), input), apply(call_of(op_named("imag")), input)


def _statistic(name: str) -> Callable[..., Tensor]:
    def function(
        input: Tensor,
        dim: Dims | bool = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Tensor:
        dims: Dims = None if isinstance(dim, bool) else dim
        unbiased = dim if isinstance(dim, bool) else unbiased
        amount = int(unbiased) if correction is None else correction
        if input.dtype.is_complex:
            parts = [var(x, dims, keepdim=keepdim, correction=amount) for x in _parts(input)]
            variance: Tensor = parts[0] + parts[1]
            return variance.sqrt() if name == "std" else variance  # type: ignore[no-any-return]
        if amount == int(amount):
            return _reduce(name, input, dims, keepdim, correction=int(amount))
        sizes = [input.shape[d] for d in normalise_dims(name, dims, input.ndim)]
        count = math.prod(sizes)
        scale = count / (count - amount) if count > amount else math.inf
        result = _reduce(name, input, dims, keepdim, correction=0)
        return result * (scale if name == "var" else math.sqrt(scale))  # type: ignore[no-any-return]

    function.__name__ = name
    function.__doc__ = (
        f"{op_named(name).doc} `correction` (1, or 0 if not `unbiased`) is taken off the divisor."
    )
    return function


var, std = _statistic("var"), _statistic("std")


@settled
def amax(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Maximum over dimensions; equal maxima share the gradient."""
    return _reduce("amax", input, dim, keepdim)


@settled
def amin(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Minimum over dimensions; equal minima share the gradient."""
    return _reduce("amin", input, dim, keepdim)


def _one_dimension(name: str, input: Tensor, dim: Any) -> int:
    """A dimension that has elements.

    Raises:
        TypeError: no int. DimensionError: out of range. IndexError: it has no elements.
    """
    d = normalise_dimension(name, index(dim), input.ndim)
    if input.ndim and not input._handle.type.shape[d]:
        raise IndexError(f"{name}(): Expected reduction dim {dim} to have non-zero size.")
    return d


def _extremum(name: str, whole: str, pair: Callable[[Any, Any], Tensor]) -> Callable[..., Any]:
    def function(
        input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None
    ) -> Any:
        other = dim if isinstance(dim, Tensor) else other
        if other is not None:
            return pair(input, other)
        if dim is None:
            return _reduce(whole, input, None, False)
        d = _one_dimension(name, input, dim)
        if not input.ndim:
            return Extremum(clone(input), zeros((), dtype=i64))
        values, indices = apply(
            call_of(op_named(f"{name}_with_index"), dim=d, keepdim=keepdim), input
        )
        return Extremum(values, indices)

    function.__name__ = name
    function.__doc__ = (
        f"{name}(input): the {name}imum element; {name}(input, dim, keepdim): values and indices "
        f"along a dimension; {name}(input, other): elementwise."
    )
    return function


max = _extremum("max", "amax", maximum)
min = _extremum("min", "amin", minimum)


def _position(name: str) -> Callable[..., Tensor]:
    def function(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
        if input.dtype is bool_:
            raise RuntimeError(f"{name}(): does not support bool input")
        if dim is None:
            if not input._handle.type.numel:
                raise IndexError(
                    f"{name}(): Expected reduction dim to be specified for input.numel() == 0."
                )
            place = _reduce(name, input.reshape(-1), 0, False)
            return place.reshape((1,) * input.ndim) if keepdim else place
        d = _one_dimension(name, input, dim)
        if not input.ndim:
            return zeros((), dtype=i64)
        return _reduce(name, input, d, keepdim)

    function.__name__ = name
    function.__doc__ = op_named(name).doc + " Without `dim`, the position in the flattened tensor."
    return function


argmax, argmin = _position("argmax"), _position("argmin")


def _truth(name: str, input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """PyTorch answers in uint8 for uint8, in bool otherwise."""
    truth = cast(input, bool_)
    no_dims = dim is not None and not isinstance(dim, (int, np.integer)) and not len(dim)
    answer = truth if no_dims else _reduce(name, truth, dim, keepdim)
    return cast(answer, u8) if input.dtype is u8 else answer


def any(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether some element is nonzero, as bool (uint8 for uint8)."""
    return _truth("any", input, dim, keepdim)


def all(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether all elements are nonzero, as bool (uint8 for uint8)."""
    return _truth("all", input, dim, keepdim)


def norm(
    input: Tensor,
    p: float | str | None = "fro",
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """The p-norm of the elements over dimensions; "fro" is 2, inf and -inf the largest and smallest
    size, 0 the number of nonzeros.

    Raises:
        RuntimeError: the dtype is not floating-point, or p is another word.
    """
    if p == "nuc":
        from braze.functions.decompositions import nuclear_norm

        if dim is not None:
            raise RuntimeError("[norm] the nuclear norm takes all dimensions of a matrix")
        return nuclear_norm(input if dtype is None else cast(input, dtype), keepdim)
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"[norm] unknown norm {p!r}; a number or 'fro' is expected")
    order = 2.0 if p is None or isinstance(p, str) else float(p)
    x = input if dtype is None else cast(input, dtype)
    if x.dtype.is_complex:
        x = abs(x)
    return _reduce("norm", x, dim, keepdim, p=order)


def logsumexp(input: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """log(sum(exp(input))) over dimensions, without overflow."""
    if input.dtype.is_complex:
        real = _parts(input.detach())[0]
        largest = amax(real, dim, True)
        total = sum((input - largest).exp(), dim, True).log() + largest
        return total if keepdim else total.squeeze(dim)  # type: ignore[no-any-return]
    x = input if input.dtype.is_floating_point else cast(input, get_default_dtype())
    return _reduce("logsumexp", x, dim, keepdim)


def _along(name: str) -> Callable[..., Tensor]:
    def function(input: Tensor, dim: int | None = None, dtype: DType | None = None) -> Tensor:
        x = input if dtype is None else cast(input, dtype)
        if dim is None:  # the implicit choice of early PyTorch
            dim = 0 if x.ndim in (0, 1, 3) else 1
        if x.ndim == 0:
            return function(x.reshape(1), 0).reshape(())
        call = call_of(op_named(name), dim=normalise_dimension(name, dim, x.ndim))
        return apply(call, x)  # type: ignore[no-any-return]

    function.__name__ = name
    function.__doc__ = op_named(name).doc
    return settled(function)


softmax, log_softmax = _along("softmax"), _along("log_softmax")
