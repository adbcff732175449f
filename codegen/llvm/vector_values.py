"""Arithmetic notation for writing vector functions.

A `Num` is an LLVM value (scalar or vector, float or integer) with operators that emit instructions;
    plain numbers take the other operand's type. `Math` holds the builder and the operations that
    are not operators. Nothing here
is relaxed: every operation rounds as IEEE says, except `fma`, which is fused only where the target
    can.
"""

from __future__ import annotations

from collections.abc import Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import (
    F64,
    I1,
    bits_of,
    constant,
    intrinsic,
    is_float,
    lanes_of,
    like,
    vector,
)
from braze.ir.target import Target

Number = float | int


class Num:
    """A value under construction. Comparisons are ordered (false for nan), integers signed."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.value = value

    @property
    def type(self) -> ir.Type:
        return self.value.type

    @property
    def is_float(self) -> bool:
        return is_float(self.type)

    def of(self, value: Num | Number) -> Num:
        """A number as a constant of this value's type."""
        if isinstance(value, Num):
            return value
        return Num(self.builder, constant(self.type, value))

    def _binary(self, other: Num | Number, on_float: str, on_integer: str) -> Num:
        emit = getattr(self.builder, on_float if self.is_float else on_integer)
        return Num(self.builder, emit(self.value, self.of(other).value))

    def __add__(self, other: Num | Number) -> Num:
        return self._binary(other, "fadd", "add")

    def __sub__(self, other: Num | Number) -> Num:
        return self._binary(other, "fsub", "sub")

    def __rsub__(self, other: Number) -> Num:
        return self.of(other) - self

    def __mul__(self, other: Num | Number) -> Num:
        return self._binary(other, "fmul", "mul")

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Num | Number) -> Num:
        return Num(self.builder, self.builder.fdiv(self.value, self.of(other).value))

    def __rtruediv__(self, other: Number) -> Num:
        return self.of(other) / self

    def __neg__(self) -> Num:
        return Num(self.builder, self.builder.fneg(self.value)) if self.is_float else 0 - self

    def _integer(self, other: Num | Number, instruction: str) -> Num:
        emit = getattr(self.builder, instruction)
        return Num(self.builder, emit(self.value, self.of(other).value))

    def __and__(self, other: Num | Number) -> Num:
        return self._integer(other, "and_")

    def __or__(self, other: Num | Number) -> Num:
        return self._integer(other, "or_")

    def __xor__(self, other: Num | Number) -> Num:
        return self._integer(other, "xor")

    def __invert__(self) -> Num:
        return self ^ -1

    def __lshift__(self, other: Num | Number) -> Num:
        return self._integer(other, "shl")

    def __rshift__(self, other: Num | Number) -> Num:
        """Arithmetic: the sign is kept."""
        return self._integer(other, "ashr")

    def shift_right(self, other: Num | Number) -> Num:
        """Logical: zeros come in."""
        return self._integer(other, "lshr")

    def _compare(self, order: str, other: Num | Number) -> Num:
        emit = self.builder.fcmp_ordered if self.is_float else self.builder.icmp_signed
        return Num(self.builder, emit(order, self.value, self.of(other).value))

    def __lt__(self, other: Num | Number) -> Num:
        return self._compare("<", other)

    def __le__(self, other: Num | Number) -> Num:
        return self._compare("<=", other)

    def __gt__(self, other: Num | Number) -> Num:
        return self._compare(">", other)

    def __ge__(self, other: Num | Number) -> Num:
        return self._compare(">=", other)

    def equals(self, other: Num | Number) -> Num:
        return self._compare("==", other)


class Math:
    """Operations on `Num`s at a builder's position."""

    def __init__(self, builder: ir.IRBuilder, target: Target) -> None:
        self.builder = builder
        self.target = target
        self.has_fma = target.architecture == "aarch64" or "fma" in target.features

    def num(self, value: ir.Value) -> Num:
        return Num(self.builder, value)

    def constant(self, type: ir.Type, value: Number) -> Num:
        return self.num(constant(type, value))

    def _call(self, name: str, *arguments: Num) -> Num:
        first = arguments[0]
        values = [first.of(a).value for a in arguments]
        return self.num(intrinsic(self.builder, name, first.type, values))

    def fma(self, x: Num, y: Num | Number, z: Num | Number) -> Num:
        """x * y + z, with one rounding if the target has such an instruction, else two."""
        return self._call("fmuladd", x, x.of(y), x.of(z))

    def polynomial(self, x: Num, coefficients: Sequence[float]) -> Num:
        """c[0] + c[1] x + c[2] x^2 + ..., with a short chain of dependences: up to degree 5 by
        Horner's scheme in x^2 on pairs, which takes the fewest products, else by Estrin's.
        """
        if 3 <= len(coefficients) <= 6:
            return self._in_squares(x, coefficients)
        terms = [x.of(coefficient) for coefficient in coefficients]
        power = x
        while len(terms) > 1:
            pairs = [
                self.fma(terms[i + 1], power, terms[i]) if i + 1 < len(terms) else terms[i]
                for i in range(0, len(terms), 2)
            ]
            terms = pairs
            if len(terms) > 1:
                power = power * power
        return terms[0]

    def _in_squares(self, x: Num, coefficients: Sequence[float]) -> Num:
        square, total = x * x, None
        for i in reversed(range(0, len(coefficients), 2)):
            pair = x.of(coefficients[i])
            if i + 1 < len(coefficients):
                pair = self.fma(x.of(coefficients[i + 1]), x, pair)
            total = pair if total is None else self.fma(total, square, pair)
        assert total is not None
        return total

    def abs(self, x: Num) -> Num:
        return self._call("fabs", x)

    def floor(self, x: Num) -> Num:
        return self._call("floor", x)

    def copysign(self, magnitude: Num, sign: Num) -> Num:
        return self._call("copysign", magnitude, sign)

    def select(self, condition: Num, yes: Num | Number, no: Num | Number) -> Num:
        typed = yes if isinstance(yes, Num) else no
        assert isinstance(typed, Num)
        chosen = self.builder.select(condition.value, typed.of(yes).value, typed.of(no).value)
        return self.num(chosen)

    def at_most(self, x: Num, bound: Number) -> Num:
        """The smaller of the two; nan stays nan."""
        return self.select(x.of(bound) < x, bound, x)

    def at_least(self, x: Num, bound: Number) -> Num:
        """The larger of the two; nan stays nan."""
        return self.select(x.of(bound) > x, bound, x)

    def is_nan(self, x: Num) -> Num:
        return self.num(self.builder.fcmp_unordered("uno", x.value, x.value))

    def any(self, condition: Num) -> ir.Value:
        """An i1: the condition holds in some lane."""
        if lanes_of(condition.type) == 1:
            return condition.value
        return intrinsic(self.builder, "vector.reduce.or", I1, [condition.value], [condition.type])

    # Representation -------------------------------------------------------------------------------

    def bits(self, x: Num) -> Num:
        """A float's bits as an integer of its width."""
        type = like(x.type, ir.IntType(bits_of(x.type)))
        return self.num(self.builder.bitcast(x.value, type))

    def from_bits(self, x: Num, type: ir.Type) -> Num:
        return self.num(self.builder.bitcast(x.value, type))

    def wide(self, x: Num) -> Num:
        """f32 as f64, in as many lanes."""
        return self.num(self.builder.fpext(x.value, like(x.type, F64)))

    def narrow(self, x: Num, type: ir.Type) -> Num:
        """f64 rounded to f32."""
        return self.num(self.builder.fptrunc(x.value, type))

    def resize(self, x: Num, bits: int) -> Num:
        """An integer in another width, sign-extended."""
        have = bits_of(x.type)
        type = vector(ir.IntType(bits), lanes_of(x.type))
        if have == bits:
            return x
        emit = self.builder.sext if have < bits else self.builder.trunc
        return self.num(emit(x.value, type))

    def to_float(self, x: Num, type: ir.Type) -> Num:
        return self.num(self.builder.sitofp(x.value, type))

    # Rounding to integers -------------------------------------------------------------------------

    def nearest(self, x: Num, factor: float = 1.0) -> tuple[Num, Num]:
        """The integer nearest to x * factor as a float and as an integer; that is below 2^22 (f32)
        or 2^51 (f64) in size.

        Adding 1.5 * 2^p leaves the integer in the significand's low bits; nan and inf give some
        integer.
        """
        magic = 1.5 * 2.0 ** (52 if bits_of(x.type) == 64 else 23)
        shifted = x + magic if factor == 1.0 else self.fma(x, factor, magic)
        return shifted - magic, self.bits(shifted) - self.bits(x.of(magic))

    def scale(self, x: Num, exponent: Num) -> Num:
        """x * 2^exponent for any exponent of at most twice the format's range, with one rounding.
        """
        half = exponent >> 1
        return x * self.power_of_two(half, x.type) * self.power_of_two(exponent - half, x.type)

    def scales_in_one(self, type: ir.Type) -> bool:
        """Has the target an instruction for x * 2^whole, and are these lanes a whole register?"""
        wide = lanes_of(type) * bits_of(type) == 512
        return wide and self.target.vector_bits == 512 and "avx512f" in self.target.features

    def scale_in_one(self, x: Num, whole: Num) -> Num:
        """x * 2^whole with one rounding, for a float without fraction."""
        letter = "d" if bits_of(x.type) == 64 else "s"
        mask = ir.IntType(lanes_of(x.type))
        name = f"x86.avx512.mask.scalef.p{letter}.512"
        current_rounding = ir.Constant(ir.IntType(32), 4)
        arguments = [x.value, whole.value, x.value, constant(mask, -1), current_rounding]
        return self.num(intrinsic(self.builder, name, x.type, arguments, ()))

    def power_of_two(self, exponent: Num, type: ir.Type) -> Num:
        """2^exponent, within the range of normal numbers."""
        bias, shift = (1023, 52) if bits_of(type) == 64 else (127, 23)
        return self.from_bits((exponent + bias) << shift, type)

    # Exact sums and products (Dekker 1971; Knuth, TAOCP 2, 4.2.2) ---------------------------------

    def two_sum(self, x: Num, y: Num) -> tuple[Num, Num]:
        """The rounded sum and its error."""
        total = x + y
        part = total - x
        return total, (x - (total - part)) + (y - part)

    def fast_two_sum(self, x: Num, y: Num) -> tuple[Num, Num]:
        """The same for |x| >= |y| or x == 0."""
        total = x + y
        return total, y - (total - x)

    def two_product(self, x: Num, y: Num) -> tuple[Num, Num]:
        """The rounded product and its error."""
        product = x * y
        if self.has_fma:
            return product, self._call("fma", x, y, -product)
        x_high, x_low = self._halves(x)
        y_high, y_low = self._halves(y)
        error = ((x_high * y_high - product) + x_high * y_low) + x_low * y_high
        return product, error + x_low * y_low

    def _halves(self, x: Num) -> tuple[Num, Num]:
        """Veltkamp's split into two halves of the significand."""
        large = x * (2.0**27 + 1 if bits_of(x.type) == 64 else 2.0**12 + 1)
        high = large - (large - x)
        return high, x - high
