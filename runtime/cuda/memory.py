"""Memory on a GPU for tensors, and copies between it and others.

In: a device and a number of bytes.  Out: a `DeviceStorage`, which is a `Storage` whose address only
the device can use.
"""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Any, Protocol
from weakref import ReferenceType, WeakSet, ref

import numpy as np
from numpy.typing import DTypeLike, NDArray

from braze.ir.cuda_program import ALIGNMENT
from braze.ir.dtypes import DType, bf16
from braze.runtime.cuda.devices import CudaDevice, Stream, cuda_device, device_named
from braze.runtime.cuda.driver import driver, is_initialised
from braze.runtime.storage import Storage

_WORD = 4  # bytes that an atomic change swaps
_LISTED = 8  # of the largest that were live when memory ran out


class OutOfMemoryError(RuntimeError):
    """A GPU has not as much memory as is wanted; the message says what it holds."""


def allocated_bytes(nbytes: int) -> int:
    """How many bytes are allocated for so many."""
    return max(nbytes + ALIGNMENT - 1 & -ALIGNMENT, ALIGNMENT)


class DeviceStorage(Storage):
    """`nbytes` bytes of uninitialised memory of a device, for work on one stream.

    Attributes:
        device: whose memory it is.
        stream: on which it may be used.
        label: what it holds, for people; "" if nobody said.
    """

    __slots__ = ("_allocation", "_loan", "_unpooled", "device", "label", "stream")

    device: CudaDevice
    stream: Stream
    label: object
    _allocation: Any
    _loan: ReferenceType[Loan] | None
    _unpooled: int

    def __init__(self, nbytes: int) -> None:
        raise TypeError("use DeviceStorage.on(device, nbytes)")

    @classmethod
    def on(
        cls, device: CudaDevice, nbytes: int, stream: Stream | None = None, label: object = ""
    ) -> DeviceStorage:
        """Memory of a device, for its current stream.

        Raises:
            OutOfMemoryError: there is not as much.
        """
        if nbytes < 0:
            raise ValueError(f"[storage] {nbytes} bytes")
        stream = device.stream if stream is None else stream
        capacity = allocated_bytes(nbytes)
        with device.active():
            pool = device.pool(stream)
            allocation = _allocate(device, pool, capacity)
            storage = cls._of(device, stream, nbytes, allocation, label)
            storage._unpooled = capacity if pool is None else 0
            device.stats.allocate(nbytes, device.reserved_bytes(), storage._unpooled)
        return storage

    @classmethod
    def _of(
        cls, device: CudaDevice, stream: Stream, nbytes: int, allocation: Any, label: object
    ) -> DeviceStorage:
        storage = object.__new__(cls)
        storage._owner = None  # of `Storage`, which has nothing to free
        storage.nbytes, storage.address = nbytes, int(allocation)
        storage.device, storage.stream, storage.label = device, stream, label
        storage._allocation = allocation
        storage._loan = None
        _live.add(storage)
        return storage

    @classmethod
    def foreign(
        cls, device: CudaDevice, address: int, nbytes: int, giver: _Giver
    ) -> DeviceStorage:
        """Memory of another library or process, which can reach it for as long as it is used here.

        Args:
            address: a multiple of `ALIGNMENT`.
            giver: is told when it is not used any more.
        """
        storage = cls._of(device, device.stream, nbytes, _Borrowed(address, giver), "foreign")
        storage._unpooled = 0
        device.stats.allocate(nbytes, device.reserved_bytes(), 0)
        return storage

    @staticmethod
    def is_shareable(address: int, nbytes: int) -> bool:
        """Whether kernels can work on memory where it is (see `braze.ir.cuda_program`)."""
        return address % ALIGNMENT == 0 and nbytes % _WORD == 0

    @classmethod
    def copied(cls, device: CudaDevice, address: int, nbytes: int) -> DeviceStorage:
        """A copy of foreign memory, made before anything else on the current stream."""
        own = cls.on(device, nbytes)
        with device.active():
            stream = device.stream.handle
            driver().memcpy_dtod_async(own.address, address, nbytes, stream=stream)
        device.stream.synchronize()  # whoever owns the memory may free it now
        return own

    def lend(self) -> Loan:
        """Leave for another library to use the memory, as long as it keeps the loan."""
        loan = self._loan() if self._loan is not None else None
        if loan is None:
            loan = Loan(self)
            self._loan = ref(loan)
        return loan

    @property
    def giver(self) -> _Giver | None:
        """Who allocated the memory, if it was not this process for itself."""
        return self._allocation.giver if isinstance(self._allocation, _Borrowed) else None

    @property
    def is_reachable(self) -> bool:
        """Whether another library may use the memory."""
        is_lent = self._loan is not None and self._loan() is not None
        return is_lent or isinstance(self._allocation, _Borrowed)

    def __del__(self, _is_finalizing: Any = sys.is_finalizing) -> None:  # type: ignore[override]
        if not _is_finalizing():
            self._free()

    def _free(self) -> None:
        allocation = getattr(self, "_allocation", None)
        if allocation is not None:
            self._allocation = None
            with self.device.active():  # a pool wants to know it when it begins to hold something
                allocation.free()
            self.device.stats.free(self.nbytes, self._unpooled)

    @property
    def place(self) -> str:
        """The device's name."""
        return self.device.name

    def array(
        self, dtype: DTypeLike, shape: tuple[int, ...] | int, offset: int = 0
    ) -> NDArray[Any]:
        """Never a view.

        Raises:
            TypeError: the host cannot reach this memory; see `to_host`.
        """
        raise TypeError(
            f"can't convert {self.place} device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )

    @property
    def __array_interface__(self) -> dict[str, Any]:
        raise AttributeError("memory of a GPU has no array interface")

    def number(self, dtype: DType) -> Any:
        """The first element as a Python number, once it is there."""
        host = np.empty(dtype.itemsize, np.uint8)
        _read(self, host)
        value = host.view(dtype.numpy)[0]
        return (value.astype(np.float32) if dtype is bf16 else value).item()

    def to_host(self) -> Storage:
        """A copy in the host's memory, made once all work on it is done."""
        host = Storage(self.nbytes)
        if self.nbytes:
            _read(self, np.asarray(host))
        else:
            self.stream.synchronize()
        return host

    def __repr__(self) -> str:
        return f"DeviceStorage({self.nbytes} bytes on {self.place} at {self.address:#x})"


class Loan:
    """Keeps memory that was lent."""

    def __init__(self, storage: DeviceStorage) -> None:
        self.storage = storage


class _Giver(Protocol):
    """The other library, or process."""

    def give_back(self) -> None:
        """Its memory is not used here any more."""


class _Borrowed:
    """Stands for an allocation of the giver's."""

    def __init__(self, address: int, giver: _Giver) -> None:
        self._address = address
        self.giver = giver

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self.giver.give_back()


_live: WeakSet[DeviceStorage] = WeakSet()


def _free_all() -> None:
    """At the end, while PyCUDA is still there: what it frees later finds no context, and aborts."""
    for storage in list(_live):
        if is_initialised():  # a forked child has none of it
            storage._free()


atexit.register(_free_all)


def _allocate(device: CudaDevice, pool: Any, capacity: int) -> Any:
    """Memory from a pool or the driver; the last resorts are what other pools hold and garbage."""
    cuda = driver()
    allocate = cuda.mem_alloc if pool is None else pool.allocate
    for resort in (None, device.empty_cache, gc.collect):
        if resort is not None:
            device.stats.retries += 1
            resort()
        try:
            return allocate(capacity)
        except cuda.MemoryError:
            continue
    device.stats.failures += 1
    free, total = cuda.mem_get_info()
    raise OutOfMemoryError(_shortage(device, capacity, free, total))


def _shortage(device: CudaDevice, wanted: int, free: int, total: int) -> str:
    live = sorted((s for s in _live if s.device is device), key=lambda s: -s.nbytes)
    lines = [
        f"CUDA out of memory. Tried to allocate {_size(wanted)}. GPU {device.index} has a total "
        f"capacity of {_size(total)} of which {_size(free)} is free. Of the memory in use "
        f"{_size(device.stats.allocated)} is allocated to {len(live)} values, the largest:"
    ]
    lines += [f"  {_size(s.nbytes):>12}  {str(s.label) or 'unknown'}" for s in live[:_LISTED]]
    return "\n".join(lines)


def _size(nbytes: int) -> str:
    for unit, scale in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if nbytes >= 1 << scale:
            return f"{nbytes / (1 << scale):.2f} {unit}"
    return f"{nbytes} bytes"


# Pinned memory ------------------------------------------------------------------------------------


def pinned_array(nbytes: int) -> NDArray[np.uint8]:
    """Bytes of the host that a GPU copies from and to by itself.

    Raises:
        CudaError: there is no GPU.
    """
    cuda = driver()
    if not nbytes:
        return np.empty(0, np.uint8)
    with cuda_device(0).active():
        found: NDArray[np.uint8] = cuda.pagelocked_empty(nbytes, np.uint8)
    return found


def is_pinned(array: NDArray[Any] | None) -> bool:
    """Whether an array lies in such memory."""
    if not is_initialised():
        return False
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, driver().PagelockedHostAllocation)


# Copies -------------------------------------------------------------------------------------------


def _read(storage: DeviceStorage, host: NDArray[Any]) -> None:
    """Copy as many bytes as an array has to it, behind the work of the storage's stream."""
    stream = storage.stream
    if storage.device.failures:  # if it was not computed, there may be nothing to read
        stream.synchronize()
    with storage.device.active():
        driver().memcpy_dtoh_async(host, storage.address, stream=stream.handle)
    stream.synchronize()


def new_storage(device: str, nbytes: int, label: object = "") -> Storage:
    """Memory on a device: "cpu" or "cuda:N"."""
    if device == "cpu":
        return Storage(nbytes)
    return DeviceStorage.on(device_named(device), nbytes, label=label)


def copy_storage(source: Storage, target: Storage) -> None:
    """Copy all bytes. What is copied to a GPU may be on its way still when this returns, which
    nobody can tell; what is copied to the host is there.

    Raises:
        What a check of a program that ran before found, if the copy waits for it.
    """
    if not source.nbytes:
        if isinstance(source, DeviceStorage) and not isinstance(target, DeviceStorage):
            source.stream.synchronize()
        return
    if isinstance(target, DeviceStorage):
        if isinstance(source, DeviceStorage):
            _between_devices(source, target)
        else:
            _to_device(source, target)
    elif isinstance(source, DeviceStorage):
        _read(source, np.asarray(target))
    else:
        np.copyto(np.asarray(target), np.asarray(source))


def _to_device(source: Storage, target: DeviceStorage) -> None:
    """The driver is done with ordinary memory when this returns; what is pinned is kept."""
    device, cuda = target.device, driver()
    with device.active():
        handle = device.stream.handle
        cuda.memcpy_htod_async(target.address, np.asarray(source), stream=handle)
        if is_pinned(source.owner):
            done = cuda.Event(cuda.event_flags.DISABLE_TIMING)
            device.keep_until(done.record(handle), source)


def _between_devices(source: DeviceStorage, target: DeviceStorage) -> None:
    cuda = driver()
    stream = target.device.stream
    if source.device is target.device:
        with target.device.active():
            cuda.memcpy_dtod_async(
                target.address, source.address, source.nbytes, stream=stream.handle
            )
        return
    # The source's work must be done before, and nothing may overwrite it until it was read.
    with source.device.active():
        done = cuda.Event(cuda.event_flags.DISABLE_TIMING)
        done.record(source.device.stream.handle)
    with target.device.active():
        wait_for(stream, done)
        cuda.memcpy_peer_async(
            target.address, source.address, source.nbytes,
            target.device.context, source.device.context, stream=stream.handle,
        )  # fmt: skip
        read = cuda.Event(cuda.event_flags.DISABLE_TIMING)
        read.record(stream.handle)
    with source.device.active():
        wait_for(source.device.stream, read)


def wait_for(stream: Stream, event: Any) -> None:
    """Have what a stream does from now on wait for an event; PyCUDA has no name for the null
    stream, so the host waits in its place."""
    if stream.handle is None:
        event.synchronize()
    else:
        stream.handle.wait_for_event(event)
