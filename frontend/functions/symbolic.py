"""PyTorch's functions of sizes that may be unknown when a program is traced. Sizes are plain
numbers here, and so these are functions of plain numbers."""

from __future__ import annotations

import math
from typing import Any


def sym_float(a: Any) -> float:
    """The number as a float."""
    return float(a)


def sym_int(a: Any) -> int:
    """The number without its fraction."""
    return math.trunc(a)


def sym_not(a: Any) -> bool:
    """Logical negation."""
    return not a


def sym_max(a: Any, b: Any) -> Any:
    """The larger number; a float if either is one."""
    found = max(a, b)
    return float(found) if isinstance(a, float) or isinstance(b, float) else found


def sym_min(a: Any, b: Any) -> Any:
    """The smaller number; a float if either is one."""
    found = min(a, b)
    return float(found) if isinstance(a, float) or isinstance(b, float) else found


def sym_sqrt(a: Any) -> float:
    """The square root."""
    return math.sqrt(a)


def sym_ite(b: bool, t: Any, f: Any) -> Any:
    """`t` if the condition holds, else `f`."""
    return t if b else f


def sym_sum(*args: Any) -> Any:
    """The sum of the numbers, given one by one or in a list."""
    return sum(args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args)


def sym_fresh_size(expr: int) -> int:
    """The size."""
    return int(expr)


def sym_constrain_range(size: int, *, min: int | None = None, max: int | None = None) -> None:
    """Check that a number lies between two bounds.

    Raises:
        RuntimeError: it does not.
    """
    if (min is not None and size < min) or (max is not None and size > max):
        raise RuntimeError(f"Invalid value range for {size} between [{min}, {max}].")


def sym_constrain_range_for_size(
    size: int, *, min: int | None = None, max: int | None = None
) -> None:
    """Check that a size lies between two bounds.

    Raises:
        RuntimeError: it does not.
    """
    sym_constrain_range(size, min=0 if min is None else min, max=max)
