"""Resampling along one dimension: each result is a weighted sum of a few neighbouring elements.

Interpolation of images is this along one dimension after the other. The adjoint is of the same
kind: each element goes, weighted, into a few neighbouring results. So the operation takes both
tables, and its gradient is itself with the tables exchanged: it gathers, where adding to what each
result came from would have to scatter.
"""

from __future__ import annotations

from typing import Any

from braze.ir.dtypes import i32
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import along, require_floating
from braze.ir.ops.rules import check_dimensions, common_dtype
from braze.ir.types import TensorType

# With more weights than this a loop over them is shorter than a term for each.
UNROLLED = 8


def _resample_types(
    x: TensorType,
    first: TensorType,
    weights: TensorType,
    back_first: TensorType,
    back_weights: TensorType,
    *,
    dim: int,
) -> tuple[TensorType, ...]:
    require_floating("resample", x)
    check_dimensions("resample", (dim,), x)
    common_dtype("resample", x, weights, back_weights)
    for starts, table in ((first, weights), (back_first, back_weights)):
        if starts.dtype is not i32:
            raise DTypeError(f"[resample] places are int32, given {starts}")
        if starts.rank != 1 or table.rank != 2 or table.shape[1:] != starts.shape:
            raise ShapeError(f"[resample] weights must be [taps, *{starts}], given {table}")
        if 0 in table.shape:
            raise ShapeError(f"[resample] nothing to sum: {table}")
    if x.shape[dim] != back_first.shape[0]:
        raise ShapeError(f"[resample] dimension {dim} of {x} does not fit {back_first}")
    return (x.with_shape((*x.shape[:dim], first.shape[0], *x.shape[dim + 1 :])),)


def _resample(
    b: Any, x: Any, first: Any, weights: Any, back_first: Any, back_weights: Any, *, dim: int
) -> Any:
    taps, count = weights.type.shape
    shape = (*x.type.shape[:dim], count, *x.type.shape[dim + 1 :])
    if taps <= UNROLLED:
        out = None
        for t in range(taps):
            row = b.slice(weights, starts=(t, 0), stops=(t + 1, count), steps=(1, 1))
            picked = b.take(x, b.add(first, t) if t else first, dim=dim)
            term = b.mul(picked, b.reshape(row, shape=along(shape, dim)))
            out = term if out is None else b.add(out, term)
        return out
    steps = b.iota(shape=(count, taps), dim=1, dtype=i32)
    places = b.add(b.reshape(first, shape=(count, 1)), steps)
    rest = (1,) * (len(shape) - dim - 1)
    table = b.reshape(b.permute(weights, dims=(1, 0)), shape=(count, taps, *rest))
    return b.sum(b.mul(b.take(x, places, dim=dim), table), dims=(dim + 1,), keepdim=False)


resample = declare(
    "resample",
    "composite",
    "x first weights back_first back_weights",
    infer=_resample_types,
    decompose=_resample,
    attributes={"dim": int},
    gradients={
        "x": lambda b, g, first, weights, back_first, back_weights, dim: b.resample(
            g, back_first, back_weights, first, weights, dim=dim
        )
    },
    doc="""out[.., o, ..] = sum over t of weights[t, o] * x[.., first[o] + t, ..] along `dim`, where
places beyond an end are the end. `back_first` and `back_weights` say the same of the adjoint, which
the caller vouches for: out[o] depends on x[i] as the adjoint's result i on its operand o.""",
)
