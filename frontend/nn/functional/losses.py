"""Cross entropies and divergences; `reduction` is "mean" (the default), "sum" or "none"."""

from __future__ import annotations

import warnings
from typing import Any

from braze.functions import pointwise, reductions
from braze.functions.arguments import require_tensors
from braze.functions.indexing import check_bounds
from braze.functions.movement import reshape
from braze.functions.promotion import as_operands, cast
from braze.functions.settled import settled
from braze.ir.dtypes import i64, u8
from braze.ir.errors import DTypeError, ShapeError
from braze.nn.functional.linear import linear
from braze.nn.functional.support import call_named, reduced, reduction_of
from braze.sites import user_stacklevel
from braze.tensors import Tensor, apply


def _check_classes(name: str, input: Tensor, target: Tensor) -> None:
    """What the operations would refuse with a less telling error.

    Raises:
        ValueError: the batch sizes differ, or the input has no dimensions. RuntimeError: the target
            has another number of dimensions, or holds no classes.
    """
    rank = input.ndim
    if not rank:
        raise ValueError("Expected 1 or more dimensions (got 0)")
    if target.dtype not in (i64, u8):
        raise DTypeError(
            f"[{name}] expected target dtype to be Long or Byte, but got {target.dtype!r}"
        )
    if rank <= 2 and target.ndim > 1:
        raise ShapeError(f"[{name}] 0D or 1D target tensor expected, multi-target not supported")
    if rank > 1 and target.ndim and input.shape[0] != target.shape[0]:
        raise ValueError(
            f"Expected input batch_size ({input.shape[0]}) to match target batch_size "
            f"({target.shape[0]})."
        )


def _of_classes(
    name: str, input: Tensor, target: Tensor, weight: Tensor | None, **attributes: Any
) -> Tensor:
    """The operation `name`, or its weighted form, against classes."""
    _check_classes(name, input, target)
    target = cast(target, i64)
    single = input.ndim == 1 and target.ndim == 0
    if single:
        input, target = reshape(input, (1, -1)), reshape(target, (1,))
    if weight is None:
        result: Tensor = apply(call_named(name, **attributes), input, target)
    else:
        result = apply(call_named(f"{name}_weighted", **attributes), input, target, weight)
    return reshape(result, ()) if single else result


@settled
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
        target: classes, int64 or uint8, [N, ...] or []; or probabilities, of the input's shape.
        weight: of each class, [C].
        ignore_index: targets of this value do not count.
        label_smoothing: how much of the target is spread evenly over all classes.

    Raises:
        ValueError: an unknown reduction, or batch sizes differ. RuntimeError: shapes or dtypes do
            not fit, or a label_smoothing outside [0, 1].
        IndexError: at the next sync, if a target is out of range.
    """
    require_tensors("cross_entropy", input=input, target=target)
    kind = reduction_of(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if input.shape == target.shape:
        if ignore_index >= 0:
            raise RuntimeError("ignore_index is not supported for floating point target")
        return _soft_cross_entropy(input, target, weight, kind, label_smoothing)
    return _of_classes(
        "cross_entropy", input, target, weight,
        reduction=kind, ignore_index=ignore_index, label_smoothing=float(label_smoothing),
    )  # fmt: skip


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    """Against probabilities: -sum over classes of weight * target * log_softmax(input)."""
    if not target.dtype.is_floating_point:
        raise DTypeError(
            "Expected floating point type for target with class probabilities, got "
            f"{target.dtype!r}"
        )
    dim = 0 if input.ndim == 1 else 1
    classes = input.shape[dim]
    if smoothing:
        target = pointwise.add(pointwise.mul(target, 1 - smoothing), smoothing / classes)
    terms = pointwise.mul(target, reductions.log_softmax(input, dim))
    if weight is not None:
        if weight.shape != (classes,):
            raise ShapeError(
                f"[cross_entropy] the weight must be [{classes}], one for each class of "
                f"{input._handle.type}, given {weight._handle.type}"
            )
        shape = [1] * input.ndim
        shape[dim] = -1
        terms = pointwise.mul(terms, reshape(weight, shape))
    losses = pointwise.neg(reductions.sum(terms, dim))
    return reduced(losses, reduction)


@settled
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
        target: classes, int64 or uint8, [N, ...] or [].
        weight, ignore_index: as `cross_entropy`.

    Raises: as `cross_entropy`.
    """
    require_tensors("nll_loss", input=input, target=target)
    kind = reduction_of(reduction, size_average, reduce)
    return _of_classes("nll_loss", input, target, weight, reduction=kind, ignore_index=ignore_index)


def _same_shape(input: Tensor, losses: Tensor, weight: str = "weight") -> Tensor:
    """The losses, which a weight must not have spread over more elements."""
    if losses._handle.type.shape != input._handle.type.shape:
        raise ShapeError(
            f"output with shape {list(input.shape)} doesn't match the broadcast shape "
            f"{list(losses.shape)}, which the {weight} asks for"
        )
    return losses


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)), the logarithms at least -100.

    Args:
        weight: factors of the losses; broadcasts to them.

    Raises:
        ValueError: the shapes differ, or an unknown reduction. RuntimeError: dtypes or the weight
            do not fit; at the next sync, if an input is not in [0, 1].
    """
    require_tensors("binary_cross_entropy", input=input, target=target)
    kind = reduction_of(reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}) is deprecated. Please ensure they have the same size."
        )
    own = kind if weight is None else "none"
    losses: Tensor = apply(call_named("binary_cross_entropy", reduction=own), input, target)
    text = "all elements of input should be between 0 and 1"
    check_bounds("binary_cross_entropy", input, text, 0, 1)
    if weight is None:
        return losses
    return reduced(_same_shape(input, pointwise.mul(losses, weight)), kind)


@settled
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), computed without overflow, in the target's dtype.

    Args:
        weight: factors of the losses; broadcasts to them.
        pos_weight: weight of the positive targets; broadcasts.

    Raises:
        ValueError: the shapes differ, or an unknown reduction. RuntimeError: a weight does not fit,
            or the target holds integers.
    """
    require_tensors("binary_cross_entropy_with_logits", input=input, target=target)
    kind = reduction_of(reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(
            f"Target size ({target.shape}) must be the same as input size ({input.shape})"
        )
    dtype = target.dtype
    if not dtype.is_floating_point:
        raise DTypeError(f"result type Float can't be cast to the desired output type {dtype!r}")
    input, target = as_operands("binary_cross_entropy_with_logits", input, target)
    if pos_weight is None:
        own = kind if weight is None else "none"
        losses: Tensor = apply(call_named("bce_with_logits", reduction=own), input, target)
        if weight is None:
            return cast(losses, dtype)
    else:
        # (1 - t) x + (1 + (p - 1) t) * softplus(-x), with softplus(-x) = -log_sigmoid(x)
        factor = pointwise.add(pointwise.mul(pointwise.sub(pos_weight, 1), target), 1)
        tail: Tensor = pointwise.neg(apply(call_named("log_sigmoid"), input))
        losses = pointwise.add(
            pointwise.mul(pointwise.sub(1, target), input), pointwise.mul(factor, tail)
        )
        losses = _same_shape(input, losses, "pos_weight")
    if weight is not None:
        losses = _same_shape(input, pointwise.mul(losses, weight))
    return reduced(cast(losses, dtype), kind)


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

    Args:
        log_target: the target is given as its logarithm.

    Raises:
        ValueError: an unknown reduction. RuntimeError: integers, or the shapes do not broadcast.
    """
    require_tensors("kl_div", input=input, target=target)
    if size_average is None and reduce is None and reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math "
            "definition.'mean' will be changed to behave the same as 'batchmean' in the next major "
            "release.",
            stacklevel=user_stacklevel(),
        )
    batch = reduction == "batchmean"
    kind = reduction_of("sum" if batch else reduction, size_average, reduce)
    result = divergence(input, target, kind, log_target)
    return pointwise.div(result, input.shape[0]) if batch and input.ndim else result


def divergence(input: Tensor, target: Tensor, reduction: str, log_target: bool) -> Tensor:
    """`kl_div` with one of the three reductions, and without a warning of "mean"."""
    if not (input.dtype.is_floating_point and target.dtype.is_floating_point):
        raise DTypeError("kl_div: Integral inputs not supported.")
    if log_target:
        terms = pointwise.mul(pointwise.UNARY["exp"](target), pointwise.sub(target, input))
    else:
        some = pointwise.ne(target, 0)
        logarithm = pointwise.UNARY["log"](pointwise.where(some, target, 1.0))
        terms = pointwise.sub(pointwise.mul(target, logarithm), pointwise.mul(target, input))
    return reduced(terms, reduction)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """`cross_entropy` of the scores input @ linear_weight.T + linear_bias.

    Args:
        input: [N, features] or [features].
        linear_weight: [C, ..., features], for scores [N, C, ...].
        linear_bias: [C, ...].
        target, weight, reduction, label_smoothing: as of `cross_entropy`.
        ignore_index: -100 by default; not together with probabilities.
        options: how PyTorch cuts the batch to save memory, which the result does not depend on; not
            used.

    Raises:
        RuntimeError: shapes do not fit. Else as `cross_entropy`.
    """
    require_tensors("linear_cross_entropy", input=input, linear_weight=linear_weight, target=target)
    if not 1 <= input.ndim <= 2:
        raise ShapeError(f"expected input with dimensionality 1 or 2, got {input.ndim}")
    if linear_weight.ndim < 2:
        raise ShapeError(
            f"expected linear_weight with dimensionality at least 2, got {linear_weight.ndim}"
        )
    features, rows = input.shape[-1], linear_weight.shape[:-1]
    if features != linear_weight.shape[-1]:
        raise ShapeError(
            "expected equal input and linear_weight last dimensions (in_features), got "
            f"{features} and {linear_weight.shape[-1]}, respectively"
        )
    if linear_bias is not None and linear_bias.shape != rows:
        raise ShapeError(
            f"expected linear_bias shape {tuple(rows)}, got {tuple(linear_bias.shape)}"
        )
    if len(rows) > 1 and input.ndim == 1:
        raise ShapeError(
            f"K-dimensional loss defined by linear_weight shape {tuple(linear_weight.shape)} "
            f"requires batched input, (N, {features}), got unbatched input with shape "
            f"{tuple(input.shape)}"
        )
    scores_shape = (*input.shape[:-1], *rows)
    if ignore_index is not None and target.shape == scores_shape:
        raise RuntimeError("ignore_index cannot be specified when target contains probabilities")
    bias = None if linear_bias is None else reshape(linear_bias, (-1,))
    scores = reshape(linear(input, reshape(linear_weight, (-1, features)), bias), scores_shape)
    return cross_entropy(
        scores, target, weight, ignore_index=-100 if ignore_index is None else ignore_index,
        reduction=reduction, label_smoothing=label_smoothing,
    )  # fmt: skip
