"""ONNX's resizing of images and sampling at given points.

Each dimension is resized by itself: how much every input position counts for each output position
is worked out from the sizes, which are known, as weights on a few positions, or as a matrix.
"""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

import braze
from braze import nn
from braze.onnx.known import axes_of
from braze.onnx.rules import imports
from braze.tensors import Tensor


@imports("Upsample", since=7, read=(1,))
def upsample(node: Any, x: Tensor, scales: np.ndarray | None = None) -> Tensor:
    given = node.get("scales") if scales is None else scales
    mode = node.get("mode", "nearest")
    for dim, scale in enumerate(given):
        how = _How(mode, "asymmetric", "floor")
        x = _resized(x, dim, floor(x.shape[dim] * float(scale)), float(scale), how)
    return x


class _How:
    """The choices of a Resize node."""

    def __init__(self, mode: str, coordinates: str, rounding: str, node: Any = None) -> None:
        get = node.get if node is not None else lambda name, default: default
        self.mode = "linear" if mode in ("linear", "bilinear") else mode
        self.coordinates = coordinates
        self.rounding = rounding
        self.cubic = get("cubic_coeff_a", -0.75)
        self.exclude = bool(get("exclude_outside", 0))
        self.antialias = bool(get("antialias", 0))
        self.outside = get("extrapolation_value", 0.0)


@imports("Resize", since=10, read=(1, 2, 3))
def resize(
    node: Any,
    x: Tensor,
    roi: np.ndarray | None = None,
    scales: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> Tensor:
    if node.version < 11:
        roi, scales = None, roi
    mode = node.get("mode", "nearest")
    default = "asymmetric" if node.version < 11 else "half_pixel"
    rounding = "floor" if node.version < 11 else "round_prefer_floor"
    how = _How(
        mode,
        node.get("coordinate_transformation_mode", default),
        node.get("nearest_mode", rounding),
        node,
    )
    axes = axes_of(node, None, x.dim()) or tuple(range(x.dim()))
    if scales is None or not scales.size:
        assert sizes is not None, "Resize needs scales or sizes"
        wanted, factors = _from_sizes(node, [x.shape[a] for a in axes], [int(v) for v in sizes])
    else:
        factors = [float(v) for v in scales]
        wanted = [floor(x.shape[a] * f) for a, f in zip(axes, factors, strict=True)]
    for i, axis in enumerate(axes):
        region = None
        if roi is not None and roi.size and how.coordinates == "tf_crop_and_resize":
            region = float(roi[i]), float(roi[i + len(axes)])
        x = _resized(x, axis, wanted[i], factors[i], how, region)
    return x


def _from_sizes(node: Any, old: list[int], new: list[int]) -> tuple[list[int], list[float]]:
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    factors = [n / o for n, o in zip(new, old, strict=True)]
    if policy != "stretch":
        one = min(factors) if policy == "not_larger" else max(factors)
        new = [floor(one * o + 0.5) for o in old]
        factors = [one] * len(old)
    return new, factors


def _resized(
    x: Tensor,
    dim: int,
    count: int,
    scale: float,
    how: _How,
    region: tuple[float, float] | None = None,
) -> Tensor:
    size = x.shape[dim]
    places = _places(size, count, scale, how.coordinates, region)
    if count == size and np.array_equal(places, np.arange(size)):
        return x
    outside = (places < 0) | (places > size - 1)
    if how.mode == "nearest":
        index = np.clip(_rounded(places, how.rounding), 0, size - 1).astype(np.int64)
        y = x.index_select(dim, braze.from_numpy(index))
    else:
        y = _weighted(x, dim, *_weights(places, size, scale, how))
    if region is not None and outside.any():
        shape = [1] * x.dim()
        shape[dim] = count
        y = braze.where(braze.from_numpy(outside.reshape(shape)), how.outside, y)
    return y.to(x.dtype)


def _places(
    size: int, count: int, scale: float, mode: str, region: tuple[float, float] | None
) -> np.ndarray:
    """Where each output position lies in the input."""
    i = np.arange(count, dtype=np.float64)
    if mode == "asymmetric":
        return i / scale
    if mode == "align_corners":
        room = scale * size - 1  # as the formula has it, although the last one may then be outside
        return i * (size - 1) / room if room > 0 else i * 0.0
    if mode == "pytorch_half_pixel":
        return (i + 0.5) / scale - 0.5 if count > 1 else i * 0.0
    if mode == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if mode == "half_pixel_symmetric":
        # Both ends are cut off alike if the size is no whole number.
        offset = size / 2 * (1 - count / (scale * size))
        return offset + (i + 0.5) / scale - 0.5
    if mode == "tf_crop_and_resize" and region is not None:
        start, end = region
        if count > 1:
            return start * (size - 1) + i * (end - start) * (size - 1) / (count - 1)
        return i * 0.0 + 0.5 * (start + end) * (size - 1)
    return (i + 0.5) / scale - 0.5


def _rounded(places: np.ndarray, rounding: str) -> np.ndarray:
    if rounding == "floor":
        return np.floor(places)
    if rounding == "ceil":
        return np.ceil(places)
    if rounding == "round_prefer_ceil":
        return np.floor(places + 0.5)
    return np.ceil(places - 0.5)


def _weights(
    places: np.ndarray, size: int, scale: float, how: _How
) -> tuple[np.ndarray, np.ndarray]:
    """For each output position the input positions that count, and how much."""
    radius = 1.0 if how.mode == "linear" else 2.0
    stretch = max(1.0, 1.0 / scale) if how.antialias else 1.0
    reach = int(np.ceil(radius * stretch))
    first = np.floor(places).astype(np.int64)
    taps = first[:, None] + np.arange(1 - reach, reach + 1)[None, :]
    distance = np.abs(taps - places[:, None]) / stretch
    if how.mode == "linear":
        weights = np.maximum(1 - distance, 0)
    else:
        a, t = how.cubic, distance
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        weights = np.where(t <= 1, near, np.where(t < 2, far, 0))
    if how.exclude:
        weights = np.where((taps < 0) | (taps >= size), 0, weights)
    if how.exclude or how.antialias:
        weights = weights / weights.sum(1, keepdims=True)
    return np.clip(taps, 0, size - 1), weights


def _weighted(x: Tensor, dim: int, taps: np.ndarray, weights: np.ndarray) -> Tensor:
    kind = x.dtype.numpy if x.dtype.is_floating_point else np.dtype(np.float32)
    if taps.shape[1] > 8:  # of many, a product with a matrix
        matrix = np.zeros((len(taps), x.shape[dim]))
        np.add.at(matrix, (np.arange(len(taps))[:, None], taps), weights)
        moved = x.movedim(dim, -1).to(braze.from_numpy(np.zeros(0, kind)).dtype)
        return (moved @ braze.from_numpy(matrix.astype(kind).T.copy())).movedim(-1, dim)
    shape = [1] * x.dim()
    shape[dim] = len(taps)
    total: Any = 0.0
    for k in range(taps.shape[1]):
        if weights[:, k].any():
            part = x.index_select(dim, braze.from_numpy(np.ascontiguousarray(taps[:, k])))
            weight = weights[:, k].astype(kind).reshape(shape)
            total = total + part * braze.from_numpy(weight)
    return total


@imports("GridSample", since=16)
def grid_sample(node: Any, x: Tensor, grid: Tensor) -> Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(node.get("mode", "linear"))
    return nn.functional.grid_sample(
        x,
        grid,
        mode or node.get("mode"),
        node.get("padding_mode", "zeros"),
        bool(node.get("align_corners", 0)),
    )
