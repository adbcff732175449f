"""Where the operands of a contraction lie in memory, if their addresses are affine.

The micro-kernels step through an operand by constant strides. So the movements above it must fold
into strides: a window does, a permutation, slice or flip too, and a reshape after its dimensions
are split. A cast that loses nothing is done as elements are read. A pad does not fold, since its
border is not in memory. Either the border is left out of the sums (see `guards`), or such a value
must be made by a kernel before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from braze.ir.graph import Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Bound
from braze.ir.ops.contract import parse_equation
from braze.passes.access import fill_value, flat_index, source_index
from braze.passes.guards import contraction_letters, is_left_out, left_out, summed_letters
from braze.passes.splitting import Splitting

# With fewer neighbours of a result in a contraction's vector than this, each of its elements is in
# another cache line, and what an epilogue reads beside it, too. Results of as many elements as this
# are stored in another order then, and read again in theirs. Neighbours that no operand has side by
# side, such as the taps that all look at one pixel, have to fill a vector.
SHORT_RUN = 8
FULL_RUN = 16
LARGE_RESULT = 1 << 15


@dataclass(slots=True)
class OperandAddresses:
    """The buffers that the two operands are read from, and the addresses there.

    Attributes:
        letters: the loop variable of each letter before splitting.
        splitting: how these were split.
        chosen: for each operand the letters along which borders may be left out of the sums.
    """

    node: Node
    stops: Sequence[Value]
    letters: dict[str, LoopVar]
    splitting: Splitting
    chosen: Sequence[frozenset[LoopVar]]

    def addresses(self) -> list[Address] | Obstacle:
        """Where the operands' elements are in their buffers, in the split variables."""
        found: list[Address] = []
        for position, operand in enumerate(self.node.operands):
            address = self._follow(position, operand)
            if isinstance(address, str):
                return Obstacle(position, address)
            found.append(address)
        return found

    def result_run(self, order: Sequence[int] | None = None) -> Run:
        """The neighbouring elements of the result that operands have at one stride: so many fit
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
            (v.extent, [address.index.coefficient(v) for address in addresses])
            for v in variables[::-1]
        )

    def _follow(self, position: int, value: Value) -> Address | str:
        terms = parse_equation(str(self.node.attributes["equation"]))
        point = self.splitting.point([self.letters[c] for c in terms[position]])
        current = self.splitting.current
        chosen = frozenset(current([*self.chosen[position]]))
        summed = {*current([*summed_letters(self.node, self.letters)])}
        guard: list[Bound] = []
        while value is not self.stops[position]:
            node = value.node
            if node is not None and is_widening(node):
                value = node.operands[0]
                continue
            if node is None or not node.op.is_movement:
                name = "an input" if node is None else node.op.name
                return f"it is computed by {name} and not in memory"
            sources = source_index(node, point)
            (source, *others) = sources
            if others or (source.bounds and fill_value(node) != 0.0):
                return (
                    f"{node.op.name} makes it from more than one place, so it has no constant "
                    f"strides"
                )
            if not all(is_left_out(bound, chosen, summed) for bound in source.bounds):
                return f"the border that {node.op.name} adds must be in memory"
            guard += source.bounds
            point = source.index
            value = node.operands[source.operand]
        return Address(flat_index(point, value.shape), tuple(guard))


@dataclass(frozen=True, slots=True)
class Address:
    """An element's place in its buffer; it counts as zero where a bound fails."""

    index: Index
    guard: tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an operand has no such addresses."""

    operand: int
    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """Elements that follow each other at one stride in each operand.

    Attributes:
        length: how many.
        strides: of each operand.
    """

    length: int
    strides: Sequence[int]

    @property
    def is_short(self) -> bool:
        """Whether vectors along it cost more than storing the result in another order."""
        return self.length < (SHORT_RUN if 1 in self.strides else FULL_RUN)


def run_of(dims: Iterable[tuple[int, list[int]]]) -> Run:
    """The run that begins with the innermost dimension.

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
    return Run(run, first or [])


def is_widening(node: Node) -> bool:
    """Whether a node is a cast of numbers that loses nothing: kernels can do it as they read."""
    if node.op.name != "cast":
        return False
    source, goal = node.operands[0].dtype, node.result.dtype
    return source.kind != "bool" and goal.holds(source)


def operand_addresses(
    node: Node, stops: Sequence[Value], *, decided: bool = False
) -> OperandAddresses | Obstacle:
    """Follow both operands of a contraction to memory.

    Args:
        stops: for each operand the value that lies in memory: itself or what it is moved from.
        decided: every border between here and there is to be left out.
    """
    letters = contraction_letters(node)
    every = frozenset(letters.values())
    chosen = [every if decided else left_out(node, position, letters) for position in range(2)]
    found = OperandAddresses(node, stops, letters, Splitting(list(letters.values())), chosen)
    while True:
        addresses = found.addresses()
        if isinstance(addresses, Obstacle):
            return addresses
        crooked = [i for i, address in enumerate(addresses) if not address.index.is_affine]
        if not crooked:
            return found
        if not found.splitting.refine(address.index for address in addresses):
            reason = f"its address {addresses[crooked[0]].index} is not a sum of strides"
            return Obstacle(crooked[0], reason)
