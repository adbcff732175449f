"""CUDA devices: their contexts, streams and memory pools.

In: a device's number.  Out: a `CudaDevice`, the same for all who ask.

A stream has a pool of its own, so that memory which is freed while kernels still use it is only
given to work that runs after them. The default stream is CUDA's null stream.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from braze.ir.target import GPU_NAMES, Target, gpu_target, named_target
from braze.runtime.cuda.driver import CudaError, driver
from braze.runtime.cuda.memory_stats import MemoryStats
from braze.runtime.cuda.nvcc import architectures

# With this set, memory goes back to the driver at once, where tools can see what is used after.
NO_CACHING = "BRAZE_NO_CUDA_MEMORY_CACHING"


class Stream:
    """A queue of work on one device; `handle` is PyCUDA's, or None for the null stream."""

    __slots__ = ("__weakref__", "device", "handle")

    def __init__(self, device: CudaDevice, handle: Any = None) -> None:
        self.device = device
        self.handle = handle

    @property
    def number(self) -> int:
        """The driver's handle, for calls that PyCUDA does not make; 0 for the null stream."""
        return 0 if self.handle is None else int(self.handle.handle)

    def synchronize(self) -> None:
        """Wait until all work is done, and raise what it reported.

        Raises:
            What a check of a program on this device found.
        """
        with self.device.active():
            if self.handle is None:
                self.device.context.synchronize()
            else:
                self.handle.synchronize()
        self.device.raise_failures()


class CudaDevice:
    """One GPU.

    Attributes:
        index: its number. name: "cuda:0".
        target: what code for it is made for.
        context: its primary context, PyCUDA's.
        default_stream: CUDA's null stream.
        stats: of its memory.
        lock: held while a program's launches are enqueued, which share an arena.
        failures: how to find out whether each program that could fail has.
    """

    def __init__(self, index: int) -> None:
        cuda = driver()
        if not 0 <= index < cuda.Device.count():
            raise CudaError(
                f"CUDA error: invalid device ordinal: cuda:{index}, this machine has "
                f"{cuda.Device.count()} CUDA device(s)"
            )
        self.index = index
        self.name = f"cuda:{index}"
        self.raw: Any = cuda.Device(index)
        self.context: Any = self.raw.retain_primary_context()
        self.capability: tuple[int, int] = tuple(self.raw.compute_capability())
        self.target = target_of(self.capability)
        self.default_stream = Stream(self)
        self.stats = MemoryStats()
        self.lock = threading.RLock()
        self.failures: list[Callable[[], BaseException | None]] = []
        self._current = threading.local()
        self._kept: list[tuple[Any, object]] = []  # until the events
        self._pools: WeakKeyDictionary[Stream, Any] = WeakKeyDictionary()
        self._arenas: WeakKeyDictionary[Stream, Any] = WeakKeyDictionary()

    @contextmanager
    def active(self) -> Iterator[None]:
        """A block in which this device's context is the calling thread's."""
        self.context.push()
        try:
            yield
        finally:
            self.context.pop()

    # Streams --------------------------------------------------------------------------------------

    @property
    def stream(self) -> Stream:
        """The calling thread's current stream."""
        found: Stream = getattr(self._current, "stream", self.default_stream)
        return found

    @stream.setter
    def stream(self, stream: Stream) -> None:
        self._current.stream = stream

    def new_stream(self) -> Stream:
        """Another queue, which does not wait for the others."""
        with self.active():
            return Stream(self, driver().Stream())

    def synchronize(self) -> None:
        """Wait for all streams, and raise what programs reported."""
        with self.active():
            self.context.synchronize()
        self.raise_failures()

    def raise_failures(self) -> None:
        """Raise the first failure of the programs that ran; a stream has just been waited for."""
        with self.lock:
            waiting, self.failures = self.failures, []
        for failure in waiting:
            error = failure()
            if error is not None:
                raise error

    def keep_until(self, event: Any, thing: object) -> None:
        """Keep something until an event has happened."""
        with self.lock:
            self._kept = [(e, t) for e, t in self._kept if not e.query()]
            self._kept.append((event, thing))

    # Memory ---------------------------------------------------------------------------------------

    def pool(self, stream: Stream) -> Any:
        """The pool of a stream's memory, or None if there are to be none; the context is active."""
        if os.environ.get(NO_CACHING):
            return None
        pool = self._pools.get(stream)
        if pool is None:
            tools: Any = importlib.import_module("pycuda.tools")
            pool = self._pools.setdefault(stream, tools.DeviceMemoryPool())
        return pool

    def pools(self) -> list[Any]:
        """All pools that there are."""
        return list(self._pools.values())

    def reserved_bytes(self) -> int:
        """Memory taken from the driver."""
        return sum(int(pool.managed_bytes) for pool in self.pools()) + self.stats.unpooled

    def empty_cache(self) -> None:
        """Give memory that nothing uses back to the driver."""
        with self.lock, self.active():
            self._arenas.clear()
            for pool in self.pools():
                pool.free_held()

    def arena(self, stream: Stream, nbytes: int) -> int:
        """The address of the block in which a stream's programs keep intermediate values."""
        from braze.runtime.cuda.memory import DeviceStorage

        arena = self._arenas.get(stream)
        if arena is None or arena.nbytes < nbytes:
            self._arenas.pop(stream, None)
            del arena
            arena = self._arenas[stream] = DeviceStorage.on(self, nbytes, stream)
        return int(arena.address)

    def properties(self) -> dict[str, int]:
        """The driver's attributes by name, in lower case."""
        return {str(key).lower(): value for key, value in self.raw.get_attributes().items()}


def target_of(capability: tuple[int, int]) -> Target:
    """The target whose code a GPU runs: of its own compute capability, or, where nvcc makes no code
    for that, the next lower one of the same major number, since others cannot be loaded.

    Raises:
        CudaError: the GPU is older than all that code can be made for, or newer than nvcc.
    """
    number = 10 * capability[0] + capability[1]
    said = f"a GPU of compute capability {capability[0]}.{capability[1]}"
    known = [named_target(name).capability for name in GPU_NAMES]
    if number < min(known):
        raise CudaError(
            f"{said} is older than the oldest that code can be made for, "
            f"{min(known) // 10}.{min(known) % 10}"
        )
    if number in known:
        return gpu_target(number)
    made = architectures()
    if made is None or number in made:
        return gpu_target(number)
    fitting = [n for n in made if n <= number and n // 10 == number // 10]
    if not fitting:
        raise CudaError(f"{said} needs a newer nvcc: this one makes code up to sm_{max(made)}")
    return gpu_target(max(fitting))


_devices: dict[int, CudaDevice] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _devices.clear()


os.register_at_fork(after_in_child=_after_fork)


def cuda_device(index: int) -> CudaDevice:
    """The device of a number.  Raises: CudaError."""
    found = _devices.get(index)
    if found is None:
        with _lock:
            found = _devices.get(index)
            if found is None:
                found = _devices[index] = CudaDevice(index)
    return found


def device_named(name: str) -> CudaDevice:
    """The device called "cuda:N"."""
    return cuda_device(int(name.partition(":")[2]))


def devices_in_use() -> list[CudaDevice]:
    """Those that anything has run or been stored on."""
    return list(_devices.values())
