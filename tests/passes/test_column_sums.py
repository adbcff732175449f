"""Sums over rows that the kernel of the rows makes."""

import importlib

import numpy as np
import pytest
from native import Native, runnable_targets

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.loops import Loop
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_verifier import verify_program
from braze.passes import compile_graph
from braze.passes.split_reductions import split_reductions
from braze.runtime.cpu import host_target

splitting = importlib.import_module("braze.passes.split_reductions")

SHAPES = [(512, 200), (64, 1024), (3, 256, 130), (4096, 17), (66, 3, 400)]


def norm_graph(shape, dtype=ir.f32, finish=lambda b, normal, x, g: []):
    """The gradients of a layer norm over the last dimension."""
    b = ir.Builder("rows")
    x, g = (b.input(ir.tensor_type(dtype, shape)) for _ in range(2))
    w = b.input(ir.tensor_type(dtype, shape[-1:]))
    last = {"dims": (len(shape) - 1,), "keepdim": True}
    count = b.constant(value=float(shape[-1]), dtype=dtype)
    centred = b.sub(x, b.div(b.sum(x, **last), count))
    spread = b.div(b.sum(b.mul(centred, centred), **last), count)
    normal = b.mul(centred, b.rsqrt(spread))
    scaled = b.mul(g, w)
    along = b.div(b.sum(b.mul(scaled, normal), **last), count)
    gradient = b.sub(scaled, b.mul(normal, along))
    rows = tuple(range(len(shape) - 1))
    weight = b.sum(b.mul(g, normal), dims=rows, keepdim=False)
    bias = b.sum(g, dims=rows, keepdim=False)
    return b.finish([gradient, weight, bias, *finish(b, normal, x, g)])


def column_kernels(program):
    """Kernels over rows that add to sums."""
    kernels = [k for k in program.kernels() if isinstance(k.body[0], Loop)]
    return [k for k in kernels if any(b.access == "inout" for b in k.buffers)]


def check(graph, targets, tolerance, loops=False):
    rng = np.random.default_rng(0)
    inputs = [rng.uniform(-2, 3, v.type.shape).astype(v.dtype.numpy) for v in graph.inputs]
    expected = interpret(graph, inputs)
    for target in targets:
        program, _ = compile_graph(graph, target)
        verify_program(program)
        found = [Native(program, target, threads).run(inputs, expected) for threads in (1, 2)]
        for one, two, right in zip(*found, expected, strict=True):
            np.testing.assert_array_equal(one, two)  # whatever the number of threads
            scale = np.abs(right).max(initial=0)
            np.testing.assert_allclose(one, right, rtol=tolerance, atol=tolerance * scale)
    if loops:
        found = [np.zeros_like(e) for e in expected]
        run_program(program, inputs, found)
        for one, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, right, rtol=1e-4, atol=1e-4 * np.abs(right).max())
    return program


@pytest.mark.parametrize("dtype", [ir.f32, ir.f64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_of_a_layer_norm(shape, dtype):
    """One kernel reads the rows; all others read sums."""
    graph = norm_graph(shape, dtype)
    program = check(graph, runnable_targets(), 1e-5 if dtype is ir.f32 else 1e-12)
    (kernel,) = column_kernels(program)
    large = np.prod(shape)
    readers = [k for k in program.kernels() if any(b.numel == large for b in k.buffers)]
    assert readers == [kernel]
    assert sum(b.access == "inout" for b in kernel.buffers) == 2
    assert kernel.body[0].chunks > 1


def test_the_loops_of_few_rows(monkeypatch):
    monkeypatch.setattr(splitting, "FEWEST_ELEMENTS", 1)
    monkeypatch.setattr(splitting, "FEWEST_PART_ROWS", 2)
    program = check(norm_graph((16, 9)), [host_target()], 1e-5, loops=True)
    assert len(column_kernels(program)) == 1


def test_few_elements_are_not_worth_it():
    program = check(norm_graph((40, 30)), [host_target()], 1e-5, loops=True)
    assert not column_kernels(program)


def test_a_prime_number_of_rows_is_not_cut():
    program = check(norm_graph((1021, 70)), [host_target()], 1e-5)
    assert not column_kernels(program)


def test_what_reads_the_sums_waits_for_them():
    """Also where the sums have as many elements as there are rows."""

    def finish(b, normal, x, g):
        total = b.sum(b.mul(g, normal), dims=(0,), keepdim=False)
        rows = b.sum(x, dims=(1,), keepdim=False)
        return [b.mul(rows, b.sin(total)), b.mul(x, total)]

    graph = norm_graph((512, 512), finish=finish)
    program = check(graph, [host_target()], 1e-4)
    assert len(column_kernels(program)) == 1


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("batch", [2, 16])
def test_sums_over_other_parts_of_the_rows(batch, first):
    """A kernel is cut into parts of one length, and not into very few."""
    b = ir.Builder("rows")
    x = b.input(ir.tensor_type(ir.f32, (batch, 1024 // batch, 128)))
    flat = b.reshape(x, shape=(1024, 128))
    exps = b.softmax(flat, dim=1)
    whole = b.sum(exps, dims=(0,), keepdim=False)
    part = b.sum(b.exp(b.reshape(exps, shape=x.shape)), dims=(1,), keepdim=False)
    graph = b.finish([whole, part, exps] if first else [part, exps, whole])
    program = check(graph, [host_target()], 1e-5)
    (kernel,) = column_kernels(program)
    assert sum("c_2" in line for line in str(kernel).splitlines()) == 2


def test_a_column_extremum_has_a_kernel_of_its_own():
    def finish(b, normal, x, g):
        return [b.amax(normal, dims=(0,), keepdim=False)]

    check(norm_graph((512, 200), finish=finish), [host_target()], 1e-5)


def test_narrow_floats():
    """Their sums are kept in f32, so they are not stored."""
    graph = norm_graph((512, 200), ir.bf16)
    program, _ = compile_graph(graph, host_target())
    verify_program(program)
    assert not column_kernels(program)


@pytest.mark.parametrize(
    ("rows", "columns", "parts"), [(8192, 1024, 64), (8192, 8192, 64), (1 << 18, 64, 512)]
)
def test_parts_are_short_enough_to_be_accurate(rows, columns, parts):
    graph = split_reductions(norm_graph((rows, columns)))
    cut = [n for n in graph.nodes if n.op.is_reduce and n.result.shape == (parts, columns)]
    assert len(cut) == 2
    assert rows // parts <= splitting.MOST_PART_ROWS
