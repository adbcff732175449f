"""The search for the cheapest schedule of a contraction.

In: a `Contraction` and a `Target`.  Out: a `Schedule` or a `DotSchedule`; nothing here emits code.

Every lane dimension and tile that fits the registers is a candidate.  Costs are in cycles of a core
with two multiply-add units, two load ports and a latency of four, which fits current x86 and ARM
cores well enough to choose by; the constants for memory were fitted to measurements on AVX2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import log2

from braze.codegen.llvm.contraction_shape import (
    ContractionShape,
    Dim,
    Dims,
    contraction_shape,
    count,
)
from braze.codegen.llvm.schedule_contraction import (
    ALIGNMENT,
    Form,
    PackA,
    PackB,
    Panels,
    Schedule,
    round_up,
)
from braze.codegen.llvm.schedule_dot import DotSchedule, dot_schedule
from braze.codegen.llvm.schedule_parts import (
    CHUNK_CYCLES,
    MAX_CHUNKS,
    MOST_TERMS,
    Pieces,
    even_shares,
    fits_registers,
)
from braze.ir.index import LoopVar
from braze.ir.loops import Contraction
from braze.ir.target import Target

_LATENCY = 4.0
_TILE_OVERHEAD = 14.0
_L2_BYTES_PER_CYCLE = 24.0
_L3_BYTES_PER_CYCLE = 8.0
_MEMORY_BYTES_PER_CYCLE = 3.0
_SHARED_CACHE_BYTES = 4 << 20  # what a core may hope to find in the last-level cache
_MAX_ROWS = 14
_PAGE = 4096
_WAYS = 8


@lru_cache(maxsize=512)
def schedule(contraction: Contraction, target: Target) -> Schedule | DotSchedule:
    """The cheapest schedule by the cost model; the same for equal contractions and targets."""
    straight = contraction_shape(contraction)
    best: tuple[float, _Candidate] | None = None
    for shape in (straight, straight.swapped()):
        for candidate in _candidates(shape, target):
            cost = candidate.cost()
            if best is None or cost < best[0]:
                best = (cost, candidate)
    assert best is not None
    dot = dot_schedule(straight, target)
    if dot is not None and dot.cost() < best[0]:
        return dot
    return best[1].finish()


# Tiles --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Candidate:
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

    @property
    def steps(self) -> int:
        return count(self.shape.inner)

    @property
    def item_bytes(self) -> int:
        return self.shape.dtype.itemsize

    @property
    def _streams_b(self) -> bool:
        """Whether b is read from where it lies, once, in strips."""
        single = count(self.outer_rows) * self.pieces.count == 1
        return single and self.panels.count > 1 and self.pack_b_kind() == "none"

    @property
    def _b_bytes(self) -> int:
        return self.steps * self.panels.extent * self.item_bytes

    def compute_cycles(self) -> float:
        """Of all multiply-adds and tiles."""
        total = 0.0
        for size in self.pieces.sizes:
            rows = size * count(self.whole)
            for panels, vectors, _ in self.panels.variants:
                step = _step_cycles(rows, vectors, self.form) + self._line_cycles(rows)
                if self.form == "lanes" and vectors * self.panels.width * self.item_bytes < 64:
                    step *= 1.2  # half-used cache lines
                elif self._streams_b:
                    step += 2.0  # a short run of b from another page each step
                elif self.panels.count > 1 or self._b_bytes > self.target.l1_bytes // 2:
                    step = max(step, self._b_cycles(vectors)) + 0.1 * self._b_cycles(vectors)
                tile = self.steps * step * (1 + self._block_overhead(rows, vectors) / step)
                tile += _TILE_OVERHEAD + 1.5 * rows * vectors
                total += self.pieces.number_of(size) * panels * tile
        # Neighbouring rows rather than far ones, all else being equal.
        total *= 1.0 + 0.001 * log2(1 + abs(self.split.a) + sum(abs(d.a) for d in self.whole))
        return total * count(self.outer_rows) * count(self.loops)

    def _b_cycles(self, vectors: int) -> float:
        """What a step's vectors of b cost if their panel comes from the second-level cache."""
        return vectors * self.panels.width * self.item_bytes / _L2_BYTES_PER_CYCLE

    def _block_overhead(self, rows: int, vectors: int) -> float:
        """Cycles for partial sums, spread over the steps of a block."""
        block = _most_steps(self, 1)
        if self.form == "lanes" or self.steps <= block + block // 2:
            return 0.0
        return (2.0 * rows * vectors + _TILE_OVERHEAD) / block

    def _line_cycles(self, rows: int) -> float:
        """What cache lines of a cost in each step, if they come from the second-level cache."""
        if self.form == "lanes" or not self.shape.inner:
            return 0.0
        line = ALIGNMENT / self.shape.a.dtype.itemsize
        if abs(self.shape.inner[-1].a) == 1:
            lines = rows / line
            if rows > _WAYS and self.split.a * self.shape.a.dtype.itemsize % _PAGE == 0:
                lines = float(rows)  # they all want the same place in the cache
        elif self.split.a == 1 and not self.whole:
            lines = 1.0
        else:
            lines = float(rows)
        return 0.25 * lines

    def pack_b_kind(self) -> PackB:
        if self.form == "lanes":
            return "none"
        last = self.shape.inner[-1] if self.shape.inner else None
        if self.lane.b == 1 or self.lane.extent == 1:
            tiles = count(self.outer_rows) * self.pieces.count
            dense = self.panels.extent == self.panels.lanes and self._b_is_dense()
            small = self.steps * self.panels.extent * self.shape.dtype.itemsize
            worth = tiles >= 4 and self.steps >= 16 and small > self.target.l1_bytes // 4
            return "copy" if worth and not dense else "none"
        contiguous = [dim for dim in self.shape.inner if dim.b == 1]
        if last is not None and contiguous:
            return "transpose" if last.b == 1 and last.extent >= self.panels.width else "gather"
        return "gather"

    def _b_is_dense(self) -> bool:
        step = self.panels.lanes
        for dim in reversed(self.shape.inner):
            if dim.b != step:
                return False
            step *= dim.extent
        return True

    def pack_b_cycles(self) -> float:
        """Of packing b once for one point of `loops`."""
        per_element = {"none": 0.0, "copy": 0.4, "transpose": 0.6, "gather": 1.6}
        lanes = round_up(self.panels.extent, self.panels.width)
        return per_element[self.pack_b_kind()] * lanes * self.steps

    def pack_a_kind(self) -> PackA:
        shape, panels = self.shape, self.panels.count
        if self.form == "lanes" or not shape.inner or not shape.rows or self.whole:
            return "none"
        if self.split.a != 1 or self.outer_rows or abs(shape.inner[-1].a) == 1:
            return "none"
        elements = self.pieces.extent * self.steps
        few = elements * shape.dtype.itemsize <= self.target.l1_bytes // 2
        if panels < 4 or self.steps < 16 or few or elements > 2 * _reach(shape.rows, shape.inner):
            return "none"
        return "copy"

    def pack_a_cycles(self) -> float:
        if self.form == "lanes":
            return 0.0
        if self.pack_a_kind() == "none":
            per_element = 0.1  # not packed, but fetched
        else:
            per_element = 0.4
        return per_element * self.pieces.extent * count(self.outer_rows) * self.steps

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
        return self.compute_cycles() + packing + self.store_cycles()

    def finish(self) -> Schedule:
        grid = _grid(self)
        panels = -(-self.panels.count // grid[2])
        outer_inner, inner, block = _blocks(self, panels)
        return Schedule(
            self.shape, self.form, self.lane, self.loops, self.outer_rows, self.split, self.whole,
            self.pieces, self.panels, outer_inner, inner, block,
            self.pack_a_kind(), self.pack_b_kind(), grid,
        )  # fmt: skip


def _reach(*groups: Dims) -> int:
    """How far apart operand a's elements lie, counted in elements, ends included."""
    return 1 + sum((dim.extent - 1) * abs(dim.a) for dims in groups for dim in dims)


def _step_cycles(rows: int, vectors: int, form: Form) -> float:
    """Of one term of the sum for every accumulator of a tile."""
    products = rows * vectors
    loads = products + vectors if form == "lanes" else rows + vectors
    return max(products / 2, loads / 2, _LATENCY)


def _candidates(shape: ContractionShape, target: Target) -> list[_Candidate]:
    lanes: list[tuple[Form, Dim, Dims]] = []
    for dim in shape.columns:
        others = tuple(d for d in shape.columns if d is not dim)
        lanes.append(("broadcast", dim, (*shape.batch, *others)))
    for dim in shape.batch:
        if (dim.a, dim.b) == (1, 1):
            others = tuple(d for d in shape.batch if d is not dim)
            lanes.append(("lanes", dim, (*others, *shape.columns)))
    if not lanes:
        one = Dim(LoopVar("lane", 1), 0, 0)
        lanes.append(("broadcast", one, (*shape.batch, *shape.columns)))
    return [
        candidate
        for form, lane, loops in lanes
        for candidate in _tiles(shape, target, form, lane, loops)
    ]


def _tiles(
    shape: ContractionShape, target: Target, form: Form, lane: Dim, loops: Dims
) -> list[_Candidate]:
    width = target.vector_lanes(shape.dtype.itemsize)
    while width > 2 and lane.extent <= width // 2 and width * shape.dtype.bits > 128:
        width //= 2
    rows = shape.rows or (Dim(LoopVar("row", 1), 0, 0),)
    choices: list[tuple[Dim, Dims]] = [(split, ()) for split in rows]
    choices += [
        (split, (whole,))
        for split in rows
        for whole in rows
        if whole is not split and whole.extent <= 8
    ]
    found = []
    needed = -(-lane.extent // width)
    for (split, whole), vectors in product(choices, range(1, min(needed, 14) + 1)):
        others = tuple(dim for dim in rows if dim is not split and dim not in whole)
        unit = count(whole)
        size = 0
        held = vectors if form == "lanes" else None
        while (size + 1) * unit <= _MAX_ROWS and size < split.extent:
            if not fits_registers((size + 1) * unit, vectors, held, target):
                break
            size += 1
        if size == 0:
            continue
        panels = Panels(lane.extent, width, vectors)
        for most in {size, min(size, max(1, _WAYS // unit))}:
            pieces = Pieces(split.extent, -(-split.extent // most))
            found.append(
                _Candidate(
                    shape, target, form, lane, loops, others, split, whole, pieces, panels
                )
            )  # fmt: skip
    return found


# Blocks and chunks --------------------------------------------------------------------------------


def _blocks(candidate: _Candidate, panels: int) -> tuple[Dims, Dims, int]:
    """(inner dims around the blocks, those of a block, steps of a block's first dim)."""
    inner = candidate.shape.inner
    if not inner:
        return (), (), 1
    once = count(candidate.outer_rows) * candidate.pieces.count == 1
    if candidate.form == "lanes" or (once and candidate.pack_b_kind() == "none"):
        limit = MOST_TERMS
    else:
        limit = _most_steps(candidate, panels)
    if candidate.steps <= limit + limit // 2:
        return (), inner, inner[0].extent
    at = 0
    while count(inner[at + 1 :]) > limit:
        at += 1
    size = max(1, min(inner[at].extent, limit // count(inner[at + 1 :])))
    return inner[:at], inner[at:], _even_block(inner[at].extent, size)


def _even_block(extent: int, size: int) -> int:
    """At most `size` steps: a divisor of the extent if a large one exists, else blocks of nearly
    equal sizes.
    """
    for divisor in range(size, size // 2, -1):
        if extent % divisor == 0:
            return divisor
    return -(-extent // -(-extent // size))


def _most_steps(candidate: _Candidate, panels: int) -> int:
    """Terms of a block: a panel within the first-level cache, packed b in half of the second."""
    item = candidate.shape.dtype.itemsize
    lanes = candidate.panels.lanes
    first = candidate.target.l1_bytes * 3 // (4 * lanes * item)
    second = candidate.target.l2_bytes // (2 * lanes * panels * item)
    inner = candidate.shape.inner
    if inner and abs(inner[-1].a) > 1:
        # Each step touches a cache line of a; a tile's lines are to stay for all panels.
        share = 3 if candidate.pack_a_kind() == "none" else 2
        first = min(first, candidate.target.l1_bytes // (share * ALIGNMENT))
    return min(MOST_TERMS, max(32, min(first, max(second, 128))))


def _grid(candidate: _Candidate) -> tuple[int, int, int]:
    """Chunks along loops, row tiles and panels: even shares first, little packing done twice."""
    loops = count(candidate.loops)
    tiles = count(candidate.outer_rows) * candidate.pieces.count
    panels = candidate.panels.count
    compute = candidate.compute_cycles() + candidate.store_cycles()
    pack_a = candidate.pack_a_cycles() * loops
    pack_b = candidate.pack_b_cycles() * loops
    wanted = min(MAX_CHUNKS, max(1.0, (compute + pack_a + pack_b) / CHUNK_CYCLES))
    least_columns = _least_column_chunks(candidate)
    if candidate.form == "lanes" and tiles >= wanted:
        panels = 1  # neighbouring panels share cache lines
    best = (float("inf"), (1, 1, 1))
    for batch in even_shares(loops, wanted):
        for columns in sorted({*even_shares(panels, wanted / batch), min(panels, least_columns)}):
            if columns < least_columns and columns < panels:
                continue
            for rows in even_shares(tiles, max(1.0, wanted / (batch * columns))):
                waste = (
                    -(-loops // batch) * batch / loops
                    * (-(-tiles // rows) * rows / tiles)
                    * (-(-panels // columns) * columns / panels)
                )  # fmt: skip
                work = compute * waste + pack_a * columns + pack_b * rows
                work += _traffic_cycles(candidate, rows, columns) * rows * columns * loops
                scarcity = max(0.0, wanted / (batch * columns * rows) - 1)
                score = work / compute + 0.01 * scarcity
                best = min(best, (score, (batch, rows, columns)))
    return best[1]


def _traffic_cycles(candidate: _Candidate, rows: int, columns: int) -> float:
    """Of bringing a chunk's operands into the core's own caches, if rows and columns are cut so."""
    shape = candidate.shape
    a_inner = _reach(shape.inner) - 1
    a_elements = 1 + a_inner + (_reach(shape.rows) - 1) // rows
    a_elements = min(a_elements, candidate.steps * count(shape.rows) // rows + 1)
    if candidate.form == "lanes":
        a_elements //= columns
    b_elements = candidate.steps * candidate.panels.extent // columns
    a_bytes = a_elements * shape.a.dtype.itemsize
    b_bytes = b_elements * shape.b.dtype.itemsize
    near = a_bytes + b_bytes <= _SHARED_CACHE_BYTES
    return (a_bytes + b_bytes) / (_L3_BYTES_PER_CYCLE if near else _MEMORY_BYTES_PER_CYCLE)


def _least_column_chunks(candidate: _Candidate) -> int:
    """So many that a chunk's packed panels fit into the second-level cache."""
    if candidate.pack_b_kind() == "none":
        return 1
    item = candidate.shape.dtype.itemsize
    steps = min(candidate.steps, candidate.target.l1_bytes // (2 * candidate.panels.lanes * item))
    panel = candidate.panels.lanes * steps * item
    return -(-candidate.panels.count * panel // (candidate.target.l2_bytes // 2))
