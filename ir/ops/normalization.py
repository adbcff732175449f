"""Batch and layer normalisation: subtract the mean, divide by the deviation, scale and shift.

With n = (x - mean) * r, r = 1 / sqrt(var + epsilon), and u the gradient of n, the gradient of x is
r * (u - mean(u) - n * mean(u * n)), means over the same elements (Ioffe and Szegedy, arXiv
1502.03167).
Variances are biased and computed in two passes; 16-bit floats are computed in f32 inside.
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import (
    Ints,
    accumulation_dtype,
    along,
    as_dtype,
    require_floating,
    widened,
)
from braze.ir.ops.reductions import average
from braze.ir.types import TensorType

# Steps --------------------------------------------------------------------------------------------


def check_vector(name: str, word: str, vector: TensorType, x: TensorType, wanted: Ints) -> None:
    if vector.shape != wanted:
        raise ShapeError(f"[{name}] the {word} must be {list(wanted)} for {x}, given {vector}")
    if vector.dtype not in (x.dtype, accumulation_dtype(x.dtype)):
        raise DTypeError(f"[{name}] the {word} {vector} does not go with {x}")


def _reciprocal_deviation(b: Any, variance: Any, epsilon: float) -> Any:
    return b.rsqrt(b.add(variance, epsilon))


def _moments(b: Any, x: Any, dims: Ints) -> tuple[Any, Any, Any]:
    """Mean, deviations from it, and biased variance over `dims`, which are kept."""
    mean = average(b, x, dims)
    deviation = b.sub(x, mean)
    return mean, deviation, average(b, b.mul(deviation, deviation), dims)


def normalised(b: Any, x: Any, dims: Ints, epsilon: float) -> tuple[Any, Any]:
    """n and r of the module's docstring."""
    _, deviation, variance = _moments(b, x, dims)
    r = _reciprocal_deviation(b, variance, epsilon)
    return b.mul(deviation, r), r


def projected(b: Any, u: Any, n: Any, r: Any, dims: Ints) -> Any:
    """r * (u - mean(u) - n * mean(u * n))."""
    along_n = average(b, b.mul(u, n), dims)
    return b.mul(r, b.sub(b.sub(u, average(b, u, dims)), b.mul(n, along_n)))


# Batch normalisation ------------------------------------------------------------------------------


def channel_dims(x: TensorType) -> Ints:
    return (0, *range(2, x.rank))


def per_channel(b: Any, vector: Any, x: Any) -> Any:
    return b.reshape(as_dtype(b, vector, x.type.dtype), shape=along(x.type.shape, 1))


def _batch_types(
    x: TensorType, weight: TensorType, bias: TensorType, *, epsilon: float
) -> tuple[TensorType, ...]:
    require_floating("batch_norm", x)
    if x.rank < 2:
        raise ShapeError(f"[batch_norm] needs [N, C, ...], given {x}")
    channels = (x.shape[1],)
    for word, vector in (("weight", weight), ("bias", bias)):
        check_vector("batch_norm", word, vector, x, channels)
    statistic = x.with_shape(channels).with_dtype(accumulation_dtype(x.dtype))
    return (x, statistic, statistic)


def _batch_norm_train(b: Any, x: Any, weight: Any, bias: Any, *, epsilon: float) -> Any:
    wide = widened(b, x)
    mean, deviation, variance = _moments(b, wide, channel_dims(x.type))
    scale = b.mul(_reciprocal_deviation(b, variance, epsilon), per_channel(b, weight, wide))
    out = b.add(b.mul(deviation, scale), per_channel(b, bias, wide))
    channels = (x.type.shape[1],)
    statistics = (b.reshape(mean, shape=channels), b.reshape(variance, shape=channels))
    return as_dtype(b, out, x.type.dtype), *statistics


def _saved_normalised(
    b: Any, x: Any, mean: Any, variance: Any, epsilon: float
) -> tuple[Any, Any, Any]:
    """Deviations, n and r, from saved statistics."""
    wide = widened(b, x)
    deviation = b.sub(wide, per_channel(b, mean, wide))
    r = _reciprocal_deviation(b, per_channel(b, variance, wide), epsilon)
    return deviation, b.mul(deviation, r), r


def _batch_input_gradient(
    b: Any,
    g: Any,
    g_mean: Any,
    g_var: Any,
    x: Any,
    mean: Any,
    var: Any,
    weight: Any,
    epsilon: float,
) -> Any:
    """From the gradients of all three results; None where nothing flows back.

    The statistics' parts matter for second derivatives only, where `mean` and `var` are read by the
    expression that stands here.
    """
    dims = channel_dims(x.type)
    deviation, n, r = _saved_normalised(b, x, mean, var, epsilon)
    count = float(math.prod(x.type.shape[d] for d in dims))
    parts = []
    if g is not None:
        u = b.mul(widened(b, g), per_channel(b, weight, n))
        parts.append(projected(b, u, n, r, dims))
    if g_mean is not None:
        share = per_channel(b, b.div(g_mean, count), n)
        parts.append(b.expand(share, shape=x.type.shape))
    if g_var is not None:
        parts.append(b.mul(deviation, per_channel(b, b.div(b.mul(g_var, 2.0), count), n)))
    total = parts[0]
    for part in parts[1:]:
        total = b.add(total, part)
    return as_dtype(b, total, x.type.dtype)


def _batch_weight_gradient(
    b: Any, g: Any, x: Any, mean: Any, var: Any, weight_type: TensorType, epsilon: float
) -> Any:
    _, n, _ = _saved_normalised(b, x, mean, var, epsilon)
    if g is None:
        return b.full(shape=weight_type.shape, value=0.0, dtype=weight_type.dtype)
    total = b.sum(b.mul(widened(b, g), n), dims=channel_dims(x.type), keepdim=False)
    return as_dtype(b, total, weight_type.dtype)


def _batch_bias_gradient(b: Any, g: Any, bias_type: TensorType) -> Any:
    if g is None:
        return b.full(shape=bias_type.shape, value=0.0, dtype=bias_type.dtype)
    total = b.sum(widened(b, g), dims=channel_dims(g.type), keepdim=False)
    return as_dtype(b, total, bias_type.dtype)


batch_norm_train = declare(
    "batch_norm_train",
    "composite",
    "x weight bias",
    infer=_batch_types,
    decompose=_batch_norm_train,
    attributes={"epsilon": float},
    results="out mean var",
    gradients={
        "x": _batch_input_gradient,
        "weight": _batch_weight_gradient,
        "bias": _batch_bias_gradient,
    },
    doc="""(x - mean) / sqrt(var + epsilon) * weight + bias for x [N, C, ...], statistics over all
but the channels; they are results too, the variance biased, f32 where x is 16-bit.""",
)


def _batch_eval_types(
    x: TensorType,
    mean: TensorType,
    var: TensorType,
    weight: TensorType,
    bias: TensorType,
    *,
    epsilon: float,
) -> tuple[TensorType, ...]:
    out, *_ = _batch_types(x, weight, bias, epsilon=epsilon)
    for word, vector in (("mean", mean), ("variance", var)):
        check_vector("batch_norm", word, vector, x, (x.shape[1],))
    return (out,)


def _batch_norm_eval(
    b: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, *, epsilon: float
) -> Any:
    wide = widened(b, x)
    r = _reciprocal_deviation(b, per_channel(b, var, wide), epsilon)
    scale = b.mul(r, per_channel(b, weight, wide))
    deviation = b.sub(wide, per_channel(b, mean, wide))
    out = b.add(b.mul(deviation, scale), per_channel(b, bias, wide))
    return as_dtype(b, out, x.type.dtype)


def _eval_scaled(b: Any, g: Any, var: Any, weight: Any, epsilon: float) -> Any:
    wide = widened(b, g)
    r = _reciprocal_deviation(b, per_channel(b, var, wide), epsilon)
    return b.mul(wide, b.mul(r, per_channel(b, weight, wide)))


def _eval_input_gradient(b: Any, g: Any, var: Any, weight: Any, epsilon: float) -> Any:
    return as_dtype(b, _eval_scaled(b, g, var, weight, epsilon), g.type.dtype)


def _eval_mean_gradient(
    b: Any, g: Any, var: Any, weight: Any, mean_type: TensorType, epsilon: float
) -> Any:
    scaled = _eval_scaled(b, g, var, weight, epsilon)
    total = b.sum(scaled, dims=channel_dims(g.type), keepdim=False)
    return as_dtype(b, b.neg(total), mean_type.dtype)


def _eval_variance_gradient(
    b: Any,
    g: Any,
    x: Any,
    mean: Any,
    var: Any,
    weight: Any,
    var_type: TensorType,
    epsilon: float,
) -> Any:
    _, n, r = _saved_normalised(b, x, mean, var, epsilon)
    scaled = _eval_scaled(b, g, var, weight, epsilon)
    terms = b.mul(b.mul(scaled, n), b.mul(r, -0.5))
    return as_dtype(b, b.sum(terms, dims=channel_dims(g.type), keepdim=False), var_type.dtype)


batch_norm_eval = declare(
    "batch_norm_eval",
    "composite",
    "x mean var weight bias",
    infer=_batch_eval_types,
    decompose=_batch_norm_eval,
    attributes={"epsilon": float},
    gradients={
        "x": _eval_input_gradient,
        "mean": _eval_mean_gradient,
        "var": _eval_variance_gradient,
        "weight": _batch_weight_gradient,
        "bias": _batch_bias_gradient,
    },
    domain=(0.1, 2.0),
    doc="(x - mean) / sqrt(var + epsilon) * weight + bias with given statistics for each channel.",
)

# Layer normalisation ------------------------------------------------------------------------------


def _row_dims(x: TensorType, dims: int) -> Ints:
    return tuple(range(x.rank - dims, x.rank))


def _layer_types(
    x: TensorType, weight: TensorType, bias: TensorType, *, dims: int, epsilon: float
) -> tuple[TensorType, ...]:
    require_floating("layer_norm", x)
    if not 1 <= dims <= x.rank:
        raise ShapeError(f"[layer_norm] normalises 1 to {x.rank} dimensions of {x}, not {dims}")
    for word, vector in (("weight", weight), ("bias", bias)):
        check_vector("layer_norm", word, vector, x, x.shape[x.rank - dims :])
    return (x,)


def _layer_norm(b: Any, x: Any, weight: Any, bias: Any, *, dims: int, epsilon: float) -> Any:
    n, _ = normalised(b, widened(b, x), _row_dims(x.type, dims), epsilon)
    weight, bias = as_dtype(b, weight, n.type.dtype), as_dtype(b, bias, n.type.dtype)
    return as_dtype(b, b.add(b.mul(n, weight), bias), x.type.dtype)


def _layer_input_gradient(b: Any, g: Any, x: Any, weight: Any, dims: int, epsilon: float) -> Any:
    """The statistics are made again: the rows are read anyway."""
    over = _row_dims(x.type, dims)
    n, r = normalised(b, widened(b, x), over, epsilon)
    u = b.mul(widened(b, g), as_dtype(b, weight, n.type.dtype))
    return as_dtype(b, projected(b, u, n, r, over), x.type.dtype)


def _layer_weight_gradient(
    b: Any, g: Any, x: Any, weight_type: TensorType, dims: int, epsilon: float
) -> Any:
    n, _ = normalised(b, widened(b, x), _row_dims(x.type, dims), epsilon)
    total = b.sum_to_shape(b.mul(widened(b, g), n), shape=weight_type.shape)
    return as_dtype(b, total, weight_type.dtype)


def _layer_bias_gradient(b: Any, g: Any, bias_type: TensorType) -> Any:
    total = b.sum_to_shape(widened(b, g), shape=bias_type.shape)
    return as_dtype(b, total, bias_type.dtype)


layer_norm = declare(
    "layer_norm",
    "composite",
    "x weight bias",
    infer=_layer_types,
    decompose=_layer_norm,
    attributes={"dims": int, "epsilon": float},
    gradients={
        "x": _layer_input_gradient,
        "weight": _layer_weight_gradient,
        "bias": _layer_bias_gradient,
    },
    doc="""(x - mean) / sqrt(var + epsilon) * weight + bias, statistics over the last `dims`
dimensions, which are the weight's and the bias's. Ba, Kiros and Hinton, arXiv 1607.06450.""",
)
