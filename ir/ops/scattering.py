"""Primitives that overwrite or combine at places that data choose.

They are the siblings of `index_add` and `scatter_add` in `indexing`, with the same operands and the
same clamping. Updates are taken in row-major order, so that where one place is named twice the
last update stays: results do not depend on the machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.errors import DTypeError
from braze.ir.op import declare
from braze.ir.ops import indexing
from braze.ir.types import TensorType

COMBINE = {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def _index_put(x: np.ndarray, index: np.ndarray, updates: np.ndarray, *, dim: int) -> np.ndarray:
    out = np.moveaxis(x.copy(), dim, 0)
    span = tuple(range(dim, dim + index.ndim))
    rows = np.moveaxis(updates, span, tuple(range(index.ndim)))
    if index.size:
        places, last = last_writes(indexing.clamped(index, x.shape[dim]).reshape(-1))
        out[places] = rows.reshape(index.size, *out.shape[1:])[last]
    return np.ascontiguousarray(np.moveaxis(out, 0, dim))


def last_writes(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct places, and the position of the last mention of each."""
    distinct, first = np.unique(places[::-1], return_index=True)
    return distinct, places.size - 1 - first


index_put = declare(
    "index_put",
    "scatter",
    "x index updates",
    infer=indexing.rows_rule("index_put"),
    evaluate=_index_put,
    attributes={"dim": int},
    gradients={
        "x": lambda b, g, index, updates_type, dim: b.index_put(
            g, index, _zeros(b, updates_type), dim=dim
        ),
        "updates": lambda b, g, index, dim: b.take(g, index, dim=dim),
    },
    doc="""x with updates[a.., i.., z..] written to [a.., index[i..], z..]. Where an index appears
twice the last update stays, but (as in PyTorch) the gradient goes to all of them.""",
)


def _scatter(x: np.ndarray, index: np.ndarray, updates: np.ndarray, *, dim: int) -> np.ndarray:
    out = x.copy()
    if index.size:
        where = np.broadcast_arrays(*indexing.places_along(index, x.shape[dim], dim))
        flat = np.ravel_multi_index([w.reshape(-1) for w in where], x.shape)
        places, last = last_writes(np.asarray(flat))
        out.reshape(-1)[places] = updates.reshape(-1)[last]
    return out


scatter = declare(
    "scatter",
    "scatter",
    "x index updates",
    infer=indexing.along_rule("scatter"),
    evaluate=_scatter,
    attributes={"dim": int},
    gradients={
        "x": lambda b, g, index, updates_type, dim: b.scatter(
            g, index, _zeros(b, updates_type), dim=dim
        ),
        "updates": lambda b, g, index, dim: b.take_along(g, index, dim=dim),
    },
    doc="""x with updates[i..] written to [i.. with i[dim] = index[i..]]. Where a place appears
twice the last update stays, but (as in PyTorch) the gradient goes to all of them.""",
)


def _zeros(b: Any, like: TensorType) -> Any:
    return b.full(shape=like.shape, value=0.0, dtype=like.dtype)


# scatter_reduce -----------------------------------------------------------------------------------


def _reduce_types(
    x: TensorType, index: TensorType, updates: TensorType, *, dim: int, combine: str
) -> tuple[TensorType, ...]:
    if combine not in COMBINE:
        raise DTypeError(f"[scatter_reduce] combine must be one of {list(COMBINE)}: {combine!r}")
    return indexing.along_rule("scatter_reduce")(x, index, updates, dim=dim)


def _reduce(
    x: np.ndarray, index: np.ndarray, updates: np.ndarray, *, dim: int, combine: str
) -> np.ndarray:
    out = x.copy()
    with np.errstate(invalid="ignore"):  # nan is kept without a word
        COMBINE[combine].at(out, indexing.places_along(index, x.shape[dim], dim), updates)
    return out


def _share(b: Any, g: Any, x: Any, index: Any, updates: Any, y: Any, dim: int) -> Any:
    """For extrema: which operands are the extremum, and the part of the gradient that each gets."""
    dtype = g.type.dtype
    own = b.cast(b.eq(x, y), dtype=dtype)
    theirs = b.cast(b.eq(updates, b.take_along(y, index, dim=dim)), dtype=dtype)
    return own, theirs, b.div(g, b.scatter_add(own, index, theirs, dim=dim))


def _one_where(b: Any, condition: Any, x: Any) -> Any:
    return b.where(condition, 1.0, x)


def _reduce_x(
    b: Any, g: Any, x: Any, index: Any, updates: Any, out: Any, dim: int, combine: str
) -> Any:
    if combine != "prod":
        own, _, share = _share(b, g, x, index, updates, out, dim)
        # An untouched place whose own value is nan equals nothing: nothing flows there.
        return b.where(b.gt(own, 0.0), share, 0.0)
    without = _one_where(b, b.eq(x, 0.0), x)
    product = b.scatter_reduce(without, index, updates, dim=dim, combine="prod")
    return b.div(b.mul(g, product), without)


def _reduce_updates(
    b: Any, g: Any, x: Any, index: Any, updates: Any, out: Any, dim: int, combine: str
) -> Any:
    if combine != "prod":
        _, theirs, share = _share(b, g, x, index, updates, out, dim)
        part = b.take_along(share, index, dim=dim)
        return b.where(b.gt(theirs, 0.0), part, 0.0)
    # An update of 0 gets the product of the others, which is 0 too unless it is the only one.
    is_zero = b.eq(updates, 0.0)
    count = b.scatter_add(
        b.full(shape=x.type.shape, value=0.0, dtype=x.type.dtype),
        index,
        b.cast(is_zero, dtype=x.type.dtype),
        dim=dim,
    )
    alone = b.logical_and(is_zero, b.eq(b.take_along(count, index, dim=dim), 1.0))
    others = b.scatter_reduce(x, index, _one_where(b, alone, updates), dim=dim, combine="prod")
    quotient = b.div(b.take_along(out, index, dim=dim), _one_where(b, is_zero, updates))
    part = b.where(alone, b.take_along(others, index, dim=dim), quotient)
    return b.mul(b.take_along(g, index, dim=dim), part)


scatter_reduce = declare(
    "scatter_reduce",
    "scatter",
    "x index updates",
    infer=_reduce_types,
    evaluate=_reduce,
    attributes={"dim": int, "combine": str},
    gradients={"x": _reduce_x, "updates": _reduce_updates},
    doc="""x with updates[i..] combined into [i.. with i[dim] = index[i..]] by `combine`: "prod",
"amax" or "amin". Equal extrema share the gradient, as in PyTorch.""",
)
