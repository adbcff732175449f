"""What of a program for many sizes is another one for other sizes."""

import re

import pytest

from braze.ir.loops_parser import parse_program
from braze.ir.loops_sizes import depends_on_sizes
from braze.ir.symint import SymInt

PROGRAM = """program @p(3 inputs, 1 outputs, arena 4096) {
  place %x input 0
  place %w input 1
  place %k input 2
  place %y output 0
  place %t arena 1024
  wave {
    nest @mixed(%x: f32[5000] in, %k: i64[5000] in, %t: f32[200] out) {
      for i in 11 {
        $0 = %x[7*i + 13 if 0 <= 17*i - 19 < 23]
        reduce j in 29 {
          s = sum(mul($0, %x[31*(i)//37 + (41*j)%43]))
        }
        store %t[i] = where(inside(0 <= i + 47 < 53), s, %x[[%k[59*i] < 61] + 67])
      }
    }
    contraction @product(%x: f32[5000] in, %w: f32[5000] in, %y: f32[5000] out) {
      for m in 71, n in 73 {
        acc: f32 = sum k in 79 of %x[83*m + k + 89] * %w[97*k + n]
        store %y[101*m + n] = acc
      }
    }
  }
}"""
PRIMES = [int(n) for n in re.findall(r"\b\d+", PROGRAM) if 7 <= int(n) <= 101]


def test_no_integer_is_no_size():
    assert not depends_on_sizes([*parse_program(PROGRAM).kernels()])


@pytest.mark.parametrize("number", PRIMES)
def test_each_integer_is_found(number):
    (place,) = (m.start() for m in re.finditer(rf"\b{number}\b", PROGRAM))
    program = parse_program(PROGRAM, {place: SymInt.word(0, number)})
    held = [depends_on_sizes(kernel) for kernel in program.kernels()]
    assert held == [number < 71, number >= 71]
