"""Activation functions that PyTorch has at its top level too; `nn.functional` shares them."""

from __future__ import annotations

import numpy as np

from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.movement import reshape
from braze.functions.pointwise import gt, mul, where
from braze.functions.promotion import cast
from braze.functions.random_numbers import Generator, rand
from braze.ir.dtypes import f32
from braze.ir.op import op_named
from braze.tensors import Tensor, apply


def _floating(name: str, input: Tensor) -> Tensor:
    require_tensors(name, input=input)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f'"{name}" not implemented for {input.dtype!r}')
    return input


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """The input, and 0 where |input| <= lambd."""
    call = call_of(op_named("hardshrink"), lambd=float(lambd))
    return apply(call, _floating("hardshrink", input))  # type: ignore[no-any-return]


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """The input moved by lambd towards 0, where it stops.

    Raises:
        RuntimeError: lambd is negative.
    """
    if lambd < 0:
        raise RuntimeError(
            f"lambda must be greater or equal to 0, but found to be {lambd} (softshrink)"
        )
    call = call_of(op_named("softshrink"), lambd=float(lambd))
    return apply(call, _floating("softshrink", input))  # type: ignore[no-any-return]


def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """The input where it is above the threshold, else `value`.

    Raises:
        RuntimeError: the value is beyond an unsigned dtype.
    """
    require_tensors("threshold", input=input)
    if input.dtype.kind == "uint" and not 0 <= value <= np.iinfo(input.dtype.numpy).max:
        raise RuntimeError(
            f"value cannot be converted to type {input.dtype.public_name} without overflow"
        )
    call = call_of(op_named("threshold"), limit=float(threshold), value=float(value))
    return apply(call, input)  # type: ignore[no-any-return]


def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """max(0, input) + min(0, alpha * (exp(input / alpha) - 1)).

    Raises:
        RuntimeError: alpha is 0.
    """
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return apply(call_of(op_named("celu"), alpha=float(alpha)), _floating("celu", input))  # type: ignore[no-any-return]


# Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing neural networks", arXiv 1706.02515.
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def selu(input: Tensor) -> Tensor:
    """scale * elu(input, alpha) with the constants of self-normalising networks."""
    call = call_of(op_named("elu"), alpha=SELU_ALPHA)
    return mul(apply(call, _floating("selu", input)), SELU_SCALE)


def rrelu(
    input: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """The input where it is positive, else times a slope: drawn for each element between the bounds
    when training, else the middle between them.

    Raises:
        RuntimeError: the bounds are in the wrong order.
    """
    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")
    x = _floating("rrelu", input)
    if not training:
        call = call_of(op_named("leaky_relu"), slope=(lower + upper) / 2)
        return apply(call, x)  # type: ignore[no-any-return]
    drawn = rand(x.shape, dtype=x.dtype if x.dtype.bits > 16 else f32, generator=generator)
    slopes = cast(drawn * (upper - lower) + lower, x.dtype)
    return where(gt(x, 0), x, mul(x, slopes))


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """input where it is positive, else weight * input, one weight or one a channel (dimension 1).

    Raises:
        RuntimeError: the dtypes differ, the weight is a matrix, or the number of weights is neither
            1 nor that of the channels.
    """
    require_tensors("prelu", input=input, weight=weight)
    _floating("prelu", input)
    if weight.dtype is not input.dtype:
        raise RuntimeError(
            f"prelu: Type promoting not supported. Got {input.dtype!r} and {weight.dtype!r}"
        )
    if weight.ndim > 1:
        raise RuntimeError(
            f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}"
        )
    count = weight.numel()
    channels = input.shape[1] if input.ndim > 1 else 1
    if count not in (1, channels):
        raise RuntimeError(
            "Mismatch of parameter numbers and input channel size. Found parameter numbers = "
            f"{count} and channel size = {channels}."
        )
    shape = [1] * input.ndim
    if count > 1:
        shape[1] = count
    return where(gt(input, 0), input, mul(reshape(weight, shape), input))


METHODS = {function.__name__: function for function in (hardshrink, prelu)}
