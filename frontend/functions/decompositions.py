"""Factorisations, linear systems and determinants under their names at PyTorch's top level.

The work is NumPy's (LAPACK's), called from compiled code. What a matrix lacks (it is singular, not
positive definite) is noticed when it is computed: LinAlgError at the next sync, with the line of
the call. `braze.linalg` has the same under their modern names.
"""

from __future__ import annotations

from typing import Any

from braze.capture import call_of
from braze.casting import casting
from braze.functions import reductions
from braze.functions.arguments import require_tensors
from braze.functions.complex_numbers import imag, real
from braze.functions.linalg import matmul
from braze.functions.matrices import (
    LU,
    SVD,
    Decomposition,
    Eigen,
    LeastSquares,
    PivotedCholesky,
    Reflectors,
    SignAndLogarithm,
    Solution,
    TriangularSolution,
    UnpackedLU,
    adjoint_of,
    call_host,
    common_batch,
    empty_like_type,
    epsilon,
    identity,
    lower_triangle,
    swapped,
    take_diagonal,
    upper_triangle,
)
from braze.functions.movement import cat, clone, expand, narrow, unsqueeze
from braze.functions.pointwise import where
from braze.functions.promotion import cast, scalar
from braze.ir.dtypes import i32
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import op_named
from braze.tensors import Tensor, apply

# Factorisations -----------------------------------------------------------------------------------


def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """The lower triangular L with L @ L^H = input (or the upper U with U^H @ U = input), for
    Hermitian positive definite matrices.

    Raises:
        LinAlgError: at the next sync, if a matrix is not positive definite.
    """
    if upper:  # input^T = conj(U^H U) = U^T conj(U)
        return swapped(call_host("cholesky", swapped(input)))
    return call_host("cholesky", input)  # type: ignore[no-any-return]


def potrf(a: Tensor, upper: bool = True) -> Tensor:
    """`cholesky`, by its name in LAPACK."""
    return cholesky(a, upper)


def pstrf(a: Tensor, upper: bool = True, tol: float = -1) -> PivotedCholesky:
    """The pivoted Cholesky factorisation of symmetric positive semidefinite matrices: u and pivots
    with a[pivots][:, pivots] = u^T @ u (u @ u^T for the lower triangular u, if not `upper`).

    Args:
        tol: what a pivot must be above; by default n * epsilon * the largest diagonal element.
    """
    require_tensors("pstrf", a)
    u, pivots = call_host("pstrf", a if upper else swapped(a), tolerance=float(tol))
    return PivotedCholesky(u if upper else swapped(u), pivots)


def matrix_exp(A: Tensor) -> Tensor:
    """The exponentials of square matrices: sums of A^k / k!."""
    return call_host("matrix_exp", A)  # type: ignore[no-any-return]


def qr(input: Tensor, some: bool = True) -> Decomposition:
    """input = Q @ R, columns of Q orthonormal, R upper triangular; Q is square if not `some`."""
    return Decomposition(*call_host("qr", input, complete=not some))


def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> SVD:
    """input = U @ diag(S) @ V^H with S descending; U and V are square if not `some`.

    Without `compute_uv`, U and V are zeros.
    """
    require_tensors("svd", input)
    u, s, vh = call_host("svd", input, full=False)
    if not some and compute_uv:  # S keeps its gradient, which the square U and V do not have
        u, _, vh = call_host("svd", input, full=True)
    if not compute_uv:
        *batch, m, n = input._handle.type.shape
        u = empty_like_type(input.dtype, (*batch, m, m))
        return SVD(u, s, empty_like_type(input.dtype, (*batch, n, n)))
    return SVD(u, s, adjoint_of(vh))


def symeig(input: Tensor, eigenvectors: bool = False, upper: bool = True) -> Eigen:
    """Eigenvalues (ascending) and eigenvectors of Hermitian matrices; without `eigenvectors` the
    second result is empty. `upper` says which triangle is read."""
    require_tensors("symeig", input)
    values, vectors = call_host("eigh", adjoint_of(input) if upper else input)
    return Eigen(values, vectors if eigenvectors else empty_like_type(input.dtype, (0,)))


def eig(input: Tensor, eigenvectors: bool = False) -> Eigen:
    """Eigenvalues of a real matrix as [..., n, 2], real and imaginary parts, and eigenvectors.

    An eigenvector of a real eigenvalue is a column; of a pair of conjugate ones, two columns hold
    the real and the imaginary part of the first's. Without `eigenvectors` the second result is
    empty. `braze.linalg.eig` gives complex numbers.

    Raises:
        RuntimeError: the matrix is complex.
    """
    require_tensors("eig", input)
    if input.dtype.is_complex:
        raise DTypeError(
            f"[eig] needs a real matrix, given {input._handle.type}; use linalg.eig"
        )
    values, vectors = call_host("eig", input)
    parts = apply(call_of(op_named("view_as_real")), values)
    if not eigenvectors:
        return Eigen(parts, empty_like_type(input.dtype, (0,)))
    second = unsqueeze(imag(values), -2) < 0.0
    return Eigen(parts, where(second, -imag(vectors), real(vectors)))


def geqrf(input: Tensor) -> Reflectors:
    """LAPACK's QR factorisation: R and reflectors in one matrix, and their factors."""
    return Reflectors(*call_host("geqrf", input))


def orgqr(input: Tensor, tau: Tensor) -> Tensor:
    """Q of the factorisation that `geqrf` gives: its first n columns."""
    return call_host("orgqr", input, tau)  # type: ignore[no-any-return]


def ormqr(
    input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False
) -> Tensor:
    """Q @ other (other @ Q if not `left`; with Q^H if `transpose`), for `geqrf`'s Q."""
    return call_host("ormqr", input, tau, other, left=left, transpose=transpose)  # type: ignore[no-any-return]


# Linear systems -----------------------------------------------------------------------------------


def inverse(input: Tensor) -> Tensor:
    """The inverses of square matrices.

    Raises:
        LinAlgError: at the next sync, if a matrix is singular.
    """
    return call_host("inverse", input)  # type: ignore[no-any-return]


def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """Moore-Penrose pseudo-inverses; singular values up to rcond times the largest count as
    zero."""
    return call_host("pinv", input, rtol=float(rcond))  # type: ignore[no-any-return]


def solve(input: Tensor, A: Tensor) -> Solution:
    """The X with A @ X = input, and A's LU factors; batches broadcast.

    Raises:
        LinAlgError: at the next sync, if a matrix is singular.
    """
    require_tensors("solve", input, A)
    a, b = common_batch("solve", A, input)
    return Solution(call_host("solve", a, b), call_host("lu_factor", a)[0])


def gesv(input: Tensor, A: Tensor) -> Solution:
    """`solve`, by its name in LAPACK."""
    return solve(input, A)


def triangular_solve(
    input: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> TriangularSolution:
    """The X with A @ X = input (A^T @ X if `transpose`) for triangular A, and A; batches broadcast.

    The other triangle is not read, nor, if `unitriangular`, the diagonal.
    """
    require_tensors("triangular_solve", input, A)
    a, b = common_batch("triangular_solve", A, input)
    given = a
    if transpose:
        a, upper = swapped(a), not upper
    return TriangularSolution(
        call_host("triangular_solve", a, b, upper=upper, unitriangular=unitriangular), clone(given)
    )


def trtrs(
    input: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> TriangularSolution:
    """`triangular_solve`, by its name in LAPACK."""
    return triangular_solve(input, A, upper, transpose, unitriangular)


def cholesky_solve(input: Tensor, input2: Tensor, upper: bool = False) -> Tensor:
    """The X with A @ X = input for A = L @ L^H, given L (or U, if `upper`) as `input2`."""
    require_tensors("cholesky_solve", input, input2)
    factor, b = common_batch("cholesky_solve", input2, input)
    lower = adjoint_of(factor) if upper else factor
    first = call_host("triangular_solve", lower, b, upper=False, unitriangular=False)
    return call_host(  # type: ignore[no-any-return]
        "triangular_solve", adjoint_of(lower), first, upper=True, unitriangular=False
    )


def cholesky_inverse(input: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A = L @ L^H, given L (or U, if `upper`)."""
    require_tensors("cholesky_inverse", input)
    shape = input._handle.type.shape
    if len(shape) < 2:
        raise ShapeError(f"[cholesky_inverse] needs a matrix, given {input._handle.type}")
    return cholesky_solve(identity(shape[-2], shape[-2], input.dtype), input, upper)


def potrs(input: Tensor, input2: Tensor, upper: bool = True) -> Tensor:
    """`cholesky_solve`, by its name in LAPACK."""
    return cholesky_solve(input, input2, upper)


def potri(input: Tensor, upper: bool = True) -> Tensor:
    """`cholesky_inverse`, by its name in LAPACK."""
    return cholesky_inverse(input, upper)


@casting("f32")
def lstsq(input: Tensor, A: Tensor) -> LeastSquares:
    """The X [max(m, n), k] whose first n rows minimise |A @ X - input|, and A's QR factors.

    Of an underdetermined system it is the solution of least norm. With more rows than columns the
    remaining rows hold what Q^H @ input has beyond R: the sums of their squares are the residuals.
    """
    require_tensors("lstsq", input, A)
    a, b = common_batch("lstsq", A, input)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-2] != b.shape[-2]:
        raise ShapeError(
            f"[lstsq] {A._handle.type} and right-hand side {input._handle.type} differ in rows"
        )
    m, n = a.shape[-2:]
    solution = matmul(pinverse(a, _tolerance(a)), b)
    if m > n:
        q, _ = qr(a, some=False)
        rest = matmul(adjoint_of(q), b)
        solution = cat([solution, narrow(rest, -2, n, m - n)], -2)
    return LeastSquares(solution, call_host("geqrf", a)[0])


def _tolerance(a: Tensor) -> float:
    return epsilon(a.dtype) * max(a.shape[-2:])


def gels(input: Tensor, A: Tensor) -> LeastSquares:
    """`lstsq`, by its name in LAPACK."""
    return lstsq(input, A)


@casting("f32")
def matrix_rank(input: Tensor, tol: float | None = None, symmetric: bool = False) -> Tensor:
    """How many singular values are above `tol` (by default eps * max(m, n) times the largest).

    Args:
        symmetric: the matrices are, and only their lower triangle is read.
    """
    require_tensors("matrix_rank", input)
    if symmetric:
        values = call_host("eigh", input)[0].abs()
    else:
        values = call_host("svd", input, full=False)[1]
    if values.shape[-1] == 0:
        return cast(reductions.sum(values, -1), i32).long()  # type: ignore[no-any-return]
    limit: Any = tol
    if tol is None:
        limit = reductions.amax(values, -1, keepdim=True) * _tolerance(input)
    return reductions.sum((values > limit).long(), -1)


def nuclear_norm(input: Tensor, keepdim: bool = False) -> Tensor:
    """The sum of a matrix' singular values."""
    require_tensors("nuclear_norm", input)
    if input.ndim != 2:
        raise ShapeError(f"[nuclear_norm] expected a matrix, given {input._handle.type}")
    total = reductions.sum(call_host("svd", input, full=False)[1])
    return total.reshape(1, 1) if keepdim else total  # type: ignore[no-any-return]


def frobenius_norm(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The square root of the sum of squares over dimensions, all by default."""
    return reductions.norm(input, 2.0, dim, keepdim)


# Determinants -------------------------------------------------------------------------------------


def det(input: Tensor) -> Tensor:
    """The determinants of square matrices; the gradient exists for singular ones too."""
    return call_host("det", input)  # type: ignore[no-any-return]


def slogdet(input: Tensor) -> SignAndLogarithm:
    """Sign (of complex ones the direction, of length 1) and logarithm of the absolute value of the
    determinants: 0 and -inf if singular."""
    return SignAndLogarithm(*call_host("slogdet", input))


def logdet(input: Tensor) -> Tensor:
    """The logarithms of the determinants: -inf for 0, nan for negative ones."""
    sign, logarithm = slogdet(input)
    if sign.dtype.is_complex:
        return sign.log() + logarithm  # type: ignore[no-any-return]
    return where(sign < 0.0, scalar(float("nan"), logarithm.dtype), logarithm)


# LU -----------------------------------------------------------------------------------------------


def btrifact(A: Tensor, pivot: bool = True) -> LU:
    """The LU factors of matrices, packed, and the swapped rows (from 1).

    Raises:
        RuntimeError: for ``pivot=False``, which is not supported.
    """
    if not pivot:
        raise RuntimeError("LU without pivoting is not supported")
    return LU(*call_host("lu_factor", A))


def lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> Any:
    """`btrifact`; with `get_infos` also, for each matrix, 0 or the number of the first zero on U's
    diagonal."""
    factors = btrifact(A, pivot)
    if not get_infos:
        return factors
    diagonal = take_diagonal(factors.LU.detach())
    zero = diagonal == 0.0
    if diagonal.shape[-1] == 0:
        return (*factors, cast(reductions.any(zero, -1), i32))
    first = reductions.argmax(cast(zero, i32), -1) + 1
    return (*factors, cast(where(reductions.any(zero, -1), first, 0), i32))


def btrifact_with_info(A: Tensor, pivot: bool = True) -> Any:
    """LU factors, pivots, and for each matrix 0 or the number of the first zero pivot."""
    return lu(A, pivot, get_infos=True)


def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """The x with A @ x = b, given A's LU factors and pivots."""
    require_tensors("lu_solve", b, LU_data, LU_pivots)
    vectors = b.ndim == LU_data.ndim - 1  # as btrisolve takes them: [batch, n]
    right = unsqueeze(b, -1) if vectors else b
    factors, right = common_batch("lu_solve", LU_data, right)
    if factors.ndim < 2 or right.ndim < 2 or factors.shape[-1] != right.shape[-2]:
        raise ShapeError(
            f"[lu_solve] factors {LU_data._handle.type} do not fit {b._handle.type}"
        )
    pivots = expand(LU_pivots, (*factors.shape[:-2], LU_pivots.shape[-1]))
    order = call_host("lu_permutation", pivots, size=factors.shape[-2], inverse=False)
    index = expand(unsqueeze(order, -1), right.shape)
    right = call_host("take_along", right, index, dim=right.ndim - 2)
    y = call_host("triangular_solve", factors, right, upper=False, unitriangular=True)
    x: Tensor = call_host("triangular_solve", factors, y, upper=True, unitriangular=False)
    return x.squeeze(-1) if vectors else x  # type: ignore[no-any-return]


def btrisolve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """`lu_solve`, by its name in PyTorch 1.0; b may hold vectors [batch, n]."""
    return lu_solve(b, LU_data, LU_pivots)


def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> UnpackedLU:
    """P, L and U with A = P @ L @ U, of packed factors; what is not asked for is empty."""
    require_tensors("lu_unpack", LU_data, LU_pivots)
    m, n = LU_data.shape[-2:]
    k = min(m, n)
    empty = empty_like_type(LU_data.dtype, (0,))
    p = lower = upper = empty
    if unpack_data:
        lower = lower_triangle(narrow(LU_data, -1, 0, k), strict=True)
        lower = lower + identity(m, k, LU_data.dtype)
        upper = upper_triangle(narrow(LU_data, -2, 0, k))
    if unpack_pivots:
        place = call_host("lu_permutation", LU_pivots, size=m, inverse=True)
        ramp = call_host("lu_permutation", narrow(LU_pivots, -1, 0, 0), size=m, inverse=False)
        p = cast(unsqueeze(place, -1) == unsqueeze(ramp, -2), LU_data.dtype)
    return UnpackedLU(p, lower, upper)


def btriunpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> UnpackedLU:
    """`lu_unpack`, by its name in PyTorch 1.0."""
    return lu_unpack(LU_data, LU_pivots, unpack_data, unpack_pivots)


# Methods of `Tensor`.
METHODS = (
    "cholesky potrf qr svd symeig eig geqrf orgqr ormqr inverse pinverse solve gesv "
    "triangular_solve trtrs cholesky_solve cholesky_inverse potrs potri lstsq gels det slogdet "
    "logdet btrifact btrifact_with_info lu lu_solve btrisolve pstrf matrix_exp"
).split()
