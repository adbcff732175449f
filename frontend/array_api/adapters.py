"""Creation and movement in the array API standard's signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from braze.array_api.operands import together
from braze.devices import check_device
from braze.functions import (
    complex_numbers,
    creation,
    indexing,
    movement,
    pointwise,
    rearrangement,
    series,
)
from braze.functions.promotion import cast, get_default_dtype
from braze.ir.dtypes import DType, bool_, i64
from braze.ir.types import broadcast_shapes
from braze.tensors import Tensor

Axis = int | Sequence[int] | None

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def _standard(function: Callable[..., Any]) -> Callable[..., Any]:
    FUNCTIONS[function.__name__.rstrip("_")] = function
    return function


def _axes(axis: Axis, rank: int) -> list[int]:
    """An axis argument as a list of dimensions."""
    if axis is None:
        return list(range(rank))
    return [axis] if isinstance(axis, int) else list(axis)


# Creation ----------------------------------------------------------------------------------------


@_standard
def asarray(
    obj: Any, /, *, dtype: DType | None = None, device: Any = None, copy: bool | None = None
) -> Tensor:
    """A tensor of data, sharing memory unless `copy` says otherwise or it is not possible.

    Raises:
        ValueError: copy=False, and a copy is needed. TypeError: complex numbers would lose their
            imaginary parts.
    """
    check_device(device)
    if isinstance(obj, Tensor):
        same = dtype is None or dtype is obj.dtype
        if same:
            return movement.clone(obj) if copy else obj
    if copy is False:
        if not hasattr(obj, "__dlpack__") or (dtype is not None):
            raise ValueError("asarray(): unable to avoid a copy as requested")
        from braze.dlpack import from_dlpack

        return from_dlpack(obj, copy=False)
    if isinstance(obj, Tensor):
        assert dtype is not None
        return astype(obj, dtype)
    if copy:
        return creation.tensor(obj, dtype=dtype)
    return creation.as_tensor(obj, dtype=dtype)


@_standard
def astype(x: Tensor, dtype: DType, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """A tensor in another dtype; a copy even if nothing changes, unless copy=False.

    Raises:
        TypeError: from a complex dtype to a real one (which `real` does), except to bool.
    """
    check_device(device)
    if x.dtype.is_complex and not (dtype.is_complex or dtype is bool_):
        raise TypeError(f"astype(): cannot cast {x.dtype!r} to {dtype!r}; use real() or imag()")
    return movement.clone(x) if copy and x.dtype is dtype else cast(x, dtype)


@_standard
def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: DType | None = None,
    device: Any = None,
) -> Tensor:
    """start, start + step, ... below stop; empty where the step leads away."""
    first, last = (0, start) if stop is None else (start, stop)
    if step and (last - first) / step < 0:
        whole = all(isinstance(v, int) for v in (first, last, step))
        return creation.zeros(0, dtype=dtype or (i64 if whole else get_default_dtype()))
    return creation.arange(first, last, step, dtype=dtype, device=device)


@_standard
def linspace(
    start: complex,
    stop: complex,
    /,
    num: int,
    *,
    dtype: DType | None = None,
    device: Any = None,
    endpoint: bool = True,
) -> Tensor:
    """`num` evenly spaced numbers, the last one `stop` unless endpoint=False."""
    check_device(device)
    if isinstance(start, complex) or isinstance(stop, complex):
        kind = dtype or get_default_dtype().to_complex()
        if not kind.is_complex:
            raise TypeError(f"linspace(): complex numbers need a complex dtype, given {kind!r}")
        re, im = (
            linspace(*ends, num, dtype=kind.to_real(), endpoint=endpoint)
            for ends in ((start.real, stop.real), (start.imag, stop.imag))
        )
        return complex_numbers.complex(re, im)
    if not endpoint:
        return series.linspace(start, stop, num + 1, dtype=dtype)[:num]
    return series.linspace(start, stop, num, dtype=dtype)


@_standard
def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: DType | None = None,
    device: Any = None,
) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere."""
    check_device(device)
    return cast(_distance(n_rows, n_rows if n_cols is None else n_cols) == k,
                dtype or get_default_dtype())  # fmt: skip


def _distance(rows: int, columns: int) -> Tensor:
    """How far right of the main diagonal each place of a matrix is."""
    across = movement.reshape(creation.arange(columns), (1, columns))
    return across - movement.reshape(creation.arange(rows), (rows, 1))


@_standard
def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """The last two dimensions on and below the k-th diagonal; zeros elsewhere."""
    return pointwise.where(_distance(*x.shape[-2:]) <= k, x, creation.zeros((), dtype=x.dtype))


@_standard
def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """The last two dimensions on and above the k-th diagonal; zeros elsewhere."""
    return pointwise.where(_distance(*x.shape[-2:]) >= k, x, creation.zeros((), dtype=x.dtype))


def _filled(function: Callable[..., Tensor], name: str) -> None:
    def create(shape: Any, *, dtype: DType | None = None, device: Any = None) -> Tensor:
        return function(shape, dtype=dtype, device=device)

    create.__name__, create.__doc__ = name, function.__doc__
    _standard(create)


_filled(creation.empty, "empty")
_filled(creation.ones, "ones")
_filled(creation.zeros, "zeros")


@_standard
def full(shape: Any, fill_value: Any, *, dtype: DType | None = None, device: Any = None) -> Tensor:
    """A tensor of one value."""
    sizes = (shape,) if isinstance(shape, int) else shape
    return creation.full(sizes, fill_value, dtype=dtype, device=device)


@_standard
def meshgrid(*arrays: Tensor, indexing: str = "xy") -> list[Tensor]:
    """Coordinate tensors of the grid that vectors span; "xy" swaps the first two dimensions."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid(): indexing must be 'xy' or 'ij', given {indexing!r}")
    swap = indexing == "xy" and len(arrays) > 1
    order = [1, 0, *range(2, len(arrays))] if swap else list(range(len(arrays)))
    shape = [arrays[i].numel() for i in order]
    grids = []
    for place, x in enumerate(arrays):
        sizes = [1] * len(arrays)
        sizes[order.index(place)] = x.numel()
        grids.append(movement.clone(movement.expand(movement.reshape(x, sizes), shape)))
    return grids


# Movement ----------------------------------------------------------------------------------------


@_standard
def broadcast_to(x: Tensor, /, shape: Sequence[int]) -> Tensor:
    """The tensor with 1-sized and leading dimensions repeated."""
    return movement.expand(x, tuple(shape))


@_standard
def broadcast_arrays(*arrays: Tensor) -> list[Tensor]:
    """All tensors in their common shape."""
    shape = broadcast_shapes("broadcast_arrays", *[x._handle.type for x in arrays])
    return [movement.expand(x, shape) for x in arrays]


@_standard
def concat(arrays: Sequence[Tensor], /, *, axis: int | None = 0) -> Tensor:
    """The tensors one after the other; flattened for axis=None."""
    tensors = together(*arrays)
    if axis is None:
        return movement.cat([movement.reshape(x, (-1,)) for x in tensors], 0)
    return movement.cat(tensors, axis)


@_standard
def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension."""
    return movement.stack(together(*arrays), axis)


@_standard
def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along a dimension."""
    return movement.unbind(x, axis)


@_standard
def expand_dims(x: Tensor, /, axis: int = 0) -> Tensor:
    """A new dimension of size 1."""
    return movement.unsqueeze(x, axis)


@_standard
def squeeze(x: Tensor, /, axis: int | Sequence[int]) -> Tensor:
    """Drop dimensions of size 1.

    Raises:
        ValueError: one of them has another size.
    """
    axes = _axes(axis, x.ndim)
    for one in axes:
        if x.shape[one] != 1:
            raise ValueError(f"squeeze(): dimension {one} of {list(x.shape)} is not of size 1")
    return movement.squeeze(x, tuple(axes))


@_standard
def flip(x: Tensor, /, *, axis: Axis = None) -> Tensor:
    """Reverse the order along dimensions, all by default."""
    return movement.flip(x, _axes(axis, x.ndim))


@_standard
def roll(x: Tensor, /, shift: int | Sequence[int], *, axis: Axis = None) -> Tensor:
    """Move elements along dimensions; those that leave come in at the other end."""
    if axis is None:
        shifts = shift if isinstance(shift, int) else sum(shift)
        return movement.reshape(roll(movement.reshape(x, (-1,)), shifts, axis=0), x.shape)
    axes = _axes(axis, x.ndim)
    shifts_ = [shift] * len(axes) if isinstance(shift, int) else list(shift)
    for one, by in zip(axes, shifts_, strict=True):
        size = x.shape[one]
        at = -by % size if size else 0
        if at:
            parts = (movement.narrow(x, one, at, size - at), movement.narrow(x, one, 0, at))
            x = movement.cat(parts, one)
    return x


@_standard
def permute_dims(x: Tensor, /, axes: Sequence[int]) -> Tensor:
    """Result dimension i is dimension axes[i]."""
    return movement.permute(x, tuple(axes))


@_standard
def matrix_transpose(x: Tensor, /) -> Tensor:
    """The last two dimensions swapped."""
    return movement.transpose(x, -2, -1)


@_standard
def reshape(x: Tensor, /, shape: Sequence[int], *, copy: bool | None = None) -> Tensor:
    """The same elements under another shape."""
    result = movement.reshape(x, tuple(shape))
    return movement.clone(result) if copy else result


@_standard
def tile(x: Tensor, repetitions: Sequence[int], /) -> Tensor:
    """The tensor side by side with itself, so often in each dimension."""
    counts = [1] * (x.ndim - len(repetitions)) + list(repetitions)
    return movement.repeat(x, counts)


@_standard
def repeat(x: Tensor, repeats: int | Tensor, /, *, axis: int | None = None) -> Tensor:
    """Each element so often, one after the other.

    Args:
        repeats: a number, or one for each element (a sync point).
    """
    return rearrangement.repeat_interleave(x, repeats, axis)


@_standard
def take(x: Tensor, indices: Tensor, /, *, axis: int | None = None) -> Tensor:
    """The rows of a dimension that a 1-d tensor names; negative ones count from the end.

    Raises:
        ValueError: no axis is given and there are several.
    """
    if axis is None:
        if x.ndim != 1:
            raise ValueError("take(): give the axis of a tensor that is not one-dimensional")
        axis = 0
    return indexing.index_select(x, axis, _from_the_front(indices, x.shape[axis]))


@_standard
def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    """Elements by an index for each place; other dimensions are broadcast."""
    rank, axis = x.ndim, axis % x.ndim
    shapes = [[1 if d == axis else t.shape[d] for d in range(rank)] for t in (x, indices)]
    shape = [max(a, b) if min(a, b) else 0 for a, b in zip(*shapes, strict=True)]
    wide = movement.expand(x, [*shape[:axis], x.shape[axis], *shape[axis + 1 :]])
    places = movement.expand(indices, [*shape[:axis], indices.shape[axis], *shape[axis + 1 :]])
    return indexing.gather(wide, axis, _from_the_front(places, x.shape[axis]))


def _from_the_front(indices: Tensor, size: int) -> Tensor:
    return pointwise.where(indices < 0, indices + size, indices)
