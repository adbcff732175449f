"""Device memory that two processes use: by handles, as between processes on a GPU."""

import os
import subprocess
import sys
from contextlib import contextmanager

import cuda_device
import numpy as np
import pycuda.driver as cuda
import pytest

pytestmark = [cuda_device.emulated_only, pytest.mark.usefixtures("context")]

# The other process: it runs the lines that it is given, and says what they print.
OTHER = """
import sys
import numpy as np
from cuda_emulator import build, control
build.activate()
import pycuda.driver as cuda
cuda.init()
context = cuda.Device(0).retain_primary_context()
context.push()
def values(pointer, n):
    out = np.empty(n, np.float32)
    cuda.memcpy_dtoh(out, pointer)
    return out
for line in sys.stdin:
    try:
        exec(line)
    except Exception as error:
        print(type(error).__name__, str(error).replace("\\n", " "), flush=True)
    else:
        print("done", flush=True)
"""
FLAGS = "cuda.ipc_mem_flags.LAZY_ENABLE_PEER_ACCESS"


@contextmanager
def other_process():
    """A function that has lines run in another process, and returns what it says."""
    support = os.path.dirname(cuda_device.__file__)
    folders = os.pathsep.join([support, os.path.dirname(support), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": folders},
    ) as process:  # fmt: skip

        def run(line):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        run.process = process
        try:
            yield run
        finally:
            if process.poll() is None:
                run("context.pop()")
            process.stdin.close()
            process.wait()


def opened(run, pointer, name="x"):
    handle = bytes(cuda.mem_get_ipc_handle(pointer))
    return run(f"{name} = cuda.IPCMemoryHandle(bytearray({handle!r}), {FLAGS})")


def values(pointer, n):
    out = np.empty(n, np.float32)
    cuda.memcpy_dtoh(out, pointer)
    return out


def test_both_see_what_either_writes():
    numbers = np.arange(3000, dtype=np.float32)
    x, y = cuda.to_device(numbers), cuda.to_device(numbers[:5] + 1)  # y begins in x's last page
    with other_process() as run:
        assert opened(run, x) == opened(run, y, "y") == "done"
        assert run("assert values(x, 3000).sum() == 3000 * 2999 / 2") == "done"
        assert run("assert values(y, 5).tolist() == [1, 2, 3, 4, 5]") == "done"
        assert run("cuda.memset_d32(int(x) + 4 * 2995, 0, 5)") == "done"
        assert values(x, 3000)[2990:].tolist() == [*range(2990, 2995), 0, 0, 0, 0, 0]
        cuda.memset_d32(int(y), 0, 5)
        assert run("assert values(y, 5).tolist() == [0] * 5") == "done"
        assert "past the end of" in run("cuda.memset_d32(int(x), 0, 3001)")
        assert run("at = int(x); x.close(); y.close()") == "done"
        assert "which was freed" in run("values(at, 1)")
    x.free()
    y.free()


def test_what_is_open_elsewhere_is_not_freed(capfd):
    x = cuda.to_device(np.zeros(10, np.float32))
    with other_process() as run:
        assert opened(run, x) == "done"
        x.free()  # PyCUDA only warns where that fails
        assert "frees memory that another process has open: byte 0" in capfd.readouterr().err
        y = cuda.to_device(np.zeros(10, np.float32))
        assert opened(run, y, "y") == "done"
        run.process.kill()
        run.process.wait()
    y.free()  # who has ended has nothing open
    assert not capfd.readouterr().err


def test_a_handle_opened_twice_is_one_memory():
    x = cuda.to_device(np.zeros(10, np.float32))
    with other_process() as run:
        assert opened(run, x) == opened(run, x, "again") == "done"
        assert run("assert int(x) == int(again)") == "done"
        assert run("x.close(); cuda.memset_d32(int(again), 0, 10); again.close()") == "done"
    x.free()


def test_what_is_refused():
    x = cuda.to_device(np.zeros(10, np.float32))
    with pytest.raises(cuda.LogicError, match="not an allocation from its beginning"):
        cuda.mem_get_ipc_handle(int(x) + 4)
    handle = cuda.mem_get_ipc_handle(x)
    flags = cuda.ipc_mem_flags.LAZY_ENABLE_PEER_ACCESS
    with pytest.raises(cuda.LogicError, match="was allocated in this process"):
        cuda.IPCMemoryHandle(handle, flags)
    with pytest.raises(cuda.LogicError, match="no handle of shared memory"):
        cuda.IPCMemoryHandle(bytearray(64), flags)
    with other_process() as run:
        assert opened(run, x) == "done"
        assert "shares memory of another process" in run("cuda.mem_get_ipc_handle(int(x))")
        assert "on device 0, the context on device 1" in run(
            "c = cuda.Device(1).retain_primary_context(); c.push();"
            f"cuda.IPCMemoryHandle(bytearray({bytes(handle)!r}), {FLAGS})"
        )
        assert run("c.pop(); x.close()") == "done"
    x.free()
    with other_process() as run:
        assert run("y = cuda.to_device(np.zeros(4))") == "done"
        gone = bytes.fromhex(run("print(bytes(cuda.mem_get_ipc_handle(y)).hex())"))
        run.process.kill()
        run.process.wait()
    with pytest.raises(cuda.LogicError, match="which shared the memory, has ended"):
        cuda.IPCMemoryHandle(bytearray(gone), flags)
