"""Vector loops over chains of long functions: several vectors in turns."""

import re

import pytest
from kernels import check, program_of

from braze.codegen.llvm.program import generate
from braze.ir.target import named_target

CHAIN = "tanh(exp(neg(%x[i])))"


def program(n, value=CHAIN, dtype="f32"):
    return program_of(f"""nest @chain(%x: {dtype}[{n}] in, %y: {dtype}[{n}] out) {{
      for i in {n} vector {{
        store %y[i] = {value}
      }}
    }}""")


def calls(n, value=CHAIN, target="x86-64-v4"):
    """The functions that the loop's code calls, in its order."""
    text = "".join(t for _, t in generate(program(n, value), named_target(target)).modules)
    kernel = text[text.index("define void @braze_kernel_chain") :]
    return re.findall(r"call .*@braze_(\w+)_f32x", kernel[: kernel.index("\n}")])


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("n", [100, 4095, 4096, 4160, 5003])
def test_results(n, dtype):
    check(program(n, dtype=dtype), tolerance=1e-5 if dtype == "f32" else 1e-13)


def test_long_functions_wait_in_turns():
    assert calls(4096) == ["exp"] * 4 + ["tanh"] * 4


@pytest.mark.parametrize(
    ("n", "value", "target"),
    [
        (1024, CHAIN, "x86-64-v4"),  # too short
        (4096, CHAIN, "x86-64-v3"),  # too few registers
        (4096, "add(exp(%x[i]), tanh(%x[i]))", "x86-64-v4"),  # they wait for nothing
    ],
)
def test_others_do_not(n, value, target):
    assert len(calls(n, value, target)) == 2


