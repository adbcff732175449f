"""Attention of many heads, with its projections, as a function of all tensors that it needs.

Vaswani et al., "Attention is all you need", arXiv 1706.03762.
"""

from __future__ import annotations

import math
import warnings

from braze.functions.arguments import require_tensors
from braze.functions.creation import zeros
from braze.functions.linalg import matmul
from braze.functions.movement import (
    cat,
    expand,
    permute,
    reshape,
    slice_dimension,
    squeeze,
    transpose,
    unsqueeze,
)
from braze.functions.pointwise import add, mul, where
from braze.functions.reductions import mean, softmax
from braze.ir.dtypes import DType, bool_
from braze.nn.functional.attention import HIDDEN, scaled_dot_product_attention
from braze.nn.functional.dropout import dropout
from braze.nn.functional.linear import linear
from braze.nn.functional.padding import pad
from braze.sites import user_stacklevel
from braze.tensors import Tensor


def additive_mask(
    mask: Tensor | None,
    name: str,
    dtype: DType,
    other: Tensor | None = None,
    other_name: str = "",
) -> Tensor | None:
    """A mask to be added to scores, from one like it or from a bool one (True hides).

    Raises:
        AssertionError: it is neither bool nor floating point.
    """
    if mask is None:
        return None
    if mask.dtype is not bool_ and not mask.dtype.is_floating_point:
        raise AssertionError(f"only bool and floating types of {name} are supported")
    if other is not None and other.dtype is not mask.dtype:
        warnings.warn(
            f"Support for mismatched {name} and {other_name} is deprecated. Use same type for both "
            "instead.",
            stacklevel=user_stacklevel(),
        )
    if mask.dtype is not bool_:
        return mask
    return where(mask, HIDDEN, zeros((), dtype=dtype))


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What `nn.MultiheadAttention` computes, from tensors in place of parameters.

    Shape: query [L, N, E], key [S, N, Ek], value [S, N, Ev], all without N if unbatched, to
        [L, N, E] and (with `need_weights`) [N, L, S], or [N, heads, L, S] if not averaged.

    Args:
        in_proj_weight: [3 E, E], or None with `use_separate_proj_weight`, which takes the three
            other weights, [E, E], [E, Ek] and [E, Ev].
        bias_k, bias_v: [1, 1, E], one more key and value.
        add_zero_attn: one more key and value, of zeros.
        key_padding_mask: [N, S], bool (True hides) or added to the scores.
        attn_mask: [L, S] or [N * heads, L, S], likewise.
        static_k, static_v: [N * heads, S, E / heads], in place of the projected ones.
        is_causal: `attn_mask` is the causal one.

    Raises:
        AssertionError: ranks or sizes do not fit. RuntimeError: `is_causal` without a mask, or a
            mask of a wrong shape.
    """
    batched = _check_ranks(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        query, key, value = _with_batch(query, key, value)
        if key_padding_mask is not None:
            key_padding_mask = unsqueeze(key_padding_mask, 0)
    length, batch, width = query.shape
    key_padding_mask = additive_mask(
        key_padding_mask, "key_padding_mask", query.dtype, attn_mask, "attn_mask"
    )
    if is_causal and attn_mask is None:
        raise RuntimeError(
            "Need attn_mask if specifying the is_causal hint. You may use the Transformer module "
            "method `generate_square_subsequent_mask` to create this mask."
        )
    is_causal = is_causal and key_padding_mask is None and not need_weights
    mask = None if is_causal else additive_mask(attn_mask, "attn_mask", query.dtype)
    _check_sizes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        q, k, v = _projected_apart(query, key, value, weights, in_proj_bias)
    else:
        if in_proj_weight is None:
            raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
        q, k, v = _projected(query, key, value, in_proj_weight, in_proj_bias)
    if mask is not None:
        mask = _mask_by_head(mask, batch, num_heads, length, key.shape[0])
    extra = 0
    if bias_k is not None and bias_v is not None:
        if static_k is not None or static_v is not None:
            what = "key" if static_k is not None else "value"
            raise AssertionError(f"bias cannot be added to static {what}.")
        k, v = (cat([x, expand(b, (1, batch, width))]) for x, b in ((k, bias_k), (v, bias_v)))
        extra += 1
    elif bias_k is not None or bias_v is not None:
        raise AssertionError("bias_k and bias_v must both be given, or none of them")
    q = _heads(q, num_heads)
    k = _heads(k, num_heads) if static_k is None else _given_heads(static_k, "static_k", q)
    v = _heads(v, num_heads) if static_v is None else _given_heads(static_v, "static_v", q)
    if add_zero_attn:
        nothing = zeros((batch, num_heads, 1, width // num_heads), dtype=k.dtype)
        k, v = cat([k, nothing], 2), cat([v, nothing], 2)
        extra += 1
    mask = _merged(mask, key_padding_mask, extra, batch, k.shape[2])
    dropout_p = dropout_p if training else 0.0
    if need_weights:
        result, attention = _with_weights(q, k, v, mask, dropout_p)
    else:
        result = scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)
    result = reshape(permute(result, (2, 0, 1, 3)), (length, batch, width))
    result = linear(result, out_proj_weight, out_proj_bias)
    if not need_weights:
        return (result if batched else squeeze(result, 1)), None
    if average_attn_weights:
        attention = mean(attention, 1)
    if batched:
        return result, attention
    return squeeze(result, 1), squeeze(attention, 0)


def _with_weights(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout_p: float
) -> tuple[Tensor, Tensor]:
    """Attention and its weights; a query that sees no key gives nan, as in PyTorch."""
    scores = matmul(mul(q, math.sqrt(1.0 / q.shape[-1])), transpose(k, -2, -1))
    weights = softmax(scores if mask is None else add(scores, mask), -1)
    weights = dropout(weights, dropout_p, dropout_p > 0)
    return matmul(weights, v), weights


def _with_batch(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With a dimension for the batch; what was one tensor stays one."""
    q = unsqueeze(query, 1)
    k = q if key is query else unsqueeze(key, 1)
    v = k if value is key else unsqueeze(value, 1)
    return q, k, v


def _projected(
    query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The three projections by one weight: in one product where the operands are the same."""
    width = query.shape[-1]

    def product(x: Tensor, first: int, last: int) -> list[Tensor]:
        low, high = first * width, last * width
        w = weight if last - first == 3 else slice_dimension(weight, 0, low, high, 1)
        b = bias
        if bias is not None and last - first != 3:
            b = slice_dimension(bias, 0, low, high, 1)
        y = linear(x, w, b)
        if last - first == 1:
            return [y]
        each = range(last - first)
        return [slice_dimension(y, -1, i * width, (i + 1) * width, 1) for i in each]

    if key is value:
        if query is key:
            q, k, v = product(query, 0, 3)
        else:
            (q,), (k, v) = product(query, 0, 1), product(key, 1, 3)
    else:
        q, k, v = (product(x, i, i + 1)[0] for i, x in enumerate((query, key, value)))
    return q, k, v


def _projected_apart(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weights: tuple[Tensor | None, Tensor | None, Tensor | None],
    bias: Tensor | None,
) -> list[Tensor]:
    width = query.shape[-1]
    found = []
    for i, (x, weight) in enumerate(zip((query, key, value), weights, strict=True)):
        if weight is None:
            raise AssertionError(
                f"use_separate_proj_weight is True but {'qkv'[i]}_proj_weight is None"
            )
        b = None if bias is None else slice_dimension(bias, 0, i * width, (i + 1) * width, 1)
        found.append(linear(x, weight, b))
    return found


def _heads(x: Tensor, heads: int) -> Tensor:
    """[L, N, E] as [N, heads, L, E / heads]."""
    length, batch, width = x.shape
    return permute(reshape(x, (length, batch, heads, width // heads)), (1, 2, 0, 3))


def _given_heads(x: Tensor, name: str, q: Tensor) -> Tensor:
    """[N * heads, S, E / heads] likewise."""
    batch, heads, _, size = q.shape
    if x.ndim != 3 or x.shape[0] != batch * heads or x.shape[2] != size:
        raise AssertionError(
            f"expecting {name} of shape [{batch * heads}, S, {size}], but got {list(x.shape)}"
        )
    return reshape(x, (batch, heads, x.shape[1], size))


def _mask_by_head(mask: Tensor, batch: int, heads: int, length: int, keys: int) -> Tensor:
    """An attention mask as [1, 1, L, S] or [N, heads, L, S].

    Raises:
        RuntimeError: the shape is wrong.
    """
    wanted: tuple[int, ...] = (length, keys)
    if mask.ndim == 3:
        wanted = (batch * heads, length, keys)
    if tuple(mask.shape) != wanted:
        raise RuntimeError(
            f"The shape of the {mask.ndim}D attn_mask is {mask.shape}, but should be {wanted}."
        )
    lead = (batch, heads) if mask.ndim == 3 else (1, 1)
    return reshape(mask, (*lead, length, keys))


def _merged(
    mask: Tensor | None, padding: Tensor | None, extra: int, batch: int, keys: int
) -> Tensor | None:
    """Both masks in one, with `extra` keys at the end that all see."""
    if mask is not None and extra:
        mask = pad(mask, (0, extra))
    if padding is None:
        return mask
    if extra:
        padding = pad(padding, (0, extra))
    if tuple(padding.shape) != (batch, keys):
        raise AssertionError(
            f"Expected key_padding_mask of shape {(batch, keys)}, but got {tuple(padding.shape)}"
        )
    padding = reshape(padding, (batch, 1, 1, keys))
    return padding if mask is None else add(mask, padding)


def _check_ranks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    heads: int,
) -> bool:
    """Whether the operands have a batch dimension.

    Raises:
        AssertionError: ranks do not fit together.
    """
    require_tensors("multi_head_attention_forward", query=query, key=key, value=value)
    rank = query.ndim
    if rank not in (2, 3):
        raise AssertionError(
            f"query should be unbatched 2D or batched 3D tensor but received {rank}-D query tensor"
        )
    start = f"For {'batched' if rank == 3 else 'unbatched'} ({rank}-D) `query`, expected "
    if key.ndim != rank or value.ndim != rank:
        raise AssertionError(
            f"{start}`key` and `value` to be {rank}-D but found {key.ndim}-D and {value.ndim}-D "
            "tensors respectively"
        )
    if key_padding_mask is not None and key_padding_mask.ndim != rank - 1:
        raise AssertionError(
            f"{start}`key_padding_mask` to be `None` or {rank - 1}-D but found "
            f"{key_padding_mask.ndim}-D tensor instead"
        )
    if attn_mask is not None:
        if attn_mask.ndim not in (2, 3):
            raise AssertionError(
                f"{start}`attn_mask` to be `None`, 2-D or 3-D but found {attn_mask.ndim}-D tensor "
                "instead"
            )
        shape = (heads, query.shape[0], key.shape[0])
        if rank == 2 and attn_mask.ndim == 3 and tuple(attn_mask.shape) != shape:
            raise AssertionError(
                f"Expected `attn_mask` shape to be {shape} but got {attn_mask.shape}"
            )
    return rank == 3


def _check_sizes(
    query: Tensor, key: Tensor, value: Tensor, width: int, heads: int, apart: bool
) -> None:
    if query.shape[2] != width:
        raise AssertionError(
            f"was expecting embedding dimension of {width}, but got {query.shape[2]}"
        )
    if width % heads:
        raise AssertionError(f"embed_dim {width} not divisible by num_heads {heads}")
    if apart and key.shape[:2] != value.shape[:2]:
        raise AssertionError(
            f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}"
        )
    if not apart and key.shape != value.shape:
        raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
