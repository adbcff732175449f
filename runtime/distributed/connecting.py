"""NCCL's communicators of one group of ranks.

In: a GPU, and for a single message the other rank.  Out: a communicator, made when it is first
asked for, by all ranks of the group or by both of the pair. They tell each other by MPI which GPU
each has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.runtime.cuda.devices import CudaDevice
from braze.runtime.distributed.communicator import Communicator
from braze.runtime.distributed.errors import DistBackendError
from braze.runtime.distributed.nccl import nccl, told
from braze.runtime.distributed.watch import Process

# Of the MPI messages by which two ranks agree on a communicator of their own.
_PAIR = 1 << 14
_ID_BYTES = 128


class Connections:
    """The communicators of a group, as one of its ranks has them.

    Attributes:
        device: this rank's GPU, once there is a communicator.
    """

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self.device: CudaDevice | None = None
        self._handles: dict[int | None, Any] = {}  # by the peer of a pair

    def between(self, device: CudaDevice, pair: int | None) -> Any:
        """The communicator of all ranks, or with one other.

        Raises: DistBackendError, ValueError, they cannot be connected.
        """
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

    def abort(self) -> None:
        """Give up: what is enqueued ends without its results."""
        handles, self._handles = self._handles, {}
        for handle in handles.values():
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
