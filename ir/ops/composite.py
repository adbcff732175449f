"""Pieces that the composites' declarations share: type rules and steps of decompositions."""

from __future__ import annotations

from typing import Any

from braze.ir.dtypes import DType, f32
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


def keep_shape(shape: Shape, dims: Ints) -> Shape:
    """The shape after reducing `dims` with keepdim."""
    return tuple(1 if axis in dims else size for axis, size in enumerate(shape))


def restored(b: Any, value: Any, x_type: TensorType, dims: Ints) -> Any:
    """Give a value that was reduced over `dims` its 1-sized dimensions back."""
    return reshaped(b, value, keep_shape(x_type.shape, dims))


def along(shape: Shape, dim: int) -> Shape:
    """A vector's shape for broadcasting along one dimension of `shape`."""
    return tuple(size if axis == dim else 1 for axis, size in enumerate(shape))


def channels_last(b: Any, x: Any) -> Any:
    """[N, C, spatial...] to [N, spatial..., C]."""
    return b.permute(x, dims=(0, *range(2, x.type.rank), 1))


def channels_second(b: Any, x: Any) -> Any:
    """[N, spatial..., C] to [N, C, spatial...]."""
    rank = x.type.rank
    return b.permute(x, dims=(0, rank - 1, *range(1, rank - 1)))
