"""Let collectives work in the memory of their operands.

Needs: fusion nodes only.  Keeps: inputs, outputs, order.

Where several processes compute together, the operands of a collective that gives as many elements
as it takes are put one behind the other in memory, by `plan_memory`, and so become its result:
nothing is copied. An operand that somebody else has or reads, too, is copied first, so that every
collective has operands of its own. On a GPU, where others read and write the memory itself from the
start to the end, that is so for all kinds: what gives more or less than it takes has its operands
side by side, and its result beside them. A result that the graph gives is copied there.

Before:
    graph @g(%x: f32[16], %y: f32[16]) -> (f32[16]) {
      %0: i64[] = fusion(kind="pointwise") graph @constant() -> (i64[]) {
        %0: i64[] = constant(value=0, dtype=i64)
        return %0
      }
      %1: f32[16] = fusion(%x; kind="pointwise") graph @exp(%0: f32[16]) -> (f32[16]) {
        %1: f32[16] = exp(%0)
        return %1
      }
      %2: i64[] = fusion(%0, %1, %y; kind="host") graph @start(%0: i64[], %1: f32[16], %2: f32[16]) -> (i64[]) {
        %3: i64[] = collective_start(%0, %1, %2; kind="all_reduce", reduction="sum", group=0, root=0)
        return %3
      }
      %3: f32[32] = fusion(%2; kind="host") graph @wait(%0: i64[]) -> (f32[32]) {
        %1: f32[32] = collective_wait(%0; shape=(32), dtype=f32)
        return %1
      }
      %4: f32[16] = fusion(%3; kind="pointwise") graph @slice(%0: f32[32]) -> (f32[16]) {
        %1: f32[16] = slice(%0; starts=(16), stops=(32), steps=(1))
        return %1
      }
      return %4
    }
After:
    graph @g(%x: f32[16], %y: f32[16]) -> (f32[16]) {
      %0: i64[] = fusion(kind="pointwise") graph @constant() -> (i64[]) {
        %0: i64[] = constant(value=0, dtype=i64)
        return %0
      }
      %1: f32[16] = fusion(%x; kind="pointwise") graph @exp(%0: f32[16]) -> (f32[16]) {
        %1: f32[16] = exp(%0)
        return %1
      }
      %2: f32[16] = fusion(%y; kind="copy") graph @copy(%0: f32[16]) -> (f32[16]) {
        return %0
      }
      %3: i64[] = fusion(%0, %1, %2; kind="host") graph @start(%0: i64[], %1: f32[16], %2: f32[16]) -> (i64[]) {
        %3: i64[] = collective_start(%0, %1, %2; kind="all_reduce", reduction="sum", group=0, root=0, in_place=true)
        return %3
      }
      %4: f32[32] = fusion(%3; kind="host") graph @wait(%0: i64[]) -> (f32[32]) {
        %1: f32[32] = collective_wait(%0; shape=(32), dtype=f32)
        return %1
      }
      %5: f32[16] = fusion(%4; kind="pointwise") graph @slice(%0: f32[32]) -> (f32[16]) {
        %1: f32[16] = slice(%0; starts=(16), stops=(32), steps=(1))
        return %1
      }
      return %5
    }
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from braze.ir.arena import ALIGNMENT
from braze.ir.collectives import KINDS, WHOLE
from braze.ir.graph import Graph, Node, Value
from braze.passes.schedule import copy_node

# What is worth a copy of some operands on the CPU.
_ON_CPU = ("all_reduce",)


@dataclass(frozen=True, slots=True)
class InPlace:
    """A collective that works in memory of its own, from its start to its end.

    Attributes:
        parts: at which byte of that memory each operand lies.
        is_whole: it is the result's, too; else that has some of its own from the start.
    """

    start: Node
    wait: Node
    parts: Mapping[Value, int]
    is_whole: bool


def own_operands(graph: Graph, *, on_gpu: bool = False) -> Graph:
    """The graph, with collectives in place where their operands can lie side by side."""
    kinds = KINDS if on_gpu else _ON_CPU
    outside = {*graph.inputs, *graph.outputs}
    readers = graph.uses()
    waits = {node.operands[0]: node for node in graph.nodes if _inner(node, "collective_wait")}
    nodes: list[Node] = []
    new: dict[Value, Value] = {}
    given_out: dict[Value, Value] = {}  # results of the graph -> their copies
    for old in graph.nodes:
        node = _reading(old, new)
        wait = waits.get(old.results[0]) if _inner(old, "collective_start") else None
        if wait is not None and _fits(old, kinds) and (on_gpu or wait.results[0] not in outside):
            after, *operands = operands_of(old)
            given = []
            for operand in operands:
                value = new.get(operand, operand)
                if operand in outside or len(readers[operand]) > 1 or operand in given:
                    nodes.append(copy_node(value))
                    value = nodes[-1].result
                given.append(value)
            node = _in_place(node, new.get(after, after), given)
            if wait.results[0] in outside:
                given_out[wait.results[0]] = wait.results[0]
        new.update(zip(old.results, node.results, strict=True))
        nodes.append(node)
        if any(result in given_out for result in old.results):
            nodes.append(copy_node(node.result))
            given_out[old.result] = nodes[-1].result
    outputs = [given_out.get(value, new.get(value, value)) for value in graph.outputs]
    return Graph(graph.name, graph.inputs, graph.roles, nodes, outputs, graph.aliases)


def collectives_in_place(graph: Graph) -> Iterator[InPlace]:
    """Those that there are, in the order in which they are waited for."""
    starts: dict[Value, Node] = {}
    for node in graph.nodes:
        inner = _inner(node, "collective_start")
        if inner is not None and inner.attributes.get("in_place"):
            starts[node.results[0]] = node
        elif _inner(node, "collective_wait") and node.operands[0] in starts:
            start = starts[node.operands[0]]
            parts, end = {}, 0
            for operand in operands_of(start)[1:]:
                parts[operand] = end
                end += operand.type.nbytes
            began = _inner(start, "collective_start")
            assert began is not None
            yield InPlace(start, node, parts, began.attributes["kind"] in WHOLE)


def _inner(node: Node, name: str) -> Node | None:
    """The operation of this name in a fusion node, if it is one of it."""
    if node.body is None:
        return None
    return next((inner for inner in node.body.nodes if inner.op.name == name), None)


def operands_of(node: Node) -> list[Value]:
    """What the collective of a fusion node takes, reshaped or not, outside of the node."""
    inner = _inner(node, "collective_start")
    assert inner is not None and node.body is not None
    outer = dict(zip(node.body.inputs, node.operands, strict=True))
    found = []
    for value in inner.operands:
        while value not in outer:
            assert value.node is not None
            (value,) = value.node.operands
        found.append(outer[value])
    return found


def _fits(node: Node, kinds: Sequence[str]) -> bool:
    """Is it of these kinds, and can each operand lie behind the one before?"""
    inner = _inner(node, "collective_start")
    assert inner is not None
    sizes = [operand.type.nbytes for operand in inner.operands[1:]]
    return inner.attributes["kind"] in kinds and all(
        size and size % ALIGNMENT == 0 for size in sizes[:-1]
    )


def _reading(node: Node, new: Mapping[Value, Value]) -> Node:
    """The node, with operands replaced."""
    operands = [new.get(value, value) for value in node.operands]
    if all(a is b for a, b in zip(operands, node.operands, strict=True)):
        return node
    types = [result.type for result in node.results]
    return Node(node.op, operands, node.attributes, types, node.location, node.body)


def _in_place(node: Node, after: Value, given: Sequence[Value]) -> Node:
    """A fusion node whose collective is in place, with these operands."""
    old = _inner(node, "collective_start")
    assert old is not None and node.body is not None
    inputs = [Value(value.type) for value in (after, *given)]
    types = [result.type for result in old.results]
    inner = Node(old.op, inputs, {**old.attributes, "in_place": True}, types, old.location)
    body = Graph(node.body.name, inputs, ["data"] * len(inputs), [inner], list(inner.results))
    return Node(node.op, [after, *given], node.attributes, types, node.location, body)
