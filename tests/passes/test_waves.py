"""Which kernels one parallel region runs: independent ones, if together they are work enough."""

import math

import pytest

from braze.ir.parser import parse_graph
from braze.passes.parallelise import SHORTEST_MICROSECONDS
from braze.passes.waves import _microseconds, waves_of


def updates(count, size):
    """A graph of independent updates, as an optimizer step is."""
    lines = [f"%y{i}: f32[{size}] = neg(%x{i})" for i in range(count)]
    inputs = ", ".join(f"%x{i}: f32[{size}]" for i in range(count))
    outputs = ", ".join(f"%y{i}" for i in range(count))
    types = ", ".join([f"f32[{size}]"] * count)
    body = "\n  ".join([*lines, f"return {outputs}"])
    return parse_graph(f"graph @updates({inputs}) -> ({types}) {{\n  {body}\n}}")


def test_small_kernels_are_called_one_after_the_other():
    graph = updates(6, 100)
    assert waves_of(graph) == [[node] for node in graph.nodes]


def test_many_small_kernels_together_are_worth_a_region():
    graph = updates(40, 1000)
    assert waves_of(graph) == [graph.nodes]


@pytest.mark.parametrize("size, alone", [(16, True), (200, False)])
def test_products_count_as_the_work_that_they_are(size, alone):
    t = f"f32[{size},{size}]"
    graph = parse_graph(
        f"""graph @products(%a: {t}, %b: {t}) -> ({t}, {t}) {{
  %0: {t} = contract(%a, %b; equation="mk,kn->mn")
  %1: {t} = contract(%b, %a; equation="mk,kn->mn")
  return %0, %1
}}"""
    )
    assert (len(waves_of(graph)) == 2) is alone
    assert (sum(map(_microseconds, graph.nodes)) < SHORTEST_MICROSECONDS) is alone


def test_what_cannot_be_estimated_keeps_its_wave():
    graph = parse_graph(
        """graph @sorts(%a: f32[8], %b: f32[8]) -> (f32[8], f32[8]) {
  %0: f32[8] = cumsum(%a; dim=0)
  %1: f32[8] = cumsum(%b; dim=0)
  return %0, %1
}"""
    )
    assert all(_microseconds(node) == math.inf for node in graph.nodes)
    assert waves_of(graph) == [graph.nodes]
