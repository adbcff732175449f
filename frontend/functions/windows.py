"""Windows for spectral analysis. `periodic` ones are those of one more point without the last."""

from __future__ import annotations

import math
from typing import Any

from braze.capture import call_of
from braze.functions.pointwise import UNARY, where
from braze.functions.promotion import cast, get_default_dtype, scalar
from braze.ir.dtypes import DType, f64
from braze.ir.op import op_named
from braze.placing import makes
from braze.tensors import Tensor, apply


def _phase(name: str, length: int, periodic: bool, dtype: DType | None) -> Any:
    """The position of each point, from 0 at the first to 1 at the last of a symmetric window, in
    float64; and the window's dtype."""
    dtype = dtype or get_default_dtype()
    if not dtype.is_floating_point:
        raise RuntimeError(f"{name} expects floating point dtypes, got: {dtype!r}")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got {length}")
    ramp = apply(call_of(op_named("iota"), shape=(length,), dim=0, dtype=f64))
    return ramp * (1.0 / max(length if periodic else length - 1, 1)), dtype


def _cosines(phase: Tensor, *factors: float) -> Tensor:
    """The sum over i of factors[i] * cos(2 pi i phase)."""
    total: Any = factors[0]
    for i, factor in enumerate(factors[1:], start=1):
        total = total + (phase * (2 * math.pi * i)).cos() * factor
    return total  # type: ignore[no-any-return]


def _finish(window: Tensor, dtype: DType, requires_grad: bool) -> Tensor:
    if window._handle.type.shape == (1,):  # one point is the middle
        window = window * 0.0 + 1.0
    result = cast(window, dtype)
    return result.requires_grad_() if requires_grad else result


@makes
def hann_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """(1 - cos(2 pi n / N)) / 2."""
    phase, dtype = _phase("hann_window", window_length, periodic, dtype)
    return _finish(_cosines(phase, 0.5, -0.5), dtype, requires_grad)


@makes
def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """alpha - beta cos(2 pi n / N)."""
    phase, dtype = _phase("hamming_window", window_length, periodic, dtype)
    return _finish(_cosines(phase, alpha, -beta), dtype, requires_grad)


@makes
def blackman_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)."""
    phase, dtype = _phase("blackman_window", window_length, periodic, dtype)
    return _finish(_cosines(phase, 0.42, -0.5, 0.08), dtype, requires_grad)


@makes
def bartlett_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A triangle: 2 n / N up to the middle, 2 - 2 n / N after it."""
    phase, dtype = _phase("bartlett_window", window_length, periodic, dtype)
    double = phase * 2.0
    return _finish(where(double <= 1.0, double, 2.0 - double), dtype, requires_grad)


@makes
def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """i0(beta sqrt(1 - (2 n / N - 1) ** 2)) / i0(beta)."""
    phase, dtype = _phase("kaiser_window", window_length, periodic, dtype)
    away = phase * 2.0 - 1.0
    inside = (1.0 - away * away).clamp(min=0)
    bell, i0 = inside.sqrt() * beta, UNARY["i0"]
    return _finish(i0(bell) / i0(scalar(float(beta), f64)), dtype, requires_grad)
