"""The gradient of attention as LLVM kernels; see `attention` for what both have in common.

    for each head and part in the chunk's share
      for each block of queries of the part
        turn queries and upstream rows, and copy them
        for each block of keys
          weights = exp(keys x queries + mask - lse)
          back = weights * (values x upstream - delta)
          sums of queries += keys x back                     (queries in lanes)
          gradient of values += weights x upstream rows      (columns in lanes)
          gradient of keys += back x query rows
"""

from __future__ import annotations

import math

from braze.codegen.llvm import ir
from braze.codegen.llvm.attention import Blocks
from braze.codegen.llvm.attention_plan import piece_of
from braze.codegen.llvm.control import add, as_i64, counted_loop, decode, share
from braze.codegen.llvm.types import I1, I8, I64, constant, intrinsic
from braze.ir.ops.attention import QUERIES, columns_for


class GradientEmitter(Blocks):
    """Writes the kernel of attention's gradient."""

    def emit(self) -> None:
        plan, builder = self.plan, self.builder
        parts = self.kernel.attributes["parts"]
        assert isinstance(parts, int)
        if plan.heads == 0:
            return
        self.of_query, self.of_key, self.of_value = (
            self.kernel.result(name) for name in ("of_query", "of_key", "of_value")
        )
        begin, end = share(builder, self.frame.chunk, self.kernel.chunks, plan.heads * parts)
        with counted_loop(builder, begin, end, "task") as task:
            *self.head, part = decode(builder, task, [*plan.lead, parts])
            self._clear(part)
            with counted_loop(builder, 0, plan.blocks, "queries") as block:
                of = builder.udiv(block, as_i64(QUERIES // plan.block))
                mine = builder.icmp_unsigned(
                    "==", builder.urem(of, as_i64(parts)), as_i64(part)
                )
                with builder.if_then(mine):
                    self.choose_queries(block)
                    self._queries()

    def _clear(self, part: int | ir.Value) -> None:
        """Find the gradients of the part's keys and values, and make them zero."""
        plan, builder, tiles = self.plan, self.builder, self.tiles
        self.targets: dict[str, ir.Value] = {}
        number = add(builder, tiles.times(part, plan.heads), self.number_of_head())
        for name, buffer, width in (
            ("key", self.of_key, plan.width),
            ("value", self.of_value, plan.columns),
        ):
            size = plan.keys * columns_for(width)
            if buffer is None or size == 0:
                continue
            pointer = tiles.at(self.frame.pointer(buffer), tiles.times(number, size))
            self.targets[name] = pointer
            count = as_i64(size * plan.dtype.itemsize)
            arguments = [pointer, constant(I8, 0), count, constant(I1, 0)]
            intrinsic(builder, "memset", ir.VoidType(), arguments, (pointer.type, I64))

    def _queries(self) -> None:
        plan, builder, tiles = self.plan, self.builder, self.tiles
        q, strides = self.operand("query", self.first)
        tiles.turn_in(q, strides, self.present, plan.width, self.area("queries"), self.scale)
        if "key" in self.targets:
            tiles.copy_rows(q, strides, self.present, plan.width, self.area("query_rows"),
                            columns_for(plan.width), self.scale)  # fmt: skip
        back, strides = self.operand("back", self.first)
        tiles.turn_in(back, strides, self.present, plan.columns, self.area("back"))
        if "value" in self.targets:
            tiles.copy_rows(back, strides, self.present, plan.columns, self.area("back_rows"),
                            columns_for(plan.columns))  # fmt: skip
        self._lanes("lse", math.inf)  # which makes the weights of missing queries zero
        self._lanes("delta", 0.0)
        if self.of_query is not None:
            tiles.fill(self.area("sums"), plan.width)
        self.each_block_of_keys(self._keys)
        if self.of_query is not None and plan.width:
            factors = [constant(tiles.vector, self._scale())] * plan.vectors
            tiles.scale(self.area("sums"), plan.width, factors)
            row = add(builder, tiles.times(self.number_of_head(), plan.queries), self.first)
            target = tiles.at(self.frame.pointer(self.of_query), tiles.times(row, plan.width))
            self.write_rows(self.area("sums"), plan.width, target)

    def _scale(self) -> float:
        scale = self.kernel.attributes["scale"]
        assert isinstance(scale, (int, float))
        return float(scale)

    def _lanes(self, name: str, missing: float) -> None:
        """Copy a number for each query of the block."""
        builder, tiles = self.builder, self.tiles
        source, (stride, _) = self.operand(name, self.first)
        with counted_loop(builder, 0, self.plan.block, name) as lane:
            is_present = builder.icmp_signed("<", lane, self.present)
            tiles.store_item(constant(tiles.item, missing), self.area(name), lane)
            with builder.if_then(is_present):
                value = tiles.load_item(source, tiles.times(lane, stride))
                tiles.store_item(value, self.area(name), lane)

    def _keys(self, begin: ir.Value, end: ir.Value, count: ir.Value) -> None:
        plan, tiles = self.plan, self.tiles
        self.turn_mask(begin, count)
        self.each_tile(begin, end, self._tile)
        self._weights(begin, count)
        first = tiles.times(begin, plan.rows)
        if self.of_query is not None:
            k, (across, along) = self.operand("key", first)
            for column, rows in tiles.pieces(plan.width, piece_of(plan.width, plan.rows)):
                place = tiles.at(self.area("sums"), tiles.times(column, plan.block))
                start = tiles.load_tile(place, plan.block, rows, plan.vectors)
                tile = tiles.product(
                    tiles.at(k, tiles.times(column, along)), along, across,
                    self.area("scores_back"), plan.block, count, rows, plan.vectors, start,
                )  # fmt: skip
                tiles.store_tile(tile, place, plan.block)
        for name, scores, rows_of, width in (
            ("value", "scores", "back_rows", plan.columns),
            ("key", "scores_back", "query_rows", plan.width),
        ):
            if name in self.targets:
                self._add_products(name, scores, rows_of, width, begin, end)

    def _tile(self, key: ir.Value, row: ir.Value, rows: int) -> None:
        """Scores, and what flows back to their weights."""
        plan, tiles = self.plan, self.tiles
        self.scores(key, row, rows)
        v, (across, along) = self.operand("value", key)
        tile = tiles.product(
            v, across, along, self.area("back"), plan.block, plan.columns, rows, plan.vectors
        )
        place = tiles.at(self.area("scores_back"), tiles.times(row, plan.block))
        tiles.store_tile(tile, place, plan.block)

    def _weights(self, begin: ir.Value, count: ir.Value) -> None:
        plan, builder, tiles = self.plan, self.builder, self.tiles
        lse, delta = (
            [tiles.load(self.area(name), j * plan.lanes) for j in range(plan.vectors)]
            for name in ("lse", "delta")
        )

        def weight(row: ir.Value, j: int, factor: ir.Value | None) -> None:
            offset = add(builder, tiles.times(row, plan.block), j * plan.lanes)
            place = tiles.at(self.area("scores"), offset)
            place_back = tiles.at(self.area("scores_back"), offset)
            difference = builder.fsub(tiles.load(place), lse[j])
            power = self.power(difference)
            arriving = tiles.load(place_back)
            kept = power
            if factor is not None:
                arriving, kept = builder.fmul(arriving, factor), builder.fmul(power, factor)
            tiles.store(kept, place)
            tiles.store(builder.fmul(power, builder.fsub(arriving, delta[j])), place_back)

        self.each_weight(begin, count, weight)

    def _add_products(
        self, name: str, scores: str, rows_of: str, width: int, begin: ir.Value, end: ir.Value
    ) -> None:
        """Add to the gradient of keys or values: scores, a row for each key, times rows."""
        plan, tiles = self.plan, self.tiles
        pitch = columns_for(width)

        def add_tile(key: ir.Value, row: ir.Value, rows: int) -> None:
            left = tiles.at(self.area(scores), tiles.times(row, plan.block))
            to = tiles.at(self.targets[name], tiles.times(key, pitch))
            for column, vectors in tiles.pieces(pitch // plan.lanes, plan.vectors):
                shift = tiles.times(column, plan.lanes)
                place = tiles.at(to, shift)
                start = tiles.load_tile(place, pitch, rows, vectors)
                tile = tiles.product(
                    left, plan.block, 1, tiles.at(self.area(rows_of), shift), pitch, plan.block,
                    rows, vectors, start,
                )  # fmt: skip
                tiles.store_tile(tile, place, pitch)

        self.each_tile(begin, end, add_tile)
