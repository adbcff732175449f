"""The thread pool of this process: native workers that run the chunks of a parallel region.

In: a number of threads and the pool's object code.  Out: a `Pool`, whose `address` compiled graphs
take as their `pool` argument.

The workers are plain pthreads that never touch the interpreter, so they need no GIL; the protocol
between them is the native code's (`braze.codegen.llvm.pool`), of which this module knows only the
exported functions.  A pool's memory and code are never unmapped: a graph that still runs when its
pool is stopped or replaced finishes on the calling thread alone.  After a fork the child, which
has no workers, starts fresh pools when it first needs them.
"""

import atexit
import ctypes
import mmap
import os
import threading
import time
from collections.abc import Callable

from braze.runtime.config import default_num_threads
from braze.runtime.libc import libc, libc_address, map_anonymous, signals_blocked
from braze.runtime.object_loader import LoadedObject

_MOST_THREADS = 4096
# An idle thread looks for work for so long before it sleeps. Waking it takes tens of microseconds,
# and as many pass between two graphs of an eager program that run one operation each.
_PATIENCE_NANOSECONDS = 100_000
# With more threads than processors, spinning keeps from work the very thread it waits for.
_OVERSUBSCRIBED_PATIENCE_NANOSECONDS = 1_000

# Enough for the clock's rate to 1 %, which is all that patience needs.
_MEASURED_NANOSECONDS = 20_000

_POINTER, _I64 = ctypes.c_void_p, ctypes.c_int64


class PoolCode:
    """The pool's object code in memory, with its functions.  Kept for the life of the process."""

    def __init__(self, object_bytes: bytes) -> None:
        self._object = LoadedObject(object_bytes)

        def function(name: str, result: type | None, *arguments: type) -> Callable[..., int]:
            return ctypes.CFUNCTYPE(result, *arguments)(self._object.address(name))

        self.size = function("braze_pool_size", _I64, _I64)
        self.initialise = function("braze_pool_initialise", None, _POINTER, _I64, _POINTER, _I64)
        self.slot = function("braze_pool_slot", _POINTER, _POINTER, _I64)
        self.stop = function("braze_pool_stop", None, _POINTER)
        self.parallel = function("braze_parallel", None, _POINTER, _POINTER, _POINTER, _I64)
        self.worker_address = self._object.address("braze_worker")
        self.ticks = function("braze_ticks", _I64)
        self.ticks_per_nanosecond = self._measure()

    def _measure(self) -> float:
        """The rate of the clock: some ticks over some time."""
        ticks, start = self.clocks(5)
        while time.perf_counter_ns() - start < _MEASURED_NANOSECONDS:
            pass
        more, end = self.clocks(5)
        return (more - ticks) / (end - start)

    def clocks(self, tries: int) -> tuple[int, int]:
        """The processor's clock in ticks and Python's in nanoseconds, at one moment: the closest
        of some tries, in case the system does something else in between."""

        def read() -> tuple[int, int, int]:
            before = time.perf_counter_ns()
            ticks = self.ticks()
            after = time.perf_counter_ns()
            return after - before, ticks, (before + after) // 2

        _, ticks, at = min(read() for _ in range(tries))
        return ticks, at


class Pool:
    """`threads` threads, the caller of a parallel region among them.

    address: the pool as native code sees it; its first word points to the `parallel` function.
    Raises: ValueError for a bad number; RuntimeError if the system starts no more threads.
    """

    def __init__(self, threads: int, code: PoolCode) -> None:
        if not 1 <= threads <= _MOST_THREADS:
            raise ValueError(f"[pool] {threads} threads: expected 1 to {_MOST_THREADS}")
        self.threads = threads
        self._code = code
        self._workers: list[ctypes.c_ulong] = []
        # Zeroed, private to this process (a child must not share it), and never unmapped.
        size = code.size(threads)
        self.address = map_anonymous((size + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE)
        self.running = False
        self.start()

    def start(self) -> None:
        """Start the workers, unless they run."""
        if self.running:
            return
        crowded = self.threads > len(os.sched_getaffinity(0))
        rest = _OVERSUBSCRIBED_PATIENCE_NANOSECONDS if crowded else _PATIENCE_NANOSECONDS
        patience = int(rest * self._code.ticks_per_nanosecond)
        self._code.initialise(self.address, self.threads, libc_address("syscall"), patience)
        self.running = True
        try:
            for index in range(1, self.threads):
                self._workers.append(self._start_worker(index))
        except BaseException:
            self.stop()
            raise

    def _start_worker(self, index: int) -> ctypes.c_ulong:
        thread = ctypes.c_ulong()
        slot = self._code.slot(self.address, index)
        # Workers inherit the mask: signals must go to Python's threads, to interrupt what they do.
        with signals_blocked():
            error = libc().pthread_create(
                ctypes.addressof(thread), None, self._code.worker_address, slot
            )
        if error:
            raise RuntimeError(f"[pool] cannot start worker {index}: {os.strerror(error)}")
        libc().pthread_setname_np(thread, f"braze-{index}".encode())
        return thread

    def stop(self) -> None:
        """End the workers once they are idle.  Parallel regions still work, on the caller alone."""
        if not self.running:
            return
        self._code.stop(self.address)
        for worker in self._workers:
            libc().pthread_join(worker, None)
        self.forget_workers()

    def forget_workers(self) -> None:
        """For a forked child: the workers are the parent's."""
        self._workers.clear()
        self.running = False

    def parallel(self, function: int, buffers: int, chunks: int) -> None:
        """Call ``function(buffers, chunk, thread)`` for each chunk, all addresses native."""
        self._code.parallel(self.address, function, buffers, chunks)


class _State:
    """The process's pools by number of threads, and others; the lock guards changes, not
    look-ups."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pools: dict[int, Pool] = {}
        self.others: list[Pool] = []
        self.code: PoolCode | None = None
        self.threads: int | None = None
        self.usual: Pool | None = None  # of `threads` threads, once it was asked for

    def loaded(self, compile: Callable[[], bytes]) -> PoolCode:
        """The code of all pools; the caller has the lock."""
        if self.code is None:
            self.code = PoolCode(compile())
        return self.code

    def after_fork(self) -> None:
        self.lock = threading.RLock()
        for pool in (*self.pools.values(), *self.others):
            pool.forget_workers()
        self.pools = {}
        self.others = []
        self.usual = None

    def stop_all(self, keep: int | None = None) -> None:
        with self.lock:
            for threads, pool in self.pools.items():
                if threads != keep:
                    pool.stop()
            for pool in self.others:
                pool.stop()


_state = _State()
os.register_at_fork(after_in_child=_state.after_fork)
atexit.register(_state.stop_all)


def get_num_threads() -> int:
    """How many threads compiled graphs use."""
    if _state.threads is None:
        _state.threads = default_num_threads()
    return _state.threads


def set_num_threads(threads: int) -> None:
    """Let compiled graphs use `threads` threads from their next call on.

    Results do not depend on it.  Raises: RuntimeError unless 1 <= threads <= 4096.
    """
    if not isinstance(threads, int):
        raise RuntimeError(f"set_num_threads expects an int, but got {type(threads).__name__}")
    if not 1 <= threads <= _MOST_THREADS:
        raise RuntimeError(f"[set_num_threads] {threads}: expected 1 to {_MOST_THREADS}")
    with _state.lock:
        _state.threads = threads
        _state.usual = None
        _state.stop_all(keep=threads)


def get_pool(threads: int | None = None, compile: Callable[[], bytes] | None = None) -> Pool:
    """The running pool of `threads` threads, by default `get_num_threads()`.

    compile: makes the pool's object code, called at most once in a process: from a package, from a
    cache.  Without it the code generator is loaded and used.
    """
    usual = threads is None
    if usual and (pool := _state.usual) is not None and pool.running:
        return pool
    threads = get_num_threads() if threads is None else threads
    pool = _state.pools.get(threads)
    if pool is not None and pool.running and not usual:
        return pool
    with _state.lock:
        code = _state.loaded(compile or _compile)
        pool = _state.pools.get(threads)
        if pool is None:
            pool = _state.pools[threads] = Pool(threads, code)
        pool.start()
        if usual and threads == _state.threads:
            _state.usual = pool
        return pool


def is_pool_loaded() -> bool:
    """Whether the pool's object code is there."""
    return _state.code is not None


def pool_code() -> PoolCode:
    """The code of all pools."""
    with _state.lock:
        return _state.loaded(_compile)


def new_pool(threads: int) -> Pool:
    """A pool beside those of `get_pool`, stopped."""
    with _state.lock:
        pool = Pool(threads, _state.loaded(_compile))
        _state.others.append(pool)
        return pool


def _compile() -> bytes:
    from braze.codegen.llvm.pool import pool_object
    from braze.runtime.cpu import host_target

    return pool_object(host_target())
