"""The kernel of a `WinogradGradientSchedule`.

In: a `KernelFunction` and a `WinogradGradientSchedule`.  Out: the function's body, and its
functions,

    void tile(ptr a, ptr b, ptr sums, i64 state, i64 0, i64 0)     some rows of one product
    void results(ptr sums, ptr epilogue buffers..., i64 loops, phases, channel and lane)

with the maps of `winograd_maps`, and the loops around them:

    for each block of all tiles
      images and gradients of its tiles, for the chunk's channels and columns
      for each of the products, for each panel of columns
        sums of the chunk's channels, in row tiles
    for each of the chunk's channels and panels
      results
"""

from __future__ import annotations

from collections.abc import Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.contraction_shape import Dim
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
from braze.codegen.llvm.kernel import KernelFunction
from braze.codegen.llvm.microkernel import FIRST_BLOCK
from braze.codegen.llvm.schedule_winograd_gradient import WinogradGradientSchedule
from braze.codegen.llvm.types import F32, I64, register_type
from braze.codegen.llvm.winograd_emitter import WinogradEmitter
from braze.codegen.llvm.winograd_maps import load_vector, map_function
from braze.codegen.llvm.winograd_patches import Patch, PatchMap
from braze.ir.dtypes import f32
from braze.ir.index import LoopVar
from braze.ir.target import Target


class WinogradGradientEmitter(WinogradEmitter):
    """Writes the kernel."""

    def __init__(
        self,
        frame: KernelFunction,
        plan: WinogradGradientSchedule,
        target: Target,
        scratch_stride: int,
    ) -> None:
        super().__init__(frame, plan, target, scratch_stride)
        self.plan = plan
        self.images, self.gradients, self.sums, border = self.areas
        image, gradient = plan.image_patches, plan.gradient_patches
        self.map_image = PatchMap(frame, target, image, plan.width, border)
        self.map_gradient = PatchMap(frame, target, gradient, plan.width, border)
        inner = Dim(LoopVar("tile", plan.block), plan.image_row, plan.gradient_row)
        self.product = self._tile_function(plan.rows, 1, inner, carried=True)
        self.map_results = self._define_results()

    def emit(self) -> None:
        plan, builder = self.plan, self.builder
        extents = [*(loop.var.extent for loop in plan.loops), *plan.phases, *plan.grid]
        *loops, down, across, row, column = decode(builder, self.frame.chunk, extents)
        phases = down, across
        channel = multiply(builder, row, plan.channels)
        lane = multiply(builder, column, plan.columns)
        phase_strides = [axis.phase_stride for axis in plan.axes]
        image, gradient = (
            self._at(
                self.frame.pointer(access.buffer),
                add(builder, weighted_sum(builder, [*loops, *places], strides), access.offset),
            )
            for access, places, strides in (
                (
                    plan.image,
                    [*phases, channel],
                    [*(x.image for x in plan.loops), *phase_strides, plan.channel_stride],
                ),
                (plan.gradient, [lane], [*(x.other for x in plan.loops), plan.lane_stride]),
            )
        )
        with counted_loop(builder, 0, plan.blocks, "block") as block:
            first = builder.mul(block, as_i64(plan.block))
            with counted_loop(builder, 0, plan.block, "patch") as tile:
                self._map(image, gradient, phases, builder.add(first, tile), tile)
            is_first = builder.icmp_signed("==", block, as_i64(0))
            self._products(builder.mul(builder.zext(is_first, I64), as_i64(FIRST_BLOCK)))
        self._results([*loops, *phases], channel, lane)
        builder.ret_void()

    def _map(
        self,
        image: ir.Value,
        gradient: ir.Value,
        phases: tuple[Number, Number],
        number: ir.Value,
        tile: ir.Value,
    ) -> None:
        """The factors of one tile of a block, of zeros if there are not so many tiles."""
        plan, builder = self.plan, self.builder
        *images, down, across = decode(builder, number, plan.tile_extents)
        row, column = self._begin(plan.axes[0], down), self._begin(plan.axes[1], across)
        exists = builder.icmp_signed("<", number, as_i64(plan.tiles))
        places = [*images, row, column]
        image_strides = [*(x.image for x in plan.images), *(axis.stride for axis in plan.axes)]
        strides = [*(x.other for x in plan.images), *(axis.other for axis in plan.axes)]
        source = self._at(image, weighted_sum(builder, places, image_strides))
        to = self._at(self.images, multiply(builder, tile, plan.image_row))
        bounds = self._bounds(plan.axes, phases)
        self.map_image.emit(Patch(source, (row, column), bounds, exists), to)
        source = self._at(gradient, weighted_sum(builder, places, strides))
        to = self._at(self.gradients, multiply(builder, tile, plan.gradient_row))
        ends = (0, plan.axes[0].var.extent), (0, plan.axes[1].var.extent)
        self.map_gradient.emit(Patch(source, (row, column), ends, exists), to)

    # Products -------------------------------------------------------------------------------------

    def _products(self, state: ir.Value) -> None:
        plan, builder = self.plan, self.builder
        with counted_loop(builder, 0, plan.form.products, "product") as product:
            images = self._at(self.images, multiply(builder, product, plan.image_product))
            gradients = self._at(self.gradients, multiply(builder, product, plan.gradient_product))
            sums = self._at(self.sums, multiply(builder, product, plan.sums_product))
            with counted_loop(builder, 0, plan.panels, "panel") as panel:
                b = self._at(gradients, multiply(builder, panel, plan.lanes))
                place = self._at(sums, multiply(builder, panel, plan.channels * plan.lanes))
                with counted_loop(builder, 0, plan.channels // plan.rows, "tile") as tile:
                    row = multiply(builder, tile, plan.rows)
                    own = self._at(place, multiply(builder, row, plan.lanes))
                    arguments = [self._at(images, row), b, own, state, as_i64(0), as_i64(0)]
                    builder.call(self.product, arguments)

    # Results --------------------------------------------------------------------------------------

    def _results(self, loops: Sequence[Number], channel: Number, lane: Number) -> None:
        plan, builder = self.plan, self.builder
        with counted_loop(builder, 0, plan.panels, "panel") as panel:
            first = add(builder, lane, multiply(builder, panel, plan.lanes))
            sums = self._at(self.sums, multiply(builder, panel, plan.channels * plan.lanes))
            with counted_loop(builder, 0, plan.channels, "channel") as number:
                own = self._at(sums, multiply(builder, number, plan.lanes))
                places = [*loops, add(builder, channel, number), first]
                numbers = [as_i64(place) for place in places]
                builder.call(self.map_results, [own, *self.epilogue, *numbers])

    def _define_results(self) -> ir.Function:
        """The epilogue of a channel's results, for a panel of columns."""
        plan, count = self.plan, self.plan.form.taps
        variables = [
            *(loop.var for loop in plan.loops), *self.phases, plan.channel, plan.lane
        ]  # fmt: skip
        function, values = self._results_function(variables)
        sums = function.args[0]
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        stage = builder.alloca(register_type(f32, plan.width), size=as_i64(count * count))
        apply = map_function(self.frame.module, "filter_gradient", plan.form, plan.width)
        with counted_loop(builder, 0, plan.vectors, "vector") as vector:
            shift = multiply(builder, vector, plan.width)
            own = element_pointer(builder, sums, shift, F32)
            builder.call(apply, [own, as_i64(plan.sums_product), stage])
            lane = builder.add(values[plan.lane], as_i64(shift))
            with counted_loop(builder, 0, count * count, "tap") as number:
                acc = load_vector(builder, stage, multiply(builder, number, plan.width), plan.width)
                here = values | {plan.lane: lane}
                places = decode(builder, number, [count, count])
                for axis, phase, place in zip(plan.axes, self.phases, places, strict=True):
                    place = multiply(builder, place, axis.phases)
                    here[axis.tap] = as_i64(add(builder, place, values[phase]))
                self._store(function, builder, here, acc)
        builder.ret_void()
        return function
