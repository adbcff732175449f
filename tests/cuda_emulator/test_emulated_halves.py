"""The 16-bit floats on the emulated driver: NVIDIA's headers, and what it adds to them."""

import cuda_device
import ml_dtypes
import numpy as np
import pytest

pytestmark = cuda_device.emulated_only

TYPES = {"__half": (np.float16, "half"), "__nv_bfloat16": (ml_dtypes.bfloat16, "bfloat16")}
HEAD = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n"
FUNCTIONS = {
    "hsin": np.sin,
    "hcos": np.cos,
    "hexp": np.exp,
    "hexp2": np.exp2,
    "hexp10": lambda x: 10**x,
    "hlog": np.log,
    "hlog2": np.log2,
    "hlog10": np.log10,
    "hrcp": lambda x: 1 / x,
    "hrsqrt": lambda x: 1 / np.sqrt(x),
    "hsqrt": np.sqrt,
    "htrunc": np.trunc,
    "hceil": np.ceil,
    "hfloor": np.floor,
    "hrint": np.rint,
    "htanh": np.tanh,
    "__habs": np.abs,
    "__hneg": np.negative,
}


def bits(array):
    return np.asarray(array).view(np.uint16)


def apply(launch, T, expression, *operands):
    """An expression of a, b and c, elementwise."""
    out = np.zeros_like(operands[0])
    names = "abc"[: len(operands)]
    loads = " ".join(f"T {n} = p{n}[i];" for n in names)
    parameters = ", ".join(f"const T* p{n}" for n in names)
    launch(
        f'{HEAD}typedef {T} T;\nextern "C" __global__ void k(unsigned short* out, {parameters}) {{'
        f" int i = blockIdx.x * 32 + threadIdx.x; {loads} ((T*)out)[i] = {expression}; }}",
        bits(out),
        *map(bits, operands),
        grid=len(out) // 32,
    )
    return out


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("T", TYPES)
def test_functions(launch, T, name):
    dtype = TYPES[T][0]
    x = np.linspace(0.1, 4, 64).astype(dtype)
    found = apply(launch, T, f"{name}(a)", x)
    expected = FUNCTIONS[name](x.astype(np.float32)).astype(dtype)
    distance = np.abs(bits(found).astype(int) - bits(expected))
    assert distance.max() <= 1


@pytest.mark.parametrize("T", TYPES)
@pytest.mark.parametrize("operator", ["+", "-", "*", "/"])
def test_arithmetic(launch, T, operator):
    dtype = TYPES[T][0]
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 256)).astype(dtype)
    found = apply(launch, T, f"a {operator} b", a, b)
    wide = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}[operator]
    expected = wide(a.astype(np.float32), b.astype(np.float32)).astype(dtype)
    np.testing.assert_array_equal(bits(found), bits(expected))


@pytest.mark.parametrize("T", TYPES)
def test_products_and_sums_round_once(launch, T):
    dtype = TYPES[T][0]
    digits = np.finfo(dtype).nmant if dtype is np.float16 else 7
    rng = np.random.default_rng(1)
    a, b, c = rng.normal(size=(3, 256)).astype(dtype)
    # a * b lies half way between two numbers, and c is so small that only exact sums notice it.
    a[:2], b[:2] = 1 + 2.0 ** (1 - digits), 1 + 2.0**-2
    a[:2] = [1 + 2.0**-digits] * 2
    b[:2] = [1.5, 1.5]
    c[:2] = [2.0**-20, -(2.0**-20)]
    found = apply(launch, T, "__hfma(a, b, c)", a, b, c)
    exact = a.astype(np.longdouble) * b.astype(np.longdouble) + c.astype(np.longdouble)
    upper = (exact * (1 + np.longdouble(2) ** -60)).astype(np.float64).astype(dtype)
    nearest = exact.astype(np.float64).astype(dtype)
    assert ((bits(found) == bits(nearest)) | (bits(found) == bits(upper))).all()
    assert bits(found)[0] != bits(found)[1]


def test_pairs(launch):
    x = np.arange(64, dtype=np.float16) / 8
    out = np.zeros(64, np.float16)
    launch(
        HEAD
        + """extern "C" __global__ void k(__half2* out, const __half2* x) {
            __half2 v = x[threadIdx.x];
            out[threadIdx.x] = __hfma2(v, v, __hadd2(v, __float2half2_rn(1.0f)));
        }""",
        bits(out),
        bits(x),
    )
    np.testing.assert_array_equal(out, (x.astype(np.float32) ** 2 + x + 1).astype(np.float16))


@pytest.mark.parametrize("T", TYPES)
def test_sums_by_atomics(launch, T):
    dtype, name = TYPES[T]
    x = np.zeros(2, dtype)
    launch(
        HEAD + f'extern "C" __global__ void k({T}* x) '
        f"{{ atomicAdd(x + threadIdx.x % 2, __float2{name}(0.5f)); }}",
        bits(x),
    )
    assert (x == 8).all()


def test_conversions_saturate(launch):
    x = np.array([1e4, -1e4, np.nan, 2.5] + [0] * 28, np.float16)
    out = np.zeros((3, 32), np.int32)
    launch(
        HEAD
        + """extern "C" __global__ void k(int* out, const __half* x) {
            int i = threadIdx.x;
            out[i] = __half2short_rn(__hmul(x[i], __float2half(4.0f)));
            out[32 + i] = __half2int_ru(x[i]);
            out[64 + i] = __half2uint_rd(x[i]);
        }""",
        out,
        bits(x),
    )
    np.testing.assert_array_equal(
        out[:, :4], [[32767, -32768, 0, 10], [10000, -10000, 0, 3], [10000, 0, 0, 2]]
    )
