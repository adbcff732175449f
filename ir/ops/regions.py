"""Regions that parameters and samples of distributions must lie in, and the check that they do."""

from __future__ import annotations

from typing import Any

from braze.ir.dtypes import bool_, f64, i32
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import both
from braze.ir.types import TensorType


def _check_types(x: TensorType, *, wanted: bool, message: str) -> tuple[TensorType, ...]:
    if x.dtype is not bool_:
        raise DTypeError(f"[check_truth] the operand must be a bool, given {x}")
    return ()


def _check(b: Any, x: Any, *, wanted: bool, message: str) -> tuple[()]:
    wrong = b.bitwise_not(x) if wanted else x
    b.check_range(b.cast(wrong, dtype=i32), low=0, high=1, message=message)
    return ()


check_truth = declare(
    "check_truth",
    "composite",
    "x",
    infer=_check_types,
    decompose=_check,
    attributes={"wanted": bool, "message": str},
    results="",
    differentiable=False,
    effect=True,
    doc="""Raise unless x is `wanted` everywhere. What is raised, and its text, is in the message;
see `failed_check`.""",
)


def _interval_types(
    x: TensorType, *, low: float, high: float, integer: bool, half_open: bool
) -> tuple[TensorType, ...]:
    if x.dtype is bool_:
        raise DTypeError(f"[in_interval] the operand must be numbers, given {x}")
    return (x.with_dtype(bool_),)


def _in_interval(
    b: Any, x: Any, *, low: float, high: float, integer: bool, half_open: bool
) -> Any:
    inside = both(b, b.ge(x, low), (b.lt if half_open else b.le)(x, high))
    if integer and x.type.dtype.is_floating_point:
        inside = both(b, b.eq(b.remainder(x, 1.0), 0.0), inside)
    return inside


in_interval = declare(
    "in_interval",
    "composite",
    "x",
    infer=_interval_types,
    decompose=_in_interval,
    attributes={"low": float, "high": float, "integer": bool, "half_open": bool},
    differentiable=False,
    doc="""low <= x <= high, or x < high if `half_open`; of an `integer` interval, x must be a whole
number too. The bounds are numbers that x's dtype holds.""",
)


def _simplex_types(x: TensorType) -> tuple[TensorType, ...]:
    if x.rank == 0:
        raise ShapeError(f"[in_simplex] needs a dimension to sum over, given {x}")
    return (x.with_shape(x.shape[:-1]).with_dtype(bool_),)


def _in_simplex(b: Any, x: Any) -> Any:
    if not x.type.dtype.is_floating_point:
        x = b.cast(x, dtype=f64)
    last = (x.type.rank - 1,)
    positive = b.all(b.ge(x, 0.0), dims=last, keepdim=False)
    off = b.abs(b.sub(b.sum(x, dims=last, keepdim=False), 1.0))
    return both(b, positive, b.lt(off, 1e-6))


in_simplex = declare(
    "in_simplex",
    "composite",
    "x",
    infer=_simplex_types,
    decompose=_in_simplex,
    differentiable=False,
    domain=(0.0, 1.0),
    doc="Whether the elements of the last dimension are 0 or more and add up to 1.",
)
