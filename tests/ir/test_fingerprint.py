"""A fingerprint changes with the program, and with nothing else."""

import pytest
from graphs import random_graph, same_graph

from braze.ir.builder import Rewriter
from braze.ir.fingerprint import fingerprint
from braze.ir.parser import parse_graph

TEXT = """\
graph @net(%x: f32[4,4], %w: f32[4] param, %v: f32[4] param) -> (f32[4] = %w, f32[4], f32[]) {
  %0: f32[4,4] = sub(%x, %w)  # train.py:7 in net
  %1: f32[4] = sum(%0; dims=(0), keepdim=false)
  %2: f32[4] = fusion(%0; kind="reduce") graph @rows(%0: f32[4,4]) -> (f32[4]) {
    %1: f32[4] = sum(%0; dims=(1), keepdim=false)
    return %1
  }
  %3: f32[] = constant(value=1.0, dtype=f32)
  return %1, %2, %3
}"""

CHANGES = [
    ("the op", "= sub", "= add"),
    ("an operand", "sub(%x, %w)", "sub(%x, %v)"),
    ("operand order", "sub(%x, %w)", "sub(%w, %x)"),
    ("an attribute", "dims=(0)", "dims=(1)"),
    ("an attribute in a body", "dims=(1)", "dims=(0)"),
    ("an attribute's value", "value=1.0", "value=1.5"),
    ("the kind of a number", "value=1.0", "value=1"),
    ("the sign of zero", "value=1.0", "value=-0.0"),
    ("the kind of a fusion", '"reduce"', '"row"'),
    ("a role", "%v: f32[4] param", "%v: f32[4] buffer"),
    ("an input's dtype", "%v: f32[4]", "%v: f64[4]"),
    ("an input's shape", "%v: f32[4]", "%v: f32[5]"),
    ("an input's device", "%v: f32[4]", "%v: f32[4]@cuda:0"),
    ("the number of inputs", ", %v: f32[4] param", ""),
    ("an alias", "= %w, f32[4]", ", f32[4]"),
    ("whose alias", "= %w, f32[4]", "= %v, f32[4]"),
    ("which alias", "= %w, f32[4]", ", f32[4] = %w"),
    ("output order", "return %1, %2", "return %2, %1"),
    ("what a body returns", "    return %1", "    return %0"),
]


@pytest.mark.parametrize(("old", "new"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_the_program_counts(old, new):
    changed = TEXT.replace(old, new, 1)
    if old == "    return %1":
        changed = changed.replace("f32[4] = fusion", "f32[4,4] = fusion")
        changed = changed.replace("-> (f32[4]) {", "-> (f32[4,4]) {")
        changed = changed.replace("= %w, f32[4]", "= %w, f32[4,4]")
    assert changed != TEXT
    assert fingerprint(parse_graph(changed)) != fingerprint(parse_graph(TEXT))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@net", "@other"),
        ("@rows", "@columns"),
        ("%x", "%data"),
        ("%3", "%one"),
        ("train.py:7 in net", "test.py:9"),
        ("  # train.py:7 in net", ""),
        ("dims=(0), keepdim=false", "keepdim=false, dims=(0)"),
    ],
)
def test_names_and_places_do_not_count(old, new):
    changed = TEXT.replace(old, new)
    assert not same_graph(parse_graph(changed), parse_graph(TEXT))
    assert fingerprint(parse_graph(changed)) == fingerprint(parse_graph(TEXT))


EXPECTED = "87823a8a6717badc34a14baf7c916bfc35f585fef75d7e24d7360ff2b1f9ed56"


def test_it_is_stable():
    """It is a key on disk: it must not depend on the process or the machine."""
    text = "graph @g(%0: f32[2]) -> (f32[2]) {\n  %1: f32[2] = neg(%0)\n  return %1\n}"
    assert fingerprint(parse_graph(text)) == EXPECTED


def test_a_copy_has_the_same_one():
    for seed in range(40):
        graph = random_graph(seed, decorated=True)
        copy = Rewriter(graph)
        for node in graph.nodes:
            copy.keep(node)
        assert fingerprint(copy.done()) == fingerprint(graph)


def test_random_graphs_have_different_ones():
    graphs = [random_graph(seed, aliases=False) for seed in range(300)]
    texts = set()
    for graph in graphs:
        for value in graph.values():
            value.name = None
        texts.add(str(graph))
    assert len({fingerprint(graph) for graph in graphs}) == len(texts) > 250
