"""New tensors: from Python data and NumPy arrays, filled, and ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.devices import check_device
from braze.functions.movement import expand, permute, reshape, sizes_of
from braze.functions.promotion import get_default_dtype, number_dtype, scalar
from braze.handle import EXPOSED, SparseHandle
from braze.ir.dtypes import DType, f64, i64, promote
from braze.ir.dtypes import from_numpy as dtype_of_numpy
from braze.ir.op import op_named
from braze.layouts import sparse_coo, strided
from braze.tensors import Tensor, apply, from_array, view_of

_PYTHON_NUMBERS = {bool, int, float}
_FULL, _IOTA = op_named("full"), op_named("iota")


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
            found: set[DType] = set()
            if dtype is None and isinstance(data, (list, tuple)) and array.dtype.kind in "biuf":
                found = _dtypes_in(data)
            if found:
                array = array.astype(reduce(promote, found).numpy)
            elif dtype is None and (array.dtype.kind == "f" or array.size == 0):
                array = array.astype(get_default_dtype().numpy)
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise TypeError(f"new(): invalid data type '{type(data).__name__}' ({array.dtype})")
    if dtype is not None:
        array = array.astype(dtype.numpy)
    return np.ascontiguousarray(array).reshape(array.shape)


def _dtypes_in(data: Sequence[Any]) -> set[DType]:
    """The dtypes of the numbers in a nested sequence: a Python float has the default one."""
    kinds = set(map(type, data))
    if kinds <= _PYTHON_NUMBERS:
        return {number_dtype(kind()) for kind in kinds}
    found = set()
    for item in data:
        if isinstance(item, (list, tuple)):
            found |= _dtypes_in(item)
        elif isinstance(item, (np.ndarray, np.generic)):
            found.add(dtype_of_numpy(item.dtype))
        elif isinstance(item, (int, float)):
            found.add(number_dtype(item))
        else:
            found |= _dtypes_in(np.asarray(item).tolist())
    return found


def _holds_tensors(data: Sequence[Any]) -> bool:
    if set(map(type, data)) <= _PYTHON_NUMBERS:
        return False
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
    if isinstance(data, Tensor) and data.is_sparse:
        return _finish(data.detach().clone().to(dtype or data.dtype), requires_grad)
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
    """A tensor that shares the array's memory: what is written to one side is seen by the other.

    Arrays that are not row-major are shared as views where they are a permutation or a part of one
    that is. An array that is read-only, of foreign byte order, or otherwise strided is copied.

    Raises:
        TypeError: no array, or of a dtype that tensors do not have.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if not native.flags.writeable:
        return from_array(np.array(native, order="C"))
    if native.flags.c_contiguous:
        return from_array(native, EXPOSED)
    view = _view_on(native)
    return from_array(np.array(native, order="C")) if view is None else view


def _view_on(array: np.ndarray) -> Tensor | None:
    """A tensor on a strided array, as a view of one on row-major memory; None where there is no
    such memory."""
    order = sorted(range(array.ndim), key=lambda d: -array.strides[d])
    sorted_array = array.transpose(order)
    back = [order.index(d) for d in range(array.ndim)]
    if sorted_array.flags.c_contiguous:
        return permute(from_array(sorted_array, EXPOSED), back)
    base = array.base
    if not isinstance(base, np.ndarray) or base.dtype != array.dtype:
        return None
    if not (base.flags.c_contiguous and base.flags.writeable and base.size and array.size):
        return None
    flat = base.reshape(-1)
    # Rows that fill the memory, or else rows as long as the part's first stride.
    found = _part_of(flat, sorted_array, len(flat)) or _part_of(flat, sorted_array, 0)
    if found is None:
        return None
    block, starts, stops, steps = found
    call = call_of(op_named("slice"), starts=starts, stops=stops, steps=steps)
    whole = from_array(block, EXPOSED)
    return permute(reshape(view_of(call, whole), sorted_array.shape), back)


def _part_of(flat: np.ndarray, part: np.ndarray, multiple: int) -> tuple[Any, ...] | None:
    """A row-major block on flat memory, and the slice of it (starts, stops, steps) that shows a
    part.

    Args:
        part: with falling strides.
        multiple: of the block's first stride.
    """
    item = flat.itemsize
    wanted = [(n, s // item) for n, s in zip(part.shape, part.strides, strict=True) if n > 1]
    if any(stride <= 0 for _, stride in wanted):
        return None
    # The block's strides divide each other, and each of the part's is a multiple of one of them.
    strides = list(accumulate((stride for _, stride in wanted), math.gcd, initial=multiple))[1:]
    if any(a == b for a, b in pairwise(strides)):
        return None
    strides = strides or [1]
    shape = [len(flat) // strides[0], *(a // b for a, b in pairwise(strides)), strides[-1]]
    steps = [1] * len(shape)
    offset = (part.__array_interface__["data"][0] - flat.__array_interface__["data"][0]) // item
    starts = []
    for stride in (*strides, 1):
        starts.append(offset // stride)
        offset %= stride
    stops = [start + 1 for start in starts]
    for dim, (size, stride) in enumerate(wanted):
        steps[dim] = stride // strides[dim]
        stops[dim] = starts[dim] + (size - 1) * steps[dim] + 1
    if any(stop > size for stop, size in zip(stops, shape, strict=True)):
        return None
    block = flat[: math.prod(shape)].reshape(shape)
    return block, tuple(starts), tuple(stops), tuple(steps)


def legacy_tensor(*args: Any) -> Tensor:
    """`Tensor(2, 3)` (uninitialised) and `Tensor([1, 2])`, as in early PyTorch, in the default
    dtype."""
    from braze.functions.tensor_types import construct

    return construct(args, get_default_dtype())


def _finish(result: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        result.requires_grad = True
    return result


def _constant(value: float, sizes: tuple[Any, ...], dtype: DType | None, grad: bool) -> Tensor:
    shape = sizes_of(sizes)
    call = call_of(_FULL, shape=shape, value=value, dtype=dtype or get_default_dtype())
    return _finish(apply(call), grad)


def _asks_for_sparse(layout: Any) -> bool:
    """Whether a factory function is to make a sparse tensor.

    Raises:
        TypeError: the layout is none.
    """
    if layout is None or layout is strided:
        return False
    if layout is not sparse_coo:
        raise TypeError(f"layout must be a braze.layout, given {layout!r}")
    return True


def _no_entries(size: tuple[Any, ...], dtype: DType | None, requires_grad: bool) -> Tensor:
    from braze.sparse.construction import empty_sparse

    result = empty_sparse(sizes_of(size), dtype or get_default_dtype())
    return _finish(result, requires_grad)


def refuse_sparse(name: str, input: Any = None, layout: Any = None) -> None:
    """Raises: NotImplementedError if a tensor to be like is sparse, or a layout is, for a result
    that would have no zeros."""
    if layout is not None:
        is_sparse = _asks_for_sparse(layout)
    else:
        is_sparse = input is not None and isinstance(input._handle, SparseHandle)
    if is_sparse:
        raise NotImplementedError(f"{name}() is not implemented for sparse layout")


def zeros(
    *size: Any,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor of zeros; without entries, if the layout is `braze.sparse_coo`."""
    check_device(device)
    if layout is not None and _asks_for_sparse(layout):
        return _no_entries(size, dtype, requires_grad)
    return _constant(0.0, size, dtype, requires_grad)


def ones(
    *size: Any,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor of ones."""
    check_device(device)
    refuse_sparse("ones", layout=layout)
    return _constant(1.0, size, dtype, requires_grad)


def empty(
    *size: Any,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor whose elements nobody has set (they are zeros here, so that programs are
    reproducible)."""
    return zeros(*size, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad)


def full(
    size: Sequence[int],
    fill_value: float | int | bool,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of one value, whose dtype is the value's unless given."""
    check_device(device)
    refuse_sparse("full", layout=layout)
    value = scalar(fill_value, dtype or number_dtype(fill_value))
    return _finish(_own(expand(value, sizes_of((size,)))), requires_grad)


def _own(view: Tensor) -> Tensor:
    """A fresh result that is nobody's view."""
    view._base = None
    return view


def zeros_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Zeros of the shape, and unless given the dtype and layout, of another tensor."""
    check_device(device)
    if layout is None and isinstance(input._handle, SparseHandle):
        layout = sparse_coo
    dtype = dtype or input.dtype
    return zeros(input.shape, dtype=dtype, layout=layout, requires_grad=requires_grad)


def ones_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Ones of the shape, and unless given the dtype, of another tensor."""
    check_device(device)
    refuse_sparse("ones_like", input, layout)
    return ones(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


def empty_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """As `empty`, of the shape, and unless given the dtype, of another tensor."""
    check_device(device)
    return zeros_like(input, dtype=dtype, layout=layout, requires_grad=requires_grad)


def full_like(
    input: Tensor,
    fill_value: float,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """One value in the shape, and unless given the dtype, of another tensor."""
    check_device(device)
    refuse_sparse("full_like", input, layout)
    return full(input.shape, fill_value, dtype=dtype or input.dtype, requires_grad=requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: DType | None = None,
    layout: Any = None,
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
    whole = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    dtype = dtype or (i64 if whole else get_default_dtype())
    count = int(np.ceil((end - start) / step))
    ramp = apply(call_of(_IOTA, shape=(count,), dim=0, dtype=i64 if whole else f64))
    values = ramp * scalar(step, ramp.dtype) + scalar(start, ramp.dtype)
    return _finish(values.to(dtype), requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The n x m matrix (n x n without an m) with ones on the diagonal.

    Raises:
        RuntimeError: a size is negative.
    """
    check_device(device)
    n, m = int(n), int(n if m is None else m)
    if n < 0 or m < 0:
        raise RuntimeError(f"n and m must be greater or equal to 0, got {n} and {m}")
    shape = (n, m)
    rows = apply(call_of(_IOTA, shape=shape, dim=0, dtype=i64))
    columns = apply(call_of(_IOTA, shape=shape, dim=1, dtype=i64))
    return _finish((rows == columns).to(dtype or get_default_dtype()), requires_grad)
