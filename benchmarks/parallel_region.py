"""The time of a parallel region of Braze's pool in which nothing is done:
``python -m benchmarks.parallel_region empty|meeting THREADS full|quick`` prints microseconds.

Threads claim a region's chunks as they come, so that the caller may well end an empty region before
another has woken up. In a meeting, every chunk waits until all have been claimed: each thread takes
part.
"""

from __future__ import annotations

import ctypes
import sys
import time

from benchmarks.limits import native

# The pool's first word is the address of its `parallel` function; as compiled programs call it.
TEXT = """
define void @empty(ptr %counter, i64 %chunk, i64 %thread) {
  ret void
}
define void @meeting(ptr %counter, i64 %chunk, i64 %thread) {
entry:
  %there = atomicrmw add ptr %counter, i64 1 seq_cst
  %times = udiv i64 %there, CHUNKS
  %after = add i64 %times, 1
  %all = mul i64 %after, CHUNKS
  br label %wait
wait:
  %now = load atomic i64, ptr %counter acquire, align 8
  %more = icmp ult i64 %now, %all
  br i1 %more, label %wait, label %end
end:
  ret void
}
define void @many(ptr %pool, ptr %counter, i64 %times) {
entry:
  %parallel = load ptr, ptr %pool
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void %parallel(ptr %pool, ptr @WORK, ptr %counter, i64 CHUNKS)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %times
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""


def measure(work: str, threads: int, rounds: int, times: int = 1000) -> float:
    """Microseconds of a region with a chunk for each thread; the best of some rounds."""
    import braze
    from braze.runtime.pool import get_pool

    braze.set_num_threads(threads)
    pool = get_pool(threads)
    text = TEXT.replace("WORK", work).replace("CHUNKS", str(threads))
    many = native(text, "many", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    counter = ctypes.c_int64(0)
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        many(pool.address, ctypes.addressof(counter), times)
        seconds.append(time.perf_counter() - begin)
    assert counter.value == (rounds * times * threads if work == "meeting" else 0)
    return 1e6 * min(seconds) / times


def main() -> None:
    """Measure and print."""
    print(measure(sys.argv[1], int(sys.argv[2]), 5 if sys.argv[3] == "quick" else 50))


if __name__ == "__main__":
    main()
