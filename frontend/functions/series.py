"""Ranges and spaced values, and tensors of one number."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.functions import pointwise
from braze.functions.creation import tensor
from braze.functions.promotion import get_default_dtype, scalar
from braze.ir.dtypes import DType, f64
from braze.ir.op import op_named
from braze.placing import makes
from braze.tensors import Tensor, apply

End = float | Tensor


def _ramp(count: int) -> Tensor:
    return apply(call_of(op_named("iota"), shape=(count,), dim=0, dtype=f64))  # type: ignore[no-any-return]


def _finish(values: Tensor, dtype: DType | None, requires_grad: bool) -> Tensor:
    result: Tensor = values.to(dtype or get_default_dtype())
    return result.requires_grad_(requires_grad)


@makes
def range(
    start: float = 0,
    end: Any = None,
    step: float = 1,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... up to and including end, in the default dtype. Use `arange`.

    Warns:
        UserWarning: it is deprecated.

    Raises:
        RuntimeError: the step is zero or leads away from the end.
    """
    warnings.warn(
        "range is deprecated: its length is one more than that of Python's range. Use arange.",
        stacklevel=2,
    )
    if end is None:
        raise TypeError('range() missing 1 required positional arguments: "end"')
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if step == 0 or (end - start) / step < 0:
        raise RuntimeError(
            f"upper bound and lower bound inconsistent with step sign: {start}, {end}, {step}"
        )
    count = int(np.floor((end - start) / step)) + 1
    values = _ramp(count) * scalar(float(step), f64) + scalar(float(start), f64)
    return _finish(values, dtype, requires_grad)


def _spaced(start: End, end: End, steps: int) -> Tensor:
    """From whichever end is nearer, so that both are met exactly."""
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    first, last = (
        value.to(f64) if isinstance(value, Tensor) else scalar(float(value), f64)
        for value in (start, end)
    )
    ramp = _ramp(steps)
    gap = (last - first) / float(max(steps - 1, 1))
    upward = first + gap * ramp
    downward = last - gap * (float(steps - 1) - ramp)
    return pointwise.where(ramp < steps / 2, upward, downward)


def _check_ends(name: str, *ends: Any) -> None:
    for end in ends:
        if not isinstance(end, (int, float, np.generic, Tensor)):
            raise TypeError(f"{name}(): start and end must be Number, not {type(end).__name__}")


@makes
def linspace(
    start: End,
    end: End,
    steps: int,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` evenly spaced values from start to end, both included; integers are truncated."""
    _check_ends("linspace", start, end)
    return _finish(_spaced(start, end, steps), dtype, requires_grad)


@makes
def logspace(
    start: End,
    end: End,
    steps: int,
    base: float = 10.0,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """base ** x for `steps` evenly spaced x from start to end, both included."""
    _check_ends("logspace", start, end)
    values = pointwise.pow(scalar(float(base), f64), _spaced(start, end, steps))
    return _finish(values, dtype, requires_grad)


@makes
def scalar_tensor(
    s: float, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A 0-d tensor of a number, in the default dtype."""
    return tensor(s, dtype=dtype or get_default_dtype(), requires_grad=requires_grad)
