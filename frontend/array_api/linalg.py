"""The array API standard's extension for linear algebra: `x.__array_namespace__().linalg`."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

from braze import linalg as own
from braze.array_api.adapters import matrix_transpose
from braze.array_api.elementwise import axis_of, matmul, tensordot, vecdot
from braze.array_api.operands import together
from braze.array_api.reductions import wide_dtype
from braze.functions import movement, pointwise, reductions, views
from braze.functions.complex_numbers import conj
from braze.functions.promotion import cast
from braze.ir.dtypes import DType, i64
from braze.tensors import Tensor

__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]

EighResult = namedtuple("EighResult", "eigenvalues eigenvectors")
QRResult = namedtuple("QRResult", "Q R")
SlogdetResult = namedtuple("SlogdetResult", "sign logabsdet")
SVDResult = namedtuple("SVDResult", "U S Vh")


def cholesky(x: Tensor, /, *, upper: bool = False) -> Tensor:
    """The triangular L with L @ L^H = x, or U with U^H @ U = x, of positive definite matrices."""
    return own.cholesky(x, upper=upper)


def cross(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Cross products along a dimension of size 3, which is not broadcast.

    Raises:
        ValueError: it has another size.
    """
    first, second = axis_of(x1, x2, axis, "cross")
    if x1.shape[first] != 3:
        raise ValueError(f"cross(): axis {axis} of {list(x1.shape)} is not of size 3")
    a, b = together(movement.movedim(x1, first, -1), movement.movedim(x2, second, -1))
    return movement.movedim(own.cross(a, b, dim=-1), -1, axis)


def det(x: Tensor, /) -> Tensor:
    """The determinants of square matrices."""
    return own.det(x)


def diagonal(x: Tensor, /, *, offset: int = 0) -> Tensor:
    """A diagonal of each matrix, `offset` places above the main one."""
    return views.diagonal(x, offset, -2, -1)


def eigh(x: Tensor, /) -> Any:
    """Eigenvalues, ascending, and eigenvectors of symmetric or Hermitian matrices."""
    return EighResult(*own.eigh(x))


def eigvalsh(x: Tensor, /) -> Tensor:
    """The eigenvalues of symmetric or Hermitian matrices, ascending."""
    return own.eigvalsh(x)


def inv(x: Tensor, /) -> Tensor:
    """The inverses of square matrices."""
    return own.inv(x)


def matrix_norm(x: Tensor, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """A norm of each matrix: "fro", "nuc", 1, -1, 2, -2, inf, -inf."""
    return own.matrix_norm(x, ord, keepdim=keepdims)


def matrix_power(x: Tensor, n: int, /) -> Tensor:
    """Square matrices raised to a whole power."""
    return own.matrix_power(x, n)


def matrix_rank(x: Tensor, /, *, rtol: float | Tensor | None = None) -> Tensor:
    """How many singular values of each matrix are above rtol times the largest."""
    if not isinstance(rtol, Tensor):
        return own.matrix_rank(x, rtol=rtol)
    values = own.svdvals(x)
    limit = reductions.amax(values, -1, True) * movement.unsqueeze(rtol, -1)
    return reductions.sum(values > limit, -1, dtype=i64)


def outer(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The products of each element of one vector with each of the other."""
    a, b = together(x1, x2)
    return pointwise.mul(movement.reshape(a, (-1, 1)), movement.reshape(b, (1, -1)))


def pinv(x: Tensor, /, *, rtol: float | Tensor | None = None) -> Tensor:
    """Pseudo-inverses; singular values up to rtol times the largest count as zero."""
    if not isinstance(rtol, Tensor):
        return own.pinv(x, rtol=rtol)
    u, s, vh = own.svd(x, full_matrices=False)
    limit = reductions.amax(s, -1, True) * movement.unsqueeze(rtol, -1)
    large = s > limit
    reciprocal = pointwise.where(large, 1 / pointwise.where(large, s, 1), 0)
    scaled = conj(matrix_transpose(vh)) * movement.unsqueeze(reciprocal, -2)
    return matmul(scaled, conj(matrix_transpose(u)))


def qr(x: Tensor, /, *, mode: str = "reduced") -> Any:
    """An orthonormal and a triangular factor.

    Raises:
        ValueError: the mode is neither "reduced" nor "complete".
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr(): mode must be 'reduced' or 'complete', given {mode!r}")
    return QRResult(*own.qr(x, mode))


def slogdet(x: Tensor, /) -> Any:
    """Signs and logarithms of magnitudes of determinants."""
    return SlogdetResult(*own.slogdet(x))


def solve(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The X with x1 @ X = x2. x2 is a vector only if it has one dimension."""
    a, b = together(x1, x2)
    if b.ndim == 1:
        return movement.squeeze(own.solve(a, movement.unsqueeze(b, -1)), -1)
    if a.ndim - 1 == b.ndim:  # so that it is not taken for a batch of vectors
        return own.solve(a, movement.unsqueeze(b, 0))
    return own.solve(a, b)


def svd(x: Tensor, /, *, full_matrices: bool = True) -> Any:
    """Singular vectors and values: x = U @ diag(S) @ Vh."""
    return SVDResult(*own.svd(x, full_matrices))


def svdvals(x: Tensor, /) -> Tensor:
    """The singular values, descending."""
    return own.svdvals(x)


def trace(x: Tensor, /, *, offset: int = 0, dtype: DType | None = None) -> Tensor:
    """The sum over a diagonal of each matrix."""
    kind = dtype or wide_dtype(x.dtype)
    return reductions.sum(cast(diagonal(x, offset=offset), kind), -1, dtype=kind)


def vector_norm(
    x: Tensor,
    /,
    *,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    ord: float = 2,
) -> Tensor:
    """The p-norm over dimensions, all by default."""
    return own.vector_norm(x, ord, axis if axis is None or isinstance(axis, int) else tuple(axis),
                           keepdims)  # fmt: skip
