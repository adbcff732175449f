"""Memory of a GPU that another process has, too: CUDA's IPC handles.

In: a `DeviceStorage` of this process, or a handle from another.  Out: a handle to send, or a
`DeviceStorage` on the other's memory. Who allocated memory must keep it until nobody else has it
open (`braze.multiprocessing` sees to that).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from braze.runtime.cuda.devices import CudaDevice, cuda_device
from braze.runtime.cuda.driver import CudaError, driver, is_initialised
from braze.runtime.cuda.memory import DeviceStorage, allocated_bytes


class NotOwn(RuntimeError):
    """Memory that this process has from elsewhere cannot be sent on."""


def shared_handle(storage: DeviceStorage) -> bytes:
    """What another process opens memory by. Waits for the work on it, which others cannot see.

    Raises:
        NotOwn: another process or library allocated it.
        CudaError: the driver cannot share it. What a check of a program found that ran before.
    """
    giver = storage.giver
    if isinstance(giver, _Received):
        raise NotOwn(
            "Attempted to send CUDA tensor received from another process; this is not currently "
            "supported. Consider cloning before sending."
        )
    if giver is not None:
        raise NotOwn(
            "a CUDA tensor on memory of another library cannot be sent to a process. Consider "
            "cloning before sending."
        )
    storage.stream.synchronize()
    cuda = driver()
    with storage.device.active():
        try:
            return bytes(cuda.mem_get_ipc_handle(storage.address))
        except cuda.Error as error:
            raise CudaError(f"memory of {storage.place} cannot be shared: {error}") from None


class _Opened:
    """Another process's memory, open as long as anything here is on it."""

    def __init__(self, device: CudaDevice, handle: bytes) -> None:
        cuda = driver()
        flags = cuda.ipc_mem_flags.LAZY_ENABLE_PEER_ACCESS
        try:
            self._mapped = cuda.IPCMemoryHandle(bytearray(handle), flags)
        except cuda.Error as error:
            raise CudaError(
                f"memory of {device.name} that another process shared cannot be opened: {error}"
            ) from None
        self._device = device
        self.address = int(self._mapped)

    def __del__(self, _is_finalizing: Any = sys.is_finalizing) -> None:
        if hasattr(self, "_mapped") and not _is_finalizing() and is_initialised():
            with self._device.active():
                self._mapped.close()


# A driver opens each handle once in a process.
_opened: WeakValueDictionary[tuple[int, bytes], _Opened] = WeakValueDictionary()
_lock = threading.Lock()


class _Received:
    """Stands for the process that allocated the memory."""

    def __init__(self, device: CudaDevice, opened: _Opened, dropped: Callable[[], None]) -> None:
        self._device = device
        self._opened: _Opened | None = opened
        self._dropped = dropped

    def give_back(self) -> None:
        """Tell the other process, once nothing here works on the memory."""
        with self._device.active():
            self._device.context.synchronize()
        self._opened = None
        self._dropped()


def open_shared(
    device: int, handle: bytes, nbytes: int, dropped: Callable[[], None]
) -> DeviceStorage:
    """The memory of another process's `DeviceStorage`.

    Args:
        device: its number. dropped: called once it is not used here any more.

    Raises:
        CudaError: the other process has ended, or the device is not to be reached.
    """
    place = cuda_device(device)
    with _lock, place.active():
        opened = _opened.get((device, handle))
        if opened is None:
            opened = _opened[device, handle] = _Opened(place, handle)
    giver = _Received(place, opened, dropped)
    return DeviceStorage.foreign(place, opened.address, allocated_bytes(nbytes), giver)
