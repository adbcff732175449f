"""Vector loops whose loads lie side by side along the loop around them: read in squares."""

import pytest
from kernels import check, program_of

from braze.codegen.llvm.compile import assembly
from braze.codegen.llvm.program import generate
from braze.ir.loops_crossing import crossing_loads
from braze.ir.loops_parser import parse_kernel
from braze.ir.target import named_target

SHAPES = [
    (1, 40), (3, 40), (4, 4), (5, 7), (16, 16), (32, 48), (17, 16), (16, 17), (33, 35), (12, 9),
    (40, 3), (31, 64), (64, 31),
]  # fmt: skip
TOLERANCE = {"f16": 2e-3, "bf16": 1e-2, "f32": 1e-6, "f64": 1e-12}


def transposition(rows, columns, dtype="f32", chunks=1):
    parts = f" chunks {chunks}" if chunks > 1 else ""
    n = rows * columns
    return f"""nest @turn(%x: {dtype}[{n}] in, %y: {dtype}[{n}] in, %o: {dtype}[{n}] out) {{
      for i in {rows}{parts} {{
        for j in {columns} vector {{
          store %o[{columns}*i + j] = sub(%x[i + {rows}*j], %y[{columns}*i + j])
        }}
      }}
    }}"""


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64", "u8", "bf16"])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_every_shape(rows, columns, dtype):
    check(program_of(transposition(rows, columns, dtype)), tolerance=TOLERANCE.get(dtype, 0))


@pytest.mark.parametrize("chunks", [2, 3, 7, 50])
@pytest.mark.parametrize(("rows", "columns"), [(50, 20), (64, 16), (100, 33)])
def test_chunks_begin_with_whole_squares(rows, columns, chunks):
    check(program_of(transposition(rows, columns, chunks=chunks)))


@pytest.mark.parametrize("columns", [16, 21])
def test_guarded_loads(columns):
    """A border of zeros along both loops, as around a picture whose channels go last."""
    check(program_of(f"""nest @pad(%x: f32[{5 * 19 * columns}] in,
        %o: f32[{5 * 21 * (columns + 2)}] out) {{
      for n in 5 chunks 2 {{
        for i in 21 {{
          for j in {columns + 2} vector {{
            store %o[{21 * (columns + 2)}*n + {columns + 2}*i + j] = %x[
                {19 * columns}*n + i + 19*j - 20 if 0 <= i - 1 < 19 and 0 <= j - 1 < {columns}]
          }}
        }}
      }}
    }}"""))


def test_several_loads_and_stores():
    """Some cross, with offsets of their own; one is reversed along the lanes."""
    check(program_of("""nest @more(%x: f32[2000] in, %y: f32[2000] in, %t: f64[900] in,
        %a: f32[900] out, %b: f64[900] out) {
      for i in 30 {
        for j in 30 vector {
          $0 = add(%x[i + 31*j + 5], %y[i - 60*j + 1740])
          store %a[30*i + j] = mul($0, %x[30*i + j])
          store %b[30*i + j] = add(cast($0; f64), %t[i + 30*j])
        }
      }
    }"""))


def test_only_what_is_read_across_the_lanes_is_turned():
    def crossing(text):
        outer = parse_kernel(text).body[0]
        return [load.buffer.name for load in crossing_loads(outer, outer.body[0])]

    assert crossing(transposition(8, 8)) == ["x"]
    text = transposition(8, 8)
    assert crossing(text.replace("%x: f32[64] in", "%x: f32[64] inout")) == ["x"]
    assert crossing(text.replace("store %o[8*i + j] =", "store %o[8*i + j] +=")) == []
    assert crossing(text.replace("i + 8*j", "2*i + 8*j")) == []
    assert crossing(text.replace("i + 8*j", "i + 8*(j)%3")) == []
    own = text.replace("%x: f32[64] in, ", "").replace("%x[", "%o[").replace("out)", "inout)")
    assert crossing(own) == []


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_squares_need_no_gathers(name):
    """Nor loads of single elements: none has a scaled index beside a base."""
    target = named_target(name)
    program = program_of(transposition(64, 64))
    text = "\n".join(
        assembly(module, target) for _, module in generate(program, target).modules
    )
    assert "gather" not in text
    assert "insertps" not in text and "pinsrd" not in text
    assert "unpcklps" in text or "punpckldq" in text or "permt2" in text
