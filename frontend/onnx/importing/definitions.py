"""Operators that are computed as ONNX itself defines them: in terms of others."""

from __future__ import annotations

from braze.onnx.rules import imports_by_definition

imports_by_definition(
    "AffineGrid",
    "Attention",
    "BlackmanWindow",
    "CausalConvWithState",
    "CenterCropPad",
    "DynamicQuantizeLinear",
    "HammingWindow",
    "HannWindow",
    "LinearAttention",
    "MeanVarianceNormalization",
    "NegativeLogLikelihoodLoss",
    "RotaryEmbedding",
    "SequenceMap",
    "SoftmaxCrossEntropyLoss",
    "SwiGLU",
)
