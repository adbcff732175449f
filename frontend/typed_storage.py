"""`Tensor.storage()`: a tensor's memory as a flat array, in early PyTorch's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from braze.devices import device
from braze.ir.dtypes import DType, bf16, u8
from braze.tensors import Tensor


class TypedStorage:
    """The memory of a tensor and of all its views, as a row of numbers. Writing to it writes to
    them.

    Attributes:
        dtype: of the numbers. device: where they are.
    """

    def __init__(self, owner: Tensor, dtype: DType) -> None:
        self._owner = owner
        self.dtype = dtype

    @property
    def _array(self) -> np.ndarray:
        return self._owner._exposed().reshape(-1).view(self.dtype.numpy)

    def as_tensor(self) -> Tensor:
        """The tensor that owns the memory, or its bytes as `dtype`, in one dimension."""
        flat: Tensor = self._owner.detach().reshape(-1)
        return flat if flat.dtype is self.dtype else flat.view(self.dtype)  # type: ignore[no-any-return]

    @property
    def device(self) -> device:
        """Where the numbers are."""
        found: device = self._owner.device
        return found

    def __len__(self) -> int:
        return self.nbytes() // self.dtype.itemsize

    size = __len__

    def nbytes(self) -> int:
        """Bytes in all."""
        return self._owner._handle.type.nbytes

    def element_size(self) -> int:
        """Bytes of one number."""
        return self.dtype.itemsize

    def data_ptr(self) -> int:
        """The address of the first number."""
        return self._owner.data_ptr()

    def tolist(self) -> list[Any]:
        """The numbers as a list."""
        array = self._array
        return (array.astype(np.float32) if self.dtype is bf16 else array).tolist()  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def __getitem__(self, key: int | slice) -> Any:
        return self.tolist()[key]

    def __setitem__(self, key: int | slice, value: Any) -> None:
        self._array[key] = value

    def fill_(self, value: float) -> TypedStorage:
        """Set every number."""
        self._array[...] = value
        return self

    def copy_(self, source: TypedStorage) -> TypedStorage:
        """Take over the numbers of another storage of this length."""
        if len(source) != len(self):
            raise RuntimeError(f"storages differ in size: {len(self)} and {len(source)}")
        self._array[...] = source._array
        return self

    def clone(self) -> TypedStorage:
        """A copy with its own memory."""
        from braze.tensors import from_array

        return TypedStorage(from_array(self._array.copy()), self.dtype)

    def is_shared(self) -> bool:
        """Whether the memory is one that processes share."""
        shared: bool = self._owner.is_shared()
        return shared

    def share_memory_(self) -> TypedStorage:
        """Move the numbers to memory that processes share."""
        self._owner.share_memory_()
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypedStorage) and self.data_ptr() == other.data_ptr()

    def __hash__(self) -> int:
        return hash(self.data_ptr())

    def __repr__(self) -> str:
        numbers = "\n ".join(map(str, self.tolist()))
        return (
            f" {numbers}\n[braze.TypedStorage(dtype={self.dtype!r}, device={self.device}) of size "
            f"{len(self)}]"
        )


def root_of(tensor: Tensor) -> Tensor:
    """The tensor whose memory a view shows (or itself)."""
    while tensor._base is not None:
        tensor = tensor._base
    return tensor


def storage(self: Tensor) -> TypedStorage:
    """The memory that this tensor and its views share."""
    return TypedStorage(root_of(self), self.dtype)


def untyped_storage(self: Tensor) -> TypedStorage:
    """The same memory as bytes."""
    return TypedStorage(root_of(self), u8)


def is_storage(obj: Any) -> bool:
    """Whether an object is a storage."""
    return isinstance(obj, TypedStorage)


METHODS = {"storage": storage, "untyped_storage": untyped_storage}
