"""ONNX's arithmetic, comparisons, logic and casts."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

import braze
from braze.onnx.protos import dtype_of
from braze.onnx.rules import imports
from braze.tensors import Tensor

UNARY: dict[str, Callable[[Any], Any]] = {
    "Abs": braze.abs,
    "Acos": braze.acos,
    "Acosh": braze.acosh,
    "Asin": braze.asin,
    "Asinh": braze.asinh,
    "Atan": braze.atan,
    "Atanh": braze.atanh,
    "BitwiseNot": braze.bitwise_not,
    "Ceil": braze.ceil,
    "Cos": braze.cos,
    "Cosh": braze.cosh,
    "Det": braze.det,
    "Erf": braze.erf,
    "Exp": braze.exp,
    "Floor": braze.floor,
    "IsNaN": braze.isnan,
    "Log": braze.log,
    "Neg": braze.neg,
    "Not": braze.logical_not,
    "Reciprocal": braze.reciprocal,
    "Round": braze.round,
    "Sign": braze.sign,
    "Sin": braze.sin,
    "Sinh": braze.sinh,
    "Sqrt": braze.sqrt,
    "Tan": braze.tan,
}

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": braze.add,
    "And": braze.logical_and,
    "BitwiseAnd": braze.bitwise_and,
    "BitwiseOr": braze.bitwise_or,
    "BitwiseXor": braze.bitwise_xor,
    "Equal": braze.eq,
    "Greater": braze.gt,
    "GreaterOrEqual": braze.ge,
    "Less": braze.lt,
    "LessOrEqual": braze.le,
    "Mul": braze.mul,
    "Or": braze.logical_or,
    "Sub": braze.sub,
    "Xor": braze.logical_xor,
}

FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "Max": braze.maximum,
    "Min": braze.minimum,
    "Sum": braze.add,
}


@imports(*UNARY, since=1)
def unary(node: Any, x: Tensor) -> Tensor:
    return UNARY[node.op](x)


def aligned(node: Any, x: Tensor, y: Tensor) -> Tensor:
    """The second operand as it broadcasts; before version 7 an attribute says from which of x's
    dimensions on."""
    axis = node.get("axis")
    if node.version >= 7 or not node.get("broadcast", 0) or axis is None:
        return y
    return y.reshape([*y.shape, *[1] * (x.dim() - axis % x.dim() - y.dim())])


@imports(*BINARY, since=1)
def binary(node: Any, x: Tensor, y: Tensor) -> Tensor:
    return BINARY[node.op](x, aligned(node, x, y))


@imports(*FOLDS, since=6)
def fold(node: Any, *xs: Tensor) -> Tensor:
    return reduce(FOLDS[node.op], xs)


@imports("Mean", since=6)
def mean(node: Any, *xs: Tensor) -> Tensor:
    return reduce(braze.add, xs) / len(xs)


@imports("Identity", since=1, raw=True)
def identity(node: Any, x: Any) -> Any:
    return x


@imports("Div", since=6)
def div(node: Any, x: Tensor, y: Tensor) -> Tensor:
    y = aligned(node, x, y)
    return braze.div(x, y, rounding_mode="trunc") if x.dtype.is_integer else x / y


@imports("Mod", since=10)
def mod(node: Any, x: Tensor, y: Tensor) -> Tensor:
    return braze.fmod(x, y) if node.get("fmod", 0) else braze.remainder(x, y)


@imports("Pow", since=1)
def power(node: Any, x: Tensor, y: Tensor) -> Tensor:
    y = aligned(node, x, y)
    if x.dtype.is_integer and y.dtype.is_floating_point:
        return braze.pow(x.to(y.dtype), y).to(x.dtype)
    if y.dtype.is_integer and x.dtype.is_floating_point or y.dtype != x.dtype:
        y = y.to(x.dtype)
    return braze.pow(x, y)


@imports("BitShift", since=11)
def bit_shift(node: Any, x: Tensor, y: Tensor) -> Tensor:
    if node.get("direction") == "LEFT":
        return braze.bitwise_left_shift(x, y)
    return braze.bitwise_right_shift(x, y)


@imports("IsInf", since=10)
def is_inf(node: Any, x: Tensor) -> Tensor:
    up, down = node.get("detect_positive", 1), node.get("detect_negative", 1)
    if up and down:
        return braze.isinf(x)
    if up or down:
        return braze.isposinf(x) if up else braze.isneginf(x)
    return braze.zeros_like(x, dtype=braze.bool)


@imports("Clip", since=6)
def clip(node: Any, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if node.version < 11:
        low = node.get("min", -3.4028234663852886e38)
        high = node.get("max", 3.4028234663852886e38)
        return braze.clamp(x, low, high)
    # One after the other: where they cross, the upper one counts.
    x = x if low is None else braze.maximum(x, low)
    return x if high is None else braze.minimum(x, high)


@imports("Where", since=9)
def where(node: Any, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return braze.where(condition, x, y)


@imports("Cast", since=6)
def cast(node: Any, x: Tensor) -> Tensor:
    return x.to(dtype_of(node.get("to"), "the result of a Cast"))


@imports("CastLike", since=15)
def cast_like(node: Any, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


@imports("BitCast", since=26)
def bit_cast(node: Any, x: Tensor) -> Tensor:
    wanted = dtype_of(node.get("to"), "the result of a BitCast")
    x = x.to(braze.uint8) if x.dtype is braze.bool else x
    return braze.ne(x, 0) if wanted is braze.bool else x.view(wanted)


@imports("Dropout", read=(1, 2))
def dropout(
    node: Any, x: Tensor, ratio: np.ndarray | None = None, training: np.ndarray | None = None
) -> tuple[Tensor, ...]:
    if training is not None and training.any() and (ratio is None or ratio > 0):
        p = 0.5 if ratio is None else float(ratio)
        mask = braze.rand_like(x) >= p
        return x * mask.to(x.dtype) / (1 - p), mask
    if not node.wants(1):
        return (x,)
    return x, braze.ones_like(x, dtype=braze.bool)
