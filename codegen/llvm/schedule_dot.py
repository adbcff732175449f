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
_NEAR = 0.95  # of the first-level cache, that a tile may fill: what passes by takes its place
_TILE_OVERHEAD = 14.0
_RESULT_CYCLES = 6.0
_MOST = 8
_L2_BYTES_PER_CYCLE = 32.0
_L3_BYTES_PER_CYCLE = 16.0
_MEMORY_BYTES_PER_CYCLE = 7.0
# Of a tile's beginning, until its rows of the operand that does not stay are fetched ahead from
# beyond the first-level cache.
_BEGIN_CYCLES = 200.0
_RUN_CYCLES = 60.0  # until a run is fetched ahead
_RUN_BYTES = 1024  # for each row that meets it: of runs that are worth an instruction a line


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
    def fetched_ahead(self) -> tuple[int, int]:
        """How many elements further on a, and b, are fetched while a tile is computed (0: not at
        all): the next tile of the larger operand, which comes from memory in as many runs as the
        tile has rows of it, of which processors fetch little ahead."""
        outside = self.columns_outside
        stays, passes = (self.columns, self.row) if outside else (self.rows, self.column)
        run = count(self.inner) * self.shape.dtype.itemsize
        # Each line's products must be worth the instruction, and long runs are seen soon enough.
        if not self._from_memory or stays.size == 1 or run > _RUN_BYTES * passes.extent:
            return 0, 0
        return (0, stays.size * self.column.b) if outside else (stays.size * self.row.a, 0)

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
        larger = max(self._bytes(self.row), self._bytes(self.column))
        results = self._results() + self._traffic()
        if larger <= self.target.l1_bytes // 2:
            return self._compute(arriving=False) + results
        # A tile of the larger operand comes from afar while it meets the first tile of the other.
        times = self.rows.count if self.columns_outside else self.columns.count
        first = self._compute(arriving=True) / times
        later = self._compute(arriving=False) * (times - 1) / times
        if not self._from_memory:
            return first + later + results
        arrival = count(self.loops) * larger / _MEMORY_BYTES_PER_CYCLE
        stays = self.columns.size if self.columns_outside else self.rows.size
        if stays > 1 and not any(self.fetched_ahead):
            arrival += self.begin_cycles()
        return max(first, arrival) + 0.1 * first + later + results

    def begin_cycles(self) -> float:
        """Of waiting at the beginning of each of the larger operand's runs in memory, which another
        order could spare."""
        runs = self.column.extent if self.columns_outside else self.row.extent
        return runs * count(self.loops) * _RUN_CYCLES

    @property
    def _from_memory(self) -> bool:
        larger = max(self._bytes(self.row), self._bytes(self.column))
        return larger > self.target.l2_bytes // 2

    def _compute(self, *, arriving: bool) -> float:
        """Of all steps of all tiles.

        Args:
            arriving: the larger operand's lines come from the second-level cache at best.
        """
        steps = count(self.inner[:-1]) * -(-self.inner[-1].extent // self.width)
        vector = self.width * self.shape.dtype.itemsize / _L2_BYTES_PER_CYCLE
        outside = self.columns_outside
        again = arriving or self._tile_bytes() > _NEAR * self.target.l1_bytes
        passing = self._passes
        total = 0.0
        for rows in self.rows.sizes:
            for columns in self.columns.sizes:
                sums = rows * columns
                shape = self.shape
                widened = rows * (shape.a.dtype is not shape.dtype)
                widened += columns * (shape.b.dtype is not shape.dtype)
                stays, passes = (columns, rows) if outside else (rows, columns)
                far = vector * (stays * again + passes * passing)
                step = max(sums / 2 + widened, (rows + columns) / 2, far, _LATENCY / self.sets)
                total += steps * step * self.rows.number_of(rows) * self.columns.number_of(columns)
        return total * count(self.loops)

    def _results(self) -> float:
        """Of adding up accumulators and of storing, while nothing arrives."""
        results = self.row.extent * self.column.extent * _RESULT_CYCLES
        tiles = self.rows.count * self.columns.count
        beyond = max(0.0, 1 - self.target.l1_bytes / max(1, self._passing_bytes))
        begin = _TILE_OVERHEAD + _BEGIN_CYCLES * beyond
        return (results + tiles * begin) * count(self.loops)

    @property
    def _passing_bytes(self) -> int:
        """Of the operand that each tile reads other rows of."""
        return self._bytes(self.row if self.columns_outside else self.column)

    @property
    def _passes(self) -> bool:
        """Whether that comes from the second-level cache at best."""
        return self._passing_bytes > self.target.l1_bytes // 2

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
    least = float("inf")
    for most_rows in range(1, _MOST + 1):
        for most_columns in range(1, _MOST + 1):
            rows = Pieces(row.extent, -(-row.extent // most_rows))
            columns = Pieces(column.extent, -(-column.extent // most_columns))
            if not fits_registers(rows.size, columns.size, None, target):
                continue
            choice = DotSchedule(shape, target, width, loops, row, column, rows, columns)
            cost = choice.cost()
            if cost < least:
                best, least = choice, cost
    return best
