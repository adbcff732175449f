"""The matrix exponential and the pivoted Cholesky factorisation, which NumPy runs.

The exponential is that of N. J. Higham, "The scaling and squaring method for the matrix exponential
revisited", 2005, with the Pade approximant of degree 13 throughout.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from braze.ir.dtypes import i32
from braze.ir.ops.host_rules import check_square, declare_host, square, transposed
from braze.ir.types import TensorType

# The approximant's coefficients, and the norm up to which it is right to the last bit of f64.
PADE = tuple(
    float(
        math.factorial(26 - j) * math.factorial(13) // (math.factorial(13 - j) * math.factorial(j))
    )
    / float(math.factorial(13))
    for j in range(14)
)
PADE_NORM = 5.371920351148152


def _exponential(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.result_type(x.dtype, np.float64))
    n = x.shape[-1]
    if not wide.size:
        return x
    norm = np.abs(wide).sum(-2).max(-1)
    finite = np.where(np.isfinite(norm) & (norm > 0), norm, PADE_NORM)
    squarings = np.maximum(np.ceil(np.log2(finite / PADE_NORM)), 0).astype(int)
    a = wide / (2.0**squarings)[..., None, None]
    one = np.eye(n)
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a4 @ a2
    c = [value / PADE[0] for value in PADE]
    odd = a6 @ (c[13] * a6 + c[11] * a4 + c[9] * a2)
    odd = a @ (odd + c[7] * a6 + c[5] * a4 + c[3] * a2 + c[1] * one)
    even = a6 @ (c[12] * a6 + c[10] * a4 + c[8] * a2)
    even = even + c[6] * a6 + c[4] * a4 + c[2] * a2 + c[0] * one
    result = np.linalg.solve(even - odd, even + odd)
    for step in range(int(squarings.max(initial=0))):
        more = (squarings > step)[..., None, None]
        result = np.where(more, result @ result, result)
    return result.astype(x.dtype)


def _exponential_gradient(b: Any, g: Any, x: Any) -> Any:
    """The derivative of exp at x^T in the direction g: the upper right block of
    exp([[x^T, g], [0, x^T]]) (N. J. Higham, "Functions of matrices", 2008, theorem 3.6)."""
    n, rank = x.type.shape[-1], x.type.rank
    t = transposed(b, x)

    def placed(block: Any, row: int, column: int) -> Any:
        none = (0,) * (rank - 2)
        return b.pad(
            block,
            low=(*none, row * n, column * n),
            high=(*none, (1 - row) * n, (1 - column) * n),
            interior=(0,) * rank,
            value=0.0,
        )

    blocks = b.add(b.add(placed(t, 0, 0), placed(t, 1, 1)), placed(g, 0, 1))
    whole = b.matrix_exp(blocks)
    lead = x.type.shape[:-2]
    return b.slice(
        whole,
        starts=(*(0,) * len(lead), 0, n),
        stops=(*lead, n, 2 * n),
        steps=(1,) * rank,
    )


matrix_exp = declare_host(
    "matrix_exp",
    "x",
    infer=square("matrix_exp"),
    evaluate=_exponential,
    gradients={"x": _exponential_gradient},
    complex=True,
    doc="The exponential of square matrices: the sum of x ** k / k!.",
)

# Pivoted Cholesky ---------------------------------------------------------------------------------


def _pivoted_types(x: TensorType, *, tolerance: float) -> tuple[TensorType, ...]:
    check_square("pstrf", x)
    return x, x.with_shape(x.shape[:-1]).with_dtype(i32)


def _pivoted(x: np.ndarray, *, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    factors = np.zeros_like(x)
    pivots = np.empty(x.shape[:-1], np.int32)
    for place in np.ndindex(x.shape[:-2]):
        _pivot_one(x[place].copy(), factors[place], pivots[place], tolerance)
    return factors, pivots


def _pivot_one(a: np.ndarray, u: np.ndarray, pivots: np.ndarray, tolerance: float) -> None:
    """Rows of the upper factor, each for the largest diagonal element that is left."""
    n = len(a)
    order = np.arange(n)
    diagonal = np.diagonal(a).copy()
    a = np.triu(a) + np.triu(a, 1).T
    least = tolerance
    if tolerance < 0:
        least = n * np.finfo(a.dtype).eps * float(diagonal.max(initial=0.0))
    for k in range(n):
        p = k + int(np.argmax(diagonal[order[k:]]))
        if not diagonal[order[p]] > least:
            break
        order[[k, p]] = order[[p, k]]
        u[:, [k, p]] = u[:, [p, k]]
        root = np.sqrt(diagonal[order[k]])
        u[k, k] = root
        rest = order[k + 1 :]
        u[k, k + 1 :] = (a[order[k], rest] - u[:k, k] @ u[:k, k + 1 :]) / root
        diagonal[rest] -= u[k, k + 1 :] ** 2
    pivots[:] = order


pstrf = declare_host(
    "pstrf",
    "x",
    infer=_pivoted_types,
    evaluate=_pivoted,
    attributes={"tolerance": float},
    results="out pivots",
    doc="""The upper triangular u and the pivots (from 0) with u^T @ u = x[pivots][:, pivots] for
symmetric positive semidefinite matrices, whose upper triangle is read, as LAPACK's pstrf. Rows
whose pivot is not above the tolerance (if negative: n * epsilon * the largest diagonal element)
are zeros.""",
)
