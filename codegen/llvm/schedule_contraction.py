"""How a contraction is computed: tile, panels, blocks, packing and chunks.

A `Schedule` is only the decisions; `schedule_search` makes them and the emitters follow them.

The scheme is that of Goto and van de Geijn ("Anatomy of high-performance matrix multiplication",
2008) with affine operands.  A register tile has `rows` x `vectors` accumulators.  Rows of operand a
are broadcast, vectors of operand b are loaded along the `lane` dimension.  The result's lanes are
cut into panels (one tile wide), its rows into tiles; the inner dimensions are cut into blocks, so
that a tile of a stays in the first-level cache while the panels pass by, and these in the second.
What is not laid out well for that is copied ("packed") into the thread's scratch memory first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from braze.codegen.llvm.contraction_shape import ContractionShape, Dim, Dims, count
from braze.codegen.llvm.schedule_parts import OpenPieces, Pieces
from braze.ir.symint import is_symbolic

ALIGNMENT = 64
_MOST_FETCHED = 3
_PACKED_LINES = 3
# Taps that lie within so many elements are packed together, if there are so many of them, there is
# much to pack, and all blocks take no more memory than this.
_LONGEST_TAPS = 64
_FEWEST_TAPS = 3
_FEWEST_PACKED = 1 << 16
_MOST_PACKED_BYTES = 4 << 20
# Part of the rows that may be computed twice to have tiles of one size.
_MOST_REPEATED = 0.02

Form = Literal["broadcast", "lanes"]
PackA = Literal["none", "copy"]
PackB = Literal["none", "copy", "transpose", "gather"]


@dataclass(frozen=True, slots=True)
class Panels:
    """The lane dimension cut into `full` panels of `vectors` vectors and a narrower last one.

    The last one has `tail_vectors` vectors (0: there is none), of whose last one only `tail_lanes`
    lanes exist.
    """

    extent: int
    width: int
    vectors: int

    @property
    def lanes(self) -> int:
        return self.vectors * self.width

    @property
    def full(self) -> int:
        return self.extent // self.lanes

    @property
    def count(self) -> int:
        return -(-self.extent // self.lanes)

    @property
    def rest(self) -> int:
        return self.extent % self.lanes

    @property
    def tail_vectors(self) -> int:
        return -(-self.rest // self.width)

    @property
    def tail_lanes(self) -> int:
        return self.rest - (self.tail_vectors - 1) * self.width if self.rest else 0

    @property
    def variants(self) -> tuple[tuple[int, int, int], ...]:
        """(how many, vectors, lanes of the last vector) for each kind of panel."""
        kinds = ((self.full, self.vectors, self.width), (1, self.tail_vectors, self.tail_lanes))
        return tuple(kind for kind in kinds if kind[0] and kind[1])


@dataclass(frozen=True, eq=False)
class Schedule:
    """The decisions for one contraction. `str()` is a short description for people.

    form: "broadcast" as above; "lanes" when the lane dimension is a batch one, so that both
        operands are vectors.
    loops: dimensions outside the tiles: batch ones and columns other than the lane dimension.
    outer_rows, split, whole: row dimensions. A tile holds one piece of `split` times all of
        `whole`.
    outer_inner, inner: inner dimensions around the blocks, and those of one block, whose first one
        is cut into ranges of `block` steps.
    grid: chunks along loops, row tiles and panels.
    panels_outermost: a panel meets all row tiles before the next one does, which is fetched from
        memory meanwhile.
    """

    shape: ContractionShape
    form: Form
    lane: Dim
    loops: Dims
    outer_rows: Dims
    split: Dim
    whole: Dims
    pieces: Pieces | OpenPieces
    panels: Panels
    outer_inner: Dims
    inner: Dims
    block: int
    pack_a: PackA
    pack_b: PackB
    grid: tuple[int, int, int]
    panels_outermost: bool = False

    def with_one_tile(self) -> Schedule:
        """The same with row tiles of one size, where few rows would be in two of them then.

        A second size is half of the kernel's code again.
        """
        pieces = self.pieces
        if isinstance(pieces, OpenPieces) or self.pack_a != "none":
            return self
        if pieces.repeated > _MOST_REPEATED * pieces.extent:
            return self
        return replace(self, pieces=replace(pieces, overlap=True))

    @property
    def width(self) -> int:
        return self.panels.width

    @property
    def item_bytes(self) -> int:
        return self.shape.dtype.itemsize

    @property
    def panel_step(self) -> int:
        """From one panel to the next in b as it lies in memory."""
        return self.lane.jump if self.lane.panel else self.panels.lanes * self.lane.b

    @property
    def loop_count(self) -> int:
        return count(self.loops)

    @property
    def tiles(self) -> int:
        """Row tiles of one point of `loops`."""
        return count(self.outer_rows) * self.pieces.count

    @property
    def chunks(self) -> int:
        batch, rows, columns = self.grid
        return batch * rows * columns

    @property
    def steps(self) -> int:
        """Terms of the sum in one full block."""
        return self.block * count(self.inner[1:]) if self.inner else 1

    @property
    def blocks(self) -> int:
        """How many blocks the sum is made in; partial sums wait in scratch memory between them."""
        if not self.inner:
            return 1
        return count(self.outer_inner) * -(-self.inner[0].extent // self.block)

    @property
    def is_blocked(self) -> bool:
        """Whether there are, or may be, several blocks."""
        return is_symbolic(self.blocks) or self.blocks > 1

    @property
    def uneven(self) -> bool:
        """Whether the last block is, or may be, shorter than the others."""
        if not self.inner:
            return False
        return is_symbolic(self.inner[0].extent) or self.inner[0].extent % self.block != 0

    @property
    def open_levels(self) -> tuple[bool, ...]:
        """For each dimension of a block whether a tile is told how often it steps."""
        guarded = {guard.inner for guard in self.shape.guards}
        found = [dim.var in guarded for dim in self.inner]
        if found and (self.uneven or any(dim.var in guarded for dim in self.outer_inner)):
            found[0] = True
        return tuple(found)

    @property
    def pieces_outermost(self) -> bool:
        """Whether the tiles of one piece follow each other: what they read of a overlaps then, or
        what they store is nearer to each other than the piece's own rows are.

        So it is where the outer row dimensions are the taps of windows that the sum runs over, as
        in the gradient for a convolution's weight, or the places of an image, if rows are images.
        """
        if not self.outer_rows:
            return False
        walked = {abs(dim.a): dim.extent for dim in self.shape.inner}
        apart = abs(self.shape.result_stride(self.split))
        near = all(abs(self.shape.result_stride(dim)) < apart for dim in self.outer_rows)
        return near or all(walked.get(abs(dim.a), 0) > dim.extent for dim in self.outer_rows)

    @property
    def chunk_tiles(self) -> int:
        return -(-self.tiles // self.grid[1])

    @property
    def chunk_panels(self) -> int:
        return -(-self.panels.count // self.grid[2])

    @property
    def tile_rows(self) -> int:
        """Rows of the largest tile."""
        return self.pieces.size * count(self.whole)

    @property
    def packed_tiles(self) -> int:
        """Row tiles that are packed at a time: some cache lines of neighbouring rows."""
        lines = _PACKED_LINES * ALIGNMENT // self.item_bytes
        most = max(2, lines // self.pieces.size)
        return most if is_symbolic(self.chunk_tiles) else min(self.chunk_tiles, most)

    @property
    def a_tile_elements(self) -> int:
        """From one row tile of packed a, [step of the sum][row], to the next."""
        return self._apart(self.pieces.size * self.steps)

    @property
    def fetched_rows(self) -> int:
        """How many of the next tile's rows of a are fetched with a tile and a panel (0: none)."""
        if self.form != "broadcast" or self.pack_a != "none" or self.whole:
            return 0
        if self.panels_outermost:
            return 0  # all rows stay near
        if len(self.inner) != 1 or self.inner[0].a != 1:
            return 0
        if not is_symbolic(self.chunk_tiles) and self.chunk_tiles < 2:
            return 0
        # What would take more than a few instructions a step is left to the processor.
        return min(_MOST_FETCHED, -(-self.pieces.size // self.chunk_panels))

    @property
    def all_inner(self) -> Dims:
        """The dimensions of the sum, those around the blocks first."""
        return (*self.outer_inner, *self.inner)

    @cached_property
    def taps(self) -> Dims:
        """Inner dimensions along which the elements of a gathered lane are close to each other.
        All blocks are packed together then, before the first one, unless they take too much."""
        numbers = [n for dim in (self.lane, *self.all_inner) for n in (dim.extent, dim.b)]
        if self.pack_b != "gather" or is_symbolic(*numbers, self.chunk_panels):
            return ()
        found: list[Dim] = []
        span = 1
        for dim in sorted(self.all_inner, key=lambda dim: abs(dim.b)):
            span += (dim.extent - 1) * abs(dim.b)
            if span > _LONGEST_TAPS:
                break
            found.append(dim)
        taps = tuple(found)
        if count(taps) < _FEWEST_TAPS or self.lane.extent * count(self.all_inner) < _FEWEST_PACKED:
            return ()
        size = self.block_elements * self.blocks * self.item_bytes
        return taps if self.blocks == 1 or size <= _MOST_PACKED_BYTES else ()

    @property
    def ranges(self) -> int:
        """How many blocks the first dimension of a block is cut into."""
        return -(-self.inner[0].extent // self.block)

    @property
    def block_elements(self) -> int:
        """From one block of a chunk's packed panels to the next, where all are packed together."""
        return self.b_panel_elements * self.chunk_panels

    @property
    def b_panel_elements(self) -> int:
        """From one panel of packed b, [step of the sum][lane], to the next."""
        return self._apart(self.panels.lanes * self.steps)

    def _apart(self, elements: int) -> int:
        """An odd number of cache lines: a step of all tiles or panels is written at a time, which
        should not all want the same place in the cache."""
        line = ALIGNMENT // self.item_bytes
        return (-(-elements // line) | 1) * line

    @property
    def sums_tile_elements(self) -> int:
        return self.tile_rows * self.panels.lanes

    @property
    def b_scratch(self) -> int:
        if self.pack_b == "none":
            return 0
        return self.block_elements * (self.blocks if self.taps else 1)

    @property
    def a_scratch(self) -> int:
        return self.a_tile_elements * self.packed_tiles if self.pack_a != "none" else 0

    @property
    def sums_scratch(self) -> int:
        return (
            self.sums_tile_elements * self.chunk_tiles * self.chunk_panels if self.is_blocked else 0
        )

    @property
    def scratch_offsets(self) -> tuple[int, int, int, int]:
        """Bytes: where packed b, packed a and partial sums begin, and the end of it all."""
        places = [0]
        for elements in (self.b_scratch, self.a_scratch, self.sums_scratch):
            places.append(round_up(places[-1] + elements * self.item_bytes, ALIGNMENT))
        b, a, sums, end = places
        return b, a, sums, end

    def __str__(self) -> str:
        panels = f"{self.panels.vectors}x{self.width} lanes of {self.lane.var.name}"
        rows = "*".join([self.split.var.name, *(dim.var.name for dim in self.whole)])
        return (
            f"{self.form}: {self.tile_rows} rows of {rows} x {panels}; "
            f"{self.blocks} blocks of {self.steps}; "
            f"pack a: {self.pack_a}, b: {self.pack_b}; chunks {'x'.join(map(str, self.grid))}"
            + ("; panels outermost" if self.panels_outermost else "")
        )


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
