"""Factorisations of matrices: calls of NumPy, with their gradients.

Gradients: Cholesky: I. Murray, "Differentiation of the Cholesky decomposition", 2016. QR:
M. Seeger, A. Hetzel, Z. Dai, E. Meissner, N. D. Lawrence, "Auto-differentiating linear algebra",
2017. Symmetric eigenvalues: M. B. Giles, "Collected matrix derivative results for forward and
reverse mode algorithmic differentiation", 2008. SVD: J. Townsend, "Differentiating the singular
value decomposition", 2016. Where eigenvalues or singular values are equal, what their vectors
contribute is not defined and taken for zero: functions that do not depend on the choice of the
vectors get the right gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.ops.host_rules import (
    add_diagonal,
    as_column,
    as_row,
    check_matrices,
    check_square,
    declare_host,
    differences,
    lower,
    safe_reciprocal,
    square,
    symmetrised,
    transposed,
)
from braze.ir.types import TensorType

# Cholesky -----------------------------------------------------------------------------------------


def _cholesky_gradient(b: Any, g: Any, out: Any) -> Any:
    t = transposed(b, out)
    product = b.matmul(t, g)
    # The lower triangle with half of the diagonal.
    half = b.mul(b.add(lower(b, product), lower(b, product, strict=True)), 0.5)
    left = b.triangular_solve(t, half, upper=True, unitriangular=False)
    both = b.triangular_solve(t, transposed(b, left), upper=True, unitriangular=False)
    return symmetrised(b, both)


cholesky = declare_host(
    "cholesky",
    "x",
    infer=square("cholesky"),
    evaluate=np.linalg.cholesky,
    gradients={"x": _cholesky_gradient},
    fault="the matrix is not positive definite",
    doc="""The lower triangular l with l @ l^T = x for symmetric positive definite matrices, whose
lower triangle is read. The gradient is symmetric.""",
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
    shape = x.type.shape
    zeros = (0,) * (len(shape) - 1)
    return b.slice(
        x, starts=(*zeros, start), stops=(*shape[:-1], stop), steps=(1,) * len(shape)
    )


def _qr_gradient(b: Any, g_q: Any, g_r: Any, x: Any, q: Any, r: Any, complete: bool) -> Any:
    m, n = x.type.shape[-2:]
    if complete and m > n:
        raise RuntimeError(
            "[qr] the complete factorisation of a matrix with more rows than columns has no "
            "gradient; use the reduced one"
        )
    if m >= n:
        return _tall_qr_gradient(b, g_q, g_r, q, r)
    # A = [X Y] = Q [U V]: X = Q U as above, and Y = Q V.
    y, v_g = _columns(b, x, m, n), _columns(b, g_r, m, n)
    q_g = b.add(g_q, b.matmul(y, transposed(b, v_g)))
    left = _tall_qr_gradient(b, q_g, _columns(b, g_r, 0, m), q, _columns(b, r, 0, m))
    return b.concat(left, b.matmul(q, v_g), dim=x.type.rank - 1)


def _tall_qr_gradient(b: Any, g_q: Any, g_r: Any, q: Any, r: Any) -> Any:
    inner = b.sub(b.matmul(r, transposed(b, g_r)), b.matmul(transposed(b, g_q), q))
    mirrored = b.add(lower(b, inner), transposed(b, lower(b, inner, strict=True)))
    right = b.add(g_q, b.matmul(q, mirrored))
    solved = b.triangular_solve(r, transposed(b, right), upper=True, unitriangular=False)
    return transposed(b, solved)


qr = declare_host(
    "qr",
    "x",
    infer=_qr_types,
    evaluate=_qr,
    attributes={"complete": bool},
    gradients={"x": _qr_gradient},
    results="q r",
    doc="""x = q @ r with orthonormal columns q and upper triangular r. q is [m, min(m, n)], or with
`complete` [m, m].""",
)

# Symmetric eigenvalues ----------------------------------------------------------------------------


def _eigh_types(x: TensorType) -> tuple[TensorType, ...]:
    check_square("eigh", x)
    return x.with_shape(x.shape[:-1]), x


def _eigh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(x)
    return values, vectors


def _eigh_gradient(b: Any, g_values: Any, g_vectors: Any, values: Any, vectors: Any) -> Any:
    t = transposed(b, vectors)
    inner = b.mul(b.matmul(t, g_vectors), differences(b, values))
    inner = add_diagonal(b, inner, g_values)
    return symmetrised(b, b.matmul(b.matmul(vectors, inner), t))


eigh = declare_host(
    "eigh",
    "x",
    infer=_eigh_types,
    evaluate=_eigh,
    gradients={"x": _eigh_gradient},
    results="values vectors",
    doc="""Eigenvalues in ascending order and eigenvectors (columns) of symmetric matrices, of which
the lower triangle is read. The gradient is symmetric.""",
)

# SVD ----------------------------------------------------------------------------------------------


def _svd_types(x: TensorType, *, full: bool) -> tuple[TensorType, ...]:
    check_matrices("svd", x)
    *batch, m, n = x.shape
    k = min(m, n)
    left, right = (m, n) if full else (k, k)
    return (
        x.with_shape((*batch, m, left)),
        x.with_shape((*batch, k)),
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
    u_t, v, g_v = transposed(b, u), transposed(b, vh), transposed(b, g_vh)
    factor = differences(b, b.mul(s, s))
    row, column = as_row(b, s), as_column(b, s)
    left, right = b.matmul(u_t, g_u), b.matmul(vh, g_v)

    def skew(y: Any) -> Any:
        return b.sub(y, transposed(b, y))

    inner = b.mul(b.mul(skew(left), factor), row)
    inner = b.add(inner, b.mul(column, b.mul(skew(right), factor)))
    inner = add_diagonal(b, inner, g_s)
    result = b.matmul(b.matmul(u, inner), vh)
    if m > n:
        outside = b.mul(b.sub(g_u, b.matmul(u, left)), safe_reciprocal(b, row))
        result = b.add(result, b.matmul(outside, vh))
    if n > m:
        outside = b.mul(b.sub(g_v, b.matmul(v, right)), safe_reciprocal(b, row))
        result = b.add(result, b.matmul(u, transposed(b, outside)))
    return result


svd = declare_host(
    "svd",
    "x",
    infer=_svd_types,
    evaluate=_svd,
    attributes={"full": bool},
    gradients={"x": _svd_gradient},
    results="u s vh",
    doc="""x = u @ diag(s) @ vh, singular values in descending order. u is [m, k] and vh [k, n] with
k = min(m, n), or with `full` [m, m] and [n, n].""",
)

# Eigenvalues of any real matrix -------------------------------------------------------------------


def _eig_types(x: TensorType) -> tuple[TensorType, ...]:
    check_square("eig", x)
    pairs = x.with_shape((*x.shape[:-1], 2))
    return pairs, x.with_shape((*x.shape, 2))


def _pairs(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Complex numbers as a last dimension of real and imaginary parts."""
    return np.stack([x.real, x.imag], -1).astype(dtype)


def _eig(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if x.shape[-1] == 0:
        return np.empty((*x.shape[:-1], 2), x.dtype), np.empty((*x.shape, 2), x.dtype)
    if not np.isfinite(x).all():
        raise np.linalg.LinAlgError("not finite")
    values, vectors = np.linalg.eig(x)
    return _pairs(values, x.dtype), _pairs(vectors, x.dtype)


eig = declare_host(
    "eig",
    "x",
    infer=_eig_types,
    evaluate=_eig,
    results="values vectors",
    fault="the matrix is not finite, or the algorithm did not converge",
    doc="""Eigenvalues and eigenvectors (columns) of real matrices as pairs of a real and an
imaginary part, the last dimension. No gradient.""",
)
