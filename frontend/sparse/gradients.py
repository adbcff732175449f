"""Sparse gradients: those of sparse tensors, and those that look-ups leave in dense leaves."""

from __future__ import annotations

from typing import Any

from braze.autograd.function import Function
from braze.capture import call_of
from braze.functions.creation import arange, zeros
from braze.functions.distinct import unique
from braze.functions.movement import cat, reshape
from braze.functions.tables import rows_at
from braze.handle import Handle, SparseHandle
from braze.ir.dtypes import i64
from braze.ir.op import op_named
from braze.sparse.elementwise import add_to_dense, joined
from braze.sparse.entries import keys_of, looked_up, picked
from braze.sparse.tensor import SparseTensor, around, make
from braze.tensors import Tensor, apply, wrap


def gradient_at(handle: SparseHandle, gradient: Tensor) -> SparseTensor:
    """The gradient of a sparse tensor, from that of its values.

    Entries of one place have one gradient, namely that of their sum; it is shown once.
    """
    shape = handle.type.shape
    if handle.coalesced:
        return make(handle.indices, gradient, shape, True)
    count = handle.indices._handle.type.shape[1]
    keys = keys_of(handle.indices, shape[: handle.indices._handle.type.shape[0]])
    distinct, run = unique(keys, return_inverse=True)
    put = call_of(op_named("index_put"), dim=0)
    entry = apply(put, zeros(distinct.shape[0], dtype=i64), run, arange(count))
    indices = apply(call_of(op_named("take"), dim=1), handle.indices, entry)
    return make(indices, rows_at(gradient, entry), shape, True)


def elements_at(handle: SparseHandle, tensor: Tensor) -> Tensor:
    """The elements of a sparse or dense tensor at the places of a sparse tensor's entries.

    Raises:
        RuntimeError: the shapes differ, or they split them in different ways.
    """
    if tensor._handle.type.shape != handle.type.shape:
        raise RuntimeError(
            f"Mismatch in shape: a gradient {tensor._handle.type} for a sparse tensor {handle.type}"
        )
    if not isinstance(tensor, SparseTensor):
        return picked(tensor, handle.indices, handle.type.shape)
    if tensor.sparse_dim() != handle.indices._handle.type.shape[0]:
        raise RuntimeError(
            f"a gradient with {tensor.sparse_dim()} sparse dimensions for a sparse tensor with "
            f"{handle.indices._handle.type.shape[0]}"
        )
    return looked_up(tensor, handle.indices)


def start_at(tensor: Tensor, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where the backward pass from a sparse tensor starts: its values, and their gradient.

    Raises:
        RuntimeError: no gradient is given.
    """
    handle = tensor._handle
    assert isinstance(handle, SparseHandle)
    if gradient is None:
        raise RuntimeError(
            "grad can be implicitly created only for scalar outputs, this one is sparse "
            f"{handle.type}"
        )
    return handle.values, elements_at(handle, gradient)


# Gradients of dense leaves ------------------------------------------------------------------------


def _tensor(handle: Handle) -> Tensor:
    return around(handle) if isinstance(handle, SparseHandle) else wrap(handle, None, 0)


def _total(left: Tensor, right: Tensor) -> Tensor:
    """The sum: dense if either is."""
    if isinstance(left, SparseTensor) and isinstance(right, SparseTensor):
        return joined(left, right)
    if isinstance(left, SparseTensor):
        left, right = right, left
    assert isinstance(right, SparseTensor)
    return add_to_dense(left, right)


def total(left: Handle, right: Handle) -> Handle:
    """The sum of two gradients of which at least one is sparse."""
    return _total(_tensor(left), _tensor(right))._current()


def accumulate(tensor: Tensor, gradient: Handle) -> None:
    """Add to `tensor.grad` where this, or what is there, is sparse."""
    before, new = tensor.grad, _tensor(gradient)
    if before is None:
        assert isinstance(new, SparseTensor)
        own = new._handle
        # Not the memory of another tensor's gradient.
        tensor.grad = make(own.indices, own.values.clone(), own.type.shape, own.coalesced)
    elif isinstance(before, SparseTensor) and isinstance(new, SparseTensor):
        before._handle = joined(before, new)._handle
    elif isinstance(before, SparseTensor):
        tensor.grad = _total(before, new)
    else:
        before._replace(_total(before, new))


class _Rows(Function):
    """Rows of a table, whose gradient has entries for these rows only."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, index: Tensor) -> Tensor:
        ctx.index, ctx.shape = index.detach(), weight.shape
        return rows_at(weight, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        rows = reshape(ctx.index, (1, -1)).to(i64)
        values = reshape(gradient, (rows.shape[1], *ctx.shape[1:]))
        return make(rows, values, ctx.shape), None


class _Gathered(Function):
    """Gathered elements, whose gradient has entries for these only."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, dim: int, index: Tensor) -> Tensor:
        ctx.index, ctx.shape, ctx.dim = index.detach(), input.shape, dim
        result: Tensor = apply(call_of(op_named("take_along"), dim=dim), input, index)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        shape = ctx.index._handle.type.shape
        rows = []
        for d in range(len(shape)):
            place = apply(call_of(op_named("iota"), shape=shape, dim=d, dtype=i64))
            rows.append(reshape(ctx.index.to(i64) if d == ctx.dim else place, (1, -1)))
        return make(cat(rows, 0), reshape(gradient, (-1,)), ctx.shape), None, None


def rows_with_sparse_gradient(weight: Tensor, index: Tensor) -> Tensor:
    """The rows that an index, all in range, names; the gradient of `weight` is sparse."""
    result: Tensor = _Rows.apply(weight, index)
    return result


def gathered_with_sparse_gradient(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """`gather` of an index, all in range; the gradient of `input` is sparse."""
    result: Tensor = _Gathered.apply(input, dim, index)
    return result
