"""How a row is sorted: by ranks, by digits or by selection. In: a `Sort`.  Out: a `SortPlan`.

    ranks    each record is compared with all others, in vectors, and their count is its place:
             without a branch, the fastest for short rows
    radix    records are distributed by one digit of the key after the other, the lowest first, each
             time in order of their counted digits (Knuth, "The Art of Computer Programming",
             vol. 3, 5.2.5)
    select   the best few so far are kept in order; most keys are only compared, in vectors, with
             the last of them

Where the keys of a row lie a power of two apart, the lines that hold them share a few cache sets,
and are gone before the next row needs them. Neighbouring rows are then packed together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from braze.codegen.llvm.sort_records import Records
from braze.codegen.llvm.types import register_bits
from braze.ir.loops import Load, Sort
from braze.ir.target import Target

_PAGE = 4096
# From this length on, three passes with tables of 2048 counters cost less than four with 256; the
# eight passes over 64 bits would only become six, and lose more to larger tables than they gain.
LONG_ROW = 1 << 12
# Selection moves up to this many records for each that enters.
MOST_SELECTED = 64
# So many rows are packed together, and fewer if they take more than this.
MOST_COLUMNS = 8
MOST_PACKED_BYTES = 1 << 21
# Keys this far apart, or a multiple of it, share sets; so many lines have room in one set's ways.
SAME_SET_BYTES = 1024
FEWEST_LINES = 32


@dataclass(frozen=True, slots=True)
class SortPlan:
    """How the rows of one kernel are sorted.

    Attributes:
        lanes: records that `ranks`, or keys that `select`, compares at once.
        digit_bits, passes: of `radix`.
        counter_bits: width of a counter of `radix`.
        second: where the second array of records begins in the scratch memory; the first is at 0.
        counters: where the counters begin.
        columns: how many rows are packed together.
        packed: where their records begin, `pitch` bytes for each row.
        scratch_bytes: of one thread, a multiple of 4096.
    """

    records: Records
    method: Literal["ranks", "radix", "select"]
    kept: int
    lanes: int
    digit_bits: int
    passes: int
    counter_bits: int
    second: int
    counters: int
    columns: int
    packed: int
    pitch: int
    scratch_bytes: int


def sort_plan(kernel: Sort, target: Target) -> SortPlan:
    """The plan for a kernel; it depends on the dtype and the sizes only."""
    records = Records(kernel.key.dtype, kernel.descending, kernel.along.extent)
    length, kept = kernel.along.extent, kernel.rank.extent
    wide = records.nbytes > 8
    lanes = 1 if wide else target.vector_lanes(8)
    digit_bits = 11 if length >= LONG_ROW and records.key_bits == 32 else 8
    passes = -(-records.key_bits // digit_bits)
    method: Literal["ranks", "radix", "select"] = "radix"
    if _ranks_nanoseconds(length, lanes) <= _radix_nanoseconds(length, passes):
        method = "ranks"
    elif kept <= MOST_SELECTED and kept * kept <= 2 * length:
        method = "select"
    if method == "select":
        lanes = target.vector_lanes(register_bits(kernel.key.dtype) // 8)
    counter_bits = 32 if length < 1 << 31 else 64
    first = kept if method == "select" else -(-length // lanes) * lanes
    second = _aligned(first * records.nbytes)
    counters = second if method == "select" else _aligned(second + length * records.nbytes)
    end = counters
    if method == "radix":
        end += passes * (counter_bits // 8 << digit_bits)
    # The odd line keeps rows whose size is a power of two from meeting in the same cache sets.
    pitch = _aligned(length * records.nbytes) + 64
    columns = _columns(kernel, pitch)
    packed = _aligned(end)
    if columns > 1:
        end = packed + columns * pitch
    return SortPlan(
        records=records,
        method=method,
        kept=kept,
        lanes=lanes,
        digit_bits=digit_bits,
        passes=passes,
        counter_bits=counter_bits,
        second=second,
        counters=counters,
        columns=columns,
        packed=packed,
        pitch=pitch,
        scratch_bytes=-(-end // _PAGE) * _PAGE,
    )


def _columns(kernel: Sort, pitch: int) -> int:
    """How many rows to pack together; 1 where that gains nothing."""
    loads = [expr for expr in kernel.key.walk() if isinstance(expr, Load)]
    if not kernel.rows or kernel.along.extent < FEWEST_LINES:
        return 1
    last = kernel.rows[-1]

    def collides(load: Load) -> bool:
        apart = load.index.coefficient(kernel.along) * load.dtype.itemsize
        return apart != 0 and apart % SAME_SET_BYTES == 0 and load.index.coefficient(last) == 1

    if not any(collides(load) for load in loads):
        return 1
    columns = min(MOST_COLUMNS, last.extent)
    while columns > 1 and columns * pitch > MOST_PACKED_BYTES:
        columns //= 2
    return columns


# Fitted to measurements on a Zen 4 core, with its vectors limited to 128, 256 and 512 bits in turn.


def _ranks_nanoseconds(length: int, lanes: int) -> float:
    return length * (2.9 + 0.33 * length / lanes)


def _radix_nanoseconds(length: int, passes: int) -> float:
    """Tables of 256 counters for each pass, and all records moved in each."""
    return passes * (85 + 0.9 * length) + 1.2 * length


def _aligned(offset: int) -> int:
    return -(-offset // 64) * 64
