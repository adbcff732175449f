"""Sums of sparse tensors of several ranks.

In: sparse tensors of one shape, each rank's with as many entries as it happens to have.  Out: one
with the entries of all ranks, uncoalesced. The entries are gathered by collectives of the captured
graph; how many there are is told by a message beforehand, since it is a shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.distributed.captured import collective
from braze.distributed.groups import ProcessGroup
from braze.functions.creation import zeros
from braze.functions.movement import cat
from braze.ir.dtypes import i64
from braze.sparse.tensor import SparseTensor, make
from braze.tensors import Tensor, wrap


def sums(
    tensors: Sequence[SparseTensor | None],
    like: Sequence[Tensor],
    group: ProcessGroup,
    aside: ProcessGroup,
) -> list[SparseTensor]:
    """The sums over all ranks, of none for some of the tensors here.

    Args:
        like: dense tensors of their shapes, dtypes and places. Where the gradients of a rank are
            None, their sparse dimension is the first one, as of an embedding's.
        group: what carries the entries.
        aside: a group of the same ranks for telling how many there are. Its messages overtake what
            has been captured.
    """
    own = np.array([0 if tensor is None else tensor._nnz() for tensor in tensors], np.int64)
    counts = np.empty((group.size(), len(own)), np.int64)
    aside._communicator.all_gather(own, counts).wait()
    found = []
    for tensor, dense, column in zip(tensors, like, counts.T, strict=True):
        indices, values = _parts(tensor, dense)
        most = int(column.max())
        shares = [int(count) for count in column]
        all_indices = _gathered(indices.t().contiguous(), most, shares, group)
        all_values = _gathered(values, most, shares, group)
        found.append(make(all_indices.t().contiguous(), all_values, tuple(dense.shape)))
    return found


def _parts(tensor: SparseTensor | None, dense: Tensor) -> tuple[Tensor, Tensor]:
    if tensor is not None:
        return tensor._indices(), tensor._values()
    rows = (0, *dense.shape[1:])
    return (
        zeros((1, 0), dtype=i64, device=dense.device),
        zeros(rows, dtype=dense.dtype, device=dense.device),
    )


def _gathered(rows: Tensor, most: int, shares: Sequence[int], group: ProcessGroup) -> Tensor:
    """The rows of all ranks, one behind the other.

    Args:
        most: the largest of `shares`, the numbers of rows that ranks have. Collectives are of equal
            parts, so the others send zeros behind theirs, which are cut off again.
    """
    if not most:
        return rows
    tail = tuple(rows.shape[1:])
    if rows.shape[0] < most:
        shape = (most - rows.shape[0], *tail)
        rows = cat([rows, zeros(shape, dtype=rows.dtype, device=rows.device)], 0)
    handles: list[Any] = [rows._current()]
    whole = wrap(collective("all_gather", handles, group, (len(shares), most, *tail)), None, 0)
    if all(count == most for count in shares):
        return whole.reshape(len(shares) * most, *tail)
    return cat([whole[rank, :count] for rank, count in enumerate(shares) if count], 0)
