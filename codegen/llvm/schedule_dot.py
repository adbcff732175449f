"""Contractions as scalar products: vectors along the inner dimension.

In: a `ContractionShape` and a `Target`.  Out: a `DotSchedule`, or None where the form does not
apply.

Where both operands are contiguous along an inner dimension and one of them has few rows (a matrix
times a vector, a linear layer on a small batch), turning an operand over would cost more than the
products.  So each accumulator is a vector of partial sums of one result, and a tile holds `rows` x
`columns` results.
"""

from __future__ import annotations

from dataclasses import dataclass

from braze.codegen.llvm.contraction_shape import ContractionShape, Dim, Dims, count
from braze.codegen.llvm.schedule_parts import (
    CHUNK_CYCLES,
    MAX_CHUNKS,
    Pieces,
    even_shares,
    fits_registers,
    parallel_cost,
)
from braze.ir.index import LoopVar
from braze.ir.target import Target

_LATENCY = 4.0
_TILE_OVERHEAD = 14.0
_RESULT_CYCLES = 8.0
_MOST = 8
_L2_BYTES_PER_CYCLE = 32.0
_L3_BYTES_PER_CYCLE = 16.0
_MEMORY_BYTES_PER_CYCLE = 7.0


@dataclass(frozen=True, eq=False)
class DotSchedule:
    """The decisions for one contraction in this form.

    loops: dimensions outside the tiles. row, column: those that tiles are cut from. inner: the last
        one is the contiguous one. sets: how many accumulators a result has, to hide the latency of
        small tiles.
    """

    shape: ContractionShape
    target: Target
    width: int
    loops: Dims
    row: Dim
    column: Dim
    rows: Pieces
    columns: Pieces

    @property
    def inner(self) -> Dims:
        return self.shape.inner

    @property
    def sets(self) -> int:
        return max(1, 8 // (self.rows.size * self.columns.size))

    @property
    def columns_outside(self) -> bool:
        """Whether a tile's columns meet all rows before the next ones: the larger operand is the
        one that is read once."""
        return self._bytes(self.column) >= self._bytes(self.row)

    @property
    def tiles(self) -> int:
        return count(self.loops) * self.rows.count * self.columns.count

    @property
    def chunks(self) -> int:
        cycles = self.cost()
        wanted = min(MAX_CHUNKS, max(1.0, cycles / CHUNK_CYCLES))
        return min(even_shares(self.tiles, wanted), key=lambda n: parallel_cost(cycles, n))

    def cost(self) -> float:
        """Cycles of the whole contraction."""
        compute = self._compute()
        size = max(self._bytes(self.row), self._bytes(self.column))
        if size <= self.target.l2_bytes // 2:
            return compute + self._traffic()
        # A tile of the larger operand comes from memory while it meets the first tile of the other.
        times = self.rows.count if self.columns_outside else self.columns.count
        first = compute / times
        arrival = count(self.loops) * size / _MEMORY_BYTES_PER_CYCLE
        return compute - first + max(first, arrival) + 0.1 * first + self._traffic()

    def _compute(self) -> float:
        steps = count(self.inner[:-1]) * -(-self.inner[-1].extent // self.width)
        near = self._tile_bytes() <= self.target.l1_bytes
        vector = self.width * self.shape.dtype.itemsize
        speed = 2.0 if near else min(2.0, _L2_BYTES_PER_CYCLE / vector)
        total = 0.0
        for rows in self.rows.sizes:
            for columns in self.columns.sizes:
                sums = rows * columns
                shape = self.shape
                widened = rows * (shape.a.dtype is not shape.dtype)
                widened += columns * (shape.b.dtype is not shape.dtype)
                step = max(sums / 2 + widened, (rows + columns) / speed, _LATENCY / self.sets)
                tile = steps * step + _RESULT_CYCLES * sums + _TILE_OVERHEAD
                total += tile * self.rows.number_of(rows) * self.columns.number_of(columns)
        return total * count(self.loops)

    def _tile_bytes(self) -> int:
        """What one tile reads; rows may overlap, as windows do."""
        line = count(self.inner)
        a = 1 + sum((dim.extent - 1) * abs(dim.a) for dim in self.inner)
        b = 1 + sum((dim.extent - 1) * abs(dim.b) for dim in self.inner)
        a += (self.rows.size - 1) * abs(self.row.a)
        b += (self.columns.size - 1) * abs(self.column.b)
        elements = min(self.rows.size * line, a) + min(self.columns.size * line, b)
        return elements * self.shape.dtype.itemsize

    def _bytes(self, dim: Dim) -> int:
        """Of the operand with this dimension, for one point of `loops`."""
        operand = self.shape.a if dim is self.row else self.shape.b
        return count(self.inner) * dim.extent * operand.dtype.itemsize

    def _traffic(self) -> float:
        """Of streaming the smaller operand once for each tile of the larger one, if the caches
        cannot hold it."""
        times = self.columns.count if self.columns_outside else self.rows.count
        size = min(self._bytes(self.row), self._bytes(self.column))
        if size <= self.target.l2_bytes // 2:
            return 0.0
        return size * (times - 1) * count(self.loops) / _L3_BYTES_PER_CYCLE

    def __str__(self) -> str:
        names = f"{self.rows.size} {self.row.var.name} x {self.columns.size} {self.column.var.name}"
        return (
            f"dot: {names}; {self.width} lanes of {self.inner[-1].var.name}; chunks {self.chunks}"
        )


def dot_schedule(shape: ContractionShape, target: Target) -> DotSchedule | None:
    """The cheapest schedule of this form."""
    width = target.vector_lanes(shape.dtype.itemsize)
    if not shape.inner or shape.inner[-1].extent < width or shape.guards:
        return None
    if (shape.inner[-1].a, shape.inner[-1].b) != (1, 1):
        return None
    row = shape.rows[-1] if shape.rows else Dim(LoopVar("row", 1), 0, 0)
    column = shape.columns[-1] if shape.columns else Dim(LoopVar("column", 1), 0, 0)
    loops = (*shape.batch, *shape.rows[:-1], *shape.columns[:-1])
    best: DotSchedule | None = None
    for most_rows in range(1, _MOST + 1):
        for most_columns in range(1, _MOST + 1):
            rows = Pieces(row.extent, -(-row.extent // most_rows))
            columns = Pieces(column.extent, -(-column.extent // most_columns))
            if not fits_registers(rows.size, columns.size, None, target):
                continue
            choice = DotSchedule(shape, target, width, loops, row, column, rows, columns)
            if best is None or choice.cost() < best.cost():
                best = choice
    return best
