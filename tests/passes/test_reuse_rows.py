"""Rows whose expensive parts are stored before they are added up."""

import numpy as np
import pytest
from native import Native, runnable_targets

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.loops import Nest
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_verifier import verify_program
from braze.passes import compile_graph
from braze.runtime.cpu import host_target

SHAPES = [(5, 40), (1, 7), (3, 1), (2, 3, 130), (300, 1000), (0, 4)]


def softmax_graph(shape, dtype=ir.f32, finish=lambda b, x, y: y):
    b = ir.Builder("rows")
    x = b.input(ir.tensor_type(dtype, shape))
    return b.finish([finish(b, x, b.softmax(x, dim=len(shape) - 1))])


def kept_buffers(program):
    """Results that are read where they are made."""
    found = set()
    for kernel in program.kernels():
        if isinstance(kernel, Nest):
            found |= {b.name for b in kernel.buffers if b.access == "inout"}
    return found


def check(graph, target, tolerance=1e-5):
    rng = np.random.default_rng(0)
    inputs = [rng.uniform(-3, 3, v.type.shape).astype(v.dtype.numpy) for v in graph.inputs]
    expected = interpret(graph, inputs)
    program, _ = compile_graph(graph, target)
    verify_program(program)
    found = [Native(program, target).run(inputs, expected)]
    if expected[0].size < 1000:
        found.append([np.zeros_like(e) for e in expected])
        run_program(program, inputs, found[1])
    for results in found:
        for one, other in zip(results, expected, strict=True):
            np.testing.assert_allclose(
                one.astype("f8"), other.astype("f8"), rtol=tolerance, atol=tolerance / 100
            )
    return program


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [ir.f32, ir.f64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax(shape, dtype, target):
    program = check(softmax_graph(shape, dtype), target, 1e-5 if dtype is ir.f32 else 1e-12)
    assert bool(kept_buffers(program)) == (shape[-1] > 1 and 0 not in shape)


def test_narrow_floats_are_computed_twice():
    """Stored, they would lose digits before they are added up."""
    assert not kept_buffers(check(softmax_graph((5, 40), ir.bf16), host_target(), 1e-2))


def test_what_a_later_loop_reads_is_not_written_over():
    """The operand dies, so that its memory may be the result's."""

    def finish(b, x, y):
        return b.softmax(b.mul(b.mul(x, y), b.exp(x)), dim=1)

    check(softmax_graph((64, 70), finish=finish), host_target())


def test_the_row_over_an_operand_that_dies():
    b = ir.Builder("chain")
    x = b.input(ir.tensor_type(ir.f32, (40, 70)))
    w = b.input(ir.tensor_type(ir.f32, (70, 70)))
    for _ in range(3):
        x = b.softmax(b.relu(b.matmul(x, w)), dim=1)
    program, _ = compile_graph(b.finish([x]), host_target())
    stored = [program.placements[name] for name in kept_buffers(program)]
    assert len(stored) == 3
    check(b.graph, host_target())


def test_an_expression_is_read_back_where_it_was_computed():
    program, _ = compile_graph(softmax_graph((5, 40)), host_target())
    (kernel,) = program.kernels()
    text = str(kernel)
    assert text.count("exp(") == 1
    (name,) = kept_buffers(program)
    assert text.count(f"%{name}[") == 2 + 2


def softmax_and_gradient(b, shape, dtype=ir.f32):
    x, g = (b.input(ir.tensor_type(dtype, shape)) for _ in range(2))
    y = b.softmax(x, dim=1)
    along = b.sum(b.mul(y, g), dims=(1,), keepdim=True)
    return y, b.mul(y, b.sub(g, along))


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [ir.f32, ir.f64], ids=str)
@pytest.mark.parametrize("shape", [(5, 40), (300, 1000), (1, 3)], ids=str)
def test_softmax_with_its_gradient(shape, dtype, target):
    """Two reductions and two results need the exponentials; they wait where the last one goes."""
    b = ir.Builder("rows")
    graph = b.finish([*softmax_and_gradient(b, shape, dtype)])
    program = check(graph, target, 1e-4 if dtype is ir.f32 else 1e-11)
    (kernel,) = program.kernels()
    assert str(kernel).count("exp(") == 1
    (name,) = kept_buffers(program)
    assert str(kernel).count(f"store %{name}[") == 2


def test_what_is_stored_behind_does_not_read_what_was_there():
    """The exponentials are needed for the sum over rows, too, which is stored elsewhere."""
    b = ir.Builder("rows")
    y, gradient = softmax_and_gradient(b, (512, 200))
    graph = b.finish([gradient, b.sum(b.mul(y, y), dims=(0,), keepdim=False)])
    program = check(graph, host_target(), 1e-4)
    (kernel, *_) = program.kernels()
    assert str(kernel).count("exp(") == 1


def test_what_is_the_same_along_a_row_costs_nothing():
    """A layer norm's rows are scaled by a root, which is taken once for each of them."""
    b = ir.Builder("rows")
    x, g = (b.input(ir.tensor_type(ir.f32, (6, 50))) for _ in range(2))
    scale = b.rsqrt(b.sum(b.mul(x, x), dims=(1,), keepdim=True))
    y = b.mul(x, scale)
    along = b.sum(b.mul(g, y), dims=(1,), keepdim=True)
    program = check(b.finish([y, b.sub(g, b.mul(y, along))]), host_target())
    assert not kept_buffers(program)


def test_a_result_that_is_the_common_part_is_stored_once():
    b = ir.Builder("rows")
    x = b.input(ir.tensor_type(ir.f32, (6, 50)))
    y = b.exp(x)
    program = check(b.finish([y, b.sum(y, dims=(1,), keepdim=False)]), host_target())
    (name,) = kept_buffers(program)
    (kernel,) = program.kernels()
    assert str(kernel).count(f"store %{name}[") == 1
