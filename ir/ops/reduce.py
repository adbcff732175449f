"""Primitive reductions over static dimensions.

Attributes: `dims`, normalised and distinct, and `keepdim`. Sums of integers and bools must be
widened by an explicit cast before (the front end follows PyTorch and sums them in i64).
Floating-point sums may be associated in any order; NumPy's pairwise order is one of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from braze.ir.dtypes import bool_, i64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import Op, Rule, declare
from braze.ir.ops import complex_rules
from braze.ir.ops.movement import inverse_permutation
from braze.ir.ops.rules import check_dimensions, reduced_shape
from braze.ir.ops.scan import before
from braze.ir.types import TensorType, tensor_type


def _spread(b: Any, value: Any, x_type: TensorType, dims: tuple[int, ...]) -> Any:
    """Give a reduced value (with or without its 1-sized dimensions) the operand's rank back."""
    shape = tuple(1 if axis in dims else size for axis, size in enumerate(x_type.shape))
    return value if value.type.shape == shape else b.reshape(value, shape=shape)


def _sum_gradient(b: Any, g: Any, x_type: TensorType, dims: tuple[int, ...]) -> Any:
    return b.expand(_spread(b, g, x_type, dims), shape=x_type.shape)


def _prod_gradient(b: Any, g: Any, x: Any, dims: tuple[int, ...]) -> Any:
    """g * (product of the others): of those before an element and of those behind it.

    Nothing is divided, so zeros need no care, and the rule can be derived again.
    """
    upstream, shape = _spread(b, g, x.type, dims), x.type.shape
    if x.type.numel == 0 or not dims:
        return b.expand(upstream, shape=shape)
    order = (*(d for d in range(len(shape)) if d not in dims), *dims)
    kept = tuple(shape[d] for d in order[: -len(dims)])
    rows = b.reshape(b.permute(x, dims=order), shape=(*kept, math.prod(shape[d] for d in dims)))
    last = len(kept)
    ahead = before(b, b.cumprod(rows, dim=last, reverse=False), last, False, 1.0)
    behind = before(b, b.cumprod(rows, dim=last, reverse=True), last, True, 1.0)
    others = b.reshape(b.mul(ahead, behind), shape=tuple(shape[d] for d in order))
    return b.mul(upstream, b.permute(others, dims=inverse_permutation(order)))


def _extremum_gradient(b: Any, g: Any, x: Any, out: Any, dims: tuple[int, ...]) -> Any:
    """Share the gradient evenly among equal extrema, as PyTorch's amax and amin do."""
    mine = b.cast(b.eq(x, _spread(b, out, x.type, dims)), dtype=x.type.dtype)
    ties = b.sum(mine, dims=dims, keepdim=True)
    return b.mul(b.div(mine, ties), _spread(b, g, x.type, dims))


def _reduce(
    name: str,
    evaluate: Rule,
    doc: str,
    *,
    gradient: Rule | None = None,
    empty: bool = True,
    complex: Rule | bool = False,
) -> Op:
    def infer(x: TensorType, *, dims: tuple[int, ...], keepdim: bool) -> tuple[TensorType, ...]:
        if x.dtype is bool_ and name not in ("any", "all", "amax", "amin"):
            raise DTypeError(f"[{name}] needs a numeric operand, given {x}; cast it first")
        if x.dtype is not bool_ and name in ("any", "all"):
            raise DTypeError(f"[{name}] needs a bool operand, given {x}; cast it first")
        shape = reduced_shape(name, x, dims, keepdim)
        if not empty and 0 in [x.shape[d] for d in dims]:
            raise ShapeError(f"[{name}] a reduction over an empty dimension has no value: {x}")
        return (x.with_shape(shape),)

    def run(x: np.ndarray, *, dims: tuple[int, ...], keepdim: bool) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(evaluate(x, axis=dims, keepdims=keepdim), dtype=x.dtype)

    return declare(
        name,
        "reduce",
        "x",
        infer=infer,
        evaluate=run,
        gradients={"x": gradient} if gradient else None,
        differentiable=gradient is not None,
        complex=complex,
        attributes={"dims": tuple, "keepdim": bool},
        doc=doc,
    )


def _wide(function: Any) -> Rule:
    """Accumulate narrow floats in f32, as the compiled code does."""

    def run(x: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> np.ndarray:
        narrow = x.dtype.itemsize == 2 and x.dtype.kind not in "iu"
        dtype = np.float32 if narrow else x.dtype
        result: np.ndarray = function(x, axis=axis, keepdims=keepdims, dtype=dtype)
        return result

    return run


sum = _reduce("sum", _wide(np.sum), "Sum over `dims`.", gradient=_sum_gradient, complex=True)
prod = _reduce(
    "prod",
    _wide(np.prod),
    "Product over `dims`.",
    gradient=_prod_gradient,
    complex=complex_rules.prod,
)
amax = _reduce(
    "amax", np.max, "Maximum over `dims`; nan wins.", gradient=_extremum_gradient, empty=False
)
amin = _reduce(
    "amin", np.min, "Minimum over `dims`; nan wins.", gradient=_extremum_gradient, empty=False
)
any = _reduce("any", np.any, "True where some element along `dims` is True.")
all = _reduce("all", np.all, "True where every element along `dims` is True.")


def _arg_reduce(name: str, evaluate: Rule, doc: str) -> Op:
    def infer(x: TensorType, *, dims: tuple[int, ...], keepdim: bool) -> tuple[TensorType, ...]:
        check_dimensions(name, dims, x)
        if len(dims) != 1:
            raise ShapeError(f"[{name}] takes one dimension, given {dims}")
        if x.shape[dims[0]] == 0:
            raise ShapeError(f"[{name}] a reduction over an empty dimension has no value: {x}")
        return (tensor_type(i64, reduced_shape(name, x, dims, keepdim)),)

    def run(x: np.ndarray, *, dims: tuple[int, ...], keepdim: bool) -> np.ndarray:
        return np.asarray(evaluate(x, axis=dims[0], keepdims=keepdim), dtype=np.int64)

    return declare(
        name,
        "reduce",
        "x",
        infer=infer,
        evaluate=run,
        differentiable=False,
        attributes={"dims": tuple, "keepdim": bool},
        doc=doc,
    )


argmax = _arg_reduce("argmax", np.argmax, "Index of the first maximum along one dimension, i64.")
argmin = _arg_reduce("argmin", np.argmin, "Index of the first minimum along one dimension, i64.")
