"""CUDA C's language on the emulated driver: results against NumPy."""

import cuda_device
import numpy as np
import pycuda.driver as cuda
import pytest

pytestmark = cuda_device.emulated_only

LANES = np.arange(32)


def per_lane(launch, expression, dtype, block=32, declare=""):
    """What an expression gives in each thread of a block; `t` is the thread's index."""
    name = {np.float32: "float", np.int32: "int", np.uint32: "unsigned", np.float64: "double"}[
        dtype
    ]
    out = np.zeros(block, dtype)
    launch(
        f'{declare}\nextern "C" __global__ void k({name}* out) '
        f"{{ int t = threadIdx.x; out[t] = {expression}; }}",
        out,
        block=block,
    )
    return out


@pytest.mark.parametrize("width", [32, 16, 4, 1])
@pytest.mark.parametrize(
    ("call", "source"),
    [
        ("__shfl_sync(~0u, t * 3, 5, {w})", lambda i, w: i // w * w + 5 % w),
        ("__shfl_sync(~0u, t * 3, t + 1, {w})", lambda i, w: i // w * w + (i + 1) % w),
        ("__shfl_up_sync(~0u, t * 3, 3, {w})", lambda i, w: i - 3 if i % w >= 3 else i),
        ("__shfl_down_sync(~0u, t * 3, 3, {w})", lambda i, w: i + 3 if i % w + 3 < w else i),
        (
            "__shfl_xor_sync(~0u, t * 3, 2, {w})",
            lambda i, w: i ^ 2 if (i ^ 2) < i // w * w + w else i,
        ),
    ],
)
def test_shuffles(launch, call, source, width):
    found = per_lane(launch, call.format(w=width), np.int32)
    np.testing.assert_array_equal(found, [3 * source(i, width) for i in LANES])


@pytest.mark.parametrize(
    ("T", "value"),
    [("float", "0.5f * t"), ("double", "0.5 * t"), ("long long", "(1ll << 40) + t")]
    + [("unsigned", "4000000000u + t"), ("__half", "__float2half(t)")]
    + [("__half2", "__floats2half2_rn(t, 2 * t)"), ("__nv_bfloat16", "__float2bfloat16(t)")],
)
def test_shuffled_types(launch, T, value):
    declare = f"""#include <cuda_fp16.h>
    #include <cuda_bf16.h>
    __device__ bool same(int t) {{
        {T} got = __shfl_xor_sync(~0u, {value}, 1);
        t ^= 1;
        {T} expected = {value};
        return memcmp(&got, &expected, sizeof got) == 0;
    }}"""
    assert per_lane(launch, "same(t)", np.int32, declare=declare).all()


def test_lanes_that_vote_and_match(launch):
    odd = 0xAAAAAAAA
    assert (per_lane(launch, "__ballot_sync(~0u, t % 2)", np.uint32) == odd).all()
    assert per_lane(launch, "__any_sync(~0u, t == 7)", np.int32).all()
    assert not per_lane(launch, "__all_sync(~0u, t != 7)", np.int32).any()
    found = per_lane(launch, "__match_any_sync(~0u, t % 2)", np.uint32)
    np.testing.assert_array_equal(found, np.where(LANES % 2, odd, odd >> 1))
    found = per_lane(launch, "[&] { int all; return __match_all_sync(~0u, t, &all); }()", np.uint32)
    assert not found.any()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("__reduce_add_sync(~0u, t - 5)", (LANES - 5).sum()),
        ("__reduce_min_sync(~0u, t - 5)", -5),
        ("__reduce_max_sync(~0u, t - 40)", -9),
        ("(int)__reduce_min_sync(~0u, (unsigned)(t - 5))", 0),
        ("(int)__reduce_max_sync(~0u, (unsigned)(t - 5))", -1),
        ("(int)__reduce_or_sync(~0u, 1u << t / 8)", 15),
        ("(int)__reduce_and_sync(~0u, 12u + t % 2)", 12),
        ("(int)__reduce_xor_sync(~0u, (unsigned)t)", 0),
        ("__syncthreads_count(t % 3 == 0)", 11),
        ("__syncthreads_or(t == 3)", 1),
        ("__syncthreads_and(t != 3)", 0),
    ],
)
def test_reductions_of_lanes_and_blocks(launch, call, expected):
    assert (per_lane(launch, call, np.int32) == expected).all()


# The operation, the value that all 64 threads give, what is there before, and what is there after.
ATOMICS = [
    ("int", "atomicAdd(p, t)", 5, 5 + sum(range(64))),
    ("float", "atomicAdd(p, 0.5f)", 1, 33),
    ("double", "atomicAdd(p, 0.5)", 1, 33),
    ("unsigned long long", "atomicAdd(p, 1ull << 40)", 1, 1 + (1 << 46)),
    ("int", "atomicSub(p, t)", 5, 5 - sum(range(64))),
    ("int", "atomicMin(p, 10 - t)", 5, -53),
    ("unsigned", "atomicMin(p, 10u + t)", 50, 10),
    ("int", "atomicMax(p, t)", 5, 63),
    ("long long", "atomicMax(p, (long long)t << 33)", 5, 63 << 33),
    ("unsigned", "atomicAnd(p, ~(1u << t / 4))", 0x1FFFF, 0x10000),
    ("unsigned", "atomicOr(p, 1u << t / 4)", 0x10000, 0x1FFFF),
    ("unsigned", "atomicXor(p, 1u << t)", 3, None),
    ("unsigned", "atomicInc(p, 9)", 0, 4),
    ("unsigned", "atomicDec(p, 9)", 0, 6),
    ("int", "atomicCAS(p, t, t + 1)", 0, 64),
]


@pytest.mark.parametrize("place", ["global", "shared"])
@pytest.mark.parametrize(("T", "call", "before", "after"), ATOMICS)
def test_atomics(launch, T, call, before, after, place):
    names = {"int": np.int32, "unsigned": np.uint32, "float": np.float32, "double": np.float64}
    x = np.array([before], names.get(T, np.int64))
    if "1u << t)" in call:  # a shift by 32 and more is a fault
        call, after = "atomicXor(p, 1u << t % 32)", before
    shared = "__shared__ T s; if (t == 0) s = *x; __syncthreads(); T* p = &s;"
    body = shared if place == "shared" else "T* p = x;"
    end = "__syncthreads(); if (t == 0) *x = s;" if place == "shared" else ""
    launch(
        f"typedef {T} T;\n"
        f'extern "C" __global__ void k(T* x) {{ int t = threadIdx.x; {body} {call}; {end} }}',
        x,
        block=64,
    )
    assert x[0] == after


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("__popc(0xf0f)", 8),
        ("__clz(1)", 31),
        ("__clz(0)", 32),
        ("__ffs(8)", 4),
        ("(int)__brev(1u)", -(2**31)),
        ("(int)__byte_perm(0x33221100, 0x77665544, 0x7410)", 0x77441100),
        ("(int)__funnelshift_l(0x80000000u, 1, 1)", 3),
        ("(int)__funnelshift_r(0, 1, 1)", -(2**31)),
        ("__mulhi(1 << 30, 8)", 2),
        ("(int)__umulhi(~0u, ~0u)", -2),
        ("(int)__umul64hi(~0ull, 5)", 4),
        ("__dp4a(0x01020304, 0x01010101, 5)", 15),
        ("__float_as_int(1.0f)", 0x3F800000),
        ("__double2hiint(1.0)", 0x3FF00000),
        ("__float2int_rz(-1.7f)", -1),
        ("__float2int_rn(2.5f)", 2),
        ("__float2int_ru(1.2f)", 2),
        ("__float2int_rd(-1.2f)", -2),
        ("__float2int_rz(1e20f)", 2**31 - 1),
        ("__float2int_rz(-1e20f)", -(2**31)),
        ('__float2int_rz(nanf(""))', 0),
        ('(int)(__float2ll_rz(nanf("")) >> 32)', -(2**31)),
        ("(int)__float2uint_rz(-5.0f)", 0),
        ("__float_as_int(__int2float_rz(0x7fffffff))", 0x4EFFFFFF),
        ("__float_as_int(__int2float_ru(16777217))", 0x4B800001),
        ("__float_as_int(__double2float_rd(0.1))", 0x3DCCCCCC),
        ("min(3, 5) + max(2u, 7u) + (int)max(1.5f, 2.5f)", 12),
    ],
)
def test_intrinsics(launch, expression, expected):
    assert (per_lane(launch, expression, np.int32) == expected).all()


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("rsqrtf", lambda x: 1 / np.sqrt(x)),
        ("__expf", np.exp),
        ("exp10f", lambda x: 10**x),
        ("__logf", np.log),
        ("sinpif", lambda x: np.sin(np.pi * x)),
        ("normcdff", lambda x: 0.5 * (1 + np.vectorize(__import__("math").erf)(x / np.sqrt(2)))),
        ("__frcp_rn", lambda x: 1 / x),
        ("erff", np.vectorize(__import__("math").erf)),
        ("__tanhf", np.tanh),
        ("log1pf", np.log1p),
    ],
)
def test_mathematics(launch, name, reference):
    found = per_lane(launch, f"{name}((t + 1) * 0.1f)", np.float32)
    expected = reference((LANES + 1) * np.float64(np.float32(0.1)))
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=1e-6)


def test_blocks_of_three_dimensions(launch):
    x = np.full((4, 3, 5, 2, 3, 4), -1, np.int32)
    launch(
        """extern "C" __global__ void k(int* x) {
            int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
            int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
            x[block * (blockDim.x * blockDim.y * blockDim.z) + thread] = block * 100 + thread;
        }""",
        x,
        grid=(5, 3, 4),
        block=(4, 3, 2),
    )
    blocks, threads = np.arange(60)[:, None], np.arange(24)[None]
    np.testing.assert_array_equal(x.reshape(60, 24), blocks * 100 + threads)


def test_parameters_keep_their_places(launch):
    x = np.zeros(5)
    launch(
        """struct Pair { short a; double b; };
        extern "C" __global__ void k(char c, double* x, short s, float f, Pair p) {
            if (threadIdx.x == 0) { x[0] = c; x[1] = s; x[2] = f; x[3] = p.a; x[4] = p.b; }
        }""",
        np.int8(-7),
        x,
        np.int16(-300),
        np.float32(2.5),
        np.array((9, 0.25), np.dtype([("a", np.int16), ("b", np.float64)], align=True))[()],
    )
    np.testing.assert_array_equal(x, [-7, -300, 2.5, 9, 0.25])


def test_functions_templates_and_tables(launch):
    x = np.zeros(32, np.float32)
    launch(
        """#define COUNT 4
        __constant__ float table[COUNT] = {1, 2, 3, 4};
        __device__ int calls;
        template <class T, int N> __device__ T power(T x) {
            if constexpr (N == 0) return 1; else return x * power<T, N - 1>(x);
        }
        __device__ __noinline__ int depth(int n) { return n ? 1 + depth(n - 1) : 0; }
        #if 0
        extern "C" __global__ void never(int* x) {}
        #endif
        // __global__ void comment(int* x) {}
        template <class T> __global__ void generic(T* x) { *x = 0; }
        __global__ void __launch_bounds__(COUNT * 8, 1) other(float* x);
        extern "C" __global__ void __launch_bounds__(COUNT * 8) k(float* x) {
            atomicAdd(&calls, 1);
            x[threadIdx.x] = power<float, 3>(threadIdx.x) + table[threadIdx.x % COUNT] + depth(10);
        }""",
        x,
    )
    np.testing.assert_array_equal(x, LANES**3 + LANES % 4 + 1 + 10)


def test_shared_memory_of_functions_and_of_a_launch(launch):
    source = """
    __device__ float sum(float value) {
        __shared__ float parts[32];
        parts[threadIdx.x] = value;
        __syncthreads();
        float total = 0;
        for (int i = 0; i < 32; i++) total += parts[i];
        __syncthreads();
        return total;
    }
    extern "C" __global__ void other(double* x) { extern __shared__ float more[]; more[0] = *x; }
    extern "C" __global__ void k(float* x, int n) {
        extern __shared__ float more[];
        for (int i = threadIdx.x; i < n; i += 32) more[i] = x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = sum(more[n - 32 + threadIdx.x]);
    }"""
    x = np.arange(32, dtype=np.float32)
    launch(source, x, np.int32(25000), shared=100_000)
    assert (x == LANES.sum()).all()


def test_a_barrier_orders_blocks_larger_than_a_warp(launch):
    x = np.arange(1024, dtype=np.float32)
    launch(
        """extern "C" __global__ void k(float* x) {
            __shared__ float s[1024];
            int t = threadIdx.x;
            s[t] = x[t];
            __syncthreads();
            for (int step = 1; step < 1024; step *= 2) {
                float before = t >= step ? s[t - step] : 0;
                __syncthreads();
                s[t] += before;
                __syncthreads();
            }
            x[t] = s[t];
        }""",
        x,
        block=1024,
    )
    np.testing.assert_array_equal(x, np.arange(1024).cumsum())


def test_the_last_block_sums_up(launch):
    """Fences and an atomic counter order blocks, so this is no race."""
    source = """
    __device__ unsigned done;
    extern "C" __global__ void k(float* parts, float* out) {
        __shared__ bool last;
        if (threadIdx.x == 0) {
            parts[blockIdx.x] = blockIdx.x + 1;
            __threadfence();
            last = atomicInc(&done, gridDim.x - 1) == gridDim.x - 1;
        }
        __syncthreads();
        if (last && threadIdx.x == 0) {
            float sum = 0;
            for (int i = 0; i < gridDim.x; i++) sum += parts[i];
            *out = sum;
        }
    }"""
    parts, out = np.zeros(8, np.float32), np.zeros(1, np.float32)
    launch(source, parts, out, grid=8)
    assert out[0] == 36
    with pytest.raises(cuda.LaunchError, match="race: reads what block"):
        launch(source.replace("__threadfence();", ""), parts, out, grid=8)


def test_large_parameters_and_copies(launch):
    x = np.zeros(64, np.float32)
    dtype = np.dtype([("values", np.float32, 64)])
    given = np.zeros((), dtype)
    given["values"] = np.arange(64)
    source = """struct Many { float values[64]; };
    extern "C" __global__ void k(float* x, Many many, int n) {
        if (threadIdx.x == 0) memcpy(x, many.values, n);
    }"""
    launch(source, x, given[()], np.int32(256))
    np.testing.assert_array_equal(x, np.arange(64))
    with pytest.raises(cuda.LogicError, match=r"kernel\.cu:3: writes 260 bytes .*: byte 0 past"):
        launch(
            source.replace("[64]", "[65]"),
            x,
            np.zeros(65, np.float32).view(np.dtype([("values", np.float32, 65)]))[0],
            np.int32(260),
        )


def test_printing(launch, capfd):
    launch(
        """extern "C" __global__ void k(int n) {
            if (threadIdx.x == 3) printf("thread %d of %d\\n", threadIdx.x, n);
        }""",
        np.int32(32),
    )
    assert capfd.readouterr().out == "thread 3 of 32\n"


def test_a_variable_that_nobody_set(launch):
    x = np.zeros(32, np.float32)
    launch(
        """extern "C" __global__ void k(float* x) {
            float sum[2];
            for (int i = threadIdx.x; i < 40; i += 32) sum[i % 2] += i;
            x[threadIdx.x] = sum[threadIdx.x % 2];
        }""",
        x,
    )
    assert (np.abs(x) > 1e30).all()


def test_errors_of_the_source(context):
    from pycuda.compiler import SourceModule

    with pytest.raises(cuda.CompileError, match=r"kernel\.cu:3:.*'y' was not declared"):
        SourceModule("__global__ void k(float* x) {\n  *x = y;\n}")
    source = "__global__ void k(float* x) { __shared__ float s[20000]; s[(int)*x] = 1; *x = s[1]; }"
    with pytest.raises(cuda.CompileError, match="uses too much shared data"):
        SourceModule(source)
