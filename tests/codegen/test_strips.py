"""Reductions of wide columns, whose sums wait in memory while rows are read in long runs."""

import numpy as np
import pytest
from kernels import check, program_of
from native import Native

from braze.codegen.llvm.program import generate
from braze.ir.target import named_target
from braze.runtime.cpu import host_target

TOLERANCE = {"f16": 2e-3, "bf16": 1e-2, "f32": 1e-5, "f64": 1e-12}


def columns_of(rows, columns, dtype="f32", chunks=1, combine="sum"):
    parts = f" chunks {chunks}" if chunks > 1 else ""
    return f"""nest @columns(%x: {dtype}[{rows * columns}] in, %o: {dtype}[{columns}] out) {{
      for j in {columns} vector{parts} {{
        reduce i in {rows} {{
          s = {combine}(%x[{columns}*i + j])
        }}
        store %o[j] = s
      }}
    }}"""


def is_in_strips(program, target=None):
    modules = generate(program, target or host_target()).modules
    return any('%"strip' in str(m) or "%strip" in str(m) for m in modules)


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64", "bf16", "f16"])
@pytest.mark.parametrize(
    ("rows", "columns"),
    [(64, 640), (33, 1000), (18, 3000), (130, 517)],  # whole fours of rows or not, tails or not
)
def test_every_shape(rows, columns, dtype):
    program = program_of(columns_of(rows, columns, dtype))
    assert is_in_strips(program) or rows * columns * 2 < 100_000
    check(program, tolerance=TOLERANCE.get(dtype, 0))


@pytest.mark.parametrize("combine", ["prod", "amax", "amin"])
def test_other_reductions(combine):
    check(program_of(columns_of(50, 700, combine=combine)))


def test_nan_is_the_largest_of_its_column():
    program = program_of(columns_of(64, 640, combine="amax"))
    assert is_in_strips(program)
    x = np.random.default_rng(0).standard_normal((64, 640)).astype(np.float32)
    x[63, 5] = x[0, 639] = np.nan
    (most,) = Native(program).run([x], [np.zeros(640, np.float32)])
    np.testing.assert_array_equal(most, x.max(axis=0))


@pytest.mark.parametrize("chunks", [2, 3])
def test_chunks(chunks):
    program = program_of(columns_of(40, 3001, chunks=chunks))
    assert is_in_strips(program)
    check(program)


def test_two_sums_over_two_dimensions_and_what_becomes_of_them():
    """The statistics of a batch normalisation, channels last, of a difference."""
    program = program_of("""nest @norm(%x: f32[38400] in, %c: f32[640] in, %m: f32[640] out,
        %v: f32[640] out) {
      for j in 640 vector {
        reduce n in 4, i in 15 {
          s = sum(sub(%x[9600*n + 640*i + j], %c[j]))
          t = sum(mul(%x[9600*n + 640*i + j], %x[9600*n + 640*i + j]))
        }
        store %m[j] = add(mul(s, 0.0166666), %c[j])
        store %v[j] = sub(mul(t, 0.0166666), mul(s, s))
      }
    }""")
    assert is_in_strips(program)
    check(program, tolerance=1e-4)


def test_long_sums_are_accurate():
    rows, columns = 100_003, 320
    program = program_of(columns_of(rows, columns))
    assert is_in_strips(program)
    x = (1 + 0.01 * np.random.default_rng(5).standard_normal((rows, columns))).astype(np.float32)
    (total,) = Native(program).run([x], [np.zeros(columns, np.float32)])
    exact = x.sum(axis=0, dtype=np.float64)
    assert (np.abs(total - exact) <= 1e-6 * exact).all()


def test_sums_without_end_stay_in_registers():
    """So long that blocks of blocks would be needed."""
    assert not is_in_strips(program_of(columns_of(1 << 20, 320)), named_target("x86-64-v4"))


def test_whole_rows_that_fit_registers_are_read_in_one_run():
    program = program_of(columns_of(256, 256))
    (module,) = generate(program, named_target("x86-64-v4")).modules
    assert not is_in_strips(program, named_target("x86-64-v4"))
    assert str(module).count("load <16 x float>") == 16


def test_few_rows_stay_in_registers():
    assert not is_in_strips(program_of(columns_of(8, 4000)))
