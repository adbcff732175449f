"""Each rule of the verifier refuses a graph that breaks it, and shows where."""

import pytest
from graphs import random_graph

import braze.ir as ir
from braze.ir.graph import Node, Value
from braze.ir.parser import parse_graph
from braze.ir.verifier import RULES, find_fault, verify

TEXT = """\
graph @net(%x: f32[4,3], %w: f32[3] param, %s: f32[] scalar) -> (f32[3] = %w, f32[4]) {
  %y: f32[4,3] = mul(%x, %w)  # train.py:7 in net
  %new: f32[3] = sum(%y; dims=(0), keepdim=false)
  %0: f32[4] = fusion(%y; kind="reduce") graph @rows(%0: f32[4,3]) -> (f32[4]) {
    %1: f32[4] = sum(%0; dims=(1), keepdim=false)
    return %1
  }
  %a, %b: f32[4], f32[4] = fusion(%0; kind="pointwise") graph @two(%0: f32[4]) -> (f32[4], f32[4]) {
    %1: f32[4] = neg(%0)
    %2: f32[4] = exp(%0)
    return %1, %2
  }
  return %new, %a
}"""


@pytest.fixture
def graph():
    return parse_graph(TEXT)


def fault(graph, message, pointed_at):
    """The graph is refused with this message, and the caret marks this text."""
    with pytest.raises(ir.VerifyError) as caught:
        verify(graph, after="the test")
    head, *shown = str(caught.value).split("\n")
    assert head == f"graph @net after the test: {message}"
    caret = next(i for i, line in enumerate(shown) if line.strip() and not line.strip(" ^"))
    column = shown[caret].index("^")
    assert shown[caret - 1][column : len(shown[caret])] == pointed_at
    assert len(shown) <= 8


def test_a_right_graph_passes(graph):
    assert verify(graph) is None and find_fault(graph) is None


@pytest.mark.parametrize("seed", range(100))
def test_random_graphs_pass(seed):
    verify(random_graph(seed))


def test_the_context_is_shown(graph):
    graph.nodes[1].attributes = {"dims": (5,), "keepdim": False}
    with pytest.raises(ir.VerifyError) as caught:
        verify(graph)
    assert str(caught.value) == (
        "graph @net: sum does not take these operands: [sum] dimension 5 is outside f32[4,3]\n"
        "graph @net(%x: f32[4,3], %w: f32[3] param, %s: f32[] scalar)"
        " -> (f32[3] = %w, f32[4]) {\n"
        "  %y: f32[4,3] = mul(%x, %w)  # train.py:7 in net\n"
        "  %new: f32[3] = sum(%y; dims=(5), keepdim=false)\n"
        "                 ^^^\n"
        '  %0: f32[4] = fusion(%y; kind="reduce") graph @rows(%0: f32[4,3]) -> (f32[4]) {\n'
        "    %1: f32[4] = sum(%0; dims=(1), keepdim=false)\n"
        "    return %1"
    )


# Inputs -------------------------------------------------------------------------------------------


def test_every_input_has_a_role(graph):
    graph.roles.pop()
    fault(graph, "3 inputs have 2 roles", "%s: f32[]")


def test_roles_are_known(graph):
    graph.roles[1] = "weights"
    message = "input 1 has the unknown role 'weights'; known are data, param, buffer, scalar, const"
    fault(graph, message, "%w: f32[3] weights")


def test_scalars_have_no_dimensions(graph):
    graph.roles[0] = "scalar"
    fault(graph, "input 0 is a scalar and must be 0-d, not f32[4,3]", "%x: f32[4,3] scalar")


def test_inputs_are_no_results(graph):
    graph.inputs.append(graph.nodes[0].result)
    graph.roles.append("data")
    fault(graph, "input 3 is the result of a node", "%y: f32[4,3]")


def test_inputs_are_distinct(graph):
    graph.inputs.append(graph.inputs[0])
    graph.roles.append("data")
    fault(graph, "input 3 is the same value as an earlier one", "%x: f32[4,3]")


# Order --------------------------------------------------------------------------------------------


def test_values_are_defined_before_they_are_read(graph):
    graph.nodes[0], graph.nodes[1] = graph.nodes[1], graph.nodes[0]
    fault(graph, "operand 0 of sum is defined later", "%?y")


def test_values_of_another_graph_are_refused(graph):
    other = parse_graph(TEXT)
    graph.nodes[0].operands = (graph.inputs[0], other.inputs[1])
    fault(graph, "operand 1 of mul is not defined in this graph", "%?w")


def test_values_are_defined_once(graph):
    graph.nodes.insert(1, graph.nodes[0])
    fault(graph, "result 0 of mul is defined twice", "%y")


def test_results_know_their_node(graph):
    first, second = graph.nodes[3].results
    first.index, second.index = 1, 0
    fault(graph, "result 0 of fusion claims to be another node's result", "%a")
    first.index, second.index = 0, 1
    graph.nodes[1].result.node = graph.nodes[0]
    fault(graph, "result 0 of sum claims to be another node's result", "%new")


# Nodes --------------------------------------------------------------------------------------------


def test_operand_counts(graph):
    graph.nodes[0].operands = graph.inputs[:1]
    fault(graph, "mul takes 2 operands, given 1", "mul")
    graph.nodes[0].operands = (*graph.inputs[:2], graph.inputs[0])
    fault(graph, "mul takes 2 operands, given 3", "mul")


def test_variadic_ops_take_at_least_one(graph):
    concat = Node(ir.op_named("concat"), [], {"dim": 0}, [ir.tensor_type(ir.f32, (3,))])
    graph.nodes.append(concat)
    fault(graph, "concat takes at least 1 operands, given 0", "concat")


def test_attributes_are_those_of_the_op(graph):
    graph.nodes[1].attributes = {"dims": (0,)}
    fault(graph, "[sum] attributes are ['dims', 'keepdim'], given ['dims']", "sum")


def test_attributes_have_their_type(graph):
    graph.nodes[1].attributes = {"dims": (0,), "keepdim": 0}
    fault(graph, "[sum] attribute keepdim must be bool, given 0", "keepdim=0")
    graph.nodes[1].attributes = {"dims": (0.0,), "keepdim": False}
    fault(graph, "[sum] attribute dims must be tuple of int, given (0.0,)", "dims=(0.0)")


def test_operands_suit_the_op(graph):
    graph.nodes[0].operands = (graph.inputs[0], Value(ir.tensor_type(ir.f32, (5,))))
    graph.inputs[1] = graph.nodes[0].operands[1]
    message = (
        "mul does not take these operands: [mul] shapes do not broadcast: f32[4,3], f32[5] "
        "(3 != 5 at dimension -1)"
    )
    fault(graph, message, "mul")


def test_result_types_follow_from_the_op(graph):
    graph.nodes[1].result.type = ir.tensor_type(ir.f64, (3,))
    fault(graph, "result 0 of sum is f64[3], its rule gives f32[3]", "%new")


def test_result_counts_follow_from_the_op(graph):
    graph.nodes[1].results += (Value(ir.tensor_type(ir.f32), graph.nodes[1], 1),)
    fault(graph, "sum has 2 results, its rule gives 1", "sum")


# Fusions ------------------------------------------------------------------------------------------


def test_a_fusion_has_a_body(graph):
    graph.nodes[2].body = None
    fault(graph, "fusion has no body", "fusion")


def test_only_a_fusion_has_a_body(graph):
    graph.nodes[1].body = graph.nodes[2].body
    fault(graph, "sum has a body, which only a fusion may have", "sum")


def test_a_fusion_has_its_body_s_types(graph):
    graph.nodes[3].results[1].type = ir.tensor_type(ir.f64, (4,))
    fault(graph, "result 1 of fusion is f64[4], its rule gives f32[4]", "%b")


def test_a_fusion_s_operands_are_its_body_s_inputs(graph):
    graph.nodes[2].operands = (graph.inputs[0], graph.inputs[1])
    fault(graph, "the fusion has 2 operands, its body 1 inputs", "fusion")
    graph.nodes[2].operands = (graph.inputs[1],)
    fault(graph, "operand 0 is f32[3], the body's input is f32[4,3]", "%w")


def test_a_body_holds_primitives(graph):
    body = graph.nodes[3].body
    body.nodes.append(graph.nodes[2])
    fault(graph, "fusion is inside a fusion, which holds primitives only", "fusion")


def test_a_body_follows_the_rules(graph):
    body = graph.nodes[3].body
    body.nodes.reverse()
    body.nodes[1].operands = (body.nodes[0].result,)
    verify(graph)
    body.nodes.reverse()
    fault(graph, "operand 0 of neg is defined later", "%?")


def test_a_body_has_no_aliases(graph):
    graph.nodes[3].body.aliases = {0: 0}
    fault(graph, "a fusion's body has aliases", "f32[4] = %0")


# Outputs, aliases, names --------------------------------------------------------------------------


def test_outputs_are_values_of_the_graph(graph):
    graph.outputs[1] = graph.nodes[3].body.outputs[0]
    fault(graph, "output 1 is not defined in this graph", "%?")


@pytest.mark.parametrize(
    ("aliases", "message", "pointed_at"),
    [
        ({0: 7}, "output 0 aliases input 7, but there are 3", "f32[3] = %?"),
        (
            {1: 1},
            "output 1 and the input 1 it aliases differ in type: f32[4] and f32[3]",
            "f32[4] = %w",
        ),
    ],
)
def test_aliases_fit(graph, aliases, message, pointed_at):
    graph.aliases = aliases
    fault(graph, message, pointed_at)


def test_aliases_are_of_outputs(graph):
    graph.aliases = {5: 1}
    with pytest.raises(ir.VerifyError, match="alias of output 5, but there are 2 outputs"):
        verify(graph)


def test_an_input_is_overwritten_once(graph):
    graph.outputs.append(graph.outputs[0])
    graph.aliases[2] = 1
    fault(graph, "outputs 0 and 2 alias the same input 1", "f32[3] = %w")


def test_scalars_and_constants_are_not_overwritten(graph):
    graph.roles[1] = "const"
    fault(graph, "output 0 aliases input 1, a const", "f32[3] = %w")


def test_names_are_used_once(graph):
    graph.nodes[1].result.name = "y"
    fault(graph, "the name 'y' is used twice", "%y_2")
    graph.nodes[1].result.name = None
    graph.inputs[2].name = "x"
    fault(graph, "the name 'x' is used twice", "%x_2: f32[] scalar")


def test_every_rule_is_tried(graph):
    """A rule that is not in the list never runs."""
    import braze.ir.verifier as module

    rules = {f for name, f in vars(module).items() if name.startswith("check_")}
    assert rules - {ir.op.check_attributes} == set(RULES)
