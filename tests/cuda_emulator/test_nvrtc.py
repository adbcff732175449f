"""The real compiler's report on kernels, for all architectures, and its refusals."""

import pytest
from cuda_emulator import nvrtc

SUM = """
extern "C" __global__ void total(const float* x, float* out, int n) {
    __shared__ float part[256];
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += 256) sum += x[i];
    part[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) for (int i = 1; i < 256; i++) part[0] += part[i];
    if (threadIdx.x == 0) *out = part[0];
}
extern "C" __global__ void __launch_bounds__(1024) many(float* x) {
    float a[80];
    for (int i = 0; i < 80; i++) a[i] = x[i * 1024 + threadIdx.x];
    for (int j = 0; j < 80; j++)
        for (int i = 0; i < 80; i++) a[i] = a[i] * a[(i + 7) % 80] + a[(i + 13) % 80];
    for (int i = 0; i < 80; i++) x[i * 1024 + threadIdx.x] = a[i];
}
extern "C" __global__ void picks(float* x) {
    float a[100];
    for (int i = 0; i < 100; i++) a[(int)x[i]] = i;
    x[0] = a[(int)x[1]];
}
"""


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_what_kernels_take(architecture):
    found = nvrtc.compile(SUM, architecture)
    assert found.keys() == {"total", "many", "picks"}
    # 1024 threads share 65,536 registers.
    assert 8 <= found["total"].registers <= 64 and found["many"].registers <= 64
    assert found["many"].spills > 0 and found["total"].spills == found["picks"].spills == 0
    assert found["picks"].stack == 400 and found["total"].stack == 0
    # Some architectures keep a kilobyte for the system.
    assert found["total"].shared - found["picks"].shared == 1024


@pytest.mark.parametrize("header", ["cuda_fp16.h", "cuda_bf16.h", "mma.h"])
def test_headers(header):
    source = f'#include <{header}>\nextern "C" __global__ void k(float* x) {{ *x = 1; }}'
    assert nvrtc.compile(source, "sm_80")["k"].registers


def test_an_error_of_the_source():
    with pytest.raises(nvrtc.CompileError, match=r"for sm_80:\nkernel\.cu\(1\): error: .*\"y\""):
        nvrtc.compile("__global__ void k(float* x) { *x = y; }", "sm_80")


def test_an_error_of_the_assembler():
    source = """extern "C" __global__ void k(float* x) {
        __shared__ float s[20000];
        s[*(int*)x] = 1;
        __syncthreads();
        *x = s[5];
    }"""
    with pytest.raises(nvrtc.CompileError, match=r"too much shared data"):
        nvrtc.compile(source, "sm_80")
