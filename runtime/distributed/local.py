"""Sums of ranks that share a host, in memory that all of them map.

In: a group whose ranks are on one host, and arrays.  Out: requests, which `Progress` asks again and
again as it asks MPI's.

Each rank adds up one part of the elements: it reads the others', and writes the sums back to where
it found them. Arrays in memory that all ranks map, as compiled code's arenas are, are read and
written where they lie. Of others a rank copies to a block what other ranks add up, n (P - 1) / P of
n elements on P ranks, and copies the sums back, which is a fraction of what goes through MPI's own
buffers. MPI carries who is ready, and so orders what the ranks write and read. A part is worked on
in pieces; between two of them other things are looked at, so no rank seems to be gone while it
adds. They are large, since each has the thread for communication take the core from what computes.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from braze.runtime.distributed.adding import adding
from braze.runtime.distributed.carrier import Carrier
from braze.runtime.distributed.exchanged import PIECE_BYTES, SMALLEST
from braze.runtime.distributed.mpi import library
from braze.runtime.distributed.stepwise import Stepwise
from braze.runtime.shared_blocks import HUGE_PAGE, SharedBlock, block_from_file, new_block
from braze.runtime.storage import HUGE_BLOCK_BYTES, Storage

Array = np.ndarray[Any, np.dtype[Any]]


class LocalRanks:
    """The ranks of a group that share a host.

    Args:
        comm: of these ranks.
        processes: their numbers.
    """

    def __init__(self, comm: Any, processes: Sequence[int]) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self._processes = processes
        self._known: dict[tuple[int, int], SharedBlock] = {}  # by rank and its number there
        self._arenas: dict[int, tuple[int, SharedBlock]] = {}  # others', and their numbers there
        self._own_arena: Callable[[], SharedBlock | None] = lambda: None
        self._own_arenas = 0
        self._free: dict[int, list[tuple[int, SharedBlock]]] = {}
        self._made = 0

    @property
    def size(self) -> int:
        return len(self._processes)

    @staticmethod
    def met(comm: Any, processes: Sequence[int], making: Carrier) -> LocalRanks | None:
        """Called by all: the ranks, or None on all of them if some may not map others' memory."""
        found = LocalRanks(comm, processes)
        number, block = found.take(SMALLEST)
        own = np.array([block.fd, block.nbytes, number], np.int64)
        places = np.empty((found.size, own.size), np.int64)
        making.carry(lambda: comm.Iallgather(own, places), own, places)
        works = np.ones(1, np.int64)
        try:
            for rank, (fd, nbytes, known) in enumerate(places.tolist()):
                found.block_of(rank, fd, nbytes, known)
        except OSError:
            works[0] = 0
        in_place, smallest = library().IN_PLACE, library().MIN
        making.carry(lambda: comm.Iallreduce(in_place, works, smallest), works)
        found.give_back(number, block)
        return found if works[0] else None

    def add_up(
        self, data: Array, tags: tuple[int, int], block: SharedBlock | None, *, is_average: bool
    ) -> LocalSum:
        """Begin: every rank's data are to become the sum, or average, of all of theirs.

        Args:
            tags: of the messages before and after parts are added up.
            block: that the data lie in, if it is an arena that others may map.
        """
        return LocalSum(self, data.reshape(-1), tags, block, is_average=is_average)

    def take(self, nbytes: int) -> tuple[int, SharedBlock]:
        """A block of this rank's for so many bytes at least, and its number."""
        size = 1 << (nbytes - 1).bit_length()
        free = self._free.setdefault(size, [])
        if free:
            return free.pop()
        self._made += 1
        return self._made, new_block(size)

    def give_back(self, number: int, block: SharedBlock) -> None:
        """Nobody uses this block any more; the next sum may."""
        self._free[block.nbytes].append((number, block))

    def arena_number(self, block: SharedBlock) -> int:
        """What others know this rank's arena by; negative."""
        if self._own_arena() is not block:
            self._own_arena = weakref.ref(block)
            self._own_arenas += 1
        return -self._own_arenas

    def block_of(self, rank: int, fd: int, nbytes: int, number: int) -> SharedBlock:
        """A rank's block, or its arena, by what it says of it. Of arenas the last one is kept.

        Raises: OSError if it cannot be mapped.
        """
        last, arena = self._arenas.get(rank, (0, None))
        found = self._known.get((rank, number)) if number != last else arena
        if found is None:
            path = f"/proc/{self._processes[rank]}/fd/{fd}"
            found = block_from_file(os.open(path, os.O_RDWR | os.O_CLOEXEC), nbytes)
            if number > 0:
                self._known[rank, number] = found
            else:
                found.in_huge_pages()
                self._arenas[rank] = number, found
        return found


class LocalSum(Stepwise):
    """One sum under way."""

    def __init__(
        self,
        ranks: LocalRanks,
        data: Array,
        tags: tuple[int, int],
        arena: SharedBlock | None,
        *,
        is_average: bool,
    ) -> None:
        self._ranks = ranks
        self._data = data
        self._tags = tags
        self._arena = arena
        self._is_average = is_average
        super().__init__(self._run())

    def move(self) -> bool:
        """Go on in memory of its own: the array's is needed for something else. False if others
        read and write there, so that it has to be left to them."""
        if self._arena is not None:
            return False
        self._data = self._data.copy()
        return True

    def _run(self) -> Generator[bool]:
        """The steps. The array is looked up in each: it may be another by then."""
        ranks, arena = self._ranks, self._arena
        others = [rank for rank in range(ranks.size) if rank != ranks.rank]
        if arena is not None:
            begin = self._data.ctypes.data - arena.address
            place = arena.fd, arena.nbytes, ranks.arena_number(arena), begin
        else:
            number, block = ranks.take(self._data.nbytes)
            own = _elements(block, 0, self._data)
            for piece in self._pieces(*others):
                own[piece] = self._data[piece]
                yield True
            place = block.fd, block.nbytes, number, 0
        told = np.array(place, np.int64)
        heard = {rank: np.zeros_like(told) for rank in others}
        yield from self._exchange(told, heard, self._tags[0])
        theirs = []
        for rank, words in heard.items():
            fd, nbytes, known, begin = map(int, words)
            theirs.append(_elements(ranks.block_of(rank, fd, nbytes, known), begin, self._data))
        yield from self._added_up(theirs)
        yield from self._exchange(told, heard, self._tags[1])
        if arena is None:
            for piece in self._pieces(*others):
                self._data[piece] = own[piece]
                yield True
            ranks.give_back(number, block)

    def _added_up(self, theirs: Sequence[Array]) -> Generator[bool]:
        """This rank's part, of all ranks' arrays, becomes their sum in each of them."""
        for piece in self._pieces(self._ranks.rank):
            arrays = [self._data[piece], *(array[piece] for array in theirs)]
            adding().add_up(arrays, is_average=self._is_average)
            yield True

    def _pieces(self, *ranks: int) -> Iterator[slice]:
        """The parts of the elements that some ranks add up, in pieces."""
        size, step = self._data.size, PIECE_BYTES // self._data.itemsize
        for rank in ranks:
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


def new_arena(nbytes: int) -> SharedBlock | Storage:
    """Memory for an arena, which other ranks can map if the system has it in huge pages: in small
    ones all kernels would be slower."""
    if nbytes >= HUGE_BLOCK_BYTES:
        with suppress(OSError):
            block = new_block(nbytes + HUGE_PAGE - 1 & -HUGE_PAGE)
            if block.in_huge_pages():
                return block
    return Storage(nbytes)


def _elements(block: SharedBlock, begin: int, like: Array) -> Array:
    """Elements like others, from a byte of a block on."""
    found: Array = np.asarray(block)[begin : begin + like.nbytes].view(like.dtype)
    return found
