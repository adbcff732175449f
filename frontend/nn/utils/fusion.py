"""Batch normalisation as part of the weights before it, for evaluation."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from braze.functions.creation import ones_like, zeros_like
from braze.functions.movement import reshape
from braze.functions.pointwise import UNARY, add, mul, sub
from braze.functions.promotion import cast
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.tensors import Tensor

AnyModule = TypeVar("AnyModule", bound=Module)


def _evaluated(layer: Any, bn: Any) -> None:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("bn.running_mean and bn.running_var must not be None")


def fuse_conv_bn_eval(conv: AnyModule, bn: Module, transpose: bool = False) -> AnyModule:
    """A convolution that gives what `bn` makes of the result of `conv`, both in evaluation.

    Args:
        transpose: the convolution is a transposed one.

    Raises:
        AssertionError: one of both is in training, or `bn` has no statistics.
    """
    _evaluated(conv, bn)
    fused: Any = copy.deepcopy(conv)
    norm: Any = bn
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight,
        fused.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        transpose,
    )
    return fused  # type: ignore[no-any-return]


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """The weight and bias of such a convolution."""
    outputs = 1 if transpose else 0
    shape = [-1 if d == outputs else 1 for d in range(conv_w.ndim)]
    return _fused(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, shape)


def fuse_linear_bn_eval(linear: AnyModule, bn: Module) -> AnyModule:
    """A linear layer that gives what `bn` makes of the result of `linear`, both in evaluation.

    Raises:
        AssertionError: one of both is in training, `bn` has no statistics, or the features differ.
    """
    _evaluated(linear, bn)
    fused: Any = copy.deepcopy(linear)
    norm: Any = bn
    if norm.num_features not in (fused.out_features, 1):
        raise AssertionError(
            "To fuse, linear.out_features == bn.num_features or bn.num_features == 1, got "
            f"linear.out_features={fused.out_features} and bn.num_features={norm.num_features}"
        )
    fused.weight, fused.bias = fuse_linear_bn_weights(
        fused.weight,
        fused.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    return fused  # type: ignore[no-any-return]


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor,
    bn_b: Tensor,
) -> tuple[Parameter, Parameter]:
    """The weight and bias of such a layer."""
    return _fused(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, [-1, 1])


def _fused(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    scale: Tensor | None,
    shift: Tensor | None,
    shape: list[int],
) -> tuple[Parameter, Parameter]:
    """(w x + b - mean) / sqrt(variance + eps) * scale + shift, as one weight and bias."""
    dtype = weight.dtype if bias is None else bias.dtype
    bias = zeros_like(mean) if bias is None else bias
    factor = mul(ones_like(mean) if scale is None else scale, UNARY["rsqrt"](add(variance, eps)))
    moved = mul(sub(bias, mean), factor)
    moved = moved if shift is None else add(moved, shift)
    fused = cast(mul(weight, reshape(factor, shape)), weight.dtype)
    return (
        Parameter(fused.detach(), weight.requires_grad),
        Parameter(cast(moved, dtype).detach(), bias.requires_grad),
    )
