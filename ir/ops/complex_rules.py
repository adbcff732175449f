"""What the arithmetic and the elementary functions mean for the parts of complex numbers.

Every function here is an `Op.complex` rule: its values x = a + bi are pairs of real values, see
`braze.ir.parts`. Sources: the quotient is R. L. Smith's (Algorithm 116, CACM 5, 1962); square root
and inverse functions with their branch cuts are W. Kahan's ("Branch cuts for complex elementary
functions, or much ado about nothing's sign bit", 1987), as C99's Annex G has them.
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import DType, bool_


def hypot(b: Any, x: Any, y: Any) -> Any:
    """sqrt(x * x + y * y) without overflow in between; inf where one is, whatever the other."""
    x, y = b.abs(x), b.abs(y)
    large, small = b.maximum(x, y), b.minimum(x, y)
    plain = b.bitwise_or(b.eq(large, 0.0), b.eq(large, math.inf))
    ratio = b.div(small, b.where(plain, 1.0, large))
    length = b.mul(large, b.sqrt(b.add(b.mul(ratio, ratio), 1.0)))
    found = b.where(b.eq(large, 0.0), large, length)
    infinite = b.bitwise_or(b.eq(x, math.inf), b.eq(y, math.inf))
    return b.where(infinite, math.inf, found)


def _signed(b: Any, size: Any, like: Any) -> Any:
    """`size`, which is not negative, with the sign of `like`; of minus zero too."""
    negative = b.bitwise_or(b.lt(like, 0.0), b.lt(b.div(1.0, like), 0.0))
    return b.where(negative, b.neg(size), size)


# Arithmetic ---------------------------------------------------------------------------------------


def mul(b: Any, x: Any, y: Any) -> Any:
    """(a + bi)(c + di); one of the two may be known to be real."""
    if x.is_real and y.is_real:
        return b.real_pair(b.mul(x.re, y.re))
    if x.is_real:
        return b.complex(b.mul(x.re, y.re), b.mul(x.re, y.im))
    if y.is_real:
        return b.complex(b.mul(x.re, y.re), b.mul(x.im, y.re))
    re = b.sub(b.mul(x.re, y.re), b.mul(x.im, y.im))
    return b.complex(re, b.add(b.mul(x.re, y.im), b.mul(x.im, y.re)))


def div(b: Any, x: Any, y: Any) -> Any:
    """Smith's quotient: the divisor's smaller part over its larger one stays in range."""
    if y.is_real:
        return b.complex(b.div(x.re, y.re), b.div(x.im, y.re))
    wide = b.ge(b.abs(y.re), b.abs(y.im))
    large, small = b.where(wide, y.re, y.im), b.where(wide, y.im, y.re)
    ratio = b.where(b.eq(large, 0.0), 0.0, b.div(small, large))
    scale = b.add(large, b.mul(small, ratio))
    first, second = b.where(wide, x.re, x.im), b.where(wide, x.im, x.re)
    re = b.div(b.add(first, b.mul(second, ratio)), scale)
    im = b.div(b.sub(second, b.mul(first, ratio)), scale)
    return b.complex(re, b.where(wide, im, b.neg(im)))


def power(b: Any, x: Any, y: Any) -> Any:
    """exp(y log x); 0 ** y is 1 for y = 0 and else 0."""
    zero = b.bitwise_and(b.eq(x.re, 0.0), b.eq(x.im, 0.0))
    base = b.complex(b.where(zero, 1.0, x.re), x.im)
    found = b.exp(b.mul(y, b.log(base)))
    unit = b.bitwise_and(b.eq(y.re, 0.0), b.eq(y.im, 0.0))
    re = b.where(zero, b.cast(unit, dtype=x.re.type.dtype), found.re)
    return b.complex(re, b.where(zero, 0.0, found.im))


def equal(b: Any, x: Any, y: Any) -> Any:
    """Both parts are equal."""
    return b.bitwise_and(b.eq(x.re, y.re), b.eq(x.im, y.im))


def unequal(b: Any, x: Any, y: Any) -> Any:
    """A part is not equal."""
    return b.bitwise_or(b.ne(x.re, y.re), b.ne(x.im, y.im))


def cast(b: Any, x: Any, *, dtype: DType) -> Any:
    """To other parts; to the real part; to a bool: is either part not zero?"""
    if dtype.is_complex:
        part = dtype.to_real()
        return b.complex(b.cast(x.re, dtype=part), b.cast(x.im, dtype=part))
    if dtype is bool_:
        return b.bitwise_or(b.cast(x.re, dtype=dtype), b.cast(x.im, dtype=dtype))
    return b.cast(x.re, dtype=dtype)


def isinf(b: Any, x: Any) -> Any:
    """A part is infinite."""
    return b.bitwise_or(b.isinf(x.re), b.isinf(x.im))


def isfinite(b: Any, x: Any) -> Any:
    """Both parts are finite."""
    return b.bitwise_and(b.isfinite(x.re), b.isfinite(x.im))


# Powers and logarithms ----------------------------------------------------------------------------


def exp(b: Any, x: Any) -> Any:
    """e ** a (cos b + i sin b); real where b is 0, for an infinite a too."""
    size = b.exp(x.re)
    flat = b.eq(x.im, 0.0)
    im = b.where(flat, x.im, b.mul(size, b.sin(x.im)))
    return b.complex(b.where(flat, size, b.mul(size, b.cos(x.im))), im)


def expm1(b: Any, x: Any) -> Any:
    """Real part expm1(a) cos b - 2 sin(b / 2) ** 2, in which nothing cancels near 0."""
    half = b.sin(b.mul(x.im, 0.5))
    grown = b.expm1(x.re)
    re = b.sub(b.mul(grown, b.cos(x.im)), b.mul(b.mul(half, half), 2.0))
    return b.complex(re, b.mul(b.add(grown, 1.0), b.sin(x.im)))


def log(b: Any, x: Any) -> Any:
    """log |x| + i arg x."""
    return b.complex(b.log(hypot(b, x.re, x.im)), b.atan2(x.im, x.re))


def log1p(b: Any, x: Any) -> Any:
    """log(1 + x); near 0 the real part is log1p(a (2 + a) + b ** 2) / 2."""
    above = b.add(x.re, 1.0)
    square = b.add(b.mul(x.re, b.add(x.re, 2.0)), b.mul(x.im, x.im))
    near = b.mul(b.log1p(b.where(b.lt(b.abs(square), 0.5), square, 0.0)), 0.5)
    re = b.where(b.lt(b.abs(square), 0.5), near, b.log(hypot(b, above, x.im)))
    return b.complex(re, b.atan2(x.im, above))


def sqrt(b: Any, x: Any) -> Any:
    """The root with a real part that is not negative."""
    size = b.abs(x.re)
    root = b.sqrt(b.mul(b.add(size, hypot(b, size, x.im)), 0.5))
    other = b.where(b.eq(root, 0.0), x.im, b.div(x.im, b.mul(root, 2.0)))
    left = b.lt(x.re, 0.0)
    im = b.where(left, _signed(b, root, x.im), other)
    return b.complex(b.where(left, b.abs(other), root), im)


def scaled_log(base: float) -> Any:
    """The rule of the logarithm to another base."""
    return lambda b, x: b.mul(b.log(x), 1.0 / math.log(base))


# Trigonometric and hyperbolic functions -----------------------------------------------------------


def sin(b: Any, x: Any) -> Any:
    """sin a cosh b + i cos a sinh b."""
    im = b.mul(b.cos(x.re), b.sinh(x.im))
    return b.complex(b.mul(b.sin(x.re), b.cosh(x.im)), im)


def cos(b: Any, x: Any) -> Any:
    """cos a cosh b - i sin a sinh b."""
    im = b.neg(b.mul(b.sin(x.re), b.sinh(x.im)))
    return b.complex(b.mul(b.cos(x.re), b.cosh(x.im)), im)


def sinh(b: Any, x: Any) -> Any:
    """sinh a cos b + i cosh a sin b."""
    im = b.mul(b.cosh(x.re), b.sin(x.im))
    return b.complex(b.mul(b.sinh(x.re), b.cos(x.im)), im)


def cosh(b: Any, x: Any) -> Any:
    """cosh a cos b + i sinh a sin b."""
    im = b.mul(b.sinh(x.re), b.sin(x.im))
    return b.complex(b.mul(b.cosh(x.re), b.cos(x.im)), im)


def tanh(b: Any, x: Any) -> Any:
    """With t = tanh a and s = tan b: (t (1 + s s) + i s (1 - t t)) / (1 + t t s s)."""
    t, s = b.tanh(x.re), b.tan(x.im)
    across = b.mul(t, s)
    scale = b.add(b.mul(across, across), 1.0)
    re = b.div(b.mul(t, b.add(b.mul(s, s), 1.0)), scale)
    inside = b.mul(b.sub(1.0, t), b.add(t, 1.0))
    return b.complex(re, b.div(b.mul(s, inside), scale))


def tan(b: Any, x: Any) -> Any:
    """-i tanh(i x)."""
    return _turned_back(b, b.tanh(_turned(b, x)))


def _roots_beside(b: Any, x: Any) -> tuple[Any, Any]:
    """The square roots of 1 - x and 1 + x; the sign of a zero imaginary part stays, which says on
    which side of a cut x lies."""
    low = b.complex(b.sub(1.0, x.re), b.neg(x.im))
    return b.sqrt(low), b.sqrt(b.complex(b.add(x.re, 1.0), x.im))


def asin(b: Any, x: Any) -> Any:
    """Kahan's, by the square roots of 1 - x and 1 + x."""
    low, high = _roots_beside(b, x)
    across = b.sub(b.mul(low.re, high.im), b.mul(low.im, high.re))
    under = b.sub(b.mul(low.re, high.re), b.mul(low.im, high.im))
    return b.complex(b.atan2(x.re, under), b.asinh(across))


def acos(b: Any, x: Any) -> Any:
    """Kahan's, by the square roots of 1 - x and 1 + x."""
    low, high = _roots_beside(b, x)
    across = b.sub(b.mul(high.re, low.im), b.mul(high.im, low.re))
    return b.complex(b.mul(b.atan2(low.re, high.re), 2.0), b.asinh(across))


def asinh(b: Any, x: Any) -> Any:
    """-i asin(i x)."""
    return _turned_back(b, b.asin(_turned(b, x)))


def acosh(b: Any, x: Any) -> Any:
    """Kahan's, by the square roots of x - 1 and x + 1."""
    low, high = b.sqrt(b.sub(x, 1.0)), b.sqrt(b.add(x, 1.0))
    along = b.add(b.mul(low.re, high.re), b.mul(low.im, high.im))
    return b.complex(b.asinh(along), b.mul(b.atan2(low.im, high.re), 2.0))


def atanh(b: Any, x: Any) -> Any:
    """log1p(4 a / ((1 - a) ** 2 + b ** 2)) / 4 + i atan2(2 b, (1 - a)(1 + a) - b ** 2) / 2."""
    size = b.abs(x.re)
    away = b.sub(1.0, size)
    square = b.mul(x.im, x.im)
    ratio = b.div(b.mul(size, 4.0), b.add(b.mul(away, away), square))
    re = _signed(b, b.mul(b.log1p(ratio), 0.25), x.re)
    under = b.sub(b.mul(away, b.add(size, 1.0)), square)
    return b.complex(re, b.mul(b.atan2(b.mul(x.im, 2.0), under), 0.5))


def atan(b: Any, x: Any) -> Any:
    """-i atanh(i x)."""
    return _turned_back(b, b.atanh(_turned(b, x)))


def _turned(b: Any, x: Any) -> Any:
    """i x."""
    return b.complex(b.neg(x.im), x.re)


def _turned_back(b: Any, x: Any) -> Any:
    """-i x."""
    return b.complex(x.im, b.neg(x.re))


# Over dimensions ----------------------------------------------------------------------------------


def prod(b: Any, x: Any, *, dims: tuple[int, ...], keepdim: bool) -> Any:
    """Halves are multiplied until one factor is left."""
    shape = x.type.shape
    rest = tuple(axis for axis in range(len(shape)) if axis not in dims)
    count = math.prod(shape[d] for d in dims)
    outer = tuple(shape[d] for d in rest)
    factors = b.reshape(b.permute(x, dims=(*rest, *dims)), shape=(*outer, count))
    if count == 0:
        one = b.full(shape=(*outer, 1), value=1.0, dtype=x.type.dtype.to_real())
        factors, count = b.real_pair(one), 1
    last = len(outer)
    while count > 1:
        if count % 2:
            factors = _padded(b, factors, last, 0, 1)
            count += 1
        count //= 2
        halves = [_part(b, factors, last, start, start + count) for start in (0, count)]
        factors = b.mul(*halves)
    kept = tuple(1 if axis in dims else size for axis, size in enumerate(shape))
    return b.reshape(factors, shape=kept if keepdim else outer)


def cumprod(b: Any, x: Any, *, dim: int, reverse: bool) -> Any:
    """Each element times the one 1, 2, 4, ... places before it: Hillis and Steele's scan (CACM 29,
    1986)."""
    step = 1
    while step < x.type.shape[dim]:
        x = b.mul(x, _earlier(b, x, dim, reverse, step, 1.0))
        step *= 2
    return x


def linear_recurrence(b: Any, a: Any, x: Any, *, dim: int, reverse: bool) -> Any:
    """The scan of `cumprod` over the maps h -> a h + x, which join as (a a', a x' + x)."""
    step = 1
    while step < x.type.shape[dim]:
        x = b.add(b.mul(a, _earlier(b, x, dim, reverse, step, 0.0)), x)
        a = b.mul(a, _earlier(b, a, dim, reverse, step, 1.0))
        step *= 2
    return x


def _earlier(b: Any, x: Any, dim: int, reverse: bool, step: int, value: float) -> Any:
    """At each element the one `step` places before it in the order of the scan, else `value`."""
    size = x.type.shape[dim]
    if reverse:
        return _padded(b, _part(b, x, dim, step, size), dim, 0, step, value)
    return _padded(b, _part(b, x, dim, 0, size - step), dim, step, 0, value)


def _part(b: Any, x: Any, dim: int, start: int, stop: int) -> Any:
    shape = x.type.shape
    return b.slice(
        x,
        starts=tuple(start if axis == dim else 0 for axis in range(len(shape))),
        stops=tuple(stop if axis == dim else size for axis, size in enumerate(shape)),
        steps=(1,) * len(shape),
    )


def _padded(b: Any, x: Any, dim: int, low: int, high: int, value: float = 1.0) -> Any:
    rank = x.type.rank
    return b.pad(
        x,
        low=tuple(low if axis == dim else 0 for axis in range(rank)),
        high=tuple(high if axis == dim else 0 for axis in range(rank)),
        interior=(0,) * rank,
        value=value,
    )


def pad(b: Any, x: Any, *, value: float, **places: Any) -> Any:
    """The value is a real number."""
    return b.complex(b.pad(x.re, value=value, **places), b.pad(x.im, value=0.0, **places))


def contract(b: Any, x: Any, y: Any, *, equation: str) -> Any:
    """Four real products; two where an operand is known to be real."""

    def times(left: Any, right: Any) -> Any:
        return b.contract(left, right, equation=equation)

    if x.is_real:
        return b.complex(times(x.re, y.re), times(x.re, y.im))
    if y.is_real:
        return b.complex(times(x.re, y.re), times(x.im, y.re))
    re = b.sub(times(x.re, y.re), times(x.im, y.im))
    return b.complex(re, b.add(times(x.re, y.im), times(x.im, y.re)))
