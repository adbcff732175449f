"""The thread pool: every chunk runs exactly once, whatever the timing; forks, nesting, signals."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path

import pytest

from braze.codegen.llvm.compile import assembly, compile_object
from braze.codegen.llvm.pool import pool_module, pool_object
from braze.ir.target import TARGET_NAMES, named_target
from braze.runtime.config import default_num_threads, default_storage_cache_bytes
from braze.runtime.cpu import host_target
from braze.runtime.object_loader import LoadedObject
from braze.runtime.pool import get_num_threads, get_pool, set_num_threads

# Two kernels with different effects, so that a chunk run with the wrong job's function shows.
# Each buffer is: sum of chunk + 1, number of chunks, greatest thread index.
KERNELS = """
define void @one(ptr %b, i64 %chunk, i64 %thread) nounwind {
  %value = add i64 %chunk, 1
  %s = atomicrmw add ptr %b, i64 %value monotonic
  %counter = getelementptr i64, ptr %b, i64 1
  %c = atomicrmw add ptr %counter, i64 1 monotonic
  %greatest = getelementptr i64, ptr %b, i64 2
  %g = atomicrmw max ptr %greatest, i64 %thread monotonic
  ret void
}
define void @two(ptr %b, i64 %chunk, i64 %thread) nounwind {
  %value = add i64 %chunk, 1
  %twice = mul i64 %value, 1000003
  %s = atomicrmw add ptr %b, i64 %twice monotonic
  %counter = getelementptr i64, ptr %b, i64 1
  %c = atomicrmw add ptr %counter, i64 1 monotonic
  ret void
}
; Every chunk starts a region of 5 chunks on the pool that b[3] points to.
define void @nested(ptr %b, i64 %chunk, i64 %thread) nounwind {
  %pool_at = getelementptr i64, ptr %b, i64 3
  %pool = load ptr, ptr %pool_at
  %parallel = load ptr, ptr %pool
  call void %parallel(ptr %pool, ptr @one, ptr %b, i64 5)
  ret void
}
; Notes in b[chunk] which thread ran it, after some work.
define void @who(ptr %b, i64 %chunk, i64 %thread) nounwind {
entry:
  br label %work
work:
  %i = phi i64 [ 0, %entry ], [ %more, %work ]
  %more = add i64 %i, 1
  store volatile i64 %more, ptr %b
  %again = icmp slt i64 %more, 2000
  br i1 %again, label %work, label %done
done:
  %place = getelementptr i64, ptr %b, i64 %chunk
  store i64 %thread, ptr %place
  ret void
}
; Chunks 0 and 1 wait until both have started: two threads must take part.
define void @meet(ptr %b, i64 %chunk, i64 %thread) nounwind {
entry:
  %o = atomicrmw add ptr %b, i64 1 acq_rel
  br label %wait
wait:
  %v = load atomic i64, ptr %b acquire, align 8
  %met = icmp sge i64 %v, 2
  br i1 %met, label %done, label %wait
done:
  ret void
}
; n regions of pseudo-random numbers of chunks up to most; returns how many went wrong.
define i64 @stress(ptr %pool, ptr %b, i64 %n, i64 %most, i64 %seed) nounwind {
entry:
  %parallel = load ptr, ptr %pool
  %counter = getelementptr i64, ptr %b, i64 1
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i_more, %loop ]
  %wrong = phi i64 [ 0, %entry ], [ %wrong_more, %loop ]
  %r = phi i64 [ %seed, %entry ], [ %r_more, %loop ]
  %scaled = mul i64 %r, 6364136223846793005
  %r_more = add i64 %scaled, 1442695040888963407
  %high = lshr i64 %r_more, 33
  %chunks = urem i64 %high, %most
  %odd = and i64 %i, 1
  %is_odd = icmp eq i64 %odd, 1
  %fn = select i1 %is_odd, ptr @two, ptr @one
  %scale = select i1 %is_odd, i64 1000003, i64 1
  store i64 0, ptr %b
  store i64 0, ptr %counter
  call void %parallel(ptr %pool, ptr %fn, ptr %b, i64 %chunks)
  %above = add i64 %chunks, 1
  %product = mul i64 %chunks, %above
  %half = lshr i64 %product, 1
  %expected = mul i64 %half, %scale
  %sum = load i64, ptr %b
  %count = load i64, ptr %counter
  %bad_sum = icmp ne i64 %sum, %expected
  %bad_count = icmp ne i64 %count, %chunks
  %bad = or i1 %bad_sum, %bad_count
  %one_more = zext i1 %bad to i64
  %wrong_more = add i64 %wrong, %one_more
  %i_more = add i64 %i, 1
  %again = icmp slt i64 %i_more, %n
  br i1 %again, label %loop, label %done
done:
  ret i64 %wrong_more
}
"""


# Where the pool counts its sleeping workers.
SLEEPERS = 512


@cache
def kernels() -> LoadedObject:
    return LoadedObject(compile_object(KERNELS, host_target()))


def buffers() -> ctypes.Array:
    return (ctypes.c_int64 * 16)()


def stress(pool, regions: int, most: int, seed: int) -> int:
    signature = ctypes.CFUNCTYPE(
        ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
    )  # fmt: skip
    b = buffers()
    run = signature(kernels().address("stress"))
    return run(pool.address, ctypes.addressof(b), regions, most, seed)


def region(pool, kernel: str, chunks: int) -> list[int]:
    b = buffers()
    b[3] = pool.address
    pool.parallel(kernels().address(kernel), ctypes.addressof(b), chunks)
    return list(b[:3])


@pytest.fixture(autouse=True)
def default_threads():
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.mark.parametrize("threads, regions", [(1, 10_000), (2, 100_000), (3, 20_000), (7, 3_000)])
def test_every_chunk_runs_once(threads, regions):
    assert stress(get_pool(threads), regions, 40, seed=threads) == 0


def test_the_first_word_is_the_parallel_function():
    pool = get_pool(2)
    first = ctypes.c_uint64.from_address(pool.address).value
    signature = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64
    )
    b = buffers()
    signature(first)(pool.address, kernels().address("one"), ctypes.addressof(b), 10)
    assert list(b[:2]) == [55, 10] and b[2] < 2


@pytest.mark.parametrize("chunks", [0, -3, 1])
def test_few_chunks(chunks):
    assert region(get_pool(2), "one", chunks) == [max(chunks, 0), max(chunks, 0), 0]


def test_two_threads_work_at_the_same_time():
    for _ in range(200):
        assert region(get_pool(2), "meet", 2)[0] == 2


def test_the_caller_takes_the_first_chunks_and_the_worker_the_last():
    shared = turns = 0
    until = time.monotonic() + 30  # a worker that others keep from running takes nothing
    while turns < 200 or (not shared and time.monotonic() < until):
        turns += 1
        b = (ctypes.c_int64 * 16)(*[-1] * 16)
        get_pool(2).parallel(kernels().address("who"), ctypes.addressof(b), 16)
        threads = list(b)[1:]  # the first word is what the chunks work on
        assert threads == sorted(threads) and set(threads) <= {0, 1}
        shared += threads[-1] == 1
    assert shared


def test_workers_wake_from_sleep():
    for pause in (0.0, 0.0001, 0.002, 0.02):
        for _ in range(10):
            time.sleep(pause)
            assert region(get_pool(2), "meet", 2)[0] == 2


def test_workers_sleep_when_they_have_waited_long_enough_and_not_before():
    pool = get_pool(2)
    sleepers = ctypes.c_int32.from_address(pool.address + SLEEPERS)

    def asleep_after(seconds):
        region(pool, "meet", 2)
        begin = time.perf_counter()
        while time.perf_counter() < begin + seconds:
            pass
        return sleepers.value

    if len(os.sched_getaffinity(0)) > 1:
        # Not every time: this thread may have lost its processor in between, and where others keep
        # the other one busy, for a while both threads take turns on one.
        end = time.monotonic() + 30
        while asleep_after(50e-6):
            assert time.monotonic() < end
            time.sleep(1e-3)
    assert 1 in [asleep_after(5e-3) for _ in range(20)]


def test_nested_regions_run_serially():
    for _ in range(300):
        total, count, _ = region(get_pool(2), "nested", 8)
        assert (total, count) == (8 * 15, 8 * 5)


def test_concurrent_callers():
    pool = get_pool(2)
    wrong: list[int] = []
    threads = [
        threading.Thread(target=lambda seed=seed: wrong.append(stress(pool, 20_000, 12, seed)))
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0, 0, 0, 0]


def test_set_num_threads_while_idle_and_while_running():
    for threads in (1, 2, 4, 2, 3, 1, 2):
        set_num_threads(threads)
        assert get_num_threads() == threads
        pool = get_pool()
        assert pool.threads == threads and pool is get_pool()
        assert stress(pool, 200, 20, seed=threads) == 0
    wrong: list[int] = []
    pool = get_pool(2)
    thread = threading.Thread(target=lambda: wrong.append(stress(pool, 100_000, 12, 5)))
    thread.start()
    for threads in (1, 2, 3, 1):
        set_num_threads(threads)
        get_pool()
    thread.join()
    assert wrong == [0]


def test_bad_numbers_of_threads():
    for threads in (0, -1, 5000):
        with pytest.raises(RuntimeError, match="expected 1 to 4096"):
            set_num_threads(threads)
        with pytest.raises(ValueError, match="expected 1 to 4096"):
            get_pool(threads)


def worker_names() -> list[str]:
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return sorted(name for name in names if name.startswith("braze-"))


def test_stop_and_start():
    set_num_threads(3)
    pool = get_pool()
    assert worker_names() == ["braze-1", "braze-2"]
    pool.stop()
    pool.stop()
    # The system lets a joined thread's entry go a moment after it says that it has ended.
    deadline = time.monotonic() + 10
    while worker_names() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert worker_names() == []
    assert region(pool, "one", 10) == [55, 10, 0], "the caller alone"
    assert get_pool() is pool and worker_names() == ["braze-1", "braze-2"]
    assert stress(pool, 500, 20, seed=1) == 0


def in_child(work) -> None:
    """Run `work` in a forked child, which must succeed within 30 seconds."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the forked child hangs")


def test_fork():
    set_num_threads(2)
    parent = get_pool()

    def work() -> None:
        assert worker_names() == []
        assert region(parent, "one", 10) == [55, 10, 0], "the parent's pool, on the caller alone"
        pool = get_pool()
        assert pool is not parent and pool.threads == 2
        assert region(pool, "meet", 2)[0] == 2
        assert stress(pool, 2000, 20, seed=3) == 0
        set_num_threads(3)
        assert stress(get_pool(), 200, 20, seed=4) == 0

    in_child(work)
    assert region(parent, "meet", 2)[0] == 2, "the parent's pool still has its workers"


def test_fork_while_another_thread_is_in_a_region():
    pool = get_pool(2)
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            assert stress(pool, 2000, 12, seed=9) == 0

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        for _ in range(5):
            in_child(lambda: None if stress(get_pool(2), 500, 12, seed=2) == 0 else 1 / 0)
    finally:
        stop.set()
        thread.join()


def test_signals_reach_python():
    """A worker must not swallow the signal that should interrupt a sleeping main thread."""
    program = """
import os, signal, subprocess, sys, time
from braze.runtime.pool import get_pool
get_pool(4)
class Alarm(Exception): pass
def ring(*_): raise Alarm
signal.signal(signal.SIGALRM, ring)
for _ in range(5):
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    start = time.monotonic()
    try:
        time.sleep(5)
    except Alarm:
        pass
    assert time.monotonic() - start < 2
for task in os.listdir("/proc/self/task"):
    status = open(f"/proc/self/task/{task}/status").read()
    blocked = int(status.split("SigBlk:")[1].split()[0], 16)
    assert (blocked >> (signal.SIGALRM - 1) & 1) == (status.split()[1].startswith("braze-")), status
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_object_bytes_start_a_pool_without_the_compiler(tmp_path):
    path = tmp_path / "pool.o"
    path.write_bytes(pool_object(host_target()))
    program = f"""
import pathlib, sys
from braze.runtime.pool import get_pool
pool = get_pool(2, compile=pathlib.Path({str(path)!r}).read_bytes)
assert pool.running and pool.threads == 2
assert not [m for m in sys.modules if m.startswith(("llvmlite", "braze.codegen"))]
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", TARGET_NAMES)
def test_the_module_needs_nothing_external(name):
    target = named_target(name)
    loaded = LoadedObject(pool_object(target), allow_foreign=True)
    assert {"braze_parallel", "braze_worker", "braze_pool_initialise"} <= set(loaded.symbols)
    text = assembly(pool_module(target), target)
    assert not re.search(r"\b(call|bl)\w*\s+\w+@PLT", text)
    assert re.search(r"\brdtsc\b|CNTVCT_EL0", text)  # the clock, by its instruction


def test_configuration(monkeypatch):
    monkeypatch.setenv("BRAZE_NUM_THREADS", "3")
    assert default_num_threads() == 3
    monkeypatch.delenv("BRAZE_NUM_THREADS")
    assert default_num_threads() == len(os.sched_getaffinity(0))
    for bad in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("BRAZE_NUM_THREADS", bad)
        with pytest.raises(ValueError, match="BRAZE_NUM_THREADS must be a whole number"):
            default_num_threads()
    monkeypatch.setenv("BRAZE_STORAGE_CACHE_BYTES", "0")
    assert default_storage_cache_bytes() == 0
    monkeypatch.delenv("BRAZE_STORAGE_CACHE_BYTES")
    assert default_storage_cache_bytes() > 1 << 20
