"""Sums of ranks that share a host, in memory that all of them map.

In: a group whose ranks are on one host, and arrays.  Out: requests, which `Progress` asks again and
again as it asks MPI's.

Each rank adds up one part of the elements. It reads the others' from blocks that these have filled,
and writes the sums back to where it found them; a rank's own part never leaves its array. So of n
elements on P ranks each copies out n (P - 1) / P, adds as many, and copies as many back, which is
a fraction of what goes through MPI's own buffers. What lies in shared pages already (`pages`) is
not copied at all. MPI carries who is ready, and so orders what the
ranks write and read. A part is worked on in pieces that stay in the cache; between two of them
other things are looked at, so no rank seems to be gone while it adds.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from braze.runtime.distributed.mpi import library
from braze.runtime.shared_blocks import SharedBlock, block_from_file, new_block

Array = np.ndarray[Any, np.dtype[Any]]
Place = tuple[SharedBlock, int]  # and the byte in it

# Below this many bytes two messages cost more than MPI's copies.
SMALLEST = 1 << 16
_PIECE_BYTES = 1 << 18
_DTYPES = ("float16", "bfloat16", "float32", "float64")
# Tags go round: far fewer operations than this are under way at a time.
_TAGS = 1 << 14


class LocalRanks:
    """The ranks of a group that share a host.

    Args:
        comm: of these ranks, for nobody else's messages.
        processes: their numbers.
    """

    def __init__(self, comm: Any, processes: Sequence[int]) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self._processes = processes
        self._known: dict[tuple[int, int], SharedBlock] = {}  # by rank and its number there
        self._free: dict[int, list[tuple[int, SharedBlock]]] = {}
        self._numbers: WeakKeyDictionary[SharedBlock, int] = WeakKeyDictionary()
        self._made = 0
        self._begun = 0

    @property
    def size(self) -> int:
        return len(self._processes)

    @staticmethod
    def met(comm: Any, processes: Sequence[int]) -> LocalRanks | None:
        """Called by all: the ranks, or None on all of them if some may not map others' memory."""
        found = LocalRanks(comm, processes)
        number, block = found.take(SMALLEST)
        all_of_them = comm.allgather((block.fd, block.nbytes, number))
        try:
            for rank, (fd, nbytes, known) in enumerate(all_of_them):
                found.block_of(rank, fd, nbytes, known)
            works = True
        except OSError:
            works = False
        found.give_back(number, block)
        return found if all(comm.allgather(works)) else None

    @staticmethod
    def takes(data: Array, reduction: str) -> bool:
        """Whether a reduction is best done here; the answer is the same on all ranks."""
        return (
            reduction in ("sum", "avg") and data.dtype.name in _DTYPES and data.nbytes >= SMALLEST
        )

    def add_up(self, data: Array, reduction: str, place: Place | None = None) -> LocalSum:
        """Begin: every rank's data are to become the sum, or average, of all of theirs.

        Args:
            place: of the data, where others can map them; else they are copied.
        """
        self._begun += 1
        tag = 2 * (self._begun % _TAGS)
        return LocalSum(self, data.reshape(-1), tag, place, is_average=reduction == "avg")

    def take(self, nbytes: int) -> tuple[int, SharedBlock]:
        """A block of this rank's for so many bytes at least, and its number."""
        size = 1 << (nbytes - 1).bit_length()
        free = self._free.setdefault(size, [])
        if free:
            return free.pop()
        self._made += 1
        return self._made, new_block(size)

    def number_of(self, block: SharedBlock) -> int:
        """Under which number others know a block of this rank's that comes from elsewhere."""
        number = self._numbers.get(block)
        if number is None:
            self._made += 1
            number = self._numbers[block] = self._made
        return number

    def give_back(self, number: int, block: SharedBlock) -> None:
        """Nobody uses this block any more; the next sum may."""
        self._free[block.nbytes].append((number, block))

    def block_of(self, rank: int, fd: int, nbytes: int, number: int) -> SharedBlock:
        """A rank's block, by what it says of it.

        Raises: OSError if it cannot be mapped.
        """
        found = self._known.get((rank, number))
        if found is None:
            path = f"/proc/{self._processes[rank]}/fd/{fd}"
            found = block_from_file(os.open(path, os.O_RDWR | os.O_CLOEXEC), nbytes)
            self._known[rank, number] = found
        return found


class LocalSum:
    """One sum under way: what `Progress` takes for a request of MPI's.

    Attributes:
        is_moving: whether the last look got on with it.
    """

    def __init__(
        self, ranks: LocalRanks, data: Array, tag: int, place: Place | None, *, is_average: bool
    ) -> None:
        self._ranks = ranks
        self._tag = tag
        self._is_average = is_average
        if place is None:
            self._steps = self._copying(data)
        else:  # by way of the block's own addresses, which stay what they are
            self._steps = self._run(elements(*place, data), 0, *place)
        self.is_moving = False

    def Test(self, status: Any = None) -> bool:
        """Get on with it a little. Whether it is complete."""
        step = next(self._steps, None)
        self.is_moving = bool(step)
        return step is None

    def _copying(self, data: Array) -> Generator[bool]:
        """The sum by way of a block: what others add up goes there, and comes from there."""
        number, block = self._ranks.take(data.nbytes)
        own = elements(block, 0, data)
        yield from self._copy(data, own)
        yield from self._run(data, number, block, 0)
        yield from self._copy(own, data)
        self._ranks.give_back(number, block)

    def _copy(self, source: Array, target: Array) -> Generator[bool]:
        for rank in range(self._ranks.size):
            if rank != self._ranks.rank:
                for piece in self._pieces(rank, source):
                    target[piece] = source[piece]
                    yield True

    def _run(self, data: Array, number: int, block: SharedBlock, offset: int) -> Generator[bool]:
        """Add up this rank's part, for all; the others' parts are in the block afterwards.

        Each step is a piece of work, True, or a look in vain for others', False.
        """
        ranks = self._ranks
        number = number or ranks.number_of(block)
        told = np.array([block.fd, block.nbytes, number, offset], np.int64)
        heard = {rank: np.zeros_like(told) for rank in range(ranks.size) if rank != ranks.rank}
        yield from self._exchange(told, heard, self._tag)
        theirs = []
        for rank, words in heard.items():
            fd, nbytes, known, place = map(int, words)
            theirs.append(elements(ranks.block_of(rank, fd, nbytes, known), place, data))
        for piece in self._pieces(ranks.rank, data):
            total = data[piece]
            for array in theirs:
                np.add(total, array[piece], out=total)
            if self._is_average:
                np.divide(total, ranks.size, out=total, casting="unsafe")
            for array in theirs:
                array[piece] = total
            yield True
        yield from self._exchange(told, heard, self._tag + 1)

    def _pieces(self, rank: int, data: Array) -> Iterator[slice]:
        """The part of the elements that a rank adds up, in pieces."""
        size, step = data.size, _PIECE_BYTES // data.itemsize
        start, end = (size * r // self._ranks.size for r in (rank, rank + 1))
        for begin in range(start, end, step):
            yield slice(begin, min(begin + step, end))

    def _exchange(self, told: Array, heard: dict[int, Array], tag: int) -> Generator[bool]:
        """Tell all others something, and wait until all of them have told theirs."""
        comm = self._ranks.comm
        under_way = [comm.Irecv(heard[rank], rank, tag) for rank in heard]
        under_way += [comm.Isend(told, rank, tag) for rank in heard]
        while not library().Request.Testall(under_way):
            yield False


def elements(block: SharedBlock, offset: int, like: Array) -> Array:
    """What lies at a byte of a block, as an array like another."""
    found: Array = np.asarray(block)[offset : offset + like.nbytes].view(like.dtype)
    return found
