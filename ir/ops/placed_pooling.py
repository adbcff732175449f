"""Max pooling whose windows do not follow at one stride: adaptive and fractional.

Each window starts where integer arithmetic says, so that its elements are gathered: one gather over
all windows, reduced as it is read. The gradient adds each value at its window's flat index.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from braze.ir.dtypes import bool_, i64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import (
    Ints,
    along,
    channels_last,
    channels_second,
    cut,
    require_floating,
)
from braze.ir.ops.pooling_windows import flat_place, taps_along
from braze.ir.types import Shape, TensorType, tensor_type

# Steps that both share ----------------------------------------------------------------------------


def _pooled_types(name: str, x: TensorType, output: Ints) -> tuple[TensorType, TensorType]:
    """Types of the maxima and of their flat indices."""
    if x.dtype is bool_:
        raise DTypeError(f"[{name}] needs a numeric operand, given {x}")
    if not 1 <= x.rank - 2 <= 3 or len(output) != x.rank - 2 or min(output) < 0:
        raise ShapeError(
            f"[{name}] needs an output size for each spatial dimension of {x}, given {output}"
        )
    if 0 in x.shape[2:]:
        raise ShapeError(f"[{name}] a spatial dimension is empty: {x}")
    shape = (*x.shape[:2], *output)
    return x.with_shape(shape), tensor_type(i64, shape)


def _add_at(b: Any, g: Any, indices: Any, x_type: TensorType) -> Any:
    """The gradient of picking the elements at `indices` of each plane."""
    planes = (*x_type.shape[:2], math.prod(x_type.shape[2:]))
    rows = (*x_type.shape[:2], math.prod(indices.type.shape[2:]))
    zeros = b.full(shape=planes, value=0.0, dtype=g.type.dtype)
    index, updates = b.reshape(indices, shape=rows), b.reshape(g, shape=rows)
    return b.reshape(b.scatter_add(zeros, index, updates, dim=2), shape=x_type.shape)


# adaptive_max_pool --------------------------------------------------------------------------------


def _bin_limits(b: Any, shape: Shape, axis: int, size: int, output: int) -> tuple[Any, Any]:
    """Where each bin starts and stops along `axis` of `shape`, for broadcasting."""
    o = b.iota(shape=along(shape, axis), dim=axis, dtype=i64)
    start = b.floor_divide(b.mul(o, size), output)
    stop = b.floor_divide(b.add(b.mul(o, size), size + output - 1), output)
    return start, stop


def _widest(size: int, output: int) -> int:
    """The size of the largest bin."""
    o = np.arange(output)
    return int(np.max(-(-(o + 1) * size // output) - o * size // output, initial=1))


def _adaptive(b: Any, x: Any, *, output: Ints) -> Any:
    batch, channels, *size = x.type.shape
    spatial = len(output)
    kernel = tuple(map(_widest, size, output))
    grid = (*output, *kernel)
    places = []
    for axis, (n, m) in enumerate(zip(size, output, strict=True)):
        start, stop = _bin_limits(b, grid, axis, n, m)
        tap = b.iota(shape=along(grid, spatial + axis), dim=spatial + axis, dtype=i64)
        # A bin that is smaller than the largest repeats its last element, which changes nothing.
        places.append(b.minimum(b.add(start, tap), b.sub(stop, 1)))
    index = b.expand(flat_place(b, places, tuple(size)), shape=grid)
    index = b.reshape(index, shape=(math.prod(output), math.prod(kernel)))
    flat = b.reshape(channels_last(b, x), shape=(batch, math.prod(size), channels))
    view = b.take(flat, index, dim=1)
    shape = (batch, *output, channels)
    out = b.reshape(b.amax(view, dims=(2,), keepdim=False), shape=shape)
    tap = b.reshape(b.argmax(view, dims=(2,), keepdim=False), shape=shape)
    chosen = []
    for axis, (own, n, m) in enumerate(zip(taps_along(b, tap, kernel), size, output, strict=True)):
        start, _ = _bin_limits(b, shape, axis + 1, n, m)
        chosen.append(b.add(own, start))
    return channels_second(b, out), channels_second(b, flat_place(b, chosen, tuple(size)))


adaptive_max_pool = declare(
    "adaptive_max_pool",
    "composite",
    "x",
    infer=lambda x, *, output: _pooled_types("adaptive_max_pool", x, output),
    decompose=_adaptive,
    attributes={"output": tuple},
    results="out indices",
    gradients={"x": lambda b, g, indices, x_type: _add_at(b, g, indices, x_type)},
    doc="""The maximum of each of `output` many bins along the spatial dimensions of
[N, C, spatial...], and its flat index in the plane. The bins are those of `adaptive_avg_pool`; the
first of equal maxima counts, and nan is above all.""",
)

# fractional_max_pool ------------------------------------------------------------------------------


def _fractional_types(
    x: TensorType, samples: TensorType, *, kernel: Ints, output: Ints
) -> tuple[TensorType, ...]:
    require_floating("fractional_max_pool", x)
    types = _pooled_types("fractional_max_pool", x, output)
    if samples.shape != (*x.shape[:2], len(output)) or samples.dtype is not x.dtype:
        raise ShapeError(
            f"[fractional_max_pool] needs samples {[*x.shape[:2], len(output)]} of {x.dtype} for "
            f"{x}, given {samples}"
        )
    if len(kernel) != len(output) or any(
        k < 1 or o + k - 1 > n for n, k, o in zip(x.shape[2:], kernel, output, strict=True)
    ):
        raise ShapeError(
            f"[fractional_max_pool] {output} windows of {kernel} do not fit {x}: the output size "
            "plus the kernel less 1 must not be above the input size"
        )
    return types


def _starts(b: Any, sample: Any, size: int, kernel: int, output: int) -> Any:
    """[N, C, output]: where the windows along one dimension start; `sample` is [N, C, 1]."""
    shape = (*sample.type.shape[:2], output)
    room, last = size - kernel, b.iota(shape=(1, 1, output), dim=2, dtype=i64)
    if output == 1:
        return b.expand(b.full(shape=(1, 1, 1), value=room, dtype=i64), shape=shape)
    alpha = room / (output - 1)
    o = b.cast(last, dtype=sample.type.dtype)
    reached = b.cast(b.trunc(b.mul(b.add(o, sample), alpha)), dtype=i64)
    first = b.cast(b.trunc(b.mul(sample, alpha)), dtype=i64)
    return b.where(b.eq(last, output - 1), room, b.sub(reached, first))


def _fractional(b: Any, x: Any, samples: Any, *, kernel: Ints, output: Ints) -> Any:
    batch, channels, *size = x.type.shape
    lead, spatial = (batch, channels), len(output)
    grid = (*lead, *output, *kernel)
    starts, places = [], []
    for axis, (n, k, m) in enumerate(zip(size, kernel, output, strict=True)):
        # As in PyTorch: in the plane the first sample is that of the columns.
        column = axis if spatial == 3 else spatial - 1 - axis
        start = _starts(b, cut(b, samples, 2, column, column + 1), n, k, m)
        column_shape = [m if d == axis else 1 for d in range(spatial)]
        start = b.reshape(start, shape=(*lead, *column_shape))
        starts.append(start)
        wide = b.reshape(start, shape=(*lead, *column_shape, *(1,) * spatial))
        dim = 2 + spatial + axis
        places.append(b.add(wide, b.iota(shape=along(grid, dim), dim=dim, dtype=i64)))
    count, taps = math.prod(output), math.prod(kernel)
    index = b.expand(flat_place(b, places, tuple(size)), shape=grid)
    index = b.reshape(index, shape=(*lead, count * taps))
    flat = b.reshape(x, shape=(*lead, math.prod(size)))
    view = b.reshape(b.take_along(flat, index, dim=2), shape=(*lead, count, taps))
    out = b.reshape(b.amax(view, dims=(3,), keepdim=False), shape=(*lead, *output))
    tap = b.reshape(b.argmax(view, dims=(3,), keepdim=False), shape=(*lead, *output))
    chosen = list(map(b.add, taps_along(b, tap, kernel), starts))
    return out, flat_place(b, chosen, tuple(size))


fractional_max_pool = declare(
    "fractional_max_pool",
    "composite",
    "x samples",
    infer=_fractional_types,
    decompose=_fractional,
    attributes={"kernel": tuple, "output": tuple},
    results="out indices",
    gradients={"x": lambda b, g, indices, x_type: _add_at(b, g, indices, x_type)},
    doc="""The maximum of each of `output` many windows of `kernel` elements, and its flat index in
the plane (Graham, arXiv 1412.6071). Window i of m starts at floor((i + u) a) - floor(u a) with
a = (n - k) / (m - 1), the last one at n - k; u in [0, 1) is a sample of its own
for each plane and dimension.""",
)
