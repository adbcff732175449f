"""Attention as one operation, which has no matrix of scores in memory.

In: tensors as `scaled_dot_product_attention` takes them.  Out: operands of the table's `attention`:
equal leading dimensions, f32 or f64, and a mask that is added.
"""

from __future__ import annotations

import math

from braze.capture import call_of
from braze.functions.creation import zeros
from braze.functions.movement import expand, reshape, unsqueeze
from braze.functions.pointwise import where
from braze.functions.promotion import cast, scalar
from braze.functions.random_numbers import default_generator
from braze.ir.dtypes import DType, bool_, f32, f64, i64
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.ir.ops.attention import FEWEST_QUERIES, counters
from braze.ir.types import broadcast_shapes, tensor_type
from braze.tensors import Tensor, apply


def leading_sizes(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float
) -> tuple[int, ...] | None:
    """The leading dimensions that the operands have in common; None if the kernel is not for them:
    if there is little or nothing to compute, or if shapes do not fit together."""
    q, k, v = query.shape, key.shape, value.shape
    if q[-1] != k[-1] or k[-2] != v[-2] or q[-2] < FEWEST_QUERIES or dropout_p == 1.0:
        return None
    if not all(math.prod(shape) for shape in (q, k, v)):
        return None
    shapes = [shape[:-2] for shape in (q, k, v)]
    if mask is not None:
        pairs = zip(reversed(mask.shape), (k[-2], q[-2]), strict=False)
        if not all(size in (1, wanted) for size, wanted in pairs):
            return None
        shapes.append(mask.shape[:-2])
    try:
        return broadcast_shapes("attention", *(tensor_type(f32, tuple(s)) for s in shapes))
    except ShapeError:
        return None


def by_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float,
    lead: tuple[int, ...],
) -> Tensor:
    """softmax(query @ key.T * scale + mask) @ value, for what has these `leading_sizes`."""
    dtype = query.dtype
    wide = f64 if dtype is f64 else f32
    operands = [
        cast(x if x.shape[:-2] == lead else expand(x, (*lead, *x.shape[-2:])), wide)
        for x in (query, key, value)
    ]
    name, attributes = "attention", {"scale": scale, "causal": is_causal}
    if mask is not None:
        name += "_masked"
        operands.append(expand(_added(mask, wide), (*lead, query.shape[-2], key.shape[-2])))
    if dropout_p > 0.0:
        name += "_dropout"
        attributes["p"] = float(dropout_p)
        used = counters(math.prod(lead), query.shape[-2], key.shape[-2])
        operands += [scalar(number, i64) for number in default_generator.advance(used)]
    out: Tensor = apply(call_of(op_named(name), **attributes), *operands)[0]
    return cast(out, dtype)


def shares_heads(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Does each key with its value serve several heads, in operands of equal ranks?"""
    given = key.shape[-3]
    equal = query.ndim == key.ndim == value.ndim and given == value.shape[-3]
    return equal and given != query.shape[-3]


def by_shared_heads(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The operands with dimensions -4, the heads of the key, and -3, those of the query for it."""
    given = key.shape[-3]
    group = query.shape[-3] // given
    query = reshape(query, (*query.shape[:-3], given, group, *query.shape[-2:]))
    key, value = (
        expand(unsqueeze(x, -3), (*x.shape[:-2], group, *x.shape[-2:])) for x in (key, value)
    )
    if mask is not None and mask.ndim > 2:
        heads = (given, group) if mask.shape[-3] != 1 else (1, 1)
        mask = reshape(mask, (*mask.shape[:-3], *heads, *mask.shape[-2:]))
    return query, key, value, mask


def _added(mask: Tensor, dtype: DType) -> Tensor:
    """A mask as what is added to the scores: a bool one hides where it is False."""
    if mask.dtype is bool_:
        return where(mask, zeros((), dtype=dtype), -math.inf)
    return cast(mask, dtype)
