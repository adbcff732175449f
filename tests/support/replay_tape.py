"""Gradients of NumPy arrays, number by number: the oracle for programs with views and in-place
writes.

Every differentiable number has an id, and an array of numbers is accompanied by an array of ids (0:
a constant). What only moves numbers moves their ids alike: an index, a view, a concatenation, a
sort, a write through a view need no rule at all, and memory that is shared is shared by the ids
too. What is left is arithmetic, in three kinds of steps: products, sums, and functions of one
number. A step is differentiated by further steps, so gradients have gradients.

Everything is float64, and nothing is shared with the library under test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Numbers(NamedTuple):
    """Values and the ids they are known by on the tape, of one shape."""

    values: np.ndarray
    ids: np.ndarray

    def moved(self, movement: Callable[[np.ndarray], np.ndarray]) -> Numbers:
        """Both arrays moved alike."""
        return Numbers(movement(self.values), movement(self.ids))


def constants(values: Any, shape: tuple[int, ...] | None = None) -> Numbers:
    """Numbers that nothing flows to."""
    array = np.asarray(values, np.float64)
    array = array if shape is None else np.broadcast_to(array, shape)
    return Numbers(array, np.zeros(array.shape, np.int64))


class Step(NamedTuple):
    """One step: `out` are the ids it made; `pull` gives what flows to `inputs` from what comes."""

    out: np.ndarray
    inputs: np.ndarray
    pull: Callable[[Numbers], Numbers]


class Tape:
    """The steps so far.

    Attributes:
        recording: whether results of steps get ids.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.count = 1
        self.recording = True

    def fresh(self, shape: tuple[int, ...]) -> np.ndarray:
        """Ids for new leaves."""
        size = int(np.prod(shape))
        self.count += size
        return np.arange(self.count - size, self.count).reshape(shape)

    def _record(self, values: np.ndarray, inputs: np.ndarray, pull: Any) -> Numbers:
        if not self.recording or not inputs.any():
            return constants(values)
        out = self.fresh(values.shape)
        self.steps.append(Step(out, inputs, pull))
        return Numbers(values, out)

    # Arithmetic -----------------------------------------------------------------------------------

    def mul(self, a: Numbers, b: Numbers) -> Numbers:
        """Products, elementwise with broadcasting."""
        a, b = broadcast(a, b)
        out = self._record(a.values * b.values, a.ids, lambda g: self.mul(g, b))
        if not self.recording or not b.ids.any():
            return out
        if not a.ids.any():
            return self._record(out.values, b.ids, lambda g: self.mul(g, a))
        self.steps.append(Step(out.ids, b.ids, lambda g: self.mul(g, a)))
        return out

    def total(self, x: Numbers, owner: np.ndarray, count: int) -> Numbers:
        """out[k] = the sum of the numbers whose owner is k."""
        values = np.zeros(count)
        np.add.at(values, owner.reshape(-1), x.values.reshape(-1))
        if not self.recording or not x.ids.any():
            return constants(values)
        out = self.fresh((count,))
        self.steps.append(Step(out, x.ids, lambda g: g.moved(lambda a: a[owner])))
        return Numbers(values, out)

    def add(self, *terms: Numbers) -> Numbers:
        """Sums, elementwise with broadcasting."""
        spread = broadcast(*terms)
        shape = spread[0].values.shape
        places = np.arange(int(np.prod(shape))).reshape(shape)
        stacked = Numbers(np.stack([t.values for t in spread]), np.stack([t.ids for t in spread]))
        result = self.total(stacked, np.stack([places] * len(spread)), places.size)
        return result.moved(lambda a: a.reshape(shape))

    def sum(self, x: Numbers, axes: tuple[int, ...], keepdims: bool = False) -> Numbers:
        """Sums over some dimensions."""
        kept = tuple(1 if d in axes else n for d, n in enumerate(x.values.shape))
        places = np.arange(int(np.prod(kept))).reshape(kept)
        owner = np.broadcast_to(places, x.values.shape)
        shape = (
            kept if keepdims else tuple(n for d, n in enumerate(x.values.shape) if d not in axes)
        )
        return self.total(x, owner, places.size).moved(lambda a: a.reshape(shape))

    def function(
        self, x: Numbers, f: Callable[[np.ndarray], np.ndarray], slope: Callable[[Numbers], Numbers]
    ) -> Numbers:
        """A function of one number; `slope` computes its derivative by further steps."""
        return self._record(f(x.values), x.ids, lambda g: self.mul(g, slope(x)))

    # Gradients ------------------------------------------------------------------------------------

    def gradients(self, root: Numbers, seed: Numbers, record: bool) -> Numbers:
        """The gradient with respect to every id, and where it is recorded its own ids.

        Args:
            root: what is differentiated. seed: what flows to it.
            record: whether the gradients can be differentiated in turn.
        """
        count, steps = self.count, list(self.steps)
        before, self.recording = self.recording, record
        found = constants(np.zeros(count)).moved(np.array)
        reached = np.zeros(count, bool)
        try:
            self._arrive(found, root.ids, seed)
            reached[root.ids] = True
            for step in reversed(steps):
                upstream = found.moved(lambda a, step=step: a[step.out])  # type: ignore[misc]
                # Zeros bring nothing, but what they are multiplied by may depend on something.
                if upstream.values.any() or record and reached[step.out].any():
                    self._arrive(found, step.inputs, step.pull(upstream))
                    reached[step.inputs] = True
        finally:
            self.recording = before
        found.values[0] = found.ids[0] = 0
        return found

    def _arrive(self, found: Numbers, ids: np.ndarray, flow: Numbers) -> None:
        ids, flow = ids.reshape(-1), flow.moved(lambda a: a.reshape(-1))
        if not (flow.ids.any() or found.ids[ids].any()):
            np.add.at(found.values, ids, flow.values)
            return
        places, owner = np.unique(ids, return_inverse=True)
        terms = Numbers(
            np.concatenate([found.values[places], flow.values]),
            np.concatenate([found.ids[places], flow.ids]),
        )
        owners = np.concatenate([np.arange(places.size), owner])
        total = self.total(terms, owners, places.size)
        found.values[places], found.ids[places] = total


def broadcast(*terms: Numbers) -> list[Numbers]:
    """All of one shape."""
    shape = np.broadcast_shapes(*(t.values.shape for t in terms))
    return [t.moved(lambda a: np.broadcast_to(a, shape)) for t in terms]
