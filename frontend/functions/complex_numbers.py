"""Complex numbers: making them, their parts as views, conjugates and polar form."""

from __future__ import annotations

import math
from typing import Any

from braze.capture import call_of
from braze.casting import casting
from braze.functions import pointwise
from braze.functions.promotion import cast, get_default_dtype, scalar
from braze.ir.dtypes import bool_, f32, f64
from braze.ir.op import op_named
from braze.strides import Layout
from braze.tensors import Tensor, apply, view_of
from braze.views import layout_of

_IMAG = call_of(op_named("imag"))
_AS_REAL, _AS_COMPLEX = call_of(op_named("view_as_real")), call_of(op_named("view_as_complex"))
_CONJ, _PHASE = call_of(op_named("conj")), call_of(op_named("phase"))
_ANGLE, _COMPLEX = call_of(op_named("angle")), call_of(op_named("complex"))


def _parts(name: str, first: Tensor, second: Tensor, words: tuple[str, str]) -> None:
    """Check two tensors of which a complex one is made.

    Raises:
        RuntimeError: they are not both float32 or both float64.
    """
    one, two = first.dtype, second.dtype
    if one not in (f32, f64) or two not in (f32, f64):
        raise RuntimeError(
            f"Expected both inputs to be Float or Double tensors but got {one!r} and {two!r} "
            f"in {name}({words[0]}, {words[1]})"
        )
    if one is not two:
        raise RuntimeError(
            f"Expected object of scalar type {one!r} but got scalar type {two!r} for argument "
            f"'{words[1]}' of {name}()"
        )


def complex(real: Tensor, imag: Tensor) -> Tensor:
    """real + i imag, broadcast; float32 gives complex64, float64 complex128.

    Raises:
        RuntimeError: the dtypes are others, or differ.
    """
    _parts("complex", real, imag, ("real", "imag"))
    return apply(_COMPLEX, real, imag)  # type: ignore[no-any-return]


@casting("f32")
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """abs (cos angle + i sin angle), broadcast; the dtypes are those of `complex`."""
    _parts("polar", abs, angle, ("abs", "angle"))
    sin, cos = pointwise.UNARY["sin"], pointwise.UNARY["cos"]
    return apply(  # type: ignore[no-any-return]
        _COMPLEX, pointwise.mul(abs, cos(angle)), pointwise.mul(abs, sin(angle))
    )


def view_as_real(input: Tensor) -> Tensor:
    """A view [..., 2] of complex numbers: real and imaginary parts as the last dimension.

    Raises:
        RuntimeError: the tensor is not complex.
    """
    if not input.dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return view_of(_AS_REAL, input)


@casting("f32")
def view_as_complex(input: Tensor) -> Tensor:
    """A view of pairs [..., 2] as complex numbers.

    Raises:
        RuntimeError: the dtype is not float32 or float64, the last dimension is not of size 2, or
            the two numbers of a pair do not lie side by side.
    """
    if input.dtype not in (f32, f64):
        raise RuntimeError(
            "view_as_complex is only supported for float and double tensors, but got a tensor of "
            f"scalar type: {input.dtype!r}"
        )
    if input.ndim == 0:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if input.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    strides, offset = layout_of(input) if input._base is not None else Layout((1,), 0)
    if strides[-1] != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(stride % 2 for stride in strides[:-1]):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    if offset % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    return view_of(_AS_COMPLEX, input)


def _part(input: Tensor, index: int) -> Tensor:
    pairs = view_of(_AS_REAL, input)
    return view_of(call_of(op_named("select"), dim=input.ndim, index=index), pairs)


def real(input: Tensor) -> Tensor:
    """The real parts, as a view; a real tensor is its own."""
    return _part(input, 0) if input.dtype.is_complex else input


def imag(input: Tensor) -> Tensor:
    """The imaginary parts, as a view.

    Raises:
        RuntimeError: the tensor is not complex.
    """
    if not input.dtype.is_complex:
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return _part(input, 1)


def conj(input: Tensor) -> Tensor:
    """The complex conjugates, in memory of their own; a real tensor is its own."""
    return apply(_CONJ, input) if input.dtype.is_complex else input


def conj_physical(input: Tensor) -> Tensor:
    """The complex conjugates, as `conj`."""
    return conj(input)


def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugates are computed, never only marked."""
    return input


def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: negatives are computed, never only marked."""
    return input


def is_conj(input: Tensor) -> bool:
    """Whether the tensor is marked to be conjugated: False, see `resolve_conj`."""
    return False


def is_neg(input: Tensor) -> bool:
    """Whether the tensor is marked to be negated: False, see `resolve_neg`."""
    return False


def angle(input: Tensor) -> Tensor:
    """The angle of the number's direction in radians, in (-pi, pi]; for real numbers 0 or pi (nan
    for nan)."""
    if input.dtype.is_complex:
        return apply(_ANGLE, input)  # type: ignore[no-any-return]
    x = input if input.dtype.is_floating_point else cast(input, get_default_dtype())
    half = scalar(math.pi, x.dtype)
    turned = pointwise.where(pointwise.lt(x, 0), half, scalar(0.0, x.dtype))
    return pointwise.where(pointwise.ne(x, x), x, turned)


def sgn(input: Tensor) -> Tensor:
    """x / |x|, and 0 at 0: `sign` for complex numbers."""
    if input.dtype.is_complex:
        return apply(_PHASE, input)  # type: ignore[no-any-return]
    return pointwise.UNARY["sign"](input)


def isreal(input: Tensor) -> Tensor:
    """True where the imaginary part is 0."""
    if input.dtype.is_complex:
        return pointwise.eq(apply(_IMAG, input), 0)
    return pointwise.eq(cast(input, bool_), cast(input, bool_))


def _set_part(function: Any) -> Any:
    def write(self: Tensor, value: Any) -> None:
        function(self).copy_(value)

    return write


_FUNCTIONS = (
    conj, conj_physical, resolve_conj, resolve_neg, is_conj, is_neg, angle, sgn, isreal,
)  # fmt: skip
METHODS: dict[str, Any] = {
    **{function.__name__: function for function in _FUNCTIONS},
    "real": property(real, _set_part(real)),
    "imag": property(imag, _set_part(imag)),
}
