"""Bisection: faults of passes, loops, the memory plan and code are each put down to their stage."""

import numpy as np
import pytest
from faults import other_text, swapped, wrong_code, wrong_pass
from graphs import random_graph, sample_inputs
from networks import dense_step, network_inputs, residual_step

import braze.passes as passes
from braze import ir
from braze.ir.parser import parse_graph
from braze.ir.widening import widened
from braze.passes import lower, tune_loops
from braze.runtime import bisecting
from braze.runtime.bisecting import bisect_graph
from braze.runtime.checking import KernelDifference

LAYER = """
graph @layer(%x: f32[6,5], %w: f32[7,5] param, %b: f32[7] param) -> (f32[6,7], f32[]) {
  %0: f32[6,7] = linear(%x, %w, %b)  # model.py:3 in Net.head
  %1: f32[6,7] = relu(%0)  # model.py:4
  %2: f32[6,7] = softmax(%1; dim=1)  # model.py:5
  %3: f32[6,7] = sub(%2, %1)  # model.py:6
  %4: f32[] = sum(%3; dims=(0,1), keepdim=false)  # model.py:7
  return %2, %4
}
"""
NAMES = [entry.name for entry in passes.PIPELINE]


def layer():
    rng = np.random.default_rng(0)
    graph = parse_graph(LAYER)
    return graph, [rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]


# Nothing ------------------------------------------------------------------------------------------


def test_nothing_is_found_where_nothing_is_wrong():
    found = bisect_graph(*layer())
    assert found.culprit is None and found.in_double
    assert found.stages == [*NAMES, "loops", "plan_memory", "compiled code"]
    assert found.loops == len(found.kernels) > 0
    text = str(found)
    assert text.startswith(f"nothing changed a result: {len(NAMES)} passes (in double precision")


@pytest.mark.parametrize("step", [dense_step, residual_step])
def test_training_steps_are_sound(step):
    graph = step(2)
    found = bisect_graph(graph, network_inputs(graph))
    assert found.culprit is None, str(found)


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_are_sound(seed):
    graph = random_graph(seed, nodes=20)
    found = bisect_graph(graph, sample_inputs(graph, seed))
    assert found.culprit is None, str(found)


def test_complex_numbers_are_sound():
    b = ir.Builder("complex")
    x = b.input(ir.tensor_type(ir.c64, (4, 5)), name="x")
    graph = b.finish([b.mul(x, x), b.real(b.exp(x))])
    rng = np.random.default_rng(0)
    array = (rng.standard_normal((4, 5)) + 1j * rng.standard_normal((4, 5))).astype(np.complex64)
    found = bisect_graph(graph, [array])
    assert found.culprit is None, str(found)


def test_a_result_that_is_nothing_but_rounding_is_no_difference():
    """The gradient of a bias before a batch norm is a sum that comes to nothing."""
    b = ir.Builder("nothing")
    x = b.input(ir.tensor_type(ir.f32, (301, 7)), name="x")
    mean = b.mul(b.sum(x, dims=(0,), keepdim=True), 1 / 301)
    graph = b.finish([b.sum(b.sub(x, mean), dims=(0,), keepdim=False)])
    array = np.random.default_rng(0).standard_normal((301, 7)).astype(np.float32)
    found = bisect_graph(graph, [array])
    assert found.culprit is None, str(found)


# Passes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["decompose", "cse", "simplify", "layout", "split_reductions", "dce", "fuse"]
)
def test_a_faulty_pass_is_named(monkeypatch, name):
    graph, inputs = layer()
    wrong_pass(monkeypatch, name, swapped("maximum", "minimum"))
    found = bisect_graph(graph, inputs)
    culprit = found.culprit
    assert culprit is not None and (culprit.kind, culprit.stage) == ("pass", name)
    assert culprit.result == "result 0: f32[6,7]"
    assert culprit.difference.largest > 0.01
    assert found.stages == NAMES[: NAMES.index(name)]
    text = str(found)
    assert text.startswith(f"pass {name!r} changed a result")
    added = [line for line in text.splitlines() if line.startswith("+ ") and "minimum(" in line]
    assert added, text
    assert "at model.py:4" in text


def test_a_pass_whose_graph_breaks_a_rule_is_named(monkeypatch):
    def spoil(graph):
        graph.nodes[0], graph.nodes[-1] = graph.nodes[-1], graph.nodes[0]
        return graph

    wrong_pass(monkeypatch, "cse", spoil)
    found = bisect_graph(*layer())
    assert found.culprit.stage == "cse"
    assert "the graph breaks a rule of the IR" in str(found)


def test_a_pass_that_a_later_one_chokes_on_is_named(monkeypatch):
    def choke(graph):
        raise ZeroDivisionError("a later pass fails")

    wrong_pass(monkeypatch, "layout", choke)
    with pytest.raises(ZeroDivisionError):
        bisect_graph(*layer())
    wrong_pass(monkeypatch, "simplify", swapped("maximum", "minimum"))
    assert bisect_graph(*layer()).culprit.stage == "simplify"


def test_where_there_is_no_form_in_double_precision_the_graph_is_taken_as_it_is(monkeypatch):
    b = ir.Builder("bits")
    x = b.input(ir.tensor_type(ir.f32, (64,)), name="x")
    bits = b.bitwise_and(b.bitcast(x, dtype=ir.i32), 0x7FFF_FFFF)
    y = b.sub(b.bitcast(bits, dtype=ir.f32), x)
    graph = b.finish([y])
    inputs = [np.random.default_rng(0).standard_normal(64).astype(np.float32)]
    found = bisect_graph(graph, inputs)
    assert found.culprit is None and not found.in_double
    assert "no form in double precision" in str(found)
    wrong_pass(monkeypatch, "cse", swapped("sub", "add"))
    assert bisect_graph(graph, inputs).culprit.stage == "cse"


def test_the_widened_graph_prints_the_same_but_for_its_floats():
    graph, _ = layer()
    assert str(widened(graph)) == str(graph).replace("f32", "f64")


# Loops, plan, code --------------------------------------------------------------------------------


def test_faulty_lowering_is_named(monkeypatch):
    right = lower.lower_nest
    changed = []
    change = other_text("exp(", "neg(", changed)
    monkeypatch.setattr(lower, "lower_nest", lambda *args: change(right(*args)))
    culprit = bisect_graph(*layer()).culprit
    assert (culprit.kind, culprit.stage) == ("loops", "lower")
    assert culprit.kernel == changed[0]


@pytest.mark.parametrize("name", ["merge_loops", "vectorise", "reuse_rows"])
def test_a_faulty_pass_over_loops_is_named(monkeypatch, name):
    right = getattr(tune_loops, name)
    changed = []
    change = other_text("exp(", "neg(", changed)
    monkeypatch.setattr(
        tune_loops, name, lambda nest, *a, **k: change(right(nest, *a, **k))
    )
    found = bisect_graph(*layer())
    culprit = found.culprit
    assert (culprit.kind, culprit.stage) == ("loops", name), str(found)
    assert culprit.kernel == changed[0]
    text = str(found)
    assert text.startswith(f"{name!r} changed what kernel @{changed[0]} computes")
    assert any(line.startswith("+") and "neg(" in line for line in text.splitlines())
    assert any(line.startswith("-") and "exp(" in line for line in text.splitlines())
    assert "at model.py:5" in text


def test_faulty_code_is_named(monkeypatch):
    changed = []
    wrong_code(monkeypatch, other_text("exp(", "neg(", changed))
    found = bisect_graph(*layer())
    culprit = found.culprit
    assert (culprit.kind, culprit.stage) == ("code", "compiled code")
    assert culprit.kernel == changed[0]
    assert isinstance(culprit.error, KernelDifference)
    assert "code generation is at fault" in str(found)


def test_kernels_that_are_too_large_to_interpret_are_told_of(monkeypatch):
    monkeypatch.setattr(bisecting, "MOST_POINTS", 10)
    found = bisect_graph(*layer())
    assert found.culprit is None and found.loops == 0 and found.unread
    assert f"{len(found.unread)} kernels have too many points" in str(found)
    wrong_code(monkeypatch, other_text("exp(", "neg("))
    assert bisect_graph(*layer()).culprit.stage == "lowering or compiled code"


def test_a_faulty_plan_is_named(monkeypatch):
    text = """
    graph @plan(%x: f32[300,7], %w: f32[7,7], %v: f32[7,7]) -> (f32[300,7]) {
      %0: f32[300,7] = contract(%x, %w; equation="mk,kn->mn")
      %1: f32[300,7] = contract(%0, %v; equation="mk,kn->mn")
      %2: f32[300,7] = contract(%1, %w; equation="mk,kn->mn")
      %3: f32[300,7] = mul(%2, %0)
      return %3
    }
    """
    graph = parse_graph(text)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    assert bisect_graph(graph, inputs).culprit is None
    right = passes.plan_memory

    def wrong(scheduled, waves):
        plan = right(scheduled, waves)
        first, *_, last = plan.offsets
        plan.offsets[last] = plan.offsets[first]
        return plan

    monkeypatch.setattr(passes, "plan_memory", wrong)
    found = bisect_graph(graph, inputs)
    assert (found.culprit.kind, found.culprit.stage) == ("plan", "plan_memory"), str(found)
    assert "which a later kernel reads" in str(found)
    assert str(found).startswith("the memory plan is at fault")
