"""Between dtypes, and between memory and registers.

f16 and bf16 are computed with in f32; they are rounded (to nearest even) when they are stored, cast
to another dtype, or made by a cast. Without hardware conversions that is integer arithmetic on the
bits: the method for f16 is Fabian Giesen's "half to float done quick" (public domain), for bf16 it
is the addition of a rounding bias.
"""

from __future__ import annotations

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import (
    F32,
    I8,
    I16,
    I32,
    I64,
    bits_of,
    constant,
    intrinsic,
    is_narrow_float,
    lanes_of,
    like,
    memory_type,
    register_type,
    zero,
)
from braze.ir.dtypes import DType, bf16, f16, u32, u64
from braze.ir.target import Target

_HALF = ir.HalfType()


def from_memory(builder: ir.IRBuilder, raw: ir.Value, dtype: DType, target: Target) -> ir.Value:
    """A value as loaded (of `memory_type`) in its register type."""
    if dtype.kind == "bool":
        return builder.icmp_unsigned("!=", raw, zero(raw.type))
    if dtype is bf16:
        wide = builder.zext(raw, like(raw.type, I32))
        shifted = builder.shl(wide, constant(wide.type, 16))
        return builder.bitcast(shifted, like(raw.type, F32))
    if dtype is f16:
        return _half_to_float(builder, raw, target)
    return raw


def to_memory(builder: ir.IRBuilder, value: ir.Value, dtype: DType, target: Target) -> ir.Value:
    """A value in its register type as it is stored."""
    if dtype.kind == "bool":
        return builder.zext(value, like(value.type, I8))
    if dtype is bf16:
        return _float_to_bfloat(builder, value)
    if dtype is f16:
        return _float_to_half(builder, value, target)
    return value


def _has_half_conversions(target: Target) -> bool:
    return target.architecture == "aarch64" or "f16c" in target.features


def _half_to_float(builder: ir.IRBuilder, raw: ir.Value, target: Target) -> ir.Value:
    result = like(raw.type, F32)
    if _has_half_conversions(target):
        return builder.fpext(builder.bitcast(raw, like(raw.type, _HALF)), result)
    wide = builder.zext(raw, like(raw.type, I32))
    t = wide.type
    magnitude = builder.shl(builder.and_(wide, constant(t, 0x7FFF)), constant(t, 13))
    # A product with 2^112 moves the exponent to f32's bias and normalises subnormals on the way.
    scaled = builder.fmul(builder.bitcast(magnitude, result), constant(result, 2.0**112))
    special = builder.icmp_signed(">=", magnitude, constant(t, 0x7C00 << 13))
    bits = builder.bitcast(scaled, t)
    bits = builder.or_(bits, builder.select(special, constant(t, 0xFF << 23), zero(t)))
    sign = builder.shl(builder.and_(wide, constant(t, 0x8000)), constant(t, 16))
    return builder.bitcast(builder.or_(bits, sign), result)


def _float_to_half(builder: ir.IRBuilder, value: ir.Value, target: Target) -> ir.Value:
    result = like(value.type, I16)
    if _has_half_conversions(target):
        return builder.bitcast(builder.fptrunc(value, like(value.type, _HALF)), result)
    t = like(value.type, I32)
    bits = builder.bitcast(value, t)
    magnitude = builder.and_(bits, constant(t, 0x7FFFFFFF))
    sign = builder.lshr(builder.and_(bits, constant(t, 0x80000000)), constant(t, 16))
    # Subnormal results: adding 0.5 lines the last bit up with 2^-24 and rounds.
    absolute = builder.bitcast(magnitude, value.type)
    small = builder.bitcast(builder.fadd(absolute, constant(value.type, 0.5)), t)
    small = builder.sub(small, constant(t, 0x3F000000))
    odd = builder.and_(builder.lshr(magnitude, constant(t, 13)), constant(t, 1))
    normal = builder.add(magnitude, constant(t, ((15 - 127) << 23) + 0xFFF))
    normal = builder.lshr(builder.add(normal, odd), constant(t, 13))
    is_small = builder.icmp_signed("<", magnitude, constant(t, 113 << 23))
    finite = builder.select(is_small, small, normal)
    is_nan = builder.icmp_signed(">", magnitude, constant(t, 0xFF << 23))
    special = builder.select(is_nan, constant(t, 0x7E00), constant(t, 0x7C00))
    overflows = builder.icmp_signed(">=", magnitude, constant(t, 0x477FF000))  # 65520
    found = builder.select(overflows, special, finite)
    return builder.trunc(builder.or_(found, sign), result)


def _float_to_bfloat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    t = like(value.type, I32)
    bits = builder.bitcast(value, t)
    odd = builder.and_(builder.lshr(bits, constant(t, 16)), constant(t, 1))
    rounded = builder.add(bits, builder.add(odd, constant(t, 0x7FFF)))
    rounded = builder.lshr(rounded, constant(t, 16))
    quiet = builder.or_(builder.lshr(bits, constant(t, 16)), constant(t, 0x40))
    is_nan = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(is_nan, quiet, rounded), like(value.type, I16))


def round_narrow(builder: ir.IRBuilder, value: ir.Value, dtype: DType, target: Target) -> ir.Value:
    """An f32 value rounded to one that f16 or bf16 holds (others stay)."""
    if not is_narrow_float(dtype):
        return value
    return from_memory(builder, to_memory(builder, value, dtype, target), dtype, target)


def cast(
    builder: ir.IRBuilder, value: ir.Value, source: DType, goal: DType, target: Target
) -> ir.Value:
    """NumPy's `astype`: floats truncate to integers, integers wrap, to bool tests for nonzero."""
    if source is goal:
        return value
    type = register_type(goal, lanes_of(value.type))
    if goal.kind == "bool":
        if source.is_floating_point:
            return builder.fcmp_unordered("!=", value, zero(value.type))
        return builder.icmp_unsigned("!=", value, zero(value.type))
    if goal.is_floating_point:
        return round_narrow(builder, _to_float(builder, value, source, goal, type), goal, target)
    if source.is_floating_point:
        return _float_to_integer(builder, value, goal, type)
    return _integer_to_integer(builder, value, source, type)


def _to_float(
    builder: ir.IRBuilder, value: ir.Value, source: DType, goal: DType, type: ir.Type
) -> ir.Value:
    if source.is_floating_point:
        if value.type == type:
            return value
        if bits_of(type) > bits_of(value.type):
            return builder.fpext(value, type)
        if goal is f16:
            return _truncate_to_odd(builder, value, type)
        return builder.fptrunc(value, type)
    if source.kind == "int":
        return builder.sitofp(value, type)
    return builder.uitofp(value, type)


def _truncate_to_odd(builder: ir.IRBuilder, value: ir.Value, type: ir.Type) -> ir.Value:
    """f64 to f32 rounded to odd, so that rounding once more, to f16, gives the correctly rounded
    result.

    Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using
    rounding to odd", IEEE Transactions on Computers 57, 2008.
    """
    nearest = builder.fptrunc(value, type)
    back = builder.fpext(nearest, value.type)
    t = like(type, I32)
    bits = builder.bitcast(nearest, t)
    fabs = [intrinsic(builder, "fabs", value.type, [v]) for v in (back, value)]
    above = builder.fcmp_ordered(">", *fabs)
    toward_zero = builder.select(above, builder.sub(bits, constant(t, 1)), bits)
    odd = builder.or_(toward_zero, constant(t, 1))
    inexact = builder.fcmp_ordered("!=", back, value)
    return builder.bitcast(builder.select(inexact, odd, bits), type)


def _float_to_integer(
    builder: ir.IRBuilder, value: ir.Value, goal: DType, type: ir.Type
) -> ir.Value:
    """Truncation; what does not fit gives an unspecified number, but the same in every use."""
    through = I64 if goal.bits == 64 or goal is u32 else I32
    wide = builder.fptosi(value, like(value.type, through))
    wide = builder.freeze(wide)
    if goal is u64:  # the upper half of the range, moved down and back up by its highest bit
        lower = builder.fsub(value, constant(value.type, 2.0**63))
        upper = builder.freeze(builder.fptosi(lower, like(value.type, through)))
        upper = builder.xor(upper, constant(upper.type, 1 << 63))
        is_upper = builder.fcmp_ordered(">=", value, constant(value.type, 2.0**63))
        wide = builder.select(is_upper, upper, wide)
    return wide if wide.type == type else builder.trunc(wide, type)


def _integer_to_integer(
    builder: ir.IRBuilder, value: ir.Value, source: DType, type: ir.Type
) -> ir.Value:
    have, want = bits_of(value.type), bits_of(type)
    if have == want:
        return value
    if have > want:
        return builder.trunc(value, type)
    return builder.sext(value, type) if source.kind == "int" else builder.zext(value, type)


def bitcast(
    builder: ir.IRBuilder, value: ir.Value, source: DType, goal: DType, target: Target
) -> ir.Value:
    """The same bits as another dtype of the same width."""
    lanes = lanes_of(value.type)
    raw = to_memory(builder, value, source, target)
    type = memory_type(goal, lanes)
    return from_memory(
        builder, raw if raw.type == type else builder.bitcast(raw, type), goal, target
    )
