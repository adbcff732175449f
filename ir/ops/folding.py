"""Sliding blocks of images as columns, and back: each is the other's adjoint.

Unlike in convolutions channels stay second: what lies side by side in columns are places.
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import bool_
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import Ints
from braze.ir.ops.convolution import check_geometry, output_size, pad_or_crop
from braze.ir.ops.pooling import GEOMETRY
from braze.ir.ops.pooling_windows import paired, reach, tile
from braze.ir.types import TensorType


def _unfold_types(
    x: TensorType, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> tuple[TensorType, ...]:
    check_geometry("im2col", x, stride, padding, dilation)
    if len(kernel) != x.rank - 2:
        raise ShapeError(f"[im2col] needs {x.rank - 2} kernel sizes for {x}, given {kernel}")
    count = output_size("im2col", x, kernel, stride, padding, dilation)
    rows = x.shape[1] * math.prod(kernel)
    return (x.with_shape((x.shape[0], rows, math.prod(count))),)


def _unfold(b: Any, x: Any, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Any:
    batch, channels = x.type.shape[:2]
    padded = _bordered(b, x, padding, padding)
    places = tuple(range(2, x.type.rank))
    view = b.window(padded, dims=places, size=kernel, stride=stride, dilation=dilation)
    taps = tuple(range(x.type.rank, view.type.rank))
    columns = b.permute(view, dims=(0, 1, *taps, *places))
    count = math.prod(view.type.shape[2 : x.type.rank])
    return b.reshape(columns, shape=(batch, channels * math.prod(kernel), count))


def _bordered(b: Any, x: Any, low: Ints, high: Ints) -> Any:
    """Pad [N, C, spatial...] with zeros; negative amounts crop."""
    batch, channels, *size = x.type.shape
    planes = b.reshape(x, shape=(batch * channels, *size, 1))  # as with channels last
    moved = pad_or_crop(b, planes, low, high)
    return b.reshape(moved, shape=(batch, channels, *moved.type.shape[1:-1]))


im2col = declare(
    "im2col",
    "composite",
    "x",
    infer=_unfold_types,
    decompose=_unfold,
    attributes=GEOMETRY,
    gradients={
        "x": lambda b, g, x_type, kernel, stride, padding, dilation: b.col2im(
            g,
            output=x_type.shape[2:],
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
    },
    doc="""The blocks of `kernel` elements of [N, C, spatial...], outside of which is 0, as columns:
[N, C * taps, blocks].""",
    complex=True,
)


def _fold_types(
    x: TensorType, *, output: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> tuple[TensorType, ...]:
    if x.dtype is bool_:
        raise DTypeError(f"[col2im] needs a numeric operand, given {x}")
    taps = math.prod(kernel)
    if x.rank != 3 or not taps or x.shape[1] % taps:
        raise ShapeError(f"[col2im] needs [N, C * {taps}, blocks] for kernel {kernel}, given {x}")
    image = x.with_shape((x.shape[0], x.shape[1] // taps, *output))
    check_geometry("col2im", image, stride, padding, dilation)
    count = output_size("col2im", image, kernel, stride, padding, dilation)
    if x.shape[2] != math.prod(count):
        raise ShapeError(f"[col2im] {image} has {list(count)} blocks, not those of {x}")
    return (image,)


def _fold(
    b: Any, x: Any, *, output: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> Any:
    (image,) = _fold_types(
        x.type, output=output, kernel=kernel, stride=stride, padding=padding, dilation=dilation
    )
    count = output_size("col2im", image, kernel, stride, padding, dilation)
    spatial = len(kernel)
    split = b.reshape(x, shape=(*image.shape[:2], *kernel, *count))
    taps, places = range(2, 2 + spatial), range(2 + spatial, 2 + 2 * spatial)
    if tile(kernel, stride, padding, dilation):
        # Each element is in one block at most: nothing is summed.
        pairs = b.permute(split, dims=(0, 1, *paired(tuple(places), tuple(taps))))
        merged = tuple(n * k for n, k in zip(count, kernel, strict=True))
        joined = b.reshape(pairs, shape=(*image.shape[:2], *merged))
        missing = tuple(n - m for n, m in zip(output, merged, strict=True))
        return _bordered(b, joined, (0,) * spatial, missing)
    blocks = b.permute(split, dims=(0, 1, *places, *taps))
    after = reach(output, count, kernel, stride, padding, dilation)
    extent = tuple(n + p + a for n, p, a in zip(output, padding, after, strict=True))
    dims = tuple(range(2, 2 + spatial))
    spread = b.unwindow(blocks, dims=dims, extent=extent, stride=stride, dilation=dilation)
    total = b.sum(spread, dims=tuple(places), keepdim=False)
    return _bordered(b, total, tuple(-p for p in padding), tuple(-a for a in after))


col2im = declare(
    "col2im",
    "composite",
    "x",
    infer=_fold_types,
    decompose=_fold,
    attributes={"output": tuple, **GEOMETRY},
    gradients={
        "x": lambda b, g, kernel, stride, padding, dilation: b.im2col(
            g, kernel=kernel, stride=stride, padding=padding, dilation=dilation
        )
    },
    doc="""Blocks as columns, [N, C * taps, blocks], summed where they lie in [N, C, output...]: the
adjoint of `im2col`.""",
    complex=True,
)
