"""Read the text form of a graph. In: text by the grammar in `braze.ir.printer`. Out: the graph, or
a ParseError.

The parser checks what it needs to build the graph: the grammar, that values are defined before they
are read, that ops exist. What a well-formed graph must further hold to is the verifier's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from braze.ir.dtypes import DType, dtype_named
from braze.ir.errors import ParseError
from braze.ir.graph import ROLES, Graph, Location, Node, Role, Value
from braze.ir.op import AttributeKind, AttributeValue, Op, op_named
from braze.ir.printer import LOCATION, NAME
from braze.ir.symint import SymInt, is_symbolic
from braze.ir.types import TensorType, symbolic_type, tensor_type

SPACE = re.compile(r"[ \t\r\n]*")
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
NUMBER = re.compile(r"[+-]?(?:(?:inf|nan)\b|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
INTEGER = re.compile(r"[+-]?\d+")
VALUE = re.compile(rf"%(?:\d+|{NAME.pattern}|{STRING.pattern})", re.ASCII)
DEVICE = re.compile(r"[\w:]+", re.ASCII)
COMMENT = re.compile(r"[ \t]*#[ \t]*([^\n]*)")
QUOTED_LOCATION = re.compile(rf"({STRING.pattern}):(\d+)(?: in ({STRING.pattern}))?")


def parse_graph(text: str) -> Graph:
    """The graph that a text describes; ``parse_graph(str(graph))`` is the same graph again.

    Raises:
        ParseError: the text does not follow the grammar; the message gives line, column and a
            caret.
    """
    scanner = Scanner(text)
    graph, _ = _graph(scanner)
    scanner.finish()
    return graph


# Scanning -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Scanner:
    """A position in a text. Blanks and line ends separate tokens and mean nothing else.

    Attributes:
        symbols: what to read for the integers that begin at some positions.
        used: the positions of those read so far.
    """

    text: str
    position: int = 0
    symbols: Mapping[int, SymInt] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)

    def fail(self, message: str, position: int | None = None) -> NoReturn:
        """Raise a ParseError at a position (default: the next token)."""
        if position is None:
            self.skip()
            position = self.position
        start = self.text.rfind("\n", 0, position) + 1
        end = self.text.find("\n", position)
        line = self.text[start : end if end >= 0 else len(self.text)]
        number = self.text.count("\n", 0, position) + 1
        caret = "".join("\t" if c == "\t" else " " for c in line[: position - start]) + "^"
        raise ParseError(
            f"line {number}, column {position - start + 1}: {message}\n{line}\n{caret}"
        )

    def skip(self) -> None:
        found = SPACE.match(self.text, self.position)
        if found is not None:
            self.position = found.end()

    def accept(self, token: str) -> bool:
        """Consume a token if it comes next. A word must end where the token does."""
        self.skip()
        end = self.position + len(token)
        if not self.text.startswith(token, self.position):
            return False
        if token[-1].isalnum() and end < len(self.text):
            after = self.text[end]
            if after.isalnum() or after == "_":
                return False
        self.position = end
        return True

    def expect(self, token: str) -> None:
        if not self.accept(token):
            self.fail(f"expected {token!r}")

    def looking_at(self, pattern: re.Pattern[str]) -> bool:
        self.skip()
        return pattern.match(self.text, self.position) is not None

    def take(self, pattern: re.Pattern[str], what: str) -> str:
        """Consume what a pattern matches."""
        self.skip()
        found = pattern.match(self.text, self.position)
        if found is None:
            self.fail(f"expected {what}")
        self.position = found.end()
        return found[0]

    def integer(self) -> int:
        return self.number(self.take(INTEGER, "an integer"))

    def number(self, token: str) -> int:
        """The integer that a token just taken is."""
        symbol = self._symbol(token)
        return int(token) if symbol is None else symbol

    def symbols_from(self, start: int) -> tuple[object, ...]:
        """What was read for integers since a position, by the distance from it."""
        if not self.symbols:
            return ()
        found = ((at - start, self.symbols.get(at)) for at in range(start, self.position))
        return tuple((at, symbol.form) for at, symbol in found if symbol is not None)

    def float(self, token: str) -> float:
        """The number that a token just taken is; a whole one may be symbolic."""
        symbol = self._symbol(token) if token.endswith(".0") else None
        return float(token) if symbol is None else symbol

    def _symbol(self, token: str) -> int | None:
        """What is to be read for a token just taken, with its sign."""
        start = self.position - len(token.lstrip("+-"))
        symbol = self.symbols.get(start)
        if symbol is None:
            return None
        self.used.add(start)
        return -symbol if token[0] == "-" else symbol

    def string(self) -> str:
        self.skip()
        start = self.position
        try:
            value = json.loads(self.take(STRING, "a string"))
        except json.JSONDecodeError as error:
            self.fail(f"bad string: {error.msg}", start)
        return str(value)

    def finish(self) -> None:
        self.skip()
        if self.position < len(self.text):
            self.fail("expected the end of the text")


# Types, values, attributes ------------------------------------------------------------------------


def parse_dtype(scanner: Scanner) -> DType:
    """A dtype by its IR name."""
    scanner.skip()
    start = scanner.position
    name = scanner.take(NAME, "a dtype")
    try:
        return dtype_named(name)
    except KeyError:
        scanner.fail(f"no dtype is called {name!r}", start)


def parse_type(scanner: Scanner) -> TensorType:
    """A type such as ``f32[64,784]``."""
    dtype = parse_dtype(scanner)
    scanner.expect("[")
    shape = _integers(scanner, "]")
    if any(size < 0 for size in shape):
        scanner.fail("sizes must not be negative")
    device = scanner.take(DEVICE, "a device") if scanner.accept("@") else "cpu"
    return (symbolic_type if is_symbolic(*shape) else tensor_type)(dtype, shape, device)


def parse_name(scanner: Scanner, sigil: str) -> str:
    """A plain or quoted name after `%` or `@`."""
    scanner.expect(sigil)
    if scanner.looking_at(STRING):
        return scanner.string()
    return scanner.take(NAME, "a name")


def _integers(scanner: Scanner, end: str) -> tuple[int, ...]:
    """Integers separated by commas, up to and with the closing bracket."""
    found: list[int] = []
    while not scanner.accept(end):
        if found:
            scanner.expect(",")
        found.append(scanner.integer())
    return tuple(found)


def _attribute(scanner: Scanner, kind: AttributeKind) -> AttributeValue:
    """One attribute's value; the declaration's kind tells dtypes from other words."""
    if scanner.accept("true"):
        return True
    if scanner.accept("false"):
        return False
    if scanner.looking_at(STRING):
        return scanner.string()
    if scanner.accept("("):
        return _integers(scanner, ")")
    if kind is DType:
        return parse_dtype(scanner)
    number = scanner.take(NUMBER, "a value")
    return scanner.number(number) if INTEGER.fullmatch(number) else float(number)


def parse_attributes(scanner: Scanner, op: Op) -> dict[str, AttributeValue]:
    """The attributes of an operation, up to and with the closing parenthesis."""
    found: dict[str, AttributeValue] = {}
    while not scanner.accept(")"):
        if found:
            scanner.expect(",")
        scanner.skip()
        start = scanner.position
        name = scanner.take(NAME, "an attribute or ')'")
        if name not in op.attributes:
            known = ", ".join(op.attributes) or "none"
            scanner.fail(f"{op.name} has no attribute {name!r}; it has: {known}", start)
        if name in found:
            scanner.fail(f"attribute {name!r} is given twice", start)
        scanner.expect("=")
        found[name] = _attribute(scanner, op.attributes[name])
    return found


def parse_location(scanner: Scanner) -> Location | None:
    """The comment at the end of a line, if there is one."""
    found = COMMENT.match(scanner.text, scanner.position)
    if found is None:
        return None
    scanner.position = found.end()
    text = found[1].rstrip()
    quoted = QUOTED_LOCATION.fullmatch(text)
    if quoted is not None:
        scope = json.loads(quoted[3]) if quoted[3] else ""
        return Location(json.loads(quoted[1]), int(quoted[2]), scope)
    plain = LOCATION.fullmatch(text)
    if plain is None:
        scanner.fail("expected a location, file:line", found.start(1))
    return Location(plain[1], int(plain[2]), plain[3] or "")


# Graphs -------------------------------------------------------------------------------------------


class Scope:
    """The values of one graph by the text that names them."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}

    def define(self, scanner: Scanner, token: str, value: Value, start: int) -> None:
        if token in self.values:
            scanner.fail(f"{token} is defined twice", start)
        self.values[token] = value
        name = token[1:]
        if name.startswith('"'):
            value.name = json.loads(name)
        elif not name.isdigit():
            value.name = name

    def read(self, scanner: Scanner) -> Value:
        scanner.skip()
        start = scanner.position
        token = scanner.take(VALUE, "a value")
        if token not in self.values:
            scanner.fail(f"{token} is not defined before this", start)
        return self.values[token]


def _token(scanner: Scanner) -> tuple[str, int]:
    """A value's text where it is defined, and where that stands."""
    scanner.skip()
    start = scanner.position
    return scanner.take(VALUE, "a value"), start


def _inputs(scanner: Scanner, graph: Graph, scope: Scope) -> None:
    scanner.expect("(")
    while not scanner.accept(")"):
        if graph.inputs:
            scanner.expect(",")
        token, start = _token(scanner)
        scanner.expect(":")
        value = Value(parse_type(scanner))
        scope.define(scanner, token, value, start)
        role: Role = "data"
        if scanner.looking_at(NAME):
            start = scanner.position
            word = scanner.take(NAME, "a role")
            known = [r for r in ROLES if r == word]
            if not known:
                scanner.fail(f"unknown role {word!r}; known are {', '.join(ROLES)}", start)
            role = known[0]
        graph.inputs.append(value)
        graph.roles.append(role)


def _outputs(scanner: Scanner, graph: Graph, scope: Scope) -> list[tuple[TensorType, int]]:
    """The types in the signature, with their positions in the text."""
    outputs: list[tuple[TensorType, int]] = []
    scanner.expect("(")
    while not scanner.accept(")"):
        if outputs:
            scanner.expect(",")
        scanner.skip()
        start = scanner.position
        outputs.append((parse_type(scanner), start))
        if scanner.accept("="):
            scanner.skip()
            start = scanner.position
            value = scope.read(scanner)
            if value not in graph.inputs:
                scanner.fail("an output can only take the storage of an input", start)
            graph.aliases[len(outputs) - 1] = graph.inputs.index(value)
    return outputs


def _graph(scanner: Scanner) -> tuple[Graph, Location | None]:
    """A graph, and the location that stands after its opening brace."""
    scanner.expect("graph")
    graph, scope = Graph(parse_name(scanner, "@")), Scope()
    _inputs(scanner, graph, scope)
    scanner.expect("->")
    declared = _outputs(scanner, graph, scope)
    scanner.expect("{")
    location = parse_location(scanner)
    while not scanner.accept("return"):
        graph.nodes.append(_node(scanner, scope))
    while not scanner.accept("}"):
        if graph.outputs:
            scanner.expect(",")
        graph.outputs.append(scope.read(scanner))
    if len(declared) != len(graph.outputs):
        message = f"{len(declared)} outputs are declared and {len(graph.outputs)} returned"
        scanner.fail(message, scanner.position - 1)
    for (type, start), value in zip(declared, graph.outputs, strict=True):
        if type != value.type:
            scanner.fail(f"the output returned here is {value.type}", start)
    return graph, location


def _node(scanner: Scanner, scope: Scope) -> Node:
    tokens: list[tuple[str, int]] = []
    types: list[TensorType] = []
    if scanner.looking_at(VALUE):
        tokens.append(_token(scanner))
        while scanner.accept(","):
            tokens.append(_token(scanner))
        scanner.expect(":")
        types.append(parse_type(scanner))
        while scanner.accept(","):
            types.append(parse_type(scanner))
        if len(types) != len(tokens):
            scanner.fail(f"{len(tokens)} results have {len(types)} types", tokens[0][1])
        scanner.expect("=")
    scanner.skip()
    start = scanner.position
    name = scanner.take(NAME, "an operation")
    try:
        op = op_named(name)
    except KeyError:
        scanner.fail(f"no op is called {name!r}", start)
    operands: list[Value] = []
    scanner.expect("(")
    if scanner.looking_at(VALUE):
        operands.append(scope.read(scanner))
        while scanner.accept(","):
            operands.append(scope.read(scanner))
    scanner.accept(";")
    attributes: dict[str, Any] = parse_attributes(scanner, op)
    body, location = None, parse_location(scanner)
    if location is None and scanner.accept("graph"):
        scanner.position -= len("graph")
        body, location = _graph(scanner)
    node = Node(op, operands, attributes, types, location, body)
    for (token, start), value in zip(tokens, node.results, strict=True):
        scope.define(scanner, token, value, start)
    return node
