"""Losses that want the scores of right classes above those of others."""

from __future__ import annotations

from braze.functions import pointwise, reductions
from braze.functions.arguments import require_tensors
from braze.functions.creation import arange
from braze.functions.indexing import check_values, gather
from braze.functions.movement import reshape, unsqueeze
from braze.functions.promotion import cast
from braze.functions.scans import cumsum
from braze.ir.dtypes import f32, f64, i64
from braze.ir.errors import DTypeError, ShapeError, UnsupportedDTypeError
from braze.nn.functional.activations import logsigmoid
from braze.nn.functional.support import REDUCTIONS, reduced, reduction_of
from braze.tensors import Tensor


def _rows(name: str, input: Tensor) -> Tensor:
    """Scores as [N, C].

    Raises:
        RuntimeError: they are neither that nor [C], or there are no classes.
    """
    if input.dtype not in (f32, f64):
        raise UnsupportedDTypeError(f"[{name}] not implemented for {input.dtype!r}")
    if input.ndim > 2 or (input.ndim and not input.shape[-1]):
        raise ShapeError(
            f"[{name}] Expected non-empty vector or matrix with optional 0-dim batch size, but "
            f"got: {list(input.shape)}"
        )
    return input if input.ndim == 2 else reshape(input, (1, -1))


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the classes i but the right one y of max(0, margin - x[y] + x[i]) ** p.

    Args:
        input: scores [N, C] or [C], float32 or float64.
        target: classes, int64 [N] or [].
        weight: of the right classes, [C].

    Shape: [N], or [] for a target without dimensions, if nothing is reduced.

    Raises:
        ValueError: p is neither 1 nor 2, a weight that is no vector, an unknown reduction.
        RuntimeError: shapes or dtypes do not fit; at the next sync, if a target is out of range.
    """
    name = "multi_margin_loss"
    require_tensors(name, input=input, target=target)
    kind = reduction_of(reduction, size_average, reduce)
    if p != 1 and p != 2:
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    x = _rows(name, input)
    count, classes = x.shape
    if target.dtype is not i64:
        raise DTypeError(f"[{name}] expected scalar type Long but found {target.dtype!r}")
    if target.ndim > 1 or target.numel() != count:
        raise ShapeError(f"inconsistent target size, expected {count} but got {list(target.shape)}")
    if weight is not None and (weight.shape[0] != classes or weight.dtype is not x.dtype):
        raise ShapeError(
            f"inconsistent weight size, expected {classes} of {x.dtype!r} but got "
            f"{list(weight.shape)} of {weight.dtype!r}"
        )
    y = reshape(target, (-1, 1))
    outside = pointwise.bitwise_or(pointwise.lt(y, 0), pointwise.ge(y, classes))
    check_values(name, outside, "target out of range")
    right = gather(x, 1, pointwise.clamp(y, 0, classes - 1))
    short = pointwise.clamp(pointwise.add(pointwise.sub(x, right), margin), min=0)
    terms = pointwise.mul(short, short) if p == 2 else short
    if weight is not None:
        terms = pointwise.mul(terms, unsqueeze(gather(weight, 0, reshape(target, (-1,))), 1))
    wrong = pointwise.ne(arange(classes), y)
    losses = reductions.sum(pointwise.where(wrong, terms, 0.0), 1)
    losses = pointwise.div(losses, classes)
    return reduced(losses if target.ndim else reshape(losses, ()), kind)


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The sum over right classes y and wrong ones i of max(0, 1 - x[y] + x[i]) / C.

    Args:
        input: scores [N, C] or [C], float32 or float64.
        target: right classes, int64 of the input's shape; those of a row end at the first -1.

    Shape: [N], or [] for [C], if nothing is reduced.

    Raises:
        ValueError: an unknown reduction. RuntimeError: shapes or dtypes do not fit; at the next
            sync, if a target is out of range.
    """
    name = "multilabel_margin_loss"
    require_tensors(name, input=input, target=target)
    kind = reduction_of(reduction, size_average, reduce)
    x = _rows(name, input)
    classes = x.shape[1]
    if target.dtype is not i64:
        raise DTypeError(f"[{name}] expected scalar type Long but found {target.dtype!r}")
    if (
        target.numel() != input.numel()
        or target.ndim > 2
        or (input.ndim == 2 and target.shape != input.shape)
    ):
        raise ShapeError(
            f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}"
        )
    y = reshape(target, x.shape)
    outside = pointwise.bitwise_or(pointwise.lt(y, -1), pointwise.ge(y, classes))
    check_values(name, outside, "argument #2 'target' is out of range")
    ended = pointwise.ne(cumsum(cast(pointwise.lt(y, 0), i64), 1), 0)
    place = pointwise.clamp(y, 0, classes - 1)
    # [N, right class, class]: which class each target names, while targets last
    named = pointwise.eq(unsqueeze(place, 2), arange(classes))
    named = pointwise.bitwise_and(named, unsqueeze(pointwise.logical_not(ended), 2))
    wrong = unsqueeze(pointwise.logical_not(reductions.any(named, 1)), 1)
    counts = pointwise.bitwise_and(wrong, unsqueeze(pointwise.logical_not(ended), 2))
    margins = pointwise.sub(unsqueeze(x, 1), unsqueeze(gather(x, 1, place), 2))
    terms = pointwise.clamp(pointwise.add(margins, 1), min=0)
    losses = reductions.sum(pointwise.where(counts, terms, 0.0), (1, 2))
    losses = pointwise.div(losses, classes)
    return reduced(losses if input.ndim == 2 else reshape(losses, ()), kind)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the last dimension, of classes, of the binary cross entropy of sigmoid(input).

    Args:
        target: 1 for classes that are right, 0 for others; broadcasts.
        weight: of the classes; broadcasts.

    Shape: [..., C] to [...] if nothing is reduced.

    Raises:
        ValueError: an unknown reduction. RuntimeError: the shapes do not broadcast.
        IndexError: the input has no dimensions.
    """
    require_tensors("multilabel_soft_margin_loss", input=input, target=target)
    if size_average is not None or reduce is not None:
        reduction = reduction_of(reduction, size_average, reduce)
    if not input.ndim:
        raise IndexError("Dimension specified as -1 but tensor has no dimensions")
    right = pointwise.mul(target, logsigmoid(input))
    wrong = pointwise.mul(pointwise.sub(1, target), logsigmoid(pointwise.neg(input)))
    losses = pointwise.neg(pointwise.add(right, wrong))
    if weight is not None:
        losses = pointwise.mul(losses, weight)
    dim = input.ndim - 1
    losses = pointwise.div(reductions.sum(losses, dim), input.shape[dim])
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not valid")
    return reduced(losses, reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-target * input)), for targets 1 and -1, in the input's dtype.

    Raises:
        ValueError: an unknown reduction. RuntimeError: the shapes do not broadcast, or the input is
            not floating-point.
    """
    require_tensors("soft_margin_loss", input=input, target=target)
    kind = reduction_of(reduction, size_average, reduce)
    if not input.dtype.is_floating_point:
        raise DTypeError(f"[soft_margin_loss] the input must be floats, given {input.dtype!r}")
    losses = pointwise.neg(logsigmoid(pointwise.mul(input, target)))
    return reduced(cast(losses, input.dtype), kind)
