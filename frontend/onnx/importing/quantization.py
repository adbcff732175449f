"""ONNX's quantized numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

import braze
from braze.ir.dtypes import DType
from braze.onnx.protos import dtype_of
from braze.onnx.rules import imports
from braze.tensors import Tensor


def quantized(scaled: Tensor, zero: Tensor) -> Tensor:
    """Round to even, move and narrow numbers that are divided by their scale already."""
    info = np.iinfo(zero.dtype.numpy)
    moved = braze.round(scaled) + zero.to(scaled.dtype)
    return braze.clamp(moved, int(info.min), int(info.max)).to(zero.dtype)


def shifted(x: Tensor, zero: Tensor | None) -> Tensor:
    """Whole numbers of 8 bits less their zero point, in 32."""
    x = x.to(braze.int32)
    return x if zero is None else x - zero.to(braze.int32)


def _along(node: Any, x: Tensor, given: Tensor) -> Tensor:
    """A scale or zero point in x's shape: for all, along an axis, or by blocks along it."""
    if not given.dim() or given.numel() == 1 and given.dim() == 1:
        return given.reshape(())
    axis = node.get("axis", 1) % x.dim()
    if given.dim() == 1:
        return given.reshape([-1 if d == axis else 1 for d in range(x.dim())])
    block = node.get("block_size", 0) or -(-x.shape[axis] // given.shape[axis])
    return given.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])


@imports("QuantizeLinear", since=10)
def quantize_linear(node: Any, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    dtype: DType = braze.uint8
    if node.get("output_dtype", 0):
        dtype = dtype_of(node.get("output_dtype"), "the result of QuantizeLinear")
    if zero is None:
        zero = braze.zeros((), dtype=dtype)
    if not zero.dtype.is_integer:
        raise TypeError(f"QuantizeLinear to {zero.dtype} is not supported, only to integers")
    wide = x.to(braze.float32) if x.dtype.bits < 32 or not x.dtype.is_floating_point else x
    scaled = wide / _along(node, x, scale).to(wide.dtype)
    return quantized(scaled, _along(node, x, zero))


@imports("DequantizeLinear", since=10)
def dequantize_linear(node: Any, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    whole = x.to(braze.int32)
    if zero is not None:
        whole = whole - _along(node, x, zero).to(braze.int32)
    factor = _along(node, x, scale)
    wanted = scale.dtype
    if node.get("output_dtype", 0):
        wanted = dtype_of(node.get("output_dtype"), "the result of DequantizeLinear")
    return (whole.to(braze.float32) * factor.to(braze.float32)).to(wanted)
