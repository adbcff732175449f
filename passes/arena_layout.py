"""The arena of a symbolic program: where its blocks begin, for any size.

In: a program whose buffers have symbolic sizes, placed for a sample.  Out: an `ArenaLayout`. Blocks
that are alive at the same time keep their order in memory, each directly above the highest of those
that lay below it, so that they never meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from braze.ir.arena import ArenaLayout, aligned
from braze.ir.loops import Buffer, Placement, Program
from braze.ir.loops_recurrence import Recurrence
from braze.ir.symint import form_of
from braze.passes.symbolic_fit import NotSymbolic


@dataclass(slots=True)
class _Block:
    offset: int
    end: int
    first: int
    last: int
    names: list[str]
    sizes: list[int]

    def meets(self, other: _Block) -> bool:
        """Whether they are alive at the same time."""
        return self.first <= other.last and other.first <= self.last

    def overlaps(self, other: _Block) -> bool:
        """Whether they share memory."""
        return self.offset < other.end and other.offset < self.end


def arena_layout(program: Program) -> ArenaLayout:
    """The layout of a program's arena.

    Raises:
        NotSymbolic: buffers that are alive at the same time overlap in part.
    """
    blocks = _joined(list(_single(program)))
    blocks.sort(key=lambda block: (block.offset, block.first))
    below = [
        tuple(
            number
            for number, other in enumerate(blocks[:place])
            if other.meets(block) and other.offset < block.offset
        )
        for place, block in enumerate(blocks)
    ]
    return ArenaLayout(
        tuple(tuple(block.sizes) for block in blocks),
        tuple(below),
        {name: number for number, block in enumerate(blocks) for name in block.names},
    )


def with_step_layout(kernel: Recurrence, sizes: int) -> None:
    """Have a recurrence's step keep its values in an arena of any size: one behind the other.

    Args:
        sizes: how many there are. They become the words of the step's program.
    """
    layout = arena_layout(kernel.program)
    begins: list[int] = [0]
    for own in layout.sizes:
        # Which of several is the largest may be another for other sizes.
        different = {form_of(size): size for size in own}
        begins.append(begins[-1] + aligned(sum(different.values())))
    placements = {
        name: Placement("arena", offset=begins[layout.block_of[name]])
        if place.kind == "arena"
        else place
        for name, place in kernel.program.placements.items()
    }
    kernel.program = replace(kernel.program, placements=placements, words=sizes, sizes=sizes)
    if kernel.arena is not None:
        arena = replace(kernel.arena, numel=begins[-1])
        kernel.buffers = tuple(arena if b is kernel.arena else b for b in kernel.buffers)
        kernel.arena = arena


def _single(program: Program) -> Iterator[_Block]:
    """A block for each buffer that lies in the arena, with the waves that use it."""
    found: dict[str, _Block] = {}
    for wave, kernels in enumerate(program.waves):
        for kernel in kernels:
            buffers: list[Buffer] = [*kernel.buffers]
            if isinstance(kernel, Recurrence) and kernel.arena is not None:
                buffers.append(kernel.arena)
            for buffer in buffers:
                place = program.placements[buffer.name]
                if place.kind != "arena":
                    continue
                size = buffer.numel * buffer.dtype.itemsize
                end = place.offset + int(size)
                block = found.setdefault(
                    buffer.name, _Block(place.offset, end, wave, wave, [buffer.name], [size])
                )
                block.last = wave
    yield from found.values()
    for name, place in program.placements.items():
        if place.kind == "arena" and name not in found:
            yield _Block(place.offset, place.offset, 0, -1, [name], [0])  # nobody uses it


def _joined(blocks: list[_Block]) -> list[_Block]:
    """The blocks with those made one that share memory while both are alive: a result takes over
    an operand's."""
    joined = True
    while joined:
        joined = False
        for a, b in combinations(blocks, 2):
            if a.meets(b) and a.overlaps(b):
                if a.offset != b.offset:
                    raise NotSymbolic(f"{a.names} and {b.names} overlap in part")
                both = _Block(
                    a.offset,
                    max(a.end, b.end),
                    min(a.first, b.first),
                    max(a.last, b.last),
                    a.names + b.names,
                    a.sizes + b.sizes,
                )
                blocks = [block for block in blocks if block is not a and block is not b]
                blocks.append(both)
                joined = True
                break
    return blocks
