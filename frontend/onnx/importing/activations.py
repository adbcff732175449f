"""ONNX's activation functions."""

from __future__ import annotations

from typing import Any

import braze
from braze import nn
from braze.onnx.rules import imports
from braze.tensors import Tensor

_F = nn.functional

_PLAIN = {
    "HardSwish": _F.hardswish,
    "Mish": _F.mish,
    "Relu": _F.relu,
    "Sigmoid": braze.sigmoid,
    "Softplus": lambda x: braze.logaddexp(x, braze.zeros_like(x)),
    "Softsign": _F.softsign,
    "Tanh": braze.tanh,
}


@imports(*_PLAIN, since=1)
def plain(node: Any, x: Tensor) -> Tensor:
    return _PLAIN[node.op](x)


@imports("LeakyRelu", since=6)
def leaky_relu(node: Any, x: Tensor) -> Tensor:
    return _F.leaky_relu(x, node.get("alpha", 0.01))


@imports("PRelu", since=6)
def prelu(node: Any, x: Tensor, slope: Tensor) -> Tensor:
    if node.version < 7 and slope.numel() > 1:  # one for each channel
        slope = slope.reshape([-1, *[1] * (x.dim() - 2)])
    return braze.where(x < 0, x * slope, x)


@imports("Elu", since=6)
def elu(node: Any, x: Tensor) -> Tensor:
    return _F.elu(x, node.get("alpha", 1.0))


@imports("Celu", since=12)
def celu(node: Any, x: Tensor) -> Tensor:
    return _F.celu(x, node.get("alpha", 1.0))


@imports("Selu", since=6)
def selu(node: Any, x: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.6732631921768188), node.get("gamma", 1.0507010221481323)
    return gamma * _F.elu(x, alpha)


@imports("ThresholdedRelu", since=10)
def thresholded_relu(node: Any, x: Tensor) -> Tensor:
    return _F.threshold(x, node.get("alpha", 1.0), 0.0)


@imports("HardSigmoid", since=6)
def hard_sigmoid(node: Any, x: Tensor) -> Tensor:
    return braze.clamp(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


@imports("Shrink", since=9)
def shrink(node: Any, x: Tensor) -> Tensor:
    limit, bias = node.get("lambd", 0.5), node.get("bias", 0.0)
    zero = braze.zeros_like(x)
    return braze.where(x < -limit, x + bias, braze.where(x > limit, x - bias, zero)).to(x.dtype)


@imports("Gelu", since=20)
def gelu(node: Any, x: Tensor) -> Tensor:
    return _F.gelu(x, approximate=node.get("approximate", "none"))


@imports("Swish", since=24)
def swish(node: Any, x: Tensor) -> Tensor:
    return x * braze.sigmoid(node.get("alpha", 1.0) * x)


@imports("Softmax", "LogSoftmax", "Hardmax", since=1)
def softmax(node: Any, x: Tensor) -> Tensor:
    if node.version >= 13:
        return _softmax(node.op, x, node.get("axis", -1))
    # The older ones see a matrix of what is before the axis and what is behind it.
    axis = node.get("axis", 1) % max(x.dim(), 1)
    return _softmax(node.op, x.flatten(axis) if axis < x.dim() else x, axis).reshape(x.shape)


def _softmax(op: str, x: Tensor, axis: int) -> Tensor:
    if op == "Softmax":
        return braze.softmax(x, axis)
    if op == "LogSoftmax":
        return braze.log_softmax(x, axis)
    largest = braze.argmax(x, axis, keepdim=True)
    sizes = [1] * x.dim()
    sizes[axis] = x.shape[axis]
    return (braze.arange(x.shape[axis]).reshape(sizes) == largest).to(x.dtype)
