"""How attention is written in ONNX: products, a mask and a softmax."""

from __future__ import annotations

from typing import Any

from braze.ir.dtypes import i64
from braze.onnx.exporting.writer import Operand, Writer
from braze.onnx.rules import exports


@exports("attention")
def attention(
    w: Writer, query: Operand, key: Operand, value: Operand, scale: float, causal: bool
) -> list[str]:
    return _attention(w, query, key, value, "", scale, causal)


@exports("attention_masked")
def attention_masked(
    w: Writer,
    query: Operand,
    key: Operand,
    value: Operand,
    mask: Operand,
    scale: float,
    causal: bool,
) -> list[str]:
    return _attention(w, query, key, value, mask, scale, causal)


def _attention(
    w: Writer, query: Operand, key: Operand, value: Operand, mask: Any, scale: float, causal: bool
) -> list[str]:
    swapped = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    scaled = w.node("Mul", query, w.scalar(scale, query.dtype))
    scores = w.node("MatMul", scaled, w.permute(key, swapped))
    if mask != "":
        scores = w.node("Add", scores, mask)
    if causal:
        zero, one = w.scalar(0, i64), w.scalar(1, i64)
        rows = w.node("Range", zero, w.scalar(query.shape[-2], i64), one)
        columns = w.node("Range", zero, w.scalar(key.shape[-2], i64), one)
        visible = w.node("GreaterOrEqual", w.unsqueeze(rows, 1), columns)
        scores = w.node("Where", visible, scores, w.scalar(float("-inf"), query.dtype))
    weights = w.node("Softmax", scores, axis=-1)
    lse = w.reduce("ReduceLogSumExp", scores, [query.rank - 1], False) if w.wanted[1] else ""
    if mask != "":  # a query that sees no key gives zeros, and infinity
        infinite = w.scalar(float("-inf"), query.dtype)
        blind = w.node("Equal", w.reduce("ReduceMax", scores, [query.rank - 1], True), infinite)
        weights = w.node("Where", blind, w.scalar(0, query.dtype), weights)
        if lse:
            blind = w.squeeze(blind, query.rank - 1)
            lse = w.node("Where", blind, w.scalar(float("inf"), query.dtype), lse)
    return [w.node("MatMul", weights, value), lse]
