"""Patches of images, mapped to Winograd's factors: what both of his kernels do.

In: where a patch of an image or of a gradient begins.  Out: calls of the functions of
`winograd_maps`. A patch that is not all in memory is copied first, with zeros for what is not.
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
from braze.codegen.llvm.winograd import RESULTS, Form
from braze.codegen.llvm.winograd_maps import map_function
from braze.ir.dtypes import f32
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Buffer, Load
from braze.ir.target import Target


@dataclass(frozen=True, slots=True)
class Patches:
    """What patches are cut from, and how their factors lie.

    Attributes:
        map: "image" or "gradient". form: whose.
        strides: from one place to the next, down and across. steps: places from one value of a
            patch to the next.
        channel: the variable of the channels. stride: from one to the next. count: of them.
        apart: elements from one factor to the next.
    """

    array: Buffer
    map: str
    form: Form
    strides: tuple[int, int]
    steps: tuple[int, int]
    channel: LoopVar
    stride: int
    count: int
    apart: int

    @property
    def size(self) -> int:
        """Places of a patch in either direction."""
        return self.form.points if self.map == "image" else RESULTS

    @property
    def value_strides(self) -> list[int]:
        """From one value to the next, down and across."""
        return [step * stride for step, stride in zip(self.steps, self.strides, strict=True)]


# The first place in memory, and the one after the last.
Bounds = tuple[Number, Number]


@dataclass(frozen=True, slots=True)
class Patch:
    """One of them, in the code: where its first value lies, and what is in memory.

    Attributes:
        places: of its first value, down and across. bounds: of places that are in memory.
        exists: whether there is such a patch; otherwise it is zeros.
    """

    source: ir.Value
    places: tuple[Number, Number]
    bounds: tuple[Bounds, Bounds]
    exists: ir.Value


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
        self.function = map_function(frame.module, patches.map, patches.form, width)

    def _apply(self, source: ir.Value, strides: Sequence[int], to: ir.Value) -> None:
        patches, (row, column) = self.patches, map(as_i64, strides)
        vectors = as_i64(patches.count // self.width)
        arguments = [source, row, column, to, as_i64(patches.apart), vectors]
        self.builder.call(self.function, arguments)

    def emit(self, patch: Patch, to: ir.Value) -> None:
        """Map a patch."""
        patches, builder = self.patches, self.builder
        if patches.stride != 1:
            self._from_copy(patch, to)
            return
        whole = patch.exists
        for place, step, bounds in zip(patch.places, patches.steps, patch.bounds, strict=True):
            low, high = map(as_i64, bounds)
            last = as_i64(add(builder, place, step * (patches.size - 1)))
            whole = builder.and_(whole, builder.icmp_signed(">=", as_i64(place), low))
            whole = builder.and_(whole, builder.icmp_signed("<", last, high))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                self._apply(patch.source, patches.value_strides, to)
            with otherwise:
                self._from_copy(patch, to)

    def _from_copy(self, patch: Patch, to: ir.Value) -> None:
        self._copy(patch)
        size, count = self.patches.size, self.patches.count
        self._apply(self.border, [size * count, count], to)

    def _copy(self, patch: Patch) -> None:
        """A patch's values, channels innermost, with zeros for those that are not in memory."""
        patches, builder = self.patches, self.builder
        vectors, vector = patches.count // self.width, register_type(f32, self.width)
        value = Load(patches.array, Index.of(patches.channel) * patches.stride)
        with counted_loop(builder, 0, patches.size * patches.size, "place") as place:
            numbers = decode(builder, place, [patches.size, patches.size])
            present = patch.exists
            for first, bounds, number, step in zip(
                patch.places, patch.bounds, numbers, patches.steps, strict=True
            ):
                here = add(builder, first, multiply(builder, number, step))
                present = builder.and_(present, self._present(bounds, here))
            offset = weighted_sum(builder, numbers, patches.value_strides)
            origin = element_pointer(builder, patch.source, offset, F32)
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

    def _present(self, bounds: Bounds, place: Number) -> ir.Value:
        builder, (low, high) = self.builder, bounds
        above = builder.icmp_signed(">=", as_i64(place), as_i64(low))
        return builder.and_(above, builder.icmp_signed("<", as_i64(place), as_i64(high)))


def internal_function(frame: KernelFunction, name: str, types: Sequence[ir.Type]) -> ir.Function:
    """An empty function of a kernel's own."""
    function_type = ir.FunctionType(ir.VoidType(), list(types))
    function = ir.Function(frame.module, function_type, f"{frame.symbol}_{name}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function
