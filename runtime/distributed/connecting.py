"""NCCL's communicators of one group of ranks.

In: a GPU, and for a single message the other rank.  Out: a communicator, made when it is first
asked for, by all ranks of the group or by both of the pair. They tell each other by MPI which GPU
each has. No call of NCCL waits for other ranks: the watch finds out if one does not come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braze.runtime.cuda.devices import CudaDevice
from braze.runtime.distributed.communicator import Communicator
from braze.runtime.distributed.errors import DistBackendError
from braze.runtime.distributed.nccl import is_under_way, nccl, require_sound, told
from braze.runtime.distributed.progress import Work
from braze.runtime.distributed.tags import for_pairs
from braze.runtime.distributed.watch import Process

_WHAT = "connecting GPUs"
_ID_BYTES = 128


class Connections:
    """The communicators of a group, as one of its ranks has them.

    Args:
        give_up: called where one cannot be made; calls `abort`.

    Attributes:
        device: this rank's GPU, once there is a communicator.
    """

    def __init__(self, communicator: Communicator, give_up: Callable[[], None]) -> None:
        self.communicator = communicator
        self._give_up = give_up
        self.device: CudaDevice | None = None
        self._handles: dict[int | None, Any] = {}  # by the peer of a pair
        self._begun: list[Any] = []  # some may not be connected

    def between(self, device: CudaDevice, pair: int | None) -> Any:
        """The communicator of all ranks, or with one other.

        Raises: DistBackendError, ValueError, they cannot be connected.
        """
        self.device = device
        if pair not in self._handles:
            rows = self._met(device) if pair is None else self._met_one(device, pair)
            place = self.communicator.rank if pair is None else int(self.communicator.rank > pair)
            unique = nccl().UniqueId.from_buffer(rows[0, :_ID_BYTES].tobytes())
            self._handles[pair] = self._connected(device, pair, len(rows), unique, place)
        return self._handles[pair]

    def _connected(
        self, device: CudaDevice, pair: int | None, count: int, unique: Any, place: int
    ) -> Any:
        """A communicator that the other ranks have, too."""
        communicator, progress = self.communicator, self.communicator.progress
        ranks = communicator.ranks if pair is None else (self._name(pair),)
        number = -1 if pair is None else 0
        work = Work(progress, _WHAT, communicator.number, number, ranks, communicator.timeout)
        work.abandon = self._give_up
        config = nccl().Config()
        config.blocking = 0
        progress.begin(work, lambda: None)
        refused = f"NCCL cannot connect rank {self._name(communicator.rank)} on {device.name}"
        with progress.lock:
            if work.error is None:
                try:
                    with device.active():
                        handle = nccl().comm_init_rank_config(count, unique, place, config)
                    self._begun.append(handle)
                    work.request = _Connecting(handle, refused)
                except nccl().NCCLError as error:
                    text = f"{refused} with the others: {told(error)}"
                    progress.fail(work, DistBackendError(text))
        work.wait()
        return handle

    def abort(self) -> None:
        """Give up: what is enqueued ends without its results."""
        handles, self._begun, self._handles = self._begun, [], {}
        for handle in handles:
            try:
                nccl().comm_abort(handle)
            except nccl().NCCLError:
                pass  # nothing more can be done for it

    def _name(self, rank: int) -> int:
        return self.communicator.ranks[rank]

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
        sending = self.communicator.send(rows[place].copy(), peer, for_pairs())
        self.communicator.receive(rows[1 - place], peer, for_pairs()).wait()
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


class _Connecting:
    """A request as `Progress` asks it: done once a communicator can be used."""

    def __init__(self, handle: Any, refused: str) -> None:
        self._handle, self._refused = handle, refused

    def Test(self, status: Any) -> bool:
        """Raises: OSError if a rank may be gone, DistBackendError if NCCL cannot do it."""
        require_sound(self._handle, f"{self._refused} with the others")
        return not is_under_way(self._handle)
