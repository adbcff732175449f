"""Logarithms to the bases 2 and 10, exact at powers of the base; inverse hyperbolic functions.

The first take the operand apart into 2 ** k and a significand near 1, so that what k contributes
is exact; the constants are fdlibm's (`e_log10.c`, Sun Microsystems, 1993).
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import DType, f32, f64, i16, i32, i64
from braze.ir.op import Op, Rule, declare
from braze.ir.ops.composite import in_wide
from braze.ir.ops.rules import floating

BITS_AS = {16: i16, 32: i32, 64: i64}
# Bits after the point, the bits of sqrt(1/2), the smallest normal number, a lift above it.
FORMAT: dict[DType, tuple[int, int, float, int]] = {
    f32: (23, 0x3F3504F3, 2.0**-126, 25),
    f64: (52, 0x3FE6A09E667F3BCD, 2.0**-1022, 54),
}
LOG10_2 = {
    f32: (3.0102920532e-01, 7.9034151668e-07),
    f64: (3.01029995663611771306e-01, 3.69423907715893078616e-13),
}


def split_exponent(b: Any, x: Any) -> tuple[Any, Any]:
    """x = 2 ** k s with sqrt(1/2) <= s < sqrt(2), for finite x > 0: k in x's dtype, and s."""
    dtype = x.type.dtype
    shift, root, smallest, lift = FORMAT[dtype]
    whole = BITS_AS[dtype.bits]
    subnormal = b.lt(x, smallest)
    normal = b.where(subnormal, b.mul(x, 2.0**lift), x)
    above = b.sub(b.bitcast(normal, dtype=whole), root)
    k = b.cast(b.shift_right(above, shift), dtype=dtype)
    k = b.where(subnormal, b.sub(k, float(lift)), k)
    bits = b.add(b.bitwise_and(above, (1 << shift) - 1), root)
    return k, b.bitcast(bits, dtype=dtype)


def _at_edges(b: Any, x: Any, value: Any) -> Any:
    """-inf at 0, nan below, x itself for inf and nan."""
    inside = b.bitwise_and(b.gt(x, 0.0), b.lt(x, math.inf))
    outside = b.where(b.lt(x, 0.0), math.nan, b.where(b.eq(x, 0.0), -math.inf, x))
    return b.where(inside, value, outside)


def _log2(b: Any, x: Any) -> Any:
    k, s = split_exponent(b, x)
    return _at_edges(b, x, b.add(b.mul(b.log(s), 1.0 / math.log(2.0)), k))


def _log10(b: Any, x: Any) -> Any:
    high, low = LOG10_2[x.type.dtype]
    k, s = split_exponent(b, x)
    small = b.add(b.mul(k, low), b.mul(b.log(s), 1.0 / math.log(10.0)))
    return _at_edges(b, x, b.add(b.mul(k, high), small))


def _unary(name: str, function: Rule, gradient: Rule, doc: str, domain: tuple[float, float]) -> Op:
    return declare(
        name,
        "composite",
        "x",
        infer=floating(name),
        decompose=in_wide(function),
        gradients={"x": gradient},
        domain=domain,
        doc=doc,
    )


log2 = _unary(
    "log2",
    _log2,
    lambda b, g, x: b.div(b.mul(g, 1.0 / math.log(2.0)), x),
    "Logarithm to the base 2; exact at powers of 2.",
    (0.1, 4.0),
)
log10 = _unary(
    "log10",
    _log10,
    lambda b, g, x: b.div(b.mul(g, 1.0 / math.log(10.0)), x),
    "Logarithm to the base 10.",
    (0.1, 4.0),
)


# Inverse hyperbolic functions ---------------------------------------------------------------------


def _large(x: Any) -> float:
    """From here on x ** 2 + 1 rounds to x ** 2."""
    return 2.0**14 if x.type.dtype is f32 else 2.0**28


def _asinh(b: Any, x: Any) -> Any:
    """log1p(t) with t = |x| + x ** 2 / (1 + sqrt(x ** 2 + 1)); log(2 |x|) for large x."""
    size = b.abs(x)
    limit = _large(x)
    bounded = b.minimum(size, limit)
    square = b.mul(bounded, bounded)
    t = b.add(bounded, b.div(square, b.add(b.sqrt(b.add(square, 1.0)), 1.0)))
    value = b.where(b.gt(size, limit), b.add(b.log(size), math.log(2.0)), b.log1p(t))
    return b.where(b.lt(x, 0.0), b.neg(value), b.where(b.eq(x, 0.0), x, value))


def _acosh(b: Any, x: Any) -> Any:
    """log1p(t + sqrt(2 t + t ** 2)) with t = x - 1; log(2 x) for large x."""
    limit = _large(x)
    t = b.sub(b.minimum(x, limit), 1.0)
    near = b.log1p(b.add(t, b.sqrt(b.mul(t, b.add(t, 2.0)))))
    value = b.where(b.gt(x, limit), b.add(b.log(x), math.log(2.0)), near)
    return b.where(b.lt(x, 1.0), math.nan, value)


def _atanh(b: Any, x: Any) -> Any:
    """log1p(2 |x| / (1 - |x|)) / 2."""
    size = b.abs(x)
    value = b.mul(b.log1p(b.div(b.mul(size, 2.0), b.sub(1.0, size))), 0.5)
    return b.where(b.lt(x, 0.0), b.neg(value), b.where(b.eq(x, 0.0), x, value))


asinh = _unary(
    "asinh",
    _asinh,
    lambda b, g, x: b.div(g, b.sqrt(b.add(b.mul(x, x), 1.0))),
    "Inverse hyperbolic sine.",
    (-3.0, 3.0),
)
acosh = _unary(
    "acosh",
    _acosh,
    lambda b, g, x: b.div(g, b.sqrt(b.mul(b.sub(x, 1.0), b.add(x, 1.0)))),
    "Inverse hyperbolic cosine; nan below 1.",
    (1.1, 4.0),
)
atanh = _unary(
    "atanh",
    _atanh,
    lambda b, g, x: b.div(g, b.mul(b.sub(1.0, x), b.add(x, 1.0))),
    "Inverse hyperbolic tangent; nan outside -1..1.",
    (-0.9, 0.9),
)
