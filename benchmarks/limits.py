"""What the machine can do: arithmetic and memory bandwidth, from loops of LLVM IR.

``python -m benchmarks.limits THREADS SECONDS MEBIBYTES`` prints JSON: GFLOP/s of fused
multiply-adds from registers, on one and on all threads, and GB/s of copying (bytes read plus
bytes written), with ordinary and with streaming stores, and of reading. Best of several rounds.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

UNITS = {
    "fma_f32_1": "GFLOP/s", "fma_f32_all": "GFLOP/s", "fma_f64_1": "GFLOP/s",
    "fma_f64_all": "GFLOP/s", "copy": "GB/s", "copy_streaming": "GB/s", "read": "GB/s",
}  # fmt: skip
# More independent chains than any core's latency times its FMA units, less than its registers.
CHAINS = {16: 12, 32: 20}
TURNS = 2_000_000  # some ten milliseconds: starting the threads must not count
UNROLL = 8  # vectors in one turn of a memory loop


def fma_text(element: str, lanes: int, chains: int) -> str:
    """``fma(pointer, turns)``: `chains` accumulators of `lanes` lanes, one FMA each a turn."""
    vector = f"<{lanes} x {element}>"
    suffix = f"v{lanes}f{32 if element == 'float' else 64}"
    acc = [f"  %a{i} = phi {vector} [ %x, %entry ], [ %b{i}, %loop ]" for i in range(chains)]
    step = [
        f"  %b{i} = call {vector} @llvm.fma.{suffix}({vector} %a{i}, {vector} %x, {vector} %x)"
        for i in range(chains)
    ]
    total = [
        f"  %s{i + 1} = fadd {vector} %s{i}, %b{i + 1}" if i else f"  %s1 = fadd {vector} %b0, %b1"
        for i in range(chains - 1)
    ]
    return "\n".join(
        [
            f"declare {vector} @llvm.fma.{suffix}({vector}, {vector}, {vector})",
            "define void @fma(ptr %p, i64 %n) {",
            "entry:",
            f"  %x = load {vector}, ptr %p, align 64",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *acc,
            *step,
            "  %next = add i64 %i, 1",
            "  %more = icmp ult i64 %next, %n",
            "  br i1 %more, label %loop, label %end",
            "end:",
            *total,
            f"  store {vector} %s{chains - 1}, ptr %p, align 64",
            "  ret void",
            "}",
        ]
    )


def memory_text(what: str, lanes: int) -> str:
    """``copy``, ``copy_streaming`` or ``read``: f(to, from, bytes) over whole turns of vectors.

    Reading adds the vectors up, in as many sums as a turn has vectors.
    """
    vector, width = f"<{lanes} x float>", 4 * lanes
    reads = what == "read"
    sums, body, total = [], [], []
    for k in range(UNROLL):
        body.append(f"  %o{k} = add i64 %i, {k * width}")
        body.append(f"  %p{k} = getelementptr i8, ptr %from, i64 %o{k}")
        body.append(f"  %v{k} = load {vector}, ptr %p{k}, align {width}")
        if reads:
            sums.append(f"  %a{k} = phi {vector} [ zeroinitializer, %entry ], [ %b{k}, %loop ]")
            body.append(f"  %b{k} = fadd {vector} %a{k}, %v{k}")
            if k:
                before = "%b0" if k == 1 else f"%s{k - 1}"
                total.append(f"  %s{k} = fadd {vector} {before}, %b{k}")
        else:
            hint = ", !nontemporal !0" if what == "copy_streaming" else ""
            body.append(f"  %q{k} = getelementptr i8, ptr %to, i64 %o{k}")
            body.append(f"  store {vector} %v{k}, ptr %q{k}, align {width}{hint}")
    if reads:
        total.append(f"  store {vector} %s{UNROLL - 1}, ptr %to, align {width}")
    return "\n".join(
        [
            f"define void @{what}(ptr noalias %to, ptr noalias %from, i64 %n) {{",
            "entry:",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *sums,
            *body,
            f"  %next = add i64 %i, {UNROLL * width}",
            "  %more = icmp ult i64 %next, %n",
            "  br i1 %more, label %loop, label %end",
            "end:",
            *total,
            "  ret void",
            "}",
            "!0 = !{i32 1}",
        ]
    )


def native(text: str, name: str, *types: Any) -> Any:
    """A function of a module in LLVM IR, made for this processor; it is called without the GIL."""
    from braze.codegen.llvm.compile import compile_object
    from braze.runtime.cpu import host_target
    from braze.runtime.object_loader import LoadedObject

    loaded = LoadedObject(compile_object(text, host_target()))
    function = ctypes.CFUNCTYPE(None, *types)(loaded.address(name))
    function.kept = loaded
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
    from braze.runtime.cpu import host_target

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


def main() -> None:
    """Measure and print; see the module's description."""
    threads, seconds, mebibytes = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(measure(threads, seconds, mebibytes)))


if __name__ == "__main__":
    main()
