"""A choice of register tile for a contraction, and what the work costs with it.

In: a `ContractionShape` and a `Target`.  Out: a `Candidate`, which the search compares with others
and which `schedule_blocks` cuts into blocks and chunks.

Costs are in cycles of a core with two multiply-add units, two load ports and a latency of four,
which fits current x86 and ARM cores well enough to choose by; the constants were fitted to
measurements on an AVX-512 machine, with its 512-bit and its 256-bit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log2

from braze.codegen.llvm.contraction_shape import ContractionShape, Dim, Dims, count
from braze.codegen.llvm.schedule_contraction import (
    ALIGNMENT,
    Form,
    PackA,
    PackB,
    Panels,
    round_up,
)
from braze.codegen.llvm.schedule_parts import MOST_TERMS, Pieces
from braze.ir.target import Target

_LATENCY = 4.0
TILE_OVERHEAD = 14.0
_LOAD_CYCLES = 0.14  # of every load, beyond what the ports allow: it is one more instruction
# Of a panel, beside its products: far less than what a core reads if it does nothing else.
_L2_VECTORS_PER_CYCLE = 0.45
_PANEL_BYTES_PER_CYCLE = 22.0
L2_BYTES_PER_CYCLE = 32.0
MEMORY_BYTES_PER_CYCLE = 7.0
_COPY_CYCLES_PER_BYTE = 0.12
_ROW_COPY_CYCLES_PER_BYTE = 0.25  # a few rows of each step
_FEWEST_PACKED = 4  # row tiles for which b is worth packing
# Of a vector that is converted as it is read, and of one that is converted and stored; row tiles
# for which the latter is worth it.
_WIDENED_CYCLES = 1.0
_WIDENED_COPY_CYCLES = 3.0
_FEWEST_WIDENED = 4
_STREAMS = 16
_PAGE = 4096
WAYS = 8


@dataclass(frozen=True, eq=False)
class Candidate:
    """A choice of lane dimension and tile, before blocking and packing."""

    shape: ContractionShape
    target: Target
    form: Form
    lane: Dim
    loops: Dims
    outer_rows: Dims
    split: Dim
    whole: Dims
    pieces: Pieces
    panels: Panels

    @cached_property
    def steps(self) -> int:
        return count(self.shape.inner)

    @cached_property
    def item_bytes(self) -> int:
        return self.shape.dtype.itemsize

    @cached_property
    def tiles(self) -> int:
        """Row tiles of one point of `loops`."""
        return count(self.outer_rows) * self.pieces.count

    @cached_property
    def streams_b(self) -> bool:
        """Whether b comes from memory for a few rows only: its speed is what counts."""
        if self.form == "lanes" or self.lane.b != 1 or self.pack_b_kind() != "none":
            return False
        if self.lane.panel:
            return False  # one run as it is
        return (
            self.tiles < _FEWEST_PACKED
            and self.panels.count > 1
            and self.b_bytes > self.target.l2_bytes // 2
        )

    @cached_property
    def b_bytes(self) -> int:
        return self.steps * self.panels.extent * self.shape.b.dtype.itemsize

    @cached_property
    def widened(self) -> tuple[bool, bool]:
        """Whether elements of a, and of b, are converted before they are multiplied."""
        shape = self.shape
        return shape.a.dtype is not shape.dtype, shape.b.dtype is not shape.dtype

    def compute_cycles(self) -> float:
        """Of all multiply-adds and tiles."""
        total = 0.0
        for size in self.pieces.sizes:
            rows = size * count(self.whole)
            for panels, vectors, _ in self.panels.variants:
                step = self._step_cycles(rows, vectors)
                tile = self.steps * step * (1 + self._block_overhead(rows, vectors) / step)
                tile += TILE_OVERHEAD + 1.5 * rows * vectors
                total += self.pieces.number_of(size) * panels * tile
        # Neighbouring rows rather than far ones, all else being equal.
        total *= 1.0 + 0.001 * log2(1 + abs(self.split.a) + sum(abs(d.a) for d in self.whole))
        return total * count(self.outer_rows) * count(self.loops)

    def arrival_cycles(self) -> float:
        """Of panels' way from memory beyond what the first row tile takes that meets them."""
        if not self.lane.panel or self.b_bytes <= self.target.l2_bytes // 2:
            return 0.0
        first = self.compute_cycles() / self.tiles
        arrival = count(self.loops) * self.b_bytes / MEMORY_BYTES_PER_CYCLE
        if self._crowds(self.tile_rows):
            return arrival  # nothing is fetched ahead while rows of a are waited for
        return max(first, arrival) - first + 0.1 * first

    def _step_cycles(self, rows: int, vectors: int) -> float:
        """Of one term of the sum for every accumulator of a tile."""
        products = rows * vectors
        lanes = self.form == "lanes"
        loads = products + vectors if lanes else rows + vectors
        widened_a, widened_b = self.widened
        converted = widened_a and self.pack_a_kind() == "none" and (products if lanes else rows)
        converted += widened_b and self.pack_b_kind() == "none" and vectors
        step = max(products / 2 + converted * _WIDENED_CYCLES, loads / 2, _LATENCY)
        rest = _LOAD_CYCLES * loads + self._line_cycles(rows)
        if lanes:
            half_used = vectors * self.panels.width * self.item_bytes < ALIGNMENT
            return (step + rest) * (1.2 if half_used else 1.0)
        if self.panels.count > 1 or self.b_bytes > self.target.l1_bytes // 2:
            b = self._b_cycles(vectors)
            step = max(step, b) + (0.2 if self._a_strides else 0.06) * b
        return step + rest

    @cached_property
    def _a_strides(self) -> bool:
        """Whether each step is in another cache line of a, which then share the way with b's."""
        inner = self.shape.inner
        return bool(inner) and abs(inner[-1].a) > 1 and self.pack_a_kind() == "none"

    def _b_cycles(self, vectors: int) -> float:
        """What a step's vectors of b cost, which come from the second-level cache at best: from
        memory for the first row tile, where there are few."""
        packed = self.pack_b_kind() != "none"
        item = self.item_bytes if packed else self.shape.b.dtype.itemsize
        near = vectors * item / self.item_bytes / _L2_VECTORS_PER_CYCLE
        near = max(near, vectors * self.panels.width * item / _PANEL_BYTES_PER_CYCLE)
        if self.streams_b:
            far = vectors * self.panels.width * item / MEMORY_BYTES_PER_CYCLE
            return (far + (self.tiles - 1) * near) / self.tiles
        return near

    def _block_overhead(self, rows: int, vectors: int) -> float:
        """Cycles for partial sums, spread over the steps of a block."""
        if self.form == "lanes":
            return 0.0
        block = self.most_steps(1)
        if self.steps <= block + block // 2:
            return 0.0
        return (2.0 * rows * vectors + TILE_OVERHEAD) / block

    def most_steps(self, panels: int) -> int:
        """Terms of a block: a tile's rows within a third of the first-level cache, since other rows
        and all of b pass by; the chunk's packed panels within a third of the second.
        """
        if self.streams_b:
            # So many rows of b at once as a processor can fetch ahead in, each in a long run.
            return _STREAMS * self.tiles
        if self.lane.panel and self.tiles < _FEWEST_PACKED:
            return MOST_TERMS
        first = self.target.l1_bytes // (3 * self.tile_rows * self.item_bytes)
        second = self.target.l2_bytes // (3 * self.panels.lanes * panels * self.item_bytes)
        if self._a_strides:
            # A tile's lines are to stay for all panels.
            first = min(first, self.target.l1_bytes // (3 * ALIGNMENT))
        return min(MOST_TERMS, max(32, min(first, max(second, 128))))

    @cached_property
    def tile_rows(self) -> int:
        """Rows of the largest tile."""
        return self.pieces.size * count(self.whole)

    def _line_cycles(self, rows: int) -> float:
        """What cache lines of a cost in each step, if they come from the second-level cache."""
        if self.form == "lanes" or not self.shape.inner:
            return 0.0
        line = ALIGNMENT / self.shape.a.dtype.itemsize
        if abs(self.shape.inner[-1].a) == 1:
            lines = rows / line
            if self._crowds(rows):
                lines = float(rows)
        elif self.split.a == 1 and not self.whole:
            lines = 1.0
        else:
            lines = float(rows)
        return 0.4 * lines

    def _crowds(self, rows: int) -> bool:
        """Whether so many rows of a all want the same place in the cache."""
        return rows > WAYS and self.split.a * self.shape.a.dtype.itemsize % _PAGE == 0

    def pack_b_kind(self) -> PackB:
        if self.form == "lanes":
            return "none"
        if self.lane.panel:
            # Packed before, but for a conversion that each row tile would repeat.
            worth = self.widened[1] and self.tiles >= _FEWEST_WIDENED and self.steps >= 16
            return "copy" if worth else "none"
        # What is not in memory can be left out of sums, not of panels.
        if any(not guard.of_a for guard in self.shape.guards):
            return "none"
        last = self.shape.inner[-1] if self.shape.inner else None
        if self.lane.b == 1 or self.lane.extent == 1:
            worth = self.tiles >= _FEWEST_PACKED and self.steps >= 16
            return "copy" if worth and not self._b_stays_near() else "none"
        contiguous = [dim for dim in self.shape.inner if dim.b == 1]
        if last is not None and contiguous:
            return "transpose" if last.b == 1 and last.extent >= self.panels.width else "gather"
        return "gather"

    def _b_stays_near(self) -> bool:
        """Whether b is read as fast from where it lies: in the order of packed panels, or within a
        quarter of the second-level cache, where it does not crowd a few places of it."""
        step = self.panels.lanes
        dense = self.panels.extent == step
        for dim in reversed(self.shape.inner):
            dense = dense and dim.b == step
            step *= dim.extent
        if dense:
            return True
        crowded = any(dim.b * self.item_bytes % _PAGE == 0 for dim in self.shape.inner)
        cache = self.target.l1_bytes if crowded else self.target.l2_bytes
        return self.b_bytes <= cache // 4

    def pack_b_cycles(self) -> float:
        """Of packing b once for one point of `loops`."""
        kind = self.pack_b_kind()
        if kind == "none":
            return 0.0
        if self.lane.panel:
            vectors = self.panels.count * self.panels.vectors
            return _WIDENED_COPY_CYCLES * vectors * self.steps
        copied = _COPY_CYCLES_PER_BYTE * self.item_bytes
        turned = {"copy": 0.0, "transpose": 4.0 / self.panels.width, "gather": 1.2}[kind]
        lanes = round_up(self.panels.extent, self.panels.width)
        return (copied + turned) * lanes * self.steps

    def pack_a_kind(self) -> PackA:
        shape, panels = self.shape, self.panels.count
        if self.form == "lanes" or not shape.inner or not shape.rows or self.whole:
            return "none"
        if any(guard.of_a for guard in shape.guards):
            return "none"
        if self.split.a != 1 or self.outer_rows or abs(shape.inner[-1].a) == 1:
            return "none"
        elements = self.pieces.extent * self.steps
        few = elements * shape.dtype.itemsize <= self.target.l1_bytes // 2
        if panels < 4 or self.steps < 16 or few or elements > 2 * reach(shape.rows, shape.inner):
            return "none"
        return "copy"

    def pack_a_cycles(self) -> float:
        """Of packing a once for one point of `loops`, or of fetching it."""
        if self.form == "lanes":
            return 0.0
        rows = self.pieces.extent * count(self.outer_rows)
        if self.pack_a_kind() != "none":
            return _ROW_COPY_CYCLES_PER_BYTE * self.item_bytes * rows * self.steps
        inner = (*self.whole, *self.shape.inner)
        size = self.item_bytes * min(rows * self.steps, reach(self.shape.rows, inner))
        if size <= self.target.l2_bytes // 2:
            return 0.025 * size
        # Nobody fetches ahead where each step is in another place.
        return (0.05 if abs(inner[-1].a) == 1 or not self.shape.inner else 0.3) * size

    def store_cycles(self) -> float:
        """Of the result's stores beyond whole vectors."""
        stride = abs(self.shape.result_stride(self.lane))
        if stride == 1 or self.lane.extent == 1:
            return 0.0
        # Elements that a tile stores side by side, across its vectors, share cache lines.
        side_by_side = 1
        for dim, size in ((self.split, self.pieces.size), *((d, d.extent) for d in self.whole)):
            if abs(self.shape.result_stride(dim)) == side_by_side:
                side_by_side *= size
        return (1.2 + 4.0 / side_by_side) * count(self.shape.outer)

    def cost(self) -> float:
        packing = (self.pack_a_cycles() + self.pack_b_cycles()) * count(self.loops)
        work = self.compute_cycles() + packing + self.store_cycles()
        a = min(reach(self.shape.batch, self.shape.rows, self.shape.inner), self._a_elements())
        operands = a * self.item_bytes + self.b_bytes
        if operands <= self.target.l2_bytes:
            return work
        return max(work, operands / MEMORY_BYTES_PER_CYCLE + 0.1 * work)

    def _a_elements(self) -> int:
        return count((*self.shape.batch, *self.shape.rows, *self.shape.inner))


def reach(*groups: Dims) -> int:
    """How far apart operand a's elements lie, counted in elements, ends included."""
    return 1 + sum((dim.extent - 1) * abs(dim.a) for dims in groups for dim in dims)
