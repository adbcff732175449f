"""What the profile says of known patterns of access, and what a leak does at exit."""

import os
import subprocess
import sys
from pathlib import Path

import cuda_device
import numpy as np
import pytest
from cuda_emulator import build, control

pytestmark = cuda_device.emulated_only

TRANSPOSE = """extern "C" __global__ void k(const float* x, float* y) {
    y[threadIdx.x * 32 + threadIdx.y] =
        x[threadIdx.y * 32 + threadIdx.x];
}"""
TILED = """extern "C" __global__ void k(const float* x, float* y) {
    __shared__ float tile[32][WIDTH];
    tile[threadIdx.y][threadIdx.x] = x[threadIdx.y * 32 + threadIdx.x];
    __syncthreads();
    y[threadIdx.y * 32 + threadIdx.x] =
        tile[threadIdx.x][threadIdx.y];
}"""


def profile(launch, source, *arguments, **shape):
    with control.profiled() as lines:
        launch(source, *arguments, **shape)
    return {(line.space, line.access): line for line in lines}


def matrices():
    x = np.arange(1024, dtype=np.float32).reshape(32, 32)
    return x, np.zeros_like(x)


def test_a_transpose_that_writes_columns(launch):
    x, y = matrices()
    found = profile(launch, TRANSPOSE, x, y, block=(32, 32, 1))
    np.testing.assert_array_equal(y, x.T)
    read, write = found["global", "read"], found["global", "write"]
    assert (read.kernel, read.place, write.place) == ("k", "kernel.cu:3", "kernel.cu:2")
    assert (read.requests, read.transfers, read.fewest) == (32, 128, 128)
    assert (write.requests, write.transfers, write.fewest) == (32, 1024, 128)


@pytest.mark.parametrize(("width", "passes"), [(32, 1024), (33, 32)])
def test_a_transpose_through_shared_memory(launch, width, passes):
    x, y = matrices()
    found = profile(launch, TILED.replace("WIDTH", str(width)), x, y, block=(32, 32, 1))
    np.testing.assert_array_equal(y, x.T)
    assert found["global", "write"].transfers == found["global", "write"].fewest == 128
    assert found["shared", "write"].transfers == 32
    read = found["shared", "read"]
    assert (read.place, read.requests, read.transfers) == ("kernel.cu:6", 32, passes)
    assert read.fewest == 32


def test_lines_are_those_of_the_module_that_is_loaded(launch):
    """Modules come to lie where others were that are unloaded."""
    for number in range(4):
        found = profile(launch, "\n" * number + TRANSPOSE, *matrices(), block=(32, 32, 1))
        assert found["global", "read"].place == f"kernel.cu:{number + 3}"


def test_vectors_are_one_request(launch):
    x = np.ones(128, np.float32)
    source = """extern "C" __global__ void k(float4* x) {
        float4 v = x[threadIdx.x];
        x[threadIdx.x] = make_float4(v.y, v.z, v.w, v.x);
    }"""
    found = profile(launch, source, x)
    for access in ("read", "write"):
        line = found["global", access]
        assert (line.requests, line.transfers, line.fewest) == (1, 16, 16)


def test_a_broadcast_in_shared_memory_is_one_pass(launch):
    x = np.ones(32, np.float32)
    source = """extern "C" __global__ void k(float* x) {
        __shared__ float s[32];
        s[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = s[5];
    }"""
    line = profile(launch, source, x)["shared", "read"]
    assert (line.requests, line.transfers, line.fewest) == (1, 1, 1)


def test_nothing_is_collected_without_the_option(launch):
    launch(TRANSPOSE, *matrices(), block=(32, 32, 1))
    with control.profiled() as lines:
        pass
    assert not lines


@pytest.mark.parametrize("freed", [False, True])
def test_a_process_that_leaks_fails(freed):
    # PyCUDA frees what it still knows of at exit, so the leak is one of the driver's interface.
    program = f"""
import ctypes
from cuda_emulator import build
build.activate()
driver = ctypes.CDLL("libcuda.so.1")
context, memory = ctypes.c_void_p(), ctypes.c_uint64()
driver.cuInit(0)
driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
driver.cuCtxPushCurrent_v2(context)
assert driver.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(1000)) == 0
if {freed}:
    driver.cuMemFree_v2(memory)
"""
    folder = Path(__file__).resolve().parents[1]
    variables = {**os.environ, "BRAZE_EMULATED_LEAKS": "1", "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=variables
    )
    assert done.returncode == (0 if freed else 1)
    assert ("allocation 1 of 1000 bytes on device 0 was never freed" in done.stderr) != freed


@pytest.mark.parametrize("given", [False, True])
def test_a_program_that_a_test_starts(given):
    """It has a device only if the test wants it to."""
    program = "import pycuda.driver as cuda; cuda.init(); print(cuda.Device(0).name())"
    variables = {**os.environ, **(build.environment() if given else {})}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=variables
    )
    assert ("emulated GPU" in done.stdout) == given == (done.returncode == 0)
