"""Memory of GPUs to and from other libraries without a copy: DLPack and CUDA's array interface.

In: a tensor, or another library's array.  Out: a capsule or a dictionary that describes the memory,
or a tensor on it. DLPack's structures are those of its version 1.0 (dlpack.h); the array interface
is Numba's, version 3.

Such memory is exposed as a NumPy array's is (`braze.sharing`): what reads or writes it runs at
once, in its place in the stream.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from braze import engine
from braze.capture import flush, materialise
from braze.cuda.devices import device_at
from braze.handle import EXPOSED, concrete
from braze.ir.dtypes import ALL, DType, bf16
from braze.ir.types import tensor_type
from braze.tensors import Tensor, wrap
from braze.views import address_of, layout_of, root_of

_CUDA = 2  # DLPack's number of the kind of device
_INT, _UINT, _FLOAT, _BFLOAT, _COMPLEX, _BOOL = 0, 1, 2, 4, 5, 6
_KINDS = {"int": _INT, "uint": _UINT, "float": _FLOAT, "complex": _COMPLEX, "bool": _BOOL}
_READ_ONLY = 1  # a flag of the versioned structure
_LEGACY_STREAM = 1  # CUDA's null stream, in both protocols
_VERSION = (1, 0)
_NAMES = {False: b"dltensor", True: b"dltensor_versioned"}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


class _ManagedVersioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_STRUCTURES: dict[bool, Any] = {False: _Managed, True: _ManagedVersioned}

# The capsule's functions. A capsule that is being destroyed must not be counted again, so its
# address stands for it there.
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer_at = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_SetName", ctypes.pythonapi)
)
_USED = {False: b"used_dltensor", True: b"used_dltensor_versioned"}  # must outlive the capsules

# What was lent, by the address of the structure that says so.
_lent: dict[int, tuple[Any, ...]] = {}


@_Deleter
def _give_back(address: int) -> None:
    _lent.pop(address, None)


@_Destructor
def _destroy(capsule: int) -> None:
    """Of a capsule that nobody used."""
    for name in _NAMES.values():
        if _is_valid(capsule, name):
            _lent.pop(_pointer_at(capsule, name), None)


# Out ----------------------------------------------------------------------------------------------


def _memory(tensor: Tensor) -> tuple[Any, int, Sequence[int]]:
    """The storage of a tensor's root, which others reach from now on; the address of the tensor's
    first element; its strides in elements."""
    root = root_of(tensor)
    handle = root._current()
    storage = materialise(handle)
    pending = handle.pending
    if pending is not None and pending is pending.tracer.pending:
        flush()  # it reads the memory as it is now
    handle.flags |= EXPOSED
    return storage, address_of(tensor), layout_of(tensor).strides


def lent_capsule(
    tensor: Tensor,
    stream: Any,
    max_version: tuple[int, int] | None,
    dl_device: tuple[int, int] | None,
    copy: bool | None,
) -> Any:
    """A capsule on a tensor's memory; see `braze.dlpack.dlpack`.

    Raises:
        BufferError: the elements are wanted elsewhere.
    """
    index = tensor.get_device()
    if dl_device is not None and (int(dl_device[0]), int(dl_device[1])) != (_CUDA, index):
        raise BufferError(f"__dlpack__(): the tensor is on cuda:{index}, wanted is {dl_device}")
    if copy:
        tensor = tensor.clone()
    storage, address, strides = _memory(tensor)
    _wait_for(storage.stream, stream)
    versioned = max_version is not None and tuple(max_version) >= _VERSION
    managed = _STRUCTURES[versioned]()
    own = managed.tensor
    extents = (ctypes.c_int64 * tensor.ndim)(*tensor.shape)
    steps = (ctypes.c_int64 * tensor.ndim)(*strides)
    own.data, own.device_type, own.device_id, own.ndim = address, _CUDA, index, tensor.ndim
    own.code, own.bits, own.lanes = _code(tensor.dtype), 8 * tensor.dtype.itemsize, 1
    own.shape = ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
    own.strides = ctypes.cast(steps, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = _give_back
    if versioned:
        managed.major, managed.minor = _VERSION
    place = ctypes.addressof(managed)
    _lent[place] = managed, extents, steps, storage.lend()
    return _new(place, _NAMES[versioned], _destroy)


def _code(dtype: DType) -> int:
    return _BFLOAT if dtype is bf16 else _KINDS[dtype.kind]


def _handle(stream: Any) -> int:
    """A stream of the runtime as both protocols number it."""
    return _LEGACY_STREAM if stream.handle is None else int(stream.handle.handle)


def _wait_for(own: Any, consumer: Any) -> None:
    """Have all work on the memory done before what the consumer's stream does next."""
    if consumer == -1:
        return
    if consumer is not None and not isinstance(consumer, int):
        raise TypeError(f"__dlpack__(): a stream is a number, given {type(consumer).__name__}")
    if _handle(own) != (_LEGACY_STREAM if consumer is None else consumer):
        own.synchronize()


def array_interface(tensor: Tensor) -> dict[str, Any]:
    """`__cuda_array_interface__`: for libraries that take CUDA arrays, such as Numba, CuPy and
    mpi4py. The memory is theirs to use as long as they keep the tensor.

    Raises:
        AttributeError: the tensor is not on a GPU.
        RuntimeError: it requires a gradient. TypeError: the interface has no such dtype.
    """
    if not tensor.is_cuda:
        raise AttributeError(
            "Can't get __cuda_array_interface__ on non-CUDA tensor type: "
            f"{tensor.type()} If CUDA data is required use tensor.cuda() to copy tensor to device "
            "memory."
        )
    if tensor._requires_grad:
        raise RuntimeError(
            "Can't get __cuda_array_interface__ on Variable that requires grad. If gradients aren't"
            " required, use var.detach() to get Variable that doesn't require grad."
        )
    if tensor.dtype is bf16:
        raise TypeError("__cuda_array_interface__: NumPy's type strings have no bfloat16")
    storage, address, strides = _memory(tensor)
    tensor._loan = storage.lend()  # type: ignore[attr-defined]
    size = tensor.dtype.itemsize
    return {
        "shape": tuple(tensor.shape),
        "typestr": np.dtype(tensor.dtype.numpy).str,
        "strides": None if tensor.is_contiguous() else tuple(size * step for step in strides),
        "data": (address if tensor.numel() else 0, False),
        "stream": _handle(storage.stream),
        "version": 3,
    }


# In -----------------------------------------------------------------------------------------------


class _Capsule:
    """What was in a used capsule."""

    def __init__(self, address: int, versioned: bool) -> None:
        self.managed = _STRUCTURES[versioned].from_address(address)
        self._address = address
        self.is_read_only = versioned and bool(self.managed.flags & _READ_ONLY)

    def give_back(self) -> None:
        """Call the producer's deleter, once."""
        address, self._address = self._address, 0
        if address and self.managed.deleter:
            self.managed.deleter(address)


class _Kept:
    """Keeps an object whose memory is used."""

    def __init__(self, thing: object) -> None:
        self._thing: object = thing

    def give_back(self) -> None:
        """Let go of it."""
        self._thing = None


def from_capsule(source: Any, index: int, device: Any, copy: bool | None) -> Tensor:
    """A tensor on another library's memory; see `braze.dlpack.from_dlpack`.

    Raises:
        BufferError: it cannot be shared with copy=False, or is wanted elsewhere.
        TypeError: a dtype that tensors do not have.
    """
    place = device_at(index)
    _check_place(place, device)
    stream = _handle(place.stream)
    try:
        capsule = source.__dlpack__(stream=stream, max_version=_VERSION)
    except TypeError:
        capsule = source.__dlpack__(stream=stream)
    versioned = bool(_is_valid(id(capsule), _NAMES[True]))
    given = _Capsule(_pointer_of(capsule, _NAMES[versioned]), versioned)
    _set_name(capsule, _USED[versioned])
    try:
        own = given.managed.tensor
        shape = tuple(own.shape[: own.ndim]) if own.ndim else ()
        strides = tuple(own.strides[: own.ndim]) if own.ndim and own.strides else None
        dtype = _dtype(own.code, own.bits, own.lanes)
    except BaseException:
        given.give_back()
        raise
    address = int(own.data or 0) + own.byte_offset
    return _tensor_on(
        place, address, dtype, shape, strides, given, given.is_read_only or bool(copy), copy
    )


def _check_place(place: Any, device: Any) -> None:
    from braze.devices import place_of

    if device is not None and place_of(device) != place.name:
        raise BufferError(f"from_dlpack(): the array is on {place.name}, wanted is {device}")


def _dtype(code: int, bits: int, lanes: int) -> DType:
    for dtype in ALL:
        if (_code(dtype), 8 * dtype.itemsize, 1) == (code, bits, lanes):
            return dtype
    raise TypeError(f"from_dlpack(): no dtype has {bits} bits of kind {code}, in {lanes} lanes")


def from_array_interface(array: Any) -> Tensor:
    """A tensor on the memory of an object with `__cuda_array_interface__`, on the current device.

    Raises:
        TypeError: a dtype that tensors do not have.
        ValueError: some elements are masked.
    """
    facts = array.__cuda_array_interface__
    if facts.get("mask") is not None:
        raise ValueError("__cuda_array_interface__: masked arrays are not supported")
    place = device_at(None)
    numpy_dtype = np.dtype(facts["typestr"])
    found = [d for d in ALL if d is not bf16 and np.dtype(d.numpy) == numpy_dtype]
    if not found:
        raise TypeError(f"__cuda_array_interface__: no dtype is {facts['typestr']!r}")
    size, strides = numpy_dtype.itemsize, facts.get("strides")
    steps = None if strides is None else tuple(step // size for step in strides)
    stream = facts.get("stream")
    if stream is not None and stream != _handle(place.stream):
        with place.active():  # whoever made the array says where the work on it is
            place.context.synchronize()
    address, is_read_only = facts["data"]
    return _tensor_on(
        place, address, found[0], tuple(facts["shape"]), steps, _Kept(array), is_read_only, None
    )


def _tensor_on(
    place: Any,
    address: int,
    dtype: DType,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None,
    giver: Any,
    is_copied: bool,
    copy: bool | None,
) -> Tensor:
    """A tensor on foreign memory, or on a copy of it.

    Args:
        strides: in elements; None for row-major.
        is_copied: whether to copy in any case. copy: False to raise where it is not shared.
    """
    cuda = engine.cuda()
    if not prod(shape):
        giver.give_back()
        empty = cuda.DeviceStorage.on(place, 0)
        return wrap(concrete(tensor_type(dtype, shape, place.name), empty), None, 0)
    if strides is None:
        strides = tuple(prod(shape[dim + 1 :]) for dim in range(len(shape)))
    if min(strides, default=0) < 0:
        giver.give_back()
        raise BufferError(f"tensors with negative strides are not supported, given {strides}")
    extent = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    nbytes = extent * dtype.itemsize
    shareable = cuda.DeviceStorage.is_shareable(address, nbytes)
    if copy is False and (is_copied or not shareable):
        giver.give_back()
        raise BufferError("from_dlpack(): this array cannot be shared without a copy")
    if shareable and not is_copied:
        storage = cuda.DeviceStorage.foreign(place, address, nbytes, giver)
    else:
        storage = cuda.DeviceStorage.copied(place, address, nbytes)
        giver.give_back()
    flags = EXPOSED if storage.is_reachable else 0
    flat = wrap(concrete(tensor_type(dtype, (extent,), place.name), storage, flags), None, 0)
    return flat.as_strided(shape, strides)
