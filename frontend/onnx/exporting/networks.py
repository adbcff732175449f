"""How convolutions, pooling, normalizations and matrix products are written in ONNX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.ir.symint import is_symbolic
from braze.onnx.exporting.writer import Operand, Writer
from braze.onnx.rules import exports


def _windows(
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] | None = None,
) -> dict[str, Any]:
    """ONNX's attributes of an operator that slides windows over the last dimensions."""
    options = {
        "kernel_shape": list(kernel),
        "strides": list(stride),
        "pads": [*padding, *padding],
    }
    return options if dilation is None else {**options, "dilations": list(dilation)}


@exports("conv", "conv_no_bias")
def conv(
    w: Writer,
    x: Operand,
    weight: Operand,
    bias: Operand | str = "",
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> str:
    options = _windows(weight.shape[2:], stride, padding, dilation)
    return w.node("Conv", x, weight, bias, group=groups, **options)


@exports("conv_transpose")
def conv_transpose(
    w: Writer,
    x: Operand,
    weight: Operand,
    output_padding: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> str:
    options = _windows(weight.shape[2:], stride, padding, dilation)
    options["output_padding"] = list(output_padding)
    return w.node("ConvTranspose", x, weight, group=groups, **options)


@exports("max_pool")
def max_pool(
    w: Writer,
    x: Operand,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> list[str]:
    if w.wanted[2]:
        raise NotImplementedError("[max_pool] ONNX has no places within windows")
    options = _windows(kernel, stride, padding, dilation)
    count = 2 if w.wanted[1] else 1
    found = w.nodes_of("MaxPool", count, x, ceil_mode=int(ceil_mode), **options)
    if not w.wanted[1]:
        return [found[0], "", ""]
    # ONNX counts through the whole tensor, PyTorch in each plane.
    plane = w.ints([math.prod(x.shape[2:])])
    return [found[0], w.node("Mod", found[1], plane), ""]


@exports("avg_pool")
def avg_pool(
    w: Writer,
    x: Operand,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    ceil_mode: bool,
    count_include_pad: bool,
) -> str:
    options = _windows(kernel, stride, padding)
    options |= {"ceil_mode": int(ceil_mode), "count_include_pad": int(count_include_pad)}
    return w.node("AveragePool", x, **options)


@exports("adaptive_avg_pool")
def adaptive_avg_pool(w: Writer, x: Operand, output: tuple[int, ...]) -> str:
    if set(output) == {1}:
        return w.node("GlobalAveragePool", x)
    sizes = x.shape[2:]
    if is_symbolic(*sizes):
        raise NotImplementedError(
            "[adaptive_avg_pool] to more than one element, of dynamic spatial sizes"
        )
    # Each dimension is averaged by a matrix, since windows may overlap.
    result: Operand | str = x
    for d, (size, out) in enumerate(zip(sizes, output, strict=True)):
        matrix = np.zeros((size, out))
        for i in range(out):
            first, last = i * size // out, -(-(i + 1) * size // out)
            matrix[first:last, i] = 1 / (last - first)
        order = [*(k for k in range(x.rank) if k != d + 2), d + 2]
        moved = w.permute(result, order)
        product = w.node("MatMul", moved, w.constant(matrix, x.dtype))
        result = w.permute(product, [order.index(k) for k in range(x.rank)])
    assert isinstance(result, str)
    return result


@exports("batch_norm_eval")
def batch_norm_eval(
    w: Writer,
    x: Operand,
    mean: Operand,
    var: Operand,
    weight: Operand,
    bias: Operand,
    epsilon: float,
) -> str:
    return w.node("BatchNormalization", x, weight, bias, mean, var, epsilon=float(epsilon))


@exports("layer_norm")
def layer_norm(
    w: Writer, x: Operand, weight: Operand, bias: Operand, dims: int, epsilon: float
) -> str:
    if w.opset >= 17:
        return w.node("LayerNormalization", x, weight, bias, axis=-dims, epsilon=float(epsilon))
    over = list(range(x.rank - dims, x.rank))
    centred = w.node("Sub", x, w.reduce("ReduceMean", x, over, True))
    var = w.reduce("ReduceMean", w.node("Mul", centred, centred), over, True)
    root = w.node("Sqrt", w.node("Add", var, w.scalar(epsilon, x.dtype)))
    return w.node("Add", w.node("Mul", w.node("Div", centred, root), weight), bias)


@exports("group_norm")
def group_norm(
    w: Writer, x: Operand, weight: Operand, bias: Operand, groups: int, epsilon: float
) -> str:
    if groups == x.shape[1]:
        return w.node("InstanceNormalization", x, weight, bias, epsilon=float(epsilon))
    ones, zeros = (w.constant(np.full(groups, v), x.dtype) for v in (1, 0))
    grouped = w.node("Reshape", x, w.ints([0, groups, -1]))
    normal = w.node("InstanceNormalization", grouped, ones, zeros, epsilon=float(epsilon))
    back = w.node("Reshape", normal, w.node("Shape", x))
    shape = w.ints([-1, *[1] * (x.rank - 2)])
    scaled = w.node("Mul", back, w.node("Reshape", weight, shape))
    return w.node("Add", scaled, w.node("Reshape", bias, shape))


# Products -----------------------------------------------------------------------------------------


@exports("matmul", "mm", "bmm", "mv", "dot")
def matmul(w: Writer, x: Operand, y: Operand) -> str:
    return w.node("MatMul", x, y)


@exports("addmm")
def addmm(w: Writer, bias: Operand, x: Operand, y: Operand) -> str:
    return w.node("Gemm", x, y, bias)


@exports("linear")
def linear(w: Writer, x: Operand, weight: Operand, bias: Operand) -> str:
    if x.rank == 2:
        return w.node("Gemm", x, weight, bias, transB=1)
    return w.node("Add", linear_no_bias(w, x, weight), bias)


@exports("linear_no_bias")
def linear_no_bias(w: Writer, x: Operand, weight: Operand) -> str:
    return w.node("MatMul", x, w.permute(weight, (1, 0)))


@exports("contract")
def contract(w: Writer, x: Operand, y: Operand, equation: str) -> str:
    return w.node("Einsum", x, y, equation=equation)
