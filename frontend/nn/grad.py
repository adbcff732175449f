"""The gradients of convolutions as functions: for the input, and for the weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from braze.capture import call_of
from braze.ir.op import op_named
from braze.nn.functional.support import IntOrInts, ints
from braze.tensors import Tensor, apply

__all__ = [
    "conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input",
    "conv3d_weight",
]  # fmt: skip

_INPUT, _WEIGHT = op_named("conv_input_grad"), op_named("conv_weight_grad")


def _geometry(
    spatial: int, stride: IntOrInts, padding: IntOrInts, dilation: IntOrInts, groups: int
) -> dict[str, Any]:
    return {
        "stride": ints(stride, spatial, "stride"),
        "padding": ints(padding, spatial, "padding"),
        "dilation": ints(dilation, spatial, "dilation"),
        "groups": groups,
    }


def _numbers(name: str, what: str, size: Sequence[int], spatial: int) -> tuple[int, ...]:
    """A size that was given, with as many numbers as the tensor has dimensions."""
    numbers = tuple(size)
    if len(numbers) != spatial + 2:
        raise RuntimeError(f"{name}: expected {what} of {spatial + 2} numbers, got {numbers}")
    return numbers


def _of_size(found: Tensor, size: tuple[int, ...], given: str, fitting: str) -> Tensor:
    """A gradient, which must be of the size that was given."""
    if tuple(found.shape) != size:
        raise RuntimeError(f"{given} is {size}, but {fitting} of {tuple(found.shape)}")
    return found


def _input(
    spatial: int, input_size: Sequence[int], weight: Tensor, grad_output: Tensor, *geometry: Any
) -> Tensor:
    name = f"conv{spatial}d_input"
    size = _numbers(name, "an input_size", input_size, spatial)
    call = call_of(_INPUT, input_size=size[2:], **_geometry(spatial, *geometry))
    found = apply(call, grad_output, weight)
    fitting = "grad_output and weight are those of an input"
    return _of_size(found, size, f"{name}: input_size", fitting)


def _weight(
    spatial: int, input: Tensor, weight_size: Sequence[int], grad_output: Tensor, *geometry: Any
) -> Tensor:
    name = f"conv{spatial}d_weight"
    size = _numbers(name, "a weight_size", weight_size, spatial)
    call = call_of(_WEIGHT, kernel=size[2:], **_geometry(spatial, *geometry))
    found = apply(call, input, grad_output)
    fitting = "input and grad_output are those of a weight"
    return _of_size(found, size, f"{name}: weight_size", fitting)


def conv1d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv1d` for an input of this size.

    Shape: input_size [N, C, L], weight [out, C / groups, k], grad_output [N, out, L'].

    Raises:
        RuntimeError: the shapes are not those of one convolution.
    """
    return _input(1, input_size, weight, grad_output, stride, padding, dilation, groups)


def conv1d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv1d` for a weight of this size.

    Shape: input [N, C, L], weight_size [out, C / groups, k], grad_output [N, out, L'].

    Raises:
        RuntimeError: the shapes are not those of one convolution.
    """
    return _weight(1, input, weight_size, grad_output, stride, padding, dilation, groups)


def conv2d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv2d` for an input of this size.

    Shape: input_size [N, C, H, W], weight [out, C / groups, kh, kw], grad_output [N, out, H', W'].

    Raises:
        RuntimeError: the shapes are not those of one convolution.
    """
    return _input(2, input_size, weight, grad_output, stride, padding, dilation, groups)


def conv2d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv2d` for a weight of this size.

    Shape: input [N, C, H, W], weight_size [out, C / groups, kh, kw], grad_output [N, out, H', W'].

    Raises:
        RuntimeError: the shapes are not those of one convolution.
    """
    return _weight(2, input, weight_size, grad_output, stride, padding, dilation, groups)


def conv3d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv3d` for an input of this size.

    Shape: input_size [N, C, D, H, W], weight [out, C / groups, kd, kh, kw], grad_output
        [N, out, D', H', W'].

    Raises:
        RuntimeError: the shapes are not those of one convolution.
    """
    return _input(3, input_size, weight, grad_output, stride, padding, dilation, groups)


def conv3d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv3d` for a weight of this size.

    Shape: input [N, C, D, H, W], weight_size [out, C / groups, kd, kh, kw], grad_output
        [N, out, D', H', W'].

    Raises:
        RuntimeError: the shapes are not those of one convolution.
    """
    return _weight(3, input, weight_size, grad_output, stride, padding, dilation, groups)
