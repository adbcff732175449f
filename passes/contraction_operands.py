"""Where the operands of a contraction lie in memory, if their addresses are affine.

The micro-kernels step through an operand by constant strides. So the movements above it must fold into strides: a
window does, a permutation, slice or flip too, and a reshape after its dimensions are split. A pad does not, since
its border is not in memory; such a value must be made by a kernel before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from braze.ir.graph import Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.ops.contract import parse_equation
from braze.passes.access import Point, flat_index, source_index
from braze.passes.splitting import Splitting


@dataclass(slots=True)
class OperandAddresses:
    """The buffers that the two operands are read from, and the addresses there.

    Attributes:
        letters: the loop variable of each letter before splitting.
        splitting: how these were split.
        bases: the values read.
        addresses: element offsets, affine in the split variables.
    """

    letters: dict[str, LoopVar]
    splitting: Splitting
    bases: tuple[Value, Value]
    addresses: tuple[Index, Index]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an operand has no such addresses."""

    operand: int
    reason: str


def contraction_letters(node: Node) -> dict[str, LoopVar]:
    """A loop variable for each letter of a contraction's equation."""
    left, right, _ = parse_equation(str(node.attributes["equation"]))
    sizes = dict(
        zip(left + right, node.operands[0].shape + node.operands[1].shape, strict=True)
    )
    return {letter: LoopVar(letter, size) for letter, size in sizes.items()}


def operand_addresses(node: Node, stops: Sequence[Value]) -> OperandAddresses | Obstacle:
    """Follow both operands of a contraction to memory.

    Args:
        stops: for each operand the value that lies in memory: itself or what it is moved from.
    """
    letters = contraction_letters(node)
    terms = parse_equation(str(node.attributes["equation"]))[:2]
    splitting = Splitting(list(letters.values()))
    while True:
        bases: list[Value] = []
        addresses: list[Index] = []
        for position, operand in enumerate(node.operands):
            point = splitting.point([letters[c] for c in terms[position]])
            found = _follow(operand, point, stops[position])
            if isinstance(found, str):
                return Obstacle(position, found)
            bases.append(found[0])
            addresses.append(found[1])
        if all(address.is_affine for address in addresses):
            return OperandAddresses(
                letters, splitting, (bases[0], bases[1]), (addresses[0], addresses[1])
            )
        if not splitting.refine(addresses):
            position = 0 if not addresses[0].is_affine else 1
            reason = f"its address {addresses[position]} is not a sum of strides"
            return Obstacle(position, reason)


def _follow(value: Value, point: Point, stop: Value) -> tuple[Value, Index] | str:
    while value is not stop:
        node = value.node
        if node is None or not node.op.is_movement:
            name = "an input" if node is None else node.op.name
            return f"it is computed by {name} and not in memory"
        sources = source_index(node, point)
        if len(sources) != 1 or sources[0].bounds:
            return f"{node.op.name} makes it from more than one place, so it has no constant strides"
        point = sources[0].index
        value = node.operands[sources[0].operand]
    return value, flat_index(point, value.shape)
