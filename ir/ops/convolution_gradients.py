"""The gradients of convolution, and the transposed convolution.

There are three bilinear operations (s stride, d dilation, p padding):

    conv              (x, weight)    -> out       out[o] = sum_k x[o * s + k * d - p] * weight[k]
    conv_input_grad   (out, weight)  -> x         x[i] = sum over o * s + k * d - p = i
    conv_weight_grad  (x, out)       -> weight    weight[k] = sum_o x[o * s + k * d - p] * out[o]

The derivatives of each are the other two, so that derivatives of any order are again convolutions.
`conv_transpose` is `conv_input_grad` under the name and with the attributes that users know.
"""

from __future__ import annotations

from typing import Any

from braze.ir.errors import ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import Ints, channels_last, channels_second, require_floating, reshaped
from braze.ir.ops.convolution import (
    GEOMETRY,
    check_geometry,
    check_weight,
    grouped,
    output_size,
    pad_or_crop,
    taps_first,
    terms,
    ungrouped,
    windows_of,
)
from braze.ir.ops.rules import common_device, common_dtype
from braze.ir.types import TensorType, tensor_type


def _input_grad_types(
    out: TensorType,
    weight: TensorType,
    *,
    input_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> tuple[TensorType, ...]:
    name = "conv_input_grad"
    dtype = common_dtype(name, out, weight)
    require_floating(name, out)
    spatial = check_geometry(name, out, stride, padding, dilation)
    check_weight(name, out, weight, spatial, groups)
    if out.shape[1] != weight.shape[0]:
        raise ShapeError(
            f"[{name}] channels differ: {out}, weight {weight} "
            f"({out.shape[1]} != {weight.shape[0]})"
        )
    shape = (out.shape[0], weight.shape[1] * groups, *input_size)
    x = tensor_type(dtype, shape, common_device(name, out, weight))
    size = output_size(name, x, weight.shape[2:], stride, padding, dilation)
    if size != out.shape[2:]:
        raise ShapeError(f"[{name}] {x} has windows {list(size)}, not those of {out}")
    return (x,)


def _input_grad(
    b: Any,
    out: Any,
    weight: Any,
    *,
    input_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Any:
    """x[i] is a window of `out`, spread by the stride, under the flipped weight."""
    kernel, rank = weight.type.shape[2:], weight.type.rank
    low, high = [], []
    for size, n, k, s, p, d in zip(
        input_size, out.type.shape[2:], kernel, stride, padding, dilation, strict=True
    ):
        low.append(d * (k - 1) - p)
        # Rows of x that no window reaches are beyond the last window: more zeros.
        high.append(size + p - (n - 1) * s - 1)
    spread = pad_or_crop(
        b, channels_last(b, out), tuple(low), tuple(high), gap=tuple(s - 1 for s in stride)
    )
    view = windows_of(b, spread, kernel, (1,) * len(kernel), dilation, groups)
    flipped = b.flip(weight, dims=tuple(range(2, rank))) if max(kernel) > 1 else weight
    windows, taps, result = terms(len(kernel), groups)
    swap = str.maketrans("co", "oc")
    equation = f"{windows.translate(swap)},{taps}->{result.translate(swap)}"
    x = b.contract(view, taps_first(b, flipped, groups), equation=equation)
    return channels_second(b, ungrouped(b, x, groups))


conv_input_grad = declare(
    "conv_input_grad",
    "composite",
    "out weight",
    infer=_input_grad_types,
    decompose=_input_grad,
    attributes={"input_size": tuple, **GEOMETRY},
    results="x",
    gradients={
        "out": lambda b, g, weight, stride, padding, dilation, groups: b.conv_no_bias(
            g, weight, stride=stride, padding=padding, dilation=dilation, groups=groups
        ),
        "weight": lambda b, g, out, weight_type, stride, padding, dilation, groups: (
            b.conv_weight_grad(
                g,
                out,
                kernel=weight_type.shape[2:],
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
            )
        ),
    },
    doc="The gradient of conv for its input of spatial size `input_size`, from that of its result.",
)


def _weight_grad_types(
    x: TensorType,
    out: TensorType,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> tuple[TensorType, ...]:
    name = "conv_weight_grad"
    dtype = common_dtype(name, x, out)
    require_floating(name, x)
    check_geometry(name, x, stride, padding, dilation)
    if groups < 1 or x.shape[1] % groups or out.shape[1] % groups:
        raise ShapeError(f"[{name}] groups={groups} does not divide the channels of {x}, {out}")
    size = output_size(name, x, kernel, stride, padding, dilation)
    if (x.shape[0], *size) != (out.shape[0], *out.shape[2:]):
        raise ShapeError(f"[{name}] {x} has windows {list(size)}, not those of {out}")
    shape = (out.shape[1], x.shape[1] // groups, *kernel)
    return (tensor_type(dtype, shape, common_device(name, x, out)),)


def _weight_grad(
    b: Any,
    x: Any,
    out: Any,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Any:
    padded = pad_or_crop(b, channels_last(b, x), padding, padding)
    view = windows_of(b, padded, kernel, stride, dilation, groups)
    upstream = grouped(b, channels_last(b, out), groups)
    windows, taps, result = terms(len(kernel), groups)
    weight = b.contract(view, upstream, equation=f"{windows},{result}->{taps}")
    spatial = tuple(range(len(kernel)))
    n = len(kernel)
    if groups == 1:
        return b.permute(weight, dims=(n + 1, n, *spatial))
    weight = b.permute(weight, dims=(n, n + 2, n + 1, *spatial))
    return reshaped(b, weight, (out.type.shape[1], x.type.shape[1] // groups, *kernel))


conv_weight_grad = declare(
    "conv_weight_grad",
    "composite",
    "x out",
    infer=_weight_grad_types,
    decompose=_weight_grad,
    attributes={"kernel": tuple, **GEOMETRY},
    results="weight",
    gradients={
        "x": lambda b, g, out, x_type, stride, padding, dilation, groups: b.conv_input_grad(
            out,
            g,
            input_size=x_type.shape[2:],
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        ),
        "out": lambda b, g, x, stride, padding, dilation, groups: b.conv_no_bias(
            x, g, stride=stride, padding=padding, dilation=dilation, groups=groups
        ),
    },
    doc="The gradient of conv for its weight with taps `kernel`, given that of its result.",
)

# conv_transpose -----------------------------------------------------------------------------------


def _transposed_size(
    x: TensorType, weight: TensorType, stride: Ints, padding: Ints, dilation: Ints, extra: Ints
) -> Ints:
    return tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, k, s, p, d, e in zip(
            x.shape[2:], weight.shape[2:], stride, padding, dilation, extra, strict=True
        )
    )


def _transpose_types(
    x: TensorType,
    weight: TensorType,
    *,
    stride: Ints,
    padding: Ints,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
) -> tuple[TensorType, ...]:
    name = "conv_transpose"
    spatial = check_geometry(name, x, stride, padding, dilation)
    if len(output_padding) != spatial or any(
        not 0 <= e < s for e, s in zip(output_padding, stride, strict=True)
    ):
        raise ShapeError(
            f"[{name}] output_padding must be less than the stride: {output_padding}, {stride}"
        )
    if weight.rank != spatial + 2 or x.shape[1] != weight.shape[0]:
        raise ShapeError(f"[{name}] input channels differ: input {x}, weight {weight}")
    size = _transposed_size(x, weight, stride, padding, dilation, output_padding)
    if min(size) < 1:
        raise ShapeError(f"[{name}] the result of {x} with weight {weight} would be {list(size)}")
    return _input_grad_types(
        x,
        weight,
        input_size=size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _transpose(b: Any, x: Any, weight: Any, *, output_padding: Ints, **geometry: Any) -> Any:
    stride, padding, dilation = (geometry[word] for word in ("stride", "padding", "dilation"))
    size = _transposed_size(x.type, weight.type, stride, padding, dilation, output_padding)
    return b.conv_input_grad(x, weight, input_size=size, **geometry)


conv_transpose = declare(
    "conv_transpose",
    "composite",
    "x weight",
    infer=_transpose_types,
    decompose=_transpose,
    attributes={"output_padding": tuple, **GEOMETRY},
    gradients={
        "x": lambda b, g, weight, stride, padding, dilation, groups: b.conv_no_bias(
            g, weight, stride=stride, padding=padding, dilation=dilation, groups=groups
        ),
        "weight": lambda b, g, x, weight_type, stride, padding, dilation, groups: (
            b.conv_weight_grad(
                g,
                x,
                kernel=weight_type.shape[2:],
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
            )
        ),
    },
    autocast="lower",
    doc="""Transposed convolution of [N, C, spatial...] with a weight [C, out / groups, taps...].
A dimension of n becomes (n - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1.
It has no bias operand.""",
)
