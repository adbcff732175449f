"""Connectionist temporal classification: A. Graves, S. Fernandez, F. Gomez and J. Schmidhuber,
"Connectionist temporal classification: labelling unsegmented sequence data with recurrent neural
networks", ICML 2006.

The labels of a target with blanks between them are the states of a lattice. At each time one stays
in a state or goes on to the next one, or to the one after that where the two are different labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.autograd.function import Function
from braze.capture import call_of
from braze.functions import pointwise, reductions
from braze.functions.arguments import require_tensors
from braze.functions.creation import arange, full
from braze.functions.indexing import check_index, check_values
from braze.functions.movement import cat, expand, narrow, reshape, stack, unsqueeze
from braze.functions.promotion import cast
from braze.functions.tables import rows_at
from braze.ir.dtypes import bool_, f32, f64, i64
from braze.ir.errors import DTypeError, ShapeError, UnsupportedDTypeError
from braze.ir.op import op_named
from braze.nn.functional.support import reduction_of
from braze.tensors import Tensor, apply, from_array

Lengths = Tensor | Sequence[int]


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Minus the log-probability that labels at each time, of which repeated ones are joined and
    blanks are dropped, make the target.

    As in PyTorch the gradient is that of the scores below a log-softmax.

    Args:
        log_probs: [T, N, C] or [T, C], float32 or float64.
        targets: labels, [N, S], or [sum of target_lengths] one after the other. The former keep
            the shapes of a program, and so its graph, from batch to batch.
        input_lengths, target_lengths: [N] or [], as tensors or sequences of integers. Lengths of
            targets that stand one after the other are read if they are a tensor: a sync point.
        blank: the label of no label.
        reduction: "none", "sum", or "mean", which divides by the lengths of the targets first.
        zero_infinity: targets too long for their input count as 0, and have no gradient.

    Shape: [N], or [] for one sequence, if nothing is reduced.

    Raises:
        RuntimeError: shapes, dtypes or lengths do not fit (lengths of a tensor: at the next sync).
        IndexError: at the next sync, if a label is out of range.
        ValueError: an unknown reduction. TypeError: one of the lengths is a tensor, the other not.
    """
    require_tensors("ctc_loss", log_probs=log_probs, targets=targets)
    kind = reduction_of(reduction)
    if isinstance(input_lengths, Tensor) != isinstance(target_lengths, Tensor):
        raise TypeError("ctc_loss(): both lengths must be tensors, or both sequences of integers")
    _check_types(log_probs, targets, blank)
    single = log_probs.ndim == 2
    if single:
        log_probs = unsqueeze(log_probs, 1)
    steps, count, _ = log_probs.shape
    inputs = _lengths("input_lengths", input_lengths, count, steps)
    labels, sizes = _labels(targets, target_lengths, count, single)
    losses, dead = _negative_logs(log_probs, labels, inputs, sizes, blank)
    losses = _OfScores.apply(losses, log_probs, inputs, dead)
    if zero_infinity:
        losses = pointwise.where(dead, 0.0, losses)
    if kind == "mean":
        divisor = cast(pointwise.clamp(sizes, min=1), losses.dtype)
        return reductions.mean(pointwise.div(losses, divisor))
    if kind == "sum":
        return reductions.sum(losses)
    return reshape(losses, ()) if single else losses


# Arguments ----------------------------------------------------------------------------------------


def _check_types(log_probs: Tensor, targets: Tensor, blank: int) -> None:
    if log_probs.ndim not in (2, 3):
        raise ShapeError(
            f"[ctc_loss] log_probs must be [T, N, C] or [T, C], given {log_probs._handle.type}"
        )
    if log_probs.dtype not in (f32, f64):
        raise UnsupportedDTypeError(f"[ctc_loss] not implemented for {log_probs.dtype!r}")
    if not log_probs.numel():
        raise ShapeError("log_probs tensor must not be empty")
    if not targets.dtype.is_integer:
        raise DTypeError(f"[ctc_loss] targets must be integers, given {targets.dtype!r}")
    if targets.ndim not in (1, 2):
        raise ShapeError(
            f"[ctc_loss] targets must be [N, S] or a vector, given {targets._handle.type}"
        )
    if not 0 <= blank < log_probs.shape[-1]:
        raise RuntimeError("blank must be in label range")


def _lengths(name: str, lengths: Lengths, count: int, most: int) -> Tensor:
    """Lengths as an i64 vector, none below 0 or above `most`."""
    known: np.ndarray | None = None
    if not isinstance(lengths, Tensor):
        known = np.array([int(n) for n in lengths], np.int64)
        lengths = from_array(known)
    elif not lengths.dtype.is_integer:
        raise DTypeError(f"{name} must be integral")
    if lengths.ndim > 1 or lengths.numel() != count:
        raise ShapeError(f"{name} must be of size batch_size, {count}, given {lengths.shape}")
    below = f"Expected {name} to have value at least 0"
    above = f"Expected {name} to have value at most {most}"
    if known is not None:
        if known.size and (known.min() < 0 or known.max() > most):
            raise RuntimeError(below if known.min() < 0 else above)
        return lengths  # nothing is captured, so that reading them is no sync point
    result = cast(reshape(lengths, (-1,)), i64)
    check_values("ctc_loss", pointwise.lt(result, 0), below)
    check_values("ctc_loss", pointwise.gt(result, most), above)
    return result


def _labels(targets: Tensor, lengths: Lengths, count: int, single: bool) -> tuple[Tensor, Tensor]:
    """Targets as [N, S], and their lengths."""
    name = "target_lengths"
    if targets.ndim == 2:
        if targets.shape[0] != count:
            raise ShapeError(
                f"Expected tensor to have size {count} at dimension 0, but got size "
                f"{targets.shape[0]} for argument #2 'targets'"
            )
        return targets, _lengths(name, lengths, count, targets.shape[1])
    total = targets.shape[0]
    sizes = _lengths(name, lengths, count, total)
    if single:
        short = pointwise.ne(sizes, total)
        check_values("ctc_loss", short, f"Expected {name} to have value {total}")
        return unsqueeze(targets, 0), sizes
    known = sizes._numpy()
    if int(known.sum()) != total:
        raise ShapeError(
            f"Expected tensor to have size {known.sum()} at dimension 0, but got size {total} for "
            "argument #2 'targets'"
        )
    if not total:
        return full((count, 0), 0, dtype=targets.dtype), sizes
    most = int(known.max(initial=0))
    places = (np.cumsum(known) - known)[:, None] + np.arange(most)
    return rows_at(targets, from_array(np.minimum(places, total - 1))), sizes


# The loss -----------------------------------------------------------------------------------------


def _negative_logs(
    log_probs: Tensor, labels: Tensor, inputs: Tensor, sizes: Tensor, blank: int
) -> tuple[Tensor, Tensor]:
    """The loss of each sequence, and where it is infinite."""
    steps, count, classes = log_probs.shape
    longest = labels.shape[1]
    used = pointwise.lt(arange(longest), unsqueeze(sizes, 1))
    labels = pointwise.where(used, cast(labels, i64), blank)
    blanks = full((count, longest + 1), blank, dtype=i64)
    pairs = stack([narrow(blanks, 1, 0, longest), labels], 2)
    states = 2 * longest + 1
    path = cat([reshape(pairs, (count, 2 * longest)), narrow(blanks, 1, 0, 1)], 1)
    skips = full((count, min(states, 2)), False, dtype=bool_)
    if states > 2:
        rest = states - 2
        differs = pointwise.ne(narrow(path, 1, 2, rest), narrow(path, 1, 0, rest))
        skips = cat([skips, differs], 1)
    check_index("ctc_loss", labels, classes)
    emitted = _along(log_probs, 2, expand(unsqueeze(path, 0), (steps, count, states)))
    forward: Tensor = apply(call_of(op_named("lattice_logsum")), emitted, skips)
    last = pointwise.clamp(pointwise.sub(inputs, 1), min=0)
    index = expand(reshape(last, (1, count, 1)), (1, count, states))
    end = reshape(_along(forward, 0, index), (count, states))
    final = unsqueeze(pointwise.mul(sizes, 2), 1)
    in_blank = reshape(_along(end, 1, final), (-1,))
    before = pointwise.clamp(pointwise.sub(final, 1), min=0)
    in_label = reshape(_along(end, 1, before), (-1,))
    no_labels = pointwise.eq(sizes, 0)
    in_label = pointwise.where(no_labels, float("-inf"), in_label)
    return _combined(in_blank, in_label, no_labels, pointwise.eq(inputs, 0))


def _along(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """`gather` without a check."""
    return apply(call_of(op_named("take_along"), dim=dim), x, index)  # type: ignore[no-any-return]


def _combined(
    left: Tensor, right: Tensor, no_labels: Tensor, no_input: Tensor
) -> tuple[Tensor, Tensor]:
    """-log(exp(left) + exp(right)), and where it is infinite; no path leads there."""
    top = pointwise.maximum(left, right).detach()
    top = pointwise.where(pointwise.eq(top, float("-inf")), 0.0, top)
    exp, log = pointwise.UNARY["exp"], pointwise.UNARY["log"]
    total = pointwise.add(*(exp(pointwise.sub(x, top)) for x in (left, right)))
    dead = pointwise.eq(total, 0)
    dead = pointwise.where(no_input, pointwise.logical_not(no_labels), dead)
    losses = pointwise.neg(pointwise.add(log(pointwise.where(dead, 1.0, total)), top))
    losses = pointwise.where(no_input, 0.0, losses)
    return pointwise.where(dead, float("inf"), losses), dead


class _OfScores(Function):
    """The losses as they are, with the gradient of the scores that a log-softmax made the
    log-probabilities of: the probabilities are added. It is nan for infinite losses."""

    @staticmethod
    def forward(ctx: Any, losses: Tensor, log_probs: Tensor, inputs: Tensor, dead: Tensor) -> Any:
        ctx.save_for_backward(log_probs, inputs, dead)
        return losses.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        log_probs, inputs, dead = ctx.saved_tensors
        steps = arange(log_probs.shape[0])
        inside = pointwise.lt(unsqueeze(steps, 1), inputs)
        # Where a loss counts for nothing its gradient is 0, infinite or not.
        infinite = pointwise.bitwise_and(dead, pointwise.ne(gradient, 0))
        share = pointwise.where(infinite, float("nan"), gradient)
        share = unsqueeze(pointwise.where(inside, share, 0.0), 2)
        return gradient, pointwise.mul(pointwise.UNARY["exp"](log_probs), share), None, None
