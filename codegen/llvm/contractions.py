"""Contractions as LLVM kernels: the loops around the micro-kernel.

In: a `Contraction`, where its buffers lie, and a `Target`.  Out: an `EmittedKernel`.

    for each point of the batch dims in the chunk's share
      for each block of the inner dims
        pack the chunk's panels of b                        (where the schedule says so)
        for each group of row tiles
          pack them                                         (likewise)
          for each row tile of the group, for each panel
            tile function
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from braze.codegen.llvm import ir
from braze.codegen.llvm.contraction_shape import Dims, contraction_shape
from braze.codegen.llvm.control import (
    Number,
    add,
    as_i64,
    counted_loop,
    decode,
    element_pointer,
    is_known,
    multiply,
    share,
    smaller,
    weighted_sum,
)
from braze.codegen.llvm.dot_kernel import DotKernelEmitter
from braze.codegen.llvm.kernel import EmittedKernel, KernelFunction, disjoint
from braze.codegen.llvm.looping import is_number
from braze.codegen.llvm.microkernel import (
    FIRST_BLOCK,
    LAST_BLOCK,
    TileEmitter,
)
from braze.codegen.llvm.packing import PackEmitter
from braze.codegen.llvm.pieces import by_size, piece_begin
from braze.codegen.llvm.schedule_contraction import ALIGNMENT, Schedule
from braze.codegen.llvm.schedule_dot import DotSchedule
from braze.codegen.llvm.schedule_search import AnySchedule, schedule
from braze.codegen.llvm.schedule_winograd import WinogradSchedule
from braze.codegen.llvm.schedule_winograd_gradient import WinogradGradientSchedule
from braze.codegen.llvm.sum_ranges import Terms, terms_of
from braze.codegen.llvm.symbolic import own_sizes
from braze.codegen.llvm.tap_packing import TapPackEmitter
from braze.codegen.llvm.tile import Level, Tile, epilogue_buffers
from braze.codegen.llvm.types import I64, memory_type, register_type
from braze.codegen.llvm.winograd_gradient import WinogradGradientEmitter
from braze.codegen.llvm.winograd_kernel import WinogradKernelEmitter
from braze.ir.dtypes import i8
from braze.ir.index import LoopVar
from braze.ir.loops import Contraction, Load, Placement, Program
from braze.ir.target import Target

_PAGE = 4096


def scratch_bytes(contraction: Contraction, target: Target) -> int:
    """Scratch memory that a thread needs for the kernel, a multiple of 4096."""
    if any(dim.extent == 0 for dim in contraction_shape(contraction).outer):
        return 0
    return _whole_pages(schedule(contraction, target))


def _whole_pages(plan: AnySchedule) -> int:
    if isinstance(plan, DotSchedule):
        return 0
    return -(-plan.scratch_offsets[-1] // _PAGE) * _PAGE


def emit_contraction(
    contraction: Contraction,
    placements: Mapping[str, Placement],
    program: Program,
    target: Target,
    scratch_stride: int | None = None,
    module: ir.Module | None = None,
    plan: AnySchedule | None = None,
) -> EmittedKernel:
    """The kernel of one contraction.

    Args:
        scratch_stride: bytes between the scratch memories of two threads, at least the kernel's own
            `scratch_bytes`, the same for all kernels of a program. None: the most that a
            contraction of `program` needs.
        module: to write into. None: one of its own.
        plan: how it is computed. None: found out again.
    """
    module = module or ir.Module()
    frame = KernelFunction(contraction.name, contraction.buffers, placements, program, module)
    if any(dim.extent == 0 for dim in contraction_shape(contraction).outer):
        frame.builder.ret_void()
        return EmittedKernel(frame.symbol, frame.module, 1)
    plan = plan or schedule(contraction, target)
    if isinstance(plan, Schedule) and _may_be_repeated(contraction, placements):
        plan = plan.with_one_tile()
    if isinstance(plan, DotSchedule):
        DotKernelEmitter(frame, plan, target).emit()
        return EmittedKernel(frame.symbol, frame.module, plan.chunks)
    own = _whole_pages(plan)
    if scratch_stride is None:
        others = (k for k in program.kernels() if isinstance(k, Contraction))
        scratch_stride = max([own, *(scratch_bytes(k, target) for k in others)])
    if isinstance(plan, WinogradSchedule):
        WinogradKernelEmitter(frame, plan, target, scratch_stride).emit()
    elif isinstance(plan, WinogradGradientSchedule):
        WinogradGradientEmitter(frame, plan, target, scratch_stride).emit()
    else:
        _KernelEmitter(frame, plan, target, scratch_stride).emit()
    return EmittedKernel(frame.symbol, frame.module, plan.chunks, own)


def _may_be_repeated(contraction: Contraction, placements: Mapping[str, Placement]) -> bool:
    """Whether results may be computed and stored twice, by two threads even: if so, the same is
    stored, since nothing that is read is overwritten."""
    read = {access.buffer for access in (contraction.lhs, contraction.rhs)}
    for store in contraction.stores:
        for root in (store.value, *Load(store.buffer, store.index, store.guard).parts()):
            read.update(expr.buffer for expr in root.walk() if isinstance(expr, Load))
    written = {store.buffer for store in contraction.stores}
    return not any(store.accumulate for store in contraction.stores) and all(
        disjoint(one, other, placements)
        for one in written
        for other in (read | written) - {one}
    ) and not read & written


@dataclass(frozen=True, slots=True)
class _Block:
    """Where the current block of the sum begins in the operands and in packed b, and its arguments
    for tile functions.

    loops: the values of the batch dimensions. begin, steps: its part of its first dimension.
    around: the values of the dimensions around it.
    """

    loops: list[Number]
    a: ir.Value
    b: ir.Value
    packed: ir.Value | None
    begin: Number
    steps: Number
    state: Number
    around: dict[LoopVar, Number]


@dataclass(frozen=True, slots=True)
class _RowTile:
    """A row tile: number of its size, place in the chunk, operand a, the next tile's operand a if
    that is to be fetched, values of the row dims, terms of its sums."""

    size: int
    place: ir.Value
    a: ir.Value
    ahead: ir.Value | None
    variables: list[Number]
    terms: list[Terms]


class _KernelEmitter:
    def __init__(
        self, frame: KernelFunction, plan: Schedule, target: Target, scratch_stride: int
    ) -> None:
        self.frame = frame
        self.plan = plan
        self.builder = frame.builder
        shape = plan.shape
        self.a_type = memory_type(shape.a.dtype)
        self.b_type = memory_type(shape.b.dtype)
        self.item = register_type(shape.dtype)
        self.epilogue = [frame.pointer(buffer) for buffer in epilogue_buffers(shape.stores)]
        self.a = element_pointer(self.builder, frame.pointer(shape.a), shape.a_offset, self.a_type)
        self.b = element_pointer(self.builder, frame.pointer(shape.b), shape.b_offset, self.b_type)
        self._scratch(scratch_stride)
        self._functions(target)

    def _scratch(self, stride: int) -> None:
        builder = self.builder
        places = self.plan.scratch_offsets
        self.b_packed: ir.Value | None = None
        if places[-1] == 0:
            return
        bytes_before = builder.mul(self.frame.thread, as_i64(stride))
        base = element_pointer(builder, self.frame.scratch(), bytes_before, memory_type(i8))
        self.b_packed, self.a_packed, self.sums = (
            element_pointer(builder, base, place, memory_type(i8)) for place in places[:3]
        )

    def _functions(self, target: Target) -> None:
        """One tile function for each kind of row piece and panel, and what packs their operands."""
        plan, module, symbol = self.plan, self.frame.module, self.frame.symbol
        self.tiles: dict[tuple[int, int], ir.Function] = {}
        self.levels: dict[tuple[int, int], list[Level]] = {}
        self.pack_b: list[ir.Function] = []
        self.pack_a: list[ir.Function] = []
        sizes = plan.pieces.sizes
        for size_number, size in enumerate(sizes):
            for kind, (_, vectors, lanes) in enumerate(plan.panels.variants):
                tile = Tile(plan, size, vectors, lanes)
                name = f"{symbol}_tile_{tile.rows}x{vectors}_{lanes}"
                emitter = TileEmitter(module, tile, target, name)
                self.tiles[size_number, kind] = emitter.emit()
                self.levels[size_number, kind] = tile.levels()
                if plan.pack_b != "none" and size_number == 0:
                    pack_name = f"{symbol}_pack_b_{vectors}_{lanes}"
                    if plan.taps:
                        taps = TapPackEmitter(module, tile, target, pack_name)
                        self.pack_b.append(taps.emit())
                    else:
                        pack = PackEmitter(module, tile, target, pack_name)
                        self.pack_b.append(pack.pack_b())
                if plan.pack_a != "none" and kind == 0:
                    pack = PackEmitter(module, tile, target, f"{symbol}_pack_a_{tile.rows}")
                    self.pack_a.append(pack.pack_a())

    # The loops ----------------------------------------------------------------------------------

    def emit(self) -> None:
        plan, builder = self.plan, self.builder
        batch, rows, columns = decode(builder, self.frame.chunk, plan.grid)
        points = share(builder, batch, plan.grid[0], plan.loop_count)
        self.tile_range = share(builder, rows, plan.grid[1], plan.tiles)
        self.panel_range = share(builder, columns, plan.grid[2], plan.panels.count)
        if plan.loop_count == 1:
            self._point([0] * len(plan.loops))
        else:
            with counted_loop(builder, *points, "point") as point:
                self._point(decode(builder, point, [dim.extent for dim in plan.loops]))
        builder.ret_void()

    def _moved(
        self, pointers: tuple[ir.Value, ir.Value], dims: Dims, at: list[Number]
    ) -> tuple[ir.Value, ir.Value]:
        """Both operands' pointers at these places of some dimensions."""
        a = weighted_sum(self.builder, at, [dim.a for dim in dims])
        b = weighted_sum(self.builder, at, [dim.b for dim in dims])
        return (
            element_pointer(self.builder, pointers[0], a, self.a_type),
            element_pointer(self.builder, pointers[1], b, self.b_type),
        )

    def _point(self, loops: list[Number]) -> None:
        """All of one point of the batch dimensions."""
        plan = self.plan
        a, b = self._moved((self.a, self.b), plan.loops, loops)
        if plan.taps:
            self._pack_panels(b)
        if not plan.is_blocked:
            steps = plan.inner[0].extent if plan.inner else 1
            only = FIRST_BLOCK | LAST_BLOCK
            self._block(_Block(loops, a, b, self.b_packed, 0, steps, only, {}))
            return
        builder = self.builder
        extent = plan.inner[0].extent
        ranges = -(-extent // plan.block)
        with counted_loop(builder, 0, plan.blocks, "block") as number:
            extents = [dim.extent for dim in plan.outer_inner]
            *outer, block = decode(builder, number, [*extents, ranges])
            begin = multiply(builder, block, plan.block)
            cut = (*plan.outer_inner, plan.inner[0])
            a_block, b_block = self._moved((a, b), cut, [*outer, begin])
            size: Number = plan.block
            if plan.uneven:
                left = builder.sub(as_i64(extent), as_i64(begin))
                enough = builder.icmp_signed("<", as_i64(plan.block), left)
                size = builder.select(enough, as_i64(plan.block), left)
            first = builder.zext(builder.icmp_signed("==", number, as_i64(0)), I64)
            last = builder.zext(builder.icmp_signed("==", number, as_i64(plan.blocks - 1)), I64)
            state = builder.or_(first, builder.mul(last, as_i64(LAST_BLOCK)))
            packed = self.b_packed
            if packed is not None and plan.taps:
                before = multiply(builder, number, plan.block_elements)
                packed = element_pointer(builder, packed, before, self.item)
            around = {dim.var: at for dim, at in zip(plan.outer_inner, outer, strict=True)}
            self._block(_Block(loops, a_block, b_block, packed, begin, size, state, around))

    def _block(self, block: _Block) -> None:
        builder = self.builder
        if self.plan.pack_b != "none" and not self.plan.taps:
            self._pack_panels(block.b, block.steps)
        if self.plan.pack_a == "none":
            self._tiles(self.tile_range, self.tile_range[0], block)
            return
        begin, end = self.tile_range
        size = self.plan.packed_tiles
        number = builder.sub(as_i64(end), as_i64(begin))
        groups = builder.udiv(builder.add(number, as_i64(size - 1)), as_i64(size))
        with counted_loop(builder, 0, groups, "group") as group:
            first = builder.add(as_i64(begin), as_i64(multiply(builder, group, size)))
            beyond = builder.add(first, as_i64(size))
            fewer = builder.icmp_signed("<", beyond, as_i64(end))
            tiles = first, builder.select(fewer, beyond, as_i64(end))
            self._pack_rows(block, tiles)
            self._tiles(tiles, first, block)

    def _tiles(self, tiles: tuple[Number, Number], first: Number, block: _Block) -> None:
        """Some row tiles against all panels; the first one that is packed, if they are."""
        if self.plan.panels_outermost:
            self._each_panel(lambda *panel: self._panel_tiles(tiles, block, panel))
            return
        with counted_loop(self.builder, *tiles, "tile") as tile:
            self._row_tile(
                tile,
                first,
                block,
                lambda row: self._each_panel(lambda *panel: self._call(block, row, panel)),
            )

    def _panel_tiles(
        self, tiles: tuple[Number, Number], block: _Block, panel: tuple[Number, Number, int]
    ) -> None:
        """All row tiles against one panel."""
        with counted_loop(self.builder, *tiles, "tile") as tile:
            self._row_tile(tile, tiles[0], block, lambda row: self._call(block, row, panel))

    def _row_tile(
        self, tile: ir.Value, first: Number, block: _Block, body: Callable[[_RowTile], None]
    ) -> None:
        builder, plan = self.builder, self.plan
        outer, piece = self._decoded(tile)
        begin = self._piece_begin(piece)
        rows = (*self.plan.outer_rows, self.plan.split)
        a, _ = self._moved((block.a, block.b), rows, [*outer, begin])
        ahead = None
        if self.plan.fetched_rows:
            after, next_piece = self._decoded(builder.add(tile, as_i64(1)))
            there = [*after, self._piece_begin(next_piece)]
            ahead, _ = self._moved((block.a, block.b), rows, there)
        place = builder.sub(tile, as_i64(self.tile_range[0]))
        if self.plan.pack_a != "none":
            packed = builder.sub(tile, as_i64(first))
            offset = multiply(builder, packed, self.plan.a_tile_elements)
            a = element_pointer(builder, self.a_packed, offset, self.item)
        places = zip((*plan.loops, *plan.outer_rows), (*block.loops, *outer), strict=True)
        at = {dim.var: value for dim, value in places}
        terms = terms_of(builder, plan, at, block.around, block.begin, block.steps)

        def of_size(size: int) -> None:
            body(_RowTile(size, place, a, ahead, [*outer, begin], terms))

        if not (plan.shape.guards and plan.is_blocked):
            self._by_piece(piece, of_size)
            return
        # A block without terms is for nothing, unless it is the first or last one.
        some = builder.icmp_signed("!=", as_i64(terms[0].count), as_i64(0))
        needed = builder.icmp_signed("!=", as_i64(block.state), as_i64(0))
        with builder.if_then(builder.or_(some, needed)):
            self._by_piece(piece, of_size)

    def _decoded(self, tile: ir.Value) -> tuple[list[Number], Number]:
        """A row tile's places in the outer row dimensions, and its piece of the split one."""
        outer, count = [dim.extent for dim in self.plan.outer_rows], self.plan.pieces.count
        if self.plan.pieces_outermost:
            first, *rest = decode(self.builder, tile, [count, *outer])
            return rest, first
        *rest, last = decode(self.builder, tile, [*outer, count])
        return rest, last

    def _piece_begin(self, piece: Number) -> Number:
        return piece_begin(self.builder, self.plan.pieces, piece)

    def _by_piece(self, piece: Number, body: Callable[[int], object]) -> None:
        by_size(self.builder, self.plan.pieces, piece, body)

    # Panels -------------------------------------------------------------------------------------

    def _each_panel(self, body: Callable[[Number, Number, int], None]) -> None:
        """`body(panel, its place in the chunk, its kind)` for the chunk's panels."""
        builder, first = self.builder, self.panel_range[0]
        for begin, end, kind in self._panels_by_kind():
            with counted_loop(builder, begin, end, "panel") as panel:
                body(panel, builder.sub(panel, as_i64(first)), kind)

    def _panels_by_kind(self) -> list[tuple[Number, Number, int]]:
        panels = self.plan.panels
        ends = (panels.full,) if len(panels.variants) > 1 else ()
        return _cut(self.builder, self.panel_range, ends)

    def _call(self, block: _Block, row: _RowTile, panel: tuple[Number, Number, int]) -> None:
        """One row tile against one panel."""
        plan, builder = self.plan, self.builder
        number, at, kind = panel
        lane = multiply(builder, number, plan.panels.lanes)
        a = element_pointer(builder, row.a, multiply(builder, lane, plan.lane.a), self.a_type)
        levels, begins = self.levels[row.size, kind], [terms.begin for terms in row.terms]
        a_type = self.a_type if plan.pack_a == "none" else self.item
        b_type = self.b_type if plan.pack_b == "none" else self.item
        skipped_a = weighted_sum(builder, begins, [level.a for level in levels])
        skipped_b = weighted_sum(builder, begins, [level.b for level in levels])
        b = self._b_panel(block, number, lane, at)
        arguments = [
            element_pointer(builder, a, skipped_a, a_type),
            element_pointer(builder, b, skipped_b, b_type),
        ]
        if row.ahead is not None:
            first = multiply(builder, at, plan.fetched_rows * plan.split.a)
            arguments.append(element_pointer(builder, row.ahead, first, self.a_type))
        if plan.panels_outermost:
            # Each of the first tiles fetches its line of every step; the others' are there then.
            items = ALIGNMENT // plan.shape.b.dtype.itemsize
            line = multiply(builder, row.place, items)
            inside = smaller(builder, line, plan.panels.lanes - items)
            arguments.append(as_i64(add(builder, inside, plan.lane.jump)))
        given = zip(row.terms, plan.open_levels, strict=True)
        arguments += [as_i64(terms.count) for terms, is_open in given if is_open]
        if plan.is_blocked:
            tile_number = add(builder, multiply(builder, row.place, plan.chunk_panels), at)
            offset = multiply(builder, tile_number, plan.sums_tile_elements)
            sums = element_pointer(builder, self.sums, offset, self.item)
            arguments += [sums, as_i64(block.state)]
        arguments += self.epilogue
        arguments += [as_i64(value) for value in (*block.loops, *row.variables, lane)]
        arguments += own_sizes()
        builder.call(self.tiles[row.size, kind], arguments)

    def _from_b(self, number: Number, lane: Number) -> Number:
        """Where a panel begins in b as it lies in memory."""
        dim = self.plan.lane
        if dim.panel:
            return multiply(self.builder, number, dim.jump)
        return multiply(self.builder, lane, dim.b)

    def _b_panel(self, block: _Block, number: Number, lane: Number, at: Number) -> ir.Value:
        plan, builder = self.plan, self.builder
        if plan.pack_b == "none":
            return element_pointer(builder, block.b, self._from_b(number, lane), self.b_type)
        assert block.packed is not None
        offset = multiply(builder, at, plan.b_panel_elements)
        return element_pointer(builder, block.packed, offset, self.item)

    # Packing ------------------------------------------------------------------------------------

    def _pack_panels(self, b: ir.Value, steps: Number | None = None) -> None:
        """The chunk's panels, of so many steps; None: of all, in all blocks."""
        plan, builder = self.plan, self.builder
        assert self.b_packed is not None
        for begin, end, kind in self._panels_by_kind():
            offset = multiply(builder, begin, plan.panel_step)
            source = element_pointer(builder, b, offset, self.b_type)
            at = builder.sub(as_i64(begin), as_i64(self.panel_range[0]))
            place = element_pointer(
                builder, self.b_packed, multiply(builder, at, plan.b_panel_elements), self.item
            )
            number = builder.sub(as_i64(end), as_i64(begin))
            if steps is None:
                builder.call(self.pack_b[kind], [source, place, number])
            else:
                arguments = [source, place, as_i64(steps), number]
                builder.call(self.pack_b[kind], arguments + own_sizes())

    def _pack_rows(self, block: _Block, tiles: tuple[ir.Value, ir.Value]) -> None:
        plan, builder = self.plan, self.builder
        # The split dimension is the only row dimension then, so a piece is a tile.
        for begin, end, kind in _cut(builder, tiles, plan.pieces.ends):
            offset = multiply(builder, self._piece_begin(begin), plan.split.a)
            source = element_pointer(builder, block.a, offset, self.a_type)
            at = builder.sub(as_i64(begin), tiles[0])
            place = element_pointer(
                builder, self.a_packed, multiply(builder, at, plan.a_tile_elements), self.item
            )
            number = builder.sub(as_i64(end), as_i64(begin))
            arguments = [source, place, as_i64(block.steps), number]
            builder.call(self.pack_a[kind], arguments + own_sizes())


def _cut(
    builder: ir.IRBuilder, bounds: tuple[Number, Number], ends: Sequence[int]
) -> list[tuple[Number, Number, int]]:
    """A range as (begin, end, number) of what lies below each of the ends, and the rest."""
    if not ends:
        return [(*bounds, 0)]
    begin, end = bounds
    limits: list[Number] = [begin]
    if is_number(begin) and is_number(end) and is_known(*ends):
        limits += [min(max(begin, limit), end) for limit in ends]
    else:
        first, last = as_i64(begin), as_i64(end)
        for limit in map(as_i64, ends):
            inside = builder.select(builder.icmp_signed(">", first, limit), first, limit)
            below = builder.icmp_signed("<", last, inside)
            limits.append(builder.select(below, last, inside))
    limits.append(end)
    return [(low, high, kind) for kind, (low, high) in enumerate(pairwise(limits))]
