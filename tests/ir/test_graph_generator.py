"""The random graphs that everything else is tested on are what they are said to be."""

from collections import Counter

import numpy as np
import pytest
from graph_steps import STEPS
from graphs import assert_same, random_graph, random_graphs, same_graph, sample_inputs
from hypothesis import given, settings

import braze.ir as ir

UNUSED = {"fusion", "bitcast", "to_device"}
# Others of this kind go the same way through the compiler; their values are not tame.
UNUSED |= {op.name for op in ir.all_ops() if op.is_host} - {
    "inverse", "solve", "cholesky", "triangular_solve", "slogdet"
}  # fmt: skip
# Networks' layers, which tests of code generation and of the front end put into graphs.
UNUSED |= {op.name for op in ir.all_ops() if op.shares_gradients or op.category == "lattice"}


def test_every_primitive_comes_up():
    seen = Counter(
        node.op.name for seed in range(400) for node in random_graph(seed, nodes=15).nodes
    )
    complex_ones = {op.name for op in ir.all_ops() if op.category == "complex"}
    primitives = {op.name for op in ir.all_ops() if op.is_primitive} - complex_ones
    assert primitives - set(seen) == UNUSED
    assert {"param", "data", "buffer", "scalar"} <= {
        role for seed in range(50) for role in random_graph(seed).roles
    }
    assert any(random_graph(seed).aliases for seed in range(50))
    assert any(len(set(random_graph(seed).outputs)) > 1 for seed in range(50))


@pytest.mark.parametrize("step", STEPS)
def test_each_step_works_alone(step):
    for seed in range(20):
        graph = random_graph(seed, steps=(step,), nodes=6)
        ir.verify(graph)
        ir.interpret(graph, sample_inputs(graph, seed))


@given(random_graphs())
@settings(max_examples=40, deadline=None)
def test_graphs_are_right_and_tame(graph):
    ir.verify(graph)
    for array in ir.interpret(graph, sample_inputs(graph)):
        assert np.isfinite(array.astype(np.float64)).all()
        assert np.abs(array.astype(np.float64)).max(initial=0) <= 2.0**63


def jitter(node, operands, results):
    """Change every float in the last bits, as another order of operations would."""
    for array in results:
        if array.dtype in (np.float32, np.float64) and array.flags.writeable and array.base is None:
            step = np.finfo(array.dtype).eps
            array *= (1 + step * np.random.default_rng(0).integers(-1, 2, array.shape)).astype(
                array.dtype
            )


@pytest.mark.parametrize("seed", range(60))
def test_rounding_errors_stay_small(seed):
    graph = random_graph(seed, nodes=20)
    # Exact values must stay so: what jumps reads them.
    exact = {"cast", "floor", "ceil", "trunc", "round", "sign", "maximum", "minimum", "neg", "abs"}
    exact |= {op.name for op in ir.all_ops() if op.is_movement} | {"where", "amax", "amin", "take"}
    exact |= {"constant", "iota", "take_along", "mul", "bitcast"}
    exact |= {op.name for op in ir.all_ops() if op.is_scan and "indices" in op.results}
    inputs = sample_inputs(graph, seed)
    expected = ir.interpret(graph, inputs)

    def trace(node, operands, results):
        if node.op.name not in exact:
            jitter(node, operands, results)

    assert_same(ir.interpret(graph, inputs, trace), expected)


def test_seeds_are_reproducible_and_different():
    assert same_graph(random_graph(5, nodes=20), random_graph(5, nodes=20))
    assert len({str(random_graph(seed)) for seed in range(50)}) > 45
    graph = random_graph(5)
    for one, other in zip(sample_inputs(graph, 1), sample_inputs(graph, 1), strict=True):
        np.testing.assert_array_equal(one, other)


def test_dtypes_can_be_chosen():
    for seed in range(30):
        graph = random_graph(seed, dtypes=(ir.f16, ir.bf16), steps=("arithmetic", "reduction"))
        assert {v.dtype for v in graph.inputs} <= {ir.f16, ir.bf16}


def test_the_comparison_notices_differences():
    x = np.array([1.0, 100.0], np.float32)
    assert_same([x], [x * np.float32(1 + 1e-6)])
    for other in (x.astype(np.float64), x[:1], x + np.float32(0.1), x * np.float32(np.nan)):
        with pytest.raises(AssertionError):
            assert_same([x], [other])
    with pytest.raises(AssertionError):
        assert_same([np.array([1])], [np.array([2])])
    with pytest.raises(AssertionError):
        assert_same([x], [x, x])
