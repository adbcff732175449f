"""The whole pipeline, on generated graphs and on training steps: what every pass, the memory plan,
the loops and the native code make of a graph is what the interpreter says."""

import numpy as np
import pytest
from graphs import assert_same, random_graph, random_graphs, sample_inputs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native import Native, runnable_targets
from networks import dense_step, mnist_step, network_inputs, residual_step

from braze.ir.arena import aligned
from braze.ir.builder import Builder
from braze.ir.dtypes import f32
from braze.ir.interpreter import interpret
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_verifier import verify_program
from braze.ir.target import named_target
from braze.ir.types import tensor_type
from braze.ir.verifier import verify
from braze.passes import PIPELINE, Context, compile_graph, optimise
from braze.passes.plan_memory import lifetimes, plan_memory
from braze.passes.waves import waves_of
from braze.runtime.cpu import host_target

TARGET = named_target("x86-64-v3")
NETWORKS = {"mnist": lambda: mnist_step(8), "residual": residual_step, "dense": dense_step}
relaxed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def memory_for(graph, given):
    """The inputs as fresh arrays, and the outputs, which may lie over inputs."""
    inputs = [np.array(x, v.dtype.numpy) for x, v in zip(given, graph.inputs, strict=True)]
    outputs = [np.zeros(v.type.shape, v.dtype.numpy) for v in graph.outputs]
    for output, source in graph.aliases.items():
        outputs[output] = inputs[source]
    return inputs, outputs


def in_loops(program, graph, given):
    inputs, outputs = memory_for(graph, given)
    run_program(program, [x.reshape(-1) for x in inputs], [x.reshape(-1) for x in outputs])
    return outputs


def natively(program, graph, given, target):
    inputs, outputs = memory_for(graph, given)
    return Native(program, target).run(inputs, outputs, dict(graph.aliases))


@given(random_graphs(nodes=16), st.integers(0, 1000))
@relaxed
def test_every_entry_keeps_the_outputs(graph, seed):
    inputs = sample_inputs(graph, seed)
    expected = interpret(graph, inputs)
    context = Context(TARGET)
    for entry in PIPELINE:
        graph = entry.function(graph, context)
        verify(graph, after=entry.name)
        assert_same(interpret(graph, inputs), expected)


@pytest.mark.parametrize("seed", range(40))
def test_loops_and_native_code_keep_the_outputs(seed):
    graph = random_graph(seed, nodes=20)
    inputs = sample_inputs(graph, seed)
    expected = interpret(graph, inputs)
    targets = runnable_targets()
    target = targets[seed % len(targets)]
    program, report = compile_graph(graph, target)
    verify_program(program)
    assert report.kernels_after <= report.kernels_before + len(graph.outputs)
    assert_same(in_loops(program, graph, inputs), expected)
    assert_same(natively(program, graph, inputs, target), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_steps_keep_the_outputs(name):
    graph = NETWORKS[name]()
    inputs = network_inputs(graph)
    expected = interpret(graph, inputs)
    for target in {host_target(), TARGET}:
        program, _ = compile_graph(graph, target)
        assert_same(natively(program, graph, inputs, target), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_plan_of_a_training_step_is_close_to_the_least(name):
    _, report = compile_graph(NETWORKS[name](), TARGET)
    assert 0 < report.lower_bound <= report.arena_bytes <= 1.15 * report.lower_bound
    assert report.arena_bytes < report.bytes_before
    assert report.kernels_after < report.kernels_before / 3


@pytest.mark.parametrize("x_shape", [(), (1,), (3,), (2, 1)])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "maximum"])
@pytest.mark.parametrize("number", [0.0, 1.0, 2.0, -1.0, -0.5])
def test_the_larger_operand_may_be_a_constant(x_shape, name, number):
    for swapped in (False, True):
        b = Builder("larger")
        x = b.input(tensor_type(f32, x_shape))
        constant = b.expand(b.constant(value=number, dtype=f32), shape=(2, 3))
        operands = (constant, b.exp(x)) if swapped else (b.exp(x), constant)
        graph = b.finish([getattr(b, name)(*operands)])
        inputs = sample_inputs(graph)
        after = optimise(graph, TARGET)
        assert_same(interpret(after, inputs), interpret(graph, inputs))


@pytest.mark.parametrize("name", ["sum", "prod"])
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3), (2, 0, 3)])
def test_a_reduction_of_nothing_is_what_it_starts_from(name, shape):
    b = Builder("nothing")
    x = b.input(tensor_type(f32, shape))
    dims = (shape.index(0),)
    reciprocal = b.div(b.constant(value=1.0, dtype=f32), x)  # of an expanded number: inf
    zero = b.div(1.0, b.expand(b.constant(value=0.0, dtype=f32), shape=shape))
    outputs = [
        getattr(b, name)(value, dims=dims, keepdim=keepdim)
        for value in (x, reciprocal, zero)
        for keepdim in (False, True)
    ]
    outputs.append(b.any(b.gt(x, 0.0), dims=dims, keepdim=False))
    outputs.append(b.all(b.gt(x, 0.0), dims=tuple(range(len(shape))), keepdim=False))
    graph = b.finish(outputs)
    inputs = [np.zeros(shape, np.float32)]
    program, _ = compile_graph(graph, host_target())
    assert_same(natively(program, graph, inputs, host_target()), interpret(graph, inputs))


@given(random_graphs(nodes=30))
@relaxed
def test_no_two_values_share_bytes_while_both_live(graph):
    final = optimise(graph, TARGET)
    plan = plan_memory(final, waves_of(final))
    spans = lifetimes(final, plan.waves)
    assert plan.offsets.keys() == spans.keys()
    replaced = set(plan.overwrites.items())
    for one in plan.offsets:
        start, size = plan.offsets[one], aligned(one.type.nbytes)
        assert start % 64 == 0 and start + size <= plan.arena_bytes
        for other in plan.offsets:
            if one is other or (one, other) in replaced or (other, one) in replaced:
                continue
            apart = (
                start + size <= plan.offsets[other]
                or plan.offsets[other] + aligned(other.type.nbytes) <= start
            )
            later = spans[one][1] < spans[other][0] or spans[other][1] < spans[one][0]
            assert apart or later, (str(final), one.name, other.name)


@given(random_graphs(nodes=30))
@relaxed
def test_a_wave_reads_only_what_earlier_waves_made(graph):
    final = optimise(graph, TARGET)
    waves = waves_of(final)
    assert [node for wave in waves for node in wave] != [] or not final.nodes
    assert {node for wave in waves for node in wave} == set(final.nodes)
    known = set(final.inputs)
    for wave in waves:
        for node in wave:
            assert known.issuperset(node.operands)
        known.update(result for node in wave for result in node.results)
