"""`Scan` in the loop IR: its text, its rules, and what it means."""

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.loops_interpreter import run_kernel
from braze.ir.loops_parser import parse_kernel
from braze.ir.loops_verifier import verify_kernel

NEST = """\
nest @rows(%x: f32[24] in, %s: f32[4] in, %y: f32[24] out, %p: i64[24] out, %t: f32[4] out) {
  for i in 4 chunks 2 {
    scan k in 2, l in 3 vector {
      $0 = exp(%x[6*i + 3*k + l])
      a = sum($0) from (mul(%s[i], 2.0))
      b = lastmax($0) at 3*k + l
      h = linear(0.5, $0)
      $1 = mul(a, a)
      store %y[6*i + 3*k + l] = add($1, add($1, h))
      store %p[6*i + 3*k + l] = b
    }
    store %t[i] = a
  }
}"""


def test_the_text_reads_back():
    kernel = parse_kernel(NEST)
    verify_kernel(kernel)
    assert str(kernel) == NEST


def test_the_meaning():
    x = np.random.default_rng(0).uniform(-1, 1, (4, 6)).astype(np.float32)
    s = np.arange(4, dtype=np.float32)
    y, p, t = np.zeros_like(x), np.zeros((4, 6), np.int64), np.zeros(4, np.float32)
    run_kernel(parse_kernel(NEST), {"x": x, "s": s, "y": y, "p": p, "t": t})
    e = np.exp(x.astype(np.float64))
    a = np.cumsum(e, axis=1) + 2 * s[:, None]
    h = np.zeros_like(e)
    for k in range(6):
        h[:, k] = e[:, k] + (0.5 * h[:, k - 1] if k else 0)
    np.testing.assert_allclose(y, 2 * a * a + h, rtol=1e-5)
    np.testing.assert_allclose(t, a[:, -1], rtol=1e-6)
    assert (p == [[np.argmax(row[: k + 1]) for k in range(6)] for row in x]).all()


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        ("sum", [2, 4, 1, 1, 3]),
        ("prod", [2, 4, -12, 0, 0]),
        ("amax", [2, 2, 2, 2, 2]),
        ("amin", [2, 2, -3, -3, -3]),
        ("lastmax", [0, 1, 1, 1, 4]),
        ("lastmin", [0, 1, 2, 2, 2]),
    ],
)
@pytest.mark.parametrize("dtype", ["f32", "i64", "i8"])
def test_every_way_to_combine(combine, expected, dtype):
    positions = combine.startswith("last")
    result = "i64" if positions else dtype
    kernel = parse_kernel(f"""nest @s(%x: {dtype}[5] in, %y: {result}[5] out) {{
      scan r in 5 {{
        a = {combine}(%x[r]){" at r" if positions else ""}
        store %y[r] = a
      }}
    }}""")
    verify_kernel(kernel)
    x = np.array([2, 2, -3, 0, 2]).astype(ir.dtypes.dtype_named(dtype).numpy)
    y = np.zeros(5, ir.dtypes.dtype_named(result).numpy)
    run_kernel(kernel, {"x": x, "y": y})
    assert y.tolist() == expected


FAULTS = [
    ("l in 3 vector", "l in 3 unroll", "a scan has no loops of kind 'unroll'"),
    ("k in 2", "k in 2 vector", "only the innermost loop of a scan may be a vector loop"),
    ("chunks 2", "vector chunks 2", "only the innermost loop of a scan may be a vector loop"),
    (" at 3*k + l", "", "lastmax needs a position"),
    ("b = lastmax($0) at 3*k + l", "b = sum(2) at k", "sum takes no position"),
    ("linear(0.5, $0)", "linear($0)", "linear takes 2 values of one dtype and none or 1 starts"),
    ("b = lastmax($0) at 3*k + l", "b = linear(1, 2)", "linear does not combine i64"),
    ("b = lastmax($0)", "b = lastmax(lt($0, $0))", "lastmax does not combine bool"),
    ("(mul(%s[i], 2.0))", "(2:i32)", "a is f32 and starts from i32"),
    ("(mul(%s[i], 2.0))", "(2.0, 1)", "sum takes 1 values of one dtype and none or 1 starts"),
    ("%y[6*i + 3*k + l] =", "%y[6*i + 3*k + l + 1] =", "%y[1 .. 24] is outside its 24 elements"),
    ("%p: i64[24] out", "%p: f32[24] out", "a value of i64 goes to a buffer of f32"),
    ("exp(%x[6", "exp(%y[6", "%y is 'out' and must not be read"),
]


@pytest.mark.parametrize(("old", "new", "message"), FAULTS, ids=[f[2] for f in FAULTS])
def test_each_rule_refuses_a_fault(old, new, message):
    kernel = parse_kernel(NEST.replace(old, new, 1))
    with pytest.raises(ir.VerifyError) as caught:
        verify_kernel(kernel)
    assert message in str(caught.value)


def test_a_name_is_defined_once():
    twice = NEST.replace("h = linear", "a = linear").replace("add($1, h)", "add($1, a)")
    with pytest.raises(ir.VerifyError, match="the name a is defined twice"):
        verify_kernel(parse_kernel(twice))


def test_adding_to_memory_is_refused():
    text = NEST.replace("%p: i64[24] out", "%p: i64[24] inout")
    text = text.replace("store %p[6*i + 3*k + l] = b", "store %p[6*i + 3*k + l] += b")
    with pytest.raises(ir.VerifyError, match="a scan does not add to memory"):
        verify_kernel(parse_kernel(text))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sum($0) from", "total($0) from", "expected one of sum, prod"),
        ("from (mul(%s[i], 2.0))", "from (%s[l])", "no loop variable is called l"),
        ("store %t[i] = a", "store %t[i] = c", "c is not defined before this"),
    ],
)
def test_the_parser_refuses(old, new, message):
    with pytest.raises(ir.ParseError, match=message):
        parse_kernel(NEST.replace(old, new, 1))
