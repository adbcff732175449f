"""What each pass changed: the graph's text before and after, aligned.

In: the graphs after each pass, with where each node comes from.  Out: for each pass the lines and
which of them differ.

Numbers of values change with every node that goes, so lines are not compared as text. Two lines are
the same if they are the same operation with the same attributes and types, come from the same
captured operations, and so do their operands. Inside a fusion node, what is read from outside
counts as what it is there; so `fuse` shows as lines that moved together, and not as new ones.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from braze.inspector.describe import attributes_of
from braze.ir.graph import Graph, Node, Value
from braze.ir.printer import GraphText, print_location


def changes(insides: Any) -> list[dict[str, Any]]:
    """For each graph stage its name, time, lines, the captured operation of each line (-1: none),
    and, but for the first, the spans in which it differs from the one before: [tag, from, to,
    from, to] as `difflib` gives them."""
    found: list[dict[str, Any]] = []
    before: list[object] = []
    for stage in insides.graphs:
        lines, origins, keys = _lines(stage.graph, insides)
        spans: list[Any] = []
        if found:
            matcher = SequenceMatcher(None, before, keys, autojunk=False)
            spans = [list(code) for code in matcher.get_opcodes()]
        gone = sum(s[2] - s[1] for s in spans if s[0] != "equal")
        new = sum(s[4] - s[3] for s in spans if s[0] != "equal")
        found.append(
            {
                "name": stage.name,
                "seconds": stage.seconds,
                "lines": lines,
                "origins": origins,
                "spans": spans,
                "removed": gone,
                "added": new,
            }
        )
        before = keys
    return found


def _lines(graph: Graph, insides: Any) -> tuple[list[str], list[int], list[object]]:
    """The text's lines, whose each is, and what to compare them by."""
    text = GraphText(graph)
    lines = list(text.lines)
    origins = [-1] * len(lines)
    keys: list[object] = [line.strip() for line in lines]
    described: dict[Value, object] = {value: value.name for value in graph.inputs}

    def enter(nodes: list[Node]) -> None:
        own = insides.origins(nodes)
        for node in nodes:
            at = text.spans[node, "op", 0].line
            origins[at] = own[node][0] if own[node] else -1
            if node.location is not None:
                lines[at] = lines[at].removesuffix(f"  # {print_location(node.location)}")
            operands = tuple(described.get(x) for x in node.operands)
            if node.body is not None:
                for outer, inner in zip(node.operands, node.body.inputs, strict=True):
                    described[inner] = described.get(outer)
                enter(node.body.nodes)
                for outer, inner in zip(node.results, node.body.outputs, strict=True):
                    described[outer] = described.get(inner)
                keys[at] = (node.op.name, node.attributes["kind"], node.body.name)
                continue
            types = tuple(str(result.type) for result in node.results)
            name = (node.op.name, attributes_of(node), tuple(own[node]))
            keys[at] = (*name, types, operands)
            for index, result in enumerate(node.results):
                described[result] = (*name, index)

    enter(graph.nodes)
    return lines, origins, keys
