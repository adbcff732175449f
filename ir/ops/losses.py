"""Elementwise losses: squared, absolute and smooth differences, binary cross entropy.

`reduction` is "none", "sum" or "mean". Operands broadcast. Formulas and subgradients are PyTorch's
(Loss.cpp, derivatives.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from braze.ir.errors import AttributeTypeError
from braze.ir.op import AttributeKind, Op, Rule, declare
from braze.ir.ops.composite import as_dtype, require_floating, widened
from braze.ir.ops.rules import common_dtype
from braze.ir.types import TensorType, broadcast_shapes, tensor_type

REDUCTIONS = ("none", "sum", "mean")


def check_reduction(name: str, reduction: str) -> None:
    """Raise AttributeTypeError unless it is one of the three."""
    if reduction not in REDUCTIONS:
        raise AttributeTypeError(
            f'[{name}] reduction must be "none", "sum" or "mean", given {reduction!r}'
        )


def reduced(b: Any, rows: Any, reduction: str) -> Any:
    """The loss of all elements made one, or left alone."""
    if reduction == "none":
        return rows
    total = b.sum(rows, dims=tuple(range(rows.type.rank)), keepdim=False)
    return total if reduction == "sum" else b.div(total, float(rows.type.numel))


def share(b: Any, g: Any, x_type: TensorType, target_type: TensorType, reduction: str) -> Any:
    """The gradient that reaches each element's loss (it broadcasts)."""
    upstream = widened(b, g)
    if reduction != "mean":
        return upstream
    count = x_type.with_shape(broadcast_shapes("loss", x_type, target_type)).numel
    return upstream if count == 1 else b.div(upstream, float(count))


def _declare_loss(
    name: str,
    formula: Rule,
    slope: Rule,
    target_slope: Rule | None,
    doc: str,
    attributes: Mapping[str, AttributeKind] | None = None,
) -> Op:
    """A loss from its value for an element, `formula(b, x, target, ...)`, and derivatives.

    Args:
        slope: derivative for x; for the target it is the negative where `target_slope` is None.
    """
    extra = dict(attributes or {})

    def infer(
        x: TensorType, target: TensorType, *, reduction: str, **_: Any
    ) -> tuple[TensorType, ...]:
        dtype = common_dtype(name, x, target)
        require_floating(name, x, target)
        check_reduction(name, reduction)
        shape = broadcast_shapes(name, x, target)
        return (tensor_type(dtype, shape if reduction == "none" else ()),)

    def decompose(b: Any, x: Any, target: Any, *, reduction: str, **rest: Any) -> Any:
        rows = formula(b, widened(b, x), widened(b, target), **rest)
        return as_dtype(b, reduced(b, rows, reduction), x.type.dtype)

    def gradient(b: Any, g: Any, x: Any, target: Any, reduction: str, **rest: Any) -> Any:
        each = slope(b, widened(b, x), widened(b, target), **rest)
        scaled = b.mul(each, share(b, g, x.type, target.type, reduction))
        return as_dtype(b, scaled, x.type.dtype)

    def target_gradient(b: Any, g: Any, x: Any, target: Any, reduction: str, **rest: Any) -> Any:
        if target_slope is None:
            return b.neg(gradient(b, g, x, target, reduction, **rest))
        each = target_slope(b, widened(b, x), widened(b, target), **rest)
        # A slope that does not depend on the target has not its shape.
        shape = broadcast_shapes(name, x.type, target.type)
        each = each if each.type.shape == shape else b.expand(each, shape=shape)
        scaled = b.mul(each, share(b, g, x.type, target.type, reduction))
        return as_dtype(b, scaled, x.type.dtype)

    # A rule's signature says what it needs, so the attributes have to be named in it.
    rules: dict[str, Rule]
    if extra:
        rules = {
            "x": lambda b, g, x, target, reduction, beta: gradient(
                b, g, x, target, reduction, beta=beta
            ),
            "target": lambda b, g, x, target, reduction, beta: target_gradient(
                b, g, x, target, reduction, beta=beta
            ),
        }
    else:
        rules = {
            "x": lambda b, g, x, target, reduction: gradient(b, g, x, target, reduction),
            "target": lambda b, g, x, target, reduction: target_gradient(
                b, g, x, target, reduction
            ),
        }
    return declare(
        name,
        "composite",
        "x target",
        infer=infer,
        decompose=decompose,
        attributes={"reduction": str, **extra},
        gradients=rules,
        broadcasts=True,
        domain=(0.1, 0.9),
        autocast="f32",
        doc=doc,
    )


# Differences --------------------------------------------------------------------------------------


def _squared(b: Any, x: Any, target: Any) -> Any:
    difference = b.sub(x, target)
    return b.mul(difference, difference)


mse_loss = _declare_loss(
    "mse_loss",
    _squared,
    lambda b, x, target: b.mul(b.sub(x, target), 2.0),
    None,
    "(x - target) ** 2, reduced.",
)
l1_loss = _declare_loss(
    "l1_loss",
    lambda b, x, target: b.abs(b.sub(x, target)),
    lambda b, x, target: b.sign(b.sub(x, target)),
    None,
    "|x - target|, reduced.",
)


def _smooth(b: Any, x: Any, target: Any, *, beta: float) -> Any:
    difference = b.sub(x, target)
    size = b.abs(difference)
    if beta == 0.0:
        return size
    near = b.mul(b.mul(difference, difference), 0.5 / beta)
    return b.where(b.lt(size, beta), near, b.sub(size, 0.5 * beta))


def _smooth_slope(b: Any, x: Any, target: Any, *, beta: float) -> Any:
    difference = b.sub(x, target)
    if beta == 0.0:
        return b.sign(difference)
    return b.clamp(difference if beta == 1.0 else b.mul(difference, 1.0 / beta), -1.0, 1.0)


smooth_l1_loss = _declare_loss(
    "smooth_l1_loss",
    _smooth,
    _smooth_slope,
    None,
    """0.5 d ** 2 / beta where |d| < beta, else |d| - beta / 2, d = x - target, reduced. Girshick,
"Fast R-CNN", arXiv 1504.08083.""",
    {"beta": float},
)

# Binary cross entropy -----------------------------------------------------------------------------

LOWEST_LOG = -100.0  # torch.nn.BCELoss limits its logarithms, so that the loss stays finite
SMALLEST_VARIANCE = 1e-12


def _log_complement(b: Any, x: Any) -> Any:
    return b.log1p(b.neg(x))


def _binary(b: Any, x: Any, target: Any) -> Any:
    left = b.mul(target, b.maximum(b.log(x), LOWEST_LOG))
    right = b.mul(b.sub(target, 1.0), b.maximum(_log_complement(b, x), LOWEST_LOG))
    return b.sub(right, left)


binary_cross_entropy = _declare_loss(
    "binary_cross_entropy",
    _binary,
    lambda b, x, target: b.div(
        b.sub(x, target), b.maximum(b.mul(x, b.sub(1.0, x)), SMALLEST_VARIANCE)
    ),
    lambda b, x, target: b.sub(_log_complement(b, x), b.log(x)),
    "-(target log x + (1 - target) log(1 - x)) with logarithms of at least -100, reduced.",
)


def _from_logits(b: Any, x: Any, target: Any) -> Any:
    softplus = b.add(b.maximum(b.neg(x), 0.0), b.log1p(b.exp(b.neg(b.abs(x)))))
    return b.add(b.mul(b.sub(1.0, target), x), softplus)


bce_with_logits = _declare_loss(
    "bce_with_logits",
    _from_logits,
    lambda b, x, target: b.sub(b.sigmoid(x), target),
    lambda b, x, target: b.neg(x),
    "binary_cross_entropy of sigmoid(x), as (1 - target) x + log(1 + e ** -x), reduced.",
)
