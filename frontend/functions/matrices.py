"""What the functions of linear algebra share: checks, triangles, diagonals, named results."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.complex_numbers import conj
from braze.functions.movement import expand, permute, reshape, slice_dimension, transpose
from braze.functions.pointwise import where
from braze.functions.promotion import cast, scalar
from braze.ir.dtypes import DType, i64
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.tensors import Tensor, apply


class Decomposition(NamedTuple):
    """What `qr` gives."""

    Q: Tensor
    R: Tensor


class SVD(NamedTuple):
    """What `svd` gives: x = U @ diag(S) @ V^H."""

    U: Tensor
    S: Tensor
    V: Tensor


class Eigen(NamedTuple):
    """Eigenvalues and eigenvectors (columns)."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SignAndLogarithm(NamedTuple):
    """What `slogdet` gives."""

    sign: Tensor
    logabsdet: Tensor


class Solution(NamedTuple):
    """What `gesv` and `solve` give: the solution, and the matrix' LU factors."""

    solution: Tensor
    LU: Tensor


class TriangularSolution(NamedTuple):
    """What `triangular_solve` gives."""

    solution: Tensor
    cloned_coefficient: Tensor


class LeastSquares(NamedTuple):
    """What `gels` gives."""

    solution: Tensor
    QR: Tensor


class Reflectors(NamedTuple):
    """What `geqrf` gives."""

    a: Tensor
    tau: Tensor


class PivotedCholesky(NamedTuple):
    """x[pivots][:, pivots] = u^T @ u."""

    u: Tensor
    pivots: Tensor


class LU(NamedTuple):
    """Packed LU factors and the rows that were swapped."""

    LU: Tensor
    pivots: Tensor


class UnpackedLU(NamedTuple):
    """x = P @ L @ U."""

    P: Tensor
    L: Tensor
    U: Tensor


def call_host(name: str, *operands: Tensor, **attributes: Any) -> Any:
    """Capture an operation by its name."""
    require_tensors(name, *operands)
    return apply(call_of(op_named(name), **attributes), *operands)


def swapped(x: Tensor) -> Tensor:
    """The last two dimensions swapped."""
    return transpose(x, -2, -1)


def adjoint_of(x: Tensor) -> Tensor:
    """The last two dimensions swapped, conjugated."""
    return conj(transpose(x, -2, -1))


def _ramp(shape: tuple[int, ...], dim: int) -> Tensor:
    ramp: Tensor = apply(call_of(op_named("iota"), shape=shape, dim=dim, dtype=i64))
    return ramp


def identity(n: int, m: int, dtype: DType) -> Tensor:
    """An n x m matrix with ones on the diagonal."""
    return cast(_ramp((n, m), 0) == _ramp((n, m), 1), dtype)


def lower_triangle(x: Tensor, *, strict: bool = False) -> Tensor:
    """The elements on and below the diagonal (only below, if `strict`); zero elsewhere."""
    shape = x._handle.type.shape[-2:]
    rows, columns = _ramp(shape, 0), _ramp(shape, 1)
    return where(rows > columns if strict else rows >= columns, x, scalar(0, x.dtype))


def upper_triangle(x: Tensor) -> Tensor:
    """The elements on and above the diagonal; zero elsewhere."""
    shape = x._handle.type.shape[-2:]
    return where(_ramp(shape, 0) <= _ramp(shape, 1), x, scalar(0, x.dtype))


def take_diagonal(x: Tensor, first: int = -2, second: int = -1) -> Tensor:
    """The diagonal of two dimensions, as the last dimension."""
    first, second = first % x.ndim, second % x.ndim
    shape = x._handle.type.shape
    rest = [d for d in range(x.ndim) if d not in (first, second)]
    n = min(shape[first], shape[second])
    x = permute(x, [*rest, first, second])
    for dim in (len(rest), len(rest) + 1):
        if x._handle.type.shape[dim] != n:
            x = slice_dimension(x, dim, 0, n, 1)
    flat = reshape(x, [*(shape[d] for d in rest), n * n])
    return slice_dimension(flat, len(rest), 0, n * n, n + 1) if n > 1 else flat


def common_batch(name: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two matrices with their batch dimensions broadcast against each other."""
    if x.ndim < 2 or y.ndim < 2:
        return x, y
    a, b = x._handle.type, y._handle.type
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ShapeError(f"[{name}] batches do not broadcast: {a} and {b}") from None
    if a.shape[:-2] != batch:
        x = expand(x, (*batch, *a.shape[-2:]))
    if b.shape[:-2] != batch:
        y = expand(y, (*batch, *b.shape[-2:]))
    return x, y


def scaled_sum(
    name: str, input: Tensor, product: Tensor, beta: float, alpha: float
) -> Tensor:
    """beta * input + alpha * product; the input broadcasts to the product, and with beta 0 is not
    read."""
    require_tensors(name, input)
    own, wanted = input._handle.type, product._handle.type
    lead = wanted.rank - own.rank
    if lead < 0 or any(
        a not in (1, n) for a, n in zip(own.shape, wanted.shape[lead:], strict=True)
    ):
        raise ShapeError(f"[{name}] {own} does not expand to {list(wanted.shape)}")
    if not wanted.dtype.is_differentiable:
        if name == "addr" and (isinstance(alpha, float) or isinstance(beta, float)):
            raise RuntimeError(
                f"{name}(): for integral tensors, alpha and beta must not be floating point numbers"
            )
        alpha, beta = int(alpha), int(beta)
    if alpha != 1:
        product = product * alpha
    if beta == 0:
        return product
    return product + (input if beta == 1 else input * beta)


def with_leading_factors(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Accept PyTorch 1.0's order too, ``addmm(beta, input, alpha, mat1, mat2)``: numbers among the
    positional arguments are beta and alpha."""

    @wraps(function)
    def accepting(*args: Any, **kwargs: Any) -> Tensor:
        factors = [a for a in args if isinstance(a, (int, float))]
        if not factors:
            return function(*args, **kwargs)
        named = dict(zip(("beta", "alpha"), factors, strict=False))
        if len(factors) > 2 or named.keys() & kwargs.keys():
            raise TypeError(f"{function.__name__}(): beta and alpha are given twice")
        rest = [a for a in args if not isinstance(a, (int, float))]
        return function(*rest, **kwargs, **named)

    return accepting


def empty_like_type(dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """Zeros, as a placeholder for a result that was not asked for."""
    zeros: Tensor = expand(scalar(0, dtype), shape)
    return zeros


def epsilon(dtype: DType) -> float:
    """The distance from 1 to the next larger number."""
    return float(np.finfo(dtype.numpy).eps)
