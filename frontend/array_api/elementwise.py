"""Elementwise functions and products in the array API standard's signatures and promotion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from braze.array_api.operands import together
from braze.functions import complex_numbers, elementwise, linalg, movement, pointwise
from braze.functions.promotion import cast, result_type, scalar
from braze.ir.dtypes import DType, bool_
from braze.tensors import Tensor

FUNCTIONS: dict[str, Callable[..., Any]] = {}

# The standard's name: PyTorch's.
_ONE: dict[str, str] = {
    **{
        name: name
        for name in (
            "abs acos acosh asin asinh atan atanh cos cosh exp expm1 isfinite isinf isnan log "
            "log1p log2 log10 logical_not reciprocal signbit sin sinh sqrt square tan tanh"
        ).split()
    },
    "bitwise_invert": "bitwise_not",
    "negative": "neg",
}
_TWO: dict[str, str] = {
    **{
        name: name
        for name in (
            "add bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor "
            "copysign floor_divide hypot logaddexp maximum minimum nextafter pow remainder"
        ).split()
    },
    "divide": "div",
    "equal": "eq",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "multiply": "mul",
    "not_equal": "ne",
    "subtract": "sub",
}
_TRUTH = {
    "logical_and": pointwise.bitwise_and,
    "logical_or": pointwise.bitwise_or,
    "logical_xor": pointwise.bitwise_xor,
}


def _standard(function: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name or function.__name__
    FUNCTIONS[function.__name__] = function
    return function


def _own(name: str) -> Callable[..., Tensor]:
    """The package's function of PyTorch's name."""
    found = vars(pointwise).get(name) or pointwise.UNARY.get(name) or elementwise.functions()[name]
    return found  # type: ignore[no-any-return]


def _unary(name: str, function: Callable[..., Tensor]) -> None:
    def unary(x: Tensor, /) -> Tensor:
        return function(x)

    unary.__doc__ = function.__doc__
    _standard(unary, name)


def _binary(name: str, function: Callable[..., Tensor]) -> None:
    def binary(x1: Any, x2: Any, /) -> Tensor:
        return function(*together(x1, x2))

    binary.__doc__ = function.__doc__
    _standard(binary, name)


def _rounding(name: str) -> None:
    function = pointwise.UNARY[name]

    def rounded(x: Tensor, /) -> Tensor:
        if not x.dtype.is_complex:
            return function(x) if x.dtype.is_floating_point else movement.clone(x)
        if name != "round":
            raise TypeError(f"{name}(): needs a real tensor, given {x.dtype!r}")
        parts = function(complex_numbers.real(x)), function(complex_numbers.imag(x))
        return complex_numbers.complex(*parts)

    rounded.__doc__ = function.__doc__
    _standard(rounded, name)


def _logical(name: str, function: Callable[[Any, Any], Tensor]) -> None:
    def logical(x1: Any, x2: Any, /) -> Tensor:
        a, b = (cast(x, bool_) if isinstance(x, Tensor) else bool(x) for x in (x1, x2))
        return function(a, b)

    logical.__doc__ = f"Elementwise {name[8:]} of truth values."
    _standard(logical, name)


for _name, _target in _ONE.items():
    _unary(_name, _own(_target))
for _name, _target in _TWO.items():
    _binary(_name, _own(_target))
for _name in ("ceil", "floor", "round", "trunc"):
    _rounding(_name)
for _name, _function in _TRUTH.items():
    _logical(_name, _function)


@_standard
def atan2(x1: Any, x2: Any, /) -> Tensor:
    """The angle of the point (x2, x1), between -pi and pi; one may be a number."""
    given = together(x1, x2)
    dtype = result_type(*given)
    return pointwise.atan2(*[x if isinstance(x, Tensor) else scalar(x, dtype) for x in given])


@_standard
def sign(x: Tensor, /) -> Tensor:
    """-1, 0 or 1, and nan for nan; of a complex number x / |x|, and 0 at 0."""
    found = complex_numbers.sgn(x)
    return pointwise.where(pointwise.ne(x, x), x, found) if x.dtype.is_floating_point else found


@_standard
def positive(x: Tensor, /) -> Tensor:
    """The tensor itself, as a new one."""
    return movement.clone(x)


@_standard
def clip(x: Tensor, /, min: Any = None, max: Any = None) -> Tensor:
    """Limit the elements to [min, max]; the dtype stays.

    The bounds of integers are Python integers or tensors of integers; they may lie beyond what the
    dtype holds.
    """
    if min is None and max is None:
        return movement.clone(x)
    return cast(pointwise.clamp(x, min, max), x.dtype)


@_standard
def where(condition: Tensor, x1: Any, x2: Any, /) -> Tensor:
    """Elements of x1 where the condition holds, else of x2."""
    result: Tensor = pointwise.where(condition, *together(x1, x2))
    return result


# Products ----------------------------------------------------------------------------------------


@_standard
def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The product of matrices, or of stacks of them.

    Raises:
        ShapeError: the inner sizes differ, or an operand has no dimensions.
    """
    return linalg.matmul(*together(x1, x2))


def axis_of(x1: Tensor, x2: Tensor, axis: int, name: str) -> tuple[int, int]:
    """A negative axis as a dimension of either tensor.

    Raises:
        ValueError: their sizes along it differ.
    """
    places = axis % x1.ndim, axis % x2.ndim
    sizes = x1.shape[places[0]], x2.shape[places[1]]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{name}(): the sizes along axis {axis} differ: {list(x1.shape)} and {list(x2.shape)}"
        )
    return places


@_standard
def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """The sum of products along a dimension, of the conjugates of x1; the others are broadcast.

    Raises:
        ValueError: the sizes along the axis differ. IndexError: a tensor has not so many
            dimensions.
    """
    for x in (x1, x2):
        if not -x.ndim <= axis < x.ndim:
            raise IndexError(f"vecdot(): axis {axis} is out of range for {list(x.shape)}")
    first, second = axis_of(x1, x2, axis, "vecdot")
    a, b = together(movement.movedim(x1, first, -1), movement.movedim(x2, second, -1))
    a = a.conj() if a.dtype.is_complex else a
    return cast((a * b).sum(-1), a.dtype)


@_standard
def tensordot(
    x1: Tensor, x2: Tensor, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2
) -> Tensor:
    """The sum of products over pairs of dimensions: the last and first `axes`, or those named."""
    if isinstance(axes, int):
        left, right = list(range(x1.ndim - axes, x1.ndim)), list(range(axes))
    else:
        left, right = ([a % x.ndim for a in ax] for ax, x in zip(axes, (x1, x2), strict=True))
    rows = [d for d in range(x1.ndim) if d not in left]
    columns = [d for d in range(x2.ndim) if d not in right]
    a, b = together(x1, x2)
    dtype: DType = a.dtype
    inner = math.prod(x1.shape[d] for d in left)
    a = movement.reshape(movement.permute(a, [*rows, *left]),
                         (math.prod(x1.shape[d] for d in rows), inner))  # fmt: skip
    b = movement.reshape(movement.permute(b, [*right, *columns]),
                         (inner, math.prod(x2.shape[d] for d in columns)))  # fmt: skip
    sizes = [*(x1.shape[d] for d in rows), *(x2.shape[d] for d in columns)]
    return movement.reshape(cast(linalg.matmul(a, b), dtype), sizes)
