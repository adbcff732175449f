"""The micro-kernel: one register tile of a contraction, from the sum over a block to the stores.

In: a `Schedule` and a tile's size.  Out: an LLVM function that is called once for each tile and
block.  The accumulators are rows x vectors registers; a step of the sum loads `vectors` vectors of
b, broadcasts `rows` elements of a (or loads vectors of it, in the "lanes" form) and does rows *
vectors fused multiply-adds.  Strides are numbers, so every row is a constant displacement from one
pointer.

    void tile(ptr a, ptr b [, ptr ahead] [, i64 next], i64 counts... [, ptr sums, i64 state],
              ptr epilogue buffers..., i64 outer variables... [, i64 word 0])

`ahead` exists where the next tile's rows of a are to be fetched meanwhile, and points to those that
this call sees to.  `next` exists where the next panel of b is, and says how many elements further
on than b's own the lines lie of which each step fetches one.  `counts` are how often those loops of
the sum run that are not always as long.
The next two exist when the sum is made in several blocks: `sums` holds the partial sums, `state`
has bit 0 set in the first block and bit 1 in the last.
"""

from __future__ import annotations

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import (
    Number,
    add,
    as_i64,
    element_pointer,
    multiply,
)
from braze.codegen.llvm.looping import carried_loop
from braze.codegen.llvm.operands import OperandLoader, multiply_add
from braze.codegen.llvm.symbolic import enter_function, size_count, symbolic_scope
from braze.codegen.llvm.tile import Level, Tile, epilogue_buffers, outer_variables
from braze.codegen.llvm.tile_epilogue import TileEpilogue
from braze.codegen.llvm.types import (
    FIRST_LEVEL,
    I64,
    POINTER,
    SECOND_LEVEL,
    prefetch,
    register_type,
    splat,
    zero,
)
from braze.ir.target import Target

FIRST_BLOCK, LAST_BLOCK = 1, 2

# Multiply-adds in a straight line: enough to hide the loop, few enough to compile fast.
_UNROLLED_PRODUCTS = 40


class TileEmitter:
    """Writes the function of one `Tile` into a module."""

    def __init__(self, module: ir.Module, tile: Tile, target: Target, name: str) -> None:
        self.tile = tile
        self.schedule = tile.schedule
        self.target = target
        self.dtype = tile.schedule.shape.dtype
        self.width = tile.schedule.width
        self.vector = register_type(self.dtype, self.width)
        self.item = register_type(self.dtype)
        self.blocked = tile.schedule.is_blocked
        buffers = epilogue_buffers(tile.schedule.shape.stores)
        variables = outer_variables(tile.schedule)
        types: list[ir.Type] = [POINTER, POINTER]
        types += [POINTER] if self.schedule.fetched_rows else []
        types += [I64] if self.schedule.panels_outermost else []
        counts = sum(self.schedule.open_levels)
        types += [I64] * counts
        types += [POINTER, I64] if self.blocked else []
        types += [POINTER] * len(buffers) + [I64] * (len(variables) + size_count())
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), types), name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.function.attributes.add("nounwind")
        arguments = iter(self.function.args)
        self.a, self.b = next(arguments), next(arguments)
        self.ahead = next(arguments) if self.schedule.fetched_rows else None
        self.next = next(arguments) if self.schedule.panels_outermost else None
        self.counts = [next(arguments) for _ in range(counts)]
        if self.blocked:
            self.sums, self.state = next(arguments), next(arguments)
        self.pointers = {buffer.name: next(arguments) for buffer in buffers}
        self.variables = {variable: next(arguments) for variable in variables}
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.sizes = [*arguments]
        shape = tile.schedule.shape
        a_dtype = self.dtype if tile.a_is_packed else shape.a.dtype
        b_dtype = self.dtype if tile.b_is_packed else shape.b.dtype
        self.a_loader = OperandLoader(self.builder, target, a_dtype, self.dtype)
        self.b_loader = OperandLoader(self.builder, target, b_dtype, self.dtype)

    def emit(self) -> ir.Function:
        with symbolic_scope():
            if self.sizes:
                enter_function(self.builder, self.sizes.__getitem__, len(self.sizes))
            return self._emit()

    def _emit(self) -> ir.Function:
        builder = self.builder
        tile = self.tile
        sums: list[ir.Value] = [zero(self.vector)] * (tile.rows * tile.vectors)
        if not self.schedule.shape.empty:
            sums = self._nest(tile.levels(), self.a, self.b, sums)
        if self.blocked:
            sums = self._with_earlier(sums)
            done = builder.append_basic_block("last")
            partial = builder.append_basic_block("partial")
            is_last = builder.and_(self.state, as_i64(LAST_BLOCK))
            builder.cbranch(builder.icmp_signed("!=", is_last, as_i64(0)), done, partial)
            builder.position_at_end(partial)
            for number, value in enumerate(sums):
                builder.store(value, self._sum(number), align=16)
            builder.ret_void()
            builder.position_at_end(done)
        TileEpilogue(builder, tile, self.target, self.pointers, self.variables).emit(sums)
        builder.ret_void()
        return self.function

    # The sum ------------------------------------------------------------------------------------

    def _sum(self, number: int) -> ir.Value:
        return element_pointer(self.builder, self.sums, number * self.width, self.item)

    def _with_earlier(self, sums: list[ir.Value]) -> list[ir.Value]:
        """The earlier blocks' sums added to this one's, which keeps long sums accurate."""
        builder = self.builder
        plus = builder.fadd if self.dtype.is_floating_point else builder.add
        again = builder.append_basic_block("again")
        summed = builder.append_basic_block("summed")
        is_first = builder.and_(self.state, as_i64(FIRST_BLOCK))
        builder.cbranch(builder.icmp_signed("!=", is_first, as_i64(0)), summed, again)
        before = builder.block
        builder.position_at_end(again)
        more = []
        for number, value in enumerate(sums):
            earlier = builder.load(self._sum(number), typ=self.vector, align=16)
            more.append(plus(earlier, value))
        builder.branch(summed)
        builder.position_at_end(summed)
        both: list[ir.Value] = []
        for value, total in zip(sums, more, strict=True):
            phi = builder.phi(self.vector)
            phi.add_incoming(value, before)
            phi.add_incoming(total, again)
            both.append(phi)
        return both

    def _nest(
        self, levels: list[Level], a: ir.Value, b: ir.Value, sums: list[ir.Value]
    ) -> list[ir.Value]:
        """The sums with all terms: loops over the outer levels; the inner ones become straight
        lines of several steps."""
        products = self.tile.rows * self.tile.vectors
        straight = 1
        for position in range(len(levels) - 1, -1, -1):
            extent = levels[position].extent
            if extent is None or straight * extent * products > _UNROLLED_PRODUCTS:
                break
            straight *= extent
        else:
            return self._straight(levels, [(0, 0)], a, b, sums)
        unroll = max(1, _UNROLLED_PRODUCTS // (straight * products))
        return self._loops(levels[: position + 1], levels[position + 1 :], unroll, a, b, sums)

    def _loops(
        self, loops: list[Level], inside: list[Level], unroll: int, a: ir.Value, b: ir.Value,
        sums: list[ir.Value],
    ) -> list[ir.Value]:  # fmt: skip
        level, *rest = loops
        if rest:
            with carried_loop(self.builder, 0, self._extent(level), 1, sums, "outer") as outer:
                moved = self._moved(a, b, level, outer.index)
                outer.update(self._loops(rest, inside, unroll, *moved, outer.values))
            return outer.results
        extent = self._extent(level)
        if isinstance(extent, int):
            unroll = _best_unroll(extent, unroll)
            times: Number = extent // unroll
        else:
            times = self.builder.udiv(extent, as_i64(unroll))
        wide = Level(None, level.a * unroll, level.b * unroll)
        offsets = [(level.a * step, level.b * step) for step in range(unroll)]
        with carried_loop(self.builder, 0, times, 1, sums, "inner") as inner:
            self._fetch(inner.index, unroll, extent)
            moved = self._moved(a, b, wide, inner.index)
            inner.update(self._straight(inside, offsets, *moved, inner.values))
        sums = inner.results
        if isinstance(extent, int):
            done = extent // unroll * unroll
            left = [(level.a * step, level.b * step) for step in range(done, extent)]
            return self._straight(inside, left, a, b, sums) if left else sums
        if unroll == 1:
            return sums
        begin = self.builder.mul(as_i64(times), as_i64(unroll))
        with carried_loop(self.builder, begin, extent, 1, sums, "rest") as one:
            moved = self._moved(a, b, level, one.index)
            one.update(self._straight(inside, [(0, 0)], *moved, one.values))
        return one.results

    def _fetch(self, i: ir.Value, unroll: int, extent: Number) -> None:
        """Have fetched, one line at a time, what is needed soon: the next tile's rows of a, and the
        partial sums that this tile is added to."""
        builder, plan = self.builder, self.schedule
        if self.ahead is not None:
            for row in range(plan.fetched_rows):
                at = add(builder, multiply(builder, i, unroll), row * plan.split.a)
                place = element_pointer(builder, self.ahead, at, self.a_loader.element)
                prefetch(builder, place, SECOND_LEVEL)
        if self.blocked:
            size = self.tile.rows * self.tile.vectors * self.width
            steps = extent if isinstance(extent, int) else plan.block
            rate = -(-size // max(1, steps // unroll))
            place = element_pointer(builder, self.sums, multiply(builder, i, rate), self.item)
            prefetch(builder, place, FIRST_LEVEL)

    def _extent(self, level: Level) -> Number:
        return self.counts[level.number] if level.extent is None else level.extent

    def _moved(
        self, a: ir.Value, b: ir.Value, level: Level, steps: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        builder = self.builder
        return (
            element_pointer(builder, a, multiply(builder, steps, level.a), self.a_loader.element),
            element_pointer(builder, b, multiply(builder, steps, level.b), self.b_loader.element),
        )

    def _straight(
        self, levels: list[Level], starts: list[tuple[int, int]], a: ir.Value, b: ir.Value,
        sums: list[ir.Value],
    ) -> list[ir.Value]:  # fmt: skip
        """The sums after all steps of `levels` from each start, without a loop."""
        offsets = starts
        for level in levels:
            assert level.extent is not None
            offsets = [
                (x + step * level.a, y + step * level.b)
                for x, y in offsets
                for step in range(level.extent)
            ]
        sums = list(sums)
        later = None
        if self.next is not None:
            later = element_pointer(self.builder, b, self.next, self.b_loader.element)
        for a_offset, b_offset in offsets:
            if later is not None:
                place = element_pointer(self.builder, later, b_offset, self.b_loader.element)
                prefetch(self.builder, place, SECOND_LEVEL)
            self._step(sums, a, a_offset, b, b_offset)
        return sums

    def _step(
        self, sums: list[ir.Value], a: ir.Value, a_offset: int, b: ir.Value, b_offset: int
    ) -> None:
        """One term of the sum. The operand with fewer registers is held, the other one streams."""
        tile = self.tile
        rows, vectors = range(tile.rows), range(tile.vectors)
        if self.schedule.form == "lanes":
            held = [self._load_b(b, b_offset, j) for j in vectors]
            pairs = (
                (r, j, self._load_a_vector(a, a_offset, r, j), held[j])
                for r in rows
                for j in vectors
            )
        elif tile.rows < tile.vectors:
            spread = [self._spread_a(a, a_offset, r) for r in rows]
            streamed = ((j, self._load_b(b, b_offset, j)) for j in vectors)
            pairs = ((r, j, spread[r], value) for j, value in streamed for r in rows)
        else:
            held = [self._load_b(b, b_offset, j) for j in vectors]
            streamed = ((r, self._spread_a(a, a_offset, r)) for r in rows)
            pairs = ((r, j, value, held[j]) for r, value in streamed for j in vectors)
        for r, j, x, y in pairs:
            at = r * tile.vectors + j
            sums[at] = multiply_add(self.builder, x, y, sums[at], self.dtype)

    def _load_b(self, b: ir.Value, offset: int, vector: int) -> ir.Value:
        stride = self.schedule.lane.b if not self.tile.b_is_packed else 1
        offset += vector * self.width * stride
        place = element_pointer(self.builder, b, offset, self.b_loader.element)
        present = self.width if self.tile.b_is_packed else self.tile.present(vector)
        return self.b_loader.load(place, self.width, present)

    def _load_a_vector(self, a: ir.Value, offset: int, row: int, vector: int) -> ir.Value:
        offset += self.tile.a_row(row) + vector * self.width
        place = element_pointer(self.builder, a, offset, self.a_loader.element)
        return self.a_loader.load(place, self.width, self.tile.present(vector))

    def _spread_a(self, a: ir.Value, offset: int, row: int) -> ir.Value:
        offset += self.tile.a_row(row)
        place = element_pointer(self.builder, a, offset, self.a_loader.element)
        return splat(self.builder, self.a_loader.load(place), self.width)


def _best_unroll(extent: int, most: int) -> int:
    """A divisor of the extent if one is near `most`, so that no rest is left."""
    most = min(most, extent)
    for divisor in range(most, max(1, most // 2), -1):
        if extent % divisor == 0:
            return divisor
    return most
