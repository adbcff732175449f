"""The collectives and messages of one group of ranks, on memory of NumPy arrays.

In: C-contiguous arrays.  Out: `Work`. Nothing is copied: MPI reads and writes the arrays, which
must be left alone until the work is done. Ranks are numbers within the group.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.dtypes import from_numpy
from braze.runtime.distributed.exchanged import ExchangedSum, takes
from braze.runtime.distributed.local import LocalRanks
from braze.runtime.distributed.mpi import datatype, library, operation
from braze.runtime.distributed.progress import Progress, Work
from braze.runtime.distributed.tags import for_sum
from braze.runtime.shared_blocks import SharedBlock

if TYPE_CHECKING:
    from braze.runtime.distributed.device_group import DeviceGroup

Array = np.ndarray[Any, np.dtype[Any]]


class Communicator:
    """One group of ranks, as one of them sees it.

    Attributes:
        number: of the group, the same on all ranks.
        ranks: of its members in the world.
        rank: this process's own within it.
        timeout: seconds that an operation may take.
        local: the same ranks, if they can share memory.
        devices: the same ranks with their GPUs, if they use NCCL.
    """

    def __init__(
        self,
        progress: Progress,
        comm: Any,
        number: int,
        ranks: Sequence[int],
        timeout: float,
        local: LocalRanks | None = None,
    ) -> None:
        self.progress = progress
        self.comm = comm
        self.number = number
        self.ranks = tuple(ranks)
        self.rank: int = comm.Get_rank()
        self.timeout = timeout
        self.local = local
        self.devices: DeviceGroup | None = None
        self._sums = 0

    @property
    def size(self) -> int:
        return len(self.ranks)

    def check(self, reduction: str, dtype: np.dtype[Any]) -> None:
        """Raises: TypeError if there is no such reduction of elements of this dtype."""
        operation(reduction, dtype)

    def all_reduce(
        self, data: Array, reduction: str = "sum", block: SharedBlock | None = None
    ) -> Work:
        """Every rank's data become the reduction of all of theirs.

        Args:
            block: that the data lie in, if other ranks may read and write there.
        """
        op = operation(reduction, data.dtype)
        work = self._collective(f"all_reduce({reduction}) of {described(data)}")
        if takes(data, reduction):
            return self._begin(work, lambda: self._sum(data, reduction, block), data)
        work.finish = self._average(reduction, data)
        given = library().IN_PLACE
        return self._begin(work, lambda: self.comm.Iallreduce(given, _buffer(data), op), data)

    def reduce(self, data: Array, root: int, reduction: str = "sum") -> Work:
        """The root's data become the reduction of all ranks'."""
        op = operation(reduction, data.dtype)
        work = self._collective(f"reduce({reduction}) to {self.ranks[root]} of {described(data)}")
        if self.rank == root:
            work.finish = self._average(reduction, data)
            given, kept = library().IN_PLACE, _buffer(data)
        else:
            given, kept = _buffer(data), None
        return self._begin(work, lambda: self.comm.Ireduce(given, kept, op, root), data)

    def broadcast(self, data: Array, root: int) -> Work:
        """Every rank's data become the root's."""
        work = self._collective(f"broadcast from {self.ranks[root]} of {described(data)}")
        return self._begin(work, lambda: self.comm.Ibcast(_buffer(data), root), data)

    def all_gather(self, given: Array, data: Array) -> Work:
        """`data`, as long as all ranks' `given` together, become these in the order of ranks."""
        work = self._collective(f"all_gather of {described(given)}")
        return self._begin(
            work, lambda: self.comm.Iallgather(_buffer(given), _buffer(data)), given, data
        )

    def gather(self, given: Array, data: Array | None, root: int) -> Work:
        """As `all_gather`, on the root only; others have no `data`."""
        work = self._collective(f"gather to {self.ranks[root]} of {described(given)}")
        kept = None if data is None else _buffer(data)
        return self._begin(work, lambda: self.comm.Igather(_buffer(given), kept, root), given, data)

    def scatter(self, given: Array | None, data: Array, root: int) -> Work:
        """Each rank's `data` become its part of the root's `given`; others have none."""
        work = self._collective(f"scatter from {self.ranks[root]} of {described(data)}")
        sent = None if given is None else _buffer(given)
        return self._begin(work, lambda: self.comm.Iscatter(sent, _buffer(data), root), given, data)

    def reduce_scatter(self, given: Array, data: Array, reduction: str = "sum") -> Work:
        """`data` become this rank's part of the reduction of all ranks' `given`."""
        op = operation(reduction, data.dtype)
        work = self._collective(f"reduce_scatter({reduction}) of {described(given)}")
        if takes(given, reduction):
            kept = given.copy()
            return self._begin(work, lambda: self._exchanged(kept, reduction, data), kept, data)
        work.finish = self._average(reduction, data)
        return self._begin(
            work,
            lambda: self.comm.Ireduce_scatter_block(_buffer(given), _buffer(data), op),
            given,
            data,
        )

    def all_to_all(
        self, given: Array, data: Array, sent: Sequence[int], received: Sequence[int]
    ) -> Work:
        """Rank r gets the r-th part of `given`, and `data` have parts from all ranks.

        Args:
            sent, received: the number of elements of each part.
        """
        work = self._collective(f"all_to_all of {given.dtype.name}")
        kind = datatype(given.dtype)
        out, into = [given, list(sent), kind], [data, list(received), kind]
        return self._begin(work, lambda: self.comm.Ialltoallv(out, into), given, data)

    def barrier(self, timeout: float | None = None) -> Work:
        """Done once every rank has called it."""
        work = self._collective("barrier")
        if timeout is not None:
            work.timeout = timeout
        return self._begin(work, self.comm.Ibarrier)

    def largest(self, what: str, number: int, timeout: float | None = None) -> int:
        """The largest of all ranks' numbers, once every rank is here.

        Args:
            what: an operation that all call, for messages.
        """
        work = self._collective(what)
        if timeout is not None:
            work.timeout = timeout
        data = np.array([number], np.int64)
        given, op = library().IN_PLACE, operation("max", data.dtype)
        self._begin(work, lambda: self.comm.Iallreduce(given, _buffer(data), op), data).wait()
        return int(data[0])

    def send(self, data: Array, to: int, tag: int = 0) -> Work:
        """Done once `data` may be changed again."""
        work = self._message(f"send to {self.ranks[to]} of {described(data)}", [to])
        return self._begin(work, lambda: self.comm.Isend(_buffer(data), to, tag), data)

    def receive(self, data: Array, source: int | None, tag: int = 0) -> Work:
        """Done once `data` are what a rank has sent.

        Args:
            source: None: any rank; `Work.source` tells which.
        """
        name = "any rank" if source is None else str(self.ranks[source])
        peers = [r for r in range(self.size) if r != self.rank] if source is None else [source]
        work = self._message(f"recv from {name} of {described(data)}", peers)
        work.source = -1
        place = library().ANY_SOURCE if source is None else source
        return self._begin(work, lambda: self.comm.Irecv(_buffer(data), place, tag), data)

    def _sum(self, data: Array, reduction: str, block: SharedBlock | None) -> Any:
        if self.local is None:
            return self._exchanged(data, reduction)
        return self.local.add_up(data, self._tags(), block, is_average=reduction == "avg")

    def _exchanged(self, data: Array, reduction: str, part: Array | None = None) -> ExchangedSum:
        is_average = reduction == "avg"
        return ExchangedSum(self.comm, data, self._tags(), is_average=is_average, part=part)

    def _tags(self) -> tuple[int, int]:
        """Of the group's next sum."""
        self._sums += 1
        return for_sum(self._sums)

    def _average(self, reduction: str, data: Array) -> Callable[[], None] | None:
        if reduction != "avg":
            return None

        def divide() -> None:
            np.divide(data, self.size, out=data, casting="unsafe")

        return divide

    def _collective(self, what: str) -> Work:
        return Work(self.progress, what, self.number, -1, self.ranks, self.timeout)

    def _message(self, what: str, peers: Sequence[int]) -> Work:
        ranks = [self.ranks[peer] for peer in peers]
        return Work(self.progress, what, self.number, 0, ranks, self.timeout)

    def _begin(self, work: Work, start: Callable[[], Any], *kept: Array | None) -> Work:
        return self.progress.begin(work, start, kept)


def _buffer(data: Array) -> list[Any]:
    """An array as MPI takes it; what a count means differs, so mpi4py finds it out."""
    return [data, datatype(data.dtype)]


def described(data: Array) -> str:
    """An array's type, as the IR writes it."""
    return _described(data.dtype, data.shape)


@functools.lru_cache(1024)
def _described(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return f"{from_numpy(dtype).name}[{','.join(map(str, shape))}]"
