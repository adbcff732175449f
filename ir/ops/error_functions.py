"""Relatives of the error function: erfinv, erfcx, and the normal distribution's functions.

The quantile is algorithm AS 241 (M. J. Wichura, "The percentage points of the normal distribution",
Applied Statistics 37, 1988); `erfcx` uses Cephes' approximations of `erfc` (`ndtr.c`). All are
computed in f64, whatever the operand's dtype.
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.op import Op, Rule, declare
from braze.ir.ops.composite import in_f64, polynomial, ratio
from braze.ir.ops.elementwise import ERFC_P, ERFC_Q, ERFC_R, ERFC_S, square_in_parts
from braze.ir.ops.rules import floating

SQRT_HALF, SQRT_PI = math.sqrt(0.5), math.sqrt(math.pi)
SQRT_TWO_PI = math.sqrt(2.0 * math.pi)

# The quantile as q A(r) / B(r), r = 0.425 ** 2 - q ** 2, for |q| <= 0.425, and as C(r) / D(r) and
# E(r) / F(r) of r = sqrt(-log(tail)) - 1.6 and - 5; highest power first.
CENTRE_LIMIT, FAR_LIMIT = 0.425, 5.0
QUANTILE_A = (
    2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
    13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080,
)  # fmt: skip
QUANTILE_B = (
    5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
    5394.1960214247511077, 687.18700749205790830, 42.313330701600911252, 1.0,
)  # fmt: skip
QUANTILE_C = (
    7.7454501427834140764e-4, 0.0227238449892691845833, 0.241780725177450611770,
    1.27045825245236838258, 3.64784832476320460504, 5.76949722146069140550,
    4.63033784615654529590, 1.42343711074968357734,
)  # fmt: skip
QUANTILE_D = (
    1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966,
    0.148103976427480074590, 0.689767334985100004550, 1.67638483018380384940,
    2.05319162663775882187, 1.0,
)  # fmt: skip
QUANTILE_E = (
    2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.00124266094738807843860,
    0.0265321895265761230930, 0.296560571828504891230, 1.78482653991729133580,
    5.46378491116411436990, 6.65790464350110377720,
)  # fmt: skip
QUANTILE_F = (
    2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
    7.86869131145613259100e-4, 0.0148753612908506148525, 0.136929880922735805310,
    0.599832206555887937690, 1.0,
)  # fmt: skip


def _unary(
    name: str, function: Rule, gradient: Rule, doc: str, *, domain: tuple[float, float]
) -> Op:
    return declare(
        name,
        "composite",
        "x",
        infer=floating(name),
        decompose=in_f64(function),
        gradients={"x": gradient},
        domain=domain,
        doc=doc,
    )


def _quantile(b: Any, q: Any, tail: Any) -> Any:
    """The normal quantile of 1/2 + q, where tail = 1/2 - |q| is known exactly."""
    size = b.abs(q)
    central = b.le(size, CENTRE_LIMIT)
    square = b.minimum(b.mul(q, q), CENTRE_LIMIT**2)
    centre = b.mul(q, ratio(b, b.sub(CENTRE_LIMIT**2, square), QUANTILE_A, QUANTILE_B))
    depth = b.sqrt(b.neg(b.log(tail)))
    near = ratio(b, b.sub(b.minimum(depth, FAR_LIMIT), 1.6), QUANTILE_C, QUANTILE_D)
    # No tail of f64 is deeper than 30.
    far = ratio(b, b.sub(b.minimum(depth, 30.0), FAR_LIMIT), QUANTILE_E, QUANTILE_F)
    outer = b.where(b.le(depth, FAR_LIMIT), near, far)
    outer = b.where(b.eq(tail, 0.0), math.inf, outer)
    return b.where(central, centre, b.where(b.lt(q, 0.0), b.neg(outer), outer))


def _erfinv(b: Any, x: Any) -> Any:
    tail = b.mul(b.sub(1.0, b.abs(x)), 0.5)
    value = b.mul(_quantile(b, b.mul(x, 0.5), tail), SQRT_HALF)
    return b.where(b.le(b.abs(x), 1.0), value, math.nan)


erfinv = _unary(
    "erfinv",
    _erfinv,
    lambda b, g, out: b.mul(g, b.mul(b.exp(b.mul(out, out)), 0.5 * SQRT_PI)),
    "The inverse of erf; inf and -inf at 1 and -1, nan beyond.",
    domain=(-0.99, 0.99),
)


def _ndtri(b: Any, x: Any) -> Any:
    low = b.lt(x, 0.5)
    value = _quantile(b, b.sub(x, 0.5), b.where(low, x, b.sub(1.0, x)))
    inside = b.bitwise_and(b.ge(x, 0.0), b.le(x, 1.0))
    return b.where(inside, value, math.nan)


ndtri = _unary(
    "ndtri",
    _ndtri,
    lambda b, g, out: b.mul(g, b.mul(b.exp(b.mul(b.mul(out, out), 0.5)), SQRT_TWO_PI)),
    "The standard normal distribution's quantile function; nan outside 0..1.",
    domain=(0.01, 0.99),
)

# erfcx and the distribution function --------------------------------------------------------------


def _exp_of_square(b: Any, x: Any, sign: float) -> Any:
    """exp(sign * x ** 2) for |x| < 2 ** 20."""
    square, rest = square_in_parts(b, x)
    return b.mul(b.exp(b.mul(square, sign)), b.exp(b.mul(rest, sign)))


def _scaled_tail(b: Any, size: Any) -> Any:
    """exp(x ** 2) erfc(x) for x >= 1; beyond 50 by its asymptotic series."""
    middle = ratio(b, b.minimum(size, 8.0), ERFC_P, ERFC_Q)
    far = ratio(b, b.minimum(size, 50.0), ERFC_R, ERFC_S)
    z = b.div(0.5, b.mul(size, size))
    series = b.div(polynomial(b, z, (105.0, -15.0, 3.0, -1.0, 1.0)), size)
    far = b.where(b.gt(size, 50.0), b.mul(series, 1.0 / SQRT_PI), far)
    return b.where(b.lt(size, 8.0), middle, far)


def _erfcx(b: Any, x: Any) -> Any:
    size = b.abs(x)
    grown = _exp_of_square(b, b.minimum(size, 100.0), 1.0)
    near = b.mul(b.sub(1.0, b.erf(x)), grown)
    tail = _scaled_tail(b, size)
    mirrored = b.sub(b.mul(grown, 2.0), tail)
    value = b.where(b.lt(x, 0.0), mirrored, tail)
    return b.where(b.lt(size, 1.0), near, value)


erfcx = _unary(
    "erfcx",
    _erfcx,
    lambda b, g, x, out: b.mul(g, b.sub(b.mul(b.mul(x, out), 2.0), 2.0 / SQRT_PI)),
    "exp(x ** 2) erfc(x), which neither overflows nor underflows for large x.",
    domain=(-2.0, 12.0),
)


def _ndtr(b: Any, x: Any) -> Any:
    """exp(-x ** 2 / 2) / 2 times the scaled tail, beyond 1."""
    scaled = b.mul(x, SQRT_HALF)
    size = b.abs(scaled)
    # exp(-x ** 2 / 2) from x itself, whose square is better known than that of x / sqrt 2.
    square, rest = square_in_parts(b, b.minimum(b.abs(x), 60.0))
    fallen = b.mul(b.exp(b.mul(square, -0.5)), b.exp(b.mul(rest, -0.5)))
    tail = b.mul(b.mul(fallen, _scaled_tail(b, size)), 0.5)
    outer = b.where(b.gt(x, 0.0), b.sub(1.0, tail), tail)
    near = b.mul(b.add(b.erf(scaled), 1.0), 0.5)
    return b.where(b.lt(size, 1.0), near, outer)


def _density(b: Any, x: Any) -> Any:
    return b.mul(b.exp(b.mul(b.mul(x, x), -0.5)), 1.0 / SQRT_TWO_PI)


ndtr = _unary(
    "ndtr",
    _ndtr,
    lambda b, g, x: b.mul(g, _density(b, x)),
    "The standard normal distribution function, accurate far into its lower tail.",
    domain=(-6.0, 6.0),
)


def _log_ndtr(b: Any, x: Any) -> Any:
    scaled = b.mul(x, SQRT_HALF)
    tail = b.log(b.mul(b.erfcx(b.neg(scaled)), 0.5))
    lower = b.sub(tail, b.mul(b.mul(x, x), 0.5))
    upper = b.log1p(b.neg(b.ndtr(b.neg(x))))
    return b.where(b.lt(x, -1.0), lower, upper)


def _log_ndtr_gradient(b: Any, g: Any, x: Any) -> Any:
    """The density over the distribution function: sqrt(2 / pi) / erfcx(-x / sqrt 2)."""
    return b.mul(g, b.div(math.sqrt(2.0 / math.pi), b.erfcx(b.mul(x, -SQRT_HALF))))


log_ndtr = _unary(
    "log_ndtr",
    _log_ndtr,
    _log_ndtr_gradient,
    "The logarithm of ndtr, also where ndtr underflows.",
    domain=(-9.0, 6.0),
)
