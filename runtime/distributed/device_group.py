"""The collectives and messages of one group of ranks, on memory of their GPUs, by NCCL.

In: `Block`s of device memory.  Out: `Work`, which is done once the GPU is. Nothing is copied, and
nobody waits: an operation is enqueued on the device's current stream, behind what computes its
operands and before what uses its results; or, as the collectives of compiled programs, on a stream
of the group's beside it. MPI says who takes part, and its watch who is gone; the
operations that lack somebody are aborted, and their error is raised by the next call of the group
or the next wait for the device.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braze.runtime.cuda.block import Block
from braze.runtime.cuda.devices import CudaDevice, Stream
from braze.runtime.cuda.driver import CudaError, driver
from braze.runtime.cuda.events import Event
from braze.runtime.cuda.memory import DeviceStorage
from braze.runtime.distributed.communicator import Communicator
from braze.runtime.distributed.connecting import Connections
from braze.runtime.distributed.errors import DistBackendError
from braze.runtime.distributed.nccl import element, is_under_way, nccl, reduced, told
from braze.runtime.distributed.progress import Work
from braze.runtime.distributed.reached import Reached, Stopwatch
from braze.runtime.observing import observing

_NON_BLOCKING = 1  # CUDA driver API, `CUstream_flags`
# Seconds between two looks at how far NCCL is: at first, and at most.
_SHORT_NAP, _LONG_NAP = 5e-6, 1e-3


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
        self._lock = threading.RLock()  # operations are enqueued in the order of their numbers
        self._connections = Connections(communicator, self.abort)
        self._streams: dict[str, Stream] = {}  # beside the program's, by what they are for
        self._latest: dict[int | None, Event] = {}  # behind an operation, by the peer of a pair
        # What is under way, with its event and memory, which must not end in another thread.
        self._flying: list[tuple[Work, Event, list[DeviceStorage]]] = []
        self._is_over = False  # after an operation that was given up
        communicator.devices = self

    # Operations -----------------------------------------------------------------------------------

    def check(self, reduction: str, dtype: np.dtype[Any]) -> None:
        """Raises: TypeError, ValueError if there is no such reduction of elements of this dtype."""
        reduced(reduction, dtype)

    def check_device(self, what: str, name: str) -> None:
        """Raises: ValueError if tensors of the GPU of this name are not for this group."""
        known = self._connections.device
        if known is not None and known.name != name:
            raise ValueError(
                f"[{what}] a rank's tensors must all be on one GPU, {known.name}, given one on "
                f"{name}"
            )

    def collective(
        self,
        kind: str,
        given: Block,
        kept: Block,
        reduction: str = "sum",
        root: int = 0,
        *,
        is_beside: bool = False,
    ) -> Work:
        """`kept` becomes what a collective makes of all ranks' `given`, which may be the same.

        Args:
            kind: of `braze.ir.collectives.KINDS`.
            root: a rank of the group.
            is_beside: what the current stream is given later does not wait for it, but for `order`.
        """
        op = 0
        if kind in ("all_reduce", "reduce", "reduce_scatter"):
            type, count, op = reduced(reduction, given.dtype)
        else:
            type, count = element(given.dtype)
        size = (kept if kind == "reduce_scatter" else given).size * count
        places = given.address, kept.address, size, type
        what, call, how = {
            "all_reduce": (f"all_reduce({reduction})", nccl().all_reduce, (op,)),
            "reduce": (f"reduce({reduction}) to {self._name(root)}", nccl().reduce, (op, root)),
            "broadcast": (f"broadcast from {self._name(root)}", nccl().broadcast, (root,)),
            "all_gather": ("all_gather", nccl().all_gather, ()),
            "reduce_scatter": (f"reduce_scatter({reduction})", nccl().reduce_scatter, (op,)),
        }[kind]
        return self._begin(
            f"{what} of {given}",
            [given, kept],
            lambda comm, stream: call(*places, *how, comm, stream),
            is_beside=is_beside,
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
        """Have what comes next on the current stream wait for an operation.

        Raises: DistBackendError, it has failed.
        """
        if work.error is not None:
            raise work.error.with_traceback(None)
        if work.precede is not None:  # whether it is done already or not
            work.precede()

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
        *,
        is_beside: bool = False,
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
            self.require_open(what)
            comm = self._connected(device, pair)
            work.abandon = self.abort
            progress.begin(work, lambda: None)
            stream = self._stream(device, "operations") if is_beside else device.stream
            error: BaseException | None = None
            try:
                with device.active():
                    if is_beside:
                        Event(device.stream).precede(stream)
                    if pair in self._latest:  # NCCL's order is that of the calls
                        self._latest[pair].precede(stream)
                    watch = self._stopwatch(device, stream)
                    self._call(work, lambda: enqueue(comm, stream.number), comm)
                    if watch is not None:
                        watch.stop()
                    event = self._latest[pair] = Event(stream)
            except (nccl().NCCLError, driver().Error, CudaError) as raised:
                error = raised
            with progress.lock:
                if error is not None and work.error is None:
                    text = f"[{what}] NCCL refuses it: {told(error, comm)}"
                    progress.fail(work, DistBackendError(text))
                if work.error is not None:
                    raise work.error
                work.request = reached = Reached(self, device, event, comm, what, pair, watch)
                work.precede = reached.precede
            device.failures.append(lambda: self._failure(device, work))
            # Memory that is freed goes to work behind this on its own stream, which may be another.
            storages = [block.storage for block in blocks if block.storage is not None]
            others = [storage for storage in storages if storage.stream is not stream]
            self._flying = [each for each in self._flying if not each[0].done]
            self._flying.append((work, event, others))
        return work

    def _call(self, work: Work, enqueue: Callable[[], Any], comm: Any) -> None:
        """Call NCCL, and see to it that what it enqueues is there; less if the work fails."""
        progress, nap = work.progress, _SHORT_NAP
        with progress.lock:  # nobody gives up the communicator meanwhile
            if work.error is not None:
                return
            enqueue()
        while True:
            with progress.lock:
                if work.error is not None or not is_under_way(comm):
                    return
            progress.look()
            time.sleep(nap)
            nap = min(nap * 1.5, _LONG_NAP)

    def _failure(self, device: CudaDevice, work: Work) -> BaseException | None:
        """Why an operation has failed, once it is known."""
        if not work.done:
            work.progress.look()
        if not work.done and work.request is None:  # it has, and it is asked who is to blame
            work.progress.wait(work)
        if not work.done:
            device.failures.append(lambda: self._failure(device, work))
        return work.error

    def _stream(self, device: CudaDevice, purpose: str) -> Stream:
        """One that does not keep order with the null stream."""
        if purpose not in self._streams:
            with device.active():
                self._streams[purpose] = Stream(device, driver().Stream(_NON_BLOCKING))
        return self._streams[purpose]

    def _stopwatch(self, device: CudaDevice, stream: Stream) -> Stopwatch | None:
        """For who looks on."""
        if observing.observer is None:
            return None
        return Stopwatch(device, self._stream(device, "clock"), stream)

    def require_open(self, what: str) -> None:
        """Raises: DistBackendError after an operation that was given up."""
        if self._is_over:
            raise DistBackendError(
                f"[{what}] an earlier operation of the group has failed, which ended it"
            )

    def _device_of(self, what: str, blocks: Sequence[Block]) -> CudaDevice:
        device = blocks[0].device
        for other in (block.device for block in blocks):
            self.check_device(what, other.name)
            if other is not device:
                raise ValueError(
                    f"[{what}] a rank's tensors must all be on one GPU, {device.name}, given one "
                    f"on {other.name}"
                )
        return device

    # Their end ------------------------------------------------------------------------------------

    def connect(self, device: CudaDevice) -> None:
        """Make the communicator of all ranks, with this GPU of this one."""
        with self._lock:
            self._connected(device, None)

    def _connected(self, device: CudaDevice, pair: int | None) -> Any:
        """NCCL's communicator of all ranks, or with one other."""
        try:
            return self._connections.between(device, pair)
        except DistBackendError:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up: what is enqueued ends without its results."""
        self._is_over = True
        self._connections.abort()

    def finish(self) -> None:
        """Wait until what is enqueued is done, or has failed."""
        for work, _, _ in self._flying:
            self.communicator.progress.wait(work)
        self._flying = []

    def close(self) -> None:
        """Let go of the communicators, once all ranks have finished."""
        self.abort()


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
