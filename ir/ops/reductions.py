"""Composite reductions: mean, variance, norms, softmax and extrema with their indices.

16-bit floats are computed in f32 inside. Subgradients are PyTorch's (FunctionsManual.cpp).
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import i64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import Op, declare
from braze.ir.ops.composite import Ints, along, as_dtype, require_floating, restored, widened
from braze.ir.ops.rules import check_dimensions, reduced_shape
from braze.ir.types import TensorType, tensor_type


def _floating_reduction(name: str) -> Any:
    def infer(x: TensorType, *, dims: Ints, keepdim: bool, **_: Any) -> tuple[TensorType, ...]:
        if not x.dtype.is_differentiable:
            raise DTypeError(
                f"[{name}] needs a floating-point operand, given {x}; cast it first, "
                f"for example with .float()"
            )
        return (x.with_shape(reduced_shape(name, x, dims, keepdim)),)

    return infer


def count_of(x: TensorType, dims: Ints) -> int:
    """How many elements a reduction over `dims` joins."""
    return math.prod(x.shape[d] for d in dims)


# mean, var, std -----------------------------------------------------------------------------------


def average(b: Any, x: Any, dims: Ints) -> Any:
    """The mean over `dims`, which stay with size 1; x is already wide."""
    return b.div(b.sum(x, dims=dims, keepdim=True), float(count_of(x.type, dims)))


def _mean(b: Any, x: Any, *, dims: Ints, keepdim: bool) -> Any:
    total = b.sum(widened(b, x), dims=dims, keepdim=keepdim)
    return as_dtype(b, b.div(total, float(count_of(x.type, dims))), x.type.dtype)


def _mean_gradient(b: Any, g: Any, x_type: TensorType, dims: Ints) -> Any:
    share = b.div(restored(b, g, x_type, dims), float(count_of(x_type, dims)))
    return b.expand(share, shape=x_type.shape)


mean = declare(
    "mean",
    "composite",
    "x",
    infer=_floating_reduction("mean"),
    decompose=_mean,
    attributes={"dims": tuple, "keepdim": bool},
    gradients={"x": _mean_gradient},
    doc="The arithmetic mean over `dims`; nan over no elements. For floating-point operands.",
    complex=True,
)


def _freedom(x: TensorType, dims: Ints, correction: int) -> float:
    return float(max(count_of(x, dims) - correction, 0))


def _centred(b: Any, x: Any, dims: Ints) -> Any:
    return b.sub(x, average(b, x, dims))


def _variance(b: Any, x: Any, dims: Ints, keepdim: bool, correction: int) -> Any:
    """In two passes: the squares of the deviations, so that nothing cancels."""
    deviation = _centred(b, widened(b, x), dims)
    total = b.sum(b.mul(deviation, deviation), dims=dims, keepdim=keepdim)
    return b.div(total, _freedom(x.type, dims, correction))


def _var(b: Any, x: Any, *, dims: Ints, keepdim: bool, correction: int) -> Any:
    return as_dtype(b, _variance(b, x, dims, keepdim, correction), x.type.dtype)


def _var_gradient(b: Any, g: Any, x: Any, dims: Ints, correction: int) -> Any:
    scale = b.div(b.mul(restored(b, g, x.type, dims), 2.0), _freedom(x.type, dims, correction))
    return as_dtype(b, b.mul(_centred(b, widened(b, x), dims), widened(b, scale)), x.type.dtype)


def _std(b: Any, x: Any, *, dims: Ints, keepdim: bool, correction: int) -> Any:
    return as_dtype(b, b.sqrt(_variance(b, x, dims, keepdim, correction)), x.type.dtype)


def _std_gradient(b: Any, g: Any, x: Any, out: Any, dims: Ints, correction: int) -> Any:
    """Zero where the deviation is zero."""
    zero = b.eq(out, 0.0)
    scale = b.div(b.where(zero, 0.0, g), b.mul(b.where(zero, 1.0, out), 2.0))
    return _var_gradient(b, scale, x, dims, correction)


SPREAD = {"dims": tuple, "keepdim": bool, "correction": int}
var = declare(
    "var",
    "composite",
    "x",
    infer=_floating_reduction("var"),
    decompose=_var,
    attributes=SPREAD,
    gradients={"x": _var_gradient},
    doc="sum((x - mean) ** 2) / (n - correction) over `dims`, n elements; computed in two passes.",
)
std = declare(
    "std",
    "composite",
    "x",
    infer=_floating_reduction("std"),
    decompose=_std,
    attributes=SPREAD,
    gradients={"x": _std_gradient},
    doc="The square root of var. Where it is 0 the gradient is 0.",
)

# Softmax and its relatives ------------------------------------------------------------------------


def _finite_or_zero(b: Any, x: Any) -> Any:
    return b.where(b.lt(b.abs(x), math.inf), x, 0.0)


def _logsumexp(b: Any, x: Any, *, dims: Ints, keepdim: bool) -> Any:
    if 0 in (x.type.shape[d] for d in dims):
        shape = reduced_shape("logsumexp", x.type, dims, keepdim)
        return b.full(shape=shape, value=-math.inf, dtype=x.type.dtype)
    wide = widened(b, x)
    # An infinite maximum must not be subtracted: inf - inf is nan.
    highest = _finite_or_zero(b, b.amax(wide, dims=dims, keepdim=True))
    total = b.sum(b.exp(b.sub(wide, highest)), dims=dims, keepdim=True)
    out = b.add(b.log(total), highest)
    shape = reduced_shape("logsumexp", x.type, dims, keepdim)
    return as_dtype(b, out if keepdim else b.reshape(out, shape=shape), x.type.dtype)


def _logsumexp_gradient(b: Any, g: Any, x: Any, out: Any, dims: Ints) -> Any:
    highest = _finite_or_zero(b, restored(b, out, x.type, dims))
    return b.mul(restored(b, g, x.type, dims), b.exp(b.sub(x, highest)))


logsumexp = declare(
    "logsumexp",
    "composite",
    "x",
    infer=_floating_reduction("logsumexp"),
    decompose=_logsumexp,
    attributes={"dims": tuple, "keepdim": bool},
    gradients={"x": _logsumexp_gradient},
    doc="log(sum(e ** x)) over `dims`, without overflow: the maximum is taken out first.",
)


def _softmax_types(name: str) -> Any:
    def infer(x: TensorType, *, dim: int) -> tuple[TensorType, ...]:
        require_floating(name, x)
        check_dimensions(name, (dim,), x)
        return (x,)

    return infer


def _shifted(b: Any, x: Any, dim: int) -> Any:
    wide = widened(b, x)
    return b.sub(wide, b.amax(wide, dims=(dim,), keepdim=True))


def _softmax(b: Any, x: Any, *, dim: int) -> Any:
    if x.type.numel == 0:
        return x
    powers = b.exp(_shifted(b, x, dim))
    # A division for each row, not for each element: it takes as long as the exponential.
    share = b.div(1.0, b.sum(powers, dims=(dim,), keepdim=True))
    return as_dtype(b, b.mul(powers, share), x.type.dtype)


def _softmax_gradient(b: Any, g: Any, out: Any, dim: int) -> Any:
    y, upstream = widened(b, out), widened(b, g)
    inner = b.sum(b.mul(y, upstream), dims=(dim,), keepdim=True)
    return as_dtype(b, b.mul(y, b.sub(upstream, inner)), out.type.dtype)


softmax = declare(
    "softmax",
    "composite",
    "x",
    infer=_softmax_types("softmax"),
    decompose=_softmax,
    attributes={"dim": int},
    gradients={"x": _softmax_gradient},
    doc="e ** x / sum(e ** x) along `dim`, without overflow.",
)


def _log_softmax(b: Any, x: Any, *, dim: int) -> Any:
    if x.type.numel == 0:
        return x
    shifted = _shifted(b, x, dim)
    total = b.sum(b.exp(shifted), dims=(dim,), keepdim=True)
    return as_dtype(b, b.sub(shifted, b.log(total)), x.type.dtype)


def _log_softmax_gradient(b: Any, g: Any, out: Any, dim: int) -> Any:
    y, upstream = widened(b, out), widened(b, g)
    total = b.sum(upstream, dims=(dim,), keepdim=True)
    return as_dtype(b, b.sub(upstream, b.mul(b.exp(y), total)), out.type.dtype)


log_softmax = declare(
    "log_softmax",
    "composite",
    "x",
    infer=_softmax_types("log_softmax"),
    decompose=_log_softmax,
    attributes={"dim": int},
    gradients={"x": _log_softmax_gradient},
    doc="x - log(sum(e ** x)) along `dim`, without overflow.",
)

# norm ---------------------------------------------------------------------------------------------


def _norm(b: Any, x: Any, *, dims: Ints, keepdim: bool, p: float) -> Any:
    size = b.abs(widened(b, x))
    over = {"dims": dims, "keepdim": keepdim}
    if math.isinf(p):
        out = b.amax(size, **over) if p > 0 else b.amin(size, **over)
    elif p == 0.0:
        out = b.sum(as_dtype(b, b.ne(size, 0.0), size.type.dtype), **over)
    elif p == 1.0:
        out = b.sum(size, **over)
    elif p == 2.0:
        out = b.sqrt(b.sum(b.mul(size, size), **over))
    else:
        out = b.pow(b.sum(b.pow(size, p), **over), 1.0 / p)
    return as_dtype(b, out, x.type.dtype)


def _norm_gradient(b: Any, g: Any, x: Any, out: Any, dims: Ints, p: float) -> Any:
    """g * sign(x) * (|x| / out) ** (p - 1), and 0 where x or the norm is 0."""
    upstream, length = restored(b, g, x.type, dims), restored(b, out, x.type, dims)
    if p == 0.0:
        return b.mul(x, 0.0)
    if p == 1.0:
        return b.mul(b.sign(x), upstream)
    if math.isinf(p):
        mine = as_dtype(b, b.eq(b.abs(x), length), x.type.dtype)
        share = b.div(upstream, b.sum(mine, dims=dims, keepdim=True))
        return b.mul(b.mul(b.sign(x), mine), share)
    if p == 2.0:
        zero = b.eq(length, 0.0)
        return b.mul(x, b.div(b.where(zero, 0.0, upstream), b.where(zero, 1.0, length)))
    nonzero = b.ne(x, 0.0)
    # The inner `where`s keep inf and nan out of the branch that is not taken, also when this
    # expression is itself differentiated.
    ratio = b.div(b.where(nonzero, b.abs(x), 1.0), b.where(b.ne(length, 0.0), length, 1.0))
    return b.where(nonzero, b.mul(b.mul(upstream, b.sign(x)), b.pow(ratio, p - 1.0)), 0.0)


norm = declare(
    "norm",
    "composite",
    "x",
    infer=_floating_reduction("norm"),
    decompose=_norm,
    attributes={"dims": tuple, "keepdim": bool, "p": float},
    gradients={"x": _norm_gradient},
    doc="""The p-norm over `dims`: sum(|x| ** p) ** (1 / p); for p = inf or -inf the largest or
smallest |x|, for p = 0 the number of nonzeros.""",
)

# Extrema with their places ------------------------------------------------------------------------


def _extremum(name: str, value: str, place: str, doc: str) -> Op:
    def infer(x: TensorType, *, dim: int, keepdim: bool) -> tuple[TensorType, ...]:
        check_dimensions(name, (dim,), x)
        if x.shape[dim] == 0:
            raise ShapeError(f"[{name}] a reduction over an empty dimension has no value: {x}")
        shape = reduced_shape(name, x, (dim,), keepdim)
        return (x.with_shape(shape), tensor_type(i64, shape))

    def decompose(b: Any, x: Any, *, dim: int, keepdim: bool) -> Any:
        best = getattr(b, value)(x, dims=(dim,), keepdim=keepdim)
        return best, getattr(b, place)(x, dims=(dim,), keepdim=keepdim)

    def gradient(b: Any, g: Any, indices: Any, x_type: TensorType, dim: int) -> Any:
        ramp = b.iota(shape=along(x_type.shape, dim), dim=dim, dtype=i64)
        mine = b.eq(restored(b, indices, x_type, (dim,)), ramp)
        return b.where(mine, restored(b, g, x_type, (dim,)), 0.0)

    return declare(
        name,
        "composite",
        "x",
        infer=infer,
        decompose=decompose,
        attributes={"dim": int, "keepdim": bool},
        results="values indices",
        gradients={"x": gradient},
        doc=doc,
    )


max_with_index = _extremum(
    "max_with_index",
    "amax",
    "argmax",
    "The maximum along `dim` and the index (i64) of the first one, which gets the gradient.",
)
min_with_index = _extremum(
    "min_with_index",
    "amin",
    "argmin",
    "The minimum along `dim` and the index (i64) of the first one, which gets the gradient.",
)
