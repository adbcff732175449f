"""The gradients of convolution, and the transposed convolution.

There are three bilinear operations (s stride, d dilation, p padding):

    conv              (x, weight)    -> out       out[o] = sum_k x[o * s + k * d - p] * weight[k]
    conv_input_grad   (out, weight)  -> x         x[i] = sum over o * s + k * d - p = i
    conv_weight_grad  (x, out)       -> weight    weight[k] = sum_o x[o * s + k * d - p] * out[o]

The derivatives of each are the other two, so that derivatives of any order are again convolutions.
`conv_transpose` is `conv_input_grad` under the name and with the attributes that users know.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from braze.ir.errors import ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import (
    Ints,
    channels_last,
    channels_second,
    cut,
    require_floating,
    reshaped,
)
from braze.ir.ops.convolution import (
    FEWEST_CHANNELS,
    GEOMETRY,
    SPATIAL,
    TAPS,
    check_geometry,
    check_weight,
    grouped,
    output_size,
    pad_or_crop,
    padded_last,
    taps_first,
    terms,
    ungrouped,
    windows_of,
)
from braze.ir.ops.convolution_depthwise import depthwise_back, is_depthwise
from braze.ir.ops.convolution_phases import (
    Phase,
    are_few,
    are_narrow,
    are_uniform,
    interleaved,
    phases,
)
from braze.ir.ops.rules import common_dtype
from braze.ir.types import TensorType, tensor_type

PHASES = "rst"
HALVES = "xyz"


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
    x = tensor_type(dtype, shape)
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
    """x[i] is a window of `out` under the flipped weight, or under the taps of a stride's phase."""
    kernel = weight.type.shape[2:]
    if max(stride) == 1:
        whole = [
            Phase(0, 1, k, d, d * (k - 1) - p, size + p - n)
            for size, n, k, p, d in zip(
                input_size, out.type.shape[2:], kernel, padding, dilation, strict=True
            )
        ]
        return _phase(b, out, weight, whole, groups)
    single = is_depthwise(weight.type.shape, groups)
    if not single and are_uniform(kernel, stride, dilation):
        return _uniform(b, out, weight, input_size, stride, padding, dilation, groups)
    each = [
        phases(*numbers)
        for numbers in zip(
            input_size, out.type.shape[2:], kernel, stride, padding, dilation, strict=True
        )
    ]
    if not are_few(each):
        return _spread(b, out, weight, input_size, stride, padding, dilation, groups)
    x = interleaved(
        b, each, input_size, stride, 2, lambda chosen: _phase(b, out, weight, chosen, groups)
    )
    if x is not None:
        return x
    shape = (out.type.shape[0], weight.type.shape[1] * groups, *input_size)
    return b.full(shape=shape, value=0.0, dtype=out.type.dtype)


def _phase(b: Any, out: Any, weight: Any, chosen: list[Phase], groups: int) -> Any:
    """One phase's positions of each dimension: [N, C, positions...]."""
    rank = weight.type.rank
    starts, stops, steps = [0, 0], list(weight.type.shape[:2]), [1, 1]
    for phase in chosen:
        starts.append(phase.first)
        stops.append(phase.first + (phase.taps - 1) * phase.step + 1)
        steps.append(phase.step)
    if (tuple(stops), max(starts), max(steps)) != (weight.type.shape, 0, 1):
        weight = b.slice(weight, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))
    kernel = tuple(phase.taps for phase in chosen)
    if max(kernel) > 1:
        weight = b.flip(weight, dims=tuple(range(2, rank)))
    low, high = tuple(phase.low for phase in chosen), tuple(phase.high for phase in chosen)
    return _stride_one(b, out, weight, low, high, tuple(p.dilation for p in chosen), groups)


def _stride_one(
    b: Any,
    out: Any,
    flipped: Any,
    low: Ints,
    high: Ints,
    dilation: Ints,
    groups: int,
    gap: Ints | None = None,
) -> Any:
    """Windows of [N, out, spatial...] with this border under the flipped weight."""
    kernel = flipped.type.shape[2:]
    if is_depthwise(flipped.type.shape, groups):
        padded = pad_or_crop(b, out, low, high, gap=gap, first=2)
        return depthwise_back(b, padded, flipped, dilation, groups)
    channels = flipped.type.shape[1] * groups
    padded = padded_last(b, out, low, high, channels, groups, gap)
    view = windows_of(b, padded, kernel, (1,) * len(kernel), dilation, groups)
    windows, taps, result = terms(len(kernel), groups)
    swap = str.maketrans("co", "oc")
    equation = f"{windows.translate(swap)},{taps}->{result.translate(swap)}"
    x = b.contract(view, taps_first(b, flipped, groups), equation=equation)
    return channels_second(b, ungrouped(b, x, groups))


def _spread(
    b: Any,
    out: Any,
    weight: Any,
    input_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Any:
    """All taps at every position, over `out` with zeros between its elements."""
    low, high = [], []
    for size, n, k, s, p, d in zip(
        input_size, out.type.shape[2:], weight.type.shape[2:], stride, padding, dilation,
        strict=True,
    ):  # fmt: skip
        low.append(d * (k - 1) - p)
        # Rows of x that no window reaches are beyond the last window: more zeros.
        high.append(size + p - (n - 1) * s - 1)
    flipped = b.flip(weight, dims=tuple(range(2, weight.type.rank)))
    gap = tuple(s - 1 for s in stride)
    return _stride_one(b, out, flipped, tuple(low), tuple(high), dilation, groups, gap)


def _uniform(
    b: Any,
    out: Any,
    weight: Any,
    input_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Any:
    """All phases in one contraction, for phases of equally many taps.

    Position i of x is q * s + r in phase r. It meets taps j * s + (r + p) % s and elements
    q - j * d + (r + p) // s of `out`: d is 1 in dimensions with strides. Phases that meet the same
    elements are columns; where those of the second half begin one element later, the halves are
    windows of their own. Otherwise positions are counted from the padding's begin, so that some at
    both ends are cut off in the end.
    """
    each, *kernel = weight.type.shape[1:]
    spatial = range(len(kernel))
    sizes = list(zip(input_size, out.type.shape[2:], kernel, stride, padding, strict=True))
    # Few channels need the phases beside them to fill vectors.
    wide = each >= FEWEST_CHANNELS
    halves = tuple(2 if wide and 2 * (p % s) == s else 1 for *_, s, p in sizes)
    taps = tuple(-(-k // s) for _, _, k, s, _ in sizes)
    first = [p // s for *_, s, p in sizes]
    start = [0 if half == 2 else p % s for half, (*_, s, p) in zip(halves, sizes, strict=True)]
    count = [-(-(row[0] + begin) // row[3]) for begin, row in zip(start, sizes, strict=True)]
    weight = _by_phase(b, weight, taps, halves, stride, groups)
    low = tuple((j - 1) * d - q for j, q, d in zip(taps, first, dilation, strict=True))
    high = tuple(
        q + c + half - 1 - row[1]
        for q, c, half, row in zip(first, count, halves, sizes, strict=True)
    )
    padded = pad_or_crop(b, channels_last(b, out), low, high)
    view = windows_of(b, padded, taps, (1,) * len(kernel), dilation, groups)
    if shifted := [d for d in spatial if halves[d] == 2]:
        twos, ones = (2,) * len(shifted), (1,) * len(shifted)
        dims = tuple(d + 1 for d in shifted)
        view = b.window(view, dims=dims, size=twos, stride=ones, dilation=ones)
    half = [HALVES[d] if d in shifted else "" for d in spatial]
    place, tap, group = SPATIAL[: len(kernel)], TAPS[: len(kernel)], "" if groups == 1 else "g"
    windows = f"n{place}{group}o{tap}{''.join(half)}"
    weights = f"{group}oc" + "".join(TAPS[d] + half[d] + PHASES[d] for d in spatial)
    result = "n" + "".join(SPATIAL[d] + half[d] + PHASES[d] for d in spatial) + f"{group}c"
    if not wide and max(taps) > 1 and are_narrow(stride):
        x = b.contract(
            view, _columns(b, weight, stride, groups),
            equation=f"{windows},{group}o{tap}c->n{place}{group}c",
        )  # fmt: skip
        x = _phases_apart(b, x, stride, groups)
    else:
        x = b.contract(view, weight, equation=f"{windows},{weights}->{result}")
    whole = tuple(c * s for c, s in zip(count, stride, strict=True))
    x = b.reshape(x, shape=(out.type.shape[0], *whole, each * groups))
    for dim, size in enumerate(input_size):
        if (start[dim], size) != (0, whole[dim]):
            x = cut(b, x, dim + 1, start[dim], start[dim] + size)
    return channels_second(b, x)


def _by_phase(b: Any, weight: Any, taps: Ints, halves: Ints, stride: Ints, groups: int) -> Any:
    """[groups, out / g, in / g, (taps, (halves,) phases)...], the taps in the order of windows and
    the halves in that of positions. Phases lack taps if the stride does not divide the kernel."""
    channels, each, *kernel = weight.type.shape
    missing = [j * s - k for j, s, k in zip(taps, stride, kernel, strict=True)]
    if max(missing) > 0:
        zeros = (0,) * weight.type.rank
        weight = b.pad(weight, low=zeros, high=(0, 0, *missing), interior=zeros, value=0.0)
    split = [channels, each] if groups == 1 else [groups, channels // groups, each]
    backwards: list[int] = []
    for j, half, s in zip(taps, halves, stride, strict=True):
        backwards += range(len(split), len(split) + half)
        split += [j, s] if half == 1 else [j, 2, s // 2]
    return b.flip(b.reshape(weight, shape=tuple(split)), dims=tuple(backwards))


def _columns(b: Any, weight: Any, stride: Ints, groups: int) -> Any:
    """The weight by phase, halves left out, as [groups, out / g, taps..., (phases..., in / g)]: all
    that a window is multiplied by, side by side in memory, where strides could not find it."""
    lead = 2 if groups == 1 else 3
    shape = weight.type.shape
    taps = shape[lead::2]
    parts = []
    for chosen in product(*map(range, stride)):
        starts, stops = [0] * lead, list(shape[:lead])
        for j, phase in zip(taps, chosen, strict=True):
            starts += [0, phase]
            stops += [j, phase + 1]
        part = b.slice(weight, starts=tuple(starts), stops=tuple(stops), steps=(1,) * len(shape))
        part = b.reshape(part, shape=(*shape[:lead], *taps))
        last = (*range(lead - 1), *range(lead, lead + len(taps)), lead - 1)
        parts.append(b.permute(part, dims=last))
    return b.concat(*parts, dim=lead - 1 + len(taps))


def _phases_apart(b: Any, x: Any, stride: Ints, groups: int) -> Any:
    """[N, spatial..., groups, (phases..., in / g)] as [N, (spatial, phases)..., groups, in / g]."""
    n, *count = x.type.shape[: len(stride) + 1]
    group = () if groups == 1 else (groups,)
    each = x.type.shape[-1] // prod(stride)
    x = b.reshape(x, shape=(n, *count, *group, *stride, each))
    first = 1 + len(count) + len(group)
    dims = [0]
    for d in range(len(stride)):
        dims += [1 + d, first + d]
    return b.permute(x, dims=(*dims, *range(1 + len(count), first), first + len(stride)))


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
    return (tensor_type(dtype, shape),)


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
