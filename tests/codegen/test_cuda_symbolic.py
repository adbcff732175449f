"""CUDA C for many sizes, against the loops interpreter at each."""

import re
import shutil
import subprocess
from dataclasses import replace

import cuda_programs as cuda
import numpy as np
import pytest
from cuda_symbolic import check_symbolic
from kernels import program_of

from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.symbolic_check import SameCode
from braze.ir.cuda_program import BufferArgument, Launch
from braze.ir.symint import SymInt
from braze.ir.target import named_target
from braze.passes.symbolic import symbolic_program

SIZES = (2, 3, 8, 17, 40)
PAIRS = [(2, 2), (2, 29), (3, 7), (7, 11), (17, 3), (17, 29)]


def product(n, inner, columns):
    return f"""contraction @product(%a: f32[{n * inner}] in, %b: f32[{inner * columns}] in,
        %c: f32[{columns}] in, %y: f32[{n * columns}] out) {{
      for m in {n}, j in {columns} {{
        acc: f32 = sum k in {inner} of %a[{inner}*m + k] * %b[{columns}*k + j]
        store %y[{columns}*m + j] = add(acc, %c[j])
      }}
    }}"""


def test_maps():
    made = check_symbolic(
        lambda n: f"""nest @map(%x: f32[{5 * n}] in, %b: f32[{n}] in, %c: f32[5] in,
            %y: f32[{5 * n}] out, %z: f32[{5 * n}] out) {{
          for i in 5 {{
            for j in {n} {{
              store %y[{n}*i + j] = add(%x[{n}*i + j], %b[j])
              store %z[{n}*i + j] = sub(%x[{n}*i + j], %c[i])
            }}
          }}
        }}""",
        SIZES,
    )
    assert "long long given_size0" in made.source and "* 100" not in made.source
    (launch,) = made.launches()
    assert all(isinstance(a, (BufferArgument, SymInt)) for a in launch.arguments)


def test_rows_of_a_fixed_width_are_still_moved_by_sixteen_bytes():
    made = check_symbolic(
        lambda n: f"""nest @map(%x: f32[{n << 10}] in, %y: f32[{n << 10}] out) {{
          for i in {n} {{
            for j in 1024 {{
              store %y[1024*i + j] = exp(%x[1024*i + j])
            }}
          }}
        }}""",
        (50, 200),
        like=100,
    )
    assert "load_pack<4>" in made.source


@pytest.mark.parametrize(("rows", "columns"), [("n", "6"), ("6", "n"), ("n", "n"), ("n", "300")])
def test_softmax_of_rows(rows, columns):
    def text_at(n):
        r, c = (n if word == "n" else int(word) for word in (rows, columns))
        return f"""nest @softmax(%x: f32[{r * c}] in, %y: f32[{r * c}] out) {{
          for i in {r} {{
            reduce j in {c} {{
              m = amax(%x[{c}*i + j])
            }}
            reduce j in {c} {{
              s = sum(exp(sub(%x[{c}*i + j], m)))
            }}
            for j in {c} {{
              store %y[{c}*i + j] = div(exp(sub(%x[{c}*i + j], m)), s)
            }}
          }}
        }}"""

    check_symbolic(text_at, SIZES)


@pytest.mark.parametrize("combine", ["sum", "argmax"])
@pytest.mark.parametrize(("rows", "sizes", "like"), [(37, SIZES, 20), (2, (9000, 20000), 15000)])
def test_reductions(combine, rows, sizes, like):
    """Also of few and long rows, which are cut into parts."""
    dtype, place = ("i64", " at j") if combine == "argmax" else ("f32", "")
    check_symbolic(
        lambda n: f"""nest @rows(%x: f32[{rows * n}] in, %y: {dtype}[{rows}] out) {{
          for i in {rows} {{
            reduce j in {n} {{
              a = {combine}(%x[{n}*i + j]){place}
            }}
            store %y[i] = a
          }}
        }}""",
        sizes,
        like=like,
        tolerance=1e-4,
    )


def test_a_reduction_of_columns():
    check_symbolic(
        lambda n: f"""nest @columns(%x: f32[{37 * n}] in, %y: f32[37] out) {{
          for j in 37 {{
            reduce i in {n} {{
              a = sum(%x[37*i + j])
            }}
            store %y[j] = a
          }}
        }}""",
        SIZES,
    )


def test_guards_divisions_and_data():
    check_symbolic(
        lambda n: f"""nest @mixed(%x: f32[{2 * n}] in, %k: i64[{n}] in, %y: f32[{3 * n}] out) {{
          for i in 3 {{
            for j in {n} {{
              $0 = %x[2*j + i - 1 if 0 <= 2*j + i - 1 < {2 * n}]
              store %y[{n}*i + j] = add($0, %x[[%k[j] < {2 * n}]])
            }}
          }}
        }}""",
        SIZES,
    )
    check_symbolic(
        lambda n: f"""nest @divided(%x: f32[{6 * n}] in, %y: f32[{6 * n}] out) {{
          for i in {6 * n} {{
            store %y[6*(i)%{n} + (i)//{n}] = %x[i]
          }}
        }}""",
        SIZES,
    )


def test_a_transposition_goes_through_shared_memory():
    made = check_symbolic(
        lambda n: f"""nest @turned(%x: f32[{40 * n}] in, %y: f32[{40 * n}] out) {{
          for i in {n} {{
            for j in 40 {{
              store %y[40*i + j] = %x[{n}*j + i]
            }}
          }}
        }}""",
        (18, 33, 64, 100),
        like=47,
    )
    assert "__shared__" in made.source


def test_updates_at_places_that_data_choose():
    check_symbolic(
        lambda n: f"""nest @scatter(%k: i64[{n}] in, %x: f32[{4 * n}] in, %y: f32[40] out) {{
          for i in 40 {{
            store %y[i] = 0.0
          }}
          for i in {n} {{
            for j in 4 {{
              store %y[4*[%k[i] < 10] + j] += %x[4*i + j]
            }}
          }}
        }}""",
        SIZES,
        tolerance=1e-4,
    )


@pytest.mark.parametrize(("inner", "columns"), [(5, 24), (300, 40), (17, 3)])
def test_products_with_many_rows(inner, columns):
    check_symbolic(
        lambda n: product(n, inner, columns),
        SIZES,
        tolerance=1e-4,
        reference=lambda a, b, c: a.reshape(-1, inner) @ b.reshape(inner, columns) + c,
    )


@pytest.mark.parametrize(("rows", "like"), [(20, 20), (40, 2000)])
def test_products_over_the_size(rows, like):
    """Also in parts, of which the last may be empty."""
    made = check_symbolic(
        lambda n: f"""contraction @weights(%a: f32[{n * rows}] in,
            %b: f32[{n * 24}] in, %y: f32[{rows * 24}] out) {{
          for m in {rows}, j in 24 {{
            acc: f32 = sum k in {n} of %a[{rows}*k + m] * %b[24*k + j]
            store %y[24*m + j] = acc
          }}
        }}""",
        [like // 10, like - 1, like, like + 3, 2 * like],
        like=like,
        tolerance=1e-4,
        reference=lambda a, b: a.reshape(-1, rows).T @ b.reshape(-1, 24),
    )
    assert len(list(made.launches())) == (2 if like > 100 else 1)


def test_products_of_two_sizes():
    check_symbolic(
        lambda b, t: f"""contraction @scores(%x: f32[{b * t * 40}] in, %w: f32[{b * t * 40}] in,
            %y: f32[{b * t * t}] out) {{
          for s in {b}, i in {t}, j in {t} {{
            acc: f32 = sum k in 40 of %x[{40 * t}*s + 40*i + k] * %w[{40 * t}*s + 40*j + k]
            store %y[{t * t}*s + {t}*i + j] = acc
          }}
        }}""",
        [(2, 9), (2, 29), (3, 16), (7, 11), (17, 29)],
        like=(7, 19),
        tolerance=1e-4,
    )


@pytest.mark.parametrize("causal", ["true", "false"])
def test_attention(causal):
    check_symbolic(
        lambda b, t: f"""attention @heads(%x: f32[{b * t * 8}] in, %o: f32[{b * t * 8}] out,
            %l: f32[{b * t}] out) {{
          chunks 2
          %o: f32[{b},{t},8], %l: f32[{b},{t}] = attention(
            %x: f32[{b},{t},8] from 0 by ({8 * t}, 8, 1),
            %x: f32[{b},{t},8] from 0 by ({8 * t}, 8, 1),
            %x: f32[{b},{t},8] from 0 by ({8 * t}, 8, 1);
            scale=0.5, causal={causal})
        }}""",
        PAIRS,
        like=(7, 11),
        tolerance=1e-4,
    )


def test_a_program_with_an_arena_and_workspaces():
    """Blocks move with the size, workspaces come behind them, and they never meet."""

    def program_at(n):
        return program_of(
            f"""nest @one(%x: f32[{2 * n}] in, %t: f32[{2 * n}] out) {{
              for i in {2 * n} {{
                store %t[i] = neg(%x[i])
              }}
            }}""",
            f"""nest @two(%t: f32[{2 * n}] in, %u: f32[2] out) {{
              for i in 2 {{
                reduce j in {n} {{
                  a = sum(%t[{n}*i + j])
                }}
                store %u[i] = a
              }}
            }}""",
            f"""nest @three(%t: f32[{2 * n}] in, %u: f32[2] in, %y: f32[{2 * n}] out) {{
              for i in 2 {{
                for j in {n} {{
                  store %y[{n}*i + j] = add(%t[{n}*i + j], %u[i])
                }}
              }}
            }}""",
            arena={"t": 0, "u": -(-2 * n * 4 // 64) * 64},
        )

    def reference(x):
        rows = -x.reshape(2, -1)
        return rows + rows.sum(1, keepdims=True, dtype=np.float64)

    sizes = (70000, 90000)
    made = check_symbolic(program_at, sizes, like=80000, tolerance=1e-4, reference=reference)
    assert isinstance(made.arena_bytes, SymInt) and len(list(made.launches())) == 4


def test_code_that_depends_on_the_sample_is_refused():
    """A condition left out for the sample's number is found at another size."""

    def program_at(value):
        program = program_of("""nest @map(%x: f32[64] in, %y: f32[64] out) {
          for i in 64 {
            store %y[i] = where(inside(0 <= i < 60), %x[i], 0.0)
          }
        }""")
        program.words = program.sizes = 1
        (nest,) = program.kernels()
        bound = nest.body[0].body[0].value.arguments[0].bounds[0]
        object.__setattr__(bound, "high", SymInt.word(0, value))
        return program

    check = SameCode(program_at(60), cuda.TARGET)
    check.require(program_at(50))
    check.require(program_at(62))
    with pytest.raises(CodegenError, match=r"the code of map would be another for other sizes"):
        check.require(program_at(64))  # always inside: no condition


def test_a_program_at_some_words_has_plain_numbers():
    check = SameCode(program_of(product(20, 5, 24)), cuda.TARGET)
    assert check.made.at([3]) == check.made
    n = SymInt.word(0, 20)
    launch = Launch("k", (n, 1, 1), (32, 1, 1), 0, (BufferArgument("x", n * 4), n))
    made = replace(check.made, steps=(launch,), arena_bytes=n * 8).at([3])
    assert made.steps == (Launch("k", (3, 1, 1), (32, 1, 1), 0, (BufferArgument("x", 12), 3)),)
    assert type(made.arena_bytes) is int and made.arena_bytes == 24


NVCC = shutil.which("/usr/local/cuda/bin/nvcc") or shutil.which("/usr/local/bin/nvcc")


@pytest.mark.skipif(NVCC is None, reason="needs NVIDIA's compiler")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_the_real_compiler_spills_no_register(architecture, tmp_path):
    found = symbolic_program(
        lambda sizes: program_of(product(sizes[0], 300, 512)), (700,), [(600,), (900,)]
    )
    source = tmp_path / "program.cu"
    source.write_text(SameCode(found.program, named_target(architecture)).made.source)
    command = [NVCC, "-cubin", f"-arch={architecture}", "-Xptxas=-v", "-o", "/dev/null", source]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0 and "warning" not in said.stderr, said.stderr
    assert re.findall(r"(\d+) bytes spill stores", said.stderr) == ["0"], said.stderr
