"""Loop nests as native code, against the loops interpreter: tails, reductions, guards, scatter,
checks.
"""

import numpy as np
import pytest
from kernels import check, program_of
from native import GUARD_BYTE, Native, runnable_targets

from braze.codegen.llvm.compile import assembly
from braze.codegen.llvm.kernel import CodegenError
from braze.codegen.llvm.program import generate
from braze.ir.dtypes import FLOATS, bf16, f16, f32
from braze.ir.index import Index
from braze.ir.loops import Buffer, Nest, Placement, Program, Ref, Store
from braze.ir.op import op_named
from braze.ir.target import named_target
from braze.runtime.cpu import host_target

SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100]
TOLERANCE = {"f16": 2e-3, "bf16": 1e-2, "f32": 1e-5, "f64": 1e-12}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", ["f32", "f64", "i64", "u64", "u16", "u8", "bf16"])
def test_map_of_every_size(n, dtype):
    check(program_of(f"""nest @map(%x: {dtype}[{n}] in, %y: {dtype}[{n}] in,
        %o: {dtype}[{n}] out) {{
      for i in {n} vector {{
        store %o[i] = maximum(add(%x[i], %y[i]), %y[i])
      }}
    }}"""), tolerance=TOLERANCE.get(dtype, 0))  # fmt: skip


@pytest.mark.parametrize("chunks", [2, 3, 7, 64])
@pytest.mark.parametrize("n", [1, 31, 100, 1000])
def test_chunks_cover_a_vector_loop(n, chunks):
    """Each element exactly once: `o` starts at zero and the store accumulates."""
    program = program_of(f"""nest @once(%x: f32[{n}] in, %o: f32[{n}] inout) {{
      for i in {n} vector chunks {chunks} {{
        store %o[i] += add(%x[i], 1.0)
      }}
    }}""")
    check(program, initial={"o": np.zeros(n, np.float32)})


@pytest.mark.parametrize("chunks", [2, 5])
def test_chunks_cover_a_serial_loop(chunks):
    check(program_of(f"""nest @once(%x: f32[77] in, %o: f32[77] inout) {{
      for i in 7 chunks {chunks} {{
        for j in 11 vector {{
          store %o[11*i + j] += %x[11*i + j]
        }}
      }}
    }}"""), initial={"o": np.zeros(77, np.float32)})  # fmt: skip


def test_bias_and_several_results():
    check(
        program_of("""nest @bias(%x: f32[300] in, %b: f32[30] in, %o: f32[300] out,
            %m: bool[300] out) {
      for i in 10 {
        for j in 30 vector {
          $0 = add(%x[30*i + j], %b[j])
          store %o[30*i + j] = maximum($0, 0.0)
          store %m[30*i + j] = gt($0, 0.0)
        }
      }
    }""")
    )


@pytest.mark.parametrize("n", [1, 3, 8, 20])
def test_mixed_widths(n):
    check(program_of(f"""nest @mixed(%x: f32[{n}] in, %k: i64[{n}] in, %t: u8[{n}] in,
        %o: f64[{n}] out, %w: i8[{n}] out) {{
      for i in {n} vector {{
        store %o[i] = add(cast(%x[i]; f64), mul(cast(%k[i]; f64), cast(%t[i]; f64)))
        store %w[i] = cast(index(i); i8)
      }}
    }}"""))  # fmt: skip


# Reductions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES[1:])
@pytest.mark.parametrize("combine", ["sum", "prod", "amax", "amin"])
def test_row_reduce(combine, n):
    check(
        program_of(f"""nest @rows(%x: f32[{3 * n}] in, %o: f32[3] out) {{
      for i in 3 {{
        reduce j in {n} vector {{
          r = {combine}(%x[{n}*i + j])
        }}
        store %o[i] = r
      }}
    }}""")
    )


NUMBERS = ["i64", "i32", "u8", "u16", "u64", "f64", "f16", "bf16"]
REDUCTIONS = [
    *((combine, dtype) for combine in ("sum", "prod") for dtype in NUMBERS),
    *((c, d) for c in ("amax", "amin", "argmax", "argmin") for d in [*NUMBERS, "bool"]),
    ("any", "bool"),
    ("all", "bool"),
]


@pytest.mark.parametrize(("combine", "dtype"), REDUCTIONS)
def test_row_reduce_dtypes(combine, dtype):
    result = "i64" if combine.startswith("arg") else dtype
    at = " at j" if combine.startswith("arg") else ""
    for n in (5, 70):
        check(program_of(f"""nest @rows(%x: {dtype}[{2 * n}] in, %o: {result}[2] out) {{
          for i in 2 {{
            reduce j in {n} vector {{
              r = {combine}(%x[{n}*i + j]){at}
            }}
            store %o[i] = r
          }}
        }}"""), tolerance=TOLERANCE.get(dtype, 0))  # fmt: skip


@pytest.mark.parametrize("columns", [1, 3, 8, 9, 16, 33, 100])
@pytest.mark.parametrize("rows", [1, 2, 7, 33])
def test_column_reduce(rows, columns):
    check(program_of(f"""nest @columns(%x: f32[{rows * columns}] in, %s: f32[{columns}] out,
        %m: f32[{columns}] out) {{
      for j in {columns} vector {{
        reduce i in {rows} {{
          s = sum(%x[{columns}*i + j])
          m = amax(%x[{columns}*i + j])
        }}
        store %s[j] = s
        store %m[j] = m
      }}
    }}"""))  # fmt: skip


@pytest.mark.parametrize("kind", ["", "unroll"])
def test_window_reduce_with_padding(kind):
    """Max pooling 3 x 3 with padding 1, channels last, and where the maximum was."""
    check(program_of(f"""nest @pool(%x: f32[245] in, %o: f32[245] out, %p: i64[245] out) {{
      for y in 7 {{
        for x in 7 {{
          for c in 5 vector {{
            reduce a in 3 {kind}, b in 3 {kind} {{
              $0 = inside(0 <= y + a - 1 < 7 and 0 <= x + b - 1 < 7)
              $1 = %x[35*y + 35*a + 5*x + 5*b + c - 40 if 0 <= y + a - 1 < 7 and 0 <= x + b - 1 < 7]
              m = amax(where($0, $1, -1e30))
              p = argmax(where($0, $1, -1e30)) at 3*a + b
            }}
            store %o[35*y + 5*x + c] = m
            store %p[35*y + 5*x + c] = p
          }}
        }}
      }}
    }}"""))  # fmt: skip


def test_argmax_rules():
    """First of equals; the first nan wins; rows of nothing but -inf; masked tails do not interfere.
    """
    inf, nan = np.inf, np.nan
    rows = np.full((6, 37), -2.0, np.float32)
    rows[0, [5, 20, 36]] = 7
    rows[1, [30, 12]] = nan
    rows[1, 3] = inf
    rows[2] = -inf
    rows[3] = inf
    rows[4, 36] = -1
    rows[5] = -inf
    rows[5, 17] = -3e38
    program = program_of("""nest @arg(%x: f32[222] in, %o: i64[6] out, %q: i64[6] out,
        %m: f32[6] out) {
      for i in 6 {
        reduce j in 37 vector {
          a = argmax(%x[37*i + j]) at j
          b = argmin(%x[37*i + j]) at j
          m = amax(%x[37*i + j])
        }
        store %o[i] = a
        store %q[i] = b
        store %m[i] = m
      }
    }""")
    top, low, _ = check(program, {"x": rows})
    assert np.array_equal(top, rows.argmax(1)) and np.array_equal(low, rows.argmin(1))


def test_argmax_over_columns():
    rows = np.round(np.random.default_rng(0).standard_normal((9, 21)) * 2).astype(np.float32)
    rows[4, 3] = np.nan
    rows[:, 5] = -np.inf
    program = program_of("""nest @arg(%x: f32[189] in, %o: i64[21] out) {
      for j in 21 vector {
        reduce i in 9 {
          a = argmax(%x[21*i + j]) at i
        }
        store %o[j] = a
      }
    }""")
    (found,) = check(program, {"x": rows})
    assert np.array_equal(found, rows.argmax(0))


def test_scalar_reduce_over_two_loops():
    check(program_of("""nest @all(%x: f64[7000] in, %s: f64[1] out, %m: f64[1] out) {
      reduce i in 70, j in 100 {
        s = sum(%x[100*i + j])
        m = amin(mul(%x[100*i + j], %x[j]))
      }
      store %s[0] = s
      store %m[0] = m
    }"""), tolerance=1e-12)  # fmt: skip


@pytest.mark.parametrize("loops", [
    "i in 10000000 vector", "i in 10000000", "i in 1000, j in 10000 vector",
    "i in 100000, j in 100 vector",
    "i in 5000000, j in 2 unroll",
])  # fmt: skip
def test_long_sums_are_accurate(loops):
    """Ten million numbers near 1: a single chain of f32 additions would be off by 1e-2 and more."""
    index = {1: "i", 2: "10000*i + j"}[loops.count(" in ")]
    index = index.replace(
        "10000", "100" if "100000," in loops else "2" if "5000000" in loops else "10000"
    )
    program = program_of(f"""nest @long(%x: f32[10000000] in, %o: f32[1] out) {{
      reduce {loops} {{
        s = sum(%x[{index}])
      }}
      store %o[0] = s
    }}""")
    x = (1 + 0.01 * np.random.default_rng(5).standard_normal(10_000_000)).astype(np.float32)
    (total,) = Native(program).run([x], [np.zeros(1, np.float32)])
    exact = x.sum(dtype=np.float64)
    assert abs(total[0] - exact) <= 1e-6 * exact


def test_long_column_sums_are_accurate():
    program = program_of("""nest @long(%x: f32[4000000] in, %o: f32[4] out) {
      for j in 4 vector {
        reduce i in 1000000 {
          s = sum(%x[4*i + j])
        }
        store %o[j] = s
      }
    }""")
    x = (1 + 0.01 * np.random.default_rng(5).standard_normal((1_000_000, 4))).astype(np.float32)
    (total,) = Native(program).run([x], [np.zeros(4, np.float32)])
    exact = x.sum(axis=0, dtype=np.float64)
    assert (np.abs(total - exact) <= 1e-6 * exact).all()


def test_empty_reductions():
    check(
        program_of("""nest @empty(%x: f32[0] in, %o: f32[3] out, %p: f32[3] out) {
      for i in 3 {
        reduce j in 0 vector {
          s = sum(%x[j])
          p = prod(%x[j])
        }
        store %o[i] = s
        store %p[i] = p
      }
    }""")
    )


@pytest.mark.parametrize("columns", [5, 16, 100])
def test_softmax_and_statistics_of_rows(columns):
    """A row program: several reductions and maps over one row; its scalars are used in lanes."""
    program = program_of(f"""nest @softmax(%x: f32[{9 * columns}] in,
        %o: f32[{9 * columns}] out, %v: f32[9] out) {{
      for i in 9 chunks 4 {{
        reduce j in {columns} vector {{
          m = amax(%x[{columns}*i + j])
        }}
        reduce j in {columns} vector {{
          s = sum(exp(sub(%x[{columns}*i + j], m)))
          q = sum(mul(%x[{columns}*i + j], %x[{columns}*i + j]))
        }}
        for j in {columns} vector {{
          store %o[{columns}*i + j] = div(exp(sub(%x[{columns}*i + j], m)), s)
        }}
        store %v[i] = div(q, s)
      }}
    }}""")  # fmt: skip
    check(program)


def test_row_program_in_place():
    """The result takes over the operand's memory: every read of a row comes before its write."""
    text = """nest @norm(%x: f32[90] in, %o: f32[90] out) {
      for i in 9 {
        reduce j in 10 vector {
          m = amax(%x[10*i + j])
        }
        for j in 10 vector {
          store %o[10*i + j] = sub(%x[10*i + j], m)
        }
      }
    }"""
    x = np.random.default_rng(0).standard_normal((9, 10)).astype(np.float32)
    for target in runnable_targets():
        native = Native(program_of(text), target)
        (result,) = native.run([x], [x], aliases={0: 0})
        assert np.array_equal(result, x - x.max(1, keepdims=True))


def test_map_in_place():
    text = """nest @step(%w: f32[1000] in, %g: f32[1000] in, %r: f32[1] in, %o: f32[1000] out) {
      for i in 1000 vector chunks 3 {
        store %o[i] = sub(%w[i], mul(%r[0], %g[i]))
      }
    }"""
    w, g = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    rate = np.array([0.5], np.float32)
    for target in runnable_targets():
        (result,) = Native(program_of(text), target).run([w, g, rate], [w], aliases={0: 0})
        assert np.array_equal(result, w - rate * g)


# Addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [
    "2*i", "3*i", "-i + 39", "(i)//4", "(i)%8", "(i)%5", "(i)//3 + 2*(i)%3", "(i + 3)//4",
    "((i)//4)%5", "7", "(3*i + 40)//7",
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["f32", "f64", "u8"])
def test_loads_of_every_form(index, dtype):
    for n in (40, 37, 3):
        check(program_of(f"""nest @form(%x: {dtype}[200] in, %o: {dtype}[{n}] out) {{
          for i in {n} vector {{
            store %o[i] = %x[{index}]
          }}
        }}""") if "39" not in index or n == 40 else program_of(f"""nest @form(%x: {dtype}[200]
            in, %o: {dtype}[{n}] out) {{
          for i in {n} vector {{
            store %o[i] = %x[-i + {n + 4}]
          }}
        }}"""))  # fmt: skip


@pytest.mark.parametrize(
    "index", ["2*i", "-i + 39", "(i)%8 + 8*(i)//8", "(i)//5 + 8*(i)%5", "3*i + 1"]
)
def test_stores_of_every_form(index):
    for n in (40, 37):
        check(program_of(f"""nest @form(%x: f32[{n}] in, %o: f32[200] inout) {{
          for i in {n} vector {{
            store %o[{index}] = %x[i]
          }}
        }}"""), initial={"o": np.zeros(200, np.float32)})  # fmt: skip


@pytest.mark.parametrize("dtype", ["f32", "f64", "i8", "bool"])
def test_padding_reads_zeros(dtype):
    """Guards in lanes and common ones, shifted and reversed, next to the buffer's ends."""
    check(program_of(f"""nest @pad(%x: {dtype}[60] in, %o: {dtype}[300] out,
        %p: {dtype}[300] out) {{
      for y in 10 {{
        for x in 30 vector {{
          store %o[30*y + x] = %x[20*y + x - 65 if 0 <= y - 3 < 3 and 0 <= x - 5 < 20]
          store %p[30*y + x] = %x[20*y - x - 36 if 0 <= y - 3 < 3 and 0 <= -x + 24 < 20]
        }}
      }}
    }}"""))  # fmt: skip


def test_dilated_reads():
    """The inverse of a window with stride 2: a remainder in the guard, a quotient in the address.
    """
    check(
        program_of("""nest @dilate(%x: f32[100] in, %o: f32[361] out) {
      for y in 19 {
        for x in 19 vector {
          store %o[19*y + x] = %x[10*(y)//2 + (x)//2 if 0 <= (y)%2 < 1 and 0 <= (x)%2 < 1]
        }
      }
    }""")
    )


def test_guarded_stores():
    check(program_of("""nest @inside(%x: f32[70] in, %o: f32[70] inout) {
      for i in 7 {
        for j in 10 vector {
          store %o[10*i + j if 1 <= i < 6 and 2 <= j < 9] = %x[10*i + j]
        }
      }
    }"""), initial={"o": np.zeros(70, np.float32)})  # fmt: skip


def test_gather_and_clamp():
    """Indices out of range are clamped; data indices in lanes and common ones; half-width indices.
    """
    text = """nest @take(%x: f32[60] in, %k: i64[9] in, %j: i32[20] in, %o: f32[180] out,
        %p: f32[20] out) {
      for i in 9 {
        for c in 20 vector {
          store %o[20*i + c] = %x[20*[%k[i] < 3] + c]
        }
      }
      for c in 20 vector {
        store %p[c] = %x[3*[%j[c] < 20] + 1]
      }
    }"""
    k = np.array([0, 1, 2, -5, 99, 1, -(2**62), 2**62, 0])
    j = np.arange(20) * 7 - 30
    check(program_of(text), {"k": k, "j": j})


def test_scatter_accumulates_rows():
    text = """nest @add(%k: i64[37] in, %v: f32[37] in, %t: f32[60] inout, %h: f16[5] inout) {
      for i in 37 {
        for c in 12 vector {
          store %t[12*[%k[i] < 5] + c] += mul(%v[i], cast(index(c); f32))
        }
        store %h[[%k[i] < 5]] += cast(%v[i]; f16)
      }
    }"""
    initial = {"t": np.ones(60, np.float32), "h": np.ones(5, np.float16)}
    check(program_of(text), initial=initial, tolerance=2e-3)


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
def test_lanes_that_meet_accumulate_one_after_another(target):
    program = program_of("""nest @add(%k: i64[37] in, %u: f32[37] in, %o: f32[5] inout) {
      for i in 37 vector {
        store %o[[%k[i] < 5]] += %u[i]
      }
    }""")
    k = np.random.default_rng(0).integers(0, 5, 37)
    u = np.arange(37, dtype=np.float32)
    (result,) = Native(program, target).run([k, u], [np.ones(5, np.float32)])
    expected = np.ones(5, np.float32)
    np.add.at(expected, k, u)
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("n", [1, 32, 33, 100, 1000])
def test_random_fill(n):
    """Blocks of 32 numbers from 8 counters, as `random_bits` defines them."""
    blocks = -(-n // 32)
    stores = "\n".join(
        f"store %o[{place} if 0 <= {place} < {n}] = philox($0, %s[0]; {w})"
        for w, place in enumerate(f"32*b + j + {8 * w}" for w in range(4))
    )
    program = program_of(f"""nest @bits(%s: i64[1] in, %f: i64[1] in, %o: u32[{n}] out) {{
      for b in {blocks} {{
        for j in 8 vector {{
          $0 = add(%f[0], index(8*b + j))
          {stores}
        }}
      }}
    }}""")
    seed, offset = np.int64(-123456789012345), np.int64(2**33 - 5)
    (words,) = check(program, {"s": np.array([seed]), "f": np.array([offset])})
    expected = op_named("random_bits").evaluate(seed, offset, shape=(n,))
    assert np.array_equal(words, expected)


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32"])
@pytest.mark.parametrize("n", [1, 2, 8, 9, 15])
def test_narrowed_integers_under_a_mask_stay_within_bounds(n, dtype):
    check(program_of(f"""nest @narrow(%a: i64[16] in, %b: i64[16] in, %o: {dtype}[{n}] out) {{
      for b in 1 {{
        for j in 16 vector {{
          $0 = bitwise_xor(%a[16*b + j], %b[16*b + j])
          store %o[16*b + j if 0 <= 16*b + j < {n}] = cast($0; {dtype})
        }}
      }}
    }}"""))


# Checks -------------------------------------------------------------------------------------------

CHECKED = """nest @checked(%k: i64[{n}] in, %o: i64[{n}] out) {{
  for i in {n} vector chunks {chunks} {{
    check 0 <= %k[i] < 10 code 3
    store %o[i] = %k[i]
  }}
}}"""


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
@pytest.mark.parametrize(("n", "chunks"), [(1, 1), (5, 1), (8, 1), (100, 1), (1000, 4)])
def test_checks_report_code_value_and_bound(n, chunks, target):
    native = Native(program_of(CHECKED.format(n=n, chunks=chunks)), target)
    good = np.arange(n) % 10
    assert np.array_equal(native.run([good], [good])[0], good)
    assert native.status[:4].tolist() == [0, 0, 0, 1]  # nothing failed, and it came to its end
    for place in {0, n // 2, n - 1}:
        for value in (10, -1, -(2**63), 2**63 - 1):
            bad = good.copy()
            bad[place] = value
            native.run([bad], [bad])
            assert native.status[:4].tolist() == [3, value, 10, 0]


def test_masked_lanes_are_not_checked():
    """Five elements under a mask of eight: memory behind the buffer holds indices that would fail.
    """
    program = program_of(CHECKED.format(n=5, chunks=1))
    assert np.frombuffer(bytes([GUARD_BYTE] * 8), np.int64)[0] < 0
    native = Native(program)
    native.run([np.zeros(5, np.int64)], [np.zeros(5, np.int64)])
    assert native.status[0] == 0


def test_scalar_and_uniform_checks():
    program = program_of("""nest @checked(%k: i64[6] in, %n: i32[2] in, %o: f32[12] out) {
      check 0 <= %n[0] < 5 code 1
      for i in 6 {
        for j in 2 vector {
          check 0 <= %k[i] < 6 code 2
          store %o[2*i + j] = 1.0
        }
      }
    }""")
    native = Native(program)
    outs = [np.zeros(12, np.float32)]
    native.run([np.arange(6), np.array([4, 9], np.int32)], outs)
    assert native.status[0] == 0
    native.run([np.arange(6) + 1, np.array([4, 9], np.int32)], outs)
    assert native.status[:4].tolist() == [2, 6, 6, 0]
    native.run([np.arange(6), np.array([-7, 9], np.int32)], outs)
    assert native.status[:4].tolist() == [1, -7, 5, 0]


# Refusals and form --------------------------------------------------------------------------------


def test_refusals_name_the_kernel():
    nested = """nest @outer(%x: f32[16] in, %o: f32[16] out) {
      for i in 4 vector {
        for j in 4 vector {
          store %o[4*i + j] = %x[4*i + j]
        }
      }
    }"""
    with pytest.raises(CodegenError, match=r"\[outer\] a vector loop inside another"):
        generate(program_of(nested), host_target())
    wrong = """nest @wrong(%x: f32[16] in, %o: f32[1] out) {
      reduce i in 4 vector, j in 4 {
        s = sum(%x[4*i + j])
      }
      store %o[0] = s
    }"""
    with pytest.raises(CodegenError, match=r"\[wrong\] only the innermost loop"):
        generate(program_of(wrong), host_target())
    out = Buffer("o", f32, 1, "out")
    undefined = Nest("undefined", (out,), [Store(out, Index(), Ref("s", f32))])
    program = Program("p", 0, 1, [[undefined]], {"o": Placement("output", 0)}, 0)
    with pytest.raises(CodegenError, match="s is read before it is defined"):
        generate(program, host_target())


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_every_target_compiles(target):
    """Also those that this machine cannot run; narrow floats have no hardware support on all of
    them.
    """
    for dtype in FLOATS:
        name = dtype.name
        program = program_of(f"""nest @mix(%x: {name}[37] in, %k: i64[37] in,
            %o: {name}[37] out, %a: i64[1] out) {{
          for i in 37 vector {{
            store %o[i] = add(%x[[%k[i] < 37]], %x[2*i if 0 <= i < 18])
          }}
          reduce i in 37 vector {{
            a = argmax(%x[i]) at i
          }}
          store %a[0] = a
        }}""")
        text = assembly(generate(program, named_target(target)).modules[0][1], named_target(target))
        if dtype in (f16, bf16):
            assert "__" not in text, "a call of the compiler's run-time library"
