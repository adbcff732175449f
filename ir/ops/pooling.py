"""Max pooling over 1, 2 or 3 spatial dimensions of [N, C, spatial...] and what differentiates it.

Besides the maxima, `max_pool` gives `taps`: which element of its window each maximum is, 0, 1, ...
row-major. They fit u8 for windows of up to 256, and the gradient needs nothing else. The two linear
operations on chosen elements are each other's adjoint:

    max_pool_grad (out, taps) -> x    adds each value to its window's chosen element
    max_pool_pick (x, taps) -> out    reads each window's chosen element
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from braze.ir.dtypes import DType, bool_, i32, i64, u8
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import (
    Ints,
    along,
    as_dtype,
    channels_last,
    channels_second,
    widened,
)
from braze.ir.ops.convolution import pad_or_crop
from braze.ir.ops.pooling_windows import (
    flat_place,
    joined,
    meetings,
    of_blocks,
    overlapped,
    pooled_size,
    reach,
    spatial_dims,
    tap_numbers,
    taps_along,
    taps_of_blocks,
)
from braze.ir.types import TensorType, tensor_type

# max_pool -----------------------------------------------------------------------------------------


def tap_dtype(kernel: Ints) -> DType:
    """The dtype of `taps`."""
    return u8 if math.prod(kernel) <= 256 else i32


def lowest(dtype: DType) -> float:
    """What no element is below."""
    return -math.inf if dtype.is_floating_point else int(np.iinfo(dtype.numpy).min)


def _max_pool_types(
    x: TensorType, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool
) -> tuple[TensorType, ...]:
    if x.dtype is bool_:
        raise DTypeError(f"[max_pool] needs a numeric operand, given {x}")
    size = pooled_size("max_pool", x, kernel, stride, padding, dilation, ceil_mode)
    shape = (*x.shape[:2], *size)
    indices, taps = (tensor_type(t, shape) for t in (i64, tap_dtype(kernel)))
    return (x.with_shape(shape), indices, taps)


def _max_pool(
    b: Any,
    x: Any,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> Any:
    size = x.type.shape[2:]
    count = pooled_size("max_pool", x.type, kernel, stride, padding, dilation, ceil_mode)
    after = reach(size, count, kernel, stride, padding, dilation)
    high = tuple(max(a, 0) for a in after)
    last = pad_or_crop(b, channels_last(b, x), padding, high, value=lowest(x.type.dtype))
    view = b.window(last, dims=spatial_dims(kernel), size=kernel, stride=stride, dilation=dilation)
    lead = view.type.shape[: -len(kernel)]
    row = b.reshape(view, shape=(*lead, math.prod(kernel)))
    over = {"dims": (len(lead),), "keepdim": False}
    out, tap = b.amax(row, **over), b.argmax(row, **over)
    if any(padding):
        # Nothing inside is above the padding's value: the first element inside is meant.
        inside = _first_inside(b, tap.type.shape, kernel, stride, padding, dilation)
        tap = b.where(b.eq(tap, 0), inside, tap)
    indices = _plane_index(b, tap, size, kernel, stride, padding, dilation)
    results = (out, indices, as_dtype(b, tap, tap_dtype(kernel)))
    return tuple(channels_second(b, value) for value in results)


def _first_inside(
    b: Any, shape: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> Any:
    """The first tap of each window [N, places..., C] that does not lie in the padding before the
    input. (One in the padding behind it is never the first.)"""
    flat = b.full(shape=(1,) * len(shape), value=0.0, dtype=i64)
    for axis, (k, s, p, d) in enumerate(zip(kernel, stride, padding, dilation, strict=True), 1):
        flat, windows = b.mul(flat, k), shape[axis]
        begin_outside = min(-(-p // s), windows)
        if begin_outside:
            some = along((*shape[:axis], begin_outside, *shape[axis + 1 :]), axis)
            place = b.mul(b.iota(shape=some, dim=axis, dtype=i64), -s)
            own = b.floor_divide(b.add(place, p + d - 1), d)
            high = tuple(windows - begin_outside if d == axis else 0 for d in range(len(shape)))
            none = (0,) * len(shape)
            own = b.pad(own, low=none, high=high, interior=none, value=0.0)
            flat = b.add(flat, own)
    return b.expand(flat, shape=shape)


def _plane_index(
    b: Any, tap: Any, size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> Any:
    """The flat index in the input's plane of each window's chosen tap (i64, channels last)."""
    shape = tap.type.shape

    def places() -> Iterator[Any]:
        for axis, own in enumerate(taps_along(b, tap, kernel)):
            ramp = b.iota(shape=along(shape, axis + 1), dim=axis + 1, dtype=i64)
            start = b.mul(ramp, stride[axis])
            place = b.add(b.mul(own, dilation[axis]), start)
            yield b.sub(place, padding[axis]) if padding[axis] else place

    return flat_place(b, places(), size)


def _max_pool_array(
    x: np.ndarray,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> tuple[np.ndarray, ...]:
    """One pass over the input for each tap: no copy of the windows."""
    x_type = tensor_type(i64, x.shape)
    size = x.shape[2:]
    count = pooled_size("max_pool", x_type, kernel, stride, padding, dilation, ceil_mode)
    after = reach(size, count, kernel, stride, padding, dilation)
    low = -np.inf if x.dtype.kind not in "iu" else np.iinfo(x.dtype).min
    borders = [(0, 0), (0, 0), *((p, max(a, 0)) for p, a in zip(padding, after, strict=True))]
    padded = np.pad(x, borders, constant_values=low) if np.any(borders) else x
    with_nan = x.dtype.kind not in "iu" and bool(np.isnan(x).any())
    best: np.ndarray | None = None
    taps = np.zeros((*x.shape[:2], *count), dtype=tap_dtype(kernel).numpy)
    for number, tap in enumerate(np.ndindex(*kernel)):
        places = [slice(None), slice(None)]
        for t, n, s, d in zip(tap, count, stride, dilation, strict=True):
            places.append(slice(t * d, t * d + (n - 1) * s + 1, s))
        here = padded[tuple(places)]
        if best is None:
            best = here.copy()
            continue
        better = here > best
        if with_nan:
            better |= np.isnan(here) & ~np.isnan(best)
        np.copyto(best, here, where=better)
        np.copyto(taps, taps.dtype.type(number), where=better)
    assert best is not None
    if any(padding):
        inside = _first_inside_array(count, kernel, stride, padding, dilation)
        np.copyto(taps, inside, where=taps == 0)
    return best, _plane_index_array(taps, size, kernel, stride, padding, dilation), taps


def _first_inside_array(
    count: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> np.ndarray:
    """As `_first_inside`, without the dimensions of batch and channels."""
    flat = np.zeros((1,) * len(count), tap_dtype(kernel).numpy)
    for axis, (n, k, s, p, d) in enumerate(
        zip(count, kernel, stride, padding, dilation, strict=True)
    ):
        own = -(-np.maximum(p - np.arange(n) * s, 0) // d)
        flat = flat * k + own.reshape([-1 if a == axis else 1 for a in range(len(count))])
    return flat.astype(tap_dtype(kernel).numpy)


def _plane_index_array(
    taps: np.ndarray, size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> np.ndarray:
    """As `_plane_index`: each axis' places for each tap by table."""
    indices = np.zeros(taps.shape, dtype=np.int64)
    numbers = np.unravel_index(np.arange(math.prod(kernel)), kernel)
    for axis, offsets in enumerate(numbers):
        starts = np.arange(taps.shape[axis + 2]) * stride[axis] - padding[axis]
        starts = starts.reshape([-1 if a == axis else 1 for a in range(len(kernel))])
        place = (offsets * dilation[axis])[taps] + starts
        indices *= size[axis]
        indices += place
    return indices


GEOMETRY = {"kernel": tuple, "stride": tuple, "padding": tuple, "dilation": tuple}
max_pool = declare(
    "max_pool",
    "composite",
    "x",
    infer=_max_pool_types,
    evaluate=_max_pool_array,
    decompose=_max_pool,
    attributes={**GEOMETRY, "ceil_mode": bool},
    results="out indices taps",
    gradients={
        "x": lambda b, g, taps, x_type, kernel, stride, padding, dilation: b.max_pool_grad(
            g,
            taps,
            input_size=x_type.shape[2:],
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
    },
    doc="""The maximum of each window of [N, C, spatial...]; outside is -inf. `indices` are their
flat places in the input plane (i64, as PyTorch's), `taps` their places in the windows. The first of
equal maxima counts, and padding never; nan is above all.""",
)

# The gradient and its adjoint ---------------------------------------------------------------------


def _grad_types(
    out: TensorType,
    taps: TensorType,
    *,
    input_size: Ints,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
) -> tuple[TensorType, ...]:
    if out.dtype is bool_:
        raise DTypeError(f"[max_pool_grad] needs a numeric operand, given {out}")
    if taps.shape != out.shape or taps.dtype is not tap_dtype(kernel):
        raise ShapeError(f"[max_pool_grad] {taps} are not the taps of {out}")
    return (out.with_shape((*out.shape[:2], *input_size)),)


def _max_pool_grad(
    b: Any,
    out: Any,
    taps: Any,
    *,
    input_size: Ints,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
) -> Any:
    upstream, chosen = channels_last(b, out), channels_last(b, taps)
    met = meetings(kernel, stride, padding, dilation)
    if met is not None:
        geometry = kernel, stride, padding
        total = _of_met_windows(b, widened(b, upstream), chosen, met, *geometry, input_size)
        return channels_second(b, as_dtype(b, total, out.type.dtype))
    shape = upstream.type.shape
    ones = (1,) * len(kernel)
    numbers = tap_numbers(b, kernel, chosen.type.dtype)
    mine = b.eq(b.reshape(chosen, shape=(*shape, *ones)), numbers)
    spread = b.where(mine, b.reshape(upstream, shape=(*shape, *ones)), 0.0)
    return channels_second(b, overlapped(b, spread, input_size, kernel, stride, padding, dilation))


def _of_met_windows(
    b: Any,
    upstream: Any,
    chosen: Any,
    met: list[Ints],
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    input_size: Ints,
) -> Any:
    """Each element asks the windows that it meets whether it is the chosen one; channels last."""
    total = None
    for back in met:
        here = of_blocks(b, upstream, back, stride, input_size)
        asked = of_blocks(b, chosen, back, stride, input_size)
        own = taps_of_blocks(b, back, kernel, stride, padding)
        part = b.where(b.eq(b.cast(asked, dtype=i32), own), here, 0.0)
        total = part if total is None else b.add(total, part)
    return joined(b, total, input_size)


max_pool_grad = declare(
    "max_pool_grad",
    "composite",
    "out taps",
    infer=_grad_types,
    decompose=_max_pool_grad,
    attributes={"input_size": tuple, **GEOMETRY},
    results="x",
    gradients={
        "out": lambda b, g, taps, kernel, stride, padding, dilation: b.max_pool_pick(
            g, taps, kernel=kernel, stride=stride, padding=padding, dilation=dilation
        )
    },
    doc="The gradient of max_pool for its input of spatial size `input_size`.",
)


def _pick_types(
    x: TensorType, taps: TensorType, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> tuple[TensorType, ...]:
    if x.dtype is bool_:
        raise DTypeError(f"[max_pool_pick] needs a numeric operand, given {x}")
    if taps.shape[:2] != x.shape[:2] or taps.dtype is not tap_dtype(kernel):
        raise ShapeError(f"[max_pool_pick] {taps} are not taps of windows of {x}")
    return (x.with_shape(taps.shape),)


def _max_pool_pick(
    b: Any, x: Any, taps: Any, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> Any:
    after = reach(x.type.shape[2:], taps.type.shape[2:], kernel, stride, padding, dilation)
    high = tuple(max(a, 0) for a in after)
    last = pad_or_crop(b, channels_last(b, x), padding, high)
    view = b.window(last, dims=spatial_dims(kernel), size=kernel, stride=stride, dilation=dilation)
    lead = view.type.shape[: -len(kernel)]
    chosen = b.reshape(channels_last(b, taps), shape=(*lead, *(1,) * len(kernel)))
    numbers = tap_numbers(b, kernel, taps.type.dtype)
    picked = b.where(b.eq(chosen, numbers), view, 0.0)
    over = tuple(range(len(lead), len(lead) + len(kernel)))
    return channels_second(b, b.sum(picked, dims=over, keepdim=False))


max_pool_pick = declare(
    "max_pool_pick",
    "composite",
    "x taps",
    infer=_pick_types,
    decompose=_max_pool_pick,
    attributes=GEOMETRY,
    gradients={
        "x": lambda b, g, taps, x_type, kernel, stride, padding, dilation: b.max_pool_grad(
            g,
            taps,
            input_size=x_type.shape[2:],
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
    },
    doc="The element of each window that `taps` names, 0 where that is padding.",
)
