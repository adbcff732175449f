"""Kernels that run a program for each step: their text, rules, meaning, and native code."""

import numpy as np
import pytest
from native import Native, defined
from op_oracles import ORACLES
from op_oracles_recurrent import _lstm_steps

import braze.ir as ir
from braze.codegen.llvm.program import generate
from braze.ir.interpreter import interpret
from braze.ir.loops_interpreter import run_kernel, run_program
from braze.ir.loops_parser import parse_kernel, parse_program
from braze.ir.loops_recurrence import Recurrence, is_of_step
from braze.ir.loops_verifier import verify_kernel, verify_program
from braze.passes import compile_graph
from braze.runtime.cpu import host_target

KERNEL = """\
recurrence @sums(%x: f32[6] in, %w: f32[2] in, %h: f32[2] in, %y: f32[6] inout) {
  # main.py:3
  steps 3
  at %x from 4 by -2
  at %y from 6 by -2 except 0 %h
  at %w from 0 by 0
  at %y from 4 by -2
  program @step_0(3 inputs, 1 outputs, arena 0) {
    place %0 input 0
    place %1 input 1
    place %2 input 2
    place %3 output 0
    wave {
      nest @step_0_add_1(%0: f32[2] in, %1: f32[2] in, %2: f32[2] in, %3: f32[2] out) {
        for i in 2 vector {
          store %3[i] = add(mul(%1[i], %2[i]), %0[i])
        }
      }
    }
  }
}"""


def test_the_text_reads_back():
    kernel = parse_kernel(KERNEL)
    verify_kernel(kernel)
    assert str(kernel) == KERNEL


def test_the_meaning():
    x = np.arange(6, dtype=np.float32)
    w, h, y = np.array([2, 3], "f"), np.array([10, 20], "f"), np.zeros(6, "f")
    run_kernel(parse_kernel(KERNEL), {"x": x, "w": w, "h": h, "y": y})
    last = h * w + x[4:]
    middle = last * w + x[2:4]
    assert (y == np.concatenate([middle * w + x[:2], middle, last])).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps 3", "steps 0", "it runs 0 steps"),
        ("steps 3", "steps 4", "%x is left at step 3: element -2"),
        ("  at %x from 4 by -2\n", "", "3 places for 3 inputs and 1 outputs"),
        ("at %x from 4 by -2", "at %x from 5 by -2", "%x is left at step 0: element 5"),
        ("except 0 %h", "except 1 %h", "%y is left at step 0: element 6"),
        ("except 0 %h", "except 0 %x", "%x is passed for f32[2]"),
        ("at %w from 0 by 0\n", "at %q from 0 by 0\n", "%q"),
        ("%y: f32[6] inout", "%y: f32[6] out", "must not be read"),
        ("arena 0", "arena 8", "its program needs an arena of 8 bytes"),
        ("%w: f32[2]", "%w: f64[2]", "%w is passed for f32[2]"),
    ],
)
def test_broken_rules(old, new, message):
    assert old in KERNEL
    with pytest.raises((ir.VerifyError, ir.ParseError), match=message.replace("[", r"\[")):
        verify_kernel(parse_kernel(KERNEL.replace(old, new, 1)))


def test_it_has_a_wave_for_itself():
    text = f"program @p(3 inputs, 1 outputs, arena 0) {{ wave {{ {KERNEL} {KERNEL} }} }}"
    with pytest.raises(ir.VerifyError, match="recurrence sums shares a wave"):
        verify_program(parse_program(text))


# From graphs --------------------------------------------------------------------------------------

STEPS, BATCH, SIZE = 4, 3, 5


def two_layers(steps=STEPS, keep_cells=False, second=True):
    """Layers of equal size, each with weights of its own; the second one runs back in time."""
    b = ir.Builder("two_layers")

    def given(*shape):
        return b.input(ir.tensor_type(ir.f32, shape))

    x, h0, c0 = given(steps, BATCH, 4 * SIZE), given(BATCH, SIZE), given(BATCH, SIZE)
    y, c, _ = b.lstm_sequence(x, given(SIZE, 4 * SIZE), h0, c0, reverse=False)
    if second:
        up = b.contract(y, given(SIZE, 4 * SIZE), equation="tbk,kh->tbh")
        y, c, _ = b.lstm_sequence(up, given(SIZE, 4 * SIZE), h0, c0, reverse=True)
    return b.finish([y, c] if keep_cells else [y])


def arrays_for(graph):
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, v.type.shape).astype(np.float32) for v in graph.inputs]


def recurrences(program):
    return [kernel for kernel in program.kernels() if isinstance(kernel, Recurrence)]


@pytest.mark.parametrize("keep_cells", [False, True])
def test_a_program_computes_what_the_graph_says(keep_cells):
    graph = two_layers(keep_cells=keep_cells)
    inputs = arrays_for(graph)
    x, h0, c0, w, between, v = (a.astype(np.float64) for a in inputs)
    up = _lstm_steps(x, w, lambda m: m, h0, c0, False)[0] @ between
    expected = _lstm_steps(up, v, lambda m: m, h0, c0, True)[: len(graph.outputs)]
    program, report = compile_graph(graph, host_target())
    verify_program(program)
    assert str(parse_program(str(program))) == str(program)
    assert report.arena_bytes == program.arena_bytes
    outputs = [np.zeros(v.type.shape, np.float32) for v in graph.outputs]
    run_program(program, inputs, outputs)
    native = Native(program)
    for found in (interpret(graph, inputs), outputs, *(native.run(inputs, outputs),) * 2):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_what_nobody_reads_is_not_computed():
    program, _ = compile_graph(two_layers(second=False), host_target())
    (kernel,) = recurrences(program)
    read = {b.name for b in kernel.buffers if b.access == "in"}
    written = [b for b in kernel.buffers if b.access == "inout" and b is not kernel.arena]
    # The gates' sums stay in the step's arena; the cells are needed by the next step.
    assert len(read) == 4 and sorted(b.numel for b in written) == [STEPS * BATCH * SIZE] * 2
    assert kernel.arena is not None and kernel.arena.numel == 4 * SIZE * BATCH * 4 // 64 * 64 + 64


def test_equal_steps_are_compiled_once():
    """Those of layers and directions of one size, for any number of steps."""

    def of_steps(graph):
        program, _ = compile_graph(graph, host_target())
        modules = generate(program, host_target()).modules
        return {name: text for name, text in modules if is_of_step(name)}

    both = of_steps(two_layers())
    ((name, text),) = both.items()
    made = defined(text)
    assert len(made) == 3 and name in made  # and a contraction, and an elementwise kernel
    assert of_steps(two_layers(second=False)) == both
    assert of_steps(two_layers(steps=9)) == both


def test_gradients_of_the_results_that_a_user_sees():
    """What the gates are kept for is another recurrence, and no operation for each step."""
    from gradients import backward

    cases = {
        "rnn_sequence": ([(3, 2, 2), (2, 2), (2, 2)], {"nonlinearity": "tanh"}),
        "lstm_sequence": ([(3, 2, 8), (2, 8), (2, 2), (2, 2)], {}),
        "projected_lstm_sequence": ([(3, 2, 8), (1, 8), (2, 1), (2, 1), (2, 2)], {}),
        "gru_sequence": ([(3, 2, 6), (2, 6), (6,), (2, 2)], {}),
    }
    rng = np.random.default_rng(1)
    for name, (shapes, attributes) in cases.items():
        for reverse in (False, True):
            b = ir.Builder(name)
            inputs = [b.input(ir.tensor_type(ir.f64, shape)) for shape in shapes]
            found = getattr(b, name)(*inputs, **attributes, reverse=reverse)
            seen = found[:2] if "lstm" in name else found[:1] if "gru" in name else (found,)
            weights = [b.input(y.type) for y in seen]
            results = backward(b, dict(zip(seen, weights, strict=True)), inputs)
            graph = b.finish(results)
            assert sum(node.op.is_recurrence for node in graph.nodes) == 1 + len(inputs)
            assert len(graph.nodes) < 80
            arrays = [rng.uniform(-1, 1, v.type.shape) for v in graph.inputs]
            given, factors = arrays[: len(inputs)], arrays[len(inputs) :]

            def total(name=name, given=given, factors=factors, a=attributes, r=reverse):
                made = ORACLES[name](*given, **a, reverse=r)
                made = made if isinstance(made, tuple) else (made,)
                return sum((y * f).sum() for y, f in zip(made, factors, strict=False))

            for array, gradient in zip(given, interpret(graph, arrays), strict=True):
                for place in np.ndindex(array.shape):
                    kept = array[place]
                    array[place] = kept + 1e-5
                    above = total()
                    array[place] = kept - 1e-5
                    below = total()
                    array[place] = kept
                    assert abs((above - below) / 2e-5 - gradient[place]) < 1e-8, (name, place)


def test_shapes_that_do_not_fit():
    b = ir.Builder("g")
    x, w, h = (b.input(ir.tensor_type(ir.f32, shape)) for shape in ((4, 3, 20), (5, 21), (3, 5)))
    with pytest.raises(ir.ShapeError, match=r"\[lstm_sequence\] needs x \[time, batch, 4state\]"):
        b.lstm_sequence(x, w, h, h, reverse=False)
    empty = b.input(ir.tensor_type(ir.f32, (0, 3, 5)))
    square = b.input(ir.tensor_type(ir.f32, (5, 5)))
    with pytest.raises(ir.ShapeError, match="there must be at least one step"):
        b.rnn_sequence(empty, square, h, nonlinearity="tanh", reverse=False)
    with pytest.raises(ir.AttributeTypeError, match="must be 'tanh' or 'relu', given 'sin'"):
        b.rnn_sequence(x, square, h, nonlinearity="sin", reverse=False)
