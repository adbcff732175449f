"""The driver of rewrite rules: what `simplify` runs its tables with.

A rule looks at one operation about to be built and gives the value to use in its place, or None:

    rule(b, site) -> Value | None

`b` builds through the same rules, so what a rule makes is itself simplified.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Node, Value, types_of
from braze.ir.op import AttributeValue, Op, op_named
from braze.ir.types import Shape, TensorType


@dataclass(frozen=True, slots=True)
class Site:
    """An operation about to be built: its operands are values of the new graph."""

    op: Op
    operands: tuple[Value, ...]
    attributes: dict[str, AttributeValue]
    type: TensorType

    def ints(self, name: str) -> tuple[int, ...]:
        value = self.attributes[name]
        assert isinstance(value, tuple)
        return value


Rule = Callable[["RuleBuilder", Site], Value | None]
Rules = Mapping[str, Sequence[Rule]]


def rewrite(graph: Graph, rules: Rules, shared: Callable[[Op], Sequence[Rule]]) -> Graph:
    """Apply rules everywhere until none fires.

    One walk does: a rule looks at an operation and at what its operands are made of, and to those
    no rule applies any more.

    Args:
        rules: op name -> the rules tried for it, in order.
        shared: rules tried after those, for every op of a kind.
    """
    new = RuleBuilder(graph, rules, shared)
    new.run()
    return new.done() if new.fired else graph


class RuleBuilder(Rewriter):
    """A rewriter that tries rules before it appends a node."""

    def __init__(
        self, old: Graph, rules: Rules, shared: Callable[[Op], Sequence[Rule]]
    ) -> None:
        super().__init__(old)
        self.rules = rules
        self.shared = shared
        self.fired = 0

    def run(self) -> None:
        for node in self.old.nodes:
            with self.at(node.location):
                if len(node.results) != 1 or node.body is not None:
                    self.keep(node)
                    continue
                operands = self.operands(node)
                self.replace(node, self.build(node.op, operands, node.attributes, node))

    def build(
        self,
        op: Op,
        operands: tuple[Value, ...],
        attributes: dict[str, AttributeValue],
        node: Node | None = None,
    ) -> Value:
        if node is None:
            (result_type,) = op.result_types(types_of(operands), attributes)
        else:
            result_type = node.result.type
        site = Site(op, operands, attributes, result_type)
        for rule in (*self.rules.get(op.name, ()), *self.shared(op)):
            found = rule(self, site)
            if found is not None:
                if found.type != result_type:
                    raise AssertionError(
                        f"internal error: a rule for {op.name} gave {found.type} for {result_type}"
                    )
                self.fired += 1
                return found
        if node is None or operands != node.operands:
            node = Node(op, operands, attributes, (result_type,), self.location)
        return self.append(node).result

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        op = op_named(name)
        return lambda *operands, **attributes: self.build(
            op, tuple(self.lift(operands)), attributes
        )

    def constant_like(self, number: float | int | bool, like: TensorType) -> Value:
        """A uniform value of a type: a constant, expanded if it has dimensions."""
        value: Value = self.constant(value=number, dtype=like.dtype)
        return self.expand_to(value, like.shape)

    def expand_to(self, value: Value, shape: Shape) -> Value:
        """`value` broadcast to a shape."""
        if value.shape == shape:
            return value
        expanded: Value = self.expand(value, shape=shape)
        return expanded

    def reshape_to(self, value: Value, shape: Shape) -> Value:
        """`value` under another shape."""
        if value.shape == shape:
            return value
        reshaped: Value = self.reshape(value, shape=shape)
        return reshaped


def made_by(value: Value, *names: str) -> bool:
    """Is the value the result of one of these operations?"""
    return value.node is not None and value.node.op.name in names


def constant_number(value: Value) -> float | int | bool | None:
    """The number that every element of a value is, if that is known."""
    while value.node is not None:
        node = value.node
        if node.op.category == "creation" and not node.operands and "value" in node.attributes:
            number = node.attributes["value"]
            assert isinstance(number, (bool, int, float))
            return number
        if not made_by(value, "expand", "reshape", "permute"):
            return None
        value = node.operands[0]
    return None
