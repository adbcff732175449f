"""New tensors: from Python data and NumPy arrays, filled, and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.functions.movement import expand, sizes_of
from braze.functions.promotion import get_default_dtype, number_dtype, scalar
from braze.handle import SHARED
from braze.ir.dtypes import DType, f64, i64
from braze.ir.op import op_named
from braze.tensors import Tensor, apply, from_array

_FULL, _IOTA = op_named("full"), op_named("iota")


def check_device(device: Any) -> None:
    """The devices of this build: the CPU.

    Raises:
        RuntimeError: any other device.
    """
    if device is not None and str(device) != "cpu":
        raise RuntimeError(f"device {device!r} is not available; this machine has: cpu")


def _array_of(data: Any, dtype: DType | None) -> np.ndarray:
    """A fresh row-major array; Python floats get the default dtype, ints int64."""
    if isinstance(data, Tensor):
        array = np.array(data.numpy(force=True))
    elif isinstance(data, (np.ndarray, np.generic)):
        array = np.array(data)
    else:
        if isinstance(data, (list, tuple)) and _holds_tensors(data):
            data = [_array_of(item, None) for item in data]
            array = np.array(data)
        else:
            try:
                array = np.array(data)
            except ValueError as error:
                raise ValueError(
                    f"expected a rectangular nested sequence of numbers: {error}"
                ) from None
            if array.dtype.kind == "f" or array.size == 0 and dtype is None:
                array = array.astype(get_default_dtype().numpy)
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise TypeError(f"new(): invalid data type '{type(data).__name__}' ({array.dtype})")
    if dtype is not None:
        array = array.astype(dtype.numpy)
    return np.ascontiguousarray(array).reshape(array.shape)


def _holds_tensors(data: Sequence[Any]) -> bool:
    return any(
        isinstance(item, Tensor) or isinstance(item, (list, tuple)) and _holds_tensors(item)
        for item in data
    )


def tensor(
    data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor with a copy of the data.

    Args:
        data: a number, nested sequence, NumPy array or tensor.
        dtype: default: that of the data; the default dtype for Python floats, int64 for ints.

    Raises:
        TypeError: the data are not numbers. ValueError: the nesting is not rectangular.
    """
    check_device(device)
    result = from_array(_array_of(data, dtype))
    result.requires_grad = requires_grad
    return result


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """As `tensor`, sharing the memory of a tensor or array where nothing has to change."""
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray) and (dtype is None or data.dtype == dtype.numpy):
        return from_numpy(data)
    return tensor(data, dtype=dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory if it is row-major and writable, else a copy.

    Raises:
        TypeError: no array, or of a dtype that tensors do not have.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    shared = native.flags.c_contiguous and native.flags.writeable
    if not shared:
        return from_array(np.array(native, order="C"))
    return from_array(native, SHARED)


def legacy_tensor(*args: Any) -> Tensor:
    """`Tensor(2, 3)` (uninitialised) and `Tensor([1, 2])`, as in early PyTorch, in the default
    dtype."""
    if len(args) == 1 and not isinstance(args[0], int):
        return tensor(args[0], dtype=get_default_dtype())
    return empty(*args) if args else empty(0)


def _finish(result: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        result.requires_grad = True
    return result


def _constant(value: float, sizes: tuple[Any, ...], dtype: DType | None, grad: bool) -> Tensor:
    shape = sizes_of(sizes)
    call = call_of(_FULL, shape=shape, value=value, dtype=dtype or get_default_dtype())
    return _finish(apply(call), grad)


def zeros(
    *size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of zeros."""
    check_device(device)
    return _constant(0.0, size, dtype, requires_grad)


def ones(
    *size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of ones."""
    check_device(device)
    return _constant(1.0, size, dtype, requires_grad)


def empty(
    *size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor whose elements nobody has set (they are zeros here, so that programs are
    reproducible)."""
    return zeros(*size, dtype=dtype, device=device, requires_grad=requires_grad)


def full(
    size: Sequence[int],
    fill_value: float | int | bool,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of one value, whose dtype is the value's unless given."""
    check_device(device)
    value = scalar(fill_value, dtype or number_dtype(fill_value))
    return _finish(_own(expand(value, sizes_of((size,)))), requires_grad)


def _own(view: Tensor) -> Tensor:
    """A fresh result that is nobody's view."""
    view._base = None
    return view


def zeros_like(input: Tensor, *, dtype: DType | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape, and unless given the dtype, of another tensor."""
    return zeros(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype: DType | None = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape, and unless given the dtype, of another tensor."""
    return ones(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


def empty_like(input: Tensor, *, dtype: DType | None = None, requires_grad: bool = False) -> Tensor:
    """As `empty`, of the shape, and unless given the dtype, of another tensor."""
    return zeros_like(input, dtype=dtype, requires_grad=requires_grad)


def full_like(
    input: Tensor, fill_value: float, *, dtype: DType | None = None, requires_grad: bool = False
) -> Tensor:
    """One value in the shape, and unless given the dtype, of another tensor."""
    return full(input.shape, fill_value, dtype=dtype or input.dtype, requires_grad=requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... below end (`arange(end)` starts at 0); int64 for ints.

    Raises:
        RuntimeError: the step is zero or leads away from the end.
    """
    check_device(device)
    if end is None:
        start, end = 0, start
    if step == 0 or (end - start) / step < 0:
        raise RuntimeError(
            f"upper bound and lower bound inconsistent with step sign: {start}, {end}, {step}"
        )
    whole = all(isinstance(v, int) for v in (start, end, step))
    dtype = dtype or (i64 if whole else get_default_dtype())
    count = int(np.ceil((end - start) / step))
    ramp = apply(call_of(_IOTA, shape=(count,), dim=0, dtype=i64 if whole else f64))
    values = ramp * scalar(step, ramp.dtype) + scalar(start, ramp.dtype)
    return _finish(values.to(dtype), requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: DType | None = None, requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced values from start to end, both included."""
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    ramp = apply(call_of(_IOTA, shape=(steps,), dim=0, dtype=f64))
    gap = (end - start) / (steps - 1) if steps > 1 else 0.0
    values = ramp * scalar(gap, f64) + scalar(float(start), f64)
    return _finish(values.to(dtype or get_default_dtype()), requires_grad)


def eye(
    n: int, m: int | None = None, *, dtype: DType | None = None, requires_grad: bool = False
) -> Tensor:
    """The n x m matrix with ones on the diagonal."""
    shape = (n, n if m is None else m)
    rows = apply(call_of(_IOTA, shape=shape, dim=0, dtype=i64))
    columns = apply(call_of(_IOTA, shape=shape, dim=1, dtype=i64))
    return _finish((rows == columns).to(dtype or get_default_dtype()), requires_grad)
