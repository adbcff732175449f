"""The gamma family: lgamma, digamma, polygamma and Hurwitz' zeta.

All are computed in f64, whatever the operand's dtype, so that f32 results are rounded once.
`lgamma` follows fdlibm (`e_lgamma_r.c`, Sun Microsystems, 1993), `digamma` Boost.Math (J.
Maddock), the zeta function Cephes (`zeta.c`, S. L. Moshier), which sums it by Euler and
Maclaurin's formula.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from braze.ir.errors import AttributeTypeError
from braze.ir.op import Op, declare
from braze.ir.ops.composite import both, in_f64, polynomial, ratio, sine_of_pi
from braze.ir.ops.rules import floating
from braze.ir.types import TensorType

# lgamma -------------------------------------------------------------------------------------------

# Where lgamma has its minimum, and the minimum in two parts.
LOWEST_AT, LOWEST, LOWEST_TAIL = (
    1.46163214496836224576, -1.21486290535849611461e-01, -3.63867699703950536541e-18,
)  # fmt: skip
NEAR_TWO_EVEN = (
    2.52144565451257326939e-05, 2.20862790713908385557e-04, 1.19270763183362067845e-03,
    7.38555086081402883957e-03, 6.73523010531292681824e-02, 7.72156649015328655494e-02,
)  # fmt: skip
NEAR_TWO_ODD = (
    4.48640949618915160150e-05, 1.08011567247583939954e-04, 5.10069792153511336608e-04,
    2.89051383673415629091e-03, 2.05808084325167332806e-02, 3.22467033424113591611e-01,
)  # fmt: skip
NEAR_LOWEST = (
    (3.15632070903625950361e-04, -1.40346469989232843813e-03, 6.10053870246291332635e-03,
     -3.27885410759859649565e-02, 4.83836122723810047042e-01),
    (-3.12754168375120860518e-04, 8.81081882437654011382e-04, -3.68452016781138256760e-03,
     1.79706750811820387126e-02, -1.47587722994593911752e-01),
    (3.35529192635519073543e-04, -5.38595305356740546715e-04, 2.25964780900612472250e-03,
     -1.03142241298341437450e-02, 6.46249402391333854778e-02),
)  # fmt: skip
NEAR_ONE_P = (
    1.33810918536787660377e-02, 2.28963728064692451092e-01, 9.77717527963372745603e-01,
    1.45492250137234768737, 6.32827064025093366517e-01, -7.72156649015328655494e-02,
)  # fmt: skip
NEAR_ONE_Q = (
    3.21709242282423911810e-03, 1.04222645593369134254e-01, 7.69285150456672783825e-01,
    2.12848976379893395361, 2.45597793713041134822, 1.0,
)  # fmt: skip
FROM_TWO_P = (
    3.19475326584100867617e-05, 1.84028451407337715652e-03, 2.66422703033638609560e-02,
    1.46350472652464452805e-01, 3.25778796408930981787e-01, 2.14982415960608852501e-01,
    -7.72156649015328655494e-02,
)  # fmt: skip
FROM_TWO_Q = (
    7.32668430744625636189e-06, 7.77942496381893596434e-04, 1.86459191715652901344e-02,
    1.71933865632803078993e-01, 7.21935547567138069525e-01, 1.39200533467621045958, 1.0,
)  # fmt: skip
STIRLING = (
    -1.63092934096575273989e-03, 8.36339918996282139126e-04, -5.95187557450339963135e-04,
    7.93650558643019558500e-04, -2.77777777728775536470e-03, 8.33333333333329678849e-02,
)  # fmt: skip
STIRLING_CONSTANT = 4.18938533204672725052e-01


def _below_two(b: Any, x: Any, small: Any) -> Any:
    """lgamma(x) for 0.9 < x < 2, and where x is `small`, lgamma(x + 1)."""
    lifted = b.where(small, b.add(x, 1.0), x)
    y = b.sub(b.where(small, 1.0, b.add(b.mul(x, 0.0), 2.0)), x)
    z = b.mul(y, y)
    even, odd = polynomial(b, z, NEAR_TWO_EVEN), polynomial(b, z, NEAR_TWO_ODD)
    near_two = b.sub(b.add(b.mul(y, even), b.mul(z, odd)), b.mul(y, 0.5))

    y = b.where(small, b.sub(x, LOWEST_AT - 1.0), b.sub(x, LOWEST_AT))
    z = b.mul(y, y)
    w = b.mul(z, y)
    p1, p2, p3 = (polynomial(b, w, coefficients) for coefficients in NEAR_LOWEST)
    rest = b.sub(b.mul(w, b.add(p2, b.mul(y, p3))), LOWEST_TAIL)
    near_lowest = b.add(b.add(b.mul(z, p1), rest), LOWEST)

    y = b.where(small, x, b.sub(x, 1.0))
    near_one = b.sub(b.mul(y, ratio(b, y, NEAR_ONE_P, NEAR_ONE_Q)), b.mul(y, 0.5))
    lower = b.where(b.ge(lifted, 1.23164), near_lowest, near_one)
    return b.where(b.ge(lifted, 1.7316), near_two, lower)


def lgamma_of_positive(b: Any, x: Any) -> Any:
    """lgamma for x >= 0, in f64."""
    small, below_two, below_eight = b.le(x, 0.9), b.lt(x, 2.0), b.lt(x, 8.0)
    whole = b.floor(x)
    y = b.where(below_eight, b.sub(x, whole), 0.0)
    product = b.where(b.ge(whole, 3.0), b.add(y, 2.0), 1.0)
    for steps in range(3, 7):
        product = b.where(b.gt(whole, steps), b.mul(product, b.add(y, steps)), product)
    logarithm = b.log(b.where(b.bitwise_and(below_eight, b.ge(x, 2.0)), product, x))
    middle = b.add(b.mul(y, ratio(b, y, FROM_TWO_P, FROM_TWO_Q)), b.mul(y, 0.5))
    middle = b.add(middle, logarithm)

    start = _below_two(b, b.minimum(x, 2.0), small)
    start = b.where(small, b.sub(start, logarithm), start)

    inverse = b.div(1.0, x)
    series = b.mul(inverse, polynomial(b, b.mul(inverse, inverse), STIRLING))
    far = b.mul(b.sub(x, 0.5), b.sub(logarithm, 1.0))
    far = b.add(far, b.add(series, STIRLING_CONSTANT))
    return b.where(below_two, start, b.where(below_eight, middle, far))


def _lgamma(b: Any, x: Any) -> Any:
    """log(pi / |x sin(pi x)|) - lgamma(-x) for negative x; next to 0 that is -log |x|."""
    size = b.abs(x)
    value = lgamma_of_positive(b, size)
    area = b.abs(b.mul(size, sine_of_pi(b, size)))
    mirrored = b.sub(b.log(b.div(math.pi, area)), value)
    pole = b.bitwise_or(b.eq(area, 0.0), b.eq(size, math.inf))
    mirrored = b.where(pole, math.inf, mirrored)
    return b.where(b.lt(x, -(2.0**-70)), mirrored, value)


lgamma = declare(
    "lgamma",
    "composite",
    "x",
    infer=floating("lgamma"),
    decompose=in_f64(_lgamma),
    gradients={"x": lambda b, g, x: b.mul(g, b.digamma(x))},
    domain=(0.2, 9.0),
    doc="log |gamma(x)|; inf at 0 and at the negative integers.",
)

# digamma ------------------------------------------------------------------------------------------

# digamma(x) = (x - root) (DIGAMMA_SHIFT + P(x - 1) / Q(x - 1)) for 1 <= x <= 2; the root in parts.
DIGAMMA_ROOT = (
    1569415565.0 / 1073741824, 381566830.0 / 1073741824 / 1073741824, 9.016312093258695919e-20,
)  # fmt: skip
DIGAMMA_SHIFT = 0.99558162689208984
DIGAMMA_P = (
    -0.0020713321167745952, -0.045251321448739056, -0.28919126444774784, -0.65031853770896507,
    -0.32555031186804491, 0.25479851061131551,
)  # fmt: skip
DIGAMMA_Q = (
    -0.55789841321675513e-6, 0.0021284987017821144, 0.054151797245674225, 0.43593529692665969,
    1.4606242909763515, 2.0767117023730469, 1.0,
)  # fmt: skip
# log(y) + 1 / (2 y) - z P(z) for y = x - 1 >= 9, where z = 1 / y ** 2: Bernoulli's numbers.
DIGAMMA_FAR = (
    -0.44325980392156862745, 1.0 / 12, -0.021092796092796092796, 1.0 / 132, -1.0 / 240,
    1.0 / 252, -1.0 / 120, 1.0 / 12,
)  # fmt: skip


def _digamma(b: Any, x: Any) -> Any:
    negative = b.lt(x, 0.0)
    mirrored = b.where(negative, b.sub(1.0, x), x)
    small = b.lt(mirrored, 1.0)
    v = b.where(small, b.add(mirrored, 1.0), mirrored)
    far = b.ge(v, 10.0)
    # Down to 1 .. 2 in whole steps: digamma(v) = 1 / (v - 1) + digamma(v - 1).
    steps = b.where(far, 0.0, b.maximum(b.ceil(b.sub(v, 2.0)), 0.0))
    total = b.mul(v, 0.0)
    for k in range(1, 9):
        total = b.add(total, b.where(b.ge(steps, k), b.div(1.0, b.sub(v, k)), 0.0))
    w = b.where(far, 1.5, b.sub(v, steps))
    offset = b.sub(w, DIGAMMA_ROOT[0])
    offset = b.sub(b.sub(offset, DIGAMMA_ROOT[1]), DIGAMMA_ROOT[2])
    quotient = ratio(b, b.sub(w, 1.0), DIGAMMA_P, DIGAMMA_Q)
    near = b.add(b.add(b.mul(offset, DIGAMMA_SHIFT), b.mul(offset, quotient)), total)

    y = b.sub(v, 1.0)
    z = b.div(1.0, b.mul(y, y))
    tail = b.sub(b.div(0.5, y), b.mul(z, polynomial(b, z, DIGAMMA_FAR)))
    value = b.where(far, b.add(b.log(y), tail), near)
    value = b.where(small, b.sub(value, b.div(1.0, mirrored)), value)

    rest = b.mul(b.sub(x, b.round(x)), math.pi)
    reflected = b.sub(value, b.div(math.pi, b.tan(rest)))
    pole = b.eq(x, b.round(x))
    reflected = b.where(pole, math.nan, reflected)
    value = b.where(negative, reflected, value)
    return b.where(b.eq(x, 0.0), b.div(-1.0, x), value)


digamma = declare(
    "digamma",
    "composite",
    "x",
    infer=floating("digamma"),
    decompose=in_f64(_digamma),
    gradients={"x": lambda b, g, x: b.mul(g, b.polygamma(x, n=1))},
    domain=(0.2, 12.0),
    doc="The derivative of lgamma; nan at the negative integers, -inf at 0 and inf at -0.",
)

# Hurwitz' zeta and polygamma ----------------------------------------------------------------------

BERNOULLI_TERMS = 12
SUMMED = 10  # terms before the integral takes over


def _bernoulli(count: int) -> list[Fraction]:
    """B_0 .. B_count."""
    numbers = [Fraction(1)]
    for m in range(1, count + 1):
        total = sum((math.comb(m + 1, k) * numbers[k] for k in range(m)), Fraction(0))
        numbers.append(-total / (m + 1))
    return numbers


# B_2j / (2j)! of Euler and Maclaurin's formula.
EULER_MACLAURIN = tuple(
    float(number / math.factorial(2 * j))
    for j, number in enumerate(_bernoulli(2 * BERNOULLI_TERMS)[2::2], start=1)
)


def _power(b: Any, x: Any, exponent: int) -> Any:
    """A whole power by squaring."""
    result = None
    while exponent:
        if exponent & 1:
            result = x if result is None else b.mul(result, x)
        exponent >>= 1
        if exponent:
            x = b.mul(x, x)
    return result


def _zeta_of_whole(b: Any, s: int, q: Any) -> Any:
    """sum over k >= 0 of (q + k) ** -s, for whole s > 1 and q > 0."""
    summed = max(SUMMED, s)
    total = _power(b, b.div(1.0, q), s)
    for k in range(1, summed):
        total = b.add(total, _power(b, b.div(1.0, b.add(q, k)), s))
    end = b.add(q, summed)
    inverse = b.div(1.0, end)
    power = _power(b, inverse, s)
    rest = b.add(b.div(end, float(s - 1)), 0.5)
    square, step, rising = b.mul(inverse, inverse), inverse, float(s)
    for j, coefficient in enumerate(EULER_MACLAURIN, start=1):
        rest = b.add(rest, b.mul(step, coefficient * rising))
        step = b.mul(step, square)
        rising *= (s + 2 * j - 1) * (s + 2 * j)
    return b.where(b.eq(q, math.inf), 0.0, b.add(total, b.mul(power, rest)))


def _cotangent_derivative(n: int) -> tuple[float, ...]:
    """P with d^n/dt^n cot(t) = P(cot(t)); highest power first. P' (-1 - c ** 2) follows P."""
    coefficients = [0, 1]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(coefficients)][1:]
        coefficients = [-c for c in slope] + [0, 0]
        for k, c in enumerate(slope):
            coefficients[k + 2] -= c
    return tuple(float(c) for c in reversed(coefficients))


def _polygamma(b: Any, x: Any, *, n: int) -> Any:
    negative = b.lt(x, 0.0)
    scale = float(math.factorial(n)) if n <= 170 else math.inf
    value = _zeta_of_whole(b, n + 1, b.where(negative, b.sub(1.0, x), x))
    value = b.mul(value, scale if n % 2 else -scale)
    angle = b.mul(b.sub(x, b.round(x)), math.pi)
    cotangent = b.div(b.cos(angle), b.sin(angle))
    bend = b.mul(polynomial(b, cotangent, _cotangent_derivative(n)), math.pi ** (n + 1))
    return b.where(negative, b.sub(b.neg(value) if n % 2 else value, bend), value)


def _polygamma_types(x: TensorType, *, n: int) -> tuple[TensorType, ...]:
    if n < 1:
        raise AttributeTypeError(f"[polygamma] the order must be at least 1, given {n}")
    return floating("polygamma")(x)


polygamma = declare(
    "polygamma",
    "composite",
    "x",
    infer=_polygamma_types,
    decompose=in_f64(_polygamma),
    attributes={"n": int},
    gradients={"x": lambda b, g, x, n: b.mul(g, b.polygamma(x, n=n + 1))},
    domain=(0.2, 12.0),
    doc="""The n-th derivative of digamma, n >= 1: (-1) ** (n + 1) n! zeta(n + 1, x), reflected for
negative x.""",
)


def _zeta(b: Any, s: Any, q: Any) -> Any:
    power = b.pow(q, b.neg(s))
    total = power
    for k in range(1, SUMMED):
        total = b.add(total, b.pow(b.add(q, k), b.neg(s)))
    end = b.add(q, SUMMED)
    inverse = b.div(1.0, end)
    rest = b.add(b.div(end, b.sub(s, 1.0)), 0.5)
    square, factor = b.mul(inverse, inverse), b.mul(inverse, s)
    for j, coefficient in enumerate(EULER_MACLAURIN, start=1):
        rest = b.add(rest, b.mul(factor, coefficient))
        rising = b.mul(b.add(s, 2 * j - 1), b.add(s, 2 * j))
        factor = b.mul(b.mul(factor, square), rising)
    last = b.pow(end, b.neg(s))
    # For a large s the last power is 0 and the rest may be infinite.
    total = b.where(b.eq(last, 0.0), total, b.add(total, b.mul(last, rest)))
    total = b.where(b.eq(s, 1.0), math.inf, b.where(b.lt(s, 1.0), math.nan, total))
    pole = both(b, b.le(q, 0.0), b.eq(q, b.floor(q)), b.ge(s, 1.0))
    return b.where(pole, math.inf, b.where(b.lt(q, 0.0), math.nan, total))


zeta: Op = declare(
    "zeta",
    "composite",
    "s q",
    infer=floating("zeta"),
    decompose=in_f64(_zeta),
    gradients={"q": lambda b, g, s, q: b.mul(g, b.neg(b.mul(s, b.zeta(b.add(s, 1.0), q))))},
    broadcasts=True,
    domain=(1.5, 6.0),
    doc="""Hurwitz' zeta function, the sum over k >= 0 of (q + k) ** -s, for q > 0; nan for s < 1
and for negative q. There is no gradient for s.""",
)
