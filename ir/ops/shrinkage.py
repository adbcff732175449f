"""Composite activation functions with a threshold, and the continuously differentiable elu.

Values at the thresholds and of nans, and the subgradients, are PyTorch's
(ATen/native/cpu/Activation.cpp).
"""

from __future__ import annotations

from typing import Any

from braze.ir.op import declare
from braze.ir.ops.composite import both
from braze.ir.ops.rules import Infer, floating, numeric
from braze.ir.types import TensorType


def _with_attributes(infer: Infer) -> Infer:
    def rule(x: TensorType, **_: float) -> tuple[TensorType, ...]:
        return infer(x)

    return rule


def _inside(b: Any, x: Any, lambd: float) -> Any:
    return both(b, b.ge(x, -lambd), b.le(x, lambd))


hardshrink = declare(
    "hardshrink",
    "composite",
    "x",
    infer=_with_attributes(floating("hardshrink")),
    decompose=lambda b, x, *, lambd: b.where(_inside(b, x, lambd), 0.0, x),
    attributes={"lambd": float},
    gradients={"x": lambda b, g, x, lambd: b.where(b.gt(b.abs(x), lambd), g, 0.0)},
    doc="x, and 0 where |x| <= lambd.",
)


def _softshrink(b: Any, x: Any, *, lambd: float) -> Any:
    """Towards zero by lambd; x * 0 keeps a nan."""
    moved = b.where(b.gt(x, lambd), b.sub(x, lambd), b.mul(x, 0.0))
    return b.where(b.lt(x, -lambd), b.add(x, lambd), moved)


softshrink = declare(
    "softshrink",
    "composite",
    "x",
    infer=_with_attributes(floating("softshrink")),
    decompose=_softshrink,
    attributes={"lambd": float},
    gradients={"x": lambda b, g, x, lambd: b.where(b.gt(b.abs(x), lambd), g, 0.0)},
    doc="x moved by lambd towards 0, where it stops.",
)

threshold = declare(
    "threshold",
    "composite",
    "x",
    infer=_with_attributes(numeric("threshold")),
    decompose=lambda b, x, *, limit, value: b.where(b.le(x, limit), value, x),
    attributes={"limit": float, "value": float},
    gradients={"x": lambda b, g, x, limit, value: b.where(b.le(x, limit), 0.0, g)},
    doc="x where it is above `limit`, else `value`.",
)

celu = declare(
    "celu",
    "composite",
    "x",
    infer=_with_attributes(floating("celu")),
    decompose=lambda b, x, *, alpha: b.where(
        b.gt(x, 0.0), x, b.mul(b.expm1(b.mul(x, 1 / alpha)), alpha)
    ),
    attributes={"alpha": float},
    gradients={
        "x": lambda b, g, x, alpha: b.where(
            b.le(x, 0.0), b.mul(g, b.exp(b.mul(b.minimum(x, 0.0), 1 / alpha))), g
        )
    },
    doc="""x where x > 0, else alpha * (e ** (x / alpha) - 1), whose slope at 0 is 1 for every alpha
(J. T. Barron, arXiv 1704.07483).""",
)
