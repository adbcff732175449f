"""What two graphs differ in, in words: the reason of a recompile.

In: a new graph's `Signature` and those of recent graphs.  Out: the nearest of them, and a sentence
that names the operation, its line, and the dimension, dtype, attribute or operation that is new.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from braze.ir.graph import Graph, Location, Value
from braze.ir.types import TensorType

# Below this likeness (0: nothing in common, 1: the same operations) no graph is worth comparing.
_LEAST_LIKENESS = 0.3
# With more pairs of equal operations than this, what came and went is counted and not aligned.
_MOST_PAIRS = 20_000


class Step(NamedTuple):
    """A node: what it does and on what. `reads` holds numbers of values, `place` is for people."""

    op: str
    attributes: tuple[tuple[str, str], ...]
    operands: tuple[TensorType, ...]
    names: tuple[str, ...]
    reads: tuple[int, ...]
    place: str

    def __str__(self) -> str:
        return f"{self.op} at {self.place}" if self.place else self.op


class Signature(NamedTuple):
    """A graph as differences are told: without its nodes, so that it can be kept."""

    fingerprint: str
    steps: tuple[Step, ...]
    inputs: tuple[tuple[TensorType, str, str], ...]
    outputs: tuple[int, ...]
    producers: tuple[str, ...]
    aliases: tuple[tuple[int, int], ...]
    ops: Counter[str]
    kinds: Counter[str]  # operations with their operands' types


def signature_of(graph: Graph, fingerprint: str) -> Signature:
    """The signature of a graph."""
    numbers: dict[Value, int] = {value: i for i, value in enumerate(graph.inputs)}
    steps, inside = [], _working_directory()
    for node in graph.nodes:
        steps.append(
            Step(
                node.op.name,
                tuple((name, str(value)) for name, value in node.attributes.items()),
                tuple(operand.type for operand in node.operands),
                tuple(node.op.operand_name(i) for i in range(len(node.operands))),
                tuple(numbers[operand] for operand in node.operands),
                place_of(node.location, inside),
            )
        )
        for value in node.results:
            numbers[value] = len(numbers)
    return Signature(
        fingerprint,
        tuple(steps),
        tuple(
            (value.type, role, value.name or str(i))
            for i, (value, role) in enumerate(zip(graph.inputs, graph.roles, strict=True))
        ),
        tuple(numbers[value] for value in graph.outputs),
        tuple(_producer(value) for value in graph.outputs),
        tuple(sorted(graph.aliases.items())),
        Counter(step.op for step in steps),
        # As text, whose hash is computed once.
        Counter(" ".join((step.op, *map(str, step.operands))) for step in steps),
    )


def place_of(location: Location | None, inside: str | None = None) -> str:
    """``train.py:12``, from the working directory if the file lies in it; "" if unknown.

    Args:
        inside: the working directory, where it is asked for often.
    """
    if location is None:
        return ""
    inside = _working_directory() if inside is None else inside
    return f"{location.file.removeprefix(inside)}:{location.line}"


def _working_directory() -> str:
    return os.path.join(os.getcwd(), "")


def _producer(value: Value) -> str:
    if value.node is None:
        return f"input {value.name or '?'}"
    place = place_of(value.node.location)
    return f"{value.node.op.name} at {place}" if place else value.node.op.name


def nearest(new: Signature, known: Iterable[Signature]) -> Signature | None:
    """The graph most like `new`, of equals the last; None if none is like it at all."""
    best, best_likeness = None, _LEAST_LIKENESS
    for old in known:
        likeness = _likeness(new, old)
        if likeness >= best_likeness:
            best, best_likeness = old, likeness
    return best


def _likeness(new: Signature, old: Signature) -> float:
    size = max(len(new.steps), len(old.steps), 1)
    same_ops = (new.ops & old.ops).total()
    same_kinds = (new.kinds & old.kinds).total()
    return (same_ops + same_kinds) / (2 * size)


def difference(new: Signature, old: Signature) -> str:
    """What is new in `new`, in one sentence."""
    if [step.op for step in new.steps] != [step.op for step in old.steps]:
        return _different_operations(new.steps, old.steps)
    changed = [
        text
        for step, before in zip(new.steps, old.steps, strict=True)
        if (text := _different_step(step, before))
    ]
    if changed:
        others = len(changed) - 1
        return changed[0] + (f"; {_count(others, 'more operation')} likewise" if others else "")
    return _different_frame(new, old)


def _different_operations(new: Sequence[Step], old: Sequence[Step]) -> str:
    """Operations that came, went or were exchanged, with the line of the first."""
    start, end = _common_ends(new, old)
    fresh, gone = new[start : len(new) - end], old[start : len(old) - end]
    came, went = _aligned(fresh, gone)
    if not came and not went:
        return "the same operations in another order"
    if not went:
        return f"{_count(len(came), 'more operation')}, first: {came[0]}"
    if not came:
        return f"{_count(len(went), 'fewer operation')}, first: {went[0]}"
    return (
        f"{_count(len(came), 'other operation')}, first: {came[0]} "
        f"(in place of {len(went)}, first: {went[0]})"
    )


def _aligned(fresh: Sequence[Step], gone: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """The steps of each that have no counterpart in the other."""
    counts, others = Counter(s.op for s in fresh), Counter(s.op for s in gone)
    came: list[Step] = []
    went: list[Step] = []
    # The matcher looks at every pair of equal operations, many times over.
    if sum(count * others[op] for op, count in counts.items()) <= _MOST_PAIRS:
        matcher = SequenceMatcher(None, [s.op for s in gone], [s.op for s in fresh], autojunk=False)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            if tag != "equal":
                went.extend(gone[i1:i2])
                came.extend(fresh[j1:j2])
        return came, went
    for steps, surplus, found in (
        (fresh, counts - others, came),
        (gone, others - counts, went),
    ):
        for step in steps:
            if surplus[step.op] > 0:
                surplus[step.op] -= 1
                found.append(step)
    return came, went


def _common_ends(new: Sequence[Step], old: Sequence[Step]) -> tuple[int, int]:
    shorter = min(len(new), len(old))
    start = 0
    while start < shorter and new[start].op == old[start].op:
        start += 1
    end = 0
    while end < shorter - start and new[-1 - end].op == old[-1 - end].op:
        end += 1
    return start, end


def _different_step(new: Step, old: Step) -> str:
    """What differs in one operation; "" if nothing does."""
    for name, type, before in zip(new.names, new.operands, old.operands, strict=False):
        if type != before:
            detail = _different_type(type, before)
            return f"{new}: operand {name} is {type}, was {before} ({detail})"
    if len(new.operands) != len(old.operands):
        return f"{new}: {_count(len(new.operands), 'operand')}, was {len(old.operands)}"
    before_attributes = dict(old.attributes)
    for name, value in new.attributes:
        if before_attributes.get(name) != value:
            return f"{new}: {name} = {value}, was {before_attributes.get(name)}"
    for name, number, before_number in zip(new.names, new.reads, old.reads, strict=True):
        if number != before_number:
            return f"{new}: operand {name} is another value of the same type"
    return ""


def _different_type(new: TensorType, old: TensorType) -> str:
    if new.dtype is not old.dtype:
        return f"dtype: {new.dtype.name}, was {old.dtype.name}"
    if new.rank != old.rank:
        return f"rank: {new.rank}, was {old.rank}"
    sizes = enumerate(zip(new.shape, old.shape, strict=True))
    parts = [f"dimension {i}: {a}, was {b}" for i, (a, b) in sizes if a != b]
    return ", ".join(parts) or f"device: {new.device}, was {old.device}"


def _different_frame(new: Signature, old: Signature) -> str:
    """The same operations on the same types: inputs or outputs must differ."""
    if len(new.inputs) != len(old.inputs):
        return f"{_count(len(new.inputs), 'input')}, was {len(old.inputs)}"
    for (type, role, name), (before, before_role, _) in zip(new.inputs, old.inputs, strict=True):
        if type != before:
            return f"input {name} is {type}, was {before} ({_different_type(type, before)})"
        if role != before_role:
            return f"input {name} is {role}, was {before_role}"
    kept, before_kept = Counter(new.producers), Counter(old.producers)
    if more := list((kept - before_kept).elements()):
        return f"{_count(len(more), 'more result')} kept, first: of {more[0]}"
    if fewer := list((before_kept - kept).elements()):
        return f"{_count(len(fewer), 'fewer result')} kept, first: of {fewer[0]}"
    if new.outputs != old.outputs:
        return "other results of the same operations are kept, or in another order"
    if new.aliases != old.aliases:
        return "other inputs are overwritten in place"
    return "the same graph for another target or compiler"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
