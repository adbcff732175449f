"""Each rule for kernels and programs refuses one that breaks it."""

import pytest

import braze.ir as ir
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Accumulator, Apply, Buffer, Const, IndexValue, Load, Philox, Ref, Store
from braze.ir.loops_parser import parse_kernel, parse_program
from braze.ir.loops_verifier import verify_kernel, verify_program

NEST = """\
nest @rows(%x: f32[24] in, %n: i64[4] in, %y: f32[24] inout) {
  for i in 4 chunks 2 {
    reduce k in 2, l in 3 vector {
      s = sum(%x[6*i + 3*k + l])
      p = argmax(%x[6*i + 3*k + l]) at 3*k + l
    }
    check 0 <= p < 6 code 1
    for j in 6 vector {
      store %y[6*i + j] = mul(%x[6*i + j], s)
      store %y[6*i + j] += cast(philox(%n[i], index(j); 0); f32)
    }
  }
}"""

CONTRACTION = """\
contraction @dense(%x: f32[32] in, %w: f32[64] in, %y: f32[32] out) {
  for i in 4, j in 8 {
    acc: f32 = sum k in 8 of %x[8*i + k] * %w[8*j + k]
    store %y[8*i + j] = maximum(acc, 0.0)
  }
}"""


def refused(kernel, message):
    if isinstance(kernel, str):
        kernel = parse_kernel(kernel)
    with pytest.raises(ir.VerifyError) as caught:
        verify_kernel(kernel)
    assert str(caught.value).startswith(f"[{kernel.name}] {message}"), str(caught.value)


@pytest.mark.parametrize("text", [NEST, CONTRACTION], ids=["nest", "contraction"])
def test_right_kernels_pass(text):
    verify_kernel(parse_kernel(text))


def test_the_message_shows_the_statement():
    with pytest.raises(ir.VerifyError) as caught:
        verify_kernel(parse_kernel(NEST.replace("store %y[6*i + j] =", "store %y[6*i + j + 1] =")))
    assert str(caught.value) == (
        "[rows] %y[1 .. 24] is outside its 24 elements\n"
        "  in: store %y[6*i + j + 1] = mul(%x[6*i + j], s)"
    )


NEST_FAULTS = [
    ("for i in 4", "for i in 5", "%x[0 .. 29] is outside its 24 elements"),
    ("%x[6*i + j], s", "%x[6*i + j - 1], s", "%x[-1 .. 22] is outside its 24 elements"),
    ("%y: f32[24] inout", "%y: f32[24] in", "%y is 'in' and must not be written"),
    ("%y: f32[24] inout", "%y: f32[24] out", "%y is 'out' and must not be written"),
    ("%x: f32[24] in", "%x: f32[24] out", "%x is 'out' and must not be read"),
    ("= mul(%x[6*i + j], s)", "= p", "a value of i64 goes to a buffer of f32"),
    ("k in 2", "k in 2 vector", "only the innermost loop of a reduction may be a vector loop"),
    ("chunks 2", "vector chunks 2", "only the innermost loop of a reduction may be a vector loop"),
    ("for j in 6 vector", "for j in 6 chunks 2", "only the outermost loop is cut into chunks"),
    ("sum(", "all(", "all does not combine f32"),
    (" at 3*k + l", "", "argmax needs a position"),
    ("check 0 <= p", "check 0 <= s", "a check needs an integer, given f32"),
    ("code 1", "code 0", "check codes start at 1"),
    ("s = sum", "s = amax(%x[i]) s = sum", "the name s is defined twice"),
    ("%n: i64[4]", "%n: i32[4]", "philox takes 64-bit integers, given i32"),
    ("store %y[6*i + j] +=", "store %y[[%n[i] < 24]] +=", "a scatter must not run in parallel"),
    ("store %y[6*i + j] +=", "store %y[j] +=", "parallel iterations over i add to one element"),
    ("%x[6*i + j], s", "%x[[%x[0] < 24]], s", "an index is read from data of f32"),
]


@pytest.mark.parametrize(("old", "new", "message"), NEST_FAULTS)
def test_nests_are_refused(old, new, message):
    text = NEST.replace(old, new, 1)
    assert text != NEST
    refused(text, message)


def test_a_vector_loop_holds_no_other():
    text = NEST.replace("l in 3 vector", "l in 3").replace("chunks 2", "vector chunks 2")
    refused(text, "a vector loop stands inside a vector loop")


def test_a_loop_in_chunks_stands_alone():
    loop = "for i in 4 chunks 2 { store %y[i] = 1.0 }"
    refused(f"nest @n(%y: f32[4] out) {{ {loop} {loop} }}", "a loop in chunks must be the kernel's")


def test_guards_and_empty_loops_excuse_addresses():
    nest = "nest @n(%x: f32[4] in, %y: f32[4] out) {{ {} }}"
    verify_kernel(parse_kernel(nest.format("for i in 9 { store %y[i - 5 if 5 <= i < 9] = 1.0 }")))
    verify_kernel(parse_kernel(nest.format("for i in 0 { store %y[99] = %x[99] }")))


def damaged(change):
    kernel = parse_kernel(NEST)
    change(kernel, kernel.body[0].body)
    return kernel


def test_what_the_parser_would_not_let_pass():
    y = Buffer("y", ir.f32, 24, "inout")
    i = LoopVar("i", 4)

    def store(value):
        return lambda kernel, body: body[-1].body.append(Store(y, Index(), value))

    add, contract = ir.op_named("add"), ir.op_named("sum")
    one = Const(1.0, ir.f32)
    other = Buffer("y", ir.f64, 24, "in")
    for change, message in [
        (store(Apply(add, (one, one), ir.f64)), "add(1.0, 1.0) is f64, its rule gives f32"),
        (store(Apply(contract, (one,), ir.f32)), "sum is no primitive elementwise operation"),
        (store(Ref("s", ir.f64)), "s is read as f64 and is f32"),
        (store(Ref("q", ir.f32)), "q is read as f32 and is not defined here"),
        (store(Load(other, Index())), "%y is not a buffer of the kernel"),
        (store(Philox(4, IndexValue(Index()), IndexValue(Index()))), "philox has words 0 to 3"),
        (store(IndexValue(Index.of(LoopVar("q", 3)))), "loop variable q is not in scope"),
        (store(IndexValue(Index.of(LoopVar("j", 3)))), "loop variable j is not in scope"),
        (lambda k, body: setattr(body[-1], "var", i), "loop variable i is already in use"),
        (lambda k, body: setattr(body[-1], "var", LoopVar("j", -1)), "loop variable j has extent"),
        (lambda k, body: setattr(body[-1], "kind", "fast"), "unknown kind of loop 'fast'"),
        (lambda k, body: setattr(k, "buffers", (*k.buffers, y)), "two buffers have one name"),
        (lambda k, b: setattr(k, "buffers", (Buffer("q", ir.f32, -1, "in"),)), "buffer %q is malf"),
    ]:
        refused(damaged(change), message)


def test_only_positions_are_reduced_to_positions():
    def change(kernel, body):
        one, other = body[0].accumulators
        wrong = Accumulator("s", "sum", one.value, other.position)
        body[0].accumulators = (wrong, other)

    refused(damaged(change), "sum takes no position")


def test_operand_counts_follow_the_op():
    one = Const(1.0, ir.f32)
    y = Buffer("y", ir.f32, 24, "inout")
    lone = Apply(ir.op_named("where"), (one, one), ir.f32)
    kernel = damaged(lambda kernel, body: body[-1].body.append(Store(y, Index(), lone)))
    refused(kernel, "where(1.0, 1.0): ")


CONTRACTION_FAULTS = [
    ("%x[8*i", "%x[9*i", "%x[0 .. 34] is outside its 32 elements"),
    ("+ k] *", "+ k - 1] *", "%x[-1 .. 30] is outside its 32 elements"),
    ("%y[8*i + j]", "%y[9*i + j]", "%y[0 .. 34] is outside its 32 elements"),
    ("%w: f32", "%w: i32", "operands are f32 and i32"),
    ("%x: f32[32] in", "%x: f32[32] out", "%x is 'out' and must not be read"),
    ("store %y[8*i + j] = maximum(acc, 0.0)", "", "a contraction without a store does nothing"),
    ("%x[8*i + k] * %w[8*j + k]", "%x[8*i] * %w[8*j]", "no operand depends on the inner dimension"),
    ("+ k] *", "+ k if 0 <= i < 2] *", "the bound 0 <= i < 2 of an operand needs one inner"),
    ("+ k] *", "+ k if 0 <= (k)//2 < 2] *", "the bound 0 <= (k)//2 < 2 of an operand is not aff"),
]


@pytest.mark.parametrize(("old", "new", "message"), CONTRACTION_FAULTS)
def test_contractions_are_refused(old, new, message):
    text = CONTRACTION.replace(old, new, 1)
    assert text != CONTRACTION
    refused(text, message)


def test_a_guarded_operand_may_have_addresses_outside_of_its_buffer():
    guarded = CONTRACTION.replace("+ k] *", "+ k - 1 if 0 <= i + k - 1 < 8] *", 1)
    verify_kernel(parse_kernel(guarded))


def test_sums_are_wide_enough():
    text = CONTRACTION.replace("maximum(acc, 0.0)", "cast(acc; f32)")
    refused(text.replace("acc: f32", "acc: i32"), "products of f32 are not summed in i32")
    refused(text.replace("acc: f32", "acc: f16"), "products of f32 are not summed in f16")
    verify_kernel(parse_kernel(text.replace("acc: f32", "acc: f64")))


def test_an_epilogue_does_not_see_the_inner_dimensions():
    kernel = parse_kernel(CONTRACTION)
    kernel.stores[0].index = Index.of(kernel.dims[2])
    refused(kernel, "loop variable k is not in scope")


def test_contraction_dimensions_fit():
    kernel = parse_kernel(CONTRACTION)
    kernel.inner = 4
    refused(kernel, "4 of 3 dimensions are inner ones")
    kernel.inner = 1
    kernel.dims = kernel.dims[:2]
    refused(kernel, "3 strides for 2 dimensions")


PROGRAM = f"""\
program @p(2 inputs, 1 outputs, arena 128) {{
  place %x input 0
  place %w input 1
  place %y arena 0
  place %z output 0
  wave {{
    {CONTRACTION}
  }}
  wave {{
    nest @copy(%y: f32[32] in, %z: f32[32] out) {{
      for i in 32 {{ store %z[i] = %y[i] }}
    }}
  }}
}}"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  place %y arena 0\n", "", "buffer %y has no placement"),
        ("arena 128", "arena 127", "buffer %y ends at byte 128 of an arena of 127"),
        ("%y arena 0", "%y arena -4", "buffer %y ends at byte 124 of an arena of 128"),
        ("%y arena 0", "%y arena 2", "buffer %y ends at byte 130"),
        ("%x input 0", "%x input 2", "buffer %x is input 2, but there are 2"),
        ("%z output 0", "%z output 1", "buffer %z is output 1, but there are 1"),
        ("%z output 0", "%z input 0", "buffer %z is an input, but copy writes it"),
        (
            "copy(%y: f32[32]",
            "copy(%y: f32[33]",
            "buffer %y is f32[32] in one kernel and f32[33] in",
        ),
        ("store %z[i]", "store %z[i + 1]", None),
    ],
)
def test_programs_are_refused(old, new, message):
    text = PROGRAM.replace(old, new, 1)
    assert text != PROGRAM
    with pytest.raises(ir.VerifyError) as caught:
        verify_program(parse_program(text))
    head = "[copy] %z[1 .. 32] is outside" if message is None else f"[p] {message}"
    assert str(caught.value).startswith(head)


def test_arena_buffers_are_aligned():
    text = PROGRAM.replace("arena 128", "arena 256").replace("%y arena 0", "%y arena 2")
    with pytest.raises(ir.VerifyError, match="buffer %y is not aligned: offset 2"):
        verify_program(parse_program(text))


def test_a_right_program_passes():
    verify_program(parse_program(PROGRAM))


@pytest.mark.parametrize(
    ("index", "fine"),
    [
        ("6*[%n[0] < 4] + i", True),
        ("[%n[0] < 4] + 4*i", True),
        ("24*j + 6*[%n[0] < 4] + i", True),
        ("5*[%n[0] < 4] + i", False),  # place 5 is 5 of row 0, and 0 of row 1
        ("[%n[0] < 4] + 3*i", False),
        ("[%n[0] < 4] + i", False),
        ("6*[%n[0] < 4] + j", False),
    ],
)
def test_which_scatters_may_run_in_parallel(index, fine):
    text = f"""nest @k(%n: i64[1] in, %x: f32[48] in, %y: f32[48] inout) {{
  for i in 6 chunks 2 {{
    for j in 2 {{
      store %y[{index}] += %x[i]
    }}
  }}
}}"""
    if fine:
        verify_kernel(parse_kernel(text))
    else:
        refused(text, "a scatter must not run in parallel")
