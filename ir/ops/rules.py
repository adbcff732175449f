"""Shared pieces of the op declarations: type rules and argument checks.

Every function here either returns result types or raises the error that the user sees; messages
name the operation and the types given. Rules know no devices: `braze.ir.devices` adds them.
"""

from __future__ import annotations

from collections.abc import Callable

from braze.ir.dtypes import DType, bool_
from braze.ir.errors import DimensionError, DTypeError, ShapeError
from braze.ir.types import Shape, TensorType, broadcast_shapes, tensor_type

Infer = Callable[..., tuple[TensorType, ...]]


def common_dtype(name: str, *types: TensorType) -> DType:
    """The one dtype that all operands have (promotion happens before, by explicit casts)."""
    dtypes = {t.dtype for t in types}
    if len(dtypes) != 1:
        raise DTypeError(f"[{name}] operands differ in dtype: {', '.join(map(str, types))}")
    return types[0].dtype


def same(name: str) -> Infer:
    """Rule: broadcast the shapes, keep the common dtype."""

    def infer(*types: TensorType) -> tuple[TensorType, ...]:
        dtype = common_dtype(name, *types)
        return (tensor_type(dtype, broadcast_shapes(name, *types)),)

    return infer


def floating(name: str) -> Infer:
    """Rule: as `same`, for floating-point operands only (and complex ones, where an operation has a
    meaning for them)."""

    def infer(*types: TensorType) -> tuple[TensorType, ...]:
        for t in types:
            if not t.dtype.is_differentiable:
                raise DTypeError(f"[{name}] needs a floating-point operand, given {t}")
        return same(name)(*types)

    return infer


def numeric(name: str) -> Infer:
    """Rule: as `same`, for anything but bool."""

    def infer(*types: TensorType) -> tuple[TensorType, ...]:
        for t in types:
            if t.dtype is bool_:
                raise DTypeError(f"[{name}] needs a numeric operand, given {t}; cast it first")
        return same(name)(*types)

    return infer


def predicate(name: str) -> Infer:
    """Rule: broadcast the shapes; the result is bool."""

    def infer(*types: TensorType) -> tuple[TensorType, ...]:
        common_dtype(name, *types)
        return (tensor_type(bool_, broadcast_shapes(name, *types)),)

    return infer


def normalise_dimension(name: str, dimension: int, rank: int) -> int:
    """Turn a possibly negative dimension into 0 <= d < rank.

    Raises:
        DimensionError: it is outside [-rank, rank).
    """
    span = max(rank, 1)
    if not -span <= dimension < span:
        raise DimensionError(
            f"[{name}] dimension out of range (expected to be in range of [{-span}, {span - 1}], "
            f"but got {dimension})"
        )
    return dimension % span


def check_dimensions(name: str, dims: tuple[int, ...], x: TensorType) -> None:
    """Node attributes hold normalised, distinct dimensions; this checks them."""
    for d in dims:
        if not 0 <= d < x.rank:
            raise DimensionError(f"[{name}] dimension {d} is outside {x}")
    if len(set(dims)) != len(dims):
        raise ShapeError(f"[{name}] a dimension appears twice in {dims}")


def reduced_shape(name: str, x: TensorType, dims: tuple[int, ...], keepdim: bool) -> Shape:
    """Shape after reducing `dims` (1 in their place if keepdim)."""
    check_dimensions(name, dims, x)
    if keepdim:
        return tuple(1 if axis in dims else size for axis, size in enumerate(x.shape))
    return tuple(size for axis, size in enumerate(x.shape) if axis not in dims)
