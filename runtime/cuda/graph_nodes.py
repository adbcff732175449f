"""A program's steps as the nodes of a CUDA graph: the launches and fills of a run, in their order.

In: a `CudaProgram`.  Out: nodes, with every repeat written out. Where they use memory they say it
by *roots*: the addresses of a run's inputs, its outputs, its arena and its status block, in this
order, which are all that differs from run to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from braze.ir.cuda_program import (
    Argument,
    BufferArgument,
    CollectiveStep,
    CudaProgram,
    Fill,
    HostStep,
    Launch,
    Step,
)
from braze.ir.loops import Placement
from braze.ir.target import STATUS_WORDS

FEWEST_NODES = 3  # of a graph: below, there is little to save
MOST_NODES = 4096  # each takes memory of the GPU, and time when the graph is made


class NotAGraph(Exception):
    """Why a program's steps cannot be one graph."""


@dataclass(frozen=True, slots=True)
class Where:
    """Byte `offset` from a run's root of number `root`."""

    root: int
    offset: int


@dataclass(frozen=True, slots=True)
class LaunchNode:
    """A launch, and where its arguments lie; numbers are as they are passed."""

    launch: Launch
    arguments: tuple[Where | int, ...]

    def roots(self) -> set[int]:
        """The roots it depends on."""
        return {a.root for a in self.arguments if isinstance(a, Where)}


@dataclass(frozen=True, slots=True)
class FillNode:
    """Set `nbytes` bytes to a value."""

    where: Where
    value: int
    nbytes: int

    def roots(self) -> set[int]:
        """The root it depends on."""
        return {self.where.root}


Node = LaunchNode | FillNode


def root_of(program: CudaProgram, placement: Placement) -> int:
    """The number of the root in whose memory a buffer lies."""
    firsts = {"input": 0, "output": program.inputs, "arena": program.inputs + program.outputs}
    return firsts[placement.kind] + (0 if placement.kind == "arena" else placement.slot)


def graph_nodes(program: CudaProgram) -> list[Node]:
    """The nodes in the order in which they run.

    Raises:
        NotAGraph: NumPy computes something in between, NCCL adds launches of its own, or there are
            too few or too many.
    """
    places = {
        name: Where(root_of(program, p), p.offset if p.kind == "arena" else 0)
        for name, p in program.placements.items()
    }
    status = program.inputs + program.outputs + 1
    found: list[Node] = []
    if program.checks:
        found.append(FillNode(Where(status, 0), 0, 8 * STATUS_WORDS))
    for node in _flat(program.steps, places.__getitem__, status):
        found.append(node)
        if len(found) > MOST_NODES:
            raise NotAGraph(f"it has more than {MOST_NODES} launches and fills")
    if len(found) < FEWEST_NODES:
        raise NotAGraph(f"it has less than {FEWEST_NODES} launches and fills")
    return found


def _flat(steps: Sequence[Step], base: Callable[[str], Where], status: int) -> Iterator[Node]:
    def at(buffer: BufferArgument) -> Where:
        found = base(buffer.name)
        return Where(found.root, found.offset + buffer.offset)

    def argument(given: Argument) -> Where | int:
        if isinstance(given, BufferArgument):
            return at(given)
        return Where(status, 0) if given == "status" else int(given)

    for step in steps:
        if isinstance(step, Launch):
            yield LaunchNode(step, tuple(map(argument, step.arguments)))
        elif isinstance(step, Fill):
            if step.nbytes:
                yield FillNode(at(BufferArgument(step.name, step.offset)), step.value, step.nbytes)
        elif isinstance(step, HostStep):
            raise NotAGraph("NumPy computes a part of it")
        elif isinstance(step, CollectiveStep):
            # They would have to be captured from streams, and each run would need NCCL's consent.
            raise NotAGraph("NCCL launches kernels of its own for the collectives in it")
        else:
            for turn in range(step.times):
                inner = {place.name: at(place.at(turn)) for place in step.places}
                yield from _flat(step.steps, inner.__getitem__, status)
