"""Graphs print and parse back to themselves; the parser points at what is wrong."""

import pytest
from graphs import random_graph, random_graphs, same_graph
from hypothesis import given, settings

import braze.ir as ir
from braze.ir.graph import Node
from braze.ir.parser import parse_graph
from braze.ir.printer import print_attribute, print_graph, print_location

DENSE = """\
graph @dense(%x: f32[64,8], %w: f32[8,10] param, %s: f32[] scalar) -> (f32[8,10] = %w, f32[64]) {
  %0: f32[64,10] = contract(%x, %w; equation="mk,kn->mn")  # train.py:12 in net.fc
  %1: f32[] = constant(value=-inf, dtype=f32)
  %rows: f32[64] = fusion(%0; kind="reduce") graph @sum(%0: f32[64,10]) -> (f32[64]) {  # a.py:1
    %1: f32[64] = sum(%0; dims=(1), keepdim=false)
    return %1
  }
  %2: i64[64] = iota(shape=(64), dim=0, dtype=i64)
  check_range(%2; low=0, high=64, message="nll_loss")
  return %w, %rows
}"""


def test_the_parts_of_a_parsed_graph():
    graph = parse_graph(DENSE)
    assert graph.name == "dense"
    assert [v.name for v in graph.inputs] == ["x", "w", "s"]
    assert graph.roles == ["data", "param", "scalar"]
    assert graph.aliases == {0: 1}
    contract, constant, fusion, iota, check = graph.nodes
    assert contract.location == ir.Location("train.py", 12, "net.fc")
    assert contract.attributes == {"equation": "mk,kn->mn"}
    assert contract.operands == tuple(graph.inputs[:2])
    assert constant.attributes == {"value": float("-inf"), "dtype": ir.f32}
    assert fusion.result.name == "rows" and graph.outputs == [graph.inputs[1], fusion.result]
    assert fusion.body is not None and fusion.body.outputs[0].type == ir.tensor_type(ir.f32, (64,))
    assert fusion.location == ir.Location("a.py", 1)
    assert iota.attributes["shape"] == (64,)
    assert check.results == ()


def test_text_reads_back_to_itself():
    assert print_graph(parse_graph(DENSE)) == DENSE


def test_layout_of_the_text_is_free():
    squeezed = DENSE.replace("\n  check", " check").replace(", ", " ,\t").replace(" = ", "=")
    assert same_graph(parse_graph(squeezed), parse_graph(DENSE))


@given(random_graphs(decorated=True))
@settings(max_examples=60, deadline=None)
def test_any_graph_reads_back_to_itself(graph):
    assert same_graph(parse_graph(str(graph)), graph)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_read_back_to_themselves(seed):
    graph = random_graph(seed, nodes=25, decorated=True)
    text = str(graph)
    again = parse_graph(text)
    assert same_graph(again, graph)
    assert str(again) == text


def test_same_graph_tells_graphs_apart():
    """Otherwise the tests above would prove nothing."""
    for old, new in [
        ("graph @dense", "graph @dance"),
        ("%rows", "%row"),
        ("train.py:12", "train.py:13"),
        ("-inf", "inf"),
        ("f32[64] = sum", "f32[64] = prod"),
        ("= %w, f32[64]", ", f32[64]"),
        ("%w: f32[8,10] param", "%w: f32[8,10] buffer"),
        ("high=64", "high=65"),
        ("return %w", "return %x"),
    ]:
        changed = DENSE.replace(old, new)
        if old == "return %w":
            changed = changed.replace("f32[8,10] = %w", "f32[64,8]")
        assert changed != DENSE
        assert not same_graph(parse_graph(changed), parse_graph(DENSE)), (old, new)


def attribute_graph(value, kind=float):
    op = ir.op_named("constant")
    node = Node(op, [], {"value": value, "dtype": ir.f64}, [ir.tensor_type(ir.f64)])
    return ir.Graph("a", nodes=[node], outputs=[node.result])


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        -0.0,
        1.0,
        1,
        0,
        -3,
        True,
        False,
        1e300,
        5e-324,
        0.1,
        1e16,
        10**30,
        *map(float, ["inf", "-inf", "nan"]),
    ],
    ids=repr,
)
def test_numbers_keep_value_and_kind(value):
    found = parse_graph(str(attribute_graph(value))).nodes[0].attributes["value"]
    assert type(found) is type(value) and repr(found) == repr(value)


def test_attributes_as_text():
    given = [True, 1, 1.0, 'a"b\n', ir.bf16, (), (1,), (1, 2)]
    texts = ["true", "1", "1.0", '"a\\"b\\n"', "bf16", "()", "(1)", "(1,2)"]
    assert [print_attribute(value) for value in given] == texts


def test_locations_as_text():
    assert print_location(ir.Location("a b.py", 3)) == "a b.py:3"
    assert (
        print_location(ir.Location("a.py", 3, "net (Linear(2, 3))"))
        == "a.py:3 in net (Linear(2, 3))"
    )
    assert print_location(ir.Location("a:1 in b", 2)) == '"a:1 in b":2'


def test_names_that_collide_are_told_apart():
    """Dumps must not lie about a broken graph."""
    b = ir.Builder("twice")
    x = b.input(ir.tensor_type(ir.f32, (2,)), name="x")
    y = b.neg(x)
    y.name = "x"
    text = str(b.finish([y]))
    assert "%x_2: f32[2] = neg(%x)" in text and "return %x_2" in text


def test_devices_are_part_of_types():
    text = "graph @d(%0: f32[3]@cuda:1 param) -> (f32[3]@cuda:1) {\n  return %0\n}"
    graph = parse_graph(text)
    assert graph.inputs[0].type.device == "cuda:1" and str(graph) == text


ERRORS = [
    ("= sum(", "= summ(", "no op is called 'summ'", 5, 19),
    ("dims=", "dim=", "sum has no attribute 'dim'; it has: dims, keepdim", 5, 27),
    ("(1), keepdim", "(1), dims", "attribute 'dims' is given twice", 5, 37),
    ("(1)", "(x)", "expected an integer", 5, 33),
    ("%0: f32[64,10] =", "%0: f33[64,10] =", "no dtype is called 'f33'", 2, 7),
    ("%0: f32[64,10] =", "%0: f32[64,-1] =", "sizes must not be negative", 2, 18),
    ("contract(%x, %w", "contract(%x, %q", "%q is not defined before this", 2, 33),
    ("%2: i64", "%1: i64", "%1 is defined twice", 8, 3),
    ("%2: i64[64]", "%2: i64[64], i64[64]", "1 results have 2 types", 8, 3),
    (" param", " parma", "unknown role 'parma'", 1, 43),
    ("train.py:12 in net.fc", "train.py", "expected a location, file:line", 2, 62),
    ('"mk,kn->mn"', '"mk,kn->mn', "expected a value", 2, 46),
    ('"mk,kn->mn"', '"mk\\q"', "bad string: Invalid \\escape", 2, 46),
    ("f32[64]) {\n  %0", "f32[65]) {\n  %0", "the output returned here is f32[64]", 1, 88),
    ("= %w", "= %s", "", 0, 0),  # a type clash is the verifier's business
    ("return %w, %rows", "return %w", "2 outputs are declared and 1 returned", 11, 1),
    ("%rows\n}", "%rows\n}}", "expected the end of the text", 11, 2),
    ("graph @dense", "graphs @dense", "expected 'graph'", 1, 1),
    ("-> (f32[8", "(f32[8", "expected '->'", 1, 68),
]


@pytest.mark.parametrize(("old", "new", "message", "line", "column"), ERRORS)
def test_errors_point_at_the_fault(old, new, message, line, column):
    text = DENSE.replace(old, new, 1)
    assert text != DENSE
    if not message:
        parse_graph(text)
        return
    with pytest.raises(ir.ParseError) as caught:
        parse_graph(text)
    head, shown, caret = str(caught.value).split("\n")
    assert head.startswith(f"line {line}, column {column}: {message}")
    assert shown == text.split("\n")[line - 1]
    assert caret == " " * (column - 1) + "^"


@pytest.mark.parametrize("cut", range(0, len(DENSE), 7))
def test_cut_off_text_is_refused(cut):
    with pytest.raises(ir.ParseError):
        parse_graph(DENSE[:cut])
