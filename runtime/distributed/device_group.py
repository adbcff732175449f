"""The collectives and messages of one group of ranks, on memory of their GPUs, by NCCL.

In: `Block`s of device memory.  Out: `Work`, which is done once the GPU is. Nothing is copied, and
nobody waits: an operation is enqueued on the device's current stream, behind what computes its
operands and before what uses its results. MPI says who takes part, and its watch who is gone; the
operations that lack somebody are aborted, and their error is raised by the next call of the group
or the next wait for the device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braze.ir.dtypes import from_numpy
from braze.runtime.cuda.devices import CudaDevice, Stream
from braze.runtime.cuda.driver import driver
from braze.runtime.cuda.memory import DeviceStorage, wait_for
from braze.runtime.distributed.communicator import Communicator
from braze.runtime.distributed.errors import DistBackendError
from braze.runtime.distributed.nccl import element, nccl, reduced, told
from braze.runtime.distributed.progress import Work
from braze.runtime.distributed.watch import Process

# Of the MPI messages by which two ranks agree on a communicator of their own.
_PAIR = 1 << 14
_ID_BYTES = 128


@dataclass(frozen=True)
class Block:
    """Elements side by side in memory of a GPU."""

    storage: DeviceStorage
    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __str__(self) -> str:
        return f"{from_numpy(self.dtype).name}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Message:
    """Elements to be sent to a rank of the group, or received from it."""

    block: Block
    peer: int
    is_sent: bool

    def __str__(self) -> str:
        return f"{'send to' if self.is_sent else 'recv from'} {self.peer} of {self.block}"


class DeviceGroup:
    """One group of ranks, as one of them sees it, each with a GPU of its own.

    Its NCCL communicator is made by its first operation, in which all ranks of the group must take
    part. A single message makes one of its two ranks.
    """

    def __init__(self, communicator: Communicator) -> None:
        nccl()
        self.communicator = communicator
        self.device: CudaDevice | None = None
        self._lock = threading.RLock()  # operations are enqueued in the order of their numbers
        self._handles: dict[int | None, Any] = {}  # by the peer of a pair
        # What is under way, with its event and memory, which must not end in another thread.
        self._flying: list[tuple[Work, Any, list[DeviceStorage]]] = []
        self._is_over = False  # after an operation that was given up
        communicator.devices = self

    # Operations -----------------------------------------------------------------------------------

    def all_reduce(self, given: Block, kept: Block, reduction: str) -> Work:
        """`kept` becomes the reduction of all ranks' `given`, which may be the same."""
        kind, count, op = reduced(reduction, given.dtype)
        return self._begin(
            f"all_reduce({reduction}) of {given}",
            [given, kept],
            lambda comm, stream: nccl().all_reduce(
                given.address, kept.address, given.size * count, kind, op, comm, stream
            ),
        )

    def reduce(self, given: Block, kept: Block, root: int, reduction: str) -> Work:
        """The root's `kept` becomes the reduction of all ranks' `given`."""
        kind, count, op = reduced(reduction, given.dtype)
        return self._begin(
            f"reduce({reduction}) to {self._name(root)} of {given}",
            [given, kept],
            lambda comm, stream: nccl().reduce(
                given.address, kept.address, given.size * count, kind, op, root, comm, stream
            ),
        )

    def broadcast(self, given: Block, kept: Block, root: int) -> Work:
        """Every rank's `kept` becomes the root's `given`."""
        kind, count = element(given.dtype)
        return self._begin(
            f"broadcast from {self._name(root)} of {given}",
            [given, kept],
            lambda comm, stream: nccl().broadcast(
                given.address, kept.address, given.size * count, kind, root, comm, stream
            ),
        )

    def all_gather(self, given: Block, kept: Block) -> Work:
        """`kept` becomes all ranks' `given`, in the order of ranks."""
        kind, count = element(given.dtype)
        return self._begin(
            f"all_gather of {given}",
            [given, kept],
            lambda comm, stream: nccl().all_gather(
                given.address, kept.address, given.size * count, kind, comm, stream
            ),
        )

    def reduce_scatter(self, given: Block, kept: Block, reduction: str) -> Work:
        """`kept` becomes this rank's part of the reduction of all ranks' `given`."""
        kind, count, op = reduced(reduction, given.dtype)
        return self._begin(
            f"reduce_scatter({reduction}) of {given}",
            [given, kept],
            lambda comm, stream: nccl().reduce_scatter(
                given.address, kept.address, kept.size * count, kind, op, comm, stream
            ),
        )

    def reduce_each(self, given: Sequence[Block], kept: Block, reduction: str) -> Work:
        """`kept` becomes the reduction of what all ranks give for this one."""
        kind, count, op = reduced(reduction, kept.dtype)

        def enqueue(comm: Any, stream: int) -> None:
            for root, block in enumerate(given):
                nccl().reduce(
                    block.address, kept.address, block.size * count, kind, op, root, comm, stream
                )

        return self._begin(
            f"reduce_scatter({reduction}) of {kept}", [*given, kept], _grouped(enqueue)
        )

    def exchange(self, what: str, messages: Sequence[Message]) -> Work:
        """Send and receive, all at once; every rank of the group calls it. A rank may send to
        itself."""
        return self._begin(what, [m.block for m in messages], _grouped(_each(messages)))

    def batch(self, messages: Sequence[Message]) -> Work:
        """Send and receive, all at once; only those who have messages call it."""
        return self._begin(
            f"batch of {', '.join(map(str, messages))}",
            [m.block for m in messages],
            _grouped(_each(messages)),
            messages=messages,
        )

    def message(self, message: Message) -> Work:
        """One message."""
        place = int(message.peer > self.communicator.rank)
        work = self._begin(
            str(message),
            [message.block],
            _each([message], place),
            pair=message.peer,
            messages=[message],
        )
        work.source = message.peer
        return work

    def order(self, work: Work) -> None:
        """Have what comes next on the current stream wait for an operation."""
        request = work.request
        if isinstance(request, _Reached):
            request.precede()

    # How they begin -------------------------------------------------------------------------------

    def _name(self, rank: int) -> int:
        return self.communicator.ranks[rank]

    def _begin(
        self,
        what: str,
        blocks: Sequence[Block],
        enqueue: Callable[[Any, int], Any],
        pair: int | None = None,
        messages: Sequence[Message] | None = None,
    ) -> Work:
        """Enqueue an operation.

        Raises: DistBackendError if a rank that it needs is gone, or NCCL refuses it.
        """
        communicator, progress = self.communicator, self.communicator.progress
        device = self._device_of(what, blocks)
        ranks, number = communicator.ranks, -1
        if messages is not None:
            ranks, number = tuple({self._name(m.peer) for m in messages}), 0
        work = Work(progress, what, communicator.number, number, ranks, communicator.timeout)
        with self._lock:
            if self._is_over:
                raise DistBackendError(
                    f"[{what}] an earlier operation of the group has failed, which ended it"
                )
            comm = self._handle(device, pair)
            work.abandon = self.abort
            progress.begin(work, lambda: None)
            stream = device.stream.handle
            error: BaseException | None = None
            try:
                with device.active():
                    enqueue(comm, 0 if stream is None else int(stream.handle))
                    event = driver().Event(driver().event_flags.DISABLE_TIMING)
                    event.record(stream)
            except (nccl().NCCLError, driver().Error) as raised:
                error = raised
            with progress.lock:
                if error is not None and work.error is None:
                    text = f"[{what}] NCCL refuses it: {told(error, comm)}"
                    progress.fail(work, DistBackendError(text))
                if work.error is not None:
                    raise work.error
                work.request = _Reached(device, device.stream, event, pair)
            device.failures.append(lambda: work.error)
            # Memory that is freed goes to work behind this on its own stream, which may be another.
            others = [b.storage for b in blocks if b.storage.stream is not device.stream]
            self._flying = [each for each in self._flying if not each[0].done]
            self._flying.append((work, event, others))
        return work

    def _device_of(self, what: str, blocks: Sequence[Block]) -> CudaDevice:
        device = blocks[0].storage.device
        for other in {block.storage.device for block in blocks}:
            if other is not device or self.device not in (None, device):
                expected = (self.device or device).name
                raise ValueError(
                    f"[{what}] a rank's tensors must all be on one GPU, {expected}, given one on "
                    f"{other.name if other.name != expected else device.name}"
                )
        return device

    # Communicators --------------------------------------------------------------------------------

    def connect(self, device: CudaDevice) -> None:
        """Make the communicator of all ranks, with this GPU of this one."""
        with self._lock:
            self._handle(device, None)

    def _handle(self, device: CudaDevice, pair: int | None) -> Any:
        self.device = device
        if pair not in self._handles:
            rows = self._met(device) if pair is None else self._met_one(device, pair)
            place = self.communicator.rank if pair is None else int(self.communicator.rank > pair)
            unique = nccl().UniqueId.from_buffer(rows[0, :_ID_BYTES].tobytes())
            with device.active():
                try:
                    self._handles[pair] = nccl().comm_init_rank(len(rows), unique, place)
                except nccl().NCCLError as error:
                    raise DistBackendError(
                        f"NCCL cannot connect rank {self._name(self.communicator.rank)} on "
                        f"{device.name} with the others: {told(error)}"
                    ) from None
        return self._handles[pair]

    def _own(self, device: CudaDevice, is_first: bool) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """What ranks tell each other: an identifier, if it is this rank's to make, and which GPU
        it has, by its place on the bus of its host."""
        row = np.zeros(2 * _ID_BYTES, np.uint8)
        if is_first:
            made = np.frombuffer(bytes(nccl().get_unique_id()), np.uint8)
            row[: made.size] = made
        bus = f"{Process.own().host.split()[0]} {device.raw.pci_bus_id()}".encode()[-_ID_BYTES:]
        row[_ID_BYTES : _ID_BYTES + len(bus)] = np.frombuffer(bus, np.uint8)
        return row

    def _met(self, device: CudaDevice) -> np.ndarray[Any, np.dtype[np.uint8]]:
        own = self._own(device, self.communicator.rank == 0)
        rows = np.empty((self.communicator.size, own.size), np.uint8)
        self.communicator.all_gather(own, rows).wait()
        return self._checked(rows, self.communicator.ranks)

    def _met_one(self, device: CudaDevice, peer: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        rank = self.communicator.rank
        rows = np.stack([self._own(device, rank < peer)] * 2)
        place = int(rank > peer)
        sending = self.communicator.send(rows[place].copy(), peer, _PAIR)
        self.communicator.receive(rows[1 - place], peer, _PAIR).wait()
        sending.wait()
        return self._checked(rows, [self._name(min(rank, peer)), self._name(max(rank, peer))])

    def _checked(
        self, rows: np.ndarray[Any, np.dtype[np.uint8]], ranks: Sequence[int]
    ) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Raises: ValueError if two ranks have the same GPU."""
        seen: dict[bytes, int] = {}
        for rank, row in zip(ranks, rows, strict=True):
            bus = row[_ID_BYTES:].tobytes().rstrip(b"\0")
            if bus in seen:
                raise ValueError(
                    f"Duplicate GPU detected: rank {seen[bus]} and rank {rank} both use the GPU "
                    f"{bus.decode()}; give each its own, braze.cuda.set_device(local_rank)"
                )
            seen[bus] = rank
        return rows

    def abort(self) -> None:
        """Give up: what is enqueued ends without its results."""
        self._is_over = True
        handles, self._handles = self._handles, {}
        for handle in handles.values():
            try:
                nccl().comm_abort(handle)
            except nccl().NCCLError:
                pass  # nothing more can be done for it

    def finish(self) -> None:
        """Wait until what is enqueued is done, or has failed."""
        for work, _, _ in self._flying:
            self.communicator.progress.wait(work)
        self._flying = []

    def close(self) -> None:
        """Let go of the communicators, once all ranks have finished."""
        self.abort()


class _Reached:
    """A request as `Progress` asks it: done once the GPU has got to an event."""

    def __init__(
        self, device: CudaDevice, stream: Stream, event: Any, source: int | None
    ) -> None:
        self._device, self._stream, self._event, self._source = device, stream, event, source

    def precede(self) -> None:
        """Come before what is enqueued next, if that is on another stream."""
        if self._device.stream is not self._stream:
            with self._device.active():
                wait_for(self._device.stream, self._event)

    def Test(self, status: Any) -> bool:
        """Whether it is done.  Raises: OSError if the GPU has failed."""
        try:
            with self._device.active():
                done = bool(self._event.query())
        except driver().Error as error:
            raise OSError(str(error)) from None
        if self._source is not None:
            status.Set_source(self._source)
        return done


def _each(messages: Sequence[Message], place: int | None = None) -> Callable[[Any, int], None]:
    """Calls for messages; `place`: the peer's in a communicator of a pair."""

    def enqueue(comm: Any, stream: int) -> None:
        for message in messages:
            block = message.block
            kind, count = element(block.dtype)
            call = nccl().send if message.is_sent else nccl().recv
            peer = message.peer if place is None else place
            call(block.address, block.size * count, kind, peer, comm, stream)

    return enqueue


def _grouped(enqueue: Callable[[Any, int], Any]) -> Callable[[Any, int], None]:
    """As one operation of NCCL's."""

    def together(comm: Any, stream: int) -> None:
        nccl().group_start()
        try:
            enqueue(comm, stream)
        finally:
            nccl().group_end()

    return together
