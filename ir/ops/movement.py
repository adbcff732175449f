"""Primitive movement: each result element is an operand element, found by index arithmetic.

The code generators never copy for these: a movement becomes part of the address of the load that
reads through it. `source_index` in `passes/lower.py` is where each one's arithmetic stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.ir.dtypes import i64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops import complex_rules
from braze.ir.ops.rules import check_dimensions, common_dtype
from braze.ir.types import Shape, TensorType

Ints = tuple[int, ...]


# reshape, permute, expand -------------------------------------------------------------------------


def _reshape_types(x: TensorType, *, shape: Ints) -> tuple[TensorType, ...]:
    if math.prod(shape) != x.numel or any(size < 0 for size in shape):
        raise ShapeError(
            f"[reshape] shape {list(shape)} is invalid for input of size {x.numel}: {x}"
        )
    return (x.with_shape(shape),)


reshape = declare(
    "reshape",
    "movement",
    "x",
    infer=_reshape_types,
    evaluate=lambda x, *, shape: x.reshape(shape),
    attributes={"shape": tuple},
    gradients={"x": lambda b, g, x_type: b.reshape(g, shape=x_type.shape)},
    doc="The same elements in row-major order under another shape.",
)


def _permute_types(x: TensorType, *, dims: Ints) -> tuple[TensorType, ...]:
    if sorted(dims) != list(range(x.rank)):
        raise ShapeError(f"[permute] {list(dims)} is not a permutation of the dimensions of {x}")
    return (x.with_shape(tuple(x.shape[d] for d in dims)),)


def inverse_permutation(dims: Ints) -> Ints:
    """The permutation that undoes `dims`.

    Example:
        >>> inverse_permutation((1, 2, 0))
        (2, 0, 1)
    """
    inverse = [0] * len(dims)
    for position, d in enumerate(dims):
        inverse[d] = position
    return tuple(inverse)


permute = declare(
    "permute",
    "movement",
    "x",
    infer=_permute_types,
    evaluate=lambda x, *, dims: x.transpose(dims),
    attributes={"dims": tuple},
    gradients={"x": lambda b, g, dims: b.permute(g, dims=inverse_permutation(dims))},
    doc="Result dimension i is operand dimension dims[i].",
)


def _expand_types(x: TensorType, *, shape: Ints) -> tuple[TensorType, ...]:
    lead = len(shape) - x.rank
    if lead < 0 or any(
        size not in (1, wanted) for size, wanted in zip(x.shape, shape[lead:], strict=True)
    ):
        raise ShapeError(f"[expand] {x} does not expand to {list(shape)}")
    return (x.with_shape(shape),)


expand = declare(
    "expand",
    "movement",
    "x",
    infer=_expand_types,
    evaluate=lambda x, *, shape: np.broadcast_to(x, shape),
    attributes={"shape": tuple},
    gradients={"x": lambda b, g, x_type: b.sum_to_shape(g, shape=x_type.shape)},
    doc="Repeat 1-sized dimensions, and add leading ones, to reach `shape`.",
)

# slice, pad, flip, concat -------------------------------------------------------------------------


def _slice_types(
    x: TensorType, *, starts: Ints, stops: Ints, steps: Ints
) -> tuple[TensorType, ...]:
    if not len(starts) == len(stops) == len(steps) == x.rank:
        raise ShapeError(f"[slice] needs a start, stop and step for each dimension of {x}")
    for start, stop, step, size in zip(starts, stops, steps, x.shape, strict=True):
        if not (0 <= start <= stop <= size and step > 0):
            raise ShapeError(f"[slice] {start}:{stop}:{step} is not inside a dimension of {size}")
    shape = tuple(-(-(b - a) // s) for a, b, s in zip(starts, stops, steps, strict=True))
    return (x.with_shape(shape),)


def _slice_gradient(
    b: Any, g: Any, x_type: TensorType, starts: Ints, stops: Ints, steps: Ints
) -> Any:
    covered = [0 if n == 0 else (n - 1) * s + 1 for n, s in zip(g.type.shape, steps, strict=True)]
    high = tuple(
        size - start - span for size, start, span in zip(x_type.shape, starts, covered, strict=True)
    )
    return b.pad(g, low=starts, high=high, interior=tuple(s - 1 for s in steps), value=0.0)


slice = declare(
    "slice",
    "movement",
    "x",
    infer=_slice_types,
    evaluate=lambda x, *, starts, stops, steps: x[tuple(map(_make_slice, starts, stops, steps))],
    attributes={"starts": tuple, "stops": tuple, "steps": tuple},
    gradients={"x": _slice_gradient},
    doc="Elements start, start + step, ... below stop, in every dimension; steps are positive.",
)


def _make_slice(start: int, stop: int, step: int) -> Any:
    import builtins

    return builtins.slice(start, stop, step)


def _padded(size: int, low: int, high: int, interior: int) -> int:
    return low + size + max(size - 1, 0) * interior + high


def _pad_types(
    x: TensorType, *, low: Ints, high: Ints, interior: Ints, value: float
) -> tuple[TensorType, ...]:
    if not len(low) == len(high) == len(interior) == x.rank:
        raise ShapeError(f"[pad] needs low, high and interior for each dimension of {x}")
    if min((*low, *high, *interior, 0)) < 0:
        raise ShapeError(f"[pad] padding must not be negative: {low}, {high}, {interior}")
    if not x.dtype.is_differentiable and not math.isfinite(value):
        raise DTypeError(f"[pad] {x} cannot hold {value}")
    return (x.with_shape(tuple(map(_padded, x.shape, low, high, interior))),)


def _pad(x: np.ndarray, *, low: Ints, high: Ints, interior: Ints, value: float) -> np.ndarray:
    result = np.full(tuple(map(_padded, x.shape, low, high, interior)), value, dtype=x.dtype)
    result[_pad_window(x.shape, low, interior)] = x
    return result


def _pad_window(shape: Shape, low: Ints, interior: Ints) -> Any:
    return tuple(
        _make_slice(a, a + max((n - 1) * (i + 1) + 1, 0) if n else a, i + 1)
        for n, a, i in zip(shape, low, interior, strict=True)
    )


def _pad_gradient(b: Any, g: Any, x_type: TensorType, low: Ints, interior: Ints) -> Any:
    steps = tuple(i + 1 for i in interior)
    stops = tuple(
        a + ((n - 1) * s + 1 if n else 0) for a, n, s in zip(low, x_type.shape, steps, strict=True)
    )
    return b.slice(g, starts=low, stops=stops, steps=steps)


pad = declare(
    "pad",
    "movement",
    "x",
    infer=_pad_types,
    evaluate=_pad,
    attributes={"low": tuple, "high": tuple, "interior": tuple, "value": float},
    gradients={"x": _pad_gradient},
    doc="Put `value` before, after and between (`interior` many) the elements of each dimension.",
    complex=complex_rules.pad,
)


def _flip_types(x: TensorType, *, dims: Ints) -> tuple[TensorType, ...]:
    check_dimensions("flip", dims, x)
    return (x,)


flip = declare(
    "flip",
    "movement",
    "x",
    infer=_flip_types,
    evaluate=lambda x, *, dims: np.flip(x, dims),
    attributes={"dims": tuple},
    gradients={"x": lambda b, g, dims: b.flip(g, dims=dims)},
    doc="Reverse the order along `dims`.",
)


def _concat_types(*xs: TensorType, dim: int) -> tuple[TensorType, ...]:
    dtype, first = common_dtype("concat", *xs), xs[0]
    check_dimensions("concat", (dim,), first)
    for x in xs[1:]:
        if x.rank != first.rank or any(
            a != b
            for axis, (a, b) in enumerate(zip(x.shape, first.shape, strict=True))
            if axis != dim
        ):
            raise ShapeError(
                f"[concat] sizes must match except in dimension {dim}: {first} and {x}"
            )
    total = 0
    for x in xs:
        total += x.shape[dim]
    shape = (*first.shape[:dim], total, *first.shape[dim + 1 :])
    return (first.with_shape(shape).with_dtype(dtype),)


def _concat_gradient(
    b: Any, g: Any, operand_types: Sequence[TensorType], position: int, dim: int
) -> Any:
    start = 0
    for x_type in operand_types[:position]:
        start += x_type.shape[dim]
    own = operand_types[position].shape
    starts = tuple(start if axis == dim else 0 for axis in range(len(own)))
    stops = tuple(a + n for a, n in zip(starts, own, strict=True))
    return b.slice(g, starts=starts, stops=stops, steps=(1,) * len(own))


concat = declare(
    "concat",
    "movement",
    "xs*",
    infer=_concat_types,
    evaluate=lambda *xs, dim: np.concatenate(xs, axis=dim),
    attributes={"dim": int},
    gradients={"xs": _concat_gradient},
    doc="The operands one after the other along `dim`.",
)

# window and its adjoint ---------------------------------------------------------------------------


def window_count(size: int, kernel: int, stride: int, dilation: int) -> int:
    """How many windows of `kernel` taps fit into `size` elements."""
    return (size - dilation * (kernel - 1) - 1) // stride + 1


def _window_types(
    x: TensorType, *, dims: Ints, size: Ints, stride: Ints, dilation: Ints
) -> tuple[TensorType, ...]:
    check_dimensions("window", dims, x)
    if not len(dims) == len(size) == len(stride) == len(dilation):
        raise ShapeError(f"[window] needs a size, stride and dilation for each of {dims}")
    shape = list(x.shape)
    for d, k, s, gap in zip(dims, size, stride, dilation, strict=True):
        if min(k, s, gap) < 1:
            raise ShapeError(
                f"[window] size, stride and dilation must be positive: {k}, {s}, {gap}"
            )
        if x.shape[d] < gap * (k - 1) + 1:
            raise ShapeError(
                f"[window] a window of {k} with dilation {gap} is larger than dimension {d} of {x}"
            )
        shape[d] = window_count(x.shape[d], k, s, gap)
    return (x.with_shape((*shape, *size)),)


def _window(x: np.ndarray, *, dims: Ints, size: Ints, stride: Ints, dilation: Ints) -> np.ndarray:
    shape, strides = list(x.shape), list(x.strides)
    for d, k, s, gap in zip(dims, size, stride, dilation, strict=True):
        shape[d] = window_count(x.shape[d], k, s, gap)
        strides[d] = x.strides[d] * s
        shape.append(k)
        strides.append(x.strides[d] * gap)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def _window_gradient(
    b: Any, g: Any, x_type: TensorType, dims: Ints, size: Ints, stride: Ints, dilation: Ints
) -> Any:
    extent = tuple(x_type.shape[d] for d in dims)
    spread = b.unwindow(g, dims=dims, extent=extent, stride=stride, dilation=dilation)
    taps = tuple(range(x_type.rank, x_type.rank + len(size)))
    return b.sum(spread, dims=taps, keepdim=False)


window = declare(
    "window",
    "movement",
    "x",
    infer=_window_types,
    evaluate=_window,
    attributes={"dims": tuple, "size": tuple, "stride": tuple, "dilation": tuple},
    gradients={"x": _window_gradient},
    doc="""Sliding windows: each of `dims` becomes the window's position and one dimension for the
tap in the window is appended: out[.., o, .., k] = x[.., o * stride + k * dilation, ..]. The view
behind convolution and pooling.""",
)


def _unwindow_types(
    x: TensorType, *, dims: Ints, extent: Ints, stride: Ints, dilation: Ints
) -> tuple[TensorType, ...]:
    rank = x.rank - len(dims)
    check_dimensions("unwindow", dims, x)
    if any(d >= rank for d in dims):
        raise ShapeError(f"[unwindow] the last {len(dims)} dimensions of {x} are taps: {dims}")
    shape = list(x.shape)
    for i, d in enumerate(dims):
        count = window_count(extent[i], x.shape[rank + i], stride[i], dilation[i])
        if count != x.shape[d]:
            raise ShapeError(f"[unwindow] dimension {d} of {x} should be {count}")
        shape[d] = extent[i]
    return (x.with_shape(tuple(shape)),)


def _unwindow(
    x: np.ndarray, *, dims: Ints, extent: Ints, stride: Ints, dilation: Ints
) -> np.ndarray:
    rank = x.ndim - len(dims)
    shape = list(x.shape)
    for d, e in zip(dims, extent, strict=True):
        shape[d] = e
    out = np.zeros(shape, dtype=x.dtype)
    for tap in np.ndindex(*x.shape[rank:]):
        place: list[Any] = [_make_slice(0, n, 1) for n in x.shape[:rank]]
        for i, d in enumerate(dims):
            start = tap[i] * dilation[i]
            place[d] = _make_slice(start, start + (x.shape[d] - 1) * stride[i] + 1, stride[i])
        out[(*place, *tap)] = x[(..., *tap)]
    return out


def _unwindow_gradient(
    b: Any, g: Any, x_type: TensorType, dims: Ints, stride: Ints, dilation: Ints
) -> Any:
    rank = x_type.rank - len(dims)
    size = x_type.shape[rank:]
    taps = b.window(g, dims=dims, size=size, stride=stride, dilation=dilation)
    # `window` appended fresh tap dimensions; keep the diagonal with the ones that g already has.
    for i, k in enumerate(size):
        have, new = rank + i, x_type.rank + i
        shape = tuple(k if axis == new else 1 for axis in range(x_type.rank + len(size)))
        other = tuple(k if axis == have else 1 for axis in range(x_type.rank + len(size)))
        index = b.iota(shape=(k,), dim=0, dtype=i64)
        same = b.eq(b.reshape(index, shape=shape), b.reshape(index, shape=other))
        taps = b.where(same, taps, 0.0)
    fresh = tuple(range(x_type.rank, x_type.rank + len(size)))
    return b.sum(taps, dims=fresh, keepdim=False)


unwindow = declare(
    "unwindow",
    "movement",
    "x",
    infer=_unwindow_types,
    evaluate=_unwindow,
    attributes={"dims": tuple, "extent": tuple, "stride": tuple, "dilation": tuple},
    gradients={"x": _unwindow_gradient},
    doc="""Put each window back in place, one copy per tap: out[.., i, .., k] = x[.., o, .., k]
where i = o * stride + k * dilation, else 0. Summed over the taps it is the adjoint of `window`.""",
)
