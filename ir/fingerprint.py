"""What makes two graphs the same program. In: a graph. Out: a hash of its structure.

Structure is the operations in order, who reads whom, dtypes, shapes, devices, attributes, roles and
aliases. Names of graphs and values and source locations do not count.
"""

from __future__ import annotations

from hashlib import sha256

from braze.ir.graph import Graph, Value


def fingerprint(graph: Graph) -> str:
    """SHA-256 of the graph's canonical form, in hexadecimal.

    Equal fingerprints mean that one graph's compiled code serves the other.
    """
    return sha256(description(graph).encode()).hexdigest()


def description(graph: Graph) -> str:
    """The canonical form: equal for graphs that are the same program."""
    pieces: list[str] = []
    _describe(graph, pieces)
    return "\n".join(pieces)


def _describe(graph: Graph, pieces: list[str]) -> None:
    """Append the canonical form: each line tells one input, node or closing list.

    Numbers replace values, in order of definition. `repr` keeps 1, 1.0 and True, 0.0 and -0.0
    apart, and quotes strings, so that no attribute can pass for another.
    """
    numbers: dict[Value, int] = {}
    types: dict[int, str] = {}
    for value, role in zip(graph.inputs, graph.roles, strict=True):
        numbers[value] = len(numbers)
        pieces.append(f"input {value.type} {role}")
    for node in graph.nodes:
        attributes = node.attributes
        line = [node.op.name]
        line += [f"%{numbers[operand]}" for operand in node.operands]
        # In the declaration's order, whatever order the node was made with.
        given = (name for name in node.op.attributes if name in attributes)
        line += [f"{name}={attributes[name]!r}" for name in given]
        for result in node.results:
            numbers[result] = len(numbers)
            # Types are mostly shared objects, and this graph keeps them alive.
            text = types.get(id(result.type))
            if text is None:
                text = types[id(result.type)] = str(result.type)
            line.append(text)
        pieces.append(" ".join(line))
        if node.body is not None:
            pieces.append("{")
            _describe(node.body, pieces)
            pieces.append("}")
    outputs = " ".join(f"%{numbers[value]}" for value in graph.outputs)
    pieces.append(f"return {outputs}; {sorted(graph.aliases.items())}")
