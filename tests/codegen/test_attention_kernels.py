"""Kernels of attention: their text, rules and places, native code for every target, and memory."""

import numpy as np
import op_oracles_attention  # noqa: F401
import pytest
from native import Native, runnable_targets
from op_oracles import ORACLES

import braze.ir as ir
from braze.codegen.llvm.attention_plan import attention_plan
from braze.ir.interpreter import interpret
from braze.ir.loops_attention import Attention
from braze.ir.loops_interpreter import run_kernel, run_program
from braze.ir.loops_parser import parse_kernel, parse_program
from braze.ir.loops_verifier import verify_kernel, verify_program
from braze.ir.ops.attention import _plain
from braze.passes import compile_graph
from braze.runtime.cpu import host_target

KERNEL = """\
attention @heads(%x: f32[48] in, %m: f32[3] in, %o: f32[12] out, %l: f32[4] out) {
  # main.py:3
  chunks 2
  %o: f32[2,2,3], %l: f32[2,2] = attention_masked(
    %x: f32[2,2,4] from 0 by (4, 8, 1),
    %x: f32[2,3,4] from 16 by (4, 8, 1),
    %x: f32[2,3,3] from 40 by (-12, -8, 1),
    %m: f32[2,2,3] from 0 by (0, 0, 1);
    scale=0.5, causal=true)
}"""


def test_the_text_reads_back():
    kernel = parse_kernel(KERNEL)
    verify_kernel(kernel)
    assert isinstance(kernel, Attention) and str(kernel) == KERNEL


def rows(x, offset, shape, strides):
    places = sum(np.indices(shape)[axis] * stride for axis, stride in enumerate(strides))
    return x[offset + places]


def test_the_meaning():
    kernel = parse_kernel(KERNEL.replace("from 40 by (-12", "from 40 by (-32"))
    x, m = np.sin(np.arange(48)).astype("f"), np.array([0.5, -np.inf, 0], "f")
    o, lse = np.zeros(12, "f"), np.zeros(4, "f")
    with pytest.raises(ir.BrazeError, match=r"load of %x\[-"):
        run_kernel(kernel, {"x": x, "m": m, "o": o, "l": lse})
    kernel = parse_kernel(KERNEL)
    run_kernel(kernel, {"x": x, "m": m, "o": o, "l": lse})
    q, k = rows(x, 0, (2, 2, 4), (4, 8, 1)), rows(x, 16, (2, 3, 4), (4, 8, 1))
    v = rows(x, 40, (2, 3, 3), (-12, -8, 1))
    mask = np.broadcast_to(m, (2, 2, 3))
    expected = ORACLES["attention_masked"](q, k, v, mask, scale=0.5, causal=True)
    np.testing.assert_allclose(o, expected[0].reshape(-1), rtol=1e-5)
    np.testing.assert_allclose(lse, expected[1].reshape(-1), rtol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chunks 2", "chunks 0", "it cannot be cut into 0 chunks"),
        ("from 16 by", "from 32 by", "%x"),
        ("(4, 8, 1),\n    %x: f32[2,3,4]", "(4),\n    %x: f32[2,3,4]", "1 strides for f32[2,2,4]"),
        ("by (0, 0, 1)", "by (0, 0, 2)", "%m"),
        ("%l: f32[2,2] =", "%l: f32[4] =", "the results of attention_masked are"),
        ("%o: f32[12] out", "%o: f32[13] out", "%o is f32[13], used as f32[2,2,3]"),
        ("%m: f32[3] in", "%m: f64[3] in", "%m is f64, used as f32[2,2,3]"),
        ("[2,3,3] from", "[2,2,3] from", "does not take these operands"),
        ("%m: f32[3] in", "%m: f32[3] out", "must not be read"),
    ],
)
def test_broken_rules(old, new, message):
    assert old in KERNEL
    with pytest.raises((ir.VerifyError, ir.ParseError), match=message.replace("[", r"\[")):
        verify_kernel(parse_kernel(KERNEL.replace(old, new, 1)))


# From graphs --------------------------------------------------------------------------------------


def by_heads(dtype, batch=2, queries=19, keys=21, heads=3, size=8, masked=""):
    """Attention of a layer: heads lie side by side in one row, as do keys and values."""
    b = ir.Builder("layer")

    def given(*shape):
        return b.input(ir.tensor_type(dtype, shape))

    def cut(x, first):
        length = x.type.shape[0]
        width = heads * size
        part = b.slice(x, starts=(0, 0, first), stops=(length, batch, first + width),
                       steps=(1, 1, 1))  # fmt: skip
        x = b.reshape(part, shape=(length, batch, heads, size))
        return b.permute(x, dims=(1, 2, 0, 3))

    q = cut(given(queries, batch, heads * size), 0)
    both = given(keys, batch, 2 * heads * size)
    operands = [q, cut(both, 0), cut(both, heads * size)]
    if masked:
        shape = (batch, heads, queries, keys)
        if masked == "padding":
            mask = b.reshape(given(batch, keys), shape=(batch, 1, 1, keys))
        elif masked == "matrix":
            mask = b.reshape(given(queries, keys), shape=(1, 1, queries, keys))
        else:
            turned = b.permute(given(keys, queries), dims=(1, 0))
            mask = b.reshape(turned, shape=(1, 1, queries, keys))
        operands.append(b.expand(mask, shape=shape))
    emit = b.attention_masked if masked else b.attention
    out, _ = emit(*operands, scale=0.4, causal=False)
    back = b.permute(out, dims=(2, 0, 1, 3))
    return b.finish([b.reshape(back, shape=(queries, batch, heads * size))])


def arrays_for(graph):
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, v.type.shape).astype(v.dtype.numpy) for v in graph.inputs]


@pytest.mark.parametrize("dtype", [ir.f32, ir.f64], ids=str)
@pytest.mark.parametrize("masked", ["", "padding", "matrix", "turned"])
def test_heads_are_read_where_they_lie(dtype, masked):
    graph = by_heads(dtype, masked=masked)
    inputs = arrays_for(graph)
    program, _ = compile_graph(graph, host_target())
    verify_program(program)
    (kernel,) = (k for k in program.kernels() if isinstance(k, Attention))
    assert {buffer.name for buffer in kernel.buffers if buffer.access == "in"} == {
        str(n) for n in range(len(inputs))
    }
    assert kernel.operands[1].strides == (48, 8, 96, 1)
    if masked:
        strides = {"padding": (21, 0, 0, 1), "matrix": (0, 0, 21, 1), "turned": (0, 0, 1, 19)}
        assert kernel.operands[3].strides == strides[masked]
    assert str(parse_program(str(program))) == str(program)
    (expected,) = interpret(graph, inputs)
    tolerance = 1e-5 if dtype is ir.f32 else 1e-12
    found = [np.zeros_like(expected)]
    run_program(program, inputs, found)
    np.testing.assert_allclose(found[0], expected, rtol=tolerance, atol=tolerance)
    found = Native(program).run(inputs, [expected])
    np.testing.assert_allclose(found[0], expected, rtol=tolerance, atol=tolerance)


def test_nothing_is_fused_into_it():
    b = ir.Builder("g")
    q = b.input(ir.tensor_type(ir.f64, (20, 4)))
    out, lse = b.attention(b.exp(q), q, q, scale=1.0, causal=True)
    graph = b.finish([b.mul(b.tanh(out), b.reshape(lse, shape=(20, 1))), b.neg(lse)])
    inputs = arrays_for(graph)
    program, _ = compile_graph(graph, host_target())
    expected = interpret(graph, inputs)
    for one, other in zip(Native(program).run(inputs, expected), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


# Native code --------------------------------------------------------------------------------------

# Tails of queries, keys and columns in every combination; blocks of keys; fewer rows than a vector.
SHAPES = [
    ((1,), 1, 1, 1, 1),
    ((3,), 64, 64, 16, 32),
    ((1, 2), 65, 301, 7, 15),
    ((2,), 9, 1000, 3, 40),
    ((1,), 200, 6, 33, 1),
]


def call(name, lead, queries, keys, width, columns, dtype, parts=0, causal=False):
    """A graph of one operation, and inputs for it."""
    b = ir.Builder("g")
    sizes = [(queries, width), (keys, width), (keys, columns)]
    if parts:
        sizes = [(queries, columns), *sizes, (queries,), (queries,)]
    if "masked" in name:
        sizes.append((queries, keys))
    values = [b.input(ir.tensor_type(dtype, (*lead, *size))) for size in sizes]
    inputs = arrays_for(b.graph)
    if parts:
        inputs[4] += 3.0
    settings = {"scale": 0.9, "causal": causal}
    if "dropout" in name:
        values += [b.input(ir.tensor_type(ir.i64)) for _ in range(2)]
        inputs += [np.asarray(np.int64(n)) for n in (-5, 2**33 - 1)]
        settings["p"] = 0.4
    if parts:
        name, settings["parts"] = f"{name}_grad", parts
    return b.finish(list(getattr(b, name)(*values, **settings))), inputs


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("parts", [0, 2])
@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_every_target(target, parts, number):
    lead, *sizes = SHAPES[number]
    name = ("attention", "attention_masked", "attention_dropout", "attention_masked_dropout")
    dtype = (ir.f32, ir.f64)[(number + parts // 2) % 2]
    graph, inputs = call(
        name[number % 4], lead, *sizes, dtype, parts, causal=(number + parts // 2) % 3 == 1
    )
    expected = interpret(graph, inputs)
    found = Native(compile_graph(graph, target)[0], target).run(inputs, expected)
    for one, other in zip(found, expected, strict=True):
        scale = np.abs(other).max(initial=1.0)
        tolerance = 2e-5 if dtype is ir.f32 else 1e-12
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_results_that_nobody_wants(kept):
    graph, inputs = call("attention", (2,), 17, 9, 5, 6, ir.f64, parts=2)
    expected = interpret(graph, inputs)
    graph.outputs = [graph.outputs[kept]]
    (found,) = Native(compile_graph(graph, host_target())[0]).run(inputs, [expected[kept]])
    np.testing.assert_allclose(found, expected[kept], rtol=1e-10, atol=1e-12)


def test_infinities_and_nans_stay_in_their_rows():
    graph, inputs = call("attention_masked", (2,), 21, 40, 4, 5, ir.f32)
    q, _, _, mask = inputs
    mask[0, 2, 3:] = np.nan
    mask[1, 5] = -np.inf
    mask[1, 6, :39] = -np.inf
    mask[1, 7, 8] = np.inf
    q[0, 9] = np.nan
    with np.errstate(all="ignore"):
        expected = interpret(graph, inputs)
    found = Native(compile_graph(graph, host_target())[0]).run(inputs, expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert (found[0][1, 5] == 0).all() and np.isinf(found[1][1, 5])
    np.testing.assert_allclose(found[0][1, 6], inputs[2][1, 39], rtol=1e-6)
    bad = np.isnan(found[0]).any(-1)
    assert sorted(zip(*(x.tolist() for x in np.nonzero(bad)), strict=True)) == [
        (0, 2), (0, 9), (1, 7),
    ]  # fmt: skip


def test_large_scores_do_not_overflow():
    graph, inputs = call("attention", (1,), 16, 200, 4, 4, ir.f32)
    inputs[0] *= 1e4
    expected = interpret(graph, inputs)
    found = Native(compile_graph(graph, host_target())[0]).run(inputs, expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("parts", [1, 3])
def test_the_formulas_of_second_gradients(parts):
    """They are the first gradient's, from which others are derived."""
    graph, inputs = call("attention_masked_dropout", (2,), 150, 7, 3, 4, ir.f64, parts, True)
    expected = interpret(graph, inputs)
    b = ir.Builder("plain")
    values = [b.input(v.type) for v in graph.inputs]
    settings = {"scale": 0.9, "causal": True, "p": 0.4, "parts": parts}
    plain = b.finish(list(_plain(b, *values, **settings)[:3]))
    for one, other in zip(interpret(plain, inputs), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


# Memory -------------------------------------------------------------------------------------------


def test_memory_grows_with_the_length_only():
    heads, length, size = 8, 2048, 64
    b = ir.Builder("g")
    q, k, v, g = (b.input(ir.tensor_type(ir.f32, (heads, length, size))) for _ in range(4))
    out, lse = b.attention(q, k, v, scale=0.125, causal=False)
    delta = b.sum(b.mul(g, out), dims=(2,), keepdim=False)
    results = b.attention_grad(g, q, k, v, lse, delta, scale=0.125, causal=False, parts=1)
    program, _ = compile_graph(b.finish([out, *results]), host_target())
    scores = heads * length * length * 4
    operand = heads * length * size * 4
    assert program.arena_bytes < operand / 2 < scores / 60
    for kernel in program.kernels():
        if isinstance(kernel, Attention):
            assert attention_plan(kernel, host_target()).scratch_bytes < 256 << 10
