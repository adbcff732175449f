"""Composites that make, select, stack, mask and undo broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.dtypes import DType, bool_, i32, i64
from braze.ir.errors import DimensionError, DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops import reduce
from braze.ir.ops.composite import as_dtype, cut, reshaped
from braze.ir.ops.rules import check_dimensions, common_dtype
from braze.ir.types import Shape, TensorType, broadcast_shapes, tensor_type

full = declare(
    "full",
    "composite",
    "",
    infer=lambda *, shape, value, dtype: (tensor_type(dtype, shape),),
    evaluate=lambda *, shape, value, dtype: np.full(shape, np.asarray(value).astype(dtype.numpy)),
    decompose=lambda b, *, shape, value, dtype: b.expand(
        b.constant(value=value, dtype=dtype), shape=shape
    ),
    attributes={"shape": tuple, "value": float, "dtype": DType},
    differentiable=False,
    doc="A tensor of one value.",
)

# sum_to_shape -------------------------------------------------------------------------------------


def _summed_dims(x: Shape, shape: Shape) -> tuple[int, ...]:
    """The dimensions of `x` that broadcasting from `shape` made larger."""
    lead = len(x) - len(shape)
    return tuple(
        axis
        for axis, size in enumerate(x)
        if axis < lead or (size != 1 and shape[axis - lead] == 1)
    )


def _sum_to_shape_types(x: TensorType, *, shape: Shape) -> tuple[TensorType, ...]:
    lead = x.rank - len(shape)
    if lead < 0 or any(
        wanted not in (1, size) for size, wanted in zip(x.shape[lead:], shape, strict=True)
    ):
        raise ShapeError(f"[sum_to_shape] {list(shape)} does not broadcast to {x}")
    if x.dtype is bool_ and _summed_dims(x.shape, shape):
        raise DTypeError(f"[sum_to_shape] needs a numeric operand, given {x}")
    return (x.with_shape(shape),)


def _sum_to_shape(b: Any, x: Any, *, shape: Shape) -> Any:
    dims = _summed_dims(x.type.shape, shape)
    total = b.sum(x, dims=dims, keepdim=False) if dims else x
    return reshaped(b, total, shape)


def _sum_to_shape_array(x: np.ndarray, *, shape: Shape) -> np.ndarray:
    dims = _summed_dims(x.shape, shape)
    if not dims:
        return x.reshape(shape)
    assert reduce.sum.evaluate is not None
    total: np.ndarray = reduce.sum.evaluate(x, dims=dims, keepdim=False)
    return total.reshape(shape)


sum_to_shape = declare(
    "sum_to_shape",
    "composite",
    "x",
    infer=_sum_to_shape_types,
    evaluate=_sum_to_shape_array,
    decompose=_sum_to_shape,
    attributes={"shape": tuple},
    gradients={"x": lambda b, g, x_type: b.expand(g, shape=x_type.shape)},
    doc="Sum over the dimensions that broadcasting from `shape` repeats: the adjoint of expand.",
    complex=True,
)

# select and stack ---------------------------------------------------------------------------------


def _select_types(x: TensorType, *, dim: int, index: int) -> tuple[TensorType, ...]:
    check_dimensions("select", (dim,), x)
    if not 0 <= index < x.shape[dim]:
        raise DimensionError(f"[select] index {index} is out of range for dimension {dim} of {x}")
    return (x.with_shape((*x.shape[:dim], *x.shape[dim + 1 :])),)


def _select(b: Any, x: Any, *, dim: int, index: int) -> Any:
    shape = x.type.shape
    row = cut(b, x, dim, index, index + 1)
    return b.reshape(row, shape=(*shape[:dim], *shape[dim + 1 :]))


def _select_gradient(b: Any, g: Any, x_type: TensorType, dim: int, index: int) -> Any:
    row = b.reshape(g, shape=(*x_type.shape[:dim], 1, *x_type.shape[dim + 1 :]))
    after = x_type.shape[dim] - index - 1
    return b.pad(
        row,
        low=tuple(index if axis == dim else 0 for axis in range(x_type.rank)),
        high=tuple(after if axis == dim else 0 for axis in range(x_type.rank)),
        interior=(0,) * x_type.rank,
        value=0.0,
    )


def _select_array(x: np.ndarray, *, dim: int, index: int) -> np.ndarray:
    places: list[Any] = [slice(None)] * x.ndim
    places[dim] = index
    return np.asarray(x[tuple(places)])


select = declare(
    "select",
    "composite",
    "x",
    infer=_select_types,
    evaluate=_select_array,
    decompose=_select,
    attributes={"dim": int, "index": int},
    gradients={"x": _select_gradient},
    doc="Element `index` along `dim`, which disappears; 0 <= index < size.",
    complex=True,
)


def _stack_types(*xs: TensorType, dim: int) -> tuple[TensorType, ...]:
    common_dtype("stack", *xs)
    first = xs[0]
    for x in xs[1:]:
        if x.shape != first.shape:
            raise ShapeError(f"[stack] operands must have one shape: {first} and {x}")
    if not 0 <= dim <= first.rank:
        raise DimensionError(f"[stack] dimension {dim} is outside 0..{first.rank}")
    return (first.with_shape((*first.shape[:dim], len(xs), *first.shape[dim:])),)


def _stack(b: Any, *xs: Any, dim: int) -> Any:
    shape = xs[0].type.shape
    rows = [b.reshape(x, shape=(*shape[:dim], 1, *shape[dim:])) for x in xs]
    return b.concat(*rows, dim=dim)


def _stack_gradient(b: Any, g: Any, position: int, dim: int) -> Any:
    return b.select(g, dim=dim, index=position)


stack = declare(
    "stack",
    "composite",
    "xs*",
    infer=_stack_types,
    evaluate=lambda *xs, dim: np.stack(xs, axis=dim),
    decompose=_stack,
    attributes={"dim": int},
    gradients={"xs": _stack_gradient},
    doc="The operands, which have one shape, along a new dimension `dim`.",
    complex=True,
)

# Masks --------------------------------------------------------------------------------------------


def _masked_fill_types(x: TensorType, mask: TensorType, *, value: float) -> tuple[TensorType, ...]:
    if mask.dtype is not bool_:
        raise DTypeError(f"[masked_fill] the mask must be bool, given {mask}")
    return (tensor_type(x.dtype, broadcast_shapes("masked_fill", x, mask)),)


masked_fill = declare(
    "masked_fill",
    "composite",
    "x mask",
    infer=_masked_fill_types,
    decompose=lambda b, x, mask, *, value: b.where(mask, value, x),
    attributes={"value": float},
    gradients={"x": lambda b, g, mask: b.masked_fill(g, mask, value=0.0)},
    broadcasts=True,
    doc="`value` where the mask holds, else x.",
    complex=True,
)


def _triangle(name: str, doc: str) -> Any:
    def infer(x: TensorType, *, diagonal: int) -> tuple[TensorType, ...]:
        if x.rank < 2:
            raise ShapeError(f"[{name}] needs at least 2 dimensions, given {x}")
        return (x,)

    def decompose(b: Any, x: Any, *, diagonal: int) -> Any:
        rows, columns = x.type.shape[-2:]
        row = b.add(b.iota(shape=(rows, 1), dim=0, dtype=i64), diagonal)
        column = b.iota(shape=(1, columns), dim=1, dtype=i64)
        inside = b.le(column, row) if name == "tril" else b.ge(column, row)
        return b.where(inside, x, 0.0)

    def gradient(b: Any, g: Any, diagonal: int) -> Any:
        return getattr(b, name)(g, diagonal=diagonal)

    return declare(
        name,
        "composite",
        "x",
        infer=infer,
        evaluate=lambda x, *, diagonal: getattr(np, name)(x, diagonal),
        decompose=decompose,
        attributes={"diagonal": int},
        gradients={"x": gradient},
        complex=True,
        doc=doc,
    )


tril = _triangle("tril", "x where column - row <= diagonal, else 0, in the last two dimensions.")
triu = _triangle("triu", "x where column - row >= diagonal, else 0, in the last two dimensions.")

# one_hot ------------------------------------------------------------------------------------------


def _one_hot_types(index: TensorType, *, classes: int) -> tuple[TensorType, ...]:
    if index.dtype is not i64:
        raise DTypeError(f"[one_hot] the index must be int64, given {index}")
    if classes < 1:
        raise ShapeError(f"[one_hot] needs at least one class, given {classes}")
    return (index.with_shape((*index.shape, classes)),)


def _one_hot(b: Any, index: Any, *, classes: int) -> Any:
    b.check_range(index, low=0, high=classes, message="one_hot")
    rank = index.type.rank
    classes_ramp = b.iota(shape=(*(1,) * rank, classes), dim=rank, dtype=i64)
    hit = b.eq(b.reshape(index, shape=(*index.type.shape, 1)), classes_ramp)
    return as_dtype(b, hit, i64)


one_hot = declare(
    "one_hot",
    "composite",
    "index",
    infer=_one_hot_types,
    decompose=_one_hot,
    effect=True,
    attributes={"classes": int},
    differentiable=False,
    doc="1 at out[.., index[..]], else 0, as i64. IndexError: an index is outside 0..classes-1.",
)

# wrapped_index ------------------------------------------------------------------------------------


def _wrapped_types(index: TensorType, *, size: int, message: str) -> tuple[TensorType, ...]:
    if index.dtype not in (i32, i64):
        raise DTypeError(f"[wrapped_index] the index must be int64 or int32, given {index}")
    return (index.with_dtype(i64),)


def _wrapped_index(b: Any, index: Any, *, size: int, message: str) -> Any:
    wide = as_dtype(b, index, i64)
    b.check_range(wide, low=-size, high=size, message=message)
    return b.where(b.lt(wide, 0), b.add(wide, size), wide)


wrapped_index = declare(
    "wrapped_index",
    "composite",
    "index",
    infer=_wrapped_types,
    decompose=_wrapped_index,
    effect=True,
    attributes={"size": int, "message": str},
    differentiable=False,
    doc="""An index counted from the start, i64: size is added to negative ones. IndexError: one is
outside -size..size-1.""",
)
