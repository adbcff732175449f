"""What the operations of category "host" share: their declaration, type rules, and the steps of
their gradients.

Those of linear algebra take matrices in the last two dimensions, float32, float64 or complex, and
any number of batch dimensions before them.

Compiled code knows no complex numbers: an operation that takes or gives some has a twin,
`<name>_pairs`, whose complex operands and results are real ones with a last dimension of size 2.
What the twin means, and its types, follow from the operation.

Gradient rules that only hold complex linear steps are those of real operands (see `braze.ir.op`).
The others are written with the gradient that the user sees, `seen`, and adjoints, as the literature
has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from braze.ir.dtypes import COMPLEX, f32, f64, i64
from braze.ir.errors import DTypeError, LinAlgError, ShapeError
from braze.ir.op import AttributeKind, Op, Rule, declare
from braze.ir.ops.rules import common_dtype
from braze.ir.types import TensorType, tensor_type

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
    complex: bool = False,
    doc: str,
) -> Op:
    """Declare an operation that NumPy runs, within compiled code too.

    Args:
        fault: what it means that NumPy raises its LinAlgError.
        complex: there can be complex operands or results.
    """

    def checked(*arrays: np.ndarray, **settings: Any) -> Any:
        with np.errstate(all="ignore"):
            try:
                return evaluate(*arrays, **settings)
            except np.linalg.LinAlgError:
                place = _first_fault(evaluate, arrays, settings)
                raise LinAlgError(f"[{name}] {place}{fault}") from None

    op = declare(
        name,
        "host",
        operands,
        infer=infer,
        evaluate=checked,
        gradients=gradients,
        differentiable=bool(gradients),
        attributes=attributes,
        results=results,
        complex=complex,
        autocast="f32",  # NumPy has no 16-bit form of any
        doc=doc,
    )
    if complex:
        op.complex = _declare_twin(op)
    return op


def _declare_twin(op: Op) -> Rule:
    """Declare what an operation is in compiled code; gives its rule for parts."""

    def infer(
        *types: TensorType, pairs: tuple[int, ...], **attributes: Any
    ) -> tuple[TensorType, ...]:
        given = tuple(
            _without_pairs(f"{op.name}_pairs", x) if i in pairs else x for i, x in enumerate(types)
        )
        return tuple(_with_pairs(x) for x in op.infer(*given, **attributes))

    def evaluate(*arrays: np.ndarray, pairs: tuple[int, ...], **attributes: Any) -> Any:
        assert op.evaluate is not None
        given = [as_complex(x) if i in pairs else x for i, x in enumerate(arrays)]
        found = op.evaluate(*given, **attributes)
        results = found if isinstance(found, tuple) else (found,)
        results = tuple(as_pairs(x) if np.iscomplexobj(x) else np.asarray(x) for x in results)
        return results if len(results) > 1 else results[0]

    twin = declare(
        f"{op.name}_pairs",
        "host",
        " ".join(op.operands),
        infer=infer,
        evaluate=evaluate,
        differentiable=False,
        attributes={**op.attributes, "pairs": tuple},
        results=" ".join(op.results),
        doc=f"`{op.name}` where the operands at the places `pairs`, or results, are complex: the "
        "last dimension holds real and imaginary part.",
    )

    def rule(b: Any, *operands: Any, **attributes: Any) -> Any:
        types = [x.type for x in operands]
        pairs = tuple(i for i, t in enumerate(types) if t.dtype.is_complex)
        given = [b.paired(x) if i in pairs else x for i, x in enumerate(operands)]
        found = getattr(b, twin.name)(*given, pairs=pairs, **attributes)
        listed = found if isinstance(found, tuple) else (found,)
        wanted = op.result_types(types, attributes)
        results = tuple(
            b.unpaired(x) if t.dtype.is_complex else x for x, t in zip(listed, wanted, strict=True)
        )
        return results if len(results) > 1 else results[0]

    return rule


def _without_pairs(name: str, x: TensorType) -> TensorType:
    if x.dtype not in (f32, f64):
        raise DTypeError(f"[{name}] real and imaginary part are float32 or float64, given {x}")
    if x.rank == 0 or x.shape[-1] != 2:
        raise ShapeError(f"[{name}] the last dimension must hold real and imaginary part: {x}")
    return tensor_type(x.dtype.to_complex(), x.shape[:-1])


def _with_pairs(x: TensorType) -> TensorType:
    if not x.dtype.is_complex:
        return x
    return tensor_type(x.dtype.to_real(), (*x.shape, 2))


def as_complex(x: np.ndarray) -> np.ndarray:
    """Pairs of floats as complex numbers."""
    wide = np.ascontiguousarray(x)
    return wide.view(np.complex64 if x.dtype == np.float32 else np.complex128)[..., 0]


def as_pairs(x: np.ndarray) -> np.ndarray:
    """Complex numbers as pairs of floats."""
    flat = np.ascontiguousarray(x).reshape(*np.shape(x), 1)
    return flat.view(flat.real.dtype)


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
    """Operands are matrices of one dtype that LAPACK has.

    Raises:
        ShapeError: fewer than two dimensions. DTypeError: another dtype, or different ones.
    """
    for x in types:
        if x.rank < 2:
            raise ShapeError(f"[{name}] needs a tensor of at least 2 dimensions, given {x}")
        if x.dtype not in (f32, f64, *COMPLEX):
            raise DTypeError(f"[{name}] needs float32, float64 or a complex dtype, given {x}")
    common_dtype(name, *types)


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


def seen(b: Any, x: Any) -> Any:
    """The conjugate, where there is one: from a rule's gradient to the user's and back."""
    return b.conj(x) if x.type.dtype.is_complex else x


def adjoint(b: Any, x: Any) -> Any:
    """The last two dimensions swapped, conjugated."""
    return seen(b, transposed(b, x))


def symmetrised(b: Any, x: Any) -> Any:
    """(x + x^H) / 2."""
    return b.mul(b.add(x, adjoint(b, x)), 0.5)


def like(b: Any, x: Any, other: Any) -> Any:
    """A real x in the dtype of another value, which may be complex."""
    return x if x.type.dtype is other.type.dtype else b.cast(x, dtype=other.type.dtype)


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


def only_diagonal(b: Any, x: Any) -> Any:
    """x with zeros outside of its diagonal."""
    rows, columns = _ramps(b, x)
    return b.where(b.eq(rows, columns), x, 0.0)


def diagonal_of(b: Any, x: Any) -> Any:
    """The diagonal of square matrices, [..., n]."""
    rank = x.type.rank
    return b.sum(only_diagonal(b, x), dims=(rank - 1,), keepdim=False)


def real_part(b: Any, x: Any) -> Any:
    """The real part of a complex value, a real one itself."""
    return b.real(x) if x.type.dtype.is_complex else x


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
