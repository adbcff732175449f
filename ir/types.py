"""The type of an IR value: dtype, static shape and device."""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass
from functools import cached_property, lru_cache
from weakref import WeakValueDictionary

from braze.ir.dtypes import DType
from braze.ir.errors import ShapeError

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TensorType:
    """Dtype, shape and device of a value.

    Made by `tensor_type`, which shares equal types: so two are equal only if they are the same
    object, and as keys they cost as little as any object.
    """

    dtype: DType
    shape: Shape
    device: str = "cpu"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @cached_property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the row-major array."""
        return self.numel * self.dtype.itemsize

    def with_shape(self, shape: Shape) -> TensorType:
        return tensor_type(self.dtype, tuple(shape), self.device)

    def with_dtype(self, dtype: DType) -> TensorType:
        return tensor_type(dtype, self.shape, self.device)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return tensor_type, (self.dtype, self.shape, self.device)

    def __str__(self) -> str:
        device = "" if self.device == "cpu" else f"@{self.device}"
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]{device}"


@lru_cache(maxsize=65536)
def tensor_type(dtype: DType, shape: Shape = (), device: str = "cpu") -> TensorType:
    """The shared `TensorType` of these three; equal arguments give the same object."""
    key = (dtype, shape, device)
    with _Sharing.lock:
        known = _types.get(key)
        if known is None:
            known = _types[key] = TensorType(dtype, shape, device)
    return known


def symbolic_type(dtype: DType, shape: Shape, device: str = "cpu") -> TensorType:
    """A type with symbolic sizes (`braze.ir.symint`), equal to no other: as numbers these may be
    what the sizes of a shared type are."""
    return TensorType(dtype, shape, device)


# Every type that somebody holds; the cache above may have forgotten it.
_types: WeakValueDictionary[tuple[DType, Shape, str], TensorType] = WeakValueDictionary()


class _Sharing:
    """Who may add a type; a forked child starts anew, as another thread may have been about to."""

    lock = threading.RLock()

    @classmethod
    def after_fork(cls) -> None:
        cls.lock = threading.RLock()


os.register_at_fork(after_in_child=_Sharing.after_fork)


def broadcast_shapes(name: str, *types: TensorType) -> Shape:
    """The shape that NumPy's broadcasting gives for `types`.

    Args:
        name: the operation, for the message.

    Raises:
        ShapeError: two sizes differ in a dimension and neither is 1.
    """
    rank = max((t.rank for t in types), default=0)
    shape = [1] * rank
    for t in types:
        for axis, size in enumerate(t.shape, start=rank - t.rank):
            if size != 1 and shape[axis] not in (1, size):
                given = ", ".join(map(str, types))
                raise ShapeError(
                    f"[{name}] shapes do not broadcast: {given} "
                    f"({shape[axis]} != {size} at dimension {axis - rank})"
                )
            if size != 1:
                shape[axis] = size
    return tuple(shape)


def row_major_strides(shape: Shape) -> tuple[int, ...]:
    """Strides in elements of a row-major array.

    Example:
        >>> row_major_strides((2, 3, 4))
        (12, 4, 1)
    """
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)
