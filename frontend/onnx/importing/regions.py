"""ONNX's operators on boxes in images, and convolutions whose taps are moved."""

from __future__ import annotations

from typing import Any

import numpy as np

import braze
from braze.onnx.rules import imports
from braze.tensors import Tensor


def _corners(
    x: Tensor, rows: Tensor, columns: Tensor, inside: Tensor, sizes: tuple[int, int]
) -> list[Tensor]:
    """What the four neighbours of points in images count for each of them, bilinearly.

    Args:
        x: [images, channels, height * width].
        rows, columns: of the points, [images, points].
        inside: whether a neighbour of this row and column is part of the image decides the caller;
            points that are False are 0.
    """
    height, width = sizes
    found = []
    top, left = braze.floor(rows), braze.floor(columns)
    for below in (0, 1):
        for right in (0, 1):
            row, column = top + below, left + right
            weight = (1 - (rows - row).abs()) * (1 - (columns - column).abs())
            there = (row >= 0) & (row < height) & (column >= 0) & (column < width) & inside
            weight = braze.where(there, weight, 0.0).unsqueeze(1)
            place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            index = place.to(braze.int64).unsqueeze(1).expand(-1, x.shape[1], -1)
            found.append(braze.gather(x, 2, index) * weight.to(x.dtype))
    return found


@imports("RoiAlign", since=10)
def roi_align(node: Any, x: Tensor, boxes: Tensor, images: Tensor) -> Tensor:
    samples = node.get("sampling_ratio", 0)
    if samples or not boxes.shape[0]:
        return _aligned(node, x, boxes, images, (samples or 1, samples or 1))
    # How many samples there are depends on each box's size.
    sizes = node.read(boxes, "operand 1") * node.get("spatial_scale", 1.0)
    least = 0.0 if _half_pixel(node) else 1.0
    parts = []
    for i, (left, top, right, bottom) in enumerate(sizes):
        down = int(np.ceil(max(bottom - top, least) / node.get("output_height", 1)))
        across = int(np.ceil(max(right - left, least) / node.get("output_width", 1)))
        one = slice(i, i + 1)
        parts.append(_aligned(node, x, boxes[one], images[one], (max(down, 1), max(across, 1))))
    return braze.cat(parts)


def _half_pixel(node: Any) -> bool:
    default = "half_pixel" if node.version >= 16 else "output_half_pixel"
    return bool(node.get("coordinate_transformation_mode", default) == "half_pixel")


def _aligned(
    node: Any, x: Tensor, boxes: Tensor, images: Tensor, samples: tuple[int, int]
) -> Tensor:
    """All boxes, with as many samples in each part of each."""
    outputs = node.get("output_height", 1), node.get("output_width", 1)
    offset = 0.5 if _half_pixel(node) else 0.0
    moved = boxes * node.get("spatial_scale", 1.0) - offset
    lines = []
    for d, (out, count) in enumerate(zip(outputs, samples, strict=True)):
        first, last = moved[:, 1 - d], moved[:, 3 - d]
        extent = last - first
        extent = extent if _half_pixel(node) else braze.clamp(extent, min=1.0)
        parts = braze.arange(out * count).to(x.dtype)
        lines.append(first[:, None] + (parts + 0.5) * (extent / (out * count))[:, None])
    count = boxes.shape[0]
    (height, width), (down, across) = x.shape[2:], (line.shape[1] for line in lines)
    rows = lines[0][:, :, None].expand(count, down, across).reshape(count, -1)
    columns = lines[1][:, None, :].expand(count, down, across).reshape(count, -1)
    inside = (rows >= -1) & (rows <= height) & (columns >= -1) & (columns <= width)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    flat = x.reshape(*x.shape[:2], -1).index_select(0, images.to(braze.int64))
    corners = _corners(flat, rows, columns, inside, (height, width))
    shape = (count, x.shape[1], outputs[0], samples[0], outputs[1], samples[1])
    if node.get("mode", "avg") == "max":  # of the neighbours' shares, as the operator is defined
        largest = corners[0]
        for corner in corners[1:]:
            largest = braze.maximum(largest, corner)
        return braze.amax(largest.reshape(shape), (3, 5))
    return braze.mean(sum(corners).reshape(shape), (3, 5))  # type: ignore[union-attr]


@imports("DeformConv", since=19)
def deform_conv(
    node: Any,
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    if x.dim() != 4:
        raise NotImplementedError(f"DeformConv of {x.dim() - 2} spatial dimensions; supported: 2")
    n, channels, height, width = x.shape
    kernel, out = weight.shape[2:], offset.shape[2:]
    stride, dilation = node.get("strides") or [1, 1], node.get("dilations") or [1, 1]
    pads = node.get("pads") or [0, 0, 0, 0]
    groups, own = node.get("group", 1), node.get("offset_group", 1)
    taps, points = kernel[0] * kernel[1], out[0] * out[1]
    moves = offset.reshape(n * own, kernel[0], kernel[1], 2, *out)
    lines = []
    for d in range(2):
        tap = np.arange(kernel[d]) * dilation[d] - pads[d]
        place = np.arange(out[d]) * stride[d]
        shape = [1, 1, 1, 1, 1]
        shape[1 + d], shape[3 + d] = kernel[d], out[d]
        grid = braze.from_numpy(np.add.outer(tap, place).reshape(shape).astype(x.dtype.numpy))
        lines.append((moves[:, :, :, d] + grid).reshape(n * own, taps * points))
    inside = braze.ones_like(lines[0], dtype=braze.bool)
    flat = x.reshape(n * own, channels // own, height * width)
    found: Any = sum(_corners(flat, lines[0], lines[1], inside, (height, width)))
    if mask is not None:
        found = found * mask.reshape(n * own, 1, taps * points)
    columns = found.reshape(n, groups, channels // groups * taps, points)
    matrix = weight.reshape(groups, weight.shape[0] // groups, -1)
    y = braze.matmul(matrix, columns).reshape(n, weight.shape[0], *out)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


@imports("NonMaxSuppression", since=10, read=(0, 1, 2, 3, 4))
def non_max_suppression(
    node: Any,
    boxes: np.ndarray,
    scores: np.ndarray,
    most: np.ndarray | None = None,
    overlap: np.ndarray | None = None,
    least: np.ndarray | None = None,
) -> np.ndarray:
    # How many there are depends on the values, so this is never part of a compiled graph.
    limit = 0 if most is None else int(most.reshape(()))
    if limit <= 0:
        return np.zeros((0, 3), np.int64)
    threshold = 0.0 if overlap is None else float(overlap.reshape(()))
    found = []
    for image, own in enumerate(boxes):
        low, high = _edges(own, bool(node.get("center_point_box", 0)))
        areas = (high - low).prod(1)
        for kind, points in enumerate(scores[image]):
            order = np.argsort(-points, kind="stable")
            if least is not None:
                order = order[points[order] > float(least.reshape(()))]
            kept: list[int] = []
            while len(order) and len(kept) < limit:
                best, order = order[0], order[1:]
                kept.append(int(best))
                sides = np.minimum(high[best], high[order]) - np.maximum(low[best], low[order])
                common = np.maximum(sides, 0).prod(1)
                union = areas[best] + areas[order] - common
                with np.errstate(all="ignore"):
                    ratio = np.where(union > 0, common / union, 0)
                order = order[ratio <= threshold]
            found += [(image, kind, i) for i in kept]
    return np.array(found, np.int64).reshape(-1, 3)


def _edges(boxes: np.ndarray, by_center: bool) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper corners of boxes."""
    first, second = boxes[:, :2], boxes[:, 2:]
    if by_center:
        return first - second / 2, first + second / 2
    return np.minimum(first, second), np.maximum(first, second)
