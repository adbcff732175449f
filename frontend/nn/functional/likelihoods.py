"""Negative log-likelihoods of Poisson and normal distributions."""

from __future__ import annotations

import math

from braze.autograd.modes import no_grad
from braze.functions import pointwise
from braze.functions.arguments import require_tensors
from braze.functions.creation import full_like
from braze.functions.indexing import check_values
from braze.functions.movement import unsqueeze
from braze.nn.functional.support import REDUCTIONS, reduced, reduction_of
from braze.tensors import Tensor


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

    Raises:
        ValueError: an unknown reduction. RuntimeError: the shapes do not broadcast.
    """
    require_tensors("poisson_nll_loss", input=input, target=target)
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


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """0.5 * (log(var) + (input - target) ** 2 / var), var at least eps.

    Args:
        var: variances: of the input's shape, without its last dimension, or with one dimension of
            size 1; or a float. Its gradient is that of variances that are not limited.
        full: add 0.5 * log(2 pi).

    Raises:
        ValueError: an unknown reduction, a variance that does not fit, or a negative one (a
            tensor's: at the next sync). TypeError: var is neither a tensor nor a float.
    """
    require_tensors("gaussian_nll_loss", input=input, target=target)
    if isinstance(var, float):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = full_like(input, var)
    elif not isinstance(var, Tensor):
        raise TypeError(
            f"gaussian_nll_loss(): argument 'var' must be Tensor or float, not {type(var).__name__}"
        )
    else:
        wrong = pointwise.lt(var, 0)
        check_values("gaussian_nll_loss", wrong, "var has negative entry/entries", argument=True)
    if var.shape != input.shape:
        if input.shape[:-1] == var.shape:
            var = unsqueeze(var, -1)
        elif input.ndim != var.ndim or 1 != sum(
            n for m, n in zip(input.shape, var.shape, strict=True) if m != n
        ):
            raise ValueError("var is of incorrect size")
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not valid")
    with no_grad():
        raised = pointwise.sub(pointwise.clamp(var, min=eps), var)
    limited = pointwise.add(var, raised)
    difference = pointwise.sub(input, target)
    scaled = pointwise.div(pointwise.mul(difference, difference), limited)
    loss = pointwise.mul(pointwise.add(pointwise.UNARY["log"](limited), scaled), 0.5)
    if full:
        loss = pointwise.add(loss, 0.5 * math.log(2 * math.pi))
    return reduced(loss, reduction)
