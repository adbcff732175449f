"""Updates that nothing waits for come together, and those that depend on each other stay apart."""

import importlib

import pytest

from braze.ir.parser import parse_graph
from braze.ir.target import named_target
from braze.passes import optimise
from braze.passes.choices import Choices
from braze.passes.gather_updates import gather_updates
from braze.passes.waves import waves_of

KERNELS = {
    "neg": 'fusion({0}; kind="pointwise") graph @neg(%a: {1}) -> ({1}) {{\n'
    "    %b: {1} = neg(%a)\n    return %b\n  }}",
    "copy": 'fusion({0}; kind="copy") graph @copy(%a: {1}) -> ({1}) {{\n    return %a\n  }}',
    "sum": 'fusion({0}; kind="reduce") graph @sum(%a: {1}) -> (f32[]) {{\n'
    "    %b: f32[] = sum(%a; dims=(0), keepdim=false)\n    return %b\n  }}",
}


def graph_of(*lines, inputs, outputs, aliases=()):
    """A graph of vectors; each line is (result, kernel, operand)."""
    types = dict(inputs)
    text = []
    for result, kernel, operand in lines:
        own = types[operand]
        types[result] = "f32[]" if kernel == "sum" else own
        text.append(f"  %{result}: {types[result]} = " + KERNELS[kernel].format(f"%{operand}", own))
    given = ", ".join(f"%{name}: {type}" for name, type in inputs.items())
    homes = dict(aliases)
    made = ", ".join(types[o] + (f" = %{homes[o]}" if o in homes else "") for o in outputs)
    returned = ", ".join(f"%{name}" for name in outputs)
    body = "\n".join(text)
    return parse_graph(f"graph @g({given}) -> ({made}) {{\n{body}\n  return {returned}\n}}")


def names(waves):
    return [[node.results[0].name for node in wave] for wave in waves]


def gathered(graph, choices=None):
    return names(waves_of(gather_updates(graph, choices), on_gpu=True))


VECTORS = {"x": "f32[8]", "y": "f32[8]"}


def test_updates_wait_for_each_other():
    lines = [("a", "neg", "x"), ("s", "sum", "y"), ("b", "copy", "y"), ("t", "sum", "x")]
    graph = graph_of(*lines, inputs=VECTORS, outputs=["a", "s", "b", "t"])
    assert gathered(graph) == [["s"], ["t"], ["a", "b"]]


def test_what_reads_an_update_comes_after_it():
    lines = [("a", "neg", "x"), ("b", "neg", "y"), ("s", "sum", "a"), ("c", "neg", "b")]
    graph = graph_of(*lines, inputs=VECTORS, outputs=["a", "b", "s", "c"])
    assert gathered(graph) == [["a", "b"], ["s"], ["c"]]


def test_an_update_of_an_update_is_no_neighbour():
    lines = [("a", "neg", "x"), ("b", "neg", "a"), ("c", "neg", "y")]
    graph = graph_of(*lines, inputs=VECTORS, outputs=["a", "b", "c"])
    assert gathered(graph) == [["a"], ["b", "c"]]


def test_what_overwrites_an_updates_operand_comes_after_it():
    lines = [("a", "copy", "x"), ("s", "neg", "x"), ("b", "neg", "y")]
    graph = graph_of(*lines, inputs=VECTORS, outputs=["a", "s", "b"], aliases={"s": "x"})
    waves = gathered(graph)
    assert sum(waves, []).index("a") < sum(waves, []).index("s")
    assert not any({"a", "s"} <= set(wave) for wave in waves)


def test_intermediate_values_do_not_wait():
    lines = [("a", "neg", "x"), ("s", "sum", "a"), ("b", "neg", "y")]
    graph = graph_of(*lines, inputs=VECTORS, outputs=["s", "b"])
    assert gathered(graph) == [["a"], ["s"], ["b"]]


LONG = [("t", "neg", "x"), ("a", "neg", "t"), ("s", "sum", "y"), ("b", "neg", "y")]


@pytest.mark.parametrize("name", ["LARGE_BYTES", "HELD_BYTES"])
def test_what_keeps_much_memory_alive_does_not_wait(monkeypatch, name):
    graph = graph_of(*LONG, inputs=VECTORS, outputs=["a", "s", "b"])
    assert gathered(graph) == [["t"], ["s"], ["a", "b"]]
    module = importlib.import_module("braze.passes.gather_updates")
    monkeypatch.setattr(module, name, 31)  # "t" has 32
    assert gathered(graph) == [["t"], ["a"], ["s"], ["b"]]


def test_it_is_the_same_for_many_sizes():
    small = graph_of(*LONG, inputs=VECTORS, outputs=["a", "s", "b"])
    large = graph_of(*LONG, inputs=dict.fromkeys("xy", "f32[9000000]"), outputs=["a", "s", "b"])
    choices = Choices(many_sizes=True)
    assert gathered(small, choices) == gathered(large, Choices(choices))
    assert gathered(large) != gathered(small)


def test_what_may_fail_does_not_wait():
    graph = parse_graph(
        """graph @g(%x: i64[8], %y: i64[8]) -> (i64[8], i64[8]) {
  %a: i64[8] = fusion(%x; kind="pointwise") graph @checked(%0: i64[8]) -> (i64[8]) {
    check_range(%0; low=0, high=5, message="out of range")
    %1: i64[8] = neg(%0)
    return %1
  }
  %b: i64[8] = fusion(%y; kind="pointwise") graph @neg(%0: i64[8]) -> (i64[8]) {
    %1: i64[8] = neg(%0)
    return %1
  }
  return %a, %b
}"""
    )
    assert gathered(graph) == [["a"], ["b"]]


def test_updates_do_not_wait_for_other_processes():
    """So they run while these communicate; those that need what comes stand behind it."""
    graph = parse_graph(
        """graph @g(%x: f32[64], %y: f32[64], %w: f32[64], %v: f32[64])
    -> (f32[64] = %w, f32[64] = %v, f32[64]) {
  %t: i64[] = constant(value=0, dtype=i64)
  %s: i64[] = collective_start(%t, %x; kind="all_reduce", reduction="avg", group=0, root=0)
  %n: f32[64] = neg(%y)
  %a: f32[64] = collective_wait(%s; shape=(64), dtype=f32)
  %b: f32[64] = sub(%w, %a)
  %c: f32[64] = sub(%v, %a)
  return %b, %c, %n
}"""
    )
    scheduled = optimise(graph, named_target("sm_80"))
    names = [node.body.name for node in scheduled.nodes]
    assert names.index("neg") < names.index("collective_wait") < names.index("sub")
