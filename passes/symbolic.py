"""Make one program for all sizes of a dimension, from what the passes make of a few of them.

In: the programs of graphs that differ in one size.  Out: a `SymbolicProgram`: the loops for one of
the sizes, in which every integer that depends on the size is a function of it (`braze.ir.symint`).

The passes themselves know sizes only as numbers. So they are run for a sample and for some sizes
near it, and integers at the same place are fitted by polynomials. How far from the sample that
holds is found out in the same way: what the functions say of a larger and of a smaller size must
be, kernel by kernel, what the passes make of it. All these sizes are primes, since passes ask
whether a size can be divided; what they do where it cannot serves all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import islice
from math import isqrt

from braze.ir.arena import ArenaLayout
from braze.ir.errors import BrazeError, ParseError
from braze.ir.loops import (
    Contraction,
    Expr,
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
from braze.ir.loops_text import print_kernel, print_program
from braze.ir.symint import SymInt
from braze.passes.arena_layout import arena_layout
from braze.passes.symbolic_fit import (
    Item,
    NotSymbolic,
    agree,
    items_of,
    symbols_of,
    with_functions,
)

# Of so many sizes near the sample, on either side, the first few are taken that have its kernels.
_NEAR = 5
_NEEDED = 3
# How far from the sample it is worth serving: beyond, chunks and tiles are too many or too few.
_FACTORS = (8, 4, 2)


@dataclass(frozen=True, eq=False, slots=True)
class SymbolicProgram:
    """A program for all sizes from `lowest` to `highest`.

    Attributes:
        program: with the sample's numbers; word 0 is the size, the others are the arena's offsets.
        layout: gives these for a size.
        at: the same program with another size's numbers.
        text: the program's, with the functions in braces for its integers.
    """

    program: Program
    layout: ArenaLayout
    lowest: int
    highest: int
    at: Callable[[int], Program]
    text: str


def symbolic_program(
    program_of: Callable[[int], Program], sample: int, seen: Iterable[int]
) -> SymbolicProgram:
    """The program for many sizes of one dimension.

    Args:
        program_of: the passes' result for a size. Raises: BrazeError, if there is no such graph.
        sample: whose decisions are taken; see `sample_for`.
        seen: sizes that should be served if possible.

    Raises:
        NotSymbolic: there is none.
    """

    @cache
    def items_at(size: int) -> list[Item]:
        try:
            return items_of(print_program(program_of(size)))
        except BrazeError:  # there is no such graph
            return []

    text = print_program(program_of(sample))
    items = items_of(text)
    near = _near(sample)
    symbols = symbols_of(sample, items, ((size, items_at(size)) for size in near), _NEEDED)
    try:
        program = parse_program(text, symbols)
    except ParseError as error:
        raise NotSymbolic(f"what is no integer depends on the size: {error}") from None
    _require_supported(program)
    layout = arena_layout(program)

    def at(size: int) -> Program:
        numbers = {place: SymInt(s.at([size]), s.form) for place, s in symbols.items()}
        variant = parse_program(text, numbers)
        _require_supported(variant)
        return _with_words(variant, layout, size)

    def holds(size: int) -> bool:
        return agree(items, symbols, size, items_at(size))

    lowest, highest = _range(sample, list(seen), holds)
    own = _with_words(program, layout, sample)
    return SymbolicProgram(own, layout, lowest, highest, at, with_functions(text, symbols))


def sample_for(size: int) -> int:
    """The size to take decisions for, near one that is wanted."""
    return next(_primes_from(size, 1))


def _range(sample: int, seen: Sequence[int], holds: Callable[[int], bool]) -> tuple[int, int]:
    """The smallest and the largest size for which the functions are known to hold."""
    least, most = min([*seen, sample]), max([*seen, sample])
    above = [most * 2, *(sample * factor for factor in _FACTORS), most, sample + 1]
    below = [2, least // 2, least, *(sample // factor for factor in _FACTORS), sample - 1]
    upper = dict.fromkeys(map(sample_for, above))
    lower = dict.fromkeys(next(_primes_from(size, -1), 2) for size in below)
    highest = next((size for size in upper if size > sample and holds(size)), sample)
    lowest = next((size for size in lower if size < sample and holds(size)), sample)
    if lowest == highest:
        raise NotSymbolic(f"no other size than {sample} is compiled to such kernels")
    return lowest, highest


def _near(sample: int) -> Iterator[int]:
    """Primes near a prime, first those above it."""
    yield from islice(_primes_from(sample + 1, 1), _NEAR)
    yield from islice(_primes_from(sample - 1, -1), _NEAR)


def _primes_from(number: int, step: int) -> Iterator[int]:
    """The primes from a number upwards, or downwards."""
    while number >= 2 or step > 0:
        if number >= 2 and all(number % d for d in range(2, isqrt(number) + 1)):
            yield number
        number += step


# What code can be generated for -------------------------------------------------------------------


def _require_supported(program: Program) -> None:
    """Raise NotSymbolic for a kernel that depends on the size where that is not provided for."""
    for kernel in program.kernels():
        if any(map(_is_symbolic, _closed_parts(kernel))):
            first = print_kernel(kernel).split("(")[0]
            raise NotSymbolic(f"the kernel depends on the size in a way that has no code: {first}")


def _closed_parts(kernel: Kernel) -> list[object]:
    """What must not depend on the size."""
    if isinstance(kernel, (Sort, HostCall)):
        return [kernel]
    if isinstance(kernel, Attention):
        last = kernel.operands[0].type.rank - 1
        widths = (array.type.shape[last:] for array in kernel.operands)
        return [dict(kernel.attributes), *widths]
    if isinstance(kernel, Recurrence):
        return [kernel.program]
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


def _is_symbolic(part: object) -> bool:
    """Whether there is a `SymInt` anywhere in a piece of the loop IR."""
    waiting, seen = [part], set[int]()
    while waiting:
        item = waiting.pop()
        if isinstance(item, SymInt):
            return True
        if id(item) in seen or isinstance(item, (str, int, float)):
            continue
        seen.add(id(item))
        if isinstance(item, (list, tuple)):
            waiting += item
        elif isinstance(item, dict):
            waiting += [*item.values()]
        elif is_dataclass(item):
            waiting += [getattr(item, field.name) for field in fields(item)]
        elif isinstance(item, Expr):
            waiting += [*item.children(), *item.indices(), getattr(item, "value", None)]
    return False


# Words --------------------------------------------------------------------------------------------


def _with_words(program: Program, layout: ArenaLayout, size: int) -> Program:
    """The program with words for the arena's offsets."""
    offsets, _ = layout.offsets([size])

    def placed(name: str, place: Placement) -> Placement:
        if place.kind != "arena":
            return place
        block = layout.block_of[name]
        return Placement("arena", offset=SymInt.word(1 + block, offsets[block]))

    placements = {name: placed(name, place) for name, place in program.placements.items()}
    return replace(program, placements=placements, words=1 + len(layout.sizes))
