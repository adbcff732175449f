"""`make_tensor`: random tensors for tests, in the ranges that `torch.testing.make_tensor` has."""

from __future__ import annotations

import math
from typing import Any

from braze.devices import check_device
from braze.dtype_info import finfo, iinfo
from braze.functions.complex_numbers import view_as_complex
from braze.functions.creation import ones
from braze.functions.movement import clone, sizes_of
from braze.functions.pointwise import where
from braze.functions.promotion import cast
from braze.ir.dtypes import DType, bool_, f32, f64
from braze.random import rand
from braze.tensors import Tensor


def make_tensor(
    *shape: Any,
    dtype: DType,
    device: Any = None,
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A tensor of random numbers, uniform in [low, high).

    Args:
        shape: sizes, or one sequence of them.
        dtype: bools are 0 or 1 by default, unsigned integers 0 to 9, other numbers -9 to 9 (both
            parts of complex ones).
        low, high: other limits; those outside of what the dtype can represent are clamped.
        requires_grad: for floating-point and complex dtypes.
        noncontiguous, memory_format: accepted; every value is row-major.
        exclude_zero: replace zeros by 1 (integers) or the smallest normal number.

    Raises:
        ValueError: the limits are NaN, in the wrong order, or outside of the dtype's range.

    Example:
        >>> import braze
        >>> braze.testing.make_tensor((2, 3), dtype=braze.int8).shape
        braze.Size([2, 3])
    """
    check_device(device)
    if dtype.is_complex:
        pairs = make_tensor(
            (*sizes_of(shape), 2),
            dtype=dtype.to_real(),
            low=low,
            high=high,
            exclude_zero=exclude_zero,
        )
        made = clone(view_as_complex(pairs))
        return made.requires_grad_() if requires_grad else made
    lowest: float
    highest: float
    if dtype is bool_:
        lowest, highest, defaults = 0, 2, (0, 2)
    elif dtype.is_floating_point:
        lowest, highest, defaults = finfo(dtype).min, finfo(dtype).max, (-9, 9)
    else:
        lowest, highest = iinfo(dtype).min, iinfo(dtype).max + 1
        defaults = (0 if dtype.kind == "uint" else -9, 10)
    start, stop = _limits(low, high, defaults, lowest, highest)
    if not dtype.is_floating_point:
        start, stop = math.ceil(start), math.ceil(stop)
    sizes = sizes_of(shape)
    drawn = rand(sizes, dtype=f64 if dtype is not f32 else f32)
    values = drawn * (stop / 2 - start / 2) * 2 + start
    if not dtype.is_floating_point:
        values = values.floor().clamp(start, stop - 1)
    result = cast(values, dtype)
    if exclude_zero:
        least = finfo(dtype).tiny if dtype.is_floating_point else 1
        result = where(result == 0, ones(sizes, dtype=dtype) * least, result)
    if requires_grad:
        result = result.detach().requires_grad_()
    return result


def _limits(
    low: float | None,
    high: float | None,
    defaults: tuple[float, float],
    lowest: float,
    highest: float,
) -> tuple[Any, Any]:
    start = defaults[0] if low is None else low
    stop = defaults[1] if high is None else high
    if math.isnan(start) or math.isnan(stop):
        raise ValueError(f"`low` and `high` cannot be NaN, but got low={start} and high={stop}")
    if start >= stop:
        raise ValueError(f"`low` must be less than `high`, but got {start} >= {stop}")
    if stop < lowest or start >= highest:
        raise ValueError(
            f"The value interval specified by `low` and `high` is [{start}, {stop}), "
            f"but the dtype only supports [{lowest}, {highest})"
        )
    return min(max(start, lowest), highest), min(max(stop, lowest), highest)
