"""Each fault that the emulated driver finds: on a wrong kernel, and not on its right twin."""

import cuda_device
import numpy as np
import pycuda.driver as cuda
import pytest

pytestmark = cuda_device.emulated_only

KERNEL = 'extern "C" __global__ void k(float* x, int n)'
WHERE = r"kernel k, block \(\d+, 0, 0\), thread \(\d+, 0, 0\), kernel\.cu:\d+: "

# For each fault: what the message says, the wrong body, the right body.
FAULTS = {
    "past the end": (
        r"writes 4 bytes at 0x[0-9a-f]+: byte 0 past the end of allocation \d+ of 400 bytes",
        "int i = blockIdx.x * 64 + threadIdx.x; x[i] = 1;",
        "int i = blockIdx.x * 64 + threadIdx.x; if (i < n) x[i] = 1;",
    ),
    "a byte past the end": (
        r"reads 1 bytes at 0x[0-9a-f]+: byte 0 past the end",
        "const char* c = (const char*)x; if (threadIdx.x + blockIdx.x == 0) x[0] = c[4 * n];",
        "const char* c = (const char*)x; if (threadIdx.x + blockIdx.x == 0) x[0] = c[4 * n - 1];",
    ),
    "before the start": (
        r"reads 4 bytes at 0x[0-9a-f]+: ",
        "if (threadIdx.x == 0 && blockIdx.x == 0) x[0] = x[-1];",
        "if (threadIdx.x == 0 && blockIdx.x == 0) x[0] = x[1];",
    ),
    "a vector past the end": (
        r"past the end of allocation",
        "int i = threadIdx.x; if (blockIdx.x == 0 && i <= n / 4) ((float4*)x)[i].w = 1;",
        "int i = threadIdx.x; if (blockIdx.x == 0 && i < n / 4) ((float4*)x)[i].w = 1;",
    ),
    "a misaligned vector": (
        r"must be a multiple of 16|no multiple of 16",
        "if (blockIdx.x == 0 && threadIdx.x == 0) *(float4*)(x + 1) = make_float4(1, 2, 3, 4);",
        "if (blockIdx.x == 0 && threadIdx.x == 0) *(float4*)(x + 4) = make_float4(1, 2, 3, 4);",
    ),
    "a host pointer": (
        r"host memory, or no memory at all",
        "if (threadIdx.x == 0) *(float*)(size_t)(n * 1000) = 1;",
        "if (threadIdx.x == 0 && blockIdx.x == 0) *(float*)(size_t)x = 1;",
    ),
    "another thread's local memory": (
        r"another thread's local memory",
        """__shared__ float* where[64];
        float own[2] = {x[0], x[1]}; where[threadIdx.x] = own; __syncthreads();
        float sum = where[63 - threadIdx.x][1]; __syncthreads();
        if (sum == 12345) x[0] = sum;""",
        """__shared__ float* where[64];
        float own[2] = {x[0], x[1]}; where[threadIdx.x] = own; __syncthreads();
        float sum = where[threadIdx.x][1]; __syncthreads();
        if (sum == 12345) x[0] = sum;""",
    ),
    "an index of an array": (
        r"index 8 is out of bounds of 'float \[8\]'",
        "float a[8] = {}; a[n - 92] = 1; if (threadIdx.x + blockIdx.x == 0) x[0] = a[n % 8];",
        "float a[8] = {}; a[n - 93] = 1; if (threadIdx.x + blockIdx.x == 0) x[0] = a[n % 8];",
    ),
    "shared memory that nobody wrote": (
        r"reads 4 bytes at 0x[0-9a-f]+ that nobody wrote: shared memory",
        """__shared__ float s[64]; if (threadIdx.x < 63) s[threadIdx.x] = 1; __syncthreads();
        float sum = s[63 - threadIdx.x]; if (sum != 1) x[0] = sum;""",
        """__shared__ float s[64]; if (threadIdx.x < 64) s[threadIdx.x] = 1; __syncthreads();
        float sum = s[63 - threadIdx.x]; if (sum != 1) x[0] = sum;""",
    ),
    "dynamic shared memory past its end": (
        r"shared memory that is none of this kernel's",
        "extern __shared__ float s[]; s[threadIdx.x + 1] = 1;",
        "extern __shared__ float s[]; s[threadIdx.x] = 1;",
    ),
    "a race in shared memory: read after write": (
        r"race: (writes|reads) what thread \(\d+, 0, 0\) (read|wrote), and no barrier .*\(shared",
        """__shared__ float s[64]; s[threadIdx.x] = 0; __syncthreads(); s[threadIdx.x] = 1;
        float got = s[63 - threadIdx.x]; if (got == 12345) x[0] = got;""",
        """__shared__ float s[64]; s[threadIdx.x] = 0; __syncthreads(); s[threadIdx.x] = 1;
        __syncthreads(); float got = s[63 - threadIdx.x]; if (got == 12345) x[0] = got;""",
    ),
    "a race in shared memory: write after read": (
        r"race: writes what thread \(\d+, 0, 0\) read, and no barrier lies between",
        """__shared__ float s[64]; s[threadIdx.x] = 1; __syncthreads();
        float got = s[(threadIdx.x + 1) % 64]; s[threadIdx.x] = got + 1;""",
        """__shared__ float s[64]; s[threadIdx.x] = 1; __syncthreads();
        float got = s[(threadIdx.x + 1) % 64]; __syncthreads(); s[threadIdx.x] = got + 1;""",
    ),
    "a race in shared memory: two writes": (
        r"race: writes what thread \(\d+, 0, 0\) wrote",
        """__shared__ float s[1]; s[0] = threadIdx.x; __syncthreads();
        if (s[0] == 12345) x[0] = 1;""",
        """__shared__ float s[1]; if (threadIdx.x == 5) s[0] = threadIdx.x; __syncthreads();
        if (s[0] == 12345) x[0] = 1;""",
    ),
    "a race in a warp": (
        r"race: (reads what thread \(\d+, 0, 0\) wrote|writes what thread \(\d+, 0, 0\) read)",
        """__shared__ float s[64]; s[threadIdx.x] = 0; __syncwarp(); s[threadIdx.x] = 1;
        float got = s[threadIdx.x ^ 1]; if (got == 12345) x[0] = got;""",
        """__shared__ float s[64]; s[threadIdx.x] = 0; __syncwarp(); s[threadIdx.x] = 1;
        __syncwarp(); float got = s[threadIdx.x ^ 1]; if (got == 12345) x[0] = got;""",
    ),
    "a race between warps": (
        r"race: (reads what thread \(\d+, 0, 0\) wrote|writes what thread \(\d+, 0, 0\) read)",
        """__shared__ float s[64]; s[threadIdx.x] = 0; __syncthreads(); s[threadIdx.x] = 1;
        __syncwarp(); float got = s[threadIdx.x ^ 32]; if (got == 12345) x[0] = got;""",
        """__shared__ float s[64]; s[threadIdx.x] = 0; __syncthreads(); s[threadIdx.x] = 1;
        __syncthreads(); float got = s[threadIdx.x ^ 32]; if (got == 12345) x[0] = got;""",
    ),
    "a race between blocks: two writes": (
        r"race: writes what block \(0, 0, 0\) wrote, and nothing orders the blocks of a grid",
        "if (threadIdx.x == 0) x[0] = blockIdx.x;",
        "if (threadIdx.x == 0) x[blockIdx.x] = blockIdx.x;",
    ),
    "a race between blocks: write after read": (
        r"race: writes what block \(0, 0, 0\) read",
        "if (threadIdx.x == 0) { float y = x[blockIdx.x] + x[blockIdx.x + 1]; x[blockIdx.x] = y; }",
        "if (threadIdx.x == 0) { float y = x[blockIdx.x] + x[50]; x[blockIdx.x] = y; }",
    ),
    "a race between blocks: the word was read since": (
        r"race: writes what block \(0, 0, 0\) read",
        """float y = x[1]; __syncthreads();
        if (threadIdx.x == 0 && blockIdx.x == 1) x[1] = y;""",
        """float y = x[2]; __syncthreads();
        if (threadIdx.x == 0 && blockIdx.x == 1) x[1] = y;""",
    ),
    "an atomic sum that is read": (
        r"race: reads what block \(0, 0, 0\) changed",
        "if (threadIdx.x) return; if (blockIdx.x == 0) atomicAdd(x, 1.0f); else x[1] = x[0];",
        "atomicAdd(x, 1.0f); if (blockIdx.x == 1 && threadIdx.x == 0) x[1] = 2;",
    ),
    "a barrier that some do not reach": (
        r"of 64 threads wait at the barrier of kernel\.cu:\d+, which thread .* do not reach",
        "if (threadIdx.x < 40) return; __syncthreads();",
        "__syncthreads(); if (threadIdx.x < 40) return;",
    ),
    "a barrier under a condition": (
        r"threads wait at different barriers|do not reach",
        """float got = 0;
        if (threadIdx.x < 32) { got += x[0]; __syncthreads(); got *= 2; }
        else { got += x[1]; __syncthreads(); got *= 3; }
        if (got == 12345) x[0] = got;""",
        """float got = 0;
        if (n < 32) { got += x[0]; __syncthreads(); got *= 2; }
        else { got += x[1]; __syncthreads(); got *= 3; }
        if (got == 12345) x[0] = got;""",
    ),
    "a lane that had ended": (
        r"__shfl_up_sync with mask 0xffffffff, but lane \d+ has ended",
        "if (threadIdx.x % 32 < 16) return; float y = __shfl_up_sync(0xffffffff, x[0], 1);"
        "if (y == 12345) x[0] = y;",
        "if (threadIdx.x % 32 < 16) return; float y = __shfl_up_sync(0xffff0000, x[0], 1, 16);"
        "if (y == 12345) x[0] = y;",
    ),
    "a lane that ends": (
        r"waits for lanes of mask 0xffffffff that do not come",
        "if (threadIdx.x % 32 >= 16) return; float y = __shfl_down_sync(0xffffffff, x[0], 1);"
        "if (y == 12345) x[0] = y;",
        "if (threadIdx.x % 32 >= 16) return; float y = __shfl_down_sync(0xffff, x[0], 1, 16);"
        "if (y == 12345) x[0] = y;",
    ),
    "a lane outside its mask": (
        r"with mask 0x0000ffff, which lacks the calling lane",
        "float y = __shfl_xor_sync(0xffff, x[0], 1); if (y == 12345) x[0] = y;",
        """if (threadIdx.x % 32 < 16) {
            float y = __shfl_xor_sync(0xffff, x[0], 1); if (y == 12345) x[0] = y; }""",
    ),
    "a value of a lane outside the mask": (
        r"lane 0 takes the value of lane 16, which mask 0x0000ffff lacks",
        """if (threadIdx.x % 32 < 16) {
            float y = __shfl_xor_sync(0xffff, x[0], 16); if (y == 12345) x[0] = y; }""",
        """if (threadIdx.x % 32 < 16) {
            float y = __shfl_xor_sync(0xffff, x[0], 8); if (y == 12345) x[0] = y; }""",
    ),
    "lanes in two different calls": (
        r"but lane \d+ waits in",
        "int v = threadIdx.x % 2 ? __any_sync(~0u, n) : __shfl_sync(~0u, n, 0);"
        "if (v == 12345) x[0] = v;",
        "int v = n % 2 ? __any_sync(~0u, n) : __shfl_sync(~0u, n, 0); if (v == 12345) x[0] = v;",
    ),
    "an index that overflows": (
        r"a product overflows in 'int'",
        "int i = n * 30000000; if (threadIdx.x + blockIdx.x == 0) x[0] = i % 3;",
        "long i = n * 30000000l; if (threadIdx.x + blockIdx.x == 0) x[0] = i % 3;",
    ),
    "a division by zero": (
        r"a division overflows, or divides by zero",
        "int i = 5 / (n - 100); if (threadIdx.x + blockIdx.x == 0) x[0] = i;",
        "int i = 5 / (n - 101); if (threadIdx.x + blockIdx.x == 0) x[0] = i;",
    ),
    "a shift by too much": (
        r"is shifted by 100",
        "int i = 1 << n; if (threadIdx.x + blockIdx.x == 0) x[0] = i;",
        "int i = 1 << (n & 31); if (threadIdx.x + blockIdx.x == 0) x[0] = i;",
    ),
    "a float that no integer holds": (
        r"out of range is cast to 'int'",
        "int i = (int)(x[0] + n * 1e10f); if (threadIdx.x + blockIdx.x == 0) x[1] = i;",
        "int i = __float2int_rz(x[0] + n * 1e10f); if (threadIdx.x + blockIdx.x == 0) x[1] = i;",
    ),
    "an assertion": (
        r"assertion failed: threadIdx\.x < 63|assertion failed: .* < 63",
        "assert(threadIdx.x < 63);",
        "assert(threadIdx.x < 64);",
    ),
    "a trap": (
        r"__trap\(\)",
        "if (threadIdx.x == 3) __trap();",
        "if (threadIdx.x == 64) __trap();",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_wrong_kernel_fails(launch, fault):
    message, wrong, _ = FAULTS[fault]
    with pytest.raises((cuda.LogicError, cuda.LaunchError), match=WHERE) as error:
        launch(f"{KERNEL} {{\n{wrong}\n}}", *given(), grid=2, block=64, shared=4 * 64)
    assert error.match(message)


@pytest.mark.parametrize("order", ["forward", "reverse", "random:1"])
@pytest.mark.parametrize("fault", FAULTS)
def test_its_right_twin_does_not(launch, fault, order):
    from cuda_emulator.control import options

    with options(ORDER=order):
        launch(f"{KERNEL} {{\n{FAULTS[fault][2]}\n}}", *given(), grid=2, block=64, shared=4 * 64)


def given():
    return np.arange(100, dtype=np.float32), np.int32(100)


def test_the_line_is_that_of_the_source(launch):
    source = f"{KERNEL}\n{{\n  int i = 200;\n  if (n == 100)\n    x[i] = 1;\n}}"
    with pytest.raises(cuda.LogicError, match=r"kernel\.cu:5: "):
        launch(source, *given())


def test_the_line_is_that_of_the_caller_of_a_header(launch):
    source = f"{KERNEL}\n{{\n  int i = 200;\n  atomicAdd(\n    x + i, 1.0f);\n}}"
    with pytest.raises(cuda.LogicError, match=r"kernel\.cu:[45]: changes 4 bytes"):
        launch(source, *given())


def test_memory_that_nobody_wrote(launch):
    source = f"{KERNEL} {{ if (threadIdx.x < n) x[threadIdx.x] += 1; }}"
    with pytest.raises(cuda.LogicError, match=r"reads 4 bytes at 0x\w+ that nobody wrote: byte 0"):
        launch(source, (np.zeros(8, np.float32),), np.int32(8))


def test_results_that_nobody_wrote(launch):
    source = f"{KERNEL} {{ if (threadIdx.x < n - 1) x[threadIdx.x] = 1; }}"
    with pytest.raises(cuda.LogicError, match="copy to the host of what nobody wrote: byte 28"):
        launch(source, (np.zeros(8, np.float32),), np.int32(8))
    source = source.replace("n - 1", "n")
    launch(source, (np.zeros(8, np.float32),), np.int32(8))


def test_use_after_free(context):
    from pycuda.compiler import SourceModule

    function = SourceModule("__global__ void k(float* x) { *x = 1; }").get_function("k")
    memory = cuda.mem_alloc(64)
    address = np.intp(int(memory))
    function(address, block=(1, 1, 1))
    memory.free()
    with pytest.raises(cuda.LogicError, match="byte 0 of allocation .* which was freed"):
        function(address, block=(1, 1, 1))


def test_the_device_works_on_after_a_fault(launch):
    with pytest.raises(cuda.LogicError):
        launch(f"{KERNEL} {{ x[n + threadIdx.x] = 1; }}", *given())
    x, n = given()
    launch(f"{KERNEL} {{ if (threadIdx.x == 0) x[0] = n; }}", x, n)
    assert x[0] == 100
