"""One kernel's code for many sizes, against the loops interpreter at each."""

import numpy as np
import pytest
from kernels import program_of
from native import Native
from symbolic_kernels import check_symbolic

from braze.codegen.llvm import symbolic_check
from braze.codegen.llvm.contraction_shape import contraction_shape
from braze.codegen.llvm.kernel import CodegenError
from braze.codegen.llvm.program import generate
from braze.codegen.llvm.schedule_search import schedule
from braze.codegen.llvm.symbolic_check import SameCode
from braze.ir.loops_parser import parse_program
from braze.ir.symint import SymInt
from braze.passes.symbolic import symbolic_program
from braze.runtime.cpu import host_target

SIZES = (2, 3, 8, 17, 40)


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "i64", "u8"])
@pytest.mark.parametrize("chunks", ["", " chunks 3"])
def test_a_map(dtype, chunks):
    check_symbolic(
        lambda n: f"""nest @map(%x: {dtype}[{3 * n}] in, %y: {dtype}[{3 * n}] out) {{
          for i in {3 * n} vector{chunks} {{
            store %y[i] = add(%x[i], %x[i])
          }}
        }}""",
        SIZES,
    )


def test_a_map_of_rows_and_of_columns():
    check_symbolic(
        lambda n: f"""nest @map(%x: f32[{5 * n}] in, %b: f32[{n}] in, %c: f32[5] in,
            %y: f32[{5 * n}] out, %z: f32[{5 * n}] out) {{
          for i in 5 chunks 2 {{
            for j in {n} vector {{
              store %y[{n}*i + j] = mul(add(%x[{n}*i + j], %b[j]), {n}.0)
              store %z[i + 5*j] = sub(%x[{n}*i + j], %c[i])
            }}
          }}
        }}""",
        SIZES,
    )


@pytest.mark.parametrize("combine", ["sum", "amax", "argmax"])
def test_a_reduction_of_rows(combine):
    dtype, place = ("i64", " at j") if combine == "argmax" else ("f32", "")
    check_symbolic(
        lambda n: f"""nest @rows(%x: f32[{6 * n}] in, %y: {dtype}[6] out) {{
          for i in 6 {{
            reduce j in {n} vector {{
              a = {combine}(%x[{n}*i + j]){place}
            }}
            store %y[i] = a
          }}
        }}""",
        SIZES,
    )


@pytest.mark.parametrize("kind", ["", " unroll"])
def test_a_reduction_of_columns(kind):
    check_symbolic(
        lambda n: f"""nest @columns(%x: f32[{37 * n}] in, %y: f32[37] out) {{
          for j in 37 vector {{
            reduce i in {n}{kind} {{
              a = sum(%x[37*i + j])
            }}
            store %y[j] = a
          }}
        }}""",
        SIZES,
    )


def test_long_sums_stay_accurate():
    """Blocks are there for whatever the size turns out to be."""
    found = check_symbolic(
        lambda n: f"""nest @total(%x: f32[{1000 * n}] in, %y: f32[1] out) {{
          reduce i in {1000 * n} vector {{
            a = sum(%x[i])
          }}
          store %y[0] = a
        }}""",
        (2, 3, 100),
        tolerance=1e-4,
    )
    assert found.highest >= (100,)


def test_guards_divisions_and_data():
    check_symbolic(
        lambda n: f"""nest @mixed(%x: f32[{2 * n}] in, %k: i64[{n}] in, %y: f32[{3 * n}] out) {{
          for i in 3 {{
            for j in {n} vector {{
              $0 = %x[2*j + i - 1 if 0 <= 2*j + i - 1 < {2 * n}]
              store %y[{n}*i + j] = add($0, %x[[%k[j] < {2 * n}]])
            }}
          }}
        }}""",
        SIZES,
    )
    check_symbolic(
        lambda n: f"""nest @divided(%x: f32[{6 * n}] in, %y: f32[{6 * n}] out) {{
          for i in {6 * n} chunks 4 {{
            store %y[6*(i)%{n} + (i)//{n}] = %x[i]
          }}
        }}""",
        SIZES,
    )


def test_checks_compare_with_the_size():
    """The bound of a check is a function of the size as well."""

    def text_at(n):
        return f"""program @test(1 inputs, 1 outputs, arena 0) {{
          place %k input 0
          place %y output 0
          site "[take] index" 0 {n}
          wave {{
            nest @take(%k: i64[4] in, %y: i64[4] out) {{
              for i in 4 {{
                check 0 <= %k[i] < {n} code 1
                store %y[i] = %k[i]
              }}
            }}
          }}
        }}"""

    found = symbolic_program(lambda sizes: parse_program(text_at(*sizes)), (20,), [(10,), (30,)])
    assert found.program.checks[0].high == 20 and found.program.checks[0].high.at([13]) == 13
    native = Native(found.program)
    for size in (10, 20, 30):
        native.words = [size]
        given = np.array([0, 5, size - 1, 1])
        native.run([given], [np.zeros(4, np.int64)])
        assert native.status[0] == 0
        given[2] = size
        native.run([given], [np.zeros(4, np.int64)])
        assert native.status[0] == 1


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("columns", "inner"), [(24, 5), (40, 300), (3, 17)])
def test_a_contraction_with_many_rows(dtype, columns, inner):
    check_symbolic(
        lambda n: f"""contraction @product(%a: {dtype}[{n * inner}] in,
            %b: {dtype}[{inner * columns}] in, %c: {dtype}[{columns}] in,
            %y: {dtype}[{n * columns}] out) {{
          for m in {n}, j in {columns} {{
            acc: {dtype} = sum k in {inner} of %a[{inner}*m + k] * %b[{columns}*k + j]
            store %y[{columns}*m + j] = add(acc, %c[j])
          }}
        }}""",
        SIZES,
        tolerance=1e-4,
        reference=lambda a, b, c: a.reshape(-1, inner) @ b.reshape(inner, columns) + c,
    )


def test_a_contraction_over_the_size():
    for columns, like in ((24, 20), (40, 400)):
        check_symbolic(
            lambda n, columns=columns: f"""contraction @weights(%a: f32[{n * 20}] in,
                %b: f32[{n * columns}] in, %y: f32[{20 * columns}] out) {{
              for m in 20, j in {columns} {{
                acc: f32 = sum k in {n} of %a[20*k + m] * %b[{columns}*k + j]
                store %y[{columns}*m + j] = acc
              }}
            }}""",
            [like // 10, like - 1, like, like + 3, 2 * like],
            like=like,
            tolerance=1e-4,
            reference=lambda a, b, columns=columns: a.reshape(-1, 20).T @ b.reshape(-1, columns),
        )


def test_a_contraction_over_two_dimensions_of_which_one_has_the_size():
    check_symbolic(
        lambda n: f"""contraction @weights(%a: f32[{n * 36}] in, %b: f32[{n * 48}] in,
            %y: f32[192] out) {{
          for m in 12, j in 16 {{
            acc: f32 = sum s in 3, t in {n} of
                %a[{12 * n}*s + 12*t + m] * %b[{n}*s + {3 * n}*j + t]
            store %y[16*m + j] = acc
          }}
        }}""",
        SIZES,
        tolerance=1e-4,
    )


def test_a_contraction_of_batches_with_symbolic_strides():
    check_symbolic(
        lambda n: f"""contraction @batch(%a: f32[{3 * n * 7}] in, %b: f32[{3 * 7 * 9}] in,
            %y: f32[{3 * n * 9}] out) {{
          for s in 3, m in {n}, j in 9 {{
            acc: f32 = sum k in 7 of %a[{7 * n}*s + 7*m + k] * %b[63*s + 9*k + j]
            store %y[{9 * n}*s + 9*m + j] = acc
          }}
        }}""",
        SIZES,
        tolerance=1e-4,
    )


@pytest.mark.parametrize("columns", [5, 16, 21])
def test_a_contraction_whose_results_lie_apart_by_the_size(columns):
    """The lanes of a vector are stored so far from each other: a convolution, channels first."""
    check_symbolic(
        lambda n: f"""contraction @turned(%a: f32[{3 * (n + 3)}] in, %b: f32[{12 * columns}] in,
            %y: f32[{columns * n}] out) {{
          for o in {columns}, h in {n} {{
            acc: f32 = sum c in 3, i in 4 of %a[3*h + c + 3*i] * %b[12*o + 4*c + i]
            store %y[{n}*o + h] = acc
          }}
        }}""",
        SIZES,
        tolerance=1e-4,
    )


def test_a_contraction_whose_columns_lie_in_panels():
    """Tiles read panels of b where they lie; the rows, or the place of a, have the size."""
    check_symbolic(
        lambda n: f"""contraction @panels(%a: f32[{n * 5}] in, %b: f32[640] in,
            %y: f32[{n * 128}] out) {{
          for m in {n}, j in 4, h in 32 {{
            acc: f32 = sum k in 5 of %a[5*m + k] * %b[160*j + 32*k + h]
            store %y[128*m + 32*j + h] = acc
          }}
        }}""",
        SIZES,
        tolerance=1e-4,
    )
    check_symbolic(
        lambda n: f"""contraction @last(%a: f32[{n * 5}] in, %b: f32[640] in,
            %c: f32[{n * 4}] in, %y: f32[128] out) {{
          for j in 4, h in 32 {{
            acc: f32 = sum k in 5 of %a[k + {5 * n - 5}] * %b[160*j + 32*k + h]
            store %y[32*j + h] = add(acc, %c[{4 * n - 4}])
          }}
        }}""",
        SIZES,
        tolerance=1e-4,
    )


def test_a_program_with_an_arena():
    """Blocks move with the size, and never meet."""

    def program_at(n):
        return program_of(
            f"""nest @one(%x: f32[{n}] in, %t: f32[{n}] out) {{
              for i in {n} vector {{
                store %t[i] = neg(%x[i])
              }}
            }}""",
            f"""nest @two(%x: f32[{n}] in, %t: f32[{n}] in, %u: f32[{2 * n}] out) {{
              for i in {n} vector {{
                store %u[i] = add(%x[i], %t[i])
                store %u[i + {n}] = %t[i]
              }}
            }}""",
            f"""nest @three(%u: f32[{2 * n}] in, %t: f32[{n}] in, %y: f32[{n}] out) {{
              for i in {n} vector {{
                store %y[i] = add(mul(%u[i], %u[i + {n}]), %t[i])
              }}
            }}""",
            arena={"t": 0, "u": -(-n * 4 // 64) * 64},
        )

    check_symbolic(program_at, SIZES)


def test_a_symbolic_lane_has_no_schedule():
    n = SymInt.word(0, 20)
    text = "contraction @outer(%a: f32[20] in, %b: f32[20] in, %y: f32[400] out) {\n"
    text += "  for m in 20, j in 20 {\n    acc: f32 = sum k in 1 of %a[m] * %b[j]\n"
    text += "    store %y[20*m + j] = acc\n  }\n}"
    program = program_of(text)
    (kernel,) = program.kernels()
    kernel.dims = tuple(type(d)(d.name, n if d.extent == 20 else d.extent) for d in kernel.dims)
    assert contraction_shape(kernel).rows
    with pytest.raises(CodegenError, match="every lane dimension is symbolic"):
        schedule(kernel, host_target())


def test_code_that_depends_on_the_sample_is_refused():
    """A loop left out for the sample's number is found at another size."""

    def program_at(value):
        program = program_of("""nest @map(%x: f32[64] in, %y: f32[64] out) {
          for i in 64 {
            store %y[i] = where(inside(0 <= i < 60), %x[i], 0.0)
          }
        }""")
        program.words = program.sizes = 1
        n = SymInt.word(0, value)
        (nest,) = program.kernels()
        bound = nest.body[0].body[0].value.arguments[0].bounds[0]
        object.__setattr__(bound, "high", n)
        return program

    target = host_target()
    check = SameCode(program_at(60), target)
    check.require(program_at(50))
    check.require(program_at(62))
    with pytest.raises(CodegenError, match=r"\[map\] its code would be another"):
        check.require(program_at(64))  # always inside: no condition
    assert generate(program_at(60), target).pointers == 1 + 1 + 3 + 1


def test_only_kernels_that_know_a_size_are_compared(monkeypatch):
    def text_at(n):
        return f"""program @p(1 inputs, 2 outputs, arena 0) {{
          place %x input 0
          place %y output 0
          place %z output 1
          wave {{
            nest @open(%x: f32[{n}] in, %y: f32[{n}] out) {{
              for i in {n} {{
                store %y[i] = %x[i]
              }}
            }}
            nest @closed(%x: f32[{n}] in, %z: f32[3] out) {{
              for i in 3 {{
                store %z[i] = exp(%x[i])
              }}
            }}
            nest @plain(%y: f32[3] in, %z: f32[3] out) {{
              for i in 3 {{
                store %z[i] = exp(%y[i])
              }}
            }}
          }}
        }}"""

    generated = []
    original = symbolic_check._code
    monkeypatch.setattr(
        symbolic_check, "_code", lambda k, *rest: generated.append(k.name) or original(k, *rest)
    )
    found = symbolic_program(lambda sizes: parse_program(text_at(*sizes)), (23,), [(20,)])
    check = SameCode(found.program, host_target())
    check.require(found.at((29,)))
    check.require(found.at((31,)))
    # Even a buffer's extent counts; `plain` knows of none.
    assert generated == ["open", "open", "closed", "closed", "open", "closed"]


# Two sizes ----------------------------------------------------------------------------------------

PAIRS = [(2, 2), (2, 29), (3, 7), (7, 11), (17, 3), (17, 29)]


def test_maps_and_sums_over_two_sizes():
    check_symbolic(
        lambda b, t: f"""nest @grown(%x: f32[{b * t * 3}] in, %y: f32[{b * t * 3}] out) {{
          for i in {b} chunks 2 {{
            for j in {t} {{
              for k in 3 {{
                store %y[{3 * t}*i + 3*j + k] = exp(%x[{3 * t}*i + 3*j + k])
              }}
            }}
          }}
        }}""",
        PAIRS,
        like=(7, 11),
    )
    check_symbolic(
        lambda b, t: f"""nest @sums(%x: f32[{b * t * t}] in, %y: f32[{b * t}] out) {{
          for i in {b * t} chunks 3 {{
            reduce j in {t} vector {{
              a = sum(%x[{t}*i + j])
            }}
            store %y[i] = a
          }}
        }}""",
        PAIRS,
        like=(7, 11),
        tolerance=1e-4,
    )


def test_products_whose_rows_are_two_sizes():
    """Packing functions and tiles are told both."""
    check_symbolic(
        lambda b, t: f"""contraction @product(%x: f32[{b * t * 40}] in, %w: f32[{40 * 48}] in,
            %y: f32[{b * t * 48}] out) {{
          for i in {b}, j in {t}, o in 48 {{
            acc: f32 = sum k in 40 of %x[{40 * t}*i + 40*j + k] * %w[48*k + o]
            store %y[{48 * t}*i + 48*j + o] = acc
          }}
        }}""",
        PAIRS,
        like=(7, 11),
        tolerance=1e-4,
        reference=lambda x, w: x.reshape(-1, 40) @ w.reshape(40, 48),
    )
