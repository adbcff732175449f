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
from braze.ir.ops.composite import along, cut, require_floating
from braze.ir.ops.rules import check_dimensions, common_dtype
from braze.ir.types import Shape, TensorType

# With more weights than this a loop over them is shorter than a term for each.
UNROLLED = 8


def _resample_types(
    x: TensorType,
    places: TensorType,
    weights: TensorType,
    back_places: TensorType,
    back_weights: TensorType,
    *,
    dim: int,
) -> tuple[TensorType, ...]:
    require_floating("resample", x)
    check_dimensions("resample", (dim,), x)
    common_dtype("resample", x, weights, back_weights)
    for where, table in ((places, weights), (back_places, back_weights)):
        if where.dtype is not i32:
            raise DTypeError(f"[resample] places are int32, given {where}")
        if where.rank != 2 or table.shape != where.shape or 0 in table.shape:
            raise ShapeError(f"[resample] needs a weight for each place, given {where} and {table}")
    if x.shape[dim] != back_places.shape[1]:
        raise ShapeError(f"[resample] dimension {dim} of {x} does not fit {back_places}")
    return (x.with_shape((*x.shape[:dim], places.shape[1], *x.shape[dim + 1 :])),)


def _row(b: Any, table: Any, t: int, shape: Shape) -> Any:
    return b.reshape(cut(b, table, 0, t, t + 1), shape=shape)


def _resample(
    b: Any, x: Any, places: Any, weights: Any, back_places: Any, back_weights: Any, *, dim: int
) -> Any:
    taps, count = weights.type.shape
    shape = (*x.type.shape[:dim], count, *x.type.shape[dim + 1 :])
    if taps <= UNROLLED:
        out = None
        for t in range(taps):
            picked = b.take(x, _row(b, places, t, (count,)), dim=dim)
            term = b.mul(picked, _row(b, weights, t, along(shape, dim)))
            out = term if out is None else b.add(out, term)
        return out
    columns = b.permute(weights, dims=(1, 0))
    table = b.reshape(columns, shape=(count, taps, *(1,) * (len(shape) - dim - 1)))
    picked = b.take(x, b.permute(places, dims=(1, 0)), dim=dim)
    return b.sum(b.mul(picked, table), dims=(dim + 1,), keepdim=False)


resample = declare(
    "resample",
    "composite",
    "x places weights back_places back_weights",
    infer=_resample_types,
    decompose=_resample,
    attributes={"dim": int},
    gradients={
        "x": lambda b, g, places, weights, back_places, back_weights, dim: b.resample(
            g, back_places, back_weights, places, weights, dim=dim
        )
    },
    doc="""out[.., o, ..] = sum over t of weights[t, o] * x[.., places[t, o], ..] along `dim`, where
places beyond an end are the end. `back_places` and `back_weights` say the same of the adjoint,
which the caller vouches for: out[o] depends on x[i] as the adjoint's result i on its operand o.""",
)
