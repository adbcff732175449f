"""Cross entropy of logits and class numbers, and its gradient.

With p = softmax(logits), q the target distribution (times the class weights) and s the sum of q, a
row's gradient is p * s - q. Formulas as in torch.nn.CrossEntropyLoss; label smoothing mixes q with
the uniform distribution (Szegedy et al., arXiv 1512.00567).
"""

from __future__ import annotations

from typing import Any

from braze.ir.errors import AttributeTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.classification import (
    REDUCED,
    check_target,
    chosen,
    class_dimension,
    class_weights,
    loss_types,
    picked,
    reduced_rows,
    row_scale,
)
from braze.ir.ops.composite import as_dtype, widened
from braze.ir.types import TensorType

# Both with weight None for equal weights ----------------------------------------------------------


def _types(
    logits: TensorType,
    target: TensorType,
    weight: TensorType | None,
    reduction: str,
    label_smoothing: float,
) -> tuple[TensorType, ...]:
    if not 0.0 <= label_smoothing <= 1.0:
        raise AttributeTypeError(
            f"[cross_entropy] label_smoothing must be between 0 and 1, given {label_smoothing}"
        )
    return loss_types("cross_entropy", logits, target, weight, reduction)


def _loss(
    b: Any,
    logits: Any,
    target: Any,
    weight: Any,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> Any:
    """A row's loss is log(sum e ** (x - m)) + m - x[target], m its maximum."""
    dim = class_dimension(logits.type)
    classes = logits.type.shape[dim]
    valid = check_target(b, "cross_entropy", target, classes, ignore_index)
    wide = widened(b, logits)
    hit = chosen(b, logits.type, target)
    shifted = b.sub(wide, b.amax(wide, dims=(dim,), keepdim=True))
    normaliser = b.log(b.sum(b.exp(shifted), dims=(dim,), keepdim=True))
    log_sum = b.reshape(normaliser, shape=target.type.shape)
    rows = b.sub(log_sum, picked(b, logits.type, hit, shifted))
    weights = row_weights = None
    if weight is not None:
        weights = class_weights(b, logits.type, weight)
        row_weights = picked(b, logits.type, hit, weights)
        rows = b.mul(rows, row_weights)
    if label_smoothing != 0.0:
        surprise = b.sub(normaliser, shifted)
        if weights is not None:
            surprise = b.mul(surprise, weights)
        uniform = b.sum(surprise, dims=(dim,), keepdim=False)
        rows = b.add(b.mul(rows, 1.0 - label_smoothing), b.mul(uniform, label_smoothing / classes))
    out = reduced_rows(b, rows, valid, row_weights, reduction)
    return as_dtype(b, out, logits.type.dtype)


def _rows(
    b: Any, logits: Any, target: Any, weight: Any, label_smoothing: float
) -> tuple[Any, Any, Any]:
    """p, s (None where it is 1) and p * s - q, in the accumulation dtype."""
    dim = class_dimension(logits.type)
    p = b.softmax(widened(b, logits), dim=dim)
    q = b.cast(chosen(b, logits.type, target), dtype=p.type.dtype)
    if label_smoothing != 0.0:
        q = b.add(b.mul(q, 1.0 - label_smoothing), label_smoothing / logits.type.shape[dim])
    if weight is None:
        return p, None, b.sub(p, q)
    q = b.mul(q, class_weights(b, logits.type, weight))
    s = b.sum(q, dims=(dim,), keepdim=True)
    return p, s, b.sub(b.mul(p, s), q)


def _grad(
    b: Any,
    out: Any,
    logits: Any,
    target: Any,
    weight: Any,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> Any:
    """`out` is the gradient of the loss."""
    scale = row_scale(b, out, logits.type, target, weight, reduction, ignore_index)
    _, _, rows = _rows(b, logits, target, weight, label_smoothing)
    return as_dtype(b, b.mul(rows, scale), logits.type.dtype)


def _grad_types(
    out: TensorType,
    logits: TensorType,
    target: TensorType,
    weight: TensorType | None,
    reduction: str,
    label_smoothing: float,
) -> tuple[TensorType, ...]:
    if _types(logits, target, weight, reduction, label_smoothing) != (out,):
        raise ShapeError(f"[cross_entropy_grad] {out} is not the loss of {logits}")
    return (logits,)


def _grad_of_out(
    b: Any,
    g: Any,
    logits: Any,
    target: Any,
    weight: Any,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> Any:
    """The rows' inner products with g, reduced as the loss is."""
    dim = class_dimension(logits.type)
    _, _, rows = _rows(b, logits, target, weight, label_smoothing)
    inner = b.sum(b.mul(rows, widened(b, g)), dims=(dim,), keepdim=False)
    row_weights = None
    if weight is not None:
        hit = chosen(b, logits.type, target)
        row_weights = picked(b, logits.type, hit, class_weights(b, logits.type, weight))
    valid = b.ne(target, ignore_index)
    out = reduced_rows(b, inner, valid, row_weights, reduction)
    return as_dtype(b, out, logits.type.dtype)


def _grad_of_logits(
    b: Any,
    g: Any,
    out: Any,
    logits: Any,
    target: Any,
    weight: Any,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> Any:
    """Softmax's derivative: p * (v - sum(v * p)) with v = g * s * scale."""
    dim = class_dimension(logits.type)
    p, s, _ = _rows(b, logits, target, weight, label_smoothing)
    scale = row_scale(b, out, logits.type, target, weight, reduction, ignore_index)
    v = b.mul(widened(b, g), scale if s is None else b.mul(scale, s))
    inner = b.sum(b.mul(v, p), dims=(dim,), keepdim=True)
    return as_dtype(b, b.mul(p, b.sub(v, inner)), logits.type.dtype)


# Declarations -------------------------------------------------------------------------------------

SMOOTHED = {**REDUCED, "label_smoothing": float}
cross_entropy = declare(
    "cross_entropy",
    "composite",
    "logits target",
    infer=lambda logits, target, *, reduction, ignore_index, label_smoothing: _types(
        logits, target, None, reduction, label_smoothing
    ),
    decompose=lambda b, logits, target, *, reduction, ignore_index, label_smoothing: _loss(
        b, logits, target, None, reduction, ignore_index, label_smoothing
    ),
    effect=True,
    attributes=SMOOTHED,
    gradients={
        "logits": lambda b, g, logits, target, reduction, ignore_index, label_smoothing: (
            b.cross_entropy_grad(
                g,
                logits,
                target,
                reduction=reduction,
                ignore_index=ignore_index,
                label_smoothing=label_smoothing,
            )
        )
    },
    autocast="f32",
    doc="""-log softmax(logits)[target] for logits [N, C, ...] and targets [N, ...]; `reduction` is
"none", "sum" or "mean", over the targets that are not `ignore_index`.""",
)
cross_entropy_grad = declare(
    "cross_entropy_grad",
    "composite",
    "out logits target",
    infer=lambda out, logits, target, *, reduction, ignore_index, label_smoothing: _grad_types(
        out, logits, target, None, reduction, label_smoothing
    ),
    decompose=lambda b, out, logits, target, *, reduction, ignore_index, label_smoothing: _grad(
        b, out, logits, target, None, reduction, ignore_index, label_smoothing
    ),
    attributes=SMOOTHED,
    results="gradient",
    gradients={
        "out": lambda b, g, logits, target, reduction, ignore_index, label_smoothing: _grad_of_out(
            b, g, logits, target, None, reduction, ignore_index, label_smoothing
        ),
        "logits": lambda b, g, out, logits, target, reduction, ignore_index, label_smoothing: (
            _grad_of_logits(
                b, g, out, logits, target, None, reduction, ignore_index, label_smoothing
            )
        ),
    },
    doc="The gradient of cross_entropy for its logits; `out` is that of the loss.",
)
cross_entropy_weighted = declare(
    "cross_entropy_weighted",
    "composite",
    "logits target weight",
    infer=lambda logits, target, weight, *, reduction, ignore_index, label_smoothing: _types(
        logits, target, weight, reduction, label_smoothing
    ),
    decompose=_loss,
    effect=True,
    attributes=SMOOTHED,
    gradients={
        "logits": lambda b, g, logits, target, weight, reduction, ignore_index, label_smoothing: (
            b.cross_entropy_weighted_grad(
                g,
                logits,
                target,
                weight,
                reduction=reduction,
                ignore_index=ignore_index,
                label_smoothing=label_smoothing,
            )
        )
    },
    autocast="f32",
    doc="cross_entropy with a weight for each class; the mean divides by the targets' weights.",
)
cross_entropy_weighted_grad = declare(
    "cross_entropy_weighted_grad",
    "composite",
    "out logits target weight",
    infer=lambda out, logits, target, weight, *, reduction, ignore_index, label_smoothing: (
        _grad_types(out, logits, target, weight, reduction, label_smoothing)
    ),
    decompose=_grad,
    attributes=SMOOTHED,
    results="gradient",
    gradients={"out": _grad_of_out, "logits": _grad_of_logits},
    doc="The gradient of cross_entropy_weighted for its logits; `out` is that of the loss.",
)
