"""What a tensor tells of itself: its elements, as Python numbers and NumPy arrays, and its type."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from braze.attached import AttachedMethods
from braze.capture import Call, call_of, materialise
from braze.devices import device, device_named
from braze.handle import Handle
from braze.ir.dtypes import DType, bf16
from braze.ir.op import op_named
from braze.sizes import Size


@functools.lru_cache(maxsize=256)
def _rows(size: int) -> list[Call]:
    """The movements to all indices of the first dimension."""
    select = op_named("select")
    return [call_of(select, dim=0, index=i) for i in range(size)]


class Reading(AttachedMethods):
    """The part of `Tensor` that reads."""

    __slots__ = ()

    _handle: Handle
    _base: Any
    _requires_grad: bool

    def _current(self) -> Handle:
        raise NotImplementedError

    # Elements -------------------------------------------------------------------------------------

    def _numpy(self) -> np.ndarray:
        """The elements as an array that shares this tensor's memory; a copy to read of what is on a
        GPU."""
        handle = self._current()
        storage = materialise(handle)
        if handle.type.device != "cpu":
            array = storage.to_host().array(handle.type.dtype.numpy, handle.type.shape)  # type: ignore[attr-defined]
            array.flags.writeable = False
            return array  # type: ignore[no-any-return]
        return storage.array(handle.type.dtype.numpy, handle.type.shape)

    def _exposed(self) -> np.ndarray:
        """An array for others to keep, on this tensor's memory; a view's is on its root's."""
        from braze.views import memory_of

        return memory_of(self)  # type: ignore[arg-type]

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The elements as a NumPy array sharing this tensor's memory. A sync point.

        What is written to one side from then on is seen by the other at once. A bfloat16 tensor
        gives an array of `ml_dtypes.bfloat16`.

        Raises:
            RuntimeError: the tensor requires a gradient (use ``.detach().numpy()`` or
                ``force=True``).
            TypeError: the tensor is on a GPU (use ``.cpu()`` or ``force=True``).
        """
        if self._requires_grad and not force:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() "
                "instead."
            )
        place = self._handle.type.device
        if place != "cpu":
            if not force:
                raise TypeError(
                    f"can't convert {place} device type tensor to numpy. Use Tensor.cpu() to copy "
                    "the tensor to host memory first."
                )
            return self._numpy().copy()
        return self._exposed()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(
                    f"unable to avoid a copy: the tensor is {array.dtype}, wanted is {dtype}"
                )
            return array.astype(dtype)
        return array.copy() if copy else array

    def item(self) -> Any:
        """The only element as a Python number. A sync point.

        Raises:
            RuntimeError: there is not exactly one element.
        """
        if self._handle.type.numel != 1:
            raise RuntimeError(
                f"a Tensor with {self.numel()} elements cannot be converted to Scalar"
            )
        handle = self._current()
        return materialise(handle).number(handle.type.dtype)

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers. A sync point."""
        array = self._numpy()
        return (array.astype(np.float32) if self.dtype is bf16 else array).tolist()

    def __bool__(self) -> bool:
        if self._handle.type.numel != 1:
            raise RuntimeError(
                "Boolean value of Tensor with more than one value is ambiguous"
                if self._handle.type.numel
                else "Boolean value of Tensor with no values is ambiguous"
            )
        return bool(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Any:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        size = self._handle.type.shape[0]
        from braze.tensors import Tensor, view_of

        own = type(self).__getitem__ is Tensor.__getitem__  # and no subclass's
        if not own or self._handle.__class__ is not Handle:
            return iter([self[i] for i in range(size)])
        return iter([view_of(row, self) for row in _rows(size)])  # type: ignore[arg-type]

    def __repr__(self) -> str:
        from braze.printing import format_tensor

        return format_tensor(self)  # type: ignore[arg-type]

    # Type -----------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The sizes of the dimensions."""
        return tuple.__new__(Size, self._handle.type.shape)

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self._handle.type.dtype

    @property
    def device(self) -> device:
        """Where the elements are."""
        return device_named(self._handle.type.device)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._handle.type.shape)

    @property
    def is_cuda(self) -> bool:
        """Whether the tensor is on a GPU."""
        return self._handle.type.device.startswith("cuda")

    def dim(self) -> int:
        """The number of dimensions."""
        return len(self._handle.type.shape)

    def numel(self) -> int:
        """The number of elements."""
        return self._handle.type.numel

    nelement = numel

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    def data_ptr(self) -> int:
        """The address of the first element. A sync point."""
        if self._base is None:
            return int(materialise(self._handle).address)
        from braze.views import address_of

        return address_of(self)  # type: ignore[arg-type]
