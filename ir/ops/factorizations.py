"""Factorisations of matrices: calls of NumPy, with their gradients.

Gradients, for complex matrices with adjoints in place of transposes: Cholesky: I. Murray,
"Differentiation of the Cholesky decomposition", 2016. QR: M. Seeger, A. Hetzel, Z. Dai, E.
Meissner, N. D. Lawrence, "Auto-differentiating linear algebra", 2017. Eigenvalues of Hermitian
matrices: M. B. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", 2008. SVD: J. Townsend, "Differentiating the singular value decomposition", 2016;
for complex matrices Z.-Q. Wan and S.-X. Zhang, "Automatic differentiation for complex valued SVD",
2019. Eigenvalues of any matrix: C. Boeddeker, P. Hanebrink, L. Drude, J. Heymann,
R. Haeb-Umbach, "On the computation of complex-valued gradients with application to statistically
optimum beamforming", 2017.

Where eigenvalues or singular values are equal, what their vectors contribute is not defined and
taken for zero: functions that do not depend on the choice of the vectors get the right gradient.
Complex vectors are free up to a factor exp(i phi): a loss that depends on it has no gradient, which
is noticed when it is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.ops.composite import cut
from braze.ir.ops.host_rules import (
    add_diagonal,
    adjoint,
    as_column,
    as_row,
    check_matrices,
    check_square,
    declare_host,
    diagonal_of,
    differences,
    like,
    lower,
    only_diagonal,
    real_part,
    safe_reciprocal,
    seen,
    square,
    symmetrised,
)
from braze.ir.types import TensorType

# Cholesky -----------------------------------------------------------------------------------------


def _cholesky_gradient(b: Any, g: Any, out: Any) -> Any:
    t = adjoint(b, out)
    product = b.matmul(t, seen(b, g))
    # The lower triangle with half of the diagonal.
    half = b.mul(b.add(lower(b, product), lower(b, product, strict=True)), 0.5)
    left = b.triangular_solve(t, half, upper=True, unitriangular=False)
    both = b.triangular_solve(t, adjoint(b, left), upper=True, unitriangular=False)
    return seen(b, symmetrised(b, both))


cholesky = declare_host(
    "cholesky",
    "x",
    infer=square("cholesky"),
    evaluate=np.linalg.cholesky,
    gradients={"x": _cholesky_gradient},
    fault="the matrix is not positive definite",
    complex=True,
    doc="""The lower triangular l with l @ l^H = x for Hermitian positive definite matrices, whose
lower triangle is read. The gradient is Hermitian.""",
)

# QR -----------------------------------------------------------------------------------------------


def _qr_types(x: TensorType, *, complete: bool) -> tuple[TensorType, ...]:
    check_matrices("qr", x)
    *batch, m, n = x.shape
    k = m if complete else min(m, n)
    return x.with_shape((*batch, m, k)), x.with_shape((*batch, k, n))


def _qr(x: np.ndarray, *, complete: bool) -> tuple[np.ndarray, np.ndarray]:
    q, r = np.linalg.qr(x, mode="complete" if complete else "reduced")
    return q, r


def _columns(b: Any, x: Any, start: int, stop: int) -> Any:
    return cut(b, x, x.type.rank - 1, start, stop)


def _qr_gradient(b: Any, g_q: Any, g_r: Any, x: Any, q: Any, r: Any, complete: bool) -> Any:
    m, n = x.type.shape[-2:]
    if complete and m > n:
        raise RuntimeError(
            "[qr] the complete factorisation of a matrix with more rows than columns has no "
            "gradient; use the reduced one"
        )
    g_q, g_r = seen(b, g_q), seen(b, g_r)
    if m >= n:
        return seen(b, _tall_qr_gradient(b, g_q, g_r, q, r))
    # A = [X Y] = Q [U V]: X = Q U as above, and Y = Q V.
    y, v_g = _columns(b, x, m, n), _columns(b, g_r, m, n)
    q_g = b.add(g_q, b.matmul(y, adjoint(b, v_g)))
    left = _tall_qr_gradient(b, q_g, _columns(b, g_r, 0, m), q, _columns(b, r, 0, m))
    return seen(b, b.concat(left, b.matmul(q, v_g), dim=x.type.rank - 1))


def _tall_qr_gradient(b: Any, g_q: Any, g_r: Any, q: Any, r: Any) -> Any:
    inner = b.sub(b.matmul(r, adjoint(b, g_r)), b.matmul(adjoint(b, g_q), q))
    below = lower(b, inner, strict=True)
    diagonal = only_diagonal(b, like(b, real_part(b, inner), inner))
    mirrored = b.add(b.add(below, adjoint(b, below)), diagonal)
    right = b.add(g_q, b.matmul(q, mirrored))
    solved = b.triangular_solve(r, adjoint(b, right), upper=True, unitriangular=False)
    return adjoint(b, solved)


qr = declare_host(
    "qr",
    "x",
    infer=_qr_types,
    evaluate=_qr,
    attributes={"complete": bool},
    gradients={"x": _qr_gradient},
    results="q r",
    complex=True,
    doc="""x = q @ r with orthonormal columns q and upper triangular r. q is [m, min(m, n)], or with
`complete` [m, m].""",
)

# Eigenvalues of Hermitian matrices ----------------------------------------------------------------

PHASE_TOLERANCE = 1e-2


def _independent(b: Any, name: str, x: Any, change: Any) -> Any:
    """x; an error where a gradient's part along a change of the vectors' phases is not zero.

    Args:
        change: [..., n, n]; its diagonal's imaginary part is that.
    """
    if not change.type.dtype.is_complex:
        return x
    along = b.abs(b.imag(diagonal_of(b, change)))
    dims = tuple(range(along.type.rank))
    holds = b.all(b.le(along, PHASE_TOLERANCE), dims=dims, keepdim=False)
    message = (
        f"[{name}] the vectors are determined up to a factor exp(i phi) only; the loss depends on "
        "this factor, so its gradient is not defined"
    )
    return b.checked(x, holds, message=message)


def _eigh_types(x: TensorType) -> tuple[TensorType, ...]:
    check_square("eigh", x)
    return x.with_shape(x.shape[:-1]).with_dtype(x.dtype.to_real()), x


def _eigh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(x)
    return values, vectors


def _eigh_gradient(b: Any, g_values: Any, g_vectors: Any, values: Any, vectors: Any) -> Any:
    t = adjoint(b, vectors)
    change = b.matmul(t, seen(b, g_vectors))
    change = _independent(b, "eigh", change, change)
    inner = b.mul(change, like(b, differences(b, values), vectors))
    inner = add_diagonal(b, inner, like(b, g_values, vectors))
    return seen(b, symmetrised(b, b.matmul(b.matmul(vectors, inner), t)))


eigh = declare_host(
    "eigh",
    "x",
    infer=_eigh_types,
    evaluate=_eigh,
    gradients={"x": _eigh_gradient},
    results="values vectors",
    complex=True,
    doc="""Eigenvalues in ascending order and eigenvectors (columns) of Hermitian matrices, of which
the lower triangle is read. The gradient is Hermitian.""",
)

# SVD ----------------------------------------------------------------------------------------------


def _svd_types(x: TensorType, *, full: bool) -> tuple[TensorType, ...]:
    check_matrices("svd", x)
    *batch, m, n = x.shape
    k = min(m, n)
    left, right = (m, n) if full else (k, k)
    return (
        x.with_shape((*batch, m, left)),
        x.with_shape((*batch, k)).with_dtype(x.dtype.to_real()),
        x.with_shape((*batch, right, n)),
    )


def _svd(x: np.ndarray, *, full: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, s, vh = np.linalg.svd(x, full_matrices=full)
    return u, s, vh


def _svd_gradient(
    b: Any, g_u: Any, g_s: Any, g_vh: Any, u: Any, s: Any, vh: Any, x_type: Any, full: bool
) -> Any:
    m, n = x_type.shape[-2:]
    if full and m != n:
        raise RuntimeError("[svd] only the reduced decomposition has a gradient")
    g_u, g_v = seen(b, g_u), adjoint(b, seen(b, g_vh))
    # 1 / (s_k ** 2 - s_j ** 2), as a product: a difference of products, fused, is not 0 for k = j.
    sums = safe_reciprocal(b, b.add(as_row(b, s), as_column(b, s)))
    factor = like(b, b.mul(differences(b, s), sums), u)
    row, column = like(b, as_row(b, s), u), like(b, as_column(b, s), u)
    left, right = b.matmul(adjoint(b, u), g_u), b.matmul(vh, g_v)
    right = _independent(b, "svd", right, b.add(left, right))

    def skew(y: Any) -> Any:
        return b.sub(y, adjoint(b, y))

    inner = b.mul(b.mul(skew(left), factor), row)
    inner = b.add(inner, b.mul(column, b.mul(skew(right), factor)))
    inner = add_diagonal(b, inner, like(b, g_s, u))
    reciprocal = like(b, safe_reciprocal(b, as_row(b, s)), u)
    if u.type.dtype.is_complex:  # what a change of both vectors' phases does
        inner = b.add(inner, b.mul(only_diagonal(b, skew(left)), b.mul(reciprocal, 0.5)))
    result = b.matmul(b.matmul(u, inner), vh)
    if m > n:
        outside = b.mul(b.sub(g_u, b.matmul(u, left)), reciprocal)
        result = b.add(result, b.matmul(outside, vh))
    if n > m:
        outside = b.mul(b.sub(g_v, b.matmul(adjoint(b, vh), right)), reciprocal)
        result = b.add(result, b.matmul(u, adjoint(b, outside)))
    return seen(b, result)


svd = declare_host(
    "svd",
    "x",
    infer=_svd_types,
    evaluate=_svd,
    attributes={"full": bool},
    gradients={"x": _svd_gradient},
    results="u s vh",
    complex=True,
    doc="""x = u @ diag(s) @ vh, singular values in descending order. u is [m, k] and vh [k, n] with
k = min(m, n), or with `full` [m, m] and [n, n].""",
)

# Eigenvalues of any matrix ------------------------------------------------------------------------


def _eig_types(x: TensorType) -> tuple[TensorType, ...]:
    check_square("eig", x)
    vectors = x.with_dtype(x.dtype.to_complex())
    return vectors.with_shape(x.shape[:-1]), vectors


def _eig(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    dtype = np.result_type(x.dtype, np.complex64)
    if x.shape[-1] == 0:
        return np.empty(x.shape[:-1], dtype), np.empty(x.shape, dtype)
    if not np.isfinite(x).all():
        raise np.linalg.LinAlgError("not finite")
    values, vectors = np.linalg.eig(x)
    return values.astype(dtype, copy=False), vectors.astype(dtype, copy=False)


def _eig_gradient(b: Any, g_values: Any, g_vectors: Any, values: Any, vectors: Any) -> Any:
    """V^-H (diag(g_w) + (V^H g_V - V^H V Re diag(V^H g_V)) / E) V^H, E_jk = conj(w_k - w_j)."""
    t = adjoint(b, vectors)
    change = b.matmul(t, seen(b, g_vectors))
    change = _independent(b, "eig", change, change)
    length = b.matmul(b.matmul(t, vectors), only_diagonal(b, like(b, b.real(change), change)))
    inner = b.mul(b.sub(change, length), b.conj(differences(b, values)))
    inner = add_diagonal(b, inner, seen(b, g_values))
    return seen(b, b.solve(t, b.matmul(inner, t)))


eig = declare_host(
    "eig",
    "x",
    infer=_eig_types,
    evaluate=_eig,
    gradients={"x": _eig_gradient},
    results="values vectors",
    fault="the matrix is not finite, or the algorithm did not converge",
    complex=True,
    doc="""Eigenvalues and eigenvectors of length 1 (columns) of any square matrices; complex. The
gradient supposes that the eigenvalues differ.""",
)
