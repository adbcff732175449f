"""Split loop variables so that divisions and remainders of them go away.

A reshape that cuts a dimension turns the variable v of that dimension into v // c and v % c. Where
c divides v's extent, two variables a and b with v = c*a + b make every address affine again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from braze.ir.index import DataIndex, FloorDiv, Index, LoopVar, Mod


class Splitting:
    """Which variables stand for which: `at` gives an original variable in terms of the current
    ones."""

    def __init__(self, variables: Sequence[LoopVar]) -> None:
        self.at: dict[LoopVar, Index] = {v: Index.of(v) for v in variables}
        self.parts: dict[LoopVar, list[LoopVar]] = {v: [v] for v in variables}

    def point(self, variables: Sequence[LoopVar]) -> tuple[Index, ...]:
        """The index of original variables."""
        return tuple(self.at[v] for v in variables)

    def current(self, variables: Sequence[LoopVar]) -> list[LoopVar]:
        """The variables that original ones consist of now, outermost first."""
        return [part for v in variables for part in self.parts[v]]

    def refine(self, indices: Iterable[Index]) -> bool:
        """Split what these indices divide by constants. False if there was nothing to split."""
        wanted: dict[LoopVar, set[int]] = {}
        for index in indices:
            _collect(index, wanted)
        replace: dict[LoopVar, Index] = {}
        for original, parts in self.parts.items():
            new: list[LoopVar] = []
            for v in parts:
                cuts = _chain(v.extent, wanted.get(v, set()))
                pieces = _pieces(v, cuts) if cuts else [v]
                new += pieces
                if cuts:
                    replace[v] = _joined(pieces)
            self.parts[original] = new
        if not replace:
            return False
        for original, index in self.at.items():
            self.at[original] = index.substitute(replace.get)
        return True


def _collect(index: Index, wanted: dict[LoopVar, set[int]]) -> None:
    for atom, _ in index.terms:
        if isinstance(atom, (FloorDiv, Mod)):
            inner = atom.inner
            if len(inner.terms) == 1 and inner.constant == 0:
                variable, c = inner.terms[0]
                if c == 1 and isinstance(variable, LoopVar):
                    wanted.setdefault(variable, set()).add(atom.divisor)
            _collect(inner, wanted)
        elif isinstance(atom, DataIndex):
            for expr in atom.value.walk():
                for inside in expr.indices():
                    _collect(inside, wanted)


def _chain(extent: int, cuts: set[int]) -> list[int]:
    """The divisors of the extent among the cuts, each a multiple of the one before."""
    chain: list[int] = []
    for cut in sorted(cuts):
        if 1 < cut < extent and extent % cut == 0 and (not chain or cut % chain[-1] == 0):
            chain.append(cut)
    return chain


def _pieces(v: LoopVar, cuts: list[int]) -> list[LoopVar]:
    sizes = [*cuts, v.extent]
    below = [1, *cuts]
    extents = [size // small for size, small in zip(sizes, below, strict=True)][::-1]
    return [LoopVar(f"{v.name}_{i}", extent) for i, extent in enumerate(extents)]


def _joined(pieces: list[LoopVar]) -> Index:
    total = Index()
    for piece in pieces:
        total = total * piece.extent + Index.of(piece)
    return total
