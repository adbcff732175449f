"""Tensors on memory that is already there (buffers, files, other libraries' arrays), and of given
strides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.devices import place_of
from braze.dlpack import from_dlpack
from braze.functions.creation import empty, from_numpy, tensor
from braze.functions.movement import clone, permute
from braze.functions.promotion import cast, get_default_dtype
from braze.functions.views import as_strided
from braze.ir.dtypes import DType
from braze.ir.ops.rules import normalise_dimension
from braze.ir.ops.strided import last_place
from braze.placing import makes, moved
from braze.tensors import Tensor


@makes
def empty_strided(
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """As `empty`, with given strides, on memory that is just large enough."""
    sizes, strides = tuple(map(int, size)), tuple(map(int, stride))
    if len(sizes) != len(strides):
        raise RuntimeError(
            f"dimensionality of sizes ({len(sizes)}) must match dimensionality of strides "
            f"({len(strides)})"
        )
    needed = last_place(sizes, strides, 0) + 1 if math.prod(sizes) else 0
    return as_strided(empty(needed, dtype=dtype), sizes, strides).requires_grad_(requires_grad)


@makes
def empty_permuted(
    size: Sequence[int],
    physical_layout: Sequence[int],
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """As `empty`, with the dimensions in another order in memory.

    Args:
        physical_layout: the dimensions, the outermost in memory first.

    Raises:
        RuntimeError: it is no order of the dimensions.
    """
    sizes = tuple(map(int, size))
    if len(sizes) != len(physical_layout):
        raise RuntimeError(
            f"Number of dimensions in size does not match the length of the physical_layout; i.e. "
            f"len(size) = {len(sizes)} is not equal to len(physical_layout) = "
            f"{len(physical_layout)}"
        )
    order = [normalise_dimension("empty_permuted", d, len(sizes)) for d in physical_layout]
    if len(set(order)) != len(order):
        raise RuntimeError("Duplicate dim not allowed")
    memory = empty([sizes[d] for d in order], dtype=dtype)
    view = permute(memory, [order.index(d) for d in range(len(order))])
    return view.requires_grad_(requires_grad)


def frombuffer(
    buffer: Any,
    *,
    dtype: DType,
    count: int = -1,
    offset: int = 0,
    requires_grad: bool = False,
) -> Tensor:
    """A vector on the memory of an object with Python's buffer protocol; a copy where that is
    read-only.

    Args:
        count: how many elements; as many as there are by default.
        offset: where they start, in bytes.

    Raises:
        ValueError: the buffer has not these elements.
    """
    view = memoryview(buffer)
    length, width = view.nbytes, dtype.itemsize
    if length == 0 or count == 0:
        raise ValueError(f"both buffer length ({length}) and count ({count}) must not be 0")
    if not 0 <= offset < length:
        raise ValueError(
            f"offset ({offset} bytes) must be non-negative and no greater than buffer length "
            f"({length} bytes) minus 1"
        )
    if count < 0 and (length - offset) % width:
        raise ValueError(
            f"buffer length ({length - offset} bytes) after offset ({offset} bytes) must be a "
            f"multiple of element size ({width})"
        )
    if count > 0 and offset + count * width > length:
        raise ValueError(
            f"requested buffer length ({count} * {width} bytes) after offset ({offset} bytes) must "
            f"not be greater than actual buffer length ({length} bytes)"
        )
    array = np.frombuffer(buffer, dtype=dtype.numpy, count=count, offset=offset)
    if not array.flags.writeable:
        warnings.warn("The given buffer is not writable; the tensor is a copy", stacklevel=2)
    result = from_numpy(array)
    return result.requires_grad_() if requires_grad else result


@makes
def from_file(
    filename: str,
    shared: bool | None = None,
    size: int = 0,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
) -> Tensor:
    """A vector on a file's contents.

    Args:
        shared: what is written to the tensor goes to the file, which is made or lengthened if need
            be.
        size: the number of elements.

    Raises:
        RuntimeError: the file is too short, and not `shared`. OSError: it cannot be opened.
    """
    chosen = dtype or get_default_dtype()
    needed = size * chosen.itemsize
    if shared:
        with open(filename, "ab") as file:
            if file.tell() < needed:
                file.truncate(needed)
    if not size:
        return empty(0, dtype=chosen)
    with open(filename, "rb") as file:
        have = file.seek(0, 2)
    if have < needed:
        raise RuntimeError(f"file <{filename}> size <{have}> is smaller than the required {needed}")
    memory = np.memmap(filename, dtype=chosen.numpy, mode="r+" if shared else "c", shape=(size,))
    return from_numpy(memory)


def asarray(
    obj: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of what is given: a tensor, an array, an object that speaks DLPack or the buffer
    protocol, a number or nested sequence.

    Args:
        copy: always (True), never (False) or only if need be (None).

    Raises:
        ValueError: a copy is needed, and `copy` is False.
    """
    shared: Tensor | None = None
    if isinstance(obj, Tensor):
        shared = obj
    elif isinstance(obj, np.ndarray):
        shared = from_numpy(obj)
    elif hasattr(obj, "__dlpack__"):
        shared = from_dlpack(obj)
    elif isinstance(obj, (bytes, bytearray, memoryview)):
        shared = frombuffer(obj, dtype=dtype or get_default_dtype())
    if shared is None:
        if copy is False:
            raise ValueError("can't alias arbitrary sequence into a tensor.")
        return tensor(obj, dtype=dtype, device=device, requires_grad=requires_grad)
    place = shared._handle.type.device if device is None else place_of(device)
    if place != shared._handle.type.device and copy is False:
        raise ValueError("can't alias tensor with different device")
    placed = moved(shared, place)
    result = placed if dtype is None else cast(placed, dtype)
    if result is not shared and copy is False:
        raise ValueError(f"can't alias tensor with dtype {shared.dtype!r} into dtype {dtype!r}.")
    if copy and result is shared:
        result = clone(shared)
    if not requires_grad:
        return result.detach() if result.requires_grad else result
    return result if result.requires_grad else result.requires_grad_()
