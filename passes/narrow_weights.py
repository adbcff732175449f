"""Store weights in fewer bits, and widen them where they are read.

Needs: primitives, in which what depends on weights alone is computed.  Keeps: the other inputs, and
results but for what rounding the weights changes.

A weight is a known input of dtype f32 or f64, with two dimensions or more, that a contraction or a
recurrence multiplies, or that `take` takes rows from. As bf16 it is rounded to nearest. As i8 it is
divided by a scale, so that the largest absolute value of a channel becomes 127, and rounded:
symmetric quantisation with one scale for each output channel (B. Jacob et al., "Quantization and
training of neural networks for efficient integer-arithmetic-only inference", 2018, section 3).
Channels are the weight's dimensions that no reader sums over; without one there is a single scale.
A contraction is linear in its weight, so its result is multiplied by the scales and its kernel
reads integers; other readers get the weight times its scales.

In this example %w is narrowed to i8.

Before:
    graph @g(%x: f32[8,4], %w: f32[3,4] param) -> (f32[8,3]) {
      %0: f32[8,3] = contract(%x, %w; equation="mk,nk->mn")
      return %0
    }
After:
    graph @g(%x: f32[8,4], %w: i8[3,4] param, %w.scale1: f32[3] const) -> (f32[8,3]) {
      %0: f32[3,4] = cast(%w; dtype=f32)
      %1: f32[8,3] = contract(%x, %0; equation="mk,nk->mn")
      %2: f32[8,3] = mul(%1, %w.scale1)
      return %2
    }
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from braze.ir.builder import Rewriter
from braze.ir.dtypes import DType, f32, f64, from_numpy, i8
from braze.ir.graph import Graph, Node, Value, types_of
from braze.ir.ops.contract import parse_equation
from braze.ir.steps import step_graph
from braze.ir.types import tensor_type
from braze.passes.dce import dce

Array = np.ndarray[Any, np.dtype[Any]]

LARGEST = 127  # -128 is not used, so that a weight and its negative are rounded alike


@dataclass(frozen=True, eq=False, slots=True)
class NarrowWeight:
    """A weight as it is stored.

    Attributes:
        stored: in the narrow dtype.
        scale: what it is to be multiplied by, of the same rank; None for floats.
        original: as it was.
    """

    stored: Array
    scale: Array | None
    original: Array

    @property
    def decoded(self) -> Array:
        """What it stands for, in the original's dtype."""
        wide: Array = self.stored.astype(self.original.dtype)
        return wide if self.scale is None else wide * self.scale


@dataclass(frozen=True, slots=True)
class _Reading:
    """Where a weight is read: through these movements, with the operand's axes that are kept."""

    moves: tuple[Node, ...]
    kept: tuple[int, ...]


def narrow_weights(
    graph: Graph, arrays: Mapping[str, Array], dtype: DType
) -> tuple[Graph, dict[str, Array], dict[str, NarrowWeight]]:
    """The graph that reads its weights in this dtype, bf16 or i8.

    Args:
        arrays: of the inputs that are known, by name.

    Returns:
        The graph, the arrays of its known inputs, and the weights that were narrowed.
    """
    found: dict[Value, NarrowWeight] = {}
    for value in graph.inputs:
        array = arrays.get(value.name or "")
        if array is None or value.type.rank < 2 or value.dtype not in (f32, f64):
            continue
        readings = list(_readings(graph, value, ()))
        if not readings:
            continue
        channels = _channels(array.shape, readings) if dtype is i8 else ()
        narrow = _narrowed(array, dtype, channels)
        if narrow is not None:
            found[value] = narrow
    if not found:
        return graph, dict(arrays), {}
    new = _Narrowing(graph, found)
    narrowed = _without_unread(dce(new.run()), new.scales)
    named = {value.name or "": narrow for value, narrow in found.items()}
    stored = {name: narrow.stored for name, narrow in named.items()}
    known = {**arrays, **stored, **new.scales}
    left = {value.name for value in narrowed.inputs}
    return narrowed, {name: array for name, array in known.items() if name in left}, named


def _without_unread(graph: Graph, scales: Mapping[str, Array]) -> Graph:
    """Without scales that nobody reads: those of a weight whose readers are all contractions."""
    uses = graph.uses()
    pairs = zip(graph.inputs, graph.roles, strict=True)
    kept = [(v, role) for v, role in pairs if uses[v] or v.name not in scales]
    graph.inputs, graph.roles = [v for v, _ in kept], [role for _, role in kept]
    return graph


def _narrowed(array: Array, dtype: DType, channels: tuple[int, ...]) -> NarrowWeight | None:
    """None for an array that has no such form, as one with infinities has none in integers."""
    if not array.size or not np.isfinite(array).all():
        return None
    if dtype is not i8:
        stored = array.astype(dtype.numpy)
        finite = np.isfinite(stored.astype(array.dtype)).all()
        return NarrowWeight(stored, None, array) if finite else None
    summed = tuple(axis for axis in range(array.ndim) if axis not in channels)
    largest = np.abs(array).max(axis=summed, keepdims=True)
    scale = largest / array.dtype.type(LARGEST)
    # A channel of zeros, or of numbers so small that their scale is zero, becomes zeros.
    scale = np.where(scale > 0, scale, array.dtype.type(1))
    stored = np.clip(np.rint(array / scale), -LARGEST, LARGEST).astype(np.int8)
    return NarrowWeight(stored, scale, array)


# Who reads a weight -------------------------------------------------------------------------------


def _readings(graph: Graph, value: Value, moves: tuple[Node, ...]) -> Iterator[_Reading]:
    """The places where a weight is multiplied or taken from."""
    for node in graph.nodes:
        for position, operand in enumerate(node.operands):
            if operand is not value:
                continue
            if _moves(node):
                yield from _readings(graph, node.result, (*moves, node))
            elif node.op.is_contract:
                terms = parse_equation(str(node.attributes["equation"]))
                letters = terms[position]
                kept = tuple(i for i, c in enumerate(letters) if c in terms[2])
                yield _Reading(moves, kept)
            elif node.op.name == "take" and position == 0:
                dim = node.attributes["dim"]
                assert isinstance(dim, int)
                yield _Reading(moves, (dim,))
            elif node.op.steps is not None:
                yield from _readings_of_steps(node, position, moves)


def _readings_of_steps(node: Node, position: int, moves: tuple[Node, ...]) -> Iterator[_Reading]:
    """Those in the step of a recurrence, of an operand that is the same for all steps."""
    wanted = range(len(node.results))
    step = step_graph(node.op, types_of(node.operands), node.attributes, wanted)
    for value, part in zip(step.graph.inputs, step.parts, strict=True):
        if part.kind == "whole" and part.place == position:
            yield from _readings(step.graph, value, moves)


def _moves(node: Node) -> bool:
    return node.op.is_movement and len(node.operands) == 1


def _channels(shape: tuple[int, ...], readings: list[_Reading]) -> tuple[int, ...]:
    """The weight's dimensions whose place is the same for all terms of a sum, wherever it is
    read."""
    return tuple(
        axis
        for axis, extent in enumerate(shape)
        if extent > 1 and all(_is_kept(shape, axis, reading) for reading in readings)
    )


def _is_kept(shape: tuple[int, ...], axis: int, reading: _Reading) -> bool:
    # From 1 on: what a movement fills in is not the place of anything.
    places = np.arange(1, shape[axis] + 1).reshape(-1, *[1] * (len(shape) - 1 - axis))
    moved = _moved(np.broadcast_to(places, shape), reading.moves)
    first = _first(moved, reading.kept)
    return bool(np.all(moved == first))


def _moved(array: Array, moves: tuple[Node, ...]) -> Array:
    for node in moves:
        assert node.op.evaluate is not None
        array = node.op.evaluate(array, **node.attributes)
    return array


def _first(array: Array, kept: tuple[int, ...]) -> Array:
    """The first place in all but the kept dimensions."""
    return array[tuple(slice(None) if i in kept else slice(0, 1) for i in range(array.ndim))]


# The rewriting ------------------------------------------------------------------------------------


class _Narrowing(Rewriter):
    """Every value that a weight is moved to exists twice: as it is stored, for contractions, and
    times its scales, for others. What nobody reads is left for `dce`.

    Attributes:
        scales: the arrays of the inputs that were added.
    """

    def __init__(self, old: Graph, weights: Mapping[Value, NarrowWeight]) -> None:
        super().__init__(old)
        self.scales: dict[str, Array] = {}
        self.labels: dict[Value, str] = {}
        self.raw: dict[Value, Value] = {}
        self.scale_at: dict[Value, Array] = {}
        self.taken = {value.name for value in old.inputs}
        readers = {x: node for node in reversed(old.nodes) for x in node.operands}
        for value, narrow in weights.items():
            self.location = readers[value].location  # that of its first reader
            place = old.inputs.index(value)
            type = tensor_type(from_numpy(narrow.stored.dtype), value.shape, value.type.device)
            stored = Value(type, name=value.name)
            self.graph.inputs[place] = stored
            wide = self.cast(stored, dtype=value.dtype)
            self.raw[value] = self.replaced[value] = wide
            if narrow.scale is not None:
                self.labels[value] = f"{value.name}.scale"
                self.scale_at[value] = np.broadcast_to(narrow.scale, value.shape)
                self.replaced[value] = self.mul(wide, self._factor(value, narrow.scale))
        self.location = None

    def run(self) -> Graph:
        for node in self.old.nodes:
            with self.at(node.location):
                if _moves(node) and node.operands[0] in self.raw:
                    self._move(node)
                if node.op.is_contract and any(x in self.raw for x in node.operands):
                    self._contract(node)
                else:
                    self.keep(node)
        return self.done()

    def _move(self, node: Node) -> None:
        source, result = node.operands[0], node.result
        self.raw[result] = self.emit(node.op, [self.raw[source]], node.attributes).result
        if source in self.scale_at:
            self.labels[result] = self.labels[source]
            self.scale_at[result] = _moved(self.scale_at[source], (node,))

    def _contract(self, node: Node) -> None:
        operands = [self.raw.get(x, self.replaced[x]) for x in node.operands]
        value = self.emit(node.op, operands, node.attributes).result
        *terms, out = parse_equation(str(node.attributes["equation"]))
        for x, letters in zip(node.operands, terms, strict=True):
            if x not in self.scale_at:
                continue
            kept = [c for c in out if c in letters]
            first = _first(self.scale_at[x], tuple(letters.index(c) for c in kept))
            extents = [first.shape[letters.index(c)] if c in letters else 1 for c in out]
            order = [*(letters.index(c) for c in kept)]
            order += [i for i in range(first.ndim) if i not in order]
            value = self.mul(value, self._factor(x, first.transpose(order).reshape(extents)))
        self.replace(node, value)

    def _factor(self, weight: Value, array: Array) -> Value:
        """An input for scales, the same for equal ones."""
        while array.ndim > 1 and array.shape[0] == 1:
            array = array[0]
        array = np.ascontiguousarray(array)
        for value in self.graph.inputs:
            other = self.scales.get(value.name or "")
            if other is not None and array.shape == other.shape and np.array_equal(array, other):
                return value
        label = self.labels[weight]
        numbered = (f"{label}{i}" for i in count())
        name = next(name for name in numbered if name not in self.taken)
        self.taken.add(name)
        self.scales[name] = array
        type = tensor_type(from_numpy(array.dtype), array.shape, weight.type.device)
        return self.input(type, "const", name)
