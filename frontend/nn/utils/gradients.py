"""Clipping of gradients, captured like everything else: no value is read."""

from __future__ import annotations

import math
from collections.abc import Iterable

from braze.autograd.modes import no_grad
from braze.functions.creation import zeros
from braze.functions.movement import reshape, stack
from braze.functions.pointwise import add, clamp, div, mul
from braze.functions.promotion import cast
from braze.functions.reductions import amax, norm
from braze.tensors import Tensor


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in given if p.grad is not None]


def get_total_norm(
    tensors: Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors seen as one vector.

    Raises:
        RuntimeError: it is not finite and `error_if_nonfinite` (which reads it: a sync point).
    """
    order = float(norm_type)
    norms = [norm(t, order) for t in tensors]
    if not norms:
        return zeros(())
    joined = stack([reshape(n, ()) for n in norms])
    total = amax(joined) if order == math.inf else norm(joined, order)
    if error_if_nonfinite and not math.isfinite(float(total)):
        raise RuntimeError(
            f"The total norm of order {order} for gradients from `parameters` is non-finite, so it "
            "cannot be "
            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, "
            "set "
            "`error_if_nonfinite=False`"
        )
    return total


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients, in place, so that their norm as one vector is at most `max_norm`.

    Returns:
        The norm before.
    """
    gradients = _gradients(parameters)
    with no_grad():
        total = get_total_norm(gradients, norm_type, error_if_nonfinite)
        factor = clamp(div(float(max_norm), add(total, 1e-6)), max=1.0)
        for gradient in gradients:
            gradient._replace(mul(gradient, cast(factor, gradient.dtype)))
    return total


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Limit every element of the gradients, in place, to [-clip_value, clip_value]."""
    limit = float(clip_value)
    with no_grad():
        for gradient in _gradients(parameters):
            gradient._replace(clamp(gradient, -limit, limit))
