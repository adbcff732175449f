"""Entries of equal places as one, without a sync: what optimizers make of sparse gradients.

`coalesced` has as many entries as there are places, which is a size that depends on values, so that
it is read at a sync, and each number of places is another graph. Here every entry is kept and knows
the sum of those that share its place. What is computed from it is the same for all of these, so
that writing it once for each of them is writing it once.
"""

from __future__ import annotations

import math

from braze.capture import call_of
from braze.functions.movement import reshape
from braze.functions.sorting import sort
from braze.functions.tables import places_in, rows_at
from braze.ir.op import op_named
from braze.sparse.entries import keys_in, shapes_of, summed
from braze.sparse.tensor import SparseTensor
from braze.tensors import Tensor, apply

_PUT = call_of(op_named("index_put"), dim=0)


class Merged:
    """The places of a sparse tensor's n entries, in order, possibly repeated.

    Attributes:
        values: for each place the sum of its entries [n, dense...].
    """

    def __init__(self, sparse: SparseTensor) -> None:
        own = sparse._handle
        sizes, tail = shapes_of(sparse)
        self._shape = (math.prod(sizes), *tail)
        self._keys, self.values = keys_in(sparse), own.values
        count = sparse._nnz()
        if own.coalesced or count < 2:
            return
        self._keys, order = sort(self._keys, 0)
        first = places_in(self._keys, self._keys, False)
        self.values = rows_at(summed(first, rows_at(own.values, order), count), first)

    def _rows(self, tensor: Tensor) -> Tensor:
        is_so = tensor._handle.type.shape == self._shape
        return tensor if is_so else reshape(tensor, self._shape)

    def of(self, tensor: Tensor) -> Tensor:
        """The elements [n, dense...] of a dense tensor of this shape at the places."""
        return rows_at(self._rows(tensor), self._keys)

    def put_in(self, tensor: Tensor, elements: Tensor) -> Tensor:
        """A dense tensor of this shape with elements [n, dense...], equal where places are, there
        instead of its own."""
        rows: Tensor = apply(_PUT, self._rows(tensor), self._keys, elements)
        shape = tensor._handle.type.shape
        return rows if shape == self._shape else reshape(rows, shape)
