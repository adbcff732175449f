"""Average pooling over 1, 2 or 3 spatial dimensions of [N, C, spatial...], fixed and adaptive.

Both are linear. The adjoint of each is an operation of its own, whose gradient is the pooling.
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import i64
from braze.ir.errors import ShapeError
from braze.ir.op import AttributeKind, declare
from braze.ir.ops.composite import (
    Ints,
    along,
    as_dtype,
    channels_last,
    channels_second,
    require_floating,
    widened,
)
from braze.ir.ops.convolution import pad_or_crop
from braze.ir.ops.pooling_windows import (
    all_are_taps,
    joined,
    meetings,
    of_blocks,
    overlapped,
    paired,
    pooled_size,
    reach,
    spatial_dims,
    taps_of_blocks,
)
from braze.ir.types import Shape, TensorType

# avg_pool -----------------------------------------------------------------------------------------


def _avg_pool_types(
    x: TensorType,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
) -> tuple[TensorType, ...]:
    require_floating("avg_pool", x)
    ones = (1,) * len(kernel)
    size = pooled_size("avg_pool", x, kernel, stride, padding, ones, ceil_mode)
    return (x.with_shape((*x.shape[:2], *size)),)


def _divided(
    b: Any, value: Any, size: Ints, kernel: Ints, stride: Ints, padding: Ints, include: bool
) -> Any:
    """Divide windows' values [N, count..., C] by the number of elements in each window.

    A window counts what lies in the input and, with `include`, in its padding (torch.nn.AvgPool2d).
    """
    shape = value.type.shape
    constant = 1
    for axis, (n, k, s, p) in enumerate(zip(size, kernel, stride, padding, strict=True), start=1):
        low, high = (-p, n + p) if include else (0, n)
        starts = [place * s - p for place in range(shape[axis])]
        counts = {min(start + k, high) - max(start, low) for start in starts}
        if len(counts) == 1:
            constant *= counts.pop()
            continue
        start = b.sub(b.mul(b.iota(shape=along(shape, axis), dim=axis, dtype=i64), s), p)
        number = b.sub(b.minimum(b.add(start, k), high), b.maximum(start, low))
        value = b.div(value, b.cast(number, dtype=value.type.dtype))
    return value if constant == 1 else b.div(value, float(constant))


def _avg_pool(
    b: Any,
    x: Any,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Any:
    size, ones = x.type.shape[2:], (1,) * len(kernel)
    count = pooled_size("avg_pool", x.type, kernel, stride, padding, ones, ceil_mode)
    high = tuple(max(a, 0) for a in reach(size, count, kernel, stride, padding, ones))
    last = pad_or_crop(b, widened(b, channels_last(b, x)), padding, high)
    view = b.window(last, dims=spatial_dims(kernel), size=kernel, stride=stride, dilation=ones)
    taps = tuple(range(x.type.rank, x.type.rank + len(kernel)))
    total = b.sum(view, dims=taps, keepdim=False)
    out = _divided(b, total, size, kernel, stride, padding, count_include_pad)
    return channels_second(b, as_dtype(b, out, x.type.dtype))


WINDOWS: dict[str, AttributeKind] = {
    "kernel": tuple,
    "stride": tuple,
    "padding": tuple,
    "ceil_mode": bool,
    "count_include_pad": bool,
}


def _avg_pool_gradient(
    b: Any,
    g: Any,
    x_type: TensorType,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Any:
    return b.avg_pool_grad(
        g,
        input_size=x_type.shape[2:],
        kernel=kernel,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


avg_pool = declare(
    "avg_pool",
    "composite",
    "x",
    infer=_avg_pool_types,
    decompose=_avg_pool,
    attributes=WINDOWS,
    gradients={"x": _avg_pool_gradient},
    doc="""The mean of each window of [N, C, spatial...]; padding counts as zeros, or, where
`count_include_pad` is false, not at all.""",
)


def _avg_pool_grad_types(
    out: TensorType, *, input_size: Ints, **windows: Any
) -> tuple[TensorType, ...]:
    x = out.with_shape((*out.shape[:2], *input_size))
    if _avg_pool_types(x, **windows) != (out,):
        raise ShapeError(f"[avg_pool_grad] {out} is not what pooling {x} gives")
    return (x,)


def _avg_pool_grad(
    b: Any,
    out: Any,
    *,
    input_size: Ints,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Any:
    ones = (1,) * len(kernel)
    wide = widened(b, channels_last(b, out))
    share = _divided(b, wide, input_size, kernel, stride, padding, count_include_pad)
    met = meetings(kernel, stride, padding, ones)
    if met is not None:
        total = _of_met_windows(b, share, met, kernel, stride, padding, input_size)
    else:
        shape = share.type.shape
        spread = b.expand(b.reshape(share, shape=(*shape, *ones)), shape=(*shape, *kernel))
        total = overlapped(b, spread, input_size, kernel, stride, padding, ones)
    return channels_second(b, as_dtype(b, total, out.type.dtype))


def _of_met_windows(
    b: Any,
    share: Any,
    met: list[Ints],
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    input_size: Ints,
) -> Any:
    """Each element takes the shares of the windows that it meets; channels last."""
    total = None
    for back in met:
        part = of_blocks(b, share, back, stride, input_size)
        if all_are_taps(back, kernel, stride, padding):
            batch, *places, channels = part.type.shape
            part = b.expand(part, shape=(batch, *paired(places[::2], stride), channels))
        else:
            own = taps_of_blocks(b, back, kernel, stride, padding)
            part = b.where(b.ge(own, 0), part, 0.0)
        total = part if total is None else b.add(total, part)
    return joined(b, total, input_size)


avg_pool_grad = declare(
    "avg_pool_grad",
    "composite",
    "out",
    infer=_avg_pool_grad_types,
    decompose=_avg_pool_grad,
    attributes={"input_size": tuple, **WINDOWS},
    results="x",
    gradients={
        "out": lambda b, g, kernel, stride, padding, ceil_mode, count_include_pad: b.avg_pool(
            g,
            kernel=kernel,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )
    },
    doc="The gradient of avg_pool for its input of spatial size `input_size`.",
)

# adaptive_avg_pool --------------------------------------------------------------------------------


def _adaptive_types(x: TensorType, *, output: Ints) -> tuple[TensorType, ...]:
    require_floating("adaptive_avg_pool", x)
    if not 1 <= x.rank - 2 <= 3 or len(output) != x.rank - 2 or min(output) < 1:
        raise ShapeError(
            f"[adaptive_avg_pool] needs a positive output size for each spatial dimension of {x}, "
            f"given {output}"
        )
    if 0 in x.shape[2:]:
        raise ShapeError(f"[adaptive_avg_pool] a spatial dimension is empty: {x}")
    return (x.with_shape((*x.shape[:2], *output)),)


def _weights(b: Any, size: int, output: int, like: Any) -> Any:
    """[output, size]: 1 / count where element i is in bin o, else 0; the bins are as in the doc."""
    o = b.iota(shape=(output, 1), dim=0, dtype=i64)
    i = b.iota(shape=(1, size), dim=1, dtype=i64)
    first = b.floor_divide(b.mul(o, size), output)
    stop = b.floor_divide(b.add(b.mul(b.add(o, 1), size), output - 1), output)
    inside = b.bitwise_and(b.ge(i, first), b.lt(i, stop))
    number = b.cast(b.sub(stop, first), dtype=like.type.dtype)
    return b.div(b.cast(inside, dtype=like.type.dtype), number)


def _each_dimension(b: Any, x: Any, sizes: Ints, transposed: bool) -> Any:
    """Contract the spatial dimensions one by one with their weights."""
    letters = "nchwd"[: x.type.rank]
    for axis, wanted in enumerate(sizes, start=2):
        have = x.type.shape[axis]
        small, large = (have, wanted) if transposed else (wanted, have)
        if have == wanted:
            continue
        weights = _weights(b, large, small, x)
        term = f"{letters[axis]}o" if transposed else f"o{letters[axis]}"
        result = letters[:axis] + "o" + letters[axis + 1 :]
        x = b.contract(x, weights, equation=f"{letters},{term}->{result}")
    return x


def _bins(shape: Shape, output: Ints) -> Ints | None:
    """Sizes of the bins where all are equal."""
    if any(size % wanted for size, wanted in zip(shape, output, strict=True)):
        return None
    return tuple(size // wanted for size, wanted in zip(shape, output, strict=True))


def _adaptive(b: Any, x: Any, *, output: Ints) -> Any:
    kernel = _bins(x.type.shape[2:], output)
    wide = widened(b, x)
    if kernel is None:
        return as_dtype(b, _each_dimension(b, wide, output, False), x.type.dtype)
    last = channels_last(b, wide)
    shape = (x.type.shape[0], *paired(output, kernel), x.type.shape[1])
    split = b.reshape(last, shape=shape)
    over = tuple(range(2, 2 * len(kernel) + 1, 2))
    out = b.div(b.sum(split, dims=over, keepdim=False), float(math.prod(kernel)))
    return channels_second(b, as_dtype(b, out, x.type.dtype))


adaptive_avg_pool = declare(
    "adaptive_avg_pool",
    "composite",
    "x",
    infer=_adaptive_types,
    decompose=_adaptive,
    attributes={"output": tuple},
    gradients={"x": lambda b, g, x_type: b.adaptive_avg_pool_grad(g, input_size=x_type.shape[2:])},
    doc="""Means of `output` many bins along the spatial dimensions of [N, C, spatial...]. Bin o of
m covers floor(o n / m) up to ceil((o + 1) n / m) of n elements (torch.nn.AdaptiveAvgPool2d).""",
)


def _adaptive_grad_types(out: TensorType, *, input_size: Ints) -> tuple[TensorType, ...]:
    x = out.with_shape((*out.shape[:2], *input_size))
    _adaptive_types(x, output=out.shape[2:])
    return (x,)


def _adaptive_grad(b: Any, out: Any, *, input_size: Ints) -> Any:
    kernel = _bins(input_size, out.type.shape[2:])
    if kernel is None:
        wide = _each_dimension(b, widened(b, out), input_size, True)
        return as_dtype(b, wide, out.type.dtype)
    return b.avg_pool_grad(
        out,
        input_size=input_size,
        kernel=kernel,
        stride=kernel,
        padding=(0,) * len(kernel),
        ceil_mode=False,
        count_include_pad=True,
    )


adaptive_avg_pool_grad = declare(
    "adaptive_avg_pool_grad",
    "composite",
    "out",
    infer=_adaptive_grad_types,
    decompose=_adaptive_grad,
    attributes={"input_size": tuple},
    results="x",
    gradients={
        "out": lambda b, g, out_type: b.adaptive_avg_pool(g, output=out_type.shape[2:]),
    },
    doc="The gradient of adaptive_avg_pool for its input of spatial size `input_size`.",
)
