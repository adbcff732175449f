"""Convolutions whose groups have one input channel and few output channels each.

A contraction would sum a handful of taps for each group on its own. Here they are a product with
the taps and a sum over them, elementwise in all else: no dimension is rearranged, so that these
convolutions run in whatever order of dimensions their input has, along rows or across channels,
and borders and neighbouring elementwise operations become part of the same loops.
"""

from __future__ import annotations

from typing import Any

from braze.ir.ops.composite import Ints, as_dtype, widened

# With more output channels for each group than this, a contraction fills its vectors with them.
MOST_OUTPUTS = 7


def is_depthwise(weight_shape: Ints, groups: int) -> bool:
    """Whether a convolution with this weight, [out, in / groups, taps...], is done here."""
    out, channels = weight_shape[:2]
    return groups > 1 and channels == 1 and out // groups <= MOST_OUTPUTS


def depthwise(b: Any, x: Any, weight: Any, stride: Ints, dilation: Ints, groups: int) -> Any:
    """The convolution of [N, groups, spatial...], padded already: [N, out, positions...]."""
    n, _, *size = x.type.shape
    out, _, *kernel = weight.type.shape
    each = out // groups
    if each > 1:
        x = b.reshape(x, shape=(n, groups, 1, *size))
    first = x.type.rank - len(kernel)
    view = b.window(
        x,
        dims=tuple(range(first, x.type.rank)),
        size=tuple(kernel),
        stride=stride,
        dilation=dilation,
    )
    lead = (1, groups, each) if each > 1 else (1, groups)
    taps = b.reshape(weight, shape=(*lead, *(1,) * len(kernel), *kernel))
    result = _sum_of_products(b, view, taps, tuple(range(x.type.rank, view.type.rank)))
    if each == 1:
        return result
    return b.reshape(result, shape=(n, out, *result.type.shape[first:]))


def depthwise_back(b: Any, out: Any, weight: Any, dilation: Ints, groups: int) -> Any:
    """The same of [N, out, spatial...] with the operands' roles turned: [N, groups, positions...].

    Each group's output channels are summed too. The weight's taps are in the order of windows.
    """
    n, channels, *size = out.type.shape
    kernel = weight.type.shape[2:]
    each = channels // groups
    if each > 1:
        out = b.reshape(out, shape=(n, groups, each, *size))
    first = out.type.rank - len(kernel)
    view = b.window(
        out,
        dims=tuple(range(first, out.type.rank)),
        size=kernel,
        stride=(1,) * len(kernel),
        dilation=dilation,
    )
    lead = (1, groups, each) if each > 1 else (1, groups)
    taps = b.reshape(weight, shape=(*lead, *(1,) * len(kernel), *kernel))
    summed = tuple(range(out.type.rank, view.type.rank))
    return _sum_of_products(b, view, taps, (2, *summed) if each > 1 else summed)


def _sum_of_products(b: Any, x: Any, y: Any, dims: Ints) -> Any:
    product = b.mul(widened(b, x), widened(b, y))
    return as_dtype(b, b.sum(product, dims=dims, keepdim=False), x.type.dtype)
