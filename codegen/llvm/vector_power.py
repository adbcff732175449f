"""pow and remainder of f32 and f64 vectors.

pow is 2^(y log2 x). For f32 operands f64 arithmetic makes that accurate; for f64 operands the
logarithm and its product with y are carried as unevaluated sums of two numbers (Dekker, "A
floating-point technique for extending the available precision", 1971; the structure is that of
SLEEF: Shibata and Petrogalli, IEEE TPDS 31, 2020).
"""

from __future__ import annotations

from math import inf, nan

from braze.codegen.llvm.types import bits_of
from braze.codegen.llvm.vector_values import Math, Num

# log2((1 + s) / (1 - s)) / s in powers of s^2 for |s| <= 0.172: 2^-45.
LOG2_SERIES = (
    2.8853900817778446, 0.961796694124115, 0.5770779389993672, 0.412209613720419,
    0.3198900835148781, 0.2831336372841104,
)  # fmt: skip
# (2^t - 1) / t for |t| <= 1/2: 2^-40.
EXP2_SERIES = (
    0.6931471805467415, 0.2402265069555987, 0.0555041093937535, 0.009618129218588917,
    0.001333345172781396, 0.00015403415860177732, 1.530986075774363e-05, 1.3263442338529875e-06,
)  # fmt: skip
# (2 artanh(s) - 2 s - 2/3 s^3) / s^5 in powers of s^2: 2^-73 of the whole.
ARTANH_TAIL = (
    0.3999999999999999, 0.2857142857143822, 0.22222222218897264, 0.1818181873169235,
    0.15384564851441498, 0.1333605516236456, 0.11679407935350025, 0.11955830709688019,
)  # fmt: skip
TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
LOG2_E = 1.4426950408889634
LN2 = (0.6931471805598903, 5.497923018708371e-14)
EXP_TAIL = (
    0.5, 0.16666666666666674, 0.0416666666666667, 0.008333333333322658, 0.0013888888888868658,
    0.0001984126988384708, 2.4801587357746602e-05, 2.7557246247539793e-06, 2.755724470566225e-07,
    2.5108400526907956e-08, 2.09239447246812e-09,
)  # fmt: skip

_ROOT_HALF_BITS = 0x3FE6A09E667F3BCD


def emit_pow(m: Math, x: Num, y: Num) -> Num:
    """x^y with C99's special cases (F.9.4.4)."""
    size = m.abs(x)
    result = _power_f32(m, size, y) if bits_of(x.type) == 32 else _power_f64(m, size, y)
    rises = y > 0.0
    result = m.select(size.equals(0.0), m.select(rises, x.of(0.0), x.of(inf)), result)
    result = m.select(size.equals(inf), m.select(rises, x.of(inf), x.of(0.0)), result)
    result = m.select(size.equals(1.0), x.of(1.0), result)
    half = y * 0.5
    whole = m.floor(y).equals(y)
    odd = whole & ~m.floor(half).equals(half)
    negative = m.bits(x) < 0
    result = m.select(negative & odd, -result, result)
    undefined = (x < 0.0) & (x > -inf) & ~whole
    result = m.select(undefined & (m.abs(y) < inf), x.of(nan), result)
    result = m.select(m.is_nan(x + y) & (m.is_nan(x) | m.is_nan(y)), x.of(nan), result)
    return m.select(y.equals(0.0) | x.equals(1.0), x.of(1.0), result)


def _split(m: Math, x: Num) -> tuple[Num, Num]:
    """x = 2^k s with sqrt(1/2) <= s < sqrt(2), for a normal f64 x > 0."""
    above = m.bits(x) - _ROOT_HALF_BITS
    significand = (above & ((1 << 52) - 1)) + _ROOT_HALF_BITS
    # k is small: as an f64 it is the low bits of 1.5 * 2^52 + k, for processors lack i64
    # conversions.
    k = above >> 52
    magic = 1.5 * 2.0**52
    whole = m.from_bits(k + m.bits(x.of(magic)), x.type) - magic
    return whole, m.from_bits(significand, x.type)


def _power_f32(m: Math, x: Num, y: Num) -> Num:
    """x^y for x > 0 in f64 lanes, where every f32 is a normal number."""
    wide = m.wide(x)
    k, s = _split(m, wide)
    ratio = (s - 1.0) / (s + 1.0)
    log2 = m.fma(ratio, m.polynomial(ratio * ratio, LOG2_SERIES), k)
    exponent = m.wide(y) * log2
    # Far outside f32's range, far inside f64's.
    exponent = m.at_least(m.at_most(exponent, 1000.0), -1000.0)
    whole, n = m.nearest(exponent)
    t = exponent - whole
    power = m.fma(t, m.polynomial(t, EXP2_SERIES), t.of(1.0))
    return m.narrow(power * m.power_of_two(n, wide.type), x.type)


def _power_f64(m: Math, x: Num, y: Num) -> Num:
    """x^y for x > 0."""
    log_high, log_low = _log_double(m, x)
    # No logarithm but 0 is below 2^-53 in size: from here on the power is 0 or infinite, and the
    # exact product does not overflow on its way.
    y = m.at_least(m.at_most(y, 2.0**70), -(2.0**70))
    high, low = m.two_product(log_high, y)
    low = m.fma(log_low, y, low)
    total = high + low
    bounded = m.at_least(m.at_most(total, 710.0), -746.0)
    whole, n = m.nearest(bounded * LOG2_E)
    r = m.fma(-whole, x.of(LN2[0]), high)
    r, rest = m.two_sum(r, low - whole * LN2[1])
    rest = m.fma(r * r, m.polynomial(r, EXP_TAIL), rest)
    one, error = m.fast_two_sum(x.of(1.0), r)
    result = m.scale(one + (error + rest), n)
    result = m.select(total > 709.79, x.of(inf), result)
    return m.select(total < -745.2, x.of(0.0), result)


def _log_double(m: Math, x: Num) -> tuple[Num, Num]:
    """log(x) as a sum of two numbers, to about 2^-68 of its size."""
    subnormal = x < 2.0**-1022
    k, s = _split(m, m.select(subnormal, x * 2.0**54, x))
    k = k - m.select(subnormal, x.of(54.0), x.of(0.0))
    numerator = s - 1.0
    denominator, denominator_low = m.two_sum(s, s.of(1.0))
    q = numerator / denominator
    product, error = m.two_product(q, denominator)
    q_low = ((numerator - product) - error - q * denominator_low) / denominator
    # q^2 and q^3 as sums of two, for the terms 2 q + 2/3 q^3.
    z, z_low = m.two_product(q, q)
    z_low = z_low + (q + q) * q_low
    cube, cube_low = m.two_product(z, q)
    cube_low = cube_low + z * q_low + z_low * q
    third, third_low = m.two_product(cube, cube.of(TWO_THIRDS[0]))
    third_low = third_low + cube * TWO_THIRDS[1] + cube_low * TWO_THIRDS[0]
    tail = z * cube * m.polynomial(z, ARTANH_TAIL)
    high, low = m.two_sum(k * LN2[0], q + q)
    low = low + (q_low + q_low)
    high, error = m.two_sum(high, third)
    low = low + error + (third_low + tail)
    low = m.fma(k, low.of(LN2[1]), low)
    return m.fast_two_sum(high, low)


# Remainder ----------------------------------------------------------------------------------------


def emit_remainder(m: Math, x: Num, y: Num) -> Num:
    """x - floor(x / y) y, exactly, with the sign of y; nan for an infinite x or a zero y."""
    size, divisor = m.abs(x), m.abs(y)
    valid = (size < inf) & (divisor > 0.0)
    rest = _positive_remainder(
        m, m.select(valid, size, x.of(0.0)), m.select(valid, divisor, x.of(1.0))
    )
    signed = m.copysign(rest, x)
    opposite = (m.bits(x) ^ m.bits(y)) < 0
    signed = m.select(opposite, signed + y, signed)
    signed = m.select(rest.equals(0.0), m.copysign(x.of(0.0), y), signed)
    return m.select(valid, signed, x.of(nan))


def _positive_remainder(m: Math, x: Num, y: Num) -> Num:
    """x mod y for finite x >= 0 and y > 0, exactly.

    Each round subtracts a multiple of y 2^j, with j such that the quotient is a small integer: the
    difference is then a number of the format. Most often one round is enough; the loop ends when
    every lane is done.
    """
    b = m.builder
    bits = bits_of(x.type)
    shift, keep = (52, 48) if bits == 64 else (23, 20)
    lift = shift + 1
    subnormal = y < (2.0**-1022 if bits == 64 else 2.0**-126)
    exponent = m.bits(m.select(subnormal, y * 2.0**lift, y)) >> shift
    exponent = exponent - m.select(subnormal, exponent.of(lift), exponent.of(0))
    before = b.block
    loop = b.append_basic_block("remainder")
    done = b.append_basic_block("remainder.done")
    b.cbranch(m.any(x >= y), loop, done)
    b.position_at_end(loop)
    phi = b.phi(x.type)
    phi.add_incoming(x.value, before)
    rest = m.num(phi)
    distance = (m.bits(rest) >> shift) - exponent - keep
    distance = m.select(distance > 0, distance, distance.of(0))
    # In four factors: 2^distance alone might be no number of the format.
    quarter = distance >> 2
    factor = m.power_of_two(quarter, x.type)
    last = m.power_of_two(distance - quarter * 3, x.type)
    step = y * factor * factor * factor * last
    quotient = m.floor(rest / step)
    reduced = _exact_difference(m, rest, quotient, step)
    reduced = m.select(reduced < 0.0, reduced + step, reduced)
    reduced = m.select(rest >= y, reduced, rest)
    phi.add_incoming(reduced.value, b.block)
    b.cbranch(m.any(reduced >= y), loop, done)
    exit_block = b.block
    b.position_at_end(done)
    result = b.phi(x.type)
    result.add_incoming(x.value, before)
    result.add_incoming(reduced.value, exit_block)
    return m.num(result)


def _exact_difference(m: Math, rest: Num, quotient: Num, step: Num) -> Num:
    """rest - quotient * step, which the format can represent."""
    if m.has_fma:
        return m.fma(-quotient, step, rest)
    if bits_of(rest.type) == 32:
        return m.narrow(m.wide(rest) - m.wide(quotient) * m.wide(step), rest.type)
    # Near the largest numbers the halves of an exact product overflow. The step is at least
    # 2^-49 of the rest, so that both may be scaled down.
    large = rest > 2.0**900
    scale = m.select(large, rest.of(2.0**-100), rest.of(1.0))
    back = m.select(large, rest.of(2.0**100), rest.of(1.0))
    product, error = m.two_product(quotient, step * scale)
    return ((rest * scale - product) - error) * back
