"""Sort kernels of every method, dtype and target against the loops interpreter."""

import numpy as np
import pytest
from kernels import check, program_of
from native import Native, runnable_targets

from braze.codegen.llvm.sort_plan import sort_plan
from braze.ir.dtypes import REAL, DType, bool_, f32, i64
from braze.ir.loops_parser import parse_kernel
from braze.ir.loops_verifier import verify_kernel
from braze.ir.ops.sorting import positions_in_order
from braze.runtime.cpu import host_target

# Random bits hold signalling nans, which NumPy remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value")


def sort_text(dtype: DType, rows: int, length: int, kept: int, descending: bool, chunks: int = 1):
    return f"""sort @order(%x: {dtype.name}[{rows * length}] in,
      %v: {dtype.name}[{rows * kept}] out, %i: i64[{rows * kept}] out) {{
      for r in {rows} {f'chunks {chunks}' if chunks > 1 else ''} {{
        order j in {length} {'descending' if descending else ''} {{
          by %x[{length}*r + j]
        }}
        first k in {kept} {{
          store %v[{kept}*r + k] = key
          store %i[{kept}*r + k] = position
        }}
      }}
    }}"""


def keys(dtype: DType, count: int, seed: int = 0) -> np.ndarray:
    """Special values, values of all bit patterns, and many equal ones."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "bool":
        return rng.random(count) < 0.3
    raw = rng.integers(0, 256, count * dtype.itemsize, dtype=np.uint8).view(dtype.numpy)
    if dtype.is_floating_point:
        some = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf, 1.0, -1.0, 2.5, 3e-5, -3e-5])
    else:
        limits = np.iinfo(dtype.numpy)
        some = np.array([limits.min, limits.max, 0, 1, 7], dtype.numpy)
    equal = rng.choice(some, count).astype(dtype.numpy)
    return np.where(rng.random(count) < 0.6, equal, raw)


def run(dtype, rows, length, kept, descending, x, targets=None, threads=2, chunks=1):
    """Native results of each target, checked against `positions_in_order`, bit for bit."""
    program = program_of(sort_text(dtype, rows, length, kept, descending, chunks))
    order = positions_in_order(x.reshape(rows, length), 1, descending)[:, :kept]
    values = np.take_along_axis(x.reshape(rows, length), order, 1)
    blank = [np.zeros(rows * kept, dtype.numpy), np.zeros(rows * kept, np.int64)]
    for target in targets or runnable_targets():
        v, i = Native(program, target, threads=threads).run([x], blank)
        assert np.array_equal(i.reshape(rows, kept), order), target.name
        v = v.reshape(rows, kept)
        if dtype.is_floating_point:
            nan = np.isnan(values)
            assert np.array_equal(np.isnan(v), nan), target.name
            v, wanted = np.where(nan, 0, v), np.where(nan, 0, values)
            assert v.tobytes() == wanted.tobytes(), target.name
        else:
            assert np.array_equal(v, values), target.name


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 17, 64, 1000])
@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_every_dtype_and_length(dtype, length, descending):
    x = keys(dtype, 3 * length)
    targets = [host_target()] if length < 17 else runnable_targets()
    run(dtype, 3, length, length, descending, x, targets, chunks=3)


@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_the_loops_interpreter_agrees(dtype):
    text = sort_text(dtype, 3, 70, 70, False, chunks=2)
    check(program_of(text), {"x": keys(dtype, 210)}, targets=[host_target()])


@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_long_rows(dtype):
    """Wider digits, of which the last is short."""
    run(dtype, 1, 100_000, 100_000, False, keys(dtype, 100_000))
    run(dtype, 1, 100_000, 100_000, True, keys(dtype, 100_000), [host_target()])


@pytest.mark.parametrize("kept", [1, 2, 5, 31, 64])
@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_selection(dtype, kept):
    length = 2500
    kernel = parse_kernel(sort_text(dtype, 2, length, kept, True))
    assert sort_plan(kernel, host_target()).method == "select"
    for descending in (False, True):
        run(dtype, 2, length, kept, descending, keys(dtype, 2 * length, kept))


@pytest.mark.parametrize("order", ["ascending", "descending", "equal"])
@pytest.mark.parametrize(("length", "kept"), [(20, 20), (300, 300), (3000, 10)])
def test_rows_that_are_in_order(length, kept, order):
    x = np.arange(length, dtype=np.float32)
    x = {"ascending": x, "descending": x[::-1].copy(), "equal": np.ones_like(x)}[order]
    for descending in (False, True):
        run(f32, 1, length, kept, descending, x)


@pytest.mark.parametrize("size", [1, 3, 255, 256, 2**11, 2**22])
def test_passes_over_equal_digits_are_left_out(size):
    """Any number of passes, odd or even, leaves the records where they are looked for."""
    x = np.random.default_rng(0).integers(0, size, 2000) * 1009 + 5
    run(i64, 1, 2000, 2000, False, x)


def test_methods():
    def method(dtype, length, kept):
        kernel = parse_kernel(sort_text(dtype, 1, length, kept, False))
        return sort_plan(kernel, host_target()).method

    assert method(f32, 16, 16) == method(i64, 16, 1) == "ranks"
    assert method(f32, 1000, 1000) == method(i64, 100, 100) == method(f32, 1000, 500) == "radix"
    assert method(f32, 1000, 10) == method(i64, 1000, 1) == "select"


INNER = """sort @inner(%x: f32[60] in, %m: f32[4] in, %v: f32[24] out, %i: i64[24] out) {
  for a in 4, b in 3 chunks 4 {
    order j in 5 descending {
      $0 = mul(%x[15*a + b + 3*j], %m[a])
      by mul($0, $0)
    }
    first k in 2 {
      store %v[6*a + b + 3*k] = sqrt(key)
      store %i[6*a + b + 3*k] = add(position, index(100*a))
    }
  }
}"""


def test_keys_and_results_may_be_computed():
    kernel = parse_kernel(INNER)
    verify_kernel(kernel)
    assert str(kernel) == INNER and str(parse_kernel(str(kernel))) == INNER
    check(program_of(INNER))


@pytest.mark.parametrize("dtype", [f32, i64, bool_], ids=lambda d: d.name)
@pytest.mark.parametrize(("length", "kept"), [(33, 33), (300, 300), (300, 3)])
@pytest.mark.parametrize("chunks", [1, 5])
def test_rows_a_power_of_two_apart_are_packed_together(length, kept, chunks, dtype):
    """The last band has fewer rows; chunks may have none."""
    size = 1024 // dtype.itemsize
    last = size - 3
    text = f"""sort @columns(%x: {dtype.name}[{2 * length * size}] in,
      %v: {dtype.name}[{2 * kept * last}] out, %i: i64[{2 * kept * last}] out) {{
      for a in 2, b in {last} {f"chunks {chunks}" if chunks > 1 else ""} {{
        order j in {length} descending {{
          by %x[{length * size}*a + b + {size}*j + 1]
        }}
        first k in {kept} {{
          store %v[{kept * last}*a + b + {last}*k] = key
          store %i[{kept * last}*a + b + {last}*k] = position
        }}
      }}
    }}"""
    program = program_of(text)
    (kernel,) = program.kernels()
    assert sort_plan(kernel, host_target()).columns > 1
    x = keys(dtype, 2 * length * size)
    part = x.reshape(2, length, size)[:, :, 1 : 1 + last]
    order = positions_in_order(part, 1, True)[:, :kept]
    blank = [np.zeros(2 * kept * last, dtype.numpy), np.zeros(2 * kept * last, np.int64)]
    for target in runnable_targets():
        v, i = Native(program, target).run([x], blank)
        assert np.array_equal(i.reshape(order.shape), order)
        wanted = np.take_along_axis(part, order, 1)
        np.testing.assert_array_equal(v.reshape(order.shape), wanted)


def test_only_what_is_wanted_is_stored():
    text = """sort @indices(%x: i32[50] in, %i: i64[50] out) {
      for {
        order j in 50 {
          by %x[j]
        }
        first k in 50 {
          store %i[k] = position
        }
      }
    }"""
    check(program_of(text))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_have_scratch_of_their_own(threads):
    """Also beside a contraction, whose workspace has another size."""
    sort = sort_text(f32, 64, 500, 500, False, chunks=16)
    gemm = """contraction @product(%a: f32[40000] in, %b: f32[40000] in, %c: f32[40000] out) {
      for i in 200, j in 200 {
        acc: f32 = sum k in 200 of %a[200*i + k] * %b[j + 200*k]
        store %c[200*i + j] = acc
      }
    }"""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(32_000).astype(np.float32)
    a, b = (rng.standard_normal((200, 200)).astype(np.float32) for _ in range(2))
    sizes = [(32_000, np.float32), (32_000, np.int64), (40_000, np.float32)]
    outputs = [np.zeros(size, dtype) for size, dtype in sizes]
    native = Native(program_of([sort, gemm]), threads=threads)
    for _ in range(5):
        v, i, c = native.run([x, a, b], outputs)
        assert np.array_equal(v.reshape(64, 500), np.sort(x.reshape(64, 500), 1))
        assert np.array_equal(i.reshape(64, 500), np.argsort(x.reshape(64, 500), 1, "stable"))
        assert np.allclose(c.reshape(200, 200), a @ b, atol=1e-4)


def test_nothing_to_sort():
    check(program_of(sort_text(f32, 0, 5, 5, False)))
