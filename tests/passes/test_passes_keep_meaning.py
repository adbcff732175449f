"""Every graph -> graph pass keeps what a graph computes."""

import pytest
from graphs import assert_same, random_graph, random_graphs, sample_inputs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from braze.ir.builder import Builder
from braze.ir.dtypes import f32
from braze.ir.interpreter import interpret
from braze.ir.types import tensor_type
from braze.ir.verifier import verify
from braze.passes.cse import cse
from braze.passes.dce import dce
from braze.passes.decompose import decompose
from braze.passes.simplify import simplify

PASSES = {"decompose": decompose, "simplify": simplify, "cse": cse, "dce": dce}
relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("name", PASSES)
@given(random_graphs(nodes=14), st.integers(0, 1000))
@relaxed
def test_a_pass_keeps_the_outputs(name, graph, seed):
    inputs = sample_inputs(graph, seed)
    before = str(graph)
    after = PASSES[name](graph)
    assert str(graph) == before
    verify(after, after=name)
    assert after.aliases == graph.aliases
    assert_same(interpret(after, inputs), interpret(graph, inputs))


@pytest.mark.parametrize("seed", range(60))
def test_the_passes_in_a_row_keep_the_outputs(seed):
    graph = random_graph(seed, nodes=25)
    inputs = sample_inputs(graph, seed)
    after = dce(cse(simplify(decompose(graph))))
    verify(after)
    assert_same(interpret(after, inputs), interpret(graph, inputs))


@given(random_graphs(nodes=25))
@relaxed
def test_nothing_is_left_to_simplify(graph):
    once = simplify(decompose(graph))
    assert simplify(once) is once


def test_what_a_pass_keeps_is_not_copied():
    b = Builder()
    x = b.input(tensor_type(f32, (4,)))
    kept = b.exp(x)
    graph = b.finish([b.log(kept), b.sin(b.mul(kept, 1.0))])
    after = simplify(graph)
    assert after is not graph and after.inputs == graph.inputs
    exp, log, sin = after.nodes
    assert [exp, log] == [kept.node, graph.outputs[0].node]
    assert sin is not graph.outputs[1].node and sin.operands == (kept,)
