"""ONNX's matrix products."""

from __future__ import annotations

from typing import Any

import braze
from braze.onnx.importing.quantization import quantized, shifted
from braze.onnx.rules import imports
from braze.tensors import Tensor


@imports("MatMul", since=1)
def matmul(node: Any, x: Tensor, y: Tensor) -> Tensor:
    return braze.matmul(x, y)


@imports("Gemm", since=6)
def gemm(node: Any, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.permute(1, 0) if node.get("transA", 0) else a
    if alpha == 1 and c is not None and beta == 1 and node.get("transB", 0) and c.dim() == 1:
        if c.shape[0] == b.shape[0]:
            return braze.nn.functional.linear(a, b, c)
    y = a @ (b.permute(1, 0) if node.get("transB", 0) else b)
    y = y if alpha == 1 else (y * alpha).to(a.dtype)
    if c is None:
        return y
    return y + (c if beta == 1 else (c * beta).to(a.dtype))


@imports("Einsum", since=12)
def einsum(node: Any, *xs: Tensor) -> Tensor:
    return braze.einsum(node.get("equation").replace(" ", ""), *xs)


@imports("MatMulInteger", since=10)
def matmul_integer(
    node: Any,
    a: Tensor,
    b: Tensor,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
) -> Tensor:
    if a_zero is not None and a_zero.dim() and a.dim() > 1:
        a_zero = a_zero.unsqueeze(-1)
    return braze.matmul(shifted(a, a_zero), shifted(b, b_zero))


@imports("QLinearMatMul", since=10)
def qlinear_matmul(
    node: Any,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    total = matmul_integer(node, a, b, a_zero, b_zero).to(braze.float32)
    if a_scale.dim():
        a_scale = a_scale.reshape(-1, 1) if a_scale.numel() > 1 else a_scale.reshape(())
    scale = (a_scale.to(braze.float32) * b_scale.to(braze.float32)) / y_scale.to(braze.float32)
    return quantized(total * scale, y_zero)
