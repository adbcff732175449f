"""Pooling by the p-norm of each window."""

from __future__ import annotations

import math
from typing import Any

from braze.functions.arguments import require_tensors
from braze.functions.pointwise import mul, ne, neg, pow, where
from braze.nn.functional.pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from braze.nn.functional.support import call_named, ints
from braze.tensors import Tensor, apply

_AVERAGE = (avg_pool1d, avg_pool2d, avg_pool3d)
_MAXIMUM = (max_pool1d, max_pool2d, max_pool3d)


def _pool(
    spatial: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool
) -> Tensor:
    require_tensors(f"lp_pool{spatial}d", input=input)
    if math.isinf(norm_type):
        pool = _MAXIMUM[spatial - 1]
        size = apply(call_named("abs"), input)
        if norm_type > 0:
            return pool(size, kernel_size, stride, ceil_mode=ceil_mode)  # type: ignore[no-any-return]
        return neg(pool(neg(size), kernel_size, stride, ceil_mode=ceil_mode))
    powers = pow(input, norm_type)
    mean = _AVERAGE[spatial - 1](powers, kernel_size, stride, 0, ceil_mode)
    count = math.prod(ints(kernel_size, spatial, "kernel_size"))
    # A window of zeros gets no gradient, although the root's is infinite there.
    return pow(mul(where(ne(mean, 0), mean, 0.0), count), 1.0 / norm_type)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """(sum of x ** p over each window) ** (1 / p), p being `norm_type`; inf gives maxima.

    Shape: [N, C, L] or [C, L] to [N, C, L'].
    """
    return _pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window over two dimensions; see `lp_pool1d`.

    Shape: [N, C, H, W] or [C, H, W] to [N, C, H', W'].
    """
    return _pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window over three dimensions; see `lp_pool1d`.

    Shape: [N, C, D, H, W] or [C, D, H, W] to [N, C, D', H', W'].
    """
    return _pool(3, input, norm_type, kernel_size, stride, ceil_mode)
