"""Convolutions over 1, 2 or 3 spatial dimensions as contractions of windows.

Tensors are [N, C, spatial...], weights [out, in / groups, taps...], as in PyTorch. Inside, channels
are innermost: permute, pad, `window`, contract, permute back. The gradients are operations of their
own, in `convolution_gradients`.
"""

from __future__ import annotations

from typing import Any

from braze.ir.errors import ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import Ints, channels_last, channels_second, require_floating
from braze.ir.ops.convolution_depthwise import depthwise, is_depthwise
from braze.ir.ops.movement import window_count
from braze.ir.ops.rules import common_dtype
from braze.ir.types import Shape, TensorType, tensor_type

SPATIAL = "hwd"
TAPS = "ijl"
# Vectors of fewer channels than this are worth less than vectors of positions.
FEWEST_CHANNELS = 8
GEOMETRY = {"stride": tuple, "padding": tuple, "dilation": tuple, "groups": int}


# Type rules ---------------------------------------------------------------------------------------


def check_geometry(name: str, x: TensorType, stride: Ints, padding: Ints, dilation: Ints) -> int:
    """The number of spatial dimensions of [N, C, spatial...]; raises ShapeError."""
    spatial = x.rank - 2
    if not 1 <= spatial <= 3:
        raise ShapeError(f"[{name}] needs [N, C] and 1 to 3 spatial dimensions, given {x}")
    for word, values in (("stride", stride), ("padding", padding), ("dilation", dilation)):
        if len(values) != spatial:
            raise ShapeError(f"[{name}] {word} needs {spatial} numbers for {x}, given {values}")
    if min(*stride, *dilation) < 1 or min(padding) < 0:
        raise ShapeError(
            f"[{name}] stride and dilation must be positive and padding not negative: "
            f"stride {stride}, padding {padding}, dilation {dilation}"
        )
    return spatial


def output_size(
    name: str, x: TensorType, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> Shape:
    """Spatial size of the windows' positions; raises ShapeError where no window fits."""
    sizes = []
    for size, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        span = d * (k - 1) + 1
        if k < 1 or size + 2 * p < span:
            raise ShapeError(
                f"[{name}] kernel {kernel} with dilation {dilation} does not fit {x} "
                f"with padding {padding} ({span} > {size + 2 * p})"
            )
        sizes.append(window_count(size + 2 * p, k, s, d))
    return tuple(sizes)


def check_weight(name: str, x: TensorType, weight: TensorType, spatial: int, groups: int) -> None:
    if weight.rank != spatial + 2:
        raise ShapeError(f"[{name}] {x} needs a weight of {spatial + 2} dimensions: {weight}")
    if groups < 1 or weight.shape[0] % groups:
        raise ShapeError(
            f"[{name}] groups={groups} does not divide the {weight.shape[0]} output channels "
            f"of weight {weight}"
        )


def _conv_types(
    x: TensorType,
    weight: TensorType,
    *,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> tuple[TensorType, ...]:
    dtype = common_dtype("conv", x, weight)
    require_floating("conv", x)
    spatial = check_geometry("conv", x, stride, padding, dilation)
    check_weight("conv", x, weight, spatial, groups)
    if x.shape[1] != weight.shape[1] * groups:
        raise ShapeError(
            f"[conv] input channels differ: input {x}, weight {weight}, groups={groups} "
            f"({x.shape[1]} != {weight.shape[1] * groups})"
        )
    size = output_size("conv", x, weight.shape[2:], stride, padding, dilation)
    return (tensor_type(dtype, (x.shape[0], weight.shape[0], *size)),)


def _biased_types(
    x: TensorType, weight: TensorType, bias: TensorType, **geometry: Any
) -> tuple[TensorType, ...]:
    (out,) = _conv_types(x, weight, **geometry)
    common_dtype("conv", x, weight, bias)
    if bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"[conv] the bias must be [{weight.shape[0]}] for weight {weight}, given {bias}"
        )
    return (out,)


# Steps of the decompositions ----------------------------------------------------------------------


def pad_or_crop(
    b: Any,
    x: Any,
    low: Ints,
    high: Ints,
    value: float = 0.0,
    gap: Ints | None = None,
    first: int = 1,
) -> Any:
    """Pad spatially; negative amounts crop. `gap` puts values between.

    Args:
        first: the first spatial dimension's number: 1 for [N, spatial..., C].
    """

    def around(amounts: Ints) -> Ints:
        return (*(0,) * first, *amounts, *(0,) * (x.type.rank - first - len(amounts)))

    interior = around((0,) * len(low) if gap is None else gap)
    before, after = around(low), around(high)
    if max(*before, *after, *interior) > 0:
        x = b.pad(
            x,
            low=tuple(max(n, 0) for n in before),
            high=tuple(max(n, 0) for n in after),
            interior=interior,
            value=value,
        )
    if min(*before, *after) < 0:
        x = b.slice(
            x,
            starts=tuple(max(-n, 0) for n in before),
            stops=tuple(size - max(-n, 0) for size, n in zip(x.type.shape, after, strict=True)),
            steps=(1,) * x.type.rank,
        )
    return x


def padded_last(
    b: Any, x: Any, low: Ints, high: Ints, results: int, groups: int, gap: Ints | None = None
) -> Any:
    """[N, C, spatial...] padded or cropped, as [N, spatial..., C].

    Groups with few of the `results` channels each fill vectors with positions, which lie side by
    side where channels come second: that is then the order of the padded copy.
    """
    if groups > 1 and results // groups < FEWEST_CHANNELS:
        return channels_last(b, pad_or_crop(b, x, low, high, gap=gap, first=2))
    return pad_or_crop(b, channels_last(b, x), low, high, gap=gap)


def grouped(b: Any, x: Any, groups: int) -> Any:
    """[N, spatial..., C] to [N, spatial..., groups, C / groups]; unchanged for one group."""
    if groups == 1:
        return x
    *lead, channels = x.type.shape
    return b.reshape(x, shape=(*lead, groups, channels // groups))


def ungrouped(b: Any, x: Any, groups: int) -> Any:
    if groups == 1:
        return x
    *lead, count, channels = x.type.shape
    return b.reshape(x, shape=(*lead, count * channels))


def taps_first(b: Any, weight: Any, groups: int) -> Any:
    """[out, in / g, taps...] to [taps..., in, out], or [taps..., g, in / g, out / g]."""
    out, channels, *taps = weight.type.shape
    if groups == 1:
        return b.permute(weight, dims=(*range(2, weight.type.rank), 1, 0))
    split = b.reshape(weight, shape=(groups, out // groups, channels, *taps))
    return b.permute(split, dims=(*range(3, split.type.rank), 0, 2, 1))


def windows_of(b: Any, x: Any, kernel: Ints, stride: Ints, dilation: Ints, groups: int) -> Any:
    """[N, size..., C] to [N, positions..., (groups,) C, taps...]."""
    dims = tuple(range(1, len(kernel) + 1))
    return b.window(grouped(b, x, groups), dims=dims, size=kernel, stride=stride, dilation=dilation)


def terms(spatial: int, groups: int) -> tuple[str, str, str]:
    """Letters of the windows, of the weight and of the result."""
    place, taps, group = SPATIAL[:spatial], TAPS[:spatial], "" if groups == 1 else "g"
    return f"n{place}{group}c{taps}", f"{taps}{group}co", f"n{place}{group}o"


def _conv(
    b: Any,
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Any:
    kernel = weight.type.shape[2:]
    if is_depthwise(weight.type.shape, groups):
        padded = pad_or_crop(b, x, padding, padding, first=2)
        out = depthwise(b, padded, weight, stride, dilation, groups)
        if bias is None:
            return out
        return b.add(out, b.reshape(bias, shape=(bias.type.numel, *(1,) * len(kernel))))
    padded = padded_last(b, x, padding, padding, weight.type.shape[0], groups)
    view = windows_of(b, padded, kernel, stride, dilation, groups)
    windows, taps, result = terms(len(kernel), groups)
    out = b.contract(view, taps_first(b, weight, groups), equation=f"{windows},{taps}->{result}")
    out = ungrouped(b, out, groups)
    return channels_second(b, out if bias is None else b.add(out, bias))


# conv ---------------------------------------------------------------------------------------------


def _input_gradient(
    b: Any,
    g: Any,
    weight: Any,
    x_type: TensorType,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Any:
    return b.conv_input_grad(
        g,
        weight,
        input_size=x_type.shape[2:],
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _weight_gradient(
    b: Any,
    g: Any,
    x: Any,
    weight_type: TensorType,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Any:
    return b.conv_weight_grad(
        x,
        g,
        kernel=weight_type.shape[2:],
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _bias_gradient(b: Any, g: Any) -> Any:
    return b.sum(g, dims=(0, *range(2, g.type.rank)), keepdim=False)


conv_no_bias = declare(
    "conv_no_bias",
    "composite",
    "x weight",
    infer=_conv_types,
    decompose=_conv,
    attributes=GEOMETRY,
    gradients={"x": _input_gradient, "weight": _weight_gradient},
    autocast="lower",
    doc="""Cross-correlation of [N, C, spatial...] with a weight [out, C / groups, taps...]:
out[n, o, i] = sum over c, k of x[n, c, i * stride + k * dilation - padding] * weight[o, c, k].""",
)
conv = declare(
    "conv",
    "composite",
    "x weight bias",
    infer=_biased_types,
    decompose=_conv,
    attributes=GEOMETRY,
    gradients={"x": _input_gradient, "weight": _weight_gradient, "bias": _bias_gradient},
    autocast="lower",
    doc="As conv_no_bias, with bias[o] added.",
)
