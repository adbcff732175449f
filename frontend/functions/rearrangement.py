"""Diagonals, triangles, rotations and repetitions: functions that put elements elsewhere.

All are movements, or a choice by position, so that compiled code computes addresses and copies
nothing in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.functions.movement import (
    cat,
    clone,
    expand,
    flip,
    permute,
    repeat,
    reshape,
    sizes_of,
    slice_dimension,
    unsqueeze,
)
from braze.functions.pointwise import floor_divide, remainder
from braze.functions.views import diagonal
from braze.ir.dtypes import DType, i64
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.ir.types import tensor_type
from braze.placing import makes
from braze.sizes import Size
from braze.tensors import Tensor, apply, from_array

_EMBED = op_named("diag_embed")


# Diagonals and triangles --------------------------------------------------------------------------


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The square matrix with a vector as diagonal, or a matrix's diagonal (a copy).

    Raises:
        RuntimeError: neither a vector nor a matrix is given.
    """
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim == 2:
        return clone(_diagonal_of(input, diagonal))
    raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")


_diagonal_of = diagonal


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The square matrix with all elements of `input` as diagonal."""
    return diag_embed(reshape(input, (-1,)), offset)


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Square matrices, in dimensions dim1 and dim2, whose diagonals are the last dimension.

    Raises:
        RuntimeError: the two dimensions are one.
    """
    one = normalise_dimension("diag_embed", dim1, input.ndim + 1)
    two = normalise_dimension("diag_embed", dim2, input.ndim + 1)
    if one == two:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    size = input._handle.type.shape[-1] + abs(offset)
    call = call_of(_EMBED, offset=offset, dim1=one, dim2=two, rows=size, columns=size)
    return apply(call, input)  # type: ignore[no-any-return]


def _triangle(name: str, side: str) -> Any:
    op = op_named(name)

    def function(input: Tensor, diagonal: int = 0) -> Tensor:
        return apply(call_of(op, diagonal=diagonal), input)  # type: ignore[no-any-return]

    function.__name__ = name
    function.__doc__ = f"""`input` with zeros {side} a diagonal of its last two dimensions.

    Raises:
        ShapeError: it has fewer than two dimensions.
    """
    return function


tril = _triangle("tril", "above")
triu = _triangle("triu", "below")


def _triangle_indices(name: str, row: int, col: int, rows: Any, dtype: DType | None) -> Tensor:
    if row < 0 or col < 0:
        raise RuntimeError(f"{name}: row and col must be non-negative, got {row} and {col}")
    return from_array(np.stack(rows).astype((dtype or i64).numpy))


@makes
def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: DType | None = None, device: Any = None
) -> Tensor:
    """Rows and columns, as a 2 x n tensor, of the elements on and below a diagonal.

    Raises:
        RuntimeError: a size is negative.
    """
    found = np.tril_indices(max(row, 0), offset, max(col, 0))
    return _triangle_indices("tril_indices", row, col, found, dtype)


@makes
def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: DType | None = None, device: Any = None
) -> Tensor:
    """Rows and columns, as a 2 x n tensor, of the elements on and above a diagonal.

    Raises:
        RuntimeError: a size is negative.
    """
    found = np.triu_indices(max(row, 0), offset, max(col, 0))
    return _triangle_indices("triu_indices", row, col, found, dtype)


# Rotations ----------------------------------------------------------------------------------------


def roll(
    input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None
) -> Tensor:
    """Shift the elements along dimensions, in at the one end what goes out at the other; without
    dimensions, along the flattened tensor.

    Raises:
        RuntimeError: the numbers of shifts and dimensions differ.
    """
    amounts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    if not amounts:
        raise RuntimeError("`shifts` required")
    places = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    if not places:
        if len(amounts) > 1:
            raise RuntimeError(f"shifts and dimensions must align. shifts: {len(amounts)}, dims:0")
        return reshape(_rolled(reshape(input, (-1,)), amounts[0], 0), input._handle.type.shape)
    if len(amounts) != len(places):
        raise RuntimeError(
            f"shifts and dimensions must align. shifts: {len(amounts)}, dims:{len(places)}"
        )
    result = input
    for amount, dim in zip(amounts, places, strict=True):
        result = _rolled(result, amount, normalise_dimension("roll", dim, input.ndim))
    return result


def _rolled(input: Tensor, amount: int, dim: int) -> Tensor:
    size = input._handle.type.shape[dim]
    shift = amount % size if size else 0
    if shift == 0:
        return clone(input)
    end = slice_dimension(input, dim, size - shift, size, 1)
    return cat([end, slice_dimension(input, dim, 0, size - shift, 1)], dim)


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turn k times by 90 degrees in the plane of two dimensions, from the first to the second.

    Raises:
        RuntimeError: there are not two different dimensions.
    """
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    one, two = (normalise_dimension("rot90", d, input.ndim) for d in dims)
    if one == two:
        raise RuntimeError(
            f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}"
        )
    order = list(range(input.ndim))
    order[one], order[two] = two, one
    turns = k % 4
    if turns == 0:
        return clone(input)
    if turns == 2:
        return flip(input, (one, two))
    if turns == 1:
        return clone(permute(flip(input, (two,)), order))
    return flip(permute(input, order), (two,))


def fliplr(input: Tensor) -> Tensor:
    """Reverse the columns.

    Raises:
        RuntimeError: there are fewer than two dimensions.
    """
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """Reverse the rows.

    Raises:
        RuntimeError: there are no dimensions.
    """
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


# Repetition ---------------------------------------------------------------------------------------


def tile(input: Tensor, *dims: Any) -> Tensor:
    """As `repeat`; missing counts are ones, in front."""
    counts = sizes_of(dims)
    return repeat(input, (*(1,) * (input.ndim - len(counts)), *counts))


def repeat_interleave(
    input: Tensor,
    repeats: int | Tensor | None = None,
    dim: int | None = None,
    *,
    output_size: int | None = None,
) -> Tensor:
    """Each element of a dimension (or of the flattened tensor) several times in a row.

    Args:
        repeats: how often: a number, or a tensor with one number for each element, which is a sync
            point. Left out, `input` is such a tensor, and the result tells positions.

    Raises:
        RuntimeError: a count is negative, or their number does not fit.
    """
    if repeats is None:
        return from_array(np.repeat(np.arange(input.numel()), _counts(input)))
    x = reshape(input, (-1,)) if dim is None else input
    d = normalise_dimension("repeat_interleave", 0 if dim is None else dim, x.ndim)
    shape = x._handle.type.shape
    if isinstance(repeats, Tensor) and repeats.numel() == 1:
        repeats = int(repeats.item())
    if isinstance(repeats, int):
        if repeats < 0:
            raise RuntimeError("Repeats must be non-negative")
        if repeats == 1:
            return clone(x)
        wide = expand(unsqueeze(x, d + 1), (*shape[: d + 1], repeats, *shape[d + 1 :]))
        return reshape(wide, (*shape[:d], shape[d] * repeats, *shape[d + 1 :]))
    if repeats.ndim != 1 or repeats._handle.type.shape[0] != shape[d]:
        raise RuntimeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = "
            f"{repeats.numel()} and input.size({d}) = {shape[d]}"
        )
    places = np.repeat(np.arange(shape[d]), _counts(repeats))
    return apply(call_of(op_named("take"), dim=d), x, from_array(places))  # type: ignore[no-any-return]


def _counts(repeats: Tensor) -> np.ndarray:
    if repeats.dtype.is_floating_point or repeats.ndim != 1:
        raise RuntimeError("repeats has to be a 1-d tensor of int or long")
    counts = repeats._numpy()
    if (counts < 0).any():
        raise RuntimeError("repeats can not be negative")
    return counts


# Joining and shaping ------------------------------------------------------------------------------


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinate matrices of vectors: matrix i varies along dimension i only. Views.

    Args:
        indexing: "ij", or "xy" with the first two dimensions swapped.

    Raises:
        RuntimeError: a tensor has more than one dimension, or dtypes differ, or `indexing` is
            neither.
    """
    given = tensors[0] if len(tensors) == 1 and not isinstance(tensors[0], Tensor) else tensors
    if not given:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    if indexing not in ("ij", "xy"):
        raise RuntimeError(
            f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}'
        )
    vectors = []
    for x in given:
        if x.ndim > 1:
            raise RuntimeError(
                f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {x!r}"
            )
        if x.dtype is not given[0].dtype:
            raise RuntimeError(
                "torch.meshgrid expects all tensors to have the same dtype, given "
                f"{given[0].dtype.public_name} and {x.dtype.public_name}"
            )
        vectors.append(reshape(x, (-1,)))
    swap = indexing == "xy" and len(vectors) > 1
    places = list(range(len(vectors)))
    if swap:
        places[:2] = 1, 0
    sizes = [0] * len(vectors)
    for x, place in zip(vectors, places, strict=True):
        sizes[place] = x.numel()
    grids = []
    for x, place in zip(vectors, places, strict=True):
        shape = [-1 if axis == place else 1 for axis in range(len(vectors))]
        grids.append(expand(reshape(x, shape), sizes))
    return tuple(grids)


def _at_least(rank: int) -> Any:
    def function(*tensors: Any) -> Any:
        if len(tensors) == 1 and isinstance(tensors[0], Tensor):
            return _raised(tensors[0], rank)
        given = tensors[0] if len(tensors) == 1 else tensors
        return tuple(_raised(x, rank) for x in given)

    function.__name__ = f"atleast_{rank}d"
    function.__doc__ = f"A view (or a tuple of views) with at least {rank} dimensions."
    return function


def _raised(x: Tensor, rank: int) -> Tensor:
    if x.ndim == 0 and rank:
        x = reshape(x, (1,))
    if x.ndim == 1 and rank > 1:
        x = unsqueeze(x, 0)
    return unsqueeze(x, -1) if x.ndim == 2 and rank > 2 else x


atleast_1d, atleast_2d, atleast_3d = _at_least(1), _at_least(2), _at_least(3)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Join along the second dimension (vectors: the first).

    Raises:
        ShapeError: the other sizes differ.
    """
    parts = [_raised(x, 1) for x in _some("hstack", tensors)]
    return cat(parts, 0 if parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Join along the first dimension, vectors as rows.

    Raises:
        ShapeError: the other sizes differ.
    """
    return cat([_raised(x, 2) for x in _some("vstack", tensors)], 0)


def row_stack(tensors: Sequence[Tensor]) -> Tensor:
    """As `vstack`."""
    return vstack(tensors)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Join along the third dimension.

    Raises:
        ShapeError: the other sizes differ.
    """
    return cat([_raised(x, 3) for x in _some("dstack", tensors)], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Join along the second dimension, vectors as columns.

    Raises:
        ShapeError: the other sizes differ.
    """
    columns = [reshape(x, (-1, 1)) if x.ndim <= 1 else x for x in _some("column_stack", tensors)]
    return cat(columns, 1)


def _some(name: str, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    if len(tensors) == 0:
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return tensors


def concat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """As `cat`."""
    return cat(tensors, dim)


def concatenate(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """As `cat`."""
    return cat(tensors, dim)


def ravel(input: Tensor) -> Tensor:
    """All elements as a vector: a view if they are contiguous, else a copy."""
    return reshape(input, (-1,))


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """Expand to a shape. A view.

    Raises:
        ShapeError: a size is neither 1 nor the wanted one.
    """
    return expand(input, size)


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes have together.

    Raises:
        RuntimeError: they do not broadcast.
    """
    from braze.ir.dtypes import f32
    from braze.ir.types import broadcast_shapes as common

    sizes = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    return Size(common("broadcast_shapes", *(tensor_type(f32, s) for s in sizes)))


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """Reshape to the shape of another tensor."""
    return reshape(input, other._handle.type.shape)


def unravel_index(indices: Tensor, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """Positions in a flattened tensor as coordinates, one tensor for each dimension."""
    coordinates = []
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :])
        coordinates.append(remainder(floor_divide(indices, stride), shape[axis]))
    return tuple(coordinates)


def _inplace_triangle(function: Any) -> Any:
    def method(self: Tensor, diagonal: int = 0) -> Tensor:
        return self._replace(function(self, diagonal))

    method.__doc__ = f"`{function.__name__}` in place."
    return method


METHODS: dict[str, Any] = {
    function.__name__: function
    for function in (
        diag,
        diagflat,
        diag_embed,
        tril,
        triu,
        roll,
        rot90,
        fliplr,
        flipud,
        tile,
        repeat_interleave,
        ravel,
        broadcast_to,
        reshape_as,
    )
}
METHODS |= {"tril_": _inplace_triangle(tril), "triu_": _inplace_triangle(triu)}
