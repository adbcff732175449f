"""Steps of distributions over categories: proportions of weights, logarithms of probabilities, and
what belongs to the category that was chosen.

Each gradient is one operation too, for these steps are taken for one small row at a time, where
what an operation costs is capturing it.
"""

from __future__ import annotations

from typing import Any

from braze.ir.dtypes import i64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import (
    Ints,
    along,
    as_dtype,
    require_floating,
    reshaped,
    summed_to,
    widened,
)
from braze.ir.ops.rules import check_dimensions
from braze.ir.types import Shape, TensorType, broadcast_shapes

# proportions --------------------------------------------------------------------------------------


def _alike(name: str, *types: TensorType) -> tuple[TensorType, ...]:
    """The one type that all operands have."""
    require_floating(name, *types)
    if any(t != types[0] for t in types):
        raise ShapeError(f"[{name}] operands must have one type: {', '.join(map(str, types))}")
    return types[:1]


def _proportions_types(name: str) -> Any:
    def infer(*types: TensorType, dim: int) -> tuple[TensorType, ...]:
        check_dimensions(name, (dim,), types[0])
        return _alike(name, *types)

    return infer


def _total(b: Any, x: Any, dim: int) -> Any:
    return b.sum(x, dims=(dim,), keepdim=True)


def _proportions(b: Any, x: Any, *, dim: int) -> Any:
    wide = widened(b, x)
    return as_dtype(b, b.div(wide, _total(b, wide, dim)), x.type.dtype)


def _proportions_grad(b: Any, out: Any, x: Any, y: Any, *, dim: int) -> Any:
    """`out` is the gradient of the proportions y of x."""
    wide = widened(b, out)
    inner = _total(b, b.mul(wide, widened(b, y)), dim)
    return as_dtype(b, b.div(b.sub(wide, inner), _total(b, widened(b, x), dim)), x.type.dtype)


def _grad_of_out(b: Any, g: Any, x: Any, y: Any, dim: int) -> Any:
    scaled = b.div(g, _total(b, x, dim))
    return b.sub(scaled, b.mul(y, _total(b, scaled, dim)))


def _grad_of_x(b: Any, g: Any, x: Any, gradient: Any, dim: int) -> Any:
    inner = b.div(_total(b, b.mul(g, gradient), dim), _total(b, x, dim))
    return b.expand(b.neg(inner), shape=x.type.shape)


def _grad_of_y(b: Any, g: Any, out: Any, x: Any, dim: int) -> Any:
    return b.neg(b.mul(out, b.div(_total(b, g, dim), _total(b, x, dim))))


proportions = declare(
    "proportions",
    "composite",
    "x",
    infer=_proportions_types("proportions"),
    decompose=_proportions,
    attributes={"dim": int},
    gradients={"x": lambda b, g, x, out, dim: b.proportions_grad(g, x, out, dim=dim)},
    domain=(0.1, 3.0),
    doc="x / sum(x) along `dim`.",
)
proportions_grad = declare(
    "proportions_grad",
    "composite",
    "out x y",
    infer=_proportions_types("proportions_grad"),
    decompose=_proportions_grad,
    attributes={"dim": int},
    results="gradient",
    gradients={"out": _grad_of_out, "x": _grad_of_x, "y": _grad_of_y},
    domain=(0.1, 3.0),
    doc="The gradient of proportions: (out - sum(out * y)) / sum(x); `out` is that of y.",
)

# log_clamped --------------------------------------------------------------------------------------


def _clamped_types(name: str) -> Any:
    return lambda *types, low, high: _alike(name, *types)


def _log_clamped_grad(b: Any, out: Any, x: Any, *, low: float, high: float) -> Any:
    inside = b.bitwise_and(b.ge(x, low), b.le(x, high))
    return b.where(inside, b.div(out, x), 0.0)


log_clamped = declare(
    "log_clamped",
    "composite",
    "x",
    infer=_clamped_types("log_clamped"),
    decompose=lambda b, x, *, low, high: b.log(b.clamp(x, low, high)),
    attributes={"low": float, "high": float},
    gradients={"x": lambda b, g, x, low, high: b.log_clamped_grad(g, x, low=low, high=high)},
    domain=(0.01, 1.2),
    doc="log(clamp(x, low, high)): logarithms of probabilities, all finite.",
)
log_clamped_grad = declare(
    "log_clamped_grad",
    "composite",
    "out x",
    infer=_clamped_types("log_clamped_grad"),
    decompose=_log_clamped_grad,
    attributes={"low": float, "high": float},
    results="gradient",
    gradients={
        "out": lambda b, g, x, low, high: b.log_clamped_grad(g, x, low=low, high=high),
        "x": lambda b, g, x, gradient, low, high: b.neg(
            b.log_clamped_grad(b.mul(g, gradient), x, low=low, high=high)
        ),
    },
    domain=(0.01, 1.2),
    doc="The gradient of log_clamped: out / x, and 0 where x was clamped.",
)

# pick ---------------------------------------------------------------------------------------------


def _index_types(name: str, index: TensorType) -> None:
    if index.dtype is not i64:
        raise DTypeError(f"[{name}] the index must be int64, given {index}")


def _pick_types(x: TensorType, index: TensorType) -> tuple[TensorType, ...]:
    _index_types("pick", index)
    if x.rank == 0:
        raise ShapeError(f"[pick] needs a dimension of categories, given {x}")
    return (x.with_shape(broadcast_shapes("pick", x.with_shape(x.shape[:-1]), index)),)


def _pick(b: Any, x: Any, index: Any) -> Any:
    (result,) = _pick_types(x.type, index.type)
    rows, size = result.shape, x.type.shape[-1]
    b.check_range(index, low=0, high=size, message="gather!")
    table = _expanded(b, x, (*rows, size))
    chosen = reshaped(b, _expanded(b, index, rows), (*rows, 1))
    return reshaped(b, b.take_along(table, chosen, dim=len(rows)), rows)


def _expanded(b: Any, x: Any, shape: Shape) -> Any:
    return x if x.type.shape == shape else b.expand(x, shape=shape)


def _pick_grad_types(out: TensorType, index: TensorType, *, shape: Ints) -> tuple[TensorType, ...]:
    _index_types("pick_grad", index)
    require_floating("pick_grad", out)
    if _pick_types(out.with_shape(shape), index) != (out,):
        raise ShapeError(f"[pick_grad] {out} is not picked from {list(shape)} by {index}")
    return (out.with_shape(shape),)


def _pick_grad(b: Any, out: Any, index: Any, *, shape: Ints) -> Any:
    rows, size = out.type.shape, shape[-1]
    wide = (*rows, size)
    number = b.iota(shape=along(wide, len(rows)), dim=len(rows), dtype=i64)
    mine = b.eq(reshaped(b, _expanded(b, index, rows), (*rows, 1)), number)
    return summed_to(b, b.where(mine, reshaped(b, out, (*rows, 1)), 0.0), shape)


pick = declare(
    "pick",
    "composite",
    "x index",
    infer=_pick_types,
    decompose=_pick,
    effect=True,
    gradients={"x": lambda b, g, index, x_type: b.pick_grad(g, index, shape=x_type.shape)},
    doc="""x[..., index]: the element of the last dimension that each index (i64) names; x's other
dimensions and the index broadcast. An index out of range is a RuntimeError.""",
)
pick_grad = declare(
    "pick_grad",
    "composite",
    "out index",
    infer=_pick_grad_types,
    decompose=_pick_grad,
    attributes={"shape": tuple},
    results="gradient",
    gradients={"out": lambda b, g, index: b.pick(g, index)},
    doc="The gradient of pick: `out` at the places picked, 0 elsewhere, as `shape`.",
)
