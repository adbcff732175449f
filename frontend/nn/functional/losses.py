"""Losses. Each takes `reduction`: "mean" (the default), "sum" or "none"."""

from __future__ import annotations

import functools
import math
from typing import Any

from braze.capture import Call, call_of
from braze.functions import pointwise, reductions
from braze.functions.arguments import require_tensors
from braze.functions.movement import broadcast_tensors
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.nn.functional.support import reduced, reduction_of
from braze.tensors import Tensor, apply


@functools.cache
def _call(name: str, **attributes: Any) -> Call:
    return call_of(op_named(name), **attributes)


def _same_shape(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if input._handle.type.shape == target._handle.type.shape:
        return input, target
    left, right = broadcast_tensors(input, target)
    return left, right


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The negative logarithm of the softmax probability of the right class.

    Args:
        input: unnormalised scores, [N, C, ...] or [C].
        target: classes, int64 [N, ...] or []; or probabilities, of the input's shape and dtype.
        weight: of each class, [C].
        ignore_index: targets of this value do not count.
        label_smoothing: how much of the target is spread evenly over all classes.

    Raises:
        ValueError: an unknown reduction. ShapeError: shapes do not fit.
        IndexError: at the next sync, if a target is out of range.
    """
    require_tensors("cross_entropy", input=input)
    kind = reduction_of(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if target.dtype.is_floating_point:
        return _soft_cross_entropy(input, target, weight, kind, label_smoothing)
    single = input.ndim == 1
    if single:
        input, target = input.reshape(1, -1), target.reshape(1)  # type: ignore[attr-defined]
    attributes: dict[str, Any] = {
        "reduction": kind,
        "ignore_index": ignore_index,
        "label_smoothing": float(label_smoothing),
    }
    if weight is None:
        result: Tensor = apply(_call("cross_entropy", **attributes), input, target)
    else:
        result = apply(_call("cross_entropy_weighted", **attributes), input, target, weight)
    return result.reshape(()) if single and kind == "none" else result  # type: ignore[attr-defined, no-any-return]


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    """Against probabilities: -sum over classes of weight * target * log_softmax(input)."""
    if input.shape != target.shape:
        raise ShapeError(
            f"[cross_entropy] probabilities must have the input's shape: "
            f"{input._handle.type}, {target._handle.type}"
        )
    dim = 0 if input.ndim == 1 else 1
    if smoothing:
        classes = input.shape[dim]
        target = pointwise.add(pointwise.mul(target, 1 - smoothing), smoothing / classes)
    terms = pointwise.mul(target, reductions.log_softmax(input, dim))
    if weight is not None:
        shape = [1] * input.ndim
        shape[dim] = -1
        terms = pointwise.mul(terms, weight.reshape(shape))  # type: ignore[attr-defined]
    losses = pointwise.neg(reductions.sum(terms, dim))
    return reduced(losses, reduction)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of the right class.

    Args:
        input: log-probabilities, [N, C, ...] or [C].
        target: classes, int64 [N, ...] or [].
        weight, ignore_index: as `cross_entropy`.

    Raises: as `cross_entropy`.
    """
    require_tensors("nll_loss", input=input)
    kind = reduction_of(reduction, size_average, reduce)
    single = input.ndim == 1
    if single:
        input, target = input.reshape(1, -1), target.reshape(1)  # type: ignore[attr-defined]
    attributes: dict[str, Any] = {"reduction": kind, "ignore_index": ignore_index}
    if weight is None:
        result: Tensor = apply(_call("nll_loss", **attributes), input, target)
    else:
        result = apply(_call("nll_loss_weighted", **attributes), input, target, weight)
    return result.reshape(()) if single and kind == "none" else result  # type: ignore[attr-defined, no-any-return]


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """(input - target) ** 2."""
    require_tensors("mse_loss", input=input)
    kind = reduction_of(reduction, size_average, reduce)
    operands = _same_shape("mse_loss", input, target)
    return apply(_call("mse_loss", reduction=kind), *operands)  # type: ignore[no-any-return]


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """|input - target|."""
    require_tensors("l1_loss", input=input)
    kind = reduction_of(reduction, size_average, reduce)
    operands = _same_shape("l1_loss", input, target)
    return apply(_call("l1_loss", reduction=kind), *operands)  # type: ignore[no-any-return]


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """0.5 * d ** 2 / beta for |d| < beta, else |d| - 0.5 * beta, with d = input - target.

    Raises:
        RuntimeError: beta is negative.
    """
    require_tensors("smooth_l1_loss", input=input)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, size_average, reduce, reduction)
    kind = reduction_of(reduction, size_average, reduce)
    operands = _same_shape("smooth_l1_loss", input, target)
    return apply(_call("smooth_l1_loss", reduction=kind, beta=float(beta)), *operands)  # type: ignore[no-any-return]


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    weight: Tensor | None = None,
    delta: float = 1.0,
) -> Tensor:
    """0.5 * d ** 2 for |d| < delta, else delta * (|d| - 0.5 * delta), with d = input - target.

    Raises:
        RuntimeError: delta is not positive.
    """
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    kind = reduction_of(reduction)
    losses = pointwise.mul(smooth_l1_loss(input, target, reduction="none", beta=delta), delta)
    if weight is None:
        return reduced(losses, kind)
    weighted = pointwise.mul(losses, weight)
    if kind != "mean":
        return reduced(weighted, kind)
    return pointwise.div(reductions.sum(weighted), reductions.sum(weight))


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)), the logarithms at least -100.

    Raises:
        ValueError: the shapes differ.
    """
    require_tensors("binary_cross_entropy", input=input)
    kind = reduction_of(reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}) is "
            "deprecated. Please ensure they have the same size."
        )
    own = kind if weight is None else "none"
    losses: Tensor = apply(_call("binary_cross_entropy", reduction=own), input, target)
    return losses if weight is None else reduced(pointwise.mul(losses, weight), kind)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), computed without overflow.

    Args:
        pos_weight: weight of the positive targets; broadcasts.

    Raises:
        ValueError: the shapes differ.
    """
    require_tensors("binary_cross_entropy_with_logits", input=input)
    kind = reduction_of(reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(
            f"Target size ({target.shape}) must be the same as input size ({input.shape})"
        )
    if pos_weight is None:
        own = kind if weight is None else "none"
        losses: Tensor = apply(_call("bce_with_logits", reduction=own), input, target)
        return losses if weight is None else reduced(pointwise.mul(losses, weight), kind)
    # (1 - t) x + (1 + (p - 1) t) * softplus(-x), with softplus(-x) = -log_sigmoid(x)
    factor = pointwise.add(pointwise.mul(pointwise.sub(pos_weight, 1), target), 1)
    tail: Tensor = pointwise.neg(apply(_call("log_sigmoid"), input))
    losses = pointwise.add(
        pointwise.mul(pointwise.sub(1, target), input), pointwise.mul(factor, tail)
    )
    if weight is not None:
        losses = pointwise.mul(losses, weight)
    return reduced(losses, kind)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target * (log(target) - input), with `input` in logarithms; "batchmean" divides by the batch
    size.
    """
    kind = "sum" if reduction == "batchmean" else reduction_of(reduction, size_average, reduce)
    if log_target:
        terms = pointwise.mul(pointwise.UNARY["exp"](target), pointwise.sub(target, input))
    else:
        positive = pointwise.gt(target, 0)
        logarithm = pointwise.UNARY["log"](pointwise.where(positive, target, 1.0))
        entropy = pointwise.where(positive, pointwise.mul(target, logarithm), 0.0)
        terms = pointwise.sub(entropy, pointwise.mul(target, input))
    result = reduced(terms, kind)
    return pointwise.div(result, input.shape[0]) if reduction == "batchmean" else result


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(input) - target * input for the logarithm of a rate, or input - target * log(input + eps)
    for a rate, which `log_input` says.

    Args:
        full: add Stirling's approximation of log(target!) where the target is above 1.
    """
    kind = reduction_of(reduction, size_average, reduce)
    log, exp = pointwise.UNARY["log"], pointwise.UNARY["exp"]
    if log_input:
        loss = pointwise.sub(exp(input), pointwise.mul(target, input))
    else:
        loss = pointwise.sub(input, pointwise.mul(target, log(pointwise.add(input, eps))))
    if full:
        above = pointwise.gt(target, 1)
        safe = pointwise.where(above, target, 1.0)
        stirling = pointwise.sub(pointwise.mul(safe, log(safe)), safe)
        half_log = pointwise.mul(log(pointwise.mul(safe, 2 * math.pi)), 0.5)
        loss = pointwise.add(loss, pointwise.where(above, pointwise.add(stirling, half_log), 0.0))
    return reduced(loss, kind)
