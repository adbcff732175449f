"""Check that a graph follows the rules of the IR. In: a graph. Out: nothing, or a VerifyError that
shows the fault.

Each rule is one function below, which gives the first fault it finds. The rules, in the order in
which they are tried: roles fit the inputs; every value is defined once, before it is read; nodes
own their results; operand counts fit the op; attributes fit its declaration; result types are what
the op's rule says; only fusion nodes have bodies, and these hold primitives and fit their node;
outputs are defined; aliases fit; no name is used twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from braze.ir.errors import BrazeError, VerifyError
from braze.ir.graph import ROLES, Graph, Value, types_of
from braze.ir.op import check_attributes
from braze.ir.printer import GraphText
from braze.ir.types import TensorType

CONTEXT_LINES = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong and where: `owner`, `part` and `index` name a span of the printed text."""

    message: str
    owner: Hashable
    part: str
    index: Hashable = 0


def verify(graph: Graph, after: str = "") -> None:
    """Check every rule of the IR.

    Args:
        after: what made the graph (a pass), for the message.

    Raises:
        VerifyError: a rule is broken; the message shows the text around the fault, with a caret.
    """
    fault = find_fault(graph)
    if fault is not None:
        raise VerifyError(explain_fault(graph, fault, after))


def find_fault(graph: Graph) -> Fault | None:
    """The first broken rule, or None."""
    for rule in RULES:
        fault = rule(graph)
        if fault is not None:
            return fault
    return None


def explain_fault(graph: Graph, fault: Fault, after: str = "") -> str:
    """The message of a VerifyError: the fault, and the lines around it with a caret."""
    text = GraphText(graph)
    span = text.spans.get((fault.owner, fault.part, fault.index))
    if span is None:
        span = text.spans.get((fault.owner, "op", 0))
    where = f" after {after}" if after else ""
    head = f"graph @{graph.name}{where}: {fault.message}"
    if span is None:
        return f"{head}\n{text.lines[0]}"
    first = max(span.line - CONTEXT_LINES, 0)
    shown = text.lines[first : span.line + 1]
    shown.append(" " * span.column + "^" * max(span.width, 1))
    shown += text.lines[span.line + 1 : span.line + 1 + CONTEXT_LINES]
    return "\n".join([head, *shown])


# The rules ----------------------------------------------------------------------------------------


def check_inputs(graph: Graph) -> Fault | None:
    """Each input has one known role; scalars are 0-d; inputs are not results of nodes."""
    if len(graph.inputs) != len(graph.roles):
        message = f"{len(graph.inputs)} inputs have {len(graph.roles)} roles"
        return Fault(message, graph, "input", max(len(graph.inputs) - 1, 0))
    seen: set[Value] = set()
    for position, (value, role) in enumerate(zip(graph.inputs, graph.roles, strict=True)):
        message = ""
        if role not in ROLES:
            message = (
                f"input {position} has the unknown role {role!r}; known are {', '.join(ROLES)}"
            )
        elif role == "scalar" and value.type.rank != 0:
            message = f"input {position} is a scalar and must be 0-d, not {value.type}"
        elif value.node is not None:
            message = f"input {position} is the result of a node"
        elif value in seen:
            message = f"input {position} is the same value as an earlier one"
        if message:
            return Fault(message, graph, "input", position)
        seen.add(value)
    return None


def check_definitions(graph: Graph) -> Fault | None:
    """A node stands once, after everything it reads."""
    defined = set(graph.inputs)
    later = {value for node in graph.nodes for value in node.results}
    for node in graph.nodes:
        for position, operand in enumerate(node.operands):
            if operand not in defined:
                reason = "is defined later" if operand in later else "is not defined in this graph"
                message = f"operand {position} of {node.op.name} {reason}"
                return Fault(message, node, "operand", position)
        for position, result in enumerate(node.results):
            if result in defined:
                message = f"result {position} of {node.op.name} is defined twice"
                return Fault(message, node, "result", position)
            defined.add(result)
    return None


def check_ownership(graph: Graph) -> Fault | None:
    """A result knows its node and its position there."""
    for node in graph.nodes:
        for position, result in enumerate(node.results):
            if result.node is not node or result.index != position:
                message = f"result {position} of {node.op.name} claims to be another node's result"
                return Fault(message, node, "result", position)
    return None


def check_operand_counts(graph: Graph) -> Fault | None:
    """As many operands as the op declares; at least one if variadic (a fusion may have none)."""
    for node in graph.nodes:
        op, given = node.op, len(node.operands)
        wanted = len(op.operands)
        if op.variadic and op.category == "fusion":
            continue
        if given < wanted or (given > wanted and not op.variadic):
            least = "at least " if op.variadic else ""
            return Fault(f"{op.name} takes {least}{wanted} operands, given {given}", node, "op")
    return None


def check_node_attributes(graph: Graph) -> Fault | None:
    """Attributes are those that the op declares, each of its type."""
    for node in graph.nodes:
        try:
            check_attributes(node.op, node.attributes)
        except BrazeError as error:
            wrong = [name for name in node.attributes if f"attribute {name} " in str(error)]
            if wrong:
                return Fault(str(error), node, "attribute", wrong[0])
            return Fault(str(error), node, "op")
    return None


def check_types(graph: Graph) -> Fault | None:
    """Result types are what the op's rule (or the fusion's body) gives for the operands."""
    for node in graph.nodes:
        if node.op.category == "fusion":
            if node.body is None:
                return Fault(f"{node.op.name} has no body", node, "op")
            expected: tuple[TensorType, ...] = types_of(node.body.outputs)
        else:
            try:
                expected = node.op.result_types(types_of(node.operands), node.attributes)
            except (BrazeError, TypeError, ValueError, IndexError) as error:
                return Fault(f"{node.op.name} does not take these operands: {error}", node, "op")
        given = types_of(node.results)
        if len(given) != len(expected):
            message = f"{node.op.name} has {len(given)} results, its rule gives {len(expected)}"
            return Fault(message, node, "op")
        for position, (one, other) in enumerate(zip(given, expected, strict=True)):
            if one != other:
                message = f"result {position} of {node.op.name} is {one}, its rule gives {other}"
                return Fault(message, node, "result", position)
    return None


def check_bodies(graph: Graph) -> Fault | None:
    """Only a fusion has a body: a graph of primitives whose inputs are the node's operands."""
    for node in graph.nodes:
        if node.body is None:
            continue
        if node.op.category != "fusion":
            return Fault(f"{node.op.name} has a body, which only a fusion may have", node, "op")
        given, wanted = types_of(node.operands), types_of(node.body.inputs)
        if len(given) != len(wanted):
            message = f"the fusion has {len(given)} operands, its body {len(wanted)} inputs"
            return Fault(message, node, "op")
        for position, (one, other) in enumerate(zip(given, wanted, strict=True)):
            if one != other:
                message = f"operand {position} is {one}, the body's input is {other}"
                return Fault(message, node, "operand", position)
        for inner in node.body.nodes:
            if inner.op.category in ("fusion", "composite"):
                message = f"{inner.op.name} is inside a fusion, which holds primitives only"
                return Fault(message, inner, "op")
        if node.body.aliases:
            return Fault("a fusion's body has aliases", node.body, "output", 0)
        fault = find_fault(node.body)
        if fault is not None:
            return fault
    return None


def check_outputs(graph: Graph) -> Fault | None:
    """Outputs are values of the graph."""
    defined = set(graph.values())
    for position, value in enumerate(graph.outputs):
        if value not in defined:
            message = f"output {position} is not defined in this graph"
            return Fault(message, graph, "return", position)
    return None


def check_aliases(graph: Graph) -> Fault | None:
    """An aliased output has its input's type, and an input is overwritten by one output at most."""
    taken: dict[int, int] = {}
    for output, source in graph.aliases.items():
        message = ""
        if not 0 <= output < len(graph.outputs):
            message = f"alias of output {output}, but there are {len(graph.outputs)} outputs"
        elif not 0 <= source < len(graph.inputs):
            message = f"output {output} aliases input {source}, but there are {len(graph.inputs)}"
        elif graph.outputs[output].type != graph.inputs[source].type:
            types = f"{graph.outputs[output].type} and {graph.inputs[source].type}"
            message = f"output {output} and the input {source} it aliases differ in type: {types}"
        elif graph.roles[source] in ("scalar", "const"):
            message = f"output {output} aliases input {source}, a {graph.roles[source]}"
        elif source in taken:
            message = f"outputs {taken[source]} and {output} alias the same input {source}"
        if message:
            return Fault(message, graph, "output", output)
        taken[source] = output
    return None


def check_names(graph: Graph) -> Fault | None:
    """No two values share a name."""
    names: set[str] = set()
    for position, value in enumerate(graph.inputs):
        if value.name in names:
            return Fault(f"the name {value.name!r} is used twice", graph, "input", position)
        if value.name is not None:
            names.add(value.name)
    for node in graph.nodes:
        for position, value in enumerate(node.results):
            if value.name in names:
                return Fault(f"the name {value.name!r} is used twice", node, "result", position)
            if value.name is not None:
                names.add(value.name)
    return None


RULES: tuple[Callable[[Graph], Fault | None], ...] = (
    check_inputs,
    check_definitions,
    check_ownership,
    check_operand_counts,
    check_node_attributes,
    check_types,
    check_bodies,
    check_outputs,
    check_aliases,
    check_names,
)
