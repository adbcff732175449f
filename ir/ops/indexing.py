"""Primitives that address by data: take, scatter, and the range check that guards them.

Indices are i64 or i32 and must lie in range. Out-of-range indices are reported by `check_range`,
which the front end's operations emit beside these; here they are clamped, so that memory is never
touched out of bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.errors import DTypeError, ShapeError, failed_check
from braze.ir.op import declare
from braze.ir.ops.rules import Infer, check_dimensions, common_dtype
from braze.ir.types import TensorType


def _check_index(name: str, index: TensorType) -> None:
    if index.dtype.name not in ("i64", "i32"):
        raise DTypeError(f"[{name}] the index must be int64 or int32, given {index}")


def clamped(index: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(np.clip(index, 0, max(size - 1, 0)))


def _check_not_empty(name: str, x: TensorType, index: TensorType, dim: int) -> None:
    if x.shape[dim] == 0 and index.numel:
        raise ShapeError(f"[{name}] dimension {dim} of {x} is empty")


def _check_along(name: str, x: TensorType, index: TensorType, dim: int) -> None:
    """The index has x's rank and is nowhere larger, but along `dim`."""
    fits = index.rank == x.rank and all(
        i <= n for axis, (i, n) in enumerate(zip(index.shape, x.shape, strict=True)) if axis != dim
    )
    if not fits:
        raise ShapeError(f"[{name}] index {index} does not fit {x} along dimension {dim}")
    _check_not_empty(name, x, index, dim)


# take ---------------------------------------------------------------------------------------------


def _take_types(x: TensorType, index: TensorType, *, dim: int) -> tuple[TensorType, ...]:
    check_dimensions("take", (dim,), x)
    _check_index("take", index)
    _check_not_empty("take", x, index, dim)
    return (x.with_shape((*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])),)


take = declare(
    "take",
    "gather",
    "x index",
    infer=_take_types,
    evaluate=lambda x, index, *, dim: np.take(x, clamped(index, x.shape[dim]), axis=dim),
    attributes={"dim": int},
    gradients={
        "x": lambda b, g, index, x_type, dim: b.index_add(
            b.full(shape=x_type.shape, value=0.0, dtype=x_type.dtype), index, g, dim=dim
        )
    },
    doc="out[a.., i.., z..] = x[a.., index[i..], z..] with `index` in place of dimension `dim`.",
)


def _along_types(x: TensorType, index: TensorType, *, dim: int) -> tuple[TensorType, ...]:
    check_dimensions("take_along", (dim,), x)
    _check_index("take_along", index)
    _check_along("take_along", x, index, dim)
    return (x.with_shape(index.shape),)


def places_along(index: np.ndarray, size: int, dim: int) -> tuple[Any, ...]:
    places: list[Any] = list(np.indices(index.shape, sparse=True))
    places[dim] = clamped(index, size)
    return tuple(places)


take_along = declare(
    "take_along",
    "gather",
    "x index",
    infer=_along_types,
    evaluate=lambda x, index, *, dim: x[places_along(index, x.shape[dim], dim)],
    attributes={"dim": int},
    gradients={
        "x": lambda b, g, index, x_type, dim: b.scatter_add(
            b.full(shape=x_type.shape, value=0.0, dtype=x_type.dtype), index, g, dim=dim
        )
    },
    doc="out[i..] = x[i.. with i[dim] replaced by index[i..]]: PyTorch's gather.",
)

# scatter ------------------------------------------------------------------------------------------


def rows_rule(name: str) -> Infer:
    """Type rule of the operations that write whole rows (of dimension `dim`), one an index."""

    def infer(
        x: TensorType, index: TensorType, updates: TensorType, *, dim: int
    ) -> tuple[TensorType, ...]:
        check_dimensions(name, (dim,), x)
        _check_index(name, index)
        common_dtype(name, x, updates)
        if updates.shape != (*x.shape[:dim], *index.shape, *x.shape[dim + 1 :]):
            raise ShapeError(f"[{name}] {updates} does not fit {x} indexed by {index} at {dim}")
        _check_not_empty(name, x, index, dim)
        return (x,)

    return infer


# From rows of so many numbers on, whole rows are added faster than `np.add.at` adds numbers, if no
# place occurs more often than this.
_WIDE_ROW = 16
_MOST_ROUNDS = 64


def _add_rows(out: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
    """``np.add.at(out, places, rows)`` to the bit: equal places get their rows one after another,
    one in each round."""
    counts = np.bincount(places)
    most = int(counts.max(initial=0))
    if out[:1].size < _WIDE_ROW or most > _MOST_ROUNDS:
        np.add.at(out, places, rows)
    elif most <= 1:
        out[places] += rows
    else:
        order = np.argsort(places, kind="stable")
        rounds = np.arange(len(places)) - (np.cumsum(counts) - counts)[places[order]]
        order = order[np.argsort(rounds, kind="stable")]
        for now in np.split(order, np.cumsum(np.bincount(rounds))[:-1]):
            out[places[now]] += rows[now]


def _index_add(x: np.ndarray, index: np.ndarray, updates: np.ndarray, *, dim: int) -> np.ndarray:
    out = np.moveaxis(x.copy(), dim, 0)
    span = tuple(range(dim, dim + index.ndim))
    rows = np.moveaxis(updates, span, tuple(range(index.ndim)))
    places = clamped(index, x.shape[dim]).reshape(-1)
    _add_rows(out, places, rows.reshape(len(places), *out.shape[1:]))
    return np.ascontiguousarray(np.moveaxis(out, 0, dim))


index_add = declare(
    "index_add",
    "scatter",
    "x index updates",
    infer=rows_rule("index_add"),
    evaluate=_index_add,
    attributes={"dim": int},
    gradients={
        "x": lambda b, g: g,
        "updates": lambda b, g, index, dim: b.take(g, index, dim=dim),
    },
    doc="x with updates[a.., i.., z..] added at [a.., index[i..], z..]; equal indices accumulate.",
    complex=True,
)


def along_rule(name: str) -> Infer:
    """Type rule of the operations that write single elements, each with an index of its own."""

    def infer(
        x: TensorType, index: TensorType, updates: TensorType, *, dim: int
    ) -> tuple[TensorType, ...]:
        check_dimensions(name, (dim,), x)
        _check_index(name, index)
        common_dtype(name, x, updates)
        if updates.shape != index.shape:
            raise ShapeError(f"[{name}] {updates} and {index} must have one shape")
        _check_along(name, x, index, dim)
        return (x,)

    return infer


def _scatter_add(x: np.ndarray, index: np.ndarray, updates: np.ndarray, *, dim: int) -> np.ndarray:
    out = x.copy()
    np.add.at(out, places_along(index, x.shape[dim], dim), updates)
    return out


scatter_add = declare(
    "scatter_add",
    "scatter",
    "x index updates",
    infer=along_rule("scatter_add"),
    evaluate=_scatter_add,
    attributes={"dim": int},
    gradients={
        "x": lambda b, g: g,
        "updates": lambda b, g, index, dim: b.take_along(g, index, dim=dim),
    },
    doc="x with updates[i..] added at [i.. with i[dim] = index[i..]]; repeats accumulate.",
    complex=True,
)

# checks -------------------------------------------------------------------------------------------


def _check_types(index: TensorType, *, low: int, high: int, message: str) -> tuple[TensorType, ...]:
    if not index.dtype.is_integer:
        raise DTypeError(f"[{message}] the index must be an integer, given {index}")
    return ()


def _check_range(index: np.ndarray, *, low: int, high: int, message: str) -> tuple[()]:
    outside = (index < low) | (index >= high)
    if outside.any():
        value = int(index[outside].flat[0])
        raise failed_check(message, value, low, high)
    return ()


check_range = declare(
    "check_range",
    "check",
    "index",
    infer=_check_types,
    evaluate=_check_range,
    attributes={"low": int, "high": int, "message": str},
    results="",
    differentiable=False,
    effect=True,
    doc="""Raise IndexError unless low <= index < high everywhere. Compiled code reports the first
value it finds; the error names `message` (the operation), the value, the range and the user's
line. With the message `ZERO_DIVISION` it is a DivisorError; `failed_check` tells of others.""",
)
