"""The negative log-likelihood, and the steps that it shares with the cross entropy.

The classes are dimension 1 of [N, C, ...] (0 of [C]); targets are class numbers, i64, of that shape
without the classes. The target's element is picked by comparing each class number with it inside a
sum over the classes: a map and a reduction over rows, no gather. Targets equal to `ignore_index`
count for nothing; others outside 0..C-1 raise IndexError.
"""

from __future__ import annotations

from typing import Any

from braze.ir.dtypes import i64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import along, as_dtype, require_floating, widened
from braze.ir.ops.losses import check_reduction
from braze.ir.types import Shape, TensorType

# Shared steps -------------------------------------------------------------------------------------


def class_dimension(x: TensorType) -> int:
    return 0 if x.rank == 1 else 1


def loss_types(
    name: str,
    x: TensorType,
    target: TensorType,
    weight: TensorType | None,
    reduction: str,
) -> tuple[TensorType, ...]:
    require_floating(name, x)
    check_reduction(name, reduction)
    if target.dtype is not i64:
        raise DTypeError(f"[{name}] the target must hold class numbers, int64, given {target}")
    if x.rank == 0:
        raise ShapeError(f"[{name}] the input must be [C] or [N, C, ...], given {x}")
    dim = class_dimension(x)
    rows = (*x.shape[:dim], *x.shape[dim + 1 :])
    if target.shape != rows:
        raise ShapeError(f"[{name}] the target must be {list(rows)} for {x}, given {target}")
    if weight is not None:
        if weight.dtype is not x.dtype:
            raise DTypeError(f"[{name}] operands differ in dtype: {x}, weight {weight}")
        if weight.shape != (x.shape[dim],):
            raise ShapeError(
                f"[{name}] the weight must be [{x.shape[dim]}], one for each class of {x}, "
                f"given {weight}"
            )
    return (x.with_shape(rows if reduction == "none" else ()),)


def check_target(b: Any, name: str, target: Any, classes: int, ignore_index: int) -> Any:
    """Emit the range check; returns where the target counts."""
    valid = b.ne(target, ignore_index)
    b.check_range(b.where(valid, target, 0), low=0, high=classes, message=name)
    return valid


def _columns(shape: Shape, dim: int) -> Shape:
    """The shape of a row's result, its class dimension kept with size 1."""
    return tuple(1 if axis == dim else size for axis, size in enumerate(shape))


def chosen(b: Any, x_type: TensorType, target: Any) -> Any:
    """True at each row's target class, of the input's shape."""
    dim = class_dimension(x_type)
    ramp = b.iota(shape=along(x_type.shape, dim), dim=dim, dtype=i64)
    return b.eq(b.reshape(target, shape=_columns(x_type.shape, dim)), ramp)


def class_weights(b: Any, x_type: TensorType, weight: Any) -> Any:
    dim = class_dimension(x_type)
    return b.reshape(widened(b, weight), shape=along(x_type.shape, dim))


def picked(b: Any, x_type: TensorType, hit: Any, values: Any) -> Any:
    """The target's value of each row, without the class dimension."""
    return b.sum(b.where(hit, values, 0.0), dims=(class_dimension(x_type),), keepdim=False)


def reduced_rows(b: Any, rows: Any, valid: Any, row_weights: Any, reduction: str) -> Any:
    """Sum, or mean over the rows that count, by their weights; valid rows only."""
    rows = b.where(valid, rows, 0.0)
    if reduction == "none":
        return rows
    dims = tuple(range(rows.type.rank))
    total = b.sum(rows, dims=dims, keepdim=False)
    if reduction == "sum":
        return total
    return b.div(total, _total_weight(b, valid, row_weights, rows.type))


def _total_weight(b: Any, valid: Any, row_weights: Any, like: TensorType) -> Any:
    count = b.cast(valid, dtype=like.dtype)
    if row_weights is not None:
        count = b.where(valid, row_weights, 0.0)
    return b.sum(count, dims=tuple(range(like.rank)), keepdim=False)


def row_scale(
    b: Any, g: Any, x_type: TensorType, target: Any, weight: Any, reduction: str, ignore: int
) -> Any:
    """What each row's gradient is multiplied by, [N, 1, ...]: g over the mean's divisor, or 0."""
    upstream = widened(b, g)
    valid = b.ne(target, ignore)
    if reduction == "mean":
        row_weights = None
        if weight is not None:
            hit = chosen(b, x_type, target)
            row_weights = picked(b, x_type, hit, class_weights(b, x_type, weight))
        like = target.type.with_dtype(upstream.type.dtype)
        upstream = b.div(upstream, _total_weight(b, valid, row_weights, like))
    scale = b.where(valid, upstream, 0.0)
    return b.reshape(scale, shape=_columns(x_type.shape, class_dimension(x_type)))


# nll_loss -----------------------------------------------------------------------------------------


def _nll(b: Any, x: Any, target: Any, weight: Any, reduction: str, ignore_index: int) -> Any:
    classes = x.type.shape[class_dimension(x.type)]
    valid = check_target(b, "nll_loss", target, classes, ignore_index)
    hit = chosen(b, x.type, target)
    rows = b.neg(picked(b, x.type, hit, widened(b, x)))
    row_weights = None
    if weight is not None:
        row_weights = picked(b, x.type, hit, class_weights(b, x.type, weight))
        rows = b.mul(rows, row_weights)
    return as_dtype(b, reduced_rows(b, rows, valid, row_weights, reduction), x.type.dtype)


def _nll_gradient(
    b: Any,
    g: Any,
    target: Any,
    weight: Any,
    x_type: TensorType,
    reduction: str,
    ignore_index: int,
) -> Any:
    scale = row_scale(b, g, x_type, target, weight, reduction, ignore_index)
    if weight is not None:
        scale = b.mul(scale, class_weights(b, x_type, weight))
    hit = chosen(b, x_type, target)
    return as_dtype(b, b.where(hit, b.neg(scale), 0.0), x_type.dtype)


REDUCED = {"reduction": str, "ignore_index": int}
nll_loss = declare(
    "nll_loss",
    "composite",
    "x target",
    infer=lambda x, target, *, reduction, ignore_index: loss_types(
        "nll_loss", x, target, None, reduction
    ),
    decompose=lambda b, x, target, *, reduction, ignore_index: _nll(
        b, x, target, None, reduction, ignore_index
    ),
    effect=True,
    attributes=REDUCED,
    gradients={
        "x": lambda b, g, target, x_type, reduction, ignore_index: _nll_gradient(
            b, g, target, None, x_type, reduction, ignore_index
        )
    },
    autocast="f32",
    doc="""-x[n, target[n]] for log-probabilities x [N, C, ...]; `reduction` is "none", "sum" or
"mean" over the targets that are not `ignore_index`.""",
)
nll_loss_weighted = declare(
    "nll_loss_weighted",
    "composite",
    "x target weight",
    infer=lambda x, target, weight, *, reduction, ignore_index: loss_types(
        "nll_loss", x, target, weight, reduction
    ),
    decompose=_nll,
    effect=True,
    attributes=REDUCED,
    gradients={"x": _nll_gradient},
    autocast="f32",
    doc="nll_loss with a weight for each class; the mean divides by the targets' weights.",
)
