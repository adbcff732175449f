"""Packages whose weights are stored in fewer bits, and the report on what that loses.

In: the graphs and weights that a package is made from.  Out: those with narrow weights, and an
`AccuracyReport` from running both with the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from braze.ir.dtypes import bf16, i8
from braze.ir.graph import Graph
from braze.ir.interpreter import interpret
from braze.ir.polynomials import Point
from braze.runtime.package_accuracy import AccuracyReport, WeightAccuracy, compared

if TYPE_CHECKING:
    from braze.passes import Choices
    from braze.passes.narrow_weights import NarrowWeight
    from braze.runtime.package_family import Sizes

Arrays = dict[str, np.ndarray]
Folded = tuple[Graph, Arrays]
# Computes what depends on weights alone, of a graph; a second argument may be a `Choices`.
Fold = Callable[..., Folded]

# The sizes that a call chooses, if it chooses any, and its arguments.
Sample = tuple[Point | None, Sequence[np.ndarray]]

DTYPES = {dtype.public_name: dtype for dtype in (bf16, i8)}


class Narrowing:
    """How a package's weights are to be narrowed.

    Attributes:
        report: None before the package is written.
    """

    def __init__(self, dtype: str, samples: Sequence[Sample]) -> None:
        """
        Args:
            dtype: a name of `DTYPES`.
            samples: the calls that are compared.
        """
        self.dtype = DTYPES[dtype]
        self.report: AccuracyReport | None = None
        self._samples = samples
        self._sources: dict[str, str] = {}
        self._weights: dict[str, NarrowWeight] = {}

    def folding(self, fold: Fold) -> Fold:
        """What folds a graph and narrows its weights.

        Args:
            fold: folds one, and says for each new weight which one it was made from.
        """
        from braze.passes.narrow_weights import narrow_weights

        def narrowed(graph: Graph, choices: Choices | None = None) -> Folded:
            folded, arrays = fold(graph, choices, sources=self._sources)
            folded, arrays, weights = narrow_weights(folded, arrays, self.dtype)
            self._weights.update(weights)
            return folded, arrays

        return narrowed

    def compare(
        self,
        graph: Graph,
        sizes: Sizes | None,
        fold: Fold,
        narrowed: Fold,
    ) -> AccuracyReport:
        """Run both and make the report.

        Args:
            graph: the captured one, of samples that choose no sizes.
        """
        graphs: dict[Point | None, tuple[Folded, Folded]] = {}
        runs = []
        for point, arrays in self._samples:
            if point not in graphs:
                own = graph if sizes is None or point is None else sizes.graph_at(point)
                graphs[point] = fold(own), narrowed(own)
            wanted, found = (_run(folded, arrays) for folded in graphs[point])
            runs.append((wanted, found))
        name = self.dtype.public_name
        weights = tuple(
            WeightAccuracy.of(
                source,
                weight.original,
                weight.decoded,
                weight.stored.nbytes + (0 if weight.scale is None else weight.scale.nbytes),
            )
            for source, weight in self._distinct()
        )
        self.report = AccuracyReport(name, len(runs), compared(runs), weights)
        return self.report

    def _distinct(self) -> Iterator[tuple[str, NarrowWeight]]:
        """The weights by what they were made from. What was folded again for the code of other
        sizes, to the same numbers, comes once, as it does in the package."""
        met: set[tuple[str, bytes]] = set()
        for name, weight in self._weights.items():
            source = self._sources.get(name, name)
            key = source, sha256(weight.stored.tobytes()).digest()
            if key not in met:
                met.add(key)
                yield source, weight


def _run(folded: Folded, sample: Sequence[np.ndarray]) -> list[np.ndarray]:
    graph, arrays = folded
    given = [np.ascontiguousarray(array) for array in sample]
    # Complex numbers are two real ones in a folded graph.
    given = [x[..., None].view(x.real.dtype) if x.dtype.kind == "c" else x for x in given]
    return interpret(graph, [*given, *(arrays[v.name or ""] for v in graph.inputs[len(given) :])])
