"""Sorts through the whole pipeline: what they are fused with, and that meaning is kept."""

import numpy as np
import pytest
from graphs import assert_same, random_graph, sample_inputs

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.loops import Nest, Sort
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_parser import parse_program
from braze.ir.loops_verifier import verify_program
from braze.ir.target import named_target
from braze.passes import compile_graph

TARGET = named_target("x86-64-v3")


def program_of(outputs, shape=(4, 6, 3)):
    """The kernels and report of the graph with outputs `outputs(b, x)`, checked by running them."""
    b = ir.Builder("test")
    x = b.input(ir.tensor_type(ir.f32, shape), name="x")
    graph = b.finish(outputs(b, x))
    program, report = compile_graph(graph, TARGET)
    verify_program(program)
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = interpret(graph, [array])
    found = [np.zeros(a.shape, a.dtype) for a in expected]
    run_program(program, [array], found)
    for ours, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-6)
    return list(program.kernels()), report


def test_movements_and_cheap_arithmetic_become_part_of_the_key():
    def outputs(b, x):
        moved = b.flip(b.permute(x, dims=(2, 0, 1)), dims=(1,))
        return list(b.sort(b.mul(moved, -2.0), dim=2, descending=True))

    (kernel,), _ = program_of(outputs)
    assert isinstance(kernel, Sort) and kernel.descending
    assert str(kernel.key) == "mul(%x[-18*i1 + 3*j + i0 + 54], -2.0)"
    assert [var.extent for var in (*kernel.rows, kernel.along, kernel.rank)] == [3, 4, 6, 6]


def test_costly_keys_are_computed_in_vectors():
    kernels, report = program_of(lambda b, x: list(b.sort(b.exp(x), dim=1, descending=False)))
    assert [type(kernel) for kernel in kernels] == [Nest, Sort]
    assert "sort after exp: a sort makes its keys one by one" in " ".join(report.refusals)


def test_readers_wait_for_the_sort():
    def outputs(b, x):
        values, indices = b.topk(x, dim=1, k=2, largest=True)
        return [b.add(values, 1.0), indices, b.permute(values, dims=(2, 1, 0))]

    kernels, report = program_of(outputs)
    assert isinstance(kernels[0], Sort) and kernels[0].rank.extent == 2
    assert "a sort knows none of its results before it has read all of a row" in " ".join(
        report.refusals
    )


def test_a_result_that_nobody_reads_is_not_stored():
    (kernel,), _ = program_of(lambda b, x: [b.sort(x, dim=0, descending=False)[1]])
    assert [str(store.value) for store in kernel.stores] == ["position"]


def test_rows_are_shared_out_when_there_is_work():
    def sort(b, x):
        return list(b.sort(x, dim=1, descending=False))

    (kernel,), _ = program_of(sort, (2, 10, 2))
    assert kernel.chunks == 1
    (kernel,), _ = program_of(sort, (20, 200, 2))
    assert 1 < kernel.chunks <= 40
    (kernel,), _ = program_of(sort, (1, 5000))
    assert kernel.chunks == 1


def test_a_sorted_value_over_its_operand():
    """An output that takes the operand's memory gets a copy: rows are read after others are
    written."""
    b = ir.Builder("test")
    x = b.input(ir.tensor_type(ir.f32, (3, 5)), name="x")
    values, _ = b.sort(x, dim=0, descending=False)
    program, _ = compile_graph(b.finish([values], {0: 0}), TARGET)
    array = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    expected = np.sort(array, 0)
    run_program(program, [array], [array])
    assert np.array_equal(array, expected)


def test_no_kernel_for_nothing():
    b = ir.Builder("test")
    x = b.input(ir.tensor_type(ir.f32, (0, 5)), name="x")
    program, _ = compile_graph(b.finish(list(b.sort(x, dim=1, descending=False))), TARGET)
    assert not list(program.kernels())


STEPS = ("sort", "arithmetic", "permute", "slice", "take_along", "flip", "pad", "concat", "reshape")


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed):
    graph = random_graph(seed, nodes=10, steps=STEPS, dtypes=ir.dtypes.REAL, aliases=False)
    inputs = sample_inputs(graph, seed)
    program, _ = compile_graph(graph, TARGET)
    verify_program(program)
    assert str(parse_program(str(program))) == str(program)
    outputs = [np.zeros(value.shape, value.dtype.numpy) for value in graph.outputs]
    run_program(program, inputs, outputs)
    assert_same(outputs, interpret(graph, inputs))
