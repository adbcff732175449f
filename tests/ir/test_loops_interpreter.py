"""Kernels compute what NumPy computes, and what a kernel must not do is refused."""

import numpy as np
import pytest

from braze.ir.loops_interpreter import MemoryFault, run_kernel, run_program
from braze.ir.loops_parser import parse_kernel, parse_program
from braze.ir.loops_verifier import verify_kernel, verify_program
from braze.ir.ops.creation import philox

F32 = np.float32


def run(text, **buffers):
    """Run a kernel after checking that the verifier takes it; array results are in place."""
    kernel = parse_kernel(text)
    verify_kernel(kernel)
    run_kernel(kernel, buffers)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(F32)


def test_a_map_with_broadcasting():
    x, b, y = normal(6, 4), normal(4), np.zeros((6, 4), F32)
    run(
        """nest @f(%x: f32[24] in, %b: f32[4] in, %y: f32[24] out) {
          for i in 6 chunks 3 { for j in 4 vector {
            store %y[4*i + j] = maximum(add(%x[4*i + j], %b[j]), 0.0)
          } } }""",
        x=x,
        b=b,
        y=y,
    )
    np.testing.assert_array_equal(y, np.maximum(x + b, 0))


def test_rows_reduced_and_used_again():
    x, y, best = normal(5, 7), np.zeros((5, 7), F32), np.zeros(5, np.int64)
    x[1, 3] = x[1, 5] = 9  # the first of two
    run(
        """nest @softmax(%x: f32[35] in, %y: f32[35] out, %best: i64[5] out) {
          for i in 5 {
            reduce k in 7 vector { m = amax(%x[7*i + k])  p = argmax(%x[7*i + k]) at k }
            reduce k in 7 { s = sum(exp(sub(%x[7*i + k], m))) }
            store %best[i] = p
            for j in 7 { store %y[7*i + j] = div(exp(sub(%x[7*i + j], m)), s) }
          } }""",
        x=x,
        y=y,
        best=best,
    )
    expected = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(y, expected / expected.sum(1, keepdims=True), rtol=1e-6)
    assert best.tolist() == x.argmax(1).tolist()


@pytest.mark.parametrize(
    ("combine", "dtype", "expected"),
    [
        ("sum", "i32", 2 - 7 + 5),
        ("prod", "i32", 2 * -7 * 5),
        ("amax", "i32", 5),
        ("amin", "i32", -7),
        ("any", "bool", True),
        ("all", "bool", False),
    ],
)
def test_combinations(combine, dtype, expected):
    x = np.array([2, -7, 5], np.int32) if dtype == "i32" else np.array([1, 0, 1], bool)
    y = np.zeros(1, x.dtype)
    text = f"""nest @r(%x: {dtype}[3] in, %y: {dtype}[1] out) {{
        reduce i in 3 {{ r = {combine}(%x[i]) }} store %y[0] = r }}"""
    run(text, x=x, y=y)
    assert y[0] == expected


def test_empty_reductions_and_loops():
    y = np.ones(1, F32)
    run(
        """nest @r(%x: f32[0] in, %y: f32[1] out) {
          for i in 0 { store %y[0] = %x[i] }
          reduce i in 0 { r = sum(%x[i]) } store %y[0] = r }""",
        x=np.zeros(0, F32),
        y=y,
    )
    assert y[0] == 0


def test_long_sums_are_exact():
    """In f32, one after the other, 2**24 ones and more would stay at 2**24."""
    y = np.zeros(1, F32)
    run(
        """nest @r(%x: f32[2] in, %y: f32[1] out) {
          reduce i in 4096 { r = sum(add(%x[0], %x[1])) } store %y[0] = r }""",
        x=np.array([2**24, 1], F32) / 4096,
        y=y,
    )
    assert y[0] == np.float32(2**24 + 4096 / 4096)


def test_guards_skip_memory():
    x, y = normal(5), np.zeros(9, F32)
    run(
        """nest @pad(%x: f32[5] in, %y: f32[9] out) {
          for i in 9 { store %y[i] =
            where(inside(2 <= i < 7), %x[i - 2 if 2 <= i < 7], 0.5) }
          for i in 20 { store %y[i - 10 if 10 <= i < 12] = 3.0 } }""",
        x=x,
        y=y,
    )
    assert y.tolist() == [3, 3, *x.tolist(), 0.5, 0.5]


def test_gather_clamps_and_scatter_accumulates():
    x, n = normal(3, 2), np.array([2, 0, 9, -4])
    y, z = np.zeros((4, 2), F32), np.ones((3, 2), F32)
    run(
        """nest @g(%x: f32[6] in, %n: i64[4] in, %y: f32[8] out, %z: f32[6] inout) {
          for i in 4 { for j in 2 {
            store %y[2*i + j] = %x[2*[%n[i] < 3] + j]
            store %z[2*[%n[i] < 3] + j] += 1.0 } } }""",
        x=x,
        n=n,
        y=y,
        z=z,
    )
    np.testing.assert_array_equal(y, x[[2, 0, 2, 0]])
    np.testing.assert_array_equal(z, [[3, 3], [1, 1], [3, 3]])


def test_index_arithmetic():
    y = np.zeros(12, np.int64)
    run(
        """nest @i(%y: i64[12] out) { for i in 12 {
          store %y[-i + 11] = index(10*((i + 1)//5) + (i + 1)%5 - 3) } }""".replace(
            "10*((i + 1)//5)", "10*(i + 1)//5"
        ),
        y=y,
    )
    assert y[::-1].tolist() == [10 * ((i + 1) // 5) + (i + 1) % 5 - 3 for i in range(12)]


def test_philox():
    seed, y = np.array([0x123456789ABCDEF]), np.zeros(8, np.uint32)
    run(
        """nest @r(%seed: i64[1] in, %y: u32[8] out) {
          for i in 8 { store %y[i] = philox(index(i - 4), %seed[0]; 2) } }""",
        seed=seed,
        y=y,
    )
    counters = np.arange(-4, 4).astype(np.uint64)
    assert y.tolist() == philox(counters, 0x123456789ABCDEF)[2].tolist()


def test_conversions_and_wrapping():
    x, y, z = np.array([250, 7], np.uint8), np.zeros(2, np.uint8), np.zeros(2, np.int32)
    run(
        """nest @c(%x: u8[2] in, %y: u8[2] out, %z: i32[2] out) { for i in 2 {
          store %y[i] = add(%x[i], 10:u8)
          store %z[i] = bitcast(neg(cast(%x[i]; f32)); i32) } }""",
        x=x,
        y=y,
        z=z,
    )
    assert y.tolist() == [4, 17]
    assert z.tolist() == (-x.astype(F32)).view(np.int32).tolist()


def test_a_shared_load_is_read_once():
    """At its first use; a load of its own reads what is there by then."""
    text = """nest @n(%x: f32[2] inout, %y: f32[1] out) {
        $0 = %x[0]
        store %y[0] = neg($0)
        store %x[0] = 5.0
        store %x[1] = $0 }"""
    x, y = np.array([1, 2], F32), np.zeros(1, F32)
    run(text, x=x, y=y)
    assert x.tolist() == [5, 1]
    x = np.array([1, 2], F32)
    run(text.replace("$0 = %x[0]\n", "").replace("$0", "%x[0]"), x=x, y=y)
    assert x.tolist() == [5, 5]


@pytest.mark.parametrize(("name", "dtype"), [("f32", F32), ("f64", np.float64), ("i32", np.int32)])
def test_a_contraction_with_its_epilogue(name, dtype):
    x, w = (10 * normal(2, 3, 5)).astype(dtype), (10 * normal(4, 5)).astype(dtype)
    y, z = np.zeros((2, 3, 4), dtype), np.zeros((2, 4, 3), dtype)
    one = f"1:{name}" if name == "i32" else f"1.0:{name}" if name == "f64" else "1.0"
    run(
        f"""contraction @c(%x: {name}[30] in, %w: {name}[20] in, %y: {name}[24] out,
                           %z: {name}[24] out) {{
          for b in 2, i in 3, j in 4 {{
            acc: {name} = sum k in 5 of %x[15*b + 5*i + k] * %w[5*j + k]
            store %y[12*b + 4*i + j] = acc
            store %z[12*b + 3*j + i] = add(acc, {one}) }} }}""",
        x=x,
        w=w,
        y=y,
        z=z,
    )
    np.testing.assert_allclose(y, x @ w.T, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(z, (y + dtype(1)).transpose(0, 2, 1))


def test_a_convolution_by_overlapping_strides():
    x, w, y = normal(9), normal(3), np.zeros(7, F32)
    run(
        """contraction @conv(%x: f32[9] in, %w: f32[3] in, %y: f32[7] out) {
          for o in 7 { acc: f32 = sum k in 3 of %x[o + k] * %w[k] store %y[o] = acc } }""",
        x=x,
        w=w,
        y=y,
    )
    np.testing.assert_allclose(y, np.correlate(x, w, "valid"), rtol=1e-5)


def test_checks_report_the_first_failure_at_the_end():
    n, y = np.array([1, 12, -3]), np.zeros(3, F32)
    text = """nest @c(%n: i64[3] in, %y: f32[3] out) { for i in 3 {
        check 0 <= %n[i] < 10 code 2  store %y[i] = 1.0 } }"""
    with pytest.raises(IndexError, match=r"check 2\] index 12 is out of range \[0, 10\)"):
        run(text, n=n, y=y)
    assert y.tolist() == [1, 1, 1]


# What is refused ----------------------------------------------------------------------------------

FAULTS = [
    (
        "for i in 5 { store %y[i] = %x[(i)//1 + 1] }",
        r"load of %x\[4\], which has 4 elements\n  where i = 3\n  in: store %y\[i\]",
    ),
    ("for i in 5 { store %y[(i)//1 - 1] = 1.0 }", r"store to %y\[-1\], which has 4 elements"),
    (
        "for i in 4 chunks 2 { store %y[([0 < 4])//1 + 1] = 1.0 }",
        r"iteration i = 1 writes what another one writes: %y\[1\]",
    ),
    (
        "for i in 3 vector { store %y[i + 1] = %y[i] }",
        r"iteration i = 1 reads what number 0 writes: %y\[1\]",
    ),
    (
        "for i in 3 chunks 2 { store %y[i] = %y[i + 1] }",
        r"iteration i = 1 writes what another one reads: %y\[1\]",
    ),
]


@pytest.mark.parametrize(("body", "message"), FAULTS)
def test_kernels_are_refused(body, message):
    kernel = parse_kernel(f"nest @bad(%x: f32[4] in, %y: f32[4] inout) {{ {body} }}")
    with pytest.raises(MemoryFault, match=message):
        run_kernel(kernel, {"x": normal(4), "y": normal(4)})


def test_independent_iterations_may_read_the_same():
    text = """nest @ok(%x: f32[4] in, %y: f32[4] inout) { for i in 4 chunks 2 {
        for j in 4 vector { store %y[i] += %x[j] } } }"""
    with pytest.raises(MemoryFault, match="iteration j = 1 reads what number 0 writes"):
        run(text, x=normal(4), y=normal(4))
    run(text.replace(" vector", ""), x=normal(4), y=normal(4))


def test_buffers_must_fit():
    kernel = parse_kernel("nest @n(%x: f32[4] inout) { store %x[0] = 1.0 }")
    with pytest.raises(TypeError, match=r"%x is f32\[4\], given float64\[4\]"):
        run_kernel(kernel, {"x": np.zeros(4)})
    with pytest.raises(TypeError, match=r"%x is f32\[4\], given float32\[5\]"):
        run_kernel(kernel, {"x": np.zeros(5, F32)})
    with pytest.raises(TypeError, match="contiguous"):
        run_kernel(kernel, {"x": np.zeros(8, F32)[::2]})


# Programs -----------------------------------------------------------------------------------------

PROGRAM = """\
program @p(2 inputs, 1 outputs, arena 32) {
  place %x input 0
  place %s input 1
  place %t arena 0
  place %u arena 16
  place %y output 0
  site "nll_loss" 0 4  # train.py:7 in net
  wave {
    nest @first(%x: f32[4] in, %t: f32[4] out) {
      for i in 4 vector { store %t[i] = neg(%x[i]) }
    }
    nest @second(%x: f32[4] in, %s: f32[1] in, %u: f32[4] out) {
      for i in 4 { store %u[i] = mul(%x[i], %s[0]) }
    }
  }
  wave {
    nest @third(%t: f32[4] in, %u: f32[4] in, %y: f32[4] out) {
      for i in 4 { store %y[i] = add(%t[i], %u[i])  check 0 <= index(i) < 4 code 1 }
    }
  }
}"""


def run_both(text, inputs, outputs):
    program = parse_program(text)
    verify_program(program)
    run_program(program, inputs, outputs)


def test_a_program_with_intermediate_values():
    x, y = normal(4), np.zeros(4, F32)
    run_both(PROGRAM, [x, 3.0], [y])
    np.testing.assert_array_equal(y, -x + x * F32(3))


def test_an_output_in_place_of_an_input():
    x = normal(2, 2)
    expected = -x + x * F32(3)
    run_both(PROGRAM, [x, 3.0], [x])
    np.testing.assert_array_equal(x, expected)


def test_a_failed_check_names_operation_and_line():
    with pytest.raises(IndexError) as caught:
        run_both(
            PROGRAM.replace("0 <= index(i) < 4", "0 <= index(i) < 2"), [normal(4), 1], [normal(4)]
        )
    assert str(caught.value) == (
        "[nll_loss] index 2 is out of range [0, 4)\n  at train.py:7\n  in net"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("%u arena 16", "%u arena 8", "kernel 1 writes what another one writes"),
        ("%t[i] = neg", "%t[0] = neg", r"%t\[1\] is read and holds nothing yet"),
        (
            "%u arena 16",
            "%u arena 0",
            "kernel 1 writes what another one writes",
        ),
        ("%y[i] = add", "%y[0] = add", "element 1 of output 0 was never written"),
        ("add(%t[i], %u[i])", "add(%t[i], %y[i])", r"%y\[0\] is read and holds nothing yet"),
    ],
)
def test_programs_are_refused(old, new, message):
    program = parse_program(PROGRAM.replace(old, new).replace("%t[0] = neg(", "%t[(i)//9] = neg("))
    if new.endswith("0] = neg"):
        program.waves[0][0].body[0].kind = "serial"
    with pytest.raises(MemoryFault, match=message):
        run_program(program, [normal(4), 1.0], [np.zeros(4, F32)])


def test_a_clobbered_buffer_is_noticed():
    """Two buffers share arena bytes, and the second is written while the first is still needed."""
    text = PROGRAM.replace("    }\n    nest @second", "    }\n  }\n  wave {\n    nest @second")
    run_both(text, [normal(4), 1.0], [normal(4)])
    clash = parse_program(text.replace("%u arena 16", "%u arena 8"))
    with pytest.raises(MemoryFault, match=r"%t\[2\] is read and holds another buffer's value"):
        run_program(clash, [normal(4), 1.0], [normal(4)])


def test_placements_are_checked():
    for old, new, message in [
        ("arena 32", "arena 30", "%u ends at byte 32 of 30"),
        ("%u arena 16", "%u arena 14", "%u is not aligned: offset 14"),
    ]:
        with pytest.raises(MemoryFault, match=message):
            run_program(parse_program(PROGRAM.replace(old, new)), [normal(4), 1.0], [normal(4)])
