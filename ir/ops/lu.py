"""LU factors, which NumPy has no call for: written out on its arrays.

The blocked algorithm is that of G. H. Golub and C. F. Van Loan, "Matrix Computations", sections
3.2 and 3.4. LU's gradient: M. Seeger et al., "Auto-differentiating linear algebra", 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.dtypes import i32, i64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.ops.host_rules import check_matrices, declare_host, lower, transposed, upper
from braze.ir.types import TensorType

PANEL = 32

# LU -----------------------------------------------------------------------------------------------


def _lu_types(x: TensorType) -> tuple[TensorType, ...]:
    check_matrices("lu_factor", x)
    *batch, m, n = x.shape
    return x, x.with_shape((*batch, min(m, n))).with_dtype(i32)


def _lu_factor(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lu = x.copy()
    *batch, m, n = x.shape
    pivots = np.empty((*batch, min(m, n)), np.int32)
    for place in np.ndindex(*batch):
        _factor_one(lu[place], pivots[place])
    return lu, pivots


def _factor_one(a: np.ndarray, pivots: np.ndarray) -> None:
    """Partial pivoting in panels of columns, in place."""
    n = a.shape[1]
    for start in range(0, len(pivots), PANEL):
        stop = min(start + PANEL, len(pivots))
        for j in range(start, stop):
            p = j + int(np.argmax(np.abs(a[j:, j])))
            pivots[j] = p + 1
            if p != j:
                a[[j, p]] = a[[p, j]]
            if a[j, j] != 0:
                a[j + 1 :, j] /= a[j, j]
                a[j + 1 :, j + 1 : stop] -= np.outer(a[j + 1 :, j], a[j, j + 1 : stop])
        if stop < n:
            unit = np.tril(a[start:stop, start:stop], -1) + np.eye(stop - start, dtype=a.dtype)
            a[start:stop, stop:] = np.linalg.solve(unit, a[start:stop, stop:])
            a[stop:, stop:] -= a[stop:, start:stop] @ a[start:stop, stop:]


def _lu_gradient(b: Any, g_lu: Any, lu: Any, pivots: Any) -> Any:
    m, n = lu.type.shape[-2:]
    if m != n:
        raise RuntimeError("[lu_factor] only square matrices have a gradient")
    t = transposed(b, lu)
    # tril(L^T g_L, -1) + triu(g_U U^T); the other triangles of lu are masked before.
    rows = b.iota(shape=(n, n), dim=0, dtype=i64)
    columns = b.iota(shape=(n, n), dim=1, dtype=i64)
    l_t = b.where(b.eq(rows, columns), 1.0, upper(b, t))
    inner_l = lower(b, b.matmul(l_t, lower(b, g_lu, strict=True)), strict=True)
    u_t = lower(b, t)
    inner_u = upper(b, b.matmul(upper(b, g_lu), u_t))
    inner = b.add(inner_l, inner_u)
    left = b.triangular_solve(t, inner, upper=True, unitriangular=True)
    # Y = left U^-T, that is U Y^T = left^T.
    right = b.triangular_solve(lu, transposed(b, left), upper=True, unitriangular=False)
    order = b.lu_permutation(pivots, size=n, inverse=True)
    shape = lu.type.shape
    index = b.expand(b.reshape(order, shape=(*shape[:-1], 1)), shape=shape)
    return b.take_along(transposed(b, right), index, dim=len(shape) - 2)


lu_factor = declare_host(
    "lu_factor",
    "x",
    infer=_lu_types,
    evaluate=_lu_factor,
    gradients={"x": _lu_gradient},
    results="lu pivots",
    doc="""LU factors with partial pivoting, packed into one matrix: below the diagonal l (its ones
are not stored), from it on u. Row i was swapped with row pivots[i] - 1 in turn. A singular matrix
has zeros on u's diagonal.""",
)


def _permutation_types(pivots: TensorType, *, size: int, inverse: bool) -> tuple[TensorType, ...]:
    if pivots.dtype is not i32 or pivots.rank == 0:
        raise DTypeError(f"[lu_permutation] pivots must be int32 vectors, given {pivots}")
    if pivots.shape[-1] > size:
        raise ShapeError(f"[lu_permutation] {pivots} are too many pivots for {size} rows")
    return (pivots.with_shape((*pivots.shape[:-1], size)).with_dtype(i64),)


def _lu_permutation(pivots: np.ndarray, *, size: int, inverse: bool) -> np.ndarray:
    batch = pivots.shape[:-1]
    order = np.broadcast_to(np.arange(size, dtype=np.int64), (*batch, size)).copy()
    for place in np.ndindex(*batch):
        own = order[place]
        for i, p in enumerate(pivots[place]):
            if not 1 <= p <= size:
                raise ValueError(f"[lu_permutation] pivot {p} is not a row of {size}")
            own[i], own[p - 1] = own[p - 1], own[i]
    return np.argsort(order, -1) if inverse else order


lu_permutation = declare_host(
    "lu_permutation",
    "pivots",
    infer=_permutation_types,
    evaluate=_lu_permutation,
    attributes={"size": int, "inverse": bool},
    doc="The order of rows p that the swaps of `lu_factor` make, x[p] = l @ u; or its inverse.",
)
