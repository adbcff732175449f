"""DLPack: tensors to and from other libraries without a copy.

NumPy speaks the protocol and keeps the memory alive, so a tensor goes out and comes in as a NumPy
array on the same memory (of a GPU's, see `braze.cuda.interchange`). NumPy has no bfloat16: such
tensors travel as unsigned 16-bit integers, and the capsule's type field, at a place that the
protocol fixes, says bfloat16 instead.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any

import numpy as np

from braze.ir.dtypes import bf16
from braze.tensors import Tensor


class DLDeviceType(IntEnum):
    """The protocol's numbers for kinds of devices."""

    kDLCPU = 1
    kDLCUDA = 2


# Bytes from the start of the managed tensor to the code of its dtype, by the capsule's name.
# A DLTensor is: data (8), device (4 + 4), ndim (4), then the dtype: code (1), bits (1), lanes (2).
# The versioned struct has before it: version (4 + 4), context (8), deleter (8), flags (8).
_CODE_AT = {b"dltensor": 20, b"dltensor_versioned": 32 + 20}
_UINT, _BFLOAT = 1, 4

_capsule_name = ctypes.pythonapi.PyCapsule_GetName
_capsule_name.restype, _capsule_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def _code(capsule: Any) -> Any:
    """The dtype's code inside a capsule, as a byte that can be set, and the bits behind it.

    Raises:
        TypeError: no DLPack capsule, or one that has been used.
    """
    try:
        name = _capsule_name(capsule)
    except ValueError:
        name = None
    if name not in _CODE_AT:
        raise TypeError(
            "from_dlpack(): a DLPack capsule that nobody has used was expected, given "
            f"{type(capsule).__name__}"
        )
    address = _capsule_pointer(capsule, name)
    return (ctypes.c_uint8 * 2).from_address(address + _CODE_AT[name])


def dlpack(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """A capsule on this tensor's memory, for `from_dlpack` of another library. A sync point.

    Args:
        stream: of a tensor on a GPU, the consumer's: its handle, 1 or None for the legacy default
            stream, -1 if it does not matter when the elements are there. On the CPU None.
        max_version: the newest version of the protocol that the consumer knows.
        dl_device: where the consumer wants the elements; only the CPU.
        copy: True for memory of its own.

    Raises:
        BufferError: the tensor requires a gradient, or the consumer wants what is not there.
    """
    if self._requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if self.is_cuda:
        from braze.cuda.interchange import lent_capsule

        return lent_capsule(self, stream, max_version, dl_device, copy)
    array = self._exposed()
    if self.dtype is bf16:
        array = array.view(np.uint16)
    capsule = array.__dlpack__(
        stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
    )
    if self.dtype is bf16:
        _code(capsule)[0] = _BFLOAT
    return capsule


def dlpack_device(self: Tensor) -> tuple[DLDeviceType, int]:
    """The device as DLPack numbers it: (kDLCPU, 0) or (kDLCUDA, number)."""
    if self.is_cuda:
        return DLDeviceType.kDLCUDA, self.get_device()
    return DLDeviceType.kDLCPU, 0


class _Carrier:
    """An object that hands out a capsule, as NumPy wants to be given one."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **ignored: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


class _Writable:
    """The memory of an array that NumPy holds to be read-only, because the protocol's first version
    could not say."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def _capsule_of(ext_tensor: Any, **wanted: Any) -> Any:
    """A capsule from an object that may know only the protocol's first version."""
    try:
        return ext_tensor.__dlpack__(max_version=(1, 0), **wanted)
    except TypeError:
        if any(value is not None for value in wanted.values()):
            raise
        return ext_tensor.__dlpack__()


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor on the memory of another library's array.

    Memory is shared in both directions where `from_numpy` would share it; a read-only array is
    copied.

    Args:
        ext_tensor: an object with `__dlpack__`, or a capsule.
        device: where the tensor is to be: None, or the array's own device.
        copy: True to copy in any case, False to raise where sharing is not possible.

    Raises:
        TypeError: no such object, or a dtype that tensors do not have.
        BufferError: the elements are on another device, or cannot be shared with copy=False.
    """
    from braze.devices import place_of
    from braze.functions.creation import from_numpy

    kind, index = DLDeviceType.kDLCPU, 0
    if hasattr(ext_tensor, "__dlpack_device__"):
        kind, index = ext_tensor.__dlpack_device__()
    if int(kind) == DLDeviceType.kDLCUDA:
        from braze.cuda.interchange import from_capsule

        return from_capsule(ext_tensor, int(index), device, copy)
    if int(kind) != DLDeviceType.kDLCPU:
        raise BufferError(f"from_dlpack(): device type {int(kind)} is neither the CPU nor CUDA")
    if device is not None and place_of(device) != "cpu":
        raise BufferError(f"from_dlpack(): the array is on the CPU, wanted is {device}")
    if hasattr(ext_tensor, "__dlpack__"):
        wanted = {} if copy is None else {"copy": copy}
        capsule = _capsule_of(ext_tensor, **wanted)
    else:
        capsule = ext_tensor
    code = _code(capsule)
    brain = code[0] == _BFLOAT and code[1] == 16
    if brain:
        code[0] = _UINT
    versioned = _capsule_name(capsule) != b"dltensor"
    array = np.from_dlpack(_Carrier(capsule))  # type: ignore[arg-type]
    if not versioned:
        array = np.asarray(_Writable(array))
    if brain:
        array = array.view(bf16.numpy)
    tensor = from_numpy(array)
    if copy is False and tensor.numel() and tensor.data_ptr() != array.ctypes.data:
        raise BufferError("from_dlpack(): this array cannot be shared without a copy")
    return tensor


def to_dlpack(tensor: Tensor) -> Any:
    """A capsule on a tensor's memory, which one consumer may use."""
    return tensor.__dlpack__()


def cuda_array_interface(self: Tensor) -> dict[str, Any]:
    """The memory of a tensor on a GPU, as libraries for CUDA take it.

    Raises:
        AttributeError: the tensor is not on a GPU.
        RuntimeError: it requires a gradient. TypeError: it is of bfloat16.
    """
    from braze.cuda.interchange import array_interface

    return array_interface(self)


METHODS = {
    "__dlpack__": dlpack,
    "__dlpack_device__": dlpack_device,
    "__cuda_array_interface__": property(cuda_array_interface),
}
