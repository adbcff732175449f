"""Give every intermediate value a place in one arena.

In: a scheduled graph. Out: a `MemoryPlan`: byte offsets (64-byte aligned), and the waves of kernels
that run together. Lifetimes are counted in waves. Values whose lifetimes overlap get disjoint
places; a kernel that may write over an operand that dies there does so. Several classic heuristics
for offline strip packing are tried (largest first, longest first, largest area first, in order of
time), each placing values by best fit; the best result is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from braze.ir.arena import aligned
from braze.ir.graph import Graph, Node, Value
from braze.passes.in_place import writes_in_place
from braze.passes.own_operands import collectives_in_place


@dataclass(slots=True)
class MemoryPlan:
    """Where intermediate values live.

    Attributes:
        offsets: byte offset in the arena of each value that is neither an input nor an output.
        waves: the nodes that run together, in order.
        arena_bytes: size of the arena.
        lower_bound: largest sum of bytes that are alive at one time.
        unplanned_bytes: what they would take if each had a place of its own.
        overwrites: result -> operand of the same node whose memory it takes.
    """

    offsets: dict[Value, int]
    waves: list[list[Node]]
    arena_bytes: int
    lower_bound: int
    unplanned_bytes: int
    overwrites: dict[Value, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Block:
    """A piece of the arena: several values that follow each other in place, alive from `start` to
    `end`; and those that are `parts` of it, each at a byte of its own."""

    size: int
    start: int
    end: int
    values: list[Value]
    offset: int = 0
    parts: dict[Value, int] = field(default_factory=dict)


def plan_memory(graph: Graph, waves: list[list[Node]]) -> MemoryPlan:
    """Plan the arena of a scheduled graph.

    Args:
        waves: the graph's nodes, in groups that run together.
    """
    blocks, overwrites = _blocks(graph, waves)
    lower_bound = _peak(blocks)
    best: dict[int, int] | None = None
    best_size = 0
    for key in _ORDERS:
        offsets, size = _place(sorted(blocks, key=key))
        if best is None or size < best_size:
            best, best_size = offsets, size
        if best_size <= lower_bound:
            break
    assert best is not None
    places = {value: best[id(block)] for block in blocks for value in block.values}
    for block in blocks:
        places.update({part: best[id(block)] + byte for part, byte in block.parts.items()})
    return MemoryPlan(
        offsets=places,
        waves=waves,
        arena_bytes=best_size,
        lower_bound=lower_bound,
        unplanned_bytes=sum(aligned(value.type.nbytes) for value in places),
        overwrites=overwrites,
    )


_ORDERS: tuple[Callable[[Block], tuple[int, ...]], ...] = (
    lambda b: (-b.size, b.start),
    lambda b: (-(b.end - b.start), -b.size),
    lambda b: (-b.size * (b.end - b.start + 1), b.start),
    lambda b: (b.start, -b.size),
    lambda b: (b.end, -b.size),
    lambda b: (-b.end, -b.size),
)


def lifetimes(graph: Graph, waves: list[list[Node]]) -> dict[Value, tuple[int, int]]:
    """For each intermediate value the waves that write it and read it last."""
    outside = set(graph.inputs) | set(graph.outputs)
    spans: dict[Value, tuple[int, int]] = {}
    for time, wave in enumerate(waves):
        for node in wave:
            for operand in node.operands:
                if operand in spans:
                    spans[operand] = (spans[operand][0], time)
            for result in node.results:
                if result not in outside:
                    spans[result] = (time, time)
    return spans


def _blocks(graph: Graph, waves: list[list[Node]]) -> tuple[list[Block], dict[Value, Value]]:
    """One block for each value, or for a chain of values that overwrite each other."""
    spans = lifetimes(graph, waves)
    aliased = {graph.outputs[o]: graph.inputs[i] for o, i in graph.aliases.items()}
    block_of: dict[Value, Block] = {}
    overwrites: dict[Value, Value] = {}
    times = {node: time for time, wave in enumerate(waves) for node in wave}
    for own in collectives_in_place(graph):
        result, parts = own.wait.result, dict(own.parts)
        start, end = min(spans[part][0] for part in parts), spans[result][1]
        kept = Block(aligned(result.type.nbytes), start, end, [result])
        given = kept
        if not own.is_whole:
            kept.start = times[own.start]
            size = aligned(sum(part.type.nbytes for part in parts))
            given = Block(size, start, times[own.wait], [])
        given.parts = parts
        block_of.update({result: kept, **dict.fromkeys(parts, given)})
    for time, wave in enumerate(waves):
        for node in wave:
            taken = _in_place(node, time, spans, wave, aliased, block_of)
            overwrites.update(taken)
            for result in node.results:
                if result not in spans or result in block_of:
                    continue
                start, end = spans[result]
                if result in taken:
                    block = block_of[taken[result]]
                    block.end = max(block.end, end)
                    block.values.append(result)
                else:
                    block = Block(aligned(result.type.nbytes), start, end, [result])
                block_of[result] = block
    return list({id(block): block for block in block_of.values()}.values()), overwrites


def _in_place(
    node: Node,
    time: int,
    spans: dict[Value, tuple[int, int]],
    wave: list[Node],
    aliased: dict[Value, Value],
    block_of: dict[Value, Block],
) -> dict[Value, Value]:
    """Results of a node that take over the memory of operands which die there, beside the outputs
    that overwrite inputs (`aliased`) and those that have a block already."""
    own = {r: aliased[r] for r in node.results if aliased.get(r) in node.operands}
    taken: dict[Value, Value] = {}
    for result in node.results:
        if result not in spans or result in block_of:
            continue
        for operand in dict.fromkeys(node.operands):
            dies = operand in spans and spans[operand][1] == time
            dies = dies and operand not in block_of[operand].parts
            fits = dies and aligned(operand.type.nbytes) == aligned(result.type.nbytes)
            if not fits or operand.dtype.itemsize != result.dtype.itemsize:
                continue
            if operand in taken.values() or any(
                operand in other.operands for other in wave if other is not node
            ):
                continue
            if writes_in_place(node, {**own, **taken, result: operand}):
                taken[result] = operand
                break
    return taken


def _peak(blocks: list[Block]) -> int:
    """The largest sum of sizes at one time."""
    changes: dict[int, int] = {}
    for block in blocks:
        changes[block.start] = changes.get(block.start, 0) + block.size
        changes[block.end + 1] = changes.get(block.end + 1, 0) - block.size
    peak = alive = 0
    for time in sorted(changes):
        alive += changes[time]
        peak = max(peak, alive)
    return peak


def _place(blocks: list[Block]) -> tuple[dict[int, int], int]:
    """Put each block into the smallest gap that it fits among those already placed beside it in
    time."""
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[int, int] = {}
    size = 0
    for block in blocks:
        first, last, needed = block.start, block.end, block.size
        neighbours = [
            (offset, end) for start, stop, offset, end in placed if start <= last and first <= stop
        ]
        neighbours.sort()
        best, best_gap, free = -1, -1, 0
        for offset, end in neighbours:
            gap = offset - free
            if gap >= needed and (best < 0 or gap < best_gap):
                best, best_gap = free, gap
            if end > free:
                free = end
        offset = free if best < 0 else best
        offsets[id(block)] = offset
        placed.append((first, last, offset, offset + needed))
        size = max(size, offset + needed)
    return offsets, size
