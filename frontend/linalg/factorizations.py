"""Factorisations, eigenvalues, singular values and determinants."""

from __future__ import annotations

from typing import NamedTuple

from braze.functions import decompositions
from braze.functions.arguments import require_tensors
from braze.functions.decompositions import det, slogdet
from braze.functions.matrices import (
    LU,
    Decomposition,
    Eigen,
    UnpackedLU,
    adjoint_of,
    call_host,
    empty_like_type,
)
from braze.tensors import Tensor

__all__ = ["det", "slogdet"]


class SVD(NamedTuple):
    """x = U @ diag(S) @ Vh."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L with L @ L^H = A (or the upper U with U^H @ U = A), for Hermitian
    positive definite matrices.

    Raises:
        LinAlgError: at the next sync, if a matrix is not positive definite.
    """
    return decompositions.cholesky(A, upper)


def qr(A: Tensor, mode: str = "reduced") -> Decomposition:
    """A = Q @ R with orthonormal columns Q and upper triangular R.

    Args:
        mode: "reduced": Q is [m, min(m, n)]; "complete": [m, m]; "r": Q is empty.
    """
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(
            f"qr received unrecognized mode {mode!r} but expected one of 'reduced', 'r', or "
            "'complete'"
        )
    q, r = call_host("qr", A, complete=mode == "complete")
    return Decomposition(empty_like_type(A.dtype, (0,)) if mode == "r" else q, r)


def svd(A: Tensor, full_matrices: bool = True) -> SVD:
    """A = U @ diag(S) @ Vh with S descending.

    With `full_matrices`, U is [m, m] and Vh [n, n]; these have a gradient only for square A.
    """
    require_tensors("svd", A)
    u, s, vh = call_host("svd", A, full=False)
    if full_matrices and A.ndim > 1 and A.shape[-1] != A.shape[-2]:
        u, _, vh = call_host("svd", A, full=True)
    return SVD(u, s, vh)


def svdvals(A: Tensor) -> Tensor:
    """The singular values in descending order."""
    return call_host("svd", A, full=False)[1]  # type: ignore[no-any-return]


def eigh(A: Tensor, UPLO: str = "L") -> Eigen:
    """Eigenvalues (ascending, real) and eigenvectors of Hermitian matrices, of which the lower (or,
    with "U", the upper) triangle is read."""
    if UPLO.upper() not in ("L", "U"):
        raise ValueError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    require_tensors("eigh", A)
    return Eigen(*call_host("eigh", adjoint_of(A) if UPLO.upper() == "U" else A))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of Hermitian matrices in ascending order."""
    return eigh(A, UPLO).eigenvalues


def eig(A: Tensor) -> Eigen:
    """Eigenvalues [..., n] and eigenvectors [..., n, n] (columns, of length 1) of any square
    matrices; complex.

    The gradient supposes that the eigenvalues differ. Eigenvectors are determined up to a factor
    exp(i phi): a loss that depends on it is an error in the backward pass, at the next sync.

    Raises:
        LinAlgError: at the next sync, if a matrix has elements that are not finite.
    """
    return Eigen(*call_host("eig", A))


def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues of any square matrices; complex."""
    return eig(A).eigenvalues


def lu_factor(A: Tensor, *, pivot: bool = True) -> LU:
    """Packed LU factors and the rows that were swapped (from 1)."""
    return decompositions.btrifact(A, pivot)


def lu(A: Tensor, *, pivot: bool = True) -> UnpackedLU:
    """P, L and U with A = P @ L @ U."""
    return decompositions.lu_unpack(*lu_factor(A, pivot=pivot))


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The leading columns of the product of Householder reflectors, as `geqrf` gives them."""
    return decompositions.orgqr(A, tau)
