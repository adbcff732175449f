"""ONNX's pooling."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

import braze
from braze import nn
from braze.onnx.importing.movement import padded
from braze.onnx.importing.windows import Windows, windows_of
from braze.onnx.rules import imports
from braze.tensors import Tensor

_F = nn.functional
_MAX = {1: _F.max_pool1d, 2: _F.max_pool2d, 3: _F.max_pool3d}
_AVERAGE = {1: _F.avg_pool1d, 2: _F.avg_pool2d, 3: _F.avg_pool3d}


def _taps(x: Any, found: Windows) -> Any:
    """For each element of the kernel, what all the windows have there; x is padded already."""
    for taps in product(*map(range, found.kernel)):
        parts = []
        for tap, stride, dilation, out in zip(
            taps, found.stride, found.dilation, found.out, strict=True
        ):
            first = tap * dilation
            parts.append(slice(first, first + (out - 1) * stride + 1, stride))
        yield x[(slice(None), slice(None), *parts)]


def _sums(x: Any, found: Windows) -> Any:
    return sum(_taps(x, found))


@imports("MaxPool", since=1)
def max_pool(node: Any, x: Tensor) -> tuple[Tensor, ...]:
    sizes = list(x.shape[2:])
    found = windows_of(node, sizes, node.get("kernel_shape"))
    behind = found.behind(sizes)
    symmetric = found.low == found.high and not node.get("ceil_mode", 0)
    half = all(2 * p <= k for p, k in zip(found.low, found.kernel, strict=True))
    run = _MAX.get(len(sizes))
    if run is None:
        raise NotImplementedError(f"MaxPool of {len(sizes)} spatial dimensions")
    narrow = x.dtype
    if not narrow.is_floating_point:
        x = x.to(braze.int32)
    padding = found.low
    if not (symmetric and half):
        lowest = -np.inf if x.dtype.is_floating_point else int(np.iinfo(np.int32).min)
        x = padded(x, [0, 0, *found.low], [0, 0, *behind], value=lowest)
        padding = [0] * len(sizes)
    options: dict[str, Any] = {
        "stride": tuple(found.stride),
        "padding": tuple(padding),
        "dilation": tuple(found.dilation),
    }
    kernel = tuple(found.kernel)
    if not node.wants(1):
        return (run(x, kernel, **options).to(narrow),)
    y, index = run(x, kernel, return_indices=True, **options)
    if not (symmetric and half):
        index = _unpadded(index, list(x.shape[2:]), sizes, found.low)
    if node.get("storage_order", 0):
        index = _column_major(index, sizes)
    planes = braze.arange(x.shape[0] * x.shape[1]) * int(np.prod(sizes))
    index = index + planes.reshape(x.shape[0], x.shape[1], *[1] * len(sizes))
    return y.to(narrow), index


def _coordinates(index: Any, sizes: list[int]) -> list[Any]:
    found = []
    for size in reversed(sizes):
        found.append(index % size)
        index = index // size
    return found[::-1]


def _unpadded(index: Tensor, outer: list[int], sizes: list[int], low: list[int]) -> Tensor:
    """Places in a padded plane as those in the plane itself."""
    place = braze.zeros_like(index)
    for own, size, first in zip(_coordinates(index, outer), sizes, low, strict=True):
        place = place * size + (own - first)
    return place


def _column_major(index: Tensor, sizes: list[int]) -> Tensor:
    place = braze.zeros_like(index)
    pairs = zip(_coordinates(index, sizes), sizes, strict=True)
    for own, size in reversed(list(pairs)):
        place = place * size + own
    return place


@imports("AveragePool", since=1)
def average_pool(node: Any, x: Tensor) -> Tensor:
    sizes = list(x.shape[2:])
    found = windows_of(node, sizes, node.get("kernel_shape"))
    whole = bool(node.get("count_include_pad", 0))
    run = _AVERAGE.get(len(sizes))
    half = all(2 * p <= k for p, k in zip(found.low, found.kernel, strict=True))
    plain = found.low == found.high and half and set(found.dilation) == {1}
    if run is not None and plain and not node.get("ceil_mode", 0):
        return run(
            x, tuple(found.kernel), tuple(found.stride), tuple(found.low), count_include_pad=whole
        )
    behind = found.behind(sizes)
    inside = [(0, 0), (0, 0)]
    # What counts: the input, and with count_include_pad what is added to it, but not what
    # ceil_mode adds.
    ones = np.ones((1, 1, *sizes), np.float32)
    counted = [(a, min(b, c)) for a, b, c in zip(found.low, found.high, behind, strict=True)]
    ones = _numpy_padded(ones, [*inside, *counted], 1.0 if whole else 0.0)
    rest = [(0, c - b) for (_, b), c in zip(counted, behind, strict=True)]
    counts = _sums(_numpy_padded(ones, [*inside, *rest], 0.0), found)
    total = _sums(padded(x, [0, 0, *found.low], [0, 0, *behind]), found)
    return total / braze.from_numpy(np.ascontiguousarray(counts)).to(x.dtype)


def _numpy_padded(x: np.ndarray, pads: list[tuple[int, int]], value: float) -> np.ndarray:
    added = np.pad(x, [(max(a, 0), max(b, 0)) for a, b in pads], constant_values=value)
    kept = (slice(0, n + min(b, 0)) for n, (_, b) in zip(added.shape, pads, strict=True))
    return added[tuple(kept)]


@imports("LpPool", since=2)
def lp_pool(node: Any, x: Tensor) -> Tensor:
    sizes = list(x.shape[2:])
    found = windows_of(node, sizes, node.get("kernel_shape"))
    p = node.get("p", 2)
    y = padded(braze.abs(x) ** p, [0, 0, *found.low], [0, 0, *found.behind(sizes)])
    return _sums(y, found) ** (1.0 / p)


@imports("GlobalAveragePool", since=1)
def global_average_pool(node: Any, x: Tensor) -> Tensor:
    return braze.mean(x, tuple(range(2, x.dim())), True)


@imports("GlobalMaxPool", since=1)
def global_max_pool(node: Any, x: Tensor) -> Tensor:
    return braze.amax(x, tuple(range(2, x.dim())), True)


@imports("GlobalLpPool", since=2)
def global_lp_pool(node: Any, x: Tensor) -> Tensor:
    p = node.get("p", 2)
    return braze.sum(braze.abs(x) ** p, tuple(range(2, x.dim())), True) ** (1.0 / p)


@imports("MaxUnpool", since=9, read=(2,))
def max_unpool(node: Any, x: Tensor, index: Tensor, shape: np.ndarray | None = None) -> Tensor:
    rank = x.dim() - 2
    kernel = node.get("kernel_shape")
    stride = node.get("strides") or [1] * rank
    pads = node.get("pads") or [0] * (2 * rank)
    sizes = [
        (x.shape[d + 2] - 1) * stride[d] + kernel[d] - pads[d] - pads[d + rank] for d in range(rank)
    ]
    own = [*x.shape[:2], *sizes]
    total = int(np.prod(own))
    flat = braze.zeros(total, dtype=x.dtype).scatter(0, index.reshape(-1), x.reshape(-1))
    if shape is None:
        return flat.reshape(own)
    # The places were counted in the smaller output, which lies at the beginning of the larger.
    wanted = [int(v) for v in shape]
    more = [a - b for a, b in zip(wanted, own, strict=True)]
    return padded(flat.reshape(own), [0] * len(own), more)
