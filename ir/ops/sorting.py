"""Primitives that order elements along one dimension: sort and topk.

The order is total and stable: equal elements stay in the order of their positions, also when
descending. nan counts as the largest, as in PyTorch; -0.0 and 0.0 are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.dtypes import i64
from braze.ir.errors import ShapeError
from braze.ir.op import declare
from braze.ir.ops.rules import check_dimensions
from braze.ir.types import TensorType, tensor_type

Array = np.ndarray[Any, np.dtype[Any]]


def positions_in_order(x: Array, dim: int, descending: bool) -> Array:
    """The positions (i64) along `dim` of the elements in their order; x has any dtype."""
    if x.dtype.kind not in "biuf":  # bfloat16: NumPy does not know where its nans belong
        x = x.astype(np.float32)
    if not descending:
        forwards: Array = np.argsort(x, axis=dim, kind="stable")
        return forwards.astype(np.int64, copy=False)
    # Ascending from behind, and read backwards: ties keep their order that way.
    backwards = np.argsort(np.flip(x, dim), axis=dim, kind="stable")
    positions: Array = np.flip(x.shape[dim] - 1 - backwards, dim)
    return positions.astype(np.int64, copy=False)


def _sort_types(x: TensorType, *, dim: int, descending: bool) -> tuple[TensorType, ...]:
    check_dimensions("sort", (dim,), x)
    return (x, tensor_type(i64, x.shape))


def _sort(x: Array, *, dim: int, descending: bool) -> tuple[Array, Array]:
    indices = positions_in_order(x, dim, descending)
    return np.take_along_axis(x, indices, dim), indices


def _gradient(b: Any, g: Any, indices: Any, x_type: TensorType, dim: int) -> Any:
    """Each value's gradient goes back to where the value came from, a place of its own."""
    zeros = b.full(shape=x_type.shape, value=0.0, dtype=x_type.dtype)
    return b.scatter(zeros, indices, g, dim=dim)


sort = declare(
    "sort",
    "sort",
    "x",
    infer=_sort_types,
    evaluate=_sort,
    attributes={"dim": int, "descending": bool},
    results="values indices",
    gradients={"x": _gradient},
    cost=40,
    doc="""x in ascending or descending order along `dim`, and the positions (i64) that the values
had. Stable; nan is the largest.""",
)


def _topk_types(x: TensorType, *, dim: int, k: int, largest: bool) -> tuple[TensorType, ...]:
    check_dimensions("topk", (dim,), x)
    if not 0 <= k <= x.shape[dim]:
        raise ShapeError(f"[topk] selected index k out of range: {k} of dimension {dim} of {x}")
    shape = (*x.shape[:dim], k, *x.shape[dim + 1 :])
    return (x.with_shape(shape), tensor_type(i64, shape))


def _topk(x: Array, *, dim: int, k: int, largest: bool) -> tuple[Array, Array]:
    indices = positions_in_order(x, dim, largest)
    indices = np.ascontiguousarray(np.take(indices, range(k), axis=dim))
    return np.take_along_axis(x, indices, dim), indices


topk = declare(
    "topk",
    "sort",
    "x",
    infer=_topk_types,
    evaluate=_topk,
    attributes={"dim": int, "k": int, "largest": bool},
    results="values indices",
    gradients={"x": _gradient},
    cost=10,
    doc="""The first k of what `sort` gives along `dim`: the largest in descending order, or the
smallest in ascending order, and their positions (i64).""",
)
