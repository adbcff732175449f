"""Turn groups into fusion nodes: what a group computes is copied into the node's body.

A body holds the group's members and whatever lies between them and what they read (movements,
constants, arithmetic on single numbers). Its inputs are the values that other kernels or the caller
provide.
"""

from __future__ import annotations

from braze.ir.graph import Graph, Node, Value, types_of
from braze.ir.op import op_named
from braze.passes.fusion_rules import Rules
from braze.passes.groups import Group, Reads

LONGEST_NAME = 48


def build_fused_graph(reads: Reads, rules: Rules, groups: list[Group]) -> Graph:
    """The graph with one fusion node for each group, in the given order."""
    old = reads.graph
    new = Graph(old.name)
    made: dict[Value, Value] = {}
    for value, role in zip(old.inputs, old.roles, strict=True):
        made[value] = Value(value.type, name=value.name)
        new.inputs.append(made[value])
        new.roles.append(role)
    for group in groups:
        outputs = rules.outputs(group)
        if not outputs:  # collectives run whether anybody reads their results or not
            outputs = [r for n in group.members if n.op.is_collective for r in n.results]
        if not outputs and all(node.results for node in group.members):
            continue
        body, operands = _Body(reads, group).build(outputs)
        location = next((n.location for n in group.members if n.location), None)
        node = Node(
            op_named("fusion"),
            [made[value] for value in operands],
            {"kind": _kind(group, outputs)},
            types_of(body.outputs),
            location,
            body,
        )
        new.nodes.append(node)
        for before, after in zip(outputs, node.results, strict=True):
            after.name = before.name
            made[before] = after
    _finish(old, new, made)
    return new


def _finish(old: Graph, new: Graph, made: dict[Value, Value]) -> None:
    """Give every output a value of its own: an input handed back, or a value twice, is copied."""
    inputs = set(new.inputs)
    taken: set[Value] = set()
    for position, value in enumerate(old.outputs):
        result = made[value]
        alias = old.aliases.get(position)
        stays = alias is not None and result is new.inputs[alias]
        if result in taken or (result in inputs and not stays):
            result = _copy(new, result)
        taken.add(result)
        new.outputs.append(result)
    new.aliases = dict(old.aliases)


def _copy(graph: Graph, value: Value) -> Value:
    body = Graph("copy")
    body.inputs.append(Value(value.type))
    body.roles.append("data")
    body.outputs.append(body.inputs[0])
    location = None if value.node is None else value.node.location
    node = Node(op_named("fusion"), [value], {"kind": "copy"}, [value.type], location, body)
    graph.nodes.append(node)
    return node.result


def _kind(group: Group, outputs: list[Value]) -> str:
    if group.kind != "reduce":
        return group.kind
    if "columns" in group.levels.values():
        return "columns"
    reductions = [node for node in group.members if node.op.is_reduce]
    whole = any(value.node is not None and group.levels[value.node] == "full" for value in outputs)
    return "row" if whole or len(reductions) > 1 else "reduce"


class _Body:
    """Copies one group's nodes."""

    def __init__(self, reads: Reads, group: Group) -> None:
        self.reads = reads
        self.group = group
        self.graph = Graph("")
        self.made: dict[Value, Value] = {}
        self.operands: list[Value] = []
        self.copied: set[Node] = set()
        self.stops = {
            value for (node, _), value in reads.cuts.items() if node in group.levels
        }

    def build(self, outputs: list[Value]) -> tuple[Graph, list[Value]]:
        """The body, and the old graph's values that its inputs stand for."""
        for node in self.group.members:
            if not node.results or any(result in outputs for result in node.results):
                self._copy(node)
        self.graph.outputs = [self.made[value] for value in outputs]
        names = "_".join(dict.fromkeys(n.op.name for n in self.group.members))
        self.graph.name = names[:LONGEST_NAME].rstrip("_")
        return self.graph, self.operands

    def _copy(self, node: Node) -> None:
        """Append a copy of a node after copies of what it needs."""
        stack: list[Node] = [node]
        while stack:
            node = stack[-1]
            if node in self.copied:
                stack.pop()
                continue
            missing = [
                value.node
                for value in node.operands
                if value.node is not None
                and not self._is_input(value)
                and value.node not in self.copied
            ]
            if missing:
                stack += missing
                continue
            stack.pop()
            operands = [
                self._input(value) if self._is_input(value) else self.made[value]
                for value in node.operands
            ]
            copy = Node(node.op, operands, node.attributes, types_of(node.results), node.location)
            self.graph.nodes.append(copy)
            self.copied.add(node)
            for before, after in zip(node.results, copy.results, strict=True):
                self.made.setdefault(before, after)

    def _is_input(self, value: Value) -> bool:
        """Does the body get this value from outside?"""
        if value.node is None or value in self.stops:
            return True
        return value.node not in self.group.levels and value.node not in self.reads.inlined

    def _input(self, value: Value) -> Value:
        if value not in self.made or value not in self.operands:
            self.made[value] = Value(value.type)
            self.graph.inputs.append(self.made[value])
            self.graph.roles.append("data")
            self.operands.append(value)
        return self.made[value]
