"""Scaled dot product attention.

Vaswani et al., "Attention is all you need", arXiv 1706.03762.
"""

from __future__ import annotations

import math

from braze.functions.arguments import require_tensors
from braze.functions.creation import arange
from braze.functions.linalg import matmul
from braze.functions.movement import expand, reshape, transpose, unsqueeze
from braze.functions.pointwise import add, bitwise_or, eq, ge, logical_not, mul, where
from braze.functions.promotion import cast
from braze.functions.reductions import amax, any, softmax
from braze.ir.dtypes import bool_, f32
from braze.nn.functional.attention_kernel import (
    by_kernel,
    by_shared_heads,
    leading_sizes,
    shares_heads,
)
from braze.nn.functional.dropout import dropout
from braze.tensors import Tensor

HIDDEN = -math.inf  # what is added to the score of a key that must not be seen


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key.T * scale + mask) @ value. A query that sees no key gives zeros.

    Shape: query [..., L, E], key [..., S, E], value [..., S, V] to [..., L, V].

    Args:
        attn_mask: bool (False hides a key) or added to the scores; broadcasts to [..., L, S].
        dropout_p: probability of dropping a weight.
        is_causal: hide the keys after each query.
        scale: 1 / sqrt(E) by default.
        enable_gqa: each head (dimension -3) of key and value serves as many heads of the query as
            it takes.

    Raises:
        RuntimeError: both a mask and `is_causal` are given; dtypes, ranks or sizes do not fit; or
            `dropout_p` is no probability.
    """
    _check_operands(query, key, value, attn_mask, dropout_p, is_causal)
    if scale is None:
        size = query.shape[-1]
        scale = 1 / math.sqrt(size) if size else math.inf
    if enable_gqa:
        for tensor in (key, value):
            _check_heads(query, tensor)
        if shares_heads(query, key, value):
            # Each key's queries side by side in a dimension of their own: no key is copied.
            operands = by_shared_heads(query, key, value, attn_mask)
            result = scaled_dot_product_attention(*operands, dropout_p, is_causal, scale=scale)
            return reshape(result, (*query.shape[:-1], value.shape[-1]))
        key, value = _heads_for(query, key), _heads_for(query, value)
    lead = leading_sizes(query, key, value, attn_mask, dropout_p)
    if lead is not None:
        return by_kernel(query, key, value, attn_mask, dropout_p, is_causal, float(scale), lead)
    scores = matmul(mul(query, float(scale)), transpose(key, -2, -1))
    seen = None  # which queries see a key at all, if some may not
    if is_causal:
        rows, columns = arange(query.shape[-2]), arange(key.shape[-2])
        attn_mask = ge(unsqueeze(rows, 1), unsqueeze(columns, 0))
    elif attn_mask is not None and attn_mask.dtype is bool_:
        seen = any(attn_mask, -1, keepdim=True)
        attn_mask = bitwise_or(attn_mask, logical_not(seen))
    elif attn_mask is not None and attn_mask.shape[-1]:
        seen = logical_not(eq(amax(attn_mask, -1, keepdim=True), HIDDEN))
        attn_mask = where(seen, attn_mask, 0.0)
    if attn_mask is not None:
        if attn_mask.dtype is bool_:
            scores = where(attn_mask, scores, HIDDEN)
        else:
            # A single precision mask serves half precision operands, whose dtype stays.
            scores = add(scores, attn_mask)
    weights = dropout(softmax(scores, -1), dropout_p, dropout_p > 0)
    result = matmul(cast(weights, value.dtype), value)
    return result if seen is None else where(seen, result, 0.0)


def _check_operands(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
) -> None:
    name = "scaled_dot_product_attention"
    require_tensors(name, query=query, key=key, value=value)
    operands = {"query": query, "key": key, "value": value}
    if not query.dtype is key.dtype is value.dtype:
        given = ", ".join(f"{word}.dtype: {x.dtype}" for word, x in operands.items())
        raise RuntimeError(
            f"{name}: Expected query, key, and value to have the same dtype, but got {given}"
        )
    if not query.dtype.is_floating_point:
        raise RuntimeError(f"{name}: expected a floating-point dtype, but got {query.dtype}")
    if min(x.ndim for x in operands.values()) < 2:
        given = ", ".join(f"{word}.dim: {x.ndim}" for word, x in operands.items())
        raise RuntimeError(
            f"{name}: Expected query, key, and value to all be at least 2 dimensional, but got "
            f"{given}"
        )
    if not 0 <= dropout_p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {dropout_p}")
    if attn_mask is None:
        return
    if is_causal:
        raise RuntimeError(f"{name}: Explicit attn_mask should not be set when is_causal=True")
    require_tensors(name, attn_mask=attn_mask)
    if attn_mask.dtype not in (bool_, f32, query.dtype):
        raise RuntimeError(
            f"{name}: Expected attn_mask dtype to be bool or float or to match query dtype, but "
            f"got attn_mask.dtype: {attn_mask.dtype} and query.dtype: {query.dtype} instead."
        )


def _check_heads(query: Tensor, tensor: Tensor) -> None:
    """Can the heads of the query share those of a key or value?"""
    if query.ndim < 3 or tensor.ndim < 3:
        raise IndexError(
            "scaled_dot_product_attention: enable_gqa needs a dimension of heads, -3, but got "
            f"query {list(query.shape)} and key or value {list(tensor.shape)}"
        )
    heads, given = query.shape[-3], tensor.shape[-3]
    if heads != given and (given == 0 or heads % given):
        raise RuntimeError(
            "scaled_dot_product_attention: Number of heads in key and value must divide the number "
            f"of heads in query, but got {given} and {heads}"
        )


def _heads_for(query: Tensor, tensor: Tensor) -> Tensor:
    """Each head of a key or value as often as there are heads of the query for it."""
    heads, given = query.shape[-3], tensor.shape[-3]
    if heads == given:
        return tensor
    *lead, _, length, width = tensor.shape
    many = expand(unsqueeze(tensor, -3), (*lead, given, heads // given, length, width))
    return reshape(many, (*lead, heads, length, width))
