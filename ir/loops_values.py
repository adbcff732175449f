"""What reductions and scans make of values one after the other, for the loop IR's interpreter.

In: values as NumPy scalars.  Out: their combination. Sums and products of floats are exact enough
for any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.loops import Carried
from braze.ir.op import op_named

Array = np.ndarray[Any, np.dtype[Any]]
Scalar = Any  # a NumPy scalar of the expression's dtype


def combine_values(name: str, values: Array) -> Scalar:
    """By the reduction op of that name; float sums and products exactly enough for any order."""
    op = op_named(name)
    if op.evaluate is None:
        raise TypeError(f"op {name} is not a primitive")
    wide = values
    if values.dtype.kind not in "iub" and name in ("sum", "prod"):
        wide = values.astype(np.float64)
    result = np.asarray(op.evaluate(wide, dims=(0,), keepdim=False))
    return (result if wide is values else result.astype(values.dtype))[()]


def first_state(carried: Carried, starts: list[Scalar]) -> tuple[Scalar, int]:
    """What is carried before the first point: a value and, for lastmax and lastmin, its place."""
    dtype = carried.values[0].dtype
    if starts:
        return starts[0], int(starts[-1]) if carried.position is not None else 0
    if carried.combine in ("sum", "linear", "prod"):
        return dtype.numpy.type(carried.combine == "prod"), 0
    largest = carried.combine in ("amax", "lastmax")
    if dtype.is_floating_point:
        return dtype.numpy.type(-np.inf if largest else np.inf), 0
    limits = np.iinfo(dtype.numpy)
    return dtype.numpy.type(limits.min if largest else limits.max), 0


def step_values(
    combine: str, state: tuple[Scalar, int], values: list[Scalar], place: int
) -> tuple[Scalar, int]:
    """The state after one more point; float sums and products exactly enough for any order."""
    before, at = state
    value = values[-1]
    if combine in ("sum", "prod", "linear"):
        if value.dtype.kind not in "iub":
            before, *values = (np.float64(number) for number in (before, *values))
        if combine == "sum":
            return before + values[0], 0
        return (before * values[0] if combine == "prod" else values[0] * before + values[1]), 0
    largest = combine in ("amax", "lastmax")
    if combine in ("amax", "amin"):
        return (np.maximum if largest else np.minimum)(before, value), 0
    takes = bool(value != value) or bool(value >= before if largest else value <= before)
    return (value, place) if takes else (before, at)
