"""New tensors: from Python data and NumPy arrays, filled, and ranges."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, pairwise
from operator import index
from typing import Any

import numpy as np

from braze import engine
from braze.capture import call_of, tracer
from braze.devices import Used, place_of
from braze.functions.movement import expand, permute, reshape, sizes_of
from braze.functions.promotion import check_fits, get_default_dtype, number_dtype, scalar
from braze.handle import EXPOSED, INFERENCE, SparseHandle, concrete
from braze.ir.dtypes import DType, f32, f64, i64, promote, u64
from braze.ir.dtypes import from_numpy as dtype_of_numpy
from braze.ir.op import op_named
from braze.ir.types import tensor_type
from braze.layouts import sparse_coo, strided
from braze.placing import makes, makes_like, moved
from braze.tensors import Tensor, apply, from_array, view_of, wrap

# How `struct` writes the default dtypes' elements, and of lists of how many it does.
_CODES, _SHORT = {f32: "f", f64: "d"}, 64
_FLOATS = {float}
_PYTHON_NUMBERS = {bool, int, float, complex}
_FULL, _IOTA = op_named("full"), op_named("iota")


def _array_of(data: Any, dtype: DType | None) -> np.ndarray:
    """A fresh row-major array; Python floats get the default dtype, ints int64."""
    if dtype is None and data.__class__ is list and set(map(type, data)) == _FLOATS:
        return np.array(data, get_default_dtype().numpy)
    if isinstance(data, Tensor):
        array = np.array(data.numpy(force=True))
    elif isinstance(data, (np.ndarray, np.generic)):
        array = np.array(data)
    elif isinstance(data, dict) or data is None:
        raise RuntimeError(f"Could not infer dtype of {type(data).__name__}")
    else:
        if isinstance(data, (list, tuple)) and _holds_tensors(data):
            parts = [_array_of(item, None) for item in data]
            wide = reduce(promote, (dtype_of_numpy(part.dtype) for part in parts))
            array = np.array(parts).astype(wide.numpy)
        else:
            try:
                array = np.array(data)
            except ValueError as error:
                if isinstance(data, (list, tuple)) and not isinstance(data[0], (list, tuple)):
                    raise TypeError(f"a sequence among numbers: {error}") from None
                raise ValueError(
                    f"expected a rectangular nested sequence of numbers: {error}"
                ) from None
            found: set[DType] = set()
            if dtype is None and isinstance(data, (list, tuple)) and array.dtype.kind in "biufc":
                found = _dtypes_in(data)
            if found:
                array = array.astype(reduce(promote, found).numpy)
            elif dtype is None and (array.dtype.kind == "f" or array.size == 0):
                array = array.astype(get_default_dtype().numpy)
            elif dtype is None and array.dtype.kind == "c":
                array = array.astype(get_default_dtype().to_complex().numpy)
        if array.dtype.kind == "U" and not isinstance(data, str):
            raise ValueError("too many dimensions 'str'")
        if dtype is u64 and array.dtype.kind in "fO":  # NumPy's type for integers from 2 ** 63 on
            exact = np.array(data, dtype=object)
            if all(isinstance(item, int) for item in exact.flat):
                array = exact.astype(dtype.numpy)
        if array.dtype.kind == "O" and all(isinstance(item, int) for item in array.flat):
            raise ValueError("Overflow when unpacking long long")
        if array.dtype.kind not in "biufc" and array.dtype.name != "bfloat16":
            raise TypeError(f"new(): invalid data type '{type(data).__name__}' ({array.dtype})")
    if dtype is not None:
        from_python = not isinstance(data, (Tensor, np.ndarray))
        if from_python and array.dtype.kind == "i" and array.size:
            check_fits("tensor", (int(array.min()), int(array.max())), dtype)
        if array.dtype.kind == "c" and not dtype.is_complex:
            if from_python:
                raise TypeError(f"must be real numbers for {dtype!r}, not complex")
            array = array.real
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
        elif isinstance(item, (int, float, complex)):
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
    plain = data.__class__ is list and dtype is None and device is None
    if plain and len(data) <= _SHORT and not Used.defaults:
        result = _of_floats(data)
        if result is not None:
            if requires_grad:
                result.requires_grad = True
            return result
    check_dtype("tensor", dtype)
    if device is None and isinstance(data, Tensor):
        device = data.device
    if device is not None or Used.defaults:
        place = place_of(device)
        if place != "cpu":
            made = tensor(data, dtype=dtype, device="cpu")
            return _finish(moved(made, place), requires_grad)
    if isinstance(data, Tensor) and data.is_sparse:
        return _finish(data.detach().clone().to(dtype or data.dtype), requires_grad)
    result = from_array(_array_of(data, dtype))
    result.requires_grad = requires_grad
    return result


def _of_floats(data: list[Any]) -> Tensor | None:
    """What is made most often, a short list of Python floats as a tensor, without NumPy; None for
    anything else."""
    kind = get_default_dtype()
    code = _CODES.get(kind)
    if code is None or set(map(type, data)) != _FLOATS:
        return None
    try:
        packed = struct.pack(f"{len(data)}{code}", *data)
    except OverflowError:
        return None  # one becomes infinite
    flags = INFERENCE if tracer().inference else 0
    storage = engine.Storage.from_bytes(packed)
    return wrap(concrete(tensor_type(kind, (len(data),)), storage, flags), None, 0)


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """As `tensor`, sharing the memory of a tensor or array where nothing has to change; so, too, of
    an array on a GPU, with `__cuda_array_interface__`."""
    if isinstance(data, Tensor):
        placed = data if device is None else moved(data, place_of(device))
        return placed if dtype is None else placed.to(dtype)
    if isinstance(data, np.ndarray) and (dtype is None or data.dtype == dtype.numpy):
        return moved(from_numpy(data), place_of(device))
    if hasattr(data, "__cuda_array_interface__"):
        from braze.cuda.interchange import from_array_interface

        return as_tensor(from_array_interface(data), dtype, device)
    return tensor(data, dtype=dtype, device=device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory: what is written to one side is seen by the other.

    Arrays that are not row-major are shared as views where they are a permutation or a part of one
    that is. An array that is read-only, of foreign byte order, or otherwise strided is copied.

    Raises:
        TypeError: no array, or of a dtype that tensors do not have.
        ValueError: a stride is negative.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    if any(stride < 0 for stride in array.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative "
            "strides are not supported; copy it first: array.copy()"
        )
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


def check_dtype(name: str, dtype: Any) -> None:
    """Raise TypeError for what is neither a dtype nor None."""
    if dtype is not None and not isinstance(dtype, DType):
        raise TypeError(f"{name}(): argument 'dtype' must be a dtype, not {type(dtype).__name__}")


def shape_of(name: str, sizes: tuple[Any, ...], size: Any = None) -> tuple[int, ...]:
    """The shape that ``f(2, 3)``, ``f((2, 3))`` or ``f(size=(2, 3))`` asks for.

    Raises:
        TypeError: none is given, or no ints. RuntimeError: one is negative.
    """
    if size is not None:
        sizes = (size,)
    elif not sizes:
        raise TypeError(f'{name}() missing 1 required positional argument: "size"')
    if len(sizes) == 1 and isinstance(sizes[0], str):
        raise TypeError(f"{name}(): argument 'size' (position 1) must be tuple of ints, not str")
    shape = sizes_of(sizes)
    for length in shape:
        if length < 0:
            raise RuntimeError(
                f"{name}(): trying to create a tensor with negative dimension {length}: "
                f"{list(shape)}"
            )
    return shape


def _constant(
    name: str, value: float, sizes: Any, size: Any, dtype: DType | None, grad: bool
) -> Tensor:
    check_dtype(name, dtype)
    shape = shape_of(name, sizes, size)
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


@makes
def zeros(
    *sizes: Any,
    size: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor of zeros; without entries, if the layout is `braze.sparse_coo`."""
    if layout is not None and _asks_for_sparse(layout):
        return _no_entries((shape_of("zeros", sizes, size),), dtype, requires_grad)
    return _constant("zeros", 0.0, sizes, size, dtype, requires_grad)


@makes
def ones(
    *sizes: Any,
    size: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor of ones."""
    refuse_sparse("ones", layout=layout)
    return _constant("ones", 1.0, sizes, size, dtype, requires_grad)


@makes
def empty(
    *sizes: Any,
    size: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor whose elements nobody has set (they are zeros here, so that programs are
    reproducible)."""
    if layout is not None and _asks_for_sparse(layout):
        return _no_entries((shape_of("empty", sizes, size),), dtype, requires_grad)
    return _constant("empty", 0.0, sizes, size, dtype, requires_grad)


@makes
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
    check_dtype("full", dtype)
    refuse_sparse("full", layout=layout)
    if hasattr(size, "__index__"):
        raise TypeError("full(): argument 'size' (position 1) must be tuple of ints, not int")
    if isinstance(fill_value, Tensor) and not fill_value.ndim:
        fill_value = fill_value.item()
    if not isinstance(fill_value, (int, float, complex, np.generic)):
        given = type(fill_value).__name__
        raise TypeError(f"full(): argument 'fill_value' (position 2) must be Number, not {given}")
    value = scalar(fill_value, dtype or number_dtype(fill_value))
    return _finish(_own(expand(value, shape_of("full", (size,)))), requires_grad)


def _own(view: Tensor) -> Tensor:
    """A fresh result that is nobody's view."""
    view._base = None
    return view


@makes_like
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
    if layout is None and isinstance(input._handle, SparseHandle):
        layout = sparse_coo
    dtype = dtype or input.dtype
    return zeros(input.shape, dtype=dtype, layout=layout, requires_grad=requires_grad)


@makes_like
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
    refuse_sparse("ones_like", input, layout)
    return ones(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


@makes_like
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
    return zeros_like(input, dtype=dtype, layout=layout, requires_grad=requires_grad)


@makes_like
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
    refuse_sparse("full_like", input, layout)
    return full(input.shape, fill_value, dtype=dtype or input.dtype, requires_grad=requires_grad)


@makes
def arange(
    start: Any = None,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... below end (`arange(end)` starts at 0); int64 for ints.

    Raises:
        RuntimeError: the step is zero or leads away from the end, or the end is infinite or nan.
    """
    check_dtype("arange", dtype)
    if end is None:
        start, end = 0, start
    given: list[Any] = [0 if start is None else start, end, step]
    for position, number in enumerate(given):
        if isinstance(number, Tensor):
            given[position] = number.item()
        elif not isinstance(number, (int, float, np.generic)):
            raise TypeError(f"arange(): arguments must be Number, not {type(number).__name__}")
    start, end, step = given
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if step == 0 or (end - start) / step < 0:
        raise RuntimeError(
            f"upper bound and lower bound inconsistent with step sign: {start}, {end}, {step}"
        )
    whole = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    dtype = dtype or (i64 if whole else get_default_dtype())
    count = int(np.ceil((end - start) / step))
    values = apply(call_of(_IOTA, shape=(count,), dim=0, dtype=i64 if whole else f64))
    if step != 1:
        values = values * step
    if start != 0:
        values = values + start
    return _finish(values.to(dtype), requires_grad)


@makes
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
    n, m = index(n), index(n if m is None else m)
    if n < 0 or m < 0:
        raise RuntimeError(f"n and m must be greater or equal to 0, got {n} and {m}")
    shape = (n, m)
    rows = apply(call_of(_IOTA, shape=shape, dim=0, dtype=i64))
    columns = apply(call_of(_IOTA, shape=shape, dim=1, dtype=i64))
    return _finish((rows == columns).to(dtype or get_default_dtype()), requires_grad)
