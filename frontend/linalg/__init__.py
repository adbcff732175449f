"""Linear algebra under the names of `torch.linalg`.

Matrices are the last two dimensions, any dimensions before them a batch. What LAPACK computes is
called from compiled code (see `braze.functions.decompositions`).
"""

from braze.functions.linalg import matmul
from braze.functions.products import matrix_power
from braze.ir.errors import LinAlgError
from braze.linalg.factorizations import (
    cholesky,
    det,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    householder_product,
    lu,
    lu_factor,
    qr,
    slogdet,
    svd,
    svdvals,
)
from braze.linalg.norms import cond, matrix_norm, matrix_rank, norm, vector_norm
from braze.linalg.systems import (
    cross,
    inv,
    lstsq,
    lu_solve,
    multi_dot,
    pinv,
    solve,
    solve_triangular,
    tensorinv,
    tensorsolve,
    vander,
    vecdot,
)

__all__ = [
    "LinAlgError",
    "cholesky",
    "cond",
    "cross",
    "det",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "householder_product",
    "inv",
    "lstsq",
    "lu",
    "lu_factor",
    "lu_solve",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensorinv",
    "tensorsolve",
    "vander",
    "vecdot",
    "vector_norm",
]
