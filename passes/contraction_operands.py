"""Where the operands of a contraction lie in memory, if their addresses are affine.

The micro-kernels step through an operand by constant strides. So the movements above it must fold
into strides: a window does, a permutation, slice or flip too, and a reshape after its dimensions
are split. A pad does not, since its border is not in memory; such a value must be made by a kernel
before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from braze.ir.graph import Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.ops.contract import parse_equation
from braze.passes.access import Point, flat_index, source_index
from braze.passes.splitting import Splitting

# With fewer neighbours of a result in a contraction's vector than this, each of its elements is in
# another cache line, and what an epilogue reads beside it, too. Results of as many elements as this
# are stored in another order then, and read again in theirs.
SHORT_RUN = 8
LARGE_RESULT = 1 << 15


@dataclass(slots=True)
class OperandAddresses:
    """The buffers that the two operands are read from, and the addresses there.

    Attributes:
        letters: the loop variable of each letter before splitting.
        splitting: how these were split.
    """

    node: Node
    stops: Sequence[Value]
    letters: dict[str, LoopVar]
    splitting: Splitting

    def addresses(self) -> list[Index] | Obstacle:
        """Element offsets in the operands' buffers, in the split variables."""
        terms = parse_equation(str(self.node.attributes["equation"]))[:2]
        found: list[Index] = []
        for position, operand in enumerate(self.node.operands):
            point = self.splitting.point([self.letters[c] for c in terms[position]])
            address = _follow(operand, point, self.stops[position])
            if isinstance(address, str):
                return Obstacle(position, address)
            found.append(address)
        return found

    def result_run(self, order: Sequence[int] | None = None) -> int:
        """How many neighbouring elements of the result an operand has at one stride: so many fit
        vectors that run along the result.

        Args:
            order: the result's dimensions in the order in which they are stored; None: their own.
        """
        out = parse_equation(str(self.node.attributes["equation"]))[2]
        letters = out if order is None else [out[d] for d in order]
        variables = self.splitting.current([self.letters[c] for c in letters])
        addresses = self.addresses()
        assert not isinstance(addresses, Obstacle)
        return run_of(
            (v.extent, [address.coefficient(v) for address in addresses]) for v in variables[::-1]
        )


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an operand has no such addresses."""

    operand: int
    reason: str


def run_of(dims: Iterable[tuple[int, list[int]]]) -> int:
    """How many elements follow each other at one stride in each operand.

    Args:
        dims: extents and strides, from the innermost dimension outwards.
    """
    run = 1
    first: list[int] | None = None
    for extent, strides in dims:
        if extent == 1:
            continue
        if first is not None and strides != [run * stride for stride in first]:
            break
        first = first or strides
        run *= extent
    return run


def contraction_letters(node: Node) -> dict[str, LoopVar]:
    """A loop variable for each letter of a contraction's equation."""
    left, right, _ = parse_equation(str(node.attributes["equation"]))
    sizes = dict(zip(left + right, node.operands[0].shape + node.operands[1].shape, strict=True))
    return {letter: LoopVar(letter, size) for letter, size in sizes.items()}


def operand_addresses(node: Node, stops: Sequence[Value]) -> OperandAddresses | Obstacle:
    """Follow both operands of a contraction to memory.

    Args:
        stops: for each operand the value that lies in memory: itself or what it is moved from.
    """
    letters = contraction_letters(node)
    found = OperandAddresses(node, stops, letters, Splitting(list(letters.values())))
    while True:
        addresses = found.addresses()
        if isinstance(addresses, Obstacle):
            return addresses
        crooked = [i for i, address in enumerate(addresses) if not address.is_affine]
        if not crooked:
            return found
        if not found.splitting.refine(addresses):
            reason = f"its address {addresses[crooked[0]]} is not a sum of strides"
            return Obstacle(crooked[0], reason)


def _follow(value: Value, point: Point, stop: Value) -> Index | str:
    while value is not stop:
        node = value.node
        if node is None or not node.op.is_movement:
            name = "an input" if node is None else node.op.name
            return f"it is computed by {name} and not in memory"
        sources = source_index(node, point)
        if len(sources) != 1 or sources[0].bounds:
            return (
                f"{node.op.name} makes it from more than one place, so it has no constant strides"
            )
        point = sources[0].index
        value = node.operands[sources[0].operand]
    return flat_index(point, value.shape)
