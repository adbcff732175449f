"""Checks that values lie in a region: of parameters and samples of distributions, of probabilities.

What is raised where one does not, and its text, is in the message; see `braze.ir.errors`.
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import bool_, f64, i32
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import both
from braze.ir.types import TensorType


def _truth_types(x: TensorType, *, wanted: bool, message: str) -> tuple[TensorType, ...]:
    if x.dtype is not bool_:
        raise DTypeError(f"[check_truth] the operand must be a bool, given {x}")
    return ()


def _check_truth(b: Any, x: Any, *, wanted: bool, message: str) -> tuple[()]:
    wrong = b.bitwise_not(x) if wanted else x
    b.check_range(b.cast(wrong, dtype=i32), low=0, high=1, message=message)
    return ()


check_truth = declare(
    "check_truth",
    "composite",
    "x",
    infer=_truth_types,
    decompose=_check_truth,
    attributes={"wanted": bool, "message": str},
    results="",
    differentiable=False,
    effect=True,
    doc="Raise unless x is `wanted` everywhere.",
)


def _interval_types(x: TensorType, **_: Any) -> tuple[TensorType, ...]:
    if x.dtype is bool_:
        raise DTypeError(f"[check_interval] the operand must be numbers, given {x}")
    return ()


def _check_interval(
    b: Any,
    x: Any,
    *,
    low: float,
    high: float,
    open_low: bool,
    open_high: bool,
    integer: bool,
    message: str,
) -> tuple[()]:
    conditions = []
    if low > -math.inf:
        conditions.append((b.gt if open_low else b.ge)(x, low))
    if high < math.inf:
        conditions.append((b.lt if open_high else b.le)(x, high))
    if integer and x.type.dtype.is_floating_point:
        conditions.append(b.eq(b.remainder(x, 1.0), 0.0))
    holds = both(b, *conditions) if conditions else b.eq(x, x)
    return _check_truth(b, holds, wanted=True, message=message)


check_interval = declare(
    "check_interval",
    "composite",
    "x",
    infer=_interval_types,
    decompose=_check_interval,
    attributes={
        "low": float,
        "high": float,
        "open_low": bool,
        "open_high": bool,
        "integer": bool,
        "message": str,
    },
    results="",
    differentiable=False,
    effect=True,
    doc="""Raise unless low <= x <= high everywhere (< for an open end), and x is a whole number if
`integer` says so. An infinite bound is none; nan is in no interval.""",
)


def _simplex_types(x: TensorType, *, message: str) -> tuple[TensorType, ...]:
    if x.rank == 0:
        raise ShapeError(f"[check_simplex] needs a dimension to sum over, given {x}")
    return ()


def _check_simplex(b: Any, x: Any, *, message: str) -> tuple[()]:
    if not x.type.dtype.is_floating_point:
        x = b.cast(x, dtype=f64)
    last = (x.type.rank - 1,)
    positive = b.all(b.ge(x, 0.0), dims=last, keepdim=False)
    off = b.abs(b.sub(b.sum(x, dims=last, keepdim=False), 1.0))
    return _check_truth(b, both(b, positive, b.lt(off, 1e-6)), wanted=True, message=message)


check_simplex = declare(
    "check_simplex",
    "composite",
    "x",
    infer=_simplex_types,
    decompose=_check_simplex,
    attributes={"message": str},
    results="",
    differentiable=False,
    effect=True,
    doc="Raise unless the elements of the last dimension are 0 or more and add up to 1.",
)
