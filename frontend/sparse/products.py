"""Matrix products with sparse operands.

A sparse matrix times a dense one gathers a row of the dense one for each entry, scales it and adds
it to the entry's row. The product of two sparse matrices pairs each entry of the first with those
of the second in the row that its column names; how many there are is read at a sync.
"""

from __future__ import annotations

import math
from typing import Any

from braze.capture import Call
from braze.functions.creation import arange
from braze.functions.distinct import unique
from braze.functions.linalg import _check_dtypes as check_dtypes
from braze.functions.matrices import scaled_sum
from braze.functions.movement import expand, reshape, select, transpose, unsqueeze
from braze.functions.pointwise import mul
from braze.functions.tables import rows_at
from braze.ir.errors import ShapeError
from braze.sparse.entries import coalesced, matches, rows_of, spread, stacked, summed
from braze.sparse.tensor import SparseTensor, make
from braze.tensors import Tensor


def _check_matrix(name: str, x: SparseTensor, rank: int = 2) -> None:
    if x.sparse_dim() != rank or x.dense_dim() != 0:
        raise ShapeError(
            f"[{name}] the sparse operand must have {rank} sparse dimensions and no dense ones, "
            f"given {x._handle.type} with {x.sparse_dim()} and {x.dense_dim()}"
        )


def _check_inner(name: str, x: Tensor, y: Tensor, left: int, right: int) -> None:
    if left != right:
        raise ShapeError(
            f"[{name}] inner sizes differ: {x._handle.type} @ {y._handle.type} ({left} != {right})"
        )


def times_dense(x: SparseTensor, y: Tensor) -> Tensor:
    """A sparse matrix [m, k] times a dense one [k, n] or a vector [k]."""
    rows, columns = rows_of(x._handle.indices)
    there = rows_at(y, columns)
    terms = mul(there, spread(x._handle.values, there._handle.type.shape))
    return summed(rows, terms, x.shape[0])


def _batched(x: SparseTensor, y: Tensor) -> Tensor:
    """Sparse matrices [b, m, k] times dense ones [b, k, n]."""
    (batches, m, k), n = x.shape, y.shape[2]
    batch, rows, columns = rows_of(x._handle.indices)
    there = rows_at(reshape(y, (batches * k, n)), batch * k + columns)
    terms = mul(there, spread(x._handle.values, there._handle.type.shape))
    return reshape(summed(batch * m + rows, terms, batches * m), (batches, m, n))


def times_sparse(x: SparseTensor, y: SparseTensor) -> SparseTensor:
    """The product of two sparse matrices. A sync point."""
    one, two = coalesced(x), coalesced(y)
    rows, columns = rows_of(one._handle.indices)
    their_rows, their_columns = rows_of(two._handle.indices)
    mine, theirs = matches(their_rows, columns)
    terms = mul(rows_at(one._handle.values, mine), rows_at(two._handle.values, theirs))
    places = stacked([rows_at(rows, mine), rows_at(their_columns, theirs)], mine.shape[0])
    return coalesced(make(places, terms, (x.shape[0], y.shape[1])))


def _matmul(call: Call, x: Tensor, y: Tensor) -> Tensor:
    name = call.op.name
    if isinstance(x, SparseTensor):
        if x.ndim == 3 and y.ndim == 3 and not isinstance(y, SparseTensor):
            return _bmm(call, x, y)
        _check_matrix(name, x)
        if isinstance(y, SparseTensor):
            _check_matrix(name, y)
        elif y.ndim > 2:
            raise RuntimeError(
                f"[{name}] expand is unsupported for Sparse tensors: {x._handle.type} @ "
                f"{y._handle.type}"
            )
        _check_inner(name, x, y, x.shape[1], y.shape[0] if y.ndim else -1)
        return times_sparse(x, y) if isinstance(y, SparseTensor) else times_dense(x, y)
    assert isinstance(y, SparseTensor)
    _check_matrix(name, y)
    _check_inner(name, x, y, x.shape[-1] if x.ndim else -1, y.shape[0])
    flipped = _flipped(y)
    if x.ndim == 1:
        return times_dense(flipped, x)
    lead = x.shape[:-1]
    flat = transpose(reshape(x, (math.prod(lead), x.shape[-1])), 0, 1)
    return reshape(transpose(times_dense(flipped, flat), 0, 1), (*lead, y.shape[1]))


def _flipped(x: SparseTensor) -> SparseTensor:
    rows, columns = rows_of(x._handle.indices)
    return make(stacked([columns, rows], x._nnz()), x._handle.values, (x.shape[1], x.shape[0]))


def _bmm(call: Call, x: Tensor, y: Tensor) -> Tensor:
    name = call.op.name
    if not isinstance(x, SparseTensor) or isinstance(y, SparseTensor):
        raise NotImplementedError(
            f"[{name}] batches of matrices multiply only as sparse @ dense, given "
            f"{x._handle.type} and {y._handle.type}"
        )
    _check_matrix(name, x, 3)
    if x.shape[0] != y.shape[0]:
        raise ShapeError(f"[{name}] batch sizes differ: {x._handle.type} @ {y._handle.type}")
    _check_inner(name, x, y, x.shape[2], y.shape[1])
    return _batched(x, y)


def _contract(call: Call, x: Tensor, y: Tensor) -> Tensor:
    equation = call.attributes["equation"]
    if equation == "mk,k->m":
        return _matmul(call, x, y)
    raise NotImplementedError(
        f"[contract] there is no sparse form of {equation}, given {x._handle.type} and "
        f"{y._handle.type}"
    )


def _linear(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`nn.functional.linear` of a sparse input."""
    if weight.ndim != 2 or isinstance(bias, SparseTensor):
        raise NotImplementedError(
            f"[{call.op.name}] there is no sparse form, given weight {weight._handle.type}"
        )
    product = _matmul(call, x, transpose(weight, 0, 1))
    return product if bias is None else product + bias


# Functions of `braze` and `braze.sparse` ----------------------------------------------------------


def _require_sparse(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, SparseTensor):
        raise RuntimeError(
            f"{name}(): expected a sparse COO tensor, given a dense one ({tensor._handle.type})"
        )


def mm(mat1: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices, of which either may be sparse: sparse if both are, else dense.

    Gradients flow to both; that of a sparse matrix has its pattern. The product of two sparse
    matrices is a sync point.

    Raises:
        ShapeError: the inner sizes differ, or a sparse matrix has dense dimensions. DTypeError: the
            dtypes differ.

    Example:
        >>> import braze
        >>> x = braze.sparse_coo_tensor([[0, 1], [2, 0]], [3.0, 4.0], (2, 3))
        >>> braze.sparse.mm(x, braze.ones(3, 2))
        tensor([[3., 3.],
                [4., 4.]])
    """
    from braze.functions.linalg import mm as product

    return product(mat1, mat2)


def addmm(mat: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * mat + alpha * mat1 @ mat2 for a sparse `mat1` and dense `mat` and `mat2`.

    Raises:
        RuntimeError: another combination of layouts. ShapeError: shapes do not fit.
    """
    if isinstance(mat, SparseTensor) or isinstance(mat2, SparseTensor):
        raise RuntimeError(
            "addmm_sparse_dense: expected 'mat1' to have sparse layout and 'mat' and 'mat2' to "
            "have strided layout"
        )
    return scaled_sum("addmm", mat, mm(mat1, mat2), beta, alpha)


def hspmm(mat1: Tensor, mat2: Tensor) -> Tensor:
    """A sparse matrix times a dense one, as a hybrid tensor: its rows that are not empty are
    entries. A sync point.

    Raises:
        RuntimeError: `mat1` is not sparse. ShapeError: shapes do not fit.
    """
    _require_sparse("hspmm", mat1)
    assert isinstance(mat1, SparseTensor)
    _check_matrix("hspmm", mat1)
    check_dtypes("hspmm", mat1, mat2)
    _check_inner("hspmm", mat1, mat2, mat1.shape[1], mat2.shape[0])
    rows, columns = rows_of(mat1._handle.indices)
    used, run = unique(rows, return_inverse=True)
    there = rows_at(mat2, columns)
    terms = mul(there, spread(mat1._handle.values, there._handle.type.shape))
    values = summed(run, terms, used.shape[0])
    return make(unsqueeze(used, 0), values, (mat1.shape[0], mat2.shape[1]), True)


def sspaddmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta * input + alpha * mat1 @ mat2 for sparse `input` and `mat1` and a dense `mat2`, as a
    sparse tensor. A sync point.

    Raises:
        RuntimeError: `input` or `mat1` is not sparse, or the shapes do not fit.
    """
    _require_sparse("sspaddmm", input)
    product = smm(mat1, mat2)
    assert isinstance(input, SparseTensor) and isinstance(product, SparseTensor)
    if product.shape != input.shape:
        raise RuntimeError(
            f"sspaddmm: expected input of shape {list(product.shape)}, given {list(input.shape)}"
        )
    from braze.sparse.elementwise import joined

    total = joined(_times(input, beta), _times(product, alpha))
    return make(total._handle.indices, total._handle.values, input.shape)


def _times(x: SparseTensor, factor: float) -> Any:
    return x if factor == 1 else mul(x, factor)


def smm(input: Tensor, mat: Tensor) -> Tensor:
    """A sparse matrix times a dense one, as a sparse tensor: the rows that are not empty are stored
    whole. A sync point.

    Raises:
        RuntimeError: `input` is not sparse. ShapeError: shapes do not fit.
    """
    _require_sparse("smm", input)
    hybrid = hspmm(input, mat)
    assert isinstance(hybrid, SparseTensor)
    count, width = hybrid._nnz(), mat.shape[1]
    rows = reshape(expand(unsqueeze(select(hybrid._handle.indices, 0, 0), 1), (count, width)), -1)
    columns = reshape(expand(arange(width), (count, width)), -1)
    values = reshape(hybrid._handle.values, (count * width,))
    return make(stacked([rows, columns], count * width), values, hybrid.shape, True)


def saddmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """As `sspaddmm`."""
    return sspaddmm(input, mat1, mat2, beta=beta, alpha=alpha)


def dsmm(input: Tensor, mat2: Tensor) -> Tensor:
    """As `mm`."""
    return mm(input, mat2)


def spmm(input: Tensor, mat2: Tensor) -> Tensor:
    """As `mm`."""
    return mm(input, mat2)


def hsmm(input: Tensor, mat2: Tensor) -> Tensor:
    """As `hspmm`."""
    return hspmm(input, mat2)


FORMS: dict[str, Any] = {
    "bmm": _bmm,
    "matmul": _matmul,
    "contract": _contract,
    "linear": _linear,
    "linear_no_bias": _linear,
}
METHODS: dict[str, Any] = {"smm": smm, "sspaddmm": sspaddmm}
FUNCTIONS: dict[str, Any] = {
    function.__name__: function for function in (smm, sspaddmm, hspmm, saddmm, dsmm, spmm, hsmm)
}
