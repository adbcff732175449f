"""Few singular values or eigenvalues of large matrices, by randomised and iterative methods."""

from __future__ import annotations

from braze.functions.arguments import require_tensors
from braze.functions.linalg import matmul
from braze.functions.matrices import SVD, call_host, swapped
from braze.functions.movement import cat, expand, narrow
from braze.functions.random_numbers import randn
from braze.functions.reductions import mean, norm
from braze.tensors import Tensor


def _q(x: Tensor) -> Tensor:
    """An orthonormal basis of the columns' span."""
    return call_host("qr", x, complete=False)[0]  # type: ignore[no-any-return]


def svd_lowrank(
    A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None
) -> SVD:
    """The q largest singular values and their vectors: A (less M) is about U @ diag(S) @ V^T.

    Algorithm 5.1 of N. Halko, P. G. Martinsson, J. A. Tropp, "Finding structure with randomness",
    arXiv 0909.4061, on a basis of its algorithm 4.4.

    Args:
        q: how many; somewhat more than the rank that is sought.
        niter: the number of subspace iterations.
        M: subtracted from A; broadcasts.
    """
    require_tensors("svd_lowrank", A)
    count = 6 if q is None else q
    x = A if M is None else A - expand(M, A.shape)
    m, n = x.shape[-2:]
    if m < n:  # the smaller side is iterated on
        x = swapped(x)
    guess = randn(x.shape[-1], count, dtype=x.dtype)
    basis = _q(matmul(x, guess))
    for _ in range(2 if niter is None else niter):
        basis = _q(matmul(swapped(x), basis))
        basis = _q(matmul(x, basis))
    u, s, vh = call_host("svd", matmul(swapped(basis), x), full=False)
    left, right = matmul(basis, u), swapped(vh)
    return SVD(right, s, left) if m < n else SVD(left, s, right)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> SVD:
    """The q largest principal components of samples, which are rows: `svd_lowrank` of A less the
    mean of each column.

    Args:
        q: at most 6 by default.
        center: subtract the means.

    Raises:
        ValueError: q is negative or larger than a side, or niter is negative.
    """
    require_tensors("pca_lowrank", A)
    m, n = A.shape[-2:]
    count = min(6, m, n) if q is None else q
    if not 0 <= count <= min(m, n):
        raise ValueError(
            f"q(={count}) must be non-negative integer and not greater than min(m, n)={min(m, n)}"
        )
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    return svd_lowrank(A - mean(A, -2, True) if center else A, count, niter)


def lobpcg(
    A: Tensor,
    k: int | None = None,
    B: Tensor | None = None,
    X: Tensor | None = None,
    n: int | None = None,
    iK: Tensor | None = None,
    niter: int | None = None,
    tol: float | None = None,
    largest: bool | None = None,
    method: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) eigenvalues of symmetric matrices and their vectors: A @ x =
    e * B @ x, without a factorisation of A.

    The locally optimal block method of A. V. Knyazev ("Toward the optimal preconditioned
    eigensolver", 2001) on an orthonormal basis. Each iteration reads the residual: a sync point.

    Args:
        k: how many; the number of columns of X, or 1, by default.
        B: symmetric positive definite; the identity by default.
        X: first vectors, [..., m, n]; n random ones (k by default) without.
        iK: a preconditioner, about the inverse of A.
        niter: the most iterations; 1000 by default.
        tol: of the residual relative to the norms of A and X; the root of epsilon by default.
        largest: which end of the spectrum; the largest by default.
        method: "basic" or "ortho"; both are this one.

    Raises:
        ValueError: the matrix has less than 3 n rows, or another method.
    """
    require_tensors("lobpcg", A)
    if method not in (None, "basic", "ortho"):
        raise ValueError(f"lobpcg: unknown method {method!r}")
    rows = A.shape[-1]
    count = k if k is not None else 1 if X is None else X.shape[-1]
    width = X.shape[-1] if X is not None else count if n is None else n
    if rows < 3 * width:
        raise ValueError(
            f"LPBPCG algorithm is not applicable when the number of A rows (={rows}) is smaller "
            f"than 3 x the number of requested eigenpairs (={width})"
        )
    upward = largest is False
    limit = tol if tol is not None else 1.49e-8 if A.dtype.bits == 64 else 3.45e-4
    start = X if X is not None else randn(*A.shape[:-2], rows, width, dtype=A.dtype)

    def times_b(x: Tensor) -> Tensor:
        return x if B is None else matmul(B, x)

    def ritz(basis: Tensor) -> tuple[Tensor, Tensor]:
        """The wanted Ritz values, best first, and the vectors' coordinates in the basis."""
        values, vectors = call_host("eigh", matmul(swapped(basis), matmul(A, basis)))
        size = values.shape[-1]
        if upward:
            return narrow(values, -1, 0, width), narrow(vectors, -1, 0, width)
        part = narrow(values, -1, size - width, width), narrow(vectors, -1, size - width, width)
        return part[0].flip(-1), part[1].flip(-1)

    def orthonormal(x: Tensor) -> Tensor:
        """Columns of the same span, orthonormal in the product that B defines."""
        basis = _q(x)
        if B is None:
            return basis
        factor = call_host("cholesky", matmul(swapped(basis), times_b(basis)))
        inverse = call_host("inverse", factor)
        return matmul(basis, swapped(inverse))

    basis = orthonormal(start)
    values, coordinates = ritz(basis)
    x = matmul(basis, coordinates)
    step: Tensor | None = None
    scale = norm(A)
    for _ in range(1000 if niter is None or niter < 0 else niter):
        residual = matmul(A, x) - times_b(x) * values.unsqueeze(-2)
        if bool((norm(residual) <= scale * norm(x) * limit).item()):
            break
        more = residual if iK is None else matmul(iK, residual)
        basis = orthonormal(cat([x, more] if step is None else [x, more, step], -1))
        values, coordinates = ritz(basis)
        new = matmul(basis, coordinates)
        step = new - matmul(x, matmul(swapped(x), times_b(new)))
        x = new
    return narrow(values, -1, 0, count), narrow(x, -1, 0, count)
