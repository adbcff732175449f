"""A condition on computed values that a result depends on."""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.dtypes import bool_
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.ops.host_rules import declare_host
from braze.ir.types import TensorType


def _checked_types(x: TensorType, holds: TensorType, *, message: str) -> tuple[TensorType, ...]:
    if holds.dtype is not bool_:
        raise DTypeError(f"[checked] the condition must be a bool, given {holds}")
    if holds.rank:
        raise ShapeError(f"[checked] the condition must be 0-d, given {holds}")
    return (x,)


def _checked(x: np.ndarray, holds: np.ndarray, *, message: str) -> Any:
    if not holds:
        raise RuntimeError(message)
    return x.copy()


checked = declare_host(
    "checked",
    "x holds",
    infer=_checked_types,
    evaluate=_checked,
    attributes={"message": str},
    gradients={"x": lambda b, g: g},
    complex=True,
    doc="x, if the condition holds; else the program ends in a RuntimeError with the message.",
)
