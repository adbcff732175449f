"""Whole-tensor comparisons, which give Python answers and are therefore sync points."""

from __future__ import annotations

import numpy as np

from braze.functions.elementwise import isclose
from braze.functions.reductions import all
from braze.tensors import Tensor


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one shape and the same elements."""
    return bool(np.array_equal(input._numpy(), other._numpy()))


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether |input - other| <= atol + rtol * |other| everywhere.

    Raises:
        RuntimeError: the dtypes differ.
    """
    return bool(all(isclose(input, other, rtol, atol, equal_nan)))
