"""Two vectors stored in turns, to every other element each."""

import re

import pytest
from kernels import check, program_of

from braze.codegen.llvm.compile import assembly
from braze.codegen.llvm.program import generate
from braze.ir.loops_parser import parse_kernel
from braze.ir.target import named_target
from braze.passes.vectorise import vectorise

V4 = named_target("x86-64-v4")
SIZES = [1, 2, 7, 16, 17, 31, 55, 64, 100]
OPERATIONS = {"f32": "mul", "f64": "mul", "i64": "add", "u8": "add", "bf16": "mul", "bool": "ne"}


def phases(n, dtype="f32", access="out", place="2*i + k", op="mul"):
    return f"""nest @phases(%x: {dtype}[{2 * n}] in, %y: {dtype}[{4 * n}] {access}) {{
      for j in 2 {{
        for i in {n} vector {{
          for k in 2 unroll {{
            store %y[{2 * n}*j + {place}] = {op}(%x[i], %x[{n}*k + i])
          }}
        }}
      }}
    }}"""


def stores(text):
    """How many elements or vectors the kernel's code stores."""
    ((_, source),) = generate(program_of(text), V4).modules
    kernel = assembly(source, V4)
    kernel = kernel[kernel.index("braze_kernel_phases:") : kernel.index(".Lfunc_end0")]
    return len(re.findall(r"\tv?(?:movs[sd]|movup[sd]|extractps).*, -?\d*\(%[a-z0-9]+.*\)", kernel))


@pytest.mark.parametrize("dtype", OPERATIONS)
@pytest.mark.parametrize("n", SIZES)
def test_every_size(n, dtype):
    tolerance = {"f32": 1e-6, "bf16": 1e-2, "f64": 1e-12}.get(dtype, 0)
    check(program_of(phases(n, dtype, op=OPERATIONS[dtype])), tolerance=tolerance)


def test_whole_vectors_are_stored():
    assert stores(phases(64)) <= 8
    assert stores(phases(64, place="i + 64*k")) <= 8
    assert stores(phases(64, access="inout")) > 8


def test_a_division_elsewhere_does_not_matter():
    """What the joining of outer loops leaves behind."""
    text = """nest @phases(%x: f32[1000] in, %y: f32[1320] out) {
      for j in 12 chunks 3 {
        for i in 55 vector {
          for k in 2 unroll {
            store %y[660*(j)//6 + 110*(j)%6 + 2*i + k] = add(%x[i + 10*(j)%6], %x[55*k + i])
          }
        }
      }
    }"""
    check(program_of(text))
    ((_, source),) = generate(program_of(text), V4).modules
    assert source.count("llvm.masked.store") >= 2  # the last seven are not stored one by one


def test_the_phases_of_a_stride_are_turns():
    text = """nest @g(%x: f32[560] in, %y: f32[2240] out) {
      for r in 10 {
        for a in 2 {
          for b in 2 {
            for i in 56 {
              store %y[224*r + 112*a + 2*i + b] = neg(%x[56*r + i])
            }
          }
        }
      }
    }"""
    (outer,) = vectorise(parse_kernel(text), V4).body
    (middle,) = outer.body
    (lanes,) = middle.body
    (turns,) = lanes.body
    assert (lanes.var.name, lanes.kind) == ("i", "vector")
    assert (turns.var.name, turns.kind) == ("b", "unroll")
    check(program_of(str(vectorise(parse_kernel(text), V4))))
