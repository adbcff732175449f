"""Windows for pooling: their number, how far they reach, and how they are put back in place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

from braze.ir.dtypes import DType, i32
from braze.ir.errors import ShapeError
from braze.ir.ops.composite import Ints
from braze.ir.ops.convolution import check_geometry, pad_or_crop
from braze.ir.types import Shape, TensorType


def pooled_size(
    name: str,
    x: TensorType,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> Shape:
    """Spatial size of the result; raises ShapeError.

    With `ceil_mode` a last window, even the only one, may reach beyond the padded input, but must
    begin inside the input or its left padding (torch.nn.MaxPool2d).
    """
    spatial = check_geometry(name, x, stride, padding, dilation)
    if len(kernel) != spatial or min(kernel) < 1:
        raise ShapeError(f"[{name}] needs {spatial} positive kernel sizes for {x}, given {kernel}")
    sizes = []
    for size, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        if 2 * p > k:
            raise ShapeError(
                f"[{name}] padding must be at most half the kernel: kernel {kernel}, "
                f"padding {padding}"
            )
        room = size + 2 * p - d * (k - 1) - 1
        count = room // s + 1
        if ceil_mode:
            count = -(-room // s) + 1
            if (count - 1) * s >= size + p:
                count -= 1
        if count < 1:
            raise ShapeError(
                f"[{name}] kernel {kernel} with dilation {dilation} does not fit {x} with padding "
                f"{padding}"
            )
        sizes.append(count)
    return tuple(sizes)


def reach(
    size: Ints, count: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> Ints:
    """How far the windows reach beyond the input (negative: elements that none covers)."""
    return tuple(
        (n - 1) * s + d * (k - 1) + 1 - size_ - p
        for size_, n, k, s, p, d in zip(size, count, kernel, stride, padding, dilation, strict=True)
    )


def spatial_dims(kernel: Ints) -> Ints:
    return tuple(range(1, len(kernel) + 1))


def tile(kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> bool:
    """The windows lie side by side: each element is in at most one."""
    return (
        kernel == stride
        and not any(padding)
        and all(d == 1 or k == 1 for d, k in zip(dilation, kernel, strict=True))
    )


def paired(first: Ints, second: Ints) -> Ints:
    """(a, b, ..) and (k, l, ..) to (a, k, b, l, ..)."""
    return tuple(itertools.chain.from_iterable(zip(first, second, strict=True)))


def places_of_pairs(b: Any, value: Any) -> Any:
    """[N, a, b, .., C] to [N, a, 1, b, 1, .., C]."""
    batch, *places, channels = value.type.shape
    pairs = paired(tuple(places), (1,) * len(places))
    return b.reshape(value, shape=(batch, *pairs, channels))


def taps_of_pairs(b: Any, numbers: Any) -> Any:
    """[k, l, ..] to [1, 1, k, 1, l, .., 1]."""
    kernel = numbers.type.shape
    return b.reshape(numbers, shape=(1, *paired((1,) * len(kernel), kernel), 1))


def taps_along(b: Any, tap: Any, kernel: Ints) -> Iterator[Any]:
    """The number of a window's element, row-major, to its place along each dimension."""
    rest = math.prod(kernel)
    for axis, k in enumerate(kernel):
        rest //= k
        own = tap if rest == 1 else b.floor_divide(tap, rest)
        yield b.remainder(own, k) if axis else own


def flat_place(b: Any, places: Iterable[Any], size: Ints) -> Any:
    """Places along each spatial dimension to the flat index in a plane."""
    flat = None
    for place, n in zip(places, size, strict=True):
        flat = place if flat is None else b.add(b.mul(flat, n), place)
    return flat


# Which windows an element meets -------------------------------------------------------------------

# Elements that meet more windows than this add them up in a loop.
MOST_MEETINGS = 32
# Larger windows are not numbered with 32 bits.
_LARGEST_WINDOW = 1 << 15


def meetings(kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> list[Ints] | None:
    """The windows that a block of `stride` elements meets; None where they are too many to write
    each one down, or dilated.

    Block a of a dimension is the elements s a, ..., s a + s - 1. It meets the windows a - back, for
    each of the `back`s given, of which its element number i is tap i + p + s back. With windows
    side by side that is window a alone.
    """
    if any(d > 1 and k > 1 for d, k in zip(dilation, kernel, strict=True)):
        return None
    along_each = [
        range(-((p + s - 1) // s), (k - 1 - p) // s + 1)
        for k, s, p in zip(kernel, stride, padding, strict=True)
    ]
    if math.prod(map(len, along_each)) > MOST_MEETINGS or math.prod(kernel) > _LARGEST_WINDOW:
        return None
    return list(itertools.product(*along_each))


def of_blocks(b: Any, value: Any, back: Ints, stride: Ints, input_size: Ints) -> Any:
    """[N, count..., C] to [N, a, 1, b, 1, .., C]: what window a - back holds, 0 where there is
    none."""
    count = value.type.shape[1:-1]
    blocks = tuple(-(-n // s) for n, s in zip(input_size, stride, strict=True))
    high = tuple(m - n - j for m, n, j in zip(blocks, count, back, strict=True))
    return places_of_pairs(b, pad_or_crop(b, value, back, high))


def tap_numbers(b: Any, kernel: Ints, dtype: DType) -> Any:
    """The number of each tap, of shape `kernel`."""
    return b.reshape(b.iota(shape=(math.prod(kernel),), dim=0, dtype=dtype), shape=kernel)


def taps_of_blocks(b: Any, back: Ints, kernel: Ints, stride: Ints, padding: Ints) -> Any:
    """[1, 1, s, 1, t, .., 1]: which tap of window a - back each element of a block is (i32), -1
    where it is none."""
    first = [p + s * j for j, s, p in zip(back, stride, padding, strict=True)]
    low = tuple(-f for f in first)
    high = tuple(f + s - k for f, k, s in zip(first, kernel, stride, strict=True))
    numbers = tap_numbers(b, kernel, i32)
    return taps_of_pairs(b, pad_or_crop(b, numbers, low, high, value=-1, first=0))


def all_are_taps(back: Ints, kernel: Ints, stride: Ints, padding: Ints) -> bool:
    """Whether every element of a block is in window a - back."""
    return all(
        p + s * j >= 0 and p + s * j + s <= k
        for j, k, s, p in zip(back, kernel, stride, padding, strict=True)
    )


def joined(b: Any, value: Any, size: Ints) -> Any:
    """[N, a, k, b, l, .., C] to [N, a * k, b * l, .., C], padded with 0 or cropped to `size`."""
    _, *pairs, _ = value.type.shape
    merged = tuple(n * k for n, k in zip(pairs[::2], pairs[1::2], strict=True))
    flat = b.reshape(value, shape=(value.type.shape[0], *merged, value.type.shape[-1]))
    missing = tuple(s - m for s, m in zip(size, merged, strict=True))
    return pad_or_crop(b, flat, (0,) * len(size), missing)


def overlapped(
    b: Any,
    spread: Any,
    input_size: Ints,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
) -> Any:
    """Sum windows [N, count..., C, taps...] back into an input of `input_size`, channels last."""
    dims = spatial_dims(kernel)
    count = spread.type.shape[1 : len(kernel) + 1]
    after = reach(input_size, count, kernel, stride, padding, dilation)
    extent = tuple(size + p + a for size, p, a in zip(input_size, padding, after, strict=True))
    placed = b.unwindow(spread, dims=dims, extent=extent, stride=stride, dilation=dilation)
    taps = tuple(range(len(kernel) + 2, 2 * len(kernel) + 2))
    total = b.sum(placed, dims=taps, keepdim=False)
    return pad_or_crop(b, total, tuple(-p for p in padding), tuple(-a for a in after))
