"""`x[...]` and `x[...] = v`, and the functions that address by index tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.capture import call_of
from braze.functions.movement import expand, permute, reshape, slice_dimension
from braze.functions.pointwise import where
from braze.functions.promotion import cast, scalar
from braze.ir.dtypes import bool_, i64
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor, apply, from_array, view_of

_TAKE, _ALONG, _CHECK = op_named("take"), op_named("take_along"), op_named("check_range")
_PAD, _FLIP = op_named("pad"), op_named("flip")


def check_index(name: str, index: Tensor, size: int) -> None:
    """Have the program raise IndexError at this line unless -0 <= index < size everywhere."""
    apply(call_of(_CHECK, low=0, high=size, message=name), index)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The rows (of dimension `dim`) that a 1-d integer tensor names.

    Raises:
        IndexError: at the next sync, if an index is out of range.
    """
    d = normalise_dimension("index_select", dim, input.ndim)
    check_index("index_select", index, input._handle.type.shape[d])
    return apply(call_of(_TAKE, dim=d), input, index)  # type: ignore[no-any-return]


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on; the index has the input's rank.

    Raises:
        IndexError: at the next sync, if an index is out of range.
    """
    d = normalise_dimension("gather", dim, input.ndim)
    check_index("gather", index, input._handle.type.shape[d])
    return apply(call_of(_ALONG, dim=d), input, index)  # type: ignore[no-any-return]


def _normalise_key(key: Any, rank: int) -> list[Any]:
    """Expand the ellipsis; one entry for each dimension, plus the Nones."""
    items = list(key) if isinstance(key, tuple) else [key]
    used = 0
    for item in items:
        if isinstance(item, Tensor) and item.dtype is bool_:
            used += item.ndim
        elif item is not None and item is not Ellipsis and not isinstance(item, bool):
            used += 1
    if used > rank:
        raise IndexError(f"too many indices for tensor of dimension {rank}")
    places = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(places) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    fill = [slice(None)] * (rank - used)
    if places:
        items[places[0] : places[0] + 1] = fill
    else:
        items += fill
    return items


def _slice_of(item: slice, size: int) -> tuple[int, int, int]:
    start, stop, step = item.indices(size)
    if step <= 0:
        raise ValueError("step must be greater than zero")
    return start, max(stop, start), step


def getitem(input: Tensor, key: Any) -> Tensor:
    """`input[key]`: integers, slices, None, Ellipsis (views), integer tensors or lists, boolean
    masks (copies).

    A mask is a sync point, because the shape of the result depends on its values.
    """
    items = [_as_index(item) for item in _normalise_key(key, input.ndim)]
    result = input
    dim = 0
    advanced: list[tuple[int, Tensor]] = []
    for item in items:
        if item is None:
            result = reshape(result, _inserted(result, dim))
            dim += 1
        elif isinstance(item, Tensor):
            for index in _indices_of_mask(item) if item.dtype is bool_ else [item]:
                advanced.append((dim, index))
                dim += 1
        elif isinstance(item, slice):
            size = result._handle.type.shape[dim]
            start, stop, step = _slice_of(item, size)
            if (start, stop, step) != (0, size, 1):
                result = slice_dimension(result, dim, start, stop, step)
            dim += 1
        else:
            shape = result._handle.type.shape
            if not -shape[dim] <= item < shape[dim]:
                raise IndexError(
                    f"index {item} is out of bounds for dimension {dim} with size {shape[dim]}"
                )
            at = item % shape[dim]
            result = slice_dimension(result, dim, at, at + 1, 1)
            result = reshape(result, (*shape[:dim], *shape[dim + 1 :]))
    if advanced:
        return _take_many(result, advanced)
    return (
        view_of(call_of(op_named("reshape"), shape=input._handle.type.shape), input)
        if (result is input)
        else result
    )


def _inserted(tensor: Tensor, dim: int) -> tuple[int, ...]:
    shape = tensor._handle.type.shape
    return (*shape[:dim], 1, *shape[dim:])


def _as_index(item: Any) -> Any:
    if isinstance(item, (list, np.ndarray)):
        array = np.asarray(item)
        return from_array(array if array.size else array.astype(np.int64))
    if isinstance(item, Tensor):
        if item.dtype.is_floating_point:
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
        return int(item.item()) if item.ndim == 0 and item.dtype is not bool_ else item
    if item is None or isinstance(item, slice):
        return item
    return int(item.__index__())


def _indices_of_mask(mask: Tensor) -> list[Tensor]:
    return [from_array(np.ascontiguousarray(part)) for part in np.nonzero(mask._numpy())]


def _take_many(input: Tensor, advanced: list[tuple[int, Tensor]]) -> Tensor:
    """Index several dimensions by integer tensors, broadcast against each other, as NumPy does."""
    shape = input._handle.type.shape
    dims = [dim for dim, _ in advanced]
    index_shape = np.broadcast_shapes(*(t._handle.type.shape for _, t in advanced))
    flat: Tensor | None = None
    for dim, index in advanced:
        size = shape[dim]
        wide = cast(index, i64)
        check = where(wide < 0, wide + size, wide)
        check_index("index", check, size)
        flat = check if flat is None else flat * size + check
    assert flat is not None
    adjacent = dims == list(range(dims[0], dims[0] + len(dims)))
    first = dims[0] if adjacent else 0
    rest = [d for d in range(len(shape)) if d not in dims]
    order = [*rest[:first], *dims, *rest[first:]]
    moved = input if order == list(range(len(shape))) else permute(input, order)
    joined = 1
    for dim in dims:
        joined *= shape[dim]
    before = [shape[d] for d in rest[:first]]
    after = [shape[d] for d in rest[first:]]
    table = reshape(moved, (*before, joined, *after))
    picked: Tensor = apply(call_of(_TAKE, dim=first), table, expand(flat, index_shape))
    return picked


def setitem(input: Tensor, key: Any, value: Any) -> None:
    """`input[key] = value` in place. The value is cast to the input's dtype and broadcast."""
    if isinstance(key, Tensor) and key.dtype is bool_ and _broadcastable(value):
        fill = _as_value(value, input)
        mask = key
        while mask.ndim < input.ndim:
            mask = reshape(mask, (*mask.shape, 1))
        input._replace(where(mask, fill, input))
        return
    target = getitem(input, key)
    if target._base is None:
        _put(input, key, value)
        return
    fill = expand(_as_value(value, input), target._handle.type.shape)
    from braze.functions.movement import clone

    target._replace(clone(fill))


def _broadcastable(value: Any) -> bool:
    return not isinstance(value, Tensor) or value._handle.type.numel == 1


def _as_value(value: Any, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return cast(value, like.dtype)
    if isinstance(value, (int, float)):
        return scalar(value, like.dtype)
    from braze.functions.creation import tensor

    return tensor(value, dtype=like.dtype)


def _put(input: Tensor, key: Any, value: Any) -> None:
    """Assign through index tensors, which are read here: where one place is named twice, the last
    value stays."""
    shape = input._handle.type.shape
    places = np.arange(input.numel(), dtype=np.int64).reshape(shape)
    index = getitem(from_array(places), key)
    fill = reshape(expand(_as_value(value, input), index._handle.type.shape), (-1,))
    reverse = index._numpy().reshape(-1)[::-1]
    where_to, last = np.unique(reverse, return_index=True)
    source = from_array(reverse.size - 1 - last.astype(np.int64))
    chosen: Tensor = apply(call_of(_TAKE, dim=0), fill, source)
    hit = np.zeros(input.numel(), dtype=np.bool_)
    hit[where_to] = True
    blank = where(from_array(hit), scalar(0, input.dtype), reshape(input, (-1,)))
    written: Tensor = apply(
        call_of(op_named("index_add"), dim=0), blank, from_array(where_to), chosen
    )
    input._replace(apply(call_of(op_named("reshape"), shape=shape), written))


def write_slice(base: Tensor, new: Tensor, attributes: Any) -> Tensor:
    """`base` with the part that a `slice` shows replaced by `new`."""
    shape = base._handle.type.shape
    starts, steps = attributes["starts"], attributes["steps"]
    inner = new._handle.type.shape
    covered = [(n - 1) * s + 1 if n else 0 for n, s in zip(inner, steps, strict=True)]
    high = tuple(n - a - c for n, a, c in zip(shape, starts, covered, strict=True))
    places = {"low": starts, "high": high, "interior": tuple(s - 1 for s in steps)}
    spread = apply(call_of(_PAD, **places, value=0.0), new)
    ones = expand(scalar(True, bool_), inner)
    mask = apply(call_of(_PAD, **places, value=0.0), ones)
    return where(mask, spread, base)
