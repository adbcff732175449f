"""What the machine can do: arithmetic and memory bandwidth, measured by loops of LLVM IR.

In: threads, seconds for each figure, size of the buffers.  Out: GFLOP/s of fused multiply-adds from
registers, on one and on all threads, and GB/s of copying (bytes read plus bytes written), with
ordinary and with streaming stores, and of reading. Best of several rounds.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from braze.runtime.cpu import host_target
from braze.runtime.object_loader import LoadedObject
from braze.runtime.pool import get_num_threads

# More independent chains than any core's latency times its FMA units, less than its registers.
CHAINS = {16: 12, 32: 20}
TURNS = 2_000_000  # some ten milliseconds: starting the threads must not count
QUICK_SECONDS, QUICK_MEBIBYTES = 0.03, 64  # of each figure of `machine_limits`


@dataclass(frozen=True, slots=True)
class Limits:
    """What kernels are measured against, of all threads together.

    Attributes:
        threads: how many.
        flops: fused multiply-adds of 32-bit floats a second, counted twice.
        bytes: bytes read and written a second by copying, with the better kind of store.
    """

    threads: int
    flops: float
    bytes: float


def machine_limits() -> Limits:
    """This machine's, with the threads that compiled graphs use; measured once in a process, in
    about half a second."""
    return _limits_of(get_num_threads())


@functools.cache
def _limits_of(threads: int) -> Limits:
    figures = measure(threads, QUICK_SECONDS, QUICK_MEBIBYTES)
    copy = max(figures["copy"], figures["copy_streaming"])
    return Limits(threads, figures["fma_f32_all"] * 1e9, copy * 1e9)


def native(text: str, name: str, *types: Any) -> Any:
    """A function of a module in LLVM IR, made for this processor; it is called without the GIL."""
    from braze.codegen.llvm.compile import compile_object

    loaded = LoadedObject(compile_object(text, host_target()))
    function = ctypes.CFUNCTYPE(None, *types)(loaded.address(name))
    function.kept = loaded  # type: ignore[attr-defined]
    return function


def aligned(nbytes: int, value: float) -> np.ndarray:
    """Bytes at a page boundary, all of them written, so that the pages are there."""
    memory = np.empty(nbytes + 4096, np.uint8)
    start = -memory.ctypes.data % 4096
    array = memory[start : start + nbytes]
    array.view(np.float32)[:] = value
    return array


class Clock:
    """Times a native call made on several threads at once."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads)

    def seconds(self, call: Callable[[int], None], threads: int) -> float:
        """From the start of the first to the end of the last of ``call(0)``, ``call(1)``, ..."""
        if threads == 1:
            begin = time.perf_counter()
            call(0)
            return time.perf_counter() - begin
        begin = time.perf_counter()
        list(self._pool.map(call, range(threads)))
        return time.perf_counter() - begin


def best(call: Callable[[int], None], threads: int, clock: Clock, seconds: float) -> float:
    """The shortest of repeated calls, for about `seconds`, three at least."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        times.append(clock.seconds(call, threads))
    return min(times)


def measure(threads: int, seconds: float, mebibytes: int) -> dict[str, float]:
    """All limits. Each buffer of the memory loops has `mebibytes`; there are two."""
    from braze.codegen.llvm.limit_loops import UNROLL, fma_text, memory_text

    target, clock = host_target(), Clock(threads)
    figures: dict[str, float] = {}
    chains = CHAINS[min(32, max(16, target.vector_registers))]
    for dtype, element, size in (("f32", "float", 4), ("f64", "double", 8)):
        lanes = target.vector_lanes(size)
        text = fma_text(element, lanes, chains)
        function = native(text, "fma", ctypes.c_void_p, ctypes.c_int64)
        starts = [aligned(4096, 0.0) for _ in range(threads)]

        def run(thread: int, function: Any = function, starts: Any = starts) -> None:
            function(starts[thread].ctypes.data, TURNS)

        for label, used in (("1", 1), ("all", threads)):
            flops = 2.0 * lanes * chains * TURNS * used
            figures[f"fma_{dtype}_{label}"] = flops / best(run, used, clock, seconds) / 1e9
    lanes = target.vector_lanes(4)
    turn = UNROLL * 4 * lanes
    part = mebibytes * 2**20 // threads // turn * turn
    to, source = aligned(part * threads, 1.0), aligned(part * threads, 1.0)
    for what in ("copy", "copy_streaming", "read"):
        types = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        function = native(memory_text(what, lanes), what, *types)

        def move(thread: int, function: Any = function) -> None:
            at = thread * part
            function(to.ctypes.data + at, source.ctypes.data + at, part)

        moved = part * threads * (1 if what == "read" else 2)
        figures[what] = moved / best(move, threads, clock, seconds) / 1e9
    return figures
