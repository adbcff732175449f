"""Extrema that are looked for with their places."""

import numpy as np
from kernels import check, program_of

from braze.codegen.llvm.compile import assembly
from braze.codegen.llvm.program import generate
from braze.ir.target import named_target


def _extremum_and_place(shared):
    value = "$0" if shared else "neg(neg(%x[37*i + j]))"
    return program_of(f"""nest @arg(%x: f32[222] in, %o: i64[6] out, %m: f32[6] out) {{
      for i in 6 {{
        reduce j in 37 vector {{
          $0 = neg(%x[37*i + j])
          a = argmin($0) at j
          m = amin({value})
        }}
        store %o[i] = a
        store %m[i] = m
      }}
    }}""")


def test_an_extremum_is_found_with_its_place():
    rows = np.round(np.random.default_rng(0).standard_normal((6, 37)) * 2).astype(np.float32)
    rows[1, [30, 12]] = np.nan
    rows[2], rows[3] = -np.inf, np.inf
    shared, apart = _extremum_and_place(True), _extremum_and_place(False)
    check(shared, {"x": rows})
    target = named_target("x86-64-v4")
    together, by_itself = (
        assembly(generate(program, target).modules[0][1], target) for program in (shared, apart)
    )
    assert "vcmpltps" in by_itself and "vcmpltps" not in together
