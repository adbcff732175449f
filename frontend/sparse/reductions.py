"""Sums, norms and softmax of sparse tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from braze.capture import Call, call_of
from braze.functions import reductions as dense
from braze.functions.creation import full
from braze.functions.distinct import unique
from braze.functions.movement import reshape
from braze.functions.pointwise import UNARY
from braze.functions.promotion import cast
from braze.functions.scattering import scatter_reduce
from braze.functions.tables import rows_at
from braze.ir.dtypes import DType
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.sparse.entries import (
    coalesced,
    keys_of,
    rows_of,
    spread,
    stacked,
    summed,
    with_values,
)
from braze.sparse.tensor import SparseTensor, make
from braze.tensors import Tensor, apply


def _sum(call: Call, x: SparseTensor) -> Tensor:
    dims: Any = call.attributes["dims"]
    keepdim = bool(call.attributes["keepdim"])
    own, count = x._handle, x.sparse_dim()
    shape = own.type.shape
    gone = {d for d in dims if d < count}
    of_values = tuple(d - count + 1 for d in dims if d >= count)
    values = own.values
    if len(gone) == count:
        total = dense.sum(values, (0, *of_values), dtype=values.dtype)
        return (
            reshape(total, [1 if d in dims else n for d, n in enumerate(shape)])
            if keepdim
            else total
        )
    if of_values:
        values = dense.sum(values, of_values, keepdim, dtype=values.dtype)
    left = [1 if d in dims else size for d, size in enumerate(shape) if keepdim or d not in dims]
    if not gone:
        return coalesced(make(own.indices, values, left, own.coalesced))
    rows = rows_of(own.indices)
    if keepdim:
        kept = [row - row if d in gone else row for d, row in enumerate(rows)]
    else:
        kept = [row for d, row in enumerate(rows) if d not in gone]
    return coalesced(make(stacked(kept, x._nnz()), values, left))


def _norm(call: Call, x: SparseTensor) -> Tensor:
    dims: Any = call.attributes["dims"]
    if len(dims) != x.ndim:
        raise RuntimeError(
            "norm_sparse currently only supports full reductions, so 'dim' must either be empty or "
            f"contain all dimensions of the input, given {list(dims)} of {x.ndim}"
        )
    order: Any = call.attributes["p"]
    if order < 0:
        raise NotImplementedError(f"[norm] of order {order} depends on how many elements are zero")
    values = coalesced(x)._handle.values
    found = dense.norm(values, order)
    return reshape(found, (1,) * x.ndim) if call.attributes["keepdim"] else found


def _any(call: Call, x: SparseTensor) -> Tensor:
    dims: Any = call.attributes["dims"]
    if len(dims) != x.ndim:
        raise NotImplementedError("[any] of a sparse tensor is for all dimensions together")
    found = dense.any(coalesced(x)._handle.values)
    return reshape(found, (1,) * x.ndim) if call.attributes["keepdim"] else found


def _require_sparse(name: str, tensor: Tensor) -> SparseTensor:
    if not isinstance(tensor, SparseTensor):
        raise NotImplementedError(
            f"sparse.{name}(): expected a sparse COO tensor, given a dense one "
            f"({tensor._handle.type})"
        )
    return tensor


def sum(
    input: Tensor, dim: int | Sequence[int] | None = None, dtype: DType | None = None
) -> Tensor:
    """The sum over dimensions, all by default; sparse and coalesced, unless no sparse dimension is
    left: then dense. A sync point if it is sparse.

    Raises:
        NotImplementedError: the tensor is dense.
    """
    return dense.sum(_require_sparse("sum", input), dim, dtype=dtype)


def softmax(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """Softmax of the entries along a dimension: what is not stored counts as -inf and stays 0. A
    sync point.

    Raises:
        NotImplementedError: the tensor is dense, or not floating-point.
    """
    return _softmax("softmax", input, dim, dtype)


def log_softmax(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """The logarithm of `softmax`, at the entries. A sync point.

    Raises:
        NotImplementedError: the tensor is dense, or not floating-point.
    """
    return _softmax("log_softmax", input, dim, dtype)


def _softmax(name: str, input: Tensor, dim: int, dtype: DType | None) -> Tensor:
    x: Any = _require_sparse(name, input)
    if dtype is not None:
        x = cast(x, dtype)
    if not x.dtype.is_floating_point:
        raise NotImplementedError(f'"{name}" not implemented for {x.dtype!r}')
    d = normalise_dimension(name, dim, x.ndim)
    own = coalesced(x)
    values, count = own._handle.values, own.sparse_dim()
    if d >= count:
        along = apply(call_of(op_named(name), dim=d - count + 1), values)
        return with_values(own, along)
    if own._nnz() == 0:
        return with_values(own, values)
    rows = rows_of(own._handle.indices)
    sizes = own._handle.type.shape[:count]
    others = stacked(rows[:d] + rows[d + 1 :], own._nnz())
    keys, line = unique(keys_of(others, sizes[:d] + sizes[d + 1 :]), return_inverse=True)
    shape = values._handle.type.shape
    floor = full((keys.shape[0], *shape[1:]), -float("inf"), dtype=values.dtype)
    # The largest of each line only keeps exp in range: it cancels, and takes no gradient.
    top = scatter_reduce(floor, 0, spread(line, shape), values.detach(), "amax")
    shifted = values - rows_at(top, line)
    powers = UNARY["exp"](shifted)
    totals = rows_at(summed(line, powers, keys.shape[0]), line)
    if name == "softmax":
        return with_values(own, powers / totals)
    return with_values(own, shifted - UNARY["log"](totals))


FORMS: dict[str, Any] = {"sum": _sum, "norm": _norm, "any": _any}
