"""More elementwise functions of several operands, and those of one operand that take options."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from braze import return_types
from braze.capture import Call, call_of
from braze.functions import pointwise
from braze.functions.pointwise import Operand, div, mul, sub
from braze.functions.promotion import (
    as_operands,
    cast,
    get_default_dtype,
    number_dtype,
    result_type,
    scalar,
)
from braze.ir.dtypes import DType, bool_, c128, f64
from braze.ir.op import op_named
from braze.tensors import Tensor, apply


def _call(name: str) -> Call:
    return call_of(op_named(name))


def _joint(name: str, floating: bool = False) -> Callable[[Any, Any], Tensor]:
    """A function of two operands that are promoted and broadcast."""
    call = _call(name)

    def function(input: Operand, other: Operand) -> Tensor:
        return apply(call, *as_operands(name, input, other, floating=floating))  # type: ignore[no-any-return]

    function.__name__ = name
    function.__doc__ = f"{call.op.doc} Operands are promoted and broadcast."
    return function


def _floating(name: str) -> Callable[[Any, Any], Tensor]:
    return _joint(name, floating=True)


hypot, logaddexp, logaddexp2 = map(_floating, ("hypot", "logaddexp", "logaddexp2"))
copysign, nextafter, xlogy = map(_floating, ("copysign", "nextafter", "xlogy"))
fmax, fmin = _joint("fmax"), _joint("fmin")
bitwise_left_shift, bitwise_right_shift = map(_joint, ("bitwise_left_shift", "bitwise_right_shift"))
gcd, lcm, igamma, igammac = map(_joint, ("gcd", "lcm", "igamma", "igammac"))


def frexp(input: Tensor) -> return_types.frexp:
    """The mantissa, of size in [0.5, 1), and the int32 exponent with input = mantissa *
    2 ** exponent.

    Raises:
        RuntimeError: the dtype is not floating-point.
    """
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"frexp() only supports floating-point dtypes, given {input.dtype!r}")
    return return_types.frexp(*apply(_call("frexp"), input))


def _logical(name: str) -> Callable[[Any, Any], Tensor]:
    call = _call(name)

    def function(input: Tensor, other: Tensor) -> Tensor:
        x, y = (t if isinstance(t, Tensor) else scalar(t, result_type(t)) for t in (input, other))
        return apply(call, x, y)  # type: ignore[no-any-return]

    function.__name__ = name
    function.__doc__ = call.op.doc
    return function


logical_and, logical_or, logical_xor = map(_logical, ("logical_and", "logical_or", "logical_xor"))


def rsub(input: Tensor, other: Operand, *, alpha: float = 1) -> Tensor:
    """other - alpha * input."""
    return sub(other, input, alpha=alpha)


def float_power(input: Operand, exponent: Operand) -> Tensor:
    """input ** exponent, computed in float64 (complex128 for complex numbers)."""
    wide = c128 if as_operands("float_power", input, exponent)[0].dtype.is_complex else f64
    x, y = (cast(t, wide) if isinstance(t, Tensor) else scalar(t, wide) for t in (input, exponent))
    return pointwise.pow(x, y)


def ldexp(input: Operand, other: Operand) -> Tensor:
    """input * 2 ** other."""
    if isinstance(other, Tensor):
        exponent = other
    else:
        number_dtype(other)  # raises if it is none
        exponent = scalar(other, get_default_dtype())
    if not exponent.dtype.is_differentiable:
        exponent = cast(exponent, get_default_dtype())
    return mul(input, pointwise.pow(2.0, exponent))


def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 where input < 0, 1 where input > 0, and `values` where it is 0.

    Raises:
        RuntimeError: the dtypes differ.
    """
    if input.dtype is not values.dtype:
        raise RuntimeError(
            "heaviside is not yet implemented for tensors with different dtypes: "
            f"{input.dtype!r} and {values.dtype!r}"
        )
    return apply(_call("heaviside"), input, values)  # type: ignore[no-any-return]


def clamp_min(input: Tensor, min: Operand) -> Tensor:
    """max(input, min)."""
    return pointwise.clamp(input, min=min)


def clamp_max(input: Tensor, max: Operand) -> Tensor:
    """min(input, max)."""
    return pointwise.clamp(input, max=max)


def positive(input: Tensor) -> Tensor:
    """The tensor itself.

    Raises:
        RuntimeError: for bool tensors.
    """
    if input.dtype is bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest integer, ties to even; with `decimals` the nearest multiple of 10 ** -decimals.

    Raises:
        NotImplementedError: `decimals` for integers.
    """
    if decimals == 0:
        return pointwise.UNARY["round"](input)
    if not input.dtype.is_floating_point:
        raise NotImplementedError("round_cpu not implemented for integers with decimals")
    scale = float(10 ** abs(decimals))
    if decimals > 0:
        return div(pointwise.UNARY["round"](mul(input, scale)), scale)
    return mul(pointwise.UNARY["round"](div(input, scale)), scale)


def frac(input: Tensor) -> Tensor:
    """The fraction, with the operand's sign.

    Raises:
        NotImplementedError: for integers.
    """
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"[frac] not implemented for {input.dtype!r}")
    return pointwise.UNARY["frac"](input)


def deg2rad(input: Tensor) -> Tensor:
    """Degrees to radians."""
    return mul(input, math.pi / 180.0)


def rad2deg(input: Tensor) -> Tensor:
    """Radians to degrees."""
    return mul(input, 180.0 / math.pi)


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), of x limited to eps .. 1 - eps if `eps` is given."""
    x = _float(input)
    return apply(call_of(op_named("logit"), eps=-1.0 if eps is None else float(eps)), x)  # type: ignore[no-any-return]


def _float(input: Tensor) -> Tensor:
    return input if input.dtype.is_differentiable else cast(input, get_default_dtype())


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma; digamma itself for n = 0.

    Raises:
        RuntimeError: n is negative. TypeError: n is no int.
    """
    if not isinstance(n, int):
        raise TypeError(f"polygamma(): argument 'n' must be int, not {type(n).__name__}")
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    if n == 0:
        return pointwise.UNARY["digamma"](input)
    return apply(call_of(op_named("polygamma"), n=n), _float(input))  # type: ignore[no-any-return]


def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension p.

    Raises:
        RuntimeError: p is below 1, or the input is bool.
    """
    if input.dtype is bool_:
        raise RuntimeError("The input tensor may not be a boolean tensor.")
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    lgamma = pointwise.UNARY["lgamma"]
    x = _float(input)
    total = lgamma(x)
    for j in range(1, p):
        total = total + lgamma(x - 0.5 * j)
    return total + p * (p - 1) / 4 * math.log(math.pi)


def nan_to_num(
    input: Tensor,
    nan: float | None = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """nan, inf and -inf replaced by these numbers (0 and the largest and smallest finite ones)."""
    dtype = input.dtype
    if dtype.is_complex:
        parts = [apply(_call(part), input) for part in ("real", "imag")]
        return apply(  # type: ignore[no-any-return]
            _call("complex"), *[nan_to_num(part, nan, posinf, neginf) for part in parts]
        )
    if not dtype.is_floating_point:
        return input.clone()  # type: ignore[no-any-return]
    above = largest(dtype) if posinf is None else posinf
    below = -largest(dtype) if neginf is None else neginf
    values = [scalar(float(v), dtype) for v in (nan or 0.0, above, below)]
    return apply(_call("nan_to_num"), input, *values)  # type: ignore[no-any-return]


def largest(dtype: DType) -> float:
    """The largest finite number of a floating-point dtype."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).max)


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """|input - other| <= atol + rtol * |other|; infinities are close to themselves only.

    Args:
        equal_nan: nans are close to each other.

    Raises:
        RuntimeError: the dtypes differ, or a tolerance is negative.
    """
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{input.dtype!r} did not match {other.dtype!r}")
    if rtol < 0 or atol < 0:
        raise RuntimeError(f"rtol and atol must not be negative, given {rtol} and {atol}")
    if input.dtype.is_complex:
        return _isclose_complex(input, other, rtol, atol, equal_nan)
    dtype = input.dtype if input.dtype.is_floating_point else f64
    x, y = cast(input, dtype), cast(other, dtype)
    close: Tensor = apply(_call("isclose"), x, y, scalar(rtol, dtype), scalar(atol, dtype))
    if equal_nan and input.dtype.is_floating_point:
        isnan = pointwise.UNARY["isnan"]
        close = pointwise.bitwise_or(close, pointwise.bitwise_and(isnan(x), isnan(y)))
    return close


def _isclose_complex(
    x: Tensor, y: Tensor, rtol: float, atol: float, equal_nan: bool
) -> Tensor:
    """By the moduli of the difference and of `y`."""
    isfinite, isnan, size = (pointwise.UNARY[name] for name in ("isfinite", "isnan", "abs"))
    near = pointwise.le(size(sub(x, y)), size(y) * rtol + atol)
    finite = pointwise.bitwise_and(isfinite(x), isfinite(y))
    close = pointwise.bitwise_or(pointwise.eq(x, y), pointwise.bitwise_and(near, finite))
    if equal_nan:
        close = pointwise.bitwise_or(close, pointwise.bitwise_and(isnan(x), isnan(y)))
    return close


def true_divide(input: Operand, other: Operand) -> Tensor:
    """input / other; integers become floating."""
    return div(input, other)


ALIASES: dict[str, Callable[..., Tensor]] = {
    "subtract": sub,
    "multiply": mul,
    "divide": div,
    "negative": pointwise.neg,
    "greater": pointwise.gt,
    "greater_equal": pointwise.ge,
    "less": pointwise.lt,
    "less_equal": pointwise.le,
    "not_equal": pointwise.ne,
    "clip": pointwise.clamp,
    "arctan2": pointwise.atan2,
    **{
        alias: pointwise.UNARY[name]
        for alias, name in {
            "absolute": "abs",
            "fix": "trunc",
            "arccos": "acos",
            "arcsin": "asin",
            "arctan": "atan",
            "arccosh": "acosh",
            "arcsinh": "asinh",
            "arctanh": "atanh",
        }.items()
    },
}


def functions() -> dict[str, Callable[..., Any]]:
    """The functions of this module by name, aliases included."""
    own = {
        name: value
        for name, value in globals().items()
        if callable(value) and getattr(value, "__module__", "") == __name__ and name[0] != "_"
    }
    for name in ("largest", "functions"):
        own.pop(name)
    return own | ALIASES
