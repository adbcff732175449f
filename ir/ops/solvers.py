"""Inverses, linear systems and determinants: calls of NumPy, with their gradients.

Gradients: M. B. Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation", 2008; for the pseudo-inverse G. H. Golub and V. Pereyra, "The
differentiation of pseudo-inverses and nonlinear least squares problems whose variables separate",
SIAM J. Numer. Anal. 10, 1973.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.ops.host_rules import (
    adjoint,
    as_factor,
    check_matrices,
    check_square,
    declare_host,
    lower,
    seen,
    square,
    system,
    transposed,
    upper,
)
from braze.ir.types import TensorType

SINGULAR = "the matrix is singular"


def _inverse_gradient(b: Any, g: Any, out: Any) -> Any:
    t = transposed(b, out)
    return b.neg(b.matmul(b.matmul(t, g), t))


inverse = declare_host(
    "inverse",
    "x",
    infer=square("inverse"),
    evaluate=np.linalg.inv,
    gradients={"x": _inverse_gradient},
    fault=SINGULAR,
    complex=True,
    doc="The inverses of square matrices.",
)


def _outer(b: Any, left: Any, right: Any) -> Any:
    """left @ right^T."""
    return b.matmul(left, transposed(b, right))


solve = declare_host(
    "solve",
    "a b",
    infer=system("solve"),
    evaluate=np.linalg.solve,
    gradients={
        "a": lambda b, g, a, out: b.neg(_outer(b, b.solve(transposed(b, a), g), out)),
        "b": lambda b, g, a: b.solve(transposed(b, a), g),
    },
    fault=SINGULAR,
    complex=True,
    doc="The x with a @ x = b, for square matrices a of b's batch.",
)


def _triangular_solve(
    a: np.ndarray, b: np.ndarray, *, upper: bool, unitriangular: bool
) -> np.ndarray:
    """Substitution, row by row."""
    n = a.shape[-1]
    x = b.copy()
    for i in range(n - 1, -1, -1) if upper else range(n):
        known = slice(i + 1, n) if upper else slice(0, i)
        x[..., i, :] -= np.matmul(a[..., i : i + 1, known], x[..., known, :])[..., 0, :]
        if not unitriangular:
            x[..., i, :] /= a[..., i, i, None]
    return x


def _triangular_gradient(
    b: Any, g: Any, a: Any, out: Any, upper: bool, unitriangular: bool
) -> Any:
    full = b.neg(_outer(b, _triangular_rhs(b, g, a, upper, unitriangular), out))
    return (_UPPER if upper else _LOWER)(b, full, strict=unitriangular)


_LOWER, _UPPER = lower, upper


def _triangular_rhs(b: Any, g: Any, a: Any, upper: bool, unitriangular: bool) -> Any:
    return b.triangular_solve(
        transposed(b, a), g, upper=not upper, unitriangular=unitriangular
    )


triangular_solve = declare_host(
    "triangular_solve",
    "a b",
    infer=system("triangular_solve"),
    evaluate=_triangular_solve,
    attributes={"upper": bool, "unitriangular": bool},
    gradients={"a": _triangular_gradient, "b": _triangular_rhs},
    complex=True,
    doc="""The x with a @ x = b, for triangular matrices a of b's batch. The other triangle is not
read, nor with `unitriangular` the diagonal, taken for ones. A zero on it gives infinities.""",
)


# Pseudo-inverse -----------------------------------------------------------------------------------


def _pinv_types(x: TensorType, *, rtol: float) -> tuple[TensorType, ...]:
    check_matrices("pinv", x)
    return (x.with_shape((*x.shape[:-2], x.shape[-1], x.shape[-2])),)


def _pinv_gradient(b: Any, g: Any, x: Any, out: Any) -> Any:
    """For dP = -P dA P + P P^H dA^H (I - A P) + (I - P A) dA^H P^H P."""
    p, t = out, adjoint(b, out)
    g = seen(b, g)
    g_t = adjoint(b, g)
    direct = b.neg(b.matmul(b.matmul(t, g), t))
    left = b.matmul(g_t, b.matmul(p, t))  # g^H P P^H, [m, n]
    right = b.matmul(b.matmul(t, p), g_t)  # P^H P g^H, [m, n]
    outside = b.sub(left, b.matmul(x, b.matmul(p, left)))
    inside = b.sub(right, b.matmul(b.matmul(right, p), x))
    return seen(b, b.add(b.add(direct, outside), inside))


pinv = declare_host(
    "pinv",
    "x",
    infer=_pinv_types,
    evaluate=lambda x, *, rtol: np.linalg.pinv(x, rcond=rtol),
    attributes={"rtol": float},
    gradients={"x": _pinv_gradient},
    complex=True,
    doc="""Moore-Penrose pseudo-inverses; singular values up to `rtol` times the largest count as
zero. The gradient supposes that the rank does not change.""",
)


# Determinants -------------------------------------------------------------------------------------


def _scalars(name: str, x: TensorType) -> TensorType:
    check_square(name, x)
    return x.with_shape(x.shape[:-2])


det = declare_host(
    "det",
    "x",
    infer=lambda x: (_scalars("det", x),),
    evaluate=np.linalg.det,
    gradients={"x": lambda b, g, x: b.mul(as_factor(b, g), b.cofactor(x))},
    complex=True,
    doc="The determinants of square matrices.",
)


def _cofactor(x: np.ndarray) -> np.ndarray:
    """det(U) det(V^H) conj(U diag(products of the other singular values) V^H): no division, so
    also for singular matrices."""
    n = x.shape[-1]
    if n == 0:
        return x.copy()
    u, s, vh = np.linalg.svd(x)
    ones = np.ones((*s.shape[:-1], 1), s.dtype)
    before = np.cumprod(np.concatenate([ones, s[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([ones, s[..., :0:-1]], -1), -1)[..., ::-1]
    sign = np.linalg.det(u) * np.linalg.det(vh)
    product = np.matmul(u * (before * after)[..., None, :], vh)
    result: np.ndarray = sign[..., None, None] * product.conj()
    return result


def _cofactor_gradient(b: Any, g: Any, x: Any, out: Any) -> Any:
    """For C = det(A) A^-T: dC = tr(A^-1 dA) C - C dA^T A^-T."""
    rank = x.type.rank
    inner = b.sum(b.mul(g, out), dims=(rank - 2, rank - 1), keepdim=True)
    t = transposed(b, b.inverse(x))
    return b.sub(b.mul(inner, t), b.matmul(b.matmul(t, transposed(b, g)), out))


cofactor = declare_host(
    "cofactor",
    "x",
    infer=square("cofactor"),
    evaluate=_cofactor,
    gradients={"x": _cofactor_gradient},
    complex=True,
    doc="The matrices of cofactors, which are the determinant's gradient, of singular ones too.",
)


def _slogdet_types(x: TensorType) -> tuple[TensorType, ...]:
    sign = _scalars("slogdet", x)
    return sign, sign.with_dtype(x.dtype.to_real())


def _slogdet(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sign, logarithm = np.linalg.slogdet(x)
    return sign, logarithm


def _slogdet_gradient(b: Any, g_sign: Any, g_logabsdet: Any, x: Any, sign: Any) -> Any:
    """With t = tr(A^-1 dA): the logarithm changes by Re t, the sign by i Im(t) sign."""
    factor = g_logabsdet
    if x.type.dtype.is_complex:
        flat = b.mul(b.real(sign), 0.0)
        turn = flat if g_sign is None else b.imag(b.mul(g_sign, sign))
        factor = b.complex(flat if g_logabsdet is None else g_logabsdet, turn)
    elif factor is None:
        factor = b.mul(sign, 0.0)
    return b.mul(as_factor(b, factor), transposed(b, b.inverse(x)))


slogdet = declare_host(
    "slogdet",
    "x",
    infer=_slogdet_types,
    evaluate=_slogdet,
    gradients={"x": _slogdet_gradient},
    results="sign logabsdet",
    complex=True,
    doc="""Sign (of complex determinants the direction, of length 1) and logarithm of the absolute
value of determinants; 0 and -inf for singular ones.""",
)
