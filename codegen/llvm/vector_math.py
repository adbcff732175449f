"""Transcendental functions of f32 and f64 vectors of any width, as LLVM IR without library calls.

In: a function's name and its operands.  Out: a call of a function private to the module, which is
written into the module on first use and inlined where it is short. exp and log are within 2 units
in the last place in f32, the others within a few; results at zeros, infinities, nans and subnormal
numbers are IEEE's.

The polynomials are minimax approximations found with Remez' algorithm (Muller, "Elementary
Functions", 3rd ed., chapter 3) and rounded to the format; the relative error of each is given
beside it. The reductions are the classical ones of Cody and Waite, "Software Manual for the
Elementary Functions", 1980, and of fdlibm (Ng, Sun Microsystems, 1993).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, nan

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import bits_of, lanes_of
from braze.codegen.llvm.vector_power import emit_pow, emit_remainder
from braze.codegen.llvm.vector_trig import emit_atan, emit_atan2, emit_cos, emit_sin
from braze.codegen.llvm.vector_values import Math, Num
from braze.ir.target import Target

LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first has so few bits that its product with an exponent is exact.
LN2 = {
    32: (0.693145751953125, 1.4286068203094173e-06),
    64: (0.6931471805598903, 5.497923018708371e-14),
}

# (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2: 2^-28.7, 2^-58.9.
EXP_TAIL = {
    32: (0.5, 0.1666666716337204, 0.04166637733578682, 0.008333275094628334, 0.0013939578784629703,
         0.00019913182768505067),
    64: (0.5, 0.16666666666666674, 0.0416666666666667, 0.008333333333322658, 0.0013888888888868658,
         0.0001984126988384708, 2.4801587357746602e-05, 2.7557246247539793e-06,
         2.755724470566225e-07, 2.5108400526907956e-08, 2.09239447246812e-09),
}  # fmt: skip

# (log(1 + f) - f + f^2 / 2) / f^3 for sqrt(1/2) <= 1 + f <= sqrt(2): 2^-27.
LOG_TAIL = (
    0.3333331048488617, -0.25, 0.2000226229429245, -0.16668656468391418, 0.1421717405319214,
    -0.12393780052661896, 0.11890989542007446, -0.11715948581695557, 0.06764732301235199,
)  # fmt: skip

# (2 artanh(s) - 2 s) / s^3 in powers of s^2, where s = f / (2 + f): 2^-65.5.
LOG_RATIO_TAIL = (
    0.6666666666666666, 0.4000000000000504, 0.28571428569351975, 0.22222222617896478,
    0.18181777369159796, 0.15387035554666748, 0.1325103328071218, 0.13245357464436092,
)  # fmt: skip

# erf(x) / x - 1 in powers of x^2: f32 for |x| <= 0.92 (2^-29.9), f64 for |x| <= 1 (2^-56.2).
ERF_CENTRE = {
    32: (0.12837916612625122, -0.3761262893676758, 0.11283624172210693, -0.0268555860966444,
         0.005191936623305082, -0.0008043628768064082, 7.968403224367648e-05),
    64: (0.1283791670955126, -0.3761263890318411, 0.11283791670972063, -0.026866170648280306,
         0.0052239776556737, -0.0008548328734400238, 0.00012055394289075505,
         -1.492709364124977e-05, 1.648470721751011e-06, -1.65980590309166e-07,
         1.6301706707804588e-08, -1.762424640788198e-09, 1.6370637600748477e-10),
}  # fmt: skip

# log(erfc(x)): f32 for 0.9 <= x <= 4.1, f64 for 1 <= x <= 6.05. The error of 1 - erfc(x) is below
# 2^-33, 2^-62.
ERFC_LOG = {
    32: (0.00015338414232246578, -1.1293970346450806, -0.6336274743080139, -0.10790537297725677,
         0.02481243386864662, -0.004013185855001211, 0.00038473113090731204,
         -1.2330177014518995e-05, -6.610511036342359e-07),
    64: (2.6707540025776115e-08, -1.1283795080126653, -0.6366177146904978, -0.10278041672846039,
         0.019149395447018852, 0.00016701329268182263, -0.0016299821328968503,
         0.000507092528635133, 5.85320298382426e-05, -0.00013464054395749024,
         7.744421358706662e-05, -2.977744288500242e-05, 8.723132217480431e-06,
         -2.0232362235744245e-06, 3.74779088091278e-07, -5.505733114555511e-08,
         6.288785287057423e-09, -5.391530441002405e-10, 3.2653290963108906e-11,
         -1.2454760866626422e-12, 2.2490766660144044e-14),
}  # fmt: skip

ERF_CENTRE_END = {32: 0.91, 64: 1.0}
ERF_END = {32: 4.1, 64: 6.05}


def call_math(builder: ir.IRBuilder, target: Target, name: str, *operands: ir.Value) -> ir.Value:
    """Emit a call of the function `name` (see `FUNCTIONS`) on f32 or f64 scalars or vectors."""
    type = operands[0].type
    element = "f64" if bits_of(type) == 64 else "f32"
    symbol = f"braze_{name}_{element}x{lanes_of(type)}"
    function = builder.module.globals.get(symbol)
    if function is None:
        signature = ir.FunctionType(type, [type] * len(operands))
        function = ir.Function(builder.module, signature, symbol)
        function.linkage = "internal"
        function.attributes.add("nounwind")
        # A few functions are so long that a call costs less than copies of them.
        function.attributes.add("noinline" if name in LONG and element == "f64" else "alwaysinline")
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        math = Math(inner, target)
        result = FUNCTIONS[name](math, *(math.num(argument) for argument in function.args))
        inner.ret(result.value)
    return builder.call(function, operands)


# Exponentials -------------------------------------------------------------------------------------


def reduce_exp(m: Math, x: Num) -> tuple[Num, Num]:
    """x = n ln 2 + r with |r| <= ln(2) / 2: the integer n, and r."""
    _, n, r = _reduced(m, x)
    return n, r


def _reduced(m: Math, x: Num) -> tuple[Num, Num, Num]:
    """The same, n as a float and as an integer."""
    high, low = LN2[bits_of(x.type)]
    whole, n = m.nearest(x, LOG2_E)
    r = m.fma(-whole, x.of(high), x)
    return whole, n, m.fma(-whole, x.of(low), r)


def expm1_reduced(m: Math, r: Num) -> Num:
    """e^r - 1 for |r| <= ln(2) / 2."""
    return m.fma(r * r, m.polynomial(r, EXP_TAIL[bits_of(r.type)]), r)


def emit_exp(m: Math, x: Num) -> Num:
    """e^x = 2^n e^r. The bounds lie where the result has reached infinity and zero."""
    bits = bits_of(x.type)
    bounded = m.at_least(m.at_most(x, {32: 89.0, 64: 710.0}[bits]), {32: -104.0, 64: -746.0}[bits])
    whole, n, r = _reduced(m, bounded)
    result = expm1_reduced(m, r) + 1.0
    return m.scale_in_one(result, whole) if m.scales_in_one(x.type) else m.scale(result, n)


def emit_expm1(m: Math, x: Num) -> Num:
    """2^n (e^r - 1) + (2^n - 1), computed at half its size, since 2^n may overflow where the result
    does not.
    """
    bits = bits_of(x.type)
    bounded = m.at_least(m.at_most(x, {32: 89.0, 64: 710.0}[bits]), {32: -20.0, 64: -40.0}[bits])
    n, r = reduce_exp(m, bounded)
    half = m.power_of_two(n - 1, x.type)
    grown = m.fma(half, expm1_reduced(m, r), half - 0.5)
    return m.select(x.equals(0.0), x, grown + grown)


# Logarithms ---------------------------------------------------------------------------------------


def split_exponent(m: Math, x: Num) -> tuple[Num, Num]:
    """x = 2^k s with sqrt(1/2) <= s < sqrt(2), for normal x > 0: the integer k, and s."""
    bits = bits_of(x.type)
    shift = 52 if bits == 64 else 23
    root = 0x3FE6A09E667F3BCD if bits == 64 else 0x3F3504F3
    above = m.bits(x) - root
    k = above >> shift
    significand = (above & ((1 << shift) - 1)) + root
    return k, m.from_bits(significand, x.type)


def log_of_parts(m: Math, k: Num, f: Num) -> Num:
    """k ln 2 + log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2) (after fdlibm and Cephes)."""
    high, low = LN2[bits_of(f.type)]
    exponent = m.to_float(k, f.type)
    half_square = f * f * 0.5
    if bits_of(f.type) == 32:
        tail = m.fma(f * f * f, m.polynomial(f, LOG_TAIL), exponent * low)
        return m.fma(exponent, f.of(high), f + (tail - half_square))
    s = f / (f + 2.0)
    z = s * s
    ratio = z * m.polynomial(z, LOG_RATIO_TAIL)
    tail = m.fma(s, half_square + ratio, exponent * low)
    return m.fma(exponent, f.of(high), f - (half_square - tail))


def _log_edges(m: Math, x: Num, zero_at: float, result: Num) -> Num:
    """-inf where x is `zero_at`, nan below, x itself for inf and nan."""
    result = m.select(x < inf, result, x)
    below = m.select(x.equals(zero_at), x.of(-inf), x.of(nan))
    return m.select(x <= zero_at, below, result)


def emit_log(m: Math, x: Num) -> Num:
    bits = bits_of(x.type)
    smallest, lift = {32: (2.0**-126, 25), 64: (2.0**-1022, 54)}[bits]
    subnormal = x < smallest
    normal = m.select(subnormal, x * 2.0**lift, x)
    k, significand = split_exponent(m, normal)
    k = k - m.select(subnormal, k.of(lift), k.of(0))
    return _log_edges(m, x, 0.0, log_of_parts(m, k, significand - 1.0))


def emit_log1p(m: Math, x: Num) -> Num:
    """log of the rounded sum u = 1 + x = 2^k s, with the rounding error scaled by 2^-k added to s -
    1.
    """
    u = x + 1.0
    error = m.select(x > 1.0, 1.0 - (u - x), x - (u - 1.0))
    k, significand = split_exponent(m, u)
    # From 2^60 on the error is of no account.
    bounded = m.num(m.builder.select((k < 60).value, k.value, k.of(60).value))
    bounded = m.num(m.builder.select((bounded > -60).value, bounded.value, k.of(-60).value))
    f = m.fma(error, m.power_of_two(-bounded, x.type), significand - 1.0)
    result = _log_edges(m, x, -1.0, log_of_parts(m, k, f))
    return m.select(x.equals(0.0), x, result)


# Sigmoids -----------------------------------------------------------------------------------------


def emit_tanh(m: Math, x: Num) -> Num:
    """t / (t + 2) with t = e^(2|x|) - 1, which is accurate for all x."""
    size = m.at_most(m.abs(x), 22.0)
    n, r = reduce_exp(m, size + size)
    power = m.power_of_two(n, x.type)
    t = m.fma(power, expm1_reduced(m, r), power - 1.0)
    return m.copysign(t / (t + 2.0), x)


def emit_erf(m: Math, x: Num) -> Num:
    """x + x P(x^2) near zero, else 1 - e^Q(|x|) (the second form after N. Juffa)."""
    bits = bits_of(x.type)
    size = m.abs(x)
    centre = m.fma(x, m.polynomial(x * x, ERF_CENTRE[bits]), x)
    bounded = m.at_most(size, ERF_END[bits])
    n, r = reduce_exp(m, m.polynomial(bounded, ERFC_LOG[bits]))
    complement = m.power_of_two(n, x.type) * (expm1_reduced(m, r) + 1.0)
    outer = m.copysign(1.0 - complement, x)
    return m.select(size < ERF_CENTRE_END[bits], centre, outer)


FUNCTIONS: Mapping[str, Callable[..., Num]] = {
    "exp": emit_exp,
    "expm1": emit_expm1,
    "log": emit_log,
    "log1p": emit_log1p,
    "tanh": emit_tanh,
    "erf": emit_erf,
    "sin": emit_sin,
    "cos": emit_cos,
    "atan": emit_atan,
    "atan2": emit_atan2,
    "pow": emit_pow,
    "remainder": emit_remainder,
}

LONG = frozenset({"sin", "cos", "pow", "remainder", "atan2"})
