"""Gradients of a recurrence by its steps one by one, with the rules of the operations in them.

This is how the gradient of a gradient is made: it costs as many operations as there are steps,
where a recurrence costs one. The result holds operations that have gradients, so it can be derived
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from braze.ir.builder import Builder
from braze.ir.graph import Graph, Node, Value, types_of
from braze.ir.op import AttributeValue, gradient_of, op_named
from braze.ir.steps import Part, step_graph


def unrolled_gradient(
    b: Any,
    name: str,
    operands: Sequence[Any],
    attributes: Mapping[str, AttributeValue],
    upstream: Sequence[Any | None],
    position: int,
) -> Any:
    """The gradient of an operand of the recurrence called `name`, emitted on `b`.

    Args:
        upstream: the gradient of each result, None where nothing flows back.
    """

    def make(builder: Builder, inputs: list[Value]) -> list[Value]:
        return _unroll(builder, name, inputs, attributes)

    return reverse_gradient(b, name, make, operands, upstream, position)


def reverse_gradient(
    b: Any,
    name: str,
    make: Callable[[Builder, list[Value]], Sequence[Value]],
    operands: Sequence[Any],
    upstream: Sequence[Any | None],
    position: int,
) -> Any:
    """The gradient of an operand of what `make` computes, emitted on `b`.

    Args:
        upstream: the gradient of each result, None where nothing flows back.
    """
    builder = Builder(name)
    inputs = [builder.input(x.type) for x in operands]
    results = make(builder, inputs)
    arriving = [None if g is None else builder.input(g.type) for g in upstream]
    pairs = zip(results, arriving, strict=True)
    gradients = {value: g for value, g in pairs if g is not None}
    wanted = inputs[position]
    found = _back(builder, gradients, wanted)
    if found is None:
        found = builder.full(shape=wanted.shape, value=0.0, dtype=wanted.dtype)
    graph = builder.finish([found])
    given = [*operands, *(g for g in upstream if g is not None)]
    (gradient,) = _emit(b, graph, given)
    return gradient


def _unroll(
    b: Builder, name: str, operands: list[Value], attributes: Mapping[str, AttributeValue]
) -> list[Value]:
    """The results, each step's operations after those of the step before."""
    op = op_named(name)
    types = op.result_types(types_of(operands), attributes)
    step = step_graph(op, types_of(operands), attributes, range(len(types)))
    made: list[dict[int, Value]] = [{} for _ in types]

    def given(part: Part, time: int) -> Value:
        if part.kind == "whole":
            return operands[part.place]
        at = step.time_of(part, time)
        if at is None:
            return operands[part.start]
        return made[part.place][at] if part.kind == "previous" else _at(b, operands[part.place], at)

    for time in step.times:
        outputs = _emit(b, step.graph, [given(part, time) for part in step.parts])
        for number, type in enumerate(types):
            pairs = zip(step.results, outputs, strict=True)
            pieces = [value for (result, _), value in pairs if result == number]
            whole = pieces[0]
            if len(pieces) > 1:
                whole = b.concat(*(_as_first(b, x) for x in pieces), dim=0)
            made[number][time] = b.reshape(whole, shape=type.shape[1:])
    rows = [[_as_first(b, m[time]) for time in range(step.count)] for m in made]
    return [b.concat(*row, dim=0) for row in rows]


def _as_first(b: Builder, x: Value) -> Value:
    result: Value = b.reshape(x, shape=(1, *x.shape))
    return result


def _at(b: Builder, stacked: Value, time: int) -> Value:
    shape = stacked.shape
    rest = (0,) * (len(shape) - 1)
    ones = (1,) * len(shape)
    row = b.slice(stacked, starts=(time, *rest), stops=(time + 1, *shape[1:]), steps=ones)
    result: Value = b.reshape(row, shape=shape[1:])
    return result


def _back(b: Builder, gradients: dict[Value, Value], wanted: Value) -> Value | None:
    """Reverse mode over what the builder holds."""
    nodes = list(b.graph.nodes)
    depends = {wanted}
    for node in nodes:
        if node.op.differentiable and depends.intersection(node.operands):
            depends.update(node.results)
    for node in reversed(nodes):
        upstream = [gradients.get(result) for result in node.results]
        if all(g is None for g in upstream):
            continue
        for position, operand in enumerate(node.operands):
            if operand in depends and node.op.gradient(position) is not None:
                _add(b, gradients, node, position, upstream)
    return gradients.get(wanted)


def _add(
    b: Builder,
    gradients: dict[Value, Value],
    node: Node,
    position: int,
    upstream: Sequence[Value | None],
) -> None:
    def saved(kind: str, place: int) -> Value:
        return (node.operands if kind == "operand" else node.results)[place]

    types = types_of(node.operands)
    new = gradient_of(b, node.op, position, types, node.attributes, upstream, saved)
    operand = node.operands[position]
    old = gradients.get(operand)
    gradients[operand] = new if old is None else b.add(old, new)


def _emit(b: Any, graph: Graph, given: Sequence[Any]) -> list[Any]:
    """The graph's outputs as operations of another builder, what they do not need left out."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if needed.intersection(node.results):
            needed.update(node.operands)
    made: dict[Value, Any] = dict(zip(graph.inputs, given, strict=True))
    for node in graph.nodes:
        if needed.intersection(node.results):
            results = getattr(b, node.op.name)(*(made[x] for x in node.operands), **node.attributes)
            results = results if isinstance(results, tuple) else (results,)
            made.update(zip(node.results, results, strict=True))
    return [made[x] for x in graph.outputs]
