"""Householder reflectors: the QR factorisation as LAPACK has it, and products with its q.

The reflections are applied one by one (G. H. Golub and C. F. Van Loan, "Matrix Computations",
section 5.1). Gradients go by the compact form of their product (C. Puglisi, "Modification of the
Householder method based on the compact WY representation", SIAM J. Sci. Stat. Comput. 13, 1992):
with the reflectors as columns of V, their factors on the diagonal of D and S the strict upper
triangle of V^H V,

    H_1 ... H_k = I - V W^-1 D V^H,    W = I + D S
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from braze.ir.errors import ShapeError
from braze.ir.ops.host_rules import (
    add_diagonal,
    adjoint,
    as_column,
    check_matrices,
    declare_host,
    lower,
    seen,
    transposed,
    upper,
)
from braze.ir.types import TensorType


def _geqrf_types(x: TensorType) -> tuple[TensorType, ...]:
    check_matrices("geqrf", x)
    *batch, m, n = x.shape
    return x, x.with_shape((*batch, min(m, n)))


def _geqrf(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reflectors, tau = np.linalg.qr(x, mode="raw")
    return np.ascontiguousarray(np.swapaxes(reflectors, -1, -2)), tau


geqrf = declare_host(
    "geqrf",
    "x",
    infer=_geqrf_types,
    evaluate=_geqrf,
    results="a tau",
    complex=True,
    doc="""LAPACK's geqrf: r in the upper triangle, below it the reflectors v_i (their leading ones
are not stored); q is the product of I - tau_i v_i v_i^H. No gradient: `qr` has one.""",
)


def _reflector(a: np.ndarray, i: int) -> np.ndarray:
    v = np.zeros((*a.shape[:-1], 1), a.dtype)
    v[..., i + 1 :, 0] = a[..., i + 1 :, i]
    v[..., i, 0] = 1
    return v


def _reflect(a: np.ndarray, tau: np.ndarray, x: np.ndarray, transpose: bool) -> np.ndarray:
    """Q x, or Q^H x."""
    x = x.copy()
    order = range(tau.shape[-1])
    factors = tau.conj() if transpose else tau
    for i in order if transpose else reversed(order):
        v = _reflector(a, i)
        x -= factors[..., i, None, None] * v * np.matmul(np.swapaxes(v, -1, -2).conj(), x)
    return x


def _check_reflectors(name: str, a: TensorType, tau: TensorType) -> None:
    check_matrices(name, a)
    if tau.dtype is not a.dtype or tau.shape[:-1] != a.shape[:-2] or tau.rank != a.rank - 1:
        raise ShapeError(f"[{name}] reflectors {a} and factors {tau} do not fit each other")
    if tau.shape[-1] > min(a.shape[-2:]):
        raise ShapeError(f"[{name}] {tau} are too many factors for {a}")


def _orgqr_types(a: TensorType, tau: TensorType) -> tuple[TensorType, ...]:
    _check_reflectors("orgqr", a, tau)
    if a.shape[-2] < a.shape[-1]:
        raise ShapeError(f"[orgqr] needs at least as many rows as columns, given {a}")
    return (a,)


def _orgqr(a: np.ndarray, tau: np.ndarray) -> np.ndarray:
    eye = np.broadcast_to(np.eye(*a.shape[-2:], dtype=a.dtype), a.shape)
    return _reflect(a, tau, eye, False)


# Gradients ----------------------------------------------------------------------------------------


def _vectors(b: Any, a: Any, tau: Any) -> Any:
    """V, [..., m, k]."""
    shape, k = a.type.shape, tau.type.shape[-1]
    zeros = (0,) * len(shape)
    if k < shape[-1]:
        a = b.slice(a, starts=zeros, stops=(*shape[:-1], k), steps=(1,) * len(shape))
    ones = b.add(b.mul(tau, 0.0), 1.0)
    if k < shape[-2]:  # a diagonal as long as the columns
        square = b.slice(a, starts=zeros, stops=(*shape[:-2], k, k), steps=(1,) * len(shape))
        below = b.slice(
            a, starts=(*zeros[:-2], k, 0), stops=(*shape[:-1], k), steps=(1,) * len(shape)
        )
        top = add_diagonal(b, lower(b, square, strict=True), ones)
        return b.concat(top, below, dim=len(shape) - 2)
    return add_diagonal(b, lower(b, a, strict=True), ones)


def _gradients(b: Any, g: Any, a: Any, tau: Any, x: Any, transpose: bool) -> tuple[Any, Any, Any]:
    """Those of q @ x (or q^H @ x) for a, tau and x, from `g`, that of the product; all of them are
    the gradients that the user sees.

    The product is x - V y with y = W^-1 D V^H x, or for the adjoint y = D^H W^-H V^H x.
    """
    v = _vectors(b, a, tau)
    v_t, factor = adjoint(b, v), as_column(b, tau)
    conjugate = seen(b, factor)
    s = upper(b, b.matmul(v_t, v), strict=True)
    w = b.mul(s, factor)  # its diagonal of ones is not stored
    y0 = b.matmul(v_t, x)

    def solved(right: Any, transpose: bool) -> Any:
        left = adjoint(b, w) if transpose else w
        return b.triangular_solve(left, right, upper=not transpose, unitriangular=True)

    back = b.neg(b.matmul(v_t, g))  # of y
    if transpose:
        u = solved(y0, True)
        y, own = b.mul(u, conjugate), b.mul(seen(b, back), u)
        back = solved(b.mul(back, factor), False)  # of y0
        w_gradient = b.matmul(u, adjoint(b, back))
    else:
        y = solved(b.mul(y0, factor), False)
        z = solved(back, True)
        own, back = b.mul(z, seen(b, y0)), b.mul(z, conjugate)
        w_gradient = b.matmul(z, adjoint(b, y))
    w_gradient = b.neg(upper(b, w_gradient, strict=True))
    dim = tau.type.rank
    own = b.sum(own, dims=(dim,), keepdim=False)
    tau_gradient = b.add(own, b.sum(b.mul(w_gradient, seen(b, s)), dims=(dim,), keepdim=False))
    inner = b.mul(w_gradient, conjugate)
    v_gradient = b.sub(b.matmul(x, adjoint(b, back)), b.matmul(g, adjoint(b, y)))
    v_gradient = b.add(v_gradient, b.matmul(v, b.add(inner, adjoint(b, inner))))
    a_gradient = lower(b, v_gradient, strict=True)
    shape = a.type.shape
    if tau.type.shape[-1] < shape[-1]:
        none = (0,) * len(shape)
        high = (*none[:-1], shape[-1] - tau.type.shape[-1])
        a_gradient = b.pad(a_gradient, low=none, high=high, interior=none, value=0.0)
    return a_gradient, tau_gradient, b.add(g, b.matmul(v, back))


def _leading(b: Any, a: Any) -> Any:
    """The leading columns of the unit matrix, of a's type."""
    ones = b.full(shape=(*a.type.shape[:-2], a.type.shape[-1]), value=1.0, dtype=a.type.dtype)
    return add_diagonal(b, b.mul(a, 0.0), ones)


def _orgqr_gradient(number: int) -> Callable[..., Any]:
    def rule(b: Any, g: Any, a: Any, tau: Any) -> Any:
        return seen(b, _gradients(b, seen(b, g), a, tau, _leading(b, a), False)[number])

    return rule


def _ormqr_gradient(number: int) -> Callable[..., Any]:
    def rule(b: Any, g: Any, a: Any, tau: Any, x: Any, left: bool, transpose: bool) -> Any:
        g = seen(b, g)
        if left:
            return seen(b, _gradients(b, g, a, tau, x, transpose)[number])
        # x q = (q^H x^H)^H
        found = _gradients(b, adjoint(b, g), a, tau, adjoint(b, x), not transpose)[number]
        return transposed(b, found) if number == 2 else seen(b, found)

    return rule


orgqr = declare_host(
    "orgqr",
    "a tau",
    infer=_orgqr_types,
    evaluate=_orgqr,
    gradients={"a": _orgqr_gradient(0), "tau": _orgqr_gradient(1)},
    complex=True,
    doc="The leading columns of the orthogonal matrix whose reflectors `geqrf` gives.",
)


def _ormqr_types(
    a: TensorType, tau: TensorType, x: TensorType, *, left: bool, transpose: bool
) -> tuple[TensorType, ...]:
    _check_reflectors("ormqr", a, tau)
    check_matrices("ormqr", a, x)
    size = x.shape[-2] if left else x.shape[-1]
    if a.shape[:-2] != x.shape[:-2] or a.shape[-2] != size:
        raise ShapeError(f"[ormqr] reflectors {a} do not fit {x}")
    return (x,)


def _ormqr(
    a: np.ndarray, tau: np.ndarray, x: np.ndarray, *, left: bool, transpose: bool
) -> np.ndarray:
    if left:
        return _reflect(a, tau, x, transpose)
    # x Q = (Q^H x^H)^H
    turned = _reflect(a, tau, np.swapaxes(x, -1, -2).conj(), not transpose)
    return np.swapaxes(turned, -1, -2).conj()


ormqr = declare_host(
    "ormqr",
    "a tau x",
    infer=_ormqr_types,
    evaluate=_ormqr,
    attributes={"left": bool, "transpose": bool},
    gradients={"a": _ormqr_gradient(0), "tau": _ormqr_gradient(1), "x": _ormqr_gradient(2)},
    complex=True,
    doc="q @ x, or x @ q if not `left`, with the q (or its adjoint) of `geqrf`'s reflectors.",
)
