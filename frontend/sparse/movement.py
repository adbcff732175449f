"""Sparse forms of movements: transposes, parts, joining, new dimensions of size one.

What is not in a part has no entry there, so selecting and slicing sparse dimensions are sync
points. Nothing here is a view.
"""

from __future__ import annotations

from typing import Any

from braze.capture import Call, call_of
from braze.functions.creation import zeros
from braze.functions.movement import cat, permute, reshape, select, unsqueeze
from braze.functions.pointwise import bitwise_and, eq, floor_divide, remainder
from braze.functions.sorting import sort
from braze.functions.tables import rows_at
from braze.ir.dtypes import i64
from braze.ir.op import op_named
from braze.sparse.entries import (
    between,
    kept,
    matches,
    rows_of,
    stacked,
    summed,
    with_values,
)
from braze.sparse.tensor import SparseTensor, make
from braze.tensors import Tensor, apply


def _permute(call: Call, x: SparseTensor) -> Tensor:
    dims: Any = call.attributes["dims"]
    count = x.sparse_dim()
    if any((place < count) != (d < count) for place, d in enumerate(dims)):
        raise RuntimeError(
            "permute(sparse_coo): transpositions between sparse and dense dimensions are not "
            f"allowed. Only transpositions within sparse and dense dimensions are supported. Got "
            f"sparse_dim: {count}, dims: {list(dims)}"
        )
    own = x._handle
    shape = [own.type.shape[d] for d in dims]
    values = own.values
    if tuple(dims[count:]) != tuple(range(count, len(dims))):
        values = permute(values, (0, *(d - count + 1 for d in dims[count:])))
    if tuple(dims[:count]) == tuple(range(count)):
        return make(own.indices, values, shape, own.coalesced)
    rows = rows_of(own.indices)
    return make(stacked([rows[d] for d in dims[:count]], x._nnz()), values, shape)


def _select(call: Call, x: SparseTensor) -> Tensor:
    dim: Any = call.attributes["dim"]
    index: Any = call.attributes["index"]
    own, count = x._handle, x.sparse_dim()
    shape = (*own.type.shape[:dim], *own.type.shape[dim + 1 :])
    if dim >= count:
        return make(own.indices, select(own.values, dim - count + 1, index), shape, own.coalesced)
    indices, values = kept(x, eq(select(own.indices, 0, dim), index))
    if count == 1:  # no sparse dimension is left
        nowhere = zeros(values.shape[0], dtype=i64)
        return select(summed(nowhere, values, 1), 0, 0)
    rows = rows_of(indices)
    left = stacked(rows[:dim] + rows[dim + 1 :], values.shape[0])
    return make(left, values, shape, own.coalesced)


def _slice(call: Call, x: SparseTensor) -> Tensor:
    own, count = x._handle, x.sparse_dim()
    starts: Any = call.attributes["starts"]
    stops: Any = call.attributes["stops"]
    steps: Any = call.attributes["steps"]
    shape = [
        max(0, -(-(stop - start) // step))
        for start, stop, step in zip(starts, stops, steps, strict=True)
    ]
    part: SparseTensor = x
    values = own.values
    if any(
        size != whole for size, whole in zip(shape[count:], own.type.shape[count:], strict=True)
    ):
        entries = values._handle.type.shape[0]
        cut = call_of(
            op_named("slice"),
            starts=(0, *starts[count:]),
            stops=(entries, *stops[count:]),
            steps=(1, *steps[count:]),
        )
        values = apply(cut, values)
        part = make(own.indices, values, (*own.type.shape[:count], *shape[count:]), own.coalesced)
    mask: Tensor | None = None
    cut_dims = [d for d in range(count) if shape[d] != own.type.shape[d]]
    for d in cut_dims:
        row = select(own.indices, 0, d)
        hit = between(row, starts[d], stops[d])
        if steps[d] != 1:
            hit = bitwise_and(hit, eq(remainder(row - starts[d], steps[d]), 0))
        mask = hit if mask is None else bitwise_and(mask, hit)
    if mask is None:
        return make(own.indices, values, shape, own.coalesced)
    indices, values = kept(part, mask)
    rows = rows_of(indices)
    for d in cut_dims:
        rows[d] = floor_divide(rows[d] - starts[d], steps[d])
    return make(stacked(rows, values.shape[0]), values, shape, own.coalesced)


def _take(call: Call, x: Tensor, index: Tensor) -> Tensor:
    """`index_select`: for each position of the index, the entries with that coordinate."""
    if not isinstance(x, SparseTensor) or isinstance(index, SparseTensor):
        raise NotImplementedError("[take] there is no sparse form with a sparse index")
    dim: Any = call.attributes["dim"]
    own, count = x._handle, x.sparse_dim()
    shape = list(own.type.shape)
    if index.ndim != 1:
        raise NotImplementedError("[take] a sparse tensor takes a vector as index")
    shape[dim] = index._handle.type.shape[0]
    if dim >= count:
        there = apply(call_of(call.op, dim=dim - count + 1), own.values, index)
        return make(own.indices, there, shape, own.coalesced)
    ascending, order = sort(index, 0)
    entry, position = matches(ascending, select(own.indices, 0, dim))
    rows = rows_of(apply(call_of(call.op, dim=1), own.indices, entry))
    rows[dim] = rows_at(order, position)
    return make(stacked(rows, entry.shape[0]), rows_at(own.values, entry), shape)


def _reshape(call: Call, x: SparseTensor) -> Tensor:
    """Copies, and what adds or drops dimensions of size one."""
    shape: Any = call.attributes["shape"]
    own, count = x._handle, x.sparse_dim()
    before = own.type.shape
    if shape == before:
        return make(own.indices.clone(), own.values.clone(), shape, own.coalesced)
    if [n for n in shape if n != 1] != [n for n in before if n != 1]:
        raise RuntimeError(
            f"reshape is not implemented for sparse tensors (from {list(before)} to {list(shape)})"
        )
    head = _sparse_part(before, shape, count)
    rows = iter([row for d, row in enumerate(rows_of(own.indices)) if before[d] != 1])
    nowhere = zeros(x._nnz(), dtype=i64)  # the only coordinate in a dimension of size one
    placed = [nowhere if size == 1 else next(rows) for size in shape[:head]]
    values = reshape(own.values, (x._nnz(), *shape[head:]))
    return make(stacked(placed, x._nnz()), values, shape, own.coalesced)


def _sparse_part(before: Any, after: Any, count: int) -> int:
    """How many of the dimensions of `after`, which differs from `before` in ones, are sparse, where
    the first `count` of `before` are. New ones at the border are."""
    if len(before) == count:
        return len(after)
    real = sum(n != 1 for n in before[:count])
    places = [place for place, n in enumerate(after) if n != 1]
    start = places[real - 1] + 1 if real else 0
    stop = places[real] if real < len(places) else len(after)
    dense_ones = next((i for i, n in enumerate(before[count:]) if n != 1), len(before) - count)
    return max(start, stop - dense_ones)


def _concat(call: Call, *parts: Tensor) -> Tensor:
    dim: Any = call.attributes["dim"]
    for position, part in enumerate(parts):
        if not isinstance(part, SparseTensor):
            raise RuntimeError(
                "Concatenating sparse tensors, but a dense tensor was found at position "
                f"{position}."
            )
    sparse = [part for part in parts if isinstance(part, SparseTensor)]
    first = sparse[0]
    count, shape = first.sparse_dim(), list(first.shape)
    for position, part in enumerate(sparse):
        own = list(part.shape)
        if part.sparse_dim() != count or len(own) != len(shape):
            raise RuntimeError(
                "All tensors must have the same sparse_dim and dense_dim: "
                f"{part.sparse_dim()}, {part.dense_dim()} at position {position} and {count}, "
                f"{first.dense_dim()} at position 0"
            )
        if own[:dim] + own[dim + 1 :] != shape[:dim] + shape[dim + 1 :]:
            raise RuntimeError(
                f"Sizes of tensors must match except in dimension {dim}. Got {own} at position "
                f"{position} and {shape} at position 0"
            )
    shape[dim] = sum(part.shape[dim] for part in sparse)
    indices, values, offset = [], [], 0
    for part in sparse:
        own_indices, own_values = part._handle.indices, part._handle.values
        size = part.shape[dim]
        if dim < count:
            rows = rows_of(own_indices)
            rows[dim] = rows[dim] + offset
            indices.append(stacked(rows, part._nnz()))
            values.append(own_values)
        else:
            indices.append(own_indices)
            axis = dim - count + 1
            filled = list(own_values.shape)
            pieces = []
            for at, length in ((0, offset), (1, shape[dim] - offset - size)):
                filled[axis] = length
                pieces.append((at, zeros(filled, dtype=own_values.dtype)))
            values.append(cat([pieces[0][1], own_values, pieces[1][1]], axis))
        offset += size
    return make(cat(indices, 1), cat(values, 0), shape)


def _expand(call: Call, x: SparseTensor) -> Tensor:
    shape: Any = call.attributes["shape"]
    if shape == x._handle.type.shape:
        return with_values(x, x._handle.values)
    raise RuntimeError(
        f"expand is unsupported for Sparse tensors (from {list(x.shape)} to {list(shape)})"
    )


def _stack(call: Call, *parts: Tensor) -> Tensor:
    dim: Any = call.attributes["dim"]
    return cat([unsqueeze(part, dim) for part in parts], dim)


FORMS: dict[str, Any] = {
    "permute": _permute,
    "select": _select,
    "slice": _slice,
    "take": _take,
    "reshape": _reshape,
    "concat": _concat,
    "stack": _stack,
    "expand": _expand,
}
