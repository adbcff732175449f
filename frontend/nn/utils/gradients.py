"""Clipping of gradients, captured like everything else: no value is read."""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Iterable

from braze.autograd.modes import no_grad
from braze.functions.creation import zeros
from braze.functions.indexing import check_values
from braze.functions.movement import reshape, stack
from braze.functions.pointwise import add, clamp, div, lt, mul
from braze.functions.promotion import cast, result_type
from braze.functions.reductions import norm
from braze.tensors import Tensor


def _listed(tensors: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors seen as one vector.

    Args:
        error_if_nonfinite: have the program check that it is finite; the check is an operation like
            others, and costs no sync.
        foreach: accepted; all norms are in one graph anyway.

    Raises:
        RuntimeError: it is not finite and `error_if_nonfinite`.
    """
    order = float(norm_type)
    with no_grad():
        norms = [reshape(norm(t, order), ()) for t in _listed(tensors)]
        if not norms:
            return zeros(())
        wide = norms[0]
        for other in norms[1:]:
            if other.dtype is not wide.dtype:
                wide = zeros((), dtype=result_type(wide, other))
        total = norm(stack([cast(n, wide.dtype) for n in norms]), order)
        if error_if_nonfinite:
            # Comparisons with nan are false.
            check_values(
                "clip_grad_norm_",
                lt(total, math.inf),
                f"The total norm of order {order} for gradients from `parameters` is non-finite, "
                "so it cannot be clipped. To disable this error and scale the gradients by the "
                "non-finite norm anyway, set `error_if_nonfinite=False`",
                wanted=True,
            )
    return total


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    total_norm: Tensor,
    foreach: bool | None = None,
) -> None:
    """Scale the gradients, in place, by max_norm / total_norm if that is less than 1."""
    gradients = _gradients(_listed(parameters))
    with no_grad():
        factor = clamp(div(float(max_norm), add(total_norm, 1e-6)), max=1.0)
        for gradient in gradients:
            gradient._replace(mul(gradient, cast(factor, gradient.dtype)))


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients, in place, so that their norm as one vector is at most `max_norm`.

    Args:
        norm_type: the order of the norm; may be inf.
        error_if_nonfinite, foreach: as of `get_total_norm`.

    Returns:
        The norm before.
    """
    given = _listed(parameters)
    if not given and isinstance(parameters, types.GeneratorType):
        warnings.warn(
            "`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2
        )
    total = get_total_norm(_gradients(given), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(given, max_norm, total, foreach)
    return total


def clip_grad_norm(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """`clip_grad_norm_` under its old name, with a warning."""
    warnings.warn(
        "`braze.nn.utils.clip_grad_norm` is now deprecated in favor of "
        "`braze.nn.utils.clip_grad_norm_`.",
        FutureWarning,
        stacklevel=2,
    )
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Limit every element of the gradients, in place, to [-clip_value, clip_value]."""
    limit = float(clip_value)
    with no_grad():
        for gradient in _gradients(_listed(parameters)):
            gradient._replace(clamp(gradient, -limit, limit))
