"""Make one program for all sizes of some dimensions, from what the passes make of a few of them.

In: the programs of graphs that differ in one size, or two.  Out: a `SymbolicProgram`: the loops for
one choice of sizes, in which every integer that depends on them is a function (`braze.ir.symint`).

The passes themselves know sizes only as numbers. So they are run for a sample and for some sizes
near it, and integers at the same place are fitted by polynomials. How far from the sample that
holds is found out in the same way: what the functions say of larger and of smaller sizes must be,
kernel by kernel, what the passes make of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from braze.ir.arena import ArenaLayout
from braze.ir.errors import BrazeError, ParseError
from braze.ir.loops import (
    Contraction,
    HostCall,
    Kernel,
    Loop,
    Nest,
    Placement,
    Program,
    Reduce,
    Scan,
    Sort,
    Statement,
)
from braze.ir.loops_attention import Attention
from braze.ir.loops_parser import parse_program
from braze.ir.loops_recurrence import Recurrence
from braze.ir.loops_sizes import depends_on_sizes
from braze.ir.loops_text import print_kernel, print_program
from braze.ir.polynomials import Point, corners
from braze.ir.symint import SymInt
from braze.passes.arena_layout import arena_layout, with_step_layout
from braze.passes.symbolic_fit import (
    Item,
    NotSymbolic,
    agree,
    are_alike,
    items_of,
    symbols_of,
    with_functions,
)
from braze.passes.symbolic_sizes import near_sizes, served_range

# So often a range is made smaller since something cannot be one program at its end.
_MOST_WRONG = 6


@dataclass(frozen=True, eq=False, slots=True)
class SymbolicProgram:
    """A program for all sizes from `lowest` to `highest`.

    Attributes:
        program: with the sample's numbers; the first words are the sizes, the others are the
            arena's offsets.
        layout: gives these for sizes.
        at: the same program with other sizes' numbers.
        text: the program's, with the functions in braces for its integers.
    """

    program: Program
    layout: ArenaLayout
    lowest: Point
    highest: Point
    at: Callable[[Point], Program]
    text: str


def symbolic_program(
    program_of: Callable[[Point], Program],
    sample: Point,
    seen: Iterable[Point],
    free: Sequence[int] = (0,),
    checking: Callable[[Program], Callable[[Program], None]] | None = None,
) -> SymbolicProgram:
    """The program for many sizes.

    Args:
        program_of: the passes' result for sizes. Raises: BrazeError, if there is no such graph.
        sample: whose decisions are taken; see `sample_for`.
        seen: sizes that should be served if possible.
        free: the dimensions that many sizes are wanted of; the others keep the sample's.
        checking: gives for the program what raises BrazeError for the one with other sizes' numbers
            if they cannot be one. The range is such that it does not at its corners.

    Raises:
        NotSymbolic: there is none.
    """

    @cache
    def items_at(sizes: Point) -> list[Item]:
        try:
            return items_of(print_program(program_of(sizes)))
        except BrazeError:  # there is no such graph
            return []

    text = print_program(program_of(sample))
    items = items_of(text)
    near, further = near_sizes(sample, free, lambda sizes: are_alike(items, items_at(sizes)))
    known = {sample: items}
    known |= {sizes: items_at(sizes) for sizes in near.points[1:]}

    @cache
    def confirmed() -> dict[int, SymInt]:
        """The functions, tried at further sizes near the sample."""
        return symbols_of(near, known | {sizes: items_at(sizes) for sizes in further()})

    # Of one dimension, a range with an end at which they hold needs no such sizes.
    symbols = confirmed() if len(free) > 1 else symbols_of(near, known)
    try:
        program = parse_program(text, symbols)
    except ParseError as error:
        raise NotSymbolic(f"what is no integer depends on the size: {error}") from None
    _finish(program, len(sample))
    layout = arena_layout(program)

    def at(sizes: Point) -> Program:
        numbers = {place: SymInt(s.at(sizes), s.form) for place, s in symbols.items()}
        variant = parse_program(text, numbers)
        _finish(variant, len(sample))
        return _with_words(variant, layout, sizes)

    own, wrong = _with_words(program, layout, sample), list[tuple[Point, BrazeError]]()
    require = checking(own) if checking is not None else None
    right: set[Point] = {sample}

    @cache
    def agrees(sizes: Point) -> bool:
        if agree(items, symbols, sizes, items_at(sizes)):
            return True
        confirmed()  # or there is none at all, and this says why
        return False

    def holds(sizes: Point) -> bool:
        return agrees(sizes) and all(sizes != other for other, _ in wrong)

    while True:
        try:
            lowest, highest = served_range(sample, free, list(seen), holds)
        except NotSymbolic as error:
            raise wrong[0][1] if wrong else error from None
        found = SymbolicProgram(own, layout, lowest, highest, at, with_functions(text, symbols))
        corner = next((c for c in corners(lowest, highest) if c not in right), None)
        if require is None or corner is None:
            return found
        try:
            require(at(corner))
            right.add(corner)
        except BrazeError as error:
            wrong.append((corner, error))
            if len(wrong) == _MOST_WRONG:
                raise wrong[0][1] from None


def _finish(program: Program, sizes: int) -> None:
    """Make a program that was read one that code can be generated for, if there is code.

    Raises: NotSymbolic.
    """
    _require_supported(program)
    for kernel in program.kernels():
        if isinstance(kernel, Recurrence) and depends_on_sizes([*kernel.program.kernels()]):
            with_step_layout(kernel, sizes)


# What code can be generated for -------------------------------------------------------------------


def _require_supported(program: Program) -> None:
    """Raise NotSymbolic for a kernel that depends on the size where that is not provided for."""
    for kernel in program.kernels():
        if any(map(depends_on_sizes, _closed_parts(kernel))):
            first = print_kernel(kernel).split("(")[0]
            raise NotSymbolic(f"the kernel depends on the size in a way that has no code: {first}")


def _closed_parts(kernel: Kernel) -> list[object]:
    """What must not depend on the size."""
    if isinstance(kernel, (Sort, HostCall)):
        return [kernel]
    if isinstance(kernel, Attention):
        last = kernel.operands[0].type.rank - 1
        mask = kernel.operand("mask")  # as wide as there are keys, like the scores
        widths = (array.type.shape[last:] for array in kernel.operands if array is not mask)
        return [dict(kernel.attributes), *widths]
    if isinstance(kernel, Recurrence):
        return [
            inner if isinstance(inner, Recurrence) else _closed_parts(inner)
            for inner in kernel.program.kernels()
        ]
    if isinstance(kernel, Contraction):
        return [kernel.lhs.guard, kernel.rhs.guard]
    if isinstance(kernel, Nest):
        _roll_up(kernel.body)
        return [loops for scan in _scans(kernel.body) for loops in scan.loops]
    return []


def _scans(statements: Iterable[Statement]) -> Iterator[Scan]:
    for statement in statements:
        if isinstance(statement, Scan):
            yield statement
        elif isinstance(statement, Loop):
            yield from _scans(statement.body)


def _roll_up(statements: Iterable[Statement]) -> None:
    """Loops that run for a symbolic extent are not unrolled."""
    for statement in statements:
        if isinstance(statement, Loop):
            if statement.kind == "unroll" and isinstance(statement.var.extent, SymInt):
                statement.kind = "serial"
            _roll_up(statement.body)
        elif isinstance(statement, Reduce):
            is_open = any(isinstance(var.extent, SymInt) for var, _ in statement.loops)
            if is_open and all(kind == "unroll" for _, kind in statement.loops):
                statement.loops = tuple((var, "serial") for var, _ in statement.loops)


# Words --------------------------------------------------------------------------------------------


def _with_words(program: Program, layout: ArenaLayout, sizes: Point) -> Program:
    """The program with words for the sizes and the arena's offsets."""
    offsets, _ = layout.offsets(sizes)

    def placed(name: str, place: Placement) -> Placement:
        if place.kind != "arena":
            return place
        block = layout.block_of[name]
        return Placement("arena", offset=SymInt.word(len(sizes) + block, offsets[block]))

    placements = {name: placed(name, place) for name, place in program.placements.items()}
    words = len(sizes) + len(layout.sizes)
    return replace(program, placements=placements, words=words, sizes=len(sizes))
