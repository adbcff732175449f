"""Binary search as a composite: one gather and one comparison for each halving."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from braze.ir.dtypes import i64
from braze.ir.errors import ShapeError
from braze.ir.op import declare
from braze.ir.ops.rules import common_dtype
from braze.ir.types import TensorType, tensor_type

Array = np.ndarray[Any, np.dtype[Any]]


def _types(sequence: TensorType, values: TensorType, *, right: bool) -> tuple[TensorType, ...]:
    common_dtype("searchsorted", sequence, values)
    fits = sequence.rank == 1 or (
        sequence.rank > 1
        and sequence.rank == values.rank
        and sequence.shape[:-1] == values.shape[:-1]
    )
    if not fits:
        raise ShapeError(
            "[searchsorted] the sorted sequence should be of one dimension, or have the leading "
            f"dimensions of the values; it is {sequence}, the values are {values}"
        )
    return (tensor_type(i64, values.shape),)


def _evaluate(sequence: Array, values: Array, *, right: bool) -> Array:
    if sequence.dtype.kind not in "biuf":  # bfloat16
        sequence, values = sequence.astype(np.float32), values.astype(np.float32)
    side: Literal["left", "right"] = "right" if right else "left"
    if sequence.ndim == 1:
        return np.asarray(np.searchsorted(sequence, values, side), dtype=np.int64)
    found = np.empty(values.shape, np.int64)
    for row in np.ndindex(sequence.shape[:-1]):
        found[row] = np.searchsorted(sequence[row], values[row], side)
    return found


def _searchsorted(b: Any, sequence: Any, values: Any, *, right: bool) -> Any:
    """Knuth's uniform binary search: the place lies in [place, place + size], whatever was found,
    so that all elements take the same steps."""
    shape, size = values.type.shape, sequence.type.shape[-1]
    place = b.full(shape=shape, value=0.0, dtype=i64)
    if size == 0 or values.type.numel == 0:
        return place
    while size > 1:
        half = size // 2
        below = _is_below(b, _element(b, sequence, b.add(place, half - 1)), values, right)
        place = b.where(below, b.add(place, half), place)
        size -= half
    below = _is_below(b, _element(b, sequence, place), values, right)
    return b.add(place, b.cast(below, dtype=i64))


def _element(b: Any, sequence: Any, place: Any) -> Any:
    if sequence.type.rank == 1:
        return b.take(sequence, place, dim=0)
    return b.take_along(sequence, place, dim=sequence.type.rank - 1)


def _is_below(b: Any, element: Any, value: Any, right: bool) -> Any:
    """element < value, or element <= value from the right; nan is the largest and equals nan."""
    if not element.type.dtype.is_floating_point:
        return b.le(element, value) if right else b.lt(element, value)
    not_above = b.bitwise_not(b.gt(element, value) if right else b.ge(element, value))
    may_be = b.eq(element, element)
    if right:
        may_be = b.bitwise_or(may_be, b.ne(value, value))
    return b.bitwise_and(not_above, may_be)


searchsorted = declare(
    "searchsorted",
    "composite",
    "sequence values",
    infer=_types,
    evaluate=_evaluate,
    decompose=_searchsorted,
    attributes={"right": bool},
    differentiable=False,
    doc="""For each value, how many elements of an ascending sequence come before it (i64): those
below it, or from the right those not above it. The sequence has one dimension, or the values'
leading dimensions; in its last one it is searched. nan is the largest.""",
)
