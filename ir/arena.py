"""Where the blocks of a symbolic program's arena begin.

In: the bytes of each block as functions of the words (`braze.ir.symint`), and which blocks lie
below which.  Out: their offsets for given words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from braze.ir.symint import value_at

ALIGNMENT = 64


def aligned(size: int) -> int:
    """A size rounded up so that what follows is aligned."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class ArenaLayout:
    """The blocks of an arena, in an order in which each comes after those below it.

    Attributes:
        sizes: the bytes of each block's buffers.
        below: for each block the ones that are alive with it and lie below it.
        block_of: the block of each buffer, by its name.
    """

    sizes: tuple[tuple[int, ...], ...]
    below: tuple[tuple[int, ...], ...]
    block_of: dict[str, int]

    def offsets(self, words: Sequence[int]) -> tuple[list[int], int]:
        """Where each block begins for some words, and the bytes of the whole arena."""
        bytes_of = [aligned(max(value_at(size, words) for size in own)) for own in self.sizes]
        begins: list[int] = []
        for below in self.below:
            begins.append(max((begins[other] + bytes_of[other] for other in below), default=0))
        ends = (begin + size for begin, size in zip(begins, bytes_of, strict=True))
        return begins, max(ends, default=0)

    def words(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """The words of a program of these sizes: they, where each block begins, and the bytes of
        the whole arena."""
        begins, nbytes = self.offsets(sizes)
        return *sizes, *begins, nbytes
