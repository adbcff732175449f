"""Reading operands of contractions into registers: scalars and vectors, widened to the sum's type.

In: a pointer and the dtypes in memory and in registers.  Out: an LLVM value.
"""

from __future__ import annotations

from llvmlite import ir

from braze.codegen.llvm.types import (
    F32,
    I1,
    I32,
    constant,
    constants,
    intrinsic,
    lanes_of,
    memory_type,
    register_type,
    vector,
    zero,
)
from braze.ir.dtypes import DType, bf16, f16


def load(
    builder: ir.IRBuilder, pointer: ir.Value, dtype: DType, compute: DType, lanes: int, present: int
) -> ir.Value:
    """`lanes` neighbouring elements as values of `compute`; those from `present` on are zero and not read."""
    stored = memory_type(dtype, lanes)
    if present < lanes:
        mask = constants(I1, [int(lane < present) for lane in range(lanes)])
        align = constant(I32, dtype.itemsize)
        arguments = [pointer, align, mask, zero(stored)]
        raw = intrinsic(builder, "masked.load", stored, arguments, (stored, pointer.type))
    else:
        raw = builder.load(pointer, typ=stored, align=dtype.itemsize)
    return widen(builder, raw, dtype, compute)


def widen(builder: ir.IRBuilder, raw: ir.Value, dtype: DType, compute: DType) -> ir.Value:
    """A value as it lies in memory, converted to the sum's dtype."""
    lanes = lanes_of(raw.type)
    if dtype is bf16:
        wide = builder.zext(raw, vector(I32, lanes))
        value = builder.bitcast(builder.shl(wide, constant(wide.type, 16)), vector(F32, lanes))
    elif dtype is f16:
        value = builder.fpext(builder.bitcast(raw, vector(ir.HalfType(), lanes)), vector(F32, lanes))
    else:
        value = raw
    wanted = register_type(compute, lanes)
    if value.type == wanted:
        return value
    if compute.is_floating_point:
        if dtype.is_floating_point:
            return builder.fpext(value, wanted)
        return (builder.sitofp if dtype.is_signed else builder.uitofp)(value, wanted)
    return (builder.sext if dtype.is_signed else builder.zext)(value, wanted)


def multiply_add(
    builder: ir.IRBuilder, x: ir.Value, y: ir.Value, total: ir.Value, compute: DType
) -> ir.Value:
    """x * y + total, fused where the processor can."""
    if compute.is_floating_point:
        return intrinsic(builder, "fmuladd", total.type, [x, y, total])
    return builder.add(builder.mul(x, y), total)
