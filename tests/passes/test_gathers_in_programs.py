"""Gathers and scatters of one dimension by indices of several, through the whole pipeline."""

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.loops_interpreter import run_program
from braze.ir.target import named_target
from braze.passes import compile_graph
from braze.passes.layout import layout


@pytest.mark.parametrize("index_shape", [(), (4,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("name", ["take", "index_add"])
def test_a_vector_and_an_index_of_any_rank(name, index_shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(9).astype(np.float32)
    index = np.asarray(rng.integers(0, 9, index_shape))
    arrays = [x, index]
    if name == "index_add":
        arrays.append(np.asarray(rng.standard_normal(index_shape), dtype=np.float32))
    b = ir.Builder("test")
    inputs = [b.input(ir.tensor_type(ir.from_numpy(a.dtype), a.shape)) for a in arrays]
    graph = b.finish([getattr(b, name)(*inputs, dim=0)])
    program, _ = compile_graph(graph, named_target("x86-64-v3"))
    (expected,) = interpret(graph, arrays)
    found = np.zeros_like(expected)
    run_program(program, arrays, [found])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_gather_from_a_reduction_by_indices_made_from_it():
    """The index is read at the gather's own element, the table is not: they are no one kernel."""
    b = ir.Builder("test")
    x = b.input(ir.tensor_type(ir.i64, (3, 2)))
    table = b.sum(x, dims=(1,), keepdim=False)
    index = b.remainder(table, 3)
    b.check_range(index, low=0, high=3, message="test")
    graph = b.finish([b.take(table, index, dim=0)])
    program, _ = compile_graph(graph, named_target("x86-64-v3"))
    found = np.zeros(3, np.int64)
    run_program(program, [np.array([[1, 1], [5, 0], [3, 4]])], [found])
    assert found.tolist() == [7, 7, 5]


def test_a_gather_along_the_last_dimension_writes_vectors_of_it():
    """Not strided elements of many rows, which would be written one by one."""
    b = ir.Builder("test")
    x = b.input(ir.tensor_type(ir.f32, (64, 32)))
    one, other = (b.input(ir.tensor_type(ir.i32, (48,))) for _ in range(2))
    graph = b.finish([b.add(b.take(x, one, dim=1), b.take(x, other, dim=1))])
    program, _ = compile_graph(graph, named_target("x86-64-v3"))
    (loop,) = [line for line in str(program).splitlines() if " vector {" in line]
    assert " in 48 vector {" in loop


def test_a_gather_by_a_vector_follows_the_order_that_values_are_stored_in():
    b = ir.Builder("test")
    x = b.input(ir.tensor_type(ir.f32, (2, 3, 4, 5)))
    index = b.input(ir.tensor_type(ir.i64, (7,)))
    picked = b.take(b.permute(x, dims=(0, 3, 1, 2)), index, dim=2)
    graph = layout(b.finish([b.permute(picked, dims=(0, 2, 3, 1))]))
    assert [node.op.name for node in graph.nodes] == ["take"]
    assert graph.nodes[0].attributes["dim"] == 1
    table = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
    places = np.array([2, 0, 1, 1, 2, 0, 0])
    (found,) = interpret(graph, [table, places])
    np.testing.assert_array_equal(found, table[:, places])
