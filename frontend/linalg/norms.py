"""Norms of vectors and matrices, and what follows from singular values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from braze.casting import casting
from braze.functions import decompositions, reductions
from braze.functions.arguments import require_tensors
from braze.functions.matrices import call_host, epsilon
from braze.functions.movement import permute, reshape, unsqueeze
from braze.functions.pointwise import where
from braze.functions.promotion import cast, scalar
from braze.ir.dtypes import DType
from braze.ir.errors import ShapeError
from braze.ir.ops.rules import normalise_dimension
from braze.linalg.factorizations import svdvals
from braze.tensors import Tensor

Order = float | int | str


def _floating(name: str, x: Tensor, dtype: DType | None) -> Tensor:
    require_tensors(name, x)
    if dtype is not None:
        x = cast(x, dtype)
    if not x.dtype.is_differentiable:
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor, got {x.dtype!r}"
        )
    return x


def vector_norm(
    x: Tensor,
    ord: float = 2,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """The p-norm of the elements over dimensions, all by default."""
    x = _floating("linalg.vector_norm", x, dtype)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.vector_norm: the order must be a number, got {ord!r}")
    return reductions.norm(x, float(ord), dim, keepdim)


def matrix_norm(
    A: Tensor,
    ord: Order = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """A norm of matrices: "fro", "nuc", inf, -inf (largest and smallest row sum of magnitudes), 1,
    -1 (of columns), 2, -2 (singular value).

    Raises:
        ShapeError: there are not two dimensions.
    """
    A = _floating("linalg.matrix_norm", A, dtype)
    if A.ndim < 2 or len(tuple(dim)) != 2:
        raise ShapeError(
            f"[matrix_norm] needs two dimensions, given {list(dim)} of {A._handle.type}"
        )
    row, column = (normalise_dimension("matrix_norm", d, A.ndim) for d in dim)
    if row == column:
        raise ShapeError(f"[matrix_norm] the dimensions must differ, given {list(dim)}")
    if ord == "fro":
        return reductions.norm(A, 2.0, (row, column), keepdim)
    moved = permute(A, [*(d for d in range(A.ndim) if d not in (row, column)), row, column])
    result = _last_two(moved, ord)
    if not keepdim:
        return result
    return reshape(result, [1 if d in (row, column) else n for d, n in enumerate(A.shape)])


def _last_two(A: Tensor, ord: Order) -> Tensor:
    pick = reductions.amax if ord in (1, 2, math.inf) else reductions.amin
    if ord == "nuc":
        return reductions.sum(svdvals(A), -1)
    if ord in (2, -2):
        return pick(svdvals(A), -1)
    if ord in (1, -1, math.inf, -math.inf):
        summed = -2 if ord in (1, -1) else -1
        return pick(reductions.sum(A.abs(), summed), -1)
    raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")


def norm(
    A: Tensor,
    ord: Order | None = None,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """A vector norm or, where `ord` and the dimensions ask for one, a matrix norm.

    With `dim` a number, or neither `ord` nor two dimensions given, it is `vector_norm` (of all
    elements by default); with two dimensions, or an order and a matrix, `matrix_norm`.
    """
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    dims = (dim,) if isinstance(dim, int) else dim
    if dims is None:
        if A.ndim not in (1, 2):
            raise ShapeError(
                f"[norm] with an order and no dimensions needs 1 or 2, given {A._handle.type}"
            )
        dims = tuple(range(A.ndim))
    if len(dims) == 2:
        return matrix_norm(A, ord, dims, keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: order {ord!r} needs two dimensions")
    return vector_norm(A, ord, dims, keepdim, dtype=dtype)


@casting("f32")
def cond(A: Tensor, p: Order | None = None) -> Tensor:
    """The condition numbers: by default (and for 2) the quotient of the largest and the smallest
    singular value, for -2 its inverse, else norm(A) * norm(A^-1)."""
    require_tensors("cond", A)
    if p is None or p in (2, -2):
        values = svdvals(A)
        largest, smallest = reductions.amax(values, -1), reductions.amin(values, -1)
        return smallest / largest if p == -2 else largest / smallest
    return matrix_norm(A, p) * matrix_norm(decompositions.inverse(A), p)


@casting("f32")
def matrix_rank(
    A: Tensor,
    tol: Any = None,
    hermitian: bool = False,
    *,
    atol: float | None = None,
    rtol: float | None = None,
) -> Tensor:
    """How many singular values are above max(atol, rtol * the largest).

    Args:
        tol: as atol, with an rtol of 0.
        hermitian: the matrices are symmetric, and only their lower triangle is read.
        rtol: by default eps * max(m, n), or 0 if `tol` or `atol` is given.
    """
    require_tensors("matrix_rank", A)
    values = call_host("eigh", A)[0].abs() if hermitian else call_host("svd", A, full=False)[1]
    if tol is not None:
        atol, rtol = tol, 0.0
    if rtol is None:
        rtol = 0.0 if atol else epsilon(A.dtype) * max(A.shape[-2:])
    if values.shape[-1] == 0:
        return reductions.sum(values.long(), -1)
    limit = reductions.amax(values, -1, keepdim=True) * rtol
    if atol is not None:
        least = unsqueeze(atol, -1) if isinstance(atol, Tensor) else scalar(atol, values.dtype)
        limit = where(limit > least, limit, least)
    return reductions.sum((values > limit).long(), -1)
