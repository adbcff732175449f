"""Functions that write to, add to and pick from places that index tensors and masks name.

Each is a compiled operation that does not read its indices here; only masks that decide a shape
(`masked_select`, `nonzero`) are sync points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.casting import casting
from braze.functions.arguments import require_tensors
from braze.functions.indexing import (
    as_value,
    check_index,
    gather,
    getitem,
    indexed,
    nothing_of,
    wrapped_index,
)
from braze.functions.movement import broadcast_tensors, clone, expand, narrow, reshape
from braze.functions.pointwise import clamp, div, floor_divide, mul, sub, where
from braze.functions.promotion import cast, scalar, single
from braze.functions.scans import cumsum
from braze.ir.dtypes import DType, bool_, i32, i64
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.placing import array_beside
from braze.tensors import Tensor, apply
from braze.views import check_writable

_SCATTER, _ADD = op_named("scatter"), op_named("scatter_add")
_COMBINE = op_named("scatter_reduce")
_ROWS, _ADD_ROWS, _TAKE = op_named("index_put"), op_named("index_add"), op_named("take")


# One index for each element -----------------------------------------------------------------------


def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | float | None = None,
    *,
    value: float | None = None,
    reduce: str | None = None,
) -> Tensor:
    """`input` with src[i][j] written to [index[i][j]][j] for dim 0, and so on. Where a place is
    named twice the last value stays, but the gradient goes to all of them.

    Args:
        src: a tensor at least as large as the index, or (also as `value`) a number.
        reduce: "add" or "multiply": combine with what is there instead of writing.

    Raises:
        RuntimeError: shapes or dtypes do not fit; or, at the next sync, an index is out
            of range.
    """
    source = value if src is None else src
    if source is None:
        raise TypeError("scatter(): one of src and value is needed")
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    kind = {None: "write", "add": "sum", "multiply": "prod"}[reduce]
    return _scattered("scatter", input, dim, index, source, kind)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`input` with src[i][j] added at [index[i][j]][j] for dim 0, and so on; repeats accumulate.

    Raises:
        RuntimeError: shapes or dtypes do not fit; or, at the next sync, an index is out
            of range.
    """
    return _scattered("scatter_add", input, dim, index, src, "sum")


def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`input` with src[i][j] combined into [index[i][j]][j] for dim 0, and so on.

    Args:
        reduce: "sum", "prod", "mean", "amax" or "amin".
        include_self: whether the elements of `input` that are written to take part.

    Raises:
        RuntimeError: shapes or dtypes do not fit; or, at the next sync, an index is out
            of range.
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(
            f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}"
        )
    start = input
    if not include_self:
        start = scatter(input, dim, index, _identity(reduce, input.dtype))
    if reduce != "mean":
        return _scattered("scatter_reduce", start, dim, index, src, reduce)
    total = _scattered("scatter_reduce", start, dim, index, src, "sum")
    counts = expand(scalar(1 if include_self else 0, input.dtype), input._handle.type.shape)
    counts = scatter(clone(counts), dim, index, 1, reduce="add")
    if not include_self:
        counts = clamp(counts, min=1)
    return div(total, counts) if input.dtype.is_differentiable else floor_divide(total, counts)


def _identity(reduce: str, dtype: DType) -> float:
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    low = reduce == "amax"
    if dtype.is_floating_point:
        return -math.inf if low else math.inf
    if dtype is bool_:
        return 0 if low else 1
    limits = np.iinfo(dtype.numpy)
    return int(limits.min if low else limits.max)


def _scattered(
    name: str, input: Tensor, dim: int, index: Tensor, source: Tensor | float, kind: str
) -> Tensor:
    if index.dtype not in (i64, i32):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    shape = input._handle.type.shape
    if not shape and not isinstance(source, Tensor) or not shape and not source.ndim:  # type: ignore[union-attr]
        src = reshape(source, (1,)) if isinstance(source, Tensor) else source
        whole = _scattered(name, reshape(input, (1,)), dim, reshape(index, (1,)), src, kind)
        return reshape(whole, ())
    d = normalise_dimension(name, dim, input.ndim)
    sizes = index._handle.type.shape
    if index._handle.type.numel == 0:
        return clone(input)
    if len(sizes) != len(shape):
        raise RuntimeError("Index tensor must have the same number of dimensions as self tensor")
    updates = _updates(name, input, d, index, source)
    check_index(f"{name}!", index, shape[d])  # RuntimeError, as PyTorch's
    if kind == "write":
        call = call_of(_SCATTER, dim=d)
    elif kind == "sum":
        call = call_of(_ADD, dim=d)
    else:
        call = call_of(_COMBINE, dim=d, combine=kind)
    return apply(call, input, index, updates)  # type: ignore[no-any-return]


def _updates(name: str, input: Tensor, dim: int, index: Tensor, source: Tensor | float) -> Tensor:
    """The part of the source that the index covers."""
    sizes, shape = index._handle.type.shape, input._handle.type.shape
    fits = all(n <= m for d, (n, m) in enumerate(zip(sizes, shape, strict=True)) if d != dim)
    if not isinstance(source, Tensor):
        if not fits:
            raise RuntimeError(
                f"Expected index {list(sizes)} to be no larger than self {list(shape)} apart from "
                f"dimension {dim}"
            )
        return expand(as_value(source, input), sizes)
    own = source._handle.type.shape
    if len(own) != len(sizes):
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    if not fits or any(n > m for n, m in zip(sizes, own, strict=True)):
        raise RuntimeError(
            f"Expected index {list(sizes)} to be no larger than self {list(shape)} apart from "
            f"dimension {dim} and to be no larger size than src {list(own)}"
        )
    if source.dtype is not input.dtype:
        raise RuntimeError(
            f"{name}(): Expected self.dtype to be equal to src.dtype, given "
            f"{input.dtype.public_name} and {source.dtype.public_name}"
        )
    for d, size in enumerate(sizes):
        if size != own[d]:
            source = narrow(source, d, 0, size)
    return source


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` with the other dimensions broadcast; without `dim`, of the flattened tensors.
    Negative indices count from the end.

    Raises:
        RuntimeError: the numbers of dimensions differ. IndexError: at the next sync, if an index
            is out of range.
    """
    if indices.dtype is not i64:
        raise RuntimeError(
            "torch.take_along_dim(): dtype of indices should be Long but got "
            f"{indices.dtype.public_name}"
        )
    if dim is None:
        return take_along_dim(reshape(input, (-1,)), reshape(indices, (-1,)), 0)
    if input.ndim != indices.ndim:
        raise RuntimeError(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, "
            f"but got {input.ndim} dimensions for input, and {indices.ndim} dimensions for indices"
        )
    d = normalise_dimension("take_along_dim", dim, input.ndim)
    own, theirs = list(input._handle.type.shape), list(indices._handle.type.shape)
    size, count = own[d], theirs[d]
    own[d] = theirs[d] = 1
    common = list(np.broadcast_shapes(tuple(own), tuple(theirs)))
    wide = expand(input, (*common[:d], size, *common[d + 1 :]))
    places = expand(indices, (*common[:d], count, *common[d + 1 :]))
    return gather(wide, d, wrapped_index("take_along_dim", places, size))


# One index for each row ---------------------------------------------------------------------------


def _vector(name: str, index: Tensor, dtypes: Sequence[DType] = (i64, i32)) -> Tensor:
    if index.dtype not in dtypes:
        wanted = "/".join(dtype.public_name for dtype in dtypes)
        wrong = IndexError if name == "index_fill" else RuntimeError  # as PyTorch's
        raise wrong(f"{name}(): Expected dtype {wanted} for index.")
    if index.ndim > 1:
        raise IndexError(
            f"{name}(): Index is supposed to be a vector, but got dim: {index.ndim} with size: "
            f"{list(index.shape)}"
        )
    return reshape(index, (-1,))


def checked_rows(
    name: str, input: Tensor, dim: int, index: Tensor, source: Tensor
) -> tuple[Tensor, int, Tensor, Tensor]:
    """The checked operands of `index_add` and its like: `input` of at least one dimension, `dim`,
    the index as a vector, and `source`."""
    places = _vector(name, index)
    if source.dtype is not input.dtype:
        raise RuntimeError(
            f"{name}(): self ({input.dtype.public_name}) and source "
            f"({source.dtype.public_name}) must have the same scalar type"
        )
    x = input if input.ndim else reshape(input, (1,))
    rows = source if source.ndim else reshape(source, (1,))
    d = normalise_dimension(name, dim, x.ndim)
    own, theirs = x._handle.type.shape, rows._handle.type.shape
    if len(own) != len(theirs) or any(
        n != m for axis, (n, m) in enumerate(zip(own, theirs, strict=False)) if axis != d
    ):
        raise RuntimeError(
            f"{name}(): source tensor shape must match self tensor shape, excluding the specified "
            f"dimension. Got self.shape = {list(own)} source.shape = {list(theirs)}"
        )
    if theirs[d] != places.numel():
        wrong = RuntimeError if name == "index_add" else IndexError  # as PyTorch's
        raise wrong(
            f"{name}(): Number of indices ({places.numel()}) should be equal to source.size(dim): "
            f"({theirs[d]}), for dim: {d}"
        )
    return x, d, places, rows


def index_add(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1
) -> Tensor:
    """`input` with alpha * source[i] added to row index[i] (of dimension `dim`); repeats
    accumulate.

    Raises:
        RuntimeError: shapes or dtypes do not fit. IndexError: the index is not a vector of the
            right length; or, at the next sync, is out of range.
    """
    x, d, places, rows = checked_rows("index_add", input, dim, index, source)
    if alpha != 1:
        rows = mul(rows, alpha)
    if not rows._handle.type.numel:
        return clone(input)
    check_index("index_add", places, x._handle.type.shape[d])
    added = apply(call_of(_ADD_ROWS, dim=d), x, places, rows)
    return reshape(added, input._handle.type.shape) if not input.ndim else added


@casting("widest")
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`input` with row index[i] (of dimension `dim`) replaced by source[i]; of repeats the last.

    Raises:
        RuntimeError: shapes or dtypes do not fit. IndexError: the index is not a vector of the
            right length; or, at the next sync, is out of range.
    """
    x, d, places, rows = checked_rows("index_copy", input, dim, index, source)
    if not rows._handle.type.numel:
        return clone(input)
    check_index("index_copy", places, x._handle.type.shape[d])
    copied = apply(call_of(_ROWS, dim=d), x, places, rows)
    return reshape(copied, input._handle.type.shape) if not input.ndim else copied


def index_fill(input: Tensor, dim: int, index: Tensor, value: Tensor | float) -> Tensor:
    """`input` with one number in all the rows (of dimension `dim`) that the index names.

    Raises:
        IndexError: the index is not an int64 vector; or, at the next sync, is out of range.
        RuntimeError: the value has dimensions.
    """
    places = _vector("index_fill", index, (i64,))
    fill = single("index_fill", value, input.dtype)
    x = input if input.ndim else reshape(input, (1,))
    d = normalise_dimension("index_fill", dim, x.ndim)
    shape = x._handle.type.shape
    sizes = (*shape[:d], places.numel(), *shape[d + 1 :])
    if math.prod(sizes) == 0:
        return clone(input)
    wrapped = wrapped_index("index_fill", places, shape[d])
    filled = apply(call_of(_ROWS, dim=d), x, wrapped, expand(fill, sizes))
    return reshape(filled, input._handle.type.shape) if not input.ndim else filled


# Several indices, or one into the flattened tensor ------------------------------------------------


def index_put(
    input: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    """`input` after ``input[indices] = values``, or ``+=`` where repeats accumulate.

    Raises:
        RuntimeError: dtypes differ, or the values do not broadcast. IndexError: the indices do not
            fit; or, at the next sync, are out of range.
    """
    require_tensors("index_put", input=input, values=values)
    return indexed(input, indices, values, accumulate)


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened tensor; negative indices count from the end.

    Raises:
        RuntimeError: the index is not int64. IndexError: at the next sync, if it is out of range.
    """
    if index.dtype is not i64:
        raise RuntimeError(
            f"take(): Expected a long tensor for index, but got {index.dtype.public_name}"
        )
    if not index._handle.type.numel:
        return nothing_of(input, index._handle.type.shape)
    flat = reshape(input, (-1,))
    if not flat._handle.type.numel:
        raise IndexError("take(): tried to take from an empty tensor")
    places = wrapped_index("take", index, flat._handle.type.numel)
    return apply(call_of(_TAKE, dim=0), flat, places)  # type: ignore[no-any-return]


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """`input`, as flattened, with source[i] written to (or added at) index[i], in its own shape.

    Raises:
        IndexError: the numbers of elements differ; or, at the next sync, an index is out of range.
        RuntimeError: the dtypes differ.
    """
    if index.dtype is not i64:
        raise RuntimeError(
            f"put(): Expected a long tensor for index, got {index.dtype.public_name}"
        )
    if source.dtype is not input.dtype:
        raise RuntimeError(
            "put(): self and source expected to have the same dtype, but got self.dtype = "
            f"{input.dtype.public_name} and source.dtype = {source.dtype.public_name}"
        )
    if source.numel() != index.numel():
        raise IndexError(
            "put(): Expected source and index to have the same number of elements, but got "
            f"source.numel() = {source.numel()}, index.numel() = {index.numel()}"
        )
    if not index.numel():
        return clone(input)
    flat = reshape(input, (-1,))
    places = wrapped_index("put", reshape(index, (-1,)), flat.numel())
    call = call_of(_ADD_ROWS if accumulate else _ROWS, dim=0)
    return reshape(apply(call, flat, places, reshape(source, (-1,))), input._handle.type.shape)


# Masks --------------------------------------------------------------------------------------------


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements, as a vector, where a mask holds; both broadcast. A sync point.

    Raises:
        RuntimeError: the mask is not bool, or does not broadcast.
    """
    if mask.dtype is not bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    x, hits = broadcast_tensors(input, mask)
    if not x.ndim:
        x, hits = reshape(x, (1,)), reshape(hits, (1,))
    return getitem(x, hits)


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """`input` with the elements of `source`, in order, where a mask holds. A sync point where
    `source` is smaller than the mask, so that there might be too few.

    Raises:
        RuntimeError: the mask is not bool, dtypes differ, or `source` has too few elements.
    """
    if mask.dtype is not bool_:
        raise RuntimeError(
            "masked_scatter only supports boolean masks, but got mask with dtype "
            f"{mask.dtype.public_name}"
        )
    if source.dtype is not input.dtype:
        raise RuntimeError(
            "masked_scatter: expected self and source to have same dtypes but got "
            f"{input.dtype.public_name} and {source.dtype.public_name}"
        )
    x, hits = broadcast_tensors(input, mask)
    size = source.numel()
    if size < hits.numel() and size < np.count_nonzero(hits._numpy()):
        raise RuntimeError("Number of elements of source < number of ones in mask")
    if not size or not hits.numel():
        return clone(x)
    held = reshape(hits, (-1,))
    places = i32 if hits.numel() < 1 << 31 else i64
    rank = clamp(sub(cumsum(cast(held, places), 0, dtype=places), 1), 0, size - 1)
    values = apply(call_of(_TAKE, dim=0), reshape(source, (-1,)), rank)
    return where(hits, reshape(values, hits._handle.type.shape), x)


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The places of the elements that are not zero: an n x rank int64 tensor, or a tuple with a
    vector for each dimension. A sync point.
    """
    array = input._numpy()
    if as_tuple:
        found = np.nonzero(array if array.ndim else array.reshape(1))
        return tuple(array_beside(input, np.ascontiguousarray(part)) for part in found)
    if not array.ndim:
        return array_beside(input, np.zeros((int(bool(array)), 0), np.int64))
    return array_beside(input, np.ascontiguousarray(np.stack(np.nonzero(array), axis=1)))


def argwhere(input: Tensor) -> Tensor:
    """As `nonzero`."""
    found: Tensor = nonzero(input)
    return found


# Methods ------------------------------------------------------------------------------------------


def _inplace(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_writable(self)
        result = function(self, *args, **kwargs)
        if result._handle.type.shape != self._handle.type.shape:
            raise RuntimeError(
                f"output with shape {list(self.shape)} doesn't match the broadcast shape "
                f"{list(result.shape)}"
            )
        return self._replace(clone(result) if result._base is not None else result)

    method.__name__ = f"{function.__name__}_"
    method.__doc__ = f"In-place `{function.__name__}`."
    return method


_WRITING = (
    scatter,
    scatter_add,
    scatter_reduce,
    index_add,
    index_copy,
    index_fill,
    index_put,
    put,
    masked_scatter,
)
METHODS: dict[str, Any] = {function.__name__: function for function in _WRITING}
METHODS |= {f"{function.__name__}_": _inplace(function) for function in _WRITING}
METHODS |= {
    function.__name__: function
    for function in (take, take_along_dim, masked_select, nonzero, argwhere)
}
