"""Activation functions."""

from __future__ import annotations

import warnings
from typing import Any

from braze.functions import activations, pointwise, reductions
from braze.functions.arguments import require_tensors
from braze.functions.creation import empty_like, zeros_like
from braze.functions.movement import chunk
from braze.functions.out import with_out
from braze.functions.sampling import exponential_
from braze.functions.scattering import scatter
from braze.ir.ops.rules import normalise_dimension
from braze.nn.functional.support import call_named, in_place
from braze.tensors import Tensor, apply

_RELU = call_named("relu")


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0)."""
    if not isinstance(input, Tensor):
        require_tensors("relu", input=input)
    result: Tensor = apply(_RELU, input)
    return in_place(input, result, True) if inplace else result


def relu_(input: Tensor) -> Tensor:
    """In-place `relu`."""
    return relu(input, True)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """In-place `leaky_relu`."""
    return leaky_relu(input, negative_slope, True)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """In-place `elu`."""
    return elu(input, alpha, True)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """In-place `hardtanh`."""
    return hardtanh(input, min_val, max_val, True)


def selu_(input: Tensor) -> Tensor:
    """In-place `selu`."""
    return selu(input, True)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """In-place `celu`."""
    return celu(input, alpha, True)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """In-place `threshold`."""
    return in_place(input, activations.threshold(input, threshold, value), True)


def rrelu_(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False
) -> Tensor:
    """In-place `rrelu`."""
    return rrelu(input, lower, upper, training, True)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input where it is positive, else negative_slope * input."""
    require_tensors("leaky_relu", input=input)
    call = call_named("leaky_relu", slope=float(negative_slope))
    return in_place(input, apply(call, input), inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha * (exp(input) - 1)."""
    require_tensors("elu", input=input)
    return in_place(input, apply(call_named("elu", alpha=float(alpha)), input), inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale * elu(input, alpha) with the constants of self-normalising networks."""
    return in_place(input, activations.selu(input), inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """max(0, input) + min(0, alpha * (exp(input / alpha) - 1))."""
    return in_place(input, activations.celu(input, alpha), inplace)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """input where it is above the threshold, else `value`."""
    return in_place(input, activations.threshold(input, threshold, value), inplace)


def rrelu(
    input: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """input where it is positive, else times a slope, which is drawn for each element between the
    bounds when training, and the middle between them else."""
    return in_place(input, activations.rrelu(input, lower, upper, training), inplace)


hardshrink, prelu = activations.hardshrink, activations.prelu
softshrink = activations.softshrink


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """input limited to [min_val, max_val]; the gradient is zero at the limits.

    Raises:
        ValueError: the limits are in the wrong order. RuntimeError: one is negative, and the dtype
            unsigned.
    """
    require_tensors("hardtanh", input=input)
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    if input.dtype.kind == "uint" and (min_val < 0 or max_val < 0):
        raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
    call = call_named("hardtanh", low=float(min_val), high=float(max_val))
    return in_place(input, apply(call, input), inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """input limited to [0, 6]."""
    return hardtanh(input, 0.0, 6.0, inplace)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-input))."""
    return pointwise.UNARY["sigmoid"](input)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return pointwise.UNARY["tanh"](input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input * sigmoid(input)."""
    require_tensors("silu", input=input)
    return in_place(input, apply(call_named("silu"), input), inplace)


def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """input * P(X <= input) for a standard normal X; `approximate` is "none" or "tanh"."""
    require_tensors("gelu", input=input)
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"approximate argument must be either none or tanh, not {approximate!r}")
    result: Tensor = apply(call_named("gelu", approximate=approximate), input)
    return result


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * input)) / beta; input itself where beta * input > threshold."""
    require_tensors("softplus", input=input)
    call = call_named("softplus", beta=float(beta), threshold=float(threshold))
    result: Tensor = apply(call, input)
    return result


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(input)), without overflow."""
    require_tensors("logsigmoid", input=input)
    result: Tensor = apply(call_named("log_sigmoid"), input)
    return result


def softsign(input: Tensor) -> Tensor:
    """input / (1 + |input|)."""
    return pointwise.div(input, pointwise.add(pointwise.UNARY["abs"](input), 1))


def tanhshrink(input: Tensor) -> Tensor:
    """input - tanh(input)."""
    return pointwise.sub(input, tanh(input))


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(input + 3) / 6."""
    require_tensors("hardsigmoid", input=input)
    return in_place(input, pointwise.mul(relu6(pointwise.add(input, 3)), 1 / 6), inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * hardsigmoid(input)."""
    require_tensors("hardswish", input=input)
    return in_place(input, pointwise.mul(input, hardsigmoid(input)), inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * tanh(softplus(input))."""
    return in_place(input, pointwise.mul(input, tanh(softplus(input))), inplace)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half of a dimension times the sigmoid of the second.

    Raises:
        RuntimeError: the dimension's size is odd, or there is none.
    """
    require_tensors("glu", input=input)
    if not input.ndim:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    d = normalise_dimension("glu", dim, input.ndim)
    if input.shape[d] % 2:
        raise RuntimeError(
            f"Halving dimension must be even, but dimension {d} is size {input.shape[d]}"
        )
    left, right = chunk(input, 2, d)
    return pointwise.mul(left, sigmoid(right))


def _warn_of_dimension(name: str, dim: int | None, stacklevel: int) -> None:
    if dim is None:
        warnings.warn(
            f"Implicit dimension choice for {name} has been deprecated. Change the call to include "
            "dim=X as an argument.",
            stacklevel=stacklevel,
        )


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """exp(input) normalised to sum 1 along a dimension, which should be given."""
    _warn_of_dimension("softmax", dim, _stacklevel)
    return reductions.softmax(input, dim, dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """log(softmax(input)), computed without overflow."""
    _warn_of_dimension("log_softmax", dim, _stacklevel)
    return reductions.log_softmax(input, dim, dtype)


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """softmax(-input)."""
    _warn_of_dimension("softmin", dim, _stacklevel)
    return reductions.softmax(pointwise.neg(input), dim, dtype)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A draw from the Gumbel-softmax distribution: the softmax of (logits + Gumbel noise) / tau
    (Jang, Gu, Poole, arXiv 1611.01144; Maddison, Mnih, Teh, arXiv 1611.00712).

    Args:
        hard: give the one-hot vector of the largest element, with the gradient of the soft draw.
        eps: without effect.
    """
    require_tensors("gumbel_softmax", logits=logits)
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    noise = pointwise.neg(pointwise.UNARY["log"](exponential_(empty_like(logits))))
    soft = reductions.softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    largest = reductions.max(soft.detach(), dim, True)[1]
    one_hot = scatter(zeros_like(soft.detach()), dim, largest, 1.0)
    return one_hot - soft.detach() + soft


def normalize(
    input: Tensor,
    p: float = 2.0,
    dim: int | tuple[int, ...] = 1,
    eps: float = 1e-12,
    out: Tensor | None = None,
) -> Tensor:
    """input divided by its p-norm along a dimension or several (by eps where that is smaller).

    Args:
        out: where the result is written.
    """
    require_tensors("normalize", input=input)
    size = pointwise.clamp(reductions.norm(input, p, dim, True), min=eps)
    if out is None:
        return pointwise.div(input, size)
    return with_out(pointwise.div, "div")(input, size, out=out)  # type: ignore[no-any-return]
