"""Order the kernels so that few bytes are alive at a time.

Needs: fusion nodes only.  Keeps: the nodes; adds copies where an input would be overwritten too
early.

Where processes compute together, what the first collective needs comes first, then the collective,
and so on; results are waited for when nothing else is left to do.

An output that overwrites an input comes after every other reader of that input, and after whatever
may fail. Where no order does that (two outputs that swap inputs, a check of the output), the output
is written to a temporary and copied at the end.

Before:
    graph @g(%x: f32[4], %y: f32[4]) -> (f32[4] = %x, f32[4]) {
      %0: f32[4] = fusion(%y; kind="pointwise") graph @exp(%0: f32[4]) -> (f32[4]) {
        %1: f32[4] = exp(%0)
        return %1
      }
      %1: f32[4] = fusion(%x; kind="pointwise") graph @sin(%0: f32[4]) -> (f32[4]) {
        %1: f32[4] = sin(%0)
        return %1
      }
      return %0, %1
    }
After:
    graph @g(%x: f32[4], %y: f32[4]) -> (f32[4] = %x, f32[4]) {
      %0: f32[4] = fusion(%x; kind="pointwise") graph @sin(%0: f32[4]) -> (f32[4]) {
        %1: f32[4] = sin(%0)
        return %1
      }
      %1: f32[4] = fusion(%y; kind="pointwise") graph @exp(%0: f32[4]) -> (f32[4]) {
        %1: f32[4] = exp(%0)
        return %1
      }
      return %1, %0
    }
"""

from __future__ import annotations

from collections.abc import Callable

from braze.ir.graph import Graph, Node, Value
from braze.ir.op import op_named
from braze.passes.in_place import writes_in_place


def schedule(graph: Graph) -> Graph:
    """The graph with its nodes in the order in which they run."""
    graph = _with_copies(graph)
    order = _list_schedule(graph, dependences(graph))
    return Graph(graph.name, graph.inputs, graph.roles, order, graph.outputs, graph.aliases)


def dependences(graph: Graph) -> dict[Node, set[Node]]:
    """For each node the nodes that must run before it.

    That is what it reads, the readers of what it overwrites, and, so that a failed run-time check
    leaves parameters as they were, the checks and the host calls, which may raise errors.
    """
    before: dict[Node, set[Node]] = {
        node: {x.node for x in node.operands if x.node is not None} for node in graph.nodes
    }
    for writer, readers in overwriters(graph).items():
        before[writer] |= readers - {writer}
    for check in graph.nodes:
        if _may_fail(check):
            needed = _ancestors(check, before)
            for writer in overwriters(graph):
                if writer is not check and writer not in needed:
                    before[writer].add(check)
    return before


def _may_fail(node: Node) -> bool:
    return node.body is not None and any(inner.op.may_fail for inner in node.body.nodes)


def _ancestors(node: Node, before: dict[Node, set[Node]]) -> set[Node]:
    """The nodes that must run before a node, directly or not."""
    found: set[Node] = set()
    stack = [node]
    while stack:
        for other in before[stack.pop()] - found:
            found.add(other)
            stack.append(other)
    return found


def overwriters(graph: Graph) -> dict[Node, set[Node]]:
    """Nodes that write an output over an input, and the nodes that read this input."""
    found: dict[Node, set[Node]] = {}
    readers: dict[Value, set[Node]] = {}
    for node in graph.nodes:
        for operand in node.operands:
            readers.setdefault(operand, set()).add(node)
    for output, source in graph.aliases.items():
        writer = graph.outputs[output].node
        if writer is not None:
            found.setdefault(writer, set()).update(readers.get(graph.inputs[source], ()))
    return found


def _with_copies(graph: Graph) -> Graph:
    """Let no output overwrite an input that its own kernel, or a later one, still reads."""
    needed = _needed_by_checks(graph)
    # An order that allows all writes allows each of them, and there mostly is one.
    quick = _with_copies_where(graph, needed, lambda _: True)
    return quick if _is_acyclic(quick) else _with_copies_where(graph, needed, _is_acyclic)


def _with_copies_where(
    graph: Graph, needed: set[Node], has_order: Callable[[Graph], bool]
) -> Graph:
    """The graph with copies for what may not be written in place.

    Args:
        has_order: asked for each output in turn, of the graph with the aliases decided by then.
    """
    outputs = list(graph.outputs)
    nodes = list(graph.nodes)
    for output in graph.aliases:
        current = Graph(
            graph.name, graph.inputs, graph.roles, nodes, outputs, _decided(graph, output)
        )
        writer = outputs[output].node
        if writer is None:
            continue
        if writer not in needed and _is_safe(current, output) and has_order(current):
            continue
        copy = copy_node(outputs[output])
        nodes.append(copy)
        outputs[output] = copy.result
    return Graph(graph.name, graph.inputs, graph.roles, nodes, outputs, graph.aliases)


def _needed_by_checks(graph: Graph) -> set[Node]:
    """What may fail, and what must run before it."""
    operands = {n: {x.node for x in n.operands if x.node is not None} for n in graph.nodes}
    found: set[Node] = set()
    for node in graph.nodes:
        if _may_fail(node):
            found |= {node} | _ancestors(node, operands)
    return found


def _decided(graph: Graph, output: int) -> dict[int, int]:
    """The aliases up to this one, in the order in which they are decided."""
    items = list(graph.aliases.items())
    upto = [o for o, _ in items].index(output) + 1
    return dict(items[:upto])


def _is_safe(graph: Graph, output: int) -> bool:
    """May the writer of an output overwrite its input, as far as its own loads go?"""
    value = graph.outputs[output]
    node = value.node
    assert node is not None
    own = {
        graph.outputs[o]: graph.inputs[i]
        for o, i in graph.aliases.items()
        if graph.outputs[o].node is node
    }
    overwritten = {r: x for r, x in own.items() if x in node.operands}
    return not overwritten or writes_in_place(node, overwritten)


def _is_acyclic(graph: Graph) -> bool:
    before = dependences(graph)
    done: set[Node] = set()
    active: set[Node] = set()
    for root in graph.nodes:
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                active.discard(node)
                done.add(node)
                continue
            if node in done:
                continue
            active.add(node)
            stack.append((node, True))
            for earlier in before[node]:
                if earlier in active:
                    return False
                if earlier not in done:
                    stack.append((earlier, False))
    return True


def copy_node(value: Value) -> Node:
    """A fusion node that copies a value."""
    body = Graph("copy", [Value(value.type)], ["data"])
    body.outputs.append(body.inputs[0])
    location = value.node.location if value.node else None
    return Node(op_named("fusion"), [value], {"kind": "copy"}, [value.type], location, body)


def _urgency(graph: Graph) -> dict[Node, int]:
    """The number of the first collective that each node leads to, so that what begins first comes
    first; nodes that lead to none come after these, and what waits for a result comes last. Empty
    where there are no collectives."""
    starts: dict[Node, int] = {}
    awaited: set[Node] = set()
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        ops = [inner.op for inner in node.body.nodes] if node.body is not None else [node.op]
        if any(op.is_awaited for op in ops):
            awaited.add(node)
        elif any(op.is_collective for op in ops):
            starts[node] = len(starts)
        for operand in node.operands:
            readers.setdefault(operand, []).append(node)
    found: dict[Node, int] = {}
    for node in reversed(graph.nodes if starts or awaited else ()):
        after = [reader for result in node.results for reader in readers.get(result, ())]
        last = len(starts)
        found[node] = min([starts.get(node, last), *(min(found[r], last) for r in after)])
        if node in awaited:
            found[node] = last + 1
    return found


def _list_schedule(graph: Graph, before: dict[Node, set[Node]]) -> list[Node]:
    """Greedily run the ready node that frees most and allocates least; ties keep the given
    order."""
    urgency = _urgency(graph)
    position = {node: i for i, node in enumerate(graph.nodes)}
    after: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
    for node, earlier in before.items():
        for other in earlier:
            after[other].append(node)
    persistent = set(graph.inputs) | set(graph.outputs)
    readers: dict[Value, set[Node]] = {}
    for node in graph.nodes:
        for operand in node.operands:
            readers.setdefault(operand, set()).add(node)
    waiting = {node: len(earlier) for node, earlier in before.items()}
    ready = [node for node in graph.nodes if waiting[node] == 0]
    order: list[Node] = []

    def growth(node: Node) -> int:
        made = sum(r.type.nbytes for r in node.results if r not in persistent)
        freed = sum(
            x.type.nbytes
            for x in set(node.operands)
            if x not in persistent and readers[x] == {node}
        )
        return made - freed

    while ready:
        node = min(ready, key=lambda n: (urgency.get(n, 0), growth(n), position[n]))
        ready.remove(node)
        order.append(node)
        for operand in set(node.operands):
            readers[operand].discard(node)
        for later in after[node]:
            waiting[later] -= 1
            if waiting[later] == 0:
                ready.append(later)
    assert len(order) == len(graph.nodes)
    return order
