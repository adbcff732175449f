"""Composite elementwise functions of several operands: division with rounding, signs, logarithms of
sums, interpolation, whole powers.

Values at zeros, infinities and nans are PyTorch's (ATen/native/cpu/BinaryOpsKernel.cpp), gradients
those of tools/autograd/derivatives.yaml.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from braze.ir.dtypes import bool_, f64
from braze.ir.errors import DTypeError
from braze.ir.op import Op, Rule, declare
from braze.ir.ops.composite import as_dtype, both, in_wide
from braze.ir.ops.logarithms import BITS_AS
from braze.ir.ops.rules import floating, numeric, predicate, same
from braze.ir.types import TensorType, broadcast_shapes, tensor_type

Infer = Callable[..., tuple[TensorType, ...]]


def _joint(
    name: str,
    operands: str,
    decompose: Rule,
    doc: str,
    *,
    infer: Infer | None = None,
    gradients: Mapping[str, Rule] | None = None,
    complex: Rule | bool = False,
    domain: tuple[float, float] = (0.5, 2.0),
) -> Op:
    return declare(
        name,
        "composite",
        operands,
        infer=infer or floating(name),
        decompose=decompose,
        gradients=gradients,
        differentiable=gradients is not None,
        broadcasts=True,
        complex=complex,
        domain=domain,
        doc=doc,
    )


# Division with rounding ---------------------------------------------------------------------------


def _differ_in_sign(b: Any, x: Any, y: Any) -> Any:
    return b.ne(b.lt(x, 0), b.lt(y, 0))


def _fmod(b: Any, x: Any, y: Any) -> Any:
    if x.type.dtype.is_floating_point:  # the remainder of the sizes is exact
        return b.copysign(b.remainder(b.abs(x), b.abs(y)), x)
    rest = b.remainder(x, y)
    return b.where(b.bitwise_and(b.ne(rest, 0), _differ_in_sign(b, x, y)), b.sub(rest, y), rest)


fmod = _joint(
    "fmod",
    "x y",
    _fmod,
    "What division rounded towards zero leaves, with the sign of x, as C's fmod.",
    infer=numeric("fmod"),
    gradients={
        "x": lambda b, g: g,
        "y": lambda b, g, x, y: b.neg(b.mul(g, b.trunc(b.div(x, y)))),
    },
)


def _div_floor(b: Any, x: Any, y: Any) -> Any:
    """(x - remainder) / y, which is whole but for rounding: 1 // 0.1 is 9, floor(1 / 0.1) is 10.
    Infinities as in Python: -1 // inf is -1, inf // 1 is nan. A zero has the quotient's sign.
    """
    if not x.type.dtype.is_floating_point:
        return b.floor_divide(x, y)
    quotient = b.div(x, y)
    whole = b.round(b.div(b.sub(x, b.remainder(x, y)), y))
    whole = b.where(b.eq(whole, 0.0), b.mul(quotient, 0.0), whole)
    # Where the remainder says nothing: y is infinite or 0, or x or the quotient is infinite.
    below = b.lt(b.mul(b.sign(x), b.sign(y)), 0.0)
    beyond = b.where(b.eq(b.abs(y), math.inf), b.where(below, -1.0, quotient), quotient)
    lost = b.bitwise_and(b.eq(b.abs(x), math.inf), b.ne(y, 0.0))
    beyond = b.where(lost, math.nan, beyond)
    usable = both(b, b.ne(y, 0.0), b.lt(b.abs(quotient), math.inf), b.lt(b.abs(y), math.inf))
    return b.where(usable, whole, beyond)


def _div_trunc(b: Any, x: Any, y: Any) -> Any:
    if x.type.dtype.is_floating_point:
        return b.trunc(b.div(x, y))
    down = b.floor_divide(x, y)
    inexact = b.ne(b.mul(down, y), x)
    up = both(b, inexact, _differ_in_sign(b, x, y), b.ne(y, 0))
    return b.where(up, b.add(down, 1), down)


_FLAT: dict[str, Rule] = {
    "x": lambda b, g: b.mul(g, 0.0),
    "y": lambda b, g, y: b.mul(y, b.mul(g, 0.0)),
}
div_floor = _joint(
    "div_floor",
    "x y",
    in_wide(_div_floor),
    "x / y rounded down, consistent with `remainder`; the gradient is 0.",
    infer=numeric("div_floor"),
    gradients=_FLAT,
)
div_trunc = _joint(
    "div_trunc",
    "x y",
    _div_trunc,
    "x / y rounded towards zero; the gradient is 0.",
    infer=numeric("div_trunc"),
    gradients=_FLAT,
)

# Signs --------------------------------------------------------------------------------------------


def _sign_bit(b: Any, x: Any) -> Any:
    dtype = x.type.dtype
    if dtype.is_floating_point:
        return b.lt(b.bitcast(x, dtype=BITS_AS[dtype.bits]), 0)
    return b.lt(x, 0) if dtype.kind == "int" else b.ne(x, x)


signbit = _joint(
    "signbit",
    "x",
    _sign_bit,
    "True where the sign bit is set: for negative numbers, -0 and some nans.",
    infer=predicate("signbit"),
)


def _copysign_gradient(b: Any, g: Any, x: Any, y: Any) -> Any:
    sign = b.copysign(b.add(b.mul(x, 0.0), 1.0), y)
    return b.mul(g, b.mul(b.sign(x), sign))


copysign = _joint(
    "copysign",
    "x y",
    lambda b, x, y: b.where(_sign_bit(b, y), b.neg(b.abs(x)), b.abs(x)),
    "|x| with the sign of y.",
    gradients={"x": _copysign_gradient, "y": lambda b, g, y: b.mul(y, b.mul(g, 0.0))},
)
heaviside = _joint(
    "heaviside",
    "x values",
    lambda b, x, values: b.where(b.eq(x, 0), values, as_dtype(b, b.gt(x, 0), x.type.dtype)),
    "0 where x < 0, 1 where x > 0, and `values` where x is 0.",
    infer=numeric("heaviside"),
)


def _infinite(bound: float) -> Rule:
    def decompose(b: Any, x: Any) -> Any:
        return b.eq(x, bound) if x.type.dtype.is_floating_point else b.ne(x, x)

    return decompose


isposinf = _joint(
    "isposinf", "x", _infinite(math.inf), "True where x is inf.", infer=predicate("isposinf")
)
isneginf = _joint(
    "isneginf", "x", _infinite(-math.inf), "True where x is -inf.", infer=predicate("isneginf")
)


def _xor_types(x: TensorType, y: TensorType) -> tuple[TensorType, ...]:
    return (tensor_type(bool_, broadcast_shapes("logical_xor", x, y)),)


logical_xor = _joint(
    "logical_xor",
    "x y",
    lambda b, x, y: b.bitwise_xor(as_dtype(b, x, bool_), as_dtype(b, y, bool_)),
    "True where exactly one is nonzero; the dtypes may differ.",
    infer=_xor_types,
)

# Extrema that overlook nans -----------------------------------------------------------------------


def _without_nan(largest: bool) -> Rule:
    def decompose(b: Any, x: Any, y: Any) -> Any:
        best = b.maximum(x, y) if largest else b.minimum(x, y)
        if not x.type.dtype.is_floating_point:
            return best
        return b.where(b.ne(x, x), y, b.where(b.ne(y, y), x, best))

    return decompose


def _first_wins(b: Any, x: Any, y: Any, largest: bool) -> Any:
    return b.bitwise_or(b.ge(x, y) if largest else b.le(x, y), b.ne(y, y))


def _extremum(name: str, largest: bool) -> Op:
    word = "larger" if largest else "smaller"
    return _joint(
        name,
        "x y",
        _without_nan(largest),
        f"The {word} operand; where one is nan the other. The gradient at a tie goes to x.",
        infer=same(name),
        gradients={
            "x": lambda b, g, x, y: b.where(_first_wins(b, x, y, largest), g, 0.0),
            "y": lambda b, g, x, y: b.where(_first_wins(b, x, y, largest), 0.0, g),
        },
    )


fmax, fmin = _extremum("fmax", True), _extremum("fmin", False)

# Lengths and logarithms ---------------------------------------------------------------------------


def _hypot(b: Any, x: Any, y: Any) -> Any:
    if x.type.dtype is not f64:  # in f64 the squares of narrower floats neither overflow nor round
        wide, tall = b.cast(x, dtype=f64), b.cast(y, dtype=f64)
        root = b.sqrt(b.add(b.mul(wide, wide), b.mul(tall, tall)))
        value = b.cast(root, dtype=x.type.dtype)
    else:
        long, short = b.maximum(b.abs(x), b.abs(y)), b.minimum(b.abs(x), b.abs(y))
        part = b.div(short, b.where(b.eq(long, 0.0), 1.0, long))
        value = b.mul(long, b.sqrt(b.add(b.mul(part, part), 1.0)))
    infinite = b.bitwise_or(b.eq(b.abs(x), math.inf), b.eq(b.abs(y), math.inf))
    return b.where(infinite, math.inf, value)


hypot = _joint(
    "hypot",
    "x y",
    _hypot,
    "sqrt(x ** 2 + y ** 2), without overflow.",
    gradients={
        "x": lambda b, g, x, out: b.mul(g, b.div(x, out)),
        "y": lambda b, g, y, out: b.mul(g, b.div(y, out)),
    },
)


def _logaddexp(scale: float) -> Rule:
    """The larger plus log1p(e ** -gap) of the gap between them; equal infinities stay."""

    def decompose(b: Any, x: Any, y: Any) -> Any:
        gap = b.mul(b.abs(b.sub(x, y)), -scale)
        rise = b.log1p(b.exp(gap))
        rise = rise if scale == 1.0 else b.mul(rise, 1.0 / scale)
        same_infinity = b.bitwise_and(b.eq(x, y), b.eq(b.abs(x), math.inf))
        return b.where(same_infinity, x, b.add(b.maximum(x, y), rise))

    return in_wide(decompose)


def _logaddexp_gradients(scale: float) -> dict[str, Rule]:
    """The share of each operand, sigmoid of the difference; nan for equal infinities."""

    def share(b: Any, g: Any, x: Any, y: Any) -> Any:
        return b.mul(g, b.sigmoid(b.mul(b.sub(x, y), scale)))

    return {"x": share, "y": lambda b, g, x, y: share(b, g, y, x)}


logaddexp = _joint(
    "logaddexp",
    "x y",
    _logaddexp(1.0),
    "log(e ** x + e ** y), without overflow.",
    gradients=_logaddexp_gradients(1.0),
    domain=(-2.0, 2.0),
)
logaddexp2 = _joint(
    "logaddexp2",
    "x y",
    _logaddexp(math.log(2.0)),
    "log2(2 ** x + 2 ** y), without overflow.",
    gradients=_logaddexp_gradients(math.log(2.0)),
    domain=(-2.0, 2.0),
)


def _times_log(name: str, logarithm: str, shift: float, doc: str) -> Op:
    def of(b: Any, y: Any) -> Any:
        return getattr(b, logarithm)(y)

    def decompose(b: Any, x: Any, y: Any) -> Any:
        value = b.where(b.eq(x, 0.0), 0.0, b.mul(x, of(b, y)))
        return b.where(b.ne(y, y), y, value)

    def x_gradient(b: Any, g: Any, x: Any, y: Any) -> Any:
        """0 where x is 0 and the logarithm has no value, as PyTorch has it."""
        flat = b.bitwise_and(b.eq(x, 0.0), b.le(y, -shift))
        return b.where(flat, 0.0, b.mul(g, of(b, b.where(flat, 1.0, y))))

    def y_gradient(b: Any, g: Any, x: Any, y: Any) -> Any:
        return b.mul(g, b.div(x, b.add(y, shift) if shift else y))

    return _joint(name, "x y", decompose, doc, gradients={"x": x_gradient, "y": y_gradient})


xlogy = _times_log("xlogy", "log", 0.0, "x log(y), 0 where x is 0, nan where y is nan.")
xlog1py = _times_log("xlog1py", "log1p", 1.0, "x log(1 + y), 0 where x is 0, nan where y is nan.")

# Replacing and mixing -----------------------------------------------------------------------------


def _nan_to_num(b: Any, x: Any, nan: Any, above: Any, below: Any) -> Any:
    finite = b.where(b.eq(x, math.inf), above, b.where(b.eq(x, -math.inf), below, x))
    return b.where(b.ne(x, x), nan, finite)


nan_to_num = _joint(
    "nan_to_num",
    "x nan above below",
    _nan_to_num,
    "x with nan, inf and -inf replaced by the other operands.",
    gradients={"x": lambda b, g, x: b.where(b.lt(b.abs(x), math.inf), g, 0.0)},
)


def _isclose(b: Any, x: Any, y: Any, rtol: Any, atol: Any) -> Any:
    gap = b.abs(b.sub(x, y))
    near = b.bitwise_and(b.lt(gap, math.inf), b.le(gap, b.add(b.abs(b.mul(rtol, y)), atol)))
    return b.bitwise_or(b.eq(x, y), near)


isclose = _joint(
    "isclose",
    "x y rtol atol",
    _isclose,
    "|x - y| <= atol + rtol |y|; infinities are close to themselves only, nans to nothing.",
    infer=lambda *types: predicate("isclose")(*floating("isclose")(*types)),
)


def _lerp(b: Any, x: Any, end: Any, weight: Any) -> Any:
    """From whichever end is nearer, so that both ends are met exactly."""
    gap = b.sub(end, x)
    from_end = b.sub(end, b.mul(gap, b.sub(1.0, weight)))
    return b.where(b.lt(b.abs(weight), 0.5), b.add(x, b.mul(weight, gap)), from_end)


lerp = _joint(
    "lerp",
    "x end weight",
    in_wide(_lerp),
    "x + weight (end - x).",
    complex=lambda b, x, end, weight: b.add(x, b.mul(weight, b.sub(end, x))),
    gradients={
        "x": lambda b, g, weight: b.mul(g, b.sub(1.0, weight)),
        "end": lambda b, g, weight: b.mul(g, weight),
        "weight": lambda b, g, x, end: b.mul(g, b.sub(end, x)),
    },
)

# Integers -----------------------------------------------------------------------------------------


def _whole(name: str) -> Infer:
    def infer(*types: TensorType) -> tuple[TensorType, ...]:
        for t in types:
            if not t.dtype.is_integer:
                raise DTypeError(f"[{name}] needs integer operands, given {t}")
        return same(name)(*types)

    return infer


def _shift(left: bool) -> Rule:
    def decompose(b: Any, x: Any, y: Any) -> Any:
        bits = x.type.dtype.bits
        inside = b.bitwise_and(b.ge(y, 0), b.lt(y, bits))
        if left:
            return b.where(inside, b.shift_left(x, y), 0)
        return (
            b.shift_right(x, b.where(inside, y, bits - 1))
            if x.type.dtype.is_signed
            else (b.where(inside, b.shift_right(x, y), 0))
        )

    return decompose


bitwise_left_shift = _joint(
    "bitwise_left_shift",
    "x y",
    _shift(True),
    "x << y; 0 where y is negative or not below the width.",
    infer=_whole("bitwise_left_shift"),
)
bitwise_right_shift = _joint(
    "bitwise_right_shift",
    "x y",
    _shift(False),
    "x >> y, arithmetic for signed x; 0 or -1 where y is negative or not below the width.",
    infer=_whole("bitwise_right_shift"),
)

SQUARINGS = 6
SERIES_BITS = 8


def _integer_pow(b: Any, x: Any, y: Any) -> Any:
    """By squaring up to 63; the rest of the exponent is a power of x ** 64."""
    result, square = b.add(b.mul(x, 0), 1), x
    for bit in range(SQUARINGS):
        chosen = b.ne(b.bitwise_and(y, 1 << bit), 0)
        result = b.where(chosen, b.mul(result, square), result)
        square = b.mul(square, square)
    rest = _power_near_one(b, square, b.shift_right(y, SQUARINGS))
    result = b.where(b.lt(y, 1 << SQUARINGS), result, b.mul(result, rest))
    if not x.type.dtype.is_signed:
        return result
    sign = b.sub(1, b.mul(b.bitwise_and(y, 1), 2))
    inverse = b.where(b.eq(x, -1), sign, as_dtype(b, b.eq(x, 1), x.type.dtype))
    return b.where(b.lt(y, 0), inverse, result)


def _power_near_one(b: Any, u: Any, m: Any) -> Any:
    """u ** m modulo 2 ** bits for u = x ** 64 and m >= 1.

    For even x that is 0. For odd x, u = 1 + 2 ** 8 t, and the binomial series over (2 ** 8 t) ** j
    ends when 2 ** (8 j) / j! is 0 modulo 2 ** bits. What j! has of odd factors is divided by as a
    multiplication with the inverse.
    """
    bits: int = u.type.dtype.bits
    even = b.eq(b.bitwise_and(u, 1), 0)
    one = b.add(b.mul(u, 0), 1)
    total = one
    if bits > SERIES_BITS:
        t = b.shift_right(u, SERIES_BITS)  # only its low bits matter, so the sign does not
        falling, power = one, one
        for j in range(1, bits):
            falling = b.mul(falling, b.sub(m, j - 1))
            power = b.mul(power, t)
            odd, twos = math.factorial(j), 0
            while odd % 2 == 0:
                odd, twos = odd // 2, twos + 1
            shift = SERIES_BITS * j - twos
            if shift >= bits:
                break
            inverse = pow(odd, -1, 2 ** (bits - 1))  # the top bit is shifted out
            term = b.mul(b.mul(falling, power), b.constant(value=inverse, dtype=u.type.dtype))
            total = b.add(total, b.shift_left(term, shift))
    return b.where(even, 0, total)


integer_pow = _joint(
    "integer_pow",
    "x y",
    _integer_pow,
    "x ** y of integers, modulo 2 ** bits; a negative power is 0 but for x = 1 and -1.",
    infer=_whole("integer_pow"),
)


def _nextafter(b: Any, x: Any, y: Any) -> Any:
    """A step away from zero adds 1 to the bit pattern, a step towards it subtracts 1."""
    dtype = x.type.dtype
    whole = BITS_AS[dtype.bits]
    bits = b.bitcast(x, dtype=whole)
    away = b.eq(b.gt(y, x), b.gt(x, 0.0))
    moved = b.bitcast(b.add(bits, b.where(away, b.add(b.mul(bits, 0), 1), -1)), dtype=dtype)
    tiny = b.bitcast(b.add(b.mul(bits, 0), 1), dtype=dtype)
    start = b.where(b.gt(y, 0.0), tiny, b.neg(tiny))
    moved = b.where(b.eq(x, 0.0), start, moved)
    return b.where(b.eq(x, y), y, b.where(b.bitwise_or(b.ne(x, x), b.ne(y, y)), math.nan, moved))


nextafter = _joint("nextafter", "x y", _nextafter, "The number next to x towards y.")
