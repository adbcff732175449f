"""Records that a sort moves around: a key and its position in one unsigned integer.

In: a key's dtype, the direction and the length of a row.  Out: code that packs and unpacks. Records
compare as the keys are to be ordered, and no two are equal, since positions differ: any way to sort
them is stable.

    record = key << position bits | position * 2 + (key is -0.0)      (integers: ... | position)

A key becomes an unsigned integer of its width whose order is the wanted one (Herf, "Radix tricks",
2001): the sign bit of integers is flipped; of floats it is flipped for positive numbers and all
bits for negative ones. nan becomes the largest, -0.0 becomes 0.0 and is remembered beside the
position. For descending order all bits are inverted.
"""

from __future__ import annotations

from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.conversions import from_memory, to_memory
from braze.codegen.llvm.types import I64, constant, like, memory_type
from braze.ir.dtypes import DType
from braze.ir.target import Target

_INFINITY = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "f64": 0x7FF0000000000000}


@dataclass(frozen=True, slots=True)
class Records:
    """How keys of one dtype are packed."""

    dtype: DType
    descending: bool
    length: int

    @property
    def key_bits(self) -> int:
        return self.dtype.itemsize * 8

    @property
    def position_bits(self) -> int:
        wide = self.key_bits == 64 or self.length > 1 << 31
        return 64 if wide else 32

    @property
    def type(self) -> ir.IntType:
        return ir.IntType(2 * self.position_bits)

    @property
    def nbytes(self) -> int:
        return self.position_bits // 4

    def pack(
        self, builder: ir.IRBuilder, value: ir.Value, position: ir.Value, target: Target
    ) -> ir.Value:
        """The record of a key, in its register type, at an i64 position."""
        place_type = ir.IntType(self.position_bits)
        bits, negative_zero = self.ordered(builder, value, target)
        place = position if place_type is I64 else builder.trunc(position, place_type)
        if negative_zero is not None:
            place = builder.shl(place, constant(place_type, 1))
            place = builder.or_(place, builder.zext(negative_zero, place_type))
        high = builder.shl(
            builder.zext(bits, self.type), ir.Constant(self.type, self.position_bits)
        )
        return builder.or_(high, builder.zext(place, self.type))

    def ordered(
        self, builder: ir.IRBuilder, value: ir.Value, target: Target
    ) -> tuple[ir.Value, ir.Value | None]:
        """Keys, one or a vector, as unsigned integers in the wanted order; of floats also whether
        they were -0.0."""
        raw = to_memory(builder, value, self.dtype, target)
        type = like(raw.type, ir.IntType(self.key_bits))
        bits = raw if raw.type == type else builder.bitcast(raw, type)
        sign = constant(type, 1 << (self.key_bits - 1))
        negative_zero = None
        if self.dtype.is_floating_point:
            bits, negative_zero = self._order_float(builder, bits, sign)
        elif self.dtype.kind == "int":
            bits = builder.xor(bits, sign)
        if self.descending:
            bits = builder.xor(bits, constant(type, -1))
        return bits, negative_zero

    def _order_float(
        self, builder: ir.IRBuilder, bits: ir.Value, sign: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """The bits in ascending order, and whether the number was -0.0."""
        type = bits.type
        twice = builder.shl(bits, constant(type, 1))
        zero = builder.icmp_unsigned("==", twice, constant(type, 0))
        infinity = constant(type, 2 * _INFINITY[self.dtype.name])
        nan = builder.icmp_unsigned(">", twice, infinity)
        negative = builder.icmp_signed("<", bits, constant(type, 0))
        flip = builder.select(negative, constant(type, -1), sign)
        ordered = builder.select(zero, sign, builder.xor(bits, flip))
        ordered = builder.select(nan, constant(type, -1), ordered)
        return ordered, builder.and_(zero, negative)

    def ordered_key(self, builder: ir.IRBuilder, record: ir.Value) -> ir.Value:
        """The key of a record as `ordered` gives it."""
        shift = ir.Constant(self.type, self.position_bits)
        return builder.trunc(builder.lshr(record, shift), ir.IntType(self.key_bits))

    def position(self, builder: ir.IRBuilder, record: ir.Value) -> ir.Value:
        """The position, an i64."""
        place = builder.trunc(record, ir.IntType(self.position_bits))
        if self.dtype.is_floating_point:
            place = builder.lshr(place, constant(place.type, 1))
        return place if place.type == I64 else builder.zext(place, I64)

    def key(self, builder: ir.IRBuilder, record: ir.Value, target: Target) -> ir.Value:
        """The key in its register type. All nans come back as one."""
        bits = self.ordered_key(builder, record)
        type = bits.type
        sign = constant(type, 1 << (self.key_bits - 1))
        if self.descending:
            bits = builder.xor(bits, constant(type, -1))
        if self.dtype.is_floating_point:
            positive = builder.icmp_signed("<", bits, constant(type, 0))
            flip = builder.select(positive, sign, constant(type, -1))
            bits = builder.xor(bits, flip)
            negative_zero = builder.trunc(record, ir.IntType(1))
            bits = builder.or_(bits, builder.select(negative_zero, sign, constant(type, 0)))
        elif self.dtype.kind == "int":
            bits = builder.xor(bits, sign)
        goal = memory_type(self.dtype)
        raw = bits if type == goal else builder.bitcast(bits, goal)
        return from_memory(builder, raw, self.dtype, target)
