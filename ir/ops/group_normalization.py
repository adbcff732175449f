"""Group normalisation of [N, C, ...]: statistics over each group of channels of each sample."""

from __future__ import annotations

import math
from typing import Any

from braze.ir.errors import ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import as_dtype, require_floating, widened
from braze.ir.ops.normalization import (
    channel_dims,
    check_vector,
    normalised,
    per_channel,
    projected,
)
from braze.ir.types import TensorType


def _types(
    x: TensorType, weight: TensorType, bias: TensorType, *, groups: int, epsilon: float
) -> tuple[TensorType, ...]:
    require_floating("group_norm", x)
    if x.rank < 2:
        raise ShapeError(f"[group_norm] needs [N, C, ...], given {x}")
    if groups < 1 or x.shape[1] % groups:
        raise ShapeError(f"[group_norm] groups={groups} does not divide the channels of {x}")
    for word, vector in (("weight", weight), ("bias", bias)):
        check_vector("group_norm", word, vector, x, (x.shape[1],))
    return (x,)


def _rows(b: Any, x: Any, groups: int) -> Any:
    """[N, C, ...] to [N, groups, the rest]."""
    batch, *rest = x.type.shape
    return b.reshape(widened(b, x), shape=(batch, groups, math.prod(rest) // groups))


def _group_norm(b: Any, x: Any, weight: Any, bias: Any, *, groups: int, epsilon: float) -> Any:
    n, _ = normalised(b, _rows(b, x, groups), (2,), epsilon)
    wide = b.reshape(n, shape=x.type.shape)
    out = b.add(b.mul(wide, per_channel(b, weight, wide)), per_channel(b, bias, wide))
    return as_dtype(b, out, x.type.dtype)


def _input_gradient(b: Any, g: Any, x: Any, weight: Any, groups: int, epsilon: float) -> Any:
    n, r = normalised(b, _rows(b, x, groups), (2,), epsilon)
    wide = widened(b, g)
    u = _rows(b, b.mul(wide, per_channel(b, weight, wide)), groups)
    rows = projected(b, u, n, r, (2,))
    return as_dtype(b, b.reshape(rows, shape=x.type.shape), x.type.dtype)


def _weight_gradient(
    b: Any, g: Any, x: Any, weight_type: TensorType, groups: int, epsilon: float
) -> Any:
    n, _ = normalised(b, _rows(b, x, groups), (2,), epsilon)
    terms = b.mul(widened(b, g), b.reshape(n, shape=x.type.shape))
    return as_dtype(b, b.sum(terms, dims=channel_dims(x.type), keepdim=False), weight_type.dtype)


def _bias_gradient(b: Any, g: Any, bias_type: TensorType) -> Any:
    total = b.sum(widened(b, g), dims=channel_dims(g.type), keepdim=False)
    return as_dtype(b, total, bias_type.dtype)


group_norm = declare(
    "group_norm",
    "composite",
    "x weight bias",
    infer=_types,
    decompose=_group_norm,
    attributes={"groups": int, "epsilon": float},
    gradients={"x": _input_gradient, "weight": _weight_gradient, "bias": _bias_gradient},
    doc="""(x - mean) / sqrt(var + epsilon) * weight + bias for x [N, C, ...], statistics over each
of `groups` groups of channels of a sample; one channel a group is instance normalisation.
Wu and He, arXiv 1803.08494.""",
)
