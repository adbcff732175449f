"""Patches of images, mapped to Winograd's factors: what both of his kernels do.

In: where a patch of 6x6 or 4x4 places begins.  Out: a function,

    void name(ptr from, i64 row, i64 column, ptr to)       a patch's values to factors, all channels

and calls of it. A patch that is not all in memory is copied first, with zeros for what is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import (
    Number,
    add,
    as_i64,
    counted_loop,
    decode,
    element_pointer,
    multiply,
    weighted_sum,
)
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.kernel import KernelFunction
from braze.codegen.llvm.types import F32, I64, POINTER, register_type, zero
from braze.codegen.llvm.winograd import POINTS, Transforms
from braze.ir.dtypes import f32
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Buffer, Load
from braze.ir.target import Target


@dataclass(frozen=True, slots=True)
class Span:
    """A direction in an array: its elements' stride, and which places are in memory."""

    stride: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Patches:
    """What patches are cut from, and how their factors lie.

    Attributes:
        size: places of a patch in either direction.
        spans: down and across.
        channel: the variable of the channels. stride: from one to the next. count: of them.
        apart: elements from one factor to the next.
    """

    array: Buffer
    size: int
    spans: tuple[Span, Span]
    channel: LoopVar
    stride: int
    count: int
    apart: int


class PatchMap:
    """Writes the function into a kernel's module, and its calls at the end of the kernel.

    border: memory for a patch.
    """

    def __init__(
        self,
        frame: KernelFunction,
        target: Target,
        name: str,
        patches: Patches,
        width: int,
        border: ir.Value,
    ) -> None:
        self.builder, self.target, self.patches = frame.builder, target, patches
        self.width, self.border = width, border
        self.function = internal_function(frame, name, [POINTER, I64, I64, POINTER])
        self._define()

    def _define(self) -> None:
        patches = self.patches
        source, row, column, to = self.function.args
        builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        with counted_loop(builder, 0, patches.count // self.width, "channels") as number:
            first = multiply(builder, number, self.width)
            values = []
            for i in range(patches.size):
                start = add(builder, first, builder.mul(row, as_i64(i)))
                steps: list[Number] = [0]
                steps += [builder.mul(column, as_i64(j)) for j in range(1, patches.size)]
                places = [add(builder, start, step) for step in steps]
                values.append([load_vector(builder, source, at, self.width) for at in places])
            transforms = Transforms(builder)
            if patches.size == POINTS:
                factors = transforms.image(values)
            else:
                factors = transforms.gradient(values)
            store_all(builder, factors, to, first, patches.apart)
        builder.ret_void()

    def emit(
        self, source: ir.Value, row: Number, column: Number, exists: ir.Value, to: ir.Value
    ) -> None:
        """Map the patch at `source`, whose first place this is; zeros, if it does not exist."""
        patches, builder = self.patches, self.builder
        if patches.stride != 1:
            self._from_copy(source, row, column, exists, to)
            return
        whole = exists
        for span, place in zip(patches.spans, (row, column), strict=True):
            after = as_i64(add(builder, place, patches.size))
            whole = builder.and_(whole, builder.icmp_signed(">=", as_i64(place), as_i64(span.low)))
            whole = builder.and_(whole, builder.icmp_signed("<=", after, as_i64(span.high)))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                strides = [as_i64(span.stride) for span in patches.spans]
                builder.call(self.function, [source, *strides, to])
            with otherwise:
                self._from_copy(source, row, column, exists, to)

    def _from_copy(
        self, source: ir.Value, row: Number, column: Number, exists: ir.Value, to: ir.Value
    ) -> None:
        self._copy(source, row, column, exists)
        size, count = self.patches.size, self.patches.count
        strides = [as_i64(size * count), as_i64(count)]
        self.builder.call(self.function, [self.border, *strides, to])

    def _copy(self, source: ir.Value, row: Number, column: Number, exists: ir.Value) -> None:
        """A patch's values, channels innermost, with zeros for those that are not in memory."""
        patches, builder = self.patches, self.builder
        vectors, vector = patches.count // self.width, register_type(f32, self.width)
        down, across = patches.spans
        value = Load(patches.array, Index.of(patches.channel) * patches.stride)
        with counted_loop(builder, 0, patches.size * patches.size, "place") as place:
            i, j = decode(builder, place, [patches.size, patches.size])
            present = builder.and_(exists, self._present(down, row, i))
            present = builder.and_(present, self._present(across, column, j))
            offset = weighted_sum(builder, [i, j], [down.stride, across.stride])
            origin = element_pointer(builder, source, offset, F32)
            to = element_pointer(builder, self.border, multiply(builder, place, patches.count), F32)
            with builder.if_else(present) as (then, otherwise):
                with then, counted_loop(builder, 0, vectors, "copy") as number:
                    at = multiply(builder, number, self.width)
                    emitter = ExpressionEmitter(
                        builder, self.target, width=self.width, lane_var=patches.channel,
                        variables={patches.channel: as_i64(at)}, pointer=lambda _: origin,
                    )  # fmt: skip
                    there = element_pointer(builder, to, at, F32)
                    builder.store(emitter.value(value), there, align=4)
                with otherwise, counted_loop(builder, 0, vectors, "fill") as number:
                    at = multiply(builder, number, self.width)
                    builder.store(zero(vector), element_pointer(builder, to, at, F32), align=4)

    def _present(self, span: Span, first: Number, step: Number) -> ir.Value:
        builder = self.builder
        place = as_i64(add(builder, first, step))
        above = builder.icmp_signed(">=", place, as_i64(span.low))
        return builder.and_(above, builder.icmp_signed("<", place, as_i64(span.high)))


def internal_function(frame: KernelFunction, name: str, types: Sequence[ir.Type]) -> ir.Function:
    """An empty function of a kernel's own."""
    function_type = ir.FunctionType(ir.VoidType(), list(types))
    function = ir.Function(frame.module, function_type, f"{frame.symbol}_{name}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function


def load_vector(builder: ir.IRBuilder, pointer: ir.Value, offset: Number, width: int) -> ir.Value:
    place = element_pointer(builder, pointer, offset, F32)
    return builder.load(place, typ=register_type(f32, width), align=4)


def load_all(
    builder: ir.IRBuilder, pointer: ir.Value, first: Number, apart: int, width: int
) -> list[list[ir.Value]]:
    """6x6 vectors that lie so far apart."""
    return [
        [
            load_vector(builder, pointer, add(builder, first, (i * POINTS + j) * apart), width)
            for j in range(POINTS)
        ]
        for i in range(POINTS)
    ]


def store_all(
    builder: ir.IRBuilder,
    values: Sequence[Sequence[ir.Value]],
    pointer: ir.Value,
    first: Number,
    apart: int,
) -> None:
    """Store vectors so far apart, row by row."""
    for number, value in enumerate(x for line in values for x in line):
        place = element_pointer(builder, pointer, add(builder, first, number * apart), F32)
        builder.store(value, place, align=4)
