"""What the operations of category "host" share: their declaration, type rules, and the steps of
their gradients.

All take matrices in the last two dimensions, float32 or float64, and any number of batch
dimensions before them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from braze.ir.dtypes import f32, f64, i64
from braze.ir.errors import DTypeError, LinAlgError, ShapeError
from braze.ir.op import AttributeKind, Op, Rule, declare
from braze.ir.ops.rules import common_device, common_dtype
from braze.ir.types import TensorType

Evaluate = Callable[..., Any]


def declare_host(
    name: str,
    operands: str,
    *,
    infer: Callable[..., tuple[TensorType, ...]],
    evaluate: Evaluate,
    gradients: Mapping[str, Rule] | None = None,
    attributes: Mapping[str, AttributeKind] | None = None,
    results: str = "out",
    fault: str = "the algorithm did not converge",
    doc: str,
) -> Op:
    """Declare an operation that NumPy runs, within compiled code too.

    Args:
        fault: what it means that NumPy raises its LinAlgError.
    """

    def checked(*arrays: np.ndarray, **settings: Any) -> Any:
        with np.errstate(all="ignore"):
            try:
                return evaluate(*arrays, **settings)
            except np.linalg.LinAlgError:
                place = _first_fault(evaluate, arrays, settings)
                raise LinAlgError(f"[{name}] {place}{fault}") from None

    return declare(
        name,
        "host",
        operands,
        infer=infer,
        evaluate=checked,
        gradients=gradients,
        differentiable=bool(gradients),
        attributes=attributes,
        results=results,
        doc=doc,
    )


def _first_fault(evaluate: Evaluate, arrays: tuple[np.ndarray, ...], settings: Any) -> str:
    """Which matrix of a batch is at fault, as a prefix of the message."""
    batch = arrays[0].shape[:-2]
    for number, place in enumerate(np.ndindex(*batch)):
        try:
            evaluate(*(array[place] for array in arrays), **settings)
        except np.linalg.LinAlgError:
            return f"(batch element {number}) " if batch else ""
    return ""


# Type rules ---------------------------------------------------------------------------------------


def check_matrices(name: str, *types: TensorType) -> None:
    """Operands are matrices of one floating-point dtype that LAPACK has.

    Raises:
        ShapeError: fewer than two dimensions. DTypeError: another dtype, or different ones.
    """
    for x in types:
        if x.rank < 2:
            raise ShapeError(f"[{name}] needs a tensor of at least 2 dimensions, given {x}")
        if x.dtype not in (f32, f64):
            raise DTypeError(f"[{name}] needs float32 or float64, given {x}")
    common_dtype(name, *types)
    common_device(name, *types)


def check_square(name: str, x: TensorType) -> None:
    """An operand is a square matrix, or a batch of them."""
    check_matrices(name, x)
    if x.shape[-1] != x.shape[-2]:
        raise ShapeError(
            f"[{name}] needs square matrices, given {x} ({x.shape[-2]} != {x.shape[-1]})"
        )


def square(name: str) -> Callable[..., tuple[TensorType, ...]]:
    """Rule: a square matrix gives another of its type."""

    def infer(x: TensorType, **_: Any) -> tuple[TensorType, ...]:
        check_square(name, x)
        return (x,)

    return infer


def system(name: str) -> Callable[..., tuple[TensorType, ...]]:
    """Rule: a square matrix and right-hand sides of equal batch give solutions."""

    def infer(a: TensorType, b: TensorType, **_: Any) -> tuple[TensorType, ...]:
        check_square(name, a)
        check_matrices(name, a, b)
        if a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2]:
            raise ShapeError(f"[{name}] matrix {a} and right-hand side {b} do not fit each other")
        return (b,)

    return infer


# Steps of gradients; b is a builder, x a value ----------------------------------------------------


def transposed(b: Any, x: Any) -> Any:
    """The last two dimensions swapped."""
    rank = x.type.rank
    return b.permute(x, dims=(*range(rank - 2), rank - 1, rank - 2))


def symmetrised(b: Any, x: Any) -> Any:
    """(x + x^T) / 2."""
    return b.mul(b.add(x, transposed(b, x)), 0.5)


def _ramps(b: Any, x: Any) -> tuple[Any, Any]:
    shape = x.type.shape[-2:]
    return b.iota(shape=shape, dim=0, dtype=i64), b.iota(shape=shape, dim=1, dtype=i64)


def lower(b: Any, x: Any, *, strict: bool = False) -> Any:
    """The lower triangle, with or without its diagonal; zero elsewhere."""
    rows, columns = _ramps(b, x)
    return b.where(b.gt(rows, columns) if strict else b.ge(rows, columns), x, 0.0)


def upper(b: Any, x: Any, *, strict: bool = False) -> Any:
    """The upper triangle, with or without its diagonal; zero elsewhere."""
    rows, columns = _ramps(b, x)
    return b.where(b.lt(rows, columns) if strict else b.le(rows, columns), x, 0.0)


def add_diagonal(b: Any, x: Any, diagonal: Any) -> Any:
    """x + diag(diagonal), for x [..., n, n] and diagonal [..., n]."""
    rows, columns = _ramps(b, x)
    return b.add(x, b.where(b.eq(rows, columns), as_row(b, diagonal), 0.0))


def as_row(b: Any, x: Any) -> Any:
    """[..., n] to [..., 1, n]."""
    return b.reshape(x, shape=(*x.type.shape[:-1], 1, x.type.shape[-1]))


def as_column(b: Any, x: Any) -> Any:
    """[..., n] to [..., n, 1]."""
    return b.reshape(x, shape=(*x.type.shape, 1))


def as_factor(b: Any, x: Any) -> Any:
    """[...] to [..., 1, 1]."""
    return b.reshape(x, shape=(*x.type.shape, 1, 1))


def safe_reciprocal(b: Any, x: Any) -> Any:
    """1 / x, and 0 where x is 0."""
    zero = b.eq(x, 0.0)
    return b.where(zero, 0.0, b.div(1.0, b.where(zero, 1.0, x)))


def differences(b: Any, x: Any) -> Any:
    """1 / (x_k - x_j) at [..., j, k], and 0 where the two are equal."""
    return safe_reciprocal(b, b.sub(as_row(b, x), as_column(b, x)))
