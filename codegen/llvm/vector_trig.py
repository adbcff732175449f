"""sin, cos, atan and atan2 of f32 and f64 vectors.

Arguments of sin and cos are reduced by multiples of pi/2: in f64 for f32 operands, in three exact
steps (Cody and Waite; fdlibm's rem_pio2) for f64 operands, and for huge ones, one lane at a time in
code that is hardly ever reached, by Payne and Hanek's multiplication with the bits of 2/pi that
matter (Payne and Hanek, "Radian reduction for trigonometric functions", SIGNUM Newsletter 18,
1983).
"""

from __future__ import annotations

from math import inf

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import (
    F64,
    I64,
    POINTER,
    bits_of,
    constant,
    intrinsic,
    lanes_of,
)
from braze.codegen.llvm.vector_values import Math, Num

TWO_OVER_PI = 0.6366197723675814
PI = (3.141592653589793, 1.2246467991473532e-16)
PI_OVER_2 = (1.5707963267948966, 6.123233995736766e-17)
PI_F32 = (3.1415927410125732, -8.742277657347586e-08)
PI_OVER_2_F32 = (1.5707963705062866, -4.371138828673793e-08)

# pi/2 in pieces of 33 bits, whose products with integers below 2^20 are exact.
PI_OVER_2_PIECES = (
    1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32,
)  # fmt: skip
# In 25 bits and a rest, for integers below 2^28.
PI_OVER_2_SHORT = (1.5707963109016418, 1.5893254773528196e-08)
# Up to here the reductions above hold.
_LARGEST = {32: 1e8, 64: 1.6e6}

# (sin(r) / r - 1) / r^2 in powers of r^2 for |r| <= pi/4: 2^-32.5, 2^-63.2.
SIN_TAIL = {
    32: (-0.1666666716337204, 0.008333379402756691, -0.00019852982950396836, 2.830801577147213e-06),
    64: (-0.16666666666666666, 0.008333333333333044, -0.00019841269840966744,
         2.755731907742686e-06, -2.5052072131589402e-08, 1.6054503314225454e-10,
         -7.400724357930585e-13),
}  # fmt: skip
# (cos(r) - 1 + r^2 / 2) / r^4 in powers of r^2: 2^-33, 2^-63.9.
COS_TAIL = {
    32: (0.04166664555668831, -0.00138873013202101, 2.443066841806285e-05),
    64: (0.04166666666666659, -0.0013888888888872056, 2.4801587288144645e-05,
         -2.7557313954209164e-07, 2.0875667752561773e-09, -1.13567090933268e-11),
}  # fmt: skip
# (atan(t) / t - 1) / t^2 in powers of t^2 for |t| <= tan(pi/8): 2^-30.4, 2^-63.5.
ATAN_TAIL = {
    32: (-0.33333316445350647, 0.19998525083065033, -0.14244283735752106, 0.10598037391901016,
         -0.0608641542494297),
    64: (-0.33333333333333326, 0.19999999999996934, -0.14285714285286336, 0.11111111081530833,
         -0.0909090789868616, 0.07692277130853888, -0.06666143242793518, 0.05876203852688387,
         -0.05213154765235984, 0.04482312935735869, -0.032983342487865504, 0.014700239116899577),
}  # fmt: skip

# The bits of 2/pi behind the point, after one word of zeros.
TWO_OVER_PI_BITS = (
    0x0, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561,
    0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484,
    0xE99C7026B45F7E41, 0x3991D639835339F4, 0x9C845F8BBDF9283B, 0x1FF897FFDE05980F,
    0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D, 0x7527BAC7EBE5F17B,
    0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB, 0xF0CFBC209AF4361D,
)  # fmt: skip


# Reduction ----------------------------------------------------------------------------------------


def _reduce(m: Math, x: Num) -> tuple[Num, Num, Num]:
    """x = n pi/2 + high + low in f64 lanes: n as an integer whose last two bits are right, high,
    low.
    """
    bits = bits_of(x.type)
    wide = m.wide(x) if bits == 32 else x
    whole, n = m.nearest(wide * TWO_OVER_PI)
    if bits == 32:
        first, rest = PI_OVER_2_SHORT
        high = m.fma(-whole, wide.of(rest), m.fma(-whole, wide.of(first), wide))
        low = wide.of(0.0)
    else:
        first, second, third, fourth = PI_OVER_2_PIECES
        high, low = m.two_sum(m.fma(-whole, wide.of(first), wide), -(whole * second))
        low = low - whole * third - whole * fourth
        high, low = m.fast_two_sum(high, low)
    size = m.abs(wide)
    huge = (size > _LARGEST[bits]) & (size < inf)
    return _reduce_huge(m, huge, wide, n, high, low, _LARGEST[bits])


def _reduce_huge(
    m: Math, huge: Num, x: Num, n: Num, high: Num, low: Num, limit: float
) -> tuple[Num, Num, Num]:
    """Replace the parts by exact ones in the lanes where x is huge, if there are any."""
    b, lanes = m.builder, lanes_of(x.type)
    parts = [x, n, high, low]
    with b.goto_entry_block():
        places = [b.alloca(part.type) for part in parts]
    before = b.block
    with b.if_then(m.any(huge), likely=False):
        for part, place in zip(parts, places, strict=True):
            b.store(part.value, place, align=8)
        function = _huge_lanes_function(m)
        b.call(function, [*places, constant(I64, lanes), constant(F64, limit)])
        loaded = [
            b.load(place, typ=part.type, align=8)
            for part, place in zip(parts[1:], places[1:], strict=True)
        ]
        inside = b.block
    results = []
    for part, new in zip(parts[1:], loaded, strict=True):
        phi = b.phi(part.type)
        phi.add_incoming(part.value, before)
        phi.add_incoming(new, inside)
        results.append(m.num(phi))
    return results[0], results[1], results[2]


def _huge_lanes_function(m: Math) -> ir.Function:
    """void f(x*, n*, high*, low*, lanes,
          limit): reduce the finite lanes beyond the limit exactly."""
    module = m.builder.module
    name = "braze_reduce_huge_lanes"
    function = module.globals.get(name)
    if function is not None:
        return function
    signature = ir.FunctionType(ir.VoidType(), [POINTER] * 4 + [I64, F64])
    function = ir.Function(module, signature, name)
    function.linkage = "internal"
    for attribute in ("nounwind", "noinline", "cold"):
        function.attributes.add(attribute)
    x_place, n_place, high_place, low_place, lanes, limit = function.args
    b = ir.IRBuilder(function.append_basic_block("entry"))
    inner = Math(b, m.target)
    head, body, huge, step, done = (
        function.append_basic_block(label) for label in ("head", "body", "huge", "step", "done")
    )
    b.branch(head)
    entry = function.entry_basic_block
    b.position_at_end(head)
    lane = b.phi(I64)
    lane.add_incoming(constant(I64, 0), entry)
    b.cbranch(b.icmp_signed("<", lane, lanes), body, done)
    b.position_at_end(body)
    x = inner.num(b.load(b.gep(x_place, [lane], source_etype=F64), typ=F64, align=8))
    size = inner.abs(x)
    is_huge = (size > inner.num(limit)) & (size < inf)
    b.cbranch(is_huge.value, huge, step)
    b.position_at_end(huge)
    n, high, low = _payne_hanek(inner, x)
    for value, place, type in ((n, n_place, I64), (high, high_place, F64), (low, low_place, F64)):
        b.store(value.value, b.gep(place, [lane], source_etype=type), align=8)
    b.branch(step)
    b.position_at_end(step)
    following = b.add(lane, constant(I64, 1))
    lane.add_incoming(following, step)
    b.branch(head)
    b.position_at_end(done)
    b.ret_void()
    return function


def _table(module: ir.Module) -> ir.GlobalVariable:
    type = ir.ArrayType(I64, len(TWO_OVER_PI_BITS))
    table = ir.GlobalVariable(module, type, "braze_two_over_pi")
    table.initializer = ir.Constant(type, [constant(I64, word) for word in TWO_OVER_PI_BITS])
    table.linkage = "internal"
    table.global_constant = True
    return table


def _payne_hanek(m: Math, x: Num) -> tuple[Num, Num, Num]:
    """x = (4 k + n) pi/2 + high + low for a finite f64 scalar with |x| >= 2^20.

    |x| = s 2^e with a 53-bit integer s. Bits of 2/pi above weight 2^(1 - e) contribute multiples of
    4 to the product; 192 bits below are enough, since no f64 lies closer than 2^-62 to a multiple
    of pi/2.
    """
    b = m.builder
    bits = m.bits(x)
    exponent = (bits.shift_right(52) & 0x7FF) - 1075
    significand = (bits & ((1 << 52) - 1)) | (1 << 52)
    position = exponent + (64 - 2)
    word, shift = position.shift_right(6), position & 63
    table = _table(b.module)

    def entry(k: int) -> ir.Value:
        place = b.gep(table, [(word + k).value], source_etype=I64)
        return b.load(place, typ=I64, align=8)

    words = [entry(k) for k in range(4)]
    window = [intrinsic(b, "fshl", I64, [words[k], words[k + 1], shift.value]) for k in range(3)]
    i128 = ir.IntType(128)

    def wide(value: ir.Value) -> Num:
        return m.num(b.zext(value, i128))

    def short(value: Num) -> Num:
        return m.num(b.trunc(value.value, I64))

    s = wide(significand.value)
    lowest = s * wide(window[2])
    middle = s * wide(window[1]) + lowest.shift_right(64)
    top = significand * m.num(window[0]) + short(middle.shift_right(64))
    quadrant = top.shift_right(62)
    # The fraction behind the quadrant's two bits, as a signed 128-bit number in [-1/2, 1/2).
    fraction_high = m.num(
        intrinsic(b, "fshl", I64, [top.value, short(middle).value, constant(I64, 2)])
    )
    fraction_low = m.num(
        intrinsic(b, "fshl", I64, [short(middle).value, short(lowest).value, constant(I64, 2)])
    )
    quadrant = quadrant + fraction_high.shift_right(63)
    first = m.to_float(fraction_high & ~0xFFF, F64) * 2.0**-64
    rest = ((fraction_high & 0xFFF) << 52) | fraction_low.shift_right(12)
    second = m.num(b.uitofp(rest.value, F64)) * 2.0**-116
    high, low = m.fast_two_sum(first, second)
    product, error = m.two_product(high, high.of(PI_OVER_2[0]))
    error = error + high * PI_OVER_2[1] + low * PI_OVER_2[0]
    high, low = m.fast_two_sum(product, error)
    negative = x < 0.0
    return (
        m.select(negative, -quadrant, quadrant),
        m.select(negative, -high, high),
        m.select(negative, -low, low),
    )


# Sine and cosine ----------------------------------------------------------------------------------


def _sin_cos(m: Math, x: Num, quarter_turns: int) -> Num:
    """sin(x + quarter_turns pi/2)."""
    bits = bits_of(x.type)
    n, high, low = _reduce(m, x)
    if bits == 32:
        r = m.narrow(high, x.type)
        n = m.resize(n, 32)
        z = r * r
        sine = m.fma(z * r, m.polynomial(z, SIN_TAIL[32]), r)
        cosine = m.fma(z * z, m.polynomial(z, COS_TAIL[32]), 1.0 - z * 0.5)
    else:
        r, z = high, high * high
        half = z * 0.5
        tail = m.polynomial(z, SIN_TAIL[64])
        # sin(r + low) = sin r + low cos r; cos(r + low) = cos r - low sin r.
        sine = r + m.fma(z * r, tail, low * (1.0 - half))
        near = 1.0 - half
        correction = m.fma(z * z, m.polynomial(z, COS_TAIL[64]), -(r * low))
        cosine = near + (((1.0 - near) - half) + correction)
    n = n + quarter_turns
    chosen = m.select((n & 1).equals(0), sine, cosine)
    sign = (n & 2) << (bits - 2)
    return m.from_bits(m.bits(chosen) ^ sign, x.type)


def emit_sin(m: Math, x: Num) -> Num:
    return m.select(x.equals(0.0), x, _sin_cos(m, x, 0))


def emit_cos(m: Math, x: Num) -> Num:
    return _sin_cos(m, x, 1)


# Inverse tangents ---------------------------------------------------------------------------------


def _angle(m: Math, y: Num, x: Num) -> Num:
    """atan(y / x) in [0, pi/2] for y, x >= 0, not both zero and not both infinite (after Cephes).

    One division: of y and x, of -x and y above 3/8 pi, of y - x and y + x in between.
    """
    bits = bits_of(x.type)
    steep = y > x * 2.414213562373095
    middle = y > x * 0.41421356237309503
    numerator = m.select(steep, -x, m.select(middle, y - x, y))
    denominator = m.select(steep, y, m.select(middle, y + x, x))
    t = numerator / denominator
    z = t * t
    tail = z * t * m.polynomial(z, ATAN_TAIL[bits])
    first, rest = PI_OVER_2 if bits == 64 else PI_OVER_2_F32
    null = x.of(0.0)
    start = m.select(steep, x.of(first), m.select(middle, x.of(first / 2), null))
    error = m.select(steep, x.of(rest), m.select(middle, x.of(rest / 2), null))
    return start + (t + (tail + error))


def emit_atan(m: Math, x: Num) -> Num:
    size = m.abs(x)
    return m.copysign(_angle(m, size, x.of(1.0)), x)


def emit_atan2(m: Math, y: Num, x: Num) -> Num:
    bits = bits_of(x.type)
    height, width = m.abs(y), m.abs(x)
    # Sums of huge numbers would overflow; quotients do not change.
    large = {32: 2.0**120, 64: 2.0**1000}[bits]
    shrink = m.select((height > large) | (width > large), x.of(2.0**-10), x.of(1.0))
    both_infinite = height.equals(inf) & width.equals(inf)
    both_zero = height.equals(0.0) & width.equals(0.0)
    width = m.select(both_infinite | both_zero, x.of(1.0), width * shrink)
    height = m.select(both_infinite, x.of(1.0), height * shrink)
    angle = _angle(m, height, width)
    first, rest = PI if bits == 64 else PI_F32
    left = m.bits(x) < 0
    angle = m.select(left, first - (angle - rest), angle)
    return m.copysign(angle, y)
