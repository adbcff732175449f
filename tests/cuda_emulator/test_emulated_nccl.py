"""An operation of NCCL's on a stream beside the default stream: what misses an event is found."""

import ctypes
import os
import subprocess
from pathlib import Path

import cuda_device
import numpy as np
import pycuda.driver as cuda
import pytest
from cuda_emulator import build, control
from pycuda.compiler import SourceModule

pytest.importorskip("nccl.bindings", reason="of nccl4py: pip install nccl4py")
pytestmark = [cuda_device.emulated_only, pytest.mark.usefixtures("context")]

N = 32
SOURCE = """
extern "C" __global__ void k(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x] + 1; }
"""
FLOAT, SUM, NON_BLOCKING = 7, 0, 1


@pytest.fixture(scope="module")
def nccl():
    ctypes.CDLL(str(build.driver() / "libnccl.so.2"))
    return pytest.importorskip("nccl.bindings.nccl")


@pytest.fixture
def alone(nccl, context):
    """A communicator of one rank."""
    handle = nccl.comm_init_rank(1, nccl.get_unique_id(), 0)
    yield handle
    nccl.comm_destroy(handle)


class Work:
    """A kernel on the default stream writes `x`, NCCL sums it up to `y` on another, and a second
    kernel reads that."""

    def __init__(self, nccl, comm):
        self.nccl, self.comm = nccl, comm
        self.beside = cuda.Stream(NON_BLOCKING)
        self.kernel = SourceModule(SOURCE, no_extern_c=True).get_function("k")
        self.source, self.x, self.y, self.z = (cuda.mem_alloc(4 * N) for _ in range(4))
        cuda.memcpy_htod(self.source, np.arange(N, dtype=np.float32))

    def add(self, given, kept):
        self.kernel(given, kept, block=(N, 1, 1))

    def reduce(self):
        self.nccl.all_reduce(
            int(self.x), int(self.y), N, FLOAT, SUM, self.comm, int(self.beside.handle)
        )

    def run(self, *, first, then):
        """The end of the first kernel is an event that NCCL waits for, if `first`; that of NCCL
        one for which the second waits, if `then`."""
        self.add(self.source, self.x)
        if first:
            written = cuda.Event()
            written.record()
            self.beside.wait_for_event(written)
        self.reduce()
        if then:
            reduced = cuda.Event()
            reduced.record(self.beside)
            wait_for(reduced)
        self.add(self.y, self.z)
        found = np.empty(N, np.float32)
        cuda.memcpy_dtoh(found, self.z)
        return found


def wait_for(event):
    """Have the default stream do so: the host does it in its place."""
    event.synchronize()


@pytest.mark.parametrize("lazy", [0, 1, 2])
def test_events_give_the_order(nccl, alone, lazy):
    with control.options(LAZY=lazy):
        found = Work(nccl, alone).run(first=True, then=True)
    np.testing.assert_array_equal(found, np.arange(N) + 2)


@pytest.mark.parametrize("lazy", [0, 1, 2])
def test_a_result_that_nobody_waited_for_is_unwritten(nccl, alone, lazy):
    with control.options(LAZY=lazy), pytest.raises(cuda.LogicError, match="nobody wrote"):
        Work(nccl, alone).run(first=True, then=False)


@pytest.mark.parametrize("lazy", [1, 2])
def test_an_operand_that_was_not_waited_for_is_unwritten(nccl, alone, lazy):
    with control.options(LAZY=lazy):
        work = Work(nccl, alone)
        # A thread may see it before the very call returns, which then says so itself.
        errors = cuda.LogicError, nccl.NCCLError
        with pytest.raises(errors, match="nobody wrote|invalid argument"):
            work.run(first=False, then=True)
    assert nccl.comm_get_async_error(alone) == nccl.Result.InvalidArgument
    assert "nobody wrote what is read" in nccl.get_last_error(alone)


def test_the_host_is_not_stopped_and_who_asks_is_told(nccl, alone):
    """An event's query brings the work on, and does not make its result anybody's."""
    with control.options(LAZY=1):
        work = Work(nccl, alone)
        work.add(work.source, work.x)
        cuda.Context.synchronize()
        work.reduce()
        end = cuda.Event()
        end.record(work.beside)
        while not end.query():
            pass
        with pytest.raises(cuda.LogicError, match="nobody wrote"):
            work.add(work.y, work.z)
            cuda.Context.synchronize()
        work.beside.synchronize()
        work.add(work.y, work.z)
        cuda.Context.synchronize()


def test_what_a_dead_rank_left_is_removed(nccl):
    """It died before all ranks had met, so nobody took the name away."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, kept = (
        Path(f"/dev/shm/emulated-nccl-{pid}-of-a-test") for pid in (ended.pid, os.getpid())
    )
    for file in (left, kept):
        file.touch()
    try:
        nccl.get_unique_id()
        assert not left.exists() and kept.exists()
    finally:
        kept.unlink()
        left.unlink(missing_ok=True)
