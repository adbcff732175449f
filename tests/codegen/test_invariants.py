"""What is the same in all turns of a loop is computed before it."""

import re

import numpy as np
from kernels import check, program_of

from braze.codegen.llvm.program import generate
from braze.ir.target import named_target

ROWS = """nest @rows(%x: f32[600] in, %w: f32[1] in, %y: f32[600] out) {
  for i in 6 {
    reduce r in 100 vector {
      a = sum(mul(%x[100*i + r], div(1.0, add(%w[0], 2.0))))
    }
    for j in 100 vector {
      store %y[100*i + j] = mul(%x[100*i + j], div(1.0, sqrt(add(mul(a, a), 1.0))))
    }
  }
}"""


def blocks(text):
    """The basic blocks of a kernel that are loops of their own."""
    ((_, source),) = generate(program_of(text), named_target("x86-64-v4")).modules
    kernel = source[source.index("define void @braze_kernel_") :]
    found = re.split(r"^([\w.]+):\n", kernel[: kernel.index("\n}")], flags=re.M)
    pairs = zip(found[1::2], found[2::2], strict=True)
    again = (rf"br i1 .*label %{re.escape(label)}\b" for label in found[1::2])
    return [body for (_, body), loop in zip(pairs, again, strict=True) if re.search(loop, body)]


def test_quotients_and_roots_of_a_row():
    check(program_of(ROWS))
    loops = blocks(ROWS)
    assert len(loops) >= 2
    assert not any("sqrt" in body or "fdiv" in body for body in loops)


def test_columns_side_by_side():
    text = """nest @columns(%x: f32[6400] in, %w: f32[64] in, %y: f32[64] out) {
      for j in 64 vector {
        reduce r in 100 {
          a = sum(mul(%x[64*r + j], exp(%w[j])))
        }
        store %y[j] = a
      }
    }"""
    check(program_of(text))
    assert not any("braze_exp" in body for body in blocks(text))


def test_what_the_loop_changes_stays():
    """The first element is read each time, as it is then."""
    text = """nest @steps(%x: f32[64] in, %y: f32[64] inout) {
      for i in 64 {
        for j in 1 vector {
          store %y[i] = div(%x[i], sqrt(%y[0]))
        }
      }
    }"""
    check(program_of(text), initial={"y": np.full(64, 4.0, np.float32)})


def test_integers_are_divided_where_they_are_needed():
    """A loop that is not entered must not divide by zero."""
    text = """nest @ints(%x: i64[64] in, %d: i64[1] in, %y: i64[64] out) {
      for i in 64 vector {
        store %y[i] = add(%x[i], floor_divide(%x[0], %d[0]))
      }
    }"""
    check(program_of(text), {"d": np.array([3])})
    assert any("div" in body for body in blocks(text))


def test_what_is_found_in_the_loop_is_not_looked_up_before():
    """The place is a maximum's, which is known in the loop only."""
    text = """nest @places(%x: f64[48] in, %w: f64[3] in, %y: f64[16] out) {
      for i in 16 vector {
        reduce r in 3 unroll {
          p = argmax(%x[3*i + r]) at r
        }
        store %y[i] = div(1.0:f64, sqrt(%w[[p < 3]]))
      }
    }"""
    check(program_of(text), {"w": np.array([4.0, 9.0, 16.0])})
