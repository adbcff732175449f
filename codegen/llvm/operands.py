"""Reading operands of contractions into registers: scalars and vectors, widened to the sum's type.

In: a pointer and the dtypes in memory and in registers.  Out: an LLVM value.
"""

from __future__ import annotations

from braze.codegen.llvm import ir
from braze.codegen.llvm.conversions import from_memory
from braze.codegen.llvm.types import (
    I1,
    I32,
    constant,
    constants,
    intrinsic,
    lanes_of,
    memory_type,
    register_type,
    zero,
)
from braze.ir.dtypes import DType
from braze.ir.target import Target


class OperandLoader:
    """Loads elements of one operand as values of the sum's dtype.

    Args:
        dtype: in memory. compute: of the sum.
    """

    def __init__(self, builder: ir.IRBuilder, target: Target, dtype: DType, compute: DType) -> None:
        self.builder = builder
        self.target = target
        self.dtype = dtype
        self.compute = compute
        self.element = memory_type(dtype)

    def load(self, pointer: ir.Value, lanes: int = 1, present: int | None = None) -> ir.Value:
        """`lanes` neighbouring elements; those from `present` on are zero and not read."""
        stored = memory_type(self.dtype, lanes)
        if present is not None and present < lanes:
            mask = constants(I1, [int(lane < present) for lane in range(lanes)])
            align = constant(I32, self.dtype.itemsize)
            arguments = [pointer, align, mask, zero(stored)]
            raw = intrinsic(self.builder, "masked.load", stored, arguments, (stored, pointer.type))
        else:
            raw = self.builder.load(pointer, typ=stored, align=self.dtype.itemsize)
        return self._widened(from_memory(self.builder, raw, self.dtype, self.target))

    def _widened(self, value: ir.Value) -> ir.Value:
        builder, compute = self.builder, self.compute
        wanted = register_type(compute, lanes_of(value.type))
        if value.type == wanted:
            return value
        if compute.is_floating_point:
            if self.dtype.is_floating_point:
                return builder.fpext(value, wanted)
            return (builder.sitofp if self.dtype.is_signed else builder.uitofp)(value, wanted)
        return (builder.sext if self.dtype.is_signed else builder.zext)(value, wanted)


def multiply_add(
    builder: ir.IRBuilder, x: ir.Value, y: ir.Value, total: ir.Value, compute: DType
) -> ir.Value:
    """x * y + total, fused where the processor can."""
    if compute.is_floating_point:
        return intrinsic(builder, "fmuladd", total.type, [x, y, total])
    return builder.add(builder.mul(x, y), total)
