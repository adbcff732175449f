"""Categories drawn by weight, as a composite over uniform numbers.

With replacement, uniform numbers are looked up in the running sum of the weights; f64 keeps rare
categories apart. Without, each category waits for an exponential time with its weight as rate, and
the first arrivals are the sample (Efraimidis and Spirakis, "Weighted random sampling with a
reservoir", 2006).
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import DType, f64, i32, i64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import accumulation_dtype, as_dtype, cut, require_floating
from braze.ir.ops.dropout import counters
from braze.ir.types import Shape, TensorType, tensor_type

_NO_WEIGHTS = "multinomial!probability tensor contains either `inf`, `nan` or element < 0"
_ALL_ZERO = "multinomial!invalid distribution (sum of probabilities <= 0)"


def multinomial_counters(shape: Shape, dtype: DType, count: int, replacement: bool) -> int:
    """By how much drawing `count` categories for each row of weights advances the generator."""
    if replacement:
        return counters("uniform", math.prod(shape[:-1]) * count, f64)
    return counters("exponential", math.prod(shape), accumulation_dtype(dtype))


def _types(
    weights: TensorType, seed: TensorType, offset: TensorType, *, count: int, replacement: bool
) -> tuple[TensorType, ...]:
    require_floating("multinomial", weights)
    for operand in (seed, offset):
        if operand.dtype is not i64 or operand.shape != ():
            raise DTypeError(f"[multinomial] seed and offset must be i64[], given {operand}")
    if weights.rank == 0:
        raise ShapeError(f"[multinomial] the weights need a dimension of categories: {weights}")
    if not replacement and count > weights.shape[-1]:
        raise ShapeError(f"[multinomial] {count} categories cannot be drawn from {weights}")
    return (tensor_type(i64, (*weights.shape[:-1], count)),)


def _check(b: Any, weights: Any) -> None:
    last = weights.type.rank - 1
    wrong = b.bitwise_or(b.lt(weights, 0.0), b.ne(b.sub(weights, weights), 0.0))
    none = b.all(b.eq(weights, 0.0), dims=(last,), keepdim=False)
    for failed, message in ((wrong, _NO_WEIGHTS), (none, _ALL_ZERO)):
        b.check_range(b.cast(failed, dtype=i32), low=0, high=1, message=message)


def _looked_up(b: Any, weights: Any, seed: Any, offset: Any, count: int) -> Any:
    """Where uniform numbers fall among the running sums."""
    lead, categories = weights.type.shape[:-1], weights.type.shape[-1]
    last = len(lead)
    sums = b.cumsum(b.where(b.gt(weights, 0.0), weights, 0.0), dim=last, reverse=False)
    total = cut(b, sums, last, categories - 1, categories)
    chosen = b.mul(b.uniform(seed, offset, shape=(*lead, count), dtype=f64), total)
    # Rounded up to the total, a number would fall behind the last category that has a weight.
    below = b.nextafter(total, 0.0)
    found = b.searchsorted(sums, b.minimum(chosen, below), right=True)
    return b.minimum(found, categories - 1)  # where no category has a weight


def _first_arrivals(b: Any, weights: Any, seed: Any, offset: Any, count: int) -> Any:
    """The categories that wait least; those without weight come after all others."""
    last, dtype = weights.type.rank - 1, weights.type.dtype
    waiting = b.exponential(seed, offset, shape=weights.type.shape, dtype=dtype)
    latest = 1e308 if dtype is f64 else 3e38
    arrivals = b.minimum(b.div(waiting, weights), latest)
    arrivals = b.where(b.gt(weights, 0.0), arrivals, latest)
    if count == 1:
        return b.argmin(arrivals, dims=(last,), keepdim=True)
    return b.topk(arrivals, dim=last, k=count, largest=False)[1]


def _multinomial(
    b: Any, weights: Any, seed: Any, offset: Any, *, count: int, replacement: bool
) -> Any:
    dtype = weights.type.dtype
    wide = as_dtype(b, weights, accumulation_dtype(dtype))
    _check(b, wide)
    if replacement:
        return _looked_up(b, as_dtype(b, weights, f64), seed, offset, count)
    return _first_arrivals(b, wide, seed, offset, count)


multinomial = declare(
    "multinomial",
    "composite",
    "weights seed offset",
    infer=_types,
    decompose=_multinomial,
    attributes={"count": int, "replacement": bool},
    differentiable=False,
    effect=True,
    domain=(0.1, 3.0),
    doc="""`count` categories (i64) for each row of weights, drawn in proportion to them; a
RuntimeError where a weight is negative, infinite or nan, or all of a row are zero.""",
)
