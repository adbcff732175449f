"""ONNX's operators that move elements: shapes, slices, pads, concatenations."""

from __future__ import annotations

from typing import Any

import numpy as np

import braze
from braze import nn
from braze.onnx.known import axes_of, bounded_slice, sizes, slices_of, target_shape
from braze.onnx.rules import imports
from braze.tensors import Tensor


@imports("Shape", since=1, raw=True)
def shape(node: Any, x: Any) -> np.ndarray:
    return sizes(node, tuple(x.shape))


@imports("Size", since=1, raw=True)
def size(node: Any, x: Any) -> np.ndarray:
    return np.array(np.prod(x.shape), dtype=np.int64)


@imports("Reshape", since=5, read=(1,))
def reshape(node: Any, x: Tensor, new: np.ndarray) -> Tensor:
    wanted = target_shape(tuple(x.shape), new, bool(node.get("allowzero", 0)))
    if -1 in wanted and not x.numel():  # of nothing, the rest cannot be divided
        wanted = tuple(0 if v == -1 else v for v in wanted)
    return x.reshape(wanted)


@imports("Flatten", since=1)
def flatten(node: Any, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis += x.dim() if axis < 0 else 0
    rows = int(np.prod(x.shape[:axis]))
    return x.reshape(rows, int(np.prod(x.shape[axis:])))


@imports("Squeeze", since=1, read=(1,))
def squeeze(node: Any, x: Tensor, axes: np.ndarray | None = None) -> Tensor:
    if axes is None and node.get("axes") is None:
        return braze.squeeze(x)
    dims = axes_of(node, axes, x.dim())
    wrong = [d for d in dims if x.shape[d] != 1]
    if wrong:
        raise ValueError(f"Squeeze of dimension {wrong[0]}, whose size is {x.shape[wrong[0]]}")
    return x.reshape([s for i, s in enumerate(x.shape) if i not in dims])


@imports("Unsqueeze", since=1, read=(1,))
def unsqueeze(node: Any, x: Tensor, axes: np.ndarray | None = None) -> Tensor:
    count = len(np.atleast_1d(axes if axes is not None else node.get("axes")))
    dims = axes_of(node, axes, x.dim() + count)
    rest = iter(x.shape)
    return x.reshape([1 if i in dims else next(rest) for i in range(x.dim() + count)])


@imports("Transpose", since=1)
def transpose(node: Any, x: Tensor) -> Tensor:
    return x.permute(node.get("perm", list(range(x.dim()))[::-1]))


@imports("Concat", since=4)
def concat(node: Any, *xs: Tensor) -> Tensor:
    return braze.cat(xs, node.get("axis"))


@imports("Split", since=2, read=(1,))
def split(node: Any, x: Tensor, given: np.ndarray | None = None) -> tuple[Tensor, ...]:
    axis = node.get("axis", 0) % x.dim()
    parts = node.get("split") if given is None else [int(v) for v in given]
    if parts is None:
        count = node.get("num_outputs", node.results)
        each = -(-x.shape[axis] // count)
        parts = [each] * (count - 1)
        parts.append(x.shape[axis] - sum(parts))
    return tuple(braze.split(x, parts, axis))


@imports("Slice", since=1, read=(1, 2, 3, 4))
def slice_(node: Any, x: Tensor, *bounds: np.ndarray | None) -> Tensor:
    index: list[slice] = [slice(None)] * x.dim()
    turned = []
    for axis, start, stop, step in slices_of(node, x.dim(), bounds):
        part = bounded_slice(x.shape[axis], start, stop, step)
        if step < 0:
            taken = range(*part.indices(x.shape[axis]))
            part = slice(taken[-1], taken[0] + 1, -step) if taken else slice(0, 0)
            turned.append(axis)
        index[axis] = part
    if any(part != slice(None) for part in index):
        x = x[tuple(index)]
    return braze.flip(x, turned) if turned else x


@imports("Expand", since=8, read=(1,))
def expand(node: Any, x: Tensor, new: np.ndarray) -> Tensor:
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(int(v) for v in new)))


@imports("Tile", since=6, read=(1,))
def tile(node: Any, x: Tensor, repeats: np.ndarray) -> Tensor:
    return x.repeat(*[int(v) for v in repeats]) if x.dim() else x


@imports("Pad", since=2, read=(1, 2, 3))
def pad(
    node: Any,
    x: Tensor,
    pads: np.ndarray | None = None,
    value: np.ndarray | None = None,
    axes: np.ndarray | None = None,
) -> Tensor:
    given = node.get("pads", node.get("paddings")) if pads is None else [int(v) for v in pads]
    dims = range(x.dim()) if axes is None else axes_of(node, axes, x.dim())
    low, high = [0] * x.dim(), [0] * x.dim()
    for i, dim in enumerate(dims):
        low[dim], high[dim] = given[i], given[i + len(given) // 2]
    fill = node.get("value", 0.0) if value is None else value.reshape(()).item()
    return padded(x, low, high, node.get("mode", "constant"), fill)


def padded(
    x: Tensor, low: list[int], high: list[int], mode: str = "constant", value: float = 0.0
) -> Tensor:
    """Add, or take away, so many elements before and behind in each dimension."""
    if not any(low) and not any(high):
        return x
    if mode == "constant":
        if x.dtype is braze.bool:
            return padded(x.to(braze.uint8), low, high, mode, int(value)).to(braze.bool)
        pairs = [n for pair in zip(reversed(low), reversed(high), strict=True) for n in pair]
        return nn.functional.pad(x, pairs, value=value)
    for dim, (before, behind) in enumerate(zip(low, high, strict=True)):
        places = np.arange(x.shape[dim])[max(-before, 0) : x.shape[dim] + min(behind, 0)]
        more = (max(before, 0), max(behind, 0))
        if len(places) != x.shape[dim] or any(more):
            index = np.pad(places, more, mode=mode)  # type: ignore[call-overload]
            x = x.index_select(dim, braze.from_numpy(index))
    return x


@imports("DepthToSpace", "SpaceToDepth", since=1)
def blocks(node: Any, x: Tensor) -> Tensor:
    size, (n, c, h, w) = node.get("blocksize"), x.shape
    if node.op == "DepthToSpace":
        rest = c // size**2
        if node.get("mode", "DCR") == "DCR":
            y = x.reshape(n, size, size, rest, h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            y = x.reshape(n, rest, size, size, h, w).permute(0, 1, 4, 2, 5, 3)
        return y.reshape(n, rest, h * size, w * size)
    y = x.reshape(n, c, h // size, size, w // size, size)
    order = (0, 1, 3, 5, 2, 4) if node.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return y.permute(order).reshape(n, c * size**2, h // size, w // size)


@imports("Trilu", since=14, read=(1,))
def trilu(node: Any, x: Tensor, k: np.ndarray | None = None) -> Tensor:
    diagonal = 0 if k is None else int(k.reshape(()))
    return (braze.triu if node.get("upper", 1) else braze.tril)(x, diagonal)


@imports("ReverseSequence", since=10)
def reverse_sequence(node: Any, x: Tensor, lengths: Tensor) -> Tensor:
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    steps = braze.arange(x.shape[time]).reshape(-1, 1)
    count = lengths.to(braze.int64).reshape(1, -1)
    index = braze.where(steps < count, count - 1 - steps, steps)
    index = index if time < batch else index.permute(1, 0)
    sizes_ = [x.shape[d] if d in (time, batch) else 1 for d in range(x.dim())]
    return braze.gather(x, time, index.reshape(sizes_).expand(x.shape))


@imports("Compress", since=9, read=(1,))
def compress(node: Any, x: Tensor, condition: np.ndarray) -> Tensor:
    axis = node.get("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    return x.index_select(axis, braze.from_numpy(np.flatnonzero(condition)))
