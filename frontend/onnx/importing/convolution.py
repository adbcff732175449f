"""ONNX's convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

import braze
from braze import nn
from braze.onnx.importing.movement import padded
from braze.onnx.importing.quantization import quantized, shifted
from braze.onnx.importing.windows import windows_of
from braze.onnx.rules import imports
from braze.tensors import Tensor

_F = nn.functional
_CONVOLUTIONS = {1: _F.conv1d, 2: _F.conv2d, 3: _F.conv3d}
_TRANSPOSED = {1: _F.conv_transpose1d, 2: _F.conv_transpose2d, 3: _F.conv_transpose3d}


def _of_rank(table: dict[int, Any], rank: int, op: str) -> Any:
    if rank not in table:
        raise NotImplementedError(f"{op} of {rank} spatial dimensions; supported are 1, 2 and 3")
    return table[rank]


@imports("Conv", since=1)
def conv(node: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    sizes = list(x.shape[2:])
    run = _of_rank(_CONVOLUTIONS, len(sizes), "Conv")
    kernel = node.get("kernel_shape") or list(weight.shape[2:])
    found = windows_of(node, sizes, kernel)
    padding: list[int] = found.low
    if found.low != found.high or min(found.low) < 0:
        x = padded(x, [0, 0, *found.low], [0, 0, *found.high])
        padding = [0] * len(sizes)
    return run(
        x,
        weight,
        bias,
        stride=tuple(found.stride),
        padding=tuple(padding),
        dilation=tuple(found.dilation),
        groups=node.get("group", 1),
    )


@imports("ConvTranspose", since=1)
def conv_transpose(node: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    sizes = list(x.shape[2:])
    rank = len(sizes)
    run = _of_rank(_TRANSPOSED, rank, "ConvTranspose")
    kernel = list(weight.shape[2:])
    stride = node.get("strides") or [1] * rank
    dilation = node.get("dilations") or [1] * rank
    extra = node.get("output_padding") or [0] * rank
    whole = [(sizes[d] - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1 for d in range(rank)]
    pads = node.get("pads") or [0] * (2 * rank)
    low, high = list(pads[:rank]), list(pads[rank:])
    wanted = node.get("output_shape")
    auto = node.get("auto_pad", "NOTSET")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [s * t for s, t in zip(sizes, stride, strict=True)]
    if wanted is not None:
        wanted = wanted[-rank:]
        for d in range(rank):
            total = whole[d] + extra[d] - wanted[d]
            # Of an odd number, one more is cut off before, but for SAME_UPPER. What is too short
            # is extended behind.
            half = max(total, 0) // 2
            low[d] = half if auto == "SAME_UPPER" else max(total, 0) - half
            high[d] = total - low[d]
    options = {"stride": tuple(stride), "dilation": tuple(dilation), "groups": node.get("group", 1)}
    fits = all(0 <= e < max(s, t) for e, s, t in zip(extra, stride, dilation, strict=True))
    if low == high and fits and min(low) >= 0:
        return run(x, weight, bias, padding=tuple(low), output_padding=tuple(extra), **options)
    y = run(x, weight, None, **options)
    behind = [e - h for e, h in zip(extra, high, strict=True)]
    y = padded(y, [0, 0, *(-v for v in low)], [0, 0, *behind])
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


@imports("Col2Im", since=18, read=(1, 2))
def col2im(node: Any, x: Tensor, image: np.ndarray, block: np.ndarray) -> Tensor:
    rank = len(image)
    sizes, kernel = [int(v) for v in image], [int(v) for v in block]
    stride = node.get("strides") or [1] * rank
    dilation = node.get("dilations") or [1] * rank
    pads = node.get("pads") or [0] * (2 * rank)
    whole = [s + a + b for s, a, b in zip(sizes, pads[:rank], pads[rank:], strict=True)]
    counts = [
        (w - d * (k - 1) - 1) // s + 1
        for w, d, k, s in zip(whole, dilation, kernel, stride, strict=True)
    ]
    places = np.zeros((*kernel, *counts), np.int64)
    for d in range(rank):
        taps = np.arange(kernel[d]) * dilation[d]
        line = np.add.outer(taps, np.arange(counts[d]) * stride[d])
        shape = [1] * (2 * rank)
        shape[d], shape[rank + d] = line.shape
        places = places * whole[d] + line.reshape(shape)
    n, channels = x.shape[0], x.shape[1] // int(np.prod(kernel))
    flat = braze.zeros(n, channels, int(np.prod(whole)), dtype=x.dtype)
    flat = flat.index_add(2, braze.from_numpy(places.reshape(-1)), x.reshape(n, channels, -1))
    low, high = [-v for v in pads[:rank]], [-v for v in pads[rank:]]
    return padded(flat.reshape(n, channels, *whole), [0, 0, *low], [0, 0, *high])


@imports("ConvInteger", since=10)
def conv_integer(
    node: Any,
    x: Tensor,
    weight: Tensor,
    x_zero: Tensor | None = None,
    weight_zero: Tensor | None = None,
) -> Tensor:
    if weight_zero is not None and weight_zero.dim():
        weight_zero = weight_zero.reshape(-1, *[1] * (x.dim() - 1))
    x, weight = shifted(x, x_zero), shifted(weight, weight_zero)
    # Sums of products of 8 bits are whole numbers that doubles hold exactly.
    return conv(node, x.to(braze.float64), weight.to(braze.float64)).to(braze.int32)


@imports("QLinearConv", since=10)
def qlinear_conv(
    node: Any,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    total = conv_integer(node, x, weight, x_zero, weight_zero)
    rank = x.dim() - 2
    if bias is not None:
        total = total + bias.reshape(-1, *[1] * rank)
    scale = weight_scale.reshape(-1, *[1] * rank) if weight_scale.dim() else weight_scale
    return quantized(total.to(braze.float32) * (x_scale * scale / y_scale), y_zero)
