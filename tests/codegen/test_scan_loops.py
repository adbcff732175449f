"""Scans as native code, against the loops interpreter: lanes, tails, starts, every dtype."""

import numpy as np
import pytest
from kernels import check, program_of

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100]
TOLERANCE = {"f16": 2e-3, "bf16": 1e-2, "f32": 1e-5, "f64": 1e-12}
COMBINES = ["sum", "prod", "amax", "amin", "lastmax", "lastmin", "linear"]
DTYPES = ["u8", "i8", "u16", "i16", "i32", "u32", "i64", "u64", "f32", "f64"]


def scan(combine, dtype, n, kind, index="r", rows=1, start=""):
    """Rows of a scan of %x[n*i + index]; `%o` gets what is carried at every point."""
    result = "i64" if combine.startswith("last") else dtype
    factor = f"%a[{n}*i + r], " if combine == "linear" else ""
    place = f" at {index}" if combine.startswith("last") else ""
    return program_of(f"""nest @scan(%a: {dtype}[{n * rows}] in, %x: {dtype}[{n * rows}] in,
        %s: {dtype}[{rows}] in, %p: i64[{rows}] in, %o: {result}[{n * rows}] out,
        %e: {result}[{rows}] out) {{
      for i in {rows} {{
        scan r in {n}{kind} {{
          h = {combine}({factor}%x[{n}*i + {index}]){place}{start}
          store %o[{n}*i + {index}] = h
        }}
        store %e[i] = h
      }}
    }}""")


def starts(combine):
    return " from (%s[i], %p[i])" if combine.startswith("last") else " from (%s[i])"


def few(dtype, n, seed=0):
    """Many equal elements, and products that stay in range."""
    values = np.array([1, 2, 1, 0, 1, 1, 3]) if dtype[0] == "u" else np.array([1, -1, 2, 1, 0.5])
    return np.random.default_rng(seed).choice(values, n)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("combine", COMBINES)
def test_every_size_in_lanes(combine, n):
    inputs = {"x": few("f32", n), "a": few("f32", n, 1)}
    check(scan(combine, "f32", n, " vector"), inputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("combine", COMBINES[:-1])
def test_every_dtype(combine, dtype):
    for kind in ("", " vector"):
        for start in ("", starts(combine)):
            program = scan(combine, dtype, 37, kind, rows=2, start=start)
            inputs = {"x": few(dtype, 74), "p": np.array([5, 3])}
            check(program, inputs, tolerance=TOLERANCE.get(dtype, 0))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("kind", ["", " vector"])
def test_recurrences(dtype, kind):
    for start in ("", starts("linear")):
        program = scan("linear", dtype, 37, kind, rows=3, start=start)
        inputs = {"x": few(dtype, 111), "a": few(dtype, 111, 1)}
        check(program, inputs, tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("n", [1, 8, 37])
@pytest.mark.parametrize("dtype", ["f32", "i64", "u8"])
@pytest.mark.parametrize("combine", ["sum", "lastmax"])
def test_from_the_end(combine, dtype, n):
    program = scan(combine, dtype, n, " vector", index=f"{n - 1} - r", rows=2)
    check(program, {"x": few(dtype, 2 * n)}, tolerance=TOLERANCE.get(dtype, 0))


@pytest.mark.parametrize("combine", COMBINES[2:6])
def test_nans_and_infinities(combine):
    inf, nan = np.inf, np.nan
    x = np.array([-inf, -inf, 1, inf, -inf, inf, 2, nan, inf, -inf, nan, 1] * 3)
    for kind in ("", " vector"):
        check(scan(combine, "f32", 36, kind), {"x": x})
        check(scan(combine, "f32", 18, kind, rows=2), {"x": np.roll(x, -8)})


@pytest.mark.parametrize("dtype", ["f16", "bf16", "bool"])
@pytest.mark.parametrize("kind", ["", " vector"])
def test_narrow_elements_are_carried_wide(dtype, kind):
    wide = "i64" if dtype == "bool" else "f32"
    program = program_of(f"""nest @narrow(%x: {dtype}[90] in, %o: {dtype}[90] out,
        %w: {wide}[90] out) {{
      for i in 2 {{
        scan r in 45{kind} {{
          s = sum(cast(%x[45*i + r]; {wide}))
          store %o[45*i + r] = cast(s; {dtype})
          store %w[45*i + r] = s
        }}
      }}
    }}""")
    check(program, tolerance=TOLERANCE.get(dtype, 0))


@pytest.mark.parametrize("inner", [1, 3, 8, 21, 200])
@pytest.mark.parametrize("combine", COMBINES)
def test_lanes_with_scans_of_their_own(combine, inner):
    place = " at r" if combine.startswith("last") else ""
    result = "i64" if place else "f32"
    factor = "0.5, " if combine == "linear" else ""
    check(program_of(f"""nest @columns(%x: f32[{12 * inner}] in, %o: {result}[{12 * inner}] out,
        %e: {result}[{inner}] out) {{
      for j in {inner} vector {{
        scan r in 12 {{
          h = {combine}({factor}%x[{inner}*r + j]){place}
          store %o[{inner}*r + j] = h
        }}
        store %e[j] = h
      }}
    }}"""), {"x": few("f32", 12 * inner)})  # fmt: skip


@pytest.mark.parametrize("last", [1, 5, 16, 19])
@pytest.mark.parametrize("combine", ["sum", "lastmin", "linear"])
def test_several_loops_carry_on(combine, last):
    n = 3 * 2 * last
    place = f" at {2 * last}*r + {last}*s + t" if combine == "lastmin" else ""
    result = "i64" if place else "f32"
    factor = "0.5, " if combine == "linear" else ""
    check(program_of(f"""nest @loops(%x: f32[{n}] in, %o: {result}[{n}] out) {{
      scan r in 3, s in 2, t in {last} vector {{
        h = {combine}({factor}%x[{2 * last}*r + {last}*s + t]){place}
        store %o[{2 * last}*r + {last}*s + t] = h
      }}
    }}"""), {"x": few("f32", n)})  # fmt: skip


@pytest.mark.parametrize("kind", ["", " vector"])
def test_blocks_with_a_guard(kind):
    check(program_of(f"""nest @blocks(%x: f32[75] in, %s: f32[3] in, %o: f32[75] out) {{
      for c in 4 chunks 2 {{
        scan r in 20{kind} {{
          h = sum(%x[20*c + r if 0 <= 20*c + r < 75]) from (%s[c - 1 if 1 <= c < 4])
          store %o[20*c + r if 0 <= 20*c + r < 75] = mul(h, 2.0)
        }}
      }}
    }}"""))  # fmt: skip


def test_several_carried_values_and_their_names_afterwards():
    check(program_of("""nest @both(%x: f32[100] in, %o: f32[100] out, %e: f32[5] out) {
      for i in 5 {
        scan r in 20 vector {
          s = sum(%x[20*i + r])
          m = amax(%x[20*i + r])
          h = linear(0.5, %x[20*i + r])
          store %o[20*i + r] = add(mul(s, m), h)
        }
        reduce k in 20 vector {
          t = sum(mul(%o[20*i + k], s))
        }
        store %e[i] = add(t, mul(h, m))
      }
    }""".replace("%o: f32[100] out", "%o: f32[100] inout")))  # fmt: skip


def test_positions_beyond_32_bits():
    big = 1 << 40
    check(program_of(f"""nest @far(%x: f32[40] in, %o: i64[40] out) {{
      scan r in 40 vector {{
        p = lastmax(%x[r]) at {big}*r + 1
        store %o[r] = p
      }}
    }}"""), {"x": few("f32", 40)})  # fmt: skip
