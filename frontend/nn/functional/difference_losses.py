"""Losses of differences. Each takes `reduction`: "mean" (the default), "sum" or "none"."""

from __future__ import annotations

from collections.abc import Callable

from braze.functions import pointwise
from braze.functions.arguments import require_tensors
from braze.functions.movement import broadcast_tensors
from braze.functions.promotion import as_operands, cast
from braze.functions.settled import settled
from braze.ir.errors import DTypeError, UnsupportedDTypeError
from braze.nn.functional.support import (
    call_named,
    reduced,
    reduction_of,
    warn_of_sizes,
    weighted,
)
from braze.tensors import Tensor, apply


def _of_difference(
    name: str,
    formula: Callable[[Tensor], Tensor],
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
) -> Tensor:
    """A loss of input - target: an operation of its own for floats of one dtype, else by parts."""
    own = reduction if weight is None else "none"
    dtype = x._handle.type.dtype
    losses: Tensor
    if dtype is target._handle.type.dtype and dtype.is_floating_point:
        losses = apply(call_named(name, reduction=own), x, target)
    else:
        losses = reduced(formula(pointwise.sub(x, target)), own)
    return losses if weight is None else weighted(losses, weight, reduction)


def _require_real(name: str, *operands: Tensor) -> None:
    """Some operand is of floating point, and none is complex."""
    dtypes = [operand._handle.type.dtype for operand in operands]
    if any(d.is_complex for d in dtypes) or not any(d.is_floating_point for d in dtypes):
        raise UnsupportedDTypeError(
            f"[{name}] not implemented for {' and '.join(repr(d) for d in dtypes)}"
        )


def _check_weight(input: Tensor, weight: Tensor | None) -> None:
    if weight is not None and weight.shape != input.shape:
        raise ValueError("Weights and input must have the same size.")


@settled
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target) ** 2.

    Args:
        weight: factors of the losses, whose sum divides the mean.

    Raises:
        RuntimeError: the shapes do not broadcast. ValueError: an unknown reduction, or a weight of
            another shape. NotImplementedError: for complex numbers, or integers alone.
    """
    require_tensors("mse_loss", input=input, target=target)
    warn_of_sizes(input, target)
    kind = reduction_of(reduction, size_average, reduce)
    _require_real("mse_loss", input, target)
    x, y = broadcast_tensors(*as_operands("mse_loss", input, target))
    _check_weight(input, weight)
    return _of_difference("mse_loss", pointwise.UNARY["square"], x, y, weight, kind)


@settled
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target|; of complex numbers the modulus, which is real.

    Args:
        weight: factors of the losses, whose sum divides the mean.

    Raises:
        RuntimeError: the shapes do not broadcast, or a mean of integers. ValueError: an unknown
            reduction, or a weight of another shape.
    """
    require_tensors("l1_loss", input=input, target=target)
    warn_of_sizes(input, target)
    kind = reduction_of(reduction, size_average, reduce)
    x, y = broadcast_tensors(input, target)
    _check_weight(input, weight)
    return _of_difference("l1_loss", pointwise.UNARY["abs"], x, y, weight, kind)


@settled
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
        RuntimeError: beta is negative, or the shapes do not broadcast. ValueError: an unknown
            reduction. NotImplementedError: for complex numbers, or integers alone.
    """
    require_tensors("smooth_l1_loss", input=input, target=target)
    warn_of_sizes(input, target)
    kind = reduction_of(reduction, size_average, reduce)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, reduction=kind)
    _require_real("smooth_l1_loss", input, target)
    x, y = broadcast_tensors(*as_operands("smooth_l1_loss", input, target))
    return apply(call_named("smooth_l1_loss", reduction=kind, beta=float(beta)), x, y)  # type: ignore[no-any-return]


@settled
def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """0.5 * d ** 2 for |d| < delta, else delta * (|d| - 0.5 * delta), with d = input - target.

    Args:
        weight: factors of the losses, of which the mean is taken.

    Raises:
        RuntimeError: delta is not positive, or the shapes do not broadcast. ValueError: an unknown
            reduction, or a weight of another shape. NotImplementedError: for complex numbers, or
            integers alone.
    """
    require_tensors("huber_loss", input=input, target=target)
    warn_of_sizes(input, target)
    kind = reduction_of(reduction)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    _require_real("huber_loss", input, target)
    dtype = input.dtype
    if not dtype.is_floating_point:
        raise DTypeError(f"result type Float can't be cast to the desired output type {dtype!r}")
    x, y = broadcast_tensors(*as_operands("huber_loss", input, target))
    losses: Tensor = apply(call_named("smooth_l1_loss", reduction="none", beta=float(delta)), x, y)
    losses = cast(pointwise.mul(losses, delta), dtype)
    _check_weight(input, weight)
    return reduced(losses if weight is None else pointwise.mul(losses, weight), kind)
