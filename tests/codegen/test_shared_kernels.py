"""Kernels that do the same at other places are one function, which computes the same."""

import numpy as np
import pytest
from kernels import program_of
from native import Native, defined, runnable_targets

from braze import ir
from braze.codegen.llvm.program import generate
from braze.codegen.llvm.shared_kernels import shared_kernels
from braze.ir.interpreter import interpret
from braze.ir.loops_attention import Attention
from braze.ir.loops_parser import parse_kernel
from braze.ir.loops_text import print_anywhere
from braze.passes import compile_graph
from braze.runtime.cpu import host_target

STEPS = 5


def steps_graph(rows=4, width=24, *, dtype=ir.f32):
    """h = tanh(x[t] @ w + h @ u), written out, and the sum of all h."""
    b = ir.Builder("steps")
    x = b.input(ir.tensor_type(dtype, (STEPS, rows, width)))
    w, u = (b.input(ir.tensor_type(dtype, (width, width))) for _ in range(2))
    h = b.input(ir.tensor_type(dtype, (rows, width)))
    total = h
    for t in range(STEPS):
        part = b.slice(x, starts=(t, 0, 0), stops=(t + 1, rows, width), steps=(1, 1, 1))
        now = b.reshape(part, shape=(rows, width))
        h = b.tanh(b.add(b.matmul(now, w), b.matmul(h, u)))
        total = b.add(total, h)
    return b.finish([total, h])


def blocks_graph():
    """Two chains of the same layers side by side, with rows for several threads."""
    b = ir.Builder("blocks")
    outputs = []
    for _ in range(2):
        x = b.input(ir.tensor_type(ir.f32, (3000, 40)))
        scale = b.input(ir.tensor_type(ir.f32, (40,)))
        for _ in range(3):
            x = b.softmax(b.mul(x, scale), dim=1)
        outputs.append(x)
    return b.finish(outputs)


def check(graph, target):
    generator = np.random.default_rng(4)
    inputs = [
        generator.uniform(-0.5, 0.5, v.type.shape).astype(v.dtype.numpy) for v in graph.inputs
    ]
    expected = interpret(graph, inputs)
    program, _ = compile_graph(graph, target)
    results = Native(program, target).run(inputs, expected)
    for found, right in zip(results, expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=2e-5, atol=2e-6)
    return program


@pytest.mark.parametrize("target", runnable_targets(), ids=str)
@pytest.mark.parametrize("make", [steps_graph, blocks_graph])
def test_results(make, target):
    program = check(make(), target)
    assert shared_kernels(program)


@pytest.mark.parametrize("make", [steps_graph, blocks_graph])
def test_equal_kernels_are_compiled_once(make):
    target = host_target()
    program, _ = compile_graph(make(), target)
    kernels = list(program.kernels())
    shared = shared_kernels(program)
    functions = {own.program.name for own in shared.values()}
    assert len(functions) < len(shared)
    texts = [text for _, text in generate(program, target).modules]
    found = [name for text in texts for name in defined(text)]
    made = [name for name in found if name.startswith("braze_kernel")]
    assert len(made) == len(kernels) - len(shared) + len(functions)
    assert len(set(found)) == len(found)


def test_steps_at_other_elements_of_an_input_are_equal():
    """However many steps there are, the same functions are compiled."""
    program, _ = compile_graph(steps_graph(), host_target())
    shared = shared_kernels(program)
    starts = [first for own in shared.values() for buffer, first in own.places if first]
    assert starts and all(first % (4 * 24) == 0 for first in starts)


COPY = """nest @{name}(%{x}: f32[8] in, %{y}: f32[8] out) {{
  for i in 8 {{{check}
    store %{y}[i] = add(%{x}[i], 1.0)
  }}
}}"""


def copies(check="", arena=None):
    """Twice the same kernel: b = a + 1, c = b + 1."""
    pairs = [("first", "a", "b"), ("second", "b", "c")]
    texts = [COPY.format(name=n, x=x, y=y, check=check) for n, x, y in pairs]
    return program_of(*texts, arena=arena)


def test_what_is_shared():
    apart = {"a": 0, "b": 64, "c": 128}
    assert len(shared_kernels(copies(arena=apart))) == 2
    # A result in the place of its operand is another function than one elsewhere.
    assert not shared_kernels(copies(arena={"a": 0, "b": 0, "c": 64}))
    assert len(shared_kernels(copies(arena={"a": 0, "b": 0, "c": 0}))) == 2
    # An input of the program may be the memory of an output.
    assert not shared_kernels(copies())
    # The number of a check says which one failed.
    assert not shared_kernels(copies("\n    check 0 <= index(i) < 9 code 1", arena=apart))


def test_the_text_of_a_kernel_anywhere():
    kernel = parse_kernel(
        """nest @mine(%x: f32[90] in, %k: i64[4] in, %t: f32[9] in, %y: f32[30] out) {
          # a comment
          for i in 4 {
            store %y[i + 7] = add(%x[3*i + 20], add(%x[3*i + 15], %t[[%k[i] < 9]]))
          }
        }"""
    )
    text, starts = print_anywhere(kernel, {"x": "i0", "k": "i1", "t": "i2", "y": "o0"})
    assert starts == {"i0": 15, "i1": 0, "i2": 0, "o0": 7}
    assert text.splitlines() == [
        "nest @kernel(%i0: f32[15] in, %i1: i64[4] in, %i2: f32[9] in, %o0: f32[4] out) {",
        "  for i in 4 {",
        "    store %o0[i] = add(%i0[3*i + 5], add(%i0[3*i], %i2[[%i1[i] < 9]]))",
        "  }",
        "}",
    ]
    assert str(parse_kernel(text)) == text


def attention_graph():
    """Layers of heads that lie side by side in one row of queries, keys and values."""
    b = ir.Builder("layers")
    x = b.input(ir.tensor_type(ir.f32, (20, 2, 48)))
    for _ in range(3):
        heads = b.permute(b.reshape(x, shape=(20, 2, 6, 8)), dims=(1, 2, 0, 3))
        parts = [
            b.slice(heads, starts=(0, i, 0, 0), stops=(2, i + 2, 20, 8), steps=(1, 1, 1, 1))
            for i in (0, 2, 4)
        ]
        out, _ = b.attention(*parts, scale=0.5, causal=True)
        back = b.reshape(b.permute(out, dims=(2, 0, 1, 3)), shape=(20, 2, 16))
        x = b.tanh(b.concat(back, back, back, dim=2))
    return b.finish([x])


@pytest.mark.parametrize("target", runnable_targets(), ids=str)
def test_attention_of_equal_layers_is_compiled_once(target):
    program = check(attention_graph(), target)
    kernels = [k for k in program.kernels() if isinstance(k, Attention)]
    shared = shared_kernels(program)
    assert len(kernels) == 3 and len({shared[k].program.name for k in kernels}) == 1


def test_places_are_a_table():
    """What `main` says of a call does not grow with the pointers that it passes."""
    program, _ = compile_graph(steps_graph(), host_target())
    pointers = sum(own.pointers for own in shared_kernels(program).values())
    text = dict(generate(program, host_target()).modules)["braze_program_steps"]
    (table,) = (line for line in text.split("\n") if "_rows" in line and "constant" in line)
    assert table.count("i64") >= 2 * pointers > 40
    lists = sum(len(wave) for wave in program.waves if len(wave) > 1)
    assert text.count("store ptr") <= lists + 1  # the one in the loop over the table


def test_modules_are_told_as_they_are_made():
    program, _ = compile_graph(steps_graph(), host_target())
    told = []
    generated = generate(program, host_target(), lambda name, text: told.append((name, text)))
    assert told == generated.modules
