"""Many small elementwise kernels of one form as one launch: a sweep, as of an optimizer over all
parameters.

In: the kernels of a wave, which do not depend on each other.  Out: groups of them that differ in
sizes and buffers alone, and one launch for each. Its blocks are shared out among the kernels by a
table, which is the function's first parameter: a row for each, with the number of its first block,
of its elements, and the addresses of its buffers.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from braze.codegen.cuda.grid import THREADS, WARP, extent, power_of_two, quotient, spread
from braze.codegen.cuda.interning import Interner
from braze.codegen.cuda.kernel import KernelWriter
from braze.codegen.cuda.lanes import Flat, emit_flat, emit_lanes
from braze.codegen.cuda.packs import WIDTHS, fits
from braze.codegen.cuda.statements import outer_loops, values_of
from braze.codegen.cuda.types import memory_type
from braze.ir.cuda_program import Argument, BufferArgument, Launch, Size
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Apply, Buffer, Const, Expr, Kernel, Load, Nest, Philox, Store
from braze.ir.symint import is_symbolic

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit

# All that a launch is given has to fit into 4 KiB on every driver, in words of 8 bytes.
MOST_WORDS = 512
# Elements of one kernel, so that their numbers fit into 32 bits beyond the last block's end.
MOST_ELEMENTS = 1 << 30


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """A kernel that may share a launch.

    Attributes:
        size: its elements. point: their number in the statements.
        buffers: in an order that is the same for all kernels of the form.
        form: what its statements are, without the size and the buffers' names.
    """

    kernel: Nest
    size: int
    point: LoopVar
    statements: tuple[Store, ...]
    buffers: tuple[Buffer, ...]
    form: Hashable


def groups_of(wave: Sequence[Kernel]) -> list[list[Member] | Kernel]:
    """The kernels of a wave, those that one launch does together as a list, in the place of its
    first one."""
    forms: dict[Hashable, list[Member]] = {}
    found: list[list[Member] | Kernel] = []
    for kernel in wave:
        member = member_of(kernel) if len(wave) > 1 else None
        if member is None:
            found.append(kernel)
        elif member.form in forms:
            forms[member.form].append(member)
        else:
            forms[member.form] = [member]
            found.append(forms[member.form])
    return [part for group in found for part in _launched(group)]


def _launched(group: list[Member] | Kernel) -> list[list[Member] | Kernel]:
    """A group in as many parts as it takes launches, of about the same length."""
    if not isinstance(group, list):
        return [group]
    shared = len(_shared(group))
    words = 2 + len(group[0].buffers) - shared
    most = (MOST_WORDS - 1 - shared) // words
    length = quotient(len(group), quotient(len(group), most)) if most > 1 else 1
    parts = [group[start : start + length] for start in range(0, len(group), length)]
    return [part if len(part) > 1 else part[0].kernel for part in parts]


def _shared(members: Sequence[Member]) -> set[int]:
    """The places among their buffers at which all have the same one."""
    columns = zip(*([b.name for b in m.buffers] for m in members), strict=True)
    return {place for place, names in enumerate(columns) if len(set(names)) == 1}


def member_of(kernel: Kernel) -> Member | None:
    """A kernel as a member of a sweep; None if it can be none: it may fail, or does something else
    than to compute each element of its results from the same element of its operands and from
    numbers that are the same for all."""
    if not isinstance(kernel, Nest):
        return None
    loops, body = outer_loops(kernel.body)
    size = extent(loops)
    if is_symbolic(size) or not 0 < size <= MOST_ELEMENTS:
        return None
    stores = [s for s in body if isinstance(s, Store) and s.buffer.access == "out"]
    if not stores or len(stores) != len(body):
        return None
    point = LoopVar("i", max(size, 2))  # of one element, the number would be a constant
    rewriting = Interner().rewriting(spread(Index.of(point), loops))
    statements = tuple(rewriting.store(store) for store in stores)
    if size == 1:
        only = Index.of(point)
        statements = tuple(Store(s.buffer, s.index + only, s.value, s.guard) for s in statements)
    form = _Form(point)
    if not all(form.add(statement) for statement in statements):
        return None
    return Member(kernel, size, point, statements, tuple(form.buffers), tuple(form.parts))


class _Form:
    """What statements do at a point, with buffers and values numbered as they come."""

    def __init__(self, point: LoopVar) -> None:
        self.buffers: dict[Buffer, int] = {}
        self.parts: list[Hashable] = []
        self._own = Index.of(point)
        self._numbers: dict[Expr, int] = {}

    def add(self, store: Store) -> bool:
        """Add a statement; False if it is none of a sweep."""
        if store.index != self._own or store.guard or store.accumulate:
            return False
        for value in values_of(store):
            for expr in value.walk():
                if expr not in self._numbers:
                    part = self._part(expr)
                    if part is None:
                        return False
                    self._numbers[expr] = len(self._numbers)
                    self.parts.append(part)
        self.parts.append(("store", self._buffer(store.buffer), self._numbers[store.value]))
        return True

    def _part(self, expr: Expr) -> Hashable | None:
        children = tuple(self._numbers[child] for child in expr.children())
        if isinstance(expr, Const):
            return "const", repr(expr.value), expr.dtype
        if isinstance(expr, Load):
            place = self._place(expr.index)
            if expr.guard or place is None:
                return None
            return "load", self._buffer(expr.buffer), place
        if isinstance(expr, Philox):
            return "philox", expr.word, children
        if isinstance(expr, Apply):
            return "apply", expr.op.name, expr.dtype, children
        return None

    def _buffer(self, buffer: Buffer) -> Hashable:
        number = self.buffers.setdefault(buffer, len(self.buffers))
        return number, buffer.dtype, buffer.access

    def _place(self, index: Index) -> Hashable | None:
        """Where a load is: at the point's own element, or the same for all."""
        if index == self._own:
            return "own"
        if index.terms:
            return None
        return index.constant


def emit_sweep(members: Sequence[Member], unit: Unit) -> None:
    """One launch for all members, which are of one form."""
    first, most = members[0], max(member.size for member in members)
    width = _width(first, unit)
    packs = quotient(most, width)
    threads = min(THREADS, max(WARP, power_of_two(packs)))
    made = unit.writer(threads, kind=SweepWriter)
    assert isinstance(made, SweepWriter)
    blocks = made.share_out(members, width)
    point, lane, single = LoopVar("i", packs), LoopVar("l", width), LoopVar("e", most)
    head = "if (i < elements)"
    if width > 1:
        with made.writer.block(f"if ({width} * i + {width} <= elements)"):
            place = Index.of(point) * width + Index.of(lane)
            emit_lanes(made, made.expressions({point: "i"}), _at(first, place), lane)
        head = f"else for (int e = {width} * i; e < elements; ++e)"
    with made.writer.block(head):
        names = {single: "i" if width == 1 else "e"}
        emit_flat(made, made.expressions(names), _at(first, Index.of(single)))
    unit.launch(made, (blocks, 1, 1), (threads, 1, 1), suffix="sweep")


class SweepWriter(KernelWriter):
    """Writes a function that does the work of one kernel or another, by its block's number."""

    _members: Sequence[Member]

    def share_out(self, members: Sequence[Member], width: int) -> int:
        """Share blocks out among kernels whose threads compute `width` elements each.

        Returns: how many blocks there are.
        """
        self._members = members
        self._shared = _shared(members)
        self._starts, blocks = [], 0
        for member in members:
            self._starts.append(blocks)
            blocks += quotient(quotient(member.size, width), self.threads)
        self.use("Table")
        return blocks

    def _places(self, *, shared: bool) -> list[tuple[str, int]]:
        """The buffers that the function uses, and their places among a member's: those that all
        members have in common, or those that each has for itself."""
        numbers = {buffer.name: place for place, buffer in enumerate(self._members[0].buffers)}
        places = [(name, numbers[name]) for name in self._used]
        return [(name, place) for name, place in places if (place in self._shared) is shared]

    def _parameters(self) -> list[str]:
        own = {self._used[name] for name, _ in self._places(shared=False)}
        given = [text for text in super()._parameters() if text.split()[-1] not in own]
        columns = 2 + len(own)
        table = f"const __grid_constant__ Table<{len(self._members)}, {columns}> table"
        return [table, *given]

    def _head(self) -> list[str]:
        lines = [
            "  const int row = row_of(table, blockIdx.x);",
            "  const int elements = (int)table.at[row][1];",
            "  const int i = (int)(blockIdx.x - table.at[row][0]) * blockDim.x + threadIdx.x;",
        ]
        for column, (name, _) in enumerate(self._places(shared=False), start=2):
            buffer = self._buffers[name]
            type = f"{'const ' if buffer.access == 'in' else ''}{memory_type(buffer.dtype)}*"
            lines.append(f"  {type} {self._used[name]} = ({type})table.at[row][{column}];")
        return [*super()._head(), *lines]

    def launch(self, name: str, grid: Size, block: Size, shared_bytes: int = 0) -> Launch:
        arguments: list[Argument] = []
        own = [place for _, place in self._places(shared=False)]
        for member, start in zip(self._members, self._starts, strict=True):
            arguments += [start, member.size]
            arguments += [BufferArgument(member.buffers[place].name) for place in own]
        arguments += [BufferArgument(name) for name, _ in self._places(shared=True)]
        if self.stops:
            arguments.append("status")
        assert len(arguments) <= MOST_WORDS
        return Launch(name, grid, block, shared_bytes, tuple(arguments))


def _at(member: Member, place: Index) -> list[Flat]:
    """A member's statements at an element."""
    rewriting = Interner().rewriting({member.point: place})
    return [rewriting.flat(statement) for statement in member.statements]


def _width(member: Member, unit: Unit) -> int:
    """How many neighbours a thread computes."""
    made = unit.writer(THREADS)
    for width in WIDTHS:
        point, lane = LoopVar("i", MOST_ELEMENTS // width), LoopVar("l", width)
        place = Index.of(point) * width + Index.of(lane)
        if fits(_at(member, place), lane, width, made.alignment):
            return width
    return 1
