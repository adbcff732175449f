"""Graphs with scans as loops and as native code: fusion, blocks, work in place."""

import inspect
import re

import numpy as np
import pytest
from graphs import assert_same, random_graph, sample_inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from native import Native, runnable_targets

from braze import ir
from braze.ir.interpreter import interpret
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_parser import parse_program
from braze.ir.loops_verifier import verify_program
from braze.ir.parser import parse_graph
from braze.ir.verifier import verify
from braze.passes import compile_graph, split_scans
from braze.passes.split_scans import FEWEST_ELEMENTS
from braze.runtime.cpu import host_target

PLAIN = ("cumsum", "cumprod", "cummax", "cummin", "linear_recurrence")
TOLERANCE = {2: 2e-3, 4: 1e-5, 8: 1e-11}


def scan_graph(name, shape, dim, *, dtype=ir.f32, reverse=False, fused=False, after=None):
    """A scan, with elementwise operations around it if `fused`; `after` adds what follows."""
    b = ir.Builder(name)
    inputs = [b.input(ir.tensor_type(dtype, shape)) for _ in ir.op_named(name).operands]
    # Which of two nearly equal numbers is the larger must not depend on how a sine is rounded.
    before = b.neg if name in ("cummax", "cummin") else b.sin
    operands = [before(x) for x in inputs] if fused else inputs
    made = getattr(b, name)(*operands, dim=dim, reverse=reverse)
    results = list(made) if isinstance(made, (tuple, list)) else [made]
    if fused:
        results[0] = b.mul(b.add(results[0], operands[-1]), inputs[-1])
    if after is not None:
        results[0] = after(b, results[0])
    return b.finish(results)


def compare(graph, *, targets=None, loops=True, limit=1.0):
    """Native code, and the loops, give what the graph means; returns the last program."""
    generator = np.random.default_rng(3)
    inputs = [
        generator.uniform(-limit, limit, v.type.shape).astype(v.dtype.numpy) for v in graph.inputs
    ]
    expected = interpret(graph, inputs)
    for target in targets or runnable_targets():
        program, _ = compile_graph(graph, target)
        verify_program(program)
        assert str(parse_program(str(program))) == str(program)
        results = [Native(program, target).run(inputs, expected)]
        if loops:
            results.append([np.zeros_like(array) for array in expected])
            run_program(program, inputs, results[-1])
        for arrays in results:
            for array, right in zip(arrays, expected, strict=True):
                near = TOLERANCE[right.itemsize] if right.dtype.kind not in "iub" else 0
                np.testing.assert_allclose(array, right, rtol=near, atol=near, err_msg=target.name)
    return program


def names(program):
    return [re.sub(r"_\d+$", "", kernel.name) for kernel in program.kernels()]


SHAPES = [((1,), 0), ((37,), 0), ((3, 37), 1), ((37, 5), 0), ((2, 9, 20), 1), ((2, 3, 4, 5), 2)]


@pytest.mark.parametrize("shape, dim", SHAPES, ids=str)
@pytest.mark.parametrize("name", PLAIN)
def test_a_scan_is_one_kernel(name, shape, dim):
    for reverse in (False, True):
        assert len(names(compare(scan_graph(name, shape, dim, reverse=reverse)))) == 1


@pytest.mark.parametrize("name", PLAIN)
def test_elementwise_neighbours_join_it(name):
    for shape, dim in ((37,), 0), ((6, 40), 0), ((6, 40), 1):
        (kernel,) = names(compare(scan_graph(name, shape, dim, fused=True), loops=False))
        before = "neg" if name in ("cummax", "cummin") else "sin"
        assert kernel == f"{before}_{name}_add_mul"


@pytest.mark.parametrize("name", ["cumsum", "cummax"])
def test_a_rearranged_copy_is_stored_beside_it(name):
    graph = scan_graph(name, (6, 40), 1, after=lambda b, y: b.permute(y, dims=(1, 0)))
    assert len(names(compare(graph))) == 1


def test_what_needs_the_whole_result_waits_for_it():
    def following(b, y):
        return b.sum(b.cumsum(y, dim=0, reverse=False), dims=(1,), keepdim=False)

    assert len(names(compare(scan_graph("cumsum", (6, 40), 1, after=following)))) == 3
    shifted = scan_graph(
        "cumsum", (6, 40), 1, after=lambda b, y: b.mul(y, b.flip(y, dims=(1,)))
    )
    assert len(names(compare(shifted))) == 2


def test_an_unread_result_is_not_computed():
    b = ir.Builder("values")
    values, _ = b.cummax(b.input(ir.tensor_type(ir.f32, (40,))), dim=0, reverse=False)
    program = compare(b.finish([values]))
    assert "lastmax" not in str(program) and "amax" in str(program)


def test_a_check_stays_outside():
    b = ir.Builder("checked")
    x, index = b.input(ir.tensor_type(ir.f32, (50,))), b.input(ir.tensor_type(ir.i64, (40,)))
    b.check_range(index, low=0, high=50, message="take")
    graph = b.finish([b.cumsum(b.take(x, index, dim=0), dim=0, reverse=False)])
    program, _ = compile_graph(graph, host_target())
    inputs = [np.arange(50, dtype=np.float32), np.arange(40) + 5]
    (result,) = Native(program).run(inputs, [np.zeros(40, np.float32)])
    np.testing.assert_allclose(result, np.cumsum(np.arange(40) + 5.0), rtol=1e-6)
    native = Native(program)
    inputs[1][7] = 77
    native.run(inputs, [np.zeros(40, np.float32)])
    assert native.status[0] == 1 and native.status[1] == 77


@pytest.mark.parametrize("dim", [0, 1])
def test_a_result_over_its_operand_needs_no_copy(dim):
    graph = parse_graph(f"""graph @over(%x: f32[60,70]) -> (f32[60,70] = %x) {{
      %0: f32[60,70] = neg(%x)
      %1: f32[60,70] = cumsum(%0; dim={dim}, reverse=false)
      %2: f32[60,70] = mul(%1, %x)
      return %2
    }}""")
    program, _ = compile_graph(graph, host_target())
    assert len(names(program)) == 1
    x = np.random.default_rng(0).uniform(-1, 1, (60, 70)).astype(np.float32)
    (expected,) = interpret(graph, [x])
    memory = [x.copy()]
    run_program(program, memory, memory)
    (native,) = Native(program).run([x], [x], {0: 0})
    for result in (memory[0], native):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


# Blocks -------------------------------------------------------------------------------------------


def test_the_pass_does_what_it_says():
    text = inspect.getmodule(split_scans).__doc__
    before, after = re.findall(r"    (graph @g.*?\n    \})", text, re.DOTALL)
    assert str(split_scans(parse_graph(before))) == str(parse_graph(after))


@pytest.mark.parametrize("name", PLAIN[:4])
@pytest.mark.parametrize("n", [FEWEST_ELEMENTS, 70001])
def test_long_rows_are_scanned_in_blocks(name, n):
    limit = 1.0 if name != "cumprod" else 1.0005
    for reverse in (False, True):
        graph = scan_graph(name, (n,), 0, reverse=reverse, fused=name != "cumprod")
        program = compare(graph, loops=False, limit=limit)
        assert len(names(program)) >= 3


@pytest.mark.parametrize("name", ["cumsum", "cummin"])
@pytest.mark.parametrize("shape, dim", [((3, 30011), 1), ((20000, 5), 0), ((2, 9000, 4), 1)])
def test_few_long_rows_too(name, shape, dim):
    program = compare(scan_graph(name, shape, dim, fused=True), loops=False)
    assert any(f"{name}_from" in kernel for kernel in names(program))


def test_blocks_by_the_loops_interpreter():
    compare(scan_graph("cummax", (65541,), 0, reverse=True), targets=[host_target()])


@pytest.mark.parametrize("dtype", [ir.f16, ir.i32], ids=lambda d: d.name)
def test_blocks_of_other_dtypes(dtype):
    graph = scan_graph("cumsum", (FEWEST_ELEMENTS,), 0, dtype=dtype)
    compare(graph, loops=False, limit=0.5 if dtype is ir.f16 else 9)


def test_many_rows_stay_whole():
    for shape, dim in ((4096, 32), 1), ((512, 512), 0), ((8, 16384), 1):
        graph = scan_graph("cumsum", shape, dim)
        assert split_scans(graph).nodes[0].op.name == "cumsum"


def test_results_do_not_depend_on_the_number_of_threads():
    program, _ = compile_graph(scan_graph("cumsum", (1 << 20,), 0), host_target())
    x = np.random.default_rng(5).uniform(0, 1, 1 << 20).astype(np.float32)
    first, *others = (Native(program, threads=n).run([x], [x])[0] for n in (1, 2, 3))
    assert all(np.array_equal(first, other) for other in others)
    np.testing.assert_allclose(first, np.cumsum(x, dtype=np.float64), rtol=1e-7)


# Any neighbours -----------------------------------------------------------------------------------

STEPS = (
    "scan scan scan_in_blocks arithmetic unary reshape permute slice flip pad concat reduction "
    "comparison take_along expand selection"
).split()


@pytest.mark.parametrize("seed", [*range(30), 783, 896])
def test_random_graphs(seed):
    graph = random_graph(seed, steps=tuple(STEPS), nodes=14)
    given = zip(sample_inputs(graph, seed), graph.inputs, strict=True)
    inputs = [np.asarray(array, v.dtype.numpy) for array, v in given]
    expected = interpret(graph, inputs)
    target = runnable_targets()[seed % len(runnable_targets())]
    program, _ = compile_graph(graph, target)
    verify_program(program)
    memory = [array.copy() for array in inputs]
    outputs = [
        memory[graph.aliases[n]].reshape(array.shape) if n in graph.aliases else array.copy()
        for n, array in enumerate(expected)
    ]
    run_program(program, memory, outputs)
    assert_same(outputs, expected)
    assert_same(Native(program, target).run(inputs, expected, dict(graph.aliases)), expected)


@given(
    st.sampled_from(PLAIN),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([ir.f32, ir.f64, ir.f16]),
)
@settings(max_examples=15, deadline=None)
def test_any_shape_and_dimension(name, shape, dim, reverse, dtype):
    dim %= len(shape)
    graph = scan_graph(name, tuple(shape), dim, dtype=dtype, reverse=reverse, fused=True)
    verify(graph)
    compare(graph, targets=[host_target()])
