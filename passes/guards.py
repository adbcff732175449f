"""Which borders of padded operands a contraction leaves out of its sums rather than reads.

A convolution's windows reach into the padding. Its zeros add nothing, so that at each place of an
image fewer taps are left than the kernel has: at the edges of 4x4 images under 3x3 taps a third of
all products. A kernel can make shorter sums there, but only where all results of a register tile
are at the same place: the dimensions in which a border is left out cannot be a tile's rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, combinations, pairwise

from braze.ir.graph import Graph, Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Bound
from braze.ir.ops.contract import parse_equation
from braze.passes.access import Point, fill_value, flat_index, source_index

# Rows of a register tile, at most, and how many would take as long as what else a tile costs.
_TILE_ROWS = 8
_TILE_COST = 1.0
# How much longer a tile takes whose rows lie farther apart than the places of an image: in short
# runs here and there, memory is not fetched ahead.
_FAR = 1.05


@dataclass(frozen=True, slots=True)
class Border:
    """A bound of a pad, in the letters of a contraction.

    outer, inner: the letters that it depends on, of the result's dimensions and of the summed ones.
        None: the result has one place only.
    """

    pad: Node
    bound: Bound
    outer: LoopVar | None
    inner: LoopVar

    def kept(self) -> float:
        """The part of the points of (outer, inner) that is not in the padding."""
        if self.outer is None:
            return 1.0
        index, total = self.bound.index, 0
        step, by = index.coefficient(self.outer), index.coefficient(self.inner)
        for place in range(self.outer.extent):
            start = index.constant + step * place
            ends = (_first(self.bound.low - start, by), _first(self.bound.high - start, by))
            low, high = (min(max(end, 0), self.inner.extent) for end in sorted(ends))
            total += high - low
        return total / max(1, self.outer.extent * self.inner.extent)


def _first(least: int, by: int) -> int:
    """From which x on by * x is at least so much, or, if `by` is negative, no longer is."""
    return -(-least // by) if by > 0 else -least // -by + 1


def is_left_out(bound: Bound, chosen: frozenset[LoopVar], summed: set[LoopVar]) -> bool:
    """Whether a pad's bound becomes one of the sum, where borders along `chosen` are left out."""
    found = bound.index.variables()
    return bound.index.is_affine and len(found & summed) == 1 and found - summed <= chosen


def left_out(node: Node, position: int, letters: dict[str, LoopVar]) -> frozenset[LoopVar]:
    """The letters of the result, of those that index an operand alone, along which the operand's
    borders are left out: as `split_pads` has decided, or those with which the tiles that remain
    take the least time.

    Args:
        letters: the loop variable of each letter of the contraction.
    """
    terms = parse_equation(str(node.attributes["equation"]))
    decided = node.attributes.get("left_out")
    if isinstance(decided, str):
        return frozenset(letters[c] for c in decided if c in terms[position])
    borders = list(_borders(node, position, letters))
    if not borders:
        return frozenset()
    own, others = (
        [letters[c] for c in terms[at] if c in terms[2] and c not in terms[1 - at]]
        for at in (position, 1 - position)
    )
    if not others:
        return frozenset()  # vectors would have to lie along this operand's dimensions
    possible = [v for v in own if any(border.outer == v for border in borders)]
    far = _far_letters(node, position, letters, possible)
    choices = chain.from_iterable(combinations(possible, n) for n in range(len(possible), -1, -1))
    return frozenset(min(choices, key=lambda chosen: _cost(chosen, own, borders, far)))


def _cost(
    chosen: Iterable[LoopVar], own: list[LoopVar], borders: list[Border], far: set[LoopVar]
) -> float:
    """The time for all products, to compare."""
    part = 1.0
    for v in chosen:
        part *= min(border.kept() for border in borders if border.outer == v)
    times = (_tile_time(v) * (_FAR if v in far else 1.0) for v in own if v not in chosen)
    return part * min(times, default=1 + _TILE_COST)


def _tile_time(v: LoopVar) -> float:
    """The time for a product in tiles whose rows are cut from a dimension, to compare."""
    rows = v.extent / -(-v.extent // _TILE_ROWS) if v.extent else 1.0
    return 1 + _TILE_COST / rows


def _far_letters(
    node: Node, position: int, letters: dict[str, LoopVar], near: list[LoopVar]
) -> set[LoopVar]:
    """The letters along which an operand's elements lie farther apart than along all of `near`."""
    *_, (value, point) = _chain(node, position, letters)
    strides = dict(flat_index(point, value.shape).terms)
    most = max((abs(strides.get(v, 0)) for v in near), default=0)
    return {v for v in letters.values() if abs(strides.get(v, 0)) > most}


def _borders(node: Node, position: int, letters: dict[str, LoopVar]) -> Iterator[Border]:
    """The bounds of the zeros around an operand."""
    summed = summed_letters(node, letters)
    for pad, bounds in padded(node, position, letters):
        for bound in bounds.values():
            inner = [v for v in bound.index.variables() if v in summed]
            outer = [v for v in bound.index.variables() if v not in summed]
            if len(inner) == 1 and len(outer) <= 1:
                yield Border(pad, bound, outer[0] if outer else None, inner[0])


def padded(
    node: Node, position: int, letters: dict[str, LoopVar]
) -> Iterator[tuple[Node, dict[int, Bound]]]:
    """The pads with zeros that an operand is read through, from the contraction down to the first
    that is not affine, with the bounds of their dimensions."""
    for (value, point), _ in pairwise(_chain(node, position, letters)):
        mover = value.node
        assert mover is not None
        if mover.op.name == "pad":
            (source,) = source_index(mover, point)
            of = {bound.index: bound for bound in source.bounds}
            yield mover, {dim: of[at] for dim, at in enumerate(source.index) if at in of}


def _chain(
    node: Node, position: int, letters: dict[str, LoopVar]
) -> Iterator[tuple[Value, Point]]:
    """An operand and what it is moved from, with where an element is in each, down to what moves
    more than one value or has other borders than zeros at an affine distance."""
    terms = parse_equation(str(node.attributes["equation"]))
    value = node.operands[position]
    point: Point = tuple(Index.of(letters[c]) for c in terms[position])
    while True:
        mover = value.node
        if mover is None or not mover.op.is_movement or len(mover.operands) != 1:
            break
        (source,) = source_index(mover, point)
        affine = all(bound.index.is_affine for bound in source.bounds)
        if source.bounds and (mover.op.name != "pad" or fill_value(mover) != 0.0 or not affine):
            break
        yield value, point
        point, value = source.index, mover.operands[0]
    yield value, point


def summed_letters(node: Node, letters: dict[str, LoopVar]) -> set[LoopVar]:
    """Those that the result does not have."""
    left, right, out = parse_equation(str(node.attributes["equation"]))
    return {letters[c] for c in left if c in right and c not in out}


def contraction_letters(node: Node) -> dict[str, LoopVar]:
    """A loop variable for each letter of a contraction's equation."""
    left, right, _ = parse_equation(str(node.attributes["equation"]))
    sizes = dict(zip(left + right, node.operands[0].shape + node.operands[1].shape, strict=True))
    return {letter: LoopVar(letter, size) for letter, size in sizes.items()}


def stored_pads(graph: Graph) -> set[Node]:
    """The pads whose borders contractions need in memory."""
    found: set[Node] = set()
    for node in graph.nodes:
        for position in range(2 if node.op.is_contract else 0):
            letters = contraction_letters(node)
            chosen, summed = left_out(node, position, letters), summed_letters(node, letters)
            for pad, bounds in padded(node, position, letters):
                if not all(is_left_out(b, chosen, summed) for b in bounds.values()):
                    found.add(pad)
                    break
    return found
