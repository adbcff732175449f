"""The kernel of a `WinogradSchedule`.

In: a `KernelFunction` and a `WinogradSchedule`.  Out: the function's body, and its functions,

    void filter(ptr weights, ptr to, i64 lane)             a panel's filters to factors
    void tile(ptr a, ptr b, ptr sums, i64 0, i64 0)        some rows of one product
    void results(ptr sums, ptr epilogue buffers..., i64 rows and lane...)

with the maps of `winograd_maps`, and the loops around them:

    filters of the chunk's panels
    for each block of the chunk's tiles
      images of its tiles
      for each panel
        36 products, in row tiles
        results of its tiles
"""

from __future__ import annotations

from collections.abc import Callable

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
    share,
    smaller,
    weighted_sum,
)
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.kernel import KernelFunction
from braze.codegen.llvm.looping import carried_loop
from braze.codegen.llvm.schedule_winograd import WinogradSchedule
from braze.codegen.llvm.symbolic import own_sizes
from braze.codegen.llvm.types import F32, I64, POINTER, register_type
from braze.codegen.llvm.winograd import PRODUCTS, RESULTS, TAPS
from braze.codegen.llvm.winograd_emitter import WinogradEmitter
from braze.codegen.llvm.winograd_maps import load_vector, map_function, store_all
from braze.codegen.llvm.winograd_patches import PatchMap, internal_function
from braze.ir.dtypes import f32
from braze.ir.index import Index
from braze.ir.loops import Apply, Expr, Load
from braze.ir.op import op_named
from braze.ir.target import Target


class WinogradKernelEmitter(WinogradEmitter):
    """Writes the kernel."""

    def __init__(
        self, frame: KernelFunction, plan: WinogradSchedule, target: Target, scratch_stride: int
    ) -> None:
        super().__init__(frame, plan, target, scratch_stride)
        self.plan = plan
        self.image = self._at(frame.pointer(plan.image.buffer), plan.image.offset)
        self.weights = frame.pointer(plan.weights.buffer)
        self.images, self.filters, self.sums, self.border = self.areas
        self.map_image = PatchMap(frame, target, plan.patches, plan.width, self.border)
        self.map_filter = self._filter_function()
        inner = Dim(plan.channel, 1, plan.lanes)
        step = plan.channel.extent
        self.product = self._tile_function(plan.rows, step, inner, carried=False)
        self.map_results = self._define_results()

    def emit(self) -> None:
        plan, builder = self.plan, self.builder
        row_chunk, column_chunk = decode(builder, self.frame.chunk, plan.grid)
        begin, end = share(builder, row_chunk, plan.grid[0], plan.tiles)
        panels = share(builder, column_chunk, plan.grid[1], plan.panels)
        self._each_panel(panels, self._filter)
        with carried_loop(builder, as_i64(begin), as_i64(end), plan.block, (), "block") as block:
            left = builder.sub(as_i64(end), block.index)
            number = as_i64(smaller(builder, left, plan.block))
            row_tiles = builder.udiv(builder.add(number, as_i64(plan.rows - 1)), as_i64(plan.rows))
            # What fills up the last row tile is mapped from zeros.
            padded = builder.mul(row_tiles, as_i64(plan.rows))
            with counted_loop(builder, 0, padded, "image") as tile:
                self._image(block.index, tile, number)
            self._each_panel(
                panels,
                lambda panel, at: self._panel(block.index, number, row_tiles, panel, at),
            )
        builder.ret_void()

    def _each_panel(
        self, panels: tuple[Number, Number], body: Callable[[ir.Value, Number], None]
    ) -> None:
        """`body(panel, its place in the chunk)`."""
        with counted_loop(self.builder, *panels, "panel") as panel:
            body(panel, self.builder.sub(panel, as_i64(panels[0])))

    # Images ---------------------------------------------------------------------------------------

    def _places(self, tile: Number) -> list[Number]:
        """The images' indices, and the row and column where a tile's results begin."""
        *images, down, across = decode(self.builder, tile, self.plan.tile_extents)
        return [*images, *(multiply(self.builder, at, RESULTS) for at in (down, across))]

    def _image(self, first: ir.Value, tile: ir.Value, number: ir.Value) -> None:
        """The factors of one tile of a block; of none, if there are not so many."""
        plan, builder = self.plan, self.builder
        *images, row, column = self._places(builder.add(first, tile))
        strides = [*(stride for _, stride in plan.images), *(axis.stride for axis in plan.axes)]
        source = self._at(self.image, weighted_sum(builder, [*images, row, column], strides))
        to = self._at(self.images, multiply(builder, tile, plan.channel.extent))
        exists = builder.icmp_signed("<", tile, number)
        self.map_image.emit(source, row, column, exists, to)

    # Filters --------------------------------------------------------------------------------------

    def _filter(self, panel: ir.Value, at: Number) -> None:
        plan, builder = self.plan, self.builder
        target = self._at(self.filters, multiply(builder, at, plan.filter_panel))
        lane = builder.mul(panel, as_i64(plan.lanes))
        builder.call(self.map_filter, [self.weights, target, lane])

    def _filter_function(self) -> ir.Function:
        plan = self.plan
        function = internal_function(self.frame, "filter", [POINTER, POINTER, I64])
        weights, target, lane = function.args
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        taps = self._taps()
        stage = builder.alloca(register_type(f32, plan.width), size=as_i64(TAPS * TAPS))
        apply = map_function(self.frame.module, "filter", plan.width)
        vectors = plan.channel.extent * plan.vectors
        with counted_loop(builder, 0, vectors, "vector") as number:
            channel, vector = decode(builder, number, [plan.channel.extent, plan.vectors])
            first = add(builder, lane, multiply(builder, vector, plan.width))
            emitter = ExpressionEmitter(
                builder, self.target, width=plan.width, lane_var=plan.lane,
                variables={plan.channel: as_i64(channel), plan.lane: as_i64(first)},
                pointer=lambda _: weights,
            )  # fmt: skip
            values = [[emitter.value(tap) for tap in line] for line in taps]
            store_all(builder, values, stage, 0, plan.width)
            to = element_pointer(builder, target, multiply(builder, number, plan.width), F32)
            builder.call(apply, [stage, to, as_i64(plan.filter_product)])
        builder.ret_void()
        return function

    def _taps(self) -> list[list[Expr]]:
        """The 3x3 weights of a channel and a column, in the sum's dtype."""
        plan = self.plan
        channel, lane = plan.filters
        index = Index.of(plan.channel) * channel + Index.of(plan.lane) * lane
        first = index + plan.weights.offset
        down, across = (axis.other for axis in plan.axes)

        def tap(place: Index) -> Expr:
            load = Load(plan.weights.buffer, place)
            return load if load.dtype is f32 else Apply(op_named("cast"), (load,), f32)

        return [[tap(first + (i * down + j * across)) for j in range(TAPS)] for i in range(TAPS)]

    # Products -------------------------------------------------------------------------------------

    def _panel(
        self, first: ir.Value, number: ir.Value, row_tiles: ir.Value, panel: ir.Value, at: Number
    ) -> None:
        """All products of a block of tiles with a panel, and their results."""
        plan, builder = self.plan, self.builder
        filters = self._at(self.filters, multiply(builder, at, plan.filter_panel))
        with counted_loop(builder, 0, PRODUCTS, "product") as product:
            b = self._at(filters, multiply(builder, product, plan.filter_product))
            a = self._at(self.images, multiply(builder, product, plan.image_product))
            sums = self._at(self.sums, multiply(builder, product, plan.result_product))
            with counted_loop(builder, 0, row_tiles, "tile") as tile:
                row = multiply(builder, tile, plan.rows)
                arguments = [
                    self._at(a, multiply(builder, row, plan.channel.extent)),
                    b,
                    self._at(sums, multiply(builder, row, plan.lanes)),
                ]
                builder.call(self.product, [*arguments, as_i64(0), as_i64(0), *own_sizes()])
        lane = builder.mul(panel, as_i64(plan.lanes))
        with counted_loop(builder, 0, number, "results") as tile:
            places = self._places(builder.add(first, tile))
            sums = self._at(self.sums, multiply(builder, tile, plan.lanes))
            numbers = [as_i64(place) for place in (*places, lane)]
            builder.call(self.map_results, [sums, *self.epilogue, *numbers])

    # Results --------------------------------------------------------------------------------------

    def _define_results(self) -> ir.Function:
        """The epilogue of a tile's results, which go through memory, since those beyond the
        image's end are left out."""
        plan = self.plan
        down, across = plan.axes
        variables = [*(var for var, _ in plan.images), down.var, across.var, plan.lane]
        function, values = self._results_function(variables)
        sums = function.args[0]
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        stage = builder.alloca(register_type(f32, plan.width), size=as_i64(RESULTS * RESULTS))
        apply = map_function(self.frame.module, "results", plan.width)
        ends = []
        for axis in plan.axes:
            left = builder.sub(as_i64(axis.var.extent), values[axis.var])
            ends.append(smaller(builder, left, RESULTS))
        with counted_loop(builder, 0, plan.vectors, "vector") as vector:
            shift = multiply(builder, vector, plan.width)
            own = element_pointer(builder, sums, shift, F32)
            builder.call(apply, [own, as_i64(plan.result_product), stage])
            lane = builder.add(values[plan.lane], as_i64(shift))
            with counted_loop(builder, 0, ends[0], "row") as i:
                row = builder.add(values[down.var], i)
                with counted_loop(builder, 0, ends[1], "column") as j:
                    number = builder.add(builder.mul(i, as_i64(RESULTS)), j)
                    at = multiply(builder, number, plan.width)
                    acc = load_vector(builder, stage, at, plan.width)
                    here = values | {
                        down.var: row,
                        across.var: builder.add(values[across.var], j),
                        plan.lane: lane,
                    }
                    self._store(function, builder, here, acc)
        builder.ret_void()
        return function
