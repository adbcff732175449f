"""Sums of ranks that share no memory, by parts that they exchange.

In: a group's communicator, and an array.  Out: requests, which `Progress` asks again and again as
it asks MPI's.

Every rank comes to have the sum of one part of the elements, then all parts go to everybody. So
each sends 2 (P - 1) / P n of n elements, the least there is, where the trees by which some MPI
libraries reduce send n at each of their levels. For P a power of two it is recursive halving and
doubling, of log2 P rounds (Rabenseifner, "Optimization of collective reduction operations", ICCS
2004). For others ranks meet in groups of each prime factor f of P, whose members exchange f - 1
messages in a round.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from braze.runtime.distributed.adding import adding
from braze.runtime.distributed.mpi import datatype, library
from braze.runtime.distributed.stepwise import Stepwise

Array = np.ndarray[Any, np.dtype[Any]]

# Below so many bytes a message's latency counts, not how much it carries.
SMALLEST = 1 << 16
DTYPES = ("float16", "bfloat16", "float32", "float64")
# What is added up at a time: between two pieces other things are looked at.
PIECE_BYTES = 1 << 22


def takes(data: Array, reduction: str) -> bool:
    """Whether a reduction is best done here; the answer is the same on all ranks."""
    return reduction in ("sum", "avg") and data.dtype.name in DTYPES and data.nbytes >= SMALLEST


class ExchangedSum(Stepwise):
    """One sum under way.

    Args:
        data: become the sum, or the average; if `part` is given, they are left with what is worth
            nothing.
        tags: of the messages before and after all parts are added up.
        part: becomes this rank's part of the sum, the rank-th of P equal ones; nobody gets others.
    """

    def __init__(
        self,
        comm: Any,
        data: Array,
        tags: tuple[int, int],
        *,
        is_average: bool,
        part: Array | None = None,
    ) -> None:
        self._comm = comm
        self._rank: int = comm.Get_rank()
        self._size: int = comm.Get_size()
        self._data = data.reshape(-1)
        self._tags = tags
        self._is_average = is_average
        super().__init__(self._run(part))

    def _run(self, part: Array | None) -> Generator[bool]:
        """The steps."""
        data = self._data
        meetings = meetings_of(self._rank, self._size, data.size)
        for meeting in meetings:
            own = data[meeting.own]
            room = {rank: np.empty_like(own) for rank in meeting.others}
            sent = {rank: data[span] for rank, span in meeting.others.items()}
            yield from self._exchange(sent, room, self._tags[0])
            # In the order of ranks, so that the result does not depend on who adds.
            arrays = [
                own if rank == self._rank else room[rank] for rank in sorted([*room, self._rank])
            ]
            step = PIECE_BYTES // data.itemsize
            for begin in range(0, own.size, step):
                pieces = [array[begin : begin + step] for array in arrays]
                adding().add_up(pieces, is_average=self._is_average)
                yield True
        if part is not None:
            part.reshape(-1)[:] = data[meetings[-1].own]
            return
        for meeting in reversed(meetings):
            sent = dict.fromkeys(meeting.others, data[meeting.own])
            received = {rank: data[span] for rank, span in meeting.others.items()}
            yield from self._exchange(sent, received, self._tags[1])

    def _exchange(
        self, sent: Mapping[int, Array], received: Mapping[int, Array], tag: int
    ) -> Generator[bool]:
        """Send arrays to ranks, and wait for theirs.

        Sending begins first: with the receives waiting already, Open MPI 5.0 has large messages
        over TCP go one way at a time.
        """
        comm, kind = self._comm, datatype(self._data.dtype)
        under_way = [comm.Isend([array, kind], rank, tag) for rank, array in sent.items()]
        under_way += [comm.Irecv([array, kind], rank, tag) for rank, array in received.items()]
        while not library().Request.Testall(under_way):
            yield False


@dataclass(frozen=True)
class Meeting:
    """A round: what this rank comes to have the sum of, and what each of the others does."""

    own: slice
    others: Mapping[int, slice]


def meetings_of(rank: int, size: int, elements: int) -> list[Meeting]:
    """The rounds of a rank. Before each, it and the ranks that it is still to meet share the parts
    of a range of ranks; afterwards, those of a smaller one, down to its own."""
    found = []
    first, count = 0, size
    for factor in prime_factors(size):
        count //= factor
        inside = (rank - first) % count
        begins = range(first, first + factor * count, count)
        spans = {
            begin + inside: slice(elements * begin // size, elements * (begin + count) // size)
            for begin in begins
        }
        found.append(Meeting(spans.pop(rank), spans))
        first += (rank - first) // count * count
    return found


def prime_factors(number: int) -> Iterator[int]:
    """From the smallest on, each as often as it divides."""
    factor = 2
    while number > 1:
        while number % factor == 0:
            number //= factor
            yield factor
        factor += 1
