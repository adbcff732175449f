"""The kernel of a `WinogradSchedule`.

In: a `KernelFunction` and a `WinogradSchedule`.  Out: the function's body, and its functions,

    void image(ptr from, i64 row, i64 column, ptr to)      a tile's values to factors, all channels
    void filter(ptr to, i64 lane)                          a panel's filters to factors
    void tile(ptr a, ptr b, ptr sums, i64 0, i64 0)        some rows of one product
    void results(ptr sums, ptr epilogue buffers..., i64 rows and lane...)

and the loops around them:

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
from braze.codegen.llvm.contraction_shape import ContractionShape, Dim
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
from braze.codegen.llvm.microkernel import TileEmitter
from braze.codegen.llvm.schedule_contraction import Panels, Schedule
from braze.codegen.llvm.schedule_parts import Pieces
from braze.codegen.llvm.schedule_winograd import Axis, WinogradSchedule
from braze.codegen.llvm.tile import Tile, epilogue_buffers
from braze.codegen.llvm.types import (
    F32,
    I8,
    I64,
    POINTER,
    register_type,
    zero,
)
from braze.codegen.llvm.winograd import POINTS, PRODUCTS, RESULTS, TAPS, Transforms
from braze.ir.dtypes import f32
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Buffer, Load, Ref, Store
from braze.ir.target import Target


class WinogradKernelEmitter:
    """Writes the kernel."""

    def __init__(
        self, frame: KernelFunction, plan: WinogradSchedule, target: Target, scratch_stride: int
    ) -> None:
        self.frame, self.plan, self.target = frame, plan, target
        self.builder = builder = frame.builder
        self.vector = register_type(f32, plan.width)
        self.buffers = epilogue_buffers(plan.contraction.stores)
        self.image = self._at(frame.pointer(plan.image.buffer), plan.image.offset)
        self.weights = frame.pointer(plan.weights.buffer)
        self.epilogue = [frame.pointer(buffer) for buffer in self.buffers]
        before = builder.mul(frame.thread, as_i64(scratch_stride))
        base = element_pointer(builder, frame.scratch(), before, I8)
        self.images, self.filters, self.sums, self.border = (
            element_pointer(builder, base, place, I8) for place in plan.scratch_offsets[:4]
        )
        self.map_image = self._image_function()
        self.map_filter = self._filter_function()
        self.product = self._product_function()
        self.map_results = self._results_function()

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

    def _at(self, pointer: ir.Value, offset: Number) -> ir.Value:
        return element_pointer(self.builder, pointer, offset, F32)

    def _function(self, name: str, types: list[ir.Type]) -> ir.Function:
        function_type = ir.FunctionType(ir.VoidType(), types)
        function = ir.Function(self.frame.module, function_type, f"{self.frame.symbol}_{name}")
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        return function

    # Images ---------------------------------------------------------------------------------------

    def _places(self, tile: Number) -> list[Number]:
        """The images' indices, and the row and column where a tile's results begin."""
        *images, down, across = decode(self.builder, tile, self.plan.tile_extents)
        return [*images, *(multiply(self.builder, at, RESULTS) for at in (down, across))]

    def _image(self, first: ir.Value, tile: ir.Value, number: ir.Value) -> None:
        """The factors of one tile of a block; of none, if there are not so many."""
        plan, builder = self.plan, self.builder
        *images, row, column = self._places(builder.add(first, tile))
        offset = weighted_sum(builder, images, [stride for _, stride in plan.images])
        offset = add(builder, offset, multiply(builder, row, plan.axes[0].stride))
        offset = add(builder, offset, multiply(builder, column, plan.axes[1].stride))
        source = self._at(self.image, offset)
        target = self._at(self.images, multiply(builder, tile, plan.channel.extent))
        exists = builder.icmp_signed("<", tile, number)

        def from_copy() -> None:
            self._copy(source, row, column, exists)
            channels = plan.channel.extent
            strides = [as_i64(POINTS * channels), as_i64(channels)]
            builder.call(self.map_image, [self.border, *strides, target])

        if plan.channel_stride != 1:
            from_copy()
            return
        whole = exists
        for axis, place in zip(plan.axes, (row, column), strict=True):
            after = as_i64(add(builder, place, POINTS))
            whole = builder.and_(whole, builder.icmp_signed(">=", as_i64(place), as_i64(axis.low)))
            whole = builder.and_(whole, builder.icmp_signed("<=", after, as_i64(axis.high)))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                strides = [as_i64(axis.stride) for axis in plan.axes]
                builder.call(self.map_image, [source, *strides, target])
            with otherwise:
                from_copy()

    def _copy(self, source: ir.Value, row: Number, column: Number, exists: ir.Value) -> None:
        """A tile's values, channels innermost, with zeros for those that are not in memory."""
        plan, builder = self.plan, self.builder
        channels = plan.channel.extent
        down, across = plan.axes
        value = Load(plan.image.buffer, Index.of(plan.channel) * plan.channel_stride)
        with counted_loop(builder, 0, POINTS * POINTS, "place") as place:
            i, j = decode(builder, place, [POINTS, POINTS])
            present = builder.and_(exists, self._present(down, row, i))
            present = builder.and_(present, self._present(across, column, j))
            offset = weighted_sum(builder, [i, j], [down.stride, across.stride])
            origin = self._at(source, offset)
            target = self._at(self.border, multiply(builder, place, channels))
            with builder.if_else(present) as (then, otherwise):
                with then, counted_loop(builder, 0, channels // plan.width, "copy") as number:
                    at = multiply(builder, number, plan.width)
                    emitter = ExpressionEmitter(
                        builder, self.target, width=plan.width, lane_var=plan.channel,
                        variables={plan.channel: as_i64(at)}, pointer=lambda _: origin,
                    )  # fmt: skip
                    builder.store(emitter.value(value), self._at(target, at), align=4)
                with otherwise, counted_loop(builder, 0, channels // plan.width, "fill") as number:
                    at = multiply(builder, number, plan.width)
                    builder.store(zero(self.vector), self._at(target, at), align=4)

    def _present(self, axis: Axis, first: Number, step: Number) -> ir.Value:
        builder = self.builder
        place = as_i64(add(builder, first, step))
        above = builder.icmp_signed(">=", place, as_i64(axis.low))
        return builder.and_(above, builder.icmp_signed("<", place, as_i64(axis.high)))

    def _image_function(self) -> ir.Function:
        plan = self.plan
        function = self._function("image", [POINTER, I64, I64, POINTER])
        source, row, column, target = function.args
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        with counted_loop(builder, 0, plan.channel.extent // plan.width, "channels") as number:
            first = multiply(builder, number, plan.width)
            values = []
            for i in range(POINTS):
                start = add(builder, first, builder.mul(row, as_i64(i)))
                steps: list[Number] = [0]
                steps += [builder.mul(column, as_i64(j)) for j in range(1, POINTS)]
                values.append([self._load(builder, source, add(builder, start, j)) for j in steps])
            factors = Transforms(builder).image(values)
            self._store_all(builder, factors, target, first, plan.image_product)
        builder.ret_void()
        return function

    def _load(self, builder: ir.IRBuilder, pointer: ir.Value, offset: Number) -> ir.Value:
        place = element_pointer(builder, pointer, offset, F32)
        return builder.load(place, typ=self.vector, align=4)

    def _store_all(
        self,
        builder: ir.IRBuilder,
        factors: list[list[ir.Value]],
        pointer: ir.Value,
        first: Number,
        apart: int,
    ) -> None:
        for number, factor in enumerate(x for line in factors for x in line):
            place = element_pointer(builder, pointer, add(builder, first, number * apart), F32)
            builder.store(factor, place, align=4)

    # Filters --------------------------------------------------------------------------------------

    def _filter(self, panel: ir.Value, at: Number) -> None:
        plan, builder = self.plan, self.builder
        target = self._at(self.filters, multiply(builder, at, plan.filter_panel))
        lane = builder.mul(panel, as_i64(plan.lanes))
        builder.call(self.map_filter, [self.weights, target, lane])

    def _filter_function(self) -> ir.Function:
        plan = self.plan
        function = self._function("filter", [POINTER, POINTER, I64])
        weights, target, lane = function.args
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        taps = self._taps()
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
            factors = Transforms(builder).filter(values)
            place = multiply(builder, number, plan.width)
            self._store_all(builder, factors, target, place, plan.filter_product)
        builder.ret_void()
        return function

    def _taps(self) -> list[list[Load]]:
        """The 3x3 weights of a channel and a column."""
        plan = self.plan
        channel, lane = plan.filters
        index = Index.of(plan.channel) * channel + Index.of(plan.lane) * lane
        first = index + plan.weights.offset
        down, across = (axis.filter for axis in plan.axes)
        return [
            [Load(plan.weights.buffer, first + (i * down + j * across)) for j in range(TAPS)]
            for i in range(TAPS)
        ]

    # Products -------------------------------------------------------------------------------------

    def _product_function(self) -> ir.Function:
        """A tile of rows: an ordinary one, of a contraction of factors."""
        plan = self.plan
        row, lane = LoopVar("row", plan.rows), LoopVar("lane", plan.lanes)
        image, filters = (Buffer(name, f32, 0, "in") for name in ("image", "filters"))
        sums = Buffer("sums", f32, plan.rows * plan.lanes, "out")
        split, columns = Dim(row, plan.channel.extent, 0), Dim(lane, 0, 1)
        inner = (Dim(plan.channel, 1, plan.lanes),)
        index = Index.of(row) * plan.lanes + Index.of(lane)
        shape = ContractionShape(
            "product", (), (split,), (columns,), inner, image, 0, filters, 0, f32,
            (Store(sums, index, Ref("acc", f32)),),
        )  # fmt: skip
        schedule = Schedule(
            shape, "broadcast", columns, (), (), split, (), Pieces(plan.rows, 1),
            Panels(plan.lanes, plan.width, plan.vectors), (), inner, plan.channel.extent,
            "none", "none", (1, 1, 1),
        )  # fmt: skip
        tile = Tile(schedule, plan.rows, plan.vectors, plan.width)
        name = f"{self.frame.symbol}_tile"
        return TileEmitter(self.frame.module, tile, self.target, name).emit()

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
                builder.call(self.product, [*arguments, as_i64(0), as_i64(0)])
        lane = builder.mul(panel, as_i64(plan.lanes))
        with counted_loop(builder, 0, number, "results") as tile:
            places = self._places(builder.add(first, tile))
            sums = self._at(self.sums, multiply(builder, tile, plan.lanes))
            numbers = [as_i64(place) for place in (*places, lane)]
            builder.call(self.map_results, [sums, *self.epilogue, *numbers])

    # Results --------------------------------------------------------------------------------------

    def _results_function(self) -> ir.Function:
        """The epilogue of a tile's results, which go through memory, since those beyond the
        image's end are left out."""
        plan = self.plan
        down, across = plan.axes
        variables = [*(var for var, _ in plan.images), down.var, across.var, plan.lane]
        types: list[ir.Type] = [POINTER] * (1 + len(self.buffers)) + [I64] * len(variables)
        function = self._function("results", types)
        sums, *rest = function.args
        pointers = dict(zip((b.name for b in self.buffers), rest, strict=False))
        values = dict(zip(variables, rest[len(self.buffers) :], strict=True))
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        stage = builder.alloca(self.vector, size=as_i64(RESULTS * RESULTS))
        ends = []
        for axis in plan.axes:
            left = builder.sub(as_i64(axis.var.extent), values[axis.var])
            ends.append(smaller(builder, left, RESULTS))
        with counted_loop(builder, 0, plan.vectors, "vector") as vector:
            shift = multiply(builder, vector, plan.width)
            factors = [
                [
                    self._load(
                        builder,
                        sums,
                        add(builder, shift, (i * POINTS + j) * plan.result_product),
                    )
                    for j in range(POINTS)
                ]
                for i in range(POINTS)
            ]
            found = Transforms(builder).results(factors)
            self._store_all(builder, found, stage, 0, plan.width)
            lane = builder.add(values[plan.lane], as_i64(shift))
            with counted_loop(builder, 0, ends[0], "row") as i:
                row = builder.add(values[down.var], i)
                with counted_loop(builder, 0, ends[1], "column") as j:
                    number = builder.add(builder.mul(i, as_i64(RESULTS)), j)
                    acc = self._load(builder, stage, multiply(builder, number, plan.width))
                    here = values | {
                        down.var: row,
                        across.var: builder.add(values[across.var], j),
                        plan.lane: lane,
                    }
                    emitter = ExpressionEmitter(
                        builder, self.target, width=plan.width, lane_var=plan.lane,
                        variables=here, refs={"acc": acc},
                        pointer=lambda buffer: pointers[buffer.name],
                    )  # fmt: skip
                    for store in plan.contraction.stores:
                        emitter.store(store)
        builder.ret_void()
        return function
