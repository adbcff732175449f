"""Oracles of adaptive and fractional pooling, and of blocks as columns: window by window."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from op_oracles import oracle


def _maxima(x: np.ndarray, output: Any, window: Callable[..., Any]) -> tuple[Any, Any]:
    """The maximum of each window and its flat index; `window(n, c, place)` gives its slices."""
    shape = (*x.shape[:2], *output)
    out, indices = np.zeros(shape, x.dtype), np.zeros(shape, np.int64)
    numbers = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    for place in np.ndindex(*shape):
        slices = window(*place[:2], place[2:])
        part = x[place[:2]][slices].reshape(-1)
        best = int(np.argmax(part.astype(np.float64)))
        out[place], indices[place] = part[best], numbers[slices].reshape(-1)[best]
    return out, indices


@oracle("adaptive_max_pool")
def _adaptive(x: np.ndarray, *, output: Any) -> tuple[Any, Any]:
    def window(_n: int, _c: int, place: Any) -> Any:
        bins = zip(place, x.shape[2:], output, strict=True)
        return tuple(slice(o * n // m, -(-(o + 1) * n // m)) for o, n, m in bins)

    return _maxima(x, output, window)


@oracle("fractional_max_pool")
def _fractional(x: np.ndarray, samples: np.ndarray, *, kernel: Any, output: Any) -> Any:
    spatial = len(output)

    def start(u: Any, o: int, n: int, k: int, m: int) -> int:
        if o == m - 1:
            return n - k
        alpha = x.dtype.type((n - k) / (m - 1))
        return int((x.dtype.type(o) + u) * alpha) - int(u * alpha)

    def window(n: int, c: int, place: Any) -> Any:
        slices = []
        for axis, o in enumerate(place):
            u = samples[n, c, axis if spatial == 3 else spatial - 1 - axis]
            first = start(u, o, x.shape[axis + 2], kernel[axis], output[axis])
            slices.append(slice(first, first + kernel[axis]))
        return tuple(slices)

    return _maxima(x, output, window)


def _places(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> np.ndarray:
    """[taps, blocks]: the flat index of each element of each block; -1 outside."""
    geometry = list(zip(size, kernel, stride, padding, dilation, strict=True))
    count = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in geometry]
    rows = []
    for tap in np.ndindex(*kernel):
        row = []
        for block in np.ndindex(*count):
            at = [
                b * s + t * d - p
                for b, t, (_, _, s, p, d) in zip(block, tap, geometry, strict=True)
            ]
            inside = all(0 <= a < n for a, n in zip(at, size, strict=True))
            row.append(int(np.ravel_multi_index(at, size)) if inside else -1)
        rows.append(row)
    return np.array(rows)


@oracle("im2col")
def _unfold(x: np.ndarray, **blocks: Any) -> np.ndarray:
    places = _places(x.shape[2:], **blocks)
    flat = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    columns = np.where(places < 0, np.zeros((), x.dtype), flat[:, :, places])
    return columns.reshape(x.shape[0], x.shape[1] * places.shape[0], places.shape[1])


@oracle("col2im")
def _fold(x: np.ndarray, *, output: Any, **blocks: Any) -> np.ndarray:
    places = _places(output, **blocks)
    channels = x.shape[1] // places.shape[0]
    columns = x.reshape(x.shape[0], channels, *places.shape)
    image = np.zeros((x.shape[0], channels, math.prod(output)), x.dtype)
    for tap, block in np.argwhere(places >= 0):
        image[:, :, places[tap, block]] += columns[:, :, tap, block]
    return image.reshape(x.shape[0], channels, *output)
