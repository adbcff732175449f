"""Attention of many heads as a layer."""

from __future__ import annotations

from typing import Any

from braze.functions.creation import empty
from braze.functions.movement import expand, reshape, transpose
from braze.functions.pointwise import add
from braze.nn import functional as F
from braze.nn import init
from braze.nn.modules.linear import Linear, placed
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.tensors import Tensor


class NonDynamicallyQuantizableLinear(Linear):
    """A `Linear` under the name that PyTorch gives the one behind the heads."""


class MultiheadAttention(Module):
    """Attention of `num_heads` heads, each on its own projection to embed_dim / num_heads numbers.

    Vaswani et al., "Attention is all you need", arXiv 1706.03762.

    Args:
        dropout: probability of dropping a weight, in training.
        bias: whether the projections have one.
        add_bias_kv: one more key and value, which are trained.
        add_zero_attn: one more key and value, of zeros.
        kdim, vdim: sizes of keys and values; embed_dim by default.
        batch_first: tensors are [N, L, E] in place of [L, N, E].

    Shape: query [L, N, E], key [S, N, kdim], value [S, N, vdim], all without N if unbatched.

    Raises:
        ValueError: embed_dim or num_heads is not positive.
        AssertionError: the heads do not divide embed_dim.
    """

    __constants__ = ["batch_first"]

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                "embed_dim and num_heads must be greater than 0, got "
                f"embed_dim={embed_dim} and num_heads={num_heads} instead"
            )
        super().__init__()
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim == self.vdim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError("embed_dim must be divisible by num_heads")

        def parameter(wanted: bool, *shape: int) -> Parameter | None:
            return Parameter(empty(shape, **placed(device, dtype))) if wanted else None

        together = self._qkv_same_embed_dim
        sizes = {"q_proj_weight": embed_dim, "k_proj_weight": self.kdim, "v_proj_weight": self.vdim}
        if together:
            self.in_proj_weight = parameter(True, 3 * embed_dim, embed_dim)
        for name, size in sizes.items():
            self.register_parameter(name, parameter(not together, embed_dim, size))
        if not together:
            self.register_parameter("in_proj_weight", None)
        self.register_parameter("in_proj_bias", parameter(bias, 3 * embed_dim))
        self.out_proj = NonDynamicallyQuantizableLinear(
            embed_dim, embed_dim, bias=bias, **placed(device, dtype)
        )
        self.bias_k = parameter(add_bias_kv, 1, 1, embed_dim)
        self.bias_v = parameter(add_bias_kv, 1, 1, embed_dim)
        self.add_zero_attn = add_zero_attn
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Draw new values."""
        for weight in (
            self.in_proj_weight,
            self.q_proj_weight,
            self.k_proj_weight,
            self.v_proj_weight,
        ):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None and self.out_proj.bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for more in (self.bias_k, self.bias_v):
            if more is not None:
                init.xavier_normal_(more)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"_qkv_same_embed_dim": True} | state)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The result, [L, N, E], and with `need_weights` the weights, [N, L, S] or, if not
        averaged, [N, heads, L, S].

        Args:
            key_padding_mask: [N, S], bool (True hides a key) or added to the scores.
            attn_mask: [L, S] or [N * heads, L, S], likewise.
            is_causal: `attn_mask` is the causal one.
        """
        swap = self.batch_first and query.ndim == 3
        if swap:
            query, key, value = _swapped(query, key, value)
        result, weights = F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (transpose(result, 0, 1) if swap else result), weights

    def merge_masks(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor
    ) -> tuple[Tensor | None, int | None]:
        """Both masks as one, [N, heads, L, L], and its kind: 2; with `key_padding_mask` alone that
        and 1.

        Args:
            query: [N, L, E].
        """
        if attn_mask is None:
            return key_padding_mask, None if key_padding_mask is None else 1
        batch, length, _ = query.shape
        shape = (batch, self.num_heads, length, length)
        heads = -1 if attn_mask.ndim == 3 else 1
        lead = batch if attn_mask.ndim == 3 else 1
        merged = expand(reshape(attn_mask, (lead, heads, length, length)), shape)
        if key_padding_mask is not None:
            merged = add(merged, reshape(key_padding_mask, (batch, 1, 1, length)))
        return merged, 2


def _swapped(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[N, L, E] as [L, N, E]; what was one tensor stays one, so that it is projected at once."""
    q = transpose(query, 0, 1)
    k = q if key is query else _swap(key)
    v = k if value is key else _swap(value)
    return q, k, v


def _swap(x: Tensor) -> Tensor:
    return transpose(x, 0, 1) if x.ndim == 3 else x
