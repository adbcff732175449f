"""Attention as LLVM kernels.

In: an `Attention`, where its buffers lie, and a `Target`.  Out: an `EmittedKernel`.

    for each head and block of queries in the chunk's share
      turn the queries, so that they lie in lanes
      for each block of keys
        scores = keys x queries + turned mask, in register tiles (written to the workspace)
        top = the largest so far, by lanes; weights = exp(scores - top); total += weights
        sums = sums * exp(old top - top) + values x weights
      out = sums / total, turned back

No step goes across lanes: maxima and sums over keys are elementwise. The gradient's loops are in
`attention_gradient`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from braze.codegen.llvm import ir
from braze.codegen.llvm.attention_plan import attention_plan, piece_of
from braze.codegen.llvm.attention_tiles import Tile, Tiles
from braze.codegen.llvm.control import (
    Number,
    add,
    as_i64,
    counted_loop,
    decode,
    element_pointer,
    is_known,
    share,
    weighted_sum,
)
from braze.codegen.llvm.kernel import EmittedKernel, KernelFunction
from braze.codegen.llvm.looping import carried_loop
from braze.codegen.llvm.philox import emit_philox
from braze.codegen.llvm.types import (
    I1,
    I8,
    I32,
    I64,
    constant,
    constants,
    intrinsic,
    lane_numbers,
    splat,
    zero,
)
from braze.codegen.llvm.vector_math import call_math
from braze.ir.loops import Placement, Program
from braze.ir.loops_attention import Attention
from braze.ir.ops.attention import row_for, threshold
from braze.ir.ops.creation import BLOCK
from braze.ir.target import Target

# Counters of a block of random words.
_COUNTERS = BLOCK // 4
# Item size -> where exponentials are still normal numbers.
_LOWEST = {4: -87.0, 8: -708.0}


def emit_attention(
    kernel: Attention,
    placements: Mapping[str, Placement],
    program: Program,
    target: Target,
    scratch_stride: int,
    module: ir.Module,
) -> EmittedKernel:
    """The kernel of attention or of its gradient.

    Args:
        scratch_stride: bytes between the workspaces of two threads.
        module: to write into.
    """
    from braze.codegen.llvm.attention_gradient import GradientEmitter

    plan = attention_plan(kernel, target)
    frame = KernelFunction(kernel.name, kernel.buffers, placements, program, module)
    emitter = GradientEmitter if kernel.is_gradient else AttentionEmitter
    emitter(frame, kernel, target, scratch_stride).emit()
    frame.builder.ret_void()
    return EmittedKernel(frame.symbol, frame.module, kernel.chunks, plan.scratch_bytes)


class Blocks:
    """What both kernels do: where operands are, tiles of scores, random words.

    Attributes:
        head: the indices of the head at work.
        first, present: its block of queries, and how many of them there are.
        seen: how many tiles of keys the block's queries see.
    """

    def __init__(
        self, frame: KernelFunction, kernel: Attention, target: Target, scratch_stride: int
    ) -> None:
        self.frame, self.kernel, self.target = frame, kernel, target
        self.builder = frame.builder
        self.plan = attention_plan(kernel, target)
        self.tiles = Tiles(self.builder, self.plan)
        for buffer in kernel.buffers:
            frame.pointer(buffer)
        before = self.builder.mul(frame.thread, as_i64(scratch_stride))
        self.workspace = element_pointer(self.builder, frame.scratch(), before, I8)
        self.scale = constant(self.tiles.item, float(kernel.attributes["scale"]))  # type: ignore[arg-type]
        self.causal = bool(kernel.attributes["causal"])
        self.state: list[ir.Value] = []
        if "seed" in kernel.op.operands:
            for name in ("seed", "offset"):
                array = kernel.operand(name)
                assert array is not None
                place = element_pointer(
                    self.builder, frame.pointer(array.buffer), array.offset, I64
                )
                self.state.append(self.builder.load(place, typ=I64, align=8))
        self.head: list[Number] = []
        self.first: ir.Value = as_i64(0)
        self.present: ir.Value = as_i64(0)

    def area(self, name: str) -> ir.Value:
        return self.tiles.at(self.workspace, self.plan.areas[name])

    def slots(self) -> list[ir.Value]:
        """Room for a vector for each vector of a block; to be called in the entry block."""
        return [self.builder.alloca(self.tiles.vector) for _ in range(self.plan.vectors)]

    def operand(self, name: str, row: Number = 0) -> tuple[ir.Value, tuple[int, int]]:
        """Where the head's matrix (or column) begins, from a row on, and its strides."""
        array = self.kernel.operand(name)
        assert array is not None
        lead = len(self.plan.lead)
        *_, across, along = (*array.strides, 1) if array.type.rank == lead + 1 else array.strides
        offset = weighted_sum(self.builder, self.head, array.strides[:lead])
        pointer = self.tiles.at(self.frame.pointer(array.buffer), array.offset, offset)
        return self.tiles.at(pointer, self.tiles.times(row, across)), (across, along)

    def number_of_head(self) -> Number:
        strides = [math.prod(self.plan.lead[i + 1 :]) for i in range(len(self.plan.lead))]
        return weighted_sum(self.builder, self.head, strides)

    def choose_queries(self, block: Number) -> None:
        """Set which block of queries is at work."""
        builder, plan = self.builder, self.plan
        self.first = as_i64(self.tiles.times(block, plan.block))
        left = builder.sub(as_i64(plan.queries), self.first)
        self.present = self.smaller(left, as_i64(plan.block))

    def smaller(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.icmp_signed("<", x, y), x, y)

    # Blocks of keys -------------------------------------------------------------------------------

    def each_block_of_keys(self, body: Callable[[ir.Value, ir.Value, ir.Value], None]) -> None:
        """`body(first tile, tile after the last one, keys in them)` for the keys that are seen."""
        plan, builder = self.plan, self.builder
        tiles = -(-plan.keys // plan.rows)
        if tiles == 0:
            return
        end = as_i64(tiles)
        if self.causal:
            queries = builder.add(self.first, self.present)
            seen = builder.udiv(builder.add(queries, as_i64(plan.rows - 1)), as_i64(plan.rows))
            end = self.smaller(seen, end)
        with carried_loop(builder, 0, end, plan.tiles_per_block, (), "keys") as loop:
            begin = loop.index
            last = self.smaller(builder.add(begin, as_i64(plan.tiles_per_block)), end)
            stop = self.smaller(as_i64(self.tiles.times(last, plan.rows)), as_i64(plan.keys))
            count = builder.sub(stop, as_i64(self.tiles.times(begin, plan.rows)))
            body(begin, last, count)

    def each_tile(
        self, begin: ir.Value, end: ir.Value, body: Callable[[ir.Value, ir.Value, int], None]
    ) -> None:
        """`body(key, row of the scores, rows)` for the tiles of a block; the last one of all keys
        may have fewer rows."""
        plan, builder = self.plan, self.builder
        whole, rest = divmod(plan.keys, plan.rows)
        known = is_known(plan.keys)
        if whole or not known:
            full = self.smaller(end, as_i64(whole)) if rest or not known else end
            with counted_loop(builder, begin, full, "tile") as tile:
                at = builder.sub(tile, begin)
                key, row = (as_i64(self.tiles.times(x, plan.rows)) for x in (tile, at))
                body(key, row, plan.rows)
        if not known or rest:
            with builder.if_then(builder.icmp_signed("<", as_i64(whole), end)):
                at = builder.sub(as_i64(whole), begin)
                key, row = as_i64(whole * plan.rows), as_i64(self.tiles.times(at, plan.rows))
                if known:
                    body(key, row, rest)
                    return
                with counted_loop(builder, 0, rest, "rest") as i:
                    body(builder.add(key, i), builder.add(row, i), 1)

    def scores(
        self, key: ir.Value, row: ir.Value, rows: int, top: list[ir.Value] | None = None
    ) -> None:
        """Write a tile of scores.

        Args:
            top: where the largest scores of all lanes are kept.
        """
        builder, plan, tiles = self.builder, self.plan, self.tiles
        k, (across, along) = self.operand("key", key)
        tile = tiles.product(
            k, across, along, self.area("queries"), plan.block, plan.width, rows, plan.vectors
        )
        self._add_mask(tile, key, row)
        place = tiles.at(self.area("scores"), tiles.times(row, plan.block))
        if not self.causal:
            self._keep(tile, place, top)
            return
        last = builder.add(key, as_i64(rows - 1))
        with builder.if_else(builder.icmp_signed("<", self.first, last)) as (some, none):
            with some:
                self._keep(self._without_later(tile, key), place, top)
            with none:
                self._keep(tile, place, top)

    def _keep(self, tile: Tile, place: ir.Value, top: list[ir.Value] | None) -> None:
        builder, tiles = self.builder, self.tiles
        tiles.store_tile(tile, place, self.plan.block)
        for j, slot in enumerate(top or ()):
            largest: ir.Value = builder.load(slot, typ=tiles.vector)
            for line in tile:
                above = builder.fcmp_ordered(">", line[j], largest)
                largest = builder.select(above, line[j], largest)
            builder.store(largest, slot)

    def turn_mask(self, begin: ir.Value, count: ir.Value) -> None:
        """Turn the mask of a block of keys, unless it is the same for all queries."""
        if self.kernel.operand("mask") is None:
            return
        mask, (across, along) = self.operand("mask", self.first)
        if across:
            first = self.tiles.times(self.tiles.times(begin, self.plan.rows), along)
            self.tiles.turn_in(
                self.tiles.at(mask, first), (across, along), self.present, count, self.area("mask")
            )

    def _add_mask(self, tile: Tile, key: ir.Value, row: ir.Value) -> None:
        if self.kernel.operand("mask") is None:
            return
        builder, plan, tiles = self.builder, self.plan, self.tiles
        mask, (across, along) = self.operand("mask")
        turned = tiles.at(self.area("mask"), tiles.times(row, plan.block))
        same = tiles.at(mask, tiles.times(key, along))
        for i, line in enumerate(tile):
            for j, value in enumerate(line):
                if across:
                    added = tiles.load(turned, i * plan.block + j * plan.lanes)
                else:
                    added = splat(builder, tiles.load_item(same, i * along), plan.lanes)
                line[j] = builder.fadd(value, added)

    def _without_later(self, tile: Tile, key: ir.Value) -> Tile:
        """-inf where the key comes after the query."""
        builder, plan = self.builder, self.plan
        ahead = splat(builder, builder.trunc(builder.sub(self.first, key), I32), plan.lanes)
        hidden = constant(self.tiles.vector, -math.inf)
        found = []
        for i, line in enumerate(tile):
            found.append(list(line))
            for j, value in enumerate(line):
                numbers = [j * plan.lanes + lane - i for lane in range(plan.lanes)]
                distance = builder.add(ahead, constants(I32, numbers))
                seen = builder.icmp_signed(">=", distance, zero(distance.type))
                found[i][j] = builder.select(seen, value, hidden)
        return found

    # Weights --------------------------------------------------------------------------------------

    def each_weight(
        self,
        begin: ir.Value,
        count: ir.Value,
        body: Callable[[ir.Value, int, ir.Value | None], None],
    ) -> None:
        """`body(row, vector, factor)` for the scores of a block; the factor is dropout's.

        Args:
            begin: number of the block's first tile.
        """
        builder, plan, tiles = self.builder, self.plan, self.tiles
        if self.state:
            self._draw(begin, count)
        with counted_loop(builder, 0, count, "weight") as row:
            for j in range(plan.vectors):
                factor = None
                if self.state:
                    place = tiles.at(self.area("factors"), tiles.times(row, plan.block))
                    factor = tiles.load(place, j * plan.lanes)
                body(row, j, factor)

    def power(self, x: ir.Value) -> ir.Value:
        """e^x, or zero where that would be a subnormal number, which take processors long."""
        builder, lowest = self.builder, constant(x.type, _LOWEST[self.plan.dtype.itemsize])
        is_low = builder.fcmp_ordered("<", x, lowest)
        power = call_math(builder, self.target, "exp", builder.select(is_low, lowest, x))
        return builder.select(is_low, zero(x.type), power)

    def _draw(self, begin: ir.Value, count: ir.Value) -> None:
        """Write dropout's factors for a block of scores, by whole blocks of keys."""
        builder, plan, tiles = self.builder, self.plan, self.tiles
        groups = builder.udiv(builder.add(count, as_i64(BLOCK - 1)), as_i64(BLOCK))
        first_key = as_i64(tiles.times(begin, plan.rows))
        with counted_loop(builder, 0, groups, "words") as group:
            start = as_i64(tiles.times(group, BLOCK))
            with counted_loop(builder, 0, _COUNTERS, "counter") as number:
                row = builder.add(start, number)
                with counted_loop(builder, 0, plan.vectors, "vector") as j:
                    lane = tiles.times(j, plan.lanes)
                    place = tiles.at(self.area("factors"), tiles.times(row, plan.block), lane)
                    words = self._words(builder.add(first_key, start), number, lane)
                    for i, word in enumerate(words):
                        tiles.store(self._factor(word), place, i * _COUNTERS * plan.block)

    def _words(self, key: ir.Value, number: ir.Value, lane: Number) -> list[ir.Value]:
        """The random words of a vector of queries: for keys `number`, `number` + 8, ... of the 32
        from `key` on."""
        builder, plan = self.builder, self.plan
        seed, offset = self.state
        pitch = row_for(plan.keys) // 4
        query = add(builder, self.tiles.times(self.number_of_head(), plan.queries), self.first)
        query = add(builder, query, lane)
        counter = builder.add(offset, as_i64(self.tiles.times(query, pitch)))
        counter = builder.add(counter, builder.udiv(key, as_i64(4)))
        counter = splat(builder, builder.add(counter, number), plan.lanes)
        counter = builder.add(counter, lane_numbers(I64, plan.lanes, pitch))
        return emit_philox(builder, counter, seed)

    def _factor(self, word: ir.Value) -> ir.Value:
        p = self.kernel.attributes["p"]
        assert isinstance(p, (int, float))
        kept = self.builder.icmp_unsigned(">=", word, constant(word.type, threshold(p)))
        grown = constant(self.tiles.vector, 1.0 / (1.0 - p))
        return self.builder.select(kept, grown, zero(self.tiles.vector))

    # Results --------------------------------------------------------------------------------------

    def write_rows(self, source: ir.Value, width: int, target: ir.Value) -> None:
        """Turn lanes back into the block's rows of a result, as many as there are."""
        builder, plan = self.builder, self.plan
        if is_known(plan.queries) and plan.queries % plan.block == 0:
            self.tiles.turn_out(source, width, target)
            return
        whole = builder.icmp_signed("==", self.present, as_i64(plan.block))
        turned = self.area("turned")
        self.tiles.turn_out(source, width, builder.select(whole, target, turned))
        with builder.if_then(builder.not_(whole)):
            self.copy(turned, target, builder.mul(self.present, as_i64(width)))

    def copy(self, source: ir.Value, target: ir.Value, count: ir.Value) -> None:
        """Copy elements to where they are not."""
        size = self.builder.mul(count, as_i64(self.plan.dtype.itemsize))
        arguments = [target, source, size, constant(I1, 0)]
        types = (target.type, source.type, I64)
        intrinsic(self.builder, "memcpy", ir.VoidType(), arguments, types)


class AttentionEmitter(Blocks):
    """Writes the kernel of attention itself."""

    def emit(self) -> None:
        plan, builder = self.plan, self.builder
        if plan.heads * plan.blocks == 0:
            return
        self.top, self.total, self.old = self.slots(), self.slots(), self.slots()
        begin, end = share(
            builder, self.frame.chunk, self.kernel.chunks, plan.heads * plan.blocks
        )
        with counted_loop(builder, begin, end, "task") as task:
            *self.head, block = decode(builder, task, [*plan.lead, plan.blocks])
            self.choose_queries(block)
            self._task()

    def _task(self) -> None:
        plan, builder, tiles = self.plan, self.builder, self.tiles
        q, strides = self.operand("query", self.first)
        tiles.turn_in(q, strides, self.present, plan.width, self.area("queries"), self.scale)
        tiles.fill(self.area("sums"), plan.columns)
        for top, total in zip(self.top, self.total, strict=True):
            builder.store(constant(tiles.vector, -math.inf), top)
            builder.store(zero(tiles.vector), total)
        self.each_block_of_keys(self._keys)
        self._finish()

    def _keys(self, begin: ir.Value, end: ir.Value, count: ir.Value) -> None:
        plan, builder, tiles = self.plan, self.builder, self.tiles
        for top, old in zip(self.top, self.old, strict=True):
            builder.store(builder.load(top, typ=tiles.vector), old)
        self.turn_mask(begin, count)
        self.each_tile(begin, end, lambda key, row, rows: self.scores(key, row, rows, self.top))
        # Nothing seen so far leaves -inf, from which nothing can be subtracted.
        tops = [self._finite(builder.load(top, typ=tiles.vector)) for top in self.top]
        shrink = []
        for old, top, total in zip(self.old, tops, self.total, strict=True):
            before = builder.load(old, typ=tiles.vector)
            factor = self.power(builder.fsub(before, top))
            shrink.append(factor)
            builder.store(builder.fmul(builder.load(total, typ=tiles.vector), factor), total)
        scores = self.area("scores")

        def weight(row: ir.Value, j: int, factor: ir.Value | None) -> None:
            place = tiles.at(scores, tiles.times(row, plan.block), j * plan.lanes)
            difference = builder.fsub(tiles.load(place), tops[j])
            power = self.power(difference)
            total = builder.load(self.total[j], typ=tiles.vector)
            builder.store(builder.fadd(total, power), self.total[j])
            tiles.store(power if factor is None else builder.fmul(power, factor), place)

        self.each_weight(begin, count, weight)
        v, (across, along) = self.operand("value", tiles.times(begin, plan.rows))
        for column, rows in tiles.pieces(plan.columns, piece_of(plan.columns, plan.rows)):
            place = tiles.at(self.area("sums"), tiles.times(column, plan.block))
            start = tiles.load_tile(place, plan.block, rows, plan.vectors)
            start = [[builder.fmul(x, shrink[j]) for j, x in enumerate(row)] for row in start]
            tile = tiles.product(
                tiles.at(v, tiles.times(column, along)), along, across, scores, plan.block, count,
                rows, plan.vectors, start,
            )  # fmt: skip
            tiles.store_tile(tile, place, plan.block)

    def _finite(self, top: ir.Value) -> ir.Value:
        nothing = constant(self.tiles.vector, -math.inf)
        is_none = self.builder.fcmp_ordered("==", top, nothing)
        return self.builder.select(is_none, zero(self.tiles.vector), top)

    def _finish(self) -> None:
        plan, builder, tiles = self.plan, self.builder, self.tiles
        row = add(builder, tiles.times(self.number_of_head(), plan.queries), self.first)
        one, nothing = constant(tiles.vector, 1.0), zero(tiles.vector)
        totals = [builder.load(total, typ=tiles.vector) for total in self.total]
        none_seen = [builder.fcmp_ordered("==", total, nothing) for total in totals]
        out, lse = (self.kernel.result(name) for name in ("out", "lse"))
        if out is not None:
            factors = [
                builder.select(none, nothing, builder.fdiv(one, total))
                for none, total in zip(none_seen, totals, strict=True)
            ]
            tiles.scale(self.area("sums"), plan.columns, factors)
            target = tiles.at(self.frame.pointer(out), tiles.times(row, plan.columns))
            self.write_rows(self.area("sums"), plan.columns, target)
        if lse is not None:
            turned = self.area("lse")
            for j, (none, total) in enumerate(zip(none_seen, totals, strict=True)):
                top = builder.load(self.top[j], typ=tiles.vector)
                value = builder.fadd(top, call_math(builder, self.target, "log", total))
                value = builder.select(none, constant(tiles.vector, math.inf), value)
                tiles.store(value, turned, j * plan.lanes)
            self.copy(turned, tiles.at(self.frame.pointer(lse), row), self.present)
