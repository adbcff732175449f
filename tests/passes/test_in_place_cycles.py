"""Results that overwrite each other's operands share one kernel, without copies."""

import sys

import numpy as np
from captured import captured
from native import Native
from networks import residual_step

import braze
from braze import ir, nn, optim
from braze.ir.interpreter import interpret
from braze.ir.loops_interpreter import run_program
from braze.ir.parser import parse_graph
from braze.ir.target import named_target
from braze.passes import compile_graph, optimise
from braze.passes.schedule import dependences
from braze.runtime.cpu import host_target

# Each result reads what the other overwrites.
CYCLE = """
graph @cycle(%x: f32[100003], %y: f32[100003]) -> (f32[100003] = %x, f32[100003] = %y) {
  %0: f32[100003] = add(%x, %y)
  %1: f32[100003] = mul(%x, %y)
  return %0, %1
}
"""

# The second result overwrites what only the first reads.
CHAIN = """
graph @chain(%x: f32[77], %y: f32[77]) -> (f32[77] = %x, f32[77] = %y) {
  %0: f32[77] = exp(%y)
  %1: f32[77] = neg(%x)
  return %0, %1
}
"""

# One result reads another element, so a copy must be made.
SHIFTED = """
graph @shifted(%x: f32[64], %y: f32[64]) -> (f32[64] = %x, f32[64] = %y) {
  %0: f32[64] = flip(%y; dims=(0))
  %1: f32[64] = add(%0, %x)
  %2: f32[64] = mul(%x, %y)
  return %1, %2
}
"""


# The first result overwrites an input, the second would overwrite an intermediate value that dies.
MIXED = """
graph @mixed(%b: f32[8,8], %x: f32[8,8]) -> (f32[8,8] = %b, f32[8,8]) {
  %0: f32[8,8] = contract(%x, %x; equation="mk,kn->mn")
  %1: f32[8,8] = contract(%x, %x; equation="km,nk->mn")
  %2: f32[8,8] = add(%1, %0)
  %3: f32[8,8] = mul(%2, %b)
  %4: f32[8,8] = sub(%2, %b)
  %5: f32[8,8] = sub(%4, %0)
  %6: f32[8,8] = contract(%5, %x; equation="mk,nk->mn")
  return %3, %6
}
"""


def run(text):
    graph = parse_graph(text)
    program, _ = compile_graph(graph, host_target())
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(v.type.shape).astype(np.float32) for v in graph.inputs]
    wanted = interpret(graph, inputs)
    memory = [array.copy() for array in inputs]
    outputs = [
        memory[graph.aliases[i]] if i in graph.aliases else np.zeros_like(array)
        for i, array in enumerate(wanted)
    ]
    run_program(program, memory, outputs)
    native = Native(program).run(inputs, outputs, dict(graph.aliases))
    for got in (outputs, native):
        for array, reference in zip(got, wanted, strict=True):
            np.testing.assert_allclose(array, reference, rtol=1e-5, atol=1e-5)
    return [kernel.name for kernel in program.kernels()]


def test_a_cycle_of_overwritten_operands_is_one_kernel():
    assert len(run(CYCLE)) == 1


def test_stores_are_ordered_by_what_they_overwrite():
    run(CHAIN)


def test_aliases_and_the_arena_are_judged_together():
    run(MIXED)


def test_another_element_forces_a_copy():
    assert len(run(SHIFTED)) > 1


def test_an_optimizer_step_needs_no_copies():
    b = ir.Builder("adam")
    f32 = ir.tensor_type(ir.f32, (50, 20))
    state = [b.input(f32, "param", name) for name in ("p", "m", "v")]
    grad = b.input(f32, "data", "g")
    names = ("lr", "b1", "b2", "eps", "decay", "c1", "c2")
    scalars = [b.input(ir.tensor_type(ir.f64), "scalar", name) for name in names]
    p, m, v = state
    results = b.adam_step(p, grad, m, v, *scalars, decoupled=False, maximize=False)
    graph = b.finish(list(results), {0: 0, 1: 1, 2: 2})
    program, _ = compile_graph(graph, host_target())
    assert len(list(program.kernels())) == 1


def test_moments_are_updated_where_the_gradient_is_made():
    """In the contraction's kernel, which reads the parameter for the parameter alone: a decay of
    nothing does not make the moments read it, too."""
    layer = nn.Linear(96, 80)
    optimizer = optim.Adam(layer.parameters())
    x = braze.tensor(np.ones((64, 96), np.float32))

    def step():
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        optimizer.step()

    graph = captured(step)
    assert sum(node.op.name == "adam_step" for node in graph.nodes) == 2
    program, _ = compile_graph(graph, named_target("x86-64-v3"))
    assert not [kernel.name for kernel in program.kernels() if "copy" in kernel.name]


def test_dependences_are_found_for_all_writes_at_once(monkeypatch):
    """A training step writes dozens of values in place; mostly there is an order for all."""
    asked = []

    def counting(graph):
        asked.append(graph)
        return dependences(graph)

    monkeypatch.setattr(sys.modules[dependences.__module__], "dependences", counting)
    graph = residual_step()
    optimise(graph, named_target("x86-64-v3"))
    assert len(graph.aliases) > 10 and len(asked) <= 2
