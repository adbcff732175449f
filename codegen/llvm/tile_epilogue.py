"""What happens to a register tile's sums: the epilogue's values, and where they are stored.

In: a `Tile`, its sums, and the addresses and variables that its function is told.  Out: code at the
builder's position, in one of three forms: vector by vector; with all values before all stores,
where vectors are turned over (`turned_stores`); or, where that would be long, through memory and in
a loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product

from braze.codegen.llvm import ir
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
from braze.codegen.llvm.memory import has_gather
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.tile import Tile
from braze.codegen.llvm.turned_stores import runs_of_rows, store_turned
from braze.codegen.llvm.types import I1, constants, register_type
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Load, Store
from braze.ir.target import Target

# Epilogues with more instructions than this for a tile are emitted once, in a loop.
_MOST_INSTRUCTIONS = 500

Runs = list[list[int]]  # of rows


@dataclass(frozen=True, eq=False)
class TileEpilogue:
    """Writes the epilogue of one tile.

    pointers: of the epilogue's buffers, by their names. variables: where the tile begins.
    """

    builder: ir.IRBuilder
    tile: Tile
    target: Target
    pointers: Mapping[str, ir.Value]
    variables: Mapping[LoopVar, ir.Value]

    @property
    def schedule(self) -> Schedule:
        return self.tile.schedule

    @property
    def width(self) -> int:
        return self.schedule.width

    @property
    def stores(self) -> Sequence[Store]:
        return self.schedule.shape.stores

    def emit(self, sums: list[ir.Value]) -> None:
        """The stores of a tile with these sums, row after row."""
        turned = [self._runs(store) for store in self.stores]
        if self._instructions(turned) > _MOST_INSTRUCTIONS:
            self._staged(sums)
        elif any(turned):
            self._turned(sums, turned)
        else:
            self._straight(sums)

    def _instructions(self, turned: list[Runs]) -> int:
        """About how many instructions it is in a straight line."""
        each = 0
        for store, runs in zip(self.stores, turned, strict=True):
            each += 1 if runs else self._accesses(store.index)
            for expr in store.value.walk():
                if isinstance(expr, Load) and not has_gather(self.target, expr.buffer.dtype):
                    each += self._accesses(expr.index)
                else:
                    each += 1
        return each * self.tile.rows * self.tile.vectors

    def _accesses(self, index: Index) -> int:
        """Instructions that read or write a vector, one lane at a time where lanes lie apart."""
        across = index.coefficient(self.schedule.lane.var) if index.is_affine else 1
        return 1 if across in (-1, 0, 1) else 3 * self.width

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

    def _straight(self, sums: list[ir.Value]) -> None:
        """A row's values come before its stores, to share what they load."""
        for row in range(self.tile.rows):
            emitters = self._row_emitters(row, sums)
            for emitter, store in product(emitters, self.stores):
                emitter.store(store)

    def _runs(self, store: Store) -> Runs:
        """The tile's rows in runs to store along; none for a store along the vectors."""
        if self.width == 1:
            return []
        variables = [dim.var for dim in self.tile.row_dims()]
        rows = [
            dict(zip(variables, self.tile.row_indices(row), strict=True))
            for row in range(self.tile.rows)
        ]
        return runs_of_rows(store, self.schedule.lane, rows)

    def _turned(self, sums: list[ir.Value], turned: list[Runs]) -> None:
        """All values come before all stores, those with runs of rows as vectors along these."""
        tile = self.tile
        emitters = [self._row_emitters(row, sums) for row in range(tile.rows)]
        for store, runs in zip(self.stores, turned, strict=True):
            if not runs:
                for emitter in chain.from_iterable(emitters):
                    emitter.store(store)
            for run, j in product(runs, range(tile.vectors)):
                values = [emitters[row][j].in_memory(store) for row in run]
                addresses = emitters[run[0]][j].addresses(store)[: tile.present(j)]
                store_turned(self.builder, values, addresses, store.buffer.dtype, self.target)

    def _row_emitters(self, row: int, sums: list[ir.Value]) -> list[ExpressionEmitter]:
        """An emitter for each vector of a row, whose stores' values are there."""
        emitters: list[ExpressionEmitter] = []
        for j in range(self.tile.vectors):
            value = sums[row * self.tile.vectors + j]
            indices, present = self.tile.row_indices(row), self.tile.present(j)
            # With one lane there is nothing beside the vectors that could be shared.
            shared = emitters[0].scalar if emitters and self.width > 1 else None
            emitters.append(self._emitter(indices, j, value, present, shared))
            for store in self.stores:
                emitters[-1].value(store.value)
        return emitters

    def _staged(self, sums: list[ir.Value]) -> None:
        """The tile goes through memory, so that a long epilogue is compiled only once or twice.

        One loop and not two: of a nest, LLVM's loop strength reduction tries so many ways to step
        every address that it takes longer than all else.
        """
        builder, tile = self.builder, self.tile
        item = register_type(self.schedule.shape.dtype)
        vector = register_type(self.schedule.shape.dtype, self.width)
        with builder.goto_entry_block():
            stage = builder.alloca(vector, size=as_i64(len(sums)))
        whole = tile.vectors - (tile.lanes < self.width)
        begin = 0
        for first, end, present in ((0, whole, self.width), (whole, tile.vectors, tile.lanes)):
            vectors = range(first, end)
            places = [row * tile.vectors + j for row in range(tile.rows) for j in vectors]
            if not places:
                continue
            for at, place in enumerate(places, begin):
                there = element_pointer(builder, stage, at * self.width, item)
                builder.store(sums[place], there)
            extents = [tile.size, *(dim.extent for dim in self.schedule.whole), len(vectors)]
            with counted_loop(builder, 0, len(places), "vector") as i:
                *indices, j = decode(builder, i, extents)
                number = multiply(builder, add(builder, i, begin), self.width)
                there = element_pointer(builder, stage, number, item)
                value = builder.load(there, typ=vector)
                emitter = self._emitter(indices, add(builder, j, first), value, present)
                for store in self.stores:
                    emitter.store(store)
            begin += len(places)
