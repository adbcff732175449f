"""The groups that `fuse` grows: which nodes share a kernel, and what each node reads.

Some nodes never get a kernel of their own: movements, constants and ramps, arithmetic on single
numbers, and cheap operations whose result is larger than what it is made from are evaluated by
whoever reads them. The others are *anchors*. An anchor reads
*bases*: graph inputs and results of anchors, found by walking through what lies between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from braze.ir.graph import Graph, Node, Value
from braze.passes.attention_operands import deepest_in_memory
from braze.passes.cache_jumps import is_window, reads_in_jumps
from braze.passes.contraction_operands import (
    Obstacle,
    OperandAddresses,
    is_widening,
    operand_addresses,
)
from braze.passes.space import Space, space_of

# Of a node in its group: computed at every point, once for each kept point, a rearranged copy of
# another output, evaluated wherever a member needs it, or summed up over parts of the kept points.
Level = Literal["full", "kept", "moved", "inside", "columns"]

# Instructions for a single number that each of its readers may repeat (once for a kernel, not for
# an element).
MOST_SCALAR_COST = 100
# Instructions for each element that readers repeat, if that loads fewer bytes than the result has.
MOST_REPEATED_COST = 3
# Inputs that are the same for many runs, which come in the order that suits their readers.
WEIGHT_ROLES = ("param", "buffer", "const")


@dataclass(frozen=True, slots=True)
class Read:
    """A base that an anchor reads. `aligned`: only reshapes lie between, and no broadcasting."""

    base: Value
    aligned: bool
    rearranged: bool  # only reshapes and permutations lie between


@dataclass(eq=False, slots=True)
class Group:
    """Nodes that will be one kernel."""

    number: int
    kind: str
    space: Space
    members: list[Node]
    levels: dict[Node, Level]
    before: set[Group] = field(default_factory=set)
    after: set[Group] = field(default_factory=set)

    @property
    def name(self) -> str:
        return "+".join(dict.fromkeys(node.op.name for node in self.members))

    def __repr__(self) -> str:
        return f"<group {self.number} {self.kind} {self.name}>"


class Reads:
    """What every anchor of a graph reads, and who reads every base."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.order = {node: position for position, node in enumerate(graph.nodes)}
        self.outputs = set(graph.outputs)
        self._costs: dict[Node | None, int] = {}
        self._walked: dict[Value, tuple[Read, ...]] = {}
        self.inlined = {node for node in graph.nodes if self._is_inlined(node)}
        self.cuts: dict[tuple[Node, int], Value] = {}
        self.addresses: dict[Node, OperandAddresses] = {}  # of contractions
        self._place(graph.nodes)
        # A padded value that others read the inside of (see `share_pads`) is read from memory by
        # all, who may need more than that value in memory then.
        sliced = {n.operands[0] for n in graph.nodes if n.op.name == "slice"}
        while padded := {v for v in self.cuts.values() if v in sliced and not self.is_base(v)}:
            self.inlined -= {v.node for v in padded if v.node is not None}
            self._place([node for node in graph.nodes if self._reads_through(node, padded)])
        made = self.outputs | set(self.cuts.values())
        self.anchors = [
            node
            for node in graph.nodes
            if node not in self.inlined or any(result in made for result in node.results)
        ]
        self.of: dict[Node, tuple[Read, ...]] = {n: tuple(self._reads(n)) for n in self.anchors}
        self.readers: dict[Value, list[Node]] = {}
        for node in self.anchors:
            for base in dict.fromkeys(read.base for read in self.of[node]):
                self.readers.setdefault(base, []).append(node)

    def is_base(self, value: Value) -> bool:
        """Is the value a graph input or made by a node that is never repeated?"""
        return value.node is None or value.node not in self.inlined

    def _is_inlined(self, node: Node) -> bool:
        op = node.op
        if op.is_movement or (op.category == "creation" and not node.operands):
            return True
        if not op.is_pointwise:
            return False
        # What reading the result through repeats: cost adds up along a chain.
        makers = [x.node for x in node.operands if x.node in self._costs]
        cost = op.cost + sum(self._costs[maker] for maker in dict.fromkeys(makers))
        single = node.result.type.numel == 1
        loaded = sum(self._loaded(x) for x in dict.fromkeys(node.operands))
        cheap = cost <= MOST_REPEATED_COST and loaded < node.result.type.nbytes
        if not cheap and not (single and cost <= MOST_SCALAR_COST):
            return False
        self._costs[node] = cost
        return True

    def _loaded(self, value: Value) -> int:
        """Bytes that are read to know a value: its own, or those that it is computed from on the
        fly."""
        node = value.node
        if node is None or not (node.op.is_movement or node in self._costs):
            created = node is not None and node.op.category == "creation" and not node.operands
            return 0 if created else value.type.nbytes
        return min(value.type.nbytes, sum(self._loaded(x) for x in dict.fromkeys(node.operands)))

    def _reads_through(self, node: Node, values: set[Value]) -> bool:
        return any(not values.isdisjoint(self._chain(operand)) for operand in node.operands)

    def _place(self, nodes: Iterable[Node]) -> None:
        """Choose what must be in memory for kernels that read their operands there."""
        for node in nodes:
            for position in range(len(node.operands)):
                self.cuts.pop((node, position), None)
            if node.op.is_contract:
                self._cut_operands(node)
            elif node.op.is_alone:
                self._store_operands(node)
            elif node.op.is_attention:
                self._place_operands(node)

    def _cut_operands(self, node: Node) -> None:
        """Choose what must be in memory so that the contraction can address its operands."""
        chains = [self._chain(operand) for operand in node.operands]
        at = [len(chain) - 1 for chain in chains]
        if any(is_window(value) for chain in chains for value in chain):
            at = [n - reads_in_jumps(node, chain) for n, chain in zip(at, chains, strict=True)]
        while True:
            stops = [chain[i] for chain, i in zip(chains, at, strict=True)]
            found = operand_addresses(node, stops)
            if not isinstance(found, Obstacle):
                self.addresses[node] = found
                for position, stop in enumerate(stops):
                    if not self.is_base(stop) and (node, position) not in self.cuts:
                        self.cuts[node, position] = stop
                return
            wrong = found.operand
            at[wrong] -= 1
            self.cuts[node, wrong] = chains[wrong][at[wrong]]

    def _store_operands(self, node: Node) -> None:
        """What such a kernel reads must be in memory, in order; a reshape changes nothing there."""
        for position, operand in enumerate(node.operands):
            while operand.node is not None and _is_reshape(operand.node):
                operand = operand.node.operands[0]
            if not self.is_base(operand):
                self.cuts[node, position] = operand

    def _place_operands(self, node: Node) -> None:
        """What attention reads must be in memory, by strides."""
        for position in range(len(node.operands)):
            stop = deepest_in_memory(node, position, self.is_base)
            if not self.is_base(stop):
                self.cuts[node, position] = stop

    def _chain(self, value: Value) -> list[Value]:
        """A value and what it is moved from, down to a base or to where several values meet."""
        chain = [value]
        while not self.is_base(value):
            node = value.node
            assert node is not None
            if not self._is_widened_weight(node):
                if not node.op.is_movement or len(node.operands) != 1:
                    break
            value = node.operands[0]
            chain.append(value)
        return chain

    def _is_widened_weight(self, node: Node) -> bool:
        """A cast that loses nothing, of a weight: contractions convert it as they read it. Other
        values are stored in the sum's dtype, since both operands' elements are read many times."""
        if not is_widening(node):
            return False
        value = node.operands[0]
        while value.node is not None and value.node.op.is_movement:
            value = value.node.operands[0]
        return value.node is None and self.graph.input_role(value) in WEIGHT_ROLES

    def _reads(self, node: Node) -> Iterator[Read]:
        space = space_of(node)
        for position, operand in enumerate(node.operands):
            cut = self.cuts.get((node, position))
            if cut is not None:
                yield Read(cut, False, False)
                continue
            fits = self._passes(node, position) and operand.type.numel == space.full
            for read in self._walk(operand):
                moves = fits or _is_rearrangement(node)
                yield Read(
                    read.base,
                    read.aligned and fits and not _is_permutation(node),
                    read.rearranged and moves,
                )

    @staticmethod
    def _passes(node: Node, position: int) -> bool:
        """Does the operand's element number follow the node's point?"""
        if node.op.is_pointwise or node.op.is_reduce or node.op.category == "check":
            return True
        if node.op.is_scan:
            return True  # but for the starts of a scan's blocks, of which there are fewer
        if node.op.is_movement:
            return _is_rearrangement(node)
        return node.op.category == "gather" and position == 1

    def _walk(self, value: Value) -> tuple[Read, ...]:
        if value not in self._walked:
            self._walked[value] = self._walk_anew(value)
        return self._walked[value]

    def _walk_anew(self, value: Value) -> tuple[Read, ...]:
        if self.is_base(value):
            return (Read(value, True, True),)
        node = value.node
        assert node is not None
        found: dict[Read, None] = {}
        for operand in node.operands:
            whole = operand.type.numel == value.type.numel
            same = whole and (node.op.is_pointwise or _is_reshape(node))
            moved = whole and (node.op.is_pointwise or _is_rearrangement(node))
            for read in self._walk(operand):
                found[Read(read.base, read.aligned and same, read.rearranged and moved)] = None
        return tuple(found)


def _is_reshape(node: Node) -> bool:
    return node.op.is_movement and "shape" in node.attributes and (
        node.operands[0].type.numel == node.result.type.numel
    )


def _is_permutation(node: Node) -> bool:
    return node.op.name == "permute"


def _is_rearrangement(node: Node) -> bool:
    """A movement that only renumbers the elements."""
    return _is_reshape(node) or _is_permutation(node)


def is_flat(node: Node) -> bool:
    """Does element number n of the result come from element number n of the operands (of equal
    size), and from what a scan has read before it?"""
    return node.op.is_pointwise or node.op.is_scan or _is_reshape(node)
