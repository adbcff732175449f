"""When a kernel may write a result over one of its operands.

A kernel loads and stores element by element. It may overwrite an operand if every load of that
operand is of the very element that the store replaces, and comes no later than the store.
`store_order` puts the stores of one kernel into an order in which that holds, if there is one.
Where there is none (two values that change places), the loops of an
elementwise kernel help: there equal loads of one element are one load, made by the first store that
needs it.

A scatter first stores what it scatters into, element by element, and then the updates at places
that data choose. It may overwrite an operand that is read by the first of these two steps only.
"""

from __future__ import annotations

from collections.abc import Mapping

from braze.ir.graph import Graph, Node, Value
from braze.passes.fusion_rules import ALONE
from braze.passes.groups import is_flat
from braze.passes.lower_nest import core_of


def writes_in_place(node: Node, overwritten: Mapping[Value, Value]) -> bool:
    """May these results of a fusion node be written over these operands of it (result ->
    operand)?"""
    return store_order(node, overwritten) is not None


def store_order(node: Node, overwritten: Mapping[Value, Value]) -> list[int] | None:
    """The order of a kernel's stores, as positions of its results; None if an operand is needed too
    long."""
    body = node.body
    assert body is not None
    if any(result not in node.results for result in overwritten):
        raise ValueError("only a node's own results can overwrite its operands")
    if node.attributes["kind"] == "copy":
        return [0] if not overwritten else None
    if overwritten and node.attributes["kind"] in ALONE:
        return None
    if overwritten and node.attributes["kind"] == "scatter":
        return [0] if _scatters_into(node, body, overwritten) else None
    inner = dict(zip(node.operands, body.inputs, strict=True))
    flat = [flat_inputs(body, value) for value in body.outputs]
    # replaced[i]: the element that result i's store overwrites.
    replaced: dict[int, Value] = {}
    for result, operand in overwritten.items():
        source = inner[operand]
        if node.operands.count(operand) != 1 or source.type.numel != result.type.numel:
            return None
        for position, (aligned, others) in enumerate(flat):
            if source in others or (source in aligned and core_of(body.outputs[position])[1]):
                return None
        replaced[result.index] = source
        for inside in body.nodes:
            if inside.op.effect and source in read_inputs(inside):
                return None
    reads = [aligned for aligned, _ in flat]
    order = _order(reads, replaced, loads_once=False)
    if order is None and node.attributes["kind"] == "pointwise":
        order = _order(reads, replaced, loads_once=True)
    return order


def _scatters_into(node: Node, body: Graph, overwritten: Mapping[Value, Value]) -> bool:
    """Does a scatter read the operand that its only result overwrites in its first step alone, each
    element where it is then stored?"""
    (operand,) = set(overwritten.values())
    scatter = scatter_of(body)
    result, moves = core_of(body.outputs[0])
    if len(body.outputs) != 1 or result is not scatter.result or not all(map(is_flat, moves)):
        return False
    source = dict(zip(node.operands, body.inputs, strict=True))[operand]
    x, *others = scatter.operands
    if node.operands.count(operand) != 1 or source.type.numel != x.type.numel:
        return False
    core, moves = core_of(x)
    aligned, elsewhere = flat_inputs(body, core)
    if source not in aligned or source in elsewhere or not all(map(is_flat, moves)):
        return False
    late = set(others) | {v for n in body.nodes if n.op.effect for v in n.operands}
    return not any(source is v or v.node and source in read_inputs(v.node) for v in late)


def scatter_of(body: Graph) -> Node:
    """The scatter of a kernel of this kind."""
    (found,) = (node for node in body.nodes if node.op.category == "scatter")
    return found


def _order(
    reads: list[set[Value]], replaced: Mapping[int, Value], *, loads_once: bool
) -> list[int] | None:
    """Stores in an order in which no element is overwritten before its last load, or before its
    first one."""
    order: list[int] = []
    left = set(range(len(reads)))
    loaded: set[Value] = set()
    while left:
        ready = [
            i
            for i in sorted(left)
            if i not in replaced
            or (loads_once and replaced[i] in loaded | reads[i])
            or not any(replaced[i] in reads[other] for other in left - {i})
        ]
        if not ready:
            return None
        order.append(ready[0])
        loaded |= reads[ready[0]]
        left.remove(ready[0])
    return order


def read_inputs(node: Node) -> set[Value]:
    """The body's inputs that a node depends on."""
    found: set[Value] = set()
    stack = list(node.operands)
    seen: set[Value] = set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.node is None:
            found.add(value)
        else:
            stack += value.node.operands
    return found


def flat_inputs(body: Graph, output: Value) -> tuple[set[Value], set[Value]]:
    """The inputs that an output reads at its own element only, and those it reads elsewhere."""
    aligned: set[Value] = set()
    others: set[Value] = set()
    core, _ = core_of(output)
    stack: list[tuple[Value, bool]] = [(core, True)]
    seen: set[tuple[Value, bool]] = set()
    while stack:
        value, same = stack.pop()
        if (value, same) in seen:
            continue
        seen.add((value, same))
        node = value.node
        if node is None:
            (aligned if same else others).add(value)
            continue
        for operand in node.operands:
            keeps = is_flat(node) and operand.type.numel == value.type.numel
            stack.append((operand, same and keeps))
    return aligned - others, others
