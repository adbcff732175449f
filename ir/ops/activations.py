"""Composite activation functions.

Where a choice exists, such as the value of a subgradient, it is PyTorch's
(tools/autograd/derivatives.yaml).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from braze.ir.errors import AttributeTypeError
from braze.ir.op import AttributeKind, Op, Rule, declare
from braze.ir.ops.rules import floating, numeric
from braze.ir.types import TensorType


def _takes_attributes(infer: Any) -> Any:
    """A type rule that ignores the attributes."""
    return lambda *types, **attributes: infer(*types)


def _unary(
    name: str,
    decompose: Rule,
    gradient: Rule,
    doc: str,
    *,
    evaluate: Rule | None = None,
    attributes: Mapping[str, AttributeKind] | None = None,
    infer: Any = None,
) -> Op:
    return declare(
        name,
        "composite",
        "x",
        infer=_takes_attributes(infer or floating(name)),
        evaluate=evaluate,
        decompose=decompose,
        attributes=attributes,
        gradients={"x": gradient},
        doc=doc,
    )


# Rectifiers ---------------------------------------------------------------------------------------

relu = _unary(
    "relu",
    lambda b, x: b.maximum(x, 0.0),
    lambda b, g, out: b.where(b.le(out, 0.0), 0.0, g),
    "max(x, 0); the gradient at 0 is 0.",
    evaluate=lambda x: np.maximum(x, x.dtype.type(0)),
    infer=numeric("relu"),
)
leaky_relu = _unary(
    "leaky_relu",
    lambda b, x, *, slope: b.where(b.gt(x, 0.0), x, b.mul(x, slope)),
    lambda b, g, x, slope: b.where(b.gt(x, 0.0), g, b.mul(g, slope)),
    "x where x > 0, else slope * x.",
    attributes={"slope": float},
)
elu = _unary(
    "elu",
    lambda b, x, *, alpha: b.where(b.gt(x, 0.0), x, b.mul(b.expm1(x), alpha)),
    lambda b, g, x, alpha: b.mul(
        g, b.where(b.gt(x, 0.0), 1.0, b.mul(b.exp(b.minimum(x, 0.0)), alpha))
    ),
    "x where x > 0, else alpha * (e ** x - 1).",
    attributes={"alpha": float},
)
hardtanh = _unary(
    "hardtanh",
    lambda b, x, *, low, high: b.minimum(b.maximum(x, low), high),
    lambda b, g, x, low, high: b.where(b.bitwise_or(b.le(x, low), b.ge(x, high)), 0.0, g),
    "x limited to low..high; the gradient at the limits is 0.",
    attributes={"low": float, "high": float},
    infer=numeric("hardtanh"),
)

# Smooth activations -------------------------------------------------------------------------------

sigmoid = _unary(
    "sigmoid",
    lambda b, x: b.div(1.0, b.add(b.exp(b.neg(x)), 1.0)),
    lambda b, g, out: b.mul(g, b.mul(out, b.sub(1.0, out))),
    "1 / (1 + e ** -x).",
)


def _silu_gradient(b: Any, g: Any, x: Any) -> Any:
    s = b.sigmoid(x)
    return b.mul(g, b.mul(s, b.add(b.mul(x, b.sub(1.0, s)), 1.0)))


silu = _unary(
    "silu",
    lambda b, x: b.mul(x, b.sigmoid(x)),
    _silu_gradient,
    "x * sigmoid(x), also called swish.",
)

SQRT_HALF = math.sqrt(0.5)
SQRT_TWO_OVER_PI = math.sqrt(2.0 / math.pi)
ONE_OVER_SQRT_TWO_PI = 1.0 / math.sqrt(2.0 * math.pi)
CUBIC = 0.044715


def _gelu_types(x: TensorType, *, approximate: str) -> tuple[TensorType, ...]:
    if approximate not in ("none", "tanh"):
        raise AttributeTypeError(f'[gelu] approximate must be "none" or "tanh": {approximate!r}')
    result: tuple[TensorType, ...] = floating("gelu")(x)
    return result


def _gelu_tanh(b: Any, x: Any) -> Any:
    cubic = b.add(b.mul(b.mul(x, x), CUBIC), 1.0)
    return b.tanh(b.mul(b.mul(x, cubic), SQRT_TWO_OVER_PI))


def _gelu(b: Any, x: Any, *, approximate: str) -> Any:
    inner = b.erf(b.mul(x, SQRT_HALF)) if approximate == "none" else _gelu_tanh(b, x)
    return b.mul(b.mul(x, 0.5), b.add(inner, 1.0))


def _gelu_gradient(b: Any, g: Any, x: Any, approximate: str) -> Any:
    square = b.mul(x, x)
    if approximate == "none":
        below = b.mul(b.add(b.erf(b.mul(x, SQRT_HALF)), 1.0), 0.5)
        density = b.mul(b.exp(b.mul(square, -0.5)), ONE_OVER_SQRT_TWO_PI)
        return b.mul(g, b.add(below, b.mul(x, density)))
    t = _gelu_tanh(b, x)
    slope = b.mul(b.add(b.mul(square, 3.0 * CUBIC), 1.0), 0.5 * SQRT_TWO_OVER_PI)
    rise = b.mul(b.mul(x, b.sub(1.0, b.mul(t, t))), slope)
    return b.mul(g, b.add(b.mul(b.add(t, 1.0), 0.5), rise))


gelu = declare(
    "gelu",
    "composite",
    "x",
    infer=_gelu_types,
    decompose=_gelu,
    attributes={"approximate": str},
    gradients={"x": _gelu_gradient},
    doc="""x * P(X <= x) for a standard normal X: x / 2 * (1 + erf(x / sqrt 2)), or, with
approximate="tanh", x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x ** 3))). Hendrycks and Gimpel,
arXiv 1606.08415.""",
)


def _softplus(b: Any, x: Any, *, beta: float, threshold: float) -> Any:
    scaled = b.mul(x, beta)
    return b.where(b.gt(scaled, threshold), x, b.mul(b.log1p(b.exp(scaled)), 1.0 / beta))


def _softplus_gradient(b: Any, g: Any, x: Any, beta: float, threshold: float) -> Any:
    scaled = b.mul(x, beta)
    return b.where(b.gt(scaled, threshold), g, b.mul(g, b.sigmoid(scaled)))


softplus = _unary(
    "softplus",
    _softplus,
    _softplus_gradient,
    "log(1 + e ** (beta x)) / beta; x itself where beta * x > threshold.",
    attributes={"beta": float, "threshold": float},
)
log_sigmoid = _unary(
    "log_sigmoid",
    lambda b, x: b.sub(b.minimum(x, 0.0), b.log1p(b.exp(b.neg(b.abs(x))))),
    lambda b, g, x: b.mul(g, b.sigmoid(b.neg(x))),
    "log(sigmoid(x)), without overflow.",
)
