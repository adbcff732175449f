"""Inverses, linear systems and products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from braze.casting import casting
from braze.functions import decompositions, products, reductions
from braze.functions.arguments import require_tensors
from braze.functions.complex_numbers import conj, real
from braze.functions.decompositions import inverse
from braze.functions.linalg import matmul
from braze.functions.matrices import (
    adjoint_of,
    call_host,
    common_batch,
    empty_like_type,
    epsilon,
    swapped,
)
from braze.functions.movement import permute, reshape, unsqueeze
from braze.functions.pointwise import where
from braze.functions.promotion import scalar
from braze.ir.dtypes import i64
from braze.ir.errors import ShapeError
from braze.tensors import Tensor


class LeastSquares(NamedTuple):
    """What `lstsq` gives."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def inv(A: Tensor) -> Tensor:
    """The inverses of square matrices.

    Raises:
        LinAlgError: at the next sync, if a matrix is singular.
    """
    return inverse(A)


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """The X with A @ X = B (X @ A = B if not `left`); batches broadcast.

    B is a batch of vectors if it has one dimension, or one less than A and A's shape without its
    last dimension.

    Raises:
        LinAlgError: at the next sync, if a matrix is singular.
    """
    require_tensors("solve", A, B)
    vectors = B.ndim == 1 or (A.ndim - 1 == B.ndim and A.shape[:-1] == B.shape)
    right = unsqueeze(B, -1) if vectors else B
    if not left:
        return swapped(solve(swapped(A), swapped(right))) if not vectors else _refuse_vector(B)
    a, right = common_batch("solve", A, right)
    x: Tensor = call_host("solve", a, right)
    return x.squeeze(-1) if vectors else x  # type: ignore[no-any-return]


def _refuse_vector(B: Tensor) -> Tensor:
    raise ShapeError(f"[solve] vectors are only solved for with left=True, given {B._handle.type}")


def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """The X with A @ X = B (X @ A = B if not `left`) for triangular A; batches broadcast."""
    require_tensors("solve_triangular", A, B)
    if not left:
        settings = {"upper": not upper, "unitriangular": unitriangular}
        return swapped(solve_triangular(swapped(A), swapped(B), **settings))
    a, b = common_batch("solve_triangular", A, B)
    return call_host("triangular_solve", a, b, upper=upper, unitriangular=unitriangular)  # type: ignore[no-any-return]


def lu_solve(
    LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """The X with A @ X = B (X @ A = B if not `left`; A^H in place of A if `adjoint`), given what
    `lu_factor` makes of A."""
    if not left:  # X A = B: A^H X^H = B^H
        solved = lu_solve(LU, pivots, adjoint_of(B), adjoint=not adjoint)
        return adjoint_of(solved)
    if not adjoint:
        return decompositions.lu_solve(B, LU, pivots)
    # A^H = U^H L^H P^H
    require_tensors("lu_solve", LU, pivots, B)
    factors, right = common_batch("lu_solve", LU, B)
    turned = adjoint_of(factors)
    y = call_host("triangular_solve", turned, right, upper=False, unitriangular=False)
    z = call_host("triangular_solve", turned, y, upper=True, unitriangular=True)
    p, _, _ = decompositions.lu_unpack(LU, pivots, unpack_data=False)
    return matmul(p, z)


def pinv(
    A: Tensor,
    rcond: float | None = None,
    hermitian: bool = False,
    *,
    atol: float | None = None,
    rtol: float | None = None,
) -> Tensor:
    """Moore-Penrose pseudo-inverses; singular values up to max(atol, rtol * the largest) count as
    zero. By default rtol is eps * max(m, n), or 0 if atol is given.

    Args:
        hermitian: the matrices are symmetric, and only their lower triangle is read.
    """
    require_tensors("pinv", A)
    rtol = rcond if rtol is None else rtol
    if rtol is None:
        rtol = 0.0 if atol else epsilon(A.dtype) * max(A.shape[-2:])
    if hermitian:
        values, vectors = call_host("eigh", A)
        reciprocal = _reciprocals(values, atol or 0.0, rtol)
        return matmul(vectors * unsqueeze(reciprocal, -2), adjoint_of(vectors))
    if not atol:
        return call_host("pinv", A, rtol=float(rtol))  # type: ignore[no-any-return]
    u, s, vh = call_host("svd", A, full=False)
    reciprocals = unsqueeze(_reciprocals(s, atol, rtol), -2)
    return matmul(adjoint_of(vh) * reciprocals, adjoint_of(u))


def _reciprocals(values: Tensor, atol: float, rtol: float) -> Tensor:
    """Of the values whose size is above max(atol, rtol * the largest); 0 for the others."""
    if values.shape[-1] == 0:
        return values
    size = values.abs()
    limit = reductions.amax(size, -1, keepdim=True) * rtol
    large = size > where(limit > atol, limit, scalar(atol, values.dtype))
    one = scalar(1, values.dtype)
    return where(large, one / where(large, values, one), scalar(0, values.dtype))


DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


@casting("f32")
def lstsq(
    A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None
) -> LeastSquares:
    """The X that minimises |A @ X - B|, the one of least norm where there are several.

    Args:
        rcond: singular values up to rcond times the largest count as zero; by default
            eps * max(m, n).
        driver: which of LAPACK's functions to stand for: "gels", "gelsy" (the default), "gelsd" or
            "gelss". All are computed from singular values; they differ in what is returned.

    Returns:
        The solution; the residuals' squared norms (empty unless there are more rows than columns,
        and for "gelsy"); the ranks (empty for "gels", which supposes a full rank); the singular
        values (empty but for "gelsd" and "gelss").

    Raises:
        RuntimeError: any other driver.
    """
    require_tensors("lstsq", A, B)
    if driver is not None and driver not in DRIVERS:
        raise RuntimeError(f"[lstsq] driver should be one of {', '.join(DRIVERS)}: {driver!r}")
    vectors = B.ndim == 1 or (A.ndim - 1 == B.ndim and A.shape[:-1] == B.shape)
    a, b = common_batch("lstsq", A, unsqueeze(B, -1) if vectors else B)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-2] != b.shape[-2]:
        raise ShapeError(
            f"[lstsq] {A._handle.type} and right-hand side {B._handle.type} differ in rows"
        )
    limit = epsilon(A.dtype) * max(a.shape[-2:]) if rcond is None else rcond
    x = matmul(pinv(a, limit), b)
    m, n = a.shape[-2:]
    residuals = empty_like_type(A.dtype, (0,))
    if m > n and driver not in (None, "gelsy"):
        rest = matmul(a, x) - b
        residuals = reductions.sum(real(conj(rest) * rest), -2)
    nothing = empty_like_type(A.dtype, (0,))
    if driver == "gels":
        rank = empty_like_type(i64, (0,))
        return LeastSquares(x.squeeze(-1) if vectors else x, residuals, rank, nothing)
    values = call_host("svd", A, full=False)[1]
    largest = reductions.amax(values, -1, keepdim=True) if values.shape[-1] else values
    rank = reductions.sum((values > largest * limit).long(), -1)
    values = values if driver in ("gelsd", "gelss") else nothing
    return LeastSquares(x.squeeze(-1) if vectors else x, residuals, rank, values)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of several matrices, in the cheapest order; the first and the last may be
    vectors."""
    if len(tensors) < 2:
        raise ShapeError(f"[multi_dot] expected at least 2 tensors, given {len(tensors)}")
    require_tensors("multi_dot", *tensors)
    chain = list(tensors)
    first, last = chain[0].ndim == 1, chain[-1].ndim == 1
    if first:
        chain[0] = unsqueeze(chain[0], 0)
    if last:
        chain[-1] = unsqueeze(chain[-1], -1)
    result = products.chain_matmul(*chain)
    shape = result.shape[1 if first else 0 : 1 if last else 2]
    return reshape(result, tuple(shape)) if first or last else result


def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The cross product along a dimension of size 3."""
    return products.cross(input, other, dim)


@casting("lower")
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Inner products along a dimension, x conjugated, broadcast."""
    require_tensors("vecdot", x, y)
    product = conj(x) * y
    return reductions.sum(product, dim, dtype=product.dtype)


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Powers of the elements of x [..., n], from 0 up, as columns [..., n, N]; N is n by
    default."""
    return products.vander(x, N, increasing=True)


def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of `tensordot(A, ., A.ndim - ind)`."""
    require_tensors("tensorinv", A)
    shape = tuple(A.shape)
    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    rows, columns = math.prod(shape[:ind]), math.prod(shape[ind:])
    if rows != columns:
        raise ShapeError(
            f"[tensorinv] {A._handle.type} is not square at dimension {ind} ({rows} != {columns})"
        )
    return reshape(inverse(reshape(A, (rows, columns))), (*shape[ind:], *shape[:ind]))


def tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """The X with tensordot(A, X, X.ndim) = B.

    Args:
        dims: dimensions of A that are moved to the end first.
    """
    require_tensors("tensorsolve", A, B)
    if dims is not None:
        moved = [d % A.ndim for d in dims]
        A = permute(A, [*(d for d in range(A.ndim) if d not in moved), *moved])
    shape = tuple(A.shape[B.ndim :])
    rows, columns = math.prod(B.shape), math.prod(shape)
    if rows != columns or A.numel() != rows * columns:
        raise ShapeError(
            f"[tensorsolve] {A._handle.type} is not square for a right-hand side {B._handle.type}"
        )
    return reshape(solve(reshape(A, (rows, columns)), reshape(B, (rows,))), shape)
