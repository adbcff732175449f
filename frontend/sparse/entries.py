"""What sparse operations are made of: places as numbers, merging equal ones, finding some among
others.

The places of entries in row-major order are their *keys*, i64[entries], from 0 up to the product of
the sparse sizes. All of this is compiled operations; only how many distinct keys, matches or hits
there are is read at a sync, since it is a shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from braze.capture import call_of
from braze.functions.creation import arange, zeros
from braze.functions.distinct import unique
from braze.functions.movement import cat, expand, reshape, select
from braze.functions.pointwise import bitwise_and, clamp, eq, floor_divide, remainder, where
from braze.functions.promotion import scalar
from braze.functions.scans import cumsum
from braze.functions.tables import places_in, rows_at
from braze.handle import SparseHandle
from braze.ir.dtypes import i64
from braze.ir.op import op_named
from braze.ir.types import Shape
from braze.placing import beside
from braze.sparse.tensor import SparseTensor, make
from braze.tensors import Tensor, apply, from_array

_ADD_ROWS = call_of(op_named("index_add"), dim=0)


def shapes_of(sparse: SparseTensor) -> tuple[Shape, Shape]:
    """The sizes of the sparse dimensions, and those of the dense ones."""
    shape, count = sparse._handle.type.shape, sparse.sparse_dim()
    return shape[:count], shape[count:]


def keys_of(indices: Tensor, sizes: Sequence[int]) -> Tensor:
    """The keys of places [dimensions, n].

    Raises:
        RuntimeError: there are too many places to number them in 64 bits.
    """
    count = indices._handle.type.shape[1]
    if not sizes:
        return beside(indices, zeros(count, dtype=i64))  # type: ignore[no-any-return]
    if math.prod(sizes) > np.iinfo(np.int64).max:
        raise RuntimeError(f"sparse sizes {list(sizes)} have more places than int64 can number")
    keys = select(indices, 0, 0)
    for dim in range(1, len(sizes)):
        keys = keys * sizes[dim] + select(indices, 0, dim)
    return keys


def places_of(keys: Tensor, sizes: Sequence[int]) -> Tensor:
    """The places, i64[dimensions, n], that have these keys."""
    rows: list[Tensor] = []
    for size in reversed(sizes):
        rows.append(remainder(keys, size))
        keys = floor_divide(keys, size)
    return stacked(rows[::-1], keys.shape[0])


def stacked(rows: Sequence[Tensor], count: int) -> Tensor:
    """Coordinates [n], one row for each dimension, as indices [dimensions, n]."""
    if not rows:
        return zeros((0, count), dtype=i64)
    return cat([reshape(row, (1, count)) for row in rows], 0)


def rows_of(indices: Tensor) -> list[Tensor]:
    """The coordinates of each dimension."""
    return [select(indices, 0, dim) for dim in range(indices._handle.type.shape[0])]


def summed(places: Tensor, amounts: Tensor, size: int) -> Tensor:
    """The sum of the amounts [n, ...] at each of `size` places, all in range."""
    shape = (size, *amounts._handle.type.shape[1:])
    empty = zeros(shape, dtype=amounts.dtype)
    return apply(_ADD_ROWS, empty, places, amounts)  # type: ignore[no-any-return]


def added(rows: Tensor, places: Tensor, amounts: Tensor) -> Tensor:
    """Rows [m, ...] with amounts [n, ...] added at places."""
    return apply(_ADD_ROWS, rows, places, amounts)  # type: ignore[no-any-return]


def coalesced(sparse: SparseTensor) -> SparseTensor:
    """The tensor itself if it is coalesced, else with equal places summed. A sync point."""
    own = sparse._handle
    if own.coalesced:
        return sparse
    if sparse._nnz() < 2:
        return make(own.indices, own.values.clone(), own.type.shape, True)
    sizes, _ = shapes_of(sparse)
    keys, run = unique(keys_of(own.indices, sizes), return_inverse=True)
    values = summed(run, own.values, keys.shape[0])
    return make(places_of(keys, sizes), values, own.type.shape, True)


def check_order(indices: Tensor, shape: Sequence[int]) -> None:
    """Raise RuntimeError unless places are distinct and in order. A sync point."""
    keys = keys_of(indices, shape[: indices._handle.type.shape[0]])._numpy()
    if np.any(keys[1:] <= keys[:-1]):
        raise RuntimeError(
            "cannot set is_coalesced to true if indices correspond to uncoalesced COO tensor"
        )


def keys_in(sparse: SparseTensor) -> Tensor:
    """The keys of a sparse tensor's entries."""
    return keys_of(sparse._handle.indices, shapes_of(sparse)[0])


def dense(sparse: SparseTensor) -> Tensor:
    """All elements."""
    sizes, tail = shapes_of(sparse)
    rows = summed(keys_in(sparse), sparse._handle.values, math.prod(sizes))
    return reshape(rows, (*sizes, *tail))


def picked(tensor: Tensor, indices: Tensor, sizes: Sequence[int]) -> Tensor:
    """The elements [n, rest...] of a dense tensor at places [dimensions, n] of the first dimensions
    of a shape that it broadcasts to.

    Args:
        sizes: that shape; the tensor may have fewer or smaller dimensions.
    """
    own = tensor._handle.type.shape
    count = indices._handle.type.shape[0]
    shape = (*(1,) * (len(sizes) - len(own)), *own)
    kept = [d for d in range(count) if shape[d] != 1]
    head = [shape[d] for d in kept]
    rows = rows_of(indices)
    entries = indices._handle.type.shape[1]
    keys = keys_of(stacked([rows[d] for d in kept], entries), head)
    return rows_at(reshape(tensor, (math.prod(head), *shape[count:])), keys)


def found(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where wanted keys are among ascending distinct ones: positions (in range), and whether."""
    count = keys._handle.type.shape[0]
    if count == 0:
        nowhere = beside(wanted, zeros(wanted.shape, dtype=i64))
        return nowhere, eq(nowhere, 1)
    position = clamp(places_in(keys, wanted, False), max=count - 1)
    return position, eq(rows_at(keys, position), wanted)


def positions_where(mask: Tensor) -> Tensor:
    """Where a vector of bools is True. A sync point."""
    (hits,) = np.nonzero(mask._numpy())
    return from_array(np.ascontiguousarray(hits))


def matches(ascending: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of equal keys. A sync point.

    Args:
        ascending: keys in order, possibly with repeats.
        probes: other keys.

    Returns:
        For each pair the number of the probe, and its position among the ascending keys.
    """
    if not probes._handle.type.numel or not ascending._handle.type.numel:
        return zeros(0, dtype=i64), zeros(0, dtype=i64)
    start = places_in(ascending, probes, False)
    counts = places_in(ascending, probes, True) - start
    ends = cumsum(counts, 0)
    total = int(select(ends, 0, ends.shape[0] - 1))
    numbers = arange(total)
    owner = places_in(ends, numbers, True)
    return owner, numbers + rows_at(start - (ends - counts), owner)


def at_most_once(
    sparse: SparseTensor, other: SparseTensor
) -> tuple[SparseTensor, SparseTensor, Tensor | None]:
    """Two tensors with one list of places, which tells of each that it has no other.

    Returns:
        Both coalesced, and (unless their indices are one tensor) the keys of the first.
    """
    same = sparse._handle is other._handle
    left = coalesced(sparse)
    right = left if same else coalesced(other)
    if left._handle.indices is right._handle.indices:
        return left, right, None
    return left, right, keys_in(left)


def intersection(sparse: SparseTensor, other: SparseTensor) -> tuple[Tensor, Tensor, Tensor]:
    """The places that both have, in order, and the values of each there. A sync point, unless both
    have one tensor as indices."""
    left, right, keys = at_most_once(sparse, other)
    if keys is None:
        return left._handle.indices, left._handle.values, right._handle.values
    position, is_there = found(keys_in(right), keys)
    mine = positions_where(is_there)
    indices = apply(call_of(op_named("take"), dim=1), left._handle.indices, mine)
    theirs = rows_at(position, mine)
    return indices, rows_at(left._handle.values, mine), rows_at(right._handle.values, theirs)


def looked_up(sparse: SparseTensor, indices: Tensor) -> Tensor:
    """The elements [n, dense...] of a sparse tensor at places [dimensions, n]; 0 where it has
    none."""
    own = coalesced(sparse)
    if own._handle.indices is indices:
        return own._handle.values
    sizes, tail = shapes_of(own)
    count = indices._handle.type.shape[1]
    if own._nnz() == 0:
        return zeros((count, *tail), dtype=own.dtype)
    position, is_there = found(keys_in(own), keys_of(indices, sizes))
    values = rows_at(own._handle.values, position)
    column = reshape(is_there, (count, *(1,) * len(tail)))
    return where(column, values, scalar(0, own.dtype))


def kept(sparse: SparseTensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Indices and values of the entries where a mask [nnz] holds. A sync point."""
    hits = positions_where(mask)
    indices = apply(call_of(op_named("take"), dim=1), sparse._handle.indices, hits)
    return indices, rows_at(sparse._handle.values, hits)


def between(row: Tensor, start: int, stop: int) -> Tensor:
    """Whether start <= coordinate < stop."""
    return bitwise_and(row >= start, row < stop)


def with_values(sparse: SparseTensor, values: Tensor) -> SparseTensor:
    """Other values at the same places."""
    own: SparseHandle = sparse._handle
    return make(own.indices, values, own.type.shape, own.coalesced)


def spread(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Values [n] as a column for entries of this shape [n, ...]."""
    count = values._handle.type.shape[0]
    return expand(reshape(values, (count, *(1,) * (len(shape) - 1))), tuple(shape))
