"""Kernels and programs print and parse back to themselves."""

import random

import pytest

import braze.ir as ir
from braze.ir.index import DataIndex, FloorDiv, Index, LoopVar, Mod
from braze.ir.loops import (
    Accumulator,
    Apply,
    Bound,
    Buffer,
    Const,
    InBounds,
    IndexValue,
    Load,
    Loop,
    Nest,
    Philox,
    Reduce,
    Ref,
    Store,
)
from braze.ir.loops_parser import parse_kernel, parse_program

SOFTMAX = """\
nest @softmax(%x: f32[4096] in, %mask: bool[64] in, %"odd name": f32[4096] inout) {
  # rows of 64
  # in one kernel
  for i in 64 chunks 4 {
    reduce k in 64 vector {
      m = amax(%x[64*i + k])
      p = argmax(%x[64*i + k]) at 64*i + k
    }
    reduce k in 8, l in 8 unroll {
      $0 = exp(sub(%x[64*i + 8*k + l], m))
      s = sum($0)
      t = sum(mul($0, $0))
    }
    check 0 <= p < 4096 code 1
    for j in 64 vector {
      $1 = %x[64*i + j]
      store %"odd name"[64*i + j] = div(exp(sub($1, m)), s)
      store %"odd name"[64*i + j if 1 <= i - j < 5 and 0 <= (j)//2 < 3] += neg($1)
    }
    store %"odd name"[([p < 64])//3 + 2*(i + 1)%5] = where(inside(0 <= i < 7), add(s, t), 2.0)
  }
}"""

CONTRACTION = """\
contraction @dense(%x: f16[100] in, %w: f16[64] in, %b: f32[8] in, %y: f32[64] out) {
  for b in 1, i in 8, j in 8 {
    acc: f32 = sum k in 8 of %x[64*b + 8*i + k + 3] * %w[8*j + k]
    $0 = add(acc, %b[j])
    store %y[8*i + j] = maximum($0, mul($0, 0.01))
  }
}"""

GUARDED = """\
contraction @windows(%x: f32[8] in, %w: f32[3] in, %y: f32[8] out) {
  for i in 8 {
    acc: f32 = sum k in 3 of %x[i + k - 1 if 0 <= i + k - 1 < 8] * %w[k]
    store %y[i] = acc
  }
}"""

EMPTY = """\
contraction @dot(%x: f64[1] in, %y: f64[1] in, %z: f64[1] out) {
  for {
    acc: f64 = sum of %x[0] * %y[0]
    store %z[0] = acc
  }
}"""

MIXED = """\
nest @mixed(%0: u32[4] out, %1: i64[2] in, %2: bool[4] out, %3: f64[4] out, %4: u8[4] out) {
  for i in 4 unroll {
    $0 = philox(add(%1[0], index((i)//2)), %1[1]; 0)
    store %0[i] = bitwise_xor($0, philox(%1[0], %1[1]; 3))
    store %2[i] = where(true, lt(index(-i + 3), -2), false)
    store %3[-i + 3] = add(cast($0; f64), 0.5:f64)
    store %4[i] = 7:u8
  }
  reduce {
    a = any(true)
  }
}"""

PROGRAM = """\
program @step(2 inputs, 1 outputs, arena 64) {
  place %x input 0
  place %y input 1
  place %t arena 0
  place %z output 0
  site "nll_loss" 0 10  # train.py:7 in net
  site "take" -1 5
  wave {
    nest @first(%x: f64[1] in, %t: f64[1] out) {
      store %t[0] = neg(%x[0])
    }
    nest @idle() {
    }
  }
  wave {
    contraction @dot(%t: f64[1] in, %y: f64[1] in, %z: f64[1] out) {
      for {
        acc: f64 = sum of %t[0] * %y[0]
        store %z[0] = acc
      }
    }
  }
}"""


@pytest.mark.parametrize(
    "text", [SOFTMAX, CONTRACTION, GUARDED, EMPTY, MIXED], ids=lambda t: t.split("(")[0]
)
def test_kernels_read_back_to_themselves(text):
    assert str(parse_kernel(text)) == text


def test_programs_read_back_to_themselves():
    program = parse_program(PROGRAM)
    assert str(program) == PROGRAM
    assert program.checks[0].location == ir.Location("train.py", 7, "net")
    assert [len(wave) for wave in program.waves] == [2, 1]


def test_the_parts_of_a_parsed_kernel():
    kernel = parse_kernel(SOFTMAX)
    assert kernel.comment == "rows of 64\nin one kernel"
    assert [b.access for b in kernel.buffers] == ["in", "in", "inout"]
    (loop,) = kernel.body
    assert (loop.var, loop.kind, loop.chunks) == (LoopVar("i", 64), "serial", 4)
    first, second, check, inner, last = loop.body
    assert first.loops == ((LoopVar("k", 64), "vector"),)
    assert first.accumulators[1].combine == "argmax" and first.accumulators[1].dtype is ir.i64
    one, other = second.accumulators
    assert other.value.arguments == (one.value, one.value)  # one shared object
    assert (check.low, check.high, check.code) == (0, 4096, 1)
    assert inner.body[1].accumulate and len(inner.body[1].guard) == 2
    assert isinstance(last.index.terms[1][0], FloorDiv) or isinstance(
        last.index.terms[0][0], FloorDiv
    )


def test_one_sized_dimensions_keep_their_strides():
    assert parse_kernel(CONTRACTION).lhs.strides == (64, 8, 0, 1)
    assert parse_kernel(CONTRACTION).lhs.offset == 3


def test_sharing_is_written_once():
    """Doubling ten times is a DAG of ten operations, and a tree of a thousand."""
    x, y = Buffer("x", ir.f32, 1, "in"), Buffer("y", ir.f32, 1, "out")
    value = Load(x, Index())
    for _ in range(10):
        value = Apply(ir.op_named("add"), (value, value), ir.f32)
    nest = Nest("double", (x, y), [Store(y, Index(), value)])
    assert str(nest).count("add") == 10
    again = parse_kernel(str(nest))
    assert len(list(again.body[0].value.walk())) == 11
    assert str(again) == str(nest)


def test_long_chains_are_walked():
    """A fused graph may be deeper than Python's stack."""
    value = first = Const(1.0, ir.f32)
    for _ in range(5000):
        value = Apply(ir.op_named("neg"), (value,), ir.f32)
    order = list(value.walk())
    assert len(order) == 5001 and order[0] is first and order[-1] is value


def test_data_in_indices_is_walked_first():
    inner = Load(N, Index())
    index = Index.of(DataIndex(inner, 50)) * 3 // 2 + Index.of(J)
    load = Load(X, index)
    sum_ = Apply(ir.op_named("add"), (load, Const(1.0, ir.f32)), ir.f32)
    order = list(sum_.walk())
    assert order[:2] == [inner, load] and order[-1] is sum_ and len(order) == 4


def test_a_load_that_two_statements_share_has_a_name():
    """It is read once, before the first of them writes over it."""
    x = Buffer("x", ir.f32, 2, "inout")
    load = Load(x, Index())
    nest = Nest(
        "swap", (x,), [Store(x, Index(), Load(x, Index((), 1))), Store(x, Index((), 1), load)]
    )
    assert "$" not in str(nest)
    nest.body.insert(0, Store(x, Index(), load))
    assert str(nest).splitlines()[1:3] == ["  $0 = %x[0]", "  store %x[0] = $0"]


ERRORS = [
    ("store %y[8", "store %q[8", "no buffer is called q", 5, 11),
    ("8*i + j]", "8*q + j]", "no loop variable is called q", 5, 16),
    ("= maximum", "= maximun", "no op is called 'maximun'", 5, 25),
    (
        "mul($0, 0.01)",
        "mul($0, 1)",
        "mul does not take these arguments: [mul] operands differ",
        5,
        37,
    ),
    ("mul($0", "mul($1", "$1 is not defined before this", 5, 41),
    ("add(acc", "add(sum", "sum is not defined before this", 4, 14),
    ("j in 8", "i in 8", "loop variable i is already in use", 2, 23),
    ("store", "put", "expected a statement or '}'", 5, 5),
    ("8*j + k]", "(j)//8]", "a contraction's operand is addressed by strides only", 3, 58),
    ("%b: f32", "%x: f32", "buffer x is declared twice", 1, 53),
    ("%x[64*b + 8*i", "%x[64*b + 8*k if", "expected an integer", 3, 47),
    ("%x[64*b + 8*i", "%x[64*b + 8*k for", "expected ']'", 3, 44),
]


@pytest.mark.parametrize(("old", "new", "message", "line", "column"), ERRORS)
def test_errors_point_at_the_fault(old, new, message, line, column):
    with pytest.raises(ir.ParseError) as caught:
        parse_kernel(CONTRACTION.replace(old, new, 1))
    assert str(caught.value).startswith(f"line {line}, column {column}: {message}")


# Random kernels -----------------------------------------------------------------------------------

ROW, J, K = LoopVar("i", 4), LoopVar("j", 6), LoopVar("k", 5)
X, Y = Buffer("x", ir.f32, 200, "in"), Buffer("net.y", ir.f32, 200, "inout")
N = Buffer("0", ir.i64, 50, "in")


class Maker:
    """Makes kernels that need not make sense, but are well-formed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def index(self, variables, depth=2):
        total = Index((), self.random.randint(-9, 9))
        for _ in range(self.random.randint(0, 3)):
            kind = self.random.randint(0, 5) if depth else 0
            if kind < 3:
                part = Index.of(self.random.choice(variables))
            else:
                part = self.index(variables, depth - 1)
                if kind == 3:
                    part = part // self.random.randint(1, 7)
                elif kind == 4:
                    part = part % self.random.randint(1, 7)
                else:
                    part = Index.of(DataIndex(Load(N, part), 50))
            total = total + part * self.random.randint(-9, 9)
        return total

    def bounds(self, variables):
        count = self.random.choice((0, 0, 1, 2))
        bounds = (self.index(variables, 1) for _ in range(count))
        return tuple(
            Bound(i, self.random.randint(-5, 0), self.random.randint(1, 9)) for i in bounds
        )

    def expression(self, variables, refs=()):
        """An f32 expression; what was made before may be used again."""
        made = [Const(self.random.choice((0.1, -2.0, float("inf"))), ir.f32)]
        made.append(Load(X, self.index(variables), self.bounds(variables)))
        made += [Ref(name, ir.f32) for name in refs]
        for _ in range(self.random.randint(0, 8)):
            made.append(self.operation(variables, made))
        return made[-1]

    def operation(self, variables, made):
        kind = self.random.randint(0, 5)
        one, other = self.random.choices(made, k=2)
        if kind == 0:
            buffer = self.random.choice((X, Y))
            return Load(buffer, self.index(variables), self.bounds(variables))
        if kind == 1:
            return Apply(ir.op_named("cast"), (IndexValue(self.index(variables)),), ir.f32)
        if kind == 2:
            inside = InBounds(self.bounds(variables))
            return Apply(ir.op_named("where"), (inside, one, other), ir.f32)
        if kind == 3:
            counter, seed = IndexValue(self.index(variables)), Load(N, self.index(variables))
            bits = Philox(self.random.randint(0, 3), counter, seed)
            return Apply(ir.op_named("cast"), (bits,), ir.f32)
        name = self.random.choice(("add", "mul", "maximum"))
        return Apply(ir.op_named(name), (one, other), ir.f32)

    def nest(self):
        kinds = ("serial", "vector", "unroll")
        inside = [ROW, K]
        value = self.expression(inside)
        position = self.index(inside)
        total = Reduce(
            ((K, self.random.choice(kinds)),),
            (
                Accumulator("s", "sum", value),
                Accumulator("p", "argmin", self.expression(inside), position),
                Accumulator("q", "prod", self.random.choice((value, self.expression(inside)))),
            ),
        )
        value = self.expression([ROW, J], ["s"])
        again = self.random.choice((value, self.expression([ROW, J], ["s", "q"])))
        stores = [Store(Y, self.index([ROW, J]), v, self.bounds([ROW, J])) for v in (value, again)]
        inner = Loop(J, stores, self.random.choice(kinds))
        comment = self.random.choice(("", "one line", "two\nlines"))
        return Nest("random", (X, Y, N), [Loop(ROW, [total, inner], chunks=2)], comment)


@pytest.mark.parametrize("seed", range(150))
def test_random_kernels_read_back_to_themselves(seed):
    nest = Maker(seed).nest()
    again = parse_kernel(str(nest))
    assert str(again) == str(nest)
    assert again.buffers == nest.buffers and again.comment == nest.comment


def holds_data(index):
    return any(
        isinstance(atom, DataIndex)
        or (isinstance(atom, (FloorDiv, Mod)) and holds_data(atom.inner))
        for atom, _ in index.terms
    )


def test_indices_read_back_equal():
    """Equal indices compare equal, so the very terms must come back."""
    head = "nest @n(%x: i64[9] out, %0: i64[50] in) { for i in 4 { for j in 6 { for k in 5 {"
    compared = 0
    for seed in range(200):
        index = Maker(seed).index([ROW, J, K])
        kernel = parse_kernel(f"{head} store %x[{index}] = 1 }} }} }} }}")
        store = kernel.body[0].body[0].body[0].body[0]
        assert str(store.index) == str(index)
        if not holds_data(index):
            compared += 1
            assert store.index == index
    assert compared > 100
