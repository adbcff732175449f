"""How gathers and scatters are written in ONNX."""

from __future__ import annotations

from typing import Any

from braze.ir.dtypes import i64
from braze.onnx.exporting.writer import Operand, Writer
from braze.onnx.rules import exports


def _index(w: Writer, index: Operand) -> Operand | str:
    return index if index.dtype in (i64,) else w.cast(index, i64)


@exports("take")
def take(w: Writer, x: Operand, index: Operand, dim: int) -> str:
    return w.node("Gather", x, _index(w, index), axis=dim)


@exports("take_along")
def take_along(w: Writer, x: Operand, index: Operand, dim: int) -> str:
    return w.node("GatherElements", x, _index(w, index), axis=dim)


@exports("wrapped_index")
def wrapped_index(w: Writer, index: Operand, size: int, message: str) -> str:
    whole = _index(w, index)
    below = w.node("Less", whole, w.scalar(0, i64))
    return w.node("Where", below, w.node("Add", whole, w.scalar(size, i64)), whole)


@exports("one_hot")
def one_hot(w: Writer, index: Operand, classes: int) -> str:
    if not index.rank:  # which OneHot does not take
        hot = one_hot(w, Operand(w.unsqueeze(index, 0), index.dtype, (1,)), classes)
        return w.squeeze(hot, 0)
    return w.node("OneHot", index, w.ints([classes]), w.constant([0, 1], i64), axis=-1)


@exports("scatter")
def scatter(w: Writer, x: Operand, index: Operand, updates: Operand, dim: int) -> str:
    return w.node("ScatterElements", x, _index(w, index), updates, axis=dim)


@exports("scatter_add")
def scatter_add(w: Writer, x: Operand, index: Operand, updates: Operand, dim: int) -> str:
    return w.node("ScatterElements", x, _index(w, index), updates, axis=dim, reduction="add")


_COMBINES = {"prod": "mul", "amax": "max", "amin": "min"}


@exports("scatter_reduce")
def scatter_reduce(
    w: Writer, x: Operand, index: Operand, updates: Operand, dim: int, combine: str
) -> str:
    how = _COMBINES[combine]
    return w.node("ScatterElements", x, _index(w, index), updates, axis=dim, reduction=how)


def _rows(w: Writer, x: Operand, index: Operand, updates: Operand, dim: int, how: Any) -> str:
    """Write to rows: what is indexed comes first, which ScatterND wants."""
    ahead = [dim, *(d for d in range(x.rank) if d != dim)]
    moved = w.permute(x, ahead)
    inside = list(range(dim, dim + index.rank))
    rest = [d for d in range(updates.rank) if d not in inside]
    rows = w.permute(updates, [*inside, *rest])
    places = w.unsqueeze(_index(w, index), index.rank)
    found = w.node("ScatterND", moved, places, rows, reduction=how)
    return w.permute(found, [ahead.index(d) for d in range(x.rank)])


@exports("index_put")
def index_put(w: Writer, x: Operand, index: Operand, updates: Operand, dim: int) -> str:
    return _rows(w, x, index, updates, dim, None)


@exports("index_add")
def index_add(w: Writer, x: Operand, index: Operand, updates: Operand, dim: int) -> str:
    return _rows(w, x, index, updates, dim, "add")


@exports("resample")
def resample(
    w: Writer,
    x: Operand,
    places: Operand,
    weights: Operand,
    back_places: Operand,
    back_weights: Operand,
    dim: int,
) -> str:
    total = ""
    shape = [1] * x.rank
    shape[dim] = -1
    last = w.scalar(x.shape[dim] - 1, i64)
    inside = w.node("Clip", w.cast(places, i64), w.scalar(0, i64), last)
    for tap in range(int(places.shape[0])):
        index = w.node("Gather", inside, w.constant(tap, i64), axis=0)
        weight = w.node("Gather", weights, w.constant(tap, i64), axis=0)
        weight = w.cast(weight, x.dtype) if weights.dtype is not x.dtype else weight
        part = w.node("Gather", x, index, axis=dim)
        part = w.node("Mul", part, w.node("Reshape", weight, w.ints(shape)))
        total = w.node("Add", total, part) if total else part
    return total
