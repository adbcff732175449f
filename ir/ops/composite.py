"""Pieces that the composites' declarations share: type rules and steps of decompositions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from braze.ir.dtypes import DType, f32, f64
from braze.ir.errors import DTypeError
from braze.ir.types import Shape, TensorType

Ints = tuple[int, ...]


def require_floating(name: str, *types: TensorType) -> None:
    """Raise DTypeError unless all types are floating-point."""
    for t in types:
        if not t.dtype.is_floating_point:
            raise DTypeError(f"[{name}] needs a floating-point operand, given {t}")


def accumulation_dtype(dtype: DType) -> DType:
    """The dtype to compute sums and statistics in: f32 for the 16-bit floats, else the same."""
    return f32 if dtype.is_floating_point and dtype.bits == 16 else dtype


def as_dtype(b: Any, x: Any, dtype: DType) -> Any:
    """A cast, left out where it changes nothing."""
    return x if x.type.dtype is dtype else b.cast(x, dtype=dtype)


def widened(b: Any, x: Any) -> Any:
    """The value in the dtype that statistics of it are computed in."""
    return as_dtype(b, x, accumulation_dtype(x.type.dtype))


def reshaped(b: Any, x: Any, shape: Shape) -> Any:
    """A reshape, left out where it changes nothing."""
    return x if x.type.shape == tuple(shape) else b.reshape(x, shape=tuple(shape))


def summed_to(b: Any, x: Any, shape: Shape) -> Any:
    """A sum to a shape that broadcasts to x's, left out where it changes nothing."""
    return x if x.type.shape == tuple(shape) else b.sum_to_shape(x, shape=tuple(shape))


def keep_shape(shape: Shape, dims: Ints) -> Shape:
    """The shape after reducing `dims` with keepdim."""
    return tuple(1 if axis in dims else size for axis, size in enumerate(shape))


def restored(b: Any, value: Any, x_type: TensorType, dims: Ints) -> Any:
    """Give a value that was reduced over `dims` its 1-sized dimensions back."""
    return reshaped(b, value, keep_shape(x_type.shape, dims))


def along(shape: Shape, dim: int) -> Shape:
    """A vector's shape for broadcasting along one dimension of `shape`."""
    return tuple(size if axis == dim else 1 for axis, size in enumerate(shape))


def cut(b: Any, x: Any, dim: int, start: int, stop: int) -> Any:
    """The elements from `start` to `stop` along one dimension."""
    shape = x.type.shape
    return b.slice(
        x,
        starts=tuple(start if axis == dim else 0 for axis in range(len(shape))),
        stops=tuple(stop if axis == dim else size for axis, size in enumerate(shape)),
        steps=(1,) * len(shape),
    )


def channels_last(b: Any, x: Any) -> Any:
    """[N, C, spatial...] to [N, spatial..., C]."""
    return b.permute(x, dims=(0, *range(2, x.type.rank), 1))


def channels_second(b: Any, x: Any) -> Any:
    """[N, spatial..., C] to [N, C, spatial...]."""
    rank = x.type.rank
    return b.permute(x, dims=(0, rank - 1, *range(1, rank - 1)))


def polynomial(b: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Horner's scheme, highest power first."""
    value = b.mul(x, coefficients[0])
    for coefficient in coefficients[1:-1]:
        value = b.mul(b.add(value, coefficient), x)
    return b.add(value, coefficients[-1])


def sine_of_pi(b: Any, x: Any) -> Any:
    """sin(pi x), reduced exactly before the multiplication; exact zeros at the integers."""
    whole = b.round(x)
    half = b.mul(whole, 0.5)
    odd = b.ne(half, b.floor(half))
    sine = b.sin(b.mul(b.sub(x, whole), math.pi))
    return b.where(odd, b.neg(sine), sine)


def both(b: Any, *conditions: Any) -> Any:
    """All of the conditions."""
    joined = conditions[0]
    for condition in conditions[1:]:
        joined = b.bitwise_and(joined, condition)
    return joined


def in_f64(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decomposition that computes in f64, whatever the operands' dtype, and rounds once."""

    def decompose(b: Any, *operands: Any, **attributes: Any) -> Any:
        wide = [as_dtype(b, operand, f64) for operand in operands]
        return as_dtype(b, function(b, *wide, **attributes), operands[0].type.dtype)

    return decompose


def in_wide(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decomposition that computes 16-bit floats in f32."""

    def decompose(b: Any, *operands: Any, **attributes: Any) -> Any:
        wide = [widened(b, operand) for operand in operands]
        return as_dtype(b, function(b, *wide, **attributes), operands[0].type.dtype)

    return decompose


def ratio(b: Any, x: Any, above: Sequence[float], below: Sequence[float]) -> Any:
    """A rational function, highest powers first."""
    return b.div(polynomial(b, x, above), polynomial(b, x, below))
