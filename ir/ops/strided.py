"""Views by strides: any affine picking of elements, diagonals, and their adjoints."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from braze.ir.dtypes import i64
from braze.ir.errors import ShapeError
from braze.ir.op import declare
from braze.ir.ops.movement import inverse_permutation
from braze.ir.ops.rules import check_dimensions
from braze.ir.types import Shape, TensorType, tensor_type

Ints = tuple[int, ...]


def _check_strides(name: str, shape: Ints, strides: Ints, offset: int) -> None:
    if len(shape) != len(strides):
        raise ShapeError(f"[{name}] needs one stride for each of {list(shape)}: {list(strides)}")
    if min((*shape, *strides, offset, 0)) < 0:
        raise ShapeError(
            f"[{name}] sizes, strides and offset must not be negative: {list(shape)}, "
            f"{list(strides)}, {offset}"
        )


def last_place(shape: Ints, strides: Ints, offset: int) -> int:
    """The largest flat position that a strided view touches; -1 if it has no elements."""
    if math.prod(shape) == 0:
        return -1
    return offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))


# strided_index ------------------------------------------------------------------------------------


def _index_types(*, shape: Ints, strides: Ints, offset: int) -> tuple[TensorType, ...]:
    _check_strides("strided_index", shape, strides, offset)
    return (tensor_type(i64, shape),)


def _index_array(*, shape: Ints, strides: Ints, offset: int) -> np.ndarray:
    places = np.full(shape, offset, dtype=np.int64)
    for axis, stride in enumerate(strides):
        ramp = np.arange(shape[axis], dtype=np.int64) * stride
        places += ramp.reshape([-1 if d == axis else 1 for d in range(len(shape))])
    return places


def _index(b: Any, *, shape: Ints, strides: Ints, offset: int) -> Any:
    places = b.full(shape=shape, value=offset, dtype=i64)
    for axis, stride in enumerate(strides):
        if stride and shape[axis] > 1:
            places = b.add(places, b.mul(b.iota(shape=shape, dim=axis, dtype=i64), stride))
    return places


strided_index = declare(
    "strided_index",
    "composite",
    "",
    infer=_index_types,
    evaluate=_index_array,
    decompose=_index,
    attributes={"shape": tuple, "strides": tuple, "offset": int},
    differentiable=False,
    doc="out[i, j, ..] = offset + i * strides[0] + j * strides[1] + ..: flat positions, as i64.",
)

# as_strided ---------------------------------------------------------------------------------------


def _strided_types(
    x: TensorType, *, sizes: Ints, strides: Ints, offset: int
) -> tuple[TensorType, ...]:
    _check_strides("as_strided", sizes, strides, offset)
    if x.rank != 1:
        raise ShapeError(f"[as_strided] needs a flat operand, given {x}")
    last = last_place(sizes, strides, offset)
    if last >= x.numel:
        raise ShapeError(f"[as_strided] element {last} is outside {x}")
    return (x.with_shape(sizes),)


def _strided(x: np.ndarray, *, sizes: Ints, strides: Ints, offset: int) -> np.ndarray:
    (step,) = x.strides
    start = x[offset:] if math.prod(sizes) else x[:0]
    steps = [stride * step for stride in strides]
    return np.lib.stride_tricks.as_strided(start, sizes, steps, writeable=False)


def _strided_gradient(
    b: Any, g: Any, x_type: TensorType, sizes: Ints, strides: Ints, offset: int
) -> Any:
    zeros = b.full(shape=x_type.shape, value=0.0, dtype=x_type.dtype)
    if math.prod(sizes) == 0:
        return zeros
    index = b.strided_index(shape=sizes, strides=strides, offset=offset)
    return b.index_add(zeros, index, g, dim=0)


as_strided = declare(
    "as_strided",
    "movement",
    "x",
    infer=_strided_types,
    evaluate=_strided,
    attributes={"sizes": tuple, "strides": tuple, "offset": int},
    gradients={"x": _strided_gradient},
    doc="out[i, j, ..] = x[offset + i * strides[0] + j * strides[1] + ..] of a flat x.",
)

# Diagonals ----------------------------------------------------------------------------------------


def diagonal_length(rows: int, columns: int, offset: int) -> int:
    """How many elements the diagonal has that starts `offset` columns right of the main one."""
    return max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)


def _start(columns: int, offset: int) -> int:
    return offset if offset >= 0 else -offset * columns


def _last_two(rank: int, dim1: int, dim2: int) -> Ints:
    return (*(d for d in range(rank) if d not in (dim1, dim2)), dim1, dim2)


def _diagonal_types(x: TensorType, *, offset: int, dim1: int, dim2: int) -> tuple[TensorType, ...]:
    check_dimensions("diagonal", (dim1, dim2), x)
    length = diagonal_length(x.shape[dim1], x.shape[dim2], offset)
    return (x.with_shape((*(x.shape[d] for d in _last_two(x.rank, dim1, dim2)[:-2]), length)),)


def _diagonal(b: Any, x: Any, *, offset: int, dim1: int, dim2: int) -> Any:
    shape: Shape = x.type.shape
    rows, columns = shape[dim1], shape[dim2]
    order = _last_two(len(shape), dim1, dim2)
    rest = tuple(shape[d] for d in order[:-2])
    flat = b.reshape(b.permute(x, dims=order), shape=(*rest, rows * columns))
    length = diagonal_length(rows, columns, offset)
    start = _start(columns, offset) if length else 0
    stop = start + (length - 1) * (columns + 1) + 1 if length else 0
    return b.slice(
        flat,
        starts=(*(0 for _ in rest), start),
        stops=(*rest, stop),
        steps=(*(1 for _ in rest), columns + 1),
    )


diagonal = declare(
    "diagonal",
    "composite",
    "x",
    infer=_diagonal_types,
    evaluate=lambda x, *, offset, dim1, dim2: np.diagonal(x, offset, dim1, dim2),
    decompose=_diagonal,
    attributes={"offset": int, "dim1": int, "dim2": int},
    gradients={
        "x": lambda b, g, x_type, offset, dim1, dim2: b.diag_embed(
            g,
            offset=offset,
            dim1=dim1,
            dim2=dim2,
            rows=x_type.shape[dim1],
            columns=x_type.shape[dim2],
        )
    },
    doc="The elements with column = row + offset in dimensions dim1 and dim2, as last dimension.",
    complex=True,
)


def _embed_types(
    x: TensorType, *, offset: int, dim1: int, dim2: int, rows: int, columns: int
) -> tuple[TensorType, ...]:
    if x.rank == 0 or x.shape[-1] != diagonal_length(rows, columns, offset):
        raise ShapeError(f"[diag_embed] {x} is not diagonal {offset} of {rows} x {columns}")
    order = _last_two(x.rank + 1, dim1, dim2)
    moved = (*x.shape[:-1], rows, columns)
    result = x.with_shape(tuple(moved[p] for p in inverse_permutation(order)))
    check_dimensions("diag_embed", (dim1, dim2), result)
    return (result,)


def _embed_array(
    x: np.ndarray, *, offset: int, dim1: int, dim2: int, rows: int, columns: int
) -> np.ndarray:
    flat = np.zeros((*x.shape[:-1], rows * columns), dtype=x.dtype)
    start = _start(columns, offset)
    flat[..., start : start + x.shape[-1] * (columns + 1) : columns + 1][..., : x.shape[-1]] = x
    full = flat.reshape(*x.shape[:-1], rows, columns)
    order = _last_two(full.ndim, dim1, dim2)
    return full.transpose(inverse_permutation(order))


def _embed(b: Any, x: Any, *, offset: int, dim1: int, dim2: int, rows: int, columns: int) -> Any:
    shape: Shape = x.type.shape
    length, rest = shape[-1], shape[:-1]
    start = _start(columns, offset) if length else 0
    covered = (length - 1) * (columns + 1) + 1 if length else 0
    none = tuple(0 for _ in rest)
    flat = b.pad(
        x,
        low=(*none, start),
        high=(*none, rows * columns - start - covered),
        interior=(*none, columns),
        value=0.0,
    )
    full = b.reshape(flat, shape=(*rest, rows, columns))
    return b.permute(full, dims=inverse_permutation(_last_two(len(shape) + 1, dim1, dim2)))


diag_embed = declare(
    "diag_embed",
    "composite",
    "x",
    infer=_embed_types,
    evaluate=_embed_array,
    decompose=_embed,
    attributes={"offset": int, "dim1": int, "dim2": int, "rows": int, "columns": int},
    gradients={
        "x": lambda b, g, offset, dim1, dim2: b.diagonal(g, offset=offset, dim1=dim1, dim2=dim2)
    },
    doc="""The last dimension as diagonal `offset` of matrices of zeros in dimensions dim1 and dim2:
the adjoint of `diagonal`.""",
    complex=True,
)
