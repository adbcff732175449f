"""The transformer, its encoder and its decoder.

Vaswani et al., "Attention is all you need", arXiv 1706.03762.
"""

from __future__ import annotations

import copy
from typing import Any

from braze.capture import tracer
from braze.functions.creation import arange, full
from braze.functions.movement import unsqueeze
from braze.functions.pointwise import bitwise_and, eq, logical_not, lt, where
from braze.functions.rearrangement import triu
from braze.functions.reductions import all, sum
from braze.nn import functional as F
from braze.nn import init
from braze.nn.functional.multi_head_attention import additive_mask
from braze.nn.modules.activations import GELU, ReLU
from braze.nn.modules.containers import ModuleList
from braze.nn.modules.module import Module
from braze.nn.modules.normalization import LayerNorm
from braze.nn.modules.transformer_layers import (
    Activation,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
)
from braze.tensors import Tensor


def _copies(layer: Module, count: int) -> ModuleList:
    return ModuleList([copy.deepcopy(layer) for _ in range(count)])


class TransformerEncoder(Module):
    """`num_layers` copies of a layer, one after the other, then `norm` if there is one.

    Args:
        enable_nested_tensor: in evaluation, where PyTorch computes with sequences cut to their
            lengths, give zeros for padding at the end of a sequence, as it does.
        mask_check: accepted; whether padding is at the end is always checked.
    """

    __constants__ = ["norm"]

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm
        self.enable_nested_tensor = enable_nested_tensor
        self.use_nested_tensor = enable_nested_tensor and _can_cut(encoder_layer)
        self.mask_check = mask_check

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """The encoding of `src`; masks as of `MultiheadAttention`.

        Args:
            is_causal: `mask` is the causal one; what it means is the same without.
        """
        padding = additive_mask(
            src_key_padding_mask, "src_key_padding_mask", src.dtype, mask, "mask"
        )
        mask = additive_mask(mask, "mask", src.dtype)
        output = src
        for layer in self.layers:
            output = layer(
                output,
                src_mask=mask,
                is_causal=bool(is_causal),
                src_key_padding_mask=padding,
            )
        if padding is not None and mask is None and self._cuts(src):
            output = where(_padding_at_end(padding), 0.0, output)
        return output if self.norm is None else self.norm(output)

    def _cuts(self, src: Tensor) -> bool:
        """Whether PyTorch cuts the sequences to their lengths."""
        first = self.layers[0]
        if not self.use_nested_tensor or first.training or src.ndim != 3:
            return False
        return not tracer().grad_enabled or not (
            src.requires_grad or any(p.requires_grad for p in first.parameters())
        )


def _can_cut(layer: Module) -> bool:
    if not isinstance(layer, TransformerEncoderLayer):
        return False
    attention, activation = layer.self_attn, layer.activation
    known = activation in (F.relu, F.gelu) or isinstance(activation, (ReLU, GELU))
    return (
        known
        and not layer.norm_first
        and attention.batch_first
        and attention._qkv_same_embed_dim
        and attention.in_proj_bias is not None
        and layer.norm1.eps == layer.norm2.eps
        and attention.num_heads % 2 == 0
    )


def _padding_at_end(padding: Tensor) -> Tensor:
    """Where to put zeros, bool [N, S, 1]: on padding, if all of it is at ends of sequences."""
    kept = eq(padding, 0.0)
    lengths = sum(kept, -1, keepdim=True)
    at_end = all(eq(kept, lt(arange(padding.shape[-1]), lengths)))
    return unsqueeze(bitwise_and(at_end, logical_not(kept)), -1)


class TransformerDecoder(Module):
    """`num_layers` copies of a layer, one after the other, then `norm` if there is one."""

    __constants__ = ["norm"]

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The decoding of `tgt`, given an encoder's result; masks as of `MultiheadAttention`.

        Args:
            tgt_is_causal, memory_is_causal: the mask is the causal one; what it means is the same
                without.
        """
        output = tgt
        for layer in self.layers:
            output = layer(
                output,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=bool(tgt_is_causal),
                memory_is_causal=memory_is_causal,
            )
        return output if self.norm is None else self.norm(output)  # type: ignore[no-any-return]


class Transformer(Module):
    """An encoder and a decoder.

    Args:
        custom_encoder, custom_decoder: in place of those of `TransformerEncoderLayer` and
            `TransformerDecoderLayer`, which the other arguments describe.

    Shape: src [S, N, E] and tgt [T, N, E] to [T, N, E]; [S, E] and [T, E] to [T, E] if unbatched.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Any | None = None,
        custom_decoder: Any | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        like = {"bias": bias, "device": device, "dtype": dtype}
        layer = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps)
        order = (batch_first, norm_first)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, eps=layer_norm_eps, **like)

        if custom_encoder is None:
            custom_encoder = TransformerEncoder(
                TransformerEncoderLayer(*layer, *order, **like), num_encoder_layers, norm()
            )
        self.encoder = custom_encoder
        if custom_decoder is None:
            custom_decoder = TransformerDecoder(
                TransformerDecoderLayer(*layer, *order, **like), num_decoder_layers, norm()
            )
        self.decoder = custom_decoder
        self._reset_parameters()
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The decoding of `tgt`, given the encoding of `src`; masks as of `MultiheadAttention`.

        Raises:
            RuntimeError: batches or features do not fit.
        """
        batch = 0 if self.batch_first else 1
        if src.ndim == 3 and src.shape[batch] != tgt.shape[batch]:
            raise RuntimeError("the batch number of src and tgt must be equal")
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise RuntimeError("the feature number of src and tgt must be equal to d_model")
        memory = self.encoder(
            src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
        )
        return self.decoder(  # type: ignore[no-any-return]
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """-inf above the diagonal and 0 elsewhere: the causal mask of `sz` positions."""
        return triu(full((sz, sz), float("-inf"), dtype=dtype, device=device), diagonal=1)

    def _reset_parameters(self) -> None:
        """Draw new values for the weights."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)
