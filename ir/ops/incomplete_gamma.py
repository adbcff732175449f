"""The regularised incomplete gamma functions, as quadratures.

With t = x e^-v the lower integral of t ** (a - 1) e^-t becomes

    P(a, x) = x^a e^-x / gamma(a) * integral over v > 0 of exp(-a v + x (1 - e^-v)),

and the upper one, Q, is the same over v < 0. Each integrand falls from 1, with no other scale than
the one that its first two derivatives at 0 show, where a and x are the right way round: P is
integrated for x < max(a, 1), else Q; the other is 1 less it. The trapezoidal rule after the double
exponential substitution v = L exp(u - e^-u) (H. Takahasi, M. Mori, "Double exponential formulas for
numerical integration", 1974) converges geometrically: with `POINTS` both functions are right to
about 1e-14.
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import f64
from braze.ir.op import Op, Rule, declare
from braze.ir.ops.composite import as_dtype, both, polynomial
from braze.ir.ops.gamma_functions import lgamma_of_positive
from braze.ir.ops.rules import floating

POINTS, FEWER_POINTS = 120, 72  # for f64, and for narrower dtypes: an error below 1e-8
FIRST, LAST = -3.6, 3.8  # the substituted variable u; what lies outside is below the rounding
# (log1p(m) - m) / m ** 2 and (e ** -v - 1 + v) / v ** 2 near 0, where the terms cancel.
NEAR_M, NEAR_V = 0.03, 0.5
LOG_TERMS = tuple((-1) ** (k + 1) / k for k in range(12, 1, -1))
EXP_TERMS = tuple((-1) ** k / math.factorial(k) for k in range(15, 1, -1))
# log gamma(a) - ((a - 1/2) log a - a + log(2 pi) / 2) for a >= 10, in 1 / a ** 2 after one 1 / a:
# Bernoulli's numbers.
STIRLING = (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)


def _density(b: Any, a: Any, x: Any) -> Any:
    """x ** a e ** -x / gamma(a) for positive a and x. For a large a the exponents cancel in part:
    with m = x / a - 1 they are a (log1p(m) - m) and Stirling's series."""
    small = b.lt(a, 10.0)
    near = b.sub(b.mul(a, b.log(x)), b.add(x, lgamma_of_positive(b, b.where(small, a, 1.0))))
    m = b.div(b.sub(x, a), a)
    inverse = b.div(1.0, a)
    series = b.mul(inverse, polynomial(b, b.mul(inverse, inverse), STIRLING))
    bent = b.mul(b.mul(m, m), polynomial(b, b.where(b.lt(b.abs(m), NEAR_M), m, 0.0), LOG_TERMS))
    bent = b.where(b.lt(b.abs(m), NEAR_M), bent, b.sub(b.log1p(m), m))
    far = b.sub(b.mul(a, bent), series)
    scale = b.sqrt(b.mul(a, 1 / (2 * math.pi)))
    return b.where(small, b.exp(near), b.mul(b.exp(far), scale))


def _integral(b: Any, a: Any, x: Any, upper: Any, points: int) -> Any:
    """The integral of the module's docstring, over v < 0 where `upper`; a and x of one shape."""
    step = (LAST - FIRST) / (points - 1)
    slope = b.where(upper, b.sub(x, a), b.sub(a, x))  # negative for a < x < 1, where it is none
    bend = b.where(upper, b.sqrt(x), b.minimum(b.sqrt(a), a))
    scale = b.div(1.0, b.maximum(slope, bend))
    lines = (*a.type.shape, 1)
    spread = [b.reshape(value, shape=lines) for value in (a, x, scale, upper)]
    wide_a, wide_x, wide_scale, wide_upper = spread
    u = b.iota(shape=(points,), dim=0, dtype=f64)
    u = b.add(b.mul(u, step), FIRST)
    fall = b.exp(b.neg(u))
    w = b.exp(b.sub(u, fall))
    weight = b.mul(w, b.add(fall, 1.0))
    v = b.mul(w, wide_scale)
    v = b.where(wide_upper, b.neg(v), v)
    exponent = b.add(b.mul(wide_a, v), b.mul(wide_x, b.expm1(b.neg(v))))
    tiny = b.lt(b.abs(v), NEAR_V)  # where for a large a almost all of it cancels
    near = b.where(tiny, v, 0.0)
    bent = b.mul(b.mul(near, near), polynomial(b, near, EXP_TERMS))
    near = b.add(b.mul(b.sub(wide_a, wide_x), near), b.mul(wide_x, bent))
    exponent = b.neg(b.where(tiny, near, exponent))
    total = b.sum(b.mul(b.exp(exponent), weight), dims=(len(a.type.shape),), keepdim=False)
    return b.mul(b.mul(total, scale), step)


def _incomplete(wants_upper: bool) -> Rule:
    def decompose(b: Any, a: Any, x: Any) -> Any:
        dtype = a.type.dtype
        points = POINTS if dtype is f64 else FEWER_POINTS
        a, x = as_dtype(b, a, f64), as_dtype(b, x, f64)
        inside = both(b, b.gt(a, 0.0), b.gt(x, 0.0), b.lt(a, math.inf), b.lt(x, math.inf))
        safe_a, safe_x = b.where(inside, a, 1.0), b.where(inside, x, 1.0)
        upper = b.ge(safe_x, b.maximum(safe_a, 1.0))
        part = b.mul(_density(b, safe_a, safe_x), _integral(b, safe_a, safe_x, upper, points))
        part = b.minimum(part, 1.0)
        own = upper if wants_upper else b.bitwise_not(upper)
        value = b.where(own, part, b.sub(1.0, part))
        # The edges: all of the mass lies below x, or above; both at once has no answer.
        below = b.bitwise_or(b.eq(a, 0.0), b.eq(x, math.inf))
        above = b.bitwise_or(b.eq(x, 0.0), b.eq(a, math.inf))
        edge = b.cast(above if wants_upper else below, dtype=f64)
        known = both(b, b.ge(a, 0.0), b.ge(x, 0.0), b.ne(below, above))
        value = b.where(inside, value, b.where(known, edge, math.nan))
        return as_dtype(b, value, dtype)

    return decompose


def _slope(b: Any, g: Any, a: Any, x: Any, sign: float) -> Any:
    """x ** (a - 1) e ** -x / gamma(a)."""
    log_density = b.sub(b.mul(b.sub(a, 1.0), b.log(x)), b.add(x, b.lgamma(a)))
    return b.mul(g, b.mul(b.exp(log_density), sign))


def _declare(name: str, wants_upper: bool, doc: str) -> Op:
    sign = -1.0 if wants_upper else 1.0
    return declare(
        name,
        "composite",
        "a x",
        infer=floating(name),
        decompose=_incomplete(wants_upper),
        gradients={"x": lambda b, g, a, x: _slope(b, g, a, x, sign)},
        broadcasts=True,
        domain=(0.5, 4.0),
        doc=doc,
    )


igamma = _declare(
    "igamma",
    False,
    """The regularised lower incomplete gamma function P(a, x): the integral of t ** (a - 1) e ** -t
from 0 to x, divided by gamma(a). There is no gradient for a.""",
)
igammac = _declare(
    "igammac", True, "The regularised upper incomplete gamma function, 1 - igamma(a, x)."
)
