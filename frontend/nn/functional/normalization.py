"""Normalisation by the statistics of a batch, of trailing dimensions, or of groups of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes

from braze.autograd.modes import no_grad
from braze.functions.arguments import require_tensors
from braze.functions.creation import ones, zeros
from braze.functions.pointwise import UNARY, add, div, mul, pow, sub
from braze.functions.promotion import cast
from braze.functions.reductions import mean as average
from braze.functions.reductions import sum as total
from braze.functions.settled import settled
from braze.functions.statistics import var_mean
from braze.ir.dtypes import f32
from braze.ir.errors import ShapeError
from braze.nn.functional.padding import pad
from braze.nn.functional.support import call_named
from braze.tensors import Tensor, apply


def _verify_size(counted: int, size: Sequence[int], what: str = "value per channel") -> None:
    """Raise ValueError for statistics of a single number."""
    if counted == 1:
        raise ValueError(f"Expected more than 1 {what} when training, got input size {list(size)}")


def _affine(
    input: Tensor, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The scale and shift, 1 and 0 where they are left out."""
    return (
        ones(shape, dtype=input.dtype) if weight is None else weight,
        zeros(shape, dtype=input.dtype) if bias is None else bias,
    )


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(input - mean) / sqrt(var + eps) * weight + bias for each channel (dimension 1).

    Args:
        running_mean, running_var: used when not `training`; when training they are moved towards
            the batch's mean and unbiased variance by `momentum`, in place.
        training: use the batch's own statistics.
        momentum: a number, or a 0-d tensor of the statistics' dtype.

    Shape: input [N, C, ...]; the others [C].

    Raises:
        ValueError: training on a single value a channel. RuntimeError: no statistics when not
            training.
    """
    require_tensors("batch_norm", input=input)
    if input.ndim < 2:
        raise ShapeError(f"[batch_norm] needs [N, C, ...], given {input._handle.type}")
    channels = input.shape[1]
    if training:
        count = math.prod((input.shape[0], *input.shape[2:]))
        _verify_size(count, input.shape)
        if eps <= 0.0:
            raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    elif eps < 0.0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")
    scale, shift = _affine(input, (channels,), weight, bias)
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "Expected running_mean and running_var to be defined when training=False"
            )
        call = call_named("batch_norm_eval", epsilon=eps)
        return apply(call, input, running_mean, running_var, scale, shift)  # type: ignore[no-any-return]
    out, mean, variance = apply(call_named("batch_norm_train", epsilon=eps), input, scale, shift)
    with no_grad():
        if running_mean is not None:
            _move(running_mean, mean.detach(), momentum)
        if running_var is not None:
            _move(running_var, mul(variance.detach(), count / (count - 1)), momentum)
    return out  # type: ignore[no-any-return]


def _move(running: Tensor, towards: Tensor, momentum: float | Tensor) -> None:
    """running = (1 - momentum) * running + momentum * towards, in place."""
    running._replace(add(running, mul(sub(towards, running), momentum)))


def _last_sizes(input: Tensor, normalized_shape: Any) -> tuple[int, ...]:
    """`normalized_shape`, which the input must end in, as a tuple."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or tuple(input.shape[-len(shape) :]) != shape:
        raise ShapeError(
            f"Given normalized_shape={list(shape)}, expected input with shape "
            f"[*, {', '.join(map(str, shape))}], but got input of size{list(input.shape)}"
        )
    return shape


@settled
def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last dimensions, which must be `normalized_shape`, then scale and shift.

    Raises:
        ShapeError: the input does not end in `normalized_shape`.
    """
    require_tensors("layer_norm", input=input)
    shape = _last_sizes(input, normalized_shape)
    scale, shift = _affine(input, shape, weight, bias)
    call = call_named("layer_norm", dims=len(shape), epsilon=eps)
    return apply(call, input, scale, shift)  # type: ignore[no-any-return]


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each sample's channels in `num_groups` groups, then scale and shift each channel.

    Shape: input [N, C, ...]; weight and bias [C].

    Raises:
        RuntimeError: the groups do not divide the channels.
    """
    require_tensors("group_norm", input=input)
    if input.ndim < 2:
        raise ShapeError(f"[group_norm] needs [N, C, ...], given {input._handle.type}")
    channels = input.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise RuntimeError(
            "Expected number of channels in input to be divisible by num_groups, but got input of "
            "shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    _verify_size(input.shape[0] * channels // num_groups * math.prod(input.shape[2:]), input.shape)
    scale, shift = _affine(input, (channels,), weight, bias)
    call = call_named("group_norm", groups=num_groups, epsilon=eps)
    return apply(call, input, scale, shift)  # type: ignore[no-any-return]


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each sample, then scale and shift each channel.

    Args:
        running_mean, running_var: moved towards the batch's averages of the statistics by
            `momentum`, in place; used instead of the input's own if not `use_input_stats`.

    Shape: input [N, C, ...]; the others [C].

    Raises:
        ValueError: a single element a channel. RuntimeError: no statistics to use.
    """
    require_tensors("instance_norm", input=input)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "Expected running_mean and running_var to be defined when use_input_stats is false"
            )
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    channels = input.shape[1]
    _verify_size(math.prod(input.shape[2:]), input.shape, "spatial element")
    scale, shift = _affine(input, (channels,), weight, bias)
    if running_mean is not None or running_var is not None:
        with no_grad():
            spatial = list(range(2, input.ndim))
            variance, mean = var_mean(input.detach(), spatial)
            for running, found in ((running_mean, mean), (running_var, variance)):
                if running is not None:
                    _move(running, cast(average(found, 0), running.dtype), momentum)
    call = call_named("group_norm", groups=channels, epsilon=eps)
    return apply(call, input, scale, shift)  # type: ignore[no-any-return]


def rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Divide by the root of the mean square over the last dimensions, which must be
    `normalized_shape`, then scale (Zhang and Sennrich, arXiv 1910.07467).

    Args:
        eps: added to the mean square; by default the dtype's precision.

    Raises:
        ShapeError: the input does not end in `normalized_shape`.
    """
    require_tensors("rms_norm", input=input)
    shape = _last_sizes(input, normalized_shape)
    wide = cast(input, f32) if input.dtype.bits == 16 else input
    epsilon = float(ml_dtypes.finfo(wide.dtype.numpy).eps) if eps is None else eps
    square = average(mul(wide, wide), list(range(input.ndim - len(shape), input.ndim)), True)
    result = mul(wide, UNARY["rsqrt"](add(square, epsilon)))
    if weight is not None:
        result = mul(result, weight)
    return cast(result, input.dtype)


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """input / (k + alpha * m) ** beta, where m is the mean square over `size` neighbouring channels
    (Krizhevsky, Sutskever, Hinton, NIPS 2012); missing neighbours count as zeros.

    Shape: [N, C, ...] with at least one dimension after the channels.

    Raises:
        ValueError: fewer than three dimensions.
    """
    require_tensors("local_response_norm", input=input)
    if input.ndim < 3:
        raise ValueError(
            f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)"
        )
    if input.numel() == 0:
        return input
    return response_norm(input, size // 2, (size - 1) // 2, size, alpha, beta, k)


def response_norm(
    input: Tensor, before: int, after: int, size: int, alpha: float, beta: float, k: float
) -> Tensor:
    """`local_response_norm` over so many channels before and after each, as if they were `size`."""
    squares = pad(mul(input, input), (*(0, 0) * (input.ndim - 2), before, after))
    sums = total(squares.unfold(1, before + after + 1, 1), -1)
    return div(input, pow(add(mul(sums, alpha / size), k), beta))
