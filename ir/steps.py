"""One step of a recurrence as a graph, and what follows from it: the meaning of the operation.

In: an operation of category "recurrence", its operands' types and its attributes.  Out: a
`StepGraph`, whose inputs say where they lie in the operands and results at a step.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from braze.ir.builder import Builder
from braze.ir.dtypes import from_numpy
from braze.ir.graph import Graph, Value
from braze.ir.op import AttributeValue, Op, Steps, op_named
from braze.ir.types import TensorType, tensor_type

Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal["whole", "now", "previous", "before"]
STEP_GRAPHS_KEPT = 256


@dataclass(frozen=True, slots=True)
class Part:
    """What an input of a step is.

    Attributes:
        kind: an operand as a whole or at this step, a result at the step that ran before, or a
            stacked operand at the step that is earlier in time.
        place: number of the operand, or of the result.
        start: number of the operand that is used where there is no such step.
    """

    kind: Kind
    place: int
    start: int = -1


@dataclass(frozen=True, eq=False, slots=True)
class StepGraph:
    """A step.

    Attributes:
        graph: its outputs are the wanted results, in order, those in pieces piece by piece.
        parts: of each input.
        results: of each output the result it belongs to, and which piece of it.
        count: how many steps there are.
        runs_back: time is run through from its end.
    """

    graph: Graph
    parts: tuple[Part, ...]
    results: tuple[tuple[int, int], ...]
    count: int
    runs_back: bool

    @property
    def times(self) -> range:
        """Each step's place in time, in the order in which they run."""
        return range(self.count - 1, -1, -1) if self.runs_back else range(self.count)

    def time_of(self, part: Part, time: int) -> int | None:
        """When a stacked part of the step at `time` is from; None where its start stands for it."""
        # What is before in a run is not what is before in time, where a run goes back.
        later = {"previous": -1, "before": 1}.get(part.kind, 0)
        at = time - later if self.runs_back else time + later
        return at if 0 <= at < self.count else None


def step_graph(
    op: Op,
    operands: Sequence[TensorType],
    attributes: Mapping[str, AttributeValue],
    wanted: Sequence[int],
) -> StepGraph:
    """The step that makes the results with these numbers, and those that their steps need."""
    steps = op.steps
    assert steps is not None
    types = op.result_types(operands, attributes)
    builder = Builder(op.name)
    values: dict[str, Value] = {}
    parts: dict[Value, Part] = {}
    names = list(inspect.signature(steps.rule).parameters)[1:]
    for name in names:
        if name not in op.attributes:
            part, type = _part(op, steps, name, operands, types)
            values[name] = builder.input(type)
            parts[values[name]] = part
    arguments = [values[n] if n in values else attributes[n] for n in names]
    made = [x if isinstance(x, list) else [x] for x in steps.rule(builder, *arguments)]
    needed = _needed(made, parts, wanted)
    places = [(number, piece) for number in needed for piece in range(len(made[number]))]
    builder.finish([made[number][piece] for number, piece in places])
    used = _read(builder.graph.outputs)
    graph = builder.graph
    graph.inputs = [value for value in graph.inputs if value in used]
    graph.roles = ["data"] * len(graph.inputs)
    graph.nodes = [node for node in graph.nodes if used.intersection(node.results)]
    count = operands[op.operands.index(steps.stacked[0])].shape[0]
    return StepGraph(
        graph,
        tuple(parts[value] for value in graph.inputs),
        tuple(places),
        count,
        steps.backwards != bool(attributes.get("reverse", False)),
    )


def _part(
    op: Op,
    steps: Steps,
    name: str,
    operands: Sequence[TensorType],
    results: Sequence[TensorType],
) -> tuple[Part, TensorType]:
    """What a parameter of the rule stands for."""
    kind, _, rest = name.partition("_")
    if kind == "previous":
        place, start = op.results.index(rest), op.operands.index(steps.starts[rest])
        return Part("previous", place, start), _at_a_step(results[place])
    if kind == "before":
        place, start = op.operands.index(rest), op.operands.index(steps.starts[rest])
        return Part("before", place, start), _at_a_step(operands[place])
    place = op.operands.index(name)
    if name in steps.stacked:
        return Part("now", place), _at_a_step(operands[place])
    return Part("whole", place), operands[place]


def _at_a_step(stacked: TensorType) -> TensorType:
    return tensor_type(stacked.dtype, stacked.shape[1:], stacked.device)


def _needed(
    made: list[list[Value]], parts: Mapping[Value, Part], wanted: Sequence[int]
) -> list[int]:
    """The wanted results, and those that are read at the next step."""
    needed: set[int] = set()
    waiting = list(wanted)
    while waiting:
        number = waiting.pop()
        if number in needed:
            continue
        needed.add(number)
        read = [parts[value] for value in _read(made[number]) if value in parts]
        waiting += [part.place for part in read if part.kind == "previous"]
    return sorted(needed)


def _read(values: Sequence[Value]) -> set[Value]:
    """The values and all that they are made from."""
    found: set[Value] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if value not in found:
            found.add(value)
            waiting += value.node.operands if value.node is not None else ()
    return found


# The meaning --------------------------------------------------------------------------------------


def evaluate_steps(name: str, operands: Sequence[Array], attributes: Mapping[str, Any]) -> Any:
    """The results of the recurrence called `name`, by running its step on NumPy arrays."""
    from braze.ir.interpreter import interpret  # which knows all operations

    types = tuple(_type_of(x) for x in operands)
    step, results = _evaluated(name, types, tuple(attributes.items()))
    arrays = [np.empty(t.shape, t.dtype.numpy) for t in results]
    for time in step.times if all(array.size for array in arrays) else ():
        given = [_given(part, operands, arrays, step.time_of(part, time)) for part in step.parts]
        for (number, piece), value in zip(step.results, interpret(step.graph, given), strict=True):
            place = arrays[number][time]
            place.reshape(-1, *value.shape)[piece] = value
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


def _given(
    part: Part, operands: Sequence[Array], results: Sequence[Array], time: int | None
) -> Array:
    if part.kind == "whole":
        return operands[part.place]
    if time is None:
        return operands[part.start]
    now: Array = (results if part.kind == "previous" else operands)[part.place][time]
    return now


def _type_of(array: Array) -> TensorType:
    return tensor_type(from_numpy(array.dtype), array.shape)


@lru_cache(STEP_GRAPHS_KEPT)
def _evaluated(
    name: str, types: tuple[TensorType, ...], attributes: tuple[tuple[str, AttributeValue], ...]
) -> tuple[StepGraph, tuple[TensorType, ...]]:
    op = op_named(name)
    results = op.result_types(types, dict(attributes))
    return step_graph(op, types, dict(attributes), range(len(results))), results
