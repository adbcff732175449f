"""How movements of elements and constants are written in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.dtypes import bool_, i64, u8
from braze.ir.symint import SymInt, form_of, is_symbolic
from braze.onnx.exporting.writer import END, Operand, Writer
from braze.onnx.rules import exports


@exports("constant")
def constant(w: Writer, value: float, dtype: Any) -> str:
    return w.scalar(value, dtype)


@exports("full")
def full(w: Writer, shape: tuple[int, ...], value: float, dtype: Any) -> str:
    one = w.scalar(value, dtype)
    return w.node("Expand", one, w.ints(shape)) if shape else w.node("Identity", one)


@exports("iota")
def iota(w: Writer, shape: tuple[int, ...], dim: int, dtype: Any) -> str:
    if not is_symbolic(*shape):
        line = np.arange(shape[dim])
        own = line.reshape([-1 if d == dim else 1 for d in range(len(shape))])
        return w.constant(np.ascontiguousarray(np.broadcast_to(own, shape)), dtype)
    zero, one = w.scalar(0, i64), w.scalar(1, i64)
    row = w.node("Range", zero, w.scalar(shape[dim], i64), one)
    row = row if dtype is i64 else w.cast(row, dtype)
    if len(shape) == 1:
        return row
    row = w.unsqueeze(row, *(d for d in range(len(shape)) if d != dim))
    return w.node("Expand", row, w.ints(shape))


@exports("reshape")
def reshape(w: Writer, x: Operand, shape: tuple[int, ...]) -> str:
    return w.reshape(x, shape, x.shape)


@exports("permute")
def permute(w: Writer, x: Operand, dims: tuple[int, ...]) -> str:
    return w.node("Transpose", x, perm=list(dims)) if dims else w.node("Identity", x)


@exports("expand")
def expand(w: Writer, x: Operand, shape: tuple[int, ...]) -> str:
    ahead = len(shape) - x.rank
    # What keeps its size needs none: Expand leaves dimensions alone where 1 is asked for.
    wanted = [
        1 if i >= ahead and form_of(s) == form_of(x.shape[i - ahead]) else s
        for i, s in enumerate(shape)
    ]
    return w.node("Expand", x, w.ints(wanted))


@exports("slice")
def slice_(
    w: Writer,
    x: Operand,
    starts: tuple[int, ...],
    stops: tuple[int, ...],
    steps: tuple[int, ...],
) -> str:
    kept = []
    for dim, size in enumerate(x.shape):
        to_end = form_of(stops[dim]) == form_of(size)
        if not (to_end and form_of(starts[dim]) == 0 and form_of(steps[dim]) == 1):
            kept.append((dim, starts[dim], END if to_end else stops[dim], steps[dim]))
    if not kept:
        return w.node("Identity", x)
    dims, first, last, step = zip(*kept, strict=True)
    return w.slice(x, dims, first, last, step)


@exports("select")
def select(w: Writer, x: Operand, dim: int, index: int) -> str:
    if x.name in w.single:  # of a recurrence, the last step is all that there is
        return w.squeeze(x, dim)
    if isinstance(index, SymInt):
        last = isinstance(x.shape[dim], SymInt) and form_of(x.shape[dim] - 1) == form_of(index)
        place = w.constant(-1, i64) if last else w.scalar(index, i64)
    else:
        place = w.constant(index, i64)
    return w.node("Gather", x, place, axis=dim)


@exports("concat")
def concat(w: Writer, *xs: Operand, dim: int) -> str:
    return w.node("Concat", *xs, axis=dim)


@exports("stack")
def stack(w: Writer, *xs: Operand, dim: int) -> str:
    parts = [w.unsqueeze(x, dim) for x in xs]
    return parts[0] if len(parts) == 1 else w.node("Concat", *parts, axis=dim)


@exports("pad")
def pad(
    w: Writer,
    x: Operand,
    low: tuple[int, ...],
    high: tuple[int, ...],
    interior: tuple[int, ...],
    value: float,
) -> str:
    result: Operand | str = x
    if x.dtype is bool_:
        result, value = w.cast(x, u8), int(value)
    dtype = u8 if x.dtype is bool_ else x.dtype
    fill = w.scalar(value, dtype)
    shape = list(x.shape)
    for dim, gap in enumerate(interior):
        if gap:  # each element gets its gap behind it; the last one's is cut off
            apart = w.unsqueeze(result, dim + 1)
            amounts = [0] * (2 * x.rank + 2)
            amounts[x.rank + 1 + dim + 1] = gap
            apart = w.node("Pad", apart, w.ints(amounts), fill)
            wide = [*shape[:dim], shape[dim] * (gap + 1), *shape[dim + 1 :]]
            joined = w.node("Reshape", apart, w.ints(wide))
            result = w.slice(joined, [dim], [0], [-gap])
            shape[dim] = wide[dim] - gap
    if any(form_of(v) != 0 for v in (*low, *high)):
        result = w.node("Pad", result, w.ints([*low, *high]), fill)
    if x.dtype is bool_:
        return w.cast(result, bool_)
    return result if isinstance(result, str) else w.node("Identity", result)


@exports("window")
def window(
    w: Writer,
    x: Operand,
    dims: tuple[int, ...],
    size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> str:
    result: Operand | str = x
    for i, dim in enumerate(dims):
        out = w.results[0].shape[dim]
        taps = np.arange(size[i], dtype=np.int64) * dilation[i]
        if isinstance(out, SymInt):
            line = w.node("Range", w.scalar(0, i64), w.scalar(out, i64), w.scalar(1, i64))
            line = w.node("Mul", line, w.scalar(stride[i], i64))
            places = w.node("Add", w.unsqueeze(line, 1), w.constant(taps))
        else:
            places = w.constant(np.add.outer(np.arange(out, dtype=np.int64) * stride[i], taps))
        rank = x.rank + i
        result = w.node("Gather", result, places, axis=dim)
        order = [d for d in range(rank + 1) if d != dim + 1]
        result = w.permute(result, [*order, dim + 1])
    return result if isinstance(result, str) else w.node("Identity", result)


@exports("tril")
def tril(w: Writer, x: Operand, diagonal: int) -> str:
    return w.node("Trilu", x, w.scalar(diagonal, i64), upper=0)


@exports("triu")
def triu(w: Writer, x: Operand, diagonal: int) -> str:
    return w.node("Trilu", x, w.scalar(diagonal, i64), upper=1)
