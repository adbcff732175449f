"""What the schedules of contractions have in common: extents in pieces, register counts, shares for chunks."""

from __future__ import annotations

from dataclasses import dataclass

from braze.ir.target import Target

# Work for one chunk: long against the cost of handing it out, short enough to balance the threads.
CHUNK_CYCLES = 30_000.0
MAX_CHUNKS = 96


@dataclass(frozen=True, slots=True)
class Pieces:
    """An extent cut into `count` pieces whose sizes differ by one at most: `large` of `size`, then smaller ones."""

    extent: int
    count: int

    @property
    def size(self) -> int:
        return -(-self.extent // self.count)

    @property
    def large(self) -> int:
        return self.extent - self.count * (self.size - 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The different sizes, largest first."""
        if self.large == self.count or self.size == 1:
            return (self.size,)
        return (self.size, self.size - 1)

    def number_of(self, size: int) -> int:
        return self.large if size == self.size else self.count - self.large


def fits_registers(rows: int, columns: int, held: int | None, target: Target) -> bool:
    """Whether rows * columns accumulators, `held` operands (None: the fewer ones) and one more fit."""
    has_fma = "fma" in target.features or target.architecture != "x86_64"
    operands = min(rows, columns) if held is None else held
    needed = rows * columns + operands + 1 + (not has_fma)
    spare = 1 if target.vector_registers > 16 else 0
    return needed <= target.vector_registers - spare


def even_shares(size: int, wanted: float) -> list[int]:
    """Numbers of parts to try: up to `wanted`, the fewest parts for each size of the largest part."""
    limit = max(1, min(size, int(wanted)))
    largest: dict[int, int] = {}
    for parts in range(1, limit + 1):
        largest.setdefault(-(-size // parts), parts)
    return sorted(largest.values())
