"""What the schedules of contractions have in common: pieces, register counts, shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import log

from braze.ir.target import Target

# Work for one chunk at least, and chunks at most.
CHUNK_CYCLES = 6_000.0
MAX_CHUNKS = 96
# What a chunk costs beyond its work, and what a parallel region costs: while it begins and ends,
# all threads but one wait.
_HANDING_OUT = 300.0
_REGION_CYCLES = 7_000.0
# How much it matters that so many threads are used evenly.
_THREADS = {2: 1.0, 4: 0.15, 8: 0.02, 16: 0.01, 32: 0.01}

# Terms added one after another; longer sums are sums of such partial sums, whose rounding errors
# grow with the square root of what a single chain's would (Higham, "The accuracy of floating point
# summation", 1993).
MOST_TERMS = 2048


@dataclass(frozen=True, slots=True)
class Pieces:
    """An extent cut into `count` nearly equal pieces: `large` ones of `size`, then smaller ones.

    Sizes differ by one at most.

    Attributes:
        overlap: all are of one size, and the last one begins so early that it ends with the extent.
    """

    extent: int
    count: int
    overlap: bool = False

    @property
    def size(self) -> int:
        return -(-self.extent // self.count)

    @property
    def repeated(self) -> int:
        """How many elements would be in two pieces if they were all of one size."""
        return self.count * self.size - self.extent

    @property
    def large(self) -> int:
        return self.count if self.overlap else self.count - self.repeated

    @property
    def sizes(self) -> tuple[int, ...]:
        """The different sizes, largest first."""
        if self.large == self.count or self.size == 1:
            return (self.size,)
        return (self.size, self.size - 1)

    def number_of(self, size: int) -> int:
        return self.large if size == self.size else self.count - self.large

    @property
    def ends(self) -> tuple[int, ...]:
        """For each size but the last, how many pieces have it or an earlier one."""
        return (self.large,) if len(self.sizes) > 1 else ()


@dataclass(frozen=True, slots=True)
class OpenPieces:
    """A symbolic extent in as many pieces of `size` as it holds; a few smaller ones are the rest.

    Of the rest, every remainder has its own size otherwise, and code of its own.
    """

    extent: int
    size: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The different sizes, largest first."""
        return (self.size, *(size for size in (4, 2, 1) if size < self.size))

    @property
    def numbers(self) -> tuple[int, ...]:
        """How many pieces there are of each size."""
        found, rest = [], self.extent
        for size in self.sizes:
            found.append(rest // size)
            rest = rest % size
        return tuple(found)

    @property
    def count(self) -> int:
        return sum(self.numbers)

    @property
    def ends(self) -> tuple[int, ...]:
        """As for `Pieces`."""
        return tuple(accumulate(self.numbers[:-1]))


def fits_registers(rows: int, columns: int, held: int | None, target: Target) -> bool:
    """Whether rows * columns accumulators, `held` operands (None: the fewer) and one more fit."""
    x86 = target.architecture == "x86_64"
    operands = min(rows, columns) if held is None else held
    # Spared: products before they are added, where no instruction is fused; operands that x86 takes
    # from memory and others do not; and room for LLVM's scheduler, which overfills large files.
    spare = 4 * (x86 and "fma" not in target.features)
    if target.vector_registers > 16:
        spare += 2 if x86 else 4
    return rows * columns + operands + 1 + spare <= target.vector_registers


def even_shares(size: int, wanted: float) -> list[int]:
    """Numbers of parts to try: up to `wanted`, the fewest for each size of the largest part."""
    limit = max(1, min(size, int(wanted)))
    largest: dict[int, int] = {}
    for parts in range(1, limit + 1):
        largest.setdefault(-(-size // parts), parts)
    return sorted(largest.values())


def parallel_cost(cycles: float, chunks: int) -> float:
    """What the work costs in so many chunks: a logarithm, to compare. The number of threads is not
    known to the compiler.
    """
    cycles += _HANDING_OUT * chunks + (_REGION_CYCLES if chunks > 1 else 0.0)
    return log(cycles) + _idle(chunks)


@cache
def _idle(chunks: int) -> float:
    return sum(
        weight * log(-(-chunks // threads) * threads / chunks)
        for threads, weight in _THREADS.items()
    )
