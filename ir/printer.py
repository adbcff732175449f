"""Print a graph as text. In: a graph, right or broken. Out: its text, and where in it each part
stands.

The grammar, which `braze.ir.parser` reads back to the same graph:

    graph     = "graph" "@" name "(" [input {"," input}] ")" "->" "(" [output {"," output}] ")"
                "{" {node} "return" [value {"," value}] "}"
    input     = value ":" type [role]              a role that is not written is `data`
    output    = type ["=" value]                   `= %w`: written to the storage of input %w
    node      = [value {"," value} ":" type {"," type} "="] op "(" [value {"," value}]
                [[";"] attribute {"," attribute}] ")" [graph] ["#" location]
                                                   the ";" stands between operands and attributes
    attribute = name "=" (true | false | integer | float | "string" | dtype | integers)
    integers  = "(" [integer {"," integer}] ")"
    type      = dtype "[" [integer {"," integer}] "]" ["@" device]
    value     = "%" (name | number)                a number stands for a value without a name
    name      = letters, digits, "_", "." not starting with a digit, or a quoted string
    location  = file ":" line ["in" scope]         file and scope quoted where they would be unclear

A fusion node's body follows it as a nested graph with names of its own; the node's location then
stands after the brace that opens the body. Example:

    graph @dense(%x: f32[64,784], %w: f32[784,10] param) -> (f32[64]) {
      %0: f32[64,10] = contract(%x, %w; equation="mk,kn->mn")  # train.py:12 in net.fc
      %1: f32[64] = fusion(%0; kind="reduce") graph @sum(%0: f32[64,10]) -> (f32[64]) {  # a.py:1
        %1: f32[64] = sum(%0; dims=(1), keepdim=false)
        return %1
      }
      return %1
    }
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from dataclasses import dataclass, field

from braze.ir.dtypes import DType
from braze.ir.graph import Graph, Location, Node, Value
from braze.ir.op import AttributeValue

NAME = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
LOCATION = re.compile(r"([^\"\s][^\"\n]*?):(\d+)(?: in ([^\"\n]*[^\"\s]))?")


def print_graph(graph: Graph) -> str:
    """The text of a graph, without a newline at its end.

    Unnamed values are numbered; a name that two values share gets a suffix, so that the text stays
    unambiguous even for a graph that `verify` refuses.
    """
    return str(GraphText(graph))


def print_attribute(value: AttributeValue) -> str:
    """An attribute's value as the text form writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, DType):
        return value.name
    if isinstance(value, tuple):
        return f"({','.join(map(str, value))})"
    return repr(value)


def print_location(location: Location) -> str:
    """`file:line in scope`; file and scope are quoted where the plain form would not read back."""
    plain = str(location)
    found = LOCATION.fullmatch(plain)
    if found and (found[1], found[3] or "") == (location.file, location.scope):
        return plain
    scope = f" in {json.dumps(location.scope)}" if location.scope else ""
    return f"{json.dumps(location.file)}:{location.line}{scope}"


def quote_name(name: str) -> str:
    """A name as it follows `%` or `@`."""
    return name if NAME.fullmatch(name) else json.dumps(name)


@dataclass(slots=True)
class Names:
    """The names of a graph's values in its text."""

    of: dict[Value, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    count: int = 0

    def define(self, value: Value) -> str:
        """Name a value where it is defined."""
        if value in self.of:
            return self.of[value]
        if value.name is None:
            name = str(self.count)
            self.count += 1
        else:
            name, attempt = quote_name(value.name), 1
            while name in self.taken:
                attempt += 1
                name = quote_name(f"{value.name}_{attempt}")
        self.taken.add(name)
        self.of[value] = f"%{name}"
        return self.of[value]

    def use(self, value: Value) -> str:
        """The name of a value where it is read; `%?` for one that is not defined."""
        return self.of.get(value, f"%?{value.name or ''}")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the text: line and column from 0, and its width."""

    line: int
    column: int
    width: int


class GraphText:
    """The text of a graph together with where its parts stand in it.

    Attributes:
        lines: the text.
        spans: (graph or node, part, index) -> where it is. Parts are "input", "output" (in the
            signature),
            "return" of a graph and "result", "op", "operand", "attribute" (index: its name) of a
            node.
    """

    def __init__(self, graph: Graph) -> None:
        self.lines: list[str] = [""]
        self.spans: dict[tuple[Hashable, str, Hashable], Span] = {}
        self._graph(graph, "", None)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _write(self, text: str) -> None:
        self.lines[-1] += text

    def _mark(self, text: str, owner: Hashable, part: str, index: Hashable = 0) -> None:
        span = Span(len(self.lines) - 1, len(self.lines[-1]), len(text))
        self.spans.setdefault((owner, part, index), span)
        self._write(text)

    def _list(self, texts: list[str], owner: Hashable, part: str) -> None:
        for index, text in enumerate(texts):
            self._write(", " if index else "")
            self._mark(text, owner, part, index)

    def _newline(self, indent: str) -> None:
        self.lines.append(indent)

    def _location(self, location: Location | None) -> None:
        if location is not None:
            self._write(f"  # {print_location(location)}")

    def _graph(self, graph: Graph, indent: str, location: Location | None) -> None:
        """Write a graph at the current position; inner lines start at `indent`."""
        names = Names()
        self._write(f"graph @{quote_name(graph.name)}(")
        inputs = []
        for position, value in enumerate(graph.inputs):
            role = graph.roles[position] if position < len(graph.roles) else "data"
            suffix = "" if role == "data" else f" {role}"
            inputs.append(f"{names.define(value)}: {value.type}{suffix}")
        self._list(inputs, graph, "input")
        self._write(") -> (")
        outputs = []
        for position, value in enumerate(graph.outputs):
            alias = graph.aliases.get(position)
            suffix = "" if alias is None else " = %?"
            if alias is not None and 0 <= alias < len(graph.inputs):
                suffix = f" = {names.use(graph.inputs[alias])}"
            outputs.append(f"{value.type}{suffix}")
        self._list(outputs, graph, "output")
        self._write(") {")
        self._location(location)
        for node in graph.nodes:
            self._newline(f"{indent}  ")
            self._node(node, names, f"{indent}  ")
        self._newline(f"{indent}  ")
        self._write("return ")
        if graph.outputs:
            self._list([names.use(value) for value in graph.outputs], graph, "return")
        else:
            self.lines[-1] = self.lines[-1].rstrip()
        self._newline(f"{indent}}}")

    def _node(self, node: Node, names: Names, indent: str) -> None:
        operands = [names.use(value) for value in node.operands]
        if node.results:
            self._list([names.define(value) for value in node.results], node, "result")
            types = ", ".join(str(value.type) for value in node.results)
            self._write(f": {types} = ")
        self._mark(node.op.name, node, "op")
        self._write("(")
        self._list(operands, node, "operand")
        separator = "; " if operands else ""
        for name, value in node.attributes.items():
            self._write(separator)
            separator = ", "
            self._mark(f"{name}={print_attribute(value)}", node, "attribute", name)
        self._write(")")
        if node.body is None:
            self._location(node.location)
        else:
            self._write(" ")
            self._graph(node.body, indent, node.location)
