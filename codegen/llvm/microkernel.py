"""The micro-kernel: one register tile of a contraction, from the sum over a block to the stores.

In: a `Schedule` and a tile's size.  Out: an LLVM function that is called once for each tile and
block.  The accumulators are rows x vectors registers; a step of the sum loads `vectors` vectors of
b, broadcasts `rows` elements of a (or loads vectors of it, in the "lanes" form) and does rows *
vectors fused multiply-adds.  Strides are numbers, so every row is a constant displacement from one
pointer.

    void tile(ptr a, ptr b [, ptr ahead] [, ptr sums, i64 steps, i64 state],
              ptr epilogue buffers..., i64 outer variables...)

`ahead` exists where the next tile's rows of a are to be fetched meanwhile, and points to those that
this call sees to.  The last three exist when the sum is made in several blocks: `sums` holds the
partial sums, `steps` is how often the block's first dimension steps, `state` has bit 0 set in the
first block and bit 1 in the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, product

from braze.codegen.llvm import ir
from braze.codegen.llvm.contraction_shape import ContractionShape, Dim, count
from braze.codegen.llvm.control import (
    Number,
    add,
    as_i64,
    counted_loop,
    decode,
    element_pointer,
    multiply,
)
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.looping import carried_loop
from braze.codegen.llvm.operands import OperandLoader, multiply_add
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.turned_stores import runs_of_rows, store_turned
from braze.codegen.llvm.types import (
    FIRST_LEVEL,
    I1,
    I64,
    POINTER,
    SECOND_LEVEL,
    constants,
    prefetch,
    register_type,
    splat,
    zero,
)
from braze.ir.index import LoopVar
from braze.ir.loops import Buffer, Load, Store
from braze.ir.target import Target

FIRST_BLOCK, LAST_BLOCK = 1, 2

# Multiply-adds in a straight line: enough to hide the loop, few enough to compile fast.
_UNROLLED_PRODUCTS = 40
# Epilogues with more operations than this for a tile are emitted once, in a loop over rows.
_EPILOGUE_OPERATIONS = 500


@dataclass(frozen=True, slots=True)
class Level:
    """A loop of the sum: how often (None: the `steps` argument says), and the operands' strides."""

    extent: int | None
    a: int
    b: int


@dataclass(frozen=True, eq=False)
class Tile:
    """One kind of register tile.

    size: of its piece of the split dimension. lanes: how many of its last vector exist.
    """

    schedule: Schedule
    size: int
    vectors: int
    lanes: int

    @property
    def rows(self) -> int:
        return self.size * count(self.schedule.whole)

    @property
    def a_is_packed(self) -> bool:
        return self.schedule.pack_a != "none"

    @property
    def b_is_packed(self) -> bool:
        return self.schedule.pack_b != "none"

    def row_dims(self) -> tuple[Dim, ...]:
        return (self.schedule.split, *self.schedule.whole)

    def row_indices(self, row: int) -> tuple[int, ...]:
        """The row's place in the split dimension's piece and in the whole ones."""
        indices = []
        for dim in reversed(self.schedule.whole):
            row, index = divmod(row, dim.extent)
            indices.append(index)
        return (row, *reversed(indices))

    def _a_row_source(self, row: int) -> int:
        """Elements between the tile's first row and this one in operand a as it lies in memory."""
        pairs = zip(self.row_indices(row), self.row_dims(), strict=True)
        return sum(index * dim.a for index, dim in pairs)

    def a_row(self, row: int) -> int:
        """The same in operand a as the micro-kernel reads it."""
        return row if self.a_is_packed else self._a_row_source(row)

    def levels(self) -> list[Level]:
        """The loops over a block, outermost first."""
        levels: list[Level] = []
        step = 1
        for dim in reversed(self.schedule.inner):
            a = step * self.rows if self.a_is_packed else dim.a
            b = step * self.vectors * self.schedule.width if self.b_is_packed else dim.b
            levels.append(Level(dim.extent, a, b))
            step *= dim.extent
        if levels:
            steps = None if self.schedule.uneven else self.schedule.block
            levels[-1] = Level(steps, levels[-1].a, levels[-1].b)
        return levels[::-1]


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
        self.blocked = tile.schedule.blocks > 1
        buffers, variables = epilogue_buffers(tile.schedule.shape), outer_variables(tile.schedule)
        types: list[ir.Type] = [POINTER, POINTER]
        types += [POINTER] if self.schedule.fetched_rows else []
        types += [POINTER, I64, I64] if self.blocked else []
        types += [POINTER] * len(buffers) + [I64] * len(variables)
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), types), name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.function.attributes.add("nounwind")
        arguments = iter(self.function.args)
        self.a, self.b = next(arguments), next(arguments)
        self.ahead = next(arguments) if self.schedule.fetched_rows else None
        if self.blocked:
            self.sums, self.steps, self.state = (next(arguments) for _ in range(3))
        self.pointers = {buffer.name: next(arguments) for buffer in buffers}
        self.variables = {variable: next(arguments) for variable in variables}
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        shape = tile.schedule.shape
        a_dtype = self.dtype if tile.a_is_packed else shape.a.dtype
        b_dtype = self.dtype if tile.b_is_packed else shape.b.dtype
        self.a_loader = OperandLoader(self.builder, target, a_dtype, self.dtype)
        self.b_loader = OperandLoader(self.builder, target, b_dtype, self.dtype)

    def emit(self) -> ir.Function:
        builder = self.builder
        tile = self.tile
        sums: list[ir.Value] = [zero(self.vector)] * (tile.rows * tile.vectors)
        staged = self._epilogue_operations() > _EPILOGUE_OPERATIONS
        stage = builder.alloca(self.vector, size=as_i64(len(sums))) if staged else None
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
        if stage is None:
            self._epilogue(sums)
        else:
            self._staged_epilogue(sums, stage)
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
        return self.steps if level.extent is None else level.extent

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
        for a_offset, b_offset in offsets:
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

    def _present(self, vector: int) -> int:
        return self.tile.lanes if vector == self.tile.vectors - 1 else self.width

    def _load_b(self, b: ir.Value, offset: int, vector: int) -> ir.Value:
        stride = self.schedule.lane.b if not self.tile.b_is_packed else 1
        offset += vector * self.width * stride
        place = element_pointer(self.builder, b, offset, self.b_loader.element)
        present = self.width if self.tile.b_is_packed else self._present(vector)
        return self.b_loader.load(place, self.width, present)

    def _load_a_vector(self, a: ir.Value, offset: int, row: int, vector: int) -> ir.Value:
        offset += self.tile.a_row(row) + vector * self.width
        place = element_pointer(self.builder, a, offset, self.a_loader.element)
        return self.a_loader.load(place, self.width, self._present(vector))

    def _spread_a(self, a: ir.Value, offset: int, row: int) -> ir.Value:
        offset += self.tile.a_row(row)
        place = element_pointer(self.builder, a, offset, self.a_loader.element)
        return splat(self.builder, self.a_loader.load(place), self.width)

    # The epilogue -------------------------------------------------------------------------------

    def _epilogue_operations(self) -> int:
        each = sum(sum(1 for _ in store.value.walk()) + 1 for store in self.schedule.shape.stores)
        return each * self.tile.rows * self.tile.vectors

    def _emitter(
        self, indices: Sequence[Number], vector: Number, value: ir.Value, present: int,
        scalar: ExpressionEmitter | None = None,
    ) -> ExpressionEmitter:  # fmt: skip
        """For the row at these places of the tile's row dims, and a vector of it.

        Args:
            scalar: of another vector of the row.
        """
        builder = self.builder
        variables: dict[LoopVar, ir.Value] = dict(self.variables)
        lane = self.schedule.lane.var
        shifts = {}
        first_lane = multiply(builder, vector, self.width)
        dims = [*(dim.var for dim in self.tile.row_dims()), lane]
        for var, index in zip(dims, (*indices, first_lane), strict=True):
            start = variables.get(var, as_i64(0))
            if isinstance(index, int):
                variables[var], shifts[var] = start, index
            else:
                variables[var] = as_i64(add(builder, start, index))
        mask = None
        if present < self.width:
            mask = constants(I1, [int(i < present) for i in range(self.width)])
        return ExpressionEmitter(
            builder, self.target, width=self.width, lane_var=lane if self.width > 1 else None,
            variables=variables, refs={"acc": value},
            pointer=lambda buffer: self.pointers[buffer.name], mask=mask, shifts=shifts,
            scalar=scalar,
        )  # fmt: skip

    def _epilogue(self, sums: list[ir.Value]) -> None:
        """Straight-line stores; a row's values come before its stores, to share what they load."""
        turned = [self._runs(store) for store in self.schedule.shape.stores]
        if any(turned):
            self._turned_epilogue(sums, turned)
            return
        stores = self.schedule.shape.stores
        for row in range(self.tile.rows):
            emitters = self._row_emitters(row, sums)
            for emitter, store in product(emitters, stores):
                emitter.store(store)

    def _runs(self, store: Store) -> list[list[int]]:
        """The tile's rows in runs to store along; none for a store along the vectors."""
        if self.width == 1:
            return []
        variables = [dim.var for dim in self.tile.row_dims()]
        rows = [
            dict(zip(variables, self.tile.row_indices(row), strict=True))
            for row in range(self.tile.rows)
        ]
        return runs_of_rows(store, self.schedule.lane, rows)

    def _turned_epilogue(self, sums: list[ir.Value], turned: list[list[list[int]]]) -> None:
        """All values come before all stores, those with runs of rows as vectors along these."""
        tile = self.tile
        emitters = [self._row_emitters(row, sums) for row in range(tile.rows)]
        for store, runs in zip(self.schedule.shape.stores, turned, strict=True):
            if not runs:
                for emitter in chain.from_iterable(emitters):
                    emitter.store(store)
            for run, j in product(runs, range(tile.vectors)):
                values = [emitters[row][j].in_memory(store) for row in run]
                addresses = emitters[run[0]][j].addresses(store)[: self._present(j)]
                store_turned(self.builder, values, addresses, store.buffer.dtype, self.target)

    def _row_emitters(self, row: int, sums: list[ir.Value]) -> list[ExpressionEmitter]:
        """An emitter for each vector of a row, whose stores' values are there."""
        emitters: list[ExpressionEmitter] = []
        for j in range(self.tile.vectors):
            value = sums[row * self.tile.vectors + j]
            indices, present = self.tile.row_indices(row), self._present(j)
            # With one lane there is nothing beside the vectors that could be shared.
            shared = emitters[0].scalar if emitters and self.width > 1 else None
            emitters.append(self._emitter(indices, j, value, present, shared))
            for store in self.schedule.shape.stores:
                emitters[-1].value(store.value)
        return emitters

    def _staged_epilogue(self, sums: list[ir.Value], stage: ir.Value) -> None:
        """The tile goes through memory, so that a long epilogue is compiled only once or twice.

        One loop and not two: of a nest, LLVM's loop strength reduction tries so many ways to step
        every address that it takes longer than all else.
        """
        builder, tile = self.builder, self.tile
        whole = tile.vectors - (tile.lanes < self.width)
        begin = 0
        for first, end, present in ((0, whole, self.width), (whole, tile.vectors, tile.lanes)):
            vectors = range(first, end)
            places = [row * tile.vectors + j for row in range(tile.rows) for j in vectors]
            if not places:
                continue
            for at, place in enumerate(places, begin):
                there = element_pointer(builder, stage, at * self.width, self.item)
                builder.store(sums[place], there)
            extents = [tile.size, *(dim.extent for dim in self.schedule.whole), len(vectors)]
            with counted_loop(builder, 0, len(places), "vector") as i:
                *indices, j = decode(builder, i, extents)
                number = multiply(builder, add(builder, i, begin), self.width)
                there = element_pointer(builder, stage, number, self.item)
                value = builder.load(there, typ=self.vector)
                emitter = self._emitter(indices, add(builder, j, first), value, present)
                for store in self.schedule.shape.stores:
                    emitter.store(store)
            begin += len(places)


def outer_variables(schedule: Schedule) -> list[LoopVar]:
    """The loop variables that a tile function is told the value of, in order."""
    dims = (*schedule.loops, *schedule.outer_rows, schedule.split, schedule.lane)
    return [dim.var for dim in dims]


def epilogue_buffers(shape: ContractionShape) -> list[Buffer]:
    """The buffers that the stores read and write, each once."""
    found: dict[str, Buffer] = {}
    for store in shape.stores:
        found[store.buffer.name] = store.buffer
        for root in (store.value, Load(store.buffer, store.index, store.guard)):
            for expr in root.walk():
                if isinstance(expr, Load):
                    found[expr.buffer.name] = expr.buffer
    return list(found.values())


def _best_unroll(extent: int, most: int) -> int:
    """A divisor of the extent if one is near `most`, so that no rest is left."""
    most = min(most, extent)
    for divisor in range(most, max(1, most // 2), -1):
        if extent % divisor == 0:
            return divisor
    return most
