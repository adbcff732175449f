"""Steps that functions on sorted and counted values share: search, look up, add up."""

from __future__ import annotations

from braze.capture import call_of
from braze.functions.creation import zeros
from braze.ir.op import op_named
from braze.tensors import Tensor, apply

_SEARCH = op_named("searchsorted")
_TAKE, _INDEX_ADD = call_of(op_named("take"), dim=0), call_of(op_named("index_add"), dim=0)


def places_in(sequence: Tensor, values: Tensor, right: bool) -> Tensor:
    """How many elements of an ascending sequence come before each value (int64)."""
    return apply(call_of(_SEARCH, right=right), sequence, values)  # type: ignore[no-any-return]


def rows_at(table: Tensor, index: Tensor) -> Tensor:
    """The rows that an index, all in range, names."""
    return apply(_TAKE, table, index)  # type: ignore[no-any-return]


def sums_at(places: Tensor, amounts: Tensor, size: int) -> Tensor:
    """The sum of the amounts at each of `size` places, all in range."""
    empty = zeros(size, dtype=amounts.dtype)
    return apply(_INDEX_ADD, empty, places, amounts)  # type: ignore[no-any-return]
