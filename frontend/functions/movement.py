"""Views and rearrangements: reshape, permute, expand, squeeze, slices of a dimension, joining and
splitting."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from operator import index
from typing import Any

from braze.capture import call_of
from braze.functions.promotion import cast, result_type
from braze.functions.settled import settled
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.layouts import check_memory_format
from braze.tensors import Tensor, apply, view_of
from braze.views import can_reshape

_RESHAPE, _PERMUTE, _EXPAND = op_named("reshape"), op_named("permute"), op_named("expand")
_SLICE, _FLIP, _CONCAT = op_named("slice"), op_named("flip"), op_named("concat")
_SELECT, _STACK = op_named("select"), op_named("stack")


def sizes_of(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """The ints of ``f(2, 3)`` or ``f((2, 3))``.

    Raises:
        TypeError: something else than ints.
    """
    if len(arguments) == 1 and not hasattr(arguments[0], "__index__"):
        arguments = tuple(arguments[0])
    return tuple(index(size) for size in arguments)


def resolve_sizes(shape: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """Work out the one -1 of a shape."""
    if shape.count(-1) > 1:
        raise ShapeError("[reshape] only one dimension can be inferred")
    if -1 in shape:
        known = -math.prod(shape)
        if known == 0 or numel % known:
            raise ShapeError(f"[reshape] shape {list(shape)} is invalid for input of size {numel}")
        shape = tuple(numel // known if size == -1 else size for size in shape)
    return shape


@functools.partial(settled, layout=True)
def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in row-major order under another shape; one size may be -1. A view where
    strides allow it (always for a contiguous tensor), else a copy.

    Raises:
        ShapeError: the number of elements differs.
    """
    sizes = resolve_sizes(sizes_of(shape), input._handle.type.numel)
    call = call_of(_RESHAPE, shape=sizes)
    if can_reshape(input, sizes):
        return view_of(call, input)
    return apply(call, input)  # type: ignore[no-any-return]


@functools.partial(settled, layout=True)
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Join the dimensions start_dim .. end_dim into one."""
    rank = input.ndim
    start = normalise_dimension("flatten", start_dim, rank)
    end = normalise_dimension("flatten", end_dim, rank)
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if start == end and rank:
        return input
    shape = input._handle.type.shape
    joined = math.prod(shape[start : end + 1])
    return reshape(input, (*shape[:start], joined, *shape[end + 1 :]))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Split a dimension into several; one size may be -1."""
    d = normalise_dimension("unflatten", dim, input.ndim)
    shape = input._handle.type.shape
    return reshape(input, (*shape[:d], *resolve_sizes(tuple(sizes), shape[d]), *shape[d + 1 :]))


@settled
def permute(input: Tensor, *dims: Any) -> Tensor:
    """Reorder the dimensions: result dimension i is input dimension dims[i]. A view."""
    order = tuple(normalise_dimension("permute", d, input.ndim) for d in sizes_of(dims))
    return view_of(call_of(_PERMUTE, dims=order), input)


@settled
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swap two dimensions. A view."""
    order = list(range(input.ndim))
    a = normalise_dimension("transpose", dim0, input.ndim)
    b = normalise_dimension("transpose", dim1, input.ndim)
    if order:
        order[a], order[b] = order[b], order[a]
    return permute(input, order)


@settled
def t(input: Tensor) -> Tensor:
    """The transposed matrix (vectors stay as they are)."""
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return transpose(input, 0, 1) if input.ndim == 2 else permute(input, tuple(range(input.ndim)))


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Move dimensions to other places, keeping the order of the rest. A view.

    Raises:
        RuntimeError: the two differ in length, or name a dimension twice.
    """
    from_, to = sizes_of((source,)), sizes_of((destination,))
    if len(from_) != len(to):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({list(from_)} dims) should "
            f"contain the same number of dims as destination ({list(to)} dims)"
        )
    rank = input.ndim
    placed: dict[int, int] = {}
    for s, d in zip(from_, to, strict=True):
        placed[normalise_dimension("movedim", d, rank)] = normalise_dimension("movedim", s, rank)
    for name, dims, distinct in (
        ("source", from_, len(set(placed.values()))),
        ("destination", to, len(placed)),
    ):
        if distinct != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({list(dims)})")
    rest = iter([d for d in range(rank) if d not in placed.values()])
    return permute(input, [placed[d] if d in placed else next(rest) for d in range(rank)])


@settled
def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Drop dimensions of size 1: all of them, or those named. A view."""
    shape = input._handle.type.shape
    if dim is None:
        chosen = set(range(len(shape)))
    else:
        given = sizes_of((dim,))
        chosen = {normalise_dimension("squeeze", d, input.ndim) for d in given}
        if len(chosen) != len(given):
            raise RuntimeError(f"squeeze(): a dim appears multiple times in {list(given)}")
    kept = [size for d, size in enumerate(shape) if not (d in chosen and size == 1)]
    return reshape(input, kept)


@settled
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Insert a dimension of size 1. A view."""
    d = normalise_dimension("unsqueeze", dim, input.ndim + 1)
    shape = input._handle.type.shape
    return reshape(input, (*shape[:d], 1, *shape[d:]))


@settled
def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Repeat dimensions of size 1 without copying; -1 keeps a size. A view.

    Raises:
        ShapeError: a size is neither 1 nor the wanted one.
    """
    shape = sizes_of(sizes)
    own = input._handle.type.shape
    lead = len(shape) - len(own)
    if lead >= 0:
        if -1 in shape[:lead]:
            raise RuntimeError(
                "The expanded size of the tensor (-1) isn't allowed in a leading, non-existing "
                f"dimension {shape.index(-1)}"
            )
        shape = tuple(
            own[d - lead] if size == -1 and d >= lead else size for d, size in enumerate(shape)
        )
    return view_of(call_of(_EXPAND, shape=shape), input)


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Expand to the shape of another tensor."""
    return expand(input, other._handle.type.shape)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Expand all to their common shape."""
    from braze.ir.types import broadcast_shapes

    shape = broadcast_shapes("broadcast_tensors", *(x._handle.type for x in tensors))
    return tuple(x if x._handle.type.shape == shape else expand(x, shape) for x in tensors)


def repeat(input: Tensor, *sizes: Any) -> Tensor:
    """Tile the tensor sizes[d] times along each dimension, adding leading dimensions."""
    counts = sizes_of(sizes)
    shape = (1,) * (len(counts) - input.ndim) + input._handle.type.shape
    if len(counts) < input.ndim:
        raise RuntimeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of "
            "tensor"
        )
    inner = [size for n in shape for size in (1, n)]
    outer = [size for c, n in zip(counts, shape, strict=True) for size in (c, n)]
    tiled = expand(reshape(input, inner), outer)
    return clone(reshape(tiled, [c * n for c, n in zip(counts, shape, strict=True)]))


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy with its own memory, through which gradients flow."""
    if memory_format is not None:
        check_memory_format(memory_format, input.ndim)
    return apply(call_of(_RESHAPE, shape=input._handle.type.shape), input)  # type: ignore[no-any-return]


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` elements of a dimension from `start` on. A view."""
    if not input.ndim:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = normalise_dimension("narrow", dim, input.ndim)
    size = input._handle.type.shape[d]
    start, length = index(start), index(length)
    if not -size <= start <= size:
        raise IndexError(
            f"start out of range (expected to be in range of [{-size}, {size}], but got {start})"
        )
    start = start + size if start < 0 else start
    if not 0 <= start <= start + length <= size:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return slice_dimension(input, d, start, start + length, 1)


def slice_dimension(input: Tensor, dim: int, start: int, stop: int, step: int) -> Tensor:
    """input[..., start:stop:step, ...] at one dimension, all in range. A view."""
    shape = input._handle.type.shape
    starts, stops, steps = [0] * len(shape), list(shape), [1] * len(shape)
    starts[dim], stops[dim], steps[dim] = start, stop, step
    call = call_of(_SLICE, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))
    return view_of(call, input)


@settled
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One index of a dimension, which disappears. A view.

    Raises:
        IndexError: the index is out of range.
    """
    d = normalise_dimension("select", dim, input.ndim)
    shape = input._handle.type.shape
    if not -shape[d] <= index < shape[d]:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(shape)} at dimension "
            f"{d}"
        )
    return view_of(call_of(_SELECT, dim=d, index=index % shape[d]), input)


def flip(input: Tensor, *dims: Any) -> Tensor:
    """Reverse the order along dimensions; along all of them if none are named.

    Raises:
        RuntimeError: a dimension is named twice.
    """
    if not dims:
        dims = tuple(range(input.ndim))
    order = tuple(sorted(normalise_dimension("flip", d, input.ndim) for d in sizes_of(dims)))
    return apply(call_of(_FLIP, dims=order), input)  # type: ignore[no-any-return]


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after the other along a dimension.

    Raises:
        ShapeError: their other sizes differ.
    """
    if isinstance(tensors, Tensor):
        raise TypeError("cat(): argument 'tensors' (position 1) must be tuple of Tensors")
    if len(tensors) == 0:
        raise ValueError("cat(): expected a non-empty list of Tensors")
    for place, x in enumerate(tensors):
        if not x.ndim:
            raise RuntimeError(
                f"zero-dimensional tensor (at position {place}) cannot be concatenated"
            )
    parts = _of_one_dtype(tensors)
    if any(x.ndim != 1 for x in parts):  # PyTorch lets empty vectors join anything
        parts = [x for x in parts if x._handle.type.shape != (0,)]
    d = normalise_dimension("cat", dim, parts[0].ndim)
    return apply(call_of(_CONCAT, dim=d), *parts)  # type: ignore[no-any-return]


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension.

    Raises:
        RuntimeError: there are none.
    """
    if isinstance(tensors, Tensor):
        raise TypeError("stack(): argument 'tensors' (position 1) must be tuple of Tensors")
    if len(tensors) == 0:
        raise RuntimeError("stack expects a non-empty TensorList")
    d = normalise_dimension("stack", dim, tensors[0].ndim + 1)
    return apply(call_of(_STACK, dim=d), *_of_one_dtype(tensors))  # type: ignore[no-any-return]


def _of_one_dtype(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors in the dtype that all of them promote to."""
    dtype = tensors[0].dtype
    if any(x.dtype is not dtype for x in tensors):
        dtype = result_type(*tensors)
    return [cast(x, dtype) for x in tensors]


def split(
    input: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Pieces of a dimension: of one size (the last may be smaller), or of the sizes given."""
    if not input.ndim:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = normalise_dimension("split", dim, input.ndim)
    size = input._handle.type.shape[d]
    if isinstance(split_size_or_sections, int):
        step = split_size_or_sections
        if step <= 0:
            raise RuntimeError(f"split expects split_size be positive, but got {step}")
        sections = [min(step, size - at) for at in range(0, size, step)] or [0]
    else:
        sections = list(split_size_or_sections)
        if min((0, *sections)) < 0:
            raise RuntimeError(
                "split_with_sizes expects split_sizes have only non-negative entries, but got "
                f"split_sizes={sections}"
            )
        if sum(sections) != size:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {size} (input tensor's "
                "size at dimension "
                f"{dim}), but got split_sizes={sections}"
            )
    pieces, at = [], 0
    for length in sections:
        pieces.append(narrow(input, d, at, length))
        at += length
    return tuple(pieces)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` pieces of equal size along a dimension (the last may be smaller)."""
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    if not input.ndim:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    size = input._handle.type.shape[normalise_dimension("chunk", dim, input.ndim)]
    if size == 0:
        return split(input, [0] * chunks, dim)
    return split(input, max(-(-size // chunks), 1), dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along a dimension, which disappears."""
    d = normalise_dimension("unbind", dim, input.ndim)
    return tuple(select(input, d, i) for i in range(input._handle.type.shape[d]))
