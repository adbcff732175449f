"""Sliding blocks of images as columns, and back: each is the other's adjoint."""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import bool_
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import AttributeKind, declare
from braze.ir.ops.composite import Ints, channels_last, channels_second
from braze.ir.ops.convolution import check_geometry, output_size, pad_or_crop
from braze.ir.ops.pooling_windows import joined, overlapped, paired, tile
from braze.ir.types import TensorType

BLOCKS: dict[str, AttributeKind] = {
    "kernel": tuple,
    "stride": tuple,
    "padding": tuple,
    "dilation": tuple,
}


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
    batch, channels, *size = x.type.shape
    spatial = len(kernel)
    padded = pad_or_crop(b, channels_last(b, x), padding, padding)
    dims = tuple(range(1, spatial + 1))
    view = b.window(padded, dims=dims, size=kernel, stride=stride, dilation=dilation)
    taps = tuple(range(spatial + 2, 2 * spatial + 2))
    columns = b.permute(view, dims=(0, spatial + 1, *taps, *dims))
    count = math.prod(view.type.shape[1 : spatial + 1])
    return b.reshape(columns, shape=(batch, channels * math.prod(kernel), count))


im2col = declare(
    "im2col",
    "composite",
    "x",
    infer=_unfold_types,
    decompose=_unfold,
    attributes=BLOCKS,
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
        pairs = b.permute(split, dims=(0, *paired(tuple(places), tuple(taps)), 1))
        return channels_second(b, joined(b, pairs, output))
    blocks = b.permute(split, dims=(0, *places, 1, *taps))
    return channels_second(b, overlapped(b, blocks, output, kernel, stride, padding, dilation))


col2im = declare(
    "col2im",
    "composite",
    "x",
    infer=_fold_types,
    decompose=_fold,
    attributes={"output": tuple, **BLOCKS},
    gradients={
        "x": lambda b, g, kernel, stride, padding, dilation: b.im2col(
            g, kernel=kernel, stride=stride, padding=padding, dilation=dilation
        )
    },
    doc="""Blocks as columns, [N, C * taps, blocks], summed where they lie in [N, C, output...]: the
adjoint of `im2col`.""",
    complex=True,
)
