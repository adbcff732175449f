"""What the arithmetic and the elementary functions mean for the parts of complex numbers.

Every function here is an `Op.complex` rule: its values x = a + bi are pairs of real values, see
`braze.ir.parts`. Sources: the quotient is R. L. Smith's (Algorithm 116, CACM 5, 1962); square root
and inverse functions with their branch cuts are W. Kahan's ("Branch cuts for complex elementary
functions, or much ado about nothing's sign bit", 1987). Infinities, nans and signed zeros are
C99's (Annex G.6), which NumPy and the array API standard follow; products and quotients of
infinities are the formula's, as NumPy's are.
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import DType, bool_
from braze.ir.ops.composite import cut


def _signed(b: Any, size: Any, like: Any) -> Any:
    """`size`, which is not negative, with the sign of `like`; of minus zero too."""
    negative = b.bitwise_or(b.lt(like, 0.0), b.lt(b.div(1.0, like), 0.0))
    if isinstance(size, float):
        size = b.constant(value=size, dtype=like.type.dtype)
    return b.where(negative, b.neg(size), size)


def _product(b: Any, x: Any, y: Any) -> Any:
    """x y, but a zero takes part as one: times an infinity or a nan it is a zero."""
    none, nothing = b.eq(x, 0.0), b.eq(y, 0.0)
    left = b.where(none, x, _signed(b, 1.0, x))
    zero = b.mul(left, b.where(nothing, y, 1.0))
    found = b.mul(x, y)
    gone = b.bitwise_and(b.bitwise_or(none, nothing), b.isnan(found))
    return b.where(gone, zero, found)


def _is_lost(b: Any, x: Any) -> Any:
    """Infinitely far along the real axis, in no direction."""
    return b.bitwise_and(b.isinf(x.re), b.bitwise_not(b.isfinite(x.im)))


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
    size, cos, sin = b.exp(x.re), b.cos(x.im), b.sin(x.im)
    flat, lost = b.eq(x.im, 0.0), _is_lost(b, x)
    re = b.where(lost, size, b.mul(size, cos))
    im = b.where(flat, x.im, b.mul(size, sin))
    return b.complex(re, b.where(b.bitwise_and(lost, b.eq(size, 0.0)), 0.0, im))


def expm1(b: Any, x: Any) -> Any:
    """Real part expm1(a) cos b - 2 sin(b / 2) ** 2, in which nothing cancels near 0."""
    half, sin = b.sin(b.mul(x.im, 0.5)), b.sin(x.im)
    grown = b.expm1(x.re)
    size = b.add(grown, 1.0)
    flat, lost = b.eq(x.im, 0.0), _is_lost(b, x)
    re = b.sub(b.mul(grown, b.cos(x.im)), b.mul(b.mul(half, half), 2.0))
    im = b.where(flat, x.im, b.mul(size, sin))
    im = b.where(b.bitwise_and(lost, b.eq(size, 0.0)), 0.0, im)
    re = b.where(b.eq(re, 0.0), 0.0, re)  # not -0, also for a = -0: the standard's
    return b.complex(b.where(lost, grown, re), im)


def log(b: Any, x: Any) -> Any:
    """log |x| + i arg x."""
    return b.complex(b.log(b.hypot(x.re, x.im)), b.atan2(x.im, x.re))


def log1p(b: Any, x: Any) -> Any:
    """log(1 + x); near 0 the real part is log1p(a (2 + a) + b ** 2) / 2."""
    above = b.add(x.re, 1.0)
    square = b.add(b.mul(x.re, b.add(x.re, 2.0)), b.mul(x.im, x.im))
    near = b.mul(b.log1p(b.where(b.lt(b.abs(square), 0.5), square, 0.0)), 0.5)
    re = b.where(b.lt(b.abs(square), 0.5), near, b.log(b.hypot(above, x.im)))
    return b.complex(re, b.atan2(x.im, above))


def sqrt(b: Any, x: Any) -> Any:
    """The root with a real part that is not negative."""
    size = b.abs(x.re)
    root = b.sqrt(b.mul(b.add(size, b.hypot(size, x.im)), 0.5))
    other = b.where(b.eq(root, 0.0), x.im, b.div(x.im, b.mul(root, 2.0)))
    left = b.lt(x.re, 0.0)
    im = b.where(left, _signed(b, root, x.im), other)
    far = b.isinf(x.im)
    re = b.where(far, math.inf, b.where(left, b.abs(other), root))
    return b.complex(re, b.where(far, x.im, im))


def scaled_log(base: float) -> Any:
    """The rule of the logarithm to another base."""
    return lambda b, x: b.mul(b.log(x), 1.0 / math.log(base))


# Trigonometric and hyperbolic functions -----------------------------------------------------------


def sinh(b: Any, x: Any) -> Any:
    """sinh a cos b + i cosh a sin b."""
    size = b.sinh(x.re)
    re = b.where(_is_lost(b, x), size, _product(b, size, b.cos(x.im)))
    return b.complex(re, _product(b, b.cosh(x.re), b.sin(x.im)))


def cosh(b: Any, x: Any) -> Any:
    """cosh a cos b + i sinh a sin b."""
    size = b.cosh(x.re)
    re = b.where(_is_lost(b, x), size, b.mul(size, b.cos(x.im)))
    return b.complex(re, _product(b, b.sinh(x.re), b.sin(x.im)))


def sin(b: Any, x: Any) -> Any:
    """-i sinh(i x)."""
    return _turned_back(b, b.sinh(_turned(b, x)))


def cos(b: Any, x: Any) -> Any:
    """cosh(i x)."""
    return b.cosh(_turned(b, x))


def tanh(b: Any, x: Any) -> Any:
    """With t = tanh a and s = tan b: (t (1 + s s) + i s (1 - t t)) / (1 + t t s s)."""
    t, s = b.tanh(x.re), b.where(_is_lost(b, x), 0.0, b.tan(x.im))
    across = b.mul(t, s)
    scale = b.add(b.mul(across, across), 1.0)
    re = b.div(b.mul(t, b.add(b.mul(s, s), 1.0)), scale)
    inside = b.mul(b.sub(1.0, t), b.add(t, 1.0))
    im = b.div(b.mul(s, inside), scale)
    return b.complex(b.where(b.eq(x.re, 0.0), x.re, re), b.where(b.eq(x.im, 0.0), x.im, im))


def tan(b: Any, x: Any) -> Any:
    """-i tanh(i x)."""
    return _turned_back(b, b.tanh(_turned(b, x)))


def _roots_beside(b: Any, x: Any) -> tuple[Any, Any]:
    """The square roots of 1 - x and 1 + x; the sign of a zero imaginary part stays, which says on
    which side of a cut x lies."""
    low = b.complex(b.sub(1.0, x.re), b.neg(x.im))
    return b.sqrt(low), b.sqrt(b.complex(b.add(x.re, 1.0), x.im))


def asin(b: Any, x: Any) -> Any:
    """Kahan's, by the square roots of 1 - x and 1 + x; an infinite x has a direction."""
    low, high = _roots_beside(b, x)
    across = b.sub(b.mul(low.re, high.im), b.mul(low.im, high.re))
    under = b.sub(b.mul(low.re, high.re), b.mul(low.im, high.im))
    far = isinf(b, x)
    re = b.atan2(x.re, b.where(far, b.abs(x.im), under))
    im = b.where(far, _signed(b, math.inf, x.im), b.asinh(across))
    return b.complex(b.where(b.eq(x.re, 0.0), x.re, re), im)


def acos(b: Any, x: Any) -> Any:
    """Kahan's, by the square roots of 1 - x and 1 + x; an infinite x has a direction."""
    low, high = _roots_beside(b, x)
    across = b.sub(b.mul(high.re, low.im), b.mul(high.im, low.re))
    far = isinf(b, x)
    angle = b.atan2(b.where(far, b.abs(x.im), low.re), b.where(far, x.re, high.re))
    re = b.where(far, angle, b.mul(angle, 2.0))
    im = b.where(far, _signed(b, -math.inf, x.im), b.asinh(across))
    return b.complex(b.where(b.eq(x.re, 0.0), math.pi / 2, re), im)


def asinh(b: Any, x: Any) -> Any:
    """-i asin(i x)."""
    return _turned_back(b, b.asin(_turned(b, x)))


def acosh(b: Any, x: Any) -> Any:
    """Kahan's, by the square roots of x - 1 and x + 1; an infinite x has a direction."""
    low = b.sqrt(b.complex(b.sub(x.re, 1.0), x.im))
    high = b.sqrt(b.complex(b.add(x.re, 1.0), x.im))
    along = b.add(b.mul(low.re, high.re), b.mul(low.im, high.im))
    far = isinf(b, x)
    angle = b.atan2(b.where(far, x.im, low.im), b.where(far, x.re, high.re))
    im = b.where(far, angle, b.mul(angle, 2.0))
    im = b.where(b.eq(x.re, 0.0), _signed(b, math.pi / 2, x.im), im)
    return b.complex(b.where(far, math.inf, b.asinh(along)), im)


def atanh(b: Any, x: Any) -> Any:
    """log1p(4 a / ((1 - a) ** 2 + b ** 2)) / 4 + i atan2(2 b, (1 - a)(1 + a) - b ** 2) / 2."""
    size = b.abs(x.re)
    away = b.sub(1.0, size)
    square = b.mul(x.im, x.im)
    ratio = b.div(b.mul(size, 4.0), b.add(b.mul(away, away), square))
    # So near to 1 or -1 that b ** 2 may vanish the real part is log(2 / |b|) / 2.
    near = b.bitwise_and(b.eq(away, 0.0), b.lt(b.abs(x.im), 1e-17))
    rise = b.log1p(b.where(near, b.div(2.0, b.abs(x.im)), ratio))
    rise = b.mul(b.where(near, b.mul(rise, 2.0), rise), 0.25)
    far = isinf(b, x)
    rise = b.where(b.bitwise_or(far, b.eq(size, 0.0)), 0.0, rise)
    under = b.sub(b.mul(away, b.add(size, 1.0)), square)
    turn = b.where(b.isnan(x.im), x.im, math.pi / 2)
    im = b.where(far, _signed(b, turn, x.im), b.mul(b.atan2(b.mul(x.im, 2.0), under), 0.5))
    return b.complex(_signed(b, rise, x.re), im)


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
        halves = [cut(b, factors, last, start, start + count) for start in (0, count)]
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
        return _padded(b, cut(b, x, dim, step, size), dim, 0, step, value)
    return _padded(b, cut(b, x, dim, 0, size - step), dim, step, 0, value)


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
