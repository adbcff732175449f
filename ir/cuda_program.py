"""What one graph becomes on a GPU: CUDA C, and the steps that run it in order on one stream, with
collectives beside it.

In: what `braze.codegen.cuda` makes of a `Program`.  Out: a `CudaProgram`, which the runtime
compiles, keeps in packages and runs; nothing here needs the code generator.

Buffers are named. A name means memory that the caller finds for it: through `placements` (an input,
an output, or a byte offset in the arena), or, within a `Repeat`, through its `places`. Every input,
every output and the arena begin at a multiple of `ALIGNMENT` bytes, and the memory there is a whole
multiple of them: an atomic change of a byte swaps the word that it is in.

Of a symbolic program the numbers here are functions of words (`braze.ir.symint`): the sizes, where
the planned blocks of the arena begin, and how many bytes they take. The source is the same for all
sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from braze.ir.loops import CheckSite, HostCall, Placement
from braze.ir.symint import SymInt
from braze.ir.target import Target

# Where memory begins that kernels are given; loads of 16 bytes at a time rely on it.
ALIGNMENT = 16
# A block has so much shared memory without asking for more (`Launch.shared_bytes`).
SHARED_BYTES = 48 << 10


@dataclass(frozen=True, slots=True)
class BufferArgument:
    """A pointer to byte `offset` of a buffer."""

    name: str
    offset: int = 0


Argument = BufferArgument | int | Literal["status"]
Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Launch:
    """Run a kernel of the source.

    Attributes:
        kernel: the function's name.
        grid, block: (x, y, z), as CUDA takes them.
        shared_bytes: dynamic shared memory; where it is more than `SHARED_BYTES`, the function's
            limit must be raised first.
        arguments: in the function's order. A buffer is passed as an address of 8 bytes, a number
            as a signed integer of 8 bytes, "status" as the address of the status block, whose words
            are i64 (`braze.ir.target`: FAILED, VALUE, BOUND).
    """

    kernel: str
    grid: Size
    block: Size
    shared_bytes: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class HostStep:
    """Evaluate an operation with NumPy: its operands are copied to the host, its results back.

    It may read and write what the launches before and behind it do, so it waits for the stream. It
    is not made after a check has failed.
    """

    call: HostCall


@dataclass(frozen=True, slots=True)
class CollectiveStep:
    """Begin a collective of several processes, or have what follows wait for its result.

    It begins once the steps before are done, on a stream of its own: those behind run meanwhile,
    as far as the one that waits.

    Attributes:
        call: of `collective_start` or `collective_wait`. Tickets are numbers of the host's: a
            buffer of one is written only if it is an output, for other programs.
        kept: of a start, the buffer that its result is written to from then on; "" where operands
            and result have memory of their own, from and to which they are copied.
    """

    call: HostCall
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Fill:
    """Set `nbytes` bytes of a buffer, from byte `offset`, to `value`."""

    name: str
    offset: int
    value: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a buffer of a `Repeat`'s steps lies at each turn: within a buffer of the program.

    Attributes:
        name: of the buffer in the steps.
        buffer: in which it lies; a name from outside the `Repeat`.
        offset: bytes from that one's beginning at turn 0.
        stride: bytes from one turn to the next; may be negative.
        edge: a turn and the buffer in whose place it is, from its beginning, at that turn alone.
    """

    name: str
    buffer: str
    offset: int = 0
    stride: int = 0
    edge: tuple[int, str] | None = None

    def at(self, turn: int) -> BufferArgument:
        """Where it lies at a turn."""
        if self.edge is not None and self.edge[0] == turn:
            return BufferArgument(self.edge[1])
        return BufferArgument(self.buffer, self.offset + turn * self.stride)


@dataclass(frozen=True, slots=True)
class Repeat:
    """Run steps `times` times in order. Their buffers are those of `places`, and no others."""

    times: int
    steps: tuple[Step, ...]
    places: tuple[Place, ...]


Step = Launch | HostStep | CollectiveStep | Fill | Repeat


@dataclass(frozen=True, slots=True)
class CudaProgram:
    """Everything that runs for one graph, on one GPU.

    Attributes:
        name: the graph's.
        target: what the source is made for.
        source: CUDA C that includes nothing but CUDA's own headers; "" where nothing is launched.
        steps: in order; each may read what the ones before it wrote.
        inputs, outputs: how many pointers of each the caller passes. An output may lie where an
            input lies if the graph says so (its aliases), and nowhere else.
        placements: buffer name -> where it lives.
        arena_bytes: size of the block that holds every intermediate value and workspace.
        checks: meaning of the failure codes. Where there are any, the status block's word FAILED
            is 0 when the first step starts; the first failure is noted there, and later launches
            that have no checks themselves return at once.
    """

    name: str
    target: Target
    source: str
    steps: tuple[Step, ...]
    inputs: int
    outputs: int
    placements: Mapping[str, Placement]
    arena_bytes: int
    checks: tuple[CheckSite, ...] = ()

    def at(self, words: Sequence[int]) -> CudaProgram:
        """The program with the numbers that a symbolic one has for some words."""
        return self._with(lambda number: number.at(words))

    def same_code(self, other: CudaProgram) -> bool:
        """Is a symbolic program the same for other sizes, but for what its functions come to?"""
        return self.code == other.code and self._forms() == other._forms()

    @property
    def code(self) -> str:
        """The source without the lines that say what its functions come from."""
        return "\n".join(line for line in self.source.splitlines() if not line.startswith("//"))

    def _forms(self) -> tuple[Any, Any, Any]:
        made = self._with(lambda number: number.form)
        calls = (HostStep, CollectiveStep)
        steps = [str(s.call) if isinstance(s, calls) else s for s in made.steps]
        return steps, made.placements, made.arena_bytes

    def _with(self, change: Callable[[SymInt], Any]) -> CudaProgram:
        """The program with something else in the place of each number that is a function."""
        return replace(
            self,
            steps=_changed(self.steps, change),
            placements={name: _changed(own, change) for name, own in self.placements.items()},
            arena_bytes=_changed(self.arena_bytes, change),
            checks=_changed(self.checks, change),
        )

    def launches(self) -> Iterator[Launch]:
        """Every launch in the order of the text; those of a `Repeat` once."""
        yield from launches_of(self.steps)


def launches_of(steps: tuple[Step, ...]) -> Iterator[Launch]:
    """The launches among steps and within their repeats."""
    for step in steps:
        if isinstance(step, Launch):
            yield step
        elif isinstance(step, Repeat):
            yield from launches_of(step.steps)


T = TypeVar("T")


def _changed(item: T, change: Callable[[SymInt], Any]) -> T:
    """A step, or a part of one, with something else in the place of each `SymInt`."""
    made: Any = item
    if isinstance(item, SymInt):
        made = change(item)
    elif isinstance(item, tuple):
        made = tuple([_changed(part, change) for part in item])
    elif isinstance(item, (Launch, Fill, Repeat, Place, BufferArgument, Placement, CheckSite)):
        own = {field.name: getattr(item, field.name) for field in fields(item)}
        made = replace(item, **{name: _changed(value, change) for name, value in own.items()})
    return made  # type: ignore[no-any-return]
