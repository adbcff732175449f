"""Compute what depends on weights alone, once and for all.

Needs: a graph, and the arrays of the inputs that are known.  Keeps: results, the other inputs.

A value that is computed from weights becomes an input of role const, with its array, and so does a
weight that is moved to where a kernel could not read it in place. Nothing gets larger: what only
repeats elements or widens their dtype is left to the kernels, which do that as they read.

In this example %w and %b are weights.

Before:
    graph @g(%x: f32[8,4], %w: f32[4,3], %b: f32[3]) -> (f32[8,3]) {
      %0: f32[3,4] = permute(%w; dims=(1,0))
      %1: f32[3] = exp(%b)
      %2: f32[8,3] = expand(%1; shape=(8,3))
      %3: f32[8,3] = contract(%x, %0; equation="mk,nk->mn")
      %4: f32[8,3] = add(%3, %2)
      return %4
    }
After:
    graph @g(%x: f32[8,4], %folded0: f32[3,4] const, %folded1: f32[3] const) -> (f32[8,3]) {
      %0: f32[8,3] = expand(%folded1; shape=(8,3))
      %1: f32[8,3] = contract(%x, %folded0; equation="mk,nk->mn")
      %2: f32[8,3] = add(%1, %0)
      return %2
    }
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from braze.ir.builder import Builder
from braze.ir.errors import BrazeError
from braze.ir.graph import Graph, Node, Value
from braze.ir.interpreter import interpret
from braze.ir.types import tensor_type
from braze.passes.weight_values import weight_values

Array = np.ndarray[Any, np.dtype[Any]]
# A computed value may take so many times the bytes of the weights that it is made of.
MOST_GROWTH = 2


def fold_weights(
    graph: Graph,
    arrays: Mapping[Value, Array],
    sources: dict[str, str] | None = None,
    *,
    for_many_sizes: bool = False,
    at_run_time: Set[str] = frozenset(),
) -> tuple[Graph, dict[str, Array]]:
    """The graph without what only depends on weights, whose arguments come first, and the arrays of
    its other inputs by their names.

    Args:
        sources: takes up, for each array that was computed, the largest one that it was made of.
        for_many_sizes: of what is computed, and has the same rows again and again, one is stored:
            there may be as many as a call has, as of a first state that is 0.
        at_run_time: names of values that are left to be computed in each call. Values of graphs
            that differ in sizes alone have the same names.
    """
    known = weight_values(graph, arrays)
    made = _made_of(graph, arrays, known)
    passed = set() if for_many_sizes else _passed(graph, known, arrays)
    names = _names(graph, known)
    left = {value for value, name in names.items() if name in at_run_time}
    needed = _needed(graph, known, made, left, passed)
    computed = [value for value in needed if value.node is not None]
    found = dict(zip(computed, _evaluate(graph, computed, arrays), strict=True))
    new = Builder(graph.name)
    replaced: dict[Value, Value] = {}
    weights: dict[str, Array] = {}
    for value, role in zip(graph.inputs, graph.roles, strict=True):
        if value not in arrays:
            replaced[value] = new.input(value.type, role, value.name)
    for value in needed:
        role = "const" if value.node is not None else graph.input_role(value)
        name = names[value]
        weights[name] = found[value] if value in found else arrays[value]
        if for_many_sizes and value in found:
            weights[name] = _without_repeats(found[value])
        shape = weights[name].shape
        if shape == value.shape:
            replaced[value] = new.input(value.type, role, name)
        else:
            stored = new.input(tensor_type(value.dtype, shape, value.type.device), role, name)
            replaced[value] = new.expand(stored, shape=value.shape)
        if sources is not None and value in found:
            largest = max(made[value], key=lambda x: (x.type.nbytes, x.name or ""))
            sources[name] = largest.name or name
    return _rest(graph, new, replaced, passed), weights


def _names(graph: Graph, known: set[Value]) -> dict[Value, str]:
    """What the known values are called as inputs of the new graph."""
    start = "folded"
    while any((value.name or "").startswith(start) for value in graph.inputs):
        start = f"_{start}"
    own = [v for v in graph.inputs if v in known and not v.name]
    own += [v for node in graph.nodes for v in node.results if v in known]
    names = {value: f"{start}{number}" for number, value in enumerate(own)}
    names.update((v, v.name) for v in graph.inputs if v in known and v.name)
    return names


def _without_repeats(array: Array) -> Array:
    """The first along each axis along which all are equal to the bit."""
    for axis in range(array.ndim):
        first = array.take([0], axis) if array.shape[axis] > 1 else array
        if (
            first is not array
            and first.repeat(array.shape[axis], axis).tobytes() == array.tobytes()
        ):
            array = first
    return array


def _passed(graph: Graph, known: set[Value], arrays: Mapping[Value, Array]) -> set[Node]:
    """The checks of known values that these pass: others are made in each call."""
    passed = set[Node]()
    for node in graph.nodes:
        if node.op.effect and not node.results and all(x in known for x in node.operands):
            values = _evaluate(graph, list(node.operands), arrays)
            given = [Value(operand.type) for operand in node.operands]
            check = Node(node.op, given, node.attributes, (), node.location, node.body)
            try:
                interpret(Graph("check", given, ["const"] * len(given), [check], []), values)
            except (BrazeError, IndexError):
                continue
            passed.add(node)
    return passed


def _rest(graph: Graph, new: Builder, replaced: dict[Value, Value], passed: Set[Node]) -> Graph:
    """The nodes that something in the new graph needs, in order."""
    wanted = {value for value in graph.outputs if value not in replaced}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node in passed:
            continue
        if node.op.effect or any(r in wanted and r not in replaced for r in node.results):
            kept.append(node)
            wanted.update(node.operands)
    for node in reversed(kept):
        operands = [replaced[x] for x in node.operands]
        copy = Node(
            node.op, operands, node.attributes, [r.type for r in node.results], node.location,
            node.body,
        )  # fmt: skip
        new.append(copy)
        for before, after in zip(node.results, copy.results, strict=True):
            replaced.setdefault(before, after)
            after.name = before.name
    return new.finish([replaced[value] for value in graph.outputs], graph.aliases)


def _made_of(
    graph: Graph, arrays: Mapping[Value, Array], known: set[Value]
) -> dict[Value, set[Value]]:
    """The weights that each known value is made of."""
    made: dict[Value, set[Value]] = {value: {value} for value in arrays}
    for node in graph.nodes:
        if any(result in known for result in node.results):
            union = set[Value]().union(*(made[x] for x in node.operands))
            made.update((result, union) for result in node.results)
    return made


def _needed(
    graph: Graph,
    known: set[Value],
    made: dict[Value, set[Value]],
    at_run_time: Set[Value],
    passed: Set[Node],
) -> list[Value]:
    """The weights and known values that the new graph has as inputs."""
    needed: dict[Value, None] = {}
    seen: set[Value] = set()

    def need(value: Value) -> None:
        if value in seen or value not in known or not made[value]:
            return
        seen.add(value)
        if (copy := _ordered_copy(value)) is not None:
            need(copy)
            return
        if value.node is not None and (value in at_run_time or _stays(value, made[value])):
            for operand in value.node.operands:
                need(operand)
            return
        needed[value] = None

    for node in graph.nodes:
        is_made = node not in passed if node.op.effect else not known.issuperset(node.results)
        if is_made:
            for operand in node.operands:
                need(operand)
    for value in graph.outputs:
        need(value)
    return list(needed)


def _ordered_copy(value: Value) -> Value | None:
    """What a value is a permutation of, if that is a copy in the order of its reader's choice."""
    node = value.node
    if node is None or node.op.name != "permute":
        return None
    (x,) = node.operands
    is_copy = x.node is not None and x.node.op.name == "cast"
    return x if is_copy and x.node.operands[0].dtype is x.dtype else None  # type: ignore[union-attr]


def _stays(value: Value, weights: set[Value]) -> bool:
    """Whether a known value is computed at run time all the same."""
    node = value.node
    assert node is not None
    largest = max((x.type.nbytes for x in node.operands), default=0)
    if node.op.is_movement or node.op.name == "cast":
        growth = MOST_GROWTH if node.op.name == "pad" else 1
        return value.type.nbytes > growth * largest
    return value.type.nbytes > max(MOST_GROWTH * sum(w.type.nbytes for w in weights), 64)


def _evaluate(graph: Graph, values: list[Value], arrays: Mapping[Value, Array]) -> list[Array]:
    """The arrays of values that depend on weights alone."""
    if not values:
        return []
    wanted = set(values)
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if any(result in wanted for result in node.results):
            nodes.append(node)
            wanted.update(node.operands)
    inputs = [value for value in graph.inputs if value in wanted]
    part = Graph("weights", inputs, ["param"] * len(inputs), nodes[::-1], values)
    return interpret(part, [arrays[value] for value in inputs])
