"""Where the elements of views lie: strides and offsets, as PyTorch would report them.

Values are row-major in memory whatever a program does (see `braze.tensors`), so strides describe a
view, not memory: they say which elements of its root tensor it shows. From them follow
`is_contiguous`, whether `view` is possible, and whether one element is shown twice.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from braze.capture import Call
from braze.ir.types import Shape

Ints = tuple[int, ...]


class Layout(NamedTuple):
    """Element (i, j, ...) of a view is element offset + i * strides[0] + ... of the flat root."""

    strides: Ints
    offset: int


@lru_cache(maxsize=4096)
def row_major(shape: Shape) -> Layout:
    """The layout of a tensor that is no view."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return Layout(tuple(strides), 0)


def is_row_major(shape: Shape, strides: Ints) -> bool:
    """Do the elements follow each other in order, without gaps? Strides of single elements do not
    matter."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size == 0:
            return True
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


@lru_cache(maxsize=4096)
def reshaped_strides(shape: Shape, strides: Ints, new: Shape) -> Ints | None:
    """The strides under another shape; None if the elements have to be copied for it.

    Runs of dimensions that follow each other in memory may be divided anew (PyTorch's
    `computeStride`).
    """
    if math.prod(shape) == 0:
        return strides if shape == new else row_major(new).strides
    if not shape:
        return (1,) * len(new)
    result = [1] * len(new)
    at = len(new) - 1
    base = strides[-1]
    run = filled = 1
    for axis in range(len(shape) - 1, -1, -1):
        run *= shape[axis]
        if axis and (shape[axis - 1] == 1 or strides[axis - 1] == run * base):
            continue
        while at >= 0 and (filled < run or new[at] == 1):
            result[at] = filled * base
            filled *= new[at]
            at -= 1
        if filled != run:
            return None
        if axis:
            base, run, filled = strides[axis - 1], 1, 1
    return None if at >= 0 else tuple(result)


@lru_cache(maxsize=16384)
def moved(call: Call, shape: Shape, layout: Layout) -> Layout:
    """The layout of a view made by one movement of something of this shape and layout."""
    strides, offset = layout
    name, at = call.op.name, call.attributes
    rule = _RULES.get(name)
    if rule is None:
        raise ValueError(f"{name} does not make views")
    return Layout(*rule(at, shape, strides, offset))


Strided = tuple[Ints, int]


def _reshape(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    new = reshaped_strides(shape, strides, at["shape"])
    assert new is not None, "a reshape that copies is not a view"
    return new, offset


def _permute(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    return tuple(strides[d] for d in at["dims"]), offset


def _select(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    d = at["dim"]
    return (*strides[:d], *strides[d + 1 :]), offset + at["index"] * strides[d]


def _slice(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    start = sum(a * s for a, s in zip(at["starts"], strides, strict=True))
    return tuple(k * s for k, s in zip(at["steps"], strides, strict=True)), offset + start


def _expand(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    lead = len(at["shape"]) - len(shape)
    kept = (
        0 if size == 1 and wanted != 1 else stride
        for size, wanted, stride in zip(shape, at["shape"][lead:], strides, strict=True)
    )
    result = [0] * lead + list(kept)
    for axis in range(lead - 1, -1, -1):
        if at["shape"][axis] == 1 and axis + 1 < len(result):
            result[axis] = result[axis + 1] * at["shape"][axis + 1]
    return tuple(result), offset


def _diagonal(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    one, two = at["dim1"], at["dim2"]
    rest = tuple(s for d, s in enumerate(strides) if d not in (one, two))
    shift = at["offset"]
    inside = -shape[one] < shift < shape[two]
    start = (shift * strides[two] if shift >= 0 else -shift * strides[one]) if inside else 0
    return (*rest, strides[one] + strides[two]), offset + start


def _window(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    result = list(strides)
    for d, stride, gap in zip(at["dims"], at["stride"], at["dilation"], strict=True):
        result[d] = strides[d] * stride
        result.append(strides[d] * gap)
    return tuple(result), offset


def _as_strided(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    (step,) = strides
    return tuple(s * step for s in at["strides"]), offset + at["offset"] * step


def _bitcast(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    return strides, offset


def _view_as_real(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    return (*(2 * s for s in strides), 1), 2 * offset


def _view_as_complex(at: Any, shape: Shape, strides: Ints, offset: int) -> Strided:
    return tuple(s // 2 for s in strides[:-1]), offset // 2


_RULES: dict[str, Any] = {
    "reshape": _reshape,
    "permute": _permute,
    "select": _select,
    "slice": _slice,
    "expand": _expand,
    "diagonal": _diagonal,
    "window": _window,
    "as_strided": _as_strided,
    "bitcast": _bitcast,
    "view_as_real": _view_as_real,
    "view_as_complex": _view_as_complex,
}


@lru_cache(maxsize=4096)
def shows_twice(shape: Shape, strides: Ints) -> bool:
    """Do two elements of the view lie in one place?"""
    if math.prod(shape) == 0:
        return False
    sizes = sorted((s, n) for s, n in zip(strides, shape, strict=True) if n > 1)
    reach = 0
    for stride, size in sizes:
        if stride <= reach:
            break
        reach += stride * (size - 1)
    else:
        return False
    if any(stride == 0 for stride, _ in sizes):
        return True
    # Strides that interleave may still keep all elements apart: look at each.
    places = np.zeros(1, dtype=np.int64)
    for stride, size in sizes:
        places = (places[:, None] + stride * np.arange(size)).reshape(-1)
    return len(np.unique(places)) < len(places)
