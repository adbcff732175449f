"""`x[...]` and `x[...] = v`, and the functions that pick by index tensors.

A key is split into its basic part (integers, slices, None, Ellipsis), which is a view, and its
advanced part: index tensors for some dimensions of that view. Those dimensions are joined into one,
so that reading is one `take` and writing one `index_put`, whose indices stay on the device: only a
mask, whose number of hits is a shape, has to be read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.functions.movement import clone, expand, permute, reshape, slice_dimension
from braze.functions.pointwise import where
from braze.functions.promotion import cast, scalar, single
from braze.functions.settled import settled
from braze.ir.dtypes import bool_, i32, i64, u8
from braze.ir.op import op_named
from braze.ir.ops.movement import inverse_permutation
from braze.ir.ops.rules import normalise_dimension
from braze.placing import array_beside, beside
from braze.tensors import Tensor, apply, from_array, view_of
from braze.views import check_writable, instead, shows_repeats

_TAKE, _ALONG, _CHECK = op_named("take"), op_named("take_along"), op_named("check_range")
_WRAPPED = op_named("wrapped_index")
_CHECK_TRUTH, _CHECK_INTERVAL = op_named("check_truth"), op_named("check_interval")
_SELECT, _WHERE = op_named("select"), call_of(op_named("where"))
_PAD, _PUT, _ADD = op_named("pad"), op_named("index_put"), op_named("index_add")

# Index tensors by the dimension of the view that they address.
Advanced = list[tuple[int, Tensor]]


def check_index(name: str, index: Tensor, size: int, low: int = 0) -> None:
    """Have the program raise IndexError at this line unless low <= index < size everywhere."""
    apply(call_of(_CHECK, low=low, high=size, message=name), index)


def check_values(
    name: str, found: Tensor, text: str, argument: bool = False, wanted: bool = False
) -> None:
    """Have the program raise RuntimeError with a text, at this line, unless `found` is `wanted`
    everywhere; for what is wrong with an argument, a ValueError."""
    message = f"{name}!!{text}" if argument else f"{name}!{text}"
    apply(call_of(_CHECK_TRUTH, wanted=wanted, message=message), found)


def check_bounds(
    name: str, x: Tensor, text: str, low: float = -math.inf, high: float = math.inf
) -> None:
    """Have the program raise RuntimeError with a text, at this line, unless all elements are from
    `low` to `high`, bounds that the dtype holds."""
    kind = {"open_low": False, "open_high": False, "integer": False}
    call = call_of(_CHECK_INTERVAL, low=low, high=high, **kind, message=f"{name}!{text}")
    apply(call, x)


def wrapped_index(name: str, index: Tensor, size: int) -> Tensor:
    """An i64 index whose negative elements count from the end; checked."""
    call = call_of(_WRAPPED, size=size, message=name)
    return apply(call, index if index.dtype is i32 else cast(index, i64))  # type: ignore[no-any-return]


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The rows (of dimension `dim`) that a 1-d integer tensor names.

    Raises:
        IndexError: the index has several dimensions; or, at the next sync, is out of range.
    """
    d = normalise_dimension("index_select", dim, input.ndim)
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if not input.ndim:
        return reshape(index_select(reshape(input, (1,)), 0, index), ())
    check_index("index_select", index, input._handle.type.shape[d])
    picked: Tensor = apply(call_of(_TAKE, dim=d), input, reshape(index, (-1,)))
    return picked


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on; the index has the input's rank.

    Args:
        sparse_grad: the gradient of `input` is to be a sparse tensor.

    Raises:
        ShapeError: the index does not fit. RuntimeError: at the next sync, if one is out of range.
    """
    d = normalise_dimension("gather", dim, input.ndim)
    if not input.ndim and not index.ndim:
        return reshape(gather(reshape(input, (1,)), 0, reshape(index, (1,))), ())
    if index._handle.type.numel == 0:
        return nothing_of(input, index._handle.type.shape)
    if input.ndim:
        check_index("gather!", index, input._handle.type.shape[d])  # RuntimeError, as PyTorch's
    if sparse_grad:
        from braze.sparse.gradients import gathered_with_sparse_gradient

        return gathered_with_sparse_gradient(input, d, index)
    return apply(call_of(_ALONG, dim=d), input, index)  # type: ignore[no-any-return]


def nothing_of(input: Tensor, shape: tuple[int, ...]) -> Tensor:
    """None of the elements, under a shape that has none; on the tape if the input is."""
    flat = reshape(input, (input._handle.type.numel,))
    return clone(reshape(slice_dimension(flat, 0, 0, 0, 1), shape))


# Keys ---------------------------------------------------------------------------------------------


def _as_index(item: Any) -> Any:
    """An entry of a key as an int, slice, None, Ellipsis, or as an index tensor or mask."""
    if item is None or item is Ellipsis or isinstance(item, (slice, int)):
        return item
    if isinstance(item, (list, tuple, range, np.ndarray)):
        array = np.asarray(item)
        if array.dtype.kind in "iu" or array.size == 0 and array.dtype.kind == "f":
            array = array.astype(np.int64)
        item = from_array(np.array(array, order="C"))
    if isinstance(item, Tensor):
        if item.dtype is u8:
            return cast(item, bool_)
        if item.dtype not in (bool_, i64, i32):
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
        return item
    try:
        return int(item.__index__())
    except (AttributeError, TypeError):
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are "
            f"valid indices (got {type(item).__name__})"
        ) from None


def _is_compound(item: Any) -> bool:
    return item is None or isinstance(item, (Tensor, list, tuple, slice, type(Ellipsis)))


def _normalise_key(key: Any, rank: int) -> list[Any]:
    """Expand the ellipsis; one entry for each dimension, plus the Nones and truth values."""
    if isinstance(key, list) and len(key) < 32 and any(map(_is_compound, key)):
        key = tuple(key)  # as NumPy did once, and PyTorch does
    items = [_as_index(item) for item in (key if isinstance(key, tuple) else (key,))]
    used = 0
    for item in items:
        if isinstance(item, Tensor) and item.dtype is bool_:
            used += item.ndim
        elif item is not None and item is not Ellipsis and not isinstance(item, bool):
            used += 1
    if used > rank:
        if rank == 0:
            raise IndexError(
                "invalid index of a 0-dim tensor. Use `tensor.item()` to convert a 0-dim tensor to "
                "a number"
            )
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


def _split(input: Tensor, key: Any) -> tuple[Tensor, Advanced]:
    """The view that the basic part of a key makes, and the index tensors for its dimensions."""
    result = input
    dim = 0
    advanced: Advanced = []
    for item in _normalise_key(key, input.ndim):
        shape = result._handle.type.shape
        if item is None:
            result = reshape(result, (*shape[:dim], 1, *shape[dim:]))
            dim += 1
        elif isinstance(item, bool) or (
            isinstance(item, Tensor) and item.dtype is bool_ and not item.ndim
        ):
            # A single truth value: a new dimension, with its only index taken once or not at all.
            result = reshape(result, (*shape[:dim], 1, *shape[dim:]))
            advanced.append((dim, from_array(np.zeros(int(bool(item)), np.int64))))
            dim += 1
        elif isinstance(item, Tensor):
            item = beside(input, item)
            if item.dtype is bool_:
                indices = _indices_of_mask(item, shape, dim)
            else:
                indices = [wrapped_index("index", item, shape[dim])]
            for index in indices:
                advanced.append((dim, index))
                dim += 1
        elif isinstance(item, slice):
            start, stop, step = _slice_of(item, shape[dim])
            if (start, stop, step) != (0, shape[dim], 1):
                result = slice_dimension(result, dim, start, stop, step)
            dim += 1
        else:
            if not -shape[dim] <= item < shape[dim]:
                raise IndexError(
                    f"index {item} is out of bounds for dimension {dim} with size {shape[dim]}"
                )
            result = view_of(call_of(_SELECT, dim=dim, index=item % shape[dim]), result)
    return result, advanced


def _indices_of_mask(mask: Tensor, shape: tuple[int, ...], dim: int) -> list[Tensor]:
    """The places where a mask for some dimensions holds. A sync point."""
    own = mask._handle.type.shape
    for axis, size in enumerate(own):
        if size != shape[dim + axis]:
            raise IndexError(
                f"The shape of the mask {list(own)} at index {axis} does not match the shape of "
                f"the indexed tensor {list(shape)} at index {dim + axis}"
            )
    return [array_beside(mask, np.ascontiguousarray(p)) for p in np.nonzero(mask._numpy())]


class _Table:
    """A view with the dimensions that index tensors address joined into one.

    Attributes:
        table: the view, permuted and reshaped to (before.., joined, after..).
        index: for each element of the broadcast indices, its position in the joined dimension.
        dim: which dimension of the table that is.
        shape: of what the indices pick.
    """

    def __init__(self, view: Tensor, advanced: Advanced) -> None:
        self.own = shape = view._handle.type.shape
        dims = [dim for dim, _ in advanced]
        shapes = [t._handle.type.shape for _, t in advanced]
        try:
            index_shape = np.broadcast_shapes(*shapes)
        except ValueError:
            listed = ", ".join(str(list(s)) for s in shapes)
            raise IndexError(
                "shape mismatch: indexing tensors could not be broadcast together with shapes "
                f"{listed}"
            ) from None
        flat: Tensor | None = None
        for dim, index in advanced:
            flat = index if flat is None else flat * shape[dim] + index
        assert flat is not None
        self.index = expand(flat, index_shape)
        rest = [d for d in range(len(shape)) if d not in dims]
        self.dim = _place_of_result(dims, shapes, len(shape))
        self.order = (*rest[: self.dim], *dims, *rest[self.dim :])
        self.before = tuple(shape[d] for d in rest[: self.dim])
        self.after = tuple(shape[d] for d in rest[self.dim :])
        self.joined = math.prod(shape[d] for d in dims)
        self.shape = (*self.before, *index_shape, *self.after)
        if self.joined == 0 and math.prod(index_shape):
            dim = next(d for d in dims if shape[d] == 0)
            raise IndexError(f"index is out of bounds for dimension {dim} with size 0")
        moved = permute(view, self.order) if self._is_moved() else view
        self.table = reshape(moved, (*self.before, self.joined, *self.after))

    def _is_moved(self) -> bool:
        return self.order != tuple(range(len(self.order)))

    def undone(self, table: Tensor) -> Tensor:
        """A table of this form as the view's shape again."""
        moved = reshape(table, [self.own[d] for d in self.order])
        return permute(moved, inverse_permutation(self.order)) if self._is_moved() else moved


def _place_of_result(dims: list[int], shapes: list[tuple[int, ...]], rank: int) -> int:
    """Before which of the other dimensions the indices' dimensions stand in the result.

    They stay in place if the dimensions they stand for are neighbours, else they come first. Single
    indices (0-d tensors) count as integers: their dimension is gone before.
    """
    single = {d for d, shape in zip(dims, shapes, strict=True) if not shape}
    several = [d for d in dims if d not in single]
    if not several:
        return dims[0]
    left = [d for d in range(rank) if d not in single]
    positions = [left.index(d) for d in several]
    adjacent = positions == list(range(positions[0], positions[0] + len(positions)))
    return positions[0] if adjacent else 0


# Reading ------------------------------------------------------------------------------------------


@settled
def getitem(input: Tensor, key: Any) -> Tensor:
    """`input[key]`: integers, slices, None, Ellipsis (views), integer tensors or lists, boolean
    masks (copies).

    A mask is a sync point, because the shape of the result depends on its values. An index that is
    a 0-d tensor is not, and gives a copy.

    Raises:
        IndexError: too many indices, or one out of range (for tensors: at the next sync).
    """
    result, advanced = _split(input, key)
    if advanced:
        if len(advanced) == 1:  # the view itself is the table
            dim, index = advanced[0]
            if result._handle.type.numel and index._handle.type.numel:
                return apply(call_of(_TAKE, dim=dim), result, index)  # type: ignore[no-any-return]
        table = _Table(result, advanced)
        if math.prod(table.shape) == 0:
            return nothing_of(input, table.shape)
        picked: Tensor = apply(call_of(_TAKE, dim=table.dim), table.table, table.index)
        return picked
    if result is input:
        return view_of(call_of(op_named("reshape"), shape=input._handle.type.shape), input)
    return result


# Writing ------------------------------------------------------------------------------------------


def setitem(input: Tensor, key: Any, value: Any) -> None:
    """`input[key] = value` in place; the value is broadcast. Where index tensors name a place
    twice, the last value stays.

    Raises:
        IndexError: as for reading.
        RuntimeError: the value does not broadcast, or (with index tensors) has another dtype.
    """
    if isinstance(key, np.ndarray) or isinstance(key, list) and not any(map(_is_compound, key)):
        key = _as_index(key)
    if isinstance(key, Tensor) and key.dtype is bool_ and _fills_rows(value, key, input):
        if not isinstance(value, Tensor) or value.ndim:
            _check_dtypes(input, value)
        fill = as_value(value, input)
        mask = reshape(key, (*key._handle.type.shape, *(1,) * (input.ndim - key.ndim)))
        input._replace(where(mask, fill, input))
        return
    check_writable(input, whole=False)
    if shows_repeats(input):
        # A part of it may still show each place once.
        basic = [item for item in _normalise_key(key, input.ndim) if not isinstance(item, bool)]
        check_writable(_split(input, tuple(_whole_dimensions(basic)))[0])
    target, advanced = _split(input, key)
    if not advanced:
        filled = clone(_broadcast(as_value(beside(input, value), input), target._handle.type.shape))
        target._replace(instead(target, filled))
        return
    target._replace(written(target, advanced, value))


def _whole_dimensions(items: list[Any]) -> Iterator[Any]:
    """A key with slices of whole dimensions in place of its index tensors."""
    for item in items:
        if not isinstance(item, Tensor):
            yield item
        else:
            yield from [slice(None)] * (item.ndim if item.dtype is bool_ else 1)


def written(view: Tensor, advanced: Advanced, value: Any, accumulate: bool = False) -> Tensor:
    """The value of a view after values were written to (or added at) the indices."""
    _check_dtypes(view, value)
    table = _Table(view, advanced)
    fill = as_value(value, view)
    own = fill._handle.type.shape
    try:
        updates = _broadcast(fill, table.shape)
    except RuntimeError:
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(own)} cannot be broadcast to indexing "
            f"result of shape {list(table.shape)}"
        ) from None
    if math.prod(table.shape) == 0:
        return clone(view)
    op = _ADD if accumulate else _PUT
    put: Tensor = apply(call_of(op, dim=table.dim), table.table, table.index, updates)
    return clone(table.undone(put))


def indexed(input: Tensor, indices: Any, value: Any, accumulate: bool) -> Tensor:
    """`input` after `input[indices] = value` (or `+=`), as a new tensor."""
    view, advanced = _split(input, tuple(slice(None) if i is None else i for i in indices))
    return written(view, advanced, value, accumulate)


def _check_dtypes(input: Tensor, value: Any) -> None:
    if isinstance(value, Tensor) and value.dtype is not input.dtype:
        raise RuntimeError(
            "Index put requires the source and destination dtypes match, got "
            f"{input.dtype.public_name} for the destination and {value.dtype.public_name} for the "
            "source."
        )


def _fills_rows(value: Any, mask: Tensor, input: Tensor) -> bool:
    """Is the value the same for every hit of a mask that fits? Then the hits need not be known."""
    shape = input._handle.type.shape
    if mask.ndim == 0 or mask._handle.type.shape != shape[: mask.ndim]:
        return False
    if not isinstance(value, Tensor):
        return isinstance(value, (int, float))
    own, rest = value._handle.type.shape, shape[mask.ndim :]
    if value._handle.type.numel == 1 and len(own) <= 1:
        return True
    return len(own) <= len(rest) and all(
        n in (1, wanted) for n, wanted in zip(own[::-1], rest[::-1], strict=False)
    )


def _broadcast(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Expand a value, whose leading dimensions of size 1 do not count."""
    own = value._handle.type.shape
    spare = len(own) - len(shape)
    if spare > 0 and all(size == 1 for size in own[:spare]):
        value, own = reshape(value, own[spare:]), own[spare:]
    if len(own) > len(shape):
        raise RuntimeError(
            f"expand: the number of sizes provided ({len(shape)}) must be greater or equal to the "
            f"number of dimensions in the tensor ({len(own)})"
        )
    lead = len(shape) - len(own)
    for axis in range(len(own) - 1, -1, -1):
        if own[axis] not in (1, shape[lead + axis]):
            raise RuntimeError(
                f"The expanded size of the tensor ({shape[lead + axis]}) must match the existing "
                f"size ({own[axis]}) at non-singleton dimension {lead + axis}.  Target sizes: "
                f"{list(shape)}.  Tensor sizes: {list(own)}"
            )
    return expand(value, shape)


def as_value(value: Any, like: Tensor) -> Tensor:
    """What is assigned, as a tensor of the dtype that it is assigned to."""
    if isinstance(value, Tensor):
        return cast(value, like.dtype)
    if isinstance(value, (int, float)):
        return single("__setitem__", value, like.dtype)
    from braze.functions.creation import tensor

    return tensor(value, dtype=like.dtype)


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
