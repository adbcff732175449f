"""Calls of NumPy as kernels: their text, the rules for them, and native code against both
interpreters."""

import numpy as np
import pytest
from graphs import assert_same, random_graph, sample_inputs
from native import Native

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.loops import HostCall
from braze.ir.loops_interpreter import MemoryFault, run_kernel, run_program
from braze.ir.loops_parser import parse_kernel, parse_program
from braze.ir.loops_verifier import verify_kernel, verify_program
from braze.ir.parser import parse_graph
from braze.passes import compile_graph
from braze.runtime.artifact import CallSite
from braze.runtime.cpu import host_target
from braze.runtime.host_calls import HostCalls

TEXT = """\
host @slogdet_1(%0: f32[9] in, %1: f32[1] out) {
  # train.py:12
  call 0 (f32[]), %1: f32[] = slogdet(%0: f32[3,3])  # train.py:12 in net
}"""
SVD = """\
host @svd_2(%x: f64[12] in, %u: f64[9] out, %s: f64[3] out, %"v h": f64[12] out) {
  call 1 %u: f64[3,3], %s: f64[3], %"v h": f64[3,4] = svd(%x: f64[3,4]; full=false)
}"""


@pytest.mark.parametrize("text", [TEXT, SVD])
def test_they_print_as_they_parse(text):
    call = parse_kernel(text)
    assert isinstance(call, HostCall)
    assert str(call) == text
    verify_kernel(call)


def test_a_call_runs_on_flat_buffers():
    x = np.random.default_rng(0).standard_normal(12)
    u, s, vh = np.zeros(9), np.zeros(3), np.zeros(12)
    run_kernel(parse_kernel(SVD), {"x": x, "u": u, "s": s, "v h": vh})
    product = u.reshape(3, 3) * s @ vh.reshape(3, 4)
    np.testing.assert_allclose(product.reshape(-1), x, atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("slogdet(%0: f32[3,3])", "slogdet(%0: f32[9])", "slogdet does not take these operands"),
        ("slogdet(%0: f32[3,3])", "slogdet(%0: f32[2,2])", "%0 is f32[9], used as f32[2,2]"),
        ("slogdet(%0: f32[3,3])", "det(%0: f32[3,3])", "the results of det are f32[]"),
        ("slogdet(%0: f32[3,3])", "sum(%0: f32[3,3]; dims=(0), keepdim=false)",
         "sum is not an operation of the host"),
        ("%1: f32[1] out", "%1: f32[1] in", "%1 is 'in' and must not be written"),
    ],
)  # fmt: skip
def test_broken_calls_are_refused(old, new, message):
    with pytest.raises(ir.VerifyError) as caught:
        verify_kernel(parse_kernel(TEXT.replace(old, new)))
    assert message in str(caught.value)


def test_calls_are_numbered_and_alone_in_their_wave():
    inverse = """host @a{0}(%x: f64[4] in, %y{0}: f64[4] out) {{
      call {1} %y{0}: f64[2,2] = inverse(%x: f64[2,2])
    }}"""
    head = """program @p(1 inputs, 2 outputs, arena 0) {
      place %x input 0 place %y0 output 0 place %y1 output 1
    """
    good = head + f"wave {{ {inverse.format(0, 0)} }} wave {{ {inverse.format(1, 1)} }} }}"
    verify_program(parse_program(good))
    twice = head + f"wave {{ {inverse.format(0, 0)} }} wave {{ {inverse.format(1, 0)} }} }}"
    with pytest.raises(ir.VerifyError, match="host calls are numbered 0, 0"):
        verify_program(parse_program(twice))
    together = head + f"wave {{ {inverse.format(0, 0)} {inverse.format(1, 1)} }} }}"
    with pytest.raises(ir.VerifyError, match="host call a0 shares a wave"):
        verify_program(parse_program(together))


def test_the_loops_interpreter_refuses_unwritten_operands():
    text = """program @p(1 inputs, 1 outputs, arena 64) {
      place %x input 0 place %t arena 0 place %y output 0
      wave {
        host @a(%t: f64[4] in, %y: f64[4] out) { call 0 %y: f64[2,2] = inverse(%t: f64[2,2]) }
      }
    }"""
    with pytest.raises(MemoryFault, match=r"%t\[0\] is read and holds nothing yet"):
        run_program(parse_program(text), [np.eye(2)], [np.zeros(4)])


# What a call reads is moved, expanded, computed, an input, a constant, a result of another call;
# what it gives is moved, returned twice, and overwrites inputs.
GRAPH = """
graph @g(%x: f32[3,3] param, %y: f32[9], %s: f32[] scalar) -> (f32[3,3] = %x, f32[3,3], f32[9]) {
  %0: f32[3,3] = permute(%x; dims=(1,0))
  %1: f32[3,3] = inverse(%0)
  %2: f32[3,3] = reshape(%y; shape=(3,3))
  %3: f32[3,3] = solve(%2, %1)
  %4: f32[3,3] = mul(%3, %s)
  %5: f32[3,3] = inverse(%4)
  %6: f32[3,3] = expand(%s; shape=(3,3))
  %7: f32[3,3] = triangular_solve(%5, %6; upper=true, unitriangular=false)
  %8, %9: f32[], f32[] = slogdet(%7)
  %10: f32[3,3] = add(%5, %9)
  %11: f32[9] = reshape(%7; shape=(9))
  return %5, %10, %11
}
"""


def test_native_code_agrees_with_both_interpreters():
    graph = parse_graph(GRAPH)
    program, _ = compile_graph(graph, host_target())
    verify_program(program)
    assert [c.op.name for c in program.host_calls()] == [
        "inverse", "solve", "inverse", "triangular_solve", "slogdet"
    ]  # fmt: skip
    assert str(parse_program(str(program))) == str(program)
    random = np.random.default_rng(0)
    x = (random.uniform(-1, 1, (3, 3)) + 3 * np.eye(3)).astype(np.float32)
    y = (random.uniform(-1, 1, (3, 3)) + 3 * np.eye(3)).astype(np.float32).reshape(9)
    inputs = [x, y, np.array(1.5, np.float32)]
    wanted = interpret(graph, inputs)
    for run in (run_program, lambda p, i, o: copy_into(o, Native(p).run(i, o, {0: 0}))):
        memory = [a.copy() for a in inputs]
        outputs = [memory[0], *(np.zeros_like(a) for a in wanted[1:])]
        run(program, memory, outputs)
        for got, reference in zip(outputs, wanted, strict=True):
            np.testing.assert_allclose(got, reference, rtol=1e-4)


def copy_into(targets, sources):
    for target, source in zip(targets, sources, strict=True):
        target[...] = source


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_with_calls(seed):
    graph = random_graph(seed, nodes=8, steps=("matrices", "arithmetic", "permute", "contraction"))
    program, _ = compile_graph(graph, host_target())
    verify_program(program)
    inputs = [
        np.asarray(array, v.dtype.numpy)
        for array, v in zip(sample_inputs(graph, seed), graph.inputs, strict=True)
    ]
    outputs = [np.zeros(v.shape, v.dtype.numpy) for v in graph.outputs]
    found = Native(program).run(inputs, outputs, dict(graph.aliases))
    assert_same(found, interpret(graph, inputs))


def test_a_failed_call_ends_the_program_before_parameters_change():
    graph = parse_graph("""
    graph @g(%p: f32[2] param, %x: f32[2,2]) -> (f32[2] = %p, f32[2,2]) {
      %0: f32[2] = add(%p, %p)
      %1: f32[2,2] = inverse(%x)
      return %0, %1
    }""")
    program, _ = compile_graph(graph, host_target())
    p, singular = np.ones(2, np.float32), np.ones((2, 2), np.float32)
    native = Native(program)
    found, _ = native.run([p, singular], [p, singular], {0: 0})
    assert native.status[0] == -1
    assert isinstance(native.host_calls.take_error(), ir.LinAlgError)
    np.testing.assert_array_equal(found, p)
    found, _ = native.run([p, np.eye(2, dtype=np.float32)], [p, singular], {0: 0})
    assert native.status[0] == 0
    np.testing.assert_array_equal(found, 2 * p)


def test_an_artifacts_calls_are_checked():
    with pytest.raises(ValueError, match="svd_2 is not host call 0"):
        HostCalls([CallSite(SVD)])
