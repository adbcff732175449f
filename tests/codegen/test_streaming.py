"""Stores past the caches: where they are used, and that nothing else changes."""

import re

import numpy as np
import pytest
from kernels import check, program_of
from native import Native, runnable_targets

from braze.codegen.llvm import streaming
from braze.codegen.llvm.compile import assembly
from braze.codegen.llvm.program import generate
from braze.ir.target import named_target
from braze.runtime.cpu import host_target

V4 = named_target("x86-64-v4")


@pytest.fixture
def always(monkeypatch):
    """Stream whatever can be."""
    monkeypatch.setattr(streaming, "STREAMING_KERNEL_BYTES", 0)
    monkeypatch.setattr(streaming, "STREAMED_BYTES", 0)


def copy_of(n, dtype="f32", chunks=1):
    cut = f" chunks {chunks}" if chunks > 1 else ""
    return program_of(f"""nest @copy(%x: {dtype}[{n}] in, %y: {dtype}[{n}] out) {{
      for i in {n} vector{cut} {{
        store %y[i] = add(%x[i], %x[i])
      }}
    }}""")


def rows_of(n, m):
    return program_of(f"""nest @rows(%x: f32[{n * m}] in, %y: f32[{n * m}] out) {{
      for i in {n} chunks 2 {{
        reduce r in {m} vector {{
          sum0 = sum(%x[{m}*i + r])
        }}
        for j in {m} vector {{
          store %y[{m}*i + j] = mul(%x[{m}*i + j], sum0)
        }}
      }}
    }}""")


def streams(program, target=V4):
    """How many streaming stores there are; each kernel that has any ends with a fence."""
    generated = generate(program, target)
    found = 0
    for _, text in generated.modules:
        lines = assembly(text, target)
        count = len(re.findall(r"\bv?movnt", lines))
        assert ("sfence" in lines) == (count > 0)
        found += count
    return found


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "u8", "bf16"])
@pytest.mark.parametrize("n", [1, 16, 17, 64, 100, 1000, 4099])
def test_copies_of_every_size(always, n, dtype):
    check(copy_of(n, dtype))
    check(copy_of(n, dtype, chunks=3))


@pytest.mark.parametrize("m", [64, 65, 72, 1000])
def test_rows_that_begin_anywhere(always, m):
    """Only some rows, if any but the first, begin at a multiple of a vector's size."""
    check(rows_of(9, m))


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
def test_results_at_odd_addresses(always, target):
    """Whoever calls a package may hand over any memory."""
    native = Native(copy_of(1000), target, threads=1)
    x = np.arange(1000, dtype=np.float32)
    for shift in (0, 1, 3, 8):
        memory = np.full(1100, 7, np.float32)
        y = memory[shift + 16 : shift + 1016]
        native.call([x.ctypes.data, y.ctypes.data])
        np.testing.assert_array_equal(y, 2 * x)
        assert (memory[: shift + 16] == 7).all() and (memory[shift + 1016 :] == 7).all()


def test_a_result_over_its_operand(always):
    program = copy_of(1000)
    x = np.arange(1000, dtype=np.float32)
    (found,) = Native(program, host_target()).run([x], [x], aliases={0: 0})
    np.testing.assert_array_equal(found, 2 * x)


@pytest.mark.parametrize(
    ("mebibytes", "is_streamed"), [(15, False), (24, False), (47, False), (48, True), (64, True)]
)
def test_large_kernels_stream(mebibytes, is_streamed):
    assert bool(streams(copy_of(mebibytes << 18))) == is_streamed


def waiting_rows(n, m, last="mul(%y[{m}*i + j], sum0)", shift=0, guard=""):
    """Rows of which a result's place holds exponentials first."""
    value = last.format(m=m)
    return program_of(f"""nest @twice(%x: f32[{n * m}] in, %y: f32[{n * m + shift}] inout) {{
      for i in {n} chunks 2 {{
        for j in {m} vector {{
          store %y[{m}*i + j] = exp(%x[{m}*i + j])
        }}
        reduce r in {m} vector {{
          sum0 = sum(%y[{m}*i + r])
        }}
        for j in {m} vector {{
          store %y[{m}*i + j + {shift}{guard}] = {value}
        }}
      }}
    }}""")


@pytest.mark.parametrize("m", [16, 64, 65, 72, 1000])
def test_rows_that_are_read_again_wait_apart(always, m):
    program = waiting_rows(9, m)
    assert streams(program) and fetches(program)
    check(program)


def fetches(program):
    return any("llvm.prefetch" in text for _, text in generate(program, V4).modules)


def test_rows_wait_apart_from_an_operand_in_their_place(always):
    program = waiting_rows(7, 100, last="mul(%y[{m}*i + j], mul(%x[{m}*i + j], sum0))")
    x = np.random.default_rng(0).standard_normal(700).astype(np.float32)
    apart = Native(program, threads=2).run([x], [np.zeros(700, np.float32)])
    (within,) = Native(program, threads=2).run([x], [x], aliases={0: 0})
    e = np.exp(x.reshape(7, 100).astype(np.float64))
    np.testing.assert_allclose(apart[0], (e * x.reshape(7, 100) * e.sum(1)[:, None]).ravel(), 1e-5)
    # The reduction's exponentials are there before anything is overwritten.
    np.testing.assert_array_equal(within, apart[0])


@pytest.mark.parametrize(
    "program",
    [
        waiting_rows(3, 20_000),  # longer than the first-level cache
        waiting_rows(3, 64, shift=1),  # stored elsewhere than it was read
        waiting_rows(3, 64, guard=" if 0 <= j - 2 < 60"),
        waiting_rows(3, 64, last="mul(%y[{m}*i + 63 - j], sum0)"),
    ],
    ids=["long", "shifted", "guarded", "backwards"],
)
def test_rows_that_are_used_otherwise_stay(always, program):
    assert not streams(program)


def test_a_row_that_is_read_first_stays(always):
    program = program_of("""nest @more(%x: f32[640] in, %y: f32[640] inout) {
      for i in 10 {
        for j in 64 vector {
          store %y[64*i + j] = add(%y[64*i + j], %x[64*i + j])
        }
        for j in 64 vector {
          store %y[64*i + j] = mul(%y[64*i + j], %x[64*i + j])
        }
      }
    }""")
    assert not streams(program)


def test_what_lies_over_an_operand_in_the_arena_stays(always):
    texts = [
        """nest @a(%x: f32[64] in, %y: f32[64] out) {
          for i in 64 vector {
            store %y[i] = add(%x[i], 1.0)
          }
        }""",
        """nest @b(%y: f32[64] in, %z: f32[64] out) {
          for i in 64 vector {
            store %z[i] = mul(%y[i], %y[i])
          }
        }""",
        """nest @c(%z: f32[64] in, %o: f32[1] out) {
          reduce i in 64 vector {
            sum0 = sum(%z[i])
          }
          store %o[0] = sum0
        }""",
    ]
    over = program_of(*texts, arena={"y": 0, "z": 0})
    beside = program_of(*texts, arena={"y": 0, "z": 256})
    assert 0 < streams(over) < streams(beside)
    for program in (over, beside):
        check(program)


def test_scattered_guarded_and_scalar_stores_stay(always):
    for store in ("%y[3*i]", "%y[i if 0 <= i - 2 < 90]"):
        text = f"""nest @n(%x: f32[100] in, %y: f32[300] out) {{
          for i in 100 vector {{
            store {store} = %x[i]
          }}
        }}"""
        assert not streams(program_of(text)), store


def test_other_processors_have_plain_stores(always):
    program = copy_of(1000)
    text = "".join(t for _, t in generate(program, named_target("aarch64")).modules)
    assert "nontemporal" not in text
