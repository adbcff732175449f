"""ONNX's normalizations."""

from __future__ import annotations

from typing import Any

import braze
from braze import nn
from braze.onnx.rules import imports
from braze.tensors import Tensor

_F = nn.functional


@imports("BatchNormalization", since=6)
def batch_normalization(
    node: Any, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> tuple[Tensor, ...]:
    epsilon, momentum = node.get("epsilon", 1e-5), node.get("momentum", 0.9)
    training = node.get("training_mode", 0)
    if node.version < 14 and node.wants(1) or node.version < 7 and not node.get("is_test", 0):
        raise NotImplementedError("BatchNormalization in training mode, of a version before 14")
    if not training:
        if mean.dtype is not x.dtype or scale.dtype is not x.dtype:
            scale, bias, mean, var = (v.to(x.dtype) for v in (scale, bias, mean, var))
        return (_F.batch_norm(x, mean, var, scale, bias, False, 0.0, epsilon),)
    dims = (0, *range(2, x.dim()))
    own_mean, own_var = braze.mean(x, dims), braze.var(x, dims, unbiased=False)
    shape = [1, -1, *[1] * (x.dim() - 2)]
    y = (x - own_mean.reshape(shape)) / braze.sqrt(own_var.reshape(shape) + epsilon)
    return (
        y * scale.reshape(shape) + bias.reshape(shape),
        mean * momentum + own_mean * (1 - momentum),
        var * momentum + own_var * (1 - momentum),
    )


@imports("InstanceNormalization", since=6)
def instance_normalization(node: Any, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return _F.group_norm(x, x.shape[1], scale, bias, node.get("epsilon", 1e-5))


@imports("GroupNormalization", since=18)
def group_normalization(node: Any, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = node.get("num_groups")
    if node.version < 21:  # one factor for each group
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return _F.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@imports("LayerNormalization", since=17)
def layer_normalization(
    node: Any, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, ...]:
    axis = node.get("axis", -1) % x.dim()
    epsilon = node.get("epsilon", 1e-5)
    shape = tuple(x.shape[axis:])
    fits = tuple(scale.shape) == shape and (bias is None or tuple(bias.shape) == shape)
    if fits:
        y = _F.layer_norm(x, shape, scale, bias, epsilon)
    else:  # of another shape, they are broadcast
        y = _F.layer_norm(x, shape, None, None, epsilon) * scale
        y = y if bias is None else y + bias
    if not node.wants(1) and not node.wants(2):
        return (y,)
    wide = x.to(braze.float32) if x.dtype.bits < 32 else x
    dims = tuple(range(axis, x.dim()))
    var = braze.var(wide, dims, unbiased=False, keepdim=True)
    return y, braze.mean(wide, dims, True), braze.rsqrt(var + epsilon)


@imports("RMSNormalization", since=23)
def rms_normalization(node: Any, x: Tensor, scale: Tensor) -> Tensor:
    axis = node.get("axis", -1) % x.dim()
    wide = x.to(braze.float32) if x.dtype.bits < 32 else x
    square = braze.mean(wide * wide, tuple(range(axis, x.dim())), True)
    return (wide * braze.rsqrt(square + node.get("epsilon", 1e-5))).to(scale.dtype) * scale


@imports("LpNormalization", since=1)
def lp_normalization(node: Any, x: Tensor) -> Tensor:
    axis, p = node.get("axis", -1), node.get("p", 2)
    total = braze.sum(braze.abs(x) if p == 1 else x * x, axis, True)
    norm = total if p == 1 else braze.sqrt(total)
    return braze.where(norm == 0, braze.zeros_like(x), x / norm)


@imports("LRN", since=1)
def lrn(node: Any, x: Tensor) -> Tensor:
    size = node.get("size")
    before = (size - 1) // 2
    pads = [0, 0] * (x.dim() - 2) + [before, size - 1 - before]
    squares = _F.pad(x * x, pads)
    total = squares.narrow(1, 0, x.shape[1])
    for i in range(1, size):
        total = total + squares.narrow(1, i, x.shape[1])
    scale = node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * total
    return x / scale ** node.get("beta", 0.75)
