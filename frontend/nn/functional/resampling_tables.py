"""Where interpolation reads and with what weights: tables in NumPy, for one dimension.

A table is (first, weights): result o is the sum over t of ``weights[t, o] * x[first[o] + t]``,
where places beyond an end are the end. The formulas are those of PyTorch
(ATen/native/UpSample.h and ATen/native/cpu/UpSampleKernel.cpp).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

Table = tuple[np.ndarray, np.ndarray]

CUBIC = -0.75  # Keys' free parameter, and what it is where images are shrunk with antialiasing:
CUBIC_ANTIALIASED = -0.5
# Width of each filter, in elements, at scale 1.
WIDTHS = {"linear": 2, "cubic": 4, "lanczos": 6}


def step(size: int, output: int, align_corners: bool, scale: float | None) -> float:
    """How far apart, in elements of the input, neighbouring results lie."""
    if align_corners:
        return (size - 1) / (output - 1) if output > 1 else 0.0
    return 1.0 / scale if scale is not None and scale > 0 else size / output


def nearest(size: int, output: int, scale: float | None, exact: bool, wide: bool) -> Table:
    """The element left of each result's place, or (exact) the one it lies in.

    Args:
        wide: whether places are computed in float64, as for float64 elements. Where a place is a
            whole number, rounding decides, and PyTorch computes in the elements' precision.
    """
    kind = np.dtype(np.float64 if wide else np.float32)
    by = np.asarray(step(size, output, False, scale), kind)
    places = (np.arange(output, dtype=kind) + np.asarray(0.5 if exact else 0.0, kind)) * by
    found = np.floor(places.astype(np.float32)).astype(np.int64)
    return np.minimum(found, size - 1), np.ones((1, output))


def _places(size: int, output: int, align_corners: bool, scale: float | None) -> np.ndarray:
    by = step(size, output, align_corners, scale)
    result = np.arange(output, dtype=np.float64)
    return by * result if align_corners else by * (result + 0.5) - 0.5


def linear(size: int, output: int, align_corners: bool, scale: float | None) -> Table:
    """Between the two neighbours."""
    places = np.maximum(_places(size, output, align_corners, scale), 0.0)
    if size == output:
        places = np.arange(output, dtype=np.float64)
    first = np.minimum(np.floor(places).astype(np.int64), size - 1)
    share = np.clip(places - first, 0.0, 1.0)
    return first, np.stack([1 - share, share])


def cubic(size: int, output: int, align_corners: bool, scale: float | None) -> Table:
    """Keys' cubic convolution over four neighbours (IEEE Trans. ASSP 29, 1981)."""
    places = _places(size, output, align_corners, scale)
    left = np.floor(places)
    share = np.clip(places - left, 0.0, 1.0)
    weights = np.stack([keys(share - t, CUBIC) for t in (-1, 0, 1, 2)])
    return left.astype(np.int64) - 1, weights


def keys(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel with free parameter a."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(distance), 0.0)


def _lanczos(distance: np.ndarray) -> np.ndarray:
    """sinc(x) sinc(x / 3) for |x| < 3."""
    value = np.sinc(distance) * np.sinc(distance / 3)
    return np.where(np.abs(distance) < 3, value, 0.0)


FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": _triangle,
    "cubic": functools.partial(keys, a=CUBIC_ANTIALIASED),
    "lanczos": _lanczos,
}


def antialiased(
    kind: str, size: int, output: int, align_corners: bool, scale: float | None
) -> Table:
    """A filter that is stretched where the image shrinks, so that it covers what lies between
    results; its weights are normalised to sum 1, also where an end cuts it off."""
    by = step(size, output, align_corners, scale)
    stretch = max(by, 1.0)
    support = WIDTHS[kind] * 0.5 * stretch
    center = by * (np.arange(output) + 0.5)
    first = np.maximum(np.trunc(center - support + 0.5).astype(np.int64), 0)
    stop = np.minimum(np.trunc(center + support + 0.5).astype(np.int64), size)
    taps = np.arange(max(int((stop - first).max()), 1))[:, None]
    weights = FILTERS[kind]((taps + first - center + 0.5) / stretch)
    weights = np.where(taps < stop - first, weights, 0.0)
    total = weights.sum(0)
    return first, weights / np.where(total == 0, 1.0, total)


def adjoint(table: Table, size: int) -> Table:
    """The table of the adjoint: from gradients of the results to those of `size` elements."""
    first, weights = table
    taps, output = weights.shape
    result = np.broadcast_to(np.arange(output), (taps, output)).ravel()
    place = np.clip(first + np.arange(taps)[:, None], 0, size - 1).ravel()
    weight = weights.ravel()
    result, place, weight = (a[weight != 0] for a in (result, place, weight))
    low, high = np.full(size, output), np.full(size, -1)
    np.minimum.at(low, place, result)
    np.maximum.at(high, place, result)
    low = np.where(high < 0, 0, low)
    back = np.zeros((max(int((high - low).max()) + 1, 1), size))
    np.add.at(back, (result - low[place], place), weight)
    return low, back


def all_places(table: Table) -> Table:
    """The table with a row of places for each row of weights, which compiled code reads as they
    are."""
    first, weights = table
    return first + np.arange(len(weights))[:, None], weights


def is_identity(table: Table, size: int) -> bool:
    """Does it give each element back?"""
    first, weights = table
    kept = weights.any(1)
    only = int(kept.sum()) == 1 and bool((weights[kept] == 1).all())
    return only and np.array_equal(first + int(kept.argmax()), np.arange(size))
