"""Patches of images, mapped to Winograd's factors: what both of his kernels do.

In: where a patch of 6x6 or 4x4 places begins.  Out: calls of the functions of `winograd_maps`. A
patch that is not all in memory is copied first, with zeros for what is not.
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
from braze.codegen.llvm.types import F32, register_type, zero
from braze.codegen.llvm.winograd import POINTS
from braze.codegen.llvm.winograd_maps import map_function
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
    """Writes calls of a map at the end of a kernel, for all channels at once.

    border: memory for a patch.
    """

    def __init__(
        self,
        frame: KernelFunction,
        target: Target,
        patches: Patches,
        width: int,
        border: ir.Value,
    ) -> None:
        self.builder, self.target, self.patches = frame.builder, target, patches
        self.width, self.border = width, border
        name = "image" if patches.size == POINTS else "gradient"
        self.function = map_function(frame.module, name, width)

    def _apply(self, source: ir.Value, strides: Sequence[int], to: ir.Value) -> None:
        patches, (row, column) = self.patches, map(as_i64, strides)
        vectors = as_i64(patches.count // self.width)
        arguments = [source, row, column, to, as_i64(patches.apart), vectors]
        self.builder.call(self.function, arguments)

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
                self._apply(source, [span.stride for span in patches.spans], to)
            with otherwise:
                self._from_copy(source, row, column, exists, to)

    def _from_copy(
        self, source: ir.Value, row: Number, column: Number, exists: ir.Value, to: ir.Value
    ) -> None:
        self._copy(source, row, column, exists)
        size, count = self.patches.size, self.patches.count
        self._apply(self.border, [size * count, count], to)

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
