"""Products of matrices and vectors."""

from __future__ import annotations

from braze.capture import call_of
from braze.casting import casting, casts_now
from braze.functions.arguments import require_tensors
from braze.functions.matrices import scaled_sum, with_leading_factors
from braze.functions.movement import reshape, unsqueeze
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import op_named
from braze.tensors import Tensor, apply

_MATMUL = call_of(op_named("matmul"))
_BMM = call_of(op_named("bmm"))
_CONTRACT = op_named("contract")


def _check_dtypes(name: str, input: Tensor, other: Tensor) -> None:
    require_tensors(name, input, other)
    if input.dtype is not other.dtype and not casts_now(input, other):
        raise DTypeError(
            f"[{name}] operands differ in dtype: {input._handle.type} and {other._handle.type}; "
            "convert one with .to()"
        )


def _check_ranks(name: str, ranks: tuple[int, ...], *operands: Tensor) -> None:
    for operand, rank in zip(operands, ranks, strict=True):
        if operand.ndim != rank:
            raise ShapeError(
                f"[{name}] expects operands with {ranks} dimensions, "
                f"given {', '.join(str(x._handle.type) for x in operands)}"
            )


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product, with PyTorch's rules for vectors and broadcast batches.

    Raises:
        ShapeError: the inner sizes differ. DTypeError: the dtypes differ.
    """
    try:
        alike = input._handle.type.dtype is other._handle.type.dtype
    except AttributeError:
        alike = False
    if not alike:
        _check_dtypes("matmul", input, other)
    return apply(_MATMUL, input, other)  # type: ignore[no-any-return]


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    _check_dtypes("mm", input, mat2)
    _check_ranks("mm", (2, 2), input, mat2)
    return apply(_MATMUL, input, mat2)  # type: ignore[no-any-return]


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices."""
    _check_dtypes("bmm", input, mat2)
    _check_ranks("bmm", (3, 3), input, mat2)
    return apply(_BMM, input, mat2)  # type: ignore[no-any-return]


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector."""
    _check_dtypes("mv", input, vec)
    _check_ranks("mv", (2, 1), input, vec)
    return apply(call_of(_CONTRACT, equation="mk,k->m"), input, vec)  # type: ignore[no-any-return]


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors."""
    _check_dtypes("dot", input, tensor)
    _check_ranks("dot", (1, 1), input, tensor)
    return apply(call_of(_CONTRACT, equation="k,k->"), input, tensor)  # type: ignore[no-any-return]


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The outer product of two vectors."""
    _check_ranks("outer", (1, 1), input, vec2)
    return unsqueeze(input, 1) * reshape(vec2, (1, -1))


@casting("lower")
@with_leading_factors
def addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta * input + alpha * mat1 @ mat2; the input broadcasts, and is not read if beta is 0."""
    return scaled_sum("addmm", input, mm(mat1, mat2), beta, alpha)
