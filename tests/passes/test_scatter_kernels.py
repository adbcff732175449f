"""Operations that write where data say: native code for every target against NumPy."""

import importlib

import numpy as np
import pytest
from native import Native, runnable_targets

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_verifier import verify_program
from braze.passes import compile_graph

# Name, shape of x, dim, shape of the index: lanes that meet, rows, a place that every update names.
CASES = [
    ("index_put", (40,), 0, (100,)),
    ("index_put", (7, 33), 0, (50,)),
    ("index_put", (3, 5, 20), 1, (6, 4)),
    ("index_put", (4, 9), 1, ()),
    ("index_put", (1, 40), 0, (9,)),
    ("index_put", (40, 1), 1, (9,)),
    ("index_put", (1,), 0, (64,)),
    ("index_put", (5,), 0, (0,)),
    ("index_put", (40,), 0, (5, 6)),
    ("scatter", (40,), 0, (100,)),
    ("scatter", (6, 50), 0, (20, 50)),
    ("scatter", (6, 50), 1, (6, 90)),
    ("scatter", (3, 1, 40), 1, (3, 7, 40)),
    ("scatter", (2, 5, 9), 2, (2, 5, 0)),
    ("scatter_add", (3, 1, 40), 1, (3, 7, 40)),
]
COMBINES = ("prod", "amax", "amin")


def program_of(name, dtype, shape, dim, index_shape, **attributes):
    b = ir.Builder(name)
    x = b.input(ir.tensor_type(dtype, shape))
    index = b.input(ir.tensor_type(ir.i64, index_shape))
    updates_shape = index_shape
    if name.startswith("index_"):
        updates_shape = (*shape[:dim], *index_shape, *shape[dim + 1 :])
    updates = b.input(ir.tensor_type(dtype, updates_shape))
    # Elementwise work on each operand, so that it can join the kernel.
    written = getattr(b, name)(b.add(x, x), index, b.mul(updates, updates), dim=dim, **attributes)
    graph = b.finish([written])
    generator = np.random.default_rng(0)
    arrays = [
        generator.integers(0, 5, shape).astype(dtype.numpy),
        generator.integers(-1, max(shape[dim], 1) + 1, index_shape),
        generator.integers(0, 5, updates_shape).astype(dtype.numpy),
    ]
    return graph, arrays


def check(graph, arrays):
    (expected,) = interpret(graph, arrays)
    for target in runnable_targets():
        program, _ = compile_graph(graph, target)
        verify_program(program)
        blank = np.zeros(expected.shape, expected.dtype)
        (found,) = Native(program, target).run(arrays, [blank])
        np.testing.assert_array_equal(found, expected, err_msg=target.name)


@pytest.mark.parametrize("dtype", [ir.f32, ir.i64], ids=str)
@pytest.mark.parametrize(("name", "shape", "dim", "index_shape"), CASES)
def test_updates_come_in_order(name, shape, dim, index_shape, dtype):
    check(*program_of(name, dtype, shape, dim, index_shape))


@pytest.mark.parametrize("dtype", [ir.f64, ir.bf16, ir.i8, ir.u8], ids=str)
def test_narrow_and_wide_elements(dtype):
    check(*program_of("index_put", dtype, (5, 30), 0, (9,)))
    check(*program_of("scatter", dtype, (30,), 0, (90,)))


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize(
    ("shape", "dim", "index_shape"), [((6,), 0, (13,)), ((3, 1, 40), 1, (3, 2, 40))]
)
def test_combinations(shape, dim, index_shape, combine):
    check(*program_of("scatter_reduce", ir.f64, shape, dim, index_shape, combine=combine))


def test_extrema_keep_nan():
    graph, (x, index, updates) = program_of("scatter_reduce", ir.f32, (4,), 0, (9,), combine="amax")
    x[1], updates[3] = np.nan, np.nan
    check(graph, [x, index, updates])


def test_a_large_write_into_rows_is_cut_into_chunks():
    graph, arrays = program_of("index_put", ir.f32, (50, 4000), 1, (400,))
    check(graph, arrays)
    program, _ = compile_graph(graph, runnable_targets()[0])
    (kernel,) = scatters(program)
    assert len(kernel.body) == 1 and kernel.body[0].chunks > 1


def test_a_large_write_of_rows_is_not_cut_into_chunks():
    graph, arrays = program_of("index_put", ir.f32, (50, 4000), 0, (400,))
    check(graph, arrays)


# Shape of x, dim, shape of the index, and into how many parts a scatter is cut.
SPLITS = [
    ("index_add", (7, 64), 0, (9,), 1),
    ("index_add", (6, 9), 1, (5,), 6),
    ("index_put", (3, 5, 40), 1, (2, 4), 3),
    ("index_add", (2, 6, 96), 2, (4,), 6),
    ("index_add", (5, 37), 0, (4,), 1),
    ("index_add", (40,), 0, (70,), 1),
    ("scatter_add", (6, 10), 1, (6, 15), 6),
    ("scatter_add", (6, 10), 1, (4, 15), 1),
    ("scatter", (4, 3, 8), 1, (4, 7, 8), 4),
    ("scatter_add", (5, 4, 8), 2, (3, 4, 6), 4),
]


@pytest.mark.parametrize(("name", "shape", "dim", "index_shape", "parts"), SPLITS)
def test_parts_of_a_scatter_are_independent(name, shape, dim, index_shape, parts, monkeypatch):
    """The interpreter of loops fails where one iteration of the parallel loop touches what another
    one writes."""
    module = importlib.import_module("braze.passes.parallelise")
    monkeypatch.setattr(module, "SHORTEST_MICROSECONDS", 0.0)
    monkeypatch.setattr(module, "CHUNK_MICROSECONDS", 1e-4)
    graph, arrays = program_of(name, ir.f32, shape, dim, index_shape)
    program, _ = compile_graph(graph, runnable_targets()[0])
    verify_program(program)
    (kernel,) = scatters(program)
    assert len(kernel.body) == (2 if parts == 1 else 1)
    assert kernel.body[0].var.extent == parts or parts == 1
    (expected,) = interpret(graph, arrays)
    out = np.zeros(expected.shape, expected.dtype)
    run_program(program, arrays, [out])
    np.testing.assert_array_equal(out, expected)
    (found,) = Native(program).run(arrays, [out])
    np.testing.assert_array_equal(found, expected)


def test_several_dimensions_of_indices_into_a_vector():
    b = ir.Builder("take")
    x, index = b.input(ir.tensor_type(ir.f32, (9,))), b.input(ir.tensor_type(ir.i64, (3, 4)))
    graph = b.finish([b.take(x, index, dim=0)])
    check(graph, [np.arange(9, dtype=np.float32), np.arange(12).reshape(3, 4) % 9])


def test_bools():
    b = ir.Builder("mask")
    x = b.input(ir.tensor_type(ir.bool_, (70,)))
    index = b.input(ir.tensor_type(ir.i64, (33,)))
    updates = b.input(ir.tensor_type(ir.bool_, (33,)))
    graph = b.finish([b.index_put(x, index, updates, dim=0)])
    generator = np.random.default_rng(1)
    arrays = [generator.random(70) < 0.5, generator.integers(0, 70, 33), generator.random(33) < 0.5]
    check(graph, arrays)


def twice(name, shape, index_shape):
    """A scatter into an intermediate value that nobody else reads."""
    b = ir.Builder(name)
    x = b.input(ir.tensor_type(ir.f32, shape))
    index = b.input(ir.tensor_type(ir.i64, index_shape))
    updates = b.input(ir.tensor_type(ir.f32, (*index_shape, *shape[1:])))
    first = getattr(b, name)(b.exp(x), index, updates, dim=0)
    second = getattr(b, name)(first, index, b.mul(updates, updates), dim=0)
    graph = b.finish([b.sum(second, dims=(0,), keepdim=False), b.mul(second, second)])
    generator = np.random.default_rng(0)
    arrays = [
        generator.random(shape, np.float32),
        generator.integers(0, shape[0], index_shape),
        generator.random(updates.type.shape, np.float32),
    ]
    return graph, arrays


def scatters(program):
    return [k for k in program.kernels() if any(b.access == "inout" for b in k.buffers)]


@pytest.mark.parametrize("name", ["index_add", "index_put"])
def test_a_scatter_into_a_value_that_dies_there_copies_nothing(name):
    graph, arrays = twice(name, (6, 40), (9,))
    program, _ = compile_graph(graph, runnable_targets()[0])
    verify_program(program)
    first, second = scatters(program)
    assert len(first.body) == 2  # the exponentials, and the updates
    assert len(second.body) == 1
    places = {program.placements[b.name] for b in second.buffers if b.numel == 240}
    assert len(places) == 1
    expected = interpret(graph, arrays)
    outs = [np.zeros(e.shape, e.dtype) for e in expected]
    run_program(program, arrays, outs)
    for target in runnable_targets():
        compiled, _ = compile_graph(graph, target)
        found = Native(compiled, target).run(arrays, [np.zeros(e.shape, e.dtype) for e in expected])
        for mine, interpreted, right in zip(found, outs, expected, strict=True):
            np.testing.assert_allclose(mine, right, rtol=2e-6)
            np.testing.assert_allclose(interpreted, right, rtol=2e-6)


@pytest.mark.parametrize("part", ["index", "updates", "base"])
def test_what_a_scatter_still_reads_is_not_overwritten(part):
    """Updates or an index made from the operand, or a base that reads it at other places."""
    b = ir.Builder("needed")
    x = b.input(ir.tensor_type(ir.i64, (30,)), role="state")
    index, updates = b.input(ir.tensor_type(ir.i64, (30,))), b.input(ir.tensor_type(ir.i64, (30,)))
    base = x
    if part == "index":
        index = b.remainder(b.add(x, index), 30)
    elif part == "updates":
        updates = b.add(x, updates)
    else:
        base = b.flip(x, dims=(0,))
    graph = b.finish([b.index_add(base, index, updates, dim=0)], {0: 0})
    program, _ = compile_graph(graph, runnable_targets()[0])
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 30, 30) for _ in range(3)]
    (expected,) = interpret(graph, arrays)
    (found,) = Native(program).run(arrays, [expected], {0: 0})
    np.testing.assert_array_equal(found, expected)


def test_a_scatter_over_its_input_under_another_shape():
    b = ir.Builder("update")
    x = b.input(ir.tensor_type(ir.f32, (50, 8)), role="state")
    index, updates = b.input(ir.tensor_type(ir.i64, (9,))), b.input(ir.tensor_type(ir.f32, (9,)))
    added = b.index_add(b.reshape(x, shape=(400,)), index, updates, dim=0)
    graph = b.finish([b.reshape(added, shape=(50, 8))], {0: 0})
    program, _ = compile_graph(graph, runnable_targets()[0])
    (kernel,) = program.kernels()
    assert len(kernel.body) == 1
    generator = np.random.default_rng(0)
    arrays = [
        generator.random((50, 8), np.float32),
        generator.integers(0, 400, 9),
        generator.random(9, np.float32),
    ]
    (expected,) = interpret(graph, arrays)
    (found,) = Native(program).run(arrays, [expected], {0: 0})
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_rearranged_scatter_is_another_kernel():
    b = ir.Builder("rearranged")
    x = b.input(ir.tensor_type(ir.f32, (6, 8)))
    index, updates = b.input(ir.tensor_type(ir.i64, (9,))), b.input(ir.tensor_type(ir.f32, (9, 8)))
    added = b.index_add(x, index, updates, dim=0)
    outputs = [b.permute(added, dims=(1, 0)), b.reshape(added, shape=(48,)), added]
    graph = b.finish(outputs)
    generator = np.random.default_rng(0)
    arrays = [
        generator.random((6, 8), np.float32),
        generator.integers(0, 6, 9),
        generator.random((9, 8), np.float32),
    ]
    expected = interpret(graph, arrays)
    for target in runnable_targets():
        program, _ = compile_graph(graph, target)
        verify_program(program)
        blank = [np.zeros(e.shape, e.dtype) for e in expected]
        for found, right in zip(Native(program, target).run(arrays, blank), expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-6)


def test_a_scan_with_two_results_waits_for_a_scatter():
    b = ir.Builder("test")
    x, index, updates = (
        b.input(ir.tensor_type(dtype, (4, 5))) for dtype in (ir.f32, ir.i64, ir.f32)
    )
    values, places = b.cummin(b.scatter_add(x, index, updates, dim=0), dim=1, reverse=False)
    graph = b.finish([values, places])
    rng = np.random.default_rng(0)
    given = [
        rng.standard_normal((4, 5)).astype(np.float32),
        rng.integers(0, 4, (4, 5)),
        rng.standard_normal((4, 5)).astype(np.float32),
    ]
    expected = interpret(graph, given)
    for target in runnable_targets():
        program, _ = compile_graph(graph, target)
        found = Native(program, target).run(given, [np.zeros_like(e) for e in expected])
        for got, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)
