"""Lattices through the whole pipeline: their loops, and that meaning is kept."""

import numpy as np
import pytest
from native import Native, runnable_targets

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.loops import Loop, Nest
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_parser import parse_program
from braze.ir.loops_verifier import verify_program
from braze.ir.target import named_target
from braze.passes import compile_graph

TARGET = named_target("x86-64-v3")


def lattice_graph(shape, dtype=ir.f32):
    """A log-sum over a lattice of a product, read by a sum; its inputs."""
    b = ir.Builder("test")
    x = b.input(ir.tensor_type(dtype, shape), name="x")
    skips = b.input(ir.tensor_type(ir.bool_, shape[1:]), name="skips")
    forward = b.lattice_logsum(b.mul(x, 2.0), skips)
    half = b.mul(b.exp(x), 0.1)
    sums = b.lattice_sum(x, half, b.flip(half, dims=(2,)), half)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(dtype.numpy), rng.random(shape[1:]) < 0.5]
    return b.finish([forward, b.add(sums, 1.0)]), arrays


@pytest.mark.parametrize("shape", [(6, 3, 5), (9, 1, 2), (4, 2, 1), (3, 2, 19)])
def test_loops_mean_what_the_operations_do(shape):
    graph, arrays = lattice_graph(shape)
    program, _ = compile_graph(graph, TARGET)
    verify_program(program)
    assert str(parse_program(str(program))) == str(program)
    expected = interpret(graph, arrays)
    found = [np.zeros(a.shape, a.dtype) for a in expected]
    run_program(program, arrays, found)
    for ours, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-5, atol=1e-6)


def test_sequences_are_shared_out_and_states_are_lanes():
    graph, arrays = lattice_graph((100, 32, 61))
    program, report = compile_graph(graph, TARGET)
    own = [k for k in program.kernels() if "lattice" in k.name]
    assert len(own) == 2
    for kernel in own:
        assert isinstance(kernel, Nest)
        (outer,) = kernel.body
        assert isinstance(outer, Loop) and outer.var.extent == 32 and outer.chunks > 1
        steps = outer.body[0]
        assert (steps.kind, steps.var.extent) == ("serial", 100)
        assert (steps.body[0].kind, steps.body[0].var.extent) == ("vector", 61)
        assert [buffer.access for buffer in kernel.buffers][-1] == "inout"
    assert "a lattice's kernel reads what it has stored" in " ".join(report.refusals)


@pytest.mark.parametrize("target", runnable_targets(), ids=str)
def test_native_code_with_chunks(target):
    graph, arrays = lattice_graph((50, 40, 33))
    program, _ = compile_graph(graph, target)
    expected = interpret(graph, arrays)
    found = Native(program, target).run(arrays, expected)
    for ours, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.reshape(right.shape), right, rtol=2e-4, atol=1e-5)
