"""The kernel of a `WinogradSchedule`.

In: a `KernelFunction` and a `WinogradSchedule`.  Out: the function's body, and its functions,

    void filter(ptr weights, ptr to, i64 loops and lane...)  a panel's filters to factors
    void tile(ptr a, ptr b, ptr sums, i64 0, i64 0)          some rows of one product
    void results(ptr sums, ptr epilogue buffers..., i64 loops, rows and lane...)

with the maps of `winograd_maps`, and the loops around them:

    filters of the chunk's panels (*)
    for each block of the chunk's tiles
      images of its tiles
      for each panel
        its products, in row tiles
        results of its tiles

(*) If there is one block, each panel's filters are mapped right before its products.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

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
from braze.codegen.llvm.winograd import RESULTS
from braze.codegen.llvm.winograd_emitter import WinogradEmitter
from braze.codegen.llvm.winograd_maps import load_vector, map_function, store_all
from braze.codegen.llvm.winograd_patches import Patch, PatchMap, internal_function
from braze.ir.dtypes import f32
from braze.ir.index import Index, LoopVar
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
        *self.loops, self.row_chunk, self.column_chunk = decode(
            self.builder, frame.chunk, [*(loop.var.extent for loop in plan.loops), *plan.grid]
        )
        start = weighted_sum(self.builder, self.loops, [loop.image for loop in plan.loops])
        start = add(self.builder, start, plan.image.offset)
        self.image = self._at(frame.pointer(plan.image.buffer), start)
        self.weights = frame.pointer(plan.weights.buffer)
        self.images, self.filters, self.sums, self.border = self.areas
        self.map_image = PatchMap(frame, target, plan.patches, plan.width, self.border)
        self.map_filter = self._filter_function()
        inner = Dim(LoopVar(plan.channel.name, plan.depth), 1, plan.lanes)
        self.product = self._tile_function(plan.rows, plan.depth, inner, carried=False)
        self.map_results = self._define_results()

    def emit(self) -> None:
        plan, builder = self.plan, self.builder
        begin, end = share(builder, self.row_chunk, plan.grid[0], plan.tiles)
        panels = share(builder, self.column_chunk, plan.grid[1], plan.panels)
        if not plan.has_one_block:
            self._each_panel(panels, self._filter)
        with carried_loop(builder, as_i64(begin), as_i64(end), plan.block, (), "block") as block:
            left = builder.sub(as_i64(end), block.index)
            number = as_i64(smaller(builder, left, plan.block))
            row_tiles = builder.udiv(builder.add(number, as_i64(plan.rows - 1)), as_i64(plan.rows))
            # What fills up the last row tile is mapped from zeros.
            padded = builder.mul(row_tiles, as_i64(plan.rows))
            with counted_loop(builder, 0, padded, "image") as tile:
                self._image(block.index, tile, number)

            def compute(panel: ir.Value, at: Number) -> None:
                if plan.has_one_block:
                    at = 0
                    self._filter(panel, at)
                self._panel(block.index, number, row_tiles, panel, at)

            self._each_panel(panels, compute)
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
        axes = self.plan.axes
        return [*images, self._begin(axes[0], down), self._begin(axes[1], across)]

    def _image(self, first: ir.Value, tile: ir.Value, number: ir.Value) -> None:
        """The factors of one tile of a block, phase by phase; of none, if there are not so many."""
        plan, builder = self.plan, self.builder
        *images, row, column = self._places(builder.add(first, tile))
        strides = [*(stride for _, stride in plan.images), *(axis.stride for axis in plan.axes)]
        source = self._at(self.image, weighted_sum(builder, [*images, row, column], strides))
        to = self._at(self.images, multiply(builder, tile, plan.depth))
        exists = builder.icmp_signed("<", tile, number)
        with counted_loop(builder, 0, prod(plan.phases), "phase") as phase:
            chosen = decode(builder, phase, plan.phases)
            start = weighted_sum(builder, chosen, [axis.phase_stride for axis in plan.axes])
            patch = Patch(
                self._at(source, start), (row, column), self._bounds(plan.axes, chosen), exists
            )
            self.map_image.emit(patch, self._at(to, multiply(builder, phase, plan.channel.extent)))

    # Filters --------------------------------------------------------------------------------------

    def _filter(self, panel: ir.Value, at: Number) -> None:
        plan, builder = self.plan, self.builder
        target = self._at(self.filters, multiply(builder, at, plan.filter_panel))
        lane = builder.mul(panel, as_i64(plan.lanes))
        loops = map(as_i64, self.loops)
        builder.call(self.map_filter, [self.weights, target, *loops, lane])

    def _filter_function(self) -> ir.Function:
        plan = self.plan
        variables = [loop.var for loop in plan.loops]
        types: list[ir.Type] = [POINTER, POINTER, *[I64] * (len(variables) + 1)]
        function = internal_function(self.frame, "filter", types)
        weights, target, *loops, lane = function.args
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        taps = self._taps()
        stage = builder.alloca(register_type(f32, plan.width), size=as_i64(plan.form.taps**2))
        apply = map_function(self.frame.module, "filter", plan.form, plan.width)
        extents = [*plan.phases, plan.channel.extent, plan.vectors]
        with counted_loop(builder, 0, prod(extents), "vector") as number:
            *inner, vector = map(as_i64, decode(builder, number, extents))
            first = add(builder, lane, multiply(builder, vector, plan.width))
            inner_variables = [*self.phases, plan.channel]
            values = dict(zip(variables, loops, strict=True))
            values |= dict(zip(inner_variables, inner, strict=True))
            emitter = ExpressionEmitter(
                builder, self.target, width=plan.width, lane_var=plan.lane,
                variables=values | {plan.lane: as_i64(first)}, pointer=lambda _: weights,
            )  # fmt: skip
            loaded = [[emitter.value(tap) for tap in line] for line in taps]
            store_all(builder, loaded, stage, 0, plan.width)
            to = element_pointer(builder, target, multiply(builder, number, plan.width), F32)
            builder.call(apply, [stage, to, as_i64(plan.filter_product)])
        builder.ret_void()
        return function

    def _taps(self) -> list[list[Expr]]:
        """The weights of a channel of a phase and a column, in the sum's dtype."""
        plan, count = self.plan, self.plan.form.taps
        channel, lane = plan.filters
        first = Index.of(plan.channel) * channel + Index.of(plan.lane) * lane + plan.weights.offset
        for loop in plan.loops:
            first += Index.of(loop.var) * loop.other
        for phase, axis in zip(self.phases, plan.axes, strict=True):
            first += Index.of(phase) * axis.other
        down, across = (axis.other * axis.phases for axis in plan.axes)

        def tap(place: Index) -> Expr:
            load = Load(plan.weights.buffer, place)
            return load if load.dtype is f32 else Apply(op_named("cast"), (load,), f32)

        return [[tap(first + (i * down + j * across)) for j in range(count)] for i in range(count)]

    # Products -------------------------------------------------------------------------------------

    def _panel(
        self, first: ir.Value, number: ir.Value, row_tiles: ir.Value, panel: ir.Value, at: Number
    ) -> None:
        """All products of a block of tiles with a panel, and their results."""
        plan, builder = self.plan, self.builder
        filters = self._at(self.filters, multiply(builder, at, plan.filter_panel))
        with counted_loop(builder, 0, plan.form.products, "product") as product:
            b = self._at(filters, multiply(builder, product, plan.filter_product))
            a = self._at(self.images, multiply(builder, product, plan.image_product))
            sums = self._at(self.sums, multiply(builder, product, plan.result_product))
            with counted_loop(builder, 0, row_tiles, "tile") as tile:
                row = multiply(builder, tile, plan.rows)
                arguments = [
                    self._at(a, multiply(builder, row, plan.depth)),
                    b,
                    self._at(sums, multiply(builder, row, plan.lanes)),
                ]
                builder.call(self.product, [*arguments, as_i64(0), as_i64(0), *own_sizes()])
        lane = builder.mul(panel, as_i64(plan.lanes))
        with counted_loop(builder, 0, number, "results") as tile:
            places = self._places(builder.add(first, tile))
            sums = self._at(self.sums, multiply(builder, tile, plan.lanes))
            numbers = [as_i64(place) for place in (*self.loops, *places, lane)]
            builder.call(self.map_results, [sums, *self.epilogue, *numbers])

    # Results --------------------------------------------------------------------------------------

    def _define_results(self) -> ir.Function:
        """The epilogue of a tile's results, which go through memory, since those beyond the
        image's end are left out."""
        plan = self.plan
        down, across = plan.axes
        rows = [*(loop.var for loop in plan.loops), *(var for var, _ in plan.images)]
        variables = [*rows, down.var, across.var, plan.lane]
        function, values = self._results_function(variables)
        sums = function.args[0]
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        stage = builder.alloca(register_type(f32, plan.width), size=as_i64(RESULTS * RESULTS))
        apply = map_function(self.frame.module, "results", plan.form, plan.width)
        ends = []
        for axis in plan.axes:
            left = builder.sub(as_i64(axis.var.extent + axis.dilation - 1), values[axis.var])
            if axis.dilation > 1:
                left = builder.udiv(left, as_i64(axis.dilation))
            ends.append(smaller(builder, left, RESULTS))
        with counted_loop(builder, 0, plan.vectors, "vector") as vector:
            shift = multiply(builder, vector, plan.width)
            own = element_pointer(builder, sums, shift, F32)
            builder.call(apply, [own, as_i64(plan.result_product), stage])
            lane = builder.add(values[plan.lane], as_i64(shift))
            with counted_loop(builder, 0, ends[0], "row") as i:
                row = add(builder, values[down.var], multiply(builder, i, down.dilation))
                with counted_loop(builder, 0, ends[1], "column") as j:
                    number = builder.add(builder.mul(i, as_i64(RESULTS)), j)
                    at = multiply(builder, number, plan.width)
                    acc = load_vector(builder, stage, at, plan.width)
                    column = add(builder, values[across.var], multiply(builder, j, across.dilation))
                    here = {down.var: as_i64(row), across.var: as_i64(column), plan.lane: lane}
                    self._store(function, builder, values | here, acc)
        builder.ret_void()
        return function
