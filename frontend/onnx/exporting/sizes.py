"""Sizes that may change: one graph, with functions of its open dimensions for its integers, from
what a module is traced to at several sizes of them.

In: graphs with the same operations.  Out: for each of their integers a number, or a `SymInt`, whose
words are the open dimensions, and dimensions of values between which are no simple function of
those (behind a strided convolution, say).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

from braze.ir.graph import Graph, Node, Value
from braze.ir.symint import SymInt

Vector = tuple[int, ...]

# A number may be a whole-numbered part of a size. Which one, and how it is rounded, is told from
# few sizes only as long as the parts are large.
_PARTS = range(2, 5)
# The word of a size that is no function of what is known; see `Sizes.unknown`.
_UNKNOWN = -1


@dataclass
class Sizes:
    """The functions that are known so far.

    Attributes:
        vectors: the values of each word, one for each graph.
        sources: the value, of the first graph, and its dimension, that each word is.
    """

    vectors: list[Vector] = field(default_factory=list)
    sources: list[tuple[Value, int]] = field(default_factory=list)

    def word(self, vector: Vector, value: Value, dim: int) -> int:
        """A new word, or an old one that is always the same."""
        if vector in self.vectors:
            return SymInt.word(self.vectors.index(vector), vector[0])
        self.vectors.append(vector)
        self.sources.append((value, dim))
        return SymInt.word(len(self.vectors) - 1, vector[0])

    def unknown(self, value: int) -> int:
        """A size of which nothing must be computed; `value` is the example's."""
        return SymInt.word(_UNKNOWN, value)

    def source(self, word: int) -> tuple[Value, int]:
        """The value and its dimension that a word is.

        Raises:
            ValueError: it is unknown.
        """
        if word == _UNKNOWN:
            raise ValueError(
                "a size that is needed here is no simple function of the dynamic dimensions; make "
                "fewer dimensions dynamic"
            )
        return self.sources[word]

    def fit(self, vector: Vector, parts: bool = True) -> int | None:
        """The number, or the simplest function that is known to give these; None if there is none.

        Args:
            parts: functions may divide.
        """
        if len(set(vector)) == 1:
            return vector[0]
        words = [SymInt.word(i, v[0]) for i, v in enumerate(self.vectors)]
        pairs: list[tuple[int, Vector]] = list(zip(words, self.vectors, strict=True))
        for form, values in pairs:
            if values == vector:
                return form
        for form, values in self._terms(pairs, parts):
            found = _line(values, vector)
            if found is not None:
                factor, summand = found
                return form * factor + summand
        for i, (form, values) in enumerate(pairs):
            for other, others in pairs[i + 1 :]:
                sums = tuple(a + b for a, b in zip(values, others, strict=True))
                found = _line(sums, vector)
                if found is not None:
                    return (form + other) * found[0] + found[1]
        return None

    def _terms(self, pairs: list[tuple[int, Vector]], parts: bool) -> Iterator[tuple[int, Vector]]:
        yield from pairs
        for count in (2, 3):
            for group in combinations_with_replacement(pairs, count):
                form, values = group[0]
                for other, others in group[1:]:
                    form = form * other
                    values = tuple(a * b for a, b in zip(values, others, strict=True))
                yield form, values
        for form, values in pairs if parts else ():
            for part in _PARTS:
                for more in range(1 - part, part):
                    yield (form + more) // part, tuple((v + more) // part for v in values)


def _line(xs: Vector, ys: Vector) -> tuple[int, int] | None:
    """Whole numbers a and b with y = a x + b everywhere."""
    first = next((i for i, x in enumerate(xs) if x != xs[0]), None)
    if first is None:
        return None
    a, rest = divmod(ys[first] - ys[0], xs[first] - xs[0])
    if rest or a == 0:
        return None
    b = ys[0] - a * xs[0]
    return (a, b) if all(a * x + b == y for x, y in zip(xs, ys, strict=True)) else None


def same_structure(graph: Graph, other: Graph) -> bool:
    """Whether two graphs differ in integers and numbers alone."""
    if len(graph.nodes) != len(other.nodes) or len(graph.outputs) != len(other.outputs):
        return False
    number: dict[Value, Value] = dict(zip(graph.inputs, other.inputs, strict=False))
    if len(graph.inputs) != len(other.inputs):
        return False
    for a, b in zip(graph.nodes, other.nodes, strict=True):
        if a.op is not b.op or len(a.operands) != len(b.operands):
            return False
        if any(number[x] is not y for x, y in zip(a.operands, b.operands, strict=True)):
            return False
        if any(not _alike(a.attributes[k], b.attributes[k]) for k in a.attributes):
            return False
        if any(x.type.rank != y.type.rank for x, y in zip(a.results, b.results, strict=True)):
            return False
        number.update(zip(a.results, b.results, strict=True))
    return all(number[x] is y for x, y in zip(graph.outputs, other.outputs, strict=True))


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b)
    if isinstance(a, (bool, str)) or not isinstance(a, (int, float)):
        return bool(a == b)
    return isinstance(b, (int, float))


def fitted(sizes: Sizes, node: Node, name: str, values: Sequence[Any]) -> Any:
    """An attribute's value, with functions for what differs.

    Raises:
        ValueError: something differs that is no function of sizes.
    """
    first = values[0]
    if isinstance(first, tuple):
        return tuple(_required(sizes, node, name, vector) for vector in zip(*values, strict=True))
    if isinstance(first, (bool, str)) or not isinstance(first, (int, float)):
        return first
    if all(v == first or v != v and first != first for v in values):  # nan is equal to no number
        return first
    return _required(sizes, node, name, tuple(values))


def _required(sizes: Sizes, node: Node, name: str, vector: Sequence[Any]) -> Any:
    if all(v == vector[0] for v in vector):
        return vector[0]
    found = None
    if all(float(v).is_integer() for v in vector):
        found = sizes.fit(tuple(int(v) for v in vector))
    if found is None:
        where = f"\n  at {node.location}" if node.location else ""
        raise ValueError(
            f"[{node.op.name}] {name} is {', '.join(map(str, vector))} at the sizes that were "
            "tried, which is no simple function of the dynamic dimensions; make fewer dimensions "
            f"dynamic{where}"
        )
    return found
