"""Composite elementwise functions of one operand: frac, sinc, logit, entr."""

from __future__ import annotations

import math
from typing import Any

from braze.ir.op import declare
from braze.ir.ops.composite import in_wide, sine_of_pi
from braze.ir.ops.rules import floating
from braze.ir.types import TensorType

frac = declare(
    "frac",
    "composite",
    "x",
    infer=floating("frac"),
    decompose=lambda b, x: b.sub(x, b.trunc(x)),
    gradients={"x": lambda b, g: g},
    doc="The fraction of x, with its sign.",
)


def _sinc(b: Any, x: Any) -> Any:
    zero = b.eq(x, 0.0)
    angle = b.where(zero, 1.0, b.mul(x, math.pi))
    return b.where(zero, 1.0, b.div(sine_of_pi(b, x), angle))


def _complex_sinc(b: Any, x: Any) -> Any:
    zero = b.eq(x, 0.0)
    angle = b.where(zero, 1.0, b.mul(x, math.pi))
    return b.where(zero, 1.0, b.div(b.sin(angle), angle))


def _sinc_gradient(b: Any, g: Any, x: Any, out: Any) -> Any:
    """(cos(pi x) - sinc(x)) / x, and 0 at 0. Near 0, where that cancels, the Taylor series."""
    if x.type.dtype.is_complex:
        zero = b.eq(x, 0.0)
        slope = b.div(b.sub(b.cos(b.mul(x, math.pi)), out), b.where(zero, 1.0, x))
        return b.mul(g, b.where(zero, 0.0, slope))
    near = b.lt(b.abs(x), 0.03)
    square = b.mul(b.mul(x, x), math.pi**2)
    series = b.mul(square, 1.0 / 840)
    series = b.mul(b.sub(b.mul(b.sub(1.0 / 30, series), square), 1.0 / 3), math.pi**2)
    cosine = b.cos(b.mul(b.sub(x, b.mul(b.round(b.mul(x, 0.5)), 2.0)), math.pi))
    slope = b.div(b.sub(cosine, out), b.where(near, 1.0, x))
    return b.mul(g, b.where(near, b.mul(series, x), slope))


sinc = declare(
    "sinc",
    "composite",
    "x",
    infer=floating("sinc"),
    decompose=in_wide(_sinc),
    gradients={"x": _sinc_gradient},
    complex=_complex_sinc,
    doc="sin(pi x) / (pi x), and 1 at 0.",
)


def _logit_types(x: TensorType, *, eps: float) -> tuple[TensorType, ...]:
    return floating("logit")(x)


def _logit(b: Any, x: Any, *, eps: float) -> Any:
    z = x if eps < 0.0 else b.minimum(b.maximum(x, eps), 1.0 - eps)
    rest = b.sub(1.0, z)
    # Around 1/2, where the logarithm vanishes, 2 z - 1 is exact.
    middle = b.log1p(b.div(b.sub(b.mul(z, 2.0), 1.0), rest))
    central = b.lt(b.abs(b.sub(z, 0.5)), 0.25)
    return b.where(central, middle, b.log(b.div(z, rest)))


def _logit_gradient(b: Any, g: Any, x: Any, eps: float) -> Any:
    """g / (x (1 - x)); outside eps .. 1 - eps 0, or nan outside 0 .. 1 without an eps."""
    low = max(eps, 0.0)
    inside = b.bitwise_and(b.ge(x, low), b.le(x, 1.0 - low))
    slope = b.div(g, b.mul(x, b.sub(1.0, x)))
    return b.where(inside, slope, 0.0 if eps >= 0.0 else math.nan)


logit = declare(
    "logit",
    "composite",
    "x",
    infer=_logit_types,
    decompose=in_wide(_logit),
    attributes={"eps": float},
    gradients={"x": _logit_gradient},
    domain=(0.1, 0.9),
    doc="log(x / (1 - x)), of x limited to eps .. 1 - eps; an eps below 0 means no limit.",
)


def _entr(b: Any, x: Any) -> Any:
    positive = b.gt(x, 0.0)
    inner = b.neg(b.mul(x, b.log(b.where(positive, x, 1.0))))
    outside = b.where(b.eq(x, 0.0), 0.0, b.where(b.lt(x, 0.0), -math.inf, x))
    return b.where(positive, inner, outside)


entr = declare(
    "entr",
    "composite",
    "x",
    infer=floating("entr"),
    decompose=in_wide(_entr),
    gradients={"x": lambda b, g, x: b.mul(g, b.sub(b.neg(b.log(x)), 1.0))},
    domain=(0.1, 3.0),
    doc="-x log(x), 0 at 0 and -inf below.",
)
